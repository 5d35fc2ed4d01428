"""The ladder alone, against servers that are functions: what is found, and after how many tries."""

import itertools
import random
from collections.abc import Callable

import pytest

from fairpp_hf.respondents.ladder import Ladder, Way

TOP = Way()
WORDS = {
    "ask": "response_format of type json_schema is not supported",
    "top_logprobs": "You are not allowed to request logprobs from this model",
    "temperature": "Unsupported value: 'temperature' does not support 0.0 with this model.",
    "system": "System role not supported",
}
WITHOUT = {"ask": "text", "top_logprobs": 0, "temperature": False, "system": False}
Server = Callable[[Way], tuple[int, str]]
"""Way to status and words."""


def refusing(*names: str, status: int = 400, words: bool = True) -> Server:
    """A server that refuses some things, and names the last of them that it meets."""

    def answer(way: Way) -> tuple[int, str]:
        met = [name for name in names if getattr(way, name) != WITHOUT[name]]
        return (status, WORDS[met[-1]] if words else "Bad request") if met else (200, "")

    return answer


def ask(ladder: Ladder, server: Server) -> int:
    """One request as `Exchange` asks it; returns its tries, and raises StopIteration where it is refused in every way."""
    for number in range(1, 40):
        way = ladder.way
        status, words = server(way)
        if status == 200:
            ladder.succeeded(way)
            return number
        if not ladder.step_down(way, words, crashed=status >= 500) and status < 500:
            raise StopIteration(number)
    raise AssertionError("no end")


@pytest.mark.parametrize("names", [c for n in range(5) for c in itertools.combinations(WORDS, n)])
def test_what_a_server_names_is_left_out_and_nothing_else(names: tuple[str, ...]) -> None:
    ladder = Ladder(TOP)
    assert ask(ladder, refusing(*names)) == 1 + len(names)
    assert ladder.settled
    assert ladder.way == TOP._replace(**{name: WITHOUT[name] for name in names})
    assert ask(ladder, refusing(*names)) == 1


@pytest.mark.parametrize("name", WORDS)
def test_one_thing_that_is_not_named_is_found_alone(name: str) -> None:
    ladder = Ladder(TOP)
    assert ask(ladder, refusing(name, words=False)) <= 5
    assert ladder.settled
    assert ladder.way == TOP._replace(**{name: WITHOUT[name]})


@pytest.mark.parametrize("names", [c for n in range(2, 5) for c in itertools.combinations(WORDS, n)])
def test_several_things_that_are_not_named_are_found_in_seven_tries(names: tuple[str, ...]) -> None:
    ladder, server = Ladder(TOP), refusing(*names, words=False)
    assert ask(ladder, server) <= 7
    assert ladder.settled
    assert server(ladder.way)[0] == 200
    if names == ("top_logprobs", "ask"):
        assert ladder.way == TOP._replace(ask="text", top_logprobs=0)


def test_a_crash_by_logprobs_is_found_after_one_try_and_confirmed_by_two_more() -> None:
    ladder, server = Ladder(TOP), refusing("top_logprobs", status=500, words=False)
    assert ask(ladder, server) == 2
    assert not ladder.settled  # it may have been a passing fault
    assert ask(ladder, server) == 2
    assert not ladder.settled
    assert ask(ladder, server) == 2
    assert ladder.settled
    assert ladder.way == TOP._replace(top_logprobs=0)
    assert ask(ladder, server) == 1


def test_a_passing_crash_costs_the_run_nothing() -> None:
    crashes = iter([True])
    ladder = Ladder(TOP)
    assert ask(ladder, lambda way: (500, "Internal") if next(crashes, False) else (200, "")) == 2
    assert ask(ladder, lambda way: (200, "")) == 1
    assert ladder.settled
    assert ladder.way == TOP


def test_a_server_that_is_down_is_swept_once() -> None:
    ladder = Ladder(TOP)
    steps = 1
    while ladder.step_down(ladder.way, "Internal", crashed=True):
        steps += 1
    assert steps == 7
    assert ladder.way == TOP
    # From here on each way is an ordinary try, of this request or of the next.
    ways = []
    for _ in range(14):
        ways.append(ladder.way)
        assert not ladder.step_down(ladder.way, "Internal", crashed=True)
    assert ways[:7] == ways[7:]
    assert len(set(ways)) == 7
    assert ask(ladder, lambda way: (200, "")) == 1
    assert ladder.way == TOP


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_passing_crashes_seldom_settle_less_than_the_server_takes_and_never_more_so_in_later_calls(
    share: float,
) -> None:
    """A way is ruled out wrongly where it crashes in three requests running, by chance `share` cubed."""
    chance = random.Random(1)
    server = lambda way: (502, "Bad gateway") if chance.random() < share else (200, "")  # noqa: E731
    wrong = {1: 0, 5: 0}
    for _ in range(1000):
        way = TOP
        for call in range(1, 6):
            ladder = Ladder(TOP)
            if call > 1:
                ladder.begin_with(way)
            while not ladder.settled:
                ask(ladder, server)
            way = ladder.way
            if call in wrong:
                wrong[call] += way != TOP
    assert wrong[1] <= 1000 * share**3 * 1.5
    assert wrong[5] <= wrong[1] * 1.1 + 2


def test_a_way_of_an_earlier_call_that_has_come_to_crash_is_found_anew_from_the_top() -> None:
    ladder, server = Ladder(TOP), refusing("top_logprobs", status=500, words=False)
    ladder.begin_with(TOP._replace(ask="text"))
    crashes = 0
    while ladder.way != TOP:
        assert not ladder.step_down(ladder.way, "Internal", crashed=True)
        crashes += 1
    assert crashes == 6
    for _ in range(3):
        ask(ladder, server)
    assert ladder.settled
    assert ladder.way == TOP._replace(top_logprobs=0)


@pytest.mark.parametrize(
    ("words", "tops"),
    [
        ("top_logprobs must be at most 5", [20, 5]),
        ("Requested top_logprobs of 20 is more than the 10 allowed", [20, 10]),
        ("'top_logprobs' is out of range", [20, 10, 5]),
        ("logprobs are not available for gpt-5", [20, 5, 0]),
        ("logprobs are not available", [20, 0]),
    ],
)
def test_as_many_alternatives_as_are_taken(words: str, tops: list[int]) -> None:
    ladder, seen = Ladder(TOP), []

    def server(way: Way) -> tuple[int, str]:
        seen.append(way.top_logprobs)
        return (400, words) if way.top_logprobs > tops[-1] else (200, "")

    ask(ladder, server)
    assert seen == tops
    assert ladder.way.ask == "choice"


def test_what_is_fixed_is_not_stepped_down_from() -> None:
    ladder = Ladder(TOP, frozenset({"ask"}))
    with pytest.raises(StopIteration):
        ask(ladder, refusing("ask"))
    assert ladder.way.ask == "choice"


def test_it_begins_where_it_was_settled_and_goes_back_to_the_top_only_in_vain() -> None:
    before = TOP._replace(ask="text", top_logprobs=5)
    ladder = Ladder(TOP)
    ladder.begin_with(before)
    assert ask(ladder, refusing()) == 1
    assert ladder.way == before
    other = Ladder(TOP)
    other.begin_with(before)
    ask(other, refusing("top_logprobs"))
    assert other.way == before._replace(top_logprobs=0)
    picky = Ladder(TOP)  # a server that now takes a schema alone
    picky.begin_with(before)
    only_choice = lambda way: (200, "") if way.ask == "choice" else (400, "no")  # noqa: E731
    with pytest.raises(StopIteration):
        ask(picky, only_choice)
    ask(picky, only_choice)
    assert picky.way == TOP


@pytest.mark.parametrize("way", [TOP, Way("text", 0, False, False, "max_completion_tokens", True), Way("schema", 0)])
def test_facts_are_read_back(way: Way) -> None:
    assert Way.of(way.facts()) == way


def test_a_request_that_is_refused_in_every_way_teaches_nothing_but_what_was_learnt_beside_stays() -> None:
    ladder = Ladder(TOP)
    ladder.learn(length_parameter="max_completion_tokens", room=True)
    learnt = TOP._replace(length_parameter="max_completion_tokens", room=True)
    with pytest.raises(StopIteration):
        ask(ladder, lambda way: (400, "This prompt is too long."))
    assert (ladder.refusals, ladder.settled, ladder.way) == (1, False, learnt)
    assert ask(ladder, refusing()) == 1
    assert (ladder.refusals, ladder.way) == (0, learnt)


@pytest.mark.parametrize(
    "facts", [None, [], "choice", {}, {"ask": "song"}, {"ask": "text", "top_logprobs": "20"}, {"ask": "text", "x": 1}]
)
def test_facts_of_another_kind_are_none(facts: object) -> None:
    """They come from a manifest, which may be anybody's."""
    assert Way.of(facts) is None
