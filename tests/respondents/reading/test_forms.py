"""The law of symmetry, and all forms of the corpus: the same form is read the same whichever letter it names."""

import itertools
import json
import random
import re
from collections import defaultdict
from pathlib import Path

import pytest
from reading_forms import OPTIONS, Reply, filled, forms, replies

from fairpp_hf.respondents.reading import read_text

DECLARED, UNDECLARED = defaultdict(list), defaultdict(list)
for corpus, rows in ((DECLARED, forms("declared")), (UNDECLARED, forms("undeclared"))):
    for row in rows:
        corpus[row["kind"]].append(row)
CASES = [
    json.loads(line) for line in Path(__file__).with_name("replies.jsonl").read_text(encoding="utf-8").splitlines()
]


def read(reply: Reply) -> tuple[str | None, str]:
    answer, _, status = read_text(reply.text, {"finish_reason": reply.finish_reason}, OPTIONS)
    return ("ABC"[answer] if answer >= 0 else None), status


@pytest.mark.parametrize("kind", sorted({case["kind"] for case in CASES}))
def test_every_reported_reply_has_the_right_value(kind: str) -> None:
    wrong = []
    for case in CASES:
        if case["kind"] == kind:
            letter, status = read(Reply(case["text"], None, case["finish_reason"]))
            is_refusal = case.get("note") == "counted as a refusal"
            if letter not in case["accept"] or (is_refusal and status != "refusal"):
                wrong.append((case["text"], case["accept"], letter, status))
    assert wrong == []


@pytest.mark.parametrize("kind", sorted(DECLARED))
def test_what_a_form_declares_is_read_whichever_letter_it_is(kind: str) -> None:
    wrong = [
        (reply, read(reply)) for row in DECLARED[kind] for reply in replies(row) if read(reply) != (reply.letter, "ok")
    ]
    assert wrong == []


@pytest.mark.parametrize("kind", sorted(UNDECLARED))
def test_what_a_form_does_not_declare_is_not_read(kind: str) -> None:
    wrong = []
    for row in UNDECLARED[kind]:
        for reply in replies(row):
            letter, status = read(reply)
            if letter is not None or (row.get("refusal") and status != "refusal"):
                wrong.append((reply.text, letter, status))
    assert wrong == []


def test_a_text_with_its_letters_permuted_has_the_permuted_answer() -> None:
    """1,000 texts, composed at random of forms that hold no letter of their own.

    They are not run together: of "I choose a" and "Option A", the first "a" would be an article, as no other letter is.
    """
    chance = random.Random(5)
    every = [row["form"] for row in (*forms("declared"), *forms("undeclared")) if "letter" not in row]
    parts = [form for form in every if not re.search(r"(?<![A-Za-z@])[A-C](?![A-Za-z])", form)]
    seen = set()
    for _ in range(1000):
        form = chance.choice(["\n", "\n\n", ". "]).join(chance.sample(parts, chance.randint(1, 3)))
        found = set()
        for own, first, second in itertools.permutations("ABC"):
            text = filled(form, own, first + second)
            letter, status = read(Reply(text, own, "length" if len(form) % 3 == 0 else "stop"))
            found.add((None if letter is None else (own, first, second).index(letter), status))
        assert len(found) == 1, (form, found)
        seen |= found
    assert {status for _, status in seen} == {"ok", "invalid", "refusal", "truncated", "empty"}
    assert {0, None} <= {place for place, _ in seen}
