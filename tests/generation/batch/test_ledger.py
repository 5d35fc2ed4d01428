"""What the ledger of batches knows must survive damage of the journal's file, and a merge."""

import contextlib
import sqlite3
import time
from pathlib import Path

import pytest
from generation_fixtures import ok, unfinished_batches

from fairpp_hf.generation.batch.ledger import Batch, Ledger
from fairpp_hf.runs.batches import check_not_in_batches
from fairpp_hf.runs.journal import AskedRequest, Journal


def in_a_batch(run: Path, count: int = 5) -> list[AskedRequest]:
    """A run of so many requests, the first with a reply, the others in one batch."""
    requests = [AskedRequest(f"key-{number}", f"q{number}", "ann") for number in range(count)]
    (run / "batches").mkdir()
    with Journal(run) as journal:
        journal.note("run_key", "the run's key")
        journal.set_requests(requests, "digest")
        journal.record([(requests[0], ok(0))])
        batch = Batch("intent", time.time(), count - 1, 100, "file-1", "batch-1")
        Ledger(journal, [request.key for request in requests[1:]]).add(batch, [request.key for request in requests[1:]])
    return requests


def damage_table(run: Path, table: str) -> None:
    """Overwrite the root page of a table."""
    with contextlib.closing(sqlite3.connect(run / "journal.sqlite")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    with (run / "journal.sqlite").open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)


def refusal(run: Path, *, by_batches: bool = False) -> str:
    """Why the run may not ask; empty where it may."""
    with Journal(run, read_only=True) as journal:
        try:
            check_not_in_batches(journal, by_batches=by_batches)
        except ValueError as error:
            return str(error)
    return ""


def outstanding(journal: Journal) -> list[str]:
    return sorted(journal.keys_in_batches())


def test_a_damaged_journal_keeps_its_ledger(tmp_path: Path) -> None:
    requests = in_a_batch(tmp_path)
    damage_table(tmp_path, "requests")
    with Journal(tmp_path) as journal:
        assert journal.repaired
        assert journal.run_key() == "the run's key"
        ledger = Ledger(journal, [request.key for request in requests[1:]])
        assert [batch.batch_id for batch in ledger.outstanding()] == ["batch-1"]
        assert sorted(request.number for request in ledger.in_batches()) == [0, 1, 2, 3]
    assert unfinished_batches(tmp_path) == (1, 4)
    assert "4 requests in 1 unfinished batches" in refusal(tmp_path)
    assert refusal(tmp_path, by_batches=True) == ""


@pytest.mark.parametrize("table", ["batches", "batch_requests", "meta"])
def test_a_ledger_that_is_lost_has_its_batches_looked_for(tmp_path: Path, table: str) -> None:
    """Half of it would hide a batch, so that none is kept: the provider's list has them all."""
    requests = in_a_batch(tmp_path)
    damage_table(tmp_path, table)
    with Journal(tmp_path) as journal:
        journal.set_requests(requests, "digest")
        ledger = Ledger(journal, [request.key for request in requests[1:]])
        assert ledger.intents() == set()
        assert outstanding(journal) == ["key-1", "key-2", "key-3", "key-4"]
    assert unfinished_batches(tmp_path) == (0, 0)
    assert "whose list was damaged" in refusal(tmp_path)
    assert refusal(tmp_path, by_batches=True) == ""
    with Journal(tmp_path) as journal:
        ledger = Ledger(journal, [request.key for request in requests[1:]])
        ledger.add(Batch("intent", time.time(), 4, 100, None, "batch-1"), ["key-1", "key-2", "key-3", "key-4"])
        assert ledger.began() is None  # the search was cut short: it has to begin anew
        ledger.looked()
        assert ledger.began() is not None
        ledger.collected("intent")
        assert outstanding(journal) == []
    assert refusal(tmp_path) == ""


def test_a_damaged_journal_without_batches_has_none_to_look_for(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.set_requests([AskedRequest("key", "q", "ann")], "digest")
    damage_table(tmp_path, "requests")
    with Journal(tmp_path) as journal:
        assert journal.repaired
    assert refusal(tmp_path) == ""


def test_a_batch_of_unknown_requests_may_have_any(tmp_path: Path) -> None:
    """It was found at the provider without its input file."""
    requests = [AskedRequest(f"key-{number}", f"q{number}", "ann") for number in range(3)]
    with Journal(tmp_path) as journal:
        journal.set_requests(requests, "digest")
        journal.record([(requests[1], ok(0))])
        Ledger(journal, [request.key for request in requests]).add(
            Batch("intent", time.time(), 0, 100, None, "batch-1"), []
        )
        assert outstanding(journal) == ["key-0", "key-2"]
    assert "got 0 requests in 1 unfinished batches" in refusal(tmp_path)
