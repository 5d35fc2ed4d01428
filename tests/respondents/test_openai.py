import asyncio
import json
import math
import time

import pytest
from asked_openai import ask, requests, serve
from loopback_openai import Call, LoopbackServer, Served

from fairpp_hf.respondents import base, exchange
from fairpp_hf.respondents.base import Request, RespondentStopped
from fairpp_hf.respondents.openai import OpenAIRespondent


def test_every_request_is_answered_once_with_what_the_server_said() -> None:
    server, _, replies = serve(lambda call: Served("ABC"[int(call.user[1:]) % 3]), 30, concurrency=4)
    assert [replies[n].answer for n in range(30)] == [n % 3 for n in range(30)]
    assert set(server.calls.values()) == {1}
    reply = replies[1]
    assert (reply.status, reply.raw, reply.probabilities) == ("ok", "B", None)
    assert reply.usage == {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8}
    asked = {"ask": "text", "top_logprobs": 0}  # neither the schema nor the log-probabilities had any effect
    assert reply.detail == {"finish_reason": "stop", "model": "m", "asked": asked, "tries": 1}
    first = dict(server.bodies[0])
    assert first.pop("response_format") == OpenAIRespondent.response_format
    assert first == {
        "model": "m",
        "messages": [{"role": "system", "content": "You."}, {"role": "user", "content": "q0"}],
        "temperature": 0.0,
        "max_tokens": 64,
        "logprobs": True,
        "top_logprobs": 20,
    }


def test_concurrency_is_a_ceiling_that_is_reached_and_the_first_request_goes_alone() -> None:
    seen = []

    def answer(call: Call) -> Served:
        seen.append(call.user)
        return Served(delay_s=0.2 if call.user == "q0" else 0.05)

    with LoopbackServer(answer) as server:
        started = time.monotonic()
        ask(OpenAIRespondent("m", base_url=server.base_url, concurrency=8), 41)
    assert server.most_in_flight == 8
    assert seen[0] == "q0"
    assert time.monotonic() - started >= 0.2 + 5 * 0.05


def test_requests_are_taken_one_by_one_as_they_are_asked() -> None:
    taken = []

    class Watched(list[Request]):
        def __iter__(self):
            for request in super().__iter__():
                taken.append(request)
                yield request

    with LoopbackServer() as server:
        respondent = OpenAIRespondent("m", base_url=server.base_url, concurrency=2)

        async def first_three() -> None:
            stream = respondent.answer(Watched(requests(20)))
            for _ in range(3):
                await anext(stream)
            await stream.aclose()

        asyncio.run(first_three())
    # Three replies were received; beyond them, at most two requests may be in flight.
    assert len(taken) <= 5


@pytest.mark.parametrize(
    ("served", "status", "answer", "raw"),
    [
        (Served("B. Need."), "ok", 1, "B. Need."),
        (Served(""), "empty", -1, ""),
        (Served(None), "empty", -1, None),
        (Served("A or B"), "invalid", -1, "A or B"),
        (Served(None, refusal="I cannot."), "refusal", -1, "I cannot."),
        (Served("A", finish_reason="content_filter"), "refusal", -1, "A"),
        (Served("The fairer of", finish_reason="length"), "truncated", -1, "The fairer of"),
        (Served("B. Nee", finish_reason="length"), "ok", 1, "B. Nee"),
        (Served("\u202bB\u202c 😀 \ud800"), "ok", 1, "\u202bB\u202c 😀 \ud800"),
        (Served(status=400, error={"message": "flagged", "code": "content_filter"}), "refusal", -1, "flagged"),
    ],
)
def test_statuses_are_kept_apart_and_the_raw_text_is_kept(served: Served, status: str, answer: int, raw: str) -> None:
    reply = serve(lambda call: served)[2][0]
    assert (reply.status, reply.answer, reply.raw) == (status, answer, raw)


def alternatives(a: float, b: float, c: float, first: str = "A") -> list[tuple[str, float]]:
    known = [("A", math.log(a)), (" A", math.log(a)), ("B", math.log(b)), ("C", math.log(c)), ("The", math.log(0.2))]
    return sorted(known, key=lambda pair: pair[0] != first)


def test_option_probabilities_are_the_first_tokens_letters_renormalised() -> None:
    """A: 0.2 + 0.2 in two spellings, B: 0.3, C: 0.1; of 0.8 in all: 0.5, 0.375, 0.125."""
    reply = serve(lambda call: Served("A. Merit.", first_token=alternatives(0.2, 0.3, 0.1)))[2][0]
    assert reply.probabilities == pytest.approx((0.5, 0.375, 0.125))
    assert reply.detail is not None
    (letter,) = reply.detail["letters"]
    assert (letter["place"], letter["token"]) == (0, "A")
    assert ["B", pytest.approx(math.log(0.3))] in letter["alternatives"]


def test_a_429_holds_all_requests_back_for_as_long_as_the_server_says() -> None:
    """At most the requests in flight are refused: the rest wait, and no try is used up."""
    arrivals: list[float] = []
    refused: list[float] = []

    def answer(call: Call) -> Served:
        now = time.monotonic()
        if len(arrivals) >= 10 and (not refused or now < refused[0] + 0.3):
            refused.append(now)
            return Served(status=429, headers={"Retry-After": "1"})
        arrivals.append(now)
        return Served("A", delay_s=0.05)

    _, _, replies = serve(answer, 40, concurrency=4, max_retries=0)
    assert {reply.status for reply in replies.values()} == {"ok"}
    assert len(arrivals) == 40
    assert 1 <= len(refused) <= 4
    assert not [arrival for arrival in arrivals if refused[0] + 0.3 < arrival < refused[0] + 1.0]


def test_429s_without_end_stop_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "PATIENCE_S", 0.3)
    with pytest.raises(RespondentStopped) as stopped:
        serve(lambda call: Served(status=429, headers={"Retry-After-Ms": "100"}), 3)
    assert str(stopped.value) == (
        "The server must take requests; got 429 (too many requests) for 0 minutes. Use a smaller concurrency or wait."
    )


@pytest.mark.parametrize(
    "fault",
    [
        Served(status=500),
        Served(status=503, headers={"Retry-After": "0"}),
        Served(drop=True),
        Served(body=b'{"choices": [{"mess'),
        Served(body=b'{"choices": []}'),
        Served(body=b'{"choices": [{"message": "B"}]}'),
        Served(body=b"null"),
        Served("A", delay_s=1.0),
    ],
    ids=["500", "503", "dropped", "cut JSON", "no choice", "no message", "null", "time-out"],
)
def test_passing_faults_are_tried_again_and_lasting_ones_fail(fault: Served) -> None:
    def answer(call: Call) -> Served:
        return fault if call.user == "q1" or (call.user == "q2" and call.number < 2) else Served("B")

    server, _, replies = serve(answer, 4, max_retries=2, timeout_s=0.3)
    assert [replies[n].status for n in range(4)] == ["ok", "failed", "ok", "ok"]
    assert replies[1].detail is not None
    assert replies[1].detail["error"]
    assert server.calls["You.", "q1"] == 3


@pytest.mark.parametrize(
    ("served", "message"),
    [
        (
            Served(status=401, error={"message": "Incorrect API key."}),
            "The server must accept the key; got 401 for model 'm': Incorrect API key. Set OPENAI_API_KEY to a valid one.",
        ),
        (
            Served(status=403, error={"message": "No access."}),
            "The key must be allowed to use the model; got 403 for model 'm': No access. Use another key or another "
            "model.",
        ),
        (
            Served(status=404, error={"message": "No such model."}),
            "The server must have the model; got 404 for model 'm': No such model. Check the model's name and the base URL.",
        ),
        (
            Served(status=429, error={"message": "Not active.", "code": "billing_not_active"}),
            "The account must be able to pay; got 429 for model 'm': Not active. Check its billing.",
        ),
        (
            Served(status=429, headers={"Retry-After": "3600"}),
            "The server must take requests; got the word to wait for 60 minutes, from {}. Go on then.",
        ),
        (
            Served(status=429, error={"message": "Quota exceeded.", "code": "insufficient_quota"}),
            "The account must have quota left; got 429 for model 'm': Quota exceeded. Add credit.",
        ),
    ],
)
def test_what_no_retry_can_mend_stops_at_the_first_call(served: Served, message: str) -> None:
    with LoopbackServer(lambda call: served) as server, pytest.raises(RespondentStopped) as stopped:
        ask(OpenAIRespondent("m", base_url=server.base_url), 50)
    assert str(stopped.value) == message.format(server.base_url)
    assert server.total == 1


def test_replies_in_flight_are_still_yielded_when_the_quota_runs_out() -> None:
    def answer(call: Call) -> Served:
        if call.user == "q5":
            return Served(status=429, error={"code": "insufficient_quota"})
        return Served("B", delay_s=0.2)

    received = {}

    async def collect(respondent: OpenAIRespondent) -> None:
        async for index, reply in respondent.answer(requests(50)):
            received[index] = reply.status

    with LoopbackServer(answer) as server:
        respondent = OpenAIRespondent("m", base_url=server.base_url, concurrency=8)
        with pytest.raises(RespondentStopped, match="must have quota left"):
            asyncio.run(collect(respondent))
    assert len(received) >= 6
    assert 5 not in received
    assert set(received.values()) == {"ok"}
    assert server.total == len(received) + 1


def test_a_server_that_is_not_there_is_named() -> None:
    respondent = OpenAIRespondent("m", base_url="http://127.0.0.1:9/v1")
    with pytest.raises(RespondentStopped, match=r"must be reachable; got .* from http://127\.0\.0\.1:9/v1\. Check"):
        ask(respondent, 5)


def test_a_server_that_fails_everything_stops_the_run_with_its_own_words() -> None:
    def answer(call: Call) -> Served:
        return Served("A") if call.user == "q0" else Served(status=500, error={"message": "out of memory"})

    with LoopbackServer(answer) as server, pytest.raises(RespondentStopped) as stopped:
        ask(OpenAIRespondent("m", base_url=server.base_url, concurrency=2, max_retries=1), 1000)
    assert str(stopped.value) == (
        "The server must answer; got 10 failed requests in a row, the last with: out of memory."
    )
    assert server.total <= 1 + 2 * 12


def test_neither_key_nor_server_is_an_error_before_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="must have a key") as error:
        OpenAIRespondent("m")
    assert str(error.value) == (
        "The openai respondent must have a key or a server of your own; got neither. "
        "Set OPENAI_API_KEY, or give a base URL such as http://localhost:8000/v1."
    )
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    assert OpenAIRespondent("m").address == "https://api.openai.com/v1"


@pytest.mark.parametrize(
    ("base_url", "address"),
    [
        ("http://localhost:8000/v1", "http://localhost:8000/v1"),
        ("HTTP://LocalHost:8000/V1/", "http://localhost:8000/V1"),
        ("https://host/v1?key=secret", "https://host/v1"),
        ("https://[::1]:80/v1#secret", "https://[::1]:80/v1"),
    ],
)
def test_the_address_is_for_the_record_and_holds_no_secret(base_url: str, address: str) -> None:
    respondent = OpenAIRespondent("m", base_url=base_url, api_key="secret")
    assert isinstance(respondent, base.HasAddress)
    assert respondent.address == address
    assert "secret" not in json.dumps(respondent.settings)


@pytest.mark.parametrize(
    "base_url",
    [
        "https://me:secret@host/v1",
        "http://me:pa#ss@host",
        "me:secret@host/v1",
        "ftp://127.0.0.1:9/v1?key=secret",
        "127.0.0.1:9/v1",
        "http://host:secret/v1",
        "http://ho\x00st/v1",
    ],
)
def test_an_address_that_is_no_url_or_has_a_password_is_not_shown(base_url: str) -> None:
    with pytest.raises(
        ValueError, match=r"^base_url must be the URL of a server, without a password; got something else"
    ):
        OpenAIRespondent("m", base_url=base_url)
