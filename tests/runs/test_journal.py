import contextlib
import os
import re
import sqlite3
from pathlib import Path

import pytest
from generation_fixtures import damage, not_ok, ok, replies_in

from fairpp_hf.respondents import Reply
from fairpp_hf.runs import database
from fairpp_hf.runs.journal import AskedRequest, Journal
from fairpp_hf.runs.spending import Spending


def asked(count: int, persona: str = "ann") -> list[AskedRequest]:
    return [AskedRequest(f"{persona}-key-{n}", f"q{n}", persona) for n in range(count)]


def filled(run: Path, count: int, raw: str | None = None) -> list[AskedRequest]:
    requests = asked(count)
    with Journal(run) as journal:
        journal.set_requests(requests, "digest")
        journal.record([(request, ok(n % 3)._replace(raw=raw)) for n, request in enumerate(requests)])
    return requests


@pytest.mark.parametrize(
    "raw",
    [
        None,
        "",
        "B",
        "😀 \u202bB\u202c\r\n\t",
        "NUL \x00 inside",
        "lone \ud800 surrogate \udfff",
        "é" * 5000,
        "7",
        "1.50",
    ],
)
def test_replies_come_back_as_they_were(tmp_path: Path, raw: str | None) -> None:
    (request,) = asked(1)
    reply = Reply(1, (0.1, 0.7, 0.2), "ok", raw, {"total_tokens": 3}, 0.5, {"error": "\ud800", "top": {"A": -0.1}})
    with Journal(tmp_path) as journal:
        journal.record([(request, reply)])
    with Journal(tmp_path) as journal:
        assert journal.set_aside == 0
        assert replies_in(journal) == [(request.key, reply)]


def test_what_is_recorded_is_on_disk_at_once(tmp_path: Path) -> None:
    """Another connection sees the reply before the journal is closed; WAL and a flush a commit are set (FULL is 2)."""
    requests = asked(1)
    with Journal(tmp_path) as journal:
        journal.set_requests(requests, "digest")
        journal.record([(requests[0], ok(2))])
        with Journal(tmp_path, read_only=True) as reader:
            assert reader.counts() == {"ann": {"ok": 1}}
        assert journal._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert journal._connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_failed_record_makes_room_and_a_final_one_stays(tmp_path: Path) -> None:
    failed, final = asked(2)
    with Journal(tmp_path) as journal:
        journal.set_requests([failed, final], "digest")
        journal.record([(failed, not_ok("failed")), (final, not_ok("refusal"))])
        journal.record([(failed, ok(1)), (final, ok(1))])
        assert journal.counts() == {"ann": {"ok": 1, "refusal": 1}}
        attempts = journal._connection.execute("SELECT attempts FROM replies ORDER BY key").fetchall()
    assert attempts == [(2,), (1,)]


def test_requests_are_replaced_and_replies_stay(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.set_requests(asked(3), "first")
        journal.record([(request, ok(0)) for request in asked(3)])
        journal.set_requests(asked(2, "bob"), "second")
        assert journal.requests_digest() == "second"
        assert journal.pending() == [0, 1]
        assert list(journal.rows("status")) == []
        journal.set_requests(asked(3), "first")
        assert journal.pending() == []


def test_setting_requests_is_all_or_nothing(tmp_path: Path) -> None:
    def interrupted():
        yield asked(1)[0]
        raise KeyboardInterrupt

    with Journal(tmp_path) as journal:
        journal.set_requests(asked(3), "first")
        with pytest.raises(KeyboardInterrupt):
            journal.set_requests(interrupted(), "second")
        assert journal.requests_digest() == "first"
        assert journal.pending() == [0, 1, 2]


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (
            Reply(-1, None, "ok", "?", None, 0.1),
            "A reply must have an answer in 0..2 with status 'ok', or -1 with another status; got -1 with 'ok' for "
            "persona 'ann' and question 'q0'.",
        ),
        (Reply(2, None, "refusal", "?", None, 0.1), "got 2 with 'refusal'"),
        (Reply(0, (0.5, 0.6, 0.1), "ok", "A", None, 0.1), "sum to 1; got (0.5, 0.6, 0.1)"),
        (Reply(0, (0.5, 0.6, -0.1), "ok", "A", None, 0.1), "at least 0"),
        (Reply(0, (float("nan"), 0.5, 0.5), "ok", "A", None, 0.1), "got (nan, 0.5, 0.5)"),
    ],
)
def test_a_reply_that_contradicts_itself_is_not_recorded(tmp_path: Path, reply: Reply, message: str) -> None:
    with Journal(tmp_path) as journal:
        with pytest.raises(ValueError, match=re.escape(message)):
            journal.record([(asked(1)[0], reply)])
        assert replies_in(journal) == []


# --- Money ---


def paid(prompt: int, completion: int, status: str = "ok") -> Reply:
    reply = ok(0) if status == "ok" else not_ok(status)
    return reply._replace(usage={"prompt_tokens": prompt, "completion_tokens": completion})


def test_spending_counts_every_reply_ever_paid_for(tmp_path: Path) -> None:
    """0.5 + 0.25 + 2 + 0.125 USD; 10 + 20 + 30 + 40 + 5 and 1 + 2 + 3 + 4 + 6 tokens.

    The first request failed when it was already paid for, and was asked again; the third belongs to an earlier plan; the
    fourth is damaged afterwards; the fifth has no price; the sixth took no tokens.
    """
    requests = asked(6)
    with Journal(tmp_path) as journal:
        assert journal.spending() == Spending(0.0, 0, 0, 0, 0)
        journal.set_requests(requests, "first")
        journal.record([(requests[0], paid(10, 1, "failed")), (requests[2], paid(30, 3))], [0.5, 2.0])
        journal.record([(requests[0], paid(20, 2))], [0.25])
        journal.record([(requests[3], paid(40, 4, "refusal"))], [0.125])
        journal.record([(requests[4], paid(5, 6)), (requests[5], ok(1)._replace(usage=None))])
        expected = Spending(2.875, 105, 16, 6, 1)
        assert journal.spending() == expected
        journal.set_requests(requests[:2], "second")
        assert journal.spending() == expected
    damage(tmp_path, "answer = 2", "key = 'ann-key-3'")
    with Journal(tmp_path, read_only=True) as reader:
        assert reader.spending() == expected
    with Journal(tmp_path) as journal:
        assert (journal.set_aside, journal.spending()) == (1, expected)


def test_a_reply_without_tokens_that_a_server_sent_is_of_unknown_price(tmp_path: Path) -> None:
    """Five were sent: two with a reason for their end, one of them failed, one with tokens, and one failed after a try.

    Replaced by others, the failed ones stay counted. What no server sent is not, nor a failure without a reply.
    """
    finished = ok(0)._replace(usage=None, detail={"finish_reason": "stop"})
    tried = not_ok("failed")._replace(detail={"error": "?", "tries": 1})
    failed = not_ok("failed")._replace(detail={"finish_reason": "stop", "error": "a reply that is empty"})
    never = not_ok("failed")._replace(raw=None, detail={"error": "refused"})
    requests = asked(6)
    replies = [finished, tried, failed, paid(10, 1), never, ok(1)._replace(usage=None)]
    with Journal(tmp_path) as journal:
        journal.record(list(zip(requests, replies, strict=True)))
        assert journal.spending() == Spending(0.0, 10, 1, 5, 4)
        with journal.transaction() as connection:
            connection.execute("UPDATE replies SET cost_usd = 1 WHERE key = ?", (requests[1].key,))
        assert journal.spending() == Spending(1.0, 10, 1, 5, 3)
        journal.record([(request, paid(20, 2)) for request in (requests[1], requests[2], requests[4])], [0.5, 0.5, 0.5])
        assert journal.spending() == Spending(2.5, 70, 7, 8, 3)


def test_tokens_that_are_no_numbers_count_as_none(tmp_path: Path) -> None:
    usages = [{}, {"prompt_tokens": "many"}, {"prompt_tokens": None}, {"prompt_tokens": [7]}, {"total_tokens": 8}]
    with Journal(tmp_path) as journal:
        journal.record(
            [(request, ok(0)._replace(usage=usage)) for request, usage in zip(asked(5), usages, strict=True)]
        )
        assert journal.spending() == Spending(0.0, 0, 0, 5, 5)


def test_a_final_reply_that_comes_again_is_neither_stored_nor_counted(tmp_path: Path) -> None:
    (request,) = asked(1)
    with Journal(tmp_path) as journal:
        journal.record([(request, paid(20, 2))], [0.25])
        journal.record([(request, paid(30, 3))], [0.5])
        assert journal.spending() == Spending(0.25, 20, 2, 1, 0)


# --- What others do with the journal ---


def test_a_transaction_is_all_or_nothing(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        with journal.transaction() as connection:
            connection.execute("CREATE TABLE numbers (id TEXT)")
        with contextlib.suppress(KeyboardInterrupt), journal.transaction() as connection:
            connection.execute("INSERT INTO numbers VALUES ('a')")
            raise KeyboardInterrupt
        with journal.transaction() as connection:
            assert connection.execute("SELECT * FROM numbers").fetchall() == []


def test_a_snapshot_is_of_one_moment(tmp_path: Path) -> None:
    requests = asked(2)
    with Journal(tmp_path) as journal:
        journal.set_requests(requests, "digest")
        journal.record([(requests[0], ok(0))])
        with Journal(tmp_path, read_only=True) as reader:
            with reader.snapshot():
                assert reader.counts() == {"ann": {"ok": 1}}
                journal.record([(requests[1], ok(0))])
                assert reader.counts() == {"ann": {"ok": 1}}
            assert reader.counts() == {"ann": {"ok": 2}}


def test_a_storytellers_ok_has_no_answer(tmp_path: Path) -> None:
    (request,) = asked(1)
    with Journal(tmp_path, stories=True) as journal:
        with pytest.raises(ValueError, match="storyteller") as error:
            journal.record([(request, ok(0))])
        assert str(error.value) == (
            "A storyteller's reply must have a status and no answer; got 0 with 'ok' and probabilities (0.5, 0.25, 0.25) "
            "for persona 'ann' and question 'q0'."
        )
        journal.record([(request, ok(0)._replace(answer=-1, probabilities=None))])
        assert journal._connection.execute("SELECT status, answer FROM replies").fetchall() == [("ok", -1)]


# --- What the journal keeps about the run ---


def test_the_run_key_is_made_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with Journal(tmp_path / "a") as journal:
        key = journal.run_key()
        assert re.fullmatch("[0-9a-f]{32}", key)
        assert journal.run_key("another") == journal.noted("run_key") == key
    (tmp_path / "b").mkdir()
    with Journal(tmp_path / "b") as journal:
        assert journal.run_key("of the manifest") == "of the manifest"
    with Journal(tmp_path / "b") as journal:
        assert journal.run_key() == "of the manifest"


# --- Damage ---


@pytest.mark.parametrize(
    "change",
    [
        "answer = 1",
        "status = 'refusal'",
        "raw = 'C'",
        "persona = 'bob'",
        "probabilities = NULL",
        "usage = '{'",
        "raw = x'ff'",
        "raw = CAST(x'ff' AS TEXT)",
    ],
)
def test_a_changed_record_is_set_aside_counted_and_asked_again(
    tmp_path: Path, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    filled(tmp_path, 6)
    damage(tmp_path, change, "key = 'ann-key-3'")
    with Journal(tmp_path, read_only=True) as reader:
        (rows,) = reader.rows("question_id")
        assert rows == [(f"q{n}", n != 3) for n in range(6)]
    with Journal(tmp_path) as journal:
        assert journal.set_aside == 1
        assert journal.pending() == [3]
        assert journal._connection.execute("SELECT key FROM set_aside").fetchall() == [("ann-key-3",)]
    assert caplog.messages == [
        f"1 damaged records of {tmp_path / 'journal.sqlite'} are set aside and will be asked again."
    ]


def test_a_damaged_page_costs_only_its_own_records(tmp_path: Path) -> None:
    """300 records of some 2 kB fill about 150 pages of 4 kB; three of them are overwritten."""
    requests = filled(tmp_path, 300, raw="x" * 1800)
    path = tmp_path / "journal.sqlite"
    with path.open("r+b") as file:
        size = path.stat().st_size
        for page in (size // 4096 // 2, size // 4096 // 2 + 7, size // 4096 - 30):
            file.seek(page * 4096)
            file.write(b"\xa5" * 4096)
    with Journal(tmp_path) as journal:
        kept = dict(replies_in(journal))
        assert 280 <= len(kept) < 300
        assert len(kept) + journal.set_aside == 300
        journal.set_requests(requests, "digest")
        assert len(journal.pending()) == journal.set_aside
    assert all(reply.raw == "x" * 1800 for reply in kept.values())
    assert (tmp_path / "journal.sqlite.damaged-1").stat().st_size == size
    with Journal(tmp_path) as journal:
        assert (journal.set_aside, dict(replies_in(journal))) == (0, kept)


def test_a_file_cut_short_keeps_what_is_left(tmp_path: Path) -> None:
    filled(tmp_path, 300, raw="x" * 1800)
    path = tmp_path / "journal.sqlite"
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with Journal(tmp_path) as journal:
        kept = dict(replies_in(journal))
        assert journal.repaired
    assert 50 <= len(kept) < 300
    assert kept["ann-key-0"] == ok(0)._replace(raw="x" * 1800)


def test_a_write_ahead_log_cut_short_loses_only_its_end(tmp_path: Path) -> None:
    requests = asked(40)
    journal = Journal(tmp_path)
    journal.set_requests(requests, "digest")
    for n, request in enumerate(requests):
        journal.record([(request, ok(n % 3))])
    # A copy of the files while the journal is open is what a kill leaves behind.
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("journal.sqlite", "journal.sqlite-wal"):
        (copy / name).write_bytes((tmp_path / name).read_bytes())
    journal.close()
    with (copy / "journal.sqlite-wal").open("r+b") as file:
        file.truncate((copy / "journal.sqlite-wal").stat().st_size - 5000)
    with Journal(copy) as journal:
        pending = journal.pending()
    assert pending
    assert pending == list(range(pending[0], 40))
    assert pending[0] >= 35


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **options: real(*a, **{**options, "timeout": 0.05}))


@pytest.mark.parametrize("holding", [("PRAGMA locking_mode = EXCLUSIVE", "BEGIN EXCLUSIVE"), ("BEGIN IMMEDIATE",)])
def test_a_journal_in_use_is_not_damaged(tmp_path: Path, impatient: None, holding: tuple[str, ...]) -> None:
    filled(tmp_path, 3)
    with contextlib.closing(sqlite3.connect(tmp_path / "journal.sqlite", isolation_level=None)) as holder:
        for statement in holding:
            holder.execute(statement)
        with pytest.raises(OSError, match="must be writable; got database is locked at"):
            Journal(tmp_path)
        if len(holding) == 2:
            with pytest.raises(OSError, match="readable") as error, Journal(tmp_path, read_only=True) as journal:
                journal.counts()
            assert "That is no damage. Wait until the program ends" in str(error.value)
    assert not list(tmp_path.glob("*damaged*"))
    with Journal(tmp_path) as journal:
        assert len(replies_in(journal)) == 3


def test_a_folder_that_may_not_be_written_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write everything, so that SQLite's index beside the file tells whether it tried to."""
    filled(tmp_path, 3)
    with Journal(tmp_path, read_only=True) as reader:
        reader.counts()
    for path in tmp_path.glob("journal.sqlite-*"):
        path.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: False)
        with Journal(tmp_path, read_only=True) as reader:
            assert reader.counts() == {"ann": {"ok": 3}}
            assert [path.name for path in tmp_path.iterdir()] == ["journal.sqlite"]
    # What a writer has not closed is read with its log, or not at all: never without its newest replies.
    with Journal(tmp_path) as journal:
        journal.record([(asked(1, "bob")[0], ok(0))])
        monkeypatch.setattr(os, "access", lambda path, mode: False)
        with Journal(tmp_path, read_only=True) as reader:
            assert len(replies_in(reader)) == 4
        error = sqlite3.OperationalError("unable to open database file")
        error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
        assert "has not closed it" in str(database.cannot_read(error, journal.path))


def test_a_file_that_is_no_journal_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(OSError, match="must be an SQLite file") as error:
        Journal(tmp_path)
    assert str(error.value) == (
        f"The journal must be an SQLite file with replies; got file is not a database at {path}. Nothing in it can be "
        "read. Restore it from a copy, or move it away to ask every question again."
    )
    assert path.read_bytes() == b"not a database" * 1000
    assert [file.name for file in tmp_path.iterdir()] == ["journal.sqlite"]


def test_a_full_disk_is_an_error_and_earlier_replies_are_kept(tmp_path: Path) -> None:
    requests = asked(2)
    with Journal(tmp_path) as journal:
        journal.set_requests(requests, "digest")
        journal.record([(requests[0], ok(0))])
        pages = journal._connection.execute("PRAGMA page_count").fetchone()[0]
        journal._connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(OSError, match="must be writable") as error:
            journal.record([(requests[1], ok(0)._replace(raw="x" * 100_000))])
    assert str(error.value) == (
        f"The journal must be writable; got database or disk is full at {tmp_path / 'journal.sqlite'}. Earlier replies "
        "are kept. Make room or mend the access, then continue the run."
    )
    with Journal(tmp_path) as journal:
        assert journal.pending() == [1]
