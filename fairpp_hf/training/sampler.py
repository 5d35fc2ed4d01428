"""In which order pairs are trained on: those of a prompt together, and in proportion to weights where asked."""

from collections.abc import Iterator
from typing import cast

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler


class PairSampler(Sampler[int]):
    """Prompts in random order, the pairs of each one after the other, also in random order; each pair once, or by weight.

    With weights, an epoch holds a pair N w_i / sum(w) times on average, rounded up or down by systematic resampling: one
    running sum of what is expected, in random order, with a random start, that takes in a pair whenever it passes a whole
    number. So an epoch has N rows and no pair is favoured. Where all prompts have as many pairs as each other and those of
    a prompt weigh the same, as in Fair-PP, whole prompts are taken in, else single pairs. A pair's copies within an epoch
    stand at unrelated places. Equal weights give each pair once.

    The order depends on seed and epoch alone, so that every process draws the same, and a resumed run goes on with it.

    Args:
        groups: Number of each pair's prompt, (N,).
        seed: Seed of the order.
        weights: (N,), at least 0 and not all 0; None for each pair once.
    """

    def __init__(self, groups: NDArray[np.int64], seed: int, weights: NDArray[np.float64] | None = None) -> None:
        self.groups = groups
        self.seed = seed
        self.epoch = 0
        self.expected = None if weights is None else len(groups) * weights / weights.sum()
        pairs_of_prompt = np.bincount(groups)
        self._by_prompt = bool((pairs_of_prompt == pairs_of_prompt[0]).all())
        if weights is not None and self._by_prompt:
            first = np.zeros(len(pairs_of_prompt), dtype=np.int64)
            first[groups[::-1]] = np.arange(len(groups))[::-1]
            self._by_prompt = bool((weights == weights[first[groups]]).all())

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration is for; called by Accelerate and by the trainer."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.groups)

    def __iter__(self) -> Iterator[int]:
        yield from self.order(self.epoch).tolist()

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Row numbers of an epoch, (N,)."""
        rng = np.random.default_rng((self.seed, epoch))
        times = np.ones(len(self), dtype=np.int64) if self.expected is None else self._times(rng)
        rows = np.repeat(np.arange(len(self)), times)
        # The first copies of a prompt's pairs make one visit to it, the second ones another.
        copy = np.arange(len(rows)) - np.repeat(np.cumsum(times) - times, times)
        _, visit = np.unique(copy * len(self) + self.groups[rows], return_inverse=True)
        when = rng.permutation(visit.max() + 1)
        return rows[np.lexsort((rng.permutation(len(rows)), when[visit]))]

    def _times(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """How often each pair is in an epoch, (N,), sum N."""
        expected = cast(NDArray[np.float64], self.expected)
        place = rng.permutation(int(self.groups.max()) + 1)
        if self._by_prompt:
            of_prompt = np.bincount(self.groups, weights=expected) / np.bincount(self.groups)
            return _systematic(of_prompt, np.argsort(place), rng.random())[self.groups]
        return _systematic(expected, np.argsort(place[self.groups], kind="stable"), rng.random())


def _systematic(expected: NDArray[np.float64], order: NDArray[np.int64], start: float) -> NDArray[np.int64]:
    """Whole numbers that average what is expected, over `start` uniform in [0, 1), and whose sum is that of `expected`."""
    ends = np.concatenate([[0.0], np.cumsum(expected[order])])
    ends[-1] = round(ends[-1])  # a whole number but for rounding
    times = np.empty(len(expected), dtype=np.int64)
    times[order] = np.diff(np.floor(ends + start)).astype(np.int64)
    return times


class InOrder(Sampler[int]):
    """A fixed order, for evaluation."""

    def __init__(self, order: NDArray[np.int64]) -> None:
        self._order = order

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[int]:
        yield from self._order.tolist()


def cut_prompts(sampler: PairSampler, batch_size: int) -> float:
    """Share of the visits to prompts that batches of a size cut in two, which computes those prompts twice."""
    visited = sampler.groups[sampler.order(0)]
    changes = np.flatnonzero(visited[1:] != visited[:-1]) + 1
    borders = np.arange(batch_size, len(visited), batch_size)
    return float((~np.isin(borders, changes)).sum() / (len(changes) + 1))
