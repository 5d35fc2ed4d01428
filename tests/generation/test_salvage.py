"""A damaged journal, killed and disturbed while it is repaired."""

import contextlib
import os
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from generation_fixtures import ok

from fairpp_hf.generation import journal as journal_module
from fairpp_hf.generation import salvage
from fairpp_hf.generation.journal import AskedRequest, Journal
from fairpp_hf.generation.setup import check_journal_exists, check_journal_filled


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
    """Open a journal in a process that is killed after so many steps of a salvage; returns whether it was."""
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
        for name in ("_remove", "_copy_readable", "_copy_whole", "_put_in_place", "_sync"):
            setattr(salvage, name, counted(getattr(salvage, name)))
        setattr(Path, "rename", counted(Path.rename))  # noqa: B010
        with Journal(run):
            pass
    finally:
        os._exit(0)


def test_a_salvage_that_is_killed_at_any_step_loses_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At every moment there is the damaged journal or the new one, or the next call finishes what was begun."""
    seen = set()
    for steps in range(100):
        run = tmp_path / f"{steps}"
        run.mkdir()
        filled(run, 40)
        with Journal(run) as journal:
            before, key = dict(journal.replies()), journal.run_key()
        damage_table(run, "requests")
        damaged = (run / "journal.sqlite").read_bytes()
        was_killed = killed_after(steps, run)
        names = {path.name for path in run.iterdir()}
        seen.add(frozenset(names))
        if "journal.sqlite" not in names:
            assert {"journal.sqlite.new", "journal.sqlite.damaged-1"} <= names
            check_journal_exists(run, {"a": "manifest"})
            with pytest.raises(OSError, match="cut short") as error:
                Journal(run, read_only=True)
            assert str(error.value) == (
                f"The journal must be whole; got one whose repair was cut short at {run / 'journal.sqlite'}. Run "
                f"`fairpp generate --run {run}` again: it finishes that."
            )
        with Journal(run) as journal:
            assert (dict(journal.replies()), journal.run_key()) == (before, key)
            assert journal.salvaged
            check_journal_filled(journal, {"a": "manifest"})
        assert (run / "journal.sqlite.damaged-1").read_bytes() == damaged
        assert sorted(path.name for path in run.iterdir()) == ["journal.sqlite", "journal.sqlite.damaged-1"]
        if not was_killed:
            break
    assert not was_killed
    assert len(seen) >= 4
    assert sum(message.startswith("The repair of the journal") for message in caplog.messages) >= 1


def test_the_log_of_a_damaged_journal_is_never_taken_for_the_new_ones(tmp_path: Path) -> None:
    """A kill after the first rename: the damaged file has its new name, its log not yet."""
    filled(tmp_path, 40)
    damage_table(tmp_path, "requests")
    with Journal(tmp_path) as journal:
        before = dict(journal.replies())
    path = tmp_path / "journal.sqlite"
    path.rename(tmp_path / "journal.sqlite.new")
    (tmp_path / "journal.sqlite-wal").write_bytes(b"the log")
    with Journal(tmp_path) as journal:
        assert dict(journal.replies()) == before
    assert (tmp_path / "journal.sqlite.damaged-1-wal").read_bytes() == b"the log"


def test_half_a_new_file_is_not_taken_for_a_journal(tmp_path: Path) -> None:
    """The user has taken the damaged journal away before it was copied."""
    with sqlite3.connect(tmp_path / "journal.sqlite.new") as connection:
        connection.execute("CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
    connection.close()
    with pytest.raises(OSError, match="A run with a manifest must have its journal"):
        check_journal_exists(tmp_path, {"a": "manifest"})


def test_a_salvage_without_room_leaves_the_damaged_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path, 40)
    damage_table(tmp_path, "requests")
    path = tmp_path / "journal.sqlite"
    damaged = path.read_bytes()

    def small(path: Path, mode: str) -> sqlite3.Connection:
        connection = connect(path, mode)
        if path.name.endswith(".new"):
            connection.execute("PRAGMA max_page_count = 3")
        return connection

    connect = salvage.connect
    with monkeypatch.context() as patch:
        patch.setattr(salvage, "connect", small)
        with pytest.raises(OSError, match="must be writable") as error:
            Journal(tmp_path)
    assert str(error.value) == (
        f"The journal must be writable; got database or disk is full at {path}. Earlier replies are kept. Make room or mend "
        "the access, then run the same command again to continue."
    )
    assert path.read_bytes() == damaged
    assert not list(tmp_path.glob("*.new*"))
    assert not list(tmp_path.glob("*.damaged-*"))
    with Journal(tmp_path) as journal:
        assert len(list(journal.replies())) == 40


def test_damage_that_a_quick_check_overlooks_is_salvaged_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path, 300, raw="x" * 1800)
    with (tmp_path / "journal.sqlite").open("r+b") as file:
        file.seek(file.seek(0, 2) // 8192 * 4096)
        file.write(b"\xa5" * 4096)
    monkeypatch.setattr(journal_module, "is_sound", lambda path: True)
    with Journal(tmp_path) as journal:
        assert journal.salvaged
        assert 290 <= len(list(journal.replies())) < 300
