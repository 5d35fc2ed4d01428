"""Asking, and saving what comes before anything else is sent; Ctrl-C finishes what is in flight."""

import asyncio
import contextlib
import gc
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tqdm.auto import tqdm

from fairpp_hf.generation.queue import RequestQueue
from fairpp_hf.respondents.base import Reply, Respondent

Save = Callable[[Sequence[tuple[int, Reply]]], None]
"""Stores (index among the waiting requests, reply) for good before it returns."""

_MOST_UNSAVED = 10_000
_IN_FLIGHT = "Stopping: finishing the requests in flight. Once more to drop them."
IN_BATCHES = "Stopping: batches go on at the provider, and the same call collects them. Once more to stop at once."


class Signals:
    """Ctrl-C and SIGTERM, as they reach the thread that waits for a run.

    That thread catches them, and the loop that asks may run in another one, which no signal ever reaches: in a notebook,
    the main thread has a loop of its own.
    """

    def __init__(self) -> None:
        self.received: list[int] = []
        self._wake: Callable[[], object] | None = None

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """Within the block, signals are kept here and do nothing else. Only the main thread can catch them."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {number: signal.signal(number, self._take) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def heard(self, look: Callable[[], None]) -> Iterator[None]:
        """Within the block, the running loop calls `look` at its beginning and after each signal."""
        loop = asyncio.get_running_loop()
        self._wake = lambda: loop.call_soon_threadsafe(look)
        self._wake()
        try:
            yield
        finally:
            self._wake = None

    def _take(self, number: int, _: Any) -> None:
        self.received.append(number)
        if wake := self._wake:
            wake()


async def ask(respondent: Respondent, queue: RequestQueue, save: Save, signals: Signals) -> int | None:
    """Collect the replies and save all that have come whenever the respondent has to wait for more.

    Saving is done before anything else of the event loop runs. A request that the respondent starts after handing over a
    reply is therefore sent when that reply is on disk, and a kill costs at most what was in flight.

    Returns:
        The signal that stopped the run, or None.

    Raises:
        RespondentStopped: The respondent cannot go on; what came is saved.
        RuntimeError: The respondent left requests out.
    """
    arrived = asyncio.Event()
    unsaved: list[tuple[int, Reply]] = []
    received = 0

    async def collect() -> None:
        nonlocal received
        async for index_and_reply in respondent.answer(queue):
            unsaved.append(index_and_reply)
            received += 1
            queue.pay(index_and_reply[1:])
            # A reply that took no time is simulated on the spot: nothing is lost with it, and a flush each would be slow.
            if index_and_reply[1].latency_s > 0:
                arrived.set()
            elif len(unsaved) >= _MOST_UNSAVED:
                arrived.set()
                await asyncio.sleep(0)

    def save_arrived() -> None:
        batch = unsaved[:]
        unsaved.clear()
        if batch:
            save(batch)

    collector = asyncio.create_task(collect())
    collector.add_done_callback(lambda _: arrived.set())

    async def save_all() -> None:
        try:
            while not collector.done():
                await arrived.wait()
                arrived.clear()
                save_arrived()
            await collector
        finally:
            collector.cancel()
            await asyncio.gather(collector, return_exceptions=True)

    signal_number = await until_stopped(save_all(), queue, signals, _IN_FLIGHT)
    save_arrived()  # after a second signal, what came between the last saving and it
    expected = queue.handed_out if queue.over_budget else len(queue)
    if signal_number is None and received < expected:
        raise RuntimeError(f"A respondent must answer every request; got {received} replies to {expected} requests.")
    return signal_number


def run_to_end(start: Callable[[Signals], Coroutine[Any, Any, int | None]]) -> int | None:
    """`asyncio.run` for what `start` makes, also from a notebook, whose own loop is running already."""
    signals = Signals()
    with signals.caught():
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return _run(start(signals))
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(_run, start(signals)).result()


def _run(main: Coroutine[Any, Any, int | None]) -> int | None:
    # Replies come hundreds a second: the collector need not walk again and again over all that was there before them,
    # while the requests wait. That cost 5% of the rate at 64 in flight.
    gc.freeze()
    try:
        return asyncio.run(main)
    finally:
        gc.unfreeze()


async def until_stopped(work: Awaitable[None], queue: RequestQueue, signals: Signals, note: str) -> int | None:
    """Await `work`; a first Ctrl-C or SIGTERM sets `queue.stopped` and prints `note`, a second one cancels the work.

    Returns:
        The first signal, or None.
    """
    this_task = asyncio.current_task()
    assert this_task is not None

    cancelled = 0

    def look() -> None:
        nonlocal cancelled
        if signals.received and not queue.stopped:
            queue.stopped = True
            tqdm.write(note, file=sys.stderr)
        while cancelled < len(signals.received) - 1:
            cancelled += 1
            this_task.cancel()

    with signals.heard(look):
        try:
            await work
        except asyncio.CancelledError:
            if not signals.received:
                raise
    return signals.received[0] if signals.received else None
