"""Configuration of `ReweightedDPOTrainer`: `trl.DPOConfig` and how weights enter."""

from dataclasses import dataclass, field
from typing import Any

import torch
from trl import DPOConfig

from fairpp_hf.training.losses import LOSSES

WEIGHT_NORMALIZATIONS = ("dataset", "none")


@dataclass
class ReweightedDPOConfig(DPOConfig):
    """Arguments of `ReweightedDPOTrainer`; all of `trl.DPOConfig`'s, and the following.

    Args:
        weight_normalization (`str`, defaults to `"dataset"`):
            `"dataset"` divides the weights of each dataset by their mean over it, so that the scale of the weights has no
            effect and the learning rate means what it means without weights. `"none"` takes them as they are; a
            streaming dataset, whose mean nobody knows beforehand, needs it.
        bf16 (`bool`, *optional*):
            As in TRL, on unless set; but off where there is no accelerator.

    Raises:
        ValueError: a setting that the weighted objective does not support; all such are named at once.
    """

    weight_normalization: str = field(
        default="dataset",
        metadata={
            "help": "How sample weights are scaled: 'dataset' (to a mean of 1 over each dataset) or 'none' (as they are).",
            "choices": list(WEIGHT_NORMALIZATIONS),
        },
    )

    def __post_init__(self) -> None:
        if self.bf16 is None and not torch.accelerator.is_available():
            # TRL turns bf16 on by default and then stops on a machine without an accelerator; on a CPU it is also slower.
            self.bf16 = False
        super().__post_init__()
        problems = unsupported_settings(self)
        if problems:
            raise ValueError("\n".join(problems))


def unsupported_settings(config: DPOConfig) -> list[str]:
    """One sentence for each setting of `config` that `ReweightedDPOTrainer` does not support; none is ignored."""
    problems = []
    normalization: Any = getattr(config, "weight_normalization", WEIGHT_NORMALIZATIONS[0])
    if normalization not in WEIGHT_NORMALIZATIONS:
        known = ", ".join(map(repr, WEIGHT_NORMALIZATIONS))
        problems.append(f"weight_normalization must be one of {known}; got {normalization!r}.")
    for loss_type in config.loss_type:
        if loss_type in ("aot", "aot_unpaired"):
            problems.append(
                f"loss_type must be a sum over pairs; got {loss_type!r}. It sorts the batch, so that no value belongs to "
                "a pair for its weight to multiply. Use 'sigmoid', or trl.DPOTrainer."
            )
        elif loss_type not in LOSSES:
            problems.append(f"loss_type must be one of {', '.join(map(repr, LOSSES))}; got {loss_type!r}.")
    if config.use_weighting:
        problems.append(
            "use_weighting must be False; got True. It multiplies pairs by the policy's own probabilities (WPO), which "
            "would change what the sample weights mean. Use trl.DPOTrainer for WPO."
        )
    if config.padding_free:
        problems.append("padding_free must be False; got True. TRL 1.16 does not implement it. Remove the setting.")
    return problems
