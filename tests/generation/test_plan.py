import math

import pyarrow as pa
import pytest
from generation_fixtures import FakePersona, FakePersonas, FakeRespondent, personas, questions

from fairpp_hf.generation.plan import RequestPlan, Waiting, check_respondent, questions_digest, request_key
from fairpp_hf.respondents import Request


def test_requests_go_persona_by_persona() -> None:
    plan = RequestPlan(personas("ann", "bob"), questions(3))
    expected = [(persona, f"q{n}") for persona in ("ann", "bob") for n in range(3)]
    assert [(request.persona, request.question_id) for request in plan] == expected
    assert [plan.ids_at(n)[::-1] for n in range(6)] == expected
    assert plan[4] == Request(
        "q1",
        "bob",
        [{"role": "system", "content": "You are bob."}, {"role": "user", "content": "Prompt 1?"}],
        ("option_a 1", "option_b 1", "option_c 1"),
    )
    assert plan[1:3] == [plan[1], plan[2]]
    with pytest.raises(IndexError):
        plan[6]


def test_the_plans_keys_are_those_of_its_requests_and_all_differ() -> None:
    plan = RequestPlan(personas("ann", "bob"), questions(20))
    settings = {"model": "m"}
    keys = plan.keys(settings)
    assert keys == [request_key(settings, request) for request in plan]
    assert len(set(keys)) == 40
    assert plan.keys(settings, sample=1) == [request_key(settings, request, 1) for request in plan]


def test_a_key_changes_with_everything_that_decides_the_reply() -> None:
    request = RequestPlan(personas(), questions())[0]
    settings = {"model": "m", "temperature": 0.0}
    portrait, prompt = request.messages
    others = [
        request_key({**settings, "model": "n"}, request),
        request_key({**settings, "temperature": 0.5}, request),
        request_key(settings, request, sample=1),
        request_key(settings, request._replace(persona="bob")),
        request_key(settings, request._replace(question_id="q1")),
        request_key(settings, request._replace(messages=[{**portrait, "content": "You."}, prompt])),
        request_key(settings, request._replace(messages=[portrait, {**prompt, "content": "Now?"}])),
        request_key(settings, request._replace(messages=[prompt, portrait])),
        request_key(settings, request._replace(messages=[portrait])),
        request_key(settings, request._replace(options=(*request.options[1::-1], request.options[2]))),
    ]
    assert len({request_key(settings, request), *others}) == 11
    # The order of settings is no difference.
    assert request_key({"temperature": 0.0, "model": "m"}, request) == request_key(settings, request)


def test_waiting_builds_requests_on_the_way_and_ends_when_stopped() -> None:
    plan = RequestPlan(personas("ann", "bob"), questions(3))
    waiting = Waiting(plan, [5, 0, 2])
    assert (len(waiting), waiting[0], waiting[1:]) == (3, plan[5], [plan[0], plan[2]])
    seen = []
    for request in waiting:
        seen.append(request)
        waiting.stopped = len(seen) == 2
    assert seen == [plan[5], plan[0]]


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
