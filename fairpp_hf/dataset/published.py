"""Brings the published tables of Fair-PP (Zhou et al. 2025, arXiv:2505.11861) into our form, a column at a time.

A row there is a question, with a column of answers for each of the seven personas. It is mapped by its labels: problem and
group by name, the dimension and the form by `Option`. Its text stays the authors' own. Answers come from the raw replies
where a table has them: the authors' code took a reply that names no option, and a call that failed, for C; here it is no
answer, and counted.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fairpp_hf.dataset.answers import Answers, warn_once
from fairpp_hf.dataset.published_files import TableFile, check_unrecorded, read_columns, read_export, table_files
from fairpp_hf.naming import nearest
from fairpp_hf.personas import load_personas
from fairpp_hf.provenance import SIMULATED
from fairpp_hf.questions import load_questions, option_lines, split_of
from fairpp_hf.questions.rendering import load_templates
from fairpp_hf.questions.taxonomy import FORMS, load_taxonomy
from fairpp_hf.respondents.reading import parse_answer
from fairpp_hf.schema import NO_ANSWER, OPTION_LETTERS, QUESTION_FEATURES, RAW_REPLY

LABEL_COLUMNS = ("Topic", "Problem Category", "Specific Problem", "Group Type", "Group", "Option")
PERSPECTIVE = "Perspective"
QUESTION_TEXT = "Question"
SCENARIO_TEXT = "simulation_question"
OPTIONS = tuple(f"option_{letter.lower()}" for letter in OPTION_LETTERS)

_ROLE = re.compile(r"(?P<model>.+)_role_(?P<number>[1-9]\d*)(?P<kind>_answer|_simulation|)")

_QUESTION = (
    r"(?s)\A(?P<question>.+?)\s*\nA\.\s*(?P<option_a>[^\n]+)\nB\.\s*(?P<option_b>[^\n]+)\nC\.\s*(?P<option_c>[^\n]+)\z"
)
"""A stem of any number of lines, then a line for each option."""
_SCENARIO = (
    r"(?s)\AA\.\s*(?P<option_a>.+?)\nB\.\s*(?P<option_b>.+?)\nC\.\s*(?P<option_c>N/A\b|.+\n)\s*(?P<question>[^\n]+)\z"
)
"""Vignettes of any number of lines; what follows the third one is the closing question, the last line."""

_NO_ROOM = "\ue000"
"""For an option that a reply is too short to quote: a character for private use, which no reply has."""


class _Role(NamedTuple):
    """The columns of a persona."""

    persona: str
    answers: str
    replies: str | None
    """None where no file has raw replies of it."""


def has_scenarios(path: Path) -> bool:
    """Whether a file of the tables at a path has the column of scenarios."""
    return any(SCENARIO_TEXT in file.columns for file in table_files(path))


def has_raw_replies(path: Path) -> bool:
    """Whether `import_tables` will give the column `raw_reply`."""
    count = len(_personas(path))
    return any(not match["kind"] and int(match["number"]) <= count for match in _role_columns(table_files(path)))


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
    """
    files = table_files(path)
    files = [file for file in files if (SCENARIO_TEXT in file.columns) == scenarios] or files
    personas, is_export = _personas(path), read_export(path) is not None
    model, beyond = _model_of(files, len(personas), path)
    notes = [] if is_export or not (assumed := check_unrecorded(model, path)) else [assumed]
    roles = []
    for number, persona in enumerate(personas, start=1):
        name = f"{model}_role_{number}"
        # Raw replies to scenarios are not published; beside scenarios they would be those to the questions.
        replied = not scenarios and any(name in file.columns for file in files)
        roles.append(_Role(persona, f"{name}_{'simulation' if scenarios else 'answer'}", name if replied else None))
    text = SCENARIO_TEXT if scenarios else QUESTION_TEXT
    table, file_of_row = _read(files, text, roles)

    def place(row: int) -> str:
        """Such as "row 12 of train.csv", counted from 0; where the file lies is nobody's business on a card."""
        return f"row {row - np.searchsorted(file_of_row, file_of_row[row])} of {files[file_of_row[row]].path.name}"

    question = _question_numbers(table, place)
    texts = _texts(table[text], _SCENARIO if scenarios else _QUESTION)
    parsed = texts["question"].is_valid().to_numpy(zero_copy_only=False)
    order = np.flatnonzero(parsed)
    order = order[np.argsort(question[order], kind="stable")]
    questions = _with_texts(load_questions().take(pa.array(question[order])), texts.take(pa.array(order)))
    if beyond:
        notes.append(f"Columns of further roles are left out: {', '.join(map(repr, beyond))}.")
    if len(unparsed := np.flatnonzero(~parsed)):
        places = ", ".join(place(int(row)) for row in unparsed[:5]) + (", ..." if len(unparsed) > 5 else "")
        notes.append(
            f"{len(unparsed):,} of {len(parsed):,} questions are left out, since their text has no lines 'A. ', 'B. ' and "
            f"'C. ': {places}."
        )
    if any(SCENARIO_TEXT in file.columns for file in files):
        is_test = np.ones(len(order), dtype=np.bool_)
    elif files[0].split is None:
        is_test = split_of(questions)
        notes.append("Names of files tell no split: questions are divided as fairpp_hf divides its own.")
    else:
        is_test = np.array([file.split == "test" for file in files])[file_of_row[order]]
    if len(order) < len(load_questions()) and not scenarios:
        notes.append(f"These are {len(order):,} of the {len(load_questions()):,} questions.")
    names = {} if is_export else {file.path.name: file_of_row[order] == number for number, file in enumerate(files)}
    records, counted = _records(table.take(pa.array(order)).combine_chunks(), questions, model, roles, names)
    notes += counted
    for note in notes:
        warn_once(f"Published tables of {path}: {note}")
    return Answers(questions, is_test, records), tuple(notes)


# The columns


def _personas(path: Path) -> tuple[str, ...]:
    """Ids of the personas in the order of the roles: those that an export records, otherwise the published seven."""
    export = read_export(path)
    return load_personas().ids if export is None else export.personas


def _role_columns(files: Sequence[TableFile]) -> list[re.Match[str]]:
    return [match for file in files for match in map(_ROLE.fullmatch, file.columns) if match]


def _model_of(files: Sequence[TableFile], roles: int, path: Path) -> tuple[str, list[str]]:
    """The one model that answered for the personas, and the columns of answers of roles beyond theirs."""
    found = _role_columns(files)
    models = sorted({match["model"] for match in found if int(match["number"]) <= roles})
    if len(models) > 1:
        raise ValueError(
            "A published table must have role columns of one model; got those of "
            f"{', '.join(map(repr, models))} in {path}. Which of them answered cannot be told. Remove the others' columns."
        )
    # Where there are none, the columns that are missing are named with a placeholder.
    beyond = {match[0] for match in found if int(match["number"]) > roles and match["kind"]}
    return models[0] if models else "<model>", sorted(beyond)


def _read(files: Sequence[TableFile], text: str, roles: Sequence[_Role]) -> tuple[pa.Table, NDArray[np.int64]]:
    """The m rows of all files, with the columns that are needed, and the number of each row's file, (m,)."""
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
    table = pa.concat_tables(parts).combine_chunks()
    if not len(table):
        raise ValueError(
            f"A published table must have at least one row; got none in {files[0].path}. Download it again."
        )
    return table, np.repeat(np.arange(len(files)), [len(part) for part in parts])


# The labels


def _question_numbers(table: pa.Table, place: Callable[[int], str]) -> NDArray[np.int64]:
    """The row of each question in `load_questions()`, (m,), from its labels."""
    taxonomy = load_taxonomy()
    problems, groups = taxonomy.problems, taxonomy.groups
    poles = [pole for dimension in taxonomy.dimensions for pole in (dimension.pole_a, dimension.pole_b)]

    def codes(name: str, labels: Sequence[str]) -> NDArray[np.int64]:
        known = {_folded(label): number for number, label in enumerate(labels)}
        found = np.array([known.get(_folded(text), -1) for text in table[name].to_pylist()])
        for row in np.flatnonzero(found < 0)[:1]:
            text = table[name][row].as_py()
            close = nearest(_folded(text), labels)
            hint = f"Did you mean {close!r}?" if close else "Mend the row."
            raise ValueError(
                f"{name} must be one of the {len(labels)} labels of Fair-PP's taxonomy; got {text!r} at {place(row)}. {hint}"
            )
        return found

    problem = codes("Specific Problem", [item.name for item in problems])
    group = codes("Group", [item.name for item in groups])
    # The first pole stands for the question about criteria, the second for the one about explanations.
    dimension, form = np.divmod(codes("Option", poles), len(FORMS))
    topic = np.array([taxonomy.topics.index(item.topic) for item in problems])[problem]
    for name, due in (
        ("Topic", np.array([item.topic for item in problems])[problem]),
        ("Problem Category", np.array([item.category for item in problems])[problem]),
        ("Group Type", np.array([item.group_type for item in groups])[group]),
        # <number of the topic>.<number of the dimension>, such as 3.2, both from 1; perhaps in single precision.
        (PERSPECTIVE, np.round(topic + 1 + (dimension + 1) / 10, 1)),
    ):
        for row, (got, expected) in enumerate(zip(table[name].to_pylist(), due.tolist(), strict=True)):
            tidy = round(got, 2) if isinstance(got, float) else _folded(got)
            if tidy != (expected if name == PERSPECTIVE else _folded(expected)):
                raise ValueError(
                    f"{name} must agree with the other labels of its row, which make {expected!s}; got {got!r} at "
                    f"{place(row)}. Mend the row."
                )
    question = ((problem * len(groups) + group) * len(taxonomy.dimensions) + dimension) * len(FORMS) + form
    numbers, count = np.unique(question, return_counts=True)
    for again in numbers[count > 1][:1]:
        places = " and at ".join(place(int(row)) for row in np.flatnonzero(question == again)[:2])
        raise ValueError(
            f"A question must be there once; got {load_questions()['question_id'][again].as_py()!r} at {places}. Remove one "
            "of them."
        )
    return question


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
    fields = zip(parsed.type, parsed.flatten(), strict=True)
    return pa.table({field.name: pc.utf8_trim_whitespace(values) for field, values in fields})


def _with_texts(questions: pa.Table, texts: pa.Table) -> pa.Table:
    """Our questions with these texts, and prompts made of them."""
    columns = {name: questions[name] for name in questions.column_names}
    columns |= {name: texts[name] for name in texts.column_names}
    columns["prompt"] = pc.binary_join_element_wise(
        texts["question"], *option_lines(texts), load_templates().instruction, "\n"
    )
    ordered = [columns[name] for name in QUESTION_FEATURES]
    return pa.table(ordered, schema=QUESTION_FEATURES.arrow_schema).combine_chunks()


# The answers


def _records(
    table: pa.Table, questions: pa.Table, model: str, roles: Sequence[_Role], files: dict[str, NDArray[np.bool_]]
) -> tuple[dict[str, pa.Table], list[str]]:
    """Records by persona, as in `Answers`, and sentences on what was counted.

    `files` are the names and rows, boolean (n,), of each file; none for an export of ours, where no C stands for a call
    that failed, so that an answer without a reply counts as well.
    """
    options = list(zip(*(questions[name].to_pylist() for name in OPTIONS), strict=True))
    count = len(questions)
    records = {}
    statuses: Counter[str] = Counter()
    differing = replied = unread = 0
    silent: dict[str, list[str]] = {}
    for role in roles:
        given = _given_answers(table[role.answers].combine_chunks(), role.answers)
        answer, status = given.copy(), np.where(given == NO_ANSWER, "empty", "ok").astype(object)
        raw = pa.nulls(count, pa.string()) if role.replies is None else table[role.replies].combine_chunks()
        # CSV files cannot tell an empty reply from none.
        raw = pc.if_else(pc.equal(raw, ""), None, raw)
        is_reply = raw.is_valid().to_numpy(zero_copy_only=False)
        heard = is_reply.copy()
        for name, rows in files.items():
            # A reply that is missing beside others of its file is a call that failed, which the authors' code counted as C.
            heard[rows] = is_reply[rows].any()
            if rows.any() and not is_reply[rows].any():
                silent.setdefault(name, []).append(role.persona)
        if heard.any():
            texts = raw.filter(pa.array(heard)).to_pylist()
            parsed, how = _read_replies(texts, [options[row] for row in np.flatnonzero(heard)])
            answer[heard], status[heard] = parsed, how
            differing += int(((parsed != NO_ANSWER) & (parsed != given[heard])).sum())
            unread += int((parsed == NO_ANSWER).sum())
            replied += len(parsed)
        statuses.update(status.tolist())
        records[role.persona] = pa.table(
            {
                "row": pa.array(np.arange(count)),
                "respondent": pa.repeat(pa.scalar(model + SIMULATED), count),
                "answer": pa.array(answer),
                "probabilities": pa.nulls(count, pa.list_(pa.float32())),
                "status": pa.array(status.tolist(), pa.string()),
            }
            | ({RAW_REPLY: raw} if any(other.replies for other in roles) else {})
        )
    notes = []
    total = sum(statuses.values())
    if missing := total - statuses["ok"]:
        by_status = ", ".join(f"{status} {found:,}" for status, found in sorted(statuses.items()) if status != "ok")
        theirs = " The authors' code counted such replies as C." if unread else ""
        notes.append(f"{missing:,} of {total:,} answers are not valid ({by_status}): they are -1.{theirs}")
    if differing:
        notes.append(
            f"{differing:,} of {replied:,} raw replies say something else than the column of answers: the reply counts."
        )
    if silent:
        where = (
            f"{'all personas' if len(silent[name]) == len(roles) else ', '.join(silent[name])} in {name}"
            for name in files
            if name in silent
        )
        notes.append(f"Without raw replies, an answer C may stand for a call that failed: {'; '.join(where)}.")
    return records, notes


def _given_answers(value: pa.Array, column: str) -> NDArray[np.int64]:
    """Answers by the column of answers alone, (n,)."""
    number = np.nan_to_num(value.to_numpy(zero_copy_only=False), nan=NO_ANSWER)
    wrong = np.setdiff1d(number, [NO_ANSWER, *range(len(OPTION_LETTERS))])
    if len(wrong) or (value.drop_null().to_numpy() == NO_ANSWER).any():
        got = f"{wrong[0]:g}" if len(wrong) else f"{NO_ANSWER}"
        raise ValueError(
            f"Answers must be 0, 1 and 2, or empty where there is none; got {got} in column {column!r}. In another coding "
            "they would be read as other answers. Map them to these numbers."
        )
    return number.astype(np.int64)


def _read_replies(
    raw: Sequence[str | None], options: Sequence[Sequence[str]]
) -> tuple[NDArray[np.int64], NDArray[np.object_]]:
    """Answers and statuses, (n,), by the raw replies: each different reply is parsed once.

    An option counts only for replies that have room to quote it, so that all "B." are one reply, whatever the question.
    """
    parse = lru_cache(maxsize=None)(parse_answer)
    found = []
    for text, own in zip(raw, options, strict=True):
        room = 2 * len(text or "") + 8
        found.append(parse(text, tuple(option if len(option) <= room else _NO_ROOM for option in own)))
    answers, statuses = zip(*found, strict=True)
    return np.array(answers, dtype=np.int64), np.array(statuses, dtype=object)
