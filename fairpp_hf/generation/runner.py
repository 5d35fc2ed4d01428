"""Asks every persona every question, as often as the run is to: what it has is kept, what it lacks is asked."""

import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from fairpp_hf.generation.asking import ask, ask_in_batches, run_to_end
from fairpp_hf.generation.budget import (
    Budget,
    BudgetReached,
    check_max_cost,
    check_spent,
    is_paid_for,
    most_of_one,
    over_budget,
    price_earlier,
    warn_if_over,
)
from fairpp_hf.generation.estimate import RequestTokens, measured_tokens
from fairpp_hf.generation.journal import Journal
from fairpp_hf.generation.manifest import FILE_NAME as MANIFEST
from fairpp_hf.generation.manifest import read_manifest
from fairpp_hf.generation.plan import Keys, RequestPlan, check_respondent
from fairpp_hf.generation.prices import Prices
from fairpp_hf.generation.progress import CostBar
from fairpp_hf.generation.run_folder import SCENARIO_TABLE, STORIES, home_of
from fairpp_hf.generation.run_lock import RunLock
from fairpp_hf.generation.setup import (
    ServedModel,
    SettledWays,
    check_directory,
    check_journal_exists,
    check_journal_filled,
    set_up,
)
from fairpp_hf.generation.shards import Shard
from fairpp_hf.generation.summary import (
    RunInterrupted,
    RunSummary,
    known_cost,
    status_counts,
    status_counts_by_group,
    totals,
)
from fairpp_hf.generation.waiting import Waiting, WaitingKeys
from fairpp_hf.personas import PersonaSet
from fairpp_hf.respondents.base import Reply, Respondent, RespondentStopped
from fairpp_hf.respondents.openai import OpenAIRespondent

if TYPE_CHECKING:
    from fairpp_hf.generation.batch import BatchLimits

logger = logging.getLogger(__name__)

__all__ = ["BudgetReached", "RunInterrupted", "RunSummary", "generate"]


def generate(
    run: str | Path,
    respondent: Respondent,
    personas: PersonaSet,
    questions: pa.Table,
    *,
    selection: Mapping[str, Any] | None = None,
    samples: int = 1,
    swap: bool = False,
    shard: Shard | None = None,
    prices: Prices | None = None,
    max_cost: float | None = None,
    batch: "BatchLimits | None" = None,
    stories: bool = False,
    part_of_scenarios: bool = False,
    progress: bool = True,
) -> RunSummary:
    """Ask each persona each question and keep the replies in the run's directory.

    Called again, with the same arguments, it continues: final replies are kept, `failed` ones are asked again. With
    another model, portrait or question, what has changed is asked anew and the log says what differs; the replies to
    the earlier requests stay in the journal, for when they are asked for again, but are no part of the run's answers.
    The address of a server is no such change, since several may serve one model: the log then says that replies are kept.

    Ctrl-C or SIGTERM finishes the requests in flight and stops; a second one drops them. Batches go on at the provider, and
    the next call collects them.

    Args:
        run: a directory, new or of an earlier call.
        respondent: whoever answers.
        personas: a persona set.
        questions: rows of `load_questions`, or a table with its columns.
        selection: how the questions were chosen, for the manifest, such as `{"split": "test", "limit": 100}`.
        samples: how often the same is asked; at least 1.
        swap: whether each question is also asked with the options of its two poles in each other's place.
        shard: the part of the requests that is asked here, where several machines share them; None for all.
        prices: of the model, of `load_prices`. Each reply's cost is kept with it; None where it is unknown.
        max_cost: USD, above 0, that all replies of the run may cost together, those of earlier calls included. It holds to
            within what is in flight, and a log line says by how much it was exceeded. What a request cost that failed, such
            as by a time-out, no client can know: it is not counted.
        batch: ask by the OpenAI Batch API, within these limits.
        stories: whether the respondent tells stories, whose `ok` replies have no answer.
        part_of_scenarios: whether the run is a part of a run's scenarios, which `fairpp scenarios` alone may ask.
        progress: whether to show a progress bar.

    Returns:
        `RunSummary`.

    Raises:
        ValueError: something about the arguments is wrong, the run has cost more than `max_cost`, or `run` is a part of
            another run's scenarios; nothing has been asked.
        RuntimeError: another process is writing to the run.
        BudgetReached: the next request could go over `max_cost`. Replies are kept.
        RespondentStopped: the respondent cannot go on, because of a rejected key for instance. Replies are kept.
        RunInterrupted: the user stopped the run. Replies are kept.
        OSError: the journal cannot be written or read.
    """
    started = time.monotonic()
    run = Path(run)
    check_respondent(respondent)
    check_max_cost(max_cost, prices, respondent.name)
    if batch is not None and not isinstance(respondent, OpenAIRespondent):
        raise ValueError(f"batch must come with an openai respondent; got {respondent.name!r}. Leave it out.")
    _check_samples(samples, respondent)
    plan = RequestPlan(personas, questions, samples=samples, swap=swap)
    check_directory(run)
    if not part_of_scenarios:
        _check_no_scenarios(run)
    run.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        stack.enter_context(RunLock(run))
        previous = read_manifest(run)
        check_journal_exists(run, previous)
        journal = stack.enter_context(Journal(run, stories=stories))
        check_journal_filled(journal, previous)
        keys, run_key = set_up(run, journal, plan, respondent, personas, selection or {}, shard, previous)
        pending = np.array(journal.pending(), np.int64)
        mine = _of_shard(shard, keys)
        positions: Any = pending[mine[pending]]  # a sequence of int
        total = int(mine.sum())
        needs_tokens = batch is not None or max_cost is not None
        measured = measured_tokens(journal, plan, previous, respondent) if needs_tokens else None
        tokens = RequestTokens(plan, measured, stories=stories)
        if prices and journal.spending().unpriced:
            price_earlier(journal, prices)
        before = journal.spending()
        budget = None
        if max_cost is not None and prices and len(positions):
            check_spent(max_cost, before.cost_usd, run)
            guess = prices.of_tokens(*most_of_one(tokens, positions, respondent), batch=batch is not None)
            dearest = journal.dearest_usage()
            budget = Budget(max_cost, before.cost_usd, guess, prices, batch=batch is not None, dearest=dearest)
            if before.unpriced:
                logger.warning(
                    "The %s earlier replies of %s whose price is unknown do not count for max_cost.",
                    f"{before.unpriced:,}",
                    run,
                )
        if len(positions) and isinstance(respondent, OpenAIRespondent):
            from fairpp_hf.generation.batch.ledger import check_not_in_batches

            check_not_in_batches(run, by_batches=batch is not None)
        waiting = Waiting(plan, positions, budget)
        waiting_keys = WaitingKeys(plan, positions, keys)
        served = ServedModel(run, journal.served_model())
        settled = SettledWays(run, respondent, journal)
        came = bytearray(len(positions))  # 0 no reply yet, 1 one that failed, 2 a final one
        bar = CostBar(respondent.name, total, total - len(positions), before if prices else None, progress)

        def save(replies: Sequence[tuple[int, Reply]]) -> None:
            costs = [prices.cost_of(reply) if prices else None for _, reply in replies]
            journal.record([(waiting_keys[index], reply) for index, reply in replies], costs)
            if batch is not None:
                waiting.pay(reply for _, reply in replies)
            served.compare(reply for _, reply in replies)
            settled.compare()
            # A request whose reply failed may be asked again, by another batch of the same call.
            new = sum(not came[index] for index, _ in replies)
            for index, reply in replies:
                came[index] = max(came[index], 1 if reply.status == "failed" else 2)
            unpriced = sum(cost is None and is_paid_for(reply) for (_, reply), cost in zip(replies, costs, strict=True))
            bar.add(new, costs, unpriced)

        def summary(stopped: bool = True) -> RunSummary:
            counts = status_counts(journal, list(plan.portraits))
            in_all = totals(counts)
            is_all_ok = sum(in_all.values()) == in_all["ok"]
            spending = journal.spending()
            return RunSummary(
                asked=len(came) - came.count(0),
                reused=total - len(positions),
                remaining=len(came) - came.count(2) if stopped else 0,
                counts=in_all,
                personas=counts,
                groups={} if is_all_ok else status_counts_by_group(journal, plan.questions),
                of_other_shards=len(plan) - total - int((~mine[pending]).sum()),
                set_aside=journal.set_aside,
                cost_usd=known_cost(spending),
                unpriced=spending.unpriced,
                input_tokens=spending.input_tokens,
                output_tokens=spending.output_tokens,
                seconds=time.monotonic() - started,
                path=run,
                clamped=spending.clamped,
            )

        try:
            if len(positions):
                with bar:
                    if batch is None:
                        signal_number = run_to_end(lambda signals: ask(respondent, waiting, save, signals))
                    else:
                        from fairpp_hf.generation.batch import ask_in_batches as submit

                        assert isinstance(respondent, OpenAIRespondent)  # as checked above
                        work = submit(
                            journal,
                            respondent,
                            waiting,
                            waiting_keys,
                            save,
                            run_key=run_key,
                            limits=batch,
                            tokens_of=tokens.of,
                            stopped=lambda: waiting.stopped,
                            affordable=lambda chunk: len(chunk) if budget is None else budget.fitting(len(chunk)),
                            tell=bar.write,
                        )
                        signal_number = run_to_end(lambda signals: ask_in_batches(work, waiting, signals))
                if signal_number is not None:
                    raise RunInterrupted(summary(), signal_number)
                if budget is not None and budget.reached:
                    raise over_budget(budget, summary())
        except BudgetReached:
            raise
        except RespondentStopped as error:
            done = total - len(came) + came.count(2)
            raise RespondentStopped(f"{error} {done:,} of {total:,} requests have a reply in {run}.") from error
        finally:
            if budget is not None:
                warn_if_over(budget, run)
        return summary(stopped=False)


def _check_samples(samples: int, respondent: Respondent) -> None:
    if samples > 1 and respondent.settings.get("temperature") == 0:
        raise ValueError(
            f"samples above 1 must come with a temperature above 0; got {samples} samples at temperature 0, which are paid "
            "for one by one and all alike. Make the respondent with temperature=0.7, or leave out samples."
        )


def _check_no_scenarios(run: Path) -> None:
    """An ordinary run in the place of scenarios would ask others than the stories, and what they cost would be lost."""
    manifest = read_manifest(run)
    is_told = manifest is not None and manifest["respondent"]["settings"].get("kind") == "storyteller"
    if is_told or (run / SCENARIO_TABLE).exists() or (run / STORIES / MANIFEST).exists():
        raise ValueError(
            f"run must not be a part of scenarios; got {run}. To go on with them, run "
            f"`fairpp scenarios --run {home_of(run)}`; to ask the questions themselves, pass another --run."
        )


def _of_shard(shard: Shard | None, keys: Keys) -> Any:
    """Which requests belong to a shard, bool (n,)."""
    if shard is None:
        return np.ones(len(keys), bool)
    return np.fromiter((shard.has(key) for key in keys), bool, len(keys))
