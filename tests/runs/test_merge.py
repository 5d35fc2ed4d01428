import hashlib
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from generation_fixtures import (
    FakeRespondent,
    ask,
    by_number,
    damage,
    not_ok,
    ok,
    personas,
    questions,
    shown_questions,
    transactions_at_most,
)

from fairpp_hf.generation.batch.ledger import Batch, Ledger
from fairpp_hf.respondents import Reply, Request
from fairpp_hf.runs import load_run
from fairpp_hf.runs.batches import check_not_in_batches
from fairpp_hf.runs.journal import AskedRequest, Journal
from fairpp_hf.runs.lock import RunLock
from fairpp_hf.runs.manifest import read_manifest
from fairpp_hf.runs.merge import MergeSummary, merge_runs
from fairpp_hf.runs.overview import overview
from fairpp_hf.runs.records import load_replies
from fairpp_hf.runs.shards import Shard
from fairpp_hf.runs.spending import Spending

EVERYTHING = shown_questions(10)


def paid(request: Request) -> Reply:
    return by_number(request)._replace(usage={"prompt_tokens": 10, "completion_tokens": 1})


def shard_run(
    run: Path,
    shard: Shard | None = None,
    reply: Callable[[Request], Reply] = paid,
    table: pa.Table = EVERYTHING,
    **more: Any,
) -> Path:
    ask(run, FakeRespondent(reply), personas(), table, shard=shard, **more)
    return run


def digests(run: Path) -> dict[str, str]:
    """Of the files that a run consists of; SQLite keeps an index for its readers beside them."""
    names = ("manifest.json", "journal.sqlite", "run.lock")
    return {name: hashlib.sha256((run / name).read_bytes()).hexdigest() for name in names}


def spending(run: Path) -> Spending:
    with Journal(run, read_only=True) as journal:
        return journal.spending()


@pytest.mark.parametrize("options", [{}, {"samples": 2, "swap": True}])
def test_shards_united_are_the_run_that_one_machine_would_have_made(tmp_path: Path, options: dict[str, Any]) -> None:
    whole = shard_run(tmp_path / "whole", **options)
    shards = [shard_run(tmp_path / f"{index}", Shard(index, 3), **options) for index in (1, 2, 3)]
    before = [digests(shard) for shard in shards]
    count = 20 * (4 if options else 1)
    summary = merge_runs(tmp_path / "out", shards)
    assert summary == MergeSummary(count, 0, 0, 0, 0, count, 0, tmp_path / "out")
    assert [digests(shard) for shard in shards] == before
    assert load_run(tmp_path / "out", EVERYTHING).equals(load_run(whole, EVERYTHING))
    assert spending(tmp_path / "out") == spending(whole)
    one, other = read_manifest(tmp_path / "out"), read_manifest(whole)
    assert one is not None
    assert other is not None
    own = {"written": "", "run_key": ""}
    assert {**one, **own} == {**other, **own}
    # A run like any other: nothing is left to be asked.
    respondent = FakeRespondent()
    ask(tmp_path / "out", respondent, personas(), EVERYTHING, **options)
    assert respondent.asked == []


def test_merging_again_with_more_adds_only_what_is_new(tmp_path: Path) -> None:
    shards = [shard_run(tmp_path / f"{index}", Shard(index, 3)) for index in (1, 2, 3)]
    out = tmp_path / "out"
    first = merge_runs(out, shards[:2])
    again = merge_runs(out, shards[:2])
    assert (again.added, again.known, again.remaining) == (0, first.added, 20 - first.added)
    written = (out / "manifest.json").read_bytes()
    last = merge_runs(out, shards)
    assert (last.added, last.known, last.remaining) == (20 - first.added, first.added, 0)
    assert (out / "manifest.json").read_bytes() == written
    assert spending(out) == Spending(0.0, 200, 20, 20, 20)


def test_a_merge_can_itself_be_merged_and_counts_nothing_twice(tmp_path: Path) -> None:
    """Two runs asked everything: 40 replies were paid for, 20 of them twice over."""
    runs = [shard_run(tmp_path / name) for name in ("a", "b")]
    first = merge_runs(tmp_path / "first", runs)
    assert (first.added, first.duplicates) == (20, 20)
    for order in ([tmp_path / "first", *runs], [*runs, tmp_path / "first"], [tmp_path / "first", runs[1]]):
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        merge_runs(out, order)
        assert spending(out) == Spending(0.0, 400, 40, 40, 40)
        merge_runs(out, order[::-1])
        assert spending(out) == Spending(0.0, 400, 40, 40, 40)


def test_a_final_reply_beats_a_failed_one_and_the_earlier_final_one_stays(tmp_path: Path) -> None:
    """The oracle: the best of each key's replies by (failed or not, time), whatever the order of merging."""

    def runs_reply(number: int) -> Callable[[Request], Reply]:
        def reply(request: Request) -> Reply:
            draw = int(request.question_id[1:]) * 7 + len(request.persona) + number * 5
            status = ("ok", "failed", "refusal")[draw % 3]
            made = ok(number) if status == "ok" else not_ok(status)
            return made._replace(raw=f"{number}", usage={"prompt_tokens": 10**number} if draw % 2 else None)

        return reply

    runs = [shard_run(tmp_path / f"{number}", reply=runs_reply(number)) for number in range(3)]
    found: dict[tuple[str, str], list[tuple[bool, float, str, str]]] = {}
    for run in runs:
        for row in load_replies(run).to_pylist():
            entry = (row["status"] == "failed", row["created_at"], row["status"], row["raw"])
            found.setdefault((row["persona"], row["question_id"]), []).append(entry)
    expected = {asked: min(entries)[2:] for asked, entries in found.items()}
    tokens = sum(spending(run).input_tokens for run in runs)
    for number, order in enumerate(([0, 1, 2], [2, 1, 0], [1, 2, 0])):
        out = tmp_path / f"out{number}"
        for place in order[:-1]:
            merge_runs(out, [runs[place]])
        summary = merge_runs(out, [runs[place] for place in order])
        united = {
            (row["persona"], row["question_id"]): (row["status"], row["raw"]) for row in load_replies(out).to_pylist()
        }
        assert united == expected
        assert summary.remaining == sum(status == "failed" for status, _ in expected.values())
        assert spending(out).input_tokens == tokens


def test_replies_to_earlier_requests_come_along(tmp_path: Path) -> None:
    run = shard_run(tmp_path / "run")
    shard_run(run, table=EVERYTHING.slice(0, 4))
    summary = merge_runs(tmp_path / "out", [run])
    assert (summary.added, summary.requests) == (20, 8)
    respondent = FakeRespondent()
    ask(tmp_path / "out", respondent, personas(), EVERYTHING)
    assert respondent.asked == []


def test_damaged_records_are_left_out_and_their_cost_stays_counted(tmp_path: Path) -> None:
    """The other run has an intact copy of one of them: it counts once."""
    run = shard_run(tmp_path / "run")
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("manifest.json", "journal.sqlite"):
        (copy / name).write_bytes((run / name).read_bytes())
    damage(copy)
    summary = merge_runs(tmp_path / "out", [copy])
    assert (summary.added, summary.damaged, summary.remaining) == (18, 2, 2)
    assert spending(tmp_path / "out") == Spending(0.0, 200, 20, 20, 20)
    summary = merge_runs(tmp_path / "out", [run])
    assert (summary.added, summary.known, summary.remaining) == (2, 18, 0)
    assert spending(tmp_path / "out") == Spending(0.0, 200, 20, 20, 20)
    merge_runs(tmp_path / "out", [copy])
    assert spending(tmp_path / "out") == Spending(0.0, 200, 20, 20, 20)


def test_a_reply_that_a_run_has_replaced_since_makes_room(tmp_path: Path) -> None:
    run = shard_run(tmp_path / "run")
    merge_runs(tmp_path / "out", [run])
    with Journal(run) as journal:
        key = next(iter(journal.requests()))
        with journal.transaction() as connection:
            connection.execute("INSERT INTO replaced SELECT * FROM replies WHERE key = ?", (key.key,))
            connection.execute("DELETE FROM replies WHERE key = ?", (key.key,))
        journal.record([(key, ok(2)._replace(raw="new"))])
    merge_runs(tmp_path / "out", [run])
    assert load_replies(tmp_path / "out")["raw"][0].as_py() == "new"
    assert spending(tmp_path / "out").replies == 21


def test_a_merge_that_is_killed_can_be_repeated(tmp_path: Path) -> None:
    """Interrupted after each of its transactions in turn."""
    runs = [shard_run(tmp_path / f"{index}", Shard(index, 2)) for index in (1, 2)]
    expected = load_run(merge_runs(tmp_path / "whole", runs).path, EVERYTHING)
    for limit in range(1, 50):
        out = tmp_path / f"out{limit}"
        with transactions_at_most(limit) as begun:
            merge_runs(out, runs)
        merge_runs(out, runs)
        assert load_run(out, EVERYTHING).equals(expected)
        assert spending(out) == Spending(0.0, 200, 20, 20, 20)
        if len(begun) <= limit:
            break
    assert limit >= 4


def test_runs_of_different_requests_are_refused_by_what_differs(tmp_path: Path) -> None:
    one = shard_run(tmp_path / "one", Shard(1, 2))
    other = tmp_path / "other"
    ask(other, FakeRespondent(model="m"), personas(), questions(3))
    with pytest.raises(ValueError, match="must have asked the same") as error:
        merge_runs(tmp_path / "out", [one, other])
    assert str(error.value) == (
        f"Runs to merge must have asked the same; got differences between {one} and {other}: respondent "
        "'fake:fake (simulated)' -> 'fake:m (simulated)'; model 'fake' -> 'm'; questions 10 (all) -> 3 (all). Merge runs "
        "that differ only in their shard."
    )
    merge_runs(tmp_path / "out", [one])
    with pytest.raises(ValueError, match="must have asked the same") as error:
        merge_runs(tmp_path / "out", [other])
    assert f"got differences between {tmp_path / 'out'} and {other}: respondent" in str(error.value)


def test_the_order_of_personas_is_a_difference_too(tmp_path: Path) -> None:
    one, other = shard_run(tmp_path / "one"), tmp_path / "other"
    ask(other, FakeRespondent(), personas("bob", "ann"), EVERYTHING)
    with pytest.raises(ValueError, match="the order of personas or questions"):
        merge_runs(tmp_path / "out", [one, other])


def test_the_result_has_a_key_of_its_own_in_its_journal_and_its_manifest(tmp_path: Path) -> None:
    part, out = shard_run(tmp_path / "part"), tmp_path / "out"
    merge_runs(out, [part])
    keys = []
    for run in (part, out):
        with Journal(run, read_only=True) as journal:
            keys.append(journal.noted("run_key"))
        assert keys[-1] == (read_manifest(run) or {})["run_key"]
    assert keys[0] != keys[1]
    # The journal's counts, whatever has become of the manifest.
    (out / "manifest.json").unlink()
    merge_runs(out, [part])
    assert (read_manifest(out) or {})["run_key"] == keys[1]


def test_servers_are_united(tmp_path: Path) -> None:
    """Where a model answers is known of the result too: nothing of it is asked elsewhere in silence."""
    runs = [shard_run(tmp_path / f"{index}", Shard(index, 2)) for index in (1, 2)]
    for number, run in enumerate(runs):
        manifest = json.loads((run / "manifest.json").read_text())
        (run / "manifest.json").write_text(json.dumps({**manifest, "servers": {f"m{number}": f"http://{number}"}}))
    merge_runs(tmp_path / "out", runs)
    assert (read_manifest(tmp_path / "out") or {})["servers"] == {"m0": "http://0", "m1": "http://1"}


def test_the_result_must_be_a_folder_of_its_own(tmp_path: Path) -> None:
    run = shard_run(tmp_path / "run")
    with pytest.raises(ValueError, match="must be a folder of its own"):
        merge_runs(run, [run])
    with pytest.raises(ValueError, match="must be different folders"):
        merge_runs(tmp_path / "out", [run, tmp_path / "." / "run" / ".." / "run"])
    with pytest.raises(ValueError, match="at least one"):
        merge_runs(tmp_path / "out", [])
    with pytest.raises(FileNotFoundError, match="run must be a directory that"):
        merge_runs(tmp_path / "out", [run, tmp_path / "none"])


def test_a_damaged_part_is_named_and_the_result_is_whole(tmp_path: Path) -> None:
    part = shard_run(tmp_path / "part", reply=lambda request: paid(request)._replace(raw="x" * 3000))
    path = part / "journal.sqlite"
    with path.open("r+b") as file:
        for page in range(path.stat().st_size // 4096 // 2, path.stat().st_size // 4096):
            file.seek(page * 4096)
            file.write(b"\xa5" * 4096)
    with pytest.raises(OSError, match=f"must be a sound SQLite file; got .* at {path}"):
        merge_runs(tmp_path / "out", [part])
    with Journal(tmp_path / "out") as journal:
        assert (journal.repaired, journal.spending().replies) == (False, 0)


def test_a_run_that_is_being_written_is_refused(tmp_path: Path) -> None:
    run = shard_run(tmp_path / "run")
    with RunLock(run), pytest.raises(RuntimeError, match="must be written by one process at a time"):
        merge_runs(tmp_path / "out", [run])
    assert merge_runs(tmp_path / "out", [run]).added == 20


def test_a_journal_of_something_else_is_not_overwritten(tmp_path: Path) -> None:
    run = shard_run(tmp_path / "run")
    with Journal(_made(tmp_path / "out")) as journal:
        journal.set_requests([AskedRequest("key", "q0", "ann")], "other")
    with pytest.raises(ValueError, match="must be new or of an earlier merge of the same runs"):
        merge_runs(tmp_path / "out", [run])


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


# --- Batches ---


def in_batches(run: Path, count: int | None = None) -> list[str]:
    """Put the first so many pending requests of a run into a batch; returns their keys."""
    with Journal(run) as journal:
        requests = list(journal.requests())
        chosen = [requests[position] for position in journal.pending()[:count]]
        batch = Batch("intent", time.time(), len(chosen), 100, "file-1", "batch-1")
        Ledger(journal, []).add(batch, [request.key for request in chosen])
    return [request.key for request in chosen]


def half_failed(request: Request) -> Reply:
    return paid(request) if int(request.question_id[1:]) < 5 else not_ok("failed")


def test_what_a_part_has_in_batches_is_not_asked_by_the_result(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of 20 requests 10 have no reply, 4 of them are in a batch; then it brings one reply, and is collected."""
    part, out = shard_run(tmp_path / "part", reply=half_failed), tmp_path / "out"
    keys = in_batches(part, 4)
    summary = merge_runs(out, [part])
    assert (summary.remaining, summary.in_batches) == (10, ((str(part), 4),))
    assert caplog.messages == [
        f"4 requests of {part} are in batches at the provider: collect them there, and merge again."
    ]
    for by_batches in (False, True):
        with Journal(out, read_only=True) as journal, pytest.raises(ValueError, match="must not ask") as error:
            check_not_in_batches(journal, by_batches=by_batches)
        assert f"got 4 requests of {out} in batches of {part}." in str(error.value)
    assert (
        f"\n4 requests are in batches of {part}, which was merged into this run. Once that has collected them, merge it "
        "again.\n"
    ) in overview(out).table()
    # A merge of the merge knows it too.
    assert merge_runs(tmp_path / "further", [out]).in_batches == ((str(part), 4),)
    with Journal(part) as journal:
        asked = {request.key: request for request in journal.requests()}
        journal.record([(asked[keys[0]], ok(1))])
        Ledger(journal, []).came_back("intent", [keys[0]], [], [])
    # Without the part, what is in the result already still counts.
    assert merge_runs(out, [shard_run(tmp_path / "other", Shard(1, 1000))]).in_batches == ((str(part), 4),)
    assert merge_runs(out, [part]).in_batches == ((str(part), 3),)
    with Journal(part) as journal:
        Ledger(journal, []).collected("intent")
    assert merge_runs(out, [part]).in_batches == ()
    with Journal(out, read_only=True) as journal:
        check_not_in_batches(journal, by_batches=False)


def test_a_merge_that_is_killed_never_frees_what_is_in_batches(tmp_path: Path) -> None:
    """The batch has come: as long as its replies are not there, the result must not ask for them."""
    part = shard_run(tmp_path / "part", reply=half_failed)
    for limit in range(1, 50):
        copy, out = tmp_path / f"copy{limit}", tmp_path / f"out{limit}"
        shutil.copytree(part, copy)
        keys = in_batches(copy)
        merge_runs(out, [copy])
        with Journal(copy) as journal:
            asked = {request.key: request for request in journal.requests()}
            journal.record([(asked[key], ok(1)) for key in keys])
            Ledger(journal, []).collected("intent")
        with transactions_at_most(limit) as begun:
            merge_runs(out, [copy])
        with Journal(out, read_only=True) as journal:
            assert sum(number for _, number in journal.elsewhere()) == journal.remaining()
        if len(begun) <= limit:
            break
    with Journal(out, read_only=True) as journal:
        assert journal.remaining() == 0


def test_unclaimed_replies_come_along_and_are_counted_once(tmp_path: Path) -> None:
    part, out = shard_run(tmp_path / "part"), tmp_path / "out"
    with Journal(part) as journal:
        Ledger(journal, []).keep_unclaimed("batch-1", [("key", b"{}", '{"prompt_tokens": 7, "completion_tokens": 1}')])
    for _ in range(2):
        merge_runs(out, [part])
        assert spending(out) == spending(part) == Spending(0.0, 207, 21, 21, 21)


# --- What a merge knows of the runs ---


def test_duplicates_without_tokens_are_counted_once(tmp_path: Path) -> None:
    runs = [shard_run(tmp_path / name, reply=lambda r: by_number(r)._replace(usage=None)) for name in ("a", "b")]
    assert merge_runs(tmp_path / "out", runs).duplicates == 20
    again = merge_runs(tmp_path / "out", runs)
    assert (again.duplicates, again.known) == (0, 40)
    again = merge_runs(tmp_path / "out", runs[::-1])
    assert (again.duplicates, again.known) == (0, 40)
