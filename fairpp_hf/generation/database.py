"""The SQLite file behind the journal: tables, checksums, and what its errors mean."""

import os
import sqlite3
import zlib
from pathlib import Path
from typing import Any

from fairpp_hf.generation.run_folder import command_for

FIELDS = (
    "key, question_id, persona, status, answer, p_a, p_b, p_c, raw, usage, detail, latency_s, created_at, attempts, "
    "checksum, cost_usd"
)
SENT = """(usage IS NOT NULL OR CASE WHEN json_valid(detail)
    THEN json_extract(detail, '$.finish_reason') IS NOT NULL OR coalesce(json_extract(detail, '$.tries'), 0) > 0
    ELSE false END)"""
"""The SQL condition that a server sent a reply, and so wants money for it, whether or not it counted the tokens."""
_OLD_SENT = SENT.replace("usage", "old.usage").replace("detail", "old.detail")
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
DROP TRIGGER IF EXISTS keep_what_was_paid_for;
CREATE TRIGGER IF NOT EXISTS keep_what_was_sent BEFORE UPDATE ON replies
WHEN old.status = 'failed' AND new.created_at != old.created_at AND {_OLD_SENT}
BEGIN
    INSERT INTO replaced ({FIELDS}) VALUES ({", ".join(f"old.{name}" for name in FIELDS.split(", "))});
END;
CREATE TABLE IF NOT EXISTS elsewhere (
    key TEXT NOT NULL,
    run_key TEXT NOT NULL,
    run TEXT NOT NULL,
    PRIMARY KEY (key, run_key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
"""`requests` are those that the run now asks; `replies` are all that ever came, one a key. Beside them lie the replies that
no longer count and were paid for: damaged ones (`set_aside`), and those that another has `replaced`. `elsewhere` are the
keys that runs merged into this one have in batches."""
LEDGER_TABLES = ("batches", "batch_requests")
"""Of the ledger of batches, in the file of a run that has ever asked by batches."""
SALVAGED, RUN_KEY, BATCHES_UNKNOWN, PARSED_AT = "salvaged", "run_key", "batches_unknown", "parsed_at"
"""Names in `meta`, beside `requests_digest`."""
ADDED_COLUMNS = {
    "replies": {"cost_usd": "REAL"},
    "set_aside": {"cost_usd": "REAL"},
    "requests": {"sample": "INTEGER NOT NULL DEFAULT 0", "swapped": "INTEGER NOT NULL DEFAULT 0"},
}
"""Columns that the first journals lack, by table."""
# The checksum covers what decides the data; the number of attempts changes within SQLite.
CHECKSUM_FIELDS = ("key", "question_id", "persona", "status", "answer", "p_a", "p_b", "p_c", "raw", "usage", "detail")
_NUMBERS = ("answer", "p_a", "p_b", "p_c")
IN_USE = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


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
    # To read beside a writer, SQLite keeps an index in the folder. Where nobody wrote last and nothing may be written, the
    # file can be read without one.
    alone = "&immutable=1" if mode == "ro" and not os.access(path.parent, os.W_OK) and not has_log(path) else ""
    # The runner may work in another thread than the one that opened the journal, though never in two at once.
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}{alone}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=30,
    )
    connection.create_function("fairpp_checksum", len(CHECKSUM_FIELDS), checksum, deterministic=True)
    # A text that is not UTF-8 is damage to be found by its checksum, not an error that hides the other records.
    connection.text_factory = lambda value: value.decode("utf-8", "replace")
    return connection


def has_log(path: Path) -> bool:
    """Whether the newest changes of a file are still in a log beside it."""
    log = Path(f"{path}-wal")
    return log.exists() and log.stat().st_size > 0


def is_damage(error: sqlite3.Error) -> bool:
    """Whether an error says that a file is damaged, and not that it is in use, out of reach or without room."""
    return code_of(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def cannot_read(error: sqlite3.Error, path: Path) -> OSError:
    """What to raise where a journal could not be read."""
    command = command_for(path.parent)
    if is_damage(error):
        return OSError(
            f"The journal must be a sound SQLite file; got {error} at {path}. "
            f"Run `{command}` again: it saves what can be read and asks the rest."
        )
    if code_of(error) in IN_USE:
        way_out = "Wait until the program ends that has it open, then run the same command again."
    elif has_log(path) and not os.access(path.parent, os.W_OK):
        way_out = (
            "Whoever wrote it has not closed it, and then it can be read only by who may write in its folder. "
            f"Get that right, or have its owner run `{command}` to its end."
        )
    else:
        way_out = "Mend the access, then run the same command again."
    return OSError(f"The journal must be readable; got {error} at {path}. That is no damage. {way_out}")


def cannot_write(error: sqlite3.Error | OSError, path: Path) -> OSError:
    """What to raise where a journal could not be written."""
    in_use = code_of(error) in IN_USE
    way_out = "Wait until the program ends that has it open" if in_use else "Make room or mend the access"
    return OSError(
        f"The journal must be writable; got {error} at {path}. Earlier replies are kept. "
        f"{way_out}, then run the same command again to continue."
    )


def code_of(error: sqlite3.Error | OSError) -> int:
    """SQLite's number for an error; 0 where it is none of SQLite's."""
    # The rest of the number is a reason within the reason.
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK)) & 0xFF


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
    if not columns_of(connection, "elsewhere"):
        connection.execute(
            "CREATE TEMP VIEW elsewhere AS SELECT key, '' AS run_key, '' AS run FROM replies WHERE false"
        )


def columns_of(connection: sqlite3.Connection, table: str) -> list[str]:
    """Names of a table's columns; none where there is no such table."""
    return [name for (name,) in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))]
