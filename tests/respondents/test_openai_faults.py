"""Servers that refuse, fail, come and go: what is asked where, how often, and what is known of it afterwards."""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from loopback_openai import Call, LoopbackServer, Served

from fairpp_hf.respondents import exchange
from fairpp_hf.respondents.base import Reply, Request, RespondentStopped
from fairpp_hf.respondents.openai import OpenAIRespondent
from fairpp_hf.respondents.reading import read_text

OPTIONS = ("Merit.", "Need.", "Neither.")
USAGE = {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8}
NOBODY = "http://127.0.0.1:9/v1"
KEPT = "Every reply received so far is kept; run the same command again to continue."


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "LONGEST_BACKOFF_S", 0.001)


def requests(count: int) -> list[Request]:
    return [
        Request(f"q{n}", "p", [{"role": "system", "content": "You."}, {"role": "user", "content": f"q{n}"}], OPTIONS)
        for n in range(count)
    ]


def ask(respondent: OpenAIRespondent, count: int, received: dict[int, Reply] | None = None) -> dict[int, Reply]:
    replies = {} if received is None else received

    async def collect() -> None:
        async for index, reply in respondent.answer(requests(count)):
            replies[index] = reply

    asyncio.run(collect())
    return replies


@pytest.fixture
def pair() -> Iterator[tuple[LoopbackServer, LoopbackServer]]:
    with LoopbackServer() as first, LoopbackServer() as second:
        yield first, second


def both(pair: tuple[LoopbackServer, LoopbackServer], **options: object) -> OpenAIRespondent:
    return OpenAIRespondent("m", base_url=[server.base_url for server in pair], **options)  # type: ignore[arg-type]


def all_ok(replies: dict[int, Reply], count: int) -> bool:
    return sorted(replies) == list(range(count)) and {reply.status for reply in replies.values()} == {"ok"}


# Refusals for a while.


def test_a_storm_of_429_shrinks_what_is_in_flight_costs_few_calls_and_ends_complete() -> None:
    """0.5 s of refusals, each with "come back in 0.1 s": five waves at most, of 16, 8, 4, 2 and 1 requests."""
    storm: list[float] = []
    in_storm, after = [], []

    def answer(call: Call) -> Served:
        now = time.monotonic()
        if server.completed >= 60 and not storm:
            storm.append(now)
        if storm and now < storm[0] + 0.5:
            in_storm.append(call)
            return Served(status=429, headers={"Retry-After-Ms": "100"})
        if storm:
            after.append(server.in_flight)
        return Served("B", delay_s=0.02)

    with LoopbackServer(answer) as server:
        respondent = OpenAIRespondent("m", base_url=server.base_url, concurrency=16, max_retries=0)
        replies = ask(respondent, 110)
    assert all_ok(replies, 110)
    assert server.total == 110 + len(in_storm)
    assert 1 <= len(in_storm) <= 16 + 8 + 4 + 2 + 1
    assert server.most_in_flight <= 16
    # After several cuts, a few at a time.
    assert max(after[:10]) <= 4
    assert {reply.detail["tries"] for reply in replies.values() if reply.detail} == {1}


@pytest.mark.parametrize("fault", [Served(status=503), Served("A", delay_s=0.5)], ids=["503", "time-out"])
def test_503_and_time_outs_halve_what_is_in_flight(fault: Served) -> None:
    tried_again = []

    def answer(call: Call) -> Served:
        if call.number:
            tried_again.append(call)
        bad = server.completed >= 60 and not call.number and not tried_again
        return fault if bad else Served("B", delay_s=0.05)

    with LoopbackServer(answer) as server:
        respondent = OpenAIRespondent("m", base_url=server.base_url, concurrency=8, timeout_s=0.25)
        assert all_ok(ask(respondent, 75), 75)
    assert server.most_in_flight >= 8  # those that the client gave up on still count here
    assert tried_again
    assert respondent._addresses[0].limit < 8


def test_with_nothing_remaining_requests_wait_for_the_reset() -> None:
    arrivals = []

    def answer(call: Call) -> Served:
        arrivals.append(time.monotonic())
        used_up = call.user == "q0"
        return Served(
            "B",
            headers={
                "x-ratelimit-limit-requests": "60",
                "x-ratelimit-remaining-requests": "0" if used_up else "59",
                "x-ratelimit-reset-requests": "300ms",
            },
        )

    with LoopbackServer(answer) as server:
        assert all_ok(ask(OpenAIRespondent("m", base_url=server.base_url), 5), 5)
    assert 0.3 <= arrivals[1] - arrivals[0] < 1.0
    assert arrivals[4] - arrivals[1] < 0.3


@pytest.mark.parametrize(
    "served",
    [
        Served(status=429, headers={"Retry-After": "3600"}),
        Served("B", headers={"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "60m0s"}),
    ],
    ids=["429", "used up"],
)
def test_a_wait_beyond_patience_stops_at_once_instead(served: Served) -> None:
    received: dict[int, Reply] = {}
    with LoopbackServer(lambda call: served) as server, pytest.raises(RespondentStopped) as stopped:
        ask(OpenAIRespondent("m", base_url=server.base_url), 5, received)
    assert str(stopped.value) == (
        f"The server must take requests; got the word to wait for 60 minutes, from {server.base_url}. Go on then. {KEPT}"
    )
    assert len(received) == (served.status == 200)
    assert server.total == 1


# What was paid for.


def test_an_empty_reply_is_asked_for_twice_more_and_all_are_counted() -> None:
    def answer(call: Call) -> Served:
        if call.user == "q1":
            return Served("")
        return Served(None if call.user == "q2" and call.number < 2 else "B")

    with LoopbackServer(answer) as server:
        replies = ask(OpenAIRespondent("m", base_url=server.base_url, max_retries=0), 4)
    assert [replies[n].status for n in range(4)] == ["ok", "empty", "ok", "ok"]
    assert [server.calls["You.", f"q{n}"] for n in range(4)] == [1, 3, 3, 1]
    for number, tries in enumerate([1, 3, 3, 1]):
        assert replies[number].usage == {name: tries * tokens for name, tokens in USAGE.items()}
        assert (replies[number].detail or {})["tries"] == tries


def test_a_reply_that_cannot_be_read_was_paid_for_too() -> None:
    """Of q0 the first two replies are lost, one with its usage; q1 never comes through."""
    cut = b'{"choices": [{"message": {"content": "B. Ne'
    without = b'{"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8}}'

    def answer(call: Call) -> Served:
        return [Served(body=cut), Served(body=without), Served("B")][call.number if call.user == "q0" else 0]

    with LoopbackServer(answer) as server:
        replies = ask(OpenAIRespondent("m", base_url=server.base_url, max_retries=2), 2)
    assert replies[0].status == "ok"
    assert replies[0].usage == {name: 2 * tokens for name, tokens in USAGE.items()}
    assert (replies[0].detail or {})["tries"] == 3
    assert (replies[1].status, replies[1].usage) == ("failed", None)
    assert replies[1].detail is not None
    assert replies[1].detail["tries"] == 3
    assert replies[1].detail["body"] == cut.decode()
    assert replies[1].detail["error"].startswith("unreadable response: ")


@pytest.mark.parametrize(
    ("then", "status"),
    [
        (Served(status=500), "failed"),
        (Served(status=400, error={"message": "too long"}), "failed"),
        (Served(status=400, error={"message": "flagged", "code": "content_filter"}), "refusal"),
    ],
)
def test_what_was_paid_before_a_failure_stays_known(then: Served, status: str) -> None:
    def answer(call: Call) -> Served:
        return then if call.number else Served("")

    with LoopbackServer(answer) as server:
        (reply,) = ask(OpenAIRespondent("m", base_url=server.base_url, max_retries=1), 1).values()
    assert (reply.status, reply.usage, (reply.detail or {})["tries"]) == (status, USAGE, 1)
    if status == "refusal":
        assert read_text(reply.raw, reply.detail, OPTIONS) == (-1, None, "refusal")


def test_what_was_paid_before_a_stop_is_handed_over() -> None:
    def answer(call: Call) -> Served:
        return Served(status=401, error={"message": "Key expired."}) if call.number else Served("")

    received: dict[int, Reply] = {}
    with LoopbackServer(answer) as server, pytest.raises(RespondentStopped, match="must accept the key"):
        ask(OpenAIRespondent("m", base_url=server.base_url), 1, received)
    assert (received[0].status, received[0].usage) == ("failed", USAGE)
    assert (received[0].detail or {})["tries"] == 1


def test_a_subclass_says_what_is_worth_another_try() -> None:
    class Picky(OpenAIRespondent):
        further_tries = 1

        def worth_another_try(self, reply: Reply) -> bool:
            return reply.raw == "A"

    with LoopbackServer(lambda call: Served("AB"[call.user == "q1"])) as server:
        replies = ask(Picky("m", base_url=server.base_url), 2)
    assert [(replies[n].answer, (replies[n].detail or {})["tries"]) for n in range(2)] == [(0, 2), (1, 1)]


# Several addresses.


def test_addresses_share_the_load_under_one_ceiling(pair: tuple[LoopbackServer, LoopbackServer]) -> None:
    for server in pair:
        server.answer = lambda call: Served("B", delay_s=0.02)
    respondent = both(pair, concurrency=8)
    assert all_ok(ask(respondent, 200), 200)
    assert sum(server.total for server in pair) == 200
    assert min(server.total for server in pair) >= 60
    assert max(server.most_in_flight for server in pair) <= 8
    assert respondent.address == ", ".join(sorted(server.base_url for server in pair))


def test_a_busy_address_gets_less(pair: tuple[LoopbackServer, LoopbackServer]) -> None:
    busy, idle = pair
    busy.answer = lambda call: (
        Served(status=429, headers={"Retry-After-Ms": "50"}) if busy.in_flight > 2 else Served("B", delay_s=0.02)
    )
    idle.answer = lambda call: Served("B", delay_s=0.02)
    assert all_ok(ask(both(pair, concurrency=16, max_retries=0), 300), 300)
    assert busy.completed < idle.completed


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_an_address_that_is_not_there_is_left_out(order: list[int], caplog: pytest.LogCaptureFixture) -> None:
    with LoopbackServer() as server:
        urls = [NOBODY, server.base_url]
        respondent = OpenAIRespondent("m", base_url=[urls[n] for n in order], max_retries=0, concurrency=4)
        assert all_ok(ask(respondent, 40), 40)
    assert server.total == 40
    assert [
        message for message in caplog.messages if message.startswith(f"The server {NOBODY} is left out for a while")
    ]


def test_an_address_that_keeps_failing_is_left_out_and_its_requests_go_to_the_other(
    pair: tuple[LoopbackServer, LoopbackServer],
) -> None:
    failing, sound = pair
    failing.answer = lambda call: Served(status=500, error={"message": "out of memory"})
    sound.answer = lambda call: Served("B", delay_s=0.01)
    assert all_ok(ask(both(pair, concurrency=4), 200), 200)
    assert 5 <= failing.total <= 5 + 4
    assert sound.total == 200


def test_an_address_that_goes_away_and_comes_back_is_used_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("fairpp_hf.respondents.endpoints._FIRST_PAUSE_S", 0.05)

    def down(call: Call) -> Served:
        return Served(drop=True) if 20 <= flaky.total < 28 else Served("B", delay_s=0.01)

    with LoopbackServer(down) as flaky, LoopbackServer(lambda call: Served("B", delay_s=0.01)) as sound:
        replies = ask(both((flaky, sound), concurrency=4), 250)
    assert all_ok(replies, 250)
    assert flaky.completed > 40
    assert [message for message in caplog.messages if "is left out" in message] == [
        f"The server {flaky.base_url} is left out for a while: The connection was dropped. Server disconnected"
    ]
    assert flaky.completed + sound.completed == 250


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_rejection_at_one_address_stops_and_names_it(
    pair: tuple[LoopbackServer, LoopbackServer], status: int
) -> None:
    pair[0].answer = lambda call: Served("B", delay_s=0.05)
    pair[1].answer = lambda call: Served(status=status, error={"message": "No."})
    with pytest.raises(RespondentStopped, match=rf"got {status} for model 'm' at {pair[1].base_url}: No\. "):
        ask(both(pair, concurrency=4), 50)
    assert pair[0].total < 50


def test_addresses_of_which_none_is_there_are_all_named() -> None:
    other = "http://127.0.0.1:11/v1"
    with pytest.raises(RespondentStopped) as stopped:
        ask(OpenAIRespondent("m", base_url=[NOBODY, other]), 5)
    message = str(stopped.value)
    assert message.startswith('The server must be reachable; got "No connection. Cannot connect to host 127.0.0.1:9')
    assert f"from {NOBODY}" in message
    assert f"from {other}. Check --base-url, and that the server runs. {KEPT}" in message


def test_addresses_that_all_fail_are_all_named(pair: tuple[LoopbackServer, LoopbackServer]) -> None:
    for number, server in enumerate(pair):
        server.answer = lambda call, number=number: Served(status=500, error={"message": f"broken {number}"})
    with pytest.raises(RespondentStopped) as stopped:
        ask(both(pair, concurrency=2, max_retries=3), 1000)
    named = ", ".join(f"'broken {number}' from {server.base_url}" for number, server in enumerate(pair))
    assert str(stopped.value) == (
        f"The server must answer; got 10 failed requests in a row, the last with: {named}. {KEPT}"
    )


def test_each_address_is_asked_in_what_it_takes(
    pair: tuple[LoopbackServer, LoopbackServer], caplog: pytest.LogCaptureFixture
) -> None:
    """One takes logprobs, the other neither them nor `max_tokens`."""

    def old(call: Call) -> Served:
        if "logprobs" in call.body:
            return Served(status=400, error={"message": "unknown field"})
        if "max_tokens" in call.body:
            return Served(status=400, error={"message": "Use 'max_completion_tokens' instead."})
        return Served("B", delay_s=0.01)

    letters = [("B", math.log(0.5)), ("A", math.log(0.25)), ("C", math.log(0.25))]
    pair[0].answer = old
    pair[1].answer = lambda call: Served("B", delay_s=0.01, first_token=letters)
    replies = ask(both(pair, concurrency=4), 60)
    assert all_ok(replies, 60)
    assert pair[0].total == pair[0].completed
    bodies = Counter(tuple(sorted(body)) for body in pair[0].bodies)
    assert set(bodies) <= {
        ("logprobs", "max_tokens", "messages", "model", "temperature", "top_logprobs"),
        ("max_tokens", "messages", "model", "temperature"),
        ("max_completion_tokens", "messages", "model", "temperature"),
        ("logprobs", "max_completion_tokens", "messages", "model", "temperature", "top_logprobs"),
    }
    assert bodies["max_completion_tokens", "messages", "model", "temperature"] >= 10
    assert all("logprobs" in body for body in pair[1].bodies)
    assert len(caplog.messages) == 1


# What other modules use.


def learned_nothing(call: Call) -> Served:
    return Served("B")


def learned_no_logprobs(call: Call) -> Served:
    return Served(status=422, error={"message": "no"}) if "logprobs" in call.body else Served("B")


def learned_another_name(call: Call) -> Served:
    if "max_tokens" in call.body:
        return Served(status=400, error={"message": "Use 'max_completion_tokens' instead."})
    return Served("B")


@pytest.mark.parametrize("answer", [learned_nothing, learned_no_logprobs, learned_another_name])
def test_a_probe_learns_and_the_body_of_a_request_is_what_is_sent(answer: Callable[[Call], Served]) -> None:
    with LoopbackServer(answer) as server:
        respondent = OpenAIRespondent("m", base_url=server.base_url, temperature=0.5)
        first, second = requests(2)
        reply = asyncio.run(respondent.probe(first))
        assert (reply.status, reply.answer) == ("ok", 1)
        assert server.bodies[-1] == respondent.request_body(first)
        server.reset()
        asyncio.run(respondent.probe(second))
        assert server.bodies == [respondent.request_body(second)]


def test_a_completion_from_elsewhere_is_read_the_same_way() -> None:
    respondent = OpenAIRespondent("m", base_url=NOBODY)
    completion = {"model": "m", "choices": [{"message": {"content": "B"}, "finish_reason": "stop"}], "usage": USAGE}
    reply = respondent.read(completion, requests(1)[0], 0.0)
    assert reply == Reply(1, None, "ok", "B", USAGE, 0.0, {"finish_reason": "stop", "model": "m"})
    with pytest.raises(ValueError, match="not a chat completion"):
        respondent.read({"error": {}}, requests(1)[0], 0.0)


def test_the_client_makes_no_retries_and_its_errors_stop_what_they_should() -> None:
    import openai

    async def scene(respondent: OpenAIRespondent) -> None:
        client = respondent.open_client()
        assert client.max_retries == 0
        try:
            await client.post("/elsewhere", cast_to=object, body=respondent.request_body(requests(1)[0]))
        except openai.APIStatusError as error:
            respondent.stop_if_final(error)
        finally:
            await client.close()

    with (
        LoopbackServer() as server,
        pytest.raises(RespondentStopped, match="must have the model; got 404 for model 'm':"),
    ):
        asyncio.run(scene(OpenAIRespondent("m", base_url=server.base_url)))


def test_an_empty_address_among_several_is_an_error() -> None:
    with pytest.raises(ValueError, match="must be an address") as error:
        OpenAIRespondent("m", base_url=[NOBODY, ""])
    assert str(error.value) == "Each base_url must be an address; got '' at number 2."


def test_an_address_given_twice_counts_once() -> None:
    assert OpenAIRespondent("m", base_url=[NOBODY, NOBODY]).base_urls == (NOBODY,)
