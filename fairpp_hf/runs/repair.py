"""Saves what can be read of a damaged journal.

The log is folded into the damaged file, what can be read is copied into a new one, and `os.replace` puts it in place: at
every moment there is either the damaged journal or the new one, whole. The damaged file stays beside it.
"""

import contextlib
import logging
import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

from fairpp_hf.runs.database import (
    BATCHES_UNKNOWN,
    IN_USE,
    REPAIRED,
    TABLES,
    cannot_write,
    code_of,
    connect,
    has_log,
    is_damage,
)
from fairpp_hf.runs.layout import BATCHES

logger = logging.getLogger(__name__)

# Other errors say something about the record that was being read.
_OF_THE_SYSTEM = (
    *(*IN_USE, sqlite3.SQLITE_PERM, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_INTERRUPT),
    *(sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_AUTH),
)
_BLOCK = 1000
_SMALLEST_RECORD = 100  # bytes


def is_sound(path: Path) -> bool:
    """Whether SQLite finds nothing wrong with the structure of the file.

    Raises:
        sqlite3.Error: It cannot tell, because the file is in use or out of reach.
    """
    with contextlib.closing(connect(path, "rw")) as connection:
        try:
            return connection.execute("PRAGMA quick_check(1)").fetchall() == [("ok",)]
        except sqlite3.DatabaseError as error:
            if is_damage(error):
                return False
            raise


def repair(path: Path) -> int:
    """Replace a damaged file by one with the records that can be read, and keep the damaged file beside it.

    Returns:
        How many records could not be read, not counting those beyond the end of a file that was cut short.

    Raises:
        OSError: Nothing in the file can be read, or the new one cannot be written; the file is left as it was.
    """
    fresh = path.with_name(f"{path.name}.new")
    number = 1
    # A link of somebody else's may point to nothing, and would be written through.
    while os.path.lexists(damaged := path.with_name(f"{path.name}.damaged-{number}")):
        number += 1
    _remove(fresh)
    try:
        with contextlib.closing(connect(path, "rw")) as source:
            with contextlib.closing(connect(fresh, "rwc")) as target:
                saved, lost = _copy(source, target, path)
            _fold_log(source, path, damaged)
        shutil.copyfile(path, damaged)
        # What is left of the old file's log is empty, and must not be taken for the new one's.
        _remove(Path(f"{path}-wal"), Path(f"{path}-shm"))
        _sync(damaged, path.parent)
        os.replace(fresh, path)
        _sync(path.parent)
    except (sqlite3.Error, OSError) as error:
        _remove(fresh)
        if isinstance(error, OSError) and error.errno is None:
            raise  # it says what it is
        raise cannot_write(error, path) from error
    logger.warning(
        "The journal %s was damaged: %d records were saved, at least %d others will be asked again. "
        "The damaged file is kept as %s.",
        path,
        saved,
        lost,
        damaged.name,
    )
    return lost


def _fold_log(source: sqlite3.Connection, path: Path, damaged: Path) -> None:
    """Bring the log's changes into the damaged file, or keep the log beside the copy where that cannot be done."""
    try:
        if source.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
            raise OSError(
                f"The journal must not be in use while it is repaired; got another reader of {path}. Close it."
            )
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        if has_log(path):
            shutil.copyfile(f"{path}-wal", f"{damaged}-wal")


def _remove(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
        Path(f"{path}-journal").unlink(missing_ok=True)


def _sync(*paths: Path) -> None:
    """Force files and folders to the disk, where the system can do that for folders."""
    for path in paths:
        with contextlib.suppress(OSError):
            number = os.open(path, os.O_RDONLY)
            try:
                os.fsync(number)
            finally:
                os.close(number)


def _copy(source: sqlite3.Connection, target: sqlite3.Connection, path: Path) -> tuple[int, int]:
    """Copy what can be read; returns how many replies could be, and how many others there were up to the last of them."""
    source.execute("PRAGMA writable_schema = ON")  # lets SQLite read a file that is shorter than its header says
    try:
        last = _last_rowid(source, "replies", path)
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
    # Paid for, too; where nothing of it can be read, the replies still are.
    for table in ("replaced", "set_aside", "unclaimed", "elsewhere"):
        try:
            _copy_readable(source, target, table, _last_rowid(source, table, path))
        except sqlite3.DatabaseError as error:
            if code_of(error) in _OF_THE_SYSTEM:
                raise
            advice = " If the run is a merge, merge its parts again before it asks." if table == "elsewhere" else ""
            logger.warning("The table %r of %s could not be read.%s", table, path, advice)
    # Half a ledger would be worse than none: without one, every batch is looked for at the provider.
    ledger = ("batches", "batch_requests")
    copied = [_copy_whole(source, target, name) for name in ("meta", *ledger)]
    if not all(copied):
        for name in ledger:
            target.execute(f"DELETE FROM {name}")
        if (path.parent / BATCHES).is_dir():
            target.execute("INSERT OR REPLACE INTO meta VALUES (?, '1')", (BATCHES_UNKNOWN,))
    target.execute("DELETE FROM meta WHERE name = 'requests_digest'")  # the requests are made anew
    target.execute("INSERT OR REPLACE INTO meta VALUES (?, '1')", (REPAIRED,))
    target.execute("COMMIT")
    return saved, highest - saved


def _copy_whole(source: sqlite3.Connection, target: sqlite3.Connection, table: str) -> bool:
    """Copy a table that is of use only as a whole; returns whether all of it could be read."""
    target.execute("SAVEPOINT whole")
    try:
        rows = source.execute(f"SELECT * FROM {table}")
        marks = ", ".join("?" * len(rows.description))
        target.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
        return True
    except sqlite3.DatabaseError as error:
        if code_of(error) in _OF_THE_SYSTEM:
            raise
        target.execute("ROLLBACK TO whole")
        return False
    finally:
        if target.in_transaction:
            target.execute("RELEASE whole")


def _last_rowid(source: sqlite3.Connection, table: str, path: Path) -> int:
    """The last rowid of a table, or an upper bound where its last page is damaged."""
    source.execute(f"SELECT rowid FROM {table} WHERE rowid = 0").fetchall()  # raises if there is nothing to read at all
    try:
        return source.execute(f"SELECT max(rowid) FROM {table}").fetchone()[0] or 0
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
            statement = f"INSERT OR IGNORE INTO {table} VALUES ({', '.join('?' * (len(rows[0]) - 1))})"
            saved += target.executemany(statement, (row[1:] for row in rows)).rowcount
    return saved, highest


def _readable_rows(source: sqlite3.Connection, table: str, first: int, last: int) -> list[tuple[Any, ...]]:
    """The records with rowids in first..last, rowid in front, without those on damaged pages."""
    query = f"SELECT rowid, * FROM {table} WHERE rowid BETWEEN ? AND ?"
    try:
        return source.execute(query, (first, last)).fetchall()
    except sqlite3.DatabaseError as error:
        if code_of(error) in _OF_THE_SYSTEM:
            raise
        if first == last:
            return []
        middle = (first + last) // 2
        return _readable_rows(source, table, first, middle) + _readable_rows(source, table, middle + 1, last)
