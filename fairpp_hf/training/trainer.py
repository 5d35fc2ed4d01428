"""`ReweightedDPOTrainer`: TRL's `DPOTrainer` in which every pair has a weight."""

import dataclasses
import warnings
from collections import defaultdict
from typing import Any, NamedTuple, cast

import torch
from datasets import Dataset, IterableDataset
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, ProcessorMixin, TrainerCallback
from trl import DPOConfig, DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from fairpp_hf.training.collator import DataCollatorForWeightedPreference
from fairpp_hf.training.config import ReweightedDPOConfig, unsupported_settings
from fairpp_hf.training.losses import LossSettings, PairLogps, pair_losses, weighted_mean
from fairpp_hf.training.weight_column import WEIGHT_COLUMN, check_weight_columns, normalize_weights


class _PolicyLogps(NamedTuple):
    """What one forward of the policy gives for P pairs, chosen sequences first."""

    sequence: Tensor
    """(2P,): log-probability of each completion, its tail discounted where `ld_alpha` asks for it."""
    token_mask: Tensor
    """(2P, T-1): 1 at the positions that predict a completion token."""
    outputs: Any
    """the model's output, with per-token fields of shape (2P, T-1) or longer."""


class ReweightedDPOTrainer(DPOTrainer):
    """Direct preference optimisation with a weight for each pair.

    Minimises, over the pairs i of a batch of P,

        (1 / P) sum_i w_i l_i,

    where l_i is the loss of the pair (`loss_type`, as in TRL) and w_i its weight, normalised to mean 1 over the dataset
    unless `weight_normalization="none"`. The logged `loss` and `eval_loss` are this weighted objective (on several
    processes, the last batch of an evaluation counts the pairs that pad it, as with any Trainer). With equal weights it
    trains as `DPOTrainer` does.

    Called like `trl.DPOTrainer`. Every dataset needs a `weight` column of finite numbers that are at least 0, and not
    all 0; `load_dataset("fairpp", "pairs", target=...)` has one. Text models only.

    Source: sample reweighting after Zhou et al. 2025, "Fair-PP" (arXiv:2505.11861). Their code divides by the sum of
    weights of one device's micro-batch, which makes a pair's influence depend on its neighbours; here it does not.

    Logged besides TRL's metrics, over the pairs since the last log: `weights/mean`, `weights/max`,
    `weights/effective_sample_size` ((sum w)^2 / sum w^2, in pairs), `rewards/weighted_accuracies` and
    `rewards/weighted_margins`.

    Raises:
        ValueError: a dataset without usable weights, or a setting that the weighted objective does not support.

    Example:
        ```python
        from datasets import load_dataset
        from fairpp_hf import ReweightedDPOConfig, ReweightedDPOTrainer

        pairs = load_dataset("fairpp", "pairs", target="loyal_nationals")
        trainer = ReweightedDPOTrainer(
            model="Qwen/Qwen2.5-0.5B-Instruct",
            args=ReweightedDPOConfig(output_dir="outputs/loyal_nationals"),
            train_dataset=pairs["train"],
        )
        trainer.train()
        ```
    """

    _tag_names = ["trl", "dpo", "fairpp_hf", "reweighted-dpo"]  # noqa: RUF012 (TRL's own form)
    _name = "Reweighted DPO"

    def __init__(
        self,
        model: Any,
        ref_model: Any = None,
        args: DPOConfig | None = None,
        data_collator: Any = None,
        train_dataset: Dataset | IterableDataset | None = None,
        eval_dataset: Any = None,
        processing_class: PreTrainedTokenizerBase | ProcessorMixin | None = None,
        compute_metrics: Any = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[torch.optim.Optimizer | None, torch.optim.lr_scheduler.LambdaLR | None] = (None, None),
        quantization_config: Any = None,
        peft_config: Any = None,
    ) -> None:
        if args is None:
            name = model if isinstance(model, str) else model.config._name_or_path
            args = ReweightedDPOConfig(f"{name.split('/')[-1]}-Reweighted-DPO")
        problems = unsupported_settings(args)
        if compute_metrics is not None:
            problems.append(
                "compute_metrics must be None; got a function. The trainer does not keep the logits that it would need. "
                "Score the trained model with fairpp_hf.OptionScorer instead."
            )
        self.weight_normalization: str = getattr(args, "weight_normalization", "dataset")
        if self.weight_normalization == "dataset":
            problems += _streams_without_a_mean(train_dataset, "train_dataset")
            problems += _streams_without_a_mean(eval_dataset, "eval_dataset")
        images = {"image", "images"} & set(getattr(train_dataset, "column_names", None) or [])
        if images:
            problems.append(
                f"train_dataset must hold text only; got column {images.pop()!r}. Use trl.DPOTrainer for images."
            )
        if problems:
            raise ValueError("\n".join(problems))
        check_weight_columns(train_dataset, "train_dataset")
        check_weight_columns(eval_dataset, "eval_dataset")
        self._weighted_sums: dict[str, dict[str, float]] = {"train": defaultdict(float), "eval": defaultdict(float)}
        super().__init__(
            model=model,
            ref_model=ref_model,
            args=args,
            data_collator=data_collator,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            callbacks=callbacks,
            optimizers=optimizers,
            quantization_config=quantization_config,
            peft_config=peft_config,
        )
        if data_collator is None:
            plain = cast(DataCollatorForPreference, self.data_collator)
            self.data_collator = DataCollatorForWeightedPreference(**dataclasses.asdict(plain))
        self.loss_settings = LossSettings(
            beta=args.beta,
            label_smoothing=args.label_smoothing,
            f_divergence_type=args.f_divergence_type,
            f_alpha_divergence_coef=args.f_alpha_divergence_coef,
            discopop_tau=args.discopop_tau,
        )

    # -- data ----------------------------------------------------------------------------------------------------------

    def _prepare_dataset(
        self, dataset: Any, processing_class: Any, args: DPOConfig, dataset_name: str
    ) -> Dataset | IterableDataset:
        check_weight_columns(dataset, f"{dataset_name} dataset")
        if self.weight_normalization == "dataset":
            # Also for a stream that is handed to `evaluate`, which __init__ has not seen.
            problems = _streams_without_a_mean(dataset, f"{dataset_name} dataset")
            if problems:
                raise ValueError(problems[0])
        prepared = super()._prepare_dataset(dataset, processing_class, args, dataset_name)
        if isinstance(prepared, Dataset):
            dropped = len(dataset) - len(prepared)
            if dropped:
                warnings.warn(
                    f"{dropped} of {len(dataset)} pairs of the {dataset_name} dataset are left out: their prompts alone "
                    f"fill max_length={args.max_length} tokens. Raise max_length to keep them.",
                    stacklevel=2,
                )
            if self.weight_normalization == "dataset":
                prepared = normalize_weights(prepared, f"{dataset_name} dataset")
        return prepared

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        # Without this, `Trainer` drops the column in silence before the collator sees it.
        columns = cast(list[str], self._signature_columns)
        if WEIGHT_COLUMN not in columns:
            columns.append(WEIGHT_COLUMN)

    # -- loss ----------------------------------------------------------------------------------------------------------

    def _compute_loss(self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool) -> Any:
        mode = self._mode()
        if WEIGHT_COLUMN not in inputs:
            raise ValueError(
                f"A batch must have {WEIGHT_COLUMN!r}; got {sorted(inputs)}. The data_collator left it out. "
                "Use fairpp_hf.training.DataCollatorForWeightedPreference, or the default collator."
            )
        weight = inputs[WEIGHT_COLUMN]
        # A model swallows unknown keyword arguments, so the weights must not reach it.
        inputs = {key: value for key, value in inputs.items() if key != WEIGHT_COLUMN}

        policy = self._policy_logps(model, inputs)
        chosen, rejected = policy.sequence.chunk(2, dim=0)
        if self.precompute_ref_logps:
            ref_chosen, ref_rejected = inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]
        else:
            ref_model = cast(nn.Module, self.ref_model or self.model)
            ref_chosen, ref_rejected = self.compute_ref_log_probs(ref_model, inputs)
        chosen_length, rejected_length = inputs["completion_mask"].sum(dim=1).to(chosen.dtype).chunk(2, dim=0)
        pairs = PairLogps(chosen, rejected, ref_chosen, ref_rejected, chosen_length, rejected_length)

        losses = pair_losses(pairs, self.loss_types, self.loss_weights, self.loss_settings)
        loss = weighted_mean(losses, weight.to(losses.dtype))
        if self.aux_loss_enabled:
            # The router's balance concerns the batch as a whole, so weights have no part in it.
            loss = loss + self.router_aux_loss_coef * policy.outputs.aux_loss
            aux_loss = self.accelerator.gather_for_metrics(policy.outputs.aux_loss.detach())
            self._metrics[mode]["aux_loss"].append(aux_loss.mean().item())
        self._record_metrics(mode, inputs, policy, pairs, weight)
        return (loss, policy.outputs) if return_outputs else loss

    def compute_ref_log_probs(self, model: nn.Module, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Log-probabilities of chosen and rejected completions under the reference model, each (P,)."""
        return super().compute_ref_log_probs(
            model, {key: value for key, value in inputs.items() if key != WEIGHT_COLUMN}
        )

    def _policy_logps(self, model: nn.Module, inputs: dict[str, Any]) -> _PolicyLogps:
        """One forward of the policy over chosen and rejected sequences."""
        not_for_model = {"completion_mask", "ref_chosen_logps", "ref_rejected_logps"}
        model_inputs = {key: value for key, value in inputs.items() if key not in not_for_model}
        if self.aux_loss_enabled:
            model_inputs["output_router_logits"] = True
        labels = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, -100)
        outputs = model(**model_inputs, use_cache=False, labels=labels, fused_lm_head=True)
        token_mask = inputs["completion_mask"][..., 1:]
        # Prompt-learning adapters prepend virtual tokens; the last positions are the real ones.
        token_logps = outputs.log_probs[:, -token_mask.size(1) :]
        return _PolicyLogps((token_logps * self._token_weights(token_mask)).sum(dim=1), token_mask, outputs)

    def _token_weights(self, token_mask: Tensor) -> Tensor:
        """1 for completion tokens; `ld_alpha` for those beyond the length that both completions of the pair reach.

        Source: LD-DPO, Liu et al. 2024 (arXiv:2409.06411).
        """
        if self.ld_alpha is None:
            return token_mask
        position = token_mask.cumsum(dim=1)
        chosen_length, rejected_length = token_mask.sum(dim=1).chunk(2, dim=0)
        shared = torch.minimum(chosen_length, rejected_length).repeat(2).unsqueeze(1)
        return torch.where((position > 0) & (position <= shared), 1.0, self.ld_alpha * (position > shared))

    # -- metrics -------------------------------------------------------------------------------------------------------

    def _record_metrics(
        self, mode: str, inputs: dict[str, Any], policy: _PolicyLogps, pairs: PairLogps, weight: Tensor
    ) -> None:
        """Record TRL's metrics under TRL's names, and those of the weights, from two gathers over all processes."""
        metrics = self._metrics[mode]
        with torch.no_grad():
            chosen_rewards = self.beta * (pairs.chosen - pairs.ref_chosen)
            rejected_rewards = self.beta * (pairs.rejected - pairs.ref_rejected)
            columns = [chosen_rewards, rejected_rewards, pairs.chosen, pairs.rejected, weight]
            per_pair = torch.stack([column.detach().float() for column in columns], dim=1)
            # In evaluation, the rows that pad the last batch are left out. In training there are none, and
            # gather_for_metrics would take the end of the accumulation window for the end of the data.
            gather = self.accelerator.gather_for_metrics if mode == "eval" else self.accelerator.gather
            per_pair = gather(per_pair).cpu()
            token_sums = self.accelerator.gather(self._token_sums(inputs, policy).unsqueeze(0)).sum(dim=0).tolist()

        tokens, completion, chosen_tokens, rejected_tokens, entropy, chosen_logits, rejected_logits, top1 = token_sums
        if mode == "train":
            self._total_train_tokens += int(tokens) // self._tp_size
        metrics["num_tokens"] = [self._total_train_tokens]
        metrics["entropy"].append(entropy / max(completion, 1))
        metrics["logits/chosen"].append(chosen_logits / max(chosen_tokens, 1))
        metrics["logits/rejected"].append(rejected_logits / max(rejected_tokens, 1))
        metrics["mean_token_accuracy"].append(top1 / max(chosen_tokens, 1))

        chosen_rewards, rejected_rewards, chosen, rejected, weight = per_pair.unbind(dim=1)
        accuracy = (chosen_rewards > rejected_rewards).float()
        margin = chosen_rewards - rejected_rewards
        for name, values in {
            "rewards/chosen": chosen_rewards,
            "rewards/rejected": rejected_rewards,
            "rewards/accuracies": accuracy,
            "rewards/margins": margin,
            "logps/chosen": chosen,
            "logps/rejected": rejected,
        }.items():
            metrics[name].append(values.mean().item())

        sums = self._weighted_sums[mode]
        for name, values in {
            "pairs": torch.ones_like(weight),
            "weight": weight,
            "squared weight": weight**2,
            "accuracy": weight * accuracy,
            "margin": weight * margin,
        }.items():
            sums[name] += values.double().sum().item()
        sums["largest weight"] = max(sums["largest weight"], weight.max().item())

    def _mode(self) -> str:
        return "train" if cast(nn.Module, self.model).training else "eval"

    @staticmethod
    def _token_sums(inputs: dict[str, Any], policy: _PolicyLogps) -> Tensor:
        """This process's token counts and per-token sums, (8,), in the order in which `_record_metrics` names them."""
        mask = policy.token_mask.float()
        chosen_mask, rejected_mask = mask.chunk(2, dim=0)
        length = mask.size(1)
        entropy = policy.outputs.entropy[:, -length:] * mask
        chosen_logits, rejected_logits = (policy.outputs.mean_logits[:, -length:] * mask).chunk(2, dim=0)
        chosen_top1 = policy.outputs.is_top1[:, -length:].chunk(2, dim=0)[0] * chosen_mask
        return torch.stack(
            [
                inputs["attention_mask"].sum().float(),
                *(
                    values.sum()
                    for values in (
                        mask,
                        chosen_mask,
                        rejected_mask,
                        entropy,
                        chosen_logits,
                        rejected_logits,
                        chosen_top1,
                    )
                ),
            ]
        )

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the weighted metrics of all pairs since the last log, then log as TRL does."""
        mode = self._mode()
        sums = self._weighted_sums[mode]
        if sums["pairs"]:
            metrics = self._metrics[mode]
            metrics["weights/mean"] = [sums["weight"] / sums["pairs"]]
            metrics["weights/max"] = [sums["largest weight"]]
            # A window of a few pairs may hold zero weights only; a ratio to their sum then has no value.
            if sums["weight"]:
                metrics["weights/effective_sample_size"] = [sums["weight"] ** 2 / sums["squared weight"]]
                metrics["rewards/weighted_accuracies"] = [sums["accuracy"] / sums["weight"]]
                metrics["rewards/weighted_margins"] = [sums["margin"] / sums["weight"]]
        sums.clear()
        super().log(logs, start_time)


def _streams_without_a_mean(datasets: Any, name: str) -> list[str]:
    """One sentence for each streaming dataset, whose weights cannot be normalised."""
    if isinstance(datasets, dict):
        return [
            problem
            for key, dataset in datasets.items()
            for problem in _streams_without_a_mean(dataset, f"{name}[{key!r}]")
        ]
    if not isinstance(datasets, IterableDataset):
        return []
    return [
        f"weight_normalization must be 'none' for a streaming {name}; got 'dataset'. The mean weight of a stream is not "
        "known beforehand. Scale the weights yourself and set weight_normalization='none'."
    ]
