"""`fairpp build`: a dataset folder in Hub layout from a run, another folder, published tables, or the survey respondent."""

import argparse
from pathlib import Path

from fairpp_hf.cli.arguments import add_answers, add_labels, add_weighting, file_table, settings_of

SUMMARY = "write a dataset folder: a card and Parquet files that load_dataset reads"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `fairpp build`."""
    parser.description = "Without --run and --answers, the answers are the survey respondent's, which are simulated."
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--run", type=Path, metavar="RUN", dest="run_path", help="a run made by `fairpp generate`")
    add_answers(parser, source)
    parser.add_argument("--out", type=Path, default=Path("fairpp"), metavar="FOLDER", help="default: %(default)s")
    parser.add_argument(
        "--targets",
        nargs="*",
        metavar="PERSONA",
        help="personas that get a config of pairs (default: all that answered)",
    )
    add_weighting(parser)
    add_labels(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the folder and say what is in it.

    Raises:
        ValueError: the source or the folder will not do; the message says why.
    """
    from fairpp_hf.hub import build_dataset_folder

    answers = arguments.run_path or arguments.answers or "survey"
    if arguments.run_path is not None:
        _check_run(arguments.run_path)
    files = build_dataset_folder(
        arguments.out,
        answers=answers,
        personas=arguments.personas,
        published_revision=arguments.published_revision,
        targets=arguments.targets,
        pairs=settings_of(arguments),
    )
    print(file_table(arguments.out, files))
    folder = str(arguments.out) if arguments.out.is_absolute() else f"./{arguments.out.as_posix()}"
    if answers == "survey":
        print("The answers are simulated from survey figures; nobody was asked.")
    print(f"Licence: {_licence(arguments.out)}.")
    print(f'Load it with: load_dataset("{folder}", "preferences")')
    return 0


def _licence(folder: Path) -> str:
    from fairpp_hf.provenance import FOLDER_MANIFEST, read_provenance

    return read_provenance(folder / FOLDER_MANIFEST).licence or "not known; ask whoever made the answers"


def _check_run(path: Path) -> None:
    from fairpp_hf.dataset.sources import resolve_answers

    if not path.exists() or resolve_answers(path).kind != "run":
        raise ValueError(
            f"--run must be the path of a run; got {str(path)!r}, which holds none. Make one with `fairpp generate --run "
            f"{path}`, or use --answers for other sources."
        )
