"""Saves what can be read of a damaged journal, so that at no moment there is neither the damaged one nor a new one."""

import contextlib
import logging
import os
import sqlite3
from pathlib import Path
from typing import Any

from fairpp_hf.generation.database import (
    BATCHES_UNKNOWN,
    FIELDS,
    IN_USE,
    LEDGER_TABLES,
    SALVAGED,
    TABLES,
    cannot_write,
    code_of,
    connect,
    has_log,
    insert,
    is_damage,
    show_as_upgraded,
)

logger = logging.getLogger(__name__)

# Errors that say nothing about the record that was being read.
_OF_THE_SYSTEM = (
    *IN_USE,
    *(
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
    ),
    *(sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_AUTH),
)
_BLOCK = 1000
_SMALLEST_RECORD = 100  # bytes


def is_sound(path: Path) -> bool:
    """Whether SQLite finds nothing wrong with the structure of the file.

    Raises:
        sqlite3.Error: it cannot tell, since the file is in use or out of reach.
    """
    with contextlib.closing(connect(path, "rw")) as connection:
        try:
            return connection.execute("PRAGMA quick_check(1)").fetchall() == [("ok",)]
        except sqlite3.DatabaseError as error:
            if is_damage(error):
                return False
            raise


def salvage(path: Path) -> int:
    """Replace a damaged file by one with the records that can be read, and keep the damaged file beside it.

    The damaged file stays where it is until the new one is whole and on disk. A successor of a killed process so finds
    either of them, or, between two renames, none and the new one complete beside it: see `finish_salvage`.

    Returns:
        How many records could not be read, not counting those beyond the end of a file that was cut short.

    Raises:
        OSError: nothing in the file can be read, or the new one cannot be written; it is left as it was.
    """
    fresh = _fresh(path)
    _remove(fresh)
    try:
        with contextlib.closing(connect(path, "ro")) as source, contextlib.closing(connect(fresh, "rwc")) as target:
            saved, lost = _copy(source, target, path)
        kept = _put_in_place(path)
    except (sqlite3.Error, OSError) as error:
        if isinstance(error, OSError) and error.errno is None:
            raise  # it says what it is
        raise cannot_write(error, path) from error
    finally:
        if path.exists():
            _remove(fresh)
    logger.warning(
        "The journal %s was damaged: %d records were saved, at least %d others will be asked again. "
        "The damaged file is kept as %s.",
        path,
        saved,
        lost,
        kept.name,
    )
    return lost


def finish_salvage(path: Path) -> None:
    """Put the new file in place where a process was killed between the two renames of `salvage`.

    Raises:
        OSError: the folder cannot be written.
    """
    if is_half_salvaged(path):
        try:
            kept = _put_in_place(path)
        except OSError as error:
            raise cannot_write(error, path) from error
        logger.warning("The repair of the journal %s is finished. The damaged file is kept as %s.", path, kept.name)


def is_half_salvaged(path: Path) -> bool:
    """Whether the damaged file was put aside, and the new one is whole and not yet in its place."""
    if path.exists() or not _fresh(path).exists():
        return False
    try:
        with contextlib.closing(connect(_fresh(path), "rw")) as connection:
            return connection.execute("SELECT 1 FROM meta WHERE name = ?", (SALVAGED,)).fetchone() is not None
    except sqlite3.Error:
        return False  # somebody has taken the damaged file away before the new one was whole


def _fresh(path: Path) -> Path:
    return path.with_name(f"{path.name}.new")


def _remove(path: Path) -> None:
    for suffix in ("", "-journal"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def _put_in_place(path: Path) -> Path:
    """Rename the damaged file, with the log that SQLite finds by its name, and then the new one; returns the former's name.

    A log that stayed would be taken for one of the new file.
    """
    number = 1
    while (kept := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    if not path.exists():  # it has its name already, and only its log may be missing
        kept = path.with_name(f"{path.name}.damaged-{max(number - 1, 1)}")
    _sync(path.parent)
    if path.exists():
        path.rename(kept)
    if has_log(path):
        Path(f"{path}-wal").rename(f"{kept}-wal")
    for suffix in ("-wal", "-shm"):  # an empty log, and an index of it
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    _sync(path.parent)
    _fresh(path).rename(path)
    _sync(path.parent)
    return kept


def _sync(folder: Path) -> None:
    """Have the names in a folder on disk, where folders can be opened."""
    if os.name == "nt":  # it keeps names in a journal of its own
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _copy(source: sqlite3.Connection, target: sqlite3.Connection, path: Path) -> tuple[int, int]:
    """Copy what can be read, in one transaction; returns how many records were saved, and how many were not."""
    source.execute("PRAGMA temp_store = MEMORY")
    source.execute("PRAGMA writable_schema = ON")  # lets SQLite read a file that is shorter than its header says
    try:
        show_as_upgraded(source)
        last = _last_rowid(source, path)
        ledger = source.execute(
            f"SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name IN {LEDGER_TABLES}"
        ).fetchall()
    except sqlite3.DatabaseError as error:
        if code_of(error) in _OF_THE_SYSTEM:
            raise
        raise OSError(
            f"The journal must be an SQLite file with replies; got {error} at {path}. Nothing in it can be read. "
            "Restore it from a copy, or move it away to ask every question again."
        ) from error
    target.execute("PRAGMA synchronous = FULL")
    target.executescript(TABLES)
    target.execute("BEGIN")
    saved, highest = _copy_readable(source, target, "replies", last)
    for table in ("replaced", "set_aside"):
        # What was paid for; where nothing of it can be read, the replies still are.
        try:
            last = source.execute(f"SELECT max(rowid) FROM {table}").fetchone()[0] or 0
        except sqlite3.DatabaseError as error:
            if code_of(error) in _OF_THE_SYSTEM:
                raise
        else:
            _copy_readable(source, target, table, last)
    has_notes = _copy_whole(source, target, "meta")
    target.execute("DELETE FROM meta WHERE name = 'requests_digest'")  # the requests are made anew
    if not _copy_whole(source, target, "elsewhere"):
        logger.warning(
            "Which requests the parts of %s have in batches could not be read. Merge the parts again before it asks.",
            path.parent,
        )
    for _, statement in ledger:
        target.execute(statement)
    # Half a ledger would be worse than none: without one, every batch is looked for at the provider.
    if ledger and not all([has_notes, *(_copy_whole(source, target, name) for name, _ in ledger)]):
        for name, _ in ledger:
            target.execute(f"DELETE FROM {name}")
        target.execute("INSERT OR REPLACE INTO meta VALUES (?, '1')", (BATCHES_UNKNOWN,))
    target.execute("INSERT OR REPLACE INTO meta VALUES (?, '1')", (SALVAGED,))
    target.execute("COMMIT")
    return saved, highest - saved


def _copy_whole(source: sqlite3.Connection, target: sqlite3.Connection, table: str) -> bool:
    """Copy a table that is of use only as a whole; returns whether all of it could be read."""
    target.execute("SAVEPOINT whole")
    try:
        rows = source.execute(f"SELECT * FROM {table}")
        marks = ", ".join("?" * len(rows.description))
        target.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
    except sqlite3.DatabaseError as error:
        if code_of(error) in _OF_THE_SYSTEM:
            raise
        target.execute("ROLLBACK TO whole")
        return False
    else:
        return True
    finally:
        if target.in_transaction:
            target.execute("RELEASE whole")


def _last_rowid(source: sqlite3.Connection, path: Path) -> int:
    """The last rowid of the replies, or an upper bound where their last page is damaged."""
    source.execute("SELECT rowid FROM replies WHERE rowid = 0").fetchall()  # raises if there is nothing to read at all
    try:
        return source.execute("SELECT max(rowid) FROM replies").fetchone()[0] or 0
    except sqlite3.DatabaseError as error:
        if code_of(error) in _OF_THE_SYSTEM:
            raise
        return path.stat().st_size // _SMALLEST_RECORD


def _copy_readable(source: sqlite3.Connection, target: sqlite3.Connection, table: str, last: int) -> tuple[int, int]:
    """Copy the records with rowids up to `last` that can be read; returns how many, and the highest rowid among them."""
    saved, highest = 0, 0
    for first in range(1, last + 1, _BLOCK):
        rows = _readable_rows(source, table, first, min(first + _BLOCK - 1, last))
        if rows:
            highest = rows[-1][0]
            saved += target.executemany(insert("OR IGNORE", table), (row[1:] for row in rows)).rowcount
    return saved, highest


def _readable_rows(source: sqlite3.Connection, table: str, first: int, last: int) -> list[tuple[Any, ...]]:
    """The records with rowids in first..last, rowid in front, without those on damaged pages."""
    query = f"SELECT rowid, {FIELDS} FROM {table} WHERE rowid BETWEEN ? AND ?"
    try:
        return source.execute(query, (first, last)).fetchall()
    except sqlite3.DatabaseError as error:
        if code_of(error) in _OF_THE_SYSTEM:
            raise
        if first == last:
            return []
        middle = (first + last) // 2
        return _readable_rows(source, table, first, middle) + _readable_rows(source, table, middle + 1, last)
