"""Limits, turns and header forms, without network; times are made up where the code takes them as arguments."""

import asyncio
import time

import pytest

from fairpp_hf.respondents.endpoints import Address, Addresses, Places, duration, retry_after, until_reset
from fairpp_hf.respondents.ladder import Ladder, Way


def settled() -> Ladder:
    """Of a server that has answered."""
    ladder = Ladder(Way())
    ladder.succeeded(Way())
    return ladder


def round_trip(address: Address) -> int:
    """Fill the address, then let all succeed; how many there were."""
    sent = 0
    while address.has_room(0.0):
        address.in_flight += 1
        sent += 1
    for _ in range(sent):
        address.succeeded()
    address.in_flight = 0
    return sent


def test_slow_start_doubles_the_limit_a_round_trip_up_to_the_ceiling() -> None:
    address = Address("a", 20, settled())
    assert [round_trip(address) for _ in range(7)] == [1, 2, 4, 8, 16, 20, 20]


def test_a_refusal_halves_the_limit_and_one_more_a_round_trip_follows() -> None:
    """16 / 2 = 8; then 8, 8 + 8 / 8 (a little less, since the limit grows on the way), and so on."""
    address = Address("a", 64, settled())
    for _ in range(4):
        round_trip(address)
    address.refused(sent_at=1.0, now=2.0)
    assert address.limit == 8.0
    assert [round_trip(address) for _ in range(6)] == [8, 8, 9, 10, 11, 12]


def test_refusals_of_what_was_sent_before_the_last_cut_cut_nothing() -> None:
    address = Address("a", 64, settled())
    for _ in range(6):
        round_trip(address)
    limits = []
    for sent_at, now in [(1.0, 2.0), (1.1, 2.0), (1.9, 2.5), (2.1, 3.0), (2.2, 3.0), (3.0, 3.5)]:
        address.refused(sent_at, now)
        limits.append(address.limit)
    assert limits == [32.0, 32.0, 32.0, 16.0, 16.0, 8.0]
    for second in range(4, 20):
        address.refused(second, second)
    assert address.limit == 1.0


def test_a_limit_that_is_not_used_does_not_grow() -> None:
    address = Address("a", 64, settled())
    for _ in range(4):
        round_trip(address)
    address.in_flight = 7
    address.succeeded()
    assert address.limit == 16.0
    address.in_flight = 8
    address.succeeded()
    assert address.limit == 17.0


def test_an_address_that_is_held_back_has_no_room_until_then() -> None:
    address = Address("a", 4, settled())
    address.hold_back(100.0, 10.0)
    assert not address.has_room(109.9)
    assert address.has_room(111.0)
    address.hold_back(100.0, 1.0)  # a shorter wait does not end a longer one
    assert not address.has_room(109.9)


def test_the_least_loaded_takes_the_next_and_one_to_avoid_only_if_alone() -> None:
    addresses = Addresses(["a", "b"], 8, settled)
    first, second = addresses
    first.limit, second.limit = 8.0, 4.0
    first.in_flight, second.in_flight = 3, 1  # 3 / 8 against 1 / 4
    assert addresses.choose(0.0) is second
    second.in_flight = 2
    assert addresses.choose(0.0) is first
    assert addresses.choose(0.0, avoid=first) is second
    second.in_flight = 4
    assert addresses.choose(0.0, avoid=first) is first
    first.in_flight = 8
    assert addresses.choose(0.0) is None


def test_one_that_fails_is_left_out_with_growing_pauses_and_the_last_one_never() -> None:
    addresses = Addresses(["a", "b"], 8, settled)
    first, second = addresses
    for _ in range(4):
        first.erred("boom")
        assert not addresses.leave_out_if_failing(first, 0.0, unreachable=False)
    first.erred("boom")
    assert addresses.leave_out_if_failing(first, 0.0, unreachable=False)
    second.erred("gone")
    assert not addresses.leave_out_if_failing(second, 0.0, unreachable=True)
    assert addresses.errors() == "'boom' from a, 'gone' from b"
    now, pauses = 0.0, []
    for _ in range(8):
        pauses.append(first.out_until - now)
        now = first.out_until
        assert first.has_room(now)
        assert int(first.limit) == 1  # one request, to see whether it is back
        assert addresses.leave_out_if_failing(first, now, unreachable=True)
    for pause, middle in zip(pauses, [2, 4, 8, 16, 32, 60, 60, 60], strict=True):
        assert 0.75 * middle <= pause <= 1.25 * middle
    first.succeeded()
    first.leave_out(now)
    assert first.out_until - now <= 2.5


def test_waits_are_those_of_the_first_to_open() -> None:
    addresses = Addresses(["a", "b"], 8, settled)
    addresses[0].opens_at = 50.0
    assert (addresses.wait_s(10.0), addresses.next_opening(10.0)) == (0.0, 50.0)
    addresses[1].opens_at = 20.0
    assert (addresses.wait_s(10.0), addresses.next_opening(10.0)) == (10.0, 20.0)
    assert addresses.next_opening(60.0) is None


def test_places_go_first_come_first_served_and_new_requests_come_last() -> None:
    async def scene() -> list[str]:
        addresses = Addresses(["a"], 1, settled)
        places = Places(addresses, lambda: None)
        order = []

        async def wait(name: str) -> None:
            address = await places.take()
            order.append(name)
            places.leave(address)

        address = places.free()
        assert address is not None
        tasks = [asyncio.create_task(wait(name)) for name in ("first", "second")]
        await asyncio.sleep(0)
        assert places.free() is None
        places.leave(address)
        assert places.free() is None  # it belongs to the first that waits
        await asyncio.gather(*tasks)
        assert places.free() is address
        return order

    assert asyncio.run(scene()) == ["first", "second"]


def test_places_open_by_themselves_when_a_hold_ends_and_all_waiting_ends_with_close() -> None:
    async def scene() -> None:
        addresses = Addresses(["a"], 1, settled)
        places = Places(addresses, lambda: None)
        started = time.monotonic()
        addresses[0].hold_back(started, 0.1)
        address = await asyncio.wait_for(places.take(), 5)
        assert time.monotonic() - started >= 0.1
        waiting = asyncio.create_task(places.take())
        sleeping = asyncio.create_task(places.pause(60.0))
        await asyncio.sleep(0)
        places.close(RuntimeError("over"))
        with pytest.raises(RuntimeError, match="over"):
            await waiting
        await asyncio.wait_for(sleeping, 5)
        with pytest.raises(RuntimeError, match="over"):
            await places.take()
        places.leave(address)

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("120ms", 0.12),
        ("2m59.56s", 179.56),
        ("1h2m3s", 3723.0),
        ("1d", 86400.0),
        ("1s500ms", 1.5),
        ("0s", 0.0),
        ("7.5", 7.5),
        ("1767225600", None),  # a time of day
        ("", None),
        ("soon", None),
        ("-1s", None),
        ("2026-01-01T00:00:00Z", None),
    ],
)
def test_durations(text: str, seconds: float | None) -> None:
    assert duration(text) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 360.0),
        ({"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "6m0s"}, None),
        ({"x-ratelimit-remaining-tokens": "-3", "x-ratelimit-reset-tokens": "120ms"}, 0.12),
        ({"x-ratelimit-remaining-tokens": "0"}, None),
        ({"x-ratelimit-remaining-tokens": "10", "x-ratelimit-reset-tokens": "120ms"}, None),
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "3s",
            },
            3.0,
        ),
    ],
)
def test_a_reset_is_waited_for_where_nothing_remains(headers: dict[str, str], seconds: float | None) -> None:
    assert until_reset(headers) == (None if seconds is None else pytest.approx(seconds))


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
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, 86400.0),
        ({"retry-after": "Fri, 31 Dec 99999999 23:59:59 GMT"}, None),
        ({"retry-after": "Mon, 99 Jan 2001 00:00:00 +2359"}, None),
        ({"retry-after": "9" * 400}, 86400.0),
        ({"retry-after-ms": "9" * 5000}, 86400.0),
    ],
)
def test_retry_after_in_each_of_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, wall_clock=60.0) == seconds


def test_until_settled_an_address_takes_one_at_a_time() -> None:
    address = Address("a", 8, Ladder(Way()))
    address.limit = 4.0
    assert address.has_room(0.0)
    address.in_flight = 1
    assert not address.has_room(0.0)
    address.ladder.succeeded(Way())
    assert address.has_room(0.0)
