"""Collator of preference pairs that carries each pair's weight."""

from dataclasses import dataclass
from typing import Any

import torch
from trl.trainer.dpo_trainer import DataCollatorForPreference


@dataclass
class DataCollatorForWeightedPreference(DataCollatorForPreference):
    """TRL's collator for preference pairs, plus the weights.

    Each example holds `prompt_ids`, `chosen_ids`, `rejected_ids`, `weight` and, where precomputed, `ref_chosen_logps`
    and `ref_rejected_logps`. For P examples the batch holds `input_ids`, `attention_mask` and `completion_mask` of shape
    (2P, T), chosen sequences first, and `weight`, float32 of shape (P,).

    Example:
        >>> collator = DataCollatorForWeightedPreference(pad_token_id=0)
        >>> batch = collator([
        ...     {"prompt_ids": [1, 2], "chosen_ids": [3], "rejected_ids": [4, 5], "weight": 0.5},
        ...     {"prompt_ids": [6], "chosen_ids": [7], "rejected_ids": [8], "weight": 1.5},
        ... ])
        >>> batch["input_ids"].tolist()
        [[1, 2, 3, 0], [6, 7, 0, 0], [1, 2, 4, 5], [6, 8, 0, 0]]
        >>> batch["weight"]
        tensor([0.5000, 1.5000])
    """

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super().torch_call(examples)
        weight = torch.tensor([example["weight"] for example in examples], dtype=torch.float32)
        # Map-style datasets are checked whole before training; a stream can only be checked as it passes.
        if not (torch.isfinite(weight).all() and (weight >= 0).all()):
            raise ValueError(f"weight must be finite and at least 0; got {weight.tolist()} in one batch.")
        return {**batch, "weight": weight}
