"""Reads the answers of the published tables: from raw replies where a file has a persona's, from the answer columns
elsewhere.

The authors' code took a reply that names no option, and a call that failed, for C; here it is no answer, and counted.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fairpp_hf.respondents.base import SIMULATED
from fairpp_hf.respondents.reading import parse_answer
from fairpp_hf.schema import NO_ANSWER, OPTION_LETTERS, RAW_REPLY

OPTIONS = ("option_a", "option_b", "option_c")

SHOWN = 5
"""How many rows, files or values a message names before it says how many more there are."""

_NUMBER = r"^[-+]?\d+(\.\d*)?([eE][-+]?\d+)?$"
_NO_ROOM = "\ue000"
"""For an option that a reply is too short to quote: a character for private use, which no reply has."""


class RoleColumns(NamedTuple):
    """The columns of a persona."""

    persona: str
    answers: str
    replies: str | None
    """None where no file has raw replies of it."""


def as_numbers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column as float64: null where a cell is empty, NaN where it holds no number."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if _is_text(column.type):
        text = pc.utf8_trim_whitespace(column.cast(pa.string()))
        text = pc.if_else(pc.equal(text, ""), None, text)
        return pc.if_else(pc.match_substring_regex(text, _NUMBER), text, "nan").cast(pa.float64())
    column = column.cast(pa.float64())
    # An empty cell of pandas.
    return pc.if_else(pc.is_nan(column), None, column)


def as_answers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """As `as_numbers`, and the letters A, B and C, in any case, as 0, 1 and 2."""
    numbers = as_numbers(column)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not _is_text(column.type):
        return numbers
    letters = pc.utf8_upper(pc.utf8_trim_whitespace(column.cast(pa.string())))
    return pc.coalesce(pc.index_in(letters, value_set=pa.array(OPTION_LETTERS)).cast(pa.float64()), numbers)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def read_records(
    table: pa.Table,
    questions: pa.Table,
    model: str,
    roles: Sequence[RoleColumns],
    file: NDArray[np.int64],
    files: Sequence[str],
    *,
    exported: bool,
) -> tuple[dict[str, pa.Table], list[str]]:
    """Answers of the personas to n questions.

    A persona's replies count in those files that have some; in the others its column of answers counts.

    Args:
        table: n rows with the columns of `roles`: answers as `as_answers` gives them, replies as texts.
        questions: n rows with the columns of `OPTIONS`.
        model: name of the model that answered.
        roles: the columns, persona by persona.
        file: (n,), into `files`: where a row comes from.
        files: names for messages.
        exported: whether the tables are an export of ours, where no C stands for a call that failed: an answer without a
            reply counts as well there.

    Returns:
        Records by persona, as in `Answers`; sentences on what was counted.

    Raises:
        ValueError: a column of answers is in another coding.
    """
    options = [questions[name].combine_chunks() for name in OPTIONS]
    count = len(questions)
    records = {}
    statuses: Counter[str] = Counter()
    differing = replied = unread = 0
    silent: dict[tuple[int, ...], list[str]] = {}
    for role in roles:
        given, status = _given_answers(table[role.answers].combine_chunks())
        raw = pa.nulls(count, pa.string()) if role.replies is None else table[role.replies].combine_chunks()
        # CSV files cannot tell an empty reply from none.
        raw = pc.if_else(pc.equal(raw, ""), None, raw)
        is_reply = raw.is_valid().to_numpy(zero_copy_only=False)
        has_replies = np.bincount(file, weights=is_reply, minlength=len(files)) > 0
        heard = is_reply if exported else has_replies[file]
        _check_coding(table[role.answers].combine_chunks().filter(pa.array(~heard)), role.answers, files)
        answer = given
        if heard.any():
            parsed, how = _read_replies(raw.filter(pa.array(heard)), [option.filter(heard) for option in options])
            answer, status = given.copy(), status.astype(np.promote_types(status.dtype, how.dtype))
            answer[heard], status[heard] = parsed, how
            differing += int(((parsed != NO_ANSWER) & (parsed != given[heard])).sum())
            unread += int((parsed == NO_ANSWER).sum())
            replied += len(parsed)
        silent.setdefault(tuple(np.unique(file[~has_replies[file]]).tolist()), []).append(role.persona)
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
    notes = _counted(statuses, unread, differing, replied)
    if not exported:
        notes += _unheard(silent, files, len(roles))
    return records, notes


def _counted(statuses: Mapping[str, int], unread: int, differing: int, replied: int) -> list[str]:
    notes = []
    total = sum(statuses.values())
    missing = total - statuses.get("ok", 0)
    if missing:
        by_status = ", ".join(f"{status} {count:,}" for status, count in sorted(statuses.items()) if status != "ok")
        theirs = " The authors' code counted such replies as C." if unread else ""
        notes.append(f"{missing:,} of {total:,} answers are not valid ({by_status}): they are -1.{theirs}")
    if differing:
        notes.append(
            f"{differing:,} of {replied:,} raw replies say something else than the column of answers: the reply counts."
        )
    return notes


def _unheard(silent: Mapping[tuple[int, ...], Sequence[str]], files: Sequence[str], personas: int) -> list[str]:
    """A sentence for each set of files without replies; `silent` has the personas that have none there."""
    notes = []
    for numbers, whose in silent.items():
        if not numbers:
            continue
        of = f"of {', '.join(whose)} " if len(whose) < personas else ""
        where = "these tables" if len(numbers) == len(files) else first_few([files[number] for number in numbers])
        notes.append(f"There are no raw replies {of}in {where}: an answer C may stand for a call that failed.")
    return notes


def first_few(names: Sequence[str]) -> str:
    """Names in a row, and how many more there are than can be shown."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _given_answers(value: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.str_]]:
    """Answers and statuses, (n,), by the column of answers alone."""
    number = value.to_numpy(zero_copy_only=False)
    valid = np.isin(number, np.arange(len(OPTION_LETTERS)))
    empty = value.is_null().to_numpy(zero_copy_only=False)
    answer = np.where(valid, number, NO_ANSWER).astype(np.int64)
    return answer, np.where(valid, "ok", np.where(empty, "empty", "invalid"))


def _check_coding(value: pa.Array, column: str, files: Sequence[str]) -> None:
    """Refuse answers that would be read as others, or none of which could be read."""
    known = value.drop_null().to_numpy()
    numbers = np.unique(known[~np.isnan(known)])
    rule = "Answers must be 0, 1 and 2, or the letters A, B and C"
    where = f"column {column!r} of {first_few(files)}"
    if 3 in numbers:
        # Whatever else is there: 0, 9 or -1 may stand for a missing answer beside 1 to 3.
        others = first_few([f"{number:g}" for number in numbers if number != 3])
        raise ValueError(
            f"{rule}; got 3{' beside ' * bool(others)}{others} in {where}. Counted from 1, as a 3 suggests, an answer A "
            "would be read as B. Subtract 1 from the answers, and leave a cell empty where there is none."
        )
    if len(known) and not np.isin(numbers, np.arange(len(OPTION_LETTERS))).any():
        got = first_few([f"{number:g}" for number in numbers]) or "other texts"
        raise ValueError(
            f"{rule}; got {got}, and none of these, in {where}. Write them in one of these two forms, and leave a cell "
            "empty where there is no answer."
        )


def _read_replies(raw: pa.Array, options: Sequence[pa.Array]) -> tuple[NDArray[np.int64], NDArray[np.str_]]:
    """Answers and statuses, (n,), by the raw replies: each different reply is parsed once.

    An option counts only for replies that have room to quote it, so that all "B." are one reply, whatever the question.
    """
    room = 2 * pc.fill_null(pc.utf8_length(raw), 0).to_numpy().astype(np.int64) + 8
    columns = [raw]
    for option in options:
        fits = pc.utf8_length(option).to_numpy() <= room
        columns.append(pc.if_else(pa.array(fits), option, _NO_ROOM))
    key = np.zeros(len(raw), dtype=np.int64)
    for column in columns:
        encoded = column.dictionary_encode(null_encoding="encode")
        key = key * len(encoded.dictionary) + encoded.indices.to_numpy()
    _, first, of_row = np.unique(key, return_index=True, return_inverse=True)
    different = pa.table(columns, names=["raw", *OPTIONS]).take(pa.array(first)).to_pylist()
    answers, statuses = zip(
        *(parse_answer(reply["raw"], [reply[name] for name in OPTIONS]) for reply in different), strict=True
    )
    return np.array(answers, dtype=np.int64)[of_row], np.array(statuses)[of_row]
