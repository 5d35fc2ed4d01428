import asyncio
import time
from collections.abc import Callable

import pytest

from fairpp_hf.respondents.pace import Pace, retry_after


def in_loop(scene: Callable[[Pace], None], ceiling: int = 64) -> None:
    async def run() -> None:
        scene(Pace(ceiling, lambda: True, lambda: None))

    asyncio.run(run())


def round_trip(pace: Pace) -> int:
    """Fill all places, then let all succeed; how many there were."""
    sent = 0
    while pace.take_free():
        sent += 1
    for _ in range(sent):
        pace.succeeded()
    for _ in range(sent):
        pace.leave()
    return sent


def test_slow_start_doubles_the_limit_a_round_trip_and_a_refusal_halves_it() -> None:
    """16 / 2 = 8; then 8, 8 + 8 / 8 (a little less, since the limit grows on the way), and so on."""

    def scene(pace: Pace) -> None:
        assert [round_trip(pace) for _ in range(4)] == [1, 2, 4, 8]
        pace.refused(sent_at=time.monotonic())
        assert pace.limit == 8.0
        pace.refused(sent_at=0.0)  # sent before the last cut: it tells nothing new
        assert [round_trip(pace) for _ in range(6)] == [8, 8, 9, 10, 11, 12]

    in_loop(scene)


def test_the_limit_has_a_ceiling() -> None:
    def scene(pace: Pace) -> None:
        assert [round_trip(pace) for _ in range(7)] == [1, 2, 4, 8, 16, 20, 20]

    in_loop(scene, ceiling=20)


def test_a_limit_that_is_not_used_does_not_grow() -> None:
    def scene(pace: Pace) -> None:
        for _ in range(4):
            round_trip(pace)
        for in_flight, limit in ((7, 16.0), (8, 17.0)):
            pace.in_flight = in_flight
            pace.succeeded()
            assert pace.limit == limit

    in_loop(scene)


def test_until_settled_one_request_goes_at_a_time() -> None:
    settled = False

    async def scene() -> None:
        nonlocal settled
        pace = Pace(8, lambda: settled, lambda: None)
        pace.limit = 4.0
        assert pace.take_free()
        assert not pace.take_free()
        settled = True
        assert pace.take_free()

    asyncio.run(scene())


def test_places_go_first_come_first_served_and_new_requests_come_last() -> None:
    async def scene() -> list[str]:
        pace = Pace(1, lambda: True, lambda: None)
        order = []

        async def wait(name: str) -> None:
            await pace.take()
            order.append(name)
            pace.leave()

        assert pace.take_free()
        tasks = [asyncio.create_task(wait(name)) for name in ("first", "second")]
        await asyncio.sleep(0)
        assert not pace.take_free()
        pace.leave()
        assert not pace.take_free()  # the place belongs to the first that waits
        await asyncio.gather(*tasks)
        assert pace.take_free()
        return order

    assert asyncio.run(scene()) == ["first", "second"]


def test_places_open_by_themselves_when_a_hold_ends_and_all_waiting_ends_with_close() -> None:
    async def scene() -> None:
        pace = Pace(1, lambda: True, lambda: None)
        started = time.monotonic()
        assert pace.hold_back(0.1)
        assert not pace.hold_back(0.05)  # a shorter wait does not end a longer one
        await asyncio.wait_for(pace.take(), 5)
        assert time.monotonic() - started >= 0.1
        waiting, sleeping = asyncio.create_task(pace.take()), asyncio.create_task(pace.pause(60.0))
        await asyncio.sleep(0)
        pace.close(RuntimeError("over"))
        for ended in (waiting, pace.take()):
            with pytest.raises(RuntimeError, match="over"):
                await ended
        await asyncio.wait_for(sleeping, 5)

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "5"}, 5.0),
        ({"retry-after": "5", "retry-after-ms": "120"}, 0.12),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:30 GMT"}, 30.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:30 GMT"}, 0.0),
        ({"retry-after": "later"}, None),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:05 -0000"}, 5.0),  # valid, and without a zone to Python
        ({"retry-after": "Fri, 31 Dec 99999999 23:59:59 GMT"}, None),
        ({"retry-after": "9" * 400}, 86400.0),
    ],
)
def test_retry_after_in_each_of_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, wall_clock=60.0) == seconds
