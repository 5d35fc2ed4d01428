"""How many requests each address takes at a time, and which address the next one goes to.

Each address has a limit that is learnt from how it answers, by the rules of TCP's congestion control (RFC 5681): one
request at first; slow start, one more for every success, which doubles the limit a round trip; half the limit when the
address refuses; after that one more a round trip. Refusals of requests that were sent before the last cut tell nothing
new and cut nothing.

`Address` and `Addresses` neither wait nor send nor read a clock: `now` is the caller's, in seconds of a monotonic clock.
`Places` is where requests wait for their turn.
"""

import asyncio
import math
import random
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime

from fairpp_hf.respondents.ladder import Ladder

FAILURES_TO_LEAVE_OUT = 5
"""In a row, at an address that can be reached."""

_FIRST_PAUSE_S = 2.0
_LONGEST_PAUSE_S = 60.0
_LONGEST_REFUSAL_PAUSE_S = 8.0


class Address:
    """What is known of one address.

    Args:
        name: the address, for the record, without anything secret in it.
        ceiling: the highest limit; at least 1.
        ladder: how it is asked.
    """

    def __init__(self, name: str, ceiling: int, ladder: Ladder) -> None:
        self.name = name
        self.ladder = ladder
        self.limit = 1.0
        self.in_flight = 0
        self.reached = False
        self.failures = 0
        self.last_error: str | None = None
        self.opens_at = -math.inf
        """No request before this time: it is held back, or left out."""
        self.out_until = -math.inf
        self.times_left_out = 0
        """Since the last success."""
        self._ceiling = ceiling
        self._slow_start = True
        self._last_cut = -math.inf
        self._cuts = 0

    def has_room(self, now: float) -> bool:
        """Whether it takes one request more."""
        return now >= self.opens_at and self.in_flight < (int(self.limit) if self.ladder.settled else 1)

    @property
    def load(self) -> float:
        """Requests in flight, as a share of the limit."""
        return self.in_flight / self.limit

    def succeeded(self) -> None:
        """A request was answered; called while it still counts as in flight."""
        self.responded()
        self._cuts = self.times_left_out = 0
        # A limit that is not made use of is not known to be safe.
        if 2 * self.in_flight >= self.limit:
            self.limit = min(float(self._ceiling), self.limit + (1.0 if self._slow_start else 1.0 / self.limit))

    def responded(self) -> None:
        """It answered, if only that the request was wrong."""
        self.reached, self.failures = True, 0

    def refused(self, sent_at: float, now: float) -> None:
        """It has too much to do: 429, 503 or a time-out of a request that was sent at `sent_at`."""
        if sent_at < self._last_cut:
            return
        self.limit = max(1.0, self.limit / 2)
        self._slow_start = False
        self._last_cut = now
        self._cuts += 1

    def refusal_pause_s(self) -> float:
        """For how long to hold back where the server does not say: 1 to 8 s, longer with every cut."""
        return min(_LONGEST_REFUSAL_PAUSE_S, 2.0**self._cuts) * random.uniform(0.5, 1.0)

    def hold_back(self, now: float, wait_s: float) -> None:
        """No request for `wait_s` seconds, and a little more, lest all who were told so return in the same instant."""
        self.opens_at = max(self.opens_at, now + wait_s + random.uniform(0.0, min(1.0, 0.25 * wait_s)))

    def erred(self, message: str) -> None:
        """A connection failed, or the server did."""
        self.failures += 1
        self.last_error = message

    def leave_out(self, now: float) -> None:
        """No request for a while, longer every time; then one, to see whether it is back."""
        pause_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(self.times_left_out, 30))
        self.out_until = now + pause_s * random.uniform(0.75, 1.25)
        self.opens_at = max(self.opens_at, self.out_until)
        self.times_left_out += 1
        self.limit, self._slow_start = 1.0, True


class Addresses(Sequence[Address]):
    """Several addresses that share the load, each with a ladder of its own."""

    def __init__(self, names: Sequence[str], ceiling: int, ladder: Callable[[], Ladder]) -> None:
        self._all = [Address(name, ceiling, ladder()) for name in names]

    def __len__(self) -> int:
        return len(self._all)

    def __getitem__(self, index: int) -> Address:  # type: ignore[override]  # no slices
        return self._all[index]

    def __iter__(self) -> Iterator[Address]:
        return iter(self._all)

    @property
    def reached(self) -> bool:
        """Whether any of them ever answered."""
        return any(address.reached for address in self._all)

    def choose(self, now: float, avoid: Address | None = None) -> Address | None:
        """The least loaded with room for a request, and `avoid` only if there is no other; None where none has room."""
        roomy = [address for address in self._all if address.has_room(now)]
        return min(roomy, key=lambda address: (address is avoid, address.load), default=None)

    def wait_s(self, now: float) -> float:
        """Seconds until the first of them that is held back or left out opens; 0 if one is open."""
        return max(0.0, min(address.opens_at for address in self._all) - now)

    def next_opening(self, now: float) -> float | None:
        """When the next of those that are closed opens; None where all are open."""
        return min((address.opens_at for address in self._all if address.opens_at > now), default=None)

    def leave_out_if_failing(self, address: Address, now: float, *, unreachable: bool) -> bool:
        """Leave an address out that cannot be reached, or that failed `FAILURES_TO_LEAVE_OUT` times in a row.

        Never the last one: that is for its requests' tries to decide.

        Returns:
            Whether it was left out, so that its requests go to the others.
        """
        others = any(now >= other.out_until for other in self._all if other is not address)
        if others and (unreachable or address.failures >= FAILURES_TO_LEAVE_OUT):
            if now >= address.out_until:
                address.leave_out(now)
            return True
        return False

    def errors(self) -> str:
        """The last error of each, with its name."""
        return ", ".join(f"{address.last_error!r} from {address.name}" for address in self._all if address.last_error)


class Places:
    """Hands out places for requests: to those that wait, first come first served, then to new ones.

    Args:
        addresses: they keep the books.
        changed: called when a place may have become free.
    """

    def __init__(self, addresses: Addresses, changed: Callable[[], None]) -> None:
        self._addresses = addresses
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[asyncio.Future[Address], Address | None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._stopped: asyncio.Future[None] = self._loop.create_future()
        self._error: Exception | None = None

    def free(self) -> Address | None:
        """A place for a new request, or None where there is none now, or others wait for it."""
        return None if self._waiting else self._take(None)

    async def take(self, avoid: Address | None = None) -> Address:
        """Wait for a place, elsewhere than at `avoid` if possible.

        Raises:
            Exception: that of `close`.
        """
        if self._error is not None:
            raise self._error
        address = self.free() if avoid is None else None
        if address is not None:
            return address
        place: asyncio.Future[Address] = self._loop.create_future()
        self._waiting.append((place, avoid))
        self._hand_out()
        return await place

    def leave(self, address: Address) -> None:
        """Give a place back."""
        address.in_flight -= 1
        self._hand_out()
        self._changed()

    async def pause(self, seconds: float) -> None:
        """Sleep, or until `close`."""
        await asyncio.wait([self._stopped], timeout=seconds)

    def close(self, error: Exception) -> None:
        """End all waiting, with an error."""
        self._error = error
        if not self._stopped.done():
            self._stopped.set_result(None)
        while self._waiting:
            place, _ = self._waiting.popleft()
            if not place.done():
                place.set_exception(error)
        if self._timer is not None:
            self._timer.cancel()

    def _take(self, avoid: Address | None) -> Address | None:
        now = time.monotonic()
        address = self._addresses.choose(now, avoid)
        if address is not None:
            address.in_flight += 1
        elif (opening := self._addresses.next_opening(now)) is not None:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_later(opening - now, self._open)
        return address

    def _open(self) -> None:
        self._timer = None
        self._hand_out()
        self._changed()

    def _hand_out(self) -> None:
        while self._waiting:
            place, avoid = self._waiting[0]
            if not place.done():
                address = self._take(avoid)
                if address is None:
                    return
                place.set_result(address)
            self._waiting.popleft()


_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_SECONDS = (86400.0, 3600.0, 60.0, 1.0, 0.001)
_NUMBER = re.compile(r"\d+(\.\d+)?")
_LONGEST_WAIT_S = 86400.0


def retry_after(headers: Mapping[str, str], wall_clock: float) -> float | None:
    """Seconds that the server asks to wait, a day at most: `Retry-After-Ms`, or `Retry-After` in seconds or as a date.

    Args:
        headers: of a response; names in any case where `headers` takes them so.
        wall_clock: seconds since 1970, for dates.
    """
    for header, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = headers.get(header, "")
        if _NUMBER.fullmatch(value):
            return min(_LONGEST_WAIT_S, float(value) / unit)
    try:
        date = parsedate_to_datetime(headers.get("retry-after", ""))
        # The zone `-0000` is UTC too (RFC 5322), and comes without one.
        wait_s = (date.replace(tzinfo=UTC) if date.tzinfo is None else date).timestamp() - wall_clock
    except (ValueError, TypeError, IndexError, OverflowError):
        return None  # no date either, or none that there is: the caller has its own back-off
    return min(_LONGEST_WAIT_S, max(0.0, wait_s))


def until_reset(headers: Mapping[str, str]) -> float | None:
    """Seconds until there are requests and tokens again, where `x-ratelimit-remaining-*` says that none remain.

    Example:
        >>> until_reset({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"})
        360.0
    """
    waits = [
        duration(headers.get(f"x-ratelimit-reset-{kind}", ""))
        for kind in ("requests", "tokens")
        if re.fullmatch(r"-\d+|0+(\.0+)?", headers.get(f"x-ratelimit-remaining-{kind}", ""))
    ]
    return max((wait for wait in waits if wait is not None), default=None)


def duration(text: str) -> float | None:
    """Seconds of a duration such as `1s`, `6m0s`, `120ms` or `7.5`, a day at most; None for anything else.

    A plain number beyond a day is no duration but a time, of whatever clock.
    """
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return float(text) if float(text) <= _LONGEST_WAIT_S else None
    found = _DURATION.fullmatch(text)
    if not text or not found:
        return None
    seconds = math.fsum(float(part) * unit for part, unit in zip(found.groups("0"), _SECONDS, strict=True))
    return min(_LONGEST_WAIT_S, seconds)
