"""Servers that refuse, fail, come and go: what is asked where, how often, and what is known of it afterwards."""

import ast
import asyncio
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from asked_openai import USAGE, ask, requests, serve
from loopback_openai import Call, LoopbackServer, Served

from fairpp_hf.respondents import exchange, openai
from fairpp_hf.respondents.base import Reply, Request, RespondentStopped
from fairpp_hf.respondents.openai import OpenAIRespondent
from fairpp_hf.respondents.pace import Pace


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
def test_503_and_time_outs_halve_what_is_in_flight(fault: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that has too much to do is not sent as much again."""
    paces, tried_again = [], []

    class Watched(Pace):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            paces.append(self)

    def answer(call: Call) -> Served:
        if call.number:
            tried_again.append(call)
        bad = server.completed >= 60 and not call.number and not tried_again
        return fault if bad else Served("B", delay_s=0.05)

    monkeypatch.setattr(openai, "Pace", Watched)
    with LoopbackServer(answer) as server:
        respondent = OpenAIRespondent("m", base_url=server.base_url, concurrency=8, timeout_s=0.25)
        assert all_ok(ask(respondent, 75), 75)
    assert server.most_in_flight >= 8  # those that the client gave up on still count here
    assert tried_again
    assert paces[0].limit < 8


def test_patience_counts_since_the_last_success(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every request is refused once, and told to come back in 0.1 s: 0.8 s of refusals in all, none after another."""
    monkeypatch.setattr(exchange, "PATIENCE_S", 0.4)

    def answer(call: Call) -> Served:
        return Served("B") if call.number else Served(status=429, headers={"Retry-After-Ms": "100"})

    with LoopbackServer(answer) as server:
        assert all_ok(ask(OpenAIRespondent("m", base_url=server.base_url, concurrency=1), 8), 8)


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
    except RespondentStopped as stopped:
        found = re.search("got (.*) from http", str(stopped))
        assert found is not None
        return str(ast.literal_eval(found[1])), False
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
        while server.total < 21:
            time.sleep(0.01)
        time.sleep(0.2)
        asked.stopped = True

    with LoopbackServer(answer) as server:
        respondent = OpenAIRespondent("m", base_url=server.base_url, concurrency=8)
        threading.Thread(target=stop_when_held, daemon=True).start()
        started = time.monotonic()
        replies = ask(respondent, asked)
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
        replies = ask(OpenAIRespondent("m", base_url=server.base_url, concurrency=3), asked)
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

    server, _, replies = serve(answer, 4, max_retries=0)
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

    _, _, replies = serve(answer, 2, max_retries=2)
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


def test_what_was_paid_before_a_stop_is_handed_over() -> None:
    def answer(call: Call) -> Served:
        return Served(status=401, error={"message": "Key expired."}) if server.total > 1 else Served("")

    received: dict[int, Reply] = {}
    with LoopbackServer(answer) as server, pytest.raises(RespondentStopped, match="must accept the key"):
        ask(OpenAIRespondent("m", base_url=server.base_url), 1, received)
    assert (received[0].status, received[0].usage) == ("failed", USAGE)
    assert (received[0].detail or {})["tries"] == 1
