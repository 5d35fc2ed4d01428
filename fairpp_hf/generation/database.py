"""The SQLite file behind the journal: tables, checksums, and saving what can be read of a damaged file."""

import contextlib
import logging
import sqlite3
import zlib
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

FIELDS = (
    "key, question_id, persona, status, answer, p_a, p_b, p_c, raw, usage, detail, latency_s, created_at, attempts, "
    "checksum, cost_usd"
)
TABLES = f"""
CREATE TABLE IF NOT EXISTS replies (
    key TEXT PRIMARY KEY,
    question_id TEXT NOT NULL,
    persona TEXT NOT NULL,
    status TEXT NOT NULL,
    answer INTEGER NOT NULL,
    p_a REAL, p_b REAL, p_c REAL,
    raw,
    usage TEXT,
    detail TEXT,
    latency_s REAL NOT NULL,
    created_at REAL NOT NULL,
    attempts INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    cost_usd REAL
);
CREATE TABLE IF NOT EXISTS requests (
    position INTEGER PRIMARY KEY,
    key TEXT NOT NULL,
    question_id TEXT NOT NULL,
    persona TEXT NOT NULL,
    sample INTEGER NOT NULL DEFAULT 0,
    swapped INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS set_aside AS SELECT * FROM replies WHERE false;
CREATE TABLE IF NOT EXISTS replaced AS SELECT * FROM replies WHERE false;
CREATE INDEX IF NOT EXISTS replaced_by_key ON replaced (key);
CREATE INDEX IF NOT EXISTS set_aside_by_key ON set_aside (key);
CREATE TRIGGER IF NOT EXISTS keep_what_was_paid_for BEFORE UPDATE ON replies
WHEN old.status = 'failed' AND old.usage IS NOT NULL
BEGIN
    INSERT INTO replaced ({FIELDS}) VALUES ({", ".join(f"old.{name}" for name in FIELDS.split(", "))});
END;
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
"""`requests` are those that the run now asks; `replies` are all that ever came, one a key. Beside them lie the replies that
no longer count and were paid for: damaged ones (`set_aside`), and failed ones that another has `replaced`."""
ADDED_COLUMNS = {
    "replies": {"cost_usd": "REAL"},
    "set_aside": {"cost_usd": "REAL"},
    "requests": {"sample": "INTEGER NOT NULL DEFAULT 0", "swapped": "INTEGER NOT NULL DEFAULT 0"},
}
"""Columns that the first journals lack, by table."""
# The checksum covers what decides the data; the number of attempts changes within SQLite.
CHECKSUM_FIELDS = ("key", "question_id", "persona", "status", "answer", "p_a", "p_b", "p_c", "raw", "usage", "detail")
_NUMBERS = ("answer", "p_a", "p_b", "p_c")
_BLOCK = 1000
_SMALLEST_RECORD = 100  # bytes


def insert(how: str = "", table: str = "replies") -> str:
    """The SQL statement that inserts a record, with a `?` for each of `FIELDS`.

    Args:
        how: such as `"OR IGNORE"`.
        table: `replies` or one of the same columns.
    """
    return f"INSERT {how} INTO {table} ({FIELDS}) VALUES ({', '.join('?' * len(FIELDS.split(', ')))})"


def checksum(*fields: Any) -> int:
    """CRC-32 over the fields, texts as the bytes that are in the file: damage may leave bytes that are no text."""
    return zlib.crc32(repr([field.encode() if isinstance(field, str) else field for field in fields]).encode())


def intact(table: str = "replies") -> str:
    """The SQL condition that a record matches its checksum."""
    fields = (f"{table}.{name}" if name in _NUMBERS else f"CAST({table}.{name} AS BLOB)" for name in CHECKSUM_FIELDS)
    return f"{table}.checksum = fairpp_checksum({', '.join(fields)})"


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """Open an SQLite file.

    Args:
        path: the file.
        mode: `"ro"`, `"rw"`, or `"rwc"` to create it.
    """
    # The runner may work in another thread than the one that opened the journal, though never in two at once.
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False, timeout=30
    )
    connection.create_function("fairpp_checksum", len(CHECKSUM_FIELDS), checksum, deterministic=True)
    # A text that is not UTF-8 is damage to be found by its checksum, not an error that hides the other records.
    connection.text_factory = lambda value: value.decode("utf-8", "replace")
    return connection


def upgrade(connection: sqlite3.Connection) -> None:
    """Create the tables and columns that are missing. A kill in between does no harm: the next call adds the rest."""
    for table, columns in ADDED_COLUMNS.items():
        present = columns_of(connection, table)
        for name, kind in columns.items():
            if present and name not in present:
                connection.execute(f"ALTER TABLE {table} ADD COLUMN {name} {kind}")
    connection.executescript(TABLES)


def show_as_upgraded(connection: sqlite3.Connection) -> None:
    """Let a reader of an earlier journal see the tables and columns that it lacks, as views of this connection alone."""
    for table, columns in ADDED_COLUMNS.items():
        present = columns_of(connection, table)
        missing = [
            f"{'NULL' if kind == 'REAL' else 0} AS {name}" for name, kind in columns.items() if name not in present
        ]
        if present and missing:
            shown = ", ".join(["rowid AS rowid", *present, *missing])
            connection.execute(f"CREATE TEMP VIEW {table} AS SELECT {shown} FROM main.{table}")
    if not columns_of(connection, "replaced"):
        connection.execute(f"CREATE TEMP VIEW replaced AS SELECT rowid AS rowid, {FIELDS} FROM replies WHERE false")


def columns_of(connection: sqlite3.Connection, table: str) -> list[str]:
    """Names of a table's columns; none where there is no such table."""
    return [name for (name,) in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))]


def is_sound(path: Path) -> bool:
    """Whether SQLite finds nothing wrong with the structure of the file."""
    with contextlib.closing(connect(path, "rw")) as connection:
        try:
            return connection.execute("PRAGMA quick_check(1)").fetchall() == [("ok",)]
        except sqlite3.DatabaseError:
            return False


def salvage(path: Path) -> int:
    """Replace a damaged file by one with the records that can be read, and keep the damaged file beside it.

    Returns:
        How many records could not be read, not counting those beyond the end of a file that was cut short.

    Raises:
        OSError: nothing in the file can be read; it is left as it was.
    """
    number = 1
    while (kept := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    _rename(path, kept)
    source = connect(kept, "rw")
    source.execute("PRAGMA writable_schema = ON")  # lets SQLite read a file that is shorter than its header says
    try:
        show_as_upgraded(source)
        last = _last_rowid(source, kept)
    except sqlite3.DatabaseError as error:
        source.close()
        _rename(kept, path)
        raise OSError(
            f"The journal must be an SQLite file with replies; got {error} at {path}. Nothing in it can be read. "
            "Restore it from a copy, or move it away to ask every question again."
        ) from error
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    target = connect(fresh, "rwc")
    target.executescript(TABLES)
    target.execute("BEGIN")
    saved, highest = _copy_readable(source, target, "replies", last)
    for table in ("replaced", "set_aside"):
        # What was paid for; where nothing of it can be read, the replies still are.
        with contextlib.suppress(sqlite3.DatabaseError):
            _copy_readable(source, target, table, source.execute(f"SELECT max(rowid) FROM {table}").fetchone()[0] or 0)
    target.execute("COMMIT")
    target.close()
    source.close()
    fresh.replace(path)
    logger.warning(
        "The journal %s was damaged: %d records were saved, at least %d others will be asked again. "
        "The damaged file is kept as %s.",
        path,
        saved,
        highest - saved,
        kept.name,
    )
    return highest - saved


def _rename(journal: Path, to: Path) -> None:
    """Rename a journal together with its write-ahead log, which SQLite finds by the name."""
    for suffix in ("", "-wal", "-shm"):
        part = Path(f"{journal}{suffix}")
        if part.exists():
            part.rename(f"{to}{suffix}")


def _last_rowid(source: sqlite3.Connection, path: Path) -> int:
    """The last rowid of the replies, or an upper bound where their last page is damaged."""
    source.execute("SELECT rowid FROM replies WHERE rowid = 0").fetchall()  # raises if there is nothing to read at all
    try:
        return source.execute("SELECT max(rowid) FROM replies").fetchone()[0] or 0
    except sqlite3.DatabaseError:
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
    except sqlite3.DatabaseError:
        if first == last:
            return []
        middle = (first + last) // 2
        return _readable_rows(source, table, first, middle) + _readable_rows(source, table, middle + 1, last)
