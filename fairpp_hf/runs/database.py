"""The SQLite file behind the journal: tables, checksums, and what its errors mean."""

import os
import sqlite3
import zlib
from pathlib import Path
from typing import Any

from fairpp_hf.runs.layout import JournalError

FIELDS = (
    "key, question_id, persona, status, answer, probabilities, raw, usage, detail, latency_s, created_at, attempts, "
    "checksum, cost_usd"
)
_COLUMNS = """
    question_id TEXT NOT NULL,
    persona TEXT NOT NULL,
    status TEXT NOT NULL,
    answer INTEGER NOT NULL,
    probabilities TEXT,
    raw,
    usage TEXT,
    detail TEXT,
    latency_s REAL NOT NULL,
    created_at REAL NOT NULL,
    attempts INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    cost_usd REAL
"""
SENT = """({0}usage IS NOT NULL OR CASE WHEN json_valid({0}detail)
    THEN json_extract({0}detail, '$.finish_reason') IS NOT NULL OR coalesce(json_extract({0}detail, '$.tries'), 0) > 0
    ELSE false END)"""
"""The SQL condition that a server sent a reply, and so wants money for it, whether or not it counted the tokens."""
_SHOWN = "replies.key, replies.question_id, replies.persona" + FIELDS.removeprefix("key, question_id, persona")
TABLES = f"""
CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, {_COLUMNS});
CREATE TABLE IF NOT EXISTS replaced (key TEXT NOT NULL, {_COLUMNS});
CREATE TABLE IF NOT EXISTS set_aside (key TEXT NOT NULL, {_COLUMNS});
CREATE INDEX IF NOT EXISTS replaced_by_key ON replaced (key);
CREATE INDEX IF NOT EXISTS set_aside_by_key ON set_aside (key);
CREATE TABLE IF NOT EXISTS requests (
    position INTEGER PRIMARY KEY,
    key TEXT NOT NULL,
    question_id TEXT NOT NULL,
    persona TEXT NOT NULL,
    sample INTEGER NOT NULL,
    swapped INTEGER NOT NULL
);
CREATE VIEW IF NOT EXISTS answered AS SELECT position, sample, swapped, {_SHOWN} FROM requests JOIN replies USING (key);
CREATE VIEW IF NOT EXISTS unanswered AS SELECT requests.* FROM requests LEFT JOIN replies USING (key)
    WHERE replies.key IS NULL OR replies.status = 'failed';
CREATE TRIGGER IF NOT EXISTS keep_what_was_sent BEFORE UPDATE ON replies
WHEN old.status = 'failed' AND new.created_at != old.created_at AND {SENT.format("old.")}
BEGIN
    INSERT INTO replaced ({FIELDS}) VALUES ({", ".join(f"old.{name}" for name in FIELDS.split(", "))});
END;
CREATE TABLE IF NOT EXISTS batches (
    intent TEXT PRIMARY KEY,
    created_at REAL NOT NULL,
    requests INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    file_id TEXT,
    batch_id TEXT,
    collected INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS batch_requests (key TEXT NOT NULL, intent TEXT NOT NULL, PRIMARY KEY (key, intent)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS unclaimed (
    key TEXT NOT NULL, batch_id TEXT NOT NULL, line BLOB NOT NULL, usage TEXT, PRIMARY KEY (key, batch_id)
);
CREATE TABLE IF NOT EXISTS elsewhere (
    key TEXT NOT NULL, run_key TEXT NOT NULL, run TEXT NOT NULL, PRIMARY KEY (key, run_key)
);
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
"""`requests` are those that the run now asks; `replies` are all that ever came, one a key. Three tables keep what was paid
for and does not count: damaged replies (`set_aside`), those that another has `replaced`, and lines of batches' output files
that no request of the run waits for (`unclaimed`). `batches` and `batch_requests` are the ledger of what is at the provider;
`elsewhere` has the keys that runs merged into this one have in batches."""
REPAIRED, RUN_KEY, BATCHES_UNKNOWN = "repaired", "run_key", "batches_unknown"
"""Names in `meta`, beside `requests_digest`."""
# The checksum covers what decides the data; the number of attempts changes within SQLite.
CHECKSUM_FIELDS = ("key", "question_id", "persona", "status", "answer", "probabilities", "raw", "usage", "detail")
IN_USE = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def checksum(*fields: Any) -> int:
    """CRC-32 over the fields, texts as the bytes that are in the file: damage may leave bytes that are no text."""
    return zlib.crc32(repr([field.encode() if isinstance(field, str) else field for field in fields]).encode())


def intact(table: str = "replies") -> str:
    """The SQL condition that a record matches its checksum."""
    fields = (f"{table}.{name}" if name == "answer" else f"CAST({table}.{name} AS BLOB)" for name in CHECKSUM_FIELDS)
    return f"{table}.checksum = fairpp_checksum({', '.join(fields)})"


def address_of(path: Path, mode: str) -> str:
    """The URI by which SQLite opens a file: `"ro"` to read it, `"rw"` to write, or `"rwc"` to create it."""
    # To read beside a writer, SQLite keeps an index in the folder. Where nobody wrote last and nothing may be written, the
    # file can be read without one.
    alone = "&immutable=1" if mode == "ro" and not os.access(path.parent, os.W_OK) and not has_log(path) else ""
    return f"{path.absolute().as_uri()}?mode={mode}{alone}"


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """Open an SQLite file in a mode of `address_of`."""
    # The runner may work in another thread than the one that opened the journal, though never in two at once.
    connection = sqlite3.connect(
        address_of(path, mode), uri=True, isolation_level=None, check_same_thread=False, timeout=30
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


def cannot_read(error: sqlite3.Error, path: Path) -> JournalError:
    """The error for a journal that could not be read."""
    if is_damage(error):
        found = JournalError(
            f"The journal must be a sound SQLite file; got {error} at {path}. Continuing the run saves what can be read and "
            "asks the rest."
        )
        found.run = path.parent
        return found
    if code_of(error) in IN_USE:
        way_out = "Wait until the program ends that has it open."
    elif has_log(path) and not os.access(path.parent, os.W_OK):
        way_out = "Its last writer has not closed it, so that only those can read it who may write in its folder."
    else:
        way_out = "Mend the access."
    return JournalError(f"The journal must be readable; got {error} at {path}. That is no damage. {way_out}")


def cannot_write(error: sqlite3.Error | OSError, path: Path) -> JournalError:
    """The error for a journal that could not be written."""
    in_use = code_of(error) in IN_USE
    way_out = "Wait until the program ends that has it open" if in_use else "Make room or mend the access"
    found = JournalError(
        f"The journal must be writable; got {error} at {path}. Earlier replies are kept. {way_out}, then continue the run."
    )
    found.run = path.parent
    return found


def code_of(error: sqlite3.Error | OSError) -> int:
    """SQLite's number for an error; 0 for other errors."""
    # The rest of the number is a reason within the reason.
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK)) & 0xFF
