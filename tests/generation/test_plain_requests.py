"""Whoever has an empty portrait is asked without a system message: a model as it is, next to the roles it plays."""

from typing import NamedTuple

from fairpp_hf.generation.plan import RequestPlan
from fairpp_hf.questions import load_questions

SETTINGS = {"kind": "test", "model": "m"}


class Speaker(NamedTuple):
    id: str
    portrait: str


SPEAKERS = [Speaker("plain", ""), Speaker("somebody", "You are somebody.")]


def test_an_empty_portrait_is_no_system_message():
    questions = load_questions("test").slice(0, 2)
    plan = RequestPlan(SPEAKERS, questions, swap=True)
    roles = [[message["role"] for message in request.messages] for request in plan]
    assert roles == [["user"]] * 4 + [["system", "user"]] * 4
    assert [request.messages[-1] for request in plan][:4] == [request.messages[-1] for request in plan][4:]
    assert plan[4].messages[0] == {"role": "system", "content": "You are somebody."}


def test_the_key_of_a_request_with_a_portrait_is_as_it_was():
    """Fixed: a change of it would ask every question of every run again."""
    plan = RequestPlan(SPEAKERS[1:], load_questions("test").slice(0, 1))
    assert plan.keys(SETTINGS)[0] == "374d04c2a3f3309c996057ab27244fe9f4332c9ff475c42460f2c0faba91a9e4"
