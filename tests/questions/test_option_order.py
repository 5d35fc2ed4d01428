"""Swapped options against the requests that a run makes of the same questions."""

import numpy as np
import pyarrow as pa
import pytest

from fairpp_hf.generation.plan import RequestPlan
from fairpp_hf.personas import load_personas
from fairpp_hf.questions import load_questions
from fairpp_hf.questions.option_order import with_swapped_options


def test_swapped_questions_are_what_a_run_asks():
    questions = load_questions("test").slice(100, 20)
    swapped = np.arange(20) % 3 == 1
    shown = with_swapped_options(questions, swapped)
    asked = [
        request
        for request in RequestPlan(load_personas(), questions, swap=True)
        if request.persona == "loyal_nationals"
    ]
    for row, is_swapped in enumerate(swapped):
        request = asked[2 * row + is_swapped]
        assert request.swapped == is_swapped
        assert shown["prompt"][row].as_py() == request.messages[-1]["content"]
        assert tuple(shown[name][row].as_py() for name in ("option_a", "option_b", "option_c")) == request.options
    changed = ("prompt", "option_a", "option_b")
    assert shown.drop_columns(list(changed)).equals(questions.drop_columns(list(changed)))
    assert shown.schema.equals(questions.schema, check_metadata=True)


def test_swapping_twice_gives_the_questions_back():
    questions = load_questions("test").slice(0, 5)
    every = np.ones(5, dtype=bool)
    assert with_swapped_options(with_swapped_options(questions, every), every).equals(questions)
    assert with_swapped_options(questions, ~every) is questions


def test_only_what_is_swapped_must_be_swappable():
    questions = load_questions("test").slice(0, 2)
    prompts = pa.array(["No options here.", questions["prompt"][1].as_py()])
    broken = questions.set_column(questions.column_names.index("prompt"), "prompt", prompts)
    assert with_swapped_options(broken, [False, True])["prompt"][0].as_py() == "No options here."
    with pytest.raises(ValueError, match="must show its options once") as error:
        with_swapped_options(broken, [True, False])
    assert questions["question_id"][0].as_py() in str(error.value)
