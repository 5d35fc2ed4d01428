"""What `fairpp evaluate` and `fairpp position` share: whom they score, on which questions, and how."""

import argparse
import logging
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from fairpp_hf.cli.arguments import add_answers, add_heldout, add_server_options, load_answers_of, server_options
from fairpp_hf.cli.money import add_money_arguments, batch_limits

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pyarrow as pa

    from fairpp_hf.dataset.answers import Answers
    from fairpp_hf.evaluation.models import ModelSpec
    from fairpp_hf.evaluation.results import References, SystemScores
    from fairpp_hf.personas import PersonaSet

NAME_IN_FILE = "Name them in a file, for --models."
"""What to do about names that are not free, where they are made from paths."""

_LOCAL = ("rule", "batch_size", "dtype")
_OF_SERVERS = (
    *("concurrency", "max_tokens", "timeout", "max_cost", "price", "prices", "batch", "batch_tokens"),
    *("ask", "no_logprobs"),
)


def add_scoring(parser: argparse.ArgumentParser, models: "argparse._ActionsContainer", models_help: str) -> None:
    """Add which models are asked which questions, in which orders, loaded here or on a server, and for how much money.

    Args:
        parser: The command's parser.
        models: Where --model and --models go, such as a group of which one must be given.
        models_help: What the file of --models holds.
    """
    models.add_argument(
        "--model",
        nargs="+",
        default=[],
        metavar="M",
        help="names or paths of causal language models with a chat template; with --base-url, the server's names",
    )
    models.add_argument("--models", metavar="FILE", help=models_help)
    parser.add_argument(
        "--adapter",
        nargs="+",
        default=[],
        metavar="P",
        help="names or paths of PEFT adapters trained on the one --model",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for scores and results")
    add_answers(parser)
    parser.add_argument("--split", choices=("train", "test"), default="test", help="questions to ask (default: test)")
    add_heldout(parser)
    parser.add_argument("--limit", type=int, metavar="N", help="ask a fixed random sample of N questions")
    parser.add_argument(
        "--one-order", action="store_true", help="show options as written alone, and not also with A and B swapped"
    )
    parser.add_argument("--explain", action="store_true", help="say what the numbers are, and what they are blind to")
    local = parser.add_argument_group("models loaded here")
    local.add_argument(
        "--rule",
        choices=("line", "per_token", "letter"),
        help="score the whole option line, the mean over its tokens, or its letter alone (default: line, as in training)",
    )
    local.add_argument(
        "--batch-size", type=int, metavar="N", help="questions a forward pass at most (default: what fits)"
    )
    local.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16", "float16"),
        help="of the weights; auto: as they were saved (default: float32 on a CPU, else auto)",
    )
    server = parser.add_argument_group(
        "models on a server", "The key is read from OPENAI_API_KEY; a server of your own needs none."
    )
    add_server_options(server)
    add_money_arguments(parser)


def check_scoring(arguments: argparse.Namespace) -> None:
    """Check what can be checked of the options of `add_scoring` before anything is read.

    Raises:
        ValueError: Options do not fit together, or one is out of range.
    """
    if arguments.adapter and len(arguments.model) != 1:
        raise ValueError(
            f"--adapter must come with one --model; got {len(arguments.model)}. Give each adapter its model in a "
            "file, for --models."
        )
    if arguments.adapter and arguments.base_url:
        raise ValueError(
            f"--adapter must come with a model that is loaded here; got --base-url {arguments.base_url}. Serve the "
            "adapter under a name of its own, and give that as --model."
        )
    if arguments.base_url and not arguments.model:
        raise ValueError("--base-url must come with --model; got --models alone. Write base_url into the file.")
    for option in ("limit", "batch_size"):
        value = getattr(arguments, option)
        if value is not None and value < 1:
            raise ValueError(f"{_flag(option)} must be at least 1; got {value}.")


def check_use(arguments: argparse.Namespace, models: "Iterable[ModelSpec]") -> None:
    """Check that every option of how models are asked concerns one of them, before anything is scored.

    Raises:
        ValueError: one concerns none.
    """
    on_servers = [spec.base_url is not None for spec in models]
    for unused, options, needed in (
        (not any(on_servers), _OF_SERVERS, "a model on a server"),
        (all(on_servers), _LOCAL, "a model that is loaded here"),
    ):
        for option in options:
            if unused and getattr(arguments, option) is not None:
                raise ValueError(f"{_flag(option)} must come with {needed}; got none. Leave it out.")


def _flag(option: str) -> str:
    return f"--{option.replace('_', '-')}"


def short_names(paths: "Sequence[str]", taken: "Iterable[str]" = ()) -> list[str]:
    """The last part of each path; where another path or a taken name is the same, as many parts as tell them apart.

    Example:
        >>> short_names(["runA/checkpoint-10", "runB/checkpoint-10", "runB/final"])
        ['runA/checkpoint-10', 'runB/checkpoint-10', 'final']
    """
    # Such as `.`, which has no name of its own.
    parts = [Path(os.path.abspath(path) if Path(path).is_dir() else path).parts for path in paths]
    longest = max([1, *map(len, parts)])
    names = []
    for number, own in enumerate(parts):
        for length in range(1, longest + 1):
            others = {other[-length:] for place, other in enumerate(parts) if place != number}
            name = str(Path(*own[-length:]))
            if own[-length:] not in others and name not in taken:
                break
        names.append(name)
    return names


def load_scored(
    arguments: argparse.Namespace,
) -> "tuple[Answers, PersonaSet | None, pa.Table, References]":
    """The answers of --answers, their persona set, the questions to ask, and what models are compared with on them.

    Other processes than the first leave warnings and progress bars to it from here on.
    """
    from fairpp_hf.dataset.sources import resolve_answers
    from fairpp_hf.evaluation.evaluate import questions_to_score
    from fairpp_hf.evaluation.model_scores import is_main_process

    if not is_main_process():
        from transformers.utils.logging import disable_progress_bar

        logging.disable(logging.WARNING)
        disable_progress_bar()
    if getattr(arguments, "scenarios", False):
        source = resolve_answers(arguments.answers, arguments.published_revision, scenarios=True)
        if not source.has_scenarios():
            raise ValueError(
                f"--answers must have scenarios for --scenarios; got {arguments.answers!r} without any. Pass a run on which "
                "`fairpp scenarios` was run, or --answers published."
            )
        answers = source.load(arguments.personas)
        if arguments.heldout is not None:
            answers = answers.held_out(arguments.heldout)
    else:
        source, answers = load_answers_of(arguments)
    questions, references = questions_to_score(answers, arguments.split, arguments.limit)
    return answers, source.persona_set(arguments.personas), questions, references


def score(
    arguments: argparse.Namespace,
    models: "Sequence[ModelSpec]",
    questions: "pa.Table",
    personas: "PersonaSet | None",
) -> "list[SystemScores]":
    """`score_models` as the arguments ask for it; nothing in other processes than the first."""
    from fairpp_hf.evaluation.model_scores import ApiOptions, score_models

    given = {name: value for name, value in server_options(arguments).items() if name != "base_url"}
    return score_models(
        models,
        questions,
        arguments.out,
        personas=personas,
        rule=arguments.rule or "line",
        batch_size=arguments.batch_size,
        dtype=arguments.dtype,
        system_as_user=bool(arguments.system_as_user),
        swap=not arguments.one_order,
        api=ApiOptions(given, arguments.price, arguments.prices, batch_limits(arguments)),
        max_cost=arguments.max_cost,
    )


def division_of(arguments: argparse.Namespace) -> str:
    """Where the questions come from, in words."""
    from fairpp_hf.questions.heldout import heldout_labels

    division = f"{arguments.split} split"
    if arguments.heldout is not None:
        labels = ", ".join(map(str, heldout_labels(arguments.heldout)))
        division += f" with {arguments.heldout} held out of training: {labels}"
    return division


def same_questions(arguments: argparse.Namespace) -> str:
    """The options that decide which questions are asked of whom and how, as they were given, to be pasted into a shell."""
    words: list[str] = []
    for option, default in (
        *(("answers", "survey"), ("published_revision", None), ("personas", None), ("split", "test")),
        *(("heldout", None), ("limit", None), ("rule", None), ("dtype", None), ("max_tokens", None), ("ask", None)),
    ):
        value = getattr(arguments, option)
        if value != default:
            words += [_flag(option), str(value)]
    words += [_flag(option) for option in ("no_logprobs", "system_as_user", "one_order") if getattr(arguments, option)]
    return shlex.join(words)


def say_files(scores: "Sequence[SystemScores]", files: "Iterable[Path]") -> None:
    """Print a line on the requests that failed, where some did, and the paths of what was written."""
    if failed := sum(int((system.statuses == "failed").sum()) for system in scores):
        print(f"{failed:,} requests failed and count as unanswered. The same command asks them again.")
    print("Files:", *(f"  {file}" for file in files), sep="\n")
