"""Brings the published tables of Fair-PP (Zhou et al. 2025, arXiv:2505.11861) into our form, a column at a time.

A row there is a question, with a column of answers for each of the seven personas. It is mapped by its labels: problem and
group by name, the dimension and the form by `Option`. Its text stays the authors' own. Answers come from the raw replies
where a table has them, see `published_answers`.
"""

import logging
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fairpp_hf.dataset.answers import Answers
from fairpp_hf.dataset.exported_tables import check_unrecorded, read_export
from fairpp_hf.dataset.published_answers import RoleColumns, read_records
from fairpp_hf.dataset.published_files import TableFile, read_columns, table_files
from fairpp_hf.naming import nearest
from fairpp_hf.personas import load_personas
from fairpp_hf.questions import load_questions, option_lines, split_of
from fairpp_hf.questions.rendering import load_templates
from fairpp_hf.questions.taxonomy import FORMS, load_taxonomy
from fairpp_hf.schema import QUESTION_FEATURES

logger = logging.getLogger(__name__)

LABEL_COLUMNS = ("Topic", "Problem Category", "Specific Problem", "Group Type", "Group", "Option")
PERSPECTIVE = "Perspective"
QUESTION_TEXT = "Question"
SCENARIO_TEXT = "simulation_question"

_ROLE = re.compile(r"(?P<model>.+)_role_(?P<number>[1-9]\d*)(?P<kind>_answer|_simulation|)")

_QUESTION = (
    r"(?s)\A(?P<question>.+?)\s*\nA\.\s*(?P<option_a>[^\n]+)\nB\.\s*(?P<option_b>[^\n]+)\nC\.\s*(?P<option_c>[^\n]+)\z"
)
"""A stem of any number of lines, then a line for each option."""
_SCENARIO = (
    r"(?s)\AA\.\s*(?P<option_a>.+?)\nB\.\s*(?P<option_b>.+?)\nC\.\s*(?P<option_c>N/A\b|.+\n)\s*(?P<question>[^\n]+)\z"
)
"""Vignettes of any number of lines; what follows the third one is the closing question, the last line."""


class _Rows(NamedTuple):
    """Where the m rows of several files come from, for messages."""

    files: Sequence[TableFile]
    starts: NDArray[np.int64]
    """(files + 1,): first row of each file, and the number of rows."""

    def place(self, row: int) -> str:
        """Such as "row 12 of train.csv", counted from 0; where the file lies is nobody's business on a card."""
        file = int(np.searchsorted(self.starts, row, side="right")) - 1
        return f"row {row - self.starts[file]} of {self.files[file].path.name}"


def has_scenarios(path: Path) -> bool:
    """Whether a file of the tables at a path has the column of scenarios."""
    return any(SCENARIO_TEXT in file.columns for file in table_files(path))


def has_raw_replies(path: Path) -> bool:
    """Whether `import_tables` will give the column `raw_reply`."""
    return any(match["kind"] == "" for match in _roles_in(table_files(path), len(_personas(path))))


def import_tables(path: Path, *, scenarios: bool = False) -> tuple[Answers, tuple[str, ...]]:
    """Read published tables and map them to our labels.

    Args:
        path: A CSV or Parquet file, or a folder, see `table_files`. Columns may be in any order, and further ones are left
            out. Needed are those of `LABEL_COLUMNS`, `Perspective`, `Question` or `simulation_question`, and, for one model
            and each role 1 to 7, `<model>_role_<n>_answer` or `<model>_role_<n>_simulation`: 0, 1, 2 or nothing. Raw
            replies, `<model>_role_<n>`, count before the answers. The roles are the personas of `britains_choice_2020`, in
            their order; in an export of ours, the personas that it records.
        scenarios: Import the answers to scenarios.

    Returns:
        Answers to the questions whose texts could be parsed, and sentences on what was counted and left out, which are
        logged, too. Splits are those of the files, our own where these have none; scenarios and what comes in one table
        with them are test questions.

    Raises:
        ValueError: A column is missing, there are answers of several models or in another coding, a label is unknown or
            contradicts another, a question is there twice, or no text can be parsed.
    """
    files = table_files(path)
    files = [file for file in files if (SCENARIO_TEXT in file.columns) == scenarios] or files
    personas, export = _personas(path), read_export(path)
    model = _model_of(files, len(personas), path)
    assumed = check_unrecorded(model, path) if export is None else ""
    text = SCENARIO_TEXT if scenarios else QUESTION_TEXT
    roles = []
    for number, persona in enumerate(personas, start=1):
        name = f"{model}_role_{number}"
        # Raw replies to scenarios are not published; beside scenarios they would be those to the questions.
        replied = not scenarios and any(name in file.columns for file in files)
        roles.append(
            RoleColumns(persona, f"{name}_{'simulation' if scenarios else 'answer'}", name if replied else None)
        )
    table, rows = _read(files, text, roles)
    question = _question_numbers(table, rows)
    texts = _texts(table[text], _SCENARIO if scenarios else _QUESTION)
    parsed = texts["question"].is_valid().to_numpy(zero_copy_only=False)
    order = np.flatnonzero(parsed)
    order = order[np.argsort(question[order], kind="stable")]
    questions = _with_texts(load_questions().take(pa.array(question[order])), texts.take(pa.array(order)))

    notes = [assumed] if assumed else []
    if beyond := _roles_beyond(files, len(personas)):
        notes.append(f"Columns of further roles are left out: {', '.join(map(repr, beyond))}.")
    unparsed = np.flatnonzero(~parsed)
    if len(unparsed):
        places = ", ".join(rows.place(int(row)) for row in unparsed[:5])
        notes.append(
            f"{len(unparsed):,} of {len(parsed):,} questions are left out, since their text has no lines 'A. ', 'B. ' and "
            f"'C. ': {places}{', ...' if len(unparsed) > 5 else ''}."
        )
    if any(SCENARIO_TEXT in file.columns for file in files):
        is_test = np.ones(len(order), dtype=np.bool_)
    elif files[0].split is None:
        is_test = split_of(questions)
        notes.append("Names of files tell no split: questions are divided as fairpp_hf divides its own.")
    else:
        is_test = np.repeat([file.split == "test" for file in files], np.diff(rows.starts))[order]
    if len(order) < len(load_questions()) and not scenarios:
        notes.append(f"These are {len(order):,} of the {len(load_questions()):,} questions.")
    file_of_row = np.repeat(np.arange(len(files)), np.diff(rows.starts))[order]
    records, counted = read_records(
        table.take(pa.array(order)).combine_chunks(),
        questions,
        model,
        roles,
        None if export else [(file.path.name, file_of_row == number) for number, file in enumerate(files)],
    )
    notes += counted
    for note in notes:
        _say_once(path, note)
    return Answers(questions, is_test, records), tuple(notes)


@lru_cache
def _say_once(path: Path, sentence: str) -> None:
    """Once in the log of a process, however often the tables at a path are loaded."""
    logger.warning("Published tables of %s: %s", path, sentence)


# The columns


def _personas(path: Path) -> tuple[str, ...]:
    """Ids of the personas in the order of the roles: those that an export records, otherwise the published seven."""
    export = read_export(path)
    return load_personas().ids if export is None else export.personas


def _roles_in(files: Sequence[TableFile], roles: int) -> list[re.Match[str]]:
    """The names of columns that are those of one of the roles 1 to `roles`."""
    found = [match for file in files for match in map(_ROLE.fullmatch, file.columns) if match]
    return [match for match in found if int(match["number"]) <= roles]


def _roles_beyond(files: Sequence[TableFile], roles: int) -> list[str]:
    """The columns of answers of roles beyond 1 to `roles`, sorted by name: those of a table of more personas."""
    found = {match for file in files for match in map(_ROLE.fullmatch, file.columns) if match}
    return sorted({match[0] for match in found if int(match["number"]) > roles and match["kind"]})


def _model_of(files: Sequence[TableFile], roles: int, path: Path) -> str:
    """The one model that answered for the personas, read from the names of columns."""
    models = sorted({match["model"] for match in _roles_in(files, roles)})
    if len(models) > 1:
        raise ValueError(
            "A published table must have role columns of one model; got those of "
            f"{', '.join(map(repr, models))} in {path}. Which of them answered cannot be told. Remove the others' columns."
        )
    # The columns that are missing are named with a placeholder then.
    return models[0] if models else "<model>"


def _read(files: Sequence[TableFile], text: str, roles: Sequence[RoleColumns]) -> tuple[pa.Table, _Rows]:
    """The rows of all files, with the columns that are needed."""
    replies = [role.replies for role in roles if role.replies is not None]
    types = dict.fromkeys([*LABEL_COLUMNS, text], pa.string())
    types |= dict.fromkeys([PERSPECTIVE, *(role.answers for role in roles)], pa.float64())
    parts = []
    for file in files:
        missing = [name for name in types if name not in file.columns]
        if missing:
            close = nearest(missing[0], [name for name in file.columns if name not in types])
            hint = f" Is it {close!r}?" if close else ""
            raise ValueError(
                f"A published table must have the columns {', '.join(map(repr, types))}; got none named "
                f"{', '.join(map(repr, missing))} in {file.path}.{hint} Rename or add them there."
            )
        given = {name: pa.string() for name in replies if name in file.columns}
        part = read_columns(file.path, types | given)
        for name in replies:
            if name not in given:
                part = part.append_column(name, pa.nulls(len(part), pa.string()))
        parts.append(part.select([*types, *replies]))
    starts = np.cumsum([0, *map(len, parts)])
    if not starts[-1]:
        raise ValueError(
            f"A published table must have at least one row; got none in {files[0].path}. Download it again."
        )
    return pa.concat_tables(parts).combine_chunks(), _Rows(files, starts)


# The labels


def _question_numbers(table: pa.Table, rows: _Rows) -> NDArray[np.int64]:
    """The row of each question in `load_questions()`, (m,), from its labels."""
    taxonomy = load_taxonomy()
    problems, groups = taxonomy.problems, taxonomy.groups
    poles = [pole for dimension in taxonomy.dimensions for pole in (dimension.pole_a, dimension.pole_b)]
    problem = _codes(table, "Specific Problem", [item.name for item in problems], rows)
    group = _codes(table, "Group", [item.name for item in groups], rows)
    # The first pole stands for the question about criteria, the second for the one about explanations.
    dimension, form = np.divmod(_codes(table, "Option", poles, rows), len(FORMS))
    # `Perspective` is <number of the topic>.<number of the dimension>, such as 3.2, both from 1.
    topic = np.array([taxonomy.topics.index(item.topic) for item in problems])[problem]
    for name, due in (
        ("Topic", np.array([item.topic for item in problems])[problem]),
        ("Problem Category", np.array([item.category for item in problems])[problem]),
        ("Group Type", np.array([item.group_type for item in groups])[group]),
        (PERSPECTIVE, np.round(topic + 1 + (dimension + 1) / 10, 1)),
    ):
        got = table[name].to_pylist()
        if name != PERSPECTIVE:
            got, expected = [_folded(label) for label in got], [_folded(label) for label in due]
        else:
            got, expected = [None if number is None else round(number, 2) for number in got], due.tolist()
        wrong = next((row for row, (mine, other) in enumerate(zip(got, expected, strict=True)) if mine != other), None)
        if wrong is not None:
            raise ValueError(
                f"{name} must agree with the other labels of its row, which make {due[wrong]!s}; got "
                f"{table[name][wrong].as_py()!r} at {rows.place(wrong)}. Mend the row."
            )
    question = ((problem * len(groups) + group) * len(taxonomy.dimensions) + dimension) * len(FORMS) + form
    numbers, count = np.unique(question, return_counts=True)
    if (count > 1).any():
        again = numbers[count > 1][0]
        places = [rows.place(int(row)) for row in np.flatnonzero(question == again)[:2]]
        raise ValueError(
            f"A question must be there once; got {load_questions()['question_id'][again].as_py()!r} at "
            f"{' and at '.join(places)}. Remove one of them."
        )
    return question


def _codes(table: pa.Table, name: str, labels: Sequence[str], rows: _Rows) -> NDArray[np.int64]:
    """The place of each label in `labels`, (m,)."""
    known = {_folded(label): number for number, label in enumerate(labels)}
    codes = np.array([known.get(_folded(text), -1) for text in table[name].to_pylist()])
    wrong = np.flatnonzero(codes < 0)
    if len(wrong):
        text = table[name][wrong[0]].as_py()
        close = nearest(_folded(text), labels)
        hint = f"Did you mean {close!r}?" if close else "Mend the row."
        raise ValueError(
            f"{name} must be one of the {len(labels)} labels of Fair-PP's taxonomy; got {text!r} at "
            f"{rows.place(wrong[0])}. {hint}"
        )
    return codes


@lru_cache(maxsize=1024)
def _folded(text: str | None) -> str:
    return " ".join((text or "").split()).casefold()


# The texts


def _texts(column: pa.ChunkedArray, pattern: str) -> pa.Table:
    """Texts as `question`, `option_a`, `option_b` and `option_c`, null in rows whose text is of another form."""
    text = pc.replace_substring_regex(column.combine_chunks(), r"[ \t]*\r?\n[ \t]*", "\n")
    parsed = pc.extract_regex(pc.utf8_trim_whitespace(text), pattern)
    if parsed.null_count == len(parsed):
        raise ValueError(
            "A published table must have texts with lines 'A. ', 'B. ' and 'C. ' (scenarios: and a closing question "
            f"below); got none of that form in {len(parsed):,} rows, such as {(text[0].as_py() or '')[:200]!r}. Is it "
            "another table?"
        )
    # Fields of a missing struct are empty texts underneath; flattening makes them null.
    return pa.table(
        {
            field.name: pc.utf8_trim_whitespace(values)
            for field, values in zip(parsed.type, parsed.flatten(), strict=True)
        }
    )


def _with_texts(questions: pa.Table, texts: pa.Table) -> pa.Table:
    """Our questions with these texts, and prompts made of them."""
    columns = {name: questions[name] for name in questions.column_names} | {
        name: texts[name] for name in texts.column_names
    }
    columns["prompt"] = pc.binary_join_element_wise(
        texts["question"], *option_lines(texts), load_templates().instruction, "\n"
    )
    return pa.table(
        [columns[name] for name in QUESTION_FEATURES], schema=QUESTION_FEATURES.arrow_schema
    ).combine_chunks()
