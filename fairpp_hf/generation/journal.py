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
import math
import os
import re
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from fairpp_hf.generation.database import FIELDS, INSERT, TABLES, checksum, connect, intact, is_sound, salvage
from fairpp_hf.respondents.base import Reply
from fairpp_hf.schema import STATUSES

logger = logging.getLogger(__name__)

FILE_NAME = "journal.sqlite"
LOCK_NAME = "run.lock"

# A failed record makes room for whatever comes; a final one stays.
_UPSERT = f"""
{INSERT}
ON CONFLICT (key) DO UPDATE SET
    status = excluded.status, answer = excluded.answer, p_a = excluded.p_a, p_b = excluded.p_b, p_c = excluded.p_c,
    raw = excluded.raw, usage = excluded.usage, detail = excluded.detail, latency_s = excluded.latency_s,
    created_at = excluded.created_at, attempts = replies.attempts + 1, checksum = excluded.checksum
WHERE replies.status = 'failed'
"""
_SURROGATE = re.compile("[\ud800-\udfff]")


class AskedRequest(NamedTuple):
    """A request of the run as it now stands, in persona-major order."""

    key: str
    question_id: str
    persona: str


class RunLock:
    """Keeps a second process off a run. The system releases the lock when its holder dies, however it dies."""

    def __init__(self, run: Path) -> None:
        self._path = run / LOCK_NAME
        self._file: Any = None

    def __enter__(self) -> "RunLock":
        import fcntl

        self._file = self._path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            holder = self._file.read().strip() or "unknown"
            self._file.close()
            raise RuntimeError(
                f"A run must be written by one process at a time; got {self._path.parent} in use by process {holder}. "
                "Wait until it ends, or stop it, or use another --run."
            ) from None
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()
        return self

    def __exit__(self, *_: object) -> None:
        # The file stays: removing it would let two processes lock two files of the same name.
        self._file.truncate(0)
        self._file.close()


class Journal:
    """The replies of a run, by key, and which keys the run now asks for.

    Args:
        run: the run's directory.
        read_only: open an existing journal for reading, also while another process writes it.

    Raises:
        FileNotFoundError: `read_only`, and there is no journal.
        OSError: the file cannot be read as a journal at all; for a reader, also at the end of the `with` block, if it
            turned out to be damaged.
    """

    def __init__(self, run: Path, *, read_only: bool = False) -> None:
        self.path = Path(run) / FILE_NAME
        self._read_only = read_only
        self.set_aside = 0
        """Records that were found damaged when the journal was opened; those at the end of a file cut short are unknown."""
        self.salvaged = False
        """Whether the file was so damaged that its records were copied into a new one."""
        if read_only:
            if not self.path.is_file():
                raise FileNotFoundError(f"A run must have a journal; got none at {self.path}.")
            self._connection = connect(self.path, "ro")
        else:
            self._connection = self._open_for_writing()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
        if self._read_only and isinstance(error, sqlite3.DatabaseError):
            raise OSError(
                f"The journal must be a sound SQLite file; got {error} at {self.path}. "
                "Run `fairpp generate` on this run again: it saves what can be read and asks the rest."
            ) from error

    def close(self) -> None:
        """Close the file; SQLite folds the write-ahead log into it."""
        self._connection.close()

    def set_requests(self, requests: Iterable[AskedRequest], digest: str) -> None:
        """Replace the requests that the run asks for, all or none; replies to earlier ones stay in the file."""
        with self._transaction():
            self._connection.execute("DELETE FROM requests")
            self._connection.executemany("INSERT INTO requests VALUES (?, ?, ?, ?)", _numbered(requests))
            self._connection.execute("INSERT OR REPLACE INTO meta VALUES ('requests_digest', ?)", (digest,))

    def requests_digest(self) -> str | None:
        """The digest that came with the requests, or None where there are none yet."""
        row = self._connection.execute("SELECT value FROM meta WHERE name = 'requests_digest'").fetchone()
        return row[0] if row else None

    def pending(self) -> list[int]:
        """Positions of the requests without a final reply, in order."""
        rows = self._connection.execute(
            "SELECT position FROM requests LEFT JOIN replies USING (key) "
            "WHERE replies.key IS NULL OR replies.status = 'failed' ORDER BY position"
        )
        return [position for (position,) in rows]

    def record(self, replies: Sequence[tuple[AskedRequest, Reply]]) -> None:
        """Store replies; when this returns, they are on disk.

        Raises:
            OSError: the disk is full or cannot be written; nothing that was stored before is lost.
        """
        now = time.time()
        with self._transaction():
            self._connection.executemany(_UPSERT, (_record(request, reply, now) for request, reply in replies))

    def question_ids(self) -> list[str]:
        """Ids of the run's questions, in their order."""
        rows = self._connection.execute("SELECT question_id FROM requests GROUP BY question_id ORDER BY min(position)")
        return [question_id for (question_id,) in rows]

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

    def answers(self) -> tuple[list[tuple[Any, ...]], int]:
        """The replies to the run's requests, in order, and how many were left out because their records are damaged.

        Returns:
            Rows of (question_id, persona, status, answer, p_a, p_b, p_c), and the number of damaged records.
        """
        rows = self._connection.execute(
            f"SELECT requests.question_id, requests.persona, status, answer, p_a, p_b, p_c, {intact()} "
            "FROM requests JOIN replies USING (key) ORDER BY position"
        ).fetchall()
        answers = [row[:-1] for row in rows if row[-1]]
        return answers, len(rows) - len(answers)

    def checksums(self) -> list[tuple[int, int]]:
        """(position, checksum) of the run's requests that have a reply."""
        return self._connection.execute(
            "SELECT position, checksum FROM requests JOIN replies USING (key) ORDER BY position"
        ).fetchall()

    def replies(self) -> Iterator[tuple[str, Reply]]:
        """(key, reply) of every record, those to earlier requests included."""
        for row in self._connection.execute(f"SELECT {FIELDS} FROM replies ORDER BY rowid"):
            key, _, _, status, answer, *probabilities, raw, usage, detail, latency_s, _, _, _ = row
            yield (
                key,
                Reply(
                    answer=answer,
                    probabilities=None if probabilities[0] is None else (*probabilities,),
                    status=status,
                    raw=raw.decode("utf-8", "surrogatepass") if isinstance(raw, bytes) else raw,
                    usage=json.loads(usage) if usage else None,
                    latency_s=latency_s,
                    detail=json.loads(detail) if detail else None,
                ),
            )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            yield
            self._connection.execute("COMMIT")
        except BaseException as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError):
                raise OSError(
                    f"The journal must be writable; got {error} at {self.path}. Earlier replies are kept. "
                    "Make room or mend the access, then run the same command again to continue."
                ) from error
            raise

    def _open_for_writing(self) -> sqlite3.Connection:
        if self.path.exists() and not is_sound(self.path):
            self.set_aside += salvage(self.path)
            self.salvaged = True
        connection = connect(self.path, "rwc")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(TABLES)
        damaged = connection.execute(f"SELECT rowid FROM replies WHERE NOT {intact()}").fetchall()
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO set_aside SELECT * FROM replies WHERE rowid = ?", damaged)
        connection.executemany("DELETE FROM replies WHERE rowid = ?", damaged)
        connection.execute("COMMIT")
        self.set_aside += len(damaged)
        if damaged:
            logger.warning("%d damaged records of %s are set aside and will be asked again.", len(damaged), self.path)
        return connection


def served_model_in(detail: Mapping[str, Any] | None) -> str | None:
    """The model that a server named in a reply: `model` in the reply's `detail`."""
    model = detail.get("model") if detail else None
    return model if isinstance(model, str) and model else None


def _numbered(requests: Iterable[AskedRequest]) -> Iterator[tuple[int, str, str, str]]:
    for position, request in enumerate(requests):
        yield position, *request


def _record(request: AskedRequest, reply: Reply, now: float) -> tuple[Any, ...]:
    """The fields of a record, in the order of `FIELDS`.

    Raises:
        ValueError: the reply contradicts itself.
    """
    whose = f"for persona {request.persona!r} and question {request.question_id!r}"
    if reply.status not in STATUSES or (reply.answer != -1) != (reply.status == "ok") or not -1 <= reply.answer <= 2:
        raise ValueError(
            "A reply must have an answer in 0..2 with status 'ok', or -1 with another status; "
            f"got {reply.answer} with {reply.status!r} {whose}."
        )
    # Plain numbers: numpy's would be stored as bytes.
    probabilities = (None,) * 3 if reply.probabilities is None else tuple(map(float, reply.probabilities))
    if reply.probabilities is not None and not (
        min(reply.probabilities) >= 0 and math.isclose(math.fsum(reply.probabilities), 1.0, abs_tol=1e-4)
    ):
        raise ValueError(f"A reply's probabilities must be at least 0 and sum to 1; got {reply.probabilities} {whose}.")
    raw: str | bytes | None = reply.raw
    if reply.raw is not None and _SURROGATE.search(reply.raw):
        # SQLite text is UTF-8, which has no lone surrogates; the bytes keep them.
        raw = reply.raw.encode("utf-8", "surrogatepass")
    checked = (
        *request,
        reply.status,
        int(reply.answer),
        *probabilities,
        raw,
        None if reply.usage is None else json.dumps(reply.usage),
        None if reply.detail is None else json.dumps(reply.detail),
    )
    return (*checked, float(reply.latency_s), now, 1, checksum(*checked))
