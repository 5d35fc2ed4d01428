"""Configurations of the weighted trainers: TRL's, and how weights enter."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any, cast

import torch
from trl import DPOConfig, SFTConfig

from fairpp_hf.training.columns import WEIGHT_NORMALIZATIONS
from fairpp_hf.training.losses import LOSSES, MARGIN_LOSSES, PROMPT_LOSSES, SFT

WEIGHT_APPLICATIONS = ("loss", "sampling")
SHARE_PREFIX = ("auto", True, False)
REFERENCES = ("model", "none")


def argument(default: Any, text: str, choices: Iterable[str] | None = None) -> Any:
    """A field of a configuration: its default, its help on the command line, and the values that it may have."""
    return field(default=default, metadata={"help": text} if choices is None else {"help": text, "choices": [*choices]})


class _WithoutToken:
    """Mixin for training arguments: pickled or as text, they have no Hub token.

    `Trainer` writes its arguments beside every model, as training_args.bin, and into the files of TensorBoard, and pushes
    both. A token may also be among `model_init_kwargs`.
    """

    model_init_kwargs: Any

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "hub_token": None, "model_init_kwargs": self._init_kwargs_without_token()}

    def to_dict(self) -> dict[str, Any]:
        """As in `TrainingArguments`, which hides tokens by their names."""
        return {**super().to_dict(), "model_init_kwargs": self._init_kwargs_without_token()}  # type: ignore[misc]

    def _init_kwargs_without_token(self) -> Any:
        given = self.model_init_kwargs
        if not isinstance(given, dict):
            return given
        return {name: value for name, value in given.items() if not name.endswith("token")}


def _default_bf16(bf16: bool | None) -> Any:
    """Without an accelerator, bf16 is off by default: TRL turns it on and then stops; on a CPU it is also slower."""
    return False if bf16 is None and not torch.accelerator.is_available() else bf16


@dataclass
class ReweightedDPOConfig(_WithoutToken, DPOConfig):
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
        weight_normalization (`str`, defaults to `"dataset"`):
            What a step's sum over its pairs of w_i l_i is divided by. `"dataset"`: the number of pairs, after
            the weights of each dataset have been divided by their mean over it; the scale of the weights has no effect
            and the learning rate means what it means without weights. `"batch"`: the sum of the step's weights, over all
            accumulated micro-batches and all processes. `"none"`: the number of pairs, the weights as they are.
            `loss_type="sft"` counts tokens instead of pairs, as TRL does.
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
            As in TRL, on unless set; but off without an accelerator.

    Raises:
        ValueError: The weighted objective does not support a setting; all such settings are named at once.
    """

    reference: str = argument(
        "model",
        "'model' compares log-probabilities with a reference model's, as DPO does; 'none' loads and runs none.",
        REFERENCES,
    )
    beta: float | None = argument(  # type: ignore[assignment]
        None, "Scale of the log-probabilities in the loss: by default 0.1 with a reference model, else 1.0."
    )
    weight_normalization: str = argument(
        "dataset",
        "What a step's weighted sum is divided by: 'dataset' (weights scaled to a mean of 1 over the dataset), 'batch' "
        "(the sum of the step's weights) or 'none' (weights as they are).",
        WEIGHT_NORMALIZATIONS,
    )
    weight_application: str = argument(
        "loss",
        "'loss' multiplies the training losses by the weights; 'sampling' draws pairs in proportion to them.",
        WEIGHT_APPLICATIONS,
    )
    share_prefix: str = argument(
        "auto", "Compute a prompt that pairs have in common once: 'auto' (where it is exact), true or false."
    )
    soft_labels: bool = argument(
        False, "Take each pair's label probability from the column 'label_probability' instead of 1."
    )
    group_column: str | None = argument(
        None, "Column with each pair's group; trains for the worst-off groups (Ramesh et al. 2024)."
    )
    group_step_size: float = argument(0.01, "Step size of the group weights' ascent.")

    def __post_init__(self) -> None:
        self.bf16 = _default_bf16(self.bf16)
        if self.beta is None:
            self.beta = 0.1 if self.reference == "model" else 1.0
        # A command line says true and false in words.
        words: dict[Any, Any] = {"true": True, "false": False}
        self.share_prefix = words.get(str(self.share_prefix).lower(), self.share_prefix)
        super().__post_init__()
        if problems := unsupported_settings(self):
            raise ValueError("\n".join(problems))


@dataclass
class ReweightedSFTConfig(_WithoutToken, SFTConfig):
    """Arguments of `ReweightedSFTTrainer`; all of `trl.SFTConfig`'s, and the following.

    Args:
        weight_normalization (`str`, defaults to `"dataset"`):
            What a step's sum over its rows of w_i nll_i is divided by, where nll_i is summed over the n_i completion
            tokens of row i. `"dataset"`: the number of completion tokens, after the weights of each dataset
            have been divided by their mean over it; the scale of the weights has no effect and the learning rate means
            what it means without weights. `"batch"`: sum w_i n_i over the step, over all accumulated micro-batches and
            all processes. `"none"`: the number of completion tokens, the weights as they are.
        bf16 (`bool`, *optional*):
            As in TRL, on unless set; but off without an accelerator.

    Raises:
        ValueError: The weighted objective does not support a setting; all such settings are named at once.
    """

    weight_normalization: str = argument(
        "dataset",
        "What a step's weighted sum is divided by: 'dataset' (weights scaled to a mean of 1 over the dataset), 'batch' "
        "(the step's sum of weights, a token each) or 'none' (weights as they are).",
        WEIGHT_NORMALIZATIONS,
    )

    def __post_init__(self) -> None:
        self.bf16 = _default_bf16(self.bf16)
        super().__post_init__()
        if problems := unsupported_sft_settings(self):
            raise ValueError("\n".join(problems))


def unsupported_settings(config: DPOConfig) -> list[str]:
    """One sentence for each setting of `config` that `ReweightedDPOTrainer` does not support; none is ignored."""
    own: dict[str, Any] = own_settings(config)
    reference, soft_labels, step_size = own["reference"], own["soft_labels"], own["group_step_size"]
    allowed: dict[str, tuple[Any, ...]] = {
        "weight_normalization": WEIGHT_NORMALIZATIONS,
        "weight_application": WEIGHT_APPLICATIONS,
        "share_prefix": SHARE_PREFIX,
        "reference": REFERENCES,
    }
    problems = [
        f"{name} must be one of {_listed(known)}; got {own[name]!r}."
        for name, known in allowed.items()
        if own[name] not in known
    ]
    known_losses, without = (*LOSSES, *PROMPT_LOSSES, SFT), (*MARGIN_LOSSES, *PROMPT_LOSSES, SFT)
    for loss_type in config.loss_type:
        if loss_type in ("aot", "aot_unpaired"):
            problems.append(
                f"loss_type must be a sum over pairs; got {loss_type!r}. It sorts the batch, so that no value belongs to "
                "a pair for its weight to multiply. Use 'sigmoid', or trl.DPOTrainer."
            )
        elif loss_type not in known_losses:
            problems.append(f"loss_type must be one of {_listed(known_losses)}; got {loss_type!r}.")
        elif reference == "none" and loss_type not in without:
            problems.append(
                f"loss_type must be one of {_listed(without)} with reference='none'; got {loss_type!r}. It looks at how far "
                "each completion moved from the reference, and not at the two of a pair alone."
            )
    over_prompts = [name for name in config.loss_type if name in PROMPT_LOSSES]
    fixed: list[tuple[str, Any, str, str]] = []
    if reference == "none":
        values = {"f_divergence_type": "reverse_kl", "precompute_ref_log_probs": False, "sync_ref_model": False}
        where, fix = "with reference='none'", "Remove it, or set reference='model'."
        fixed += [(name, only, where, fix) for name, only in values.items()]
    # None while the labels of the pairs have yet to decide; the trainer asks again.
    if over_prompts and soft_labels is False:
        problems.append(
            f"soft_labels must be True with loss_type {over_prompts[0]!r}; got False. A drawn answer is no distribution "
            "over the options. Load the pairs with labels='fitted' and set soft_labels, or use loss_type 'sigmoid'."
        )
    if over_prompts:
        where, fix = f"with loss_type {over_prompts[0]!r}", "It changes the losses of pairs. Remove the setting."
        fixed += [(name, only, where, fix) for name, only in (("ld_alpha", None), ("f_divergence_type", "reverse_kl"))]
    problems += [
        f"{name} must be {only!r} {where}; got {getattr(config, name)!r}. {fix}"
        for name, only, where, fix in fixed
        if getattr(config, name) != only
    ]
    order, parallelism = config.train_sampling_strategy, cast(Any, config.parallelism_config)
    rules = [
        (
            not (math.isfinite(step_size) and step_size > 0),
            f"group_step_size must be a finite number above 0; got {step_size!r}.",
        ),
        (
            order not in ("random", "sequential"),
            f"train_sampling_strategy must be 'random' or 'sequential'; got {order!r}. It orders pairs by length, which "
            "separates those whose prompt is computed once. Remove the setting.",
        ),
        (
            order == "sequential" and own["weight_application"] == "sampling",
            f"train_sampling_strategy must be 'random' with weight_application='sampling'; got {order!r}. The weights "
            "decide what is drawn. Remove one of the two.",
        ),
        (
            config.use_weighting,
            "use_weighting must be False; got True. It multiplies pairs by the policy's own probabilities (WPO), which "
            "would change what the sample weights mean. Use trl.DPOTrainer for WPO.",
        ),
        (
            config.truncation_mode not in ("keep_start", "keep_end"),
            f"truncation_mode must be 'keep_start' or 'keep_end'; got {config.truncation_mode!r}. Set one of the two, or "
            "max_length=None.",
        ),
        (
            config.max_length is not None and config.max_length < 2,
            f"max_length must be at least 2; got {config.max_length}. In a sequence of one token, none is predicted. Set "
            "it to what a prompt and a completion take, or to None.",
        ),
        (
            config.label_smoothing_factor,
            f"label_smoothing_factor must be 0; got {config.label_smoothing_factor}. It smooths the tokens of a language "
            "model's loss, which preference losses do not have. For noisy preferences use soft_labels, or label_smoothing "
            "with loss_type 'robust'.",
        ),
        (
            parallelism is not None and (parallelism.cp_enabled or parallelism.sp_enabled),
            "parallelism_config must not divide sequences (cp_size, sp_size); got some. A row holds a prompt with all its "
            "completions, and a part of it is no sequence. Use data or tensor parallelism.",
        ),
        (
            config.padding_free,
            "padding_free must be False; got True. TRL 1.16 does not implement it. Remove the setting.",
        ),
    ]
    return problems + [sentence for broken, sentence in rules if broken]


def own_settings(config: Any) -> dict[str, Any]:
    """The fields of `ReweightedDPOConfig`; a plain `DPOConfig` will do, whose missing ones have their defaults."""
    return {item.name: getattr(config, item.name, item.default) for item in fields(ReweightedDPOConfig)}


def _listed(names: Iterable[Any]) -> str:
    return ", ".join(map(repr, names))


def unsupported_sft_settings(config: SFTConfig) -> list[str]:
    """One sentence for each setting of `config` that `ReweightedSFTTrainer` does not support; none is ignored."""
    normalization = getattr(config, "weight_normalization", "dataset")
    one_row = "It lays texts of different weights end to end in one row."
    rules = [
        (
            normalization not in WEIGHT_NORMALIZATIONS,
            f"weight_normalization must be one of {_listed(WEIGHT_NORMALIZATIONS)}; got {normalization!r}.",
        ),
        (
            config.loss_type != "nll",
            f"loss_type must be 'nll'; got {config.loss_type!r}. It weighs tokens by the model's own probabilities, which "
            "would change what the sample weights mean. Use trl.SFTTrainer for it.",
        ),
        (
            config.label_smoothing_factor,
            f"label_smoothing_factor must be 0; got {config.label_smoothing_factor}. TRL computes it from a forward pass "
            "that the weights do not reach. Remove the setting.",
        ),
        *(
            (getattr(config, name), f"{name} must be False; got True. {one_row} Remove the setting.")
            for name in ("packing", "eval_packing", "padding_free")
        ),
        (
            config.completion_only_loss is False,
            "completion_only_loss must be True; got False. A weight belongs to an answer and not to its question. Remove "
            "the setting.",
        ),
        (
            cast(dict[str, Any], config.dataset_kwargs or {}).get("skip_prepare_dataset"),
            "dataset_kwargs must not have skip_prepare_dataset; got True. The weights are normalised in preparation. "
            "Remove the setting.",
        ),
        (
            config.train_sampling_strategy == "batch_rebalance" and config.world_size > 1,
            f"train_sampling_strategy must not be 'batch_rebalance' on several processes; got {config.world_size}. Each has "
            "batches of its own size, whose weights cannot be combined. Set 'group_by_length'.",
        ),
        (
            not config.average_tokens_across_devices,
            "average_tokens_across_devices must be True; got False. The divisor is that of the whole step, on all "
            "processes. Remove the setting.",
        ),
    ]
    return [sentence for broken, sentence in rules if broken]
