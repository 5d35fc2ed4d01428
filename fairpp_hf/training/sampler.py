"""In which order pairs are trained on: those of a prompt together, and in proportion to weights where asked."""

from collections.abc import Iterator

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from torch.utils.data import Sampler

from fairpp_hf.training.pair_columns import column_of
from fairpp_hf.training.token_hash import token_hashes


def prompt_groups(dataset: Dataset, column: str = "prompt_ids") -> NDArray[np.int64]:
    """Number of each row's prompt among the different prompts of a dataset in the order of their first rows, (n,)."""
    _, first, group = np.unique(token_hashes(column_of(dataset, column)), return_index=True, return_inverse=True)
    number = np.empty(len(first), dtype=np.int64)
    number[np.argsort(first)] = np.arange(len(first))
    return number[group.reshape(-1)]


class PairSampler(Sampler[int]):
    """Prompts in random order, the pairs of each one after the other; each pair once an epoch, or by weight.

    With weights, an epoch holds a pair as often as its share of them: N w_i / sum(w) times on average, rounded up or down
    by systematic resampling, alike for the pairs of a prompt. A pair's copies within an epoch stand at unrelated places.
    Equal weights give each pair once. The average is exact where all prompts have as many pairs as each other and a
    prompt's pairs weigh the same, as in Fair-PP, and within some 1 / N of it otherwise.

    The order depends on seed and epoch alone, so that every process draws the same, and a resumed run goes on with it.

    Args:
        groups: number of each pair's prompt, (N,).
        seed: of the order.
        weights: (N,), at least 0 and not all 0; None for each pair once.
    """

    def __init__(self, groups: NDArray[np.int64], seed: int, weights: NDArray[np.float64] | None = None) -> None:
        self.groups = groups
        self.seed = seed
        self.epoch = 0
        self.expected = None if weights is None else len(groups) * weights / weights.sum()

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
        order = np.empty(0, dtype=np.int64)
        while len(order) < len(self):
            sweep = self._sweep(rng)
            # Prompts with unequal numbers of pairs can make a sweep a few rows longer or shorter than N. Which rows are
            # left out, or taken from another sweep, is drawn at random, so that no pair is favoured.
            missing = len(self) - len(order)
            if len(sweep) > missing:
                sweep = sweep[np.sort(rng.choice(len(sweep), missing, replace=False))]
            order = np.concatenate([order, sweep])
        return order

    def _sweep(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Every row once, or some N w_i / sum(w) times; the rows of a visit to a prompt together."""
        if self.expected is None:
            rows, visit = np.arange(len(self)), self.groups
        else:
            times = np.floor(self.expected + self._roundings(rng)[self.groups]).astype(np.int64)
            rows = np.repeat(np.arange(len(self)), times)
            # The first copies of a prompt's pairs make one visit to it, the second ones another.
            copy = np.arange(len(rows)) - np.repeat(np.cumsum(times) - times, times)
            _, visit = np.unique(copy * len(self) + self.groups[rows], return_inverse=True)
        when = rng.permutation(visit.max() + 1)
        return rows[np.lexsort((rows, when[visit]))]

    def _roundings(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """For each prompt a number in [0, 1), uniform by itself, that is added before rounding down.

        In random order, each is the fractional part of a common start and of what was expected of the prompts before: what
        one rounds down is made up for by the next, and with equal numbers of pairs a sweep has N rows exactly.
        """
        mean = np.bincount(self.groups, weights=self.expected) / np.bincount(self.groups)
        shuffled = rng.permutation(len(mean))
        before = np.cumsum(mean[shuffled]) - mean[shuffled]
        roundings = np.empty_like(mean)
        roundings[shuffled] = (before + rng.random()) % 1.0
        return roundings


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
