"""What a call of `generate` has done, in figures and as short tables, and the errors that carry it."""

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tqdm.auto import tqdm

from fairpp_hf.respondents.base import RespondentStopped
from fairpp_hf.runs.spending import Spending, dollars
from fairpp_hf.schema import STATUSES
from fairpp_hf.text_table import in_columns


class RunSummary(NamedTuple):
    """What a run has, after `generate`."""

    asked: int
    """Requests answered now."""
    reused: int
    """Requests that had a final reply before, those of the shard where there is one."""
    remaining: int
    """Requests still to be asked, those of the shard where there is one; above 0 only where the run was stopped."""
    personas: dict[str, dict[str, int]]
    """Persona to status to number of replies, every status of `STATUSES`."""
    of_other_shards: int
    """Replies that belong to requests of other shards."""
    set_aside: int
    """Damaged records that were asked again."""
    spending: Spending
    """What every reply has cost that the run has ever had."""
    seconds: float
    path: Path

    @property
    def counts(self) -> dict[str, int]:
        """Status to number of replies, every status of `STATUSES`."""
        return {status: sum(counts[status] for counts in self.personas.values()) for status in STATUSES}

    @property
    def cost_usd(self) -> float | None:
        """What every reply cost that the run has ever had; None where the price of none is known."""
        return self.spending.known_cost

    def table(self) -> str:
        """A short text table: a row a persona, a column a status that occurs; a last line has the cost."""
        counts = self.counts
        shown = [status for status in STATUSES if status == "ok" or counts[status]]
        rows = [["persona", *shown]]
        for persona, row in [*self.personas.items(), ("all", counts)]:
            rows.append([persona, *(f"{row[status]:,}" for status in shown)])
        parts = [in_columns(rows)]
        if self.of_other_shards:
            parts.append(f"{self.of_other_shards:,} of these replies are to requests of other shards.")
        if spent := self.spending.words():
            parts.append(f"Spent: {spent}")
        return "\n".join(parts)


class BudgetReached(RespondentStopped):
    """The next request could cost more than is left under `max_cost`; every reply that came is kept. Has `summary`."""

    def __init__(self, message: str, summary: RunSummary) -> None:
        super().__init__(message)
        self.summary = summary


class RunInterrupted(KeyboardInterrupt):
    """The user stopped the run (Ctrl-C or SIGTERM); every reply that came is kept. Has `summary` and `signal_number`."""

    def __init__(self, summary: RunSummary, signal_number: int) -> None:
        super().__init__(
            f"stopped with {summary.remaining:,} requests left; the replies are kept in {summary.path}, and the same "
            "command or call continues"
        )
        self.summary = summary
        self.signal_number = signal_number


class CostBar:
    """A progress bar; with prices, it also shows the cost so far and what the run will have cost at its end.

    The replies to come are taken to cost what those of this call did on average. Of `total` requests, `initial` have a
    reply already; `before` is what the run has cost, None where prices are unknown.
    """

    def __init__(self, name: str, total: int, initial: int, before: Spending | None, progress: bool) -> None:
        self._bar = tqdm(total=total, initial=initial, unit="answer", desc=name, disable=not progress)
        self._left = total - initial
        self._before = before
        self._paid, self._count, self._unpriced = 0.0, 0, 0

    def __enter__(self) -> None:
        self._bar.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._bar.__exit__(*error)

    def add(self, requests: int, costs: Sequence[float | None], unpriced: int = 0) -> None:
        """Count replies to so many more requests, each of a cost in USD or None; `unpriced` of them were paid for."""
        self._count += requests
        self._unpriced += unpriced
        self._paid += math.fsum(cost for cost in costs if cost is not None)
        if self._before is not None:
            self._bar.set_postfix_str(self.cost(), refresh=False)
        self._bar.update(requests)

    def write(self, line: str) -> None:
        """Write a line above the bar; nothing where no bar is shown."""
        if not self._bar.disable:
            tqdm.write(line, file=sys.stderr)

    def cost(self) -> str:
        """The cost so far and at the end; empty before the first reply."""
        if self._before is None or not self._count:
            return ""
        spent = self._before.cost_usd + self._paid
        projected = spent + self._paid / self._count * (self._left - self._count)
        unpriced = self._before.unpriced + self._unpriced
        if unpriced and not spent:
            return "unknown cost"
        return f"{dollars(spent)} of about {dollars(projected)}" + (f", {unpriced:,} unpriced" if unpriced else "")
