"""`fairpp export`: answers as training data for TRL's trainers, or as the paper's wide table."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from fairpp_hf.cli.arguments import (
    add_answers,
    add_heldout,
    add_labels,
    add_weighting,
    file_table,
    load_answers_of,
    settings_of,
)

if TYPE_CHECKING:
    from fairpp_hf.preferences import PairSettings

SUMMARY = "write pairs, unpaired rows, margins, demonstrations or the paper's wide table"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    from fairpp_hf.preferences.exports import FORMATS

    rows = "; ".join(f"{name}: {known.rows}" for name, known in FORMATS.items())
    parser.add_argument("--format", required=True, choices=list(FORMATS), help=f"what a row is. {rows}")
    parser.add_argument("--target", help="persona to align with; with wide, it adds the columns Tier and weight")
    parser.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="folder for train.parquet, test.parquet and their card"
    )
    add_answers(parser)
    add_heldout(parser)
    add_weighting(parser)
    add_labels(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the folder, and say what is in it, what it is made of and what to do with it.

    Raises:
        ValueError: arguments that do not go together, answers that cannot be had, or a folder with other files.
    """
    from fairpp_hf import __version__
    from fairpp_hf.dataset.answer_pairs import export_tables
    from fairpp_hf.hub.export_folder import ExportFacts, write_export

    settings = settings_of(arguments)
    _check(arguments, settings)
    source, answers = load_answers_of(arguments)
    tables, _, label_model, notes = export_tables(
        answers, arguments.format, arguments.target, settings, source.persona_set(arguments.personas)
    )
    facts = ExportFacts(
        version=__version__,
        format=arguments.format,
        target=arguments.target,
        pairs=None if arguments.target is None else settings,
        label_model=label_model,
        heldout=arguments.heldout,
        personas=answers.personas,
        provenance=answers.provenance,
    )
    files = write_export(arguments.out, tables, facts)

    print(file_table(arguments.out, files))
    nobody = " All of them are simulated; nobody was asked." if answers.provenance.simulated else ""
    print(f"Answers: {answers.provenance.line}.{nobody}")
    print(f"Licence of the answers: {answers.provenance.licence or 'not recorded'}.")
    for note in notes:
        print(note)
    if label_model is not None:
        print(f"Label model: {label_model.quality}.")
    folder = str(arguments.out) if arguments.out.is_absolute() else f"./{arguments.out.as_posix()}"
    print(f'Load it with: load_dataset("{folder}")')
    print(facts.use)
    return 0


def _check(arguments: argparse.Namespace, settings: "PairSettings") -> None:
    """Refuse arguments that would have no effect."""
    from fairpp_hf.preferences import PairSettings
    from fairpp_hf.preferences.exports import FORMATS

    if arguments.target is None:
        if FORMATS[arguments.format].of_pairs is not None:
            raise ValueError(
                f"--target must be given with --format {arguments.format}; got none. Its rows are made for one persona. "
                "Add a persona's id, such as --target loyal_nationals."
            )
        default = vars(PairSettings())
        given = [name for name, value in vars(settings).items() if value != default[name]]
        if given:
            raise ValueError(
                f"--{given[0]} must be left out without --target; got {getattr(settings, given[0])!r}. Weights are those "
                "of a target. Remove it, or add --target PERSONA."
            )
    if settings.soft and not FORMATS[arguments.format].soft:
        soft = " or ".join(name for name, form in FORMATS.items() if form.soft)
        raise ValueError(
            f"--labels must be answers with --format {arguments.format}; got {settings.labels}. Only pairs of --format "
            f"{soft} have label probabilities. Remove it, or use --format {soft}."
        )
