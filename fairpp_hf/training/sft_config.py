"""Configuration of `ReweightedSFTTrainer`: `trl.SFTConfig` and how weights enter."""

from dataclasses import dataclass, field
from typing import cast

from trl import SFTConfig

from fairpp_hf.training.hub_token import TokenStaysHere
from fairpp_hf.training.precision import default_bf16
from fairpp_hf.training.weight_column import WEIGHT_NORMALIZATIONS


@dataclass
class ReweightedSFTConfig(TokenStaysHere, SFTConfig):
    """Arguments of `ReweightedSFTTrainer`; all of `trl.SFTConfig`'s, and the following.

    Args:
        weight_normalization (`str`, *optional*):
            What a step's sum over its rows of w_i nll_i is divided by, where nll_i is summed over the n_i completion
            tokens of row i. `"dataset"`, the default: the number of completion tokens, after the weights of each dataset
            have been divided by their mean over it; the scale of the weights has no effect and the learning rate means
            what it means without weights. `"batch"`: sum w_i n_i over the step, over all accumulated micro-batches and
            all processes; the default with a streaming dataset, whose mean nobody knows beforehand. `"none"`: the number
            of completion tokens, the weights as they are.
        bf16 (`bool`, *optional*):
            As in TRL, on unless set; but off where there is no accelerator.

    Raises:
        ValueError: a setting that the weighted objective does not support; all such are named at once.
    """

    weight_normalization: str | None = field(
        default=None,
        metadata={
            "help": "What a step's weighted sum is divided by: 'dataset' (weights scaled to a mean of 1 over the dataset), "
            "'batch' (the step's sum of weights, a token each) or 'none' (weights as they are).",
            "choices": list(WEIGHT_NORMALIZATIONS),
        },
    )

    def __post_init__(self) -> None:
        self.bf16 = cast(bool, default_bf16(self.bf16))
        super().__post_init__()
        problems = unsupported_sft_settings(self)
        if problems:
            raise ValueError("\n".join(problems))


def unsupported_sft_settings(config: SFTConfig) -> list[str]:
    """One sentence for each setting of `config` that `ReweightedSFTTrainer` does not support; none is ignored."""
    problems = []
    normalization = getattr(config, "weight_normalization", None)
    if normalization is not None and normalization not in WEIGHT_NORMALIZATIONS:
        known = ", ".join(map(repr, WEIGHT_NORMALIZATIONS))
        problems.append(f"weight_normalization must be one of {known}; got {normalization!r}.")
    if config.loss_type != "nll":
        problems.append(
            f"loss_type must be 'nll'; got {config.loss_type!r}. It weighs tokens by the model's own probabilities, which "
            "would change what the sample weights mean. Use trl.SFTTrainer for it."
        )
    if config.label_smoothing_factor:
        problems.append(
            f"label_smoothing_factor must be 0; got {config.label_smoothing_factor}. TRL computes it from a forward pass "
            "that the weights do not reach. Remove the setting."
        )
    for name in ("packing", "eval_packing", "padding_free"):
        if getattr(config, name):
            problems.append(
                f"{name} must be False; got True. It lays texts of different weights end to end in one row. Remove the "
                "setting."
            )
    if config.completion_only_loss is False:
        problems.append(
            "completion_only_loss must be True; got False. A weight belongs to an answer and not to its question. Remove "
            "the setting."
        )
    if (config.dataset_kwargs or {}).get("skip_prepare_dataset"):  # type: ignore[union-attr]
        problems.append(
            "dataset_kwargs must not have skip_prepare_dataset; got True. The weights are normalised in preparation. "
            "Remove the setting."
        )
    if config.train_sampling_strategy == "batch_rebalance" and config.world_size > 1:
        problems.append(
            f"train_sampling_strategy must not be 'batch_rebalance' on several processes; got {config.world_size}. Each has "
            "batches of a size of its own, whose weights cannot be put together. Set 'group_by_length'."
        )
    if not config.average_tokens_across_devices:
        problems.append(
            "average_tokens_across_devices must be True; got False. The divisor is that of the whole step, on all "
            "processes. Remove the setting."
        )
    return problems
