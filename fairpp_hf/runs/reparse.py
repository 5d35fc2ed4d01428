"""Reads the stored replies of a run again, for nothing: after a change of the rules by which an answer is read."""

import contextlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from fairpp_hf.questions.option_order import shown_options
from fairpp_hf.respondents.base import Reply, check_reply
from fairpp_hf.respondents.reading import read_reply
from fairpp_hf.runs.database import CHECKSUM_FIELDS, checksum
from fairpp_hf.runs.journal import Journal, text_of
from fairpp_hf.runs.lock import RunLock
from fairpp_hf.runs.records import check_questions, check_set_up, manifest_of, questions_of
from fairpp_hf.schema import OPTION_LETTERS

_COLUMNS = ("position", "swapped", *CHECKSUM_FIELDS)
_READ = ("status", "answer", "probabilities", "detail")
_UPDATE = "UPDATE replies SET status = ?, answer = ?, probabilities = ?, detail = ?, checksum = ? WHERE key = ?"


class ParseSummary(NamedTuple):
    """What reading a run's replies again has found."""

    read: int
    """Replies whose text was read."""
    changed: dict[tuple[str, str], int]
    """(what it was read as before, and now) to number of replies, most frequent first. An answer is named as "ok A", by the
    letter that the reply was shown; where both are equal, only the option probabilities are others, and "now without
    probabilities" follows where there are none any more."""
    before: dict[str, int]
    """What the replies were read as before, such as "ok A" or "invalid", to number of replies."""
    now: dict[str, int]
    """The same, as they are read now."""
    left_alone: int
    """Replies that failed, and those without a text."""
    damaged: int
    """Records that do not match their checksum: they are not read."""


def parse_run(run: str | Path, questions: pa.Table | None = None, *, dry_run: bool = False) -> ParseSummary:
    """Read the replies to a run's requests again, as the installed version reads them, and keep what has changed.

    No call is made. The text and the facts that came with it stay as they are; status, answer and option probabilities
    follow from them. Only a model's replies over an API have a text to be read.

    Args:
        run: A directory that `generate` has written, with `OpenAIRespondent`.
        questions: The questions that the run asked; those of `questions_of` by default.
        dry_run: Only count what would change.

    Raises:
        FileNotFoundError: `run` is not a run.
        ValueError: The run asked other questions, or its replies are not read by `read_reply`.
        RuntimeError: Another process is writing to the run.
        OSError: The journal is damaged or cannot be written.
    """
    run = Path(run)
    manifest = manifest_of(run)
    if manifest["respondent"]["settings"].get("kind") != "openai":
        raise ValueError(
            f"A run to be parsed must have asked a model over an API; got "
            f"{manifest['respondent']['name']!r} in {run}, whose replies have no text that names an option."
        )
    questions = questions_of(run) if questions is None else questions
    with contextlib.nullcontext() if dry_run else RunLock(run), Journal(run, read_only=dry_run) as journal:
        check_set_up(journal, manifest)
        ids = journal.question_ids()
        asked = questions.take(check_questions(run, manifest, questions, ids))
        columns = [asked[f"option_{letter.lower()}"].to_pylist() for letter in OPTION_LETTERS]
        options = dict(zip(ids, zip(*columns, strict=True), strict=True))
        changed, before, now = Counter[tuple[str, str]](), Counter[str](), Counter[str]()
        left_alone, damaged = 0, journal.set_aside
        for rows in _batches(journal):
            updates = []
            # A text at a time: to read one is no column operation.
            for _, swapped, *fields, is_intact in rows:
                record = dict(zip(CHECKSUM_FIELDS, fields, strict=True))
                if not is_intact:
                    damaged += 1
                    continue
                if record["status"] == "failed" or record["raw"] is None:
                    left_alone += 1
                    continue
                reading = _read_again(record, shown_options(options[record["question_id"]], bool(swapped)))
                label, label_now = _label(record), _label(reading)
                before[label] += 1
                now[label_now] += 1
                if reading != record:
                    lost = label_now == label and record["probabilities"] and not reading["probabilities"]
                    changed[label, f"{label_now}, now without probabilities" if lost else label_now] += 1
                    updates.append((*(reading[name] for name in _READ), checksum(*reading.values()), record["key"]))
            if updates and not dry_run:
                with journal.transaction() as connection:
                    connection.executemany(_UPDATE, updates)
    return ParseSummary(now.total(), dict(changed.most_common()), dict(before), dict(now), left_alone, damaged)


def _batches(journal: Journal) -> Iterator[list[tuple[Any, ...]]]:
    """As `Journal.rows`, with no query open while a batch is worked on: its records may be written."""
    first = 0
    while rows := next(journal.rows(*_COLUMNS, first=first), None):
        first = rows[-1][0] + 1
        yield rows


def _read_again(record: Mapping[str, Any], options: tuple[str, str, str]) -> dict[str, Any]:
    """A record as its reply is read now."""
    detail = json.loads(record["detail"]) if record["detail"] else {}
    answer, probabilities, status, contradicted = read_reply(text_of(record["raw"]), detail, options)
    whose = f"for persona {record['persona']!r} and question {record['question_id']!r}"
    check_reply(Reply(answer, probabilities, status, None, None, 0.0), whose)
    facts = record["detail"]
    if contradicted != bool(detail.pop("contradicted", False)):
        facts = json.dumps({**detail, "contradicted": True} if contradicted else detail)
    shares = probabilities and json.dumps([float(value) for value in probabilities])
    return {**record, "status": status, "answer": answer, "probabilities": shares, "detail": facts}


def _label(record: Mapping[str, Any]) -> str:
    return f"ok {OPTION_LETTERS[record['answer']]}" if record["status"] == "ok" else str(record["status"])
