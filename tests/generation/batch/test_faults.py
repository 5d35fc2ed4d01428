"""Fault 2, a kill around a batch, and batches that fail in part: nothing is bought twice, and nothing is lost."""

import errno
import os
import re
import signal
import sqlite3
from contextlib import closing
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from generation_fixtures import personas, questions, unfinished_batches
from killed_processes import forkserver, kill
from loopback_batches import BatchServer, Fault, Outcome, of_batches
from loopback_openai import Call, Served

from fairpp_hf.generation import BatchLimits, RunOptions, RunSummary, generate
from fairpp_hf.generation.batch import api as batch_api
from fairpp_hf.generation.batch import files as batch_files
from fairpp_hf.generation.batch import submit as batch_submit
from fairpp_hf.generation.batch.ledger import Ledger
from fairpp_hf.respondents import OpenAIRespondent
from fairpp_hf.respondents.base import RespondentStopped
from fairpp_hf.runs import load_run
from fairpp_hf.runs.batches import give_up_batches
from fairpp_hf.runs.database import BATCHES_UNKNOWN
from fairpp_hf.runs.journal import Journal

QUESTIONS = 30
LIMITS = BatchLimits(requests=25, poll_s=0.02)
"""60 requests: 1 goes the ordinary way, and 59 in batches of 25, 25 and 9."""
SIZES = [25, 25, 9]


def go_on_until_saved(run: Path, base_url: str, saves: int) -> None:
    """What the process to be killed does. It saves 5 lines at a time, so that it can be killed between two savings.

    Args:
        run: the run's directory.
        base_url: the server.
        saves: after how many savings it kills itself; -1 for never.
    """
    batch_files.LINES_AT_ONCE = 5
    record, left = Journal.record, [saves]

    def counting(*arguments: Any, **options: Any) -> None:
        record(*arguments, **options)
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    Journal.record = counting  # type: ignore[method-assign]
    generate(
        run,
        OpenAIRespondent("m", base_url=base_url, ask="text", logprobs=False),
        personas(),
        questions(QUESTIONS),
        RunOptions(batch=LIMITS, progress=False),
    )


def go_on(run: Path, server: BatchServer) -> RunSummary:
    respondent = OpenAIRespondent("m", base_url=server.base_url, ask="text", logprobs=False)
    return generate(run, respondent, personas(), questions(QUESTIONS), RunOptions(batch=LIMITS, progress=False))


class Cut(BaseException):
    """Ends a call as a kill does, within the test's process: nothing but the files is left."""


def cut(*_: object) -> None:
    raise Cut


def cut_short(run: Path, server: BatchServer, name: str, number: int = 0) -> None:
    """Ask until a call of the API is about to be made for the given time, and end there."""
    call = getattr(batch_api.BatchApi, name)
    calls = iter(range(number + 1))

    async def counted(*args: object) -> object:
        if next(calls) == number:
            raise Cut
        return await call(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch_api.BatchApi, name, counted)
        with pytest.raises(Cut):
            go_on(run, server)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    with BatchServer() as server:
        run = tmp_path_factory.mktemp("whole") / "run"
        go_on(run, server)
    return load_run(run, questions(QUESTIONS))


class Killed:
    """A process on a run, and the server that kills it."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.process: BaseProcess | None = None
        self.where = ("", -1, False, None)

    def fault(self, name: str, number: int) -> Fault | None:
        call, kill_at, is_after, sent = self.where
        if self.process is None or (name, number) != (call, kill_at):
            return None
        return Fault(sent=sent, after=self.kill, drop=sent is None) if is_after else Fault(status=500, before=self.kill)

    def kill(self) -> None:
        assert self.process is not None
        kill(self.process)

    def start(self, server: BatchServer, saves: int = -1) -> None:
        self.process = forkserver().Process(target=go_on_until_saved, args=(self.run, server.base_url, saves))
        self.process.start()
        self.process.join(timeout=60)
        assert self.process.exitcode == -signal.SIGKILL
        self.process = None


@pytest.mark.parametrize(
    ("call", "number", "is_after", "sent", "saves"),
    [
        pytest.param("POST /files", 0, False, None, -1, id="after the intent"),
        pytest.param("POST /files", 1, True, None, -1, id="after the upload, its answer lost"),
        pytest.param("POST /batches", 0, False, None, -1, id="after the upload"),
        pytest.param("POST /batches", 1, True, None, -1, id="after the batch, its answer lost"),
        pytest.param("GET /batches", 2, False, None, -1, id="while waiting"),
        pytest.param("GET /files/content", 1, True, 2000, -1, id="within a download"),
        pytest.param("", -1, False, None, 4, id="between two savings of a batch"),
    ],
)
def test_a_killed_process_leaves_nothing_lost_and_nothing_bought_twice(
    call: str, number: int, is_after: bool, sent: int | None, saves: int, uninterrupted: pa.Table, tmp_path: Path
) -> None:
    killed = Killed(tmp_path / "run")
    killed.where = call, number, is_after, sent
    with BatchServer(fault=killed.fault, polls=2) as server:
        killed.start(server, saves)
        summary = go_on(killed.run, server)
        assert summary.counts["ok"] == 60
        assert load_run(killed.run, questions(QUESTIONS)).equals(uninterrupted)
        # One ordinary request a process at most: the second makes one if it has something new to submit.
        assert server.total in (1, 2)
        assert server.total + sum(server.answers.values()) == 60
        assert server.answered_twice() == []
        assert len(server.intents()) == len(set(server.intents()))
        # The second process's own request may be one of the last batch.
        assert sorted(len(server.inputs(batch)) for batch in server.ours()) in (sorted(SIZES), sorted([25, 25, 8]))
        assert list((killed.run / "batches").iterdir()) == []


@pytest.mark.parametrize("call", ["upload", "create"])
@pytest.mark.parametrize("who", [("ann", "bob"), ("cleo",)])
def test_an_intent_that_was_not_submitted_leaves_its_requests_free(
    call: str, who: tuple[str, ...], tmp_path: Path
) -> None:
    """Whether or not the run still asks for them."""
    run = tmp_path / "run"
    with BatchServer() as server:
        cut_short(run, server, call)
        with closing(sqlite3.connect(run / "journal.sqlite")) as ledger:
            ((intent, requests, batch_id),) = ledger.execute(
                "SELECT intent, requests, batch_id FROM batches"
            ).fetchall()
        assert (requests, batch_id) == (25, None)
        respondent = OpenAIRespondent("m", base_url=server.base_url, ask="text", logprobs=False)
        assert generate(
            run, respondent, personas(*who), questions(QUESTIONS), RunOptions(batch=LIMITS, progress=False)
        ).counts["ok"] == QUESTIONS * len(who)
        assert intent not in server.intents()
    assert server.answered_twice() == []
    assert list((run / "batches").iterdir()) == []


def test_a_batch_that_is_not_in_the_list_yet_is_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the submission and its note in the ledger."""
    run = tmp_path / "run"
    with BatchServer(hidden_s=0.5) as server:
        with monkeypatch.context() as patch:
            patch.setattr(Ledger, "submitted", cut)
            with pytest.raises(Cut):
                go_on(run, server)
        monkeypatch.setattr(batch_api, "_SETTLING_S", 0.6)
        assert go_on(run, server).counts["ok"] == 60
        assert [len(server.inputs(batch)) for batch in server.ours()] == [25, 25, 8]
    assert (len(set(server.intents())), server.answered_twice()) == (3, [])


@pytest.mark.parametrize(
    "lost",
    [
        pytest.param(Fault(drop=True), id="connection dropped"),
        pytest.param(Fault(body=b"<html>"), id="no JSON"),
        pytest.param(Fault(body=b'{"id": 3}'), id="no batch"),
    ],
)
def test_a_batch_whose_answer_was_lost_is_looked_for_before_it_is_submitted_again(lost: Fault, tmp_path: Path) -> None:
    with BatchServer(fault=lambda name, number: lost if (name, number) == ("POST /batches", 1) else None) as server:
        summary = go_on(tmp_path / "run", server)
    assert summary.counts["ok"] == 60
    assert (server.api_calls["POST /batches"], len(server.ours()), server.answered_twice()) == (3, 3, [])


def test_a_lost_ledger_is_made_good_from_the_list_of_batches(tmp_path: Path) -> None:
    """As after a damaged journal, of which the replies alone are saved."""
    run = tmp_path / "run"
    with BatchServer(polls=3) as server:
        server.add_foreign(150)
        cut_short(run, server, "retrieve")
        assert len(server.ours()) == 3
        with closing(sqlite3.connect(run / "journal.sqlite")) as ledger:
            ledger.executescript("DROP TABLE batches; DROP TABLE batch_requests")
        # One input file is at the server only.
        (run / "batches" / f"{server.intents()[1]}.jsonl").unlink()
        summary = go_on(run, server)
    assert summary.counts["ok"] == 60
    assert (server.total, len(server.ours()), server.answered_twice()) == (1, 3, [])


def test_a_run_whose_journal_has_lost_its_key_finds_its_batches_by_the_manifests(tmp_path: Path) -> None:
    """Under another key it would find none at the provider, and buy all of them a second time."""
    run = tmp_path / "run"
    with BatchServer(polls=3) as server:
        cut_short(run, server, "retrieve")
        with closing(sqlite3.connect(run / "journal.sqlite")) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'meta'").fetchone()
        with (run / "journal.sqlite").open("r+b") as file:
            file.seek((page - 1) * 4096)
            file.write(b"\xff" * 4096)
        summary = go_on(run, server)
    assert summary.counts["ok"] == 60
    assert (server.total, len(server.ours()), server.answered_twice()) == (1, 3, [])


def test_a_batch_of_unknown_requests_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = tmp_path / "run"
    with BatchServer(polls=3) as server:
        cut_short(run, server, "retrieve")
        with closing(sqlite3.connect(run / "journal.sqlite")) as ledger:
            ledger.executescript("DROP TABLE batches; DROP TABLE batch_requests")
        (run / "batches" / f"{server.intents()[1]}.jsonl").unlink()
        contents = {"GET /files/content": Fault(404, {"message": "gone"})}
        server.fault = lambda name, number: contents.get(name) if number == 0 else None
        summary = go_on(run, server)
    assert summary.counts["ok"] == 60
    assert (len(server.ours()), server.answered_twice()) == (3, [])
    assert "The input file of batch batch-1 is gone: waiting for its replies." in caplog.messages


@pytest.mark.parametrize("name", ["GET /batches", "POST /files", "POST /batches", "GET /files/content"])
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(503), id="503"),
        pytest.param(Fault(429, headers={"Retry-After-Ms": "5"}), id="429"),
        pytest.param(Fault(drop=True), id="dropped"),
        pytest.param(Fault(sent=40), id="cut short"),
    ],
)
def test_every_call_is_made_until_it_succeeds(
    name: str, fault: Fault, uninterrupted: pa.Table, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The first four calls of a kind fail."""
    with BatchServer(fault=lambda called, number: fault if called == name and number < 4 else None) as server:
        go_on(tmp_path / "run", server)
        assert load_run(tmp_path / "run", questions(QUESTIONS)).equals(uninterrupted)
    assert ([len(server.inputs(batch)) for batch in server.ours()], server.answered_twice()) == (SIZES, [])
    assert any(message.startswith("Could not ") for message in caplog.messages)


def test_lines_that_are_none_cost_their_requests_alone_another_try(
    uninterrupted: pa.Table, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def spoil(lines: list[bytes]) -> list[bytes]:
        stranger = lines[0].replace(b'"custom_id": "', b'"custom_id": "x')
        return [b"<html>\n", *lines[1:], b"\n", lines[1], stranger, b'{"custom_id": 3}\n']

    outcomes: dict[str, Outcome] = {"batch-0": Outcome(output=spoil)}
    with BatchServer(outcome=lambda batch: outcomes.get(batch["id"], Outcome())) as server:
        go_on(tmp_path / "run", server)
        assert load_run(tmp_path / "run", questions(QUESTIONS)).equals(uninterrupted)
    assert [len(server.inputs(batch)) for batch in server.ours()] == [*SIZES, 1]
    assert of_batches(caplog.messages) == [
        "Batch batch-0 brought 3 lines that cannot be read.",
        "Batch batch-0 brought 1 lines that repeat another.",
        "Batch batch-0 brought 1 replies that the run does not ask for now, which its journal keeps.",
        "Batch batch-0 is completed without an answer to 1 requests.",
    ]


def test_a_batch_that_the_server_does_not_know_is_not_bought_again(tmp_path: Path) -> None:
    """With another account's key, say: with the right one, its replies are collected."""
    run = tmp_path / "run"
    with BatchServer(polls=3) as server:
        cut_short(run, server, "retrieve")
        batches = dict(server.batches)
        server.batches.clear()
        with pytest.raises(RespondentStopped) as caught:
            go_on(run, server)
        assert str(caught.value) == (
            f"The server must know a batch that was submitted to it; got 404 for batch-0 with 25 requests at "
            f"{server.base_url}: No such object: batch-0 Use the key and the base_url that it was submitted with, or "
            f"give up the run's batches to buy its requests again. 1 of 60 requests have a reply in {run}. "
            "The same command or call continues."
        )
        assert server.batches == {}
        server.batches.update(batches)
        assert go_on(run, server).counts["ok"] == 60
    assert [len(server.inputs(batch)) for batch in server.ours()] == SIZES
    assert server.answered_twice() == []


@pytest.mark.parametrize(
    ("missing", "warning"),
    [
        pytest.param(Outcome(late=3), "no output file", id="named late"),
        pytest.param(Fault(404, {"message": "gone"}), "no output file (gone)", id="404"),
        pytest.param(Fault(body=b""), "an empty output file", id="empty"),
    ],
)
def test_an_output_file_that_is_not_there_yet_is_waited_for(
    missing: Outcome | Fault, warning: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of the first batch, at the first three looks; the others are collected meanwhile."""
    outcomes = {"batch-0": missing} if isinstance(missing, Outcome) else {}

    def fault(name: str, _: int) -> Fault | None:
        if name != "GET /files/content" or isinstance(missing, Outcome) or server.looks == 3:
            return None
        server.looks += 1
        return missing

    class Server(BatchServer):
        looks = 0

    with Server(outcome=lambda batch: outcomes.get(batch["id"], Outcome()), fault=fault) as server:
        summary = go_on(tmp_path / "run", server)
    assert summary.counts["ok"] == 60
    assert ([len(server.inputs(batch)) for batch in server.ours()], server.answered_twice()) == (SIZES, [])
    assert of_batches(caplog.messages)[0] == f"Batch batch-0 is completed, but the server has {warning}: waiting."


def test_replies_that_the_server_has_lost_are_bought_again_on_request_only(tmp_path: Path) -> None:
    """The first batch's output is gone for good, while half of its requests are in the error file."""

    def answer(call: Call) -> Served:
        return Served(status=400, error={"message": "odd"}) if call.user in ("Prompt 1?", "Prompt 2?") else Served("A")

    run = tmp_path / "run"
    outcomes = {"batch-0": Outcome(late=10**6)}
    with BatchServer(answer, outcome=lambda batch: outcomes.get(batch["id"], Outcome())) as server:
        with pytest.raises(RespondentStopped) as caught:
            go_on(run, server)
        assert str(caught.value).startswith(
            "The server must have the replies of a batch that has ended; got no output file of batch-0, with 23 of 25 "
            "requests answered. They are bought already: go on later, or give up the run's batches to buy them again."
        )
        assert len(server.ours()) == 3
        with Journal(run, read_only=True) as journal:
            # What came of the first batch, and all of the others.
            assert journal.counts() == {"ann": {"failed": 2, "ok": 5}, "bob": {"failed": 2, "ok": 28}}
        assert unfinished_batches(run).batches == 1
        server.answer = lambda _: Served("A")
        assert give_up_batches(run) == 23
        assert unfinished_batches(run) == (0, 0)
        assert give_up_batches(run) == 0
        assert go_on(run, server).counts["ok"] == 60
    assert len(server.answered_twice()) == 23


def test_forgotten_batches_do_not_come_back_from_the_list_of_batches(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert give_up_batches(run) == 0
    with BatchServer(polls=3) as server:
        cut_short(run, server, "retrieve")
        assert give_up_batches(run) == 59
        respondent = OpenAIRespondent("m", base_url=server.base_url, ask="text", logprobs=False)
        generate(run, respondent, personas("ann"), questions(QUESTIONS), RunOptions(progress=False))
        assert go_on(run, server).counts["ok"] == 60
    # The 30 of the second persona; one of them goes the ordinary way.
    assert [len(server.inputs(batch)) for batch in server.ours()] == [*SIZES, 25, 4]


def test_batches_of_merged_runs_and_unknown_ones_are_given_up_too(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with BatchServer() as server:
        cut_short(run, server, "of_this_run")
    with Journal(run) as journal:
        key = next(journal.requests()).key
        with journal.transaction() as connection:
            connection.execute("INSERT INTO elsewhere VALUES (?, 'k', 'part')", (key,))
        journal.note(BATCHES_UNKNOWN, "1")
    assert give_up_batches(run) == 1
    with Journal(run, read_only=True) as journal:
        assert (journal.elsewhere(), journal.noted(BATCHES_UNKNOWN)) == ([], None)


def test_what_else_is_in_batches_is_collected_before_a_lost_one_stops_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Or giving up the lost one would buy the others again, too. The third batch was not submitted yet."""
    run = tmp_path / "run"
    with BatchServer(polls=4) as server:
        cut_short(run, server, "create", 2)
        lost = server.batches.pop("batch-0")
        with closing(sqlite3.connect(run / "journal.sqlite")) as ledger, ledger:
            ledger.execute("DELETE FROM batches WHERE batch_id IS NULL")
            ledger.execute("DELETE FROM batch_requests WHERE intent NOT IN (SELECT intent FROM batches)")
        with pytest.raises(RespondentStopped, match=r"^The server must know a batch that was submitted to it"):
            go_on(run, server)
        assert [batch["status"] for batch in server.ours()] == ["completed"]
        with Journal(run, read_only=True) as journal:
            assert journal.remaining() == 60 - 1 - 25
        assert [message.split(":")[0] for message in of_batches(caplog.messages)] == [
            "Nothing more is submitted, and the run stops when its other batches have ended"
        ]
        server.batches[lost["id"]] = lost
        assert go_on(run, server).counts["ok"] == 60
    assert server.answered_twice() == []


def test_a_batch_that_is_read_twice_is_paid_once(tmp_path: Path) -> None:
    """Killed before the batches count as collected, when the empty replies were kept to be asked again."""
    run = tmp_path / "run"
    with BatchServer(lambda call: Served("" if call.user == "Prompt 3?" and call.number < 1 else "A")) as server:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Ledger, "collected", cut)
            with pytest.raises(Cut):
                go_on(run, server)
        summary = go_on(run, server)
        bought = server.total + sum(server.answers.values())
    assert summary.counts["ok"] == 60
    assert (summary.spending.input_tokens, summary.spending.output_tokens) == (7 * bought, bought)


def test_the_run_key_marks_the_batches(tmp_path: Path) -> None:
    with BatchServer() as server:
        go_on(tmp_path / "run", server)
    with Journal(tmp_path / "run", read_only=True) as journal:
        assert {batch["metadata"]["fairpp_run"] for batch in server.ours()} == {journal.noted("run_key")}
        assert journal.spending().replies == 60


def test_a_full_disk_stops_before_anything_more_is_submitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> bytes:
        raise OSError(errno.ENOSPC, "No space left on device")

    run = tmp_path / "run"
    with BatchServer() as server:
        message = (
            f"The run's folder must be writable; got [Errno 28] No space left on device in {run / 'batches'}. Earlier "
            "replies are kept, and what was submitted is found again. Make room or mend the access, then continue the run."
        )
        with monkeypatch.context() as patch:
            patch.setattr(batch_submit, "request_line", full)
            with pytest.raises(OSError, match=f"^{re.escape(message)}$"):
                go_on(run, server)
        assert (server.total, server.files) == (1, {})
        assert go_on(run, server).counts["ok"] == 60
