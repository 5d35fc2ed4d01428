"""Unites runs that asked the same requests, each a part of them, such as the shards of several machines.

A run is only read here, never written. Its lock is taken for the time, so that one that is still being written is refused:
on a shared disk, what another machine is writing cannot be read (SQLite's write-ahead log is for one machine at a time).
"""

import contextlib
import logging
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from fairpp_hf import __version__
from fairpp_hf.generation.batch.ledger import keys_in_batches
from fairpp_hf.generation.database import FIELDS, PARSED_AT, RUN_KEY, insert
from fairpp_hf.generation.journal import Journal, RunLock
from fairpp_hf.generation.manifest import differences, read_manifest, write_manifest
from fairpp_hf.generation.records import check_set_up, manifest_of
from fairpp_hf.generation.run_folder import BATCHES, command_for
from fairpp_hf.generation.scenario_files import scenarios_folder, stories_folder
from fairpp_hf.generation.scenario_rebuild import rebuild_scenarios
from fairpp_hf.generation.setup import check_directory

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
_READING = "status, answer, p_a, p_b, p_c, checksum"
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
    read_anew: int = 0
    """Replies that `out` had, and that `parse_run` has read differently since in the run they come from."""
    in_batches: tuple[tuple[str, int], ...] = ()
    """Runs that wait for batches, and how many of the remaining requests are in them: `out` must not ask these."""
    stories: "MergeSummary | None" = None
    """Of the storyteller's runs, where there are any."""
    scenarios: "MergeSummary | None" = None
    """Of the answers to scenarios, where there are any."""


def merge_runs(out: str | Path, runs: Sequence[str | Path], questions: pa.Table | None = None) -> MergeSummary:
    """Unite runs of the same requests in one.

    Every reply comes along, those to earlier requests and those that no longer count too, since they were paid for;
    none is counted twice, however often a run is merged. Of two replies to one request a final one beats a failed one,
    and the earlier of two final ones stays; a reply that a run has parsed anew since is read as there, unless `out` was
    parsed later still. Where the runs have scenarios, their stories and answers are united likewise, also without answers
    to questions.

    Replies that a run is still waiting for in a batch come with a later merge. Until then the result knows that they are
    bought, and refuses to ask for them. Paid replies that a run kept aside (`batches/*.kept.jsonl`) come along as files; if
    both the run and the result ask for one later, it is counted as paid for twice.

    A merge that is interrupted can be repeated: each batch of records comes whole or not at all.

    Args:
        out: directory of the run that has all, new or of an earlier merge; none of `runs`.
        runs: directories that `generate` has written.
        questions: those that the runs' stories tell; those of `load_questions()` by default.

    Returns:
        `MergeSummary`; its own numbers are 0 where the runs have scenarios alone.

    Raises:
        FileNotFoundError: one of `runs` is no run and has no scenarios.
        ValueError: the runs asked different things, or one is named twice or is `out`.
        RuntimeError: another process is writing to one of them.
        OSError: a journal is damaged or cannot be written.
    """
    out, inputs = Path(out), [Path(run) for run in runs]
    _check_paths(out, inputs)
    for run in inputs:
        if not _is_there(run):
            manifest_of(run)  # says what is missing
    summary = _merge_parts(Path, out, inputs) or MergeSummary(0, 0, 0, 0, 0, 0, 0, out)
    stories = _merge_parts(stories_folder, out, inputs)
    # Which stories there are to answer differs by shard: each asked those that it had.
    scenarios = _merge_parts(scenarios_folder, out, inputs, same_questions=False)
    if stories is not None:
        rebuild_scenarios(out, questions)
    if scenarios is not None:
        scenarios = _with_progress(scenarios)
    return summary._replace(stories=stories, scenarios=scenarios)


def _is_there(run: Path) -> bool:
    """Whether there is a run, or its scenarios without it."""
    return run.is_dir() and any(
        read_manifest(folder) is not None for folder in (run, scenarios_folder(run), stories_folder(run))
    )


def _check_paths(out: Path, runs: Sequence[Path]) -> None:
    if not runs:
        raise ValueError("A merge must have at least one run; got none.")
    seen: dict[Path, Path] = {}
    for run in runs:
        if run.resolve() == out.resolve():
            raise ValueError(
                f"--out must be a folder of its own; got {out}, which is also to be merged. Runs that are merged are only "
                "read: pass another --out, or leave it out of the runs if it is the result of an earlier merge."
            )
        if (earlier := seen.setdefault(run.resolve(), run)) is not run:
            raise ValueError(f"Runs to merge must be different folders; got {earlier} and {run}. Name each once.")
    check_directory(out)


def _merge_parts(
    folder: Callable[[Path], Path], out: Path, runs: Sequence[Path], *, same_questions: bool = True
) -> MergeSummary | None:
    parts = [folder(run) for run in runs]
    present = [part for part in parts if read_manifest(part) is not None]
    return _merge(folder(out), present, same_questions=same_questions) if present else None


def _merge(out: Path, runs: Sequence[Path], *, same_questions: bool = True) -> MergeSummary:
    """Unite the journals and manifests of runs.

    Args:
        out: the directory for the result.
        runs: what is read.
        same_questions: whether the runs must have asked the same questions. Where they need not, what the result asks is
            left to whoever calls.
    """
    with contextlib.ExitStack() as stack:
        for run in runs:
            stack.enter_context(RunLock(run, reading=True))
        manifests = [manifest_of(run) for run in runs]
        for run, manifest in zip(runs, manifests, strict=True):
            _check_same(runs[0], manifests[0], run, manifest, same_questions)
        out.mkdir(parents=True, exist_ok=True)
        stack.enter_context(RunLock(out))
        previous = read_manifest(out)
        first = previous or manifests[0]
        _check_same(out, first, runs[0], manifests[0], same_questions)
        journal = stack.enter_context(Journal(out))
        run_key = journal.run_key((previous or {}).get("run_key"))
        totals = [0] * 6
        for number, (run, manifest) in enumerate(zip(runs, manifests, strict=True)):
            with Journal(run, read_only=True) as source, source.snapshot() as connection:
                check_set_up(run, source, manifest)
                if number == 0 and same_questions:
                    _set_requests(out, journal, source, first)
                part = _Part(source.noted(RUN_KEY) or manifest["run_key"] or str(run.resolve()), str(run.absolute()))
                keys = keys_in_batches(connection)
                # Before the replies come, what is waited for; and when they are there, what still is.
                _note_elsewhere(journal, part, keys, known=connection.execute("SELECT * FROM elsewhere").fetchall())
                totals = [a + b for a, b in zip(totals, _take_all(journal, source), strict=True)]
                _note_elsewhere(journal, part, keys, replace=True)
            _bring_kept(run, out)
            if keys:
                logger.warning(
                    "%d requests of %s are in batches at the provider: collect them there with `%s --batch`, and merge "
                    "again.",
                    len(keys),
                    run,
                    command_for(run),
                )
        servers = {name: server for manifest in manifests for name, server in manifest["servers"].items()}
        # After the journal, as in a run's set-up.
        united = {
            **first,
            "package_version": __version__,
            "shard": None,
            "run_key": run_key,
            "servers": {**servers, **(previous or {}).get("servers", {})},
            "ways": _united([*manifests, *([previous] if previous else [])]),
        }
        united["personas"] = _with_record([first, *manifests])
        if united != previous:
            write_manifest(out, united)
    added, improved, duplicates, known, read_anew, damaged = totals
    return _with_progress(MergeSummary(added, improved, duplicates, known, damaged, 0, 0, out, read_anew))


def _with_progress(summary: MergeSummary) -> MergeSummary:
    """With how many requests there are now, how many are without a final reply, and which of these are in batches."""
    manifest = manifest_of(summary.path)
    with Journal(summary.path, read_only=True) as journal:
        return summary._replace(
            requests=manifest["requests"]["count"], remaining=journal.remaining(), in_batches=tuple(journal.elsewhere())
        )


class _Part(NamedTuple):
    """A run whose batches `out` waits for."""

    run_key: str
    run: str


def _note_elsewhere(
    journal: Journal,
    part: _Part,
    keys: Sequence[str],
    *,
    known: Sequence[tuple[str, str, str]] = (),
    replace: bool = False,
) -> None:
    """Note in `out` what a run has in batches.

    Args:
        journal: of `out`.
        part: the run.
        keys: of its requests in batches.
        known: rows of its own table `elsewhere`, where it is itself a merge.
        replace: whether what was noted of the run before no longer holds.
    """
    with journal.transaction() as connection:
        if replace:
            connection.execute("DELETE FROM elsewhere WHERE run_key = ?", (part.run_key,))
        rows = [*known, *((key, *part) for key in keys)]
        connection.executemany("INSERT OR REPLACE INTO elsewhere (key, run_key, run) VALUES (?, ?, ?)", rows)


def _bring_kept(run: Path, out: Path) -> None:
    """Copy the files of replies that were paid for and that the run did not ask for when they came."""
    for path in (run / BATCHES).glob("*.kept.jsonl"):
        (out / BATCHES).mkdir(exist_ok=True)
        scratch = out / BATCHES / "kept.part"
        shutil.copyfile(path, scratch)
        scratch.replace(out / BATCHES / path.name)


def _check_same(one: Path, first: Mapping[str, Any], run: Path, other: Mapping[str, Any], same_questions: bool) -> None:
    ignored = {"shard": None} | ({} if same_questions else {"questions": first["questions"]})
    found = differences({**first, "shard": None}, {**other, **ignored})
    if not found and same_questions and first["requests"]["digest"] != other["requests"]["digest"]:
        found = ["the order of personas or questions"]
    if found:
        raise ValueError(
            f"Runs to merge must have asked the same; got differences between {one} and {run}: {'; '.join(found)}. "
            "Merge runs of one command with different --shard only."
        )


def _united(manifests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How the servers of several runs are asked, by `ways_key` and address."""
    ways: dict[str, Any] = {}
    for manifest in manifests:
        for name, found in manifest["ways"].items():
            ways[name] = {**ways.get(name, {}), **found}
    return ways


def _with_record(manifests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The personas of the first manifest, with the record of the first that has one."""
    record = next((manifest["personas"]["record"] for manifest in manifests if manifest["personas"]["record"]), None)
    return {**manifests[0]["personas"], "record": record}


def _set_requests(out: Path, journal: Journal, source: Journal, manifest: Mapping[str, Any]) -> None:
    digest, wanted = journal.requests_digest(), manifest["requests"]["digest"]
    if digest == wanted:
        return
    if digest is not None and read_manifest(out) is None:
        raise ValueError(
            f"--out must be new or of an earlier merge of the same runs; got a journal of other requests in {out}. "
            "Pass another --out."
        )
    journal.set_requests(source.requests(), wanted)


def _take_all(journal: Journal, source: Journal) -> list[int]:
    """Bring every record of `source` into `journal`; returns the first numbers of `MergeSummary`."""
    with journal.transaction() as connection:
        connection.execute("DROP TABLE IF EXISTS temp.incoming")
        connection.execute(f"CREATE TEMP TABLE incoming AS SELECT {FIELDS} FROM replies WHERE false")
        connection.execute("CREATE INDEX temp.incoming_by_key ON incoming (key)")
    for rows in source.records("set_aside"):
        with _incoming(journal, rows) as connection:
            _keep(connection, "set_aside")
    for rows in source.records("replaced"):
        with _incoming(journal, rows) as connection:
            # What a run has replaced stays so, also where `out` has it as a reply from before.
            connection.execute("DELETE FROM replies WHERE (key, created_at) IN (SELECT key, created_at FROM incoming)")
            _keep(connection, "replaced")
    parsed, own = (float(each.noted(PARSED_AT) or 0) for each in (source, journal))
    totals = [0] * 6
    for rows in source.records("replies"):
        damaged = [row for row in rows if not row[-1]]
        if damaged:
            with _incoming(journal, damaged) as connection:
                _keep(connection, "set_aside")
        with _incoming(journal, [row for row in rows if row[-1]]) as connection:
            totals = [a + b for a, b in zip(totals, [*_take(connection, parsed > own), len(damaged)], strict=True)]
    return totals


@contextlib.contextmanager
def _incoming(journal: Journal, rows: Sequence[tuple[Any, ...]]) -> Iterator[sqlite3.Connection]:
    """A transaction in which the table `incoming` has these records."""
    with journal.transaction() as connection:
        connection.execute("DELETE FROM incoming")
        connection.executemany(insert(table="incoming"), (row[:-1] for row in rows))
        yield connection


def _keep(connection: sqlite3.Connection, table: str) -> None:
    """Keep the incoming records for what they cost, unless they are there already."""
    known = " OR ".join(_AMONG.format(table=name) for name in ("replies", "replaced", "set_aside"))
    connection.execute(f"INSERT INTO {table} ({FIELDS}) SELECT {FIELDS} FROM incoming WHERE NOT ({known})")


def _take(connection: sqlite3.Connection, is_read_later: bool) -> tuple[int, int, int, int, int]:
    """Let the incoming records be replies, where they are better.

    Args:
        connection: to the journal of `out`.
        is_read_later: whether the incoming records were parsed after those that are there.

    Returns:
        (added, improved, duplicates, known, read anew).
    """

    def count(statement: str) -> int:
        return connection.execute(statement).rowcount

    # A damaged copy of a reply that has now come whole.
    count("DELETE FROM set_aside WHERE (key, created_at) IN (SELECT key, created_at FROM incoming)")
    read_anew = 0
    if is_read_later:
        again = (
            f"FROM incoming WHERE {_SAME.format(one='incoming', other='replies')} AND incoming.raw IS replies.raw "
            "AND incoming.usage IS replies.usage AND incoming.detail IS replies.detail "
            "AND incoming.checksum != replies.checksum"
        )
        read_anew = count(
            f"UPDATE replies SET ({_READING}) = (SELECT {_READING} {again}) "
            f"WHERE key IN (SELECT key FROM incoming) AND EXISTS (SELECT 1 {again})"
        )
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
    return inserted - improved, improved, duplicates, known, read_anew
