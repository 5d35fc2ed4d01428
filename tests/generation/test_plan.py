import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pytest
from generation_fixtures import FakePersona, FakePersonas, FakeRespondent, personas, questions, shown_questions

from fairpp_hf.generation.plan import RequestPlan, check_respondent, keys_digest
from fairpp_hf.questions import load_questions
from fairpp_hf.respondents import Request
from fairpp_hf.runs.journal import AskedRequest
from fairpp_hf.runs.manifest import questions_digest


def test_requests_go_persona_by_persona() -> None:
    plan = RequestPlan(personas("ann", "bob"), questions(3))
    expected = [(persona, f"q{n}") for persona in ("ann", "bob") for n in range(3)]
    assert [(request.persona, request.question_id) for request in plan] == expected
    assert plan[4] == Request(
        "q1",
        "bob",
        [{"role": "system", "content": "You are bob."}, {"role": "user", "content": "Prompt 1?"}],
        ("option_a 1", "option_b 1", "option_c 1"),
    )
    assert plan[1:3] == [plan[1], plan[2]]
    with pytest.raises(IndexError):
        plan[6]


def test_the_requests_of_a_question_stand_together_by_order_and_sample() -> None:
    plan = RequestPlan(personas("ann", "bob"), shown_questions(2), samples=2, swap=True)
    assert [(request.persona, request.question_id, request.swapped, request.sample) for request in plan] == [
        (persona, question_id, swapped, sample)
        for persona in ("ann", "bob")
        for question_id in ("q0", "q1")
        for swapped in (False, True)
        for sample in (0, 1)
    ]
    assert len(plan) == 16
    assert plan.asked_at(7, "key") == AskedRequest("key", "q1", "ann", sample=1, swapped=True)
    assert plan.asked_at(8, "key") == AskedRequest("key", "q0", "bob")


def test_a_swapped_request_shows_the_options_of_the_poles_in_each_others_place() -> None:
    plain, swapped = RequestPlan(personas("ann"), shown_questions(1), swap=True)
    instruction = plain.messages[1]["content"].splitlines()[-1]
    assert plain.messages[1]["content"] == (f"Prompt 0?\nA. option_a 0\nB. option_b 0\nC. option_c 0\n{instruction}")
    assert swapped.messages[1]["content"] == (f"Prompt 0?\nA. option_b 0\nB. option_a 0\nC. option_c 0\n{instruction}")
    assert (plain.options, swapped.options) == (
        ("option_a 0", "option_b 0", "option_c 0"),
        ("option_b 0", "option_a 0", "option_c 0"),
    )
    assert plain.messages[0] == swapped.messages[0]


def test_every_question_of_the_dataset_can_be_swapped() -> None:
    questions_of_all = load_questions()
    plan = RequestPlan(personas("ann"), questions_of_all, swap=True)
    assert len(plan) == 2 * len(questions_of_all)


@pytest.mark.parametrize(("prompt", "times"), [("Prompt?", 0), ("{block}\n{block}", 2)])
def test_a_prompt_that_does_not_show_its_options_once_cannot_be_swapped(prompt: str, times: int) -> None:
    block = "A. option_a 1\nB. option_b 1\nC. option_c 1"
    table = shown_questions(2)
    prompts = [table["prompt"][0].as_py(), prompt.format(block=block)]
    table = table.set_column(14, "prompt", pa.array(prompts))
    assert len(RequestPlan(personas("ann"), table)) == 2
    with pytest.raises(ValueError, match="once") as error:
        RequestPlan(personas("ann"), table, swap=True)
    assert str(error.value) == (
        "A prompt must show its options once, as the lines 'A. ...', 'B. ...' and 'C. ...' one after the other, to be "
        f"asked in both orders; got them {times} times in that of question 'q1'. Write the prompt so, or keep the "
        "options in the order in which they are written."
    )


def test_equal_options_cannot_be_swapped() -> None:
    """The two requests would be one and the same, and paid for twice."""
    table = shown_questions(1).set_column(12, "option_b", pa.array(["option_a 0"]))
    table = table.set_column(14, "prompt", pa.array(["A. option_a 0\nB. option_a 0\nC. option_c 0"]))
    with pytest.raises(ValueError, match="Options A and B must differ to be asked in both orders"):
        RequestPlan(personas("ann"), table, swap=True)


def plain_key(settings: Mapping[str, Any], request: Request) -> str:
    """The plainest reading of what a key is."""
    parts = [[settings, request.sample], request.persona, request.question_id, *request.messages, request.options]
    texts = [json.dumps(part, sort_keys=True, separators=(",", ":")) for part in parts]
    return hashlib.sha256(b"".join(hashlib.sha256(text.encode()).digest() for text in texts)).hexdigest()


def test_the_plans_keys_are_those_of_its_requests_and_all_differ() -> None:
    plan = RequestPlan(personas("ann", "bob"), shown_questions(20), samples=3, swap=True)
    settings = {"model": "m"}
    keys = plan.keys(settings)
    expected = [plain_key(settings, request) for request in plan]
    assert list(keys) == expected
    assert (len(keys), len(set(keys))) == (240, 240)
    assert keys_digest(keys) == hashlib.sha256("".join(expected).encode()).hexdigest()


def test_the_keys_of_earlier_runs_go_on_to_hold() -> None:
    """Both were made by the version that had neither samples nor orders."""
    keys = RequestPlan(personas(), questions(3)).keys({"model": "m"})
    assert keys[0] == "6e9cc6723170cb46494ee515c72513d25794759981410b943af187ef6254d700"
    assert keys_digest(keys) == "b6371998aadd601dd7289ec2f93d7656354ca280058b1a429ef78598fc71cd88"


def test_an_empty_portrait_is_no_system_message() -> None:
    """A model as it is, next to a role. The key is fixed: a change would ask every question of every run again."""
    table = load_questions("test")
    somebody = FakePersona("somebody", "You are somebody.")
    plan = RequestPlan([FakePersona("plain", ""), somebody], table.slice(0, 2), swap=True)
    roles = [[message["role"] for message in request.messages] for request in plan]
    assert roles == [["user"]] * 4 + [["system", "user"]] * 4
    assert [request.messages[-1] for request in plan][:4] == [request.messages[-1] for request in plan][4:]
    assert plan[4].messages[0] == {"role": "system", "content": "You are somebody."}
    plan = RequestPlan([somebody], table.slice(0, 1))
    assert plan.keys({"kind": "test", "model": "m"}) == [
        "374d04c2a3f3309c996057ab27244fe9f4332c9ff475c42460f2c0faba91a9e4"
    ]


def test_a_key_changes_with_everything_that_decides_the_reply() -> None:
    table, settings = questions(1), {"model": "m", "temperature": 0.0}
    (key,) = RequestPlan(personas("ann"), table).keys(settings)
    plans = [RequestPlan(personas("bob", bob="You are ann."), table), RequestPlan(personas("ann", ann="You."), table)]
    plans += [
        RequestPlan(personas("ann"), table.set_column(table.column_names.index(name), name, pa.array(["other"])))
        for name in ("question_id", "prompt", "option_a")
    ]
    others = [plan.keys(settings)[0] for plan in plans]
    others += [RequestPlan(personas("ann"), table).keys({**settings, **new})[0] for new in ({"model": "n"}, {"top": 1})]
    assert len({key, *others}) == 8
    # The order of settings is no difference.
    assert RequestPlan(personas("ann"), table).keys({"temperature": 0.0, "model": "m"}) == [key]


def test_a_repeated_question_is_asked_once(caplog: pytest.LogCaptureFixture) -> None:
    table = questions(3)
    plan = RequestPlan(personas("ann"), pa.concat_tables([table, table.slice(1, 1)]))
    assert [request.question_id for request in plan] == ["q0", "q1", "q2"]
    assert plan.questions == table
    assert caplog.messages == ["1 questions occur more than once and are asked once."]


def test_one_id_for_two_questions_is_an_error() -> None:
    ids = pa.array(["q0", "q1", "q0", "q1", "q4"])
    table = questions(5).set_column(0, "question_id", ids)
    with pytest.raises(ValueError, match="unique") as error:
        RequestPlan(personas(), table)
    assert str(error.value) == (
        "question_id must be unique; got 2 rows that repeat an id with other content: 'q0', 'q1'. "
        "Give them ids of their own."
    )


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            questions().slice(0, 0),
            "A run must ask at least one question; got none. Check the split and the limit.",
        ),
        (
            questions(2).select(["question_id", "option_a", "option_b", "option_c"]),
            "Column 'prompt' of the questions must be one of 'question_id', 'option_a', 'option_b', 'option_c'; "
            "got 'prompt'.",
        ),
        (
            questions(2).set_column(14, "prompt", pa.array(["Prompt?", None])),
            "Column 'prompt' of the questions must have no missing values; got one at row 1.",
        ),
    ],
)
def test_question_tables_are_checked(table: pa.Table, message: str) -> None:
    with pytest.raises(ValueError, match="must") as error:
        RequestPlan(personas(), table)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (FakePersonas(), "A run must ask at least one persona; got none."),
        (personas("ann", "ann"), "Persona ids must be unique; got 'ann' twice."),
        (
            FakePersonas([FakePersona("ann", "You \ud800.")]),
            "The portrait of persona 'ann' must be valid Unicode; got a lone surrogate at character 4. Remove it.",
        ),
    ],
)
def test_personas_are_checked(given: FakePersonas, message: str) -> None:
    with pytest.raises(ValueError, match="must") as error:
        RequestPlan(given, questions())
    assert str(error.value) == message


def test_respondents_are_checked() -> None:
    respondent = FakeRespondent()
    check_respondent(respondent)
    respondent.settings = {"temperature": math.nan}
    with pytest.raises(ValueError, match="A respondent's settings must be JSON"):
        check_respondent(respondent)
    respondent.name = "fake"
    with pytest.raises(ValueError, match="must end in") as error:
        check_respondent(respondent)
    assert str(error.value) == (
        "A respondent's name must end in ' (simulated)'; got 'fake'. A model in a role is not a person."
    )


def test_the_digest_of_questions_sees_wording_and_order() -> None:
    table = questions(3)
    changed = table.set_column(14, "prompt", pa.array(["Prompt 0?", "Prompt 1!", "Prompt 2?"]))
    digests = {questions_digest(t) for t in (table, changed, table.take([1, 0, 2]), table.slice(0, 2))}
    assert len(digests) == 4
    assert questions_digest(table.take([0, 1, 2])) == questions_digest(table)
