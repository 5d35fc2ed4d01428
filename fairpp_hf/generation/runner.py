"""Asks every persona every question, as often as the run is to: what it has is kept, what it lacks is asked."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fairpp_hf.generation.asking import IN_BATCHES, Signals, ask, run_to_end, until_stopped
from fairpp_hf.generation.budget import (
    Budget,
    check_max_cost,
    is_paid_for,
    most_of_one,
    price_earlier,
)
from fairpp_hf.generation.estimate import RequestTokens, measured_tokens
from fairpp_hf.generation.options import DEFAULT_OPTIONS, RunOptions
from fairpp_hf.generation.plan import RequestPlan, check_respondent
from fairpp_hf.generation.queue import RequestQueue
from fairpp_hf.generation.setup import ServerWatch, set_up
from fairpp_hf.generation.summary import BudgetReached, CostBar, RunInterrupted, RunSummary
from fairpp_hf.personas import PersonaSet
from fairpp_hf.respondents.base import Reply, Respondent, RespondentStopped, tells_stories
from fairpp_hf.respondents.openai import OpenAIRespondent
from fairpp_hf.runs.batches import check_not_in_batches
from fairpp_hf.runs.journal import Journal
from fairpp_hf.runs.layout import (
    MANIFEST,
    SCENARIO_TABLE,
    STORIES,
    check_directory,
    check_journal_exists,
    home_of,
    lost_journal,
)
from fairpp_hf.runs.lock import RunLock
from fairpp_hf.runs.manifest import read_manifest
from fairpp_hf.runs.spending import dollars
from fairpp_hf.schema import STATUSES

logger = logging.getLogger(__name__)


def generate(
    run: str | Path,
    respondent: Respondent,
    personas: PersonaSet,
    questions: pa.Table,
    options: RunOptions = DEFAULT_OPTIONS,
) -> RunSummary:
    """Ask each persona each question and keep the replies in the run's directory.

    Called again, with the same arguments, it continues: final replies are kept, `failed` ones are asked again. With
    another model, portrait or question, what has changed is asked anew and the log says what differs; the replies to
    the earlier requests stay in the journal, for when they are asked for again, but are no part of the run's answers.
    The address of a server is no such change, since several may serve one model: the log then says that replies are kept.

    Ctrl-C or SIGTERM finishes the requests in flight and stops; a second one drops them. Batches go on at the provider, and
    the next call collects them.

    Args:
        run: Directory, new or of an earlier call.
        respondent: Whoever answers.
        personas: Persona set.
        questions: Rows of `load_questions`, or a table with its columns.
        options: How the questions are asked, and what that may cost.

    Returns:
        `RunSummary`.

    Raises:
        ValueError: Something about the arguments is wrong, the run has cost more than `max_cost`, or `run` is a part of
            another run's scenarios; nothing has been asked.
        RuntimeError: Another process is writing to the run.
        BudgetReached: The next request could go over `max_cost`. Replies are kept.
        RespondentStopped: The respondent cannot go on, because of a rejected key for instance. Replies are kept.
        RunInterrupted: The user stopped the run. Replies are kept.
        OSError: The journal cannot be written or read.
    """
    started = time.monotonic()
    run = Path(run)
    _check(run, respondent, options)
    plan = RequestPlan(personas, questions, samples=options.samples, swap=options.swap)
    run.mkdir(parents=True, exist_ok=True)
    with RunLock(run):
        previous = read_manifest(run)
        check_journal_exists(run, previous)
        with Journal(run, stories=tells_stories(respondent)) as journal:
            # A repaired journal has no requests either, but says that it was repaired.
            if previous is not None and journal.requests_digest() is None and not journal.repaired:
                raise lost_journal(run)
            keys = set_up(run, journal, plan, respondent, personas, options, previous)
            needs_tokens = options.batch is not None or options.max_cost is not None
            measured = measured_tokens(journal, plan, previous, respondent) if needs_tokens else None
            tokens = RequestTokens(plan, measured, stories=tells_stories(respondent))
            return _Call(journal, respondent, plan, keys, tokens, options, started).run()


def _check(run: Path, respondent: Respondent, options: RunOptions) -> None:
    """Check what can be checked before anything is written.

    Raises:
        ValueError: The arguments do not fit together, or the directory is no place for a run.
    """
    check_respondent(respondent)
    check_max_cost(options.max_cost, options.prices, respondent.name)
    if options.batch is not None and not isinstance(respondent, OpenAIRespondent):
        raise ValueError(f"batch must come with an openai respondent; got {respondent.name!r}. Leave it out.")
    if options.samples > 1 and respondent.settings.get("temperature") == 0:
        raise ValueError(
            f"samples above 1 must come with a temperature above 0; got {options.samples} samples at temperature 0, which "
            "are paid for one by one and all alike. Make the respondent with temperature=0.7, or leave out samples."
        )
    check_directory(run)
    if options.part_of_scenarios:
        return
    # An ordinary run in the place of scenarios would ask others than the stories, and what they cost would be lost.
    manifest = read_manifest(run)
    is_told = manifest is not None and manifest["respondent"]["settings"].get("kind") == "storyteller"
    if is_told or (run / SCENARIO_TABLE).exists() or (run / STORIES / MANIFEST).exists():
        raise ValueError(
            f"run must not be a part of scenarios; got {run}. To go on with them, continue the scenarios of {home_of(run)}; "
            "to ask the questions themselves, pass another run."
        )


class _Call:
    """A call of `generate`, with journal and manifest set up."""

    def __init__(
        self,
        journal: Journal,
        respondent: Respondent,
        plan: RequestPlan,
        keys: Sequence[str],
        tokens: RequestTokens,
        options: RunOptions,
        started: float,
    ) -> None:
        self._journal, self._respondent, self._plan, self._tokens = journal, respondent, plan, tokens
        self._options, self._started = options, started
        self._path = journal.path.parent
        shard = options.shard
        pending = np.array(journal.pending(), np.int64)
        mine = np.fromiter((shard is None or shard.has(key) for key in keys), bool, len(keys))
        self._total = int(mine.sum())
        self._of_other_shards = len(plan) - self._total - int((~mine[pending]).sum())
        positions: Any = pending[mine[pending]]  # a sequence of int
        if options.prices and journal.spending().unpriced:
            price_earlier(journal, options.prices)
        before = journal.spending()
        self._budget = self._new_budget(positions) if len(positions) else None
        if len(positions) and isinstance(respondent, OpenAIRespondent):
            check_not_in_batches(journal, by_batches=options.batch is not None)
        self._queue = RequestQueue(plan, positions, keys, self._budget)
        self._watch = ServerWatch(self._path, respondent, journal)
        self._came = bytearray(len(positions))  # 0 no reply yet, 1 one that failed, 2 a final one
        reused = self._total - len(positions)
        shown = before if options.prices else None
        self._bar = CostBar(respondent.name, self._total, reused, shown, options.progress)

    def run(self) -> RunSummary:
        """Ask what is pending; returns when all have a reply."""
        if not self._came:
            return self._summary()
        try:
            with self._bar:
                signal_number = run_to_end(self._ask)
            if signal_number is not None:
                raise RunInterrupted(self._summary(stopped=True), signal_number)
            if self._budget is not None and self._budget.reached:
                raise self._over_budget(self._budget)
        except BudgetReached:
            raise
        except RespondentStopped as error:
            done = self._total - len(self._came) + self._came.count(2)
            raise RespondentStopped(
                f"{error} {done:,} of {self._total:,} requests have a reply in {self._path}. "
                "The same command or call continues."
            ) from error
        finally:
            if self._budget is not None and self._budget.spent > self._budget.cap:
                logger.warning(
                    "The run %s has cost %s, above the %s that it may cost at most: what was in flight came dearer than "
                    "what came before it.",
                    self._path,
                    dollars(self._budget.spent),
                    dollars(self._budget.cap),
                )
        return self._summary()

    async def _ask(self, signals: Signals) -> int | None:
        """Returns the signal that stopped the run, or None."""
        limits = self._options.batch
        if limits is None:
            return await ask(self._respondent, self._queue, self._save, signals)
        from fairpp_hf.generation.batch import ask_in_batches

        assert isinstance(self._respondent, OpenAIRespondent)  # as checked before
        work = ask_in_batches(
            self._journal, self._respondent, self._queue, self._save, limits, self._tokens.of, self._bar.write
        )
        return await until_stopped(work, self._queue, signals, IN_BATCHES)

    def _save(self, replies: Sequence[tuple[int, Reply]]) -> None:
        prices = self._options.prices
        costs = [prices.cost_of(reply) if prices else None for _, reply in replies]
        self._journal.record([(self._queue.asked(index), reply) for index, reply in replies], costs)
        if self._options.batch is not None:
            self._queue.pay(reply for _, reply in replies)
        self._watch.compare(reply for _, reply in replies)
        # A request whose reply failed may be asked again, by another batch of the same call.
        new = sum(not self._came[index] for index, _ in replies)
        for index, reply in replies:
            self._came[index] = max(self._came[index], 1 if reply.status == "failed" else 2)
        unpriced = sum(cost is None and is_paid_for(reply) for (_, reply), cost in zip(replies, costs, strict=True))
        self._bar.add(new, costs, unpriced)

    def _new_budget(self, positions: Any) -> Budget | None:
        options, before = self._options, self._journal.spending()
        if options.max_cost is None or options.prices is None:
            return None
        by_batches = options.batch is not None
        spent = before.cost_usd + options.spent_elsewhere
        if spent > options.max_cost:
            raise ValueError(
                f"max_cost must be at least what the run has cost so far, {dollars(spent)}; got {dollars(options.max_cost)} "
                f"for {self._path}. It is for the whole run, earlier calls included. Raise max_cost."
            )
        if before.unpriced:
            logger.warning(
                "The %s earlier replies of %s whose price is unknown do not count for max_cost.",
                f"{before.unpriced:,}",
                self._path,
            )
        guess = options.prices.of_tokens(*most_of_one(self._tokens, positions, self._respondent), batch=by_batches)
        dearest = self._journal.dearest_usage()
        return Budget(options.max_cost, spent, guess, options.prices, batch=by_batches, dearest=dearest)

    def _over_budget(self, budget: Budget) -> RespondentStopped:
        if budget.without_usage is not None:
            return RespondentStopped(
                "max_cost must have a server that counts tokens; got a reply without usage, at unknown cost. "
                "Leave out max_cost, or use a server that counts."
            )
        summary = self._summary(stopped=True)
        unpriced = summary.spending.unpriced
        return BudgetReached(
            f"max_cost must have room for the next request; got {dollars(budget.spent)} spent of {dollars(budget.cap)} by "
            f"{self._path}, and {summary.remaining:,} requests are left."
            f"{f' {unpriced:,} replies of unknown price are not counted.' if unpriced else ''} Every reply is kept; raise "
            "max_cost to continue.",
            summary,
        )

    def _summary(self, *, stopped: bool = False) -> RunSummary:
        counts, none = self._journal.counts(), dict.fromkeys(STATUSES, 0)
        return RunSummary(
            asked=len(self._came) - self._came.count(0),
            reused=self._total - len(self._came),
            remaining=len(self._came) - self._came.count(2) if stopped else 0,
            personas={persona: {**none, **counts.get(persona, {})} for persona in self._plan.portraits},
            of_other_shards=self._of_other_shards,
            set_aside=self._journal.set_aside,
            spending=self._journal.spending(),
            seconds=time.monotonic() - self._started,
            path=self._path,
        )
