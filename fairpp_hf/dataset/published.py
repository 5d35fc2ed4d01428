"""Brings the published tables of Fair-PP (Zhou et al. 2025, arXiv:2505.11861) into our form, a column at a time.

A row there is a question, with a column of answers for each of the seven personas. It is mapped by its labels: problem and
group by name, the dimension and the form by `Perspective` and `Option`. Its text stays the authors' own.

Answers come from the raw replies where a file has them, see `published_answers`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fairpp_hf.dataset.exported_tables import read_export, role_personas, without_record
from fairpp_hf.dataset.published_answers import (
    OPTIONS,
    RoleColumns,
    as_answers,
    as_numbers,
    first_few,
    read_records,
)
from fairpp_hf.dataset.published_files import TableFile, column_names, read_columns, say_once, table_files
from fairpp_hf.naming import nearest
from fairpp_hf.questions import load_questions, option_lines, split_of
from fairpp_hf.questions.rendering import load_templates
from fairpp_hf.questions.taxonomy import FORMS, load_taxonomy
from fairpp_hf.schema import QUESTION_FEATURES

LABEL_COLUMNS = ("Topic", "Problem Category", "Specific Problem", "Group Type", "Group", "Option")
PERSPECTIVE = "Perspective"
QUESTION_TEXT = "Question"
SCENARIO_TEXT = "simulation_question"

_ROLE = re.compile(r"(?P<model>.+)_role_(?P<number>[1-9]\d*)(?P<kind>_answer|_simulation|)")

_S = r"[\s\p{Z}\x{FEFF}]*"
_QUESTION = (
    rf"(?s)\A{_S}(?P<question>.+?){_S}\n{_S}A\.{_S}(?P<option_a>[^\n]+)\n{_S}B\.{_S}(?P<option_b>[^\n]+)\n"
    rf"{_S}C\.{_S}(?P<option_c>[^\n]+?){_S}\z"
)
"""A stem of any number of lines, then a line for each option."""
_SCENARIO = (
    rf"(?s)\A{_S}A\.{_S}(?P<option_a>.+?)\n{_S}B\.{_S}(?P<option_b>.+?)\n{_S}C\.{_S}(?P<option_c>N/A\b|.+\n){_S}"
    rf"(?P<question>[^\n]+?){_S}\z"
)
"""Vignettes of any number of lines; what follows the third one is the closing question, the last line."""


class ImportedTables(NamedTuple):
    """Published tables in the form of `Answers`."""

    questions: pa.Table
    """n questions with the columns of `QUESTION_FEATURES`, in our order."""
    is_test: NDArray[np.bool_]
    """(n,): which are in the test split."""
    records: dict[str, pa.Table]
    """Persona id to a table of n rows, as in `Answers`."""
    notes: tuple[str, ...]
    """Sentences on what was counted and left out; those that were logged."""


class _Rows(NamedTuple):
    """Where the m rows of several files come from, for messages."""

    files: Sequence[TableFile]
    starts: NDArray[np.int64]
    """(files + 1,): first row of each file, and the number of rows."""

    def file(self) -> NDArray[np.int64]:
        """(m,), into `files`."""
        return np.repeat(np.arange(len(self.files)), np.diff(self.starts))

    def place(self, row: int) -> str:
        """Such as "row 12 of train.csv", counted from 0."""
        return self._place(row)

    def places(self, rows: NDArray[np.int64]) -> str:
        """As `place`, of several rows and by the files' names alone: where they lie is nobody's business on a card."""
        return first_few([self._place(int(row), name_only=True) for row in rows])

    def _place(self, row: int, *, name_only: bool = False) -> str:
        file = int(np.searchsorted(self.starts, row, side="right")) - 1
        path = self.files[file].path
        return f"row {row - self.starts[file]} of {path.name if name_only else path}"


def has_scenarios(path: Path) -> bool:
    """Whether a file of the tables at a path has the column of scenarios."""
    return any(SCENARIO_TEXT in column_names(file.path) for file in table_files(path))


def has_raw_replies(path: Path) -> bool:
    """Whether `import_tables` will give the column `raw_reply`."""
    roles = len(role_personas(path))
    return any(
        match["kind"] == "" for names in _files_of(path, scenarios=False).values() for match in _roles_in(names, roles)
    )


def import_tables(path: Path, *, scenarios: bool = False) -> ImportedTables:
    """Read published tables and map them to our labels.

    Args:
        path: a CSV or Parquet file, or a folder, see `table_files`. Columns may be in any order; further ones are left out
            and named in the log. Needed are those of `LABEL_COLUMNS`, `Perspective`, `Question` or `simulation_question`,
            and, for one model and each role 1 to 7, `<model>_role_<n>_answer` or `<model>_role_<n>_simulation`, 0, 1 and 2
            or letters. Raw replies, `<model>_role_<n>`, count before the answers in files that have them. The roles are
            the personas of `britains_choice_2020`, in their order; in an export of ours, the personas that it records.
        scenarios: import the answers to scenarios.

    Returns:
        The questions whose texts could be parsed. Splits are those of the files, our own where these have none; scenarios
        and what comes in one table with them are test questions.

    Raises:
        ValueError: a file of an export was changed since, or one of another persona set has no record; a column is missing,
            there are answers of several models or in another coding, a label is unknown or contradicts another, a question
            is there twice, or no text can be parsed.
    """
    columns = _files_of(path, scenarios=scenarios)
    export, personas = read_export(path), role_personas(path)
    model = _model_of(columns, len(personas), path)
    notes = []
    if export is None:
        notes += without_record(model, path)
    else:
        export.check_unchanged(file.path for file in columns)
    text = SCENARIO_TEXT if scenarios else QUESTION_TEXT
    present = {name for names in columns.values() for name in names}
    roles = []
    for number, persona in enumerate(personas, start=1):
        name = f"{model}_role_{number}"
        # Raw replies to scenarios are not published; beside scenarios they would be those to the questions.
        replies = name if name in present and not scenarios else None
        roles.append(RoleColumns(persona, f"{name}{'_simulation' if scenarios else '_answer'}", replies))
    answers = [role.answers for role in roles]
    _check_columns(columns, [*LABEL_COLUMNS, PERSPECTIVE, text], answers)
    _name_extras(present, len(personas), path)

    raw = [role.replies for role in roles if role.replies is not None]
    table, rows = _read(columns, [*LABEL_COLUMNS, text, *raw], answers)
    question = _question_numbers(table, rows)
    texts = _texts(table[text], _SCENARIO if scenarios else _QUESTION, rows)
    parsed = texts["question"].is_valid().to_numpy(zero_copy_only=False)
    kept = np.flatnonzero(parsed)
    kept = kept[np.argsort(question[kept], kind="stable")]
    questions = _with_texts(load_questions().take(pa.array(question[kept])), texts.take(pa.array(kept)))
    table = table.take(pa.array(kept)).combine_chunks()
    file = rows.file()[kept]

    if len(kept) < len(parsed):
        notes.append(
            f"{len(parsed) - len(kept):,} of {len(parsed):,} questions are left out, since their text has no lines 'A. ', "
            f"'B. ' and 'C. ': {rows.places(np.flatnonzero(~parsed))}."
        )
    if SCENARIO_TEXT in present:
        is_test = np.ones(len(kept), dtype=np.bool_)
    elif rows.files[0].split is None:
        is_test = split_of(questions)
        notes.append("Names of files tell no split: questions are divided as fairpp_hf divides its own.")
    else:
        is_test = np.array([source.split == "test" for source in rows.files])[file]
    if len(kept) < len(load_questions()) and not scenarios:
        notes.append(f"These are {len(kept):,} of the {len(load_questions()):,} questions.")
    names = _names(rows.files, path)
    records, counted = read_records(table, questions, model, roles, file, names, exported=export is not None)
    notes += counted
    for note in notes:
        say_once(path, note)
    return ImportedTables(questions, is_test, records, tuple(notes))


# The columns


def _files_of(path: Path, *, scenarios: bool) -> dict[TableFile, list[str]]:
    """The files to import, and the names of their columns: those with scenarios, or, where there are any, those without."""
    columns = {file: column_names(file.path) for file in table_files(path)}
    chosen = {file: names for file, names in columns.items() if (SCENARIO_TEXT in names) == scenarios}
    return chosen or columns


def _names(files: Sequence[TableFile], path: Path) -> list[str]:
    """Names of files below the path of the tables: where that lies is nobody's business on a card."""
    return [file.path.relative_to(path).as_posix() if path.is_dir() else file.path.name for file in files]


def _roles_in(names: Iterable[str], roles: int) -> list[re.Match[str]]:
    """The names of columns that are those of one of the roles 1 to `roles`."""
    found = [match for match in map(_ROLE.fullmatch, names) if match]
    return [match for match in found if int(match["number"]) <= roles]


def _model_of(columns: Mapping[TableFile, Sequence[str]], roles: int, path: Path) -> str:
    """The one model that answered for the personas, read from the names of columns."""
    models = sorted({match["model"] for names in columns.values() for match in _roles_in(names, roles)})
    if len(models) > 1:
        raise ValueError(
            "A published table must have role columns of one model; got those of "
            f"{', '.join(map(repr, models))} in {path}. Which of them answered cannot be told. Remove the others' columns."
        )
    # The columns that are missing are named with a placeholder then.
    return models[0] if models else "<model>"


def _check_columns(columns: Mapping[TableFile, Sequence[str]], texts: Sequence[str], answers: Sequence[str]) -> None:
    needed = [*texts, *answers]
    for file, names in columns.items():
        missing = [name for name in needed if name not in names]
        if not missing:
            continue
        rest = [name for name in names if name not in needed]
        found = []
        for name in missing:
            close = nearest(name, rest)
            found.append(f"{name!r} (the nearest is {close!r})" if close else repr(name))
        raise ValueError(
            f"A published table must have the columns {', '.join(map(repr, texts))} and, for one model and each role 1 to "
            f"{len(answers)}, {answers[0].replace('_role_1', '_role_<n>')!r}; got none named {', '.join(found)} in "
            f"{file.path}. Rename or add them there."
        )


def _name_extras(present: set[str], roles: int, path: Path) -> None:
    """Names the columns that are no part of the published tables' questions and answers."""
    known = {*LABEL_COLUMNS, PERSPECTIVE, QUESTION_TEXT, SCENARIO_TEXT}
    known |= {match.string for match in _roles_in(present, roles)}
    extras = sorted(present - known)
    if extras:
        say_once(path, f"Columns without a use here are left out: {', '.join(map(repr, extras))}.")


def _read(
    columns: Mapping[TableFile, Sequence[str]], texts: Sequence[str], answers: Sequence[str]
) -> tuple[pa.Table, _Rows]:
    """The rows of all files: columns of texts, `Perspective` by `as_numbers`, and answers by `as_answers`."""
    reader = {**dict.fromkeys(texts, _as_texts), PERSPECTIVE: as_numbers, **dict.fromkeys(answers, as_answers)}
    parts = []
    for file, names in columns.items():
        found = read_columns(file.path, [name for name in reader if name in names])
        read = {name: reader[name](found[name]) for name in found.column_names}
        # A column that only other files have, such as raw replies, is null here.
        absent = {name: pa.nulls(len(found), pa.string()) for name in texts if name not in names}
        parts.append(pa.table(read | absent).select(list(reader)))
    starts = np.cumsum([0, *map(len, parts)])
    if not starts[-1]:
        raise ValueError(f"A published table must have at least one row; got none in {next(iter(columns)).path}.")
    return pa.concat_tables(parts).combine_chunks(), _Rows(tuple(columns), starts)


def _as_texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_floating(column.type):
        # A column that pandas found empty.
        column = pc.if_else(pc.is_nan(column), None, column)
    return column.cast(pa.string())


# The labels


def _question_numbers(table: pa.Table, rows: _Rows) -> NDArray[np.int64]:
    """The row of each question in `load_questions()`, (m,), from its labels."""
    for name in (*LABEL_COLUMNS, PERSPECTIVE):
        empty = np.flatnonzero(table[name].is_null().to_numpy())
        if len(empty):
            raise ValueError(f"{name} must have no missing values; got one at {rows.place(empty[0])}. Mend the row.")
    taxonomy = load_taxonomy()
    categories = tuple(dict.fromkeys(problem.category for problem in taxonomy.problems))
    group_types = tuple(dict.fromkeys(group.group_type for group in taxonomy.groups))
    labels = {
        "Topic": taxonomy.topics,
        "Problem Category": categories,
        "Specific Problem": tuple(problem.name for problem in taxonomy.problems),
        "Group Type": group_types,
        "Group": tuple(group.name for group in taxonomy.groups),
        "Option": tuple(pole for dimension in taxonomy.dimensions for pole in (dimension.pole_a, dimension.pole_b)),
    }
    code = {name: _codes(table[name], known, name, rows) for name, known in labels.items()}
    problem, group = code["Specific Problem"], code["Group"]
    # The first pole stands for the question about criteria, the second for the one about explanations.
    dimension, form = np.divmod(code["Option"], len(FORMS))
    for name, of, number, expected in (
        ("Topic", "Specific Problem", problem, [taxonomy.topics.index(item.topic) for item in taxonomy.problems]),
        (
            "Problem Category",
            "Specific Problem",
            problem,
            [categories.index(item.category) for item in taxonomy.problems],
        ),
        ("Group Type", "Group", group, [group_types.index(item.group_type) for item in taxonomy.groups]),
    ):
        due = np.array(expected)[number]
        wrong = np.flatnonzero(code[name] != due)
        if len(wrong):
            row = wrong[0]
            raise ValueError(
                f"{name} must agree with {of}; got {labels[name][code[name][row]]!r} beside {labels[of][number[row]]!r} at "
                f"{rows.place(row)}. That belongs to {labels[name][due[row]]!r}. Mend the row."
            )
    _check_perspective(table, code["Topic"], dimension, rows)
    question = ((problem * len(taxonomy.groups) + group) * len(taxonomy.dimensions) + dimension) * len(FORMS) + form
    _check_once(question, rows)
    return question


def _codes(column: pa.ChunkedArray, labels: Sequence[str], name: str, rows: _Rows) -> NDArray[np.int64]:
    """The place of each label in `labels`, (m,)."""
    encoded = column.combine_chunks().dictionary_encode()
    known = {_folded(label): number for number, label in enumerate(labels)}
    of_text = np.array([known.get(_folded(text), -1) for text in encoded.dictionary.to_pylist()])
    codes = of_text[encoded.indices.to_numpy()]
    wrong = np.flatnonzero(codes < 0)
    if len(wrong):
        text = column[wrong[0]].as_py()
        close = nearest(_folded(text), labels)
        hint = f" Did you mean {close!r}?" if close else ""
        raise ValueError(
            f"{name} must be one of the {len(labels)} labels of Fair-PP's taxonomy; got {text!r} at "
            f"{rows.place(wrong[0])}.{hint}"
        )
    return codes


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()


def _check_perspective(table: pa.Table, topic: NDArray[np.int64], dimension: NDArray[np.int64], rows: _Rows) -> None:
    """`Perspective` is <number of the topic>.<number of the dimension>, such as 3.2, both from 1."""
    perspective = table[PERSPECTIVE].to_numpy()
    due = topic + 1 + (dimension + 1) / 10
    # Single precision may lie beside it. A number that is not there is beside everything.
    wrong = np.flatnonzero(~(np.abs(perspective - due) < 0.01))
    if len(wrong):
        row = wrong[0]
        raise ValueError(
            f"{PERSPECTIVE} must be the number of the topic, a point, and the number of the option's dimension; got "
            f"{perspective[row]:g} beside {table['Topic'][row].as_py()!r} and {table['Option'][row].as_py()!r} at "
            f"{rows.place(row)}. These make {due[row]:.1f}. Mend the row."
        )


def _check_once(question: NDArray[np.int64], rows: _Rows) -> None:
    order = np.argsort(question, kind="stable")
    twice = np.flatnonzero(question[order][1:] == question[order][:-1])
    if len(twice):
        first, second = order[twice[0]], order[twice[0] + 1]
        raise ValueError(
            f"A question must be there once; got {load_questions()['question_id'][question[first]].as_py()!r} at "
            f"{rows.place(first)} and at {rows.place(second)}. Remove one of them."
        )


# The texts


def _texts(column: pa.ChunkedArray, pattern: str, rows: _Rows) -> pa.Table:
    """Texts as `question`, `option_a`, `option_b` and `option_c`, null in rows whose text is of another form."""
    text = pc.replace_substring_regex(column.combine_chunks(), "\r\n?", "\n")
    parsed = pc.extract_regex(pc.utf8_trim_whitespace(text), pattern)
    if parsed.null_count == len(parsed):
        raise ValueError(
            "A published table must have texts with lines 'A. ', 'B. ' and 'C. ' (scenarios: and a closing question "
            f"below); got none of that form in {len(parsed):,} rows, such as {(text[0].as_py() or '')[:200]!r} at "
            f"{rows.place(0)}."
        )
    # Fields of a missing struct are empty texts underneath; flattening makes them null.
    fields = dict(zip([field.name for field in parsed.type], parsed.flatten(), strict=True))
    return pa.table({name: pc.utf8_trim_whitespace(fields[name]) for name in ("question", *OPTIONS)})


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
