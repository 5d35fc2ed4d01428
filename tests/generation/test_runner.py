import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from generation_fixtures import FakeRespondent, ask, by_number, not_ok, ok, personas, questions, shown_questions

from fairpp_hf.generation import BatchLimits, RunInterrupted, RunSummary, runner
from fairpp_hf.generation.plan import RequestPlan
from fairpp_hf.generation.summary import CostBar
from fairpp_hf.personas import load_personas
from fairpp_hf.personas.persona_set import recorded_personas
from fairpp_hf.respondents import OpenAIRespondent, Reply, Request, RespondentStopped
from fairpp_hf.runs import load_run
from fairpp_hf.runs.journal import Journal
from fairpp_hf.runs.lock import RunLock
from fairpp_hf.runs.shards import Shard
from fairpp_hf.runs.spending import Spending


def test_everybody_is_asked_everything_once(tmp_path: Path) -> None:
    respondent = FakeRespondent()
    summary = ask(tmp_path / "new" / "run", respondent)
    assert respondent.pairs == [(persona, f"q{n}") for persona in ("ann", "bob") for n in range(5)]
    counts = dict.fromkeys(("ok", "invalid", "refusal", "empty", "truncated", "failed"), 0)
    assert summary == RunSummary(
        asked=10,
        reused=0,
        remaining=0,
        personas={"ann": {**counts, "ok": 5}, "bob": {**counts, "ok": 5}},
        of_other_shards=0,
        set_aside=0,
        spending=Spending(0.0, 0, 0, 10, 10),
        seconds=summary.seconds,
        path=tmp_path / "new" / "run",
    )


def test_a_second_call_asks_nothing(tmp_path: Path) -> None:
    ask(tmp_path, FakeRespondent())
    written = (tmp_path / "manifest.json").read_bytes()
    respondent = FakeRespondent()
    summary = ask(tmp_path, respondent)
    assert (respondent.asked, summary.asked, summary.reused) == ([], 0, 10)
    assert (tmp_path / "manifest.json").read_bytes() == written


def test_only_failed_requests_are_asked_again(tmp_path: Path) -> None:
    statuses = ["failed", "invalid", "refusal", "empty", "truncated"]
    first = ask(tmp_path, FakeRespondent(lambda request: not_ok(statuses[int(request.question_id[1:])])))
    assert first.counts == {"ok": 0, **dict.fromkeys(statuses, 2)}
    respondent = FakeRespondent()
    second = ask(tmp_path, respondent)
    assert respondent.pairs == [("ann", "q0"), ("bob", "q0")]
    assert second.counts == {**first.counts, "ok": 2, "failed": 0}
    assert second.table() == (
        "persona  ok  invalid  refusal  empty  truncated\n"
        "ann       1        1        1      1          1\n"
        "bob       1        1        1      1          1\n"
        "all       2        2        2      2          2\n"
        "Spent: unknown cost; 0 input and 0 output tokens, in 10 replies that were ever received."
    )


def told_change(run: Path, what: str, had: int, counting: int) -> str:
    return (
        f"The run {run} now asks for something else: {what}. Of its {had} replies, {counting} count for that; the others "
        "stay in its journal, and count again when the earlier command is given."
    )


def test_a_changed_portrait_is_asked_anew_and_never_mixed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ask(tmp_path, FakeRespondent(lambda request: ok(0)))
    changed = personas("ann", "bob", bob="You are another Bob.")
    respondent = FakeRespondent(lambda request: ok(1))
    summary = ask(tmp_path, respondent, changed)
    assert caplog.messages == [told_change(tmp_path, "changed portraits: bob", 10, 5)]
    assert respondent.pairs == [("bob", f"q{n}") for n in range(5)]
    assert (summary.asked, summary.reused) == (5, 5)
    assert load_run(tmp_path, questions())["answer"].to_pylist() == [0] * 5 + [1] * 5
    # The replies to the earlier portrait are still there, for when it is asked for again.
    respondent = FakeRespondent()
    ask(tmp_path, respondent)
    assert respondent.asked == []
    assert load_run(tmp_path, questions())["answer"].to_pylist() == [0] * 10


def test_more_questions_cost_only_the_new_ones(tmp_path: Path) -> None:
    ask(tmp_path, FakeRespondent(), what=questions(3))
    respondent = FakeRespondent()
    summary = ask(tmp_path, respondent, what=questions(5))
    assert respondent.pairs == [("ann", "q3"), ("ann", "q4"), ("bob", "q3"), ("bob", "q4")]
    assert (summary.asked, summary.reused) == (4, 6)


def test_a_half_finished_change_shows_no_old_answer(tmp_path: Path) -> None:
    def stops_at_q2(request: Request) -> Reply:
        if request.question_id == "q2":
            raise RespondentStopped("No more.")
        return ok(1)

    ask(tmp_path, FakeRespondent(lambda request: ok(0)))
    with pytest.raises(RespondentStopped):
        ask(tmp_path, FakeRespondent(stops_at_q2, model="other"))
    records = load_run(tmp_path, questions())
    assert records["question_id"].to_pylist() == ["q0", "q1"]
    assert records["answer"].to_pylist() == [1, 1]
    assert set(records["respondent"].to_pylist()) == {"fake:other (simulated)"}


def test_another_model_or_prompt_is_asked_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ask(tmp_path, FakeRespondent())
    respondent = FakeRespondent(model="other")
    assert ask(tmp_path, respondent).asked == 10
    table = questions().set_column(14, "prompt", pa.array([f"Prompt {n}{'!' if n == 3 else '?'}" for n in range(5)]))
    respondent = FakeRespondent(model="other")
    ask(tmp_path, respondent, what=table)
    assert respondent.pairs == [("ann", "q3"), ("bob", "q3")]
    assert caplog.messages == [
        told_change(
            tmp_path, "respondent 'fake:fake (simulated)' -> 'fake:other (simulated)'; model 'fake' -> 'other'", 10, 0
        ),
        told_change(tmp_path, "questions 5 (all) -> others", 10, 8),
    ]


def test_the_manifest_says_what_was_asked(tmp_path: Path) -> None:
    selection = {"split": "test", "limit": 5}
    ask(tmp_path, FakeRespondent(), selection=selection)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["respondent"] == {"name": "fake:fake (simulated)", "settings": {"kind": "fake", "model": "fake"}}
    assert manifest["questions"]["selection"] == selection
    assert manifest["questions"]["count"] == 5
    assert list(manifest["personas"]["portraits"]) == ["ann", "bob"]


# --- Samples, orders, shards ---


def test_samples_and_orders_are_asked_one_after_the_other_and_each_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second, third = FakeRespondent(), FakeRespondent(), FakeRespondent()
    ask(tmp_path, first, what=shown_questions())
    ask(tmp_path, second, what=shown_questions(), samples=2, swap=True)
    assert [(request.swapped, request.sample) for request in second.asked[:3]] == [(False, 1), (True, 0), (True, 1)]
    assert len(second.asked) == 30
    assert ask(tmp_path, third, what=shown_questions(), samples=2, swap=True).reused == 40
    assert third.asked == []
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert (manifest["samples"], manifest["swap"], manifest["requests"]["count"]) == (2, True, 40)
    assert caplog.messages == [told_change(tmp_path, "samples 1 -> 2; swap False -> True", 10, 10)]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shards_ask_every_request_once_between_them(tmp_path: Path, count: int) -> None:
    asked: list[tuple[str, str]] = []
    for index in range(1, count + 1):
        run, respondent = tmp_path / str(index), FakeRespondent()
        summary = ask(run, respondent, shard=Shard(index, count))
        assert (summary.asked, summary.remaining, summary.of_other_shards) == (len(respondent.asked), 0, 0)
        assert json.loads((run / "manifest.json").read_text())["shard"] == f"{index}/{count}"
        again = ask(run, FakeRespondent(), shard=Shard(index, count))
        assert (again.asked, again.reused) == (0, summary.asked)
        asked += respondent.pairs
    assert Counter(asked) == Counter({(p, f"q{n}"): 1 for p in ("ann", "bob") for n in range(5)})


def test_replies_of_other_shards_are_kept_and_counted_apart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second = (ask(tmp_path, FakeRespondent(), shard=Shard(index, 2)) for index in (1, 2))
    assert first.asked + second.asked == 10
    assert (second.reused, second.remaining, second.of_other_shards) == (0, 0, first.asked)
    assert second.counts["ok"] == 10
    assert second.table().splitlines()[-2] == f"{first.asked} of these replies are to requests of other shards."
    assert caplog.messages == [told_change(tmp_path, "shard '1/2' -> '2/2'", first.asked, first.asked)]
    assert ask(tmp_path, FakeRespondent()).reused == 10


def test_the_cost_that_is_projected() -> None:
    """5 before; two replies for 2 and 4 are 3 each, so that the four left bring 12."""
    bar = CostBar("m", 10, 4, Spending(5.0, 0, 0, 2, 0), progress=False)
    assert bar.cost() == ""
    bar.add(1, [2.0])
    bar.add(1, [4.0, None])
    assert bar.cost() == "$11.00 of about $23.00"
    bar.add(0, [None], unpriced=1)
    assert bar.cost() == "$11.00 of about $23.00, 1 unpriced"
    no_price = CostBar("m", 10, 4, None, progress=False)
    no_price.add(1, [None], unpriced=1)
    assert no_price.cost() == ""


def test_nothing_is_kept_in_memory_of_a_reply(tmp_path: Path) -> None:
    """Three times the replies, of 4 kB each, do not take the memory of what they say."""

    def most(count: int) -> int:
        tracemalloc.start()
        respondent = Forgetful(lambda request: by_number(request)._replace(raw="x" * 4000))
        ask(tmp_path / str(count), respondent, personas("ann"), table.slice(0, count))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    table = questions(900)
    few, many = most(300), most(900)
    assert many - few < 600 * 1000


class Forgetful(FakeRespondent):
    """Keeps nothing of what it is asked; every twentieth reply takes time, so that it and those before are saved."""

    async def answer(self, requests: Sequence[Request]) -> AsyncIterator[tuple[int, Reply]]:
        for index, request in enumerate(requests):
            await asyncio.sleep(0)
            yield index, self.reply(request)._replace(latency_s=0.01 * (index % 20 == 0))


# --- Stopping ---


def test_a_respondent_that_stops_keeps_what_came(tmp_path: Path) -> None:
    def stops(request: Request) -> Reply:
        if request.persona == "bob":
            raise RespondentStopped("The server must accept the key; got 401.")
        return by_number(request)

    with pytest.raises(RespondentStopped) as error:
        ask(tmp_path, FakeRespondent(stops))
    assert str(error.value) == (
        f"The server must accept the key; got 401. 5 of 10 requests have a reply in {tmp_path}. "
        "The same command or call continues."
    )
    assert ask(tmp_path, FakeRespondent()).asked == 5


def test_requests_that_failed_are_left_where_a_run_is_interrupted(tmp_path: Path) -> None:
    def interrupts(request: Request) -> Reply:
        if request.question_id == "q4":
            os.kill(os.getpid(), signal.SIGTERM)
        return not_ok("failed") if request.question_id == "q3" else by_number(request)

    with pytest.raises(RunInterrupted) as interruption:
        ask(tmp_path, FakeRespondent(interrupts))
    summary = interruption.value.summary
    assert summary.remaining == 10 - summary.counts["ok"]
    assert summary.counts["failed"] > 0


@pytest.mark.parametrize("latency_s", [0.0, 0.01])
def test_an_unforeseen_error_keeps_what_came(tmp_path: Path, latency_s: float) -> None:
    def breaks(request: Request) -> Reply:
        if request.persona == "bob":
            raise ZeroDivisionError
        return ok(0, latency_s)

    with pytest.raises(ZeroDivisionError):
        ask(tmp_path, FakeRespondent(breaks))
    assert ask(tmp_path, FakeRespondent()).reused == 5


def test_a_respondent_that_leaves_requests_out_is_an_error(tmp_path: Path) -> None:
    class Lazy(FakeRespondent):
        async def answer(self, requests: Sequence[Request]) -> AsyncIterator[tuple[int, Reply]]:
            yield 0, ok(0)

    with pytest.raises(RuntimeError) as error:
        ask(tmp_path, Lazy())
    assert str(error.value) == "A respondent must answer every request; got 1 replies to 10 requests."


class Concurrent(FakeRespondent):
    """Three requests in flight, 20 ms each; at the start of each, counts what is on disk."""

    def __init__(self, run: Path, kill_at: int = -1, signals: int = 1, signal_number: int = signal.SIGTERM) -> None:
        super().__init__()
        self.run, self.kill_at, self.signals, self.signal_number = run, kill_at, signals, signal_number
        self.started, self.finished = 0, 0
        self.not_on_disk: list[int] = []

    async def _one(self, request: Request) -> Reply:
        with sqlite3.connect(self.run / "journal.sqlite") as connection:
            on_disk = connection.execute("SELECT count(*) FROM replies").fetchone()[0]
        connection.close()
        self.started += 1
        self.not_on_disk.append(self.started - on_disk)
        if self.started == self.kill_at:
            for _ in range(self.signals):
                os.kill(os.getpid(), self.signal_number)
                # Two of the same that come together are one.
                await asyncio.sleep(0.002)
        await asyncio.sleep(0.02)
        self.finished += 1
        return by_number(request)

    async def answer(self, requests: Sequence[Request]) -> AsyncIterator[tuple[int, Reply]]:
        waiting = enumerate(requests)
        tasks: dict[asyncio.Task[Reply], int] = {}
        try:
            while True:
                while len(tasks) < 3 and (following := next(waiting, None)):
                    tasks[asyncio.create_task(self._one(following[1]))] = following[0]
                if not tasks:
                    return
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    yield tasks.pop(task), task.result()
        finally:
            for task in tasks:
                task.cancel()


def test_a_request_is_sent_only_when_the_replies_before_it_are_on_disk(tmp_path: Path) -> None:
    """Started and not on disk, the starting one included, are never more than the three in flight: a kill at any moment
    costs no more than these."""
    respondent = Concurrent(tmp_path)
    ask(tmp_path, respondent, what=questions(30))
    assert respondent.started == 60
    assert max(respondent.not_on_disk) == 3


def test_one_signal_finishes_what_is_in_flight(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    respondent = Concurrent(tmp_path, kill_at=10)
    with pytest.raises(RunInterrupted) as interruption:
        ask(tmp_path, respondent, what=questions(30))
    assert interruption.value.signal_number == signal.SIGTERM
    assert respondent.started <= 12
    assert respondent.finished == respondent.started == interruption.value.summary.asked
    assert interruption.value.summary.remaining == 60 - respondent.started
    assert str(interruption.value) == (
        f"stopped with {60 - respondent.started} requests left; the replies are kept in {tmp_path}, and the same command "
        "or call continues"
    )
    assert "Stopping: finishing the requests in flight. Once more to drop them." in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is handler
    again = Concurrent(tmp_path)
    ask(tmp_path, again, what=questions(30))
    assert again.started == 60 - respondent.started


def test_a_second_signal_drops_what_is_in_flight_and_keeps_the_rest(tmp_path: Path) -> None:
    respondent = Concurrent(tmp_path, kill_at=10, signals=2, signal_number=signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        ask(tmp_path, respondent, what=questions(30))
    assert respondent.finished < respondent.started
    with Journal(tmp_path, read_only=True) as journal:
        kept = sum(journal.counts()["ann"].values())
    assert respondent.started - 3 <= kept <= respondent.finished


def test_a_notebook_has_a_loop_of_its_own(tmp_path: Path) -> None:
    async def cell() -> RunSummary:
        return ask(tmp_path, FakeRespondent())

    assert asyncio.run(cell()).asked == 10


def test_an_interrupted_notebook_finishes_what_is_in_flight(tmp_path: Path) -> None:
    """The cell's loop holds the main thread, which alone gets the signal; the run's own loop is in another."""
    respondent = Concurrent(tmp_path, kill_at=10, signal_number=signal.SIGINT)

    async def cell() -> None:
        ask(tmp_path, respondent, what=questions(30))

    with pytest.raises(RunInterrupted) as interruption:
        asyncio.run(cell())
    assert interruption.value.signal_number == signal.SIGINT
    assert respondent.started <= 12
    assert respondent.finished == respondent.started == interruption.value.summary.asked


# --- Before anything is asked ---


def test_samples_that_would_be_alike_are_not_paid_for(tmp_path: Path) -> None:
    respondent = OpenAIRespondent("m", base_url="http://127.0.0.1:1/v1")
    with pytest.raises(ValueError, match="samples above 1 must come with a temperature above 0; got 3"):
        ask(tmp_path / "run", respondent, samples=3)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("sign", ["table", "stories", "storyteller"])
def test_a_part_of_scenarios_is_no_run_of_its_own(tmp_path: Path, sign: str) -> None:
    folder = tmp_path / "scenarios"
    stories = folder / "stories"
    stories.mkdir(parents=True)
    teller = FakeRespondent()
    teller.settings = {"kind": "storyteller"}
    if sign == "table":
        (folder / "scenarios.parquet").touch()
    else:
        ask(stories, teller, personas("teller"), part_of_scenarios=True)
    run = stories if sign == "storyteller" else folder
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match="run must not be a part of scenarios"):
        ask(run, FakeRespondent())
    assert sorted(tmp_path.rglob("*")) == before
    assert ask(run, FakeRespondent(), part_of_scenarios=True).remaining == 0


def test_the_manifest_is_read_when_no_other_process_can_write_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two processes that begin at once, the second one would otherwise not know of the first one's manifest."""
    read = runner.read_manifest
    locked = []

    def reads(run: Path) -> dict[str, Any] | None:
        with contextlib.suppress(RuntimeError), RunLock(run):
            locked.append(False)
            return read(run)
        locked.append(True)
        return read(run)

    monkeypatch.setattr(runner, "read_manifest", reads)
    ask(tmp_path, FakeRespondent(), part_of_scenarios=True)
    assert locked == [True]


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("")
    respondent = FakeRespondent()
    with pytest.raises(ValueError, match=r"run must be a new directory .* other files such as 'thesis.txt'"):
        ask(tmp_path, respondent)
    with pytest.raises(ValueError, match=r"run must be a directory; got the file .*thesis.txt"):
        ask(tmp_path / "thesis.txt", respondent)
    assert respondent.asked == []
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("emptied", [False, True])
def test_a_lost_journal_is_not_bought_again_in_silence(tmp_path: Path, emptied: bool) -> None:
    ask(tmp_path, FakeRespondent())
    if emptied:
        (tmp_path / "journal.sqlite").write_bytes(b"")
    else:
        (tmp_path / "journal.sqlite").unlink()
    respondent = FakeRespondent()
    with pytest.raises(OSError, match="must have its journal") as error:
        ask(tmp_path, respondent)
    assert str(error.value) == (
        f"A run with a manifest must have its journal; got none, or an empty one, at {tmp_path / 'journal.sqlite'}. "
        f"Restore it from a copy, or remove {tmp_path / 'manifest.json'} to ask every question again."
    )
    assert respondent.asked == []


@pytest.mark.parametrize("batch", [None, BatchLimits()])
def test_what_the_parts_of_a_merged_run_have_in_batches_is_not_bought_again(
    tmp_path: Path, batch: BatchLimits | None
) -> None:
    respondent = OpenAIRespondent("m", base_url="http://127.0.0.1:1/v1")
    key = RequestPlan(personas(), questions()).keys(respondent.settings)[3]
    with Journal(tmp_path) as journal, journal.transaction() as connection:
        connection.execute("INSERT INTO elsewhere VALUES (?, 'k', ?)", (key, str(tmp_path / "part")))
    with pytest.raises(ValueError, match="must not ask what its parts have in batches; got 1 requests"):
        ask(tmp_path, respondent, batch=batch)


def test_a_damaged_file_is_saved_from_and_completed(tmp_path: Path) -> None:
    who, what = personas("ann"), questions(300)
    raw = "x" * 1800
    ask(tmp_path, FakeRespondent(lambda request: by_number(request)._replace(raw=raw)), who, what)
    whole = load_run(tmp_path, what)
    path = tmp_path / "journal.sqlite"
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size * 2 // 3)
    respondent = FakeRespondent()
    summary = ask(tmp_path, respondent, who, what)
    assert 0 < len(respondent.asked) == summary.asked < 300
    assert load_run(tmp_path, what) == whole


# --- Servers ---


class Served(FakeRespondent):
    """Asks a server at an address, which names its model."""

    def __init__(self, address: str, served: str = "weights-1", model: str = "m", reply=by_number) -> None:
        super().__init__(lambda request: reply(request)._replace(detail={"model": served}), model)
        self.address = address


HERE, THERE = "http://here:8000/v1", "http://there:8000/v1"


def servers(run: Path) -> dict[str, str]:
    recorded: dict[str, str] = json.loads((run / "manifest.json").read_text())["servers"]
    return recorded


def test_another_address_keeps_the_replies_and_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fails_for_bob(request: Request) -> Reply:
        return not_ok("failed") if request.persona == "bob" else by_number(request)

    ask(tmp_path, Served(HERE, reply=fails_for_bob))
    assert servers(tmp_path) == {"fake:m (simulated)": HERE}
    summary = ask(tmp_path, Served(THERE))
    assert (summary.asked, summary.reused) == (5, 5)
    assert servers(tmp_path) == {"fake:m (simulated)": THERE}
    ask(tmp_path, Served(THERE))
    assert caplog.messages == [
        f"The run {tmp_path} now asks fake:m (simulated) at {THERE}, and asked it at {HERE} before. Replies are kept by the "
        "model's name, so the 5 that it has stay. If another model answers there, use another run, or serve it under a "
        "name of its own."
    ]


MIXED = (
    "The server now names its model 'weights-2', and named it 'weights-1' in the first reply of the run {run}: its answers "
    "may come from two models. Use another run for one of them."
)


def test_a_server_that_changes_its_model_within_a_call_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def swapped(request: Request) -> Reply:
        number = 1 if request.persona == "ann" else 2
        return by_number(request)._replace(detail={"model": f"weights-{number}"})

    ask(tmp_path, FakeRespondent(swapped))
    assert caplog.messages == [MIXED.format(run=tmp_path)]


def test_a_server_that_changes_its_model_between_calls_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ask(tmp_path, Served(HERE), what=questions(3))
    ask(tmp_path, Served(HERE), what=questions(4))
    assert "names its model" not in caplog.text
    ask(tmp_path, Served(HERE, "weights-2"), what=questions(9))
    assert [message for message in caplog.messages if "names its model" in message] == [MIXED.format(run=tmp_path)]


# --- The persona set ---


def test_the_manifest_holds_the_persona_set_whole(tmp_path: Path) -> None:
    own = load_personas("seven_segments_2025")
    own = replace(own, id="mine", title="Mine", personas=(replace(own.personas[0], choice=None), *own.personas[1:]))
    ask(tmp_path, FakeRespondent(lambda request: ok(0)), own)
    written = (tmp_path / "manifest.json").read_bytes()
    assert recorded_personas(json.loads(written)["provenance"]["persona_set"], "manifest") == own
    ask(tmp_path, FakeRespondent(), own)
    assert (tmp_path / "manifest.json").read_bytes() == written
    # What changes no request is recorded as well, and asks nothing.
    again = FakeRespondent()
    ask(tmp_path, again, replace(own, title="Mine, corrected"))
    assert again.asked == []
    assert (
        json.loads((tmp_path / "manifest.json").read_text())["provenance"]["persona_set"]["title"] == "Mine, corrected"
    )
