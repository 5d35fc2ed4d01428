"""`fairpp export`: answers as training data for TRL's trainers, or as the paper's wide table."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairpp_hf.cli.arguments import (
    add_answers,
    add_heldout,
    add_weighting,
    comparison_of,
    load_answers_of,
)
from fairpp_hf.text_table import in_columns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from fairpp_hf.dataset.answers import Answers
    from fairpp_hf.personas import PersonaSet
    from fairpp_hf.preferences.export_folder import ExportedFile

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
    parser.add_argument(
        "--soft-labels", action="store_true", help="with dpo: add the column label_probability, for soft_labels=True"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the folder, and say what is in it, what it is made of and what to do with it.

    Raises:
        ValueError: arguments that do not go together, answers that cannot be had, or a folder with other files.
    """
    from fairpp_hf import __version__
    from fairpp_hf.dataset.builder import NOBODY_ASKED, missing_pairs
    from fairpp_hf.dataset.sources import source_personas
    from fairpp_hf.naming import check_name
    from fairpp_hf.preferences.export_folder import ExportFacts, write_export
    from fairpp_hf.preferences.exports import FORMATS
    from fairpp_hf.respondents.base import SIMULATED

    _check(arguments)
    source, answers = load_answers_of(arguments)
    persona_set = source_personas(source, arguments.personas)
    weighting = {}
    if arguments.target is not None:
        check_name("target", arguments.target, answers.personas)
        weighting = _weighting(answers, persona_set, arguments)
    tables = (_wide if arguments.format == "wide" else _rows)(answers, arguments, weighting)
    simulated = all(name.endswith(SIMULATED) for name in answers.respondents)
    facts = ExportFacts(
        version=__version__,
        format=arguments.format,
        target=arguments.target,
        weighting=None if arguments.target is None else {name: getattr(arguments, name) for name in _WEIGHTING},
        heldout=arguments.heldout,
        personas=answers.personas,
        persona_set=persona_set,
        respondents=answers.respondents,
        simulated=simulated,
        origin=answers.origin._asdict(),
    )
    files = write_export(arguments.out, tables, facts)

    print(_table(arguments.out, files))
    print(f"Answers: {', '.join(answers.respondents)}.{f' {NOBODY_ASKED}' if simulated else ''}")
    print(f"Licence of the answers: {answers.origin.licence or 'not recorded'}.")
    if arguments.format != "wide" and (missing := missing_pairs(answers, arguments.target)):
        print(missing)
    folder = str(arguments.out) if arguments.out.is_absolute() else f"./{arguments.out.as_posix()}"
    print(f'Load it with: load_dataset("{folder}")')
    print(FORMATS[arguments.format].use)
    return 0


_WEIGHTING = ("weighting", "alpha", "beta", "comparison")


def _check(arguments: argparse.Namespace) -> None:
    """Refuse arguments that would have no effect; bring `comparison` into the form that the builder has it in."""
    from fairpp_hf.preferences.schemes import check_scheme

    if arguments.target is None:
        if arguments.format != "wide":
            raise ValueError(
                f"--target must be given with --format {arguments.format}; got none. Its rows are made for one persona. "
                "Add a persona's id, such as --target loyal_nationals."
            )
        defaults = {"weighting": "tier", "alpha": 1.0, "beta": 1.0, "comparison": None}
        given = [name for name in _WEIGHTING if getattr(arguments, name) != defaults[name]]
        if given:
            raise ValueError(
                f"--{given[0]} must be left out without --target; got {getattr(arguments, given[0])!r}. Weights are those "
                "of a target. Remove it, or add --target PERSONA."
            )
    if arguments.soft_labels and arguments.format != "dpo":
        raise ValueError(
            f"--soft-labels must be left out with --format {arguments.format}; only pairs have soft labels. Remove it, or "
            "use --format dpo."
        )
    check_scheme("weighting", arguments.weighting, arguments.alpha, arguments.beta)
    arguments.comparison = comparison_of(arguments)


def _weighting(answers: "Answers", persona_set: "PersonaSet | None", arguments: argparse.Namespace) -> dict[str, Any]:
    """The arguments that `answer_pairs` and `preference_weights` have in common."""
    from fairpp_hf.dataset.builder import known_shares, shares_unknown
    from fairpp_hf.preferences.schemes import uses_shares

    shares = None
    if uses_shares(arguments.weighting):
        shares = known_shares(persona_set, answers, arguments.target, arguments.comparison)
        if shares is None:
            print(shares_unknown(arguments.weighting))
    return {"shares": shares, **{name: getattr(arguments, name) for name in ("alpha", "beta", "comparison")}}


def _rows(answers: "Answers", arguments: argparse.Namespace, weighting: dict[str, Any]) -> "Mapping[str, pa.Table]":
    """Training rows by split."""
    from fairpp_hf.dataset.builder import answer_pairs
    from fairpp_hf.preferences.exports import kto_rows, reward_rows, sft_rows

    pairs = answer_pairs(
        answers, arguments.target, weighting=arguments.weighting, soft_labels=arguments.soft_labels, **weighting
    )
    if arguments.format == "dpo":
        return pairs
    if arguments.format == "reward":
        comparison = weighting["comparison"]
        count = (
            len(answers.personas) - 1 if comparison is None else 1 if comparison == "nearest" else len({*comparison})
        )
        return {split: reward_rows(table, count) for split, table in pairs.items()}
    rows = {"kto": kto_rows, "sft": sft_rows}[arguments.format]
    return {split: rows(table) for split, table in pairs.items()}


def _wide(answers: "Answers", arguments: argparse.Namespace, weighting: dict[str, Any]) -> "Mapping[str, pa.Table]":
    """The wide table by split."""
    import pyarrow as pa

    from fairpp_hf.dataset.builder import fit_rows
    from fairpp_hf.preferences import preference_weights
    from fairpp_hf.preferences.exports import wide_rows
    from fairpp_hf.respondents.base import SIMULATED
    from fairpp_hf.schema import RAW_REPLY

    if len(answers.respondents) != 1:
        raise ValueError(
            f"The answers must be of one respondent with --format wide; got {', '.join(map(repr, answers.respondents))}. "
            "The columns have its name. Export each respondent's run on its own."
        )
    matrix = answers.matrix()
    weights = None
    if arguments.target is not None:
        weights = preference_weights(
            matrix, arguments.target, scheme=arguments.weighting, fit_rows=fit_rows(answers), **weighting
        )
    raw_replies = None
    if RAW_REPLY in answers.features:
        raw_replies = {persona: _by_question(answers, persona, RAW_REPLY) for persona in answers.personas}
    model = answers.respondents[0].removesuffix(SIMULATED)
    table = wide_rows(answers.questions, matrix, model, raw_replies=raw_replies, weights=weights)
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


def _table(out: Path, files: "Sequence[ExportedFile]") -> str:
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
