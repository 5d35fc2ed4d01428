"""Collator of weighted preference pairs: each prompt once, each completion once, pairs as references to completions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
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
