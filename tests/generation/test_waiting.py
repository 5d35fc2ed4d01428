import numpy as np
from generation_fixtures import personas, questions

from fairpp_hf.generation.budget import Budget
from fairpp_hf.generation.journal import AskedRequest
from fairpp_hf.generation.plan import RequestPlan
from fairpp_hf.generation.prices import Prices
from fairpp_hf.generation.waiting import Waiting, WaitingKeys
from fairpp_hf.respondents import Reply

PLAN = RequestPlan(personas(), questions())
POSITIONS = np.array([1, 3, 7])


def test_it_is_the_requests_at_its_positions() -> None:
    waiting = Waiting(PLAN, POSITIONS)
    expected = [PLAN[1], PLAN[3], PLAN[7]]
    assert (len(waiting), list(waiting), waiting[2], waiting[1:]) == (3, expected, expected[2], expected[1:])
    assert waiting.handed_out == 3
    assert not waiting.over_budget


def test_it_ends_when_it_is_stopped() -> None:
    waiting = Waiting(PLAN, POSITIONS)
    requests = iter(waiting)
    assert next(requests) == PLAN[1]
    waiting.stopped = True
    assert list(requests) == []
    assert waiting.handed_out == 1


def test_it_ends_where_the_budget_does() -> None:
    """One dollar a request, two at most: the first comes back failed, which costs nothing and lets a third one go."""
    budget = Budget(2.0, 0.0, 1.0, Prices(1.0, 1.0, 1.0, 1.0, "a test"))
    waiting = Waiting(PLAN, POSITIONS, budget)
    requests = iter(waiting)
    assert [next(requests), next(requests)] == [PLAN[1], PLAN[3]]
    waiting.pay([Reply(-1, None, "failed", None, None, 0.1)])
    assert next(requests) == PLAN[7]
    again = Waiting(PLAN, POSITIONS, budget)
    assert list(again) == []
    assert again.over_budget


def test_it_has_no_room_until_a_reply_makes_some() -> None:
    """One dollar a request, one at most. Asking whether there is room takes nothing and ends nothing."""
    budget = Budget(1.0, 0.0, 1.0, Prices(1.0, 1.0, 1.0, 1.0, "a test"))
    waiting = Waiting(PLAN, POSITIONS, budget)
    requests = iter(waiting)
    assert waiting.has_room()
    assert next(requests) == PLAN[1]
    assert not waiting.has_room()
    assert not waiting.over_budget
    waiting.pay([Reply(-1, None, "failed", None, None, 0.1)])
    assert waiting.has_room()
    assert next(requests) == PLAN[3]
    # One that is stopped gives nothing any more, which a respondent need not wait to be told.
    waiting.stopped = True
    assert waiting.has_room()
    assert Waiting(PLAN, POSITIONS).has_room()


def test_its_keys_are_what_the_journal_keeps() -> None:
    keys = PLAN.keys({"kind": "fake"})
    waiting = WaitingKeys(PLAN, POSITIONS, keys)
    expected = [
        AskedRequest(keys[1], "q1", "ann"),
        AskedRequest(keys[3], "q3", "ann"),
        AskedRequest(keys[7], "q2", "bob"),
    ]
    assert (len(waiting), list(waiting), waiting[-2:]) == (3, expected, expected[1:])
