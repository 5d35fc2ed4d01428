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
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from fairpp_hf.respondents.base import Reply, check_reply
from fairpp_hf.respondents.completion import MOST_TOKENS
from fairpp_hf.runs.database import (
    BATCHES_UNKNOWN,
    FIELDS,
    REPAIRED,
    RUN_KEY,
    SENT,
    TABLES,
    address_of,
    cannot_read,
    cannot_write,
    checksum,
    connect,
    intact,
    is_damage,
)
from fairpp_hf.runs.layout import JOURNAL
from fairpp_hf.runs.repair import is_sound, repair
from fairpp_hf.runs.spending import Spending
from fairpp_hf.schema import NO_ANSWER, STATUSES

logger = logging.getLogger(__name__)

# A failed record makes room for whatever comes; a final one stays.
_REPLACED = [name for name in FIELDS.split(", ") if name not in ("key", "question_id", "persona", "attempts")]
_UPSERT = f"""
INSERT INTO replies ({FIELDS}) VALUES ({", ".join("?" * len(FIELDS.split(", ")))})
ON CONFLICT (key) DO UPDATE SET
    attempts = replies.attempts + 1, {", ".join(f"{name} = excluded.{name}" for name in _REPLACED)}
WHERE replies.status = 'failed'
"""
# The tokens of a reply, 0 where they are unknown or no number; bounded, since SQLite's sum of integers has an end.
_TOKENS = f"""CASE WHEN json_valid(usage)
    THEN max(0, min({MOST_TOKENS}, coalesce(CAST(json_extract(usage, '$.{{}}') AS INTEGER), 0))) ELSE 0 END"""
_IN, _OUT, _SENT = _TOKENS.format("prompt_tokens"), _TOKENS.format("completion_tokens"), SENT.format("")
_SPENDING = f"""
SELECT total(cost_usd), coalesce(sum({_IN}), 0), coalesce(sum({_OUT}), 0), coalesce(sum(status != 'failed' OR {_SENT}), 0),
    coalesce(sum(cost_usd IS NULL AND {_SENT}), 0), coalesce(sum(max({_IN}, {_OUT}) = {MOST_TOKENS}), 0)
FROM (
    SELECT status, usage, detail, cost_usd FROM replies
    UNION ALL SELECT status, usage, detail, cost_usd FROM replaced
    UNION ALL SELECT status, usage, detail, cost_usd FROM set_aside
    UNION ALL SELECT 'failed', usage, '{{"tries": 1}}', NULL FROM unclaimed
)
"""
_ASKED = """
SELECT total(ask = 'choice'), total(ask = 'choice' AND probabilities IS NOT NULL), total(system = 0),
    total(temperature = 0)
FROM (
    SELECT probabilities, json_extract(detail, '$.asked.ask') AS ask, json_extract(detail, '$.asked.system') AS system,
        json_extract(detail, '$.asked.temperature') AS temperature
    FROM answered WHERE json_valid(detail)
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


class Unfinished(NamedTuple):
    """Batches that are not collected."""

    batches: int
    requests: int


class Asked(NamedTuple):
    """Numbers of replies by how they were asked for."""

    choices: int
    """Replies to a choice that a schema constrained."""
    constrained_probabilities: int
    """Constrained choices with option probabilities, which are then probabilities under the constraint."""
    portraits_in_user_message: int
    without_temperature: int


class Journal:
    """The replies of a run, by key, and which keys the run now asks for.

    Args:
        run: The run's directory.
        read_only: Whether to open an existing journal for reading, also while another process writes it.
        stories: Whether the replies are a storyteller's, whose `ok` means a story and no answer.

    Raises:
        FileNotFoundError: With `read_only`, there is no journal.
        OSError: The file cannot be read as a journal at all, is in use by another program, or may not be opened; also at
            the end of the `with` block, if SQLite said so within it.
    """

    def __init__(self, run: Path, *, read_only: bool = False, stories: bool = False) -> None:
        self.path = Path(run) / JOURNAL
        self._read_only = read_only
        self._stories = stories
        self.set_aside = 0
        """Records that were found damaged when the journal was opened; those at the end of a file cut short are unknown."""
        self.repaired = False
        """Whether the file was ever so damaged that its records were copied into a new one."""
        if read_only:
            if not self.path.is_file():
                raise FileNotFoundError(f"A run must have a journal; got none at {self.path}.")
            self._connection = connect(self.path, "ro")
            self._connection.execute("PRAGMA temp_store = MEMORY")
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
            connection.executemany(
                "INSERT INTO requests (position, key, question_id, persona, sample, swapped) VALUES (?, ?, ?, ?, ?, ?)",
                ((position, *request) for position, request in enumerate(requests)),
            )
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

    def run_key(self, known: str | None = None) -> str:
        """What tells the run from every other, and by which it finds its batches at the provider: 32 hexadecimal digits.

        Args:
            known: The key that the run's manifest has, for a journal that has lost its own to damage.
        """
        key = self.noted(RUN_KEY)
        if key is None:
            self.note(RUN_KEY, key := known or uuid.uuid4().hex)
        return key

    def unfinished(self) -> Unfinished:
        """The run's batches at the provider that are not collected."""
        query = "SELECT count(*), coalesce(sum(requests), 0) FROM batches WHERE NOT collected"
        return Unfinished(*self._connection.execute(query).fetchone())

    def keys_in_batches(self) -> list[str]:
        """Keys of the requests that are in batches; of all that lack a final reply where the run does not know which."""
        # A batch without requests was found at the provider, without its file.
        is_unknown = (
            self.noted(BATCHES_UNKNOWN) is not None
            or self._connection.execute("SELECT 1 FROM batches WHERE NOT collected AND requests = 0").fetchone()
        )
        rows = self._connection.execute(f"SELECT DISTINCT key FROM {'unanswered' if is_unknown else 'batch_requests'}")
        return [key for (key,) in rows]

    def elsewhere(self) -> list[tuple[str, int]]:
        """The requests without a final reply that runs merged into this one have in batches: run to number of them."""
        return self._connection.execute(
            "SELECT run, count(*) FROM elsewhere JOIN unanswered USING (key) GROUP BY run_key, run ORDER BY run"
        ).fetchall()

    def pending(self) -> list[int]:
        """Positions of the requests without a final reply, in order."""
        rows = self._connection.execute("SELECT position FROM unanswered ORDER BY position")
        return [position for (position,) in rows]

    def size(self) -> int:
        """Number of requests."""
        return int(self._connection.execute("SELECT count(*) FROM requests").fetchone()[0])

    def remaining(self) -> int:
        """Number of requests without a final reply."""
        return len(self.pending())

    def requests(self) -> Iterator[AskedRequest]:
        """The requests that the run now asks for, in order."""
        rows = self._connection.execute(
            "SELECT key, question_id, persona, sample, swapped FROM requests ORDER BY position"
        )
        for key, question_id, persona, sample, swapped in rows:
            yield AskedRequest(key, question_id, persona, sample, bool(swapped))

    def records(self, table: str = "replies") -> Iterator[list[tuple[Any, ...]]]:
        """Whole records, those to earlier requests included: the values of `FIELDS`, and whether the checksum matches.

        Args:
            table: `replies`, or those that no longer count: `replaced` or `set_aside`.
        """
        cursor = self._connection.execute(f"SELECT {FIELDS}, {intact(table)} FROM {table} ORDER BY rowid")
        while rows := cursor.fetchmany(_ROWS_AT_ONCE):
            yield rows

    def record(
        self, replies: Sequence[tuple[AskedRequest, Reply]], costs: Sequence[float | None] | None = None
    ) -> None:
        """Store replies; when this returns, they are on disk. A final reply that is there already stays.

        Args:
            replies: Pairs of what was asked and what came.
            costs: Cost of each reply in USD, None where its price is unknown; by default, all are.

        Raises:
            ValueError: A reply contradicts itself; none is stored.
            OSError: The disk is full or cannot be written; nothing that was stored before is lost.
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
            "SELECT usage FROM answered WHERE cost_usd IS NOT NULL AND json_valid(usage) ORDER BY cost_usd DESC LIMIT 1"
        ).fetchone()
        return None if row is None else json.loads(row[0])

    def question_ids(self) -> list[str]:
        """Ids of the run's questions, in their order."""
        rows = self._connection.execute("SELECT question_id FROM requests GROUP BY question_id ORDER BY min(position)")
        return [question_id for (question_id,) in rows]

    def counts(self) -> dict[str, dict[str, int]]:
        """Replies to the run's requests: persona to status to number, personas in order, without zeros."""
        rows = self._connection.execute(
            "SELECT persona, status, count(*) FROM answered GROUP BY persona, status ORDER BY min(position)"
        )
        counts: dict[str, dict[str, int]] = {}
        for persona, status, number in rows:
            counts.setdefault(persona, {})[status] = number
        return counts

    def served_model(self) -> str | None:
        """The model that the server named in the first reply to the run's requests that says so, or None."""
        rows = self._connection.execute("SELECT detail FROM answered WHERE detail IS NOT NULL ORDER BY position")
        return next((model for (detail,) in rows if (model := served_model_in(json.loads(detail)))), None)

    def asked(self) -> Asked:
        """How the replies to the run's requests were asked for, as far as it is not as usual."""
        return Asked(*map(int, self._connection.execute(_ASKED).fetchone()))

    def ways(self) -> list[dict[str, Any]]:
        """How the final replies to the run's requests were asked for, each way once: `Way.facts`."""
        rows = self._connection.execute(
            "SELECT DISTINCT json_extract(detail, '$.asked') FROM answered "
            "WHERE status != 'failed' AND json_valid(detail) AND json_type(detail, '$.asked') = 'object'"
        )
        return [json.loads(facts) for (facts,) in rows]

    def rows(self, *columns: str, first: int = 0) -> Iterator[list[tuple[Any, ...]]]:
        """The replies to the run's requests, in order: the columns asked for, and whether the checksum matches.

        Args:
            columns: Columns of `requests` (`position`, `sample`, `swapped`) or of `FIELDS`.
            first: Position of the first request.
        """
        cursor = self._connection.execute(
            f"SELECT {', '.join(columns)}, {intact('answered')} FROM answered WHERE position >= ? ORDER BY position",
            (first,),
        )
        while rows := cursor.fetchmany(_ROWS_AT_ONCE):
            yield rows

    def checksums(self) -> list[tuple[int, int]]:
        """(position, checksum) of the run's requests that have a reply."""
        return self._connection.execute("SELECT position, checksum FROM answered ORDER BY position").fetchall()

    @contextlib.contextmanager
    def attached(self, path: Path, name: str) -> Iterator[None]:
        """Within the block, the tables of another journal can be read by SQL as `name.table`."""
        self._connection.execute(f"ATTACH ? AS {name}", (address_of(path, "ro"),))
        try:
            yield
        finally:
            self._connection.execute(f"DETACH {name}")

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
            OSError: The disk is full or cannot be written.
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
        try:
            if self.path.exists() and not is_sound(self.path):
                self.set_aside += repair(self.path)
            try:
                return self._prepared()
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                # Damage that a quick check does not look for, such as of an index.
                self.set_aside += repair(self.path)
                return self._prepared()
        except sqlite3.Error as error:
            raise cannot_write(error, self.path) from error

    def _prepared(self) -> sqlite3.Connection:
        connection = connect(self.path, "rwc")
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.executescript(TABLES)
            damaged = connection.execute(f"SELECT rowid FROM replies WHERE NOT {intact()}").fetchall()
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                f"INSERT INTO set_aside ({FIELDS}) SELECT {FIELDS} FROM replies WHERE rowid = ?", damaged
            )
            connection.executemany("DELETE FROM replies WHERE rowid = ?", damaged)
            connection.execute("COMMIT")
            self.repaired = connection.execute("SELECT 1 FROM meta WHERE name = ?", (REPAIRED,)).fetchone() is not None
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


def _record(request: AskedRequest, reply: Reply, now: float, is_story: bool) -> tuple[Any, ...]:
    """The fields of a record without its cost, in the order of `FIELDS`.

    Raises:
        ValueError: The reply contradicts itself.
    """
    whose = f"for persona {request.persona!r} and question {request.question_id!r}"
    if not is_story:
        check_reply(reply, whose)
    elif reply.status not in STATUSES or reply.answer != NO_ANSWER or reply.probabilities is not None:
        raise ValueError(
            "A storyteller's reply must have a status and no answer; "
            f"got {reply.answer} with {reply.status!r} and probabilities {reply.probabilities} {whose}."
        )
    probabilities = None if reply.probabilities is None else json.dumps([float(value) for value in reply.probabilities])
    raw: str | bytes | None = reply.raw
    if reply.raw is not None and _SURROGATE.search(reply.raw):
        # SQLite text is UTF-8, which has no lone surrogates; the bytes keep them.
        raw = reply.raw.encode("utf-8", "surrogatepass")
    asked = (request.key, request.question_id, request.persona)
    checked = (*asked, reply.status, int(reply.answer), probabilities, raw, _json(reply.usage), _json(reply.detail))
    return (*checked, float(reply.latency_s), now, 1, checksum(*checked))
