"""The ledger of a run's batches: what was meant to be submitted, and what was, in the file of the journal.

A batch is on disk here before anything of it is sent, so that a killed process finds on its return every batch that it may
have submitted. Which requests still wait for a reply is kept beside it in a temporary table, so that memory does not grow
with their number.
"""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from fairpp_hf.generation.database import BATCHES_UNKNOWN, columns_of
from fairpp_hf.generation.journal import FILE_NAME, AskedRequest, Journal
from fairpp_hf.generation.run_folder import command_for, home_of

_TABLES = (
    """
    CREATE TABLE IF NOT EXISTS batches (
        intent TEXT PRIMARY KEY,
        created_at REAL NOT NULL,
        requests INTEGER NOT NULL,
        tokens INTEGER NOT NULL,
        digest TEXT NOT NULL,
        file_id TEXT,
        batch_id TEXT,
        collected INTEGER NOT NULL DEFAULT 0
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS batch_requests (
        key TEXT NOT NULL,
        intent TEXT NOT NULL,
        PRIMARY KEY (key, intent)
    ) WITHOUT ROWID
    """,
    "DROP TABLE IF EXISTS temp.waiting",
    "CREATE TEMP TABLE waiting (number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, rounds INTEGER NOT NULL DEFAULT 0)",
)
_FIELDS = "intent, created_at, requests, tokens, digest, file_id, batch_id"
_IN_A_BATCH = "EXISTS (SELECT 1 FROM batch_requests WHERE batch_requests.key = waiting.key)"


class Batch(NamedTuple):
    """A batch whose replies are not all in the journal yet."""

    intent: str
    """Its id here, unique; the server keeps it among the batch's metadata."""
    created_at: float
    """Seconds since 1970."""
    requests: int
    """How many lines its file has."""
    tokens: int
    """How many tokens it is thought to enqueue."""
    digest: str
    """SHA-256 of its file; empty where another process wrote it."""
    file_id: str | None = None
    """Of the uploaded file."""
    batch_id: str | None = None
    """The server's; None where it may not have been submitted."""


class Waiting(NamedTuple):
    """A request that still waits for a final reply."""

    number: int
    """Index into the requests of this call."""
    key: str
    rounds: int
    """How often it was asked in this call without a final reply."""


class Ledger:
    """The batches of a run.

    Args:
        journal: open for writing.
        asked: the requests that wait for a final reply.
    """

    def __init__(self, journal: Journal, asked: Sequence[AskedRequest]) -> None:
        self._journal = journal
        with journal.transaction() as connection:
            for statement in _TABLES:
                connection.execute(statement)
            connection.executemany(
                "INSERT INTO waiting (number, key) VALUES (?, ?)",
                ((number, request.key) for number, request in enumerate(asked)),
            )

    def outstanding(self) -> list[Batch]:
        """The batches that are not collected, oldest first."""
        with self._journal.transaction() as connection:
            rows = connection.execute(f"SELECT {_FIELDS} FROM batches WHERE NOT collected ORDER BY created_at, intent")
            return [Batch(*row) for row in rows]

    def intents(self) -> set[str]:
        """Ids of all batches that the ledger knows."""
        with self._journal.transaction() as connection:
            return {intent for (intent,) in connection.execute("SELECT intent FROM batches")}

    def began(self) -> float | None:
        """When the first batch was meant to be submitted, in seconds since 1970; None for none, or if that is unknown."""
        if self._journal.noted(BATCHES_UNKNOWN):
            return None
        with self._journal.transaction() as connection:
            return connection.execute("SELECT min(created_at) FROM batches").fetchone()[0]

    def looked(self) -> None:
        """Note that the ledger has every batch that the server has of this run, also where damage had taken some."""
        if self._journal.noted(BATCHES_UNKNOWN):
            self._journal.note(BATCHES_UNKNOWN, None)

    def add(self, batch: Batch, keys: Iterable[str]) -> None:
        """Note a batch with the keys of its requests; on disk when this returns."""
        with self._journal.transaction() as connection:
            connection.execute(f"INSERT INTO batches ({_FIELDS}) VALUES (?, ?, ?, ?, ?, ?, ?)", batch)
            connection.executemany(
                "INSERT OR IGNORE INTO batch_requests VALUES (?, ?)", ((key, batch.intent) for key in keys)
            )

    def uploaded(self, intent: str, file_id: str) -> None:
        """Note the uploaded file of a batch."""
        with self._journal.transaction() as connection:
            connection.execute("UPDATE batches SET file_id = ? WHERE intent = ?", (file_id, intent))

    def submitted(self, intent: str, batch_id: str) -> None:
        """Note the server's id of a batch."""
        with self._journal.transaction() as connection:
            connection.execute("UPDATE batches SET batch_id = ? WHERE intent = ?", (batch_id, intent))

    def collected(self, intent: str) -> None:
        """Note that the journal has all that a batch brought: what it left unanswered is free to be asked again."""
        with self._journal.transaction() as connection:
            connection.execute("UPDATE batches SET collected = 1 WHERE intent = ?", (intent,))
            connection.execute("DELETE FROM batch_requests WHERE intent = ?", (intent,))

    def forget(self, intent: str) -> None:
        """Take out a batch that the server does not have."""
        with self._journal.transaction() as connection:
            connection.execute("DELETE FROM batches WHERE intent = ?", (intent,))
            connection.execute("DELETE FROM batch_requests WHERE intent = ?", (intent,))

    def free(self, after: int, count: int) -> list[Waiting]:
        """The next `count` waiting requests behind number `after` that are in no batch, in order."""
        with self._journal.transaction() as connection:
            rows = connection.execute(
                f"SELECT number, key, rounds FROM waiting WHERE number > ? AND NOT {_IN_A_BATCH} ORDER BY number LIMIT ?",
                (after, count),
            )
            return [Waiting(*row) for row in rows]

    def in_batches(self) -> list[int]:
        """Numbers of the waiting requests that are in a batch, in order."""
        with self._journal.transaction() as connection:
            rows = connection.execute(f"SELECT number FROM waiting WHERE {_IN_A_BATCH} ORDER BY number")
            return [number for (number,) in rows]

    def find(self, keys: Iterable[str]) -> dict[str, Waiting]:
        """Key to request, of those that wait."""
        with self._journal.transaction() as connection:
            rows = (
                connection.execute("SELECT number, key, rounds FROM waiting WHERE key = ?", (key,)).fetchone()
                for key in keys
            )
            return {row[1]: Waiting(*row) for row in rows if row is not None}

    def waiting_in(self, intent: str) -> list[Waiting]:
        """The waiting requests of a batch."""
        with self._journal.transaction() as connection:
            rows = connection.execute(
                "SELECT number, key, rounds FROM waiting JOIN batch_requests USING (key) WHERE intent = ?", (intent,)
            )
            return [Waiting(*row) for row in rows]

    def in_journal(self, keys: Iterable[str]) -> dict[str, tuple[str, str | None]]:
        """Key to (status, id of the batch that brought it) of the replies that the journal has."""
        with self._journal.transaction() as connection:
            rows = (
                connection.execute("SELECT key, status, detail FROM replies WHERE key = ?", (key,)).fetchone()
                for key in keys
            )
            return {
                key: (status, json.loads(detail).get("batch") if detail else None)
                for key, status, detail in filter(None, rows)
            }

    def came_back(self, intent: str, keys: Iterable[str], done: Iterable[int], again: Iterable[int]) -> None:
        """Note what a batch brought, when it is in the journal.

        Args:
            intent: of the batch.
            keys: of the requests that it answered, well or badly.
            done: numbers of those that wait no more.
            again: numbers of those to be asked again.
        """
        with self._journal.transaction() as connection:
            connection.executemany(
                "DELETE FROM batch_requests WHERE key = ? AND intent = ?", ((key, intent) for key in keys)
            )
            connection.executemany("DELETE FROM waiting WHERE number = ?", ((number,) for number in done))
            connection.executemany(
                "UPDATE waiting SET rounds = rounds + 1 WHERE number = ?", ((number,) for number in again)
            )


class Unfinished(NamedTuple):
    """What is in batches, paid for or about to be."""

    batches: int
    requests: int


def unfinished_batches(run: Path) -> Unfinished:
    """The batches of a run that are not collected: without `--batch`, their requests would be bought again.

    Args:
        run: the run's directory, also while a process writes to it.

    Raises:
        OSError: the journal cannot be read.
    """
    if not (run / FILE_NAME).is_file():
        return Unfinished(0, 0)
    with Journal(run, read_only=True) as journal, journal.snapshot() as connection:
        return unfinished_in(connection)


def unfinished_in(connection: sqlite3.Connection) -> Unfinished:
    """As `unfinished_batches`, of an open journal."""
    if not columns_of(connection, "batches"):
        return Unfinished(0, 0)
    row = connection.execute("SELECT count(*), coalesce(sum(requests), 0) FROM batches WHERE NOT collected")
    return Unfinished(*row.fetchone())


def check_not_in_batches(run: Path, *, by_batches: bool) -> None:
    """Check that no request would be bought that is in a batch.

    Args:
        run: the run's directory; its requests are set.
        by_batches: whether it asks by batches now, which collects its own first.

    Raises:
        ValueError: a request may be in a batch.
        OSError: the journal cannot be read.
    """
    with Journal(run, read_only=True) as journal, journal.snapshot() as connection:
        unfinished, elsewhere = unfinished_in(connection), journal.elsewhere()
        is_unknown = journal.noted(BATCHES_UNKNOWN) is not None
    for part, requests in elsewhere:
        out, home = home_of(run), home_of(Path(part))
        raise ValueError(
            f"A merged run must not ask what its parts have in batches; got {requests:,} requests of {run} in batches of "
            f"{part}. Their answers are bought already. Collect them with `{command_for(Path(part))} --batch`, then "
            f"`fairpp merge --out {out} {home}`."
        )
    if by_batches:
        return
    if is_unknown:
        raise ValueError(
            f"A run must know its batches at the provider; got {run}, whose list of them was damaged. What they answer is "
            "bought already. Have them looked for first: the same command with --batch, or batch=BatchLimits(). Where the "
            "account is lost, --forget-batches buys them again."
        )
    if unfinished.batches:
        raise ValueError(
            f"A run with batches at the provider must go on by batches; got {unfinished.requests:,} requests in "
            f"{unfinished.batches:,} unfinished batches of {run}. Their answers are bought already. Collect them first: the "
            "same command with --batch, or batch=BatchLimits(). Where the provider has lost them, --forget-batches buys "
            "them again."
        )


def keys_in_batches(connection: sqlite3.Connection) -> list[str]:
    """Keys of the requests that a run has in batches; of all that lack a final reply where it does not know which.

    Args:
        connection: to the run's journal.
    """
    is_unknown = connection.execute("SELECT 1 FROM meta WHERE name = ?", (BATCHES_UNKNOWN,)).fetchone() is not None
    if columns_of(connection, "batches"):
        # One without requests was found at the provider, without its file.
        query = "SELECT EXISTS (SELECT 1 FROM batches WHERE NOT collected AND requests = 0)"
        is_unknown = is_unknown or bool(connection.execute(query).fetchone()[0])
    if is_unknown:
        query = (
            "SELECT DISTINCT key FROM requests LEFT JOIN replies USING (key) "
            "WHERE replies.key IS NULL OR replies.status = 'failed'"
        )
    elif columns_of(connection, "batch_requests"):
        query = "SELECT DISTINCT key FROM batch_requests"
    else:
        return []
    return [key for (key,) in connection.execute(query)]
