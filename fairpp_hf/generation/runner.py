"""Asks every persona every question, once: what a run has is kept, what it lacks is asked."""

import asyncio
import contextlib
import hashlib
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from tqdm.auto import tqdm

from fairpp_hf.generation import journal as journal_module
from fairpp_hf.generation import manifest as manifest_module
from fairpp_hf.generation.journal import AskedRequest, Journal, RunLock, served_model_in
from fairpp_hf.generation.manifest import differences, new_manifest, read_manifest, write_manifest
from fairpp_hf.generation.plan import RequestPlan, Waiting, check_respondent, questions_digest
from fairpp_hf.personas import PersonaSet
from fairpp_hf.respondents.base import HasAddress, Reply, Respondent, RespondentStopped
from fairpp_hf.schema import STATUSES

logger = logging.getLogger(__name__)

_MOST_UNSAVED = 10_000


class RunSummary(NamedTuple):
    """What a run has, after `generate`."""

    asked: int
    """Requests answered now."""
    reused: int
    """Requests that had a final reply before."""
    remaining: int
    """Requests without a reply; above 0 only where the run was stopped."""
    counts: dict[str, int]
    """Status to number of replies, every status of `STATUSES`."""
    personas: dict[str, dict[str, int]]
    """The same for each persona."""
    set_aside: int
    """Damaged records that were asked again."""
    seconds: float
    path: Path

    def table(self) -> str:
        """A short text table: a row a persona, a column a status that occurs."""
        shown = [status for status in STATUSES if status == "ok" or self.counts[status]]
        rows = [["persona", *shown]]
        rows += [[persona, *(f"{counts[status]:,}" for status in shown)] for persona, counts in self.personas.items()]
        rows.append(["all", *(f"{self.counts[status]:,}" for status in shown)])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows
        )


class RunInterrupted(KeyboardInterrupt):
    """The user stopped the run (Ctrl-C or SIGTERM); every reply that came is kept. Has `summary` and `signal_number`."""

    def __init__(self, summary: RunSummary, signal_number: int) -> None:
        super().__init__(
            f"stopped with {summary.remaining:,} requests left; the replies are kept in {summary.path}, and the same "
            "command or call continues"
        )
        self.summary = summary
        self.signal_number = signal_number


def generate(
    run: str | Path,
    respondent: Respondent,
    personas: PersonaSet,
    questions: pa.Table,
    *,
    selection: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> RunSummary:
    """Ask each persona each question and keep the replies in the run's directory.

    Called again, with the same arguments, it continues: final replies are kept, `failed` ones are asked again. With
    another model, portrait or question, what has changed is asked anew and the log says what differs; the replies to
    the earlier requests stay in the journal, for when they are asked for again, but are no part of the run's answers.
    The address of a server is no such change, since several may serve one model: the log then says that replies are kept.

    Ctrl-C or SIGTERM finishes the requests in flight and stops; a second one drops them.

    Args:
        run: a directory, new or of an earlier call.
        respondent: whoever answers.
        personas: a persona set.
        questions: rows of `load_questions`, or a table with its columns.
        selection: how the questions were chosen, for the manifest, such as `{"split": "test", "limit": 100}`.
        progress: whether to show a progress bar.

    Returns:
        `RunSummary`.

    Raises:
        ValueError: something about the arguments is wrong; nothing has been asked.
        RuntimeError: another process is writing to the run.
        RespondentStopped: the respondent cannot go on, because of a rejected key for instance. Replies are kept.
        RunInterrupted: the user stopped the run. Replies are kept.
        OSError: the journal cannot be written or read.
    """
    started = time.monotonic()
    run = Path(run)
    check_respondent(respondent)
    plan = RequestPlan(personas, questions)
    _check_directory(run)
    previous = read_manifest(run)
    _check_journal_exists(run, previous)
    run.mkdir(parents=True, exist_ok=True)
    with RunLock(run), Journal(run) as journal:
        _check_journal_filled(journal, previous)
        keys = _set_up(run, journal, plan, respondent, personas, selection or {}, previous)
        positions = journal.pending()
        served = _ServedModel(run, journal.served_model())
        waiting = Waiting(plan, positions)
        asked = 0
        bar = tqdm(
            total=len(plan),
            initial=len(plan) - len(positions),
            unit="answer",
            desc=respondent.name,
            disable=not progress,
        )

        def save(replies: Sequence[tuple[int, Reply]]) -> None:
            nonlocal asked
            places = [positions[index] for index, _ in replies]
            records = [
                (AskedRequest(keys[place], *plan.ids_at(place)), reply)
                for place, (_, reply) in zip(places, replies, strict=True)
            ]
            journal.record(records)
            served.compare(reply for _, reply in replies)
            bar.update(len(records))
            asked += len(records)

        def summary() -> RunSummary:
            per_persona = journal.counts()
            # Personas without a reply yet have a row as well.
            counts = {
                persona: {status: per_persona.get(persona, {}).get(status, 0) for status in STATUSES}
                for persona in plan.portraits
            }
            totals = {status: sum(row[status] for row in counts.values()) for status in STATUSES}
            return RunSummary(
                asked=asked,
                reused=len(plan) - len(positions),
                remaining=len(plan) - sum(totals.values()),
                counts=totals,
                personas=counts,
                set_aside=journal.set_aside,
                seconds=time.monotonic() - started,
                path=run,
            )

        try:
            if positions:
                with bar:
                    signal_number = _run(_ask(respondent, waiting, save))
                if signal_number is not None:
                    raise RunInterrupted(summary(), signal_number)
        except RespondentStopped as error:
            done = sum(summary().counts.values())
            raise RespondentStopped(f"{error} {done:,} of {len(plan):,} requests have a reply in {run}.") from error
        return summary()


def _set_up(
    run: Path,
    journal: Journal,
    plan: RequestPlan,
    respondent: Respondent,
    personas: PersonaSet,
    selection: Mapping[str, Any],
    previous: dict[str, Any] | None,
) -> list[str]:
    """Bring journal and manifest in line with what is asked for now; returns the key of each request."""
    settings = respondent.settings
    keys = plan.keys(settings)
    digest = hashlib.sha256("".join(keys).encode()).hexdigest()
    address = respondent.address if isinstance(respondent, HasAddress) else None
    servers = (previous or {}).get("servers", {})
    manifest = new_manifest(
        respondent=respondent.name,
        settings=settings,
        persona_set=personas.id,
        # Anything with ids and portraits can be asked; only a whole set can be recorded.
        persona_record=personas.as_dict() if isinstance(personas, PersonaSet) else None,
        portraits=plan.portraits,
        question_count=len(plan.questions),
        question_digest=questions_digest(plan.questions),
        selection=selection,
        requests_digest=digest,
        servers={**servers, respondent.name: address} if address else servers,
    )
    changes = differences(previous, manifest) if previous else []
    if changes:
        logger.warning("The run %s now asks for something else: %s.", run, "; ".join(changes))
    if journal.requests_digest() != digest:
        journal.set_requests((AskedRequest(key, *plan.ids_at(place)) for place, key in enumerate(keys)), digest)
    if address and servers.get(respondent.name, address) != address:
        _warn_of_another_server(run, journal, respondent.name, servers[respondent.name], address)
    # After the journal: a manifest whose digest the journal lacks is how a reader tells that this was cut short.
    if not previous or any(previous.get(name) != value for name, value in manifest.items()):
        write_manifest(run, manifest)
    return keys


def _warn_of_another_server(run: Path, journal: Journal, name: str, before: str, now: str) -> None:
    """Once a call; nothing where no reply of the earlier server is kept."""
    kept = sum(
        number for counts in journal.counts().values() for status, number in counts.items() if status != "failed"
    )
    if kept:
        logger.warning(
            "The run %s now asks %s at %s, and asked it at %s before. Replies are kept by the model's name, so the %s "
            "that it has stay. If another model answers there, use another --run, or serve it under a name of its own.",
            run,
            name,
            now,
            before,
            f"{kept:,}",
        )


class _ServedModel:
    """Says once a call if the server names another model than in the run's first reply.

    Args:
        run: the run's directory.
        model: the name in the first reply; None where it is still to come.
    """

    def __init__(self, run: Path, model: str | None) -> None:
        self._run, self._model, self._said = run, model, False

    def compare(self, replies: Iterable[Reply]) -> None:
        for reply in replies:
            model = served_model_in(reply.detail)
            if model is None or self._said:
                continue
            self._model = self._model or model
            if model != self._model:
                self._said = True
                logger.warning(
                    "The server now names its model %r, and named it %r in the first reply of the run %s: its answers may "
                    "come from two models. Use another --run for one of them.",
                    model,
                    self._model,
                    self._run,
                )


async def _ask(
    respondent: Respondent, waiting: Waiting, save: Callable[[Sequence[tuple[int, Reply]]], None]
) -> int | None:
    """Collect the replies and save all that have come whenever the respondent has to wait for more.

    Saving is done before anything else of the event loop runs. A request that the respondent starts after handing over a
    reply is therefore sent when that reply is on disk, and a kill costs at most what was in flight.

    Returns:
        The signal that stopped the run, or None.
    """
    arrived = asyncio.Event()
    unsaved: list[tuple[int, Reply]] = []
    received = 0

    async def collect() -> None:
        nonlocal received
        async for index_and_reply in respondent.answer(waiting):
            unsaved.append(index_and_reply)
            received += 1
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

    this_task = asyncio.current_task()
    assert this_task is not None
    collector = asyncio.create_task(collect())
    collector.add_done_callback(lambda _: arrived.set())
    signals: list[int] = []

    def stop(signal_number: int) -> None:
        signals.append(signal_number)
        if waiting.stopped:
            this_task.cancel()
            return
        waiting.stopped = True
        tqdm.write("Stopping: finishing the requests in flight. Once more to drop them.", file=sys.stderr)

    with _signal_handlers(stop):
        try:
            while not collector.done():
                await arrived.wait()
                arrived.clear()
                save_arrived()
            await collector
        except asyncio.CancelledError:
            if not signals:
                raise
            save_arrived()
        finally:
            collector.cancel()
            await asyncio.gather(collector, return_exceptions=True)
    if not signals and received < len(waiting):
        raise RuntimeError(
            f"A respondent must answer every request; got {received} replies to {len(waiting)} requests."
        )
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


def _run(main: Any) -> Any:
    """`asyncio.run`, also from a notebook, whose own loop is running already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(main)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, main).result()


def _check_directory(run: Path) -> None:
    if run.exists() and not run.is_dir():
        raise ValueError(f"run must be a directory; got the file {run}. Pass another --run.")
    ours = {manifest_module.FILE_NAME, journal_module.FILE_NAME, journal_module.LOCK_NAME}
    if run.is_dir():
        names = {path.name for path in run.iterdir()}
        if names and not names & ours:
            raise ValueError(
                f"run must be a new directory or one of an earlier run; got {run}, which holds other files such as "
                f"{min(names)!r}. Pass another --run."
            )


def _check_journal_exists(run: Path, previous: dict[str, Any] | None) -> None:
    if previous is not None and not (run / journal_module.FILE_NAME).exists():
        raise _journal_gone(run)


def _check_journal_filled(journal: Journal, previous: dict[str, Any] | None) -> None:
    # A salvaged journal has no requests either, but has said so.
    if previous is not None and journal.requests_digest() is None and not journal.salvaged:
        raise _journal_gone(journal.path.parent)


def _journal_gone(run: Path) -> OSError:
    return OSError(
        f"A run with a manifest must have its journal; got none, or an empty one, at {run / journal_module.FILE_NAME}. "
        f"Restore it from a copy, or remove {run / manifest_module.FILE_NAME} to ask every question again."
    )
