"""Batches of weighted preference pairs: in which order pairs come, and how a batch of them is laid out.

Pairs of a prompt come one after the other, and in proportion to weights where asked. A batch holds each prompt once, each
completion once, and pairs as references to completions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Sampler
from trl.trainer.dpo_trainer import DataCollatorForPreference

from fairpp_hf.scoring.shared_prefix import Completion, lay_out
from fairpp_hf.training.columns import GROUP_NUMBER, LABEL_PROBABILITY, TIER, WEIGHT

PAIR_COLUMNS = (WEIGHT, LABEL_PROBABILITY, TIER, GROUP_NUMBER, "ref_chosen_logps", "ref_rejected_logps")
"""Columns of one number a pair that a batch carries where the examples have them."""


@dataclass
class DataCollatorForWeightedPreference(DataCollatorForPreference):
    """Collates preference pairs for `ReweightedDPOTrainer`.

    Takes what TRL's collator takes (`prompt_ids`, `chosen_ids`, `rejected_ids`; truncation as there), and `weight`. The
    pairs of a question have completions in common and a prompt: a batch holds each distinct completion once, in the rows
    of `shared_prefix.lay_out`, and says for each of its P pairs which are the chosen and the rejected one.

    Args:
        share_prefix: Whether a row holds a prompt with all its completions; otherwise each completion has a row.
        keep_last: Whether rows hold a completion's last token, which predicts nothing; a mixture of experts balances it.

    Example:
        >>> collator = DataCollatorForWeightedPreference(pad_token_id=0)
        >>> batch = collator([
        ...     {"prompt_ids": [1, 2], "chosen_ids": [3], "rejected_ids": [4, 5], "weight": 0.5},
        ...     {"prompt_ids": [1, 2], "chosen_ids": [3], "rejected_ids": [6], "weight": 1.5},
        ... ])
        >>> batch["input_ids"].tolist()  # prompt, then the last prompt token with each completion but its last token
        [[1, 2, 2, 4, 2]]
        >>> batch["chosen"].tolist(), batch["rejected"].tolist(), batch["weight"].tolist()
        ([0, 0], [1, 2], [0.5, 1.5])
    """

    share_prefix: bool = True
    keep_last: bool = False

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """A batch of P pairs: the tensors of `lay_out`, `chosen` and `rejected` (P,), and `PAIR_COLUMNS`, each (P,)."""
        sides: dict[str, list[Completion]] = {
            side: [self._truncated(example["prompt_ids"], example[f"{side}_ids"]) for example in examples]
            for side in ("chosen", "rejected")
        }
        # In the order of their tokens, so that a row is the same in whatever order its pairs come.
        numbers = {
            completion: number for number, completion in enumerate(sorted({*sides["chosen"], *sides["rejected"]}))
        }
        batch: dict[str, Tensor] = lay_out(
            list(numbers),
            share_prefix=self.share_prefix,
            pad_token_id=self.pad_token_id,
            pad_to_multiple_of=self.pad_to_multiple_of,
            keep_last=self.keep_last,
        )
        for side, of_pairs in sides.items():
            batch[side] = torch.tensor([numbers[completion] for completion in of_pairs])
        for name in PAIR_COLUMNS:
            if name in examples[0]:
                whole = name in (TIER, GROUP_NUMBER)
                values = [example[name] for example in examples]
                batch[name] = torch.tensor(values, dtype=torch.long if whole else torch.float32)
        return batch

    def _truncated(self, prompt: Sequence[int], completion: Sequence[int]) -> Completion:
        """What TRL's truncation of the whole sequence leaves of its two parts."""
        excess = 0 if self.max_length is None else max(0, len(prompt) + len(completion) - self.max_length)
        if not excess:
            return Completion(tuple(prompt), tuple(completion))
        if self.truncation_mode == "keep_end":
            return Completion(tuple(prompt[excess:]), tuple(completion[max(0, excess - len(prompt)) :]))
        rest = len(completion) - excess
        return Completion(tuple(prompt[: len(prompt) + min(0, rest)]), tuple(completion[: max(0, rest)]))


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


def cut_prompts(sampler: PairSampler, batch_size: int) -> float:
    """Share of the visits to prompts that batches of a size cut in two, which computes those prompts twice."""
    visited = sampler.groups[sampler.order(0)]
    changes = np.flatnonzero(visited[1:] != visited[:-1]) + 1
    borders = np.arange(batch_size, len(visited), batch_size)
    return float((~np.isin(borders, changes)).sum() / (len(changes) + 1))
