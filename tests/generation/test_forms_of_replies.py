"""A whole run against a server that writes another form for each request: nothing is lost or read wrong, of no letter."""

import random
import re
from collections import Counter
from pathlib import Path

import pytest
from generation_fixtures import personas, shown_questions
from loopback_openai import Call, LoopbackServer, Served
from reading_forms import filled, forms

from fairpp_hf.generation import RunOptions, generate
from fairpp_hf.respondents import OpenAIRespondent
from fairpp_hf.runs import load_run

QUESTIONS = shown_questions(60)
FORMS = [row for row in forms("declared") if "letter" not in row and not re.search("@M?T", row["form"])]


def meant(call: Call) -> str:
    """The text of the option that the persona of this call chooses: as many of each kind."""
    number = int(re.search(r"Prompt (\d+)", call.user)[1])
    return f"option_{'abc'[(number + ('bob' in call.system)) % 3]} {number}"


@pytest.mark.parametrize("swap", [False, True])
def test_a_run_has_as_many_of_each_letter_as_were_said(tmp_path: Path, swap: bool) -> None:
    chance = random.Random(7)
    said: Counter[str] = Counter()

    def answer(call: Call) -> Served:
        letter = re.search(rf"([ABC])[.)] {meant(call)}$", call.user, re.MULTILINE)[1]
        form = chance.choice(FORMS)
        said[letter] += 1
        others = "ABC".replace(letter, "")[:: chance.choice([1, -1])]
        return Served(filled(form["form"], letter, others), finish_reason=form["finish_reason"])

    with LoopbackServer(answer) as server:
        respondent = OpenAIRespondent("m", base_url=server.base_url, api_key="key")
        generate(tmp_path, respondent, personas(), QUESTIONS, RunOptions(swap=swap, progress=False))
    records = load_run(tmp_path, QUESTIONS)
    assert Counter(records["status"].to_pylist()) == {"ok": 120}
    assert Counter(records["answer"].to_pylist()) == {0: 40, 1: 40, 2: 40}
    assert swap or said == {"A": 40, "B": 40, "C": 40}
    expected = [(int(row["question_id"][1:]) + (row["persona"] == "bob")) % 3 for row in records.to_pylist()]
    assert records["answer"].to_pylist() == expected
