"""The journal of a run: an SQLite file that has every reply on disk before the reply counts.

Write-ahead logging with `synchronous=FULL`: each commit is forced to the disk, so that neither a kill nor a power cut loses
a reply that was paid for. (`NORMAL` would survive the kill only.) The cost is one flush a commit, and the runner commits
all replies that came in together at once.

A record carries a checksum of its fields. A record that does not match it, or that sits on a damaged page, is set aside
and counted, and its request is asked again; the rest is used.
"""

import contextlib
import json
import logging
import re
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from fairpp_hf.generation.database import (
    FIELDS,
    RUN_KEY,
    SALVAGED,
    SENT,
    cannot_read,
    cannot_write,
    checksum,
    connect,
    insert,
    intact,
    is_damage,
    show_as_upgraded,
    upgrade,
)
from fairpp_hf.generation.manifest import new_run_key
from fairpp_hf.generation.run_folder import command_for
from fairpp_hf.generation.run_lock import RunLock
from fairpp_hf.generation.salvage import finish_salvage, is_half_salvaged, is_sound, salvage
from fairpp_hf.respondents.base import Reply, check_reply
from fairpp_hf.respondents.completion import MOST_TOKENS
from fairpp_hf.schema import NO_ANSWER, STATUSES

logger = logging.getLogger(__name__)

__all__ = ["FILE_NAME", "AskedRequest", "Journal", "RunLock", "Spending", "served_model_in", "text_of"]

FILE_NAME = "journal.sqlite"

# A failed record makes room for whatever comes; a final one stays.
_UPSERT = f"""
{insert()}
ON CONFLICT (key) DO UPDATE SET
    status = excluded.status, answer = excluded.answer, p_a = excluded.p_a, p_b = excluded.p_b, p_c = excluded.p_c,
    raw = excluded.raw, usage = excluded.usage, detail = excluded.detail, latency_s = excluded.latency_s,
    created_at = excluded.created_at, attempts = replies.attempts + 1, checksum = excluded.checksum,
    cost_usd = excluded.cost_usd
WHERE replies.status = 'failed'
"""
_INSERT_REQUEST = (
    "INSERT INTO requests (position, key, question_id, persona, sample, swapped) VALUES (?, ?, ?, ?, ?, ?)"
)
# The tokens of a reply, 0 where they are unknown or no number; bounded, since SQLite's sum of integers has an end.
_TOKENS = f"""CASE WHEN json_valid(usage)
    THEN max(0, min({MOST_TOKENS}, coalesce(CAST(json_extract(usage, '$.{{}}') AS INTEGER), 0))) ELSE 0 END"""
_SPENDING = f"""
SELECT total(cost_usd), coalesce(sum({_TOKENS.format("prompt_tokens")}), 0),
    coalesce(sum({_TOKENS.format("completion_tokens")}), 0), coalesce(sum(status != 'failed' OR {SENT}), 0),
    coalesce(sum(cost_usd IS NULL AND {SENT}), 0),
    coalesce(sum(max({_TOKENS.format("prompt_tokens")}, {_TOKENS.format("completion_tokens")}) = {MOST_TOKENS}), 0)
FROM (
    SELECT status, usage, detail, cost_usd FROM replies
    UNION ALL SELECT status, usage, detail, cost_usd FROM replaced
    UNION ALL SELECT status, usage, detail, cost_usd FROM set_aside
)
"""
_ASKED = """
SELECT total(ask = 'choice'), total(ask = 'choice' AND p_a IS NOT NULL), total(system = 0), total(temperature = 0)
FROM (
    SELECT p_a, json_extract(detail, '$.asked.ask') AS ask, json_extract(detail, '$.asked.system') AS system,
        json_extract(detail, '$.asked.temperature') AS temperature
    FROM requests JOIN replies USING (key) WHERE json_valid(detail)
)
"""
_ROWS_AT_ONCE = 10_000
_SURROGATE = re.compile("[\ud800-\udfff]")


class AskedRequest(NamedTuple):
    """A request of the run as it now stands, in the order of `RequestPlan`."""

    key: str
    question_id: str
    persona: str
    sample: int = 0
    swapped: bool = False


class Spending(NamedTuple):
    """What all replies have cost that a journal ever got."""

    cost_usd: float
    """Sum over the replies whose price is known."""
    input_tokens: int
    output_tokens: int
    replies: int
    """Those that came: failures without a reply are none."""
    unpriced: int
    """Replies that a server sent, and whose cost is unknown, with tokens or without: they are not in `cost_usd`."""
    clamped: int = 0
    """Replies with a count of tokens beyond all bounds, which is taken as `MOST_TOKENS`."""


class Asked(NamedTuple):
    """Numbers of replies by how they were asked for."""

    choices: int
    """To a choice that a schema constrained."""
    constrained_probabilities: int
    """Those of them with option probabilities, which are then probabilities under the constraint."""
    portraits_in_user_message: int
    without_temperature: int


class Journal:
    """The replies of a run, by key, and which keys the run now asks for.

    Args:
        run: the run's directory.
        read_only: open an existing journal for reading, also while another process writes it.
        stories: whether the replies are a storyteller's, whose `ok` means a story and no answer.

    Raises:
        FileNotFoundError: `read_only`, and there is no journal.
        OSError: the file cannot be read as a journal at all, is in use by another program, or may not be opened; also at
            the end of the `with` block, if SQLite said so within it.
    """

    def __init__(self, run: Path, *, read_only: bool = False, stories: bool = False) -> None:
        self.path = Path(run) / FILE_NAME
        self._read_only = read_only
        self._stories = stories
        self.set_aside = 0
        """Records that were found damaged when the journal was opened; those at the end of a file cut short are unknown."""
        self.salvaged = False
        """Whether the file was ever so damaged that its records were copied into a new one."""
        if read_only:
            if is_half_salvaged(self.path):
                raise OSError(
                    f"The journal must be whole; got one whose repair was cut short at {self.path}. "
                    f"Run `{command_for(self.path.parent)}` again: it finishes that."
                )
            if not self.path.is_file():
                raise FileNotFoundError(f"A run must have a journal; got none at {self.path}.")
            self._connection = connect(self.path, "ro")
            self._connection.execute("PRAGMA temp_store = MEMORY")
            with contextlib.suppress(sqlite3.DatabaseError):  # damage is an error of the first query that meets it
                show_as_upgraded(self._connection)
        else:
            self._connection = self._open_for_writing()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
        if isinstance(error, sqlite3.DatabaseError):
            readable = self._read_only or is_damage(error)
            raise (cannot_read if readable else cannot_write)(error, self.path) from error

    def close(self) -> None:
        """Close the file; SQLite folds the write-ahead log into it."""
        self._connection.close()

    def set_requests(self, requests: Iterable[AskedRequest], digest: str) -> None:
        """Replace the requests that the run asks for, all or none; replies to earlier ones stay in the file."""
        with self.transaction() as connection:
            connection.execute("DELETE FROM requests")
            connection.executemany(_INSERT_REQUEST, _numbered(requests))
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('requests_digest', ?)", (digest,))

    def requests_digest(self) -> str | None:
        """The digest that came with the requests, or None where there are none yet."""
        return self.noted("requests_digest")

    def noted(self, name: str) -> str | None:
        """A fact about the run that the journal keeps, or None."""
        row = self._connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return row[0] if row else None

    def note(self, name: str, value: str | None) -> None:
        """Keep a fact about the run; None takes it out."""
        with self.transaction() as connection:
            connection.execute("DELETE FROM meta WHERE name = ?", (name,))
            if value is not None:
                connection.execute("INSERT INTO meta VALUES (?, ?)", (name, value))

    def run_key(self, first: str | None = None) -> str:
        """What tells the run from every other; made once, by whoever writes to the journal first, and kept for ever.

        Args:
            first: the key where the journal has none, since only a manifest of before kept it; None makes one.
        """
        key = self.noted(RUN_KEY)
        if key is None:
            self.note(RUN_KEY, key := first or new_run_key())
        return key

    def elsewhere(self) -> list[tuple[str, int]]:
        """The requests without a final reply that runs merged into this one have in batches: run to number of them."""
        return self._connection.execute(
            "SELECT run, count(*) FROM elsewhere JOIN requests USING (key) LEFT JOIN replies USING (key) "
            "WHERE replies.key IS NULL OR replies.status = 'failed' GROUP BY run_key, run ORDER BY run"
        ).fetchall()

    def pending(self) -> list[int]:
        """Positions of the requests without a final reply, in order."""
        rows = self._connection.execute(
            "SELECT position FROM requests LEFT JOIN replies USING (key) "
            "WHERE replies.key IS NULL OR replies.status = 'failed' ORDER BY position"
        )
        return [position for (position,) in rows]

    def remaining(self) -> int:
        """Number of requests without a final reply."""
        row = self._connection.execute(
            "SELECT count(*) FROM requests LEFT JOIN replies USING (key) "
            "WHERE replies.key IS NULL OR replies.status = 'failed'"
        ).fetchone()
        return int(row[0])

    def requests(self) -> Iterator[AskedRequest]:
        """The requests that the run now asks for, in order."""
        rows = self._connection.execute(
            "SELECT key, question_id, persona, sample, swapped FROM requests ORDER BY position"
        )
        for key, question_id, persona, sample, swapped in rows:
            yield AskedRequest(key, question_id, persona, sample, bool(swapped))

    def records(self, table: str = "replies") -> Iterator[list[tuple[Any, ...]]]:
        """Whole records, those to earlier requests included, some thousands at a time.

        Args:
            table: `replies`, or those that no longer count: `replaced` or `set_aside`.

        Returns:
            Lists of rows: the values of `FIELDS`, and whether the record matches its checksum.
        """
        cursor = self._connection.execute(f"SELECT {FIELDS}, {intact(table)} FROM {table} ORDER BY rowid")
        while rows := cursor.fetchmany(_ROWS_AT_ONCE):
            yield rows

    def record(
        self, replies: Sequence[tuple[AskedRequest, Reply]], costs: Sequence[float | None] | None = None
    ) -> None:
        """Store replies; when this returns, they are on disk. A final reply that is there already stays.

        Args:
            replies: what was asked and what came.
            costs: of each reply in USD, None where its price is unknown; by default, all are.

        Raises:
            ValueError: a reply contradicts itself; none is stored.
            OSError: the disk is full or cannot be written; nothing that was stored before is lost.
        """
        now = time.time()
        costs = [None] * len(replies) if costs is None else costs
        records = [
            (*_record(request, reply, now, self._stories), cost)
            for (request, reply), cost in zip(replies, costs, strict=True)
        ]
        with self.transaction() as connection:
            connection.executemany(_UPSERT, records)

    def spending(self) -> Spending:
        """What every reply ever paid for has cost: those to earlier requests, replaced and damaged ones included."""
        return Spending(*self._connection.execute(_SPENDING).fetchone())

    def dearest_usage(self) -> dict[str, Any] | None:
        """Tokens of the reply that has cost most of all that the run's requests now have; None without a known cost."""
        row = self._connection.execute(
            "SELECT usage FROM requests JOIN replies USING (key) WHERE cost_usd IS NOT NULL AND json_valid(usage) "
            "ORDER BY cost_usd DESC LIMIT 1"
        ).fetchone()
        return None if row is None else json.loads(row[0])

    def question_ids(self) -> list[str]:
        """Ids of the run's questions, in their order."""
        # Personas come one after the other, so that the first one's requests name every question.
        rows = self._connection.execute(
            "SELECT question_id FROM requests WHERE position < coalesce((SELECT position FROM requests "
            "WHERE persona != (SELECT persona FROM requests WHERE position = 0) ORDER BY position LIMIT 1), "
            "9223372036854775807) ORDER BY position"
        )
        return list(dict.fromkeys(question_id for (question_id,) in rows))

    def counts(self) -> dict[str, dict[str, int]]:
        """Replies to the run's requests: persona to status to number, personas in order, without zeros."""
        rows = self._connection.execute(
            "SELECT requests.persona, replies.status, count(*) FROM requests JOIN replies USING (key) "
            "GROUP BY requests.persona, replies.status ORDER BY min(position)"
        )
        counts: dict[str, dict[str, int]] = {}
        for persona, status, number in rows:
            counts.setdefault(persona, {})[status] = number
        return counts

    def served_model(self) -> str | None:
        """The model that the server named in the first reply to the run's requests that says so, or None."""
        rows = self._connection.execute(
            "SELECT detail FROM requests JOIN replies USING (key) WHERE detail IS NOT NULL ORDER BY position"
        )
        return next((model for (detail,) in rows if (model := served_model_in(json.loads(detail)))), None)

    def asked(self) -> "Asked":
        """How the replies to the run's requests were asked for, as far as it is not as usual."""
        return Asked(*map(int, self._connection.execute(_ASKED).fetchone()))

    def ways(self) -> list[dict[str, Any]]:
        """How the final replies to the run's requests were asked for, each way once: `Way.facts`."""
        rows = self._connection.execute(
            "SELECT DISTINCT json_extract(detail, '$.asked') FROM requests JOIN replies USING (key) "
            "WHERE status != 'failed' AND json_valid(detail) AND json_type(detail, '$.asked') = 'object'"
        )
        return [json.loads(facts) for (facts,) in rows]

    def rows(self, *columns: str, first: int = 0, at_most: int = -1) -> Iterator[list[tuple[Any, ...]]]:
        """The replies to the run's requests, in order, some thousands at a time.

        Args:
            columns: of `requests` (`position`, `sample`, `swapped`) or of `FIELDS`, or SQL over them.
            first: position of the first request.
            at_most: how many rows; -1 for all.

        Returns:
            Lists of rows: the columns asked for, and whether the record matches its checksum.
        """
        shared = {name: f"requests.{name}" for name in ("key", "question_id", "persona")}
        names = ", ".join(shared.get(name, name) for name in columns)
        cursor = self._connection.execute(
            f"SELECT {names}, {intact()} FROM requests JOIN replies USING (key) WHERE position >= ? ORDER BY position "
            "LIMIT ?",
            (first, at_most),
        )
        while rows := cursor.fetchmany(_ROWS_AT_ONCE):
            yield rows

    def checksums(self) -> list[tuple[int, int]]:
        """(position, checksum) of the run's requests that have a reply."""
        return self._connection.execute(
            "SELECT position, checksum FROM requests JOIN replies USING (key) ORDER BY position"
        ).fetchall()

    def replies(self) -> Iterator[tuple[str, Reply]]:
        """(key, reply) of every record, those to earlier requests included."""
        for row in self._connection.execute(f"SELECT {FIELDS} FROM replies ORDER BY rowid"):
            key, _, _, status, answer, *probabilities, raw, usage, detail, latency_s, _, _, _, _ = row
            yield (
                key,
                Reply(
                    answer=answer,
                    probabilities=None if probabilities[0] is None else (*probabilities,),
                    status=status,
                    raw=text_of(raw),
                    usage=json.loads(usage) if usage else None,
                    latency_s=latency_s,
                    detail=json.loads(detail) if detail else None,
                ),
            )

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Within the block, everything read is of one moment, whatever another process writes."""
        self._connection.execute("BEGIN")
        try:
            yield self._connection
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """The connection within a transaction: what is done with it is on disk when the block ends, all or nothing.

        Raises:
            OSError: the disk is full or cannot be written.
        """
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            yield self._connection
            self._connection.execute("COMMIT")
        except BaseException as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError):
                raise cannot_write(error, self.path) from error
            raise

    def _open_for_writing(self) -> sqlite3.Connection:
        finish_salvage(self.path)
        try:
            if self.path.exists() and not is_sound(self.path):
                self.set_aside += salvage(self.path)
            try:
                return self._prepared()
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                # Damage that a quick check does not look for, such as of an index.
                self.set_aside += salvage(self.path)
                return self._prepared()
        except sqlite3.Error as error:
            raise cannot_write(error, self.path) from error

    def _prepared(self) -> sqlite3.Connection:
        connection = connect(self.path, "rwc")
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            upgrade(connection)
            damaged = connection.execute(f"SELECT rowid FROM replies WHERE NOT {intact()}").fetchall()
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                f"INSERT INTO set_aside ({FIELDS}) SELECT {FIELDS} FROM replies WHERE rowid = ?", damaged
            )
            connection.executemany("DELETE FROM replies WHERE rowid = ?", damaged)
            connection.execute("COMMIT")
            self.salvaged = connection.execute("SELECT 1 FROM meta WHERE name = ?", (SALVAGED,)).fetchone() is not None
        except BaseException:
            connection.close()
            raise
        self.set_aside += len(damaged)
        if damaged:
            logger.warning("%d damaged records of %s are set aside and will be asked again.", len(damaged), self.path)
        return connection


def text_of(raw: str | bytes | None) -> str | None:
    """A reply's text as it came: one with lone surrogates is kept as bytes."""
    return raw.decode("utf-8", "surrogatepass") if isinstance(raw, bytes) else raw


def served_model_in(detail: Mapping[str, Any] | None) -> str | None:
    """The model that a server named in a reply: `model` in the reply's `detail`."""
    model = detail.get("model") if detail else None
    return model if isinstance(model, str) and model else None


def _numbered(requests: Iterable[AskedRequest]) -> Iterator[tuple[int, str, str, str, int, bool]]:
    for position, request in enumerate(requests):
        yield position, *request


def _json(facts: Mapping[str, Any] | None) -> str | None:
    """As JSON. Where a fact cannot be written so, the reply that was paid for is kept with those that can."""
    if facts is None:
        return None
    try:
        return json.dumps(facts, allow_nan=False)
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        simple = {
            name: value
            for name, value in facts.items()
            if value is None or isinstance(value, str) or (isinstance(value, int) and abs(value) < 2**63)
        }
        return json.dumps({**simple, "not_kept": f"{type(error).__name__} in {sorted(facts.keys() - simple.keys())}"})


def _check_story(reply: Reply, whose: str) -> None:
    if reply.status not in STATUSES or reply.answer != NO_ANSWER or reply.probabilities is not None:
        raise ValueError(
            "A storyteller's reply must have a status and no answer; "
            f"got {reply.answer} with {reply.status!r} and probabilities {reply.probabilities} {whose}."
        )


def _record(request: AskedRequest, reply: Reply, now: float, is_story: bool) -> tuple[Any, ...]:
    """The fields of a record without its cost, in the order of `FIELDS`.

    Raises:
        ValueError: the reply contradicts itself.
    """
    whose = f"for persona {request.persona!r} and question {request.question_id!r}"
    if is_story:
        _check_story(reply, whose)
    else:
        check_reply(reply, whose)
    # Plain numbers: numpy's would be stored as bytes.
    probabilities = (None,) * 3 if reply.probabilities is None else tuple(map(float, reply.probabilities))
    raw: str | bytes | None = reply.raw
    if reply.raw is not None and _SURROGATE.search(reply.raw):
        # SQLite text is UTF-8, which has no lone surrogates; the bytes keep them.
        raw = reply.raw.encode("utf-8", "surrogatepass")
    checked = (
        request.key,
        request.question_id,
        request.persona,
        reply.status,
        int(reply.answer),
        *probabilities,
        raw,
        _json(reply.usage),
        _json(reply.detail),
    )
    return (*checked, float(reply.latency_s), now, 1, checksum(*checked))
