"""Sums over rows between two logs, and what they say about weights, tiers and groups."""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor

from fairpp_hf.training.columns import GROUP_NUMBER, TIER
from fairpp_hf.training.completion_forward import CompletionTokens

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

    def __init__(self) -> None:
        super().__init__()
        self._by_label: dict[str, dict[int, list[float]]] = {"tier": {}, "group": {}}
        self.group_names: Sequence[str] = ()

    def add(self, columns: Mapping[str, Tensor]) -> None:
        """Add P pairs.

        Args:
            columns: (P,) each, on the CPU: `weight`, `loss`, `chosen_reward`, `rejected_reward`, `chosen_logp`,
                `rejected_logp`, those of `token_columns`, and if there are any, `TIER` and `GROUP_NUMBER`; with a loss
                that is a mean over tokens, `token_loss`, its sum over a pair's tokens, and `loss_tokens`, their number.
        """
        columns = {name: column.double() for name, column in columns.items()}
        weight, loss = columns["weight"], columns["loss"]
        token_loss, loss_tokens = (columns.get(name, torch.zeros_like(loss)) for name in ("token_loss", "loss_tokens"))
        margin = columns["chosen_reward"] - columns["rejected_reward"]
        labels = {kind: columns.pop(name, None) for kind, name in (("tier", TIER), ("group", GROUP_NUMBER))}
        super().add(
            {
                **columns,
                "accuracy": margin > 0,
                "weighted loss": weight * loss,
                "weighted token loss": weight * token_loss,
                "weighted loss tokens": weight * loss_tokens,
                "weighted accuracy": weight * (margin > 0),
                "weighted margin": weight * margin,
            }
        )
        for kind, of_pairs in labels.items():
            for label in () if of_pairs is None else of_pairs.unique().tolist():
                mine = of_pairs == label
                entry = self._by_label[kind].setdefault(int(label), [0.0] * 4)
                for place, values in enumerate((loss, torch.ones_like(loss), token_loss, loss_tokens)):
                    entry[place] += (weight[mine] * values[mine]).sum().item()

    def loss(self, *, by_weight: bool) -> float:
        """Sum w l over all pairs, divided by sum w or by the number of pairs; and the same over tokens."""
        sums = self.sums
        rows, tokens = ("weight", "weighted loss tokens") if by_weight else ("rows", "loss_tokens")
        return _mean_loss(sums["weighted loss"], sums[rows], sums["weighted token loss"], sums[tokens])

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
        for kind, entries in self._by_label.items():
            for label, entry in sorted(entries.items()):
                if entry[1]:
                    name = self.group_names[label] if kind == "group" else label
                    metrics[f"{kind}s/{name}/loss"] = _mean_loss(*entry)
        return metrics

    def clear(self) -> None:
        """Start again, after a log."""
        super().clear()
        for entries in self._by_label.values():
            entries.clear()


def _mean_loss(loss: float, rows: float, token_loss: float, tokens: float) -> float:
    return (loss / rows if rows else 0.0) + (token_loss / tokens if tokens else 0.0)


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


def token_columns(batch: dict[str, Tensor], policy: CompletionTokens) -> dict[str, Tensor]:
    """Sums over the tokens of each pair's completions, (P,) each.

    A completion counts in every pair that has it, as in TRL, where each pair has its own copy.
    """
    chosen, rejected = batch["chosen"], batch["rejected"]
    tokens = batch["completion_mask"].sum(dim=1)
    entropy, logits, top1 = (
        cast(Tensor, values).sum(dim=1) for values in (policy.entropy, policy.mean_logits, policy.is_top1)
    )
    return {
        "sequence_tokens": batch["sequence_length"][chosen] + batch["sequence_length"][rejected],
        "chosen_tokens": tokens[chosen],
        "rejected_tokens": tokens[rejected],
        "entropy": entropy[chosen] + entropy[rejected],
        "chosen_logits": logits[chosen],
        "rejected_logits": logits[rejected],
        "chosen_top1": top1[chosen],
    }
