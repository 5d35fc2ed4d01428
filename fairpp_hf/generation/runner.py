"""Asks every persona every question, once: what a run has is kept, what it lacks is asked."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from fairpp_hf.generation.asking import ask, ask_in_batches, run_to_end
from fairpp_hf.generation.budget import Budget, BudgetReached, check_max_cost, check_spent, over_budget
from fairpp_hf.generation.estimate import RequestTokens, measured_tokens
from fairpp_hf.generation.journal import Journal
from fairpp_hf.generation.manifest import read_manifest
from fairpp_hf.generation.plan import Keys, RequestPlan, check_respondent
from fairpp_hf.generation.prices import Prices
from fairpp_hf.generation.progress import CostBar
from fairpp_hf.generation.run_lock import RunLock
from fairpp_hf.generation.setup import (
    ServedModel,
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
            within what is in flight. What a request cost that failed, such as by a time-out, no client can know: it is not
            counted.
        batch: ask by the OpenAI Batch API, within these limits.
        stories: whether the respondent tells stories, whose `ok` replies have no answer.
        progress: whether to show a progress bar.

    Returns:
        `RunSummary`.

    Raises:
        ValueError: something about the arguments is wrong, or the run has cost more than `max_cost`; nothing has been asked.
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
    plan = RequestPlan(personas, questions, samples=samples, swap=swap)
    check_directory(run)
    previous = read_manifest(run)
    check_journal_exists(run, previous)
    run.mkdir(parents=True, exist_ok=True)
    with RunLock(run), Journal(run, stories=stories) as journal:
        check_journal_filled(journal, previous)
        keys, run_key = set_up(run, journal, plan, respondent, personas, selection or {}, shard, previous)
        pending = np.array(journal.pending(), np.int64)
        mine = _of_shard(shard, keys)
        positions: Any = pending[mine[pending]]  # a sequence of int
        total = int(mine.sum())
        needs_tokens = batch is not None or prices is not None
        tokens = RequestTokens(plan, measured_tokens(run, plan, previous, respondent) if needs_tokens else None)
        budget = None
        spent = journal.spending().cost_usd if prices else None
        if max_cost is not None and prices and spent is not None and len(positions):
            check_spent(max_cost, spent, run)
            asked_tokens, written_tokens = (float(part.max()) for part in tokens.at(positions))
            guess = prices.of_tokens(asked_tokens, written_tokens, batch=batch is not None)
            budget = Budget(max_cost, spent, guess, prices, batch=batch is not None)
        if batch is None and len(positions) and isinstance(respondent, OpenAIRespondent):
            _check_no_batches(run)
        waiting = Waiting(plan, positions, budget)
        waiting_keys = WaitingKeys(plan, positions, keys)
        served = ServedModel(run, journal.served_model())
        asked, has_reply = 0, bytearray(len(positions))
        bar = CostBar(respondent.name, total, total - len(positions), spent, progress)

        def save(replies: Sequence[tuple[int, Reply]]) -> None:
            nonlocal asked
            costs = [prices.cost_of(reply) if prices else None for _, reply in replies]
            journal.record([(waiting_keys[index], reply) for index, reply in replies], costs)
            if batch is not None:
                waiting.pay(reply for _, reply in replies)
            served.compare(reply for _, reply in replies)
            # A request whose reply failed may be asked again, by another batch of the same call.
            new = sum(not has_reply[index] for index, _ in replies)
            for index, _ in replies:
                has_reply[index] = True
            bar.add(new, costs)
            asked += new

        def summary() -> RunSummary:
            counts = status_counts(journal, list(plan.portraits))
            in_all = totals(counts)
            is_all_ok = sum(in_all.values()) == in_all["ok"]
            spending = journal.spending()
            return RunSummary(
                asked=asked,
                reused=total - len(positions),
                remaining=len(positions) - asked,
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
            )

        try:
            if len(positions):
                with bar:
                    if batch is None:
                        signal_number = run_to_end(ask(respondent, waiting, save))
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
                        signal_number = run_to_end(ask_in_batches(work, waiting))
                if signal_number is not None:
                    raise RunInterrupted(summary(), signal_number)
                if budget is not None and asked < len(positions):
                    raise over_budget(budget, summary())
        except BudgetReached:
            raise
        except RespondentStopped as error:
            done = total - len(positions) + asked
            raise RespondentStopped(f"{error} {done:,} of {total:,} requests have a reply in {run}.") from error
        return summary()


def _check_no_batches(run: Path) -> None:
    """What is in batches is bought already: asking it here would buy it twice."""
    from fairpp_hf.generation.batch import unfinished_batches

    batches, requests = unfinished_batches(run)
    if requests:
        raise ValueError(
            f"A run with batches at the provider must go on by batches; got {requests:,} requests in {batches:,} "
            f"unfinished batches of {run}. Their answers are bought already. Collect them first: the same command with "
            "--batch, or batch=BatchLimits()."
        )


def _of_shard(shard: Shard | None, keys: Keys) -> Any:
    """Which requests belong to a shard, bool (n,)."""
    if shard is None:
        return np.ones(len(keys), bool)
    return np.fromiter((shard.has(key) for key in keys), bool, len(keys))
