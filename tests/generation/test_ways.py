"""How a run's servers are asked: what is kept of it, what a later call begins with, and what it may cost."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from generation_fixtures import personas, questions, replies_in
from loopback_batches import BatchServer, Outcome
from loopback_openai import Call, LoopbackServer, Served, chosen

from fairpp_hf.generation import BatchLimits, BudgetReached, RunOptions, generate
from fairpp_hf.generation.budget import Budget
from fairpp_hf.generation.plan import RequestPlan
from fairpp_hf.generation.prices import Prices
from fairpp_hf.generation.queue import RequestQueue
from fairpp_hf.generation.summary import RunSummary
from fairpp_hf.respondents import OpenAIRespondent, Reply, Request
from fairpp_hf.respondents.openai import MAX_TOKENS, ROOM_TO_THINK
from fairpp_hf.runs import load_run
from fairpp_hf.runs.journal import AskedRequest, Journal
from fairpp_hf.runs.manifest import ways_in
from fairpp_hf.runs.overview import overview
from fairpp_hf.runs.records import load_replies, manifest_of

PRICES = Prices(1.0, 1.0, 1.0, 0.5, "a test")
"""A dollar a million tokens."""


def go(run: Path, server: LoopbackServer, count: int = 3, *, batch: bool = False, **options: Any) -> RunSummary:
    money = {name: options.pop(name) for name in ("prices", "max_cost") if name in options}
    limits = BatchLimits(poll_s=0.01) if batch else None
    respondent = OpenAIRespondent("m", base_url=server.base_url, **options)
    return generate(run, respondent, personas(), questions(count), RunOptions(progress=False, batch=limits, **money))


def ways(run: Path) -> dict[str, Any]:
    return ways_in(manifest_of(run))


def details(run: Path) -> list[dict[str, Any]]:
    return [json.loads(detail)["asked"] for detail in load_replies(run)["detail"].to_pylist()]


def choice_alone(call: Call) -> Served:
    """A server without log-probabilities."""
    if "logprobs" in call.body:
        return Served(status=400, error={"message": "no logprobs here"})
    return chosen("B") if "response_format" in call.body else Served("B")


def test_what_was_settled_is_in_the_manifest_and_a_later_call_begins_there(tmp_path: Path) -> None:
    run, way = tmp_path / "run", {"ask": "choice", "top_logprobs": 0}
    with LoopbackServer(choice_alone) as server:
        go(run, server)
        assert server.total == 6 + 1
        assert ways(run) == {server.base_url: way}
        server.reset()
        assert go(run, server, 5).asked == 4  # and nothing is asked again: how it is asked is no part of the key
        assert server.total == 4
    assert details(run) == [way] * 10
    shown = overview(run)
    assert (
        f"Asked at {server.base_url} (openai:m (simulated)): constrained choice, no log-probabilities." in shown.table()
    )
    assert shown.asked_how[:2] == (10, 0)
    assert "Constrained choices: 10 of 10 replies; 0 have probabilities under a constrained choice." in shown.table()


def test_what_is_fixed_is_part_of_the_key(tmp_path: Path) -> None:
    with LoopbackServer(choice_alone) as server:
        go(tmp_path / "run", server)
        assert go(tmp_path / "run", server, ask="text").asked == 6
        assert go(tmp_path / "run", server, ask="text", logprobs=False).asked == 6
    assert {asked["ask"] for asked in details(tmp_path / "run")} == {"text"}


def test_a_server_that_settles_elsewhere_later_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = tmp_path / "run"
    with LoopbackServer(choice_alone) as server:
        go(run, server)
        caplog.clear()
        server.answer = lambda call: (
            Served(status=400, error={"message": "response_format?"}) if "response_format" in call.body else Served("B")
        )
        go(run, server, 5)
    said = [message for message in caplog.messages if "in more than one way" in message]
    assert len(said) == 1
    assert f"The replies of the run {run} are asked for in more than one way: constrained choice, " in said[0]
    assert ways(run)[server.base_url] == {"ask": "text", "top_logprobs": 0}
    assert sorted(asked["ask"] for asked in details(run)) == ["choice"] * 6 + ["text"] * 4


def test_ways_belong_to_the_settings_that_were_asked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The replies to each are asked for in one way, and the first ones count again when their settings come back."""
    run = tmp_path / "run"
    found = []
    with LoopbackServer(lambda call: chosen("B") if "response_format" in call.body else Served("B")) as server:
        for fixed, asked in (({}, 6), ({"ask": "text"}, 6), ({"ask": "text", "logprobs": False}, 6), ({}, 0)):
            assert go(run, server, **fixed).asked == asked
            found += [line for line in overview(run).table().splitlines() if line.startswith("Asked at")]
    assert [way.split("): ")[1].split(",")[0] for way in found] == [
        "constrained choice",
        "free text",
        "free text",
        "constrained choice",
    ]
    assert found[3] == found[0]
    assert not [message for message in caplog.messages if "in more than one way" in message]


def test_batches_are_asked_as_the_first_request_has_settled_it(tmp_path: Path) -> None:
    with BatchServer(choice_alone) as server:
        summary = go(tmp_path / "run", server, batch=True)
        (batch,) = server.ours()
        bodies = [line["body"] for line in server.inputs(batch)]
    assert summary.counts["ok"] == 6
    assert all("response_format" in body and "logprobs" not in body for body in bodies)
    assert details(tmp_path / "run") == [{"ask": "choice", "top_logprobs": 0}] * 6


@pytest.mark.parametrize("batch", [False, True])
def test_counts_beyond_all_bounds_are_clamped_and_of_unknown_cost(tmp_path: Path, batch: bool) -> None:
    run = tmp_path / "run"

    def answer(call: Call) -> Served:
        big = "Prompt 1" in call.user
        return Served("B", usage={"prompt_tokens": 2**63 - 1 if big else 7, "completion_tokens": 1})

    with BatchServer(answer) as server:
        summary = go(run, server, batch=batch, prices=PRICES)
        assert summary.counts["ok"] == 6
        assert (summary.spending.unpriced, summary.spending.clamped) == (2, 2)
        assert "2 replies have a count of tokens beyond all bounds" in summary.spending.words()
        assert go(run, server, batch=batch, prices=PRICES).asked == 0
    shown = overview(run)
    assert shown.spending is not None
    assert (shown.spending.input_tokens, shown.spending.clamped) == (2 * 10**9 + 4 * 7, 2)
    assert "2 replies have a count of tokens beyond all bounds, taken as 1,000,000,000" in shown.table()
    assert load_run(run, questions(3))["status"].to_pylist() == ["ok"] * 6


@pytest.mark.parametrize("batch", [False, True])
def test_one_reply_that_cannot_be_read_is_kept_and_bought_once(tmp_path: Path, batch: bool) -> None:
    """In a batch, the line is as deep as the body."""
    deep = '{"choices": [{"message": {"content": "B"}}], "usage": ' + '{"a":' * 20_000 + "1" + "}" * 20_000 + "}"

    def spoil(lines: list[bytes]) -> list[bytes]:
        first = json.loads(lines[0])
        first["response"]["body"] = "HERE"
        return [json.dumps(first).replace('"HERE"', deep).encode() + b"\n", *lines[1:]]

    def answer(call: Call) -> Served:
        return Served(body=deep.encode()) if not batch and "Prompt 2" in call.user else Served("B")

    with BatchServer(answer, outcome=lambda _: Outcome(output=spoil)) as server:
        summary = go(tmp_path / "run", server, batch=batch)
        assert summary.counts["invalid"] == (1 if batch else 2)
        assert summary.counts["ok"] == 6 - summary.counts["invalid"]
        again = server.total, len(server.ours())
        assert go(tmp_path / "run", server, batch=batch).asked == 0
        assert (server.total, len(server.ours())) == again
    assert overview(tmp_path / "run").spending.unpriced >= summary.counts["invalid"]  # type: ignore[union-attr]


def test_a_detail_that_cannot_be_stored_does_not_cost_its_reply(tmp_path: Path) -> None:
    deep: dict[str, Any] = {}
    for _ in range(5_000):
        deep = {"a": deep}
    detail = {"tries": 1, "model": "m", "letters": deep, "number": float("nan")}
    with Journal(tmp_path) as journal:
        journal.record([(AskedRequest("k", "q", "p"), Reply(1, None, "ok", "B", {"x": float("inf")}, 0.1, detail))])
        ((_, reply),) = replies_in(journal)
    assert (reply.answer, reply.raw) == (1, "B")
    assert reply.detail == {"tries": 1, "model": "m", "not_kept": "RecursionError in ['letters', 'number']"}
    assert reply.usage == {"not_kept": "ValueError in ['x']"}


def runs_out(call: Call) -> Served:
    """A reply that needs 1,000 tokens."""
    room = call.body["max_tokens"]
    usage = {"prompt_tokens": 100, "completion_tokens": min(room, 1_000)}
    return Served("B" if room >= 1_000 else "Well", finish_reason="stop" if room >= 1_000 else "length", usage=usage)


def test_more_room_is_priced_and_given_only_within_the_budget(tmp_path: Path) -> None:
    """A first try takes 164 tokens, and the second may take 100 + 64 + 4096 = 4,260 and takes 1,100."""
    assert MAX_TOKENS + ROOM_TO_THINK == 4_160
    with LoopbackServer(runs_out) as server:
        rich = go(tmp_path / "rich", server, prices=PRICES, max_cost=1.0, concurrency=1)
        assert rich.counts["ok"] == 6
        assert rich.cost_usd == pytest.approx(6 * (164 + 1_100) / 1e6)
        server.reset()
        poor = go(tmp_path / "poor", server, prices=PRICES, max_cost=0.004, concurrency=1)
    assert (poor.counts["truncated"], server.total) == (6, 6)
    assert poor.cost_usd == pytest.approx(6 * 164 / 1e6)


def test_what_is_set_aside_for_further_tries_is_not_given_twice(tmp_path: Path) -> None:
    """All at once: there is room for two further tries of 4,260 tokens, and for no third."""
    plan = RequestPlan(personas("ann"), questions(5))
    queue = RequestQueue(plan, range(5), plan.keys({}), Budget(0.010, 0.0, 0.0001, PRICES))
    assert len(list(queue)) == 5
    more = {"prompt_tokens": 100, "completion_tokens": 4_160}
    assert [queue.set_aside(more) for _ in range(4)] == [True, True, False, False]
    queue.give_back(more)
    assert queue.set_aside(more)
    assert not queue.set_aside({"prompt_tokens": 10**12, "completion_tokens": 1})  # of unknown cost


def always_runs_out(call: Call) -> Served:
    """A try costs 4,167 tokens with room to think, and 71 without."""
    return Served(
        "Well", finish_reason="length", usage={"prompt_tokens": 7, "completion_tokens": call.body["max_tokens"]}
    )


def test_further_tries_never_cost_more_than_the_cap_also_in_a_later_call(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with LoopbackServer(always_runs_out) as server:
        for cap in (0.005, 0.010):
            with pytest.raises(BudgetReached) as reached:
                go(run, server, 100, prices=PRICES, max_cost=cap, concurrency=8)
            assert 0 < (reached.value.summary.cost_usd or 0.0) <= cap


def test_what_is_set_aside_is_free_only_when_the_reply_was_paid() -> None:
    """The caller takes its time: the next further try must not have the room of one that is not paid yet."""

    said: list[str] = []

    class Purse(list[Request]):
        def set_aside(self, usage: Mapping[str, Any]) -> bool:
            said.append("set aside")
            return True

        def give_back(self, usage: Mapping[str, Any]) -> None:
            said.append("given back")

    messages = [{"role": "user", "content": "Which?"}]
    purse = Purse([Request("q", "p", messages, ("x", "y", "z"))])

    async def collect(respondent: OpenAIRespondent) -> None:
        async for _ in respondent.answer(purse):
            said.append("paid")

    with LoopbackServer(always_runs_out) as server:
        asyncio.run(collect(OpenAIRespondent("m", base_url=server.base_url)))
    assert said == ["set aside", "paid", "given back"]
