"""Arguments that several commands have in common."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairpp_hf.text_table import in_columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fairpp_hf.dataset.answers import Answers
    from fairpp_hf.dataset.sources import AnswerSource
    from fairpp_hf.hub.owned_folder import WrittenFile
    from fairpp_hf.preferences import PairSettings


def add_answers(parser: argparse.ArgumentParser, source: "argparse._ActionsContainer | None" = None) -> None:
    """Add --answers, --published-revision and --personas.

    Args:
        parser: The command's parser.
        source: Group that --answers goes into, if it excludes another argument. It has no default then, because `argparse`
            does not see whether a default was given.
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


def add_server_options(server: "argparse._ActionsContainer") -> None:
    """Add --base-url, --concurrency, --max-tokens, --timeout, and how a server is asked; see `server_options`."""
    server.add_argument("--base-url", metavar="U", help="such as http://localhost:8000/v1 (default: OpenAI)")
    server.add_argument("--concurrency", type=int, metavar="N", help="requests in flight at most (default: 32)")
    server.add_argument(
        "--max-tokens", type=int, metavar="N", help="of a reply (default: 64, and 4,096 more for a model that thinks)"
    )
    server.add_argument("--timeout", type=float, metavar="S", help="seconds to wait for a whole reply (default: 120)")
    add_ask_options(server)


def add_ask_options(server: "argparse._ActionsContainer") -> None:
    """Add --ask, --no-logprobs and --system-as-user: how a server is asked, where that is not for it to settle."""
    server.add_argument(
        "--ask",
        choices=("choice", "text"),
        help="for a letter by a JSON schema, or for free text, the paper's way (default: choice where the server takes it)",
    )
    server.add_argument(
        "--no-logprobs",
        action="store_true",
        default=None,
        help="ask for no log-probabilities (default: for as many as the server gives)",
    )
    server.add_argument(
        "--system-as-user",
        action="store_true",
        default=None,
        help="begin the user's message with the portrait (default: a system message where there is one)",
    )


def server_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `OpenAIRespondent` that the command line gives; the others have their defaults there."""
    given = {
        name: getattr(arguments, name, None)
        for name in ("base_url", "concurrency", "temperature", "max_tokens", "ask", "system_as_user")
    }
    given |= {"timeout_s": arguments.timeout, "logprobs": False if arguments.no_logprobs else None}
    return {name: value for name, value in given.items() if value is not None}


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
    parser.add_argument("--weighting", metavar="SCHEME", help=f"{', '.join(SCHEMES)} (default: tier)")
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


def add_labels(parser: argparse.ArgumentParser) -> None:
    """Add --labels, --divergence and --option-order."""
    from fairpp_hf.preferences import LABELS
    from fairpp_hf.questions.option_order import OPTION_ORDERS

    parser.add_argument(
        "--labels",
        choices=LABELS,
        default="answers",
        help="answers (default): the target's one answer is preferred to the other two options. respondent, fitted: three "
        "pairs a question, with a column label_probability, from the respondent's option probabilities or from a label "
        "model that is fitted to the answers; the default of --weighting is then uniform",
    )
    parser.add_argument(
        "--divergence",
        type=float,
        default=0.0,
        metavar="LAMBDA",
        help="how far soft labels lean away from the comparison personas; 0, the default, is the target itself",
    )
    parser.add_argument(
        "--option-order",
        choices=OPTION_ORDERS,
        default="written",
        help="written (default): pole A is always shown as A. mixed: as B in a random half of the questions, so that "
        "training cannot take the letter for the stance",
    )


def settings_of(arguments: argparse.Namespace) -> "PairSettings":
    """What --weighting, --alpha, --beta, --comparison, and, where a command has them, those of `add_labels` ask for."""
    from fairpp_hf.preferences import PairSettings

    return PairSettings(
        weighting=arguments.weighting,
        alpha=arguments.alpha,
        beta=arguments.beta,
        comparison="nearest" if arguments.comparison == ["nearest"] else arguments.comparison,
        labels=getattr(arguments, "labels", "answers"),
        divergence=getattr(arguments, "divergence", 0.0),
        option_order=getattr(arguments, "option_order", "written"),
    )


def load_answers_of(arguments: argparse.Namespace) -> "tuple[AnswerSource, Answers]":
    """What --answers, --published-revision, --personas and --heldout ask for."""
    from fairpp_hf.dataset.sources import resolve_answers

    source = resolve_answers(arguments.answers, arguments.published_revision)
    answers = source.load(arguments.personas)
    return source, answers if arguments.heldout is None else answers.held_out(arguments.heldout)


def file_table(out: Path, files: "Sequence[WrittenFile]") -> str:
    """Config, split, rows, file and size of each file that a command wrote, in columns."""
    rows = [("config", "split", "rows", "file", "size")]
    for file in files:
        count = "" if file.rows is None else f"{file.rows:,}"
        rows.append((file.config or "", file.split or "", count, str(out / file.path), f"{file.size / 1e6:.2f} MB"))
    return in_columns(rows, right=(False, False, True, False, True))
