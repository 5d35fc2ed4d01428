import numpy as np
from generation_fixtures import personas, questions

from fairpp_hf.generation.budget import Budget, RequestQueue
from fairpp_hf.generation.plan import RequestPlan
from fairpp_hf.generation.prices import Prices
from fairpp_hf.respondents import Reply
from fairpp_hf.runs.journal import AskedRequest

PLAN = RequestPlan(personas(), questions())
POSITIONS = np.array([1, 3, 7])
KEYS = PLAN.keys({"kind": "fake"})


def test_it_is_the_requests_at_its_positions() -> None:
    queue = RequestQueue(PLAN, POSITIONS, KEYS)
    expected = [PLAN[1], PLAN[3], PLAN[7]]
    assert (len(queue), list(queue), queue[2], queue[1:]) == (3, expected, expected[2], expected[1:])
    assert queue.handed_out == 3
    assert not queue.over_budget


def test_it_ends_when_it_is_stopped() -> None:
    queue = RequestQueue(PLAN, POSITIONS, KEYS)
    requests = iter(queue)
    assert next(requests) == PLAN[1]
    queue.stopped = True
    assert list(requests) == []
    assert queue.handed_out == 1


def test_it_ends_where_the_budget_does() -> None:
    """One dollar a request, two at most: the first comes back failed, which costs nothing and lets a third one go."""
    budget = Budget(2.0, 0.0, 1.0, Prices(1.0, 1.0, 1.0, 1.0, "a test"))
    queue = RequestQueue(PLAN, POSITIONS, KEYS, budget)
    requests = iter(queue)
    assert [next(requests), next(requests)] == [PLAN[1], PLAN[3]]
    queue.pay([Reply(-1, None, "failed", None, None, 0.1)])
    assert next(requests) == PLAN[7]
    again = RequestQueue(PLAN, POSITIONS, KEYS, budget)
    assert list(again) == []
    assert again.over_budget


def test_it_has_no_room_until_a_reply_makes_some() -> None:
    """One dollar a request, one at most. Asking whether there is room takes nothing and ends nothing."""
    budget = Budget(1.0, 0.0, 1.0, Prices(1.0, 1.0, 1.0, 1.0, "a test"))
    queue = RequestQueue(PLAN, POSITIONS, KEYS, budget)
    requests = iter(queue)
    assert queue.has_room()
    assert next(requests) == PLAN[1]
    assert not queue.has_room()
    assert not queue.over_budget
    queue.pay([Reply(-1, None, "failed", None, None, 0.1)])
    assert queue.has_room()
    assert next(requests) == PLAN[3]
    # One that is stopped gives nothing any more, which a respondent need not wait to be told.
    queue.stopped = True
    assert queue.has_room()
    assert RequestQueue(PLAN, POSITIONS, KEYS).has_room()


def test_it_names_requests_as_the_journal_does() -> None:
    queue = RequestQueue(PLAN, POSITIONS, KEYS)
    assert [queue.asked(index) for index in range(3)] == [
        AskedRequest(KEYS[1], "q1", "ann"),
        AskedRequest(KEYS[3], "q3", "ann"),
        AskedRequest(KEYS[7], "q2", "bob"),
    ]
