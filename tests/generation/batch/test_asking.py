import asyncio
import json
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from generation_fixtures import personas, questions, replies_in
from loopback_batches import BatchServer, Fault, Line, Outcome, characters, of_batches
from loopback_openai import Call, Served

from fairpp_hf.generation import BatchLimits
from fairpp_hf.generation.batch import ask_in_batches
from fairpp_hf.generation.batch import submit as batch_submit
from fairpp_hf.generation.batch.files import read_answer
from fairpp_hf.generation.plan import RequestPlan
from fairpp_hf.respondents import OpenAIRespondent, Reply
from fairpp_hf.respondents.base import RespondentStopped
from fairpp_hf.runs.journal import AskedRequest, Journal


class Requests(list):
    """Stands in for a `RequestQueue`: requests and how the journal names them, stopped and afforded by functions."""

    def __init__(
        self, plan: RequestPlan, keys: Sequence[str], pending: Sequence[int], stopped: Any, fitting: Any
    ) -> None:
        super().__init__(plan[position] for position in pending)
        self._asked = [plan.asked_at(position, keys[position]) for position in pending]
        self._stopped, self.fitting = stopped, fitting

    @property
    def stopped(self) -> bool:
        return self._stopped()

    def asked(self, index: int) -> AskedRequest:
        return self._asked[index]


class Run:
    """A run that asks in batches, by the question's number: `ann` is asked question 0, 1, 2 and so on."""

    def __init__(self, path: Path, server: BatchServer) -> None:
        self.path, self.server = path, server
        self.path.mkdir(exist_ok=True)
        self.told: list[str] = []

    def ask(
        self,
        count: int = 10,
        *,
        portrait: str = "You are ann.",
        stopped: Callable[[], bool] = lambda: False,
        fitting: Callable[[int], int] = lambda count: count,
        **limits: Any,
    ) -> "Run":
        respondent = OpenAIRespondent("m", base_url=self.server.base_url, max_retries=0, ask="text", logprobs=False)
        plan = RequestPlan(personas("ann", ann=portrait), questions(count))
        keys = plan.keys(respondent.settings)
        with Journal(self.path) as journal:
            journal.set_requests([plan.asked_at(position, key) for position, key in enumerate(keys)], portrait)
            requests: Any = Requests(plan, keys, journal.pending(), stopped, fitting)

            def save(replies: Sequence[tuple[int, Reply]]) -> None:
                journal.record([(requests.asked(index), reply) for index, reply in replies])

            asyncio.run(
                ask_in_batches(
                    *(journal, respondent, requests, save, BatchLimits(**{"poll_s": 0.01, **limits})),
                    *(lambda request: characters(request.messages), self.told.append),
                )
            )
        return self

    @property
    def replies(self) -> list[Reply]:
        """In the journal, in the order in which they came."""
        with Journal(self.path, read_only=True) as journal:
            return [reply for _, reply in replies_in(journal)]

    @property
    def statuses(self) -> dict[str, int]:
        with Journal(self.path, read_only=True) as journal:
            return journal.counts().get("ann", {})

    @property
    def tokens(self) -> tuple[int, int]:
        """Of all replies that were paid for."""
        with Journal(self.path, read_only=True) as journal:
            spending = journal.spending()
        return spending.input_tokens, spending.output_tokens

    @property
    def files(self) -> list[str]:
        return sorted(path.name for path in (self.path / "batches").iterdir())


def run_key_of(run: Path) -> str | None:
    with Journal(run, read_only=True) as journal:
        return journal.noted("run_key")


def number_of(call: Call) -> int:
    return int(re.findall("[0-9]+", call.user)[0])


def lines_of(server: BatchServer) -> list[int]:
    return [len(server.inputs(batch)) for batch in server.ours()]


def test_the_first_request_goes_the_ordinary_way_and_the_rest_in_a_batch(tmp_path: Path) -> None:
    with BatchServer(lambda call: Served("ABC"[number_of(call) % 3]), polls=3) as server:
        run = Run(tmp_path / "run", server).ask(10)
    assert run.statuses == {"ok": 10}
    assert (server.total, lines_of(server), server.answered_twice()) == (1, [9], [])
    ordinary, *batched = run.replies
    assert (ordinary.answer, "batch" in (ordinary.detail or {})) == (0, False)
    assert [reply.answer for reply in batched] == [n % 3 for n in range(1, 10)]
    assert {(reply.latency_s, (reply.detail or {})["batch"]) for reply in batched} == {(0.0, "batch-0")}
    assert batched[0].usage == {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8}
    batch = server.ours()[0]
    line = server.inputs(batch)[0]
    assert line == {
        "custom_id": line["custom_id"],
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {**server.bodies[0], "messages": line["body"]["messages"]},
    }
    assert line["body"]["messages"][1]["content"] == "Prompt 1?"
    assert re.fullmatch("[0-9a-f]{64}", line["custom_id"])
    assert batch["metadata"] == {"fairpp_run": run_key_of(run.path), "fairpp_batch": server.intents()[0]}
    assert run.files == []
    assert run.told == [
        "Submitted batch batch-0: 9 requests, about 189 tokens.",
        "Batch batch-0: in_progress, 0 of 9 done.",
        "Batch batch-0: completed, 9 of 9 answered and saved.",
    ]


def test_the_order_of_the_answers_does_not_matter(tmp_path: Path) -> None:
    with BatchServer(
        lambda call: Served("ABC"[number_of(call) % 3]),
        outcome=lambda _: Outcome(output=lambda lines: random.Random(0).sample(lines, len(lines))),
    ) as server:
        path = Run(tmp_path / "run", server).ask(20).path
    with Journal(path, read_only=True) as journal:
        rows = [row for page in journal.rows("question_id", "answer") for row in page]
    assert rows == [(f"q{number}", number % 3, 1) for number in range(20)]


def test_what_the_server_does_not_take_is_learned_before_the_batch(tmp_path: Path) -> None:
    def no_logprobs(call: Call) -> Served:
        return Served(status=400, error={"message": "no logprobs"}) if "logprobs" in call.body else Served("B")

    with BatchServer(no_logprobs) as server:
        run = Run(tmp_path / "run", server).ask(4)
    assert run.statuses == {"ok": 4}
    assert [sorted(line["body"]) for line in server.inputs(server.ours()[0])] == [
        ["max_tokens", "messages", "model", "temperature"]
    ] * 3


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"requests": 4}, [4, 4, 1]),
        ({"requests": 9}, [9]),
        # A line has 309 bytes: four have 1,236.
        ({"megabytes": 0.0013}, [4, 4, 1]),
        # A request has 21 characters: four have 84, and five 105.
        ({"enqueued_tokens": 104}, [4, 4, 1]),
        ({"requests": 2, "enqueued_tokens": 104}, [2, 2, 2, 2, 1]),
        ({"enqueued_tokens": 21}, [1] * 9),
    ],
)
def test_each_limit_splits(limits: dict[str, Any], expected: list[int], tmp_path: Path) -> None:
    server = BatchServer(
        enqueued=limits.get("enqueued_tokens", 10**6),
        most_requests=limits.get("requests", 50_000),
        most_bytes=int(1e6 * limits.get("megabytes", 200)),
        polls=2,
    )
    with server:
        run = Run(tmp_path / "run", server).ask(10, **limits)
    assert run.statuses == {"ok": 10}
    assert lines_of(server) == expected
    assert {batch["status"] for batch in server.ours()} == {"completed"}
    assert server.most_enqueued <= server.enqueued
    assert server.answered_twice() == []


def test_no_small_batch_goes_into_the_gap_that_larger_ones_leave(tmp_path: Path) -> None:
    """Room for 5 requests: 3 by the first batch, so that 2 are left over, less than half of 5."""
    with BatchServer(polls=3) as server:
        run = Run(tmp_path / "run", server).ask(13, requests=3, enqueued_tokens=105)
    assert (run.statuses, lines_of(server)) == ({"ok": 13}, [3, 3, 3, 3])


def test_a_lower_limit_that_the_account_names_is_kept_to(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """2 requests of 21 tokens fit into 50."""
    with BatchServer(enqueued=50) as server:
        run = Run(tmp_path / "run", server).ask(10)
    assert run.statuses == {"ok": 10}
    assert [len(server.inputs(batch)) for batch in server.ours() if batch["status"] == "completed"] == [2, 2, 2, 2, 1]
    assert [len(server.inputs(batch)) for batch in server.ours() if batch["status"] == "failed"] == [9]
    assert server.most_enqueued <= 50
    assert of_batches(caplog.messages) == [
        "Enqueued token limit reached. Limit: 50 tokens. Batches have up to 50 tokens from now on."
    ]


def test_an_account_that_others_use_up_is_waited_for_and_then_used_in_full(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """9 requests have 21 tokens each: 189 are tried, then 94, of which 84 are used, then 42. Others end at the 6th."""

    def others_end(name: str, number: int) -> None:
        if (name, number) == ("POST /batches", 5):
            server.of_others = 0

    with BatchServer(enqueued=1000, polls=2, fault=others_end) as server:
        server.of_others = 1000
        run = Run(tmp_path / "run", server).ask(10)
    assert (run.statuses, lines_of(server)) == ({"ok": 10}, [9, 4, 2, 2, 2, 2, 7])
    assert [batch["status"] for batch in server.ours()] == ["failed"] * 5 + ["completed"] * 2
    assert server.most_enqueued == 189  # the last two together
    full = "Enqueued token limit reached. Limit: 1000 tokens."
    assert of_batches(caplog.messages) == [
        f"{full} Batches have up to 94 tokens until there is room.",
        f"{full} Batches have up to 42 tokens until there is room.",
        *[f"{full} Trying again in 0 s; if nothing else is in progress, allow fewer enqueued_tokens."] * 3,
    ]
    assert server.answered_twice() == []


@pytest.mark.parametrize("status", [400, 429])
def test_a_full_account_that_says_so_at_once_is_waited_for(status: int, tmp_path: Path) -> None:
    full = Fault(status, {"message": "Enqueued token limit reached.", "code": "token_limit_exceeded"})
    with BatchServer(fault=lambda name, number: full if name == "POST /batches" and number < 5 else None) as server:
        run = Run(tmp_path / "run", server).ask(10)
    assert (run.statuses, lines_of(server), server.answered_twice()) == ({"ok": 10}, [2, 7], [])


def test_an_account_without_room_for_more_than_a_day_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_submit, "_FULL_FOR_S", 0.05)
    with BatchServer(enqueued=1000) as server:
        server.of_others = 1000
        run = Run(tmp_path / "run", server)
        with pytest.raises(RespondentStopped, match="must have room for a batch's tokens; got none for 0 hours"):
            run.ask(10)
    assert run.statuses == {"ok": 1}


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (
            {"enqueued_tokens": 20},
            "enqueued_tokens must have room for a single request; got 20, where the one of persona 'ann' and question 'q1' "
            "takes 21. Raise it.",
        ),
        (
            {"megabytes": 0.0002},
            "megabytes must have room for a single request; got 0.0002, where the one of persona 'ann' and question 'q1' "
            "takes 0.000275. Raise it.",
        ),
    ],
)
def test_a_request_over_a_limit_is_an_error(limits: dict[str, Any], message: str, tmp_path: Path) -> None:
    with BatchServer() as server, pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Run(tmp_path / "run", server).ask(10, **limits)
    assert server.ours() == []


def test_what_a_batch_left_goes_into_another_and_nothing_else(tmp_path: Path) -> None:
    def outcome(batch: Line) -> Outcome:
        return Outcome("expired", answered=4) if batch["id"] == "batch-0" else Outcome()

    with BatchServer(outcome=outcome) as server:
        run = Run(tmp_path / "run", server).ask(10)
    assert (run.statuses, lines_of(server), server.answered_twice()) == ({"ok": 10}, [9, 5], [])
    first, second = ([line["custom_id"] for line in server.inputs(batch)] for batch in server.ours())
    assert second == first[4:]
    assert len(set(server.intents())) == 2


def test_a_batch_that_its_owner_cancels_is_collected_and_ends_the_call(tmp_path: Path) -> None:
    """Another batch, which ends at the same time, is collected as well."""

    def outcome(batch: Line) -> Outcome:
        return Outcome("cancelled", answered=2) if batch["id"] == "batch-0" else Outcome()

    with BatchServer(outcome=outcome) as server:
        run = Run(tmp_path / "run", server)
        with pytest.raises(RespondentStopped) as caught:
            run.ask(10, requests=5)
        assert str(caught.value) == (
            "A batch must be left to end; got batch-0, which was cancelled with 2 of 5 requests answered. Nothing was "
            "submitted in its place."
        )
        assert (run.statuses, lines_of(server)) == ({"ok": 7}, [5, 4])
        run.ask(10)
    # The second call asks one of the three the ordinary way.
    assert (run.statuses, lines_of(server), server.answered_twice()) == ({"ok": 10}, [5, 4, 2], [])


@pytest.mark.parametrize(
    ("status", "error", "rule"),
    [
        (429, {"message": "No.", "type": "insufficient_quota", "code": "insufficient_quota"}, "have quota left"),
        (429, {"message": "No.", "type": "insufficient_quota", "code": None}, "have quota left"),
        (401, {"message": "No."}, "accept the key"),
        (403, {"message": "No access."}, "be allowed to use the model"),
    ],
)
def test_an_error_that_no_other_request_would_escape_ends_the_call_behind_what_came(
    status: int, error: dict[str, Any], rule: str, tmp_path: Path
) -> None:
    """The first batch brings 3 of 5 replies, and the second 4 of 4."""

    def answer(call: Call) -> Served:
        return Served(status=status, error=error) if number_of(call) in (4, 5) else Served("A")

    with BatchServer(answer) as server:
        run = Run(tmp_path / "run", server)
        with pytest.raises(RespondentStopped, match=f"must {rule}; got {status} for model 'm': No"):
            run.ask(10, requests=5)
        assert (run.statuses, lines_of(server)) == ({"failed": 2, "ok": 8}, [5, 4])
        server.answer = lambda _: Served("B")
        run.ask(10)
    assert (run.statuses, lines_of(server), server.answered_twice()) == ({"ok": 10}, [5, 4, 1], [])


def test_requests_whose_turn_never_came_have_not_failed(tmp_path: Path) -> None:
    """5 batches expire, more than the 3 in which a request may fail."""
    with BatchServer(outcome=lambda _: Outcome("expired", answered=2)) as server:
        run = Run(tmp_path / "run", server).ask(11)
    assert (run.statuses, lines_of(server), server.answered_twice()) == ({"ok": 11}, [10, 8, 6, 4, 2], [])


def test_passing_errors_are_asked_again_and_others_are_not(tmp_path: Path) -> None:
    """Question 1 fails twice, 2 always, 3 for good, and 4 by the provider's filter."""

    def answer(call: Call) -> Served:
        number = number_of(call)
        if number == 1 and call.number < 2:
            return Served(status=429, error={"message": "busy"})
        if number == 2:
            return Served(status=500, error={"message": "oh dear"})
        if number == 3:
            return Served(status=400, error={"message": "too\nlong", "code": "context_length_exceeded"})
        if number == 4:
            return Served(status=400, error={"message": "filtered", "code": "content_filter"})
        return Served("A")

    with BatchServer(answer) as server:
        run = Run(tmp_path / "run", server).ask(6)
        assert run.statuses == {"failed": 2, "ok": 3, "refusal": 1}
        assert lines_of(server) == [5, 2, 2]
        errors = {(reply.detail or {}).get("error") for reply in run.replies if reply.status == "failed"}
        assert errors == {"oh dear", "too long"}
        refused = next(reply for reply in run.replies if reply.status == "refusal")
        assert (refused.raw, refused.detail) == (
            "filtered",
            {"error": "filtered", "refusal": True, "batch": "batch-0"},
        )
        # Another call asks again what failed.
        server.answer = lambda _: Served("B")
        assert run.ask(6).statuses == {"ok": 5, "refusal": 1}


def test_an_unreadable_completion_was_paid_for(tmp_path: Path) -> None:
    body = json.dumps({"usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}}).encode()
    with BatchServer(lambda call: Served(body=body) if number_of(call) == 1 else Served("A")) as server:
        run = Run(tmp_path / "run", server).ask(3)
    assert (run.statuses, lines_of(server)) == ({"failed": 1, "ok": 2}, [2, 1, 1])
    with Journal(run.path, read_only=True) as journal:
        assert journal.spending().input_tokens == 7 + 7 + 3 * 5


def test_a_batch_that_the_server_does_not_accept_stops_with_its_words(tmp_path: Path) -> None:
    errors = [{"code": "invalid_url", "message": "The URL is wrong.", "line": 1, "param": None}]
    with BatchServer(outcome=lambda _: Outcome("failed", errors=errors)) as server:
        run = Run(tmp_path / "run", server)
        with pytest.raises(RespondentStopped) as caught:
            run.ask(3)
        assert str(caught.value) == ("The server must accept the batch; got for batch-0: The URL is wrong. (line 1).")
        server.outcome = lambda _: Outcome()
        assert run.ask(3).statuses == {"ok": 3}
    # The second call asks one of the two the ordinary way.
    assert lines_of(server) == [2, 1]


def test_batches_that_bring_nothing_stop(tmp_path: Path) -> None:
    with (
        BatchServer(outcome=lambda _: Outcome("expired", answered=0)) as server,
        pytest.raises(RespondentStopped) as caught,
    ):
        Run(tmp_path / "run", server).ask(3)
    assert str(caught.value) == (
        "A batch must bring replies; got 3 in a row that brought none, the last batch-2, which is expired. "
        "See the server's list of batches for the reason."
    )
    assert lines_of(server) == [2, 2, 2]


def test_a_completed_batch_that_leaves_requests_out_is_no_endless_loop(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def all_but_the_first(lines: list[bytes]) -> list[bytes]:
        return [line for line in lines if b"r-0" not in line] or [b"\n"]

    with BatchServer(outcome=lambda _: Outcome(output=all_but_the_first)) as server:
        run = Run(tmp_path / "run", server).ask(4)
    assert (run.statuses, lines_of(server)) == ({"failed": 1, "ok": 3}, [3, 1, 1])
    (failed,) = (reply for reply in run.replies if reply.status == "failed")
    assert failed.detail == {"error": "no answer that can be read in batch batch-2", "batch": "batch-2"}
    assert "Batch batch-0 is completed without an answer to 1 requests." in caplog.messages


def test_empty_replies_are_asked_again_twice_and_all_of_them_are_counted(tmp_path: Path) -> None:
    """Question 1 is empty once, and question 2 always: 1 + 2 + 3 + 1 paid replies of 7 and 1 tokens."""

    def answer(call: Call) -> Served:
        number = number_of(call)
        return Served("" if number == 2 or (number == 1 and call.number < 1) else "A")

    with BatchServer(answer) as server:
        run = Run(tmp_path / "run", server).ask(4)
        assert (run.statuses, lines_of(server)) == ({"empty": 1, "ok": 3}, [3, 2, 1])
        assert run.tokens == (7 * 7, 7)
        run.ask(4)
        assert server.total + sum(server.answers.values()) == 7


@pytest.mark.parametrize(
    "line",
    [
        *(b"", b"null", b"3", b"[]", b"{}", b'{"custom_id": 3}', b'{"custom_id": "k", "response": 200}', b"\xff"),
        *(b'{"custom_id": "k", "response": {}}', b'{"custom_id": "k", "response": {"status_code": "200"}}'),
    ],
)
def test_a_line_of_something_else_is_told_from_an_answer(line: bytes) -> None:
    assert read_answer(line) is None


def test_the_budget_counts_what_is_in_progress_and_ends_the_asking(tmp_path: Path) -> None:
    """Room for 6 of 10: 1 ordinary request and 5 in batches of 3 and 2."""
    with BatchServer(polls=2) as server:
        run = Run(tmp_path / "run", server)
        seen = []

        def fitting(count: int) -> int:
            seen.append(count)
            return max(0, min(count, 6 - sum(run.statuses.values())))

        run.ask(10, fitting=fitting, requests=3)
    assert (run.statuses, lines_of(server)) == ({"ok": 6}, [3, 2])
    assert seen[:4] == [1, 3, 6, 8]


def test_after_a_stop_the_batches_go_on_and_the_next_call_collects_them(tmp_path: Path) -> None:
    with BatchServer(polls=5) as server:
        run = Run(tmp_path / "run", server)
        run.ask(10, stopped=lambda: bool(server.api_calls["GET /batches"]) and bool(run.told), poll_s=60)
        assert (run.statuses, lines_of(server)) == ({"ok": 1}, [9])
        assert run.ask(10).statuses == {"ok": 10}
    assert (lines_of(server), server.total, server.answered_twice()) == ([9], 1, [])


def test_a_rejected_key_stops_before_anything_is_uploaded(tmp_path: Path) -> None:
    with (
        BatchServer(lambda _: Served(status=401, error={"message": "Wrong key."})) as server,
        pytest.raises(RespondentStopped) as caught,
    ):
        Run(tmp_path / "run", server).ask(3)
    assert str(caught.value) == (
        "The server must accept the key; got 401 for model 'm': Wrong key. Set OPENAI_API_KEY to a valid one."
    )
    assert server.files == {}


def test_a_server_without_the_batch_api_is_said(tmp_path: Path) -> None:
    missing = Fault(404, {"message": "Not Found"})
    with BatchServer(fault=lambda *_: missing) as server, pytest.raises(RespondentStopped) as caught:
        Run(tmp_path / "run", server).ask(3)
    assert str(caught.value) == (
        f"The server must have the Batch API; got 404 at {server.base_url} when trying to list the batches: Not Found. "
        f"Leave out batch."
    )
    assert server.total == 0


def test_replies_to_a_run_that_has_changed_are_kept_until_it_asks_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A batch is in progress when the portrait changes; when the portrait comes back, its replies are there.

    A reply has 7 + 1 tokens: 8 of them have 56 + 8, whether they are the run's or kept.
    """
    with BatchServer(polls=2) as server:
        run = Run(tmp_path / "run", server)
        run.ask(4, stopped=lambda: bool(run.told), poll_s=60)
        run.ask(4, portrait="You are another ann.")
        assert (run.statuses, lines_of(server)) == ({"ok": 4}, [3, 3])
        assert of_batches(caplog.messages) == [
            "Batch batch-0 brought 3 replies that the run does not ask for now, which its journal keeps."
        ]
        assert run.tokens == (56, 8)
        run.ask(4, portrait="You are another ann.")
        assert run.tokens == (56, 8)
        run.ask(4)
        assert (run.statuses, lines_of(server), run.files) == ({"ok": 4}, [3, 3], [])
        assert run.tokens == (56, 8)
    assert (server.total, server.answered_twice()) == (2, [])


def test_two_runs_on_one_account_keep_their_batches_apart(tmp_path: Path) -> None:
    """The same requests, so that only the run's key tells them apart."""
    with BatchServer(polls=2) as server:
        one, two = (Run(tmp_path / key, server) for key in ("one", "two"))
        one.ask(4, stopped=lambda: bool(one.told), poll_s=60)
        two.ask(4)
        assert (one.statuses, two.statuses) == ({"ok": 1}, {"ok": 4})
        one.ask(4)
    assert (one.statuses, two.statuses, lines_of(server)) == ({"ok": 4}, {"ok": 4}, [3, 3])
    batches = [{(reply.detail or {}).get("batch") for reply in run.replies} for run in (one, two)]
    assert batches == [{None, "batch-0"}, {None, "batch-1"}]


def test_twenty_pages_of_other_batches_are_looked_through_once(tmp_path: Path) -> None:
    """Later calls look no further back than a day before the run's first batch."""
    with BatchServer() as server:
        server.add_foreign(2000, created_at=1_000_000, someone="else")
        run = Run(tmp_path / "run", server).ask(3)
        assert server.api_calls["GET /batches"] == 20 + 1  # and one poll
        server.api_calls.clear()
        run.ask(4)
        assert (run.statuses, server.api_calls["GET /batches"]) == ({"ok": 4}, 1)


def test_odd_batches_of_others_are_left_alone(tmp_path: Path) -> None:
    odd = {"created_at": None, "metadata": "odd", "request_counts": {}, "status": None}
    with BatchServer() as server:
        server.add_foreign(len(odd))
        for fact, batch in zip(odd.items(), server.batches.values(), strict=True):
            batch.update([fact])
        run = Run(tmp_path / "run", server).ask(3)
    assert (run.statuses, len(server.batches)) == ({"ok": 3}, 5)
