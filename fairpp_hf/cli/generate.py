"""`fairpp generate`: have a respondent answer the questions in the role of each persona."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairpp_hf.cli.arguments import add_server_options
from fairpp_hf.cli.money import (
    add_money_arguments,
    batch_limits,
    check_options,
    model_respondent,
    prices_for,
    sampled_questions,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from fairpp_hf.generation import RunOptions
    from fairpp_hf.personas import PersonaSet
    from fairpp_hf.respondents import Respondent

SUMMARY = "have a respondent answer the questions in the role of each persona"

RESPONDENTS = ("survey", "transformers", "openai")

_ONLY_FOR = {
    "model": ("transformers", "openai"),
    "swap": ("transformers", "openai"),
    "system_as_user": ("transformers", "openai"),
    "adapter": ("transformers",),
    "batch_size": ("transformers",),
    **dict.fromkeys(
        (
            *("base_url", "concurrency", "temperature", "max_tokens", "timeout", "samples"),
            *("max_cost", "price", "prices", "batch", "batch_tokens", "give_up_batches", "ask", "no_logprobs"),
        ),
        ("openai",),
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `fairpp generate`."""
    parser.description = (
        "Replies are kept in RUN. The same command again continues where it stopped and asks nothing twice. "
        "The answers are simulated, whoever the respondent: a model in a role is not a person."
    )
    parser.add_argument("--run", required=True, type=Path, metavar="RUN", dest="run_path", help="folder of the run")
    parser.add_argument(
        "--respondent",
        required=True,
        choices=RESPONDENTS,
        help="survey: a simulation from survey figures; transformers: a local model; openai: a server with its API",
    )
    parser.add_argument("--model", metavar="M", help="Hub name or path (transformers), or the server's name (openai)")
    parser.add_argument(
        "--personas", metavar="SET_OR_FILE", help="name or file of a set (default: britains_choice_2020)"
    )
    parser.add_argument("--split", choices=("train", "test"), help="only this split's questions (default: both)")
    parser.add_argument(
        "--limit", type=int, metavar="N", help="a fixed random sample of N questions, the same N every time"
    )
    parser.add_argument(
        "--swap",
        action="store_true",
        default=None,
        help="ask each question in both orders of options A and B (transformers, openai); answers are averaged",
    )
    parser.add_argument(
        "--shard", metavar="I/N", help="ask part I of N, such as 2/8; `fairpp merge` unites the runs of all parts"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="count calls and tokens, price them, ask nothing and write nothing"
    )
    local = parser.add_argument_group("transformers")
    local.add_argument("--adapter", metavar="PATH", help="a PEFT adapter trained on the model")
    local.add_argument("--batch-size", type=int, metavar="N", help="most questions a forward pass (default: what fits)")
    server = parser.add_argument_group(
        "openai", "The key is read from OPENAI_API_KEY; a server of your own needs none."
    )
    add_server_options(server)
    server.add_argument("--temperature", type=float, metavar="T", help="default: 0")
    server.add_argument(
        "--samples", type=int, metavar="K", help="ask the same K times, at a --temperature above 0 (default: 1)"
    )
    add_money_arguments(parser)
    server.add_argument(
        "--give-up-batches",
        action="store_true",
        default=None,
        help="give up the batches that RUN has at the provider and ask their requests anew: they are paid for twice",
    )


def run(arguments: argparse.Namespace) -> int:
    """Check the arguments, ask, and print what came and what to do next.

    Returns:
        0, or 128 + the signal that stopped the run.

    Raises:
        ValueError: The arguments do not fit together, or one is out of range.
        RuntimeError: Another process writes to the run, the respondent cannot go on, or --max-cost is reached.
        OSError: The journal or the table of prices cannot be read or written, or the model cannot be found.
    """
    check_options(arguments, _ONLY_FOR)
    from fairpp_hf.generation import BudgetReached, RunInterrupted, RunOptions, generate
    from fairpp_hf.personas import DEFAULT_PERSONA_SET, load_personas
    from fairpp_hf.runs.shards import parse_shard

    shard = None if arguments.shard is None else parse_shard(arguments.shard)
    personas = load_personas(arguments.personas or DEFAULT_PERSONA_SET)
    questions = sampled_questions(arguments.split, arguments.limit)
    respondent: Any
    if arguments.respondent == "survey":
        from fairpp_hf.respondents import SurveyRespondent

        respondent = SurveyRespondent(personas)
    else:
        respondent = model_respondent(arguments)
    prices = prices_for(arguments, arguments.model, respondent) if arguments.respondent == "openai" else None
    options = RunOptions(
        selection={"split": arguments.split, "limit": arguments.limit},
        samples=arguments.samples or 1,
        swap=bool(arguments.swap),
        shard=shard,
        prices=prices,
        max_cost=arguments.max_cost,
        batch=batch_limits(arguments),
    )
    if arguments.dry_run:
        return _dry_run(arguments, respondent, personas, questions, options)
    if arguments.give_up_batches:
        from fairpp_hf.runs.batches import give_up_batches

        print(f"Gave up batches with {give_up_batches(arguments.run_path):,} requests, which will be bought again.")
    try:
        summary = generate(arguments.run_path, respondent, personas, questions, options)
    except RunInterrupted as interruption:
        print(interruption.summary.table())
        left = f"Stopped with {interruption.summary.remaining:,} requests left."
        if arguments.batch:
            print(f"{left} Submitted batches go on at the provider. The same command collects them and continues.")
        else:
            print(f"{left} The same command continues.")
        return 128 + interruption.signal_number
    except BudgetReached as reached:
        print(reached.summary.table())
        raise
    print(summary.table())
    print(f"{summary.asked:,} asked, {summary.reused:,} kept from before, in {summary.seconds:.1f} s.")
    if summary.counts["failed"]:
        print(f"{summary.counts['failed']:,} requests failed. The same command asks them again.")
    if summary.counts["truncated"]:
        print(
            f"{summary.counts['truncated']:,} replies were cut off before an answer. A larger --max-tokens asks anew."
        )
    if shard is not None and shard.count > 1:
        print(f"Next, with the runs of all {shard.count} shards: fairpp merge --out RUN {arguments.run_path} ...")
    else:
        print(f"Next: fairpp build --run {arguments.run_path} --out fairpp")
    return 0


def _dry_run(
    arguments: argparse.Namespace,
    respondent: "Respondent",
    personas: "PersonaSet",
    questions: "pa.Table",
    options: "RunOptions",
) -> int:
    from fairpp_hf.generation.estimate import estimate
    from fairpp_hf.runs.spending import dollars

    again = bool(arguments.give_up_batches)
    estimated = estimate(arguments.run_path, respondent, personas, questions, options, give_up_batches=again)
    print(estimated.table(batch=bool(arguments.batch)))
    cost = estimated.batch_cost_usd if arguments.batch else estimated.cost_usd
    if arguments.max_cost is not None and cost is not None:
        whole = cost + (estimated.spent_usd or 0.0)
        fits = "is within" if whole <= arguments.max_cost else "is more than"
        print(f"The whole run, about {dollars(whole)}, {fits} --max-cost {dollars(arguments.max_cost)}.")
    print("Nothing was asked and nothing written. Without --dry-run, the same command asks.")
    return 0
