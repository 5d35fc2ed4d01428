"""A run's answers as tables: one row a reply, and one row a persona and question."""

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fairpp_hf.runs.journal import Journal
from fairpp_hf.runs.layout import MANIFEST, SCENARIO_TABLE, RunError
from fairpp_hf.runs.manifest import questions_digest, read_manifest
from fairpp_hf.schema import NO_ANSWER, OPTION_LETTERS, PREFERENCE_FEATURES, QUESTION_FEATURES, STATUSES
from fairpp_hf.statistics.options import first_choices

logger = logging.getLogger(__name__)

_OK = STATUSES.index("ok")

REPLY_SCHEMA = pa.schema(
    {
        "question_id": pa.string(),
        "persona": pa.string(),
        "sample": pa.int64(),
        "swapped": pa.bool_(),
        "status": pa.string(),
        "answer": pa.int64(),
        "probabilities": pa.list_(pa.float64()),
        "raw": pa.string(),
        "usage": pa.string(),
        "detail": pa.string(),
        "latency_s": pa.float64(),
        "created_at": pa.float64(),
        "cost_usd": pa.float64(),
    }
)
"""Columns of `load_replies`. `usage` and `detail` are JSON; `created_at` is in seconds since 1970."""


def load_run(run: str | Path, questions: pa.Table | None = None) -> pa.Table:
    """The preference records of a run: what each persona answered to each question.

    Where a question was asked several times or in both orders of its options, its replies become one record as in
    `combine_replies`.

    Args:
        run: Directory that `generate` has written, or is writing.
        questions: Questions that the run asked, with the columns of `QUESTION_FEATURES`, among others; those of
            `questions_of` by default.

    Returns:
        A table with the columns of `PREFERENCE_FEATURES`, persona by persona in the order of the set, questions in the
        order in which they were asked; A is the option of pole A. What lacks a reply, or one of several, has no row; what
        has no valid answer has a row with `answer` -1.

    Raises:
        FileNotFoundError: `run` is not a run.
        ValueError: The run asked other questions, or its set-up was interrupted.
        OSError: The journal is damaged.
    """
    run = Path(run)
    questions = questions_of(run) if questions is None else questions
    with open_run(run) as (journal, manifest):
        ids = journal.question_ids()
        replies, damaged = read_replies(journal, ("position", "status", "answer", "probabilities"))
    _warn_of_damage(run, damaged)
    questions = questions.select(list(QUESTION_FEATURES)).combine_chunks()
    rows_of_questions = check_questions(run, manifest, questions, ids)
    record, status, answer, probabilities = records_of(replies, manifest)
    personas = pa.array(list(manifest["personas"]["portraits"]), pa.string())
    persona = record // len(ids)
    answers = [
        personas.take(pa.array(persona)),
        pa.repeat(pa.scalar(manifest["respondent"]["name"], pa.string()), len(record)),
        pa.array(answer),
        _lists(probabilities.astype(np.float32)),
        pa.array(STATUSES).take(pa.array(status)),
    ]
    table = pa.table(answers, names=list(PREFERENCE_FEATURES)[len(QUESTION_FEATURES) :])
    rows = rows_of_questions.to_numpy(zero_copy_only=False)[record % len(ids)]
    joined = pa.concat_tables(
        [_questions_at(questions, part) for part in np.split(rows, np.flatnonzero(np.diff(persona)) + 1)]
    )
    for name in table.column_names:
        joined = joined.append_column(name, table[name])
    return joined.cast(PREFERENCE_FEATURES.arrow_schema)


def records_of(
    replies: pa.Table, manifest: Mapping[str, Any]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """`combine_replies` of a run's replies: a table of `read_replies` with position, status, answer and probabilities."""
    orders, samples = 1 + manifest["swap"], manifest["samples"]
    record = replies["position"].to_numpy() // (orders * samples)
    status = pc.index_in(replies["status"].combine_chunks(), pa.array(STATUSES)).to_numpy(zero_copy_only=False)
    column = replies["probabilities"].combine_chunks()
    probabilities = np.full((len(replies), len(OPTION_LETTERS)), np.nan)
    present = column.is_valid().to_numpy(zero_copy_only=False)
    probabilities[present] = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, len(OPTION_LETTERS))
    answer = replies["answer"].to_numpy()
    return combine_replies(record, status.astype(np.int64), answer, probabilities, orders=orders, samples=samples)


def combine_replies(
    record: NDArray[np.int64],
    status: NDArray[np.int64],
    answer: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    *,
    orders: int,
    samples: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Make one record of all the replies of a persona to a question. Where there is but one, it is the record.

    Of one sample, a valid reply counts with its option probabilities if it has some, else as one vote for its answer.
    Of several, each valid one is a vote: they are asked for the frequencies of the answers, of which the
    probabilities of one first token, the same in every sample, say nothing more. The record's probabilities are the
    mean over the samples of an order, and then over the orders, so that both orders count alike however many of their
    samples are valid. The most probable option is the answer; a tie for the first place is none (`invalid`,
    probabilities kept). Where an order has no valid reply at all, the record has no answer either, since one from the
    other order alone would carry the bias of the options' places: its status is then the most frequent one among the
    replies of such orders, the earlier of `STATUSES` where two are equally frequent.

    Args:
        record: (n,). Which record each of n replies belongs to, in ascending order, and within a record in the order of
            `RequestPlan`. A record with fewer than `orders * samples` replies is left out.
        status: (n,). Indices into `STATUSES`.
        answer: (n,). 0..K-1 with 0 for pole A whatever the order of the options; -1 for every status but `ok`.
        probabilities: (n, K). Over the options with that of pole A first; rows of NaN where there are none.
        orders: 1, or 2 where the options were also swapped.
        samples: Replies an order.

    Returns:
        The same for the r complete records, (r,), (r,), (r,) and (r, K).
    """
    if orders * samples == 1:
        return record, status, answer, probabilities
    records, counts = np.unique(record, return_counts=True)
    complete = counts == orders * samples
    whole = np.repeat(complete, counts)
    shape = (int(complete.sum()), orders, samples)
    status, answer = status[whole].reshape(shape), answer[whole].reshape(shape)
    probabilities = probabilities[whole].reshape(*shape, probabilities.shape[-1])

    # A valid reply counts with its probabilities, or 1 for its answer.
    missing = np.isnan(probabilities).any(axis=-1, keepdims=True) | (samples > 1)
    vote = np.where(missing, answer[..., None] == np.arange(probabilities.shape[-1]), probabilities)
    vote[status != _OK] = 0
    replies = (status == _OK).sum(axis=2)
    total = vote.sum(axis=2)
    mean = (total / np.maximum(replies, 1)[..., None]).mean(axis=1)
    first = first_choices(mean)
    without = replies == 0
    unanswered = without.any(axis=1)
    frequency = [((status == code) & without[..., None]).sum(axis=(1, 2)) for code in range(len(STATUSES))]
    return (
        records[complete],
        np.where(
            unanswered, np.argmax(frequency, axis=0), np.where(first == NO_ANSWER, STATUSES.index("invalid"), _OK)
        ),
        np.where(unanswered, NO_ANSWER, first),
        np.where(unanswered[:, None], np.nan, mean),
    )


def load_replies(run: str | Path, questions: pa.Table | None = None) -> pa.Table:
    """Every reply to a run's requests, with what it cost and how it was asked.

    Args:
        run: Directory that `generate` has written, or is writing.
        questions: Questions that the run must have asked; not checked by default.

    Returns:
        A table with the columns of `REPLY_SCHEMA`, in the order of `RequestPlan`. `answer` and `probabilities` are over the
        options with that of pole A first, whatever the order in which they were shown (`swapped`); `raw` is the reply to
        the options as shown, where characters that UTF-8 does not have are replaced. `cost_usd` is null where the price is
        unknown. Damaged records are left out with a warning.

    Raises:
        FileNotFoundError: `run` is not a run.
        ValueError: The run asked other questions than these, or its set-up was interrupted.
        OSError: The journal is damaged.
    """
    run = Path(run)
    with open_run(run) as (journal, manifest):
        if questions is not None:
            check_questions(run, manifest, questions, journal.question_ids())
        replies, damaged = read_replies(journal)
    _warn_of_damage(run, damaged)
    return replies


def read_replies(journal: Journal, columns: Sequence[str] = tuple(REPLY_SCHEMA.names)) -> tuple[pa.Table, int]:
    """The intact replies to a run's requests, in order, and how many others are damaged.

    Args:
        journal: Journal of the run.
        columns: Columns of `REPLY_SCHEMA`, or `position` for the request's place in `RequestPlan`.
    """
    schema = pa.schema(
        [REPLY_SCHEMA.field(name) if name != "position" else pa.field(name, pa.int64()) for name in columns]
    )
    parts, damaged = [], 0
    for rows in journal.rows("swapped", *columns):
        intact = [row[:-1] for row in rows if row[-1]]
        damaged += len(rows) - len(intact)
        if intact:
            swapped, *values = zip(*intact, strict=True)
            arrays = [
                pa.array(_poles_first(name, column, swapped), schema.field(name).type)
                for name, column in zip(columns, values, strict=True)
            ]
            parts.append(pa.record_batch(arrays, schema=schema))
    return pa.Table.from_batches(parts, schema), damaged


def _poles_first(name: str, values: Sequence[Any], swapped: Sequence[int]) -> Sequence[Any]:
    """The values of a column, those that speak of options with the option of pole A first."""
    if name == "answer":
        both = zip(values, swapped, strict=True)
        return [1 - value if is_swapped and value in (0, 1) else value for value, is_swapped in both]
    if name == "probabilities":
        lists = zip((None if text is None else json.loads(text) for text in values), swapped, strict=True)
        return [[row[1], row[0], *row[2:]] if row and is_swapped else row for row, is_swapped in lists]
    if name == "raw":
        return [text.decode("utf-8", "replace") if isinstance(text, bytes) else text for text in values]
    return list(map(bool, values)) if name == "swapped" else values


def run_fingerprint(run: str | Path) -> str:
    """A digest of a run's replies, respondent and questions, which changes whenever one of them does.

    It is read off the records' checksums, and so much cheaper than `load_run`, whose errors it raises.

    Args:
        run: Directory that `generate` has written.
    """
    with open_run(Path(run)) as (journal, manifest):
        checksums = np.array(journal.checksums(), dtype="<i8")
    asked = json.dumps([manifest["respondent"], manifest["requests"]], sort_keys=True)
    return hashlib.sha256(asked.encode() + checksums.tobytes()).hexdigest()


def manifest_of(run: Path) -> dict[str, Any]:
    """The manifest of a run.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is unreadable, or of another format.
    """
    manifest = read_manifest(run) if run.is_dir() else None
    if manifest is None:
        found = f"{run} without {MANIFEST}" if run.is_dir() else f"{run}, which is no directory"
        raise FileNotFoundError(
            f"run must be a directory that `fairpp generate` or `fairpp scenarios` has written; got {found}."
        )
    return manifest


@contextlib.contextmanager
def open_run(run: Path) -> Iterator[tuple[Journal, dict[str, Any]]]:
    """A run's journal and manifest, to be read at one moment, whatever another process writes.

    Raises:
        FileNotFoundError: `run` is not a run.
        ValueError: The run's set-up was interrupted.
        OSError: The journal is damaged.
    """
    manifest = manifest_of(run)
    with Journal(run, read_only=True) as journal, journal.snapshot():
        check_set_up(journal, manifest)
        yield journal, manifest


def questions_of(run: Path) -> pa.Table:
    """The questions that a run has asked, if nobody passed others: its own scenarios, or those of `load_questions()`."""
    if (run / SCENARIO_TABLE).is_file():
        table = pq.read_table(run / SCENARIO_TABLE, partitioning=None)
        return table.select(list(QUESTION_FEATURES)).cast(QUESTION_FEATURES.arrow_schema)
    from fairpp_hf.questions import load_questions

    return load_questions()


def check_set_up(journal: Journal, manifest: Mapping[str, Any]) -> None:
    """Check that a run's journal and manifest are of the same requests, or raise a `RunError`."""
    run = journal.path.parent
    if journal.requests_digest() != manifest["requests"]["digest"]:
        raise RunError(
            f"A run's journal and manifest must be of the same requests; got different ones in {run}. "
            "The run was cut short while it was set up: continue it.",
            run,
        )


def _warn_of_damage(run: Path, damaged: int) -> None:
    if damaged:
        logger.warning("%d damaged records of %s are left out. Continuing the run asks them again.", damaged, run)


def check_questions(run: Path, manifest: Mapping[str, Any], questions: pa.Table, ids: list[str]) -> pa.Array:
    """Check that a run asked the questions of a table, with the columns `ASKED_COLUMNS`; returns the row of each id there.

    Raises:
        RunError: The run asked others.
    """
    rows = pc.index_in(pa.array(ids, pa.string()), questions["question_id"].combine_chunks())
    unknown = [ids[row] for row in np.flatnonzero(rows.is_null().to_numpy(zero_copy_only=False))[:5]]
    if unknown or questions_digest(questions.take(rows)) != manifest["questions"]["digest"]:
        got = f"unknown ones such as {unknown[0]!r}" if unknown else "another wording"
        raise RunError(
            f"A run's questions must be those of this table; got {got} in {run}. The answers belong to what was asked. "
            "Pass the table that the run asked as `questions`.",
            run,
        )
    return rows


def _lists(probabilities: NDArray[Any]) -> pa.Array:
    """Lists of K, null where there is a NaN."""
    missing = np.isnan(probabilities).any(axis=1)
    offsets = np.concatenate([[0], np.cumsum(np.where(missing, 0, probabilities.shape[1]))]).astype(np.int32)
    flat = pa.array(probabilities[~missing].reshape(-1))
    return pa.ListArray.from_arrays(pa.array(offsets), flat, mask=pa.array(missing))


def _questions_at(questions: pa.Table, rows: NDArray[np.int64]) -> pa.Table:
    """The questions of one persona's answers; without copying their texts where they are consecutive."""
    if len(rows) and (np.diff(rows) == 1).all():
        return questions.slice(rows[0], len(rows))
    return questions.take(pa.array(rows, pa.int64()))
