"""`fairpp scenarios`: have a storyteller tell questions of the test split as scenes, and the personas choose among them."""

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
    from fairpp_hf.generation import Prices
    from fairpp_hf.personas import PersonaSet
    from fairpp_hf.scenarios import ScenarioSummary, StorytellerRespondent

SUMMARY = "have a storyteller tell test questions as scenes, and the personas choose among them"

_ONLY_FOR = {
    "adapter": ("transformers",),
    "batch_size": ("transformers",),
    **dict.fromkeys(
        (
            *("base_url", "temperature", "max_tokens", "samples", "batch", "batch_tokens", "give_up_batches"),
            *("ask", "no_logprobs"),
        ),
        ("openai",),
    ),
}
_OPENAI = "https://api.openai.com/v1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `fairpp scenarios`."""
    parser.description = (
        "Who answers, where, with which settings and personas, is taken from RUN as far as it is not given here: with "
        "--model alone, another model on the server of RUN answers. Stories and answers are kept in RUN/scenarios. The "
        "same command again continues where it stopped and asks nothing twice. Stories and answers are simulated: a model "
        "in a role is not a person."
    )
    parser.add_argument("--run", required=True, type=Path, metavar="RUN", dest="run_path", help="folder of the run")
    parser.add_argument(
        "--limit", type=int, metavar="N", help="a fixed random sample of N test questions, the same N every time"
    )
    parser.add_argument("--shard", metavar="I/N", help="tell and answer part I of N, such as 2/8")
    parser.add_argument(
        "--dry-run", action="store_true", help="count calls and tokens, price them, ask nothing and write nothing"
    )
    teller = parser.add_argument_group("storyteller", "Always a server with the OpenAI API.")
    teller.add_argument("--storyteller", required=True, metavar="MODEL", help="the model that tells")
    teller.add_argument("--storyteller-url", metavar="U", help="its server (default: OpenAI)")
    teller.add_argument("--storyteller-temperature", type=float, metavar="T", help="default: 0.7")
    teller.add_argument(
        "--storyteller-max-tokens",
        type=int,
        metavar="N",
        help="of a story (default: 1500); --retry-set-aside with a larger one has those told again that were cut off",
    )
    teller.add_argument(
        "--storyteller-price",
        type=float,
        nargs=2,
        metavar=("IN", "OUT"),
        help="USD per million input and output tokens of the storyteller; --price is the respondent's",
    )
    teller.add_argument(
        "--tries",
        type=int,
        metavar="N",
        help="how often a story is told until it passes the checks (default: 3; 1 at temperature 0)",
    )
    teller.add_argument(
        "--retry-set-aside",
        action="store_true",
        help="tell again what earlier calls have set aside, but for refusals; each try is paid for",
    )
    answerer = parser.add_argument_group(
        "respondent", f"All as in RUN by default. Beside a RUN with another server, OpenAI is --base-url {_OPENAI}."
    )
    answerer.add_argument("--respondent", choices=("transformers", "openai"), help="who answers the scenarios")
    answerer.add_argument("--model", metavar="M", help="Hub name or path (transformers), or the server's name (openai)")
    answerer.add_argument("--personas", metavar="SET_OR_FILE", help="name or file of a set")
    add_server_options(answerer)
    answerer.add_argument("--temperature", type=float, metavar="T", help="default without a RUN: 0")
    answerer.add_argument("--samples", type=int, metavar="K", help="ask the same K times (default: 1)")
    answerer.add_argument(
        "--swap", action="store_true", help="ask each scenario with the first two scenes swapped as well"
    )
    answerer.add_argument("--adapter", metavar="PATH", help="a PEFT adapter trained on the model (transformers)")
    answerer.add_argument(
        "--batch-size", type=int, metavar="N", help="most scenarios a forward pass (transformers; default: what fits)"
    )
    add_money_arguments(parser)
    parser.add_argument(
        "--give-up-batches",
        action="store_true",
        default=None,
        help="give up the batches of stories and answers at the provider and ask anew: they are paid for twice",
    )


def run(arguments: argparse.Namespace) -> int:
    """Tell, check, ask, and print what came and what to do next.

    Returns:
        0, or 128 + the signal that stopped it.

    Raises:
        ValueError: The arguments do not fit together, or one is out of range.
        RuntimeError: Another process writes to the run, a server will not go on, or --max-cost is reached.
        OSError: A journal cannot be read or written, or the model cannot be found.
    """
    from fairpp_hf.generation import RunInterrupted, RunOptions
    from fairpp_hf.runs.shards import parse_shard
    from fairpp_hf.scenarios import StorytellerRespondent, estimate_scenarios, tell_and_answer

    personas = _complete(arguments)
    check_options(arguments, _ONLY_FOR)
    shard = None if arguments.shard is None else parse_shard(arguments.shard)
    questions = sampled_questions("test", arguments.limit)
    storyteller = StorytellerRespondent(
        arguments.storyteller,
        questions,
        personas=personas,
        **_given(
            base_url=arguments.storyteller_url,
            api_key="none, since nothing is asked" if arguments.dry_run else None,
            concurrency=arguments.concurrency,
            timeout_s=arguments.timeout,
            tries=arguments.tries,
            temperature=arguments.storyteller_temperature,
            max_tokens=arguments.storyteller_max_tokens,
        ),
    )
    respondent: Any = model_respondent(arguments)
    options = RunOptions(
        selection={"split": "test", "limit": arguments.limit},
        samples=arguments.samples or 1,
        swap=arguments.swap,
        shard=shard,
        prices=prices_for(arguments, arguments.model, respondent) if arguments.respondent == "openai" else None,
        max_cost=arguments.max_cost,
        batch=batch_limits(arguments),
    )
    given: dict[str, Any] = {
        "story_prices": _story_prices(arguments, storyteller),
        "retry_set_aside": arguments.retry_set_aside,
    }
    asked = (arguments.run_path, storyteller, respondent, personas, questions, options)
    if arguments.dry_run:
        batch = bool(arguments.batch)
        stories, answers = estimate_scenarios(*asked, **given, give_up_batches=bool(arguments.give_up_batches))
        print(f"Stories, {storyteller.name}:\n{stories.table(batch=batch)}\n")
        found = (
            "every story is set aside: there is nothing to answer." if answers is None else answers.table(batch=batch)
        )
        print(f"Answers, {respondent.name}:\n{found}\n")
        print("Nothing was asked and nothing written. Without --dry-run, the same command asks.")
        return 0
    if arguments.give_up_batches:
        from fairpp_hf.runs.batches import give_up_batches
        from fairpp_hf.runs.layout import scenarios_folder, stories_folder

        stages = (stories_folder(arguments.run_path), scenarios_folder(arguments.run_path))
        given_up = sum(map(give_up_batches, stages))
        print(f"Gave up batches with {given_up:,} requests, which will be bought again.")
    try:
        summary = tell_and_answer(*asked, **given)
    except RunInterrupted as interruption:
        print(interruption.summary.table())
        print(f"Stopped with {interruption.summary.remaining:,} requests left. The same command continues.")
        return 128 + interruption.signal_number
    print(summary.table())
    print(f"Stories in {summary.path / 'stories'}, scenarios and answers in {summary.path}.")
    if failed := summary.stories.counts["failed"] + (summary.answers.counts["failed"] if summary.answers else 0):
        without = " without --retry-set-aside" if arguments.retry_set_aside else ""
        print(f"{failed:,} requests failed. The same command{without} asks them again.")
    if again := _told_again(summary):
        print(again)
    if summary.answers is not None:
        print(f"Next: {_next(arguments, shard is not None)}")
    return 0


def _told_again(summary: "ScenarioSummary") -> str:
    """What can be done about stories that were set aside; empty where there are none."""
    lines = []
    if to_retry := len(summary.checked.to_retry()):
        lines.append(f"--retry-set-aside has {to_retry:,} of those set aside told again.")
    if cut_off := summary.checked.counts().get("truncated"):
        lines.append(
            f"{cut_off:,} stories were cut off: give a larger --storyteller-max-tokens with it. Whole stories stay as they "
            "are."
        )
    if refused := len(summary.checked.set_aside) - to_retry:
        lines.append(f"{refused:,} refusals stay as they are.")
    return "\n".join(lines)


def _next(arguments: argparse.Namespace, is_part: bool) -> str:
    run_path = arguments.run_path
    if is_part:
        return f"fairpp merge --out RUN {run_path} ..., with the runs of all shards"
    if (run_path / "manifest.json").is_file():
        return f"fairpp build --run {run_path} --out fairpp"
    return f'fairpp show --run {run_path}, or in Python load_dataset("fairpp", "scenarios", answers="{run_path}")'


def _complete(arguments: argparse.Namespace) -> "PersonaSet":
    """Fill in from the run's manifest who answers and where, as far as that is not given; returns the personas."""
    from fairpp_hf.personas import DEFAULT_PERSONA_SET, PERSONA_SETS, load_personas
    from fairpp_hf.personas.persona_set import recorded_personas
    from fairpp_hf.runs.manifest import provenance_of, read_manifest

    manifest = read_manifest(arguments.run_path) if arguments.run_path.is_dir() else None
    where = f"at {arguments.run_path}"
    settings = {} if manifest is None else manifest["respondent"]["settings"]
    if arguments.respondent in (None, "openai") and manifest is not None and settings.get("kind") == "openai":
        arguments.respondent = "openai"
        if arguments.base_url is None:
            recorded = manifest["servers"].get(manifest["respondent"]["name"])
            arguments.base_url = None if recorded == _OPENAI else recorded
        for option in ("model", "temperature", "max_tokens", "ask", "system_as_user"):
            if getattr(arguments, option) is None:
                setattr(arguments, option, settings[option])
        arguments.no_logprobs = arguments.no_logprobs or not settings["logprobs"] or None
    elif arguments.respondent is None:
        if manifest is None:
            raise ValueError(
                f"--run must be a run, or come with who answers; got no run {where}. Make one with `fairpp generate`, or "
                "add --respondent openai --model MODEL."
            )
        raise ValueError(
            "--respondent must be given where the run's own cannot be called up again; got a run of "
            f"{manifest['respondent']['name']!r} {where}. Add --respondent openai or transformers, and --model MODEL."
        )
    if arguments.personas is not None or manifest is None:
        return load_personas(arguments.personas or DEFAULT_PERSONA_SET)
    if (record := provenance_of(manifest).persona_set) is not None:
        return recorded_personas(record, f"the manifest {where}")
    if (name := manifest["personas"]["set"]) in PERSONA_SETS:
        return load_personas(name)
    raise ValueError(
        f"--personas must be given where the run does not record its own; got a run of the set {name!r} {where}. Add "
        "--personas SET_OR_FILE."
    )


def _given(**options: Any) -> dict[str, Any]:
    """The options that were given: the others have their defaults where they are used."""
    return {name: value for name, value in options.items() if value is not None}


def _story_prices(arguments: argparse.Namespace, storyteller: "StorytellerRespondent") -> "Prices | None":
    own = arguments.storyteller_price
    theirs = {"price": own, "prices": arguments.prices if own is None else None}
    given = argparse.Namespace(**{**vars(arguments), **theirs})
    return prices_for(given, arguments.storyteller, storyteller, "--storyteller-price")
