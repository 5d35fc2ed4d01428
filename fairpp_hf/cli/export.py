"""`fairpp export`: answers as training data for TRL's trainers, or as the paper's wide table."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from fairpp_hf.cli.arguments import (
    add_answers,
    add_heldout,
    add_labels,
    add_weighting,
    load_answers_of,
    settings_of,
)
from fairpp_hf.text_table import in_columns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from fairpp_hf.dataset.answer_pairs import AnswerPairs
    from fairpp_hf.dataset.answers import Answers
    from fairpp_hf.hub.owned_folder import WrittenFile
    from fairpp_hf.personas import PersonaSet
    from fairpp_hf.preferences import PairSettings

SUMMARY = "write pairs, unpaired rows, margins, demonstrations or the paper's wide table"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    from fairpp_hf.hub.exports import FORMATS

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
    from fairpp_hf.dataset.answer_pairs import answer_pairs, compared
    from fairpp_hf.hub.export_folder import ExportFacts, write_export
    from fairpp_hf.naming import check_name

    settings = settings_of(arguments)
    _check(arguments, settings)
    source, answers = load_answers_of(arguments)
    persona_set = source.persona_set(arguments.personas)
    if arguments.target is not None:
        check_name("target", arguments.target, answers.personas)
    notes: Sequence[str] = ()
    label_model = None
    if arguments.format == "wide":
        tables = _wide(answers, arguments.target, settings, persona_set)
        if arguments.target is not None:
            notes = [note] if (note := compared(answers, arguments.target, settings, persona_set).note) else []
    else:
        pairs = answer_pairs(answers, arguments.target, settings, persona_set)
        tables, notes, label_model = _rows(pairs, arguments.format), pairs.notes, pairs.label_model
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

    print(_table(arguments.out, files))
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

    if arguments.target is None:
        if arguments.format != "wide":
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
    if settings.soft and arguments.format != "dpo":
        raise ValueError(
            f"--labels must be answers with --format {arguments.format}; got {settings.labels}. Only pairs of --format dpo "
            "have label probabilities. Remove it, or use --format dpo."
        )


def _rows(pairs: "AnswerPairs", format_name: str) -> "Mapping[str, pa.Table]":
    """Training rows by split."""
    from fairpp_hf.hub.exports import kto_rows, reward_rows, sft_rows

    if format_name == "dpo":
        return pairs.tables
    if format_name == "reward":
        count = len(pairs.comparison.personas)
        return {split: reward_rows(table, count) for split, table in pairs.tables.items()}
    rows = {"kto": kto_rows, "sft": sft_rows}[format_name]
    return {split: rows(table) for split, table in pairs.tables.items()}


def _wide(
    answers: "Answers", target: str | None, settings: "PairSettings", persona_set: "PersonaSet | None"
) -> "Mapping[str, pa.Table]":
    """The wide table by split."""
    import pyarrow as pa

    from fairpp_hf.dataset.answer_pairs import answer_weights
    from fairpp_hf.hub.exports import wide_rows
    from fairpp_hf.provenance import SIMULATED
    from fairpp_hf.schema import RAW_REPLY

    if len(answers.respondents) != 1:
        raise ValueError(
            f"The answers must be of one respondent with --format wide; got {', '.join(map(repr, answers.respondents))}. "
            "The columns have its name. Export each respondent's run on its own."
        )
    weights = None if target is None else answer_weights(answers, target, settings, persona_set)
    raw_replies = None
    if RAW_REPLY in answers.features:
        raw_replies = {persona: _by_question(answers, persona, RAW_REPLY) for persona in answers.personas}
    model = answers.respondents[0].removesuffix(SIMULATED)
    table = wide_rows(answers.questions, answers.matrix(), model, raw_replies=raw_replies, weights=weights)
    parts = {"train": ~answers.is_test, "test": answers.is_test}
    return {split: table.filter(pa.array(rows)) for split, rows in parts.items()}


def _by_question(answers: "Answers", persona: str, column: str) -> "pa.ChunkedArray":
    """A column of a persona's records, one value a question, null where it has no record; (n,)."""
    import numpy as np
    import pyarrow as pa

    records = answers.records[persona]
    place = np.full(len(answers.questions), -1)
    place[records["row"].to_numpy()] = np.arange(len(records))
    return records[column].take(pa.array(place, mask=place < 0))


def _table(out: Path, files: "Sequence[WrittenFile]") -> str:
    """Split, rows, file and size of each file, in columns."""
    rows = [("split", "rows", "file", "size")]
    rows += [
        (
            file.split or "",
            "" if file.rows is None else f"{file.rows:,}",
            str(out / file.path),
            f"{file.size / 1e6:.2f} MB",
        )
        for file in files
    ]
    return in_columns(rows, right=(False, True, False, True))
