"""Asking, and saving what comes before anything else is sent; Ctrl-C finishes what is in flight."""

import asyncio
import contextlib
import gc
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tqdm.auto import tqdm

from fairpp_hf.generation.waiting import Waiting
from fairpp_hf.respondents.base import Reply, Respondent

Save = Callable[[Sequence[tuple[int, Reply]]], None]
"""Stores (index among the waiting requests, reply) for good before it returns."""

_MOST_UNSAVED = 10_000
_IN_FLIGHT = "Stopping: finishing the requests in flight. Once more to drop them."
_IN_BATCHES = (
    "Stopping: the batches go on at the provider, and the same command collects them. Once more to stop at once."
)


async def ask(respondent: Respondent, waiting: Waiting, save: Save) -> int | None:
    """Collect the replies and save all that have come whenever the respondent has to wait for more.

    Saving is done before anything else of the event loop runs. A request that the respondent starts after handing over a
    reply is therefore sent when that reply is on disk, and a kill costs at most what was in flight.

    Returns:
        The signal that stopped the run, or None.

    Raises:
        RespondentStopped: the respondent cannot go on; what came is saved.
        RuntimeError: the respondent left requests out.
    """
    arrived = asyncio.Event()
    unsaved: list[tuple[int, Reply]] = []
    received = 0

    async def collect() -> None:
        nonlocal received
        async for index_and_reply in respondent.answer(waiting):
            unsaved.append(index_and_reply)
            received += 1
            waiting.pay(index_and_reply[1:])
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

    signal_number = await _until_stopped(save_all(), waiting, _IN_FLIGHT)
    save_arrived()  # after a second signal, what came between the last saving and it
    expected = waiting.handed_out if waiting.over_budget else len(waiting)
    if signal_number is None and received < expected:
        raise RuntimeError(f"A respondent must answer every request; got {received} replies to {expected} requests.")
    return signal_number


async def ask_in_batches(work: Awaitable[None], waiting: Waiting) -> int | None:
    """Wait for `generation.batch.ask_in_batches`, which looks at `waiting.stopped`.

    Returns:
        The signal that stopped the run, or None.
    """
    return await _until_stopped(work, waiting, _IN_BATCHES)


def run_to_end(main: Any) -> Any:
    """`asyncio.run`, also from a notebook, whose own loop is running already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _run(main)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_run, main).result()


def _run(main: Any) -> Any:
    # Replies come hundreds a second: the collector need not walk again and again over all that was there before them,
    # while the requests wait. That cost 5% of the rate at 64 in flight.
    gc.freeze()
    try:
        return asyncio.run(main)
    finally:
        gc.unfreeze()


async def _until_stopped(work: Awaitable[None], waiting: Waiting, note: str) -> int | None:
    """Await `work`; a first Ctrl-C or SIGTERM sets `waiting.stopped` and prints `note`, a second one cancels the work.

    Returns:
        The first signal, or None.
    """
    this_task = asyncio.current_task()
    assert this_task is not None
    signals: list[int] = []

    def stop(signal_number: int) -> None:
        signals.append(signal_number)
        if waiting.stopped:
            this_task.cancel()
            return
        waiting.stopped = True
        tqdm.write(note, file=sys.stderr)

    with _signal_handlers(stop):
        try:
            await work
        except asyncio.CancelledError:
            if not signals:
                raise
    return signals[0] if signals else None


@contextlib.contextmanager
def _signal_handlers(stop: Callable[[int], None]) -> Iterator[None]:
    """Call `stop` in the event loop on Ctrl-C and SIGTERM. Other threads than the main one cannot handle signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    previous = {
        number: signal.signal(number, lambda received, _: loop.call_soon_threadsafe(stop, received))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
