import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from generation_fixtures import FakeRespondent, personas, questions
from loopback_batches import BatchServer, Fault

from fairpp_hf.generation import RunInterrupted, RunSummary, generate
from fairpp_hf.generation.batch import BatchLimits
from fairpp_hf.generation.budget import Budget, BudgetReached
from fairpp_hf.generation.journal import Journal
from fairpp_hf.generation.prices import Prices
from fairpp_hf.respondents import OpenAIRespondent, Reply, Request, RespondentStopped

DOLLAR_A_TOKEN = Prices(1e6, 1e6, 1e6, 0.5, "a test")


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


def test_a_failed_reply_costs_nothing_and_makes_room() -> None:
    budget = Budget(3.0, 0.0, 2.0, DOLLAR_A_TOKEN)
    assert budget.take()
    assert not budget.take()
    budget.pay(reply(None, "failed", error="500"))
    budget.pay(reply(None, "refusal", error="filtered"))
    assert budget.without_usage is None
    assert budget.take()


def test_a_reply_of_unknown_cost_ends_it() -> None:
    budget = Budget(30.0, 0.0, 2.0, DOLLAR_A_TOKEN)
    assert budget.take()
    budget.pay(reply(None))
    assert not budget.take()
    assert budget.fitting(3) == 0


def test_how_many_of_a_batch_fit() -> None:
    """7 left at 2 each are three; of these in a batch, one by the ordinary way does not say what the others cost."""
    budget = Budget(10.0, 3.0, 2.0, DOLLAR_A_TOKEN, batch=True)
    assert (budget.fitting(3), budget.reached) == (3, False)
    assert (budget.fitting(4), budget.reached) == (3, True)
    budget.pay(reply(4))
    assert budget.fitting(4) == 1
    assert budget.fitting(0) == 0


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


def ask(run: Path, respondent: FakeRespondent, max_cost: float | None, **options: Any) -> RunSummary:
    options = {"prices": DOLLAR_A_TOKEN, "progress": False, **options}
    return generate(run, respondent, personas(), questions(10), max_cost=max_cost, **options)


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_run_stops_before_it_costs_more_and_goes_on_with_more(tmp_path: Path, concurrency: int) -> None:
    """At 2 dollars a reply, 30 dollars buy 15 of 20."""
    respondent = Paid(concurrency=concurrency)
    with pytest.raises(BudgetReached) as reached:
        ask(tmp_path, respondent, 31.0)
    assert str(reached.value) == (
        f"max_cost must have room for the next request; got $30.00 spent of $31.00 by {tmp_path}, and 5 requests are left. "
        "Every reply is kept; raise --max-cost and run the same command again to continue."
    )
    summary = reached.value.summary
    assert (summary.asked, summary.remaining, summary.cost_usd) == (15, 5, 30.0)
    assert (summary.input_tokens, summary.output_tokens) == (15, 15)
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
    with pytest.raises(ValueError, match="must be at least") as error:
        ask(tmp_path, respondent, 20.0)
    assert str(error.value) == (
        f"max_cost must be at least what the run has cost so far, $30.00; got $20.00 for {tmp_path}. "
        "It is for the whole run, earlier calls included. Raise --max-cost."
    )
    assert respondent.asked == []


def test_a_cap_that_has_no_room_for_one_request_asks_none(tmp_path: Path) -> None:
    """Such a request has some 14 tokens around it alone: 5 dollars are too few."""
    respondent = Paid()
    with pytest.raises(BudgetReached, match="20 requests are left"):
        ask(tmp_path, respondent, 5.0)
    assert respondent.asked == []


def test_replies_of_unknown_price_are_named(tmp_path: Path) -> None:
    generate(tmp_path, Paid(), personas(), questions(4), progress=False)
    with Journal(tmp_path, read_only=True) as journal:
        assert journal.spending().unpriced == 8
    with pytest.raises(BudgetReached) as reached:
        ask(tmp_path, Paid(), 13.0)
    assert "and 6 requests are left. 8 replies of unknown price are not counted. Every reply is kept;" in str(
        reached.value
    )
    assert reached.value.summary.spending() == (
        "14 input and 14 output tokens in the whole run: $12.00, and 8 replies of unknown price."
    )


def test_a_server_that_counts_no_tokens_stops_after_one_reply(tmp_path: Path) -> None:
    respondent = Paid(lambda _: reply(None), concurrency=4)
    with pytest.raises(RespondentStopped) as stopped:
        ask(tmp_path, respondent, 1000.0)
    assert str(stopped.value) == (
        "max_cost must have a server that counts tokens; got a reply without usage, at unknown cost. "
        f"Leave out --max-cost, or use a server that counts. 1 of 20 requests have a reply in {tmp_path}."
    )
    assert len(respondent.asked) == 1
    assert ask(tmp_path, Paid(lambda _: reply(None)), None).asked == 19


@pytest.mark.parametrize("max_cost", [0.0, -1.0, float("nan"), float("inf")])
def test_a_cap_must_be_an_amount(tmp_path: Path, max_cost: float) -> None:
    with pytest.raises(ValueError, match="max_cost must be") as error:
        ask(tmp_path / "run", Paid(), max_cost)
    assert str(error.value) == (f"max_cost must be an amount in USD above 0; got {max_cost}. Pass another --max-cost.")
    assert not (tmp_path / "run").exists()


def test_a_cap_needs_a_price(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="max_cost must come with") as error:
        ask(tmp_path / "run", Paid(), 1.0, prices=None)
    assert str(error.value) == (
        "max_cost must come with the price of the model; got no price for fake:fake (simulated). Add --price IN OUT, USD "
        "per million input and output tokens, or --prices FILE."
    )
    assert not (tmp_path / "run").exists()


def test_the_cap_is_shared_by_samples_and_orders(tmp_path: Path) -> None:
    def prompted(count: int) -> Any:
        import pyarrow as pa

        table = questions(count)
        prompts = [f"Which?\nA. option_a {n}\nB. option_b {n}\nC. option_c {n}\nReply." for n in range(count)]
        return table.set_column(table.column_names.index("prompt"), "prompt", pa.array(prompts))

    respondent = Paid(concurrency=3)
    with pytest.raises(BudgetReached) as reached:
        generate(
            tmp_path,
            respondent,
            personas(),
            prompted(5),
            samples=3,
            swap=True,
            prices=DOLLAR_A_TOKEN,
            max_cost=50.0,
            progress=False,
        )
    assert (len(respondent.asked), reached.value.summary.remaining) == (25, 2 * 5 * 3 * 2 - 25)


def test_no_price_leaves_the_cost_unknown_and_not_nothing(tmp_path: Path) -> None:
    summary = ask(tmp_path, Paid(), None, prices=None)
    assert (summary.cost_usd, summary.unpriced, summary.input_tokens, summary.output_tokens) == (None, 20, 20, 20)
    assert summary.table().splitlines()[-1] == "20 input and 20 output tokens in the whole run, at unknown cost."


# --- By the Batch API ---


def test_the_cap_holds_at_the_price_of_batches(tmp_path: Path) -> None:
    """8 tokens a reply: 8 dollars for the one that is asked at once, 4 for each in a batch, so that 41 buy 1 + 8 of 10."""
    with BatchServer() as server:
        respondent = OpenAIRespondent("m", base_url=server.base_url)

        def bought(max_cost: float) -> RunSummary:
            return generate(
                *(tmp_path, respondent, personas("ann"), questions(10)),
                batch=BatchLimits(poll_s=0.01),
                prices=DOLLAR_A_TOKEN,
                max_cost=max_cost,
                progress=False,
            )

        with pytest.raises(BudgetReached) as reached:
            bought(41.0)
        assert reached.value.summary.cost_usd == 40.0
        assert reached.value.summary.remaining == 1
        assert (server.total, sum(server.answers.values())) == (1, 8)
        # The last one is alone: it is asked at once, to see whether the server takes it.
        summary = bought(100.0)
        assert (summary.asked, summary.cost_usd) == (1, 48.0)
    assert server.answered_twice() == []


def test_what_is_in_batches_when_a_call_ends_is_not_spent_twice(tmp_path: Path) -> None:
    """A stop leaves nine requests in a batch. The next call has room for them first, and for no other."""
    with BatchServer(polls=3) as server:
        respondent = OpenAIRespondent("m", base_url=server.base_url)
        options: dict[str, Any] = {"prices": DOLLAR_A_TOKEN, "progress": False}

        def stop(name: str, _: int) -> Fault | None:
            return Fault(after=lambda: os.kill(os.getpid(), signal.SIGINT)) if name == "POST /batches" else None

        server.fault = stop
        late, soon = BatchLimits(poll_s=60), BatchLimits(poll_s=0.02)
        with pytest.raises(RunInterrupted) as interruption:
            generate(tmp_path, respondent, personas("ann"), questions(10), max_cost=200.0, batch=late, **options)
        assert interruption.value.summary.remaining == 9
        server.fault = lambda *_: None
        with pytest.raises(BudgetReached) as reached:
            generate(tmp_path, respondent, personas(), questions(10), max_cost=46.0, batch=soon, **options)
        assert reached.value.summary.cost_usd == 44.0
        assert sum(server.answers.values()) == 9
    assert server.answered_twice() == []
