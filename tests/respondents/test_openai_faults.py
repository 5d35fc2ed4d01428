"""Servers that refuse, fail, come and go: what is asked where, how often, and what is known of it afterwards."""

import asyncio
import contextlib
import json
import math
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

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


def ask(
    respondent: OpenAIRespondent,
    count: int,
    received: dict[int, Reply] | None = None,
    asked: Sequence[Request] | None = None,
) -> dict[int, Reply]:
    replies = {} if received is None else received

    async def collect() -> None:
        async for index, reply in respondent.answer(requests(count) if asked is None else asked):
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


def test_patience_counts_since_the_last_success(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every request is refused once, and told to come back in 0.1 s: 0.8 s of refusals in all, none after another."""
    monkeypatch.setattr(exchange, "PATIENCE_S", 0.4)

    def answer(call: Call) -> Served:
        return Served("B") if call.number else Served(status=429, headers={"Retry-After-Ms": "100"})

    with LoopbackServer(answer) as server:
        assert all_ok(ask(OpenAIRespondent("m", base_url=server.base_url, concurrency=1), 8), 8)


@pytest.mark.parametrize("kind", ["billing_not_active", "billing_hard_limit_reached"])
def test_an_account_that_cannot_pay_stops_at_once(kind: str) -> None:
    served = Served(status=429, error={"message": "Not active.", "code": kind, "type": kind})
    with LoopbackServer(lambda call: served) as server, pytest.raises(RespondentStopped) as stopped:
        ask(OpenAIRespondent("m", base_url=server.base_url), 5)
    assert str(stopped.value) == (
        f"The account must be able to pay; got 429 for model 'm': Not active. Check its billing. {KEPT}"
    )
    assert server.total == 1


# What a model does not take.

TEMPERATURE = "Unsupported value: 'temperature' does not support 0.0 with this model."


def takes_only_temperature_1(call: Call) -> Served:
    """A model that knows the length limit by its new name, gives no logprobs, and has one temperature."""
    if "max_tokens" in call.body:
        words = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
        return Served(status=400, error={"message": words, "code": "unsupported_parameter", "param": "max_tokens"})
    if "logprobs" in call.body:
        words = "Unsupported parameter: 'logprobs' is not supported with this model."
        return Served(status=400, error={"message": words, "code": "unsupported_parameter", "param": "logprobs"})
    if call.body.get("temperature", 1) != 1:
        details = {"message": TEMPERATURE, "code": "unsupported_value", "param": "temperature"}
        return Served(status=400, error=details)
    return Served("B")


def test_a_model_that_does_not_take_the_temperature_is_asked_without(caplog: pytest.LogCaptureFixture) -> None:
    with LoopbackServer(takes_only_temperature_1) as server:
        replies = ask(OpenAIRespondent("m", base_url=server.base_url), 20)
    assert all_ok(replies, 20)
    assert server.total == 20 + 3
    assert {"temperature", "logprobs", "max_tokens"}.isdisjoint(server.bodies[-1])
    assert (replies[9].detail or {})["asked"] == {
        "ask": "text",
        "top_logprobs": 0,
        "temperature": False,
        "length_parameter": "max_completion_tokens",
    }
    assert caplog.messages == [
        f"The server {server.base_url} is asked like this: free text, no log-probabilities, temperature left out."
    ]


def test_a_parameter_that_no_code_names_stops_too() -> None:
    served = Served(status=422, error={"message": "Unknown field: messages"})
    with LoopbackServer(lambda call: served) as server, pytest.raises(RespondentStopped) as stopped:
        ask(OpenAIRespondent("m", base_url=server.base_url), 100)
    assert str(stopped.value) == (
        "The model must take what a request asks for; got 422 for model 'm': Unknown field: messages. Use another --model. "
        f"{KEPT}"
    )
    assert server.total == 7


def test_requests_that_are_rejected_for_their_own_sake_stop_nothing() -> None:
    """The first is too long and its words are quoted; a later one meets an odd limit, when others have been answered."""

    def answer(call: Call) -> Served:
        if call.user.endswith("q0"):
            return Served(status=400, error={"message": "Too long: 'an unsupported value, and more'."})
        if call.user == "q3":
            return Served(status=400, error={"message": TEMPERATURE, "code": "unsupported_value"})
        return Served("B")

    with LoopbackServer(answer) as server:
        replies = ask(OpenAIRespondent("m", base_url=server.base_url, concurrency=1), 6)
    assert [replies[n].status for n in range(6)] == ["failed", "ok", "ok", "failed", "ok", "ok"]


# Errors in a response that says 200.


def hidden(code: object, **more: object) -> Served:
    return Served(body=json.dumps({"error": {"message": "Says the gateway.", "code": code}, **more}).encode())


def test_a_429_in_a_200_holds_back_and_costs_no_try() -> None:
    def answer(call: Call) -> Served:
        return Served("B") if call.number else hidden(429)._replace(headers={"Retry-After-Ms": "50"})

    with LoopbackServer(answer) as server:
        replies = ask(OpenAIRespondent("m", base_url=server.base_url, max_retries=0), 4)
    assert all_ok(replies, 4)
    assert [((reply.detail or {})["tries"], reply.usage) for reply in replies.values()] == [(1, USAGE)] * 4


def test_other_errors_in_a_200_are_what_their_code_says() -> None:
    def answer(call: Call) -> Served:
        if call.user.endswith("q2"):
            return hidden(400)
        return Served("B") if call.number or call.user != "q1" else hidden("502", usage=USAGE)

    with LoopbackServer(answer) as server:
        replies = ask(OpenAIRespondent("m", base_url=server.base_url, max_retries=1), 3)
        server.answer = lambda call: hidden(401)
        with pytest.raises(
            RespondentStopped, match=r"must accept the key; got 401 for model 'm': Says the gateway\. Set"
        ):
            ask(OpenAIRespondent("m", base_url=server.base_url), 5)
    assert (replies[1].status, replies[1].usage) == ("ok", {name: 2 * tokens for name, tokens in USAGE.items()})
    assert (replies[2].status, replies[2].detail) == ("failed", {"error": "Says the gateway."})


@pytest.mark.parametrize("code", ["server_error", 200, None])
def test_an_error_in_a_200_without_a_status_is_a_fault_of_the_server(code: object) -> None:
    with LoopbackServer(lambda call: hidden(code)) as server:
        (reply,) = ask(OpenAIRespondent("m", base_url=server.base_url, max_retries=0), 1).values()
    assert (reply.status, reply.detail) == ("failed", {"error": "Says the gateway."})


# Connections that fail.


class RawServer:
    """Sends bytes of any kind to whoever asks, and then closes the connection; with `reset`, without a proper end."""

    def __init__(self, *parts: bytes, reset: bool = False, silent: bool = False) -> None:
        self._parts, self._reset = parts, reset
        self._over = threading.Event()
        if not silent:
            self._over.set()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def __enter__(self) -> "RawServer":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            sent = b""
            while b"}" not in sent and not sent.startswith(b"CONNECT"):
                if not (part := connection.recv(65536)):
                    return
                sent += part
            time.sleep(0.02)
            for part in self._parts:
                connection.sendall(part)
                time.sleep(0.02)
            self._over.wait(5)
            if self._reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


OK_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
PART = (OK_HEAD + b"Content-Length: 100\r\n\r\n", b'{"choi')
CUT = r"Response payload is not completed: <ContentLengthError: 400, message='Not enough data .*"


def failure(url: str, **options: Any) -> tuple[str, bool]:
    """The words for what went wrong, and whether the server is taken to be there."""
    respondent = OpenAIRespondent("m", base_url=url, max_retries=0, **options)
    try:
        (reply,) = ask(respondent, 1).values()
    except RespondentStopped:
        return str(respondent._addresses[0].last_error), False
    assert reply.status == "failed"
    return (reply.detail or {})["error"], True


@pytest.mark.parametrize(
    ("server", "words", "reached"),
    [
        (RawServer(), r"The connection was dropped\. Server disconnected", False),
        (RawServer(reset=True), r"The connection was dropped\. \[Errno 104\] Connection reset by peer", False),
        (RawServer(*PART), rf"The connection was dropped\. {CUT}", True),
        (RawServer(*PART, reset=True), rf"The connection was dropped\. {CUT}ConnectionResetError.*", True),
        (
            RawServer(OK_HEAD + b'Transfer-Encoding: chunked\r\n\r\n5\r\n{"cho\r\n'),
            r"The connection was dropped\. Response payload is not completed: <TransferEncodingError: 400, .*",
            True,
        ),
        (RawServer(silent=True), r"Timed out\. No whole response in 0\.3 s\.", False),
        (RawServer(*PART, silent=True), r"Timed out\. No whole response in 0\.3 s\.", False),
        (RawServer(b"SSH-2.0-OpenSSH_9.6\r\n"), r"unreadable response: Bad status line: .*SSH-2\.0.*", False),
        (RawServer(b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n"), r"unreadable response: Invalid header token: .*", False),
        (
            RawServer(OK_HEAD + b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nABCDE"),
            r"unreadable response: Error -3 while decompressing data: incorrect header check",
            True,
        ),
    ],
    ids=[
        "closed",
        "reset",
        "cut",
        "reset in mid-body",
        "cut chunk",
        "silent",
        "silent in mid-body",
        "ssh",
        "header",
        "gzip",
    ],
)
def test_a_connection_that_fails_costs_its_request_alone_in_right_words(
    server: RawServer, words: str, reached: bool
) -> None:
    with server:
        found, found_reached = failure(f"{server.url}/v1", timeout_s=0.3)
    assert re.fullmatch(words, found)
    assert found_reached == reached


def test_a_server_that_takes_no_connection_in_time_is_not_there() -> None:
    """A queue of connections that is full: the kernel answers no further one."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as stack:
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}/v1"
        assert failure(url, timeout_s=0.3) == ("No connection. The server did not take it in time.", False)


def test_a_proxy_that_is_not_there_or_refuses_is_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", NOBODY)
    found, reached = failure("https://server.invalid/v1")
    assert (found.startswith("No connection. Cannot connect to host 127.0.0.1:9 "), reached) == (True, False)
    with RawServer(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n") as proxy:
        monkeypatch.setenv("https_proxy", proxy.url.replace("//", "//me:secret@"))
        assert failure("https://server.invalid/v1") == (
            "No connection. The proxy refuses it: 407 Proxy Authentication Required",
            False,
        )


# Requests that the user stops, or that have a budget.


class Stopping(list[Request]):
    """As the runner's: nothing more is taken once `stopped` is set."""

    stopped = False

    def __iter__(self) -> Iterator[Request]:
        for request in super().__iter__():
            if self.stopped:
                return
            yield request


def test_once_stopped_what_waits_for_its_turn_ends_at_once() -> None:
    """Two are in flight when all is stopped: one is answered, one is refused for 60 s; six more wait for that hold's end."""
    asked = Stopping(requests(50))

    def answer(call: Call) -> Served:
        if server.completed < 20:
            return Served("A", delay_s=0.01)
        return Served(status=429, headers={"Retry-After": "60"})

    def stop_when_held() -> None:
        address = respondent._addresses[0]
        while address.opens_at < time.monotonic() + 30:
            time.sleep(0.01)
        asked.stopped = True

    with LoopbackServer(answer) as server:
        respondent = OpenAIRespondent("m", base_url=server.base_url, concurrency=8)
        threading.Thread(target=stop_when_held, daemon=True).start()
        started = time.monotonic()
        replies = ask(respondent, 50, asked=asked)
    assert time.monotonic() - started < 10
    assert 20 <= len(replies) < 50
    assert {reply.status for reply in replies.values()} == {"ok"}


def test_once_stopped_what_is_in_flight_is_waited_for_and_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """q1 is answered after the stop, q2 fails in a pause of 60 s, and what q3 paid before its pause is handed over."""
    monkeypatch.setattr(exchange, "LONGEST_BACKOFF_S", 60.0)
    monkeypatch.setattr(exchange.random, "uniform", lambda low, high: 60.0)
    asked = Stopping(requests(4))

    def answer(call: Call) -> Served:
        if call.user == "q1":
            asked.stopped = True
            return Served("B", delay_s=0.5)
        if call.user == "q3" and not call.number:
            return Served("")
        return Served("A") if call.user == "q0" else Served(status=500)

    with LoopbackServer(answer) as server:
        # The order: q0 alone, then q3, q2 and q1.
        asked[1], asked[3] = asked[3], asked[1]
        replies = ask(OpenAIRespondent("m", base_url=server.base_url, concurrency=3), 4, asked=asked)
    assert {asked[index].question_id: reply.status for index, reply in replies.items()} == {
        "q0": "ok",
        "q1": "ok",
        "q3": "failed",
    }
    paid = replies[1]
    assert (paid.usage, paid.detail) == (USAGE, {"error": "The run was stopped before an answer came.", "tries": 1})
    assert paid.latency_s > 0


def test_cancelled_it_hands_over_what_was_paid() -> None:
    """Each of three requests was paid for once when all are dropped; the fourth is at its first try."""

    def answer(call: Call) -> Served:
        if call.user == "q0":
            return Served("B")
        return Served("") if call.user != "q4" and not call.number else Served("B", delay_s=5)

    async def scene(respondent: OpenAIRespondent) -> dict[int, Reply]:
        replies = {}

        async def collect() -> None:
            async for index, reply in respondent.answer(requests(5)):
                replies[index] = reply

        task = asyncio.create_task(collect())
        while server.total < 1 + 3 * 2 + 1:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return replies

    with LoopbackServer(answer) as server:
        replies = asyncio.run(scene(OpenAIRespondent("m", base_url=server.base_url)))
    assert {index: reply.status for index, reply in replies.items()} == {0: "ok", 1: "failed", 2: "failed", 3: "failed"}
    assert [(replies[n].usage, (replies[n].detail or {})["error"]) for n in (1, 2, 3)] == [
        (USAGE, "The run was stopped.")
    ] * 3


def test_without_room_the_next_is_taken_only_when_nothing_is_in_flight() -> None:
    """A budget with room for two: each reply makes room again, and the end of the iteration is the end."""

    class Budget(list[Request]):
        room = 2
        asked_in_vain = 0

        def has_room(self) -> bool:
            return self.room > 0

        def __iter__(self) -> Iterator[Request]:
            for request in super().__iter__():
                if not self.room:
                    self.asked_in_vain += 1
                    return
                self.room -= 1
                yield request

    asked = Budget(requests(20))
    taken = 0

    async def collect(respondent: OpenAIRespondent) -> None:
        nonlocal taken
        async for _ in respondent.answer(asked):
            taken += 1
            asked.room += taken < 12

    with LoopbackServer(lambda call: Served("B", delay_s=0.01)) as server:
        asyncio.run(collect(OpenAIRespondent("m", base_url=server.base_url, concurrency=8)))
    assert server.total == taken == 2 + 11
    assert server.most_in_flight == 2
    assert asked.asked_in_vain == 1


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
        return then if server.total > 1 else Served("")

    with LoopbackServer(answer) as server:
        (reply,) = ask(OpenAIRespondent("m", base_url=server.base_url, max_retries=1), 1).values()
    assert (reply.status, reply.usage, (reply.detail or {})["tries"]) == (status, USAGE, 1)
    if status == "refusal":
        assert read_text(reply.raw, reply.detail, OPTIONS) == (-1, None, "refusal")


def test_what_was_paid_before_a_stop_is_handed_over() -> None:
    def answer(call: Call) -> Served:
        return Served(status=401, error={"message": "Key expired."}) if server.total > 1 else Served("")

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
    together = []

    def answer(call: Call) -> Served:
        together.append(sum(server.in_flight for server in pair))
        return Served("B", delay_s=0.02)

    for server in pair:
        server.answer = answer
    respondent = both(pair, concurrency=8)
    assert all_ok(ask(respondent, 200), 200)
    assert sum(server.total for server in pair) == 200
    assert min(server.total for server in pair) >= 60
    assert 6 <= max(together) <= 8
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
    """It drops every connection from the 20th call on, until it has been left out twice."""
    monkeypatch.setattr("fairpp_hf.respondents.endpoints._FIRST_PAUSE_S", 0.05)
    dropped, served_again = [], []

    def down(call: Call) -> Served:
        if flaky.total >= 20:
            if not served_again and respondent._addresses[0].times_left_out < 2:
                dropped.append(call)
                return Served(drop=True)
            served_again.append(call)
        return Served("B", delay_s=0.01)

    with LoopbackServer(down) as flaky, LoopbackServer(lambda call: Served("B", delay_s=0.02)) as sound:
        respondent = both((flaky, sound), concurrency=4)
        assert all_ok(ask(respondent, 250), 250)
    assert {message for message in caplog.messages if "is left out" in message} == {
        f"The server {flaky.base_url} is left out for a while: The connection was dropped. Server disconnected"
    }
    assert served_again
    assert flaky.total - len(dropped) + sound.total == 250


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
    """One takes logprobs, the other neither them nor `max_tokens`; neither has a schema."""

    def old(call: Call) -> Served:
        if "logprobs" in call.body:
            return Served(status=400, error={"message": "unknown field"})
        if "max_tokens" in call.body:
            return Served(status=400, error={"message": "Use 'max_completion_tokens' instead."})
        return Served("B", delay_s=0.01)

    letters = [("B", math.log(0.5)), ("A", math.log(0.25)), ("C", math.log(0.25))]
    pair[0].answer = old
    pair[1].answer = lambda call: Served("B", delay_s=0.01, first_token=letters)
    respondent = both(pair, concurrency=4)
    assert all_ok(ask(respondent, 60), 60)
    bodies = Counter(tuple(sorted(body)) for body in pair[0].bodies)
    plain = bodies.pop(("max_completion_tokens", "messages", "model", "temperature"))
    assert plain >= 10
    assert bodies.total() == 3  # with everything, without logprobs, and with the limit by its other name
    assert all("logprobs" in body for body in pair[1].bodies)
    assert respondent.ways == {
        pair[0].base_url: {"ask": "text", "top_logprobs": 0, "length_parameter": "max_completion_tokens"},
        pair[1].base_url: {"ask": "text", "top_logprobs": 20},
    }
    assert len(caplog.messages) == 2


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
def test_a_request_teaches_and_the_body_of_the_next_is_what_is_sent(answer: Callable[[Call], Served]) -> None:
    with LoopbackServer(answer) as server:
        respondent = OpenAIRespondent("m", base_url=server.base_url, temperature=0.5)
        first, second = requests(2)
        assert all_ok(ask(respondent, 1, asked=[first]), 1)
        server.reset()
        ask(respondent, 1, asked=[second])
        assert server.bodies == [respondent.request_body(second)]


def test_a_completion_from_elsewhere_is_read_the_same_way() -> None:
    respondent = OpenAIRespondent("m", base_url=NOBODY)
    completion = {"model": "m", "choices": [{"message": {"content": "B"}, "finish_reason": "stop"}], "usage": USAGE}
    reply = respondent.read(completion, requests(1)[0], 0.0)
    asked = {"ask": "text", "top_logprobs": 0}
    assert reply == Reply(1, None, "ok", "B", USAGE, 0.0, {"finish_reason": "stop", "model": "m", "asked": asked})
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
