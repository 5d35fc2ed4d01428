"""Arguments that several commands have in common."""

import argparse
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from fairpp_hf.dataset.answers import Answers
    from fairpp_hf.dataset.sources import AnswerSource


def add_answers(parser: argparse.ArgumentParser, source: "argparse._ActionsContainer | None" = None) -> None:
    """Add --answers, --published-revision and --personas.

    Args:
        parser: of the command.
        source: where --answers goes, if it excludes another argument; it has no default then, since `argparse` does not
            see that a default was given.
    """
    (source or parser).add_argument(
        "--answers",
        default=None if source else "survey",
        metavar="SOURCE",
        help="'survey' (default), 'published', or the path of a run, dataset folder or published table",
    )
    parser.add_argument(
        "--published-revision", metavar="REVISION", help="of --answers published: branch, tag or commit (default: main)"
    )
    parser.add_argument(
        "--personas", metavar="SET_OR_FILE", help="default: britains_choice_2020 for 'survey', else all that answered"
    )


def add_heldout(parser: argparse.ArgumentParser) -> None:
    """Add --heldout."""
    from fairpp_hf.questions import HELDOUT

    parser.add_argument(
        "--heldout",
        choices=HELDOUT,
        help="divide so that one topic, one group of each type or one dimension is in the test split alone",
    )


def add_weighting(parser: argparse.ArgumentParser) -> None:
    """Add --weighting, --alpha, --beta and --comparison."""
    from fairpp_hf.preferences import SCHEMES

    exponents = " and ".join(name for name, scheme in SCHEMES.items() if scheme.has_exponents)
    parser.add_argument("--weighting", default="tier", metavar="SCHEME", help=f"{', '.join(SCHEMES)} (default: tier)")
    parser.add_argument(
        "--alpha", type=float, default=1.0, help=f"exponent of a tier's number, {exponents} (default: 1)"
    )
    parser.add_argument("--beta", type=float, default=1.0, help=f"exponent of a tier's size, {exponents} (default: 1)")
    parser.add_argument(
        "--comparison",
        nargs="+",
        metavar="PERSONA",
        help="personas to move away from (default: all others), or 'nearest' for the one that agrees with a target most",
    )


def comparison_of(arguments: argparse.Namespace) -> "list[str] | Literal['nearest'] | None":
    """--comparison as the package has it."""
    return "nearest" if arguments.comparison == ["nearest"] else arguments.comparison


def load_answers_of(arguments: argparse.Namespace) -> "tuple[AnswerSource, Answers]":
    """What --answers, --published-revision, --personas and --heldout ask for."""
    from fairpp_hf.dataset.sources import load_source, resolve_answers

    source = resolve_answers(arguments.answers, arguments.published_revision)
    answers = load_source(source, arguments.personas)
    return source, answers if arguments.heldout is None else answers.held_out(arguments.heldout)
