"""The progress bar of a run: rate and time left, and what it costs where prices are known."""

import math
import sys
from collections.abc import Sequence
from typing import Any

from tqdm.auto import tqdm

from fairpp_hf.generation.journal import Spending
from fairpp_hf.generation.summary import dollars


class CostBar:
    """A progress bar; with prices, it also shows the cost so far and what the run will have cost at its end.

    The replies to come are taken to cost what those of this call did on average.

    Args:
        name: shown in front.
        total: requests.
        initial: of these, how many have a reply already.
        before: what the run has cost before; None where prices are unknown.
        progress: whether to show the bar.
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
        """Some more requests have a reply; the replies that came had these costs, unknown for `unpriced` that were paid."""
        self._count += requests
        self._unpriced += unpriced
        self._paid += math.fsum(cost for cost in costs if cost is not None)
        if self._before is not None:
            self._bar.set_postfix_str(self.cost(), refresh=False)
        self._bar.update(requests)

    def write(self, line: str) -> None:
        """A line above the bar; nothing without one."""
        if not self._bar.disable:
            tqdm.write(line, file=sys.stderr)

    def cost(self) -> str:
        """The cost so far and at the end; no such thing without a reply."""
        if self._before is None or not self._count:
            return ""
        spent = self._before.cost_usd + self._paid
        projected = spent + self._paid / self._count * (self._left - self._count)
        unpriced = self._before.unpriced + self._unpriced
        if unpriced and not spent:
            return "unknown cost"
        return f"{dollars(spent)} of about {dollars(projected)}" + (f", {unpriced:,} unpriced" if unpriced else "")
