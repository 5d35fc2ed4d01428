"""A run's answers as a table."""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fairpp_hf.generation.journal import Journal
from fairpp_hf.generation.manifest import FILE_NAME, read_manifest
from fairpp_hf.generation.plan import questions_digest
from fairpp_hf.schema import PREFERENCE_FEATURES, QUESTION_FEATURES

logger = logging.getLogger(__name__)


def load_run(run: str | Path, questions: pa.Table | None = None) -> pa.Table:
    """The preference records of a run: what each persona answered to each question.

    Args:
        run: a directory that `generate` has written, or is writing.
        questions: the questions that the run asked, with the columns of `QUESTION_FEATURES`, among others; those of
            `load_questions()` by default.

    Returns:
        A table with the columns of `PREFERENCE_FEATURES`, persona by persona in the order of the set, questions in the
        order in which they were asked. A request without a reply has no row; one whose reply has no valid answer has a
        row with `answer` -1.

    Raises:
        FileNotFoundError: `run` is not a run.
        ValueError: the run asked other questions, or its set-up was interrupted.
        OSError: the journal is damaged.
    """
    run = Path(run)
    manifest = _manifest_of(run)
    if questions is None:
        from fairpp_hf.questions import load_questions

        questions = load_questions()
    with Journal(run, read_only=True) as journal:
        _check_set_up(run, journal, manifest)
        ids = journal.question_ids()
        rows, damaged = journal.answers()
    if damaged:
        logger.warning(
            "%d damaged records of %s are left out. Run `fairpp generate` on this run again to ask them.", damaged, run
        )
    questions = questions.select(list(QUESTION_FEATURES)).combine_chunks()
    _check_questions(run, manifest, questions, ids)
    columns: list[tuple[Any, ...]] = list(zip(*rows, strict=True)) if rows else [()] * 7
    row_of = pc.index_in(pa.array(columns[0], pa.string()), questions["question_id"].combine_chunks())
    personas = pa.array(columns[1], pa.string())
    answers = [
        personas,
        pa.repeat(pa.scalar(manifest["respondent"]["name"], pa.string()), len(rows)),
        pa.array(columns[3], pa.int64()),
        _probabilities(columns[4:]),
        pa.array(columns[2], pa.string()),
    ]
    table = pa.table(answers, names=list(PREFERENCE_FEATURES)[len(QUESTION_FEATURES) :])
    parts = [_question_columns(questions, row_of.slice(*span)) for span in _spans(personas)]
    joined = pa.concat_tables(parts) if parts else questions.slice(0, 0)
    for name in table.column_names:
        joined = joined.append_column(name, table[name])
    return joined.cast(PREFERENCE_FEATURES.arrow_schema)


def run_fingerprint(run: str | Path) -> str:
    """A digest of a run's replies, respondent and questions, which changes whenever one of them does.

    It is read off the records' checksums, and so much cheaper than `load_run`.

    Args:
        run: a directory that `generate` has written.

    Raises:
        FileNotFoundError: `run` is not a run.
        ValueError: the run's set-up was interrupted.
        OSError: the journal is damaged.
    """
    run = Path(run)
    manifest = _manifest_of(run)
    with Journal(run, read_only=True) as journal:
        _check_set_up(run, journal, manifest)
        checksums = np.array(journal.checksums(), dtype="<i8")
    asked = json.dumps([manifest["respondent"], manifest["requests"]], sort_keys=True)
    return hashlib.sha256(asked.encode() + checksums.tobytes()).hexdigest()


def _manifest_of(run: Path) -> dict[str, Any]:
    manifest = read_manifest(run) if run.is_dir() else None
    if manifest is None:
        raise FileNotFoundError(
            f"run must be a directory that `fairpp generate` has written; got {run}"
            f"{f' without {FILE_NAME}' if run.is_dir() else ', which is no directory'}. "
            f"Run `fairpp generate --run {run} --respondent ...` first."
        )
    return manifest


def _check_set_up(run: Path, journal: Journal, manifest: dict[str, Any]) -> None:
    if journal.requests_digest() != manifest["requests"]["digest"]:
        raise ValueError(
            f"A run's journal and manifest must be of the same requests; got different ones in {run}. "
            "`fairpp generate` was cut short while it set the run up. Run it again."
        )


def _check_questions(run: Path, manifest: dict[str, Any], questions: pa.Table, ids: list[str]) -> None:
    rows = pc.index_in(pa.array(ids, pa.string()), questions["question_id"].combine_chunks())
    unknown = [ids[row] for row in np.flatnonzero(rows.is_null().to_numpy(zero_copy_only=False))[:5]]
    if unknown or questions_digest(questions.take(rows)) != manifest["questions"]["digest"]:
        got = f"unknown ones such as {unknown[0]!r}" if unknown else "another wording"
        raise ValueError(
            f"A run's questions must be those of this table; got {got} in {run}. The answers belong to what was asked. "
            "Pass the table that the run asked as `questions`, or run `fairpp generate` on it again."
        )


def _probabilities(columns: list[tuple[Any, ...]]) -> pa.Array:
    """Lists of three, or null."""
    values = np.array(columns, dtype=np.float64).reshape(3, -1).T
    missing = np.isnan(values).any(axis=1)
    offsets = np.concatenate([[0], np.cumsum(np.where(missing, 0, 3))]).astype(np.int32)
    flat = pa.array(values[~missing].astype(np.float32).reshape(-1))
    return pa.ListArray.from_arrays(pa.array(offsets), flat, mask=pa.array(missing))


def _spans(personas: pa.Array) -> list[tuple[int, int]]:
    """(start, length) of each persona's rows, which stand together."""
    codes = personas.dictionary_encode().indices.to_numpy(zero_copy_only=False)
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    return list(zip(starts.tolist(), np.diff(starts, append=len(codes)).tolist(), strict=True))


def _question_columns(questions: pa.Table, rows: pa.Array) -> pa.Table:
    """The questions of one persona's answers; without copying their texts where they are consecutive."""
    numbers = rows.to_numpy(zero_copy_only=False)
    if (np.diff(numbers) == 1).all():
        return questions.slice(numbers[0], len(numbers))
    return questions.take(rows)
