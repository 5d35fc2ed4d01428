"""Servers that take less than everything: how they are asked after their first requests, and what is said of it.

Whether an answer is read out of what they send is not the matter here, but in test_reading.py.
"""

import asyncio
import gzip
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asked_openai
import pytest
from asked_openai import USAGE, requests
from loopback_openai import Call, LoopbackServer, Served, chosen

from fairpp_hf.respondents import client, completion, exchange, faults
from fairpp_hf.respondents.base import Reply, Request, RespondentStopped
from fairpp_hf.respondents.ladder import Way
from fairpp_hf.respondents.openai import MAX_TOKENS, ROOM_TO_THINK, OpenAIRespondent

LETTERS = [("B", math.log(0.5)), ("A", math.log(0.3)), ("C", math.log(0.2))]
IN_JSON = [[('{"', -0.1)], [("answer", -0.1)], [('":"', -0.1)], LETTERS, [('"}', -0.1)]]
KEY = "sk-very-secret-key/1"


def ask(respondent: OpenAIRespondent, asked: int | Sequence[Request] = 1) -> list[Reply]:
    return list(asked_openai.ask(respondent, asked).values())


def serve(
    answer: Callable[[Call], Served], asked: int | Sequence[Request] = 1, **options: Any
) -> tuple[LoopbackServer, OpenAIRespondent, list[Reply]]:
    server, respondent, replies = asked_openai.serve(answer, asked, **options)
    return server, respondent, list(replies.values())


def asked_as(reply: Reply) -> dict[str, Any]:
    return dict((reply.detail or {})["asked"])


def refuse(message: str, status: int = 400, **error: Any) -> Served:
    return Served(status=status, error={"message": message, **error})


def good(call: Call) -> Served:
    """A server that has everything."""
    return chosen("B", tokens=IN_JSON) if "response_format" in call.body else Served("B", first_token=LETTERS)


# What is asked for.


def test_a_server_that_has_everything_is_asked_for_a_choice_from_the_first_request_on() -> None:
    server, respondent, replies = serve(good, 9)
    assert server.total == 9
    assert {reply.status for reply in replies} == {"ok"}
    assert {reply.raw for reply in replies} == {'{"answer": "B"}'}
    schema = server.bodies[0]["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["answer"]["enum"] == ["A", "B", "C"]
    assert respondent.ways == {server.base_url: {"ask": "choice", "top_logprobs": 20}}
    assert all(asked_as(reply) == {"ask": "choice", "top_logprobs": 20} for reply in replies)


def choice_is_unknown(call: Call) -> Served:
    return refuse("response_format.type must be 'text'", 422) if "response_format" in call.body else good(call)


def five_at_most(call: Call) -> Served:
    return refuse("top_logprobs must be at most 5") if call.body.get("top_logprobs", 0) > 5 else good(call)


def logprobs_are_forbidden(call: Call) -> Served:
    words = "You are not allowed to request logprobs with this key's project."
    return refuse(words, 403) if "logprobs" in call.body else good(call)


def no_system_role(call: Call) -> Served:
    return refuse("System role not supported") if call.system else good(call)


def no_temperature(call: Call) -> Served:
    return refuse("'temperature' is deprecated for this model.") if "temperature" in call.body else good(call)


def takes_only_temperature_1(call: Call) -> Served:
    """A model that knows the length limit by its new name, gives no logprobs, and has one temperature."""
    if "max_tokens" in call.body:
        words = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
        return refuse(words, code="unsupported_parameter", param="max_tokens")
    if "logprobs" in call.body:
        words = "Unsupported parameter: 'logprobs' is not supported with this model."
        return refuse(words, code="unsupported_parameter", param="logprobs")
    if call.body.get("temperature", 1) != 1:
        words = "Unsupported value: 'temperature' does not support 0.0 with this model."
        return refuse(words, code="unsupported_value", param="temperature")
    return Served("B")


@pytest.mark.parametrize(
    ("answer", "tries", "way"),
    [
        (
            takes_only_temperature_1,
            3,
            {
                **{"ask": "text", "top_logprobs": 0, "temperature": False},
                "length_parameter": "max_completion_tokens",
            },
        ),
        (choice_is_unknown, 1, {"ask": "text", "top_logprobs": 20}),
        (five_at_most, 1, {"ask": "choice", "top_logprobs": 5}),
        (logprobs_are_forbidden, 1, {"ask": "choice", "top_logprobs": 0}),
        (no_system_role, 1, {"ask": "choice", "top_logprobs": 20, "system": False}),
        (no_temperature, 1, {"ask": "choice", "top_logprobs": 20, "temperature": False}),
    ],
)
def test_what_a_server_refuses_is_found_out_on_the_first_request_and_said(
    answer: Callable[[Call], Served], tries: int, way: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    server, respondent, replies = serve(answer, 12)
    assert server.total == 12 + tries
    assert {reply.status for reply in replies} == {"ok"}
    assert respondent.ways == {server.base_url: way}
    assert all(asked_as(reply) == way for reply in replies)
    (message,) = caplog.messages
    words = Way.of(way)
    assert words is not None
    assert message == f"The server {server.base_url} is asked like this: {words.words()}."


@pytest.mark.parametrize("field", ["logprobs", "response_format"])
@pytest.mark.parametrize("crash", [Served(drop=True), Served(status=500)])
def test_a_crash_or_a_closed_connection_at_one_thing_is_found_out(field: str, crash: Served) -> None:
    with LoopbackServer(lambda call: crash if field in call.body else good(call)) as server:
        respondent = OpenAIRespondent("m", base_url=server.base_url)
        assert [reply.status for reply in ask(respondent, 20)] == ["ok"] * 20
    assert server.total <= 20 + 3 * 4
    way = {"ask": "choice", "top_logprobs": 0} if field == "logprobs" else {"ask": "text", "top_logprobs": 20}
    assert respondent.ways == {server.base_url: way}


def test_what_a_server_ignores_is_not_called_a_choice_and_not_asked_for_again() -> None:
    server, respondent, replies = serve(lambda call: Served("B"), 5)
    assert respondent.ways == {server.base_url: {"ask": "text", "top_logprobs": 0}}
    assert all(asked_as(reply) == {"ask": "text", "top_logprobs": 0} for reply in replies)
    assert "response_format" in server.bodies[0]
    assert not [body for body in server.bodies[1:] if "response_format" in body or "logprobs" in body]


def test_a_server_that_answers_a_schema_with_nothing_is_asked_for_text() -> None:
    server, respondent, replies = serve(lambda call: Served("" if "response_format" in call.body else "B"), 8)
    assert {reply.status for reply in replies} == {"ok"}
    assert server.total == 8 + 3
    assert respondent.ways[server.base_url]["ask"] == "text"
    assert (replies[0].usage, (replies[0].detail or {})["tries"]) == ({n: 2 * t for n, t in USAGE.items()}, 2)


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({"ask": "text"}, {"logprobs", "top_logprobs"}),
        ({"ask": "text", "logprobs": False}, set()),
        ({"logprobs": False}, {"response_format"}),
        ({}, {"response_format", "logprobs", "top_logprobs"}),
    ],
)
def test_each_rung_can_be_fixed(options: dict[str, Any], sent: set[str]) -> None:
    with LoopbackServer(good) as server:
        respondent = OpenAIRespondent("m", base_url=server.base_url, **options)
        ask(respondent, 3)
    assert all(body.keys() == {"model", "messages", "temperature", "max_tokens"} | sent for body in server.bodies)
    assert {name: respondent.settings[name] for name in options} == options


def test_it_begins_as_the_server_was_asked_before() -> None:
    with LoopbackServer(good) as server:
        respondent = OpenAIRespondent("m", base_url=server.base_url)
        respondent.begin_with(
            {server.base_url: {"ask": "text", "top_logprobs": 5}, "http://other/v1": {"ask": "choice"}}
        )
        ask(respondent, 3)
    assert {body.get("top_logprobs") for body in server.bodies} == {5}
    assert respondent.ways == {server.base_url: {"ask": "text", "top_logprobs": 5}}


# 403, and the words of providers.


def test_a_403_on_one_flagged_prompt_is_a_refusal_of_that_one() -> None:
    words = "meta-llama/llama requires moderation. Your input was flagged."
    flagged = refuse(words, 403, code=403, metadata={"reasons": ["violence"], "flagged_input": "q0"})
    server, _, replies = serve(lambda call: flagged if call.user in ("q0", "q3") else good(call), 6)
    assert [reply.status for reply in replies] == ["refusal", "ok", "ok", "refusal", "ok", "ok"]
    assert (replies[3].raw or "").startswith(words)
    assert server.total == 6


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            {
                "message": "Provider returned error",
                "code": 400,
                "metadata": {"raw": '{"error": {"message": "too hot"}}'},
            },
            "Provider returned error: too hot",
        ),
        ({"message": {"error": {"message": "deep\x1b[31m  inside"}}}, "deep[31m inside"),
        ({"message": None, "detail": [{"loc": ["body", "n"], "msg": "not an int"}]}, "body.n: not an int"),
        ({"message": "", "code": "odd"}, '{"message": "", "type": "test", "param": null, "code": "odd"}'),
    ],
)
def test_the_providers_own_words_are_shown(error: dict[str, Any], words: str) -> None:
    with LoopbackServer(
        lambda call: Served(status=400, error=error) if call.user.endswith("q1") else good(call)
    ) as server:
        replies = ask(OpenAIRespondent("m", base_url=server.base_url), 2)
    assert (replies[1].detail or {})["error"] == words


@pytest.mark.parametrize(
    "found",
    [
        {"error": {"message": "Slow down.", "code": 429}, "choices": None},
        {"error": {"message": "Slow down.", "code": "429"}},
        {"error": {"message": "Slow down.", "type": "rate_limit_exceeded"}},
        {"object": "error", "message": "Slow down.", "code": 429},
        {"choices": [{"error": {"code": 429, "message": "Slow down."}, "message": {"content": ""}}]},
    ],
)
def test_a_429_inside_a_200_is_a_429(found: Mapping[str, Any]) -> None:
    busy = Served(body=json.dumps(found).encode(), headers={"Retry-After-Ms": "20"})
    server, _, replies = serve(lambda call: good(call) if call.number else busy, 4, max_retries=0)
    assert [(reply.status, reply.usage) for reply in replies] == [("ok", USAGE)] * 4
    assert server.total == 8


@pytest.mark.parametrize(("code", "status"), [(401, 401), ("502", 500), ("server_error", 500), (200, 500), (None, 500)])
def test_other_errors_inside_a_200_are_what_their_code_says_and_may_have_been_paid(code: object, status: int) -> None:
    found = json.dumps({"error": {"message": "Says the gateway.", "code": code}, "usage": USAGE})
    hidden = Served(body=found.encode())
    with LoopbackServer(lambda call: hidden if call.user == "q1" and not call.number else good(call)) as server:
        respondent = OpenAIRespondent("m", base_url=server.base_url, max_retries=1)
        if status == 401:
            with pytest.raises(
                RespondentStopped, match=r"must accept the key; got 401 for model 'm': Says the gateway\."
            ):
                ask(respondent, 2)
            return
        replies = ask(respondent, 2)
    assert [reply.status for reply in replies] == ["ok", "ok"]
    assert replies[1].usage == {name: 2 * tokens for name, tokens in USAGE.items()}


# Servers that refuse whatever is asked, and requests that are refused for their own sake.


@pytest.mark.parametrize(
    ("answer", "options", "said"),
    [
        (lambda call: refuse("Bad request."), {}, "got 400 for model 'm': Bad request. Use another model."),
        (
            lambda call: refuse("Unknown field: messages", 422),
            {},
            "got 422 for model 'm': Unknown field: messages. Use",
        ),
        (
            lambda call: refuse("The maximum context length is 9 tokens"),
            {"max_tokens": 9},
            "9 tokens. Ask for fewer tokens, or use another model with a longer context.",
        ),
        (
            lambda call: refuse("response_format?", 422) if "response_format" in call.body else good(call),
            {"ask": "choice"},
            "got 422 for model 'm': response_format? Leave out ask='choice', or use another model.",
        ),
    ],
)
def test_a_server_that_refuses_every_request_stops_the_run_after_three(
    answer: Callable[[Call], Served], options: dict[str, Any], said: str
) -> None:
    with LoopbackServer(answer) as server, pytest.raises(RespondentStopped) as stopped:
        ask(OpenAIRespondent("m", base_url=server.base_url, **options), 129)
    assert str(stopped.value).startswith("The model must take what a request asks for; ")
    assert said in str(stopped.value)
    assert server.total <= 3 * 7 + 1
    assert server.most_in_flight == 1


def test_requests_that_are_refused_for_their_own_sake_stop_nothing() -> None:
    """The first is too long and its words are quoted; later ones meet an odd limit, and a 403 without a reason."""

    def answer(call: Call) -> Served:
        if call.user.endswith("q0"):
            return refuse("Too long: 'an unsupported value, and more'.")
        if call.user == "q3":
            return refuse("Unsupported value: 'temperature'.", code="unsupported_value")
        return refuse("Blocked.", 403) if call.user == "q4" else good(call)

    server, _, replies = serve(answer, 6, concurrency=1)
    assert [reply.status for reply in replies] == ["failed", "ok", "ok", "failed", "failed", "ok"]
    assert (replies[0].answer, replies[0].probabilities, replies[0].usage) == (-1, None, None)
    assert replies[0].detail == {"error": "Too long: 'an unsupported value, and more'."}
    assert server.total == 7 + 5  # the first is asked in every way that there is


def test_a_server_that_crashes_at_everything_is_not_swept_again_by_each_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exchange, "LONGEST_BACKOFF_S", 0.1)  # others are asked in the pauses
    with (
        LoopbackServer(lambda call: Served(status=500)) as server,
        pytest.raises(RespondentStopped, match="must answer"),
    ):
        ask(OpenAIRespondent("m", base_url=server.base_url), 100)
    assert server.total <= 6 + 20 * 6  # six at once, and six of each of ten requests, and of ten in the pauses


def test_a_server_that_closes_every_connection_is_given_up_soon() -> None:
    with LoopbackServer(lambda call: Served(drop=True)) as server, pytest.raises(RespondentStopped, match="reachable"):
        ask(OpenAIRespondent("m", base_url=server.base_url), 20)
    assert server.total == 7 + 2


def test_texts_that_are_asked_for_again_are_kept() -> None:
    class Choosy(OpenAIRespondent):
        def worth_another_try(self, reply: Reply) -> bool:
            return reply.status == "invalid"

    with LoopbackServer(lambda call: Served("DEA"[call.number])) as server:
        (reply,) = ask(Choosy("m", base_url=server.base_url, ask="text"))
    assert (reply.raw, reply.status, (reply.detail or {})["earlier"]) == ("A", "ok", ["D", "E"])
    assert reply.usage == {name: 3 * tokens for name, tokens in USAGE.items()}


# Addresses and messages.


def test_the_query_of_an_address_is_sent_with_every_request_and_shown_nowhere() -> None:
    with LoopbackServer(good) as server:
        url = f"{server.base_url}?api-version=2024-10-21&sig=a%2Fb"
        respondent = OpenAIRespondent("m", base_url=url)
        assert [reply.status for reply in ask(respondent, 3)] == ["ok"] * 3
    queries = [parse_qs(urlsplit(path).query) for path in server.paths]
    assert queries == [{"api-version": ["2024-10-21"], "sig": ["a/b"]}] * 3
    assert respondent.address == server.base_url


PARTS = [{"type": "thinking", "thinking": [{"type": "text", "text": "A? C?"}]}, {"type": "text", "text": "B"}]


@pytest.mark.parametrize(
    ("served", "raw", "status"),
    [
        (Served(PARTS), "B", "ok"),
        (Served([{"type": "output_text", "text": {"value": "B"}}]), "B", "ok"),
        (Served(["B", ". Need."]), "B. Need.", "ok"),
        (Served([{"type": "thinking", "thinking": "B"}]), None, "empty"),
        (Served([]), None, "empty"),
        (Served("B", message={"reasoning_content": "A, surely A."}), "B", "ok"),
        (Served(None, message={"reasoning": "The answer is A.", "reasoning_content": "A"}), None, "empty"),
    ],
)
def test_only_what_the_model_said_is_its_reply(served: Served, raw: str | None, status: str) -> None:
    server, _, (reply,) = serve(lambda call: served, 1, ask="text", max_tokens=9)
    assert (reply.raw, reply.status) == (raw, status)
    assert server.total == (3 if status == "empty" else 1)


# Room to think.


def thinks(call: Call) -> Served:
    """A model that needs 100 tokens before it says anything."""
    if call.body["max_tokens"] < 100:
        usage = {"prompt_tokens": 7, "completion_tokens": 64, "completion_tokens_details": {"reasoning_tokens": 64}}
        return Served("", finish_reason="length", usage=usage)
    return good(call)._replace(usage={"prompt_tokens": 7, "completion_tokens": 100})


def test_a_model_that_thinks_has_room_from_its_first_reply_on() -> None:
    server, respondent, replies = serve(thinks, 5)
    assert {reply.status for reply in replies} == {"ok"}
    assert server.total == 5 + 1
    assert [body["max_tokens"] for body in server.bodies[:2]] == [MAX_TOKENS, MAX_TOKENS + ROOM_TO_THINK]
    assert (replies[0].usage or {})["completion_tokens"] == 164
    assert respondent.ways[server.base_url]["room"] is True
    assert respondent.max_tokens == MAX_TOKENS + ROOM_TO_THINK


def test_a_reply_that_ran_out_is_asked_for_once_more_and_then_truncated() -> None:
    served = Served("Well, it depends on", finish_reason="length")
    server, respondent, replies = serve(lambda call: served, 3, ask="text")
    assert [reply.status for reply in replies] == ["truncated"] * 3
    assert server.total == 6
    assert (replies[0].detail or {})["tries"] == 2
    assert sorted({body["max_tokens"] for body in server.bodies}) == [MAX_TOKENS, MAX_TOKENS + ROOM_TO_THINK]
    assert "room" not in respondent.ways[server.base_url]


def test_more_room_is_given_only_where_the_budget_has_it() -> None:
    wanted = []

    class Poor(list[Request]):
        def set_aside(self, usage: Mapping[str, Any]) -> bool:
            wanted.append(usage)
            return False

    asked = Poor(requests(1))
    server, _, (reply,) = serve(thinks, asked)
    assert (reply.status, server.total) == ("truncated", 1)
    assert wanted == [{"prompt_tokens": 7, "completion_tokens": MAX_TOKENS + ROOM_TO_THINK}]


def small(call: Call) -> Served:
    """A model that thinks, and whose context has no room for it."""
    if call.body["max_tokens"] > 1_000:
        return refuse("This model's maximum context length is 2048 tokens. You requested 4500.")
    return Served("Well", finish_reason="length", message={"reasoning_content": "Hm."})


@pytest.mark.parametrize("reports", [False, True])
def test_room_that_a_server_does_not_have_costs_no_reply(reports: bool) -> None:
    served = small if reports else lambda call: small(call)._replace(message={})
    server, respondent, replies = serve(served, 4, ask="text")
    assert [(reply.status, reply.raw) for reply in replies] == [("truncated", "Well")] * 4
    assert server.total == 5  # the first asks for room, and the others know better
    assert {(reply.detail or {})["tries"] for reply in replies} == {1}
    assert "room" not in respondent.ways[server.base_url]


def test_a_failure_of_the_further_try_leaves_the_reply_that_ran_out() -> None:
    def answer(call: Call) -> Served:
        if call.body["max_tokens"] > 1_000:
            return Served(status=500)
        return Served("Well", finish_reason="length")

    _, _, (reply,) = serve(answer, 1, ask="text", max_retries=1)
    assert (reply.status, reply.raw, (reply.detail or {})["tries"]) == ("truncated", "Well", 1)


# Whatever goes wrong with one reply costs that reply only.


def body_of(**fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": "B"}, "finish_reason": "stop"}
    return {"model": "m", "choices": [choice], "usage": USAGE, **fields}


def nested(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


def with_raw(name: str, raw: str) -> bytes:
    return json.dumps(body_of(**{name: "HERE"})).replace('"HERE"', raw).encode()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (with_raw("usage", nested(150)), "ok"),
        (with_raw("usage", nested(900)), "ok"),
        (with_raw("usage", nested(5_000)), "invalid"),
        (with_raw("usage", nested(400_000)), "invalid"),
        (with_raw("model", nested(300)), "ok"),
        (with_raw("choices", "[" * 100_000), "invalid"),
        (with_raw("usage", '{"prompt_tokens": ' + "9" * 400 + ', "completion_tokens": 1}'), "ok"),
        (with_raw("usage", '{"prompt_tokens": ' + "9" * 9_000 + ', "completion_tokens": 1}'), None),
        (with_raw("usage", '{"prompt_tokens": 9223372036854775807, "completion_tokens": -5}'), "ok"),
        (with_raw("usage", '{"prompt_tokens": 1e400, "completion_tokens": NaN}'), "ok"),
        (with_raw("usage", '{"prompt_tokens": "7", "completion_tokens": [1], "x": {"y": {"z": {}}}}'), "ok"),
        (with_raw("usage", "[7, 1]"), "ok"),
        (with_raw("model", '"' + "m" * 100_000 + '"'), "ok"),
        (json.dumps(body_of()).replace('"stop"', "[[7]]").encode(), "ok"),
        (json.dumps(body_of()).replace('"index": 0', '"logprobs": {"content": {"x": 1}}').encode(), "ok"),
        (json.dumps(body_of()).replace('"index": 0', '"logprobs": {"content": [[], 7, null]}').encode(), "ok"),
        (json.dumps(body_of()).replace('"B"', json.dumps("[" * 100_000)).encode(), "invalid"),
        (json.dumps(body_of()).replace('"B"', json.dumps('{"a":' * 50_000)).encode(), "invalid"),
    ],
)
def test_a_hostile_reply_is_kept_and_paid_for_once(sent: bytes, status: str | None) -> None:
    """Its neighbours are answered as if it were not there; None where the parser decides how it is to be taken."""
    server, _, replies = serve(lambda call: Served(body=sent) if call.user == "q1" else good(call), 4, max_retries=2)
    assert [reply.status for reply in replies[:1] + replies[2:]] == ["ok"] * 3
    reply = replies[1]
    assert reply.status == (status or reply.status)
    assert server.calls["You.", "q1"] == (reply.detail or {})["tries"] == 1
    tokens = list((reply.usage or {}).values())
    assert all(abs(count) <= completion.MOST_TOKENS for count in tokens if isinstance(count, int | float))
    assert len(json.dumps([reply.usage, reply.detail], allow_nan=False)) < 30_000


@pytest.mark.parametrize("where", ["letter_tokens", "read_reply"])
def test_an_error_in_reading_costs_that_reply_and_is_said_once(
    where: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> Any:
        raise RecursionError

    completion._say_unread.cache_clear()
    monkeypatch.setattr(completion, where, fail)
    server, _, replies = serve(good, 3, ask="text")
    expected = ("ok", None) if where == "letter_tokens" else ("invalid", None)
    assert [(reply.status, reply.probabilities) for reply in replies] == [expected] * 3
    assert {reply.raw for reply in replies} == {"B"}
    assert server.total == 3
    assert len([message for message in caplog.messages if "could not be read (RecursionError)" in message]) == 1


@pytest.mark.parametrize("blanks", [1_000, 100_000_000])
def test_a_packed_body_is_unpacked_as_far_as_the_limit_goes(blanks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """100 MB of blanks are 100 KB packed: never more than the limit and one byte is asked of the unpacker."""
    asked: list[int] = []

    class Unpacker:
        def __init__(self, bits: int) -> None:
            self._real = real(bits)

        def decompress(self, chunk: bytes, most: int) -> bytes:
            asked.append(most)
            return self._real.decompress(chunk, most)

    real = client.zlib.decompressobj
    monkeypatch.setattr(client.zlib, "decompressobj", Unpacker)
    text = json.dumps(body_of()).encode()
    packed = gzip.compress(text[:-1] + b" " * blanks + b"}")
    served = Served(body=packed, headers={"Content-Encoding": "gzip"})
    server, _, replies = serve(lambda call: served if call.user == "q1" else good(call), 3)
    is_too_long = blanks > client.MOST_BYTES
    assert [reply.status for reply in replies] == ["ok", "invalid" if is_too_long else "ok", "ok"]
    assert server.calls["You.", "q1"] == 1
    assert 0 < max(asked) <= client.MOST_BYTES + 1
    if is_too_long:
        assert (replies[1].detail or {})["error"] == "unreadable response: a body of more than 4,000,000 bytes"
        assert (replies[1].raw or "").startswith('{"model": "m"')


@pytest.mark.parametrize("status", [200, 500])
def test_a_body_that_drips_is_cut_at_the_deadline(status: int) -> None:
    """Each byte comes within the client's own limit for a read."""
    slow = Served("B", status=status, drip_s=0.05)
    with LoopbackServer(lambda call: slow if call.user == "q1" else good(call)) as server:
        started = time.monotonic()
        replies = ask(OpenAIRespondent("m", base_url=server.base_url, timeout_s=0.4, max_retries=0), 2)
    assert time.monotonic() - started < 2.0
    assert (replies[1].status, (replies[1].detail or {})["error"]) == (
        "failed",
        "Timed out. No whole response in 0.4 s.",
    )


def test_a_slow_server_is_not_called_unreachable() -> None:
    with (
        LoopbackServer(lambda call: good(call)._replace(delay_s=0.5)) as server,
        pytest.raises(RespondentStopped) as stopped,
    ):
        ask(OpenAIRespondent("m", base_url=server.base_url, timeout_s=0.1), 9)
    assert str(stopped.value).startswith(
        f"The server must answer in time; got 'Timed out. No whole response in 0.1 s.' from {server.base_url}. Allow a "
        "longer time-out."
    )
    assert server.total == 3


@pytest.mark.parametrize("echo", ["Bearer {}", "Your key {} is wrong", "header was: Authorization: Bearer {}, bye"])
@pytest.mark.parametrize("status", [200, 400, 401, 500])
def test_a_key_that_a_server_repeats_is_hidden_everywhere(
    status: int, echo: str, caplog: pytest.LogCaptureFixture
) -> None:
    words = echo.format(KEY)

    def answer(call: Call) -> Served:
        if call.user != "q1":
            return good(call)
        # Some are cut within the key where a message ends.
        return Served(words) if status == 200 else Served(status=status, error={"message": f"{'x' * 445} {words}"})

    received: list[Reply] = []
    said = ""

    async def collect(respondent: OpenAIRespondent) -> None:
        async for _, reply in respondent.answer(requests(2)):
            received.append(reply)

    with LoopbackServer(answer) as server:
        try:
            asyncio.run(collect(OpenAIRespondent("m", base_url=server.base_url, api_key=KEY, max_retries=0)))
        except RespondentStopped as stopped:
            said = str(stopped)
    assert status == 401 or len(received) == 2
    shown = json.dumps([list(reply) for reply in received]) + said + " ".join(caplog.messages)
    assert "sk-very" not in shown
    assert "[hid" in shown


def test_a_limit_that_the_user_gave_is_kept() -> None:
    server, _, (reply,) = serve(thinks, 1, max_tokens=50)
    assert (reply.status, server.total) == ("truncated", 1)


@pytest.mark.parametrize(
    ("key", "text", "shown"),
    [
        ("sk-0123456789", "key sk-0123456789, again sk-0123456789", "key ..., again ..."),
        ("EMPTY", "Authorization: Bearer EMPTY; the answer is EMPTY", "Authorization: ...; the answer is EMPTY"),
        ("", "Bearer of news", "Bearer of news"),
    ],
)
def test_a_short_key_is_hidden_in_a_header_alone(key: str, text: str, shown: str) -> None:
    assert faults.Secrets(key).hide(text).replace(faults.HIDDEN, "...") == shown
