"""`ReweightedDPOTrainer`: TRL's `DPOTrainer` in which every pair has a weight and every prompt is computed once.

A training step, as the methods stand below: the collator lays out a batch's distinct completions in rows that share their
prompts; policy and reference give the log-probabilities of the completions' tokens; pairs refer to completions, and each
has a loss; the losses are weighted, added up, and divided by what the whole optimiser step counts.
"""

import contextlib
import dataclasses
import logging
import warnings
from typing import Any, cast

import numpy as np
import torch
from accelerate.utils import broadcast_object_list, is_peft_model
from datasets import Dataset, IterableDataset
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin, TrainerCallback
from transformers.trainer_utils import EvalLoopOutput
from trl import DPOConfig, DPOTrainer
from trl.models import prepare_deepspeed
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.dpo_trainer import DataCollatorForPreference
from trl.trainer.utils import use_adapter

from fairpp_hf.training.collator import PAIR_COLUMNS, DataCollatorForWeightedPreference
from fairpp_hf.training.completion_forward import CompletionForward, CompletionTokens, cannot_share
from fairpp_hf.training.config import ReweightedDPOConfig, unsupported_settings
from fairpp_hf.training.group_weights import GroupWeights, group_shares
from fairpp_hf.training.losses import LossSettings, PairLogps, pair_losses
from fairpp_hf.training.pair_columns import (
    TIER,
    check_label_probabilities,
    group_numbers,
    has_tiers,
    number_groups,
)
from fairpp_hf.training.pair_metrics import DisplacementWatch, PairMetrics
from fairpp_hf.training.reference_cache import ReferenceCache, model_digest, pair_keys
from fairpp_hf.training.sampler import InOrder, PairSampler, cut_prompts, prompt_groups
from fairpp_hf.training.shared_prefix import PADDING
from fairpp_hf.training.weight_column import WEIGHT_COLUMN, check_weight_columns, normalize_weights, weights_of
from fairpp_hf.training.weighted_step import WeightedStep

logger = logging.getLogger(__name__)


class ReweightedDPOTrainer(WeightedStep, DPOTrainer):  # type: ignore[misc]
    """Direct preference optimisation with a weight for each pair.

    Minimises, over the pairs i of an optimiser step,

        sum_i w_i l_i / D,

    where l_i is the loss of the pair (`loss_type`, as in TRL), w_i its weight, and D the number of the step's pairs, in
    all accumulated micro-batches and on all processes (`weight_normalization` has other ways). Weights are scaled to mean
    1 over the dataset, so that with equal weights it trains as `DPOTrainer` does. The logged `loss` and `eval_loss` are
    this objective; `eval_loss` is exact over the evaluation set and fit for `load_best_model_at_end`.

    Called like `trl.DPOTrainer`. Every dataset needs a `weight` column of finite numbers that are at least 0, and not
    all 0; `load_dataset("fairpp", "pairs", target=...)` has one. Text models only.

    Pairs of a batch that have a prompt in common compute it once, and a completion that several pairs have too
    (`share_prefix`; see `shared_prefix`): the same gradients in a fraction of the time. Such pairs are drawn one after
    the other, so let `per_device_train_batch_size` be a multiple of the pairs of a prompt.

    With `precompute_ref_log_probs=True` the reference's log-probabilities are kept on disk by completion, under
    `$FAIRPP_HOME` or `~/.cache/fairpp_hf`: training for another persona finds them there.

    Sources: sample reweighting after Zhou et al. 2025, "Fair-PP" (arXiv:2505.11861), whose code divides by the sum of
    weights of one device's micro-batch, which makes a pair's influence depend on its neighbours; soft labels after
    Mitchell 2023, "A note on DPO with noisy preferences", with a label probability for each pair; groups after Ramesh et
    al. 2024 (arXiv:2405.20304).

    Logged besides TRL's metrics, over the pairs since the last log: `weights/mean`, `weights/max`,
    `weights/effective_sample_size` ((sum w)^2 / sum w^2, in pairs), `rewards/weighted_accuracies`,
    `rewards/weighted_margins`, `tiers/<tier>/loss` where there is a column `tier`, `groups/<group>/loss` and
    `groups/<group>/weight` with `group_column`, and `num_computed_tokens`, the tokens that went through the policy in
    training. `num_tokens` counts those of the pairs' sequences, as TRL does. A warning says when the log-probability of
    the chosen completions (`logps/chosen`, relative to the reference) keeps falling.

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
        # A plain DPOConfig will do: these settings then have their defaults.
        own_settings: dict[str, Any] = {
            field.name: getattr(args, field.name, field.default) for field in dataclasses.fields(ReweightedDPOConfig)
        }
        self.weight_normalization: str = own_settings["weight_normalization"]
        self.weight_application: str = own_settings["weight_application"]
        self.share_prefix: str | bool = own_settings["share_prefix"]
        self.soft_labels: bool = own_settings["soft_labels"]
        self.group_column: str | None = own_settings["group_column"]
        problems = [
            *unsupported_settings(args),
            *_unsupported_arguments(compute_metrics, data_collator, train_dataset),
            *self._stream_problems(train_dataset, "train_dataset"),
            *self._stream_problems(eval_dataset, "eval_dataset"),
        ]
        if problems:
            raise ValueError("\n".join(problems))
        check_weight_columns(train_dataset, "train_dataset")
        check_weight_columns(eval_dataset, "eval_dataset")

        self.loss_settings = LossSettings(
            beta=args.beta,
            label_smoothing=args.label_smoothing,
            f_divergence_type=args.f_divergence_type,
            f_alpha_divergence_coef=args.f_alpha_divergence_coef,
            discopop_tau=args.discopop_tau,
        )
        self.groups: GroupWeights | None = None
        self._group_names: list[str] = []
        self._pair_metrics = {"train": PairMetrics(), "eval": PairMetrics()}
        self._displacement = DisplacementWatch()
        self._computed_tokens = 0
        self._pair_sampler: PairSampler | None = None
        self._forward: CompletionForward | None = None
        self._reference_digest: str | None = None
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
        self._set_up_forward()
        if self.group_column is not None:
            train = cast(Dataset, self.train_dataset)
            shares = group_shares(group_numbers(train), weights_of(train, "train_dataset"), len(self._group_names))
            self.groups = GroupWeights(list(self._group_names), shares, own_settings["group_step_size"])
            self.add_callback(self.groups)

    def _set_up_forward(self) -> None:
        """Choose the collator and the way of computing completions; before the first forward, which TRL may do in init."""
        if self._forward is not None:
            return
        half = self.args.bf16 or self.args.fp16 or cast(Any, self.model).dtype != torch.float32
        self._forward = CompletionForward(
            self.accelerator,
            share_prefix=self.share_prefix,
            max_length=cast(DPOConfig, self.args).max_length,
            pad_token_id=self._tokenizer.pad_token_id,
            half_precision=half or getattr(self.model, "is_loaded_in_4bit", False),
            router_loss=self.aux_loss_enabled,
        )
        if self.share_prefix is not False:
            obstacle = self._forward.obstacle(cast(nn.Module, self.model))
            if obstacle and self.share_prefix is True:
                raise ValueError(cannot_share(cast(nn.Module, self.model), obstacle))
            if obstacle:
                logger.warning("Prompts are computed for each completion, which is slower: %s.", obstacle)
                self.share_prefix = False
        if not isinstance(self.data_collator, DataCollatorForWeightedPreference):
            plain = cast(DataCollatorForPreference, self.data_collator)
            self.data_collator = DataCollatorForWeightedPreference(
                **dataclasses.asdict(plain), share_prefix=self.share_prefix is not False
            )

    # -- data ----------------------------------------------------------------------------------------------------------

    def _prepare_dataset(
        self, dataset: Any, processing_class: Any, args: DPOConfig, dataset_name: str
    ) -> Dataset | IterableDataset:
        name = f"{dataset_name} dataset"
        check_weight_columns(dataset, name)
        # Also for a stream that is handed to `evaluate`, which __init__ has not seen.
        problems = self._stream_problems(dataset, name)
        if problems:
            raise ValueError(problems[0])
        if self.soft_labels:
            check_label_probabilities(dataset, name)
        if self.group_column is not None:
            dataset = number_groups(dataset, self.group_column, self._group_names, name)
        if dataset.column_names and TIER in dataset.column_names and not has_tiers(dataset):
            dataset = dataset.remove_columns(TIER)
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
                prepared = normalize_weights(prepared, name)
        return prepared

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        # Without this, `Trainer` drops the columns in silence before the collator sees them.
        columns = cast(list[str], self._signature_columns)
        columns += [name for name in PAIR_COLUMNS if name not in columns]

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        dataset = cast(Dataset, self.train_dataset if train_dataset is None else train_dataset)
        drawn = self.weight_application == "sampling"
        if not isinstance(dataset, Dataset) or self.args.train_sampling_strategy != "random":
            return super()._get_train_sampler(dataset)
        # Without sharing, every pair is a visit of its own.
        groups = np.arange(len(dataset)) if self.share_prefix is False else prompt_groups(dataset)
        if not drawn and groups.max() + 1 == len(groups):
            return super()._get_train_sampler(dataset)
        self._pair_sampler = PairSampler(
            groups,
            seed=self.args.seed if self.args.data_seed is None else self.args.data_seed,
            weights=weights_of(dataset, "train dataset") if drawn else None,
        )
        cut = cut_prompts(self._pair_sampler, self.args.per_device_train_batch_size)
        if cut > 0.05:
            logger.warning(
                "per_device_train_batch_size=%d separates the pairs of %.0f%% of the prompts, which are then computed "
                "twice. A multiple of the number of pairs of a prompt keeps them together.",
                self.args.per_device_train_batch_size,
                100 * cut,
            )
        return self._pair_sampler

    def _get_eval_sampler(self, eval_dataset: Dataset) -> Sampler | None:
        if self.share_prefix is False or not isinstance(eval_dataset, Dataset):
            return super()._get_eval_sampler(eval_dataset)
        return InOrder(np.argsort(prompt_groups(eval_dataset), kind="stable"))

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[Any], Tensor]:
        """The micro-batches of one optimiser step, and its divisor; see `WeightedStep`."""
        if self._pair_sampler is not None:
            # Accelerate tells the sampler its epoch, except where a run on several processes is resumed within one.
            self._pair_sampler.set_epoch(int(self.state.epoch or 0))
        return super().get_batch_samples(*args, **kwargs)

    # -- log-probabilities ---------------------------------------------------------------------------------------------

    def _policy_tokens(self, model: nn.Module, batch: dict[str, Tensor]) -> CompletionTokens:
        forward = cast(CompletionForward, self._forward)
        return forward(model, batch, **({"output_router_logits": True} if self.aux_loss_enabled else {}))

    def compute_ref_log_probs(self, model: nn.Module, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Log-probabilities of chosen and rejected completions under the reference model, each (P,)."""
        adapter: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        if self.ref_model is None and is_peft_model(self.model):
            policy = self.accelerator.unwrap_model(self.model)
            adapter = use_adapter(policy, adapter_name="ref" if "ref" in policy.peft_config else None)
        checkpointing_kwargs = cast(dict[str, Any] | None, self.args.gradient_checkpointing_kwargs)
        checkpointing = disable_gradient_checkpointing(cast(PreTrainedModel, self.model), checkpointing_kwargs)
        with torch.no_grad(), checkpointing, adapter, self.accelerator.autocast():
            logps = cast(CompletionForward, self._forward)(model, inputs).logps
        return self._pair_logps(logps, inputs)

    def _pair_logps(self, token_logps: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """From tokens (C, L) to the chosen and the rejected completions of P pairs, each (P,).

        With `ld_alpha`, tokens beyond the length that both completions of a pair reach count less.
        Source: LD-DPO, Liu et al. 2024 (arXiv:2409.06411).
        """
        chosen, rejected = token_logps[batch["chosen"]], token_logps[batch["rejected"]]
        if self.ld_alpha is None:
            return chosen.sum(dim=1), rejected.sum(dim=1)
        lengths = batch["completion_mask"].sum(dim=1)
        in_both = torch.minimum(lengths[batch["chosen"]], lengths[batch["rejected"]]).unsqueeze(1)
        beyond = torch.arange(token_logps.size(1), device=token_logps.device) >= in_both
        discount = torch.where(beyond, self.ld_alpha, 1.0)
        return (chosen * discount).sum(dim=1), (rejected * discount).sum(dim=1)

    # -- loss ----------------------------------------------------------------------------------------------------------

    def step_share(self, batch: dict[str, Tensor]) -> Tensor:
        """What a micro-batch adds to its step's divisor: its number of pairs, or their weights."""
        return (
            self._loss_weights(batch, "train").sum()
            if self._divides_by_weight
            else batch["weight"].new_tensor(len(batch["weight"]))
        )

    @property
    def _divides_by_weight(self) -> bool:
        return self.weight_normalization == "batch"

    def _loss_weights(self, batch: dict[str, Tensor], mode: str) -> Tensor:
        """w_i, (P,): 1 in training where the sampler has taken account of the weights."""
        drawn = mode == "train" and self.weight_application == "sampling"
        return torch.ones_like(batch[WEIGHT_COLUMN]) if drawn else batch[WEIGHT_COLUMN]

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """A micro-batch's part of the objective.

        Args:
            model: the policy.
            inputs: from `DataCollatorForWeightedPreference`.
            return_outputs: also return the policy's `CompletionTokens`.
            num_items_in_batch: the divisor D of the step, from `get_batch_samples`; this batch's own where None.
        """
        mode = self._mode()
        if WEIGHT_COLUMN not in inputs:
            raise ValueError(
                f"A batch must have {WEIGHT_COLUMN!r}; got {sorted(inputs)}. Train on a dataset with that column."
            )
        policy = self._policy_tokens(model, inputs)
        chosen, rejected = self._pair_logps(policy.logps, inputs)
        if self.precompute_ref_logps:
            ref_chosen, ref_rejected = inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]
        else:
            ref_chosen, ref_rejected = self.compute_ref_log_probs(cast(nn.Module, self.ref_model or self.model), inputs)
        length = inputs["completion_length"].to(chosen.dtype)
        pairs = PairLogps(
            chosen, rejected, ref_chosen, ref_rejected, length[inputs["chosen"]], length[inputs["rejected"]]
        )

        losses = pair_losses(pairs, self.loss_types, self.loss_weights, self.loss_settings)
        if self.soft_labels:
            swapped = pair_losses(pairs.swapped(), self.loss_types, self.loss_weights, self.loss_settings)
            losses = torch.lerp(swapped, losses, inputs["label_probability"].to(losses.dtype))

        weight = self._loss_weights(inputs, mode)
        divisor = num_items_in_batch
        scale = self.step_scale
        if divisor is None:
            share = weight.sum() if self._divides_by_weight else weight.new_tensor(len(weight))
            divisor, scale = share.clamp(min=torch.finfo(share.dtype).tiny), 1
        factor = weight.to(losses.dtype)
        if self.groups is not None and mode == "train":
            factor = factor * self.groups.factor(inputs["group_number"]).to(losses.dtype)
        loss = scale * (factor * losses).sum() / divisor
        if self.aux_loss_enabled:
            # The router's balance concerns the batch as a whole, so weights have no part in it.
            steps = self.current_gradient_accumulation_steps if num_items_in_batch is not None else 1
            loss = loss + self.router_aux_loss_coef * cast(Tensor, policy.aux_loss) / steps
        self._record_metrics(mode, inputs, policy, pairs, losses, weight, divisor)
        return (loss, policy) if return_outputs else loss

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """One micro-batch; after a step's last one, the groups' weights move."""
        loss = super().training_step(*args, **kwargs)
        if self.groups is not None and self.accelerator.sync_gradients:
            self.groups.step()
        return loss

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """As in `Trainer`, with the loss exact over all pairs instead of a mean of batches."""
        metrics = self._pair_metrics["eval"]
        metrics.clear()
        output = super().evaluation_loop(*args, **kwargs)
        name = f"{kwargs.get('metric_key_prefix', 'eval')}_loss"
        if name in (output.metrics or {}):
            loss = metrics.loss(by_weight=self._divides_by_weight)
            if self.aux_loss_enabled:
                loss += self.router_aux_loss_coef * float(np.mean(self._metrics["eval"]["aux_loss"]))
            cast(dict[str, float], output.metrics)[name] = loss
        return output

    # -- metrics -------------------------------------------------------------------------------------------------------

    def _record_metrics(
        self,
        mode: str,
        batch: dict[str, Tensor],
        policy: CompletionTokens,
        pairs: PairLogps,
        losses: Tensor,
        weight: Tensor,
        divisor: Tensor | int,
    ) -> None:
        """Record TRL's metrics under TRL's names, and those of `PairMetrics`, from two gathers over all processes."""
        metrics = self._metrics[mode]
        with torch.no_grad():
            chosen_rewards = self.beta * (pairs.chosen - pairs.ref_chosen)
            rejected_rewards = self.beta * (pairs.rejected - pairs.ref_rejected)
            columns = [chosen_rewards, rejected_rewards, pairs.chosen, pairs.rejected, weight, losses]
            labels = [batch[name] for name in ("tier", "group_number") if name in batch]
            per_pair = torch.stack([column.detach().double() for column in [*columns, *labels]], dim=1)
            # In evaluation, the rows that pad the last batch are left out. In training there are none, and
            # gather_for_metrics would take the end of the accumulation window for the end of the data.
            gather = self.accelerator.gather_for_metrics if mode == "eval" else self.accelerator.gather
            chosen_rewards, rejected_rewards, chosen, rejected, weight, losses, *labels = (
                gather(per_pair).cpu().unbind(dim=1)
            )
            sums = self.accelerator.gather(_token_sums(batch, policy).unsqueeze(0)).sum(dim=0).tolist()

        tokens, computed, completion, chosen_tokens, rejected_tokens, entropy, chosen_logits, rejected_logits, top1 = (
            sums
        )
        if mode == "train":
            self._total_train_tokens += int(tokens) // self._tp_size
            self._computed_tokens += int(computed) // self._tp_size
        metrics["num_tokens"] = [self._total_train_tokens]
        metrics["num_computed_tokens"] = [self._computed_tokens]
        metrics["entropy"].append(entropy / max(completion, 1))
        metrics["logits/chosen"].append(chosen_logits / max(chosen_tokens, 1))
        metrics["logits/rejected"].append(rejected_logits / max(rejected_tokens, 1))
        metrics["mean_token_accuracy"].append(top1 / max(chosen_tokens, 1))
        for name, values in {
            "rewards/chosen": chosen_rewards,
            "rewards/rejected": rejected_rewards,
            "rewards/accuracies": (chosen_rewards > rejected_rewards).double(),
            "rewards/margins": chosen_rewards - rejected_rewards,
            "logps/chosen": chosen,
            "logps/rejected": rejected,
        }.items():
            metrics[name].append(values.mean().item())
        if self.aux_loss_enabled:
            aux_loss = self.accelerator.gather_for_metrics(cast(Tensor, policy.aux_loss).detach())
            metrics["aux_loss"].append(aux_loss.mean().item())

        by_name = dict(zip([name for name in ("tier", "group_number") if name in batch], labels, strict=True))
        group = by_name["group_number"].long() if "group_number" in by_name else None
        self._pair_metrics[mode].add(
            weight=weight,
            loss=losses,
            chosen_reward=chosen_rewards,
            rejected_reward=rejected_rewards,
            tier=by_name["tier"].long() if "tier" in by_name else None,
            group=group,
        )
        if mode == "train" and self.groups is not None and group is not None:
            self.groups.add(group, weight * losses / float(divisor))

    def _mode(self) -> str:
        return "train" if cast(nn.Module, self.model).training else "eval"

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the metrics of all pairs since the last log, then log as TRL does."""
        mode = self._mode()
        pairs = self._pair_metrics[mode]
        if pairs.pairs:
            metrics = self._metrics[mode]
            for name, value in pairs.summary(self._group_names).items():
                metrics[name] = [value]
            if mode == "train":
                self._displacement.see(pairs.mean_chosen_reward(), self.beta)
                if self.groups is not None:
                    for name, alpha in zip(self.groups.names, self.groups.alpha.tolist(), strict=True):
                        metrics[f"groups/{name}/weight"] = [alpha]
        pairs.clear()
        super().log(logs, start_time)

    # -- reference, computed beforehand --------------------------------------------------------------------------------

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        """Add `ref_chosen_logps` and `ref_rejected_logps`, from disk where the reference has scored a completion before."""
        if isinstance(dataset, IterableDataset):
            return super()._precompute_ref_logps(dataset, name, batch_size)  # has the error for it
        self._set_up_forward()
        keys = {side: pair_keys(dataset, side, by_pair=self.ld_alpha is not None) for side in ("chosen", "rejected")}
        cache = ReferenceCache(self._digest_of_reference())
        main = self.accelerator.is_main_process
        known = broadcast_object_list([cache.read() if main else None], from_process=0)[0]
        unknown = np.array(
            [
                pair[0] not in known or pair[1] not in known
                for pair in zip(keys["chosen"], keys["rejected"], strict=True)
            ]
        )
        rows = np.flatnonzero(unknown)
        # Pairs of a prompt one after the other, so that a batch has them together.
        rows = rows[np.argsort(prompt_groups(dataset)[rows], kind="stable")]
        if len(rows):
            loader = DataLoader(
                dataset.select(rows),
                batch_size=batch_size,
                collate_fn=self.data_collator,
                num_workers=self.args.dataloader_num_workers,
                pin_memory=self.args.dataloader_pin_memory,
            )
            model = self._reference_before_training()
            done = 0
            title = f"Reference log-probabilities, {name} pairs"
            for batch in tqdm(self.accelerator.prepare(loader), desc=title, disable=self.args.disable_tqdm or not main):
                chosen, rejected = self.accelerator.gather_for_metrics(self.compute_ref_log_probs(model, batch))
                of_batch = rows[done : done + len(chosen)].tolist()
                done += len(chosen)
                found: dict[bytes, float] = {}
                for side, logps in (("chosen", chosen), ("rejected", rejected)):
                    found |= {keys[side][row]: logp for row, logp in zip(of_batch, logps.tolist(), strict=True)}
                known |= found
                if main:
                    cache.write(found)
        taken = len(dataset) - len(rows)
        logger.info("Reference log-probabilities: %d pairs computed, %d taken from %s.", len(rows), taken, cache.path)
        for side, of_side in keys.items():
            dataset = dataset.add_column(
                f"ref_{side}_logps", np.array([known[key] for key in of_side], dtype=np.float32)
            )
        return dataset

    def _reference_before_training(self) -> nn.Module:
        """The reference model while the policy is not yet prepared for training; placed by DeepSpeed where it is used."""
        if self.ref_model is None and self.is_deepspeed_enabled:
            if self._precompute_engine is None:
                self._precompute_engine = prepare_deepspeed(cast(nn.Module, self.model), self.accelerator)
            return cast(nn.Module, self._precompute_engine)
        return cast(nn.Module, self.ref_model or self.model)

    def _digest_of_reference(self) -> str:
        if self._reference_digest is None:
            settings = {
                name: getattr(self.args, name) for name in ("bf16", "fp16", "max_length", "truncation_mode", "ld_alpha")
            }
            # TRL hashes a reference of its own before that is sharded; a policy whose adapters are switched off is hashed
            # without them, so that every persona's training finds the same reference.
            if self.ref_model is None and is_peft_model(self.model):
                digest = model_digest(cast(nn.Module, self.model), settings)
            else:
                digest = model_digest(cast(str, self._precompute_model_hash), settings)
            self._reference_digest = broadcast_object_list([digest], from_process=0)[0]
        return self._reference_digest

    # -- checks --------------------------------------------------------------------------------------------------------

    def _stream_problems(self, datasets: Any, name: str) -> list[str]:
        """One sentence for each thing that a streaming dataset cannot do, since it must be known whole."""
        if isinstance(datasets, dict):
            return [
                problem
                for key, dataset in datasets.items()
                for problem in self._stream_problems(dataset, f"{name}[{key!r}]")
            ]
        if not isinstance(datasets, IterableDataset):
            return []
        problems = []
        if self.weight_normalization == "dataset":
            problems.append(
                f"weight_normalization must be 'batch' or 'none' for a streaming {name}; got 'dataset'. The mean weight of "
                "a stream is not known beforehand. Set weight_normalization='batch', or scale the weights yourself and set "
                "'none'."
            )
        if self.weight_application == "sampling":
            problems.append(
                f"weight_application must be 'loss' for a streaming {name}; got 'sampling'. A stream cannot be drawn from "
                "at will."
            )
        if self.group_column is not None:
            problems.append(
                f"group_column must be None for a streaming {name}; got {self.group_column!r}. The groups' shares of a "
                "stream are not known beforehand."
            )
        return problems


def _unsupported_arguments(compute_metrics: Any, data_collator: Any, train_dataset: Any) -> list[str]:
    """One sentence for each argument of the trainer that is not supported."""
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
    images = {"image", "images"} & set(getattr(train_dataset, "column_names", None) or [])
    if images:
        problems.append(
            f"train_dataset must hold text only; got column {images.pop()!r}. Use trl.DPOTrainer for images."
        )
    return problems


def _token_sums(batch: dict[str, Tensor], policy: CompletionTokens) -> Tensor:
    """This process's token counts and per-token sums, (9,), in the order in which `_record_metrics` names them.

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
