import math
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from generation_fixtures import FakeRespondent, by_number, not_ok, personas, questions, shown_questions

from fairpp_hf.generation import RunOptions, generate
from fairpp_hf.generation.batch.ledger import Batch, Ledger
from fairpp_hf.generation.estimate import (
    BYTES_PER_TOKEN,
    STORY_TOKENS,
    TOKENS_AROUND,
    Estimate,
    MeasuredTokens,
    RequestTokens,
    estimate,
)
from fairpp_hf.generation.plan import RequestPlan
from fairpp_hf.generation.prices import Prices
from fairpp_hf.respondents import Reply, Request, RespondentStopped
from fairpp_hf.runs.batches import give_up_batches
from fairpp_hf.runs.database import BATCHES_UNKNOWN
from fairpp_hf.runs.journal import AskedRequest, Journal
from fairpp_hf.runs.merge import merge_runs
from fairpp_hf.runs.shards import Shard

PRICES = Prices(1.0, 1.0, 10.0, 0.5, "a test")


class Served(FakeRespondent):
    """Has an address, so that it may cost something; nothing may be asked of it but by `generate`."""

    address = "http://here:8000/v1"


def counted(request: Request) -> Reply:
    """One token a byte of the request, and three for the reply."""
    size = sum(len(message["content"].encode()) for message in request.messages)
    return by_number(request)._replace(usage={"prompt_tokens": size, "completion_tokens": 3})


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".json", ".sqlite")}


def test_without_a_run_the_lengths_of_the_texts_decide(tmp_path: Path) -> None:
    """A portrait and a prompt have 21 bytes, which are 21 / 4.5 + 14 tokens; "A. option_a 0" has 13, which are 3."""
    found = estimate(tmp_path / "run", Served(), personas(), questions(), RunOptions(prices=PRICES))
    inputs = 10 * (21 / 4.5 + 14)
    assert found == Estimate(
        calls=10,
        reused=0,
        in_batches=0,
        input_tokens=round(inputs),
        output_tokens=30,
        cost_usd=pytest.approx((inputs + 300) / 1e6),
        batch_cost_usd=pytest.approx((inputs + 300) / 2e6),
        spent_usd=0.0,
        measured=None,
        prices=PRICES,
        paid=True,
    )
    assert list(tmp_path.iterdir()) == []


def test_by_an_oracle_request_by_request() -> None:
    """Portraits and prompts of several lengths and scripts, in both orders and three samples."""
    who = personas("ann", "bob", ann="Tu es Zoë. " * 7, bob="你是一个人。")
    plan = RequestPlan(who, shown_questions(7), samples=3, swap=True)
    for measured in (None, MeasuredTokens(5, 0.3, 2.5)):
        tokens = RequestTokens(plan, measured)
        inputs, outputs = tokens.at(np.arange(len(plan)))
        for request, asked, written in zip(plan, inputs.tolist(), outputs.tolist(), strict=True):
            size = sum(len(message["content"].encode()) for message in request.messages)
            longest = max(len(f"A. {option}".encode()) for option in request.options)
            expected = size * 0.3 if measured else size / BYTES_PER_TOKEN + TOKENS_AROUND
            assert asked == pytest.approx(expected)
            assert written == (2.5 if measured else math.ceil(longest / BYTES_PER_TOKEN))
            assert tokens.of(request) == math.ceil(expected)


def test_stories_are_longer_than_options() -> None:
    """Unless earlier replies say better; as estimated, so counted by a run."""
    plan = RequestPlan(personas(), shown_questions(2))
    assert set(RequestTokens(plan, stories=True).at(np.arange(4))[1]) == {float(STORY_TOKENS)}
    assert set(RequestTokens(plan, MeasuredTokens(5, 0.3, 2.5), stories=True).at(np.arange(4))[1]) == {2.5}
    teller = Served()
    teller.tells_stories = True
    assert estimate(Path("none"), teller, personas(), shown_questions(2)).output_tokens == 4 * STORY_TOKENS


def test_the_replies_of_the_run_say_better(tmp_path: Path) -> None:
    generate(tmp_path, Served(counted), personas(), questions(3), RunOptions(prices=PRICES, progress=False))
    before = files(tmp_path)
    respondent = Served()
    found = estimate(tmp_path, respondent, personas(), questions(5), RunOptions(prices=PRICES))
    assert (found.calls, found.reused) == (4, 6)
    assert found.measured == MeasuredTokens(6, 1.0, 3.0)
    assert (found.input_tokens, found.output_tokens) == (4 * 21, 4 * 3)
    assert found.spent_usd == pytest.approx(6 * (21 + 30) / 1e6)
    assert respondent.asked == []
    assert files(tmp_path) == before


def test_another_models_replies_say_nothing(tmp_path: Path) -> None:
    generate(tmp_path, Served(counted), personas(), questions(3), RunOptions(progress=False))
    other = Served(model="other")
    found = estimate(tmp_path, other, personas(), questions(3))
    assert (found.calls, found.reused, found.measured, found.spent_usd) == (6, 0, None, None)


def test_failed_requests_are_asked_again_and_other_final_ones_are_not(tmp_path: Path) -> None:
    statuses = ["failed", "invalid", "refusal", "empty", "truncated"]
    answers = Served(lambda request: not_ok(statuses[int(request.question_id[1:])]))
    generate(tmp_path, answers, personas(), questions(), RunOptions(progress=False))
    found = estimate(tmp_path, Served(), personas(), questions())
    assert (found.calls, found.reused) == (2, 8)


def test_what_is_to_be_asked_again_is_counted(tmp_path: Path) -> None:
    generate(tmp_path, Served(), personas(), questions(), RunOptions(progress=False))
    keys = RequestPlan(personas(), questions()).keys(Served().settings)
    found = estimate(tmp_path, Served(), personas(), questions(), again={keys[0], keys[7], "none of these"})
    assert (found.calls, found.reused) == (2, 8)


def in_a_batch(run: Path, positions: Sequence[int]) -> list[AskedRequest]:
    """A run of ten requests, the first with a reply and some in a batch."""
    plan = RequestPlan(personas(), questions())
    with pytest.raises(RespondentStopped):
        generate(run, Served(stops_at_q1), personas(), questions(), RunOptions(progress=False))
    keys = list(plan.keys(Served().settings))
    asked = [plan.asked_at(position, keys[position]) for position in positions]
    with Journal(run) as journal:
        batch = Batch("intent", time.time(), len(asked), 100, "file-1", "batch-1")
        Ledger(journal, []).add(batch, [request.key for request in asked])
    return asked


def stops_at_q1(request: Request) -> Reply:
    if request.question_id == "q1":
        raise RespondentStopped("no more")
    return by_number(request)


def test_what_is_in_batches_is_bought_already(tmp_path: Path) -> None:
    """Of ten requests one has a reply and four are in a batch: five are left, unless the batch is given up. A request in a
    batch that the run asks no more counts nowhere."""
    in_a_batch(tmp_path, [1, 2, 3, 9])
    found = estimate(tmp_path, Served(), personas(), questions())
    assert (found.calls, found.reused, found.in_batches) == (5, 1, 4)
    assert found.table().splitlines()[:4] == [
        "calls to make                      5",
        "kept from before                   1",
        "in batches, bought already         4",
        "input tokens                about 93",
    ]
    fewer = estimate(tmp_path, Served(), personas(), questions(3))
    assert (fewer.calls, fewer.reused, fewer.in_batches) == (3, 1, 2)
    given_up = estimate(tmp_path, Served(), personas(), questions(), give_up_batches=True)
    assert (given_up.calls, given_up.reused, given_up.in_batches) == (9, 1, 0)
    give_up_batches(tmp_path)
    assert estimate(tmp_path, Served(), personas(), questions()) == given_up


def test_what_the_parts_of_a_merged_run_have_in_batches_is_bought_already(tmp_path: Path) -> None:
    in_a_batch(tmp_path / "part", [1, 2, 3, 9])
    merge_runs(tmp_path / "all", [tmp_path / "part"])
    found = estimate(tmp_path / "all", Served(), personas(), questions())
    assert (found.calls, found.reused, found.in_batches) == (5, 1, 4)


def test_where_the_list_of_batches_is_lost_all_that_is_open_may_be_bought(tmp_path: Path) -> None:
    in_a_batch(tmp_path, [1, 2])
    with Journal(tmp_path) as journal:
        journal.note(BATCHES_UNKNOWN, "yes")
    found = estimate(tmp_path, Served(), personas(), questions())
    assert (found.calls, found.reused, found.in_batches) == (0, 1, 9)


def test_samples_orders_and_shards_are_counted(tmp_path: Path) -> None:
    what = shown_questions(10)
    assert estimate(tmp_path / "run", Served(), personas(), what, RunOptions(samples=3, swap=True)).calls == 120
    shards = [
        estimate(
            tmp_path / "run", Served(), personas(), what, RunOptions(samples=3, swap=True, shard=Shard(index, 4))
        ).calls
        for index in (1, 2, 3, 4)
    ]
    assert sum(shards) == 120
    assert min(shards) > 0


@pytest.mark.parametrize("done", [0, 4])
def test_what_it_counts_is_what_is_asked(tmp_path: Path, done: int) -> None:
    options: dict[str, Any] = {"samples": 2, "swap": True, "shard": Shard(1, 2)}
    if done:
        generate(tmp_path, Served(), personas(), shown_questions(done), RunOptions(progress=False))
    found = estimate(tmp_path, Served(), personas(), shown_questions(9), RunOptions(**options))
    summary = generate(tmp_path, Served(), personas(), shown_questions(9), RunOptions(progress=False, **options))
    assert (found.calls, found.reused) == (summary.asked, summary.reused)


def test_the_table(tmp_path: Path) -> None:
    found = estimate(tmp_path / "run", Served(), personas(), questions(), RunOptions(prices=PRICES))
    assert found.table(batch=True) == (
        "calls to make                  10\n"
        "kept from before                0\n"
        "input tokens            about 187\n"
        "output tokens            about 30\n"
        "cost              about $0.000487\n"
        "cost in batches   about $0.000243\n"
        "Tokens by the lengths of the texts; a model that thinks before it answers writes more.\n"
        "Prices: a test; $1 a million input tokens, $10 output."
    )


def test_who_asks_no_server_pays_nothing(tmp_path: Path) -> None:
    found = estimate(tmp_path / "run", FakeRespondent(), personas(), questions())
    assert found.table() == ("calls to make     10\nkept from before   0\nNo server is asked, so that nothing is paid.")


class Never(Served):
    async def answer(self, requests: Sequence[Request]) -> AsyncIterator[tuple[int, Reply]]:
        raise AssertionError
        yield  # type: ignore[unreachable]


def test_nothing_is_asked(tmp_path: Path) -> None:
    assert estimate(tmp_path / "run", Never(), personas(), questions()).calls == 10
