"""How many requests a server takes at a time.

The limit is learnt from how the server answers, by the rules of TCP's congestion control (RFC 5681): one request at first;
slow start, one more for every success, which doubles the limit a round trip; half the limit when the server refuses; after
that one more a round trip. Refusals of requests that were sent before the last cut tell nothing new and cut nothing.
"""

import asyncio
import math
import random
import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

_LONGEST_REFUSAL_PAUSE_S = 8.0
_LONGEST_WAIT_S = 86400.0
_NUMBER = re.compile(r"\d+(\.\d+)?")


class Pace:
    """Hands out places for requests: to those that wait, first come first served, then to new ones.

    One request at a time goes out until `settled` says that it is known how the server is to be asked, and `ceiling` at
    most after that. `changed` is called when a place may have become free.
    """

    def __init__(self, ceiling: int, settled: Callable[[], bool], changed: Callable[[], None]) -> None:
        self.limit = 1.0
        self.in_flight = 0
        self.opens_at = -math.inf
        """No request goes out before this time, in seconds of the monotonic clock."""
        self._ceiling = ceiling
        self._settled = settled
        self._changed = changed
        self._slow_start = True
        self._last_cut = -math.inf
        self._cuts = 0
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._stopped: asyncio.Future[None] = self._loop.create_future()
        self._error: Exception | None = None

    def take_free(self) -> bool:
        """Take a place for a new request; False where there is none now, or others wait for it."""
        return not self._waiting and self._take()

    async def take(self) -> None:
        """Wait for a place; raises the error that `close` was given."""
        if self._error is not None:
            raise self._error
        if self.take_free():
            return
        place: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(place)
        await place

    def leave(self) -> None:
        """Give a place back."""
        self.in_flight -= 1
        self._hand_out()

    async def pause(self, seconds: float) -> None:
        """Sleep, or until `close`."""
        await asyncio.wait([self._stopped], timeout=seconds)

    def close(self, error: Exception) -> None:
        """End all waiting, with an error."""
        self._error = error
        if not self._stopped.done():
            self._stopped.set_result(None)
        while self._waiting:
            if not (place := self._waiting.popleft()).done():
                place.set_exception(error)
        if self._timer is not None:
            self._timer.cancel()

    def succeeded(self) -> None:
        """A request was answered; called while it still counts as in flight."""
        self._cuts = 0
        # A limit that is not made use of is not known to be safe.
        if 2 * self.in_flight >= self.limit:
            self.limit = min(float(self._ceiling), self.limit + (1.0 if self._slow_start else 1.0 / self.limit))

    def refused(self, sent_at: float) -> None:
        """The server has too much to do: 429, 503 or a time-out of a request that was sent at `sent_at`."""
        if sent_at < self._last_cut:
            return
        self.limit = max(1.0, self.limit / 2)
        self._slow_start = False
        self._last_cut = time.monotonic()
        self._cuts += 1

    def refusal_pause_s(self) -> float:
        """How long to hold back where the server does not say: 1 to 8 s, longer with every cut."""
        return min(_LONGEST_REFUSAL_PAUSE_S, 2.0**self._cuts) * random.uniform(0.5, 1.0)

    def hold_back(self, wait_s: float) -> bool:
        """Send no request for a while, and a random bit longer than other clients; returns whether requests went out."""
        now = time.monotonic()
        was_open = now >= self.opens_at
        if now + wait_s > self.opens_at:
            self.opens_at = now + wait_s + random.uniform(0.0, min(1.0, 0.25 * wait_s))
        return was_open and self.opens_at > now

    def _take(self) -> bool:
        now = time.monotonic()
        if now >= self.opens_at and self.in_flight < (int(self.limit) if self._settled() else 1):
            self.in_flight += 1
            return True
        if now < self.opens_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_later(self.opens_at - now, self._hand_out)
        return False

    def _hand_out(self) -> None:
        while self._waiting:
            if not self._waiting[0].done():
                if not self._take():
                    break
                self._waiting[0].set_result(None)
            self._waiting.popleft()
        self._changed()


def retry_after(headers: Mapping[str, str], wall_clock: float) -> float | None:
    """Seconds that the server asks to wait, a day at most: `Retry-After-Ms`, or `Retry-After` in seconds or as a date."""
    for header, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = headers.get(header, "")
        if _NUMBER.fullmatch(value):
            return min(_LONGEST_WAIT_S, float(value) / unit)
    try:
        date = parsedate_to_datetime(headers.get("retry-after", ""))
        # The zone `-0000` is UTC too (RFC 5322), and comes without one.
        wait_s = (date.replace(tzinfo=UTC) if date.tzinfo is None else date).timestamp() - wall_clock
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return min(_LONGEST_WAIT_S, max(0.0, wait_s))
