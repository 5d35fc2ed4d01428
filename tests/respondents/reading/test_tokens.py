import itertools
import json
import math
import random
from typing import Any

import pytest

from fairpp_hf.respondents.reading import letter_probabilities, letter_tokens, read_text

OPTIONS = ("A fair process for all.", "Those who need it most come first.", "Neither of these two criteria.")
SHARES = (("A", 0.2), ("B", 0.5), ("C", 0.3))


def entry(token: str, alternatives: Any = (), sent: Any = None) -> dict[str, Any]:
    """A token as the API sends it; `alternatives` are (token, probability)."""
    tops = [{"token": text, "logprob": math.log(share), "bytes": None} for text, share in alternatives]
    return {"token": token, "logprob": -0.1, "bytes": sent, "top_logprobs": tops}


def read(raw: str, tokens: list[dict[str, Any]], finish_reason: str = "stop") -> Any:
    """As a reply is read, by way of JSON as the journal keeps it."""
    detail = {"finish_reason": finish_reason} | letter_tokens(raw, {"content": tokens})
    return read_text(raw, json.loads(json.dumps(detail)), OPTIONS)


@pytest.mark.parametrize(
    ("raw", "before", "token", "after"),
    [
        ("B", [], "B", []),
        ("B", [], " B", []),
        ("B. Those", [], "B", [".", " Those"]),
        ("\n\nB", ["\n\n"], "B", []),
        ("**B**", ["**"], "B", ["**"]),
        ("(B)", ["("], "B", [")"]),
        ("(B)", [], "(B", [")"]),
        ("Answer: B", ["Answer", ":"], " B", []),
        ("Answer: B", ["Answer", ":"], "ĠB", []),
        ("Answer: B", ["▁Answer", ":"], "▁B", []),
        ('{"answer": "B"}', ['{"', "answer", '":', ' "'], "B", ['"}']),
        ('{"answer": "B"}', ['{"', "answer", '":'], ' "B', ['"}']),
        ("B", ["<think>", "A?", " A", "</think>"], "B", []),
        ("B", [], "B", ["<|im_end|>"]),
        ("<think> A </think>B", ["<think>", " A", " </think>"], "B", []),
        ("I would not pick A, I choose B.", ["I would not pick", " A", ", I choose"], " B", ["."]),
        ("答案：B。", ["答案", "："], "B", ["。"]),
    ],
)
def test_probabilities_are_those_of_the_token_at_which_the_answers_letter_begins(
    raw: str, before: list[str], token: str, after: list[str]
) -> None:
    """Other letters that come before have alternatives of their own: C is surest there."""
    elsewhere = (("A", 0.1), ("B", 0.1), ("C", 0.8))
    tokens = [*(entry(text, elsewhere) for text in before), entry(token, SHARES), *(entry(text) for text in after)]
    assert read(raw, tokens) == (1, pytest.approx((0.2, 0.5, 0.3)), "ok")


def test_equal_strings_add_up() -> None:
    """(.70 + .10, .15, .05): the second " A" is a piece that the server shows as it shows the first."""
    alternatives = [("A", 0.70), ("B", 0.15), ("A", 0.10), ("C", 0.05)]
    assert read("A", [entry("A", alternatives)]) == (0, pytest.approx((0.80, 0.15, 0.05)), "ok")


def test_bytes_tell_where_characters_are_spread_over_tokens() -> None:
    """Two tokens of one character each show as replacement marks; their bytes make "é"."""
    tokens = [
        entry("\ufffd", (), [0xC3]),
        entry("\ufffd", (), [0xA9]),
        entry(": ", (), [58, 32]),
        entry("B", SHARES, [66]),
    ]
    assert letter_tokens("é: B", {"content": tokens})["letters"][0]["place"] == 3


def test_bytes_of_alternatives_are_kept() -> None:
    tops = [{"token": "B", "logprob": -0.1, "bytes": [66]}, {"token": "A", "logprob": -2.0}]
    kept = letter_tokens("B", {"content": [{"token": "B", "top_logprobs": tops}]})
    assert kept == {"letters": [{"place": 0, "token": "B", "alternatives": [["B", -0.1, [66]], ["A", -2.0]]}]}


def test_a_favourite_that_contradicts_the_text_leaves_no_probabilities() -> None:
    assert read("B", [entry("B", (("A", 0.6), ("B", 0.3), ("C", 0.1)))]) == (1, None, "ok")


def test_a_small_letter_may_be_an_article_among_capital_ones() -> None:
    alternatives = (*SHARES, ("a", 0.9))
    assert read("B", [entry("B", alternatives)])[1] == pytest.approx((0.2, 0.5, 0.3))


@pytest.mark.parametrize(
    ("raw", "tokens"),
    [
        ("B. Those", ["X", "Y"]),  # tokens of another text
        ("Those who need it most come first.", ["Those", " who need it most come first."]),  # no letter is named
        ("", []),
    ],
)
def test_no_token_of_the_letter_no_probabilities(raw: str, tokens: list[str]) -> None:
    assert read(raw, [entry(token, SHARES) for token in tokens])[1] is None


def test_the_first_tokens_are_enough() -> None:
    assert read("B. Those who need it", [entry("B", SHARES)])[1] == pytest.approx((0.2, 0.5, 0.3))


@pytest.mark.parametrize("logprob", [math.nan, math.inf, -math.inf, 800.0, -9999.0, None, "-1", True, 10**400])
def test_what_is_no_log_probability_is_not_known(logprob: Any) -> None:
    tops = [{"token": "A", "logprob": -1.0}, {"token": "B", "logprob": -1.0}, {"token": "C", "logprob": logprob}]
    kept = letter_tokens("A", {"content": [{"token": "A", "top_logprobs": tops}]})
    assert letter_probabilities(kept.get("letters"), 0) is None


@pytest.mark.parametrize(
    "odd",
    [None, 3, "none", [], {}, {"content": None}, {"content": [None]}, {"content": [{"token": 3}]}, {"content": "AB"}]
    + [
        {"content": [{"token": "A", "top_logprobs": tops}]}
        for tops in (None, 3, "A", [None], [3], [{}], [{"token": None}])
    ]
    + [{"content": [{"token": "A", "bytes": sent, "top_logprobs": []}]} for sent in ([300], "A", [None], [0xFF] * 9)],
)
def test_log_probabilities_of_another_shape_are_none(odd: Any) -> None:
    assert letter_tokens("A", odd) == {}


def test_a_long_reply_keeps_a_few_letters_of_its_beginning_and_end() -> None:
    text = " B" * 50
    kept = letter_tokens(text, {"content": [entry(" B", SHARES)] * 50})["letters"]
    assert [letter["place"] for letter in kept] == [1, 3, 5, 7, 93, 95, 97, 99]


def test_places_agree_with_the_text_however_it_is_cut_into_tokens() -> None:
    """The oracle is the text itself: at each kept place stands the token's letter."""
    chance = random.Random(4)
    text = "Réponse : ( B ), mais pas A — 答案 C. 🅱 <think> A </think> B"
    for _ in range(300):
        cuts = sorted({0, len(text), *chance.sample(range(len(text)), chance.randint(1, 30))})
        pieces = [text[start:end] for start, end in itertools.pairwise(cuts)]
        with_bytes = chance.random() < 0.5
        content = [entry(piece, SHARES, list(piece.encode()) if with_bytes else None) for piece in pieces]
        for kept in letter_tokens(text, {"content": content}).get("letters", []):
            assert text[kept["place"]] == "".join(filter(str.isalnum, kept["token"]))
