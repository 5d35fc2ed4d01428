"""The ledger of a run's batches: what was meant to be submitted, and what was, in the file of the journal.

A batch is on disk here before anything of it is sent, so that a killed process finds on its return every batch that it may
have submitted.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from fairpp_hf.generation.batch.api import BatchApi
from fairpp_hf.generation.options import BatchLimits
from fairpp_hf.generation.queue import RequestQueue
from fairpp_hf.respondents.base import Reply, Request
from fairpp_hf.respondents.openai import OpenAIRespondent
from fairpp_hf.runs.database import BATCHES_UNKNOWN
from fairpp_hf.runs.journal import Journal

_FIELDS = "intent, created_at, requests, tokens, file_id, batch_id"


class Batch(NamedTuple):
    """A batch whose replies are not all in the journal yet."""

    intent: str
    """Its id here, unique; the server keeps it among the batch's metadata."""
    created_at: float
    """Seconds since 1970."""
    requests: int
    """Number of lines of its file."""
    tokens: int
    """Number of tokens that it is thought to enqueue."""
    file_id: str | None = None
    """Id of the uploaded file."""
    batch_id: str | None = None
    """Id at the server; None where the batch may not have been submitted."""


class OpenRequest(NamedTuple):
    """A request that still waits for a final reply."""

    number: int
    """Index into the requests of this call."""
    key: str
    rounds: int
    """How often it was asked in this call without a final reply."""


class Ledger:
    """The batches of a run, and the requests with these keys, which wait for a final reply."""

    def __init__(self, journal: Journal, keys: Iterable[str]) -> None:
        self._journal = journal
        self._open = {key: OpenRequest(number, key, 0) for number, key in enumerate(keys)}

    def _read(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._journal.transaction() as connection:
            return connection.execute(query, values).fetchall()

    def _write(self, *statements: tuple[str, Iterable[tuple[Any, ...]]]) -> None:
        """Run statements, each for some rows of values; all are on disk when this returns, or none."""
        with self._journal.transaction() as connection:
            for statement, rows in statements:
                connection.executemany(statement, rows)

    def outstanding(self) -> list[Batch]:
        """The batches that are not collected, oldest first."""
        rows = self._read(f"SELECT {_FIELDS} FROM batches WHERE NOT collected ORDER BY created_at, intent")
        return [Batch(*row) for row in rows]

    def intents(self) -> set[str]:
        """Ids of all batches that the ledger knows."""
        return {intent for (intent,) in self._read("SELECT intent FROM batches")}

    def began(self) -> float | None:
        """When the first batch was meant to be submitted, in seconds since 1970; None for none, or if that is unknown."""
        if self._journal.noted(BATCHES_UNKNOWN):
            return None
        began: float | None = self._read("SELECT min(created_at) FROM batches")[0][0]
        return began

    def looked(self) -> None:
        """Note that the ledger has every batch that the server has of this run, also where damage had taken some."""
        if self._journal.noted(BATCHES_UNKNOWN):
            self._journal.note(BATCHES_UNKNOWN, None)

    def add(self, batch: Batch, keys: Iterable[str]) -> None:
        """Note a batch with the keys of its requests; on disk when this returns."""
        self._write(
            (f"INSERT INTO batches ({_FIELDS}) VALUES (?, ?, ?, ?, ?, ?)", [batch]),
            ("INSERT OR IGNORE INTO batch_requests VALUES (?, ?)", ((key, batch.intent) for key in keys)),
        )

    def uploaded(self, intent: str, file_id: str) -> None:
        """Note the uploaded file of a batch."""
        self._write(("UPDATE batches SET file_id = ? WHERE intent = ?", [(file_id, intent)]))

    def submitted(self, intent: str, batch_id: str) -> None:
        """Note the server's id of a batch."""
        self._write(("UPDATE batches SET batch_id = ? WHERE intent = ?", [(batch_id, intent)]))

    def collected(self, intent: str) -> None:
        """Note that the journal has all that a batch brought: what it left unanswered is free to be asked again."""
        self._leave("UPDATE batches SET collected = 1 WHERE intent = ?", intent)

    def remove(self, intent: str) -> None:
        """Take out a batch that the server does not have."""
        self._leave("DELETE FROM batches WHERE intent = ?", intent)

    def _leave(self, statement: str, intent: str) -> None:
        self._write((statement, [(intent,)]), ("DELETE FROM batch_requests WHERE intent = ?", [(intent,)]))

    def free(self) -> list[OpenRequest]:
        """The open requests that are in no batch, in order."""
        taken = {key for (key,) in self._read("SELECT key FROM batch_requests")}
        return [request for key, request in self._open.items() if key not in taken]

    def find(self, keys: Iterable[str]) -> list[OpenRequest]:
        """Those of some requests that are open."""
        return [self._open[key] for key in keys if key in self._open]

    def in_batches(self) -> list[OpenRequest]:
        """The open requests that are in a batch."""
        return self.find(key for (key,) in self._read("SELECT DISTINCT key FROM batch_requests"))

    def open_in(self, intent: str) -> list[OpenRequest]:
        """The open requests of a batch."""
        return self.find(key for (key,) in self._read("SELECT key FROM batch_requests WHERE intent = ?", intent))

    def in_journal(self, keys: Iterable[str]) -> dict[str, tuple[str, str | None]]:
        """Key to (status, id of the batch that brought it) of the replies that the journal has."""
        query = "SELECT key, status, detail FROM replies WHERE key = ?"
        with self._journal.transaction() as connection:
            rows = [connection.execute(query, (key,)).fetchone() for key in keys]
        return {
            key: (status, json.loads(detail).get("batch") if detail else None)
            for key, status, detail in filter(None, rows)
        }

    def came_back(self, intent: str, keys: Iterable[str], done: Iterable[str], again: Iterable[str]) -> None:
        """Note the keys that a batch answered, when the journal has it; some of them wait no more, and others once more."""
        self._write(("DELETE FROM batch_requests WHERE key = ? AND intent = ?", ((key, intent) for key in keys)))
        for key in done:
            self._open.pop(key, None)
        for key in again:
            self._open[key] = self._open[key]._replace(rounds=self._open[key].rounds + 1)

    def keep_unclaimed(self, batch_id: str, lines: Iterable[tuple[str, bytes, str | None]]) -> None:
        """Keep paid replies that no request of the run waits for: key, line of the output file, and usage in JSON."""
        self._write(
            (
                "INSERT OR IGNORE INTO unclaimed (key, batch_id, line, usage) VALUES (?, ?, ?, ?)",
                ((key, batch_id, line, usage) for key, line, usage in lines),
            )
        )

    def unclaimed(self) -> list[tuple[str, str, bytes]]:
        """Key, batch and line of the replies that were kept so, and that a request waits for now."""
        query = "SELECT key, batch_id, line FROM unclaimed JOIN unanswered USING (key) ORDER BY batch_id, key"
        return [row for row in self._read(query) if row[0] in self._open]

    def drop_claimed(self) -> None:
        """Forget the kept replies that are among the journal's replies now."""
        self._write(
            (
                "DELETE FROM unclaimed WHERE EXISTS (SELECT 1 FROM replies WHERE replies.key = unclaimed.key "
                "AND json_extract(replies.detail, '$.batch') = unclaimed.batch_id)",
                [()],
            )
        )


@dataclass(frozen=True)
class BatchJob:
    """The arguments of a call of `ask_in_batches`, with what is made of them."""

    respondent: OpenAIRespondent
    requests: RequestQueue
    save: Callable[[Sequence[tuple[int, Reply]]], None]
    limits: BatchLimits
    tokens_of: Callable[[Request], int]
    tell: Callable[[str], None]
    ledger: Ledger
    api: BatchApi
    folder: Path
    """Folder with the files of batches."""

    def input_file(self, intent: str) -> Path:
        """Path of the input file of a batch until its replies are collected."""
        return self.folder / f"{intent}.jsonl"

    def room_for(self, count: int) -> int:
        """How many of `count` requests the budget has room for behind those in batches; below 0 if not even for those."""
        ahead = len(self.ledger.in_batches())
        return self.requests.fitting(ahead + count) - ahead
