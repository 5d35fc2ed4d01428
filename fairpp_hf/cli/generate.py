"""`fairpp generate`: have a respondent answer the questions in the role of each persona."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fairpp_hf.personas import PersonaSet
    from fairpp_hf.respondents import Respondent

SUMMARY = "have a respondent answer the questions in the role of each persona"

RESPONDENTS = ("survey", "transformers", "openai")

_ONLY_FOR = {
    "model": ("transformers", "openai"),
    "adapter": ("transformers",),
    "batch_size": ("transformers",),
    "base_url": ("openai",),
    "concurrency": ("openai",),
    "temperature": ("openai",),
    "max_tokens": ("openai",),
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
    local = parser.add_argument_group("transformers")
    local.add_argument("--adapter", metavar="PATH", help="a PEFT adapter trained on the model")
    local.add_argument("--batch-size", type=int, metavar="N", help="questions a forward pass (default: 8)")
    server = parser.add_argument_group(
        "openai", "The key is read from OPENAI_API_KEY; a server of your own needs none."
    )
    server.add_argument("--base-url", metavar="U", help="such as http://localhost:8000/v1 (default: OpenAI)")
    server.add_argument("--concurrency", type=int, metavar="N", help="requests in flight at most (default: 16)")
    server.add_argument("--temperature", type=float, metavar="T", help="default: 0")
    server.add_argument(
        "--max-tokens", type=int, metavar="N", help="of a reply (default: 64; more for a model that thinks)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Check the arguments, ask, and print what came and what to do next.

    Returns:
        0, or 128 + the signal that stopped the run.

    Raises:
        ValueError: the arguments do not fit together, or one is out of range.
        RuntimeError: another process writes to the run, or the respondent cannot go on.
        OSError: the journal cannot be read or written, or the model cannot be found.
    """
    _check_options(arguments)
    import pyarrow as pa

    from fairpp_hf.generation import RunInterrupted, generate
    from fairpp_hf.personas import DEFAULT_PERSONA_SET, load_personas
    from fairpp_hf.questions import load_questions, sample_questions

    personas = load_personas(arguments.personas or DEFAULT_PERSONA_SET)
    questions = load_questions(arguments.split)
    if arguments.limit is not None:
        questions = questions.take(pa.array(sample_questions(questions, arguments.limit)))
    selection = {"split": arguments.split, "limit": arguments.limit}
    try:
        summary = generate(
            arguments.run_path, _respondent(arguments, personas), personas, questions, selection=selection
        )
    except RunInterrupted as interruption:
        print(interruption.summary.table())
        print(f"Stopped with {interruption.summary.remaining:,} requests left. The same command continues.")
        return 128 + interruption.signal_number
    print(summary.table())
    print(f"{summary.asked:,} asked, {summary.reused:,} kept from before, in {summary.seconds:.1f} s.")
    if summary.counts["failed"]:
        print(f"{summary.counts['failed']:,} requests failed. The same command asks them again.")
    if summary.counts["truncated"]:
        print(
            f"{summary.counts['truncated']:,} replies were cut off before an answer. A larger --max-tokens asks anew."
        )
    print(f"Next: fairpp build --run {arguments.run_path} --out fairpp")
    return 0


def _check_options(arguments: argparse.Namespace) -> None:
    respondent = arguments.respondent
    for option, respondents in _ONLY_FOR.items():
        if getattr(arguments, option) is not None and respondent not in respondents:
            raise ValueError(
                f"--{option.replace('_', '-')} must come with --respondent {' or '.join(respondents)}; "
                f"got --respondent {respondent}. Leave it out."
            )
    if arguments.model is None and respondent in _ONLY_FOR["model"]:
        raise ValueError(f"--respondent {respondent} must have a model; got none. Add --model MODEL.")
    if arguments.limit is not None and arguments.limit < 1:
        raise ValueError(f"--limit must be at least 1; got {arguments.limit}.")


def _respondent(arguments: argparse.Namespace, personas: "PersonaSet") -> "Respondent":
    from fairpp_hf.respondents import OpenAIRespondent, SurveyRespondent, TransformersRespondent

    def given(*names: str) -> dict[str, object]:
        """The options that were given: the others have their defaults where they are used."""
        return {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}

    if arguments.respondent == "survey":
        return SurveyRespondent(personas)
    if arguments.respondent == "transformers":
        return TransformersRespondent(arguments.model, **given("adapter", "batch_size"))  # type: ignore[arg-type]
    options = given("base_url", "concurrency", "temperature", "max_tokens")
    return OpenAIRespondent(arguments.model, **options)  # type: ignore[arg-type]
