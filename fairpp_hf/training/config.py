"""Configuration of `ReweightedDPOTrainer`: `trl.DPOConfig` and how weights enter."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from datasets import IterableDataset
from transformers import TrainingArguments
from transformers.trainer_pt_utils import AcceleratorConfig
from trl import DPOConfig

from fairpp_hf.training.collator import DataCollatorForWeightedPreference
from fairpp_hf.training.hub_token import TokenStaysHere
from fairpp_hf.training.losses import LOSSES, MARGIN_LOSSES, PROMPT_LOSSES, SFT
from fairpp_hf.training.precision import default_bf16
from fairpp_hf.training.weight_column import WEIGHT_NORMALIZATIONS

WEIGHT_APPLICATIONS = ("loss", "sampling")
SHARE_PREFIX = ("auto", True, False)
REFERENCES = ("model", "none")


@dataclass
class ReweightedDPOConfig(TokenStaysHere, DPOConfig):
    """Arguments of `ReweightedDPOTrainer`; all of `trl.DPOConfig`'s, and the following.

    Args:
        reference (`str`, defaults to `"model"`):
            What the log-probabilities of a pair are compared with. `"model"`: those of a reference model, as in DPO.
            `"none"`: nothing, and no reference model is loaded or run. With soft labels on all pairs of a prompt and
            `beta=1`, the loss then has its minimum exactly where the model's probabilities over the options are those
            behind the labels, whatever the model said before.
        loss_type (`list[str]`, defaults to `["sigmoid"]`):
            As in TRL, and two losses over all completions of a prompt. They need soft labels on all of its pairs, and
            batches of whole prompts. `"listwise"`: cross-entropy of the distribution behind the labels and the softmax over
            the completions' rewards. `"distillation"`: SFT on all completions, weighted by that distribution.
        beta (`float`, *optional*):
            As in TRL, 0.1 unless set, with a reference model; 1.0 unless set without one.
        weight_normalization (`str`, *optional*):
            What a step's sum over its pairs of w_i l_i is divided by. `"dataset"`, the default: the number of pairs, after
            the weights of each dataset have been divided by their mean over it; the scale of the weights has no effect
            and the learning rate means what it means without weights. `"batch"`: the sum of the step's weights, over all
            accumulated micro-batches and all processes; the default with a streaming dataset, whose mean nobody knows
            beforehand. `"none"`: the number of pairs, the weights as they are. `loss_type="sft"` counts tokens in place
            of pairs, as TRL does.
        weight_application (`str`, defaults to `"loss"`):
            `"loss"` multiplies the losses of the training pairs by their weights; `"sampling"` draws the pairs in
            proportion to them instead, so that compute is spent where the mass is. The expected gradient is the same.
            Evaluation weighs the losses either way.
        share_prefix (`str` or `bool`, defaults to `"auto"`):
            Whether the pairs of a batch that have a prompt in common compute it once. `"auto"`: where the architecture is
            known for it or passes a check, in rows that fit in its attention windows; one line in the log says which.
            `True`: an error at rows that cannot; `False`: never. Unless it is `False`, pairs that share a prompt are also
            drawn one after the other.
        soft_labels (`bool`, defaults to `False`):
            Takes the probability that the first completion is the preferred one from the column `label_probability`,
            instead of 1.
        group_column (`str`, *optional*):
            Column that names each pair's group. Trains for the worst-off groups instead of the average, by Group Robust
            Preference Optimization.
        group_step_size (`float`, defaults to `0.01`):
            Step size of the group weights' exponentiated gradient ascent; larger ones turn to the worst group faster.
        bf16 (`bool`, *optional*):
            As in TRL, on unless set; but off where there is no accelerator.

    Raises:
        ValueError: a setting that the weighted objective does not support; all such are named at once.
    """

    reference: str = field(
        default="model",
        metadata={
            "help": "'model' compares log-probabilities with a reference model's, as DPO does; 'none' loads and runs none.",
            "choices": list(REFERENCES),
        },
    )
    beta: float | None = field(  # type: ignore[assignment]
        default=None,
        metadata={
            "help": "Scale of the log-probabilities in the loss: by default 0.1 with a reference model, else 1.0."
        },
    )
    weight_normalization: str | None = field(
        default=None,
        metadata={
            "help": "What a step's weighted sum is divided by: 'dataset' (weights scaled to a mean of 1 over the dataset), "
            "'batch' (the sum of the step's weights) or 'none' (weights as they are).",
            "choices": list(WEIGHT_NORMALIZATIONS),
        },
    )
    weight_application: str = field(
        default="loss",
        metadata={
            "help": "'loss' multiplies the training losses by the weights; 'sampling' draws pairs in proportion to them.",
            "choices": list(WEIGHT_APPLICATIONS),
        },
    )
    share_prefix: str = field(
        default="auto",
        metadata={
            "help": "Compute a prompt that pairs have in common once: 'auto' (where it is exact), true or false."
        },
    )
    soft_labels: bool = field(
        default=False,
        metadata={"help": "Take each pair's label probability from the column 'label_probability' instead of 1."},
    )
    group_column: str | None = field(
        default=None,
        metadata={"help": "Column with each pair's group; trains for the worst-off groups (Ramesh et al. 2024)."},
    )
    group_step_size: float = field(default=0.01, metadata={"help": "Step size of the group weights' ascent."})

    def __post_init__(self) -> None:
        self.bf16 = default_bf16(self.bf16)
        if self.beta is None:
            self.beta = 0.1 if self.reference == "model" else 1.0
        # A command line says true and false in words.
        words: dict[Any, Any] = {"true": True, "false": False}
        self.share_prefix = words.get(str(self.share_prefix).lower(), self.share_prefix)
        super().__post_init__()
        problems = unsupported_settings(self)
        if problems:
            raise ValueError("\n".join(problems))


def unsupported_settings(config: DPOConfig) -> list[str]:
    """One sentence for each setting of `config` that `ReweightedDPOTrainer` does not support; none is ignored."""
    problems = []
    for name, known in (
        ("weight_normalization", WEIGHT_NORMALIZATIONS),
        ("weight_application", WEIGHT_APPLICATIONS),
        ("share_prefix", SHARE_PREFIX),
        ("reference", REFERENCES),
    ):
        value = getattr(config, name, known[0])
        if value not in known and (name, value) != ("weight_normalization", None):
            problems.append(f"{name} must be one of {', '.join(map(repr, known))}; got {value!r}.")
    if getattr(config, "reference", "model") == "none":
        problems += _problems_without_reference(config)
    if over_prompts := [name for name in config.loss_type if name in PROMPT_LOSSES]:
        # None in train.py, where the labels of the pairs have yet to decide; the trainer asks again.
        if getattr(config, "soft_labels", False) is False:
            problems.append(
                f"soft_labels must be True with loss_type {over_prompts[0]!r}; got False. A drawn answer is no distribution "
                "over the options. Load the pairs with labels='fitted' and set soft_labels, or use loss_type 'sigmoid'."
            )
        if config.ld_alpha is not None:
            problems.append(
                f"ld_alpha must be None with loss_type {over_prompts[0]!r}; got {config.ld_alpha}. It compares lengths "
                "within a pair. Remove the setting."
            )
        if config.f_divergence_type != "reverse_kl":
            problems.append(
                f"f_divergence_type must be 'reverse_kl' with loss_type {over_prompts[0]!r}; got "
                f"{config.f_divergence_type!r}. It changes the rewards of pairs. Remove the setting."
            )
    step_size = getattr(config, "group_step_size", 0.01)
    if not (math.isfinite(step_size) and step_size > 0):
        problems.append(f"group_step_size must be a finite number above 0; got {step_size!r}.")
    if config.train_sampling_strategy not in ("random", "sequential"):
        problems.append(
            f"train_sampling_strategy must be 'random' or 'sequential'; got {config.train_sampling_strategy!r}. It orders "
            "pairs by length, which pulls those apart whose prompt is computed once. Remove the setting."
        )
    elif getattr(config, "weight_application", "loss") == "sampling" and config.train_sampling_strategy != "random":
        problems.append(
            "train_sampling_strategy must be 'random' with weight_application='sampling'; got "
            f"{config.train_sampling_strategy!r}. The weights decide what is drawn. Remove one of the two."
        )
    for loss_type in config.loss_type:
        if loss_type in ("aot", "aot_unpaired"):
            problems.append(
                f"loss_type must be a sum over pairs; got {loss_type!r}. It sorts the batch, so that no value belongs to "
                "a pair for its weight to multiply. Use 'sigmoid', or trl.DPOTrainer."
            )
        elif loss_type not in LOSSES and loss_type not in (SFT, *PROMPT_LOSSES):
            known_losses = ", ".join(map(repr, [*LOSSES, *PROMPT_LOSSES, SFT]))
            problems.append(f"loss_type must be one of {known_losses}; got {loss_type!r}.")
    if config.use_weighting:
        problems.append(
            "use_weighting must be False; got True. It multiplies pairs by the policy's own probabilities (WPO), which "
            "would change what the sample weights mean. Use trl.DPOTrainer for WPO."
        )
    if config.truncation_mode not in ("keep_start", "keep_end"):
        problems.append(
            f"truncation_mode must be 'keep_start' or 'keep_end'; got {config.truncation_mode!r}. Set one of the "
            "two, or max_length=None."
        )
    if config.max_length is not None and config.max_length < 2:
        problems.append(
            f"max_length must be at least 2; got {config.max_length}. In a sequence of one token, none is predicted. Set it "
            "to what a prompt and a completion take, or to None."
        )
    if config.label_smoothing_factor:
        problems.append(
            f"label_smoothing_factor must be 0; got {config.label_smoothing_factor}. It smooths the tokens of a language "
            "model's loss, which preference losses do not have. For noisy preferences use soft_labels, or label_smoothing "
            "with loss_type 'robust'."
        )
    if cast(AcceleratorConfig, config.accelerator_config).dispatch_batches:
        problems.append(
            "dispatch_batches of accelerator_config must be False; got True. The tensors of a batch have lengths of their "
            "own and cannot be cut alike. Remove the setting."
        )
    if getattr(config, "group_column", None) and config.restore_callback_states_from_checkpoint:
        problems.append(
            "restore_callback_states_from_checkpoint must be False with group_column; got True. The groups' weights are "
            "taken up from the checkpoint without it. Remove the setting."
        )
    parallelism: Any = config.parallelism_config
    if parallelism is not None and (parallelism.cp_enabled or parallelism.sp_enabled):
        problems.append(
            "parallelism_config must not divide sequences (cp_size, sp_size); got some. A row holds a prompt with all its "
            "completions, and a part of it is no sequence. Use data or tensor parallelism."
        )
    if config.padding_free:
        problems.append("padding_free must be False; got True. TRL 1.16 does not implement it. Remove the setting.")
    return problems


def _problems_without_reference(config: DPOConfig) -> list[str]:
    """What makes no sense where there is no reference model."""
    without = ", ".join(map(repr, (*MARGIN_LOSSES, *PROMPT_LOSSES, SFT)))
    problems = [
        f"loss_type must be one of {without} with reference='none'; got {loss_type!r}. "
        "It looks at how far each completion moved from the reference, and not at the two of a pair alone."
        for loss_type in config.loss_type
        if loss_type in LOSSES and loss_type not in MARGIN_LOSSES
    ]
    for name, only in (
        ("f_divergence_type", "reverse_kl"),
        ("precompute_ref_log_probs", False),
        ("sync_ref_model", False),
    ):
        if (value := getattr(config, name)) != only:
            problems.append(
                f"{name} must be {only!r} with reference='none'; got {value!r}. Remove it, or set reference='model'."
            )
    return problems


def unsupported_arguments(compute_metrics: Any, data_collator: Any) -> list[str]:
    """One sentence for each argument of the trainer that it does not support."""
    problems = []
    if compute_metrics is not None:
        problems.append(
            "compute_metrics must be None; got a function. The trainer does not keep the logits that it would need. "
            "Score the trained model with fairpp_hf.OptionScorer instead."
        )
    if data_collator is not None and not isinstance(data_collator, DataCollatorForWeightedPreference):
        problems.append(
            "data_collator must be None or a fairpp_hf.training.DataCollatorForWeightedPreference; got "
            f"{type(data_collator).__name__}. Batches hold completions and pairs that refer to them."
        )
    return problems


def stream_problems(settings: Mapping[str, Any], dataset: Any, name: str) -> list[str]:
    """One sentence for each thing that is asked of a dataset and needs it whole, where it is a stream.

    Args:
        settings: `weight_normalization`, `weight_application`, `group_column`, and `precompute_ref_log_probs`.
        dataset: streaming or not.
        name: how messages call it.
    """
    if not isinstance(dataset, IterableDataset):
        return []
    problems = stream_weight_problems(settings["weight_normalization"], name)
    if settings["weight_application"] == "sampling":
        problems.append(
            f"weight_application must be 'loss' for a streaming {name}; got 'sampling'. A stream has an order of "
            "its own."
        )
    if settings["group_column"] is not None:
        problems.append(
            f"group_column must be None for a streaming {name}; got {settings['group_column']!r}. The groups' shares of a "
            "stream are not known beforehand."
        )
    if settings["precompute_ref_log_probs"]:
        problems.append(
            f"precompute_ref_log_probs must be False for a streaming {name}; got True. What is computed beforehand is kept "
            "with the rows, which a stream does not keep."
        )
    return problems


def stream_weight_problems(normalization: str, name: str) -> list[str]:
    """What a stream's weights cannot be normalised by."""
    if normalization != "dataset":
        return []
    return [
        f"weight_normalization must be 'batch' or 'none' for a streaming {name}; got 'dataset'. The mean weight of a "
        "stream is not known beforehand. Leave it out, or scale the weights yourself and set 'none'."
    ]


def endless_problems(config: TrainingArguments, train_dataset: Any) -> list[str]:
    """What tells how long to train on a stream, which has no length."""
    if not isinstance(train_dataset, IterableDataset) or config.max_steps > 0:
        return []
    return [
        f"max_steps must be above 0 for a streaming train_dataset; got {config.max_steps}. Nobody knows beforehand how long "
        "a stream is. Set max_steps."
    ]
