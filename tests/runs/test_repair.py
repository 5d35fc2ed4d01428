"""A damaged journal, killed and disturbed while it is repaired."""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from generation_fixtures import not_ok, ok, replies_in

from fairpp_hf.runs import journal as journal_module
from fairpp_hf.runs import repair
from fairpp_hf.runs.journal import AskedRequest, Journal
from fairpp_hf.runs.spending import Spending


def filled(run: Path, count: int, raw: str | None = None) -> None:
    requests = [AskedRequest(f"key-{n}", f"q{n}", "ann") for n in range(count)]
    with Journal(run) as journal:
        journal.set_requests(requests, "digest")
        journal.record([(request, ok(n % 3)._replace(raw=raw)) for n, request in enumerate(requests)])


def damage_table(run: Path, table: str) -> None:
    """Overwrite the root page of a table."""
    with contextlib.closing(sqlite3.connect(run / "journal.sqlite")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    with (run / "journal.sqlite").open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)


def killed_after(steps: int, run: Path) -> bool:
    """Open a journal in a process that is killed after so many steps of a repair; returns whether it was."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] != 0
    # From here on in the child, which never comes back to pytest.
    taken = 0

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any) -> Any:
            nonlocal taken
            taken += 1
            if taken > steps:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments)

        return step

    try:
        for name in ("_remove", "_copy_readable", "_copy_whole", "_fold_log", "_sync"):
            setattr(repair, name, counted(getattr(repair, name)))
        os.replace = counted(os.replace)
        with Journal(run):
            pass
    finally:
        os._exit(0)


def test_a_repair_that_is_killed_at_any_step_loses_nothing(tmp_path: Path) -> None:
    """At every moment there is the damaged journal or the new one, the newest replies of the log included."""
    for steps in range(100):
        run = tmp_path / f"{steps}"
        run.mkdir()
        filled(run, 40)
        with Journal(run) as journal:
            before, key = dict(replies_in(journal)), journal.run_key()
        damage_table(run, "requests")
        damaged = (run / "journal.sqlite").read_bytes()
        was_killed = killed_after(steps, run)
        assert (run / "journal.sqlite").is_file()
        with Journal(run) as journal:
            assert (dict(replies_in(journal)), journal.run_key()) == (before, key)
            assert journal.repaired
        assert (run / "journal.sqlite.damaged-1").read_bytes() == damaged
        assert not list(run.glob("*.new*"))
        if not was_killed:
            break
    assert not was_killed
    assert steps > 10


def test_what_was_paid_for_is_saved_with_the_replies(tmp_path: Path) -> None:
    """2 x 0.5 + 0.25 + 4 USD: one reply has replaced another, one is set aside, and 40 lines of a batch are unclaimed."""
    filled(tmp_path, 40)
    request, usage = AskedRequest("new", "q", "ann"), {"prompt_tokens": 10, "completion_tokens": 1}
    with Journal(tmp_path) as journal:
        journal.record([(request, not_ok("failed")._replace(usage=usage))], [0.5])
        journal.record([(request, ok(1)._replace(usage=usage))], [0.25])
        with journal.transaction() as connection:
            connection.execute("UPDATE replies SET answer = 2, cost_usd = 4 WHERE key = 'key-0'")
            connection.executemany(
                "INSERT INTO unclaimed VALUES (?, 'batch', ?, ?)",
                [(f"line-{number}", b"x" * 1800, json.dumps(usage)) for number in range(40)],
            )
    with Journal(tmp_path) as journal:
        before = journal.spending()
    assert before == Spending(4.75, 10 * 42, 42, 1 + 41 + 40, 39 + 40)
    damage_table(tmp_path, "requests")
    with Journal(tmp_path) as journal:
        assert (journal.repaired, journal.spending()) == (True, before)
    # Of the unclaimed lines, a damaged page costs its own alone.
    path = tmp_path / "journal.sqlite"
    pages = [path.read_bytes()[at : at + 4096] for at in range(0, path.stat().st_size, 4096)]
    pages[[number for number, page in enumerate(pages) if b"x" * 1000 in page][10]] = b"\xff" * 4096
    path.write_bytes(b"".join(pages))
    with Journal(tmp_path) as journal:
        assert before.replies - 4 <= journal.spending().replies < before.replies


def test_replies_in_the_log_are_saved_with_the_file(tmp_path: Path) -> None:
    """A killed process leaves a log; the damaged file is repaired with what the log has."""
    run, copy = tmp_path / "run", tmp_path / "copy"
    run.mkdir(), copy.mkdir()
    filled(run, 40)
    with Journal(run) as journal:
        journal.record([(AskedRequest("new", "q", "ann"), ok(1))])
        for name in ("journal.sqlite", "journal.sqlite-wal"):
            shutil.copyfile(run / name, copy / name)
    with contextlib.closing(sqlite3.connect(run / "journal.sqlite")) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'requests'").fetchone()
    with (copy / "journal.sqlite").open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)
    with Journal(copy) as journal:
        assert journal.repaired
        assert len(dict(replies_in(journal))) == 41


def test_a_lost_list_of_what_parts_have_in_batches_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nor does the copy of the damaged file go through a link of somebody else's."""
    filled(tmp_path, 40)
    (tmp_path / "journal.sqlite.damaged-1").symlink_to(tmp_path / "elsewhere.txt")
    damage_table(tmp_path, "elsewhere")
    with Journal(tmp_path) as journal:
        assert (journal.repaired, len(replies_in(journal))) == (True, 40)
    assert "'elsewhere'" in caplog.text
    assert "merge its parts again before it asks." in caplog.text
    assert (tmp_path / "journal.sqlite.damaged-2").is_file()
    assert not (tmp_path / "elsewhere.txt").exists()


def test_a_repair_without_room_leaves_the_damaged_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path, 40)
    damage_table(tmp_path, "requests")
    path = tmp_path / "journal.sqlite"
    damaged = path.read_bytes()

    def small(path: Path, mode: str) -> sqlite3.Connection:
        connection = connect(path, mode)
        if path.name.endswith(".new"):
            connection.execute("PRAGMA max_page_count = 3")
        return connection

    connect = repair.connect
    with monkeypatch.context() as patch:
        patch.setattr(repair, "connect", small)
        with pytest.raises(OSError, match="must be writable; got database or disk is full"):
            Journal(tmp_path)
    assert path.read_bytes() == damaged
    assert not list(tmp_path.glob("*.new*"))
    assert not list(tmp_path.glob("*.damaged-*"))
    with Journal(tmp_path) as journal:
        assert len(replies_in(journal)) == 40


def test_damage_that_a_quick_check_overlooks_is_repaired_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path, 300, raw="x" * 1800)
    with (tmp_path / "journal.sqlite").open("r+b") as file:
        file.seek(file.seek(0, 2) // 8192 * 4096)
        file.write(b"\xa5" * 4096)
    monkeypatch.setattr(journal_module, "is_sound", lambda path: True)
    with Journal(tmp_path) as journal:
        assert journal.repaired
        assert 290 <= len(replies_in(journal)) < 300
