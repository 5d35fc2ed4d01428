import asyncio
import contextlib
import json
import random
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import generation_fixtures
import numpy as np
import pytest
from generation_fixtures import FakeRespondent, personas, questions, replies_in, shown_questions
from loopback_batches import BatchServer, stopping
from loopback_openai import Call, LoopbackServer, Served

from fairpp_hf.generation import BatchLimits, BudgetReached, RunInterrupted, RunSummary
from fairpp_hf.generation.budget import Budget, is_paid_for
from fairpp_hf.generation.plan import RequestPlan
from fairpp_hf.generation.prices import Prices
from fairpp_hf.generation.queue import RequestQueue
from fairpp_hf.respondents import OpenAIRespondent, Reply, Request, RespondentStopped
from fairpp_hf.runs.database import SENT
from fairpp_hf.runs.journal import AskedRequest, Journal

DOLLAR_A_TOKEN = Prices(1e6, 1e6, 1e6, 0.5, "a test")
SOON = BatchLimits(poll_s=0.01)


def reply(tokens: int | None, status: str = "ok", **detail: Any) -> Reply:
    usage = None if tokens is None else {"prompt_tokens": tokens - 1, "completion_tokens": 1}
    return Reply(0 if status == "ok" else -1, None, status, "A", usage, 0.01, detail or None)


# --- By itself ---


def test_before_the_first_reply_a_request_counts_as_guessed() -> None:
    budget = Budget(10.0, 1.0, 3.0, DOLLAR_A_TOKEN)
    assert [budget.take() for _ in range(4)] == [True, True, True, False]
    assert budget.reached


def test_after_it_the_largest_cost_so_far_counts() -> None:
    """10 - 2 spent leaves room for four at 2; one at 4 then leaves 10 - 6 = 4, room for one."""
    budget = Budget(10.0, 0.0, 9.0, DOLLAR_A_TOKEN)
    assert budget.take()
    budget.pay(reply(2))
    assert budget.take()
    budget.pay(reply(4))
    assert budget.take()
    assert not budget.take()
    budget.pay(reply(2))
    assert budget.spent == 8.0
    assert not budget.take()


def test_a_reply_of_unknown_cost_ends_it() -> None:
    budget = Budget(30.0, 0.0, 2.0, DOLLAR_A_TOKEN)
    assert budget.take()
    budget.pay(reply(None, finish_reason="stop"))
    assert not budget.take()
    assert budget.fitting(3) == 0


def test_the_dearest_reply_of_earlier_calls_counts_from_the_start() -> None:
    budget = Budget(10.0, 4.0, 1.0, DOLLAR_A_TOKEN, dearest={"prompt_tokens": 1, "completion_tokens": 2})
    assert [budget.take() for _ in range(3)] == [True, True, False]
    budget.pay(reply(1))
    assert not budget.take()  # 5 spent, and 2 * 3 are more than what is left


def test_a_failed_reply_costs_nothing_and_makes_room() -> None:
    budget = Budget(3.0, 0.0, 2.0, DOLLAR_A_TOKEN)
    assert (budget.fits(), budget.take(), budget.fits(), budget.reached) == (True, True, False, False)
    assert not budget.take()
    budget.pay(reply(None, "failed", error="500"))
    assert budget.without_usage is None
    assert budget.take()


@pytest.mark.parametrize("status", ["ok", "failed"])
@pytest.mark.parametrize("tokens", [None, 2])
@pytest.mark.parametrize(
    ("detail", "is_sent"),
    [
        ({}, False),
        ({"error": "no connection"}, False),
        ({"error": "filtered", "refusal": True}, False),
        ({"finish_reason": "stop"}, True),
        ({"finish_reason": "length", "error": "a reply that is truncated"}, True),
        ({"finish_reason": None, "model": "m"}, False),
        ({"finish_reason": None, "tries": 1}, True),
        ({"error": "unreadable", "tries": 2}, True),
        ({"tries": 0}, False),
    ],
)
def test_paid_for_is_what_the_journal_takes_for_sent(
    status: str, tokens: int | None, detail: dict[str, Any], is_sent: bool
) -> None:
    """By a cap and by the journal's SQL alike: whatever has usage, a reason to finish, or tries."""
    came = reply(tokens, status, **detail)
    stored = [None if value is None else json.dumps(value) for value in (came.usage, came.detail)]
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        query = f"SELECT {SENT.format('')} FROM (SELECT ? AS usage, ? AS detail)"
        assert bool(connection.execute(query, stored).fetchone()[0]) == is_paid_for(came)
    assert is_paid_for(came) == (is_sent or tokens is not None)


def test_how_many_of_a_batch_fit() -> None:
    """7 left at 2 each are three; of these in a batch, one by the ordinary way does not say what the others cost."""
    budget = Budget(10.0, 3.0, 2.0, DOLLAR_A_TOKEN, batch=True)
    assert (budget.fitting(3), budget.reached) == (3, False)
    assert (budget.fitting(4), budget.reached) == (3, True)
    budget.pay(reply(4))
    assert budget.fitting(4) == 1
    assert budget.fitting(0) == 0


@pytest.mark.parametrize(("guess", "fitting"), [(1.0, [16, 3, 2]), (5.0, [3, 2, 2])])
def test_in_batches_the_guess_and_what_was_asked_at_once_bound_a_request_from_below(
    guess: float, fitting: list[int]
) -> None:
    """One asked at once takes 6 tokens and so costs 6, or 3 in a batch: of 16 - 6, there is room for three, or for two as
    long as 5 are guessed. Two replies of a batch at 2 each leave 6, end the guess, and do not make the others cheaper
    than 3."""
    budget = Budget(16.0, 0.0, guess, DOLLAR_A_TOKEN, batch=True)
    found = [budget.fitting(20)]
    for replies in ([reply(6)], [reply(4, batch="b"), reply(4, batch="b")]):
        for one in replies:
            budget.pay(one)
        found.append(budget.fitting(20))
    assert found == fitting


@pytest.mark.parametrize("seed", range(20))
def test_the_cap_holds_to_within_what_is_in_flight(seed: int) -> None:
    """Requests cost 1 to 3 and come back in any order: what is spent is over the cap by at most 2 for each in flight, as
    one was counted at 1 at least, and under it by less than one more at 3 for each in flight and the next."""
    draw = random.Random(seed)
    cap, concurrency = draw.randint(1, 50), draw.randint(1, 16)
    budget = Budget(cap, 0.0, 2.0, DOLLAR_A_TOKEN)
    in_flight = 0
    while True:
        while in_flight < (concurrency if budget.spent else 1) and budget.take():
            in_flight += 1
        if not in_flight:
            break
        in_flight -= 1
        budget.pay(reply(draw.choice([1, 1, 1, 2, 3])))
    assert budget.reached
    assert cap - 3 * (concurrency + 1) < budget.spent <= cap + 2 * concurrency


# --- The requests that it hands out ---

PLAN = RequestPlan(personas(), questions())
POSITIONS = np.array([1, 3, 7])
KEYS = PLAN.keys({"kind": "fake"})


def test_a_queue_is_the_requests_at_its_positions_until_it_is_stopped() -> None:
    queue = RequestQueue(PLAN, POSITIONS, KEYS)
    expected = [PLAN[1], PLAN[3], PLAN[7]]
    assert (len(queue), list(queue), queue[2], queue[1:]) == (3, expected, expected[2], expected[1:])
    assert [queue.asked(index) for index in range(3)] == [
        AskedRequest(KEYS[1], "q1", "ann"),
        AskedRequest(KEYS[3], "q3", "ann"),
        AskedRequest(KEYS[7], "q2", "bob"),
    ]
    assert (queue.handed_out, queue.over_budget, queue.has_room()) == (3, False, True)
    requests = iter(queue)
    assert next(requests) == PLAN[1]
    queue.stopped = True
    assert list(requests) == []
    assert queue.handed_out == 4


def test_a_queue_has_no_room_until_a_reply_makes_some_and_ends_where_the_budget_does() -> None:
    """One dollar a request, one at most. Asking whether there is room takes nothing and ends nothing; a reply that failed
    costs nothing and lets another one go."""
    queue = RequestQueue(PLAN, POSITIONS, KEYS, Budget(1.0, 0.0, 1.0, DOLLAR_A_TOKEN))
    requests = iter(queue)
    assert queue.has_room()
    assert next(requests) == PLAN[1]
    assert (queue.has_room(), queue.over_budget) == (False, False)
    queue.pay([reply(None, "failed")])
    assert queue.has_room()
    assert next(requests) == PLAN[3]
    assert list(requests) == []
    assert queue.over_budget
    # One that is stopped gives nothing any more, which a respondent need not wait to be told.
    queue.stopped = True
    assert queue.has_room()


# --- In a run ---


class Paid(FakeRespondent):
    """`concurrency` requests in flight, after the first one; each reply has as many tokens as `tokens` says."""

    def __init__(self, tokens: Callable[[Request], Reply] = lambda _: reply(2), concurrency: int = 1) -> None:
        super().__init__(tokens)
        self.concurrency = concurrency
        self.finished = 0

    async def _one(self, request: Request) -> Reply:
        self.asked.append(request)
        await asyncio.sleep(0.001)
        self.finished += 1
        return self.reply(request)

    async def answer(self, requests: Sequence[Request]) -> AsyncIterator[tuple[int, Reply]]:
        waiting = enumerate(requests)
        tasks: dict[asyncio.Task[Reply], int] = {}
        limit = 1
        while True:
            while len(tasks) < limit and (following := next(waiting, None)):
                tasks[asyncio.create_task(self._one(following[1]))] = following[0]
            if not tasks:
                return
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            limit = self.concurrency
            for task in done:
                yield tasks.pop(task), task.result()


def ask(run: Path, respondent: Any, max_cost: float | None, count: int = 10, **options: Any) -> RunSummary:
    options = {"what": questions(count), "prices": DOLLAR_A_TOKEN, **options}
    return generation_fixtures.ask(run, respondent, max_cost=max_cost, **options)


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_run_stops_before_it_costs_more_and_goes_on_with_more(tmp_path: Path, concurrency: int) -> None:
    """At 2 dollars a reply, 30 dollars buy 15 of 20."""
    respondent = Paid(concurrency=concurrency)
    with pytest.raises(BudgetReached) as reached:
        ask(tmp_path, respondent, 31.0)
    assert str(reached.value) == (
        f"max_cost must have room for the next request; got $30.00 spent of $31.00 by {tmp_path}, and 5 requests are left. "
        "Every reply is kept; raise max_cost to continue."
    )
    summary = reached.value.summary
    assert (summary.asked, summary.remaining, summary.cost_usd) == (15, 5, 30.0)
    assert (summary.spending.input_tokens, summary.spending.output_tokens) == (15, 15)
    assert respondent.finished == len(respondent.asked) == 15
    # The cap is for the whole run: the same again asks nothing, a higher one the rest.
    again = Paid()
    with pytest.raises(BudgetReached):
        ask(tmp_path, again, 31.0)
    assert again.asked == []
    summary = ask(tmp_path, again, 40.0)
    assert (summary.asked, summary.remaining, summary.cost_usd) == (5, 0, 40.0)
    assert ask(tmp_path, again, 40.0).asked == 0


def test_what_was_spent_on_earlier_requests_counts(tmp_path: Path) -> None:
    ask(tmp_path, Paid(), 40.0)
    other = Paid()
    other.settings = {"kind": "fake", "model": "other"}
    with pytest.raises(BudgetReached) as reached:
        ask(tmp_path, other, 71.0)
    assert (len(other.asked), reached.value.summary.cost_usd) == (15, 70.0)


def test_a_cap_below_what_was_spent_is_an_error_before_anything(tmp_path: Path) -> None:
    with pytest.raises(BudgetReached):
        ask(tmp_path, Paid(), 31.0)
    respondent = Paid()
    with pytest.raises(ValueError, match=r"must be at least what the run has cost so far, \$30.00; got \$20.00"):
        ask(tmp_path, respondent, 20.0)
    assert respondent.asked == []


def test_replies_from_before_the_price_was_known_are_priced(tmp_path: Path) -> None:
    """8 of them at 2 dollars, one of which failed when it was paid for already, and is asked again."""
    first = Paid(lambda request: reply(2, "failed" if request.question_id == "q3" else "ok", error="cut off"))
    ask(tmp_path, first, None, 8, who=personas("ann"), prices=None)
    with Journal(tmp_path, read_only=True) as journal:
        assert journal.spending() == (0.0, 8, 8, 8, 8, 0)
        before = sorted(map(repr, replies_in(journal)))
    with pytest.raises(ValueError, match=r"has cost so far, \$16.00; got \$13.00"):
        ask(tmp_path, Paid(), 13.0)
    with Journal(tmp_path, read_only=True) as journal:
        assert journal.spending() == (16.0, 8, 8, 8, 0, 0)
        assert sorted(map(repr, replies_in(journal))) == before
    with pytest.raises(BudgetReached) as reached:
        ask(tmp_path, Paid(), 27.0)
    assert (reached.value.summary.cost_usd, reached.value.summary.spending.unpriced) == (26.0, 0)
    assert reached.value.summary.set_aside == 0
    assert ask(tmp_path, Paid(), None, prices=None).cost_usd == 26.0


def test_replies_of_unknown_price_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What came to requests of another model may have another price."""
    other = Paid()
    other.settings = {"kind": "fake", "model": "other"}
    ask(tmp_path, other, None, 4, prices=None)
    with pytest.raises(BudgetReached) as reached:
        ask(tmp_path, Paid(), 27.0)
    assert caplog.messages[-1] == (
        f"The 8 earlier replies of {tmp_path} whose price is unknown do not count for max_cost."
    )
    assert "and 7 requests are left. 8 replies of unknown price are not counted. Every reply is kept;" in str(
        reached.value
    )


def test_a_server_that_counts_no_tokens_stops_after_one_reply(tmp_path: Path) -> None:
    respondent = Paid(lambda _: reply(None, finish_reason="stop"), concurrency=4)
    with pytest.raises(RespondentStopped) as stopped:
        ask(tmp_path, respondent, 1000.0)
    assert str(stopped.value) == (
        "max_cost must have a server that counts tokens; got a reply without usage, at unknown cost. "
        f"Leave out max_cost, or use a server that counts. 1 of 20 requests have a reply in {tmp_path}. "
        "The same command or call continues."
    )
    assert len(respondent.asked) == 1
    assert ask(tmp_path, Paid(lambda _: reply(None)), None).asked == 19


@pytest.mark.parametrize("max_cost", [0.0, -1.0, float("nan"), float("inf")])
def test_a_cap_must_be_an_amount(tmp_path: Path, max_cost: float) -> None:
    with pytest.raises(ValueError, match=f"max_cost must be an amount in USD above 0; got {max_cost}"):
        ask(tmp_path / "run", Paid(), max_cost)
    assert not (tmp_path / "run").exists()


def test_a_cap_that_has_no_room_for_one_request_asks_none(tmp_path: Path) -> None:
    """Such a request has some 14 tokens around it alone: 5 dollars are too few."""
    respondent = Paid()
    with pytest.raises(BudgetReached, match="20 requests are left"):
        ask(tmp_path, respondent, 5.0)
    assert respondent.asked == []


def test_the_cap_is_shared_by_samples_and_orders(tmp_path: Path) -> None:
    respondent = Paid(concurrency=3)
    with pytest.raises(BudgetReached) as reached:
        ask(tmp_path, respondent, 50.0, what=shown_questions(5), samples=3, swap=True)
    assert (len(respondent.asked), reached.value.summary.remaining) == (25, 2 * 5 * 3 * 2 - 25)


def test_a_cheaper_reply_makes_room_while_others_are_in_flight(tmp_path: Path) -> None:
    """The first reply has 20 tokens and the others 1: as each counts for 20, no more than four are in flight, and a fifth
    waits for one of them and does not end the run."""
    with LoopbackServer(
        lambda call: Served("A", 0.01, usage={"prompt_tokens": 1 if server.completed else 20, "completion_tokens": 0})
    ) as server:
        respondent = OpenAIRespondent("m", base_url=server.base_url, max_tokens=1)
        summary = ask(tmp_path, respondent, 100.0, 25)
        assert (summary.cost_usd, summary.remaining) == (69.0, 0)
        assert 2 <= server.most_in_flight <= 4


@pytest.mark.parametrize(("count", "stops"), [(6, False), (20, True)])
def test_a_cap_that_was_exceeded_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, count: int, stops: bool
) -> None:
    """Up to six in flight, each thought to take 2 tokens, as the first did: the others take 9, five of them 45."""
    respondent = Paid(lambda request: reply(2 if request.question_id == "q0" else 9), concurrency=6)
    with pytest.raises(BudgetReached) if stops else contextlib.nullcontext():
        ask(tmp_path, respondent, 30.0, count, who=personas("ann"))
    with Journal(tmp_path, read_only=True) as journal:
        spent = journal.spending().cost_usd
    assert spent > 30
    assert stops or spent == 47
    assert caplog.messages == [
        f"The run {tmp_path} has cost ${spent:.2f}, above the $30.00 that it may cost at most: what was in flight came "
        "dearer than what came before it."
    ]


# --- By the Batch API ---


def test_the_cap_holds_where_a_model_thinks(tmp_path: Path) -> None:
    """The first of 100 takes 20 tokens, and 20 dollars. The others think longer, at 90 tokens and 45 dollars in a batch: of
    1000, there is room for 21. The first batch counts each with the 100 that max_tokens allow, the next ones with 45."""

    def answer(call: Call) -> Served:
        first = (call.system, call.user) == ("You are ann.", "Prompt 0?")
        return Served("A", usage={"prompt_tokens": 10, "completion_tokens": 10 if first else 80})

    with BatchServer(answer) as server:
        respondent = OpenAIRespondent("m", base_url=server.base_url, max_tokens=100)
        with pytest.raises(BudgetReached) as reached:
            ask(tmp_path, respondent, 1000.0, 50, batch=SOON)
        assert reached.value.summary.cost_usd == 20 + 21 * 45 == 965
        assert sum(server.answers.values()) == 21


def test_a_cap_that_ends_the_second_round_of_batches_is_said(tmp_path: Path) -> None:
    """The first of ten takes 40 tokens, so that nine count for 20 dollars each in a batch: 40 + 180 are the cap. Two come
    back busy, and have cost nothing; the seven others took 50 tokens: 40 + 7 x 25 leave no room for one more."""

    def answer(call: Call) -> Served:
        if call.user in ("Prompt 3?", "Prompt 4?") and call.number == 0:
            return Served(status=429, error={"message": "busy"})
        return Served("A", usage={"prompt_tokens": 39 if call.user == "Prompt 0?" else 49, "completion_tokens": 1})

    with BatchServer(answer) as server:
        respondent = OpenAIRespondent("m", base_url=server.base_url, max_tokens=2)
        with pytest.raises(BudgetReached, match="and 2 requests are left") as reached:
            ask(tmp_path, respondent, 220.0, who=personas("ann"), batch=SOON)
        summary = reached.value.summary
        assert (summary.asked, summary.remaining, summary.cost_usd) == (10, 2, 215.0)
        assert summary.counts["failed"] == 2
        assert ask(tmp_path, respondent, 300.0, who=personas("ann"), batch=SOON).counts["ok"] == 10


def test_the_cap_holds_at_the_price_of_batches(tmp_path: Path) -> None:
    """8 tokens a reply: 8 dollars for the one that is asked at once, 4 for each in a batch, so that 41 buy 1 + 8 of 10."""
    with BatchServer() as server:
        respondent = OpenAIRespondent("m", base_url=server.base_url, max_tokens=2)
        with pytest.raises(BudgetReached) as reached:
            ask(tmp_path, respondent, 41.0, who=personas("ann"), batch=SOON)
        assert reached.value.summary.cost_usd == 40.0
        assert reached.value.summary.remaining == 1
        assert (server.total, sum(server.answers.values())) == (1, 8)
        # The last one is alone: it is asked at once, to see whether the server takes it.
        summary = ask(tmp_path, respondent, 100.0, who=personas("ann"), batch=SOON)
        assert (summary.asked, summary.cost_usd) == (1, 48.0)
    assert server.answered_twice() == []


def test_what_is_in_batches_when_a_call_ends_is_not_spent_twice(tmp_path: Path) -> None:
    """A stop leaves nine requests in a batch. The next call has room for them first, and for no other."""
    with BatchServer(polls=3) as server:
        respondent = OpenAIRespondent("m", base_url=server.base_url, max_tokens=2)

        server.fault = stopping(signal.SIGINT)
        with pytest.raises(RunInterrupted) as interruption:
            ask(tmp_path, respondent, 200.0, who=personas("ann"), batch=BatchLimits(poll_s=60))
        assert interruption.value.summary.remaining == 9
        server.fault = lambda *_: None
        with pytest.raises(BudgetReached) as reached:
            ask(tmp_path, respondent, 46.0, batch=SOON)
        assert reached.value.summary.cost_usd == 44.0
        assert sum(server.answers.values()) == 9
    assert server.answered_twice() == []
