import json
import math
import random
from typing import Any

import pytest

from fairpp_hf.respondents.completion import read_completion, sum_of_usage
from fairpp_hf.respondents.reading import read_text

OPTIONS = ("Merit.", "Need.", "Neither.")
THIRDS = {"A": math.log(0.5), "B": math.log(0.25), "C": math.log(0.25)}
LETTERS = [{"place": 0, "token": "A", "alternatives": [[token, logprob] for token, logprob in THIRDS.items()]}]


def completion(content: str | None = "A", **choice: Any) -> dict[str, Any]:
    refusal = choice.pop("refusal", None)
    return {
        "model": "m",
        "choices": [{"message": {"content": content, "refusal": refusal}, "finish_reason": "stop", **choice}],
        "usage": {"prompt_tokens": 7, "details": {"cached": 0, "audio": None}},
    }


def logprobs(first: str, alternatives: dict[str, Any]) -> dict[str, Any]:
    top = [{"token": token, "logprob": logprob} for token, logprob in alternatives.items()]
    return {"content": [{"token": first, "logprob": -1.0, "top_logprobs": top}]}


@pytest.mark.parametrize(
    ("raw", "detail", "expected"),
    [
        ("B", None, (1, None, "ok")),
        ("B", {"finish_reason": "length"}, (1, None, "ok")),
        ("Nee", {"finish_reason": "length"}, (-1, None, "truncated")),
        (None, {"finish_reason": "length"}, (-1, None, "truncated")),
        ("Nee", {"finish_reason": "stop"}, (-1, None, "invalid")),
        ("<think>I would choose option A because", {"finish_reason": "length"}, (-1, None, "truncated")),
        ("<think>I would choose option A because", {"finish_reason": "stop"}, (-1, None, "empty")),
        (None, {}, (-1, None, "empty")),
        ("A", {"finish_reason": "content_filter"}, (-1, None, "refusal")),
        ("A", {"refusal": True}, (-1, None, "refusal")),
        ("A", {"letters": LETTERS}, (0, (0.5, 0.25, 0.25), "ok")),
        ("A", {"letters": []}, (0, None, "ok")),
        ("B", {"letters": LETTERS}, (1, None, "ok")),
        ("A or B", {"letters": LETTERS}, (-1, None, "invalid")),
    ],
)
def test_a_text_is_read_by_what_the_journal_keeps(
    raw: str | None, detail: dict[str, Any] | None, expected: Any
) -> None:
    answer, probabilities, status = read_text(raw, detail, OPTIONS)
    assert (answer, status) == (expected[0], expected[2])
    assert probabilities == (None if expected[1] is None else pytest.approx(expected[1]))


def test_reading_again_gives_the_same_whatever_the_server_sent() -> None:
    """A thousand completions of mixed parts, by way of JSON as the journal keeps them."""
    chance = random.Random(5)
    texts = [
        None,
        "",
        " \r\n",
        "A",
        "b.",
        "C. Neither.",
        "A or B",
        "D",
        "Nee",
        '{"answer": "B"}',
        "\u202bB\u202c \ud800",
    ]
    seen = set()
    for _ in range(1000):
        sent = completion(
            chance.choice(texts),
            refusal=chance.choice([None, None, "", "I cannot."]),
            finish_reason=chance.choice(["stop", "stop", "length", "content_filter", None]),
            logprobs=chance.choice(
                [None, {"content": None}, {"content": []}, logprobs("A", THIRDS), logprobs("B", {"A": -1.0})]
            ),
        )
        reply = read_completion(sent, OPTIONS, 0.1)
        kept = json.loads(json.dumps(reply.detail))
        assert read_text(reply.raw, kept, OPTIONS) == (reply.answer, reply.probabilities, reply.status)
        seen.add((reply.status, reply.probabilities is not None))
    assert seen == {(status, False) for status in ("ok", "invalid", "refusal", "empty", "truncated")} | {("ok", True)}


@pytest.mark.parametrize(
    "sent",
    [
        None,
        [],
        "text",
        {},
        {"choices": []},
        {"choices": None},
        {"choices": ["B"]},
        {"choices": [{"message": "B"}]},
        {"choices": [{"message": None}]},
        {"choices": [{"message": {"content": {"type": "text", "text": "B"}}}]},
        {"error": {"message": "boom"}},
    ],
)
def test_what_is_no_completion_is_an_error_that_shows_it(sent: Any) -> None:
    with pytest.raises(ValueError, match="not a chat completion") as error:
        read_completion(sent, OPTIONS, 0.1)
    assert str(error.value) == f"not a chat completion: {str(sent)!r}"


@pytest.mark.parametrize(
    "odd",
    [
        {"tokens": ["A"]},
        "none",
        {"content": [{"token": "A"}]},
        {"content": [None]},
        {"content": [{"token": 3, "top_logprobs": []}]},
        {"content": [{"token": "A", "top_logprobs": [{"token": None, "logprob": -1.0}]}]},
    ],
)
def test_logprobs_of_another_shape_cost_no_answer(odd: Any) -> None:
    reply = read_completion(completion("B", logprobs=odd), OPTIONS, 0.1)
    assert (reply.answer, reply.status, reply.probabilities) == (1, "ok", None)
    assert reply.detail == {"finish_reason": "stop", "model": "m"}


def test_usage_of_several_replies_adds_up_at_every_level() -> None:
    first = {"prompt_tokens": 7, "details": {"cached": 1, "audio": 2}, "tier": "x"}
    second = {"prompt_tokens": 5, "details": {"cached": 3}, "total_tokens": 4}
    assert sum_of_usage(first, second) == {
        "prompt_tokens": 12,
        "details": {"cached": 4, "audio": 2},
        "tier": "x",
        "total_tokens": 4,
    }
    assert sum_of_usage(None, second) == sum_of_usage(second, None) == second
    assert sum_of_usage(None, None) is None
