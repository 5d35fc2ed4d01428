"""Unites runs that asked the same requests, each a part of them, such as the shards of several machines.

A run is only read here, never written. Its lock is taken for the time, so that one that is still being written is refused:
on a shared disk, what another machine is writing cannot be read (SQLite's write-ahead log is for one machine at a time).
"""

import contextlib
import logging
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fairpp_hf import __version__
from fairpp_hf.runs.database import FIELDS, RUN_KEY, intact
from fairpp_hf.runs.journal import Journal
from fairpp_hf.runs.layout import check_directory
from fairpp_hf.runs.lock import RunLock
from fairpp_hf.runs.manifest import differences, read_manifest, write_manifest
from fairpp_hf.runs.records import manifest_of, open_run

logger = logging.getLogger(__name__)

_SAME = "{one}.key = {other}.key AND {one}.created_at = {other}.created_at"  # one and the same reply
_AMONG = "EXISTS (SELECT 1 FROM {table} WHERE " + _SAME.format(one="{table}", other="incoming") + ")"
# Of two replies to one request, a final one stays, and of two final or two failed ones the earlier.
_BETTER = """(
    (incoming.status != 'failed') > (replies.status != 'failed')
    OR (incoming.status != 'failed') = (replies.status != 'failed') AND incoming.created_at < replies.created_at
)"""
# A reply without tokens may have been paid for all the same, and is to be known when it comes again.
_WORTH_KEEPING = "({table}.usage IS NOT NULL OR {table}.status != 'failed')"
_BEATEN = f"FROM replies JOIN incoming USING (key) WHERE {_BETTER}"


class MergeSummary(NamedTuple):
    """What a merge found; the numbers are of records."""

    added: int
    """Replies to requests that `out` had none to before."""
    improved: int
    """Replies that took the place of another: a final one that of a failed one, or an earlier one that of a later one."""
    duplicates: int
    """Final replies to a request that has another final one: both were paid for, the earlier counts."""
    known: int
    """Replies that `out` had from a merge before."""
    damaged: int
    """Records that do not match their checksum. They are left out; what they cost stays counted."""
    requests: int
    remaining: int
    """Requests that no run has a final reply to."""
    path: Path
    in_batches: tuple[tuple[str, int], ...] = ()
    """Runs that wait for batches, and how many of the remaining requests are in them: `out` must not ask these."""


def merge_runs(out: str | Path, runs: Sequence[str | Path], *, same_questions: bool = True) -> MergeSummary:
    """Unite runs of the same requests in one.

    Every reply comes along, those to earlier requests and those that no longer count too, since they were paid for;
    none is counted twice, however often a run is merged. Of two replies to one request a final one beats a failed one,
    and the earlier of two final ones stays. What `out` has stays as it was read there: `parse_run` reads it anew.

    Replies that a run is still waiting for in a batch come with a later merge. Until then the result knows that they are
    bought, and refuses to ask for them. A merge that is interrupted can be repeated: each run comes whole or not at all.

    Args:
        out: Directory of the run that has all, new or of an earlier merge; none of `runs`.
        runs: Directories that `generate` has written.
        same_questions: Whether the runs must have asked the same questions. Where they need not, as for the answers to
            scenarios of several shards, what the result asks is left to the caller.

    Returns:
        `MergeSummary`.

    Raises:
        FileNotFoundError: One of `runs` is no run.
        ValueError: The runs asked different things, or one is named twice or is `out`.
        RuntimeError: Another process is writing to one of them.
        OSError: A journal is damaged or cannot be written.
    """
    out, parts = Path(out), [Path(run) for run in runs]
    check_paths(out, parts)
    with contextlib.ExitStack() as stack:
        manifests = [manifest_of(run) for run in parts]
        for run in parts:
            stack.enter_context(RunLock(run, reading=True))
        for run, manifest in zip(parts, manifests, strict=True):
            _check_same(parts[0], manifests[0], run, manifest, same_questions)
        out.mkdir(parents=True, exist_ok=True)
        stack.enter_context(RunLock(out))
        previous = read_manifest(out)
        first = previous or manifests[0]
        _check_same(out, first, parts[0], manifests[0], same_questions)
        journal = stack.enter_context(Journal(out))
        key_of_out = journal.run_key((previous or {}).get("run_key"))
        totals = [0] * 5
        for number, (run, manifest) in enumerate(zip(parts, manifests, strict=True)):
            with open_run(run) as (source, _):
                if number == 0 and same_questions:
                    _set_requests(out, journal, source, first)
                run_key = source.noted(RUN_KEY) or manifest.get("run_key") or str(run.resolve())
                keys = source.keys_in_batches()
                with journal.attached(source.path, "part"), journal.transaction() as target:
                    totals = [a + b for a, b in zip(totals, _take_all(target), strict=True)]
                    target.execute("DELETE FROM elsewhere WHERE run_key = ?", (run_key,))
                    target.execute("INSERT OR REPLACE INTO elsewhere SELECT * FROM part.elsewhere")
                    own = ((key, run_key, str(run.absolute())) for key in keys)
                    target.executemany("INSERT OR REPLACE INTO elsewhere VALUES (?, ?, ?)", own)
            if keys:
                logger.warning(
                    "%d requests of %s are in batches at the provider: collect them there, and merge again.",
                    len(keys),
                    run,
                )
        servers = {name: server for manifest in manifests for name, server in manifest["servers"].items()}
        # After the journal, as in a run's set-up.
        united = {
            **first,
            "package_version": __version__,
            "run_key": key_of_out,
            "shard": None,
            "servers": {**servers, **(previous or {}).get("servers", {})},
            "ways": _united([*manifests, *([previous] if previous else [])]),
        }
        if united != previous:
            write_manifest(out, united)
        added, improved, duplicates, known, damaged = totals
        return with_progress(MergeSummary(added, improved, duplicates, known, damaged, 0, 0, out), journal)


def with_progress(summary: MergeSummary, journal: Journal) -> MergeSummary:
    """With how many requests there are now, how many lack a final reply, and which of these are in batches."""
    return summary._replace(
        requests=journal.size(), remaining=journal.remaining(), in_batches=tuple(journal.elsewhere())
    )


def check_paths(out: Path, runs: Sequence[Path]) -> None:
    """Check that runs can be merged into a folder: that each is named once and is not `out`, which holds nothing else."""
    if not runs:
        raise ValueError("A merge must have at least one run; got none.")
    seen: dict[Path, Path] = {}
    for run in runs:
        if run.resolve() == out.resolve():
            raise ValueError(
                f"The result must be a folder of its own; got {out}, which is also to be merged. Runs that are merged are "
                "only read: pass another result, or leave it out of the runs if it is the result of an earlier merge."
            )
        if (earlier := seen.setdefault(run.resolve(), run)) is not run:
            raise ValueError(f"Runs to merge must be different folders; got {earlier} and {run}. Name each once.")
    check_directory(out)


def _check_same(one: Path, first: Mapping[str, Any], run: Path, other: Mapping[str, Any], same_questions: bool) -> None:
    ignored = {"shard": None} | ({} if same_questions else {"questions": first["questions"]})
    found = differences({**first, "shard": None}, {**other, **ignored})
    if not found and same_questions and first["requests"]["digest"] != other["requests"]["digest"]:
        found = ["the order of personas or questions"]
    if found:
        raise ValueError(
            f"Runs to merge must have asked the same; got differences between {one} and {run}: {'; '.join(found)}. "
            "Merge runs that differ only in their shard."
        )


def _united(manifests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How the servers of several runs are asked, by `ways_key` and address."""
    ways: dict[str, Any] = {}
    for manifest in manifests:
        for name, found in manifest["ways"].items():
            ways[name] = {**ways.get(name, {}), **found}
    return ways


def _set_requests(out: Path, journal: Journal, source: Journal, manifest: Mapping[str, Any]) -> None:
    digest, wanted = journal.requests_digest(), manifest["requests"]["digest"]
    if digest == wanted:
        return
    if digest is not None and read_manifest(out) is None:
        raise ValueError(
            f"The result must be new or of an earlier merge of the same runs; got a journal of other requests in {out}. "
            "Pass another folder."
        )
    journal.set_requests(source.requests(), wanted)


def _take_all(connection: sqlite3.Connection) -> tuple[int, int, int, int, int]:
    """Bring every record of the database `part` into the journal; returns the first numbers of `MergeSummary`."""

    def count(statement: str) -> int:
        return connection.execute(statement).rowcount

    connection.execute("DROP TABLE IF EXISTS temp.incoming")
    connection.execute(f"CREATE TEMP TABLE incoming AS SELECT {FIELDS} FROM part.replies WHERE false")
    connection.execute("CREATE INDEX temp.incoming_by_key ON incoming (key)")
    incoming = f"INSERT INTO incoming SELECT {FIELDS} FROM part."
    # Kept for what they cost, unless they are there already.
    there = " OR ".join(_AMONG.format(table=name) for name in ("replies", "replaced", "set_aside"))
    keep = f"({FIELDS}) SELECT {FIELDS} FROM incoming WHERE NOT ({there})"
    count(f"{incoming}set_aside")
    damaged = count(f"{incoming}replies WHERE NOT {intact('part.replies')}")
    count(f"INSERT INTO set_aside {keep}")
    count("DELETE FROM incoming")
    count(f"{incoming}replaced")
    # What a run has replaced stays so, also where the journal has it as a reply from before.
    count("DELETE FROM replies WHERE (key, created_at) IN (SELECT key, created_at FROM incoming)")
    count(f"INSERT INTO replaced {keep}")
    count("DELETE FROM incoming")
    count("INSERT OR IGNORE INTO unclaimed SELECT * FROM part.unclaimed")

    count(f"{incoming}replies WHERE {intact('part.replies')}")
    # A damaged copy of a reply that has now come whole.
    count("DELETE FROM set_aside WHERE (key, created_at) IN (SELECT key, created_at FROM incoming)")
    known = count(f"DELETE FROM incoming WHERE {_AMONG.format(table='replies')} OR {_AMONG.format(table='replaced')}")
    (duplicates,) = connection.execute(
        "SELECT count(*) FROM replies JOIN incoming USING (key) "
        "WHERE replies.status != 'failed' AND incoming.status != 'failed'"
    ).fetchone()
    of_replies = ", ".join(f"replies.{name}" for name in FIELDS.split(", "))
    count(f"INSERT INTO replaced ({FIELDS}) SELECT {of_replies} {_BEATEN} AND {_WORTH_KEEPING.format(table='replies')}")
    improved = count(f"DELETE FROM replies WHERE key IN (SELECT incoming.key {_BEATEN})")
    inserted = count(
        f"INSERT INTO replies ({FIELDS}) SELECT {FIELDS} FROM incoming "
        "WHERE NOT EXISTS (SELECT 1 FROM replies WHERE replies.key = incoming.key)"
    )
    count(
        f"INSERT INTO replaced ({FIELDS}) SELECT {FIELDS} FROM incoming "
        f"WHERE {_WORTH_KEEPING.format(table='incoming')} AND NOT {_AMONG.format(table='replies')}"
    )
    connection.execute("DROP TABLE temp.incoming")
    return inserted - improved, improved, duplicates, known, damaged
