"""Sums over pairs between two logs, and what they say about weights, tiers and groups."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from fairpp_hf.training.completion_forward import CompletionTokens
from fairpp_hf.training.shared_prefix import PADDING

logger = logging.getLogger(__name__)

FALLING_LOGS = 5


class PairMetrics:
    """Running sums over the pairs since the last log, so that what is logged is exact over them all."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = defaultdict(float)
        self._by_label: dict[str, dict[int, list[float]]] = {"tier": {}, "group": {}}

    def add(
        self,
        *,
        weight: Tensor,
        loss: Tensor,
        chosen_reward: Tensor,
        rejected_reward: Tensor,
        tier: Tensor | None = None,
        group: Tensor | None = None,
    ) -> None:
        """Take in P pairs; each tensor is (P,), on the CPU."""
        weight, loss = weight.double(), loss.double()
        margin = (chosen_reward - rejected_reward).double()
        for name, values in {
            "pairs": torch.ones_like(weight),
            "weight": weight,
            "squared weight": weight**2,
            "weighted loss": weight * loss,
            "weighted accuracy": weight * (margin > 0),
            "weighted margin": weight * margin,
            "chosen reward": chosen_reward.double(),
        }.items():
            self._sums[name] += values.sum().item()
        self._sums["largest weight"] = max(self._sums["largest weight"], weight.max().item())
        for kind, labels in (("tier", tier), ("group", group)):
            if labels is None:
                continue
            for label in labels.unique().tolist():
                mine = labels == label
                entry = self._by_label[kind].setdefault(label, [0.0, 0.0])
                entry[0] += (weight[mine] * loss[mine]).sum().item()
                entry[1] += weight[mine].sum().item()

    @property
    def pairs(self) -> int:
        """Pairs since the last log."""
        return int(self._sums["pairs"])

    def loss(self, *, by_weight: bool) -> float:
        """Sum w l over all pairs, divided by sum w or by the number of pairs."""
        divisor = self._sums["weight"] if by_weight else self._sums["pairs"]
        return self._sums["weighted loss"] / divisor if divisor else 0.0

    def mean_chosen_reward(self) -> float:
        """Mean reward of the chosen completions."""
        return self._sums["chosen reward"] / self._sums["pairs"]

    def summary(self, group_names: Sequence[str] = ()) -> dict[str, float]:
        """The metrics by name."""
        sums = self._sums
        metrics = {"weights/mean": sums["weight"] / sums["pairs"], "weights/max": sums["largest weight"]}
        # A few pairs may all have weight 0; a ratio to the sum of their weights then has no value.
        if sums["weight"]:
            metrics["weights/effective_sample_size"] = sums["weight"] ** 2 / sums["squared weight"]
            metrics["rewards/weighted_accuracies"] = sums["weighted accuracy"] / sums["weight"]
            metrics["rewards/weighted_margins"] = sums["weighted margin"] / sums["weight"]
        for kind, entries in self._by_label.items():
            for label, (weighted_loss, weight) in sorted(entries.items()):
                if weight:
                    name = group_names[label] if kind == "group" else label
                    metrics[f"{kind}s/{name}/loss"] = weighted_loss / weight
        return metrics

    def clear(self) -> None:
        """Begin anew, after a log."""
        self._sums.clear()
        for entries in self._by_label.values():
            entries.clear()


class DisplacementWatch:
    """Warns once when the chosen completions keep losing probability.

    A preference loss only asks that the chosen completion gains on the rejected one; both may fall, and the probability go
    to completions that nobody chose (likelihood displacement: Razin et al. 2024, arXiv:2410.08847).
    """

    def __init__(self) -> None:
        self._last = 0.0
        self._falls = 0
        self._warned = False

    def see(self, chosen_reward: float, beta: float) -> None:
        """Take in the mean reward of the chosen completions since the last log."""
        fell = chosen_reward < self._last and chosen_reward < 0
        self._falls = self._falls + 1 if fell else 0
        self._last = chosen_reward
        if self._falls >= FALLING_LOGS and not self._warned:
            self._warned = True
            logger.warning(
                "Likelihood displacement: the log-probability of the chosen completions fell in %d logs in a row, and is "
                "now %.2f below the reference. The model moves away from both completions of a pair. A larger beta, a lower "
                "learning rate, or adding 'sft' to loss_type counters it.",
                self._falls,
                -chosen_reward / beta,
            )


def token_sums(batch: dict[str, Tensor], policy: CompletionTokens) -> Tensor:
    """This process's token counts and per-token sums, (9,), in the order in which the trainer names them.

    A completion counts as often as pairs have it, as in TRL, where each pair has its own copy.
    """
    sides = [batch["chosen"], batch["rejected"]]
    both = torch.cat(sides)
    length = batch["completion_mask"].sum(dim=1)
    entropy, logits, top1 = (
        cast(Tensor, values).sum(dim=1) for values in (policy.entropy, policy.mean_logits, policy.is_top1)
    )
    sums = [
        batch["sequence_length"][both].sum(),
        (batch["segment"] != PADDING).sum(),
        length[both].sum(),
        *(length[side].sum() for side in sides),
        entropy[both].sum(),
        *(logits[side].sum() for side in sides),
        top1[batch["chosen"]].sum(),
    ]
    return torch.stack([value.detach().double() for value in sums])
