"""Sums over rows between two logs, and what they say about weights, tiers and groups."""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor

from fairpp_hf.training.columns import GROUP_NUMBER, TIER
from fairpp_hf.training.completion_forward import CompletionTokens
from fairpp_hf.training.losses import PairLogps

logger = logging.getLogger(__name__)

FALLING_LOGS = 5


class WeightedSums:
    """Running sums over the rows since the last log, so that logged metrics are exact over all of them."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = defaultdict(float)

    def add(self, columns: Mapping[str, Tensor]) -> None:
        """Add the columns of B rows, `weight` among them, (B,) each, on the CPU."""
        weight = columns["weight"].double()
        for name, values in {**columns, "rows": torch.ones_like(weight), "squared weight": weight**2}.items():
            self.sums[name] += values.double().sum().item()
        self.sums["largest weight"] = max(self.sums["largest weight"], weight.max().item())

    @property
    def rows(self) -> int:
        """Rows since the last log."""
        return int(self.sums["rows"])

    def summary(self) -> dict[str, float]:
        """The metrics of the weights, by name."""
        sums = self.sums
        metrics = {"weights/mean": sums["weight"] / sums["rows"], "weights/max": sums["largest weight"]}
        # All of a few rows may have weight 0; a ratio to the sum of their weights then has no value.
        if sums["weight"]:
            metrics["weights/effective_sample_size"] = sums["weight"] ** 2 / sums["squared weight"]
        return metrics

    def clear(self) -> None:
        """Start again, after a log."""
        self.sums.clear()


class PairMetrics(WeightedSums):
    """Running sums over pairs, also by tier and by group."""

    def __init__(self, group_names: Sequence[str] = ()) -> None:
        super().__init__()
        self.group_names = group_names

    def add(self, columns: Mapping[str, Tensor]) -> None:
        """Add P pairs: the columns of `pair_columns`, (P,) each, on the CPU."""
        found = {name: column.double() for name, column in columns.items()}
        labels = {kind: found.pop(name, None) for kind, name in (("tiers", TIER), ("groups", GROUP_NUMBER))}
        weight, margin = found["weight"], found["chosen_reward"] - found["rejected_reward"]
        weighted = {f"weighted {name}": weight * found[name] for name in ("loss", *_OF_TOKENS) if name in found}
        super().add(
            {
                **found,
                **weighted,
                "accuracy": margin > 0,
                "weighted accuracy": weight * (margin > 0),
                "weighted margin": weight * margin,
            }
        )
        for kind, of_pairs in labels.items():
            for label in () if of_pairs is None else of_pairs.unique().tolist():
                for name, values in {**weighted, "weight": weight}.items():
                    self.sums[f"{kind}/{label:.0f}/{name}"] += values[of_pairs == label].sum().item()

    def loss(self, *, by_weight: bool, label: str = "") -> float:
        """Sum w l over all pairs, or those of a label, divided by sum w or by the number of pairs; and over tokens."""
        sums = {name: self.sums.get(f"{label}{name}", 0.0) for name in _LOSS_SUMS}
        rows, tokens = ("weight", "weighted loss_tokens") if by_weight else ("rows", "loss_tokens")
        of_pairs = sums["weighted loss"] / sums[rows] if sums[rows] else 0.0
        return of_pairs + (sums["weighted token_loss"] / sums[tokens] if sums[tokens] else 0.0)

    def summary(self) -> dict[str, float]:
        """The metrics by name, TRL's first."""
        sums = self.sums
        completion_tokens = sums["chosen_tokens"] + sums["rejected_tokens"]
        metrics = {
            "entropy": sums["entropy"] / max(completion_tokens, 1),
            "logits/chosen": sums["chosen_logits"] / max(sums["chosen_tokens"], 1),
            "logits/rejected": sums["rejected_logits"] / max(sums["rejected_tokens"], 1),
            "mean_token_accuracy": sums["chosen_top1"] / max(sums["chosen_tokens"], 1),
            "rewards/chosen": sums["chosen_reward"] / sums["rows"],
            "rewards/rejected": sums["rejected_reward"] / sums["rows"],
            "rewards/accuracies": sums["accuracy"] / sums["rows"],
            "rewards/margins": (sums["chosen_reward"] - sums["rejected_reward"]) / sums["rows"],
            "logps/chosen": sums["chosen_logp"] / sums["rows"],
            "logps/rejected": sums["rejected_logp"] / sums["rows"],
            **super().summary(),
        }
        if sums["weight"]:
            metrics["rewards/weighted_accuracies"] = sums["weighted accuracy"] / sums["weight"]
            metrics["rewards/weighted_margins"] = sums["weighted margin"] / sums["weight"]
        of_labels = [name.removesuffix("weight") for name in sums if name.endswith("/weight") and sums[name]]
        for label in sorted(of_labels, key=lambda name: (name[0] == "g", int(name.split("/")[1]))):
            kind, number, _ = label.split("/")
            name = self.group_names[int(number)] if kind == "groups" else number
            metrics[f"{kind}/{name}/loss"] = self.loss(by_weight=True, label=label)
        return metrics


_OF_TOKENS = ("token_loss", "loss_tokens")
_LOSS_SUMS = ("rows", "weight", "weighted loss", "loss_tokens", *(f"weighted {name}" for name in _OF_TOKENS))


def pair_columns(
    batch: Mapping[str, Tensor], policy: CompletionTokens, pairs: PairLogps, beta: float
) -> dict[str, Tensor]:
    """What is logged of P pairs besides their losses, (P,) each; sums over the tokens of their completions.

    A completion counts in every pair that has it, as in TRL, where each pair has its own copy.
    """
    chosen, rejected = batch["chosen"], batch["rejected"]
    tokens = batch["completion_mask"].sum(dim=1)
    entropy, logits, top1 = (
        cast(Tensor, values).sum(dim=1) for values in (policy.entropy, policy.mean_logits, policy.is_top1)
    )
    return {
        "chosen_reward": beta * (pairs.chosen - pairs.ref_chosen),
        "rejected_reward": beta * (pairs.rejected - pairs.ref_rejected),
        "chosen_logp": pairs.chosen,
        "rejected_logp": pairs.rejected,
        "sequence_tokens": batch["sequence_length"][chosen] + batch["sequence_length"][rejected],
        "chosen_tokens": tokens[chosen],
        "rejected_tokens": tokens[rejected],
        "entropy": entropy[chosen] + entropy[rejected],
        "chosen_logits": logits[chosen],
        "rejected_logits": logits[rejected],
        "chosen_top1": top1[chosen],
        **{name: batch[name] for name in (TIER, GROUP_NUMBER) if name in batch},
    }


class DisplacementWatch:
    """Warns once when the chosen completions keep losing probability.

    A preference loss only asks that the chosen completion gains on the rejected one; both may fall, and the probability go
    to completions that nobody chose (likelihood displacement: Razin et al. 2024, arXiv:2410.08847).

    Args:
        reference: Whether rewards are counted from a reference model. Without one, they are counted from the first log.
    """

    def __init__(self, *, reference: bool) -> None:
        self._start = 0.0 if reference else None
        self._yardstick = "the reference" if reference else "the first log"
        # Without a reference, beta decides where training ends.
        self._remedies = "A larger beta, a lower learning rate" if reference else "A lower learning rate"
        self._last = 0.0
        self._falls = 0
        self._warned = False

    def see(self, chosen_reward: float, beta: float) -> None:
        """Add the mean reward of the chosen completions since the last log."""
        if self._start is None:
            self._start = self._last = chosen_reward
        fell = chosen_reward < self._last and chosen_reward < self._start
        self._falls = self._falls + 1 if fell else 0
        self._last = chosen_reward
        if self._falls >= FALLING_LOGS and not self._warned:
            self._warned = True
            logger.warning(
                "Likelihood displacement: the log-probability of the chosen completions fell in %d logs in a row, and is "
                "now %.2f below %s. The model moves away from both completions of a pair. %s, or adding 'sft' to "
                "loss_type counters it.",
                self._falls,
                (self._start - chosen_reward) / beta,
                self._yardstick,
                self._remedies,
            )
