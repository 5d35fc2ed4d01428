"""Reads the answers of the published tables: from raw replies where a persona has some, from its answer column elsewhere.

The authors' code took a reply that names no option, and a call that failed, for C; here it is no answer, and counted.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fairpp_hf.provenance import SIMULATED
from fairpp_hf.respondents.reading import parse_answer
from fairpp_hf.schema import NO_ANSWER, OPTION_LETTERS, RAW_REPLY

OPTIONS = tuple(f"option_{letter.lower()}" for letter in OPTION_LETTERS)

_NO_ROOM = "\ue000"
"""For an option that a reply is too short to quote: a character for private use, which no reply has."""


class RoleColumns(NamedTuple):
    """The columns of a persona."""

    persona: str
    answers: str
    replies: str | None
    """None where no file has raw replies of it."""


def read_records(
    table: pa.Table,
    questions: pa.Table,
    model: str,
    roles: Sequence[RoleColumns],
    files: Sequence[tuple[str, NDArray[np.bool_]]] | None,
) -> tuple[dict[str, pa.Table], list[str]]:
    """Answers of the personas to n questions.

    Args:
        table: n rows with the columns of `roles`: answers as numbers, replies as texts.
        questions: n rows with the columns of `OPTIONS`.
        model: Name of the model that answered.
        roles: The columns, persona by persona.
        files: Name and rows, boolean (n,), of each file. None for an export of ours, where no C stands for a call that
            failed, so that an answer without a reply counts as well.

    Returns:
        Records by persona, as in `Answers`; sentences on what was counted.

    Raises:
        ValueError: A column of answers is in another coding.
    """
    options = [questions[name].combine_chunks() for name in OPTIONS]
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
        for name, rows in files or ():
            # A reply that is missing beside others of its file is a call that failed, which the authors' code counted as C.
            heard[rows] = is_reply[rows].any()
            if rows.any() and not is_reply[rows].any():
                silent.setdefault(name, []).append(role.persona)
        if heard.any():
            parsed, how = _read_replies(raw.filter(pa.array(heard)), [option.filter(heard) for option in options])
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
    filled = [name for name, rows in files or () if rows.any()]
    for personas in dict.fromkeys(tuple(silent[name]) for name in filled if name in silent):
        names = [name for name in filled if tuple(silent.get(name, ())) == personas]
        of = f"of {', '.join(personas)} " if len(personas) < len(roles) else ""
        where = "these tables" if names == filled else ", ".join(names)
        notes.append(f"There are no raw replies {of}in {where}: an answer C may stand for a call that failed.")
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
