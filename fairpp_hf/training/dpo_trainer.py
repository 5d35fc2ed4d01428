"""`ReweightedDPOTrainer`: TRL's `DPOTrainer` in which every pair has a weight and every prompt is computed once.

A training step, as the methods stand below: the collator lays out a batch's distinct completions in rows that share their
prompts; policy and reference give the log-probabilities of the completions' tokens; pairs refer to completions, and each
has a loss; the losses are weighted, added up, and divided by what the whole optimiser step counts.
"""

import contextlib
import dataclasses
import logging
from collections.abc import Iterator
from functools import cached_property, partial
from typing import Any, cast

import numpy as np
import torch
from accelerate.utils import is_peft_model
from datasets import Dataset
from datasets.fingerprint import Hasher
from torch import Tensor, nn
from torch.utils.data import Sampler
from transformers import PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin, TrainerCallback
from transformers.trainer_pt_utils import AcceleratorConfig
from trl import DPOConfig, DPOTrainer
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.dpo_trainer import DataCollatorForPreference
from trl.trainer.utils import use_adapter

from fairpp_hf.naming import check_name
from fairpp_hf.scoring.four_bit import keep_four_bit_layout
from fairpp_hf.scoring.vocabulary import check_vocabulary
from fairpp_hf.training.batches import PAIR_COLUMNS, DataCollatorForWeightedPreference, PairSampler, cut_prompts
from fairpp_hf.training.columns import (
    GROUP_NUMBER,
    LABEL_PROBABILITY,
    TIER,
    WEIGHT,
    column_of,
    dataset_problems,
    has_tiers,
    label_problems,
    named_datasets,
    number_groups,
    prompt_groups,
    weights_of,
)
from fairpp_hf.training.completion_forward import CompletionForward, CompletionTokens, cannot_share
from fairpp_hf.training.config import ReweightedDPOConfig, own_settings, unsupported_settings
from fairpp_hf.training.group_weights import GroupWeights
from fairpp_hf.training.losses import (
    DISTILLATION,
    LISTWISE,
    PROMPT_LOSSES,
    SFT,
    LossSettings,
    PairLogps,
    distillation_losses,
    listwise_losses,
    pair_losses,
    prompt_aims,
)
from fairpp_hf.training.metrics import DisplacementWatch, PairMetrics, pair_columns
from fairpp_hf.training.preparation import prepare_pairs
from fairpp_hf.training.weighted_trainer import WeightedTrainer

logger = logging.getLogger(__name__)


class ReweightedDPOTrainer(WeightedTrainer, DPOTrainer):  # type: ignore[misc]
    """Direct preference optimisation with a weight for each pair.

    Minimises, over the pairs i of an optimiser step,

        sum_i w_i l_i / D,

    where l_i is the loss of the pair (`loss_type`, as in TRL), w_i its weight, and D the number of the step's pairs, in
    all accumulated micro-batches and on all processes (`weight_normalization` has other ways). `loss_type="sft"` is a mean
    over tokens, as in TRL: l_i is then summed over the chosen completion's tokens, and D is their number in the step.
    Weights are scaled to mean 1 over the dataset, so that with equal weights a batch has the gradient that `DPOTrainer`
    gives it. The logged `loss` and `eval_loss` are this objective; `eval_loss` is exact over the evaluation set and fit for
    `load_best_model_at_end`.
    With a mixture of experts whose balance is part of the loss, that part counts each completion once, however many pairs
    have it.

    Called like `trl.DPOTrainer`. Every dataset needs a `weight` column of finite numbers that are at least 0, and not
    all 0; `load_dataset("fairpp", "pairs", target=...)` has one. Text models only.

    Pairs of a batch that have a prompt in common compute it once, and a completion that several pairs have too
    (`share_prefix`; see `shared_prefix`): the same gradients in a fraction of the time. Such pairs are drawn one after
    the other, so let `per_device_train_batch_size` be a multiple of the pairs of a prompt. With a loss over all completions
    of a prompt, `"listwise"` or `"distillation"`, the batch sizes of training and evaluation must be such multiples.

    Sources: sample reweighting after Zhou et al. 2025, "Fair-PP" (arXiv:2505.11861), whose code divides by the sum of
    weights of one device's micro-batch, which makes a pair's influence depend on its neighbours; soft labels after
    Mitchell 2023, "A note on DPO with noisy preferences", with a label probability for each pair; groups after Ramesh et
    al. 2024 (arXiv:2405.20304).

    Logged besides TRL's metrics, over the pairs since the last log: `weights/mean`, `weights/max`,
    `weights/effective_sample_size` ((sum w)^2 / sum w^2, in pairs), `rewards/weighted_accuracies`,
    `rewards/weighted_margins`, `tiers/<tier>/loss` with a column `tier`, `groups/<group>/loss` and
    `groups/<group>/weight` with `group_column`, and `num_computed_tokens`, the tokens that went through the policy in
    training. `num_tokens` counts those of the pairs' sequences, as TRL does. A warning says when the log-probability of
    the chosen completions (`logps/chosen`, relative to the reference, or to the first log without one) keeps falling.

    Raises:
        ValueError: A dataset has no usable weights, or a setting is not supported; all problems are named at once.
        FloatingPointError: In training, a loss or a weight is infinite or NaN; see `WeightedTrainer`.

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

    full_precision_columns = PAIR_COLUMNS
    _tag_names = ["trl", "dpo", "fairpp_hf", "reweighted-dpo"]  # noqa: RUF012 (TRL's own form)
    _name = "Reweighted DPO"

    def __init__(
        self,
        model: Any,
        ref_model: Any = None,
        args: DPOConfig | None = None,
        data_collator: Any = None,
        train_dataset: Dataset | None = None,
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
        own = own_settings(args)
        given = [*named_datasets(train_dataset, "train_dataset"), *named_datasets(eval_dataset, "eval_dataset")]
        self.weight_normalization = own["weight_normalization"]
        self.weight_application: str = own["weight_application"]
        self.share_prefix: str | bool = own["share_prefix"]
        self.soft_labels: bool = own["soft_labels"]
        self.reference: str = own["reference"]
        self.group_column: str | None = own["group_column"]
        # All problems that can be known are named at once, before a model is loaded.
        problems = [*unsupported_settings(args), *self._argument_problems(ref_model, data_collator, compute_metrics)]
        problems += [problem for name, dataset in given for problem in self._dataset_problems(dataset, name)]
        if problems:
            raise ValueError("\n".join(problems))

        # The tensors of a batch have different lengths and cannot be cut alike.
        cast(AcceleratorConfig, args.accelerator_config).dispatch_batches = False
        self._mention_doubts(args, given)
        self.loss_settings = LossSettings(
            **{item.name: getattr(args, item.name) for item in dataclasses.fields(LossSettings)}
        )
        self.groups: GroupWeights | None = None
        self._group_names: list[str] = []
        self.sums = {mode: PairMetrics(self._group_names) for mode in ("train", "eval")}
        self._displacement = DisplacementWatch(reference=self.reference != "none")
        self._computed_tokens = 0
        self._pair_sampler: PairSampler | None = None
        self._forward: CompletionForward | None = None
        with self._no_reference_loaded(args):
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
        self.guard()
        if self._over_prompts:
            self._check_batches()
        self._coefficients = dict.fromkeys((SFT, *PROMPT_LOSSES), 0.0)
        for name, coefficient in zip(self.loss_types, self.loss_weights, strict=True):
            self._coefficients[name] = self._coefficients.get(name, 0.0) + coefficient
        if self.group_column is not None:
            train = cast(Dataset, self.train_dataset)
            numbers = column_of(train, GROUP_NUMBER).to_numpy()
            sums = np.bincount(numbers, weights=weights_of(train), minlength=len(self._group_names))
            self.groups = GroupWeights(list(self._group_names), sums / sums.sum(), own["group_step_size"])
            self.add_callback(self.groups)

    def _argument_problems(self, ref_model: Any, data_collator: Any, compute_metrics: Any) -> list[str]:
        """One sentence for each argument that the trainer does not support."""
        problems = []
        if compute_metrics is not None:
            problems.append(
                "compute_metrics must be None; got a function. The trainer does not store the logits that it would need. "
                "Score the trained model with fairpp_hf.OptionScorer instead."
            )
        if data_collator is not None and not isinstance(data_collator, DataCollatorForWeightedPreference):
            problems.append(
                "data_collator must be None or a fairpp_hf.training.DataCollatorForWeightedPreference; got "
                f"{type(data_collator).__name__}. Batches hold completions and pairs that refer to them."
            )
        if self.reference == "none" and ref_model is not None:
            problems.append(
                "ref_model must be None with reference='none'; got a model. Leave it out, or use reference='model'."
            )
        return problems

    def _mention_doubts(self, args: DPOConfig, given: list[tuple[str, Any]]) -> None:
        """Log what is allowed and hardly ever meant."""
        if self.reference == "none" and not self.soft_labels and set(args.loss_type) != {SFT}:
            logger.warning(
                "reference='none' with drawn answers for labels: nothing holds the model short of being certain of every "
                "answer. Use soft labels (labels='fitted', soft_labels=True), or reference='model'."
            )
        uses_beta = set(args.loss_type) - {SFT, DISTILLATION}
        if self.reference == "none" and self.soft_labels and uses_beta and args.beta != 1:
            logger.warning(
                "beta=%g with reference='none': training ends at the distribution behind the soft labels to the power of "
                "%g. Leave beta out to end at that distribution itself, or use reference='model'.",
                args.beta,
                1 / args.beta,
            )
        for name, dataset in given:
            if not self.soft_labels and LABEL_PROBABILITY in dataset.column_names:
                logger.warning(
                    "%s has soft labels, a column %r, which are not used: soft_labels is False, and each chosen text is "
                    "taken for the preferred one. Set soft_labels=True, or load the pairs with labels='answers'.",
                    name,
                    LABEL_PROBABILITY,
                )

    @contextlib.contextmanager
    def _no_reference_loaded(self, args: DPOConfig) -> Iterator[None]:
        """With `reference="none"`, keep TRL from loading a reference model, or from copying a pretrained adapter for one.

        TRL loads none where reference log-probabilities are computed beforehand, which `_precompute_ref_logps` then leaves
        out.
        """
        if self.reference == "model":
            yield
            return
        args.precompute_ref_log_probs = True
        try:
            yield
        finally:
            args.precompute_ref_log_probs = False
        self.precompute_ref_logps = False
        if is_peft_model(self.model) and "ref" in cast(Any, self.model).peft_config:
            cast(Any, self.model).delete_adapter("ref")

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        if self.reference == "none":
            return dataset
        if self._forward is None:
            self._set_up_forward()
            # TRL finds stored values by dataset and weights; they depend on these settings too.
            collator = cast(DataCollatorForWeightedPreference, self.data_collator)
            reference = cast(Any, self.model if self.ref_model is None else self.ref_model)
            adapters = getattr(reference, "peft_config", {}).items()
            settings = (
                *(self.args.bf16, self.args.fp16, self.ld_alpha, collator.max_length, collator.truncation_mode),
                reference.config.to_json_string(),  # how positions are scaled, for one
                [(name, getattr(config, "r", None), getattr(config, "lora_alpha", None)) for name, config in adapters],
            )
            self._precompute_model_hash = Hasher.hash((self._precompute_model_hash, settings, self.share_prefix))
        # A dataset that comes here again, as through `evaluate`, has the columns already.
        columns = [column for column in ("ref_chosen_logps", "ref_rejected_logps") if column in dataset.column_names]
        return super()._precompute_ref_logps(dataset.remove_columns(columns), name, batch_size)

    def _set_up_forward(self) -> None:
        """Choose the collator and the way of computing completions; before the first forward, which TRL may do in init."""
        if self._forward is not None:
            return
        check_vocabulary(self._tokenizer, cast(PreTrainedModel, self.model).config)
        for model in (self.model, self.ref_model):
            if model is not None:
                keep_four_bit_layout(cast(nn.Module, model))
        self._forward = CompletionForward(
            self.accelerator,
            share_prefix=self.share_prefix,
            pad_token_id=self._tokenizer.pad_token_id,
            router_loss=self.aux_loss_enabled,
        )
        if self.share_prefix is not False:
            sharing = self._forward.sharing(cast(nn.Module, self.model))
            if sharing.obstacle and self.share_prefix is True:
                raise ValueError(cannot_share(cast(nn.Module, self.model), sharing.obstacle))
            if sharing.known or sharing.obstacle:
                # Said before training, since no row has to be checked for it.
                sharing.reason_against(0, 0)
            if sharing.obstacle:
                self.share_prefix = False
        if not isinstance(self.data_collator, DataCollatorForWeightedPreference):
            plain = cast(DataCollatorForPreference, self.data_collator)
            self.data_collator = DataCollatorForWeightedPreference(**dataclasses.asdict(plain))
        self.data_collator.share_prefix &= self.share_prefix is not False
        # A mixture of experts balances all tokens of a sequence, its last one too.
        self.data_collator.keep_last = self.aux_loss_enabled

    # -- data ----------------------------------------------------------------------------------------------------------

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: DPOConfig, dataset_name: str) -> Dataset:
        name = f"{dataset_name} dataset"
        # Again, for a dataset that is handed to `evaluate`, which __init__ has not seen.
        if problems := self._dataset_problems(dataset, name):
            raise ValueError("\n".join(problems))
        # Columns of these names that are not asked for, or not ours, must not reach the collator.
        unwanted = {LABEL_PROBABILITY: not self.soft_labels, TIER: not has_tiers(dataset), GROUP_NUMBER: True}
        dataset = dataset.remove_columns([column for column in dataset.column_names if unwanted.get(column)])
        by_row = partial(
            super()._prepare_dataset, processing_class=processing_class, args=args, dataset_name=dataset_name
        )
        prepared = prepare_pairs(dataset, processing_class, args, dataset_name, by_row)
        prepared = self._with_weights(prepared, dataset, name, args.max_length)
        if self.group_column is not None:
            prepared = number_groups(prepared, self.group_column, self._group_names, name)
        return prepared

    def _dataset_problems(self, dataset: Any, name: str) -> list[str]:
        """Why a dataset cannot be trained with, a sentence each."""
        problems = dataset_problems(dataset, name, self.weight_normalization)
        if not isinstance(dataset, Dataset):
            return problems
        if self.soft_labels:
            problems += label_problems(dataset, name)
        if self.group_column is not None:
            try:
                check_name(f"group_column of {name}", self.group_column, dataset.column_names)
            except ValueError as error:
                problems.append(str(error))
        return problems

    @property
    def _over_prompts(self) -> bool:
        """Whether a loss is one over all completions of a prompt, so that a batch must hold all of its pairs."""
        return bool(set(PROMPT_LOSSES) & set(self.loss_types))

    @property
    def _keeps_prompts_together(self) -> bool:
        """Whether the pairs of a prompt follow one another; otherwise every pair is a visit of its own."""
        return self._over_prompts or self.share_prefix is not False

    def _check_batches(self) -> None:
        """Refuse batches that would cut the pairs of a prompt apart, before training."""
        problems = []
        for kind, datasets in (("train", self.train_dataset), ("eval", self.eval_dataset)):
            size = getattr(self.args, f"per_device_{kind}_batch_size")
            for name, dataset in named_datasets(datasets, f"{kind}_dataset"):
                counts = np.unique(np.bincount(prompt_groups(dataset))).tolist()
                if len(counts) > 1:
                    problems.append(
                        f"{name} must have equally many pairs for each prompt with loss_type {self.loss_types}; got "
                        f"{' and '.join(map(str, counts))}. Load pairs with labels='fitted', or use loss_type 'sigmoid'."
                    )
                elif size % counts[0]:
                    problems.append(
                        f"per_device_{kind}_batch_size must be a multiple of {counts[0]}, the pairs of a prompt in {name}, "
                        f"with loss_type {self.loss_types}; got {size}. Set it to {counts[0] * max(1, size // counts[0])}."
                    )
        if problems:
            raise ValueError("\n".join(problems))

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        dataset = cast(Dataset, self.train_dataset if train_dataset is None else train_dataset)
        drawn = self.weight_application == "sampling"
        if self.args.train_sampling_strategy != "random":
            return super()._get_train_sampler(dataset)
        groups = prompt_groups(dataset) if self._keeps_prompts_together else np.arange(len(dataset))
        if not drawn and groups.max() + 1 == len(groups):
            return super()._get_train_sampler(dataset)
        self._pair_sampler = PairSampler(
            groups,
            seed=self.args.seed if self.args.data_seed is None else self.args.data_seed,
            weights=weights_of(dataset) if drawn else None,
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

    def _get_eval_sampler(self, eval_dataset: Dataset) -> Any:
        if not self._keeps_prompts_together:
            return super()._get_eval_sampler(eval_dataset)
        return np.argsort(prompt_groups(eval_dataset), kind="stable").tolist()

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[Any], Tensor]:
        """The micro-batches of one optimiser step, and its divisor; see `WeightedStep`."""
        if self._pair_sampler is not None:
            # Accelerate tells the sampler its epoch, except where a run on several processes is resumed within one.
            self._pair_sampler.set_epoch(int(self.state.epoch or 0))
        return super().get_batch_samples(*args, **kwargs)

    # -- log-probabilities ---------------------------------------------------------------------------------------------

    def _policy_tokens(self, model: nn.Module, batch: dict[str, Tensor]) -> CompletionTokens:
        forward = cast(CompletionForward, self._forward)
        tokens = forward(model, batch, **({"output_router_logits": True} if self.aux_loss_enabled else {}))
        if forward.fell_back:
            # Batches to come need not be taken apart.
            cast(DataCollatorForWeightedPreference, self.data_collator).share_prefix = False
        return tokens

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

    def step_share(self, batch: dict[str, Tensor], mode: str = "train") -> Tensor:
        """(2,): a batch's pairs and their preferred tokens, each times its pair's weight where that is what to divide by."""
        weight = self._loss_weights(batch, mode)
        if self.weight_normalization != "batch":
            weight = torch.ones_like(weight)
        return torch.stack([weight.sum(), (weight * self._preferred_tokens(batch, weight.dtype)).sum()])

    def _preferred_tokens(self, batch: dict[str, Tensor], dtype: torch.dtype) -> Tensor:
        return self._of_preferred(batch["completion_mask"].sum(dim=1).to(dtype), batch)

    def _of_preferred(self, of_completion: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """What belongs to a completion, (C,), for the preferred ones of P pairs, (P,): on average, with soft labels."""
        chosen = of_completion[batch["chosen"]]
        if not self.soft_labels:
            return chosen
        return torch.lerp(of_completion[batch["rejected"]], chosen, batch[LABEL_PROBABILITY].to(chosen.dtype))

    def _loss_weights(self, batch: dict[str, Tensor], mode: str) -> Tensor:
        """w_i, (P,): in training their mean for all, where the sampler has taken account of the differences."""
        weight = batch[WEIGHT]
        drawn = mode == "train" and self.weight_application == "sampling"
        return torch.full_like(weight, self._mean_weight) if drawn else weight

    @cached_property
    def _mean_weight(self) -> float:
        return float(weights_of(cast(Dataset, self.train_dataset)).mean())

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """A micro-batch's part of the objective.

        Args:
            model: The policy.
            inputs: A batch from `DataCollatorForWeightedPreference`.
            return_outputs: Whether to return the policy's `CompletionTokens`.
            num_items_in_batch: Divisors of the step, (2,), from `get_batch_samples`; this batch's own if None.
        """
        mode = self._mode()
        policy = self._policy_tokens(model, inputs)
        chosen, rejected = self._pair_logps(policy.logps, inputs)
        if self.reference == "none":
            ref_chosen, ref_rejected = torch.zeros_like(chosen), torch.zeros_like(rejected)
        elif self.precompute_ref_logps:
            ref_chosen, ref_rejected = inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]
        else:
            reference = self.model if self.ref_model is None else self.ref_model
            ref_chosen, ref_rejected = self.compute_ref_log_probs(cast(nn.Module, reference), inputs)
        length = inputs["completion_length"].to(chosen.dtype)
        pairs = PairLogps(
            chosen, rejected, ref_chosen, ref_rejected, length[inputs["chosen"]], length[inputs["rejected"]]
        )

        losses = pair_losses(pairs, self.loss_types, self.loss_weights, self.loss_settings)
        if self.soft_labels:
            swapped = pair_losses(pairs.swapped(), self.loss_types, self.loss_weights, self.loss_settings)
            losses = torch.lerp(swapped, losses, inputs["label_probability"].to(losses.dtype))
        if any(self._coefficients[name] for name in PROMPT_LOSSES):
            losses = losses + self._prompt_losses(policy.logps.sum(dim=1), (ref_chosen, ref_rejected), inputs)
        sft_losses = torch.zeros_like(losses)
        if self._coefficients[SFT]:
            # A mean over tokens, as TRL's: long completions count more, and neither `ld_alpha` nor the reference matters.
            sft_losses = -self._coefficients[SFT] * self._of_preferred(policy.logps.sum(dim=1), inputs)

        weight = self._loss_weights(inputs, mode)
        divisors, scale = cast(Tensor, num_items_in_batch), self.step_scale
        if divisors is None:
            divisors, scale = self.step_share(inputs, mode), 1
            divisors = divisors.clamp(min=torch.finfo(divisors.dtype).tiny)
        factor = weight.to(losses.dtype)
        if self.groups is not None and mode == "train":
            factor = factor * self.groups.factor(inputs[GROUP_NUMBER]).to(losses.dtype)
        loss = scale * ((factor * losses).sum() / divisors[0] + (factor * sft_losses).sum() / divisors[1])
        if self.aux_loss_enabled:
            # The router's balance concerns the batch as a whole, so weights have no part in it.
            steps = self.current_gradient_accumulation_steps if num_items_in_batch is not None else 1
            loss = loss + self.router_aux_loss_coef * cast(Tensor, policy.aux_loss) / steps
        columns = {"weight": weight, "loss": losses, **pair_columns(inputs, policy, pairs, self.beta)}
        if self._coefficients[SFT]:
            columns |= {"token_loss": sft_losses, "loss_tokens": self._preferred_tokens(inputs, weight.dtype)}
        self._log_pairs(mode, self.record(mode, columns, loss, checked="loss"), policy, divisors)
        return (loss, policy) if return_outputs else loss

    def _prompt_losses(self, logps: Tensor, ref_logps: tuple[Tensor, Tensor], batch: dict[str, Tensor]) -> Tensor:
        """The losses over all completions of each pair's prompt, times their coefficients, (P,).

        Args:
            logps: (C,), log-probabilities of the batch's completions.
            ref_logps: The reference's of the pairs' chosen and rejected completions, (P,) each.
            batch: A batch from the collator.
        """
        chosen, rejected = batch["chosen"], batch["rejected"]
        aims = prompt_aims(len(logps), chosen, rejected, batch[LABEL_PROBABILITY].to(logps.dtype))
        # Only what has no gradient is scattered: a completion stands in several pairs, and gradients would count twice.
        reference = torch.zeros_like(logps)
        for completions, values in zip((chosen, rejected), ref_logps, strict=True):
            reference = reference.scatter(0, completions, values.to(logps.dtype))
        listwise = self._coefficients[LISTWISE] * listwise_losses(self.beta * (logps - reference), aims)
        return (listwise + self._coefficients[DISTILLATION] * distillation_losses(logps, aims))[chosen]

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """One micro-batch; after a step's last one, the groups' weights move."""
        loss = super().training_step(*args, **kwargs)
        if self.groups is not None and self.accelerator.sync_gradients:
            self.groups.step()
        return loss

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[Tensor, None, None]:
        """The loss of a batch; there are no logits to give, since the head runs on few positions."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            return self.compute_loss(model, inputs), None, None

    # -- metrics -------------------------------------------------------------------------------------------------------

    def _log_pairs(self, mode: str, gathered: dict[str, Tensor], policy: CompletionTokens, divisors: Tensor) -> None:
        """Count tokens, and the groups' losses, of a micro-batch whose pairs have been gathered from all processes."""
        if mode == "train":
            computed = self.accelerator.gather(policy.computed.unsqueeze(0)).sum().item()
            self._total_train_tokens += int(gathered["sequence_tokens"].sum().item()) // self._tp_size
            self._computed_tokens += int(computed) // self._tp_size
            if self.groups is not None:
                of_pairs = gathered["loss"] / float(divisors[0])
                of_tokens = gathered["token_loss"] / float(divisors[1]) if self._coefficients[SFT] else 0.0
                self.groups.add(gathered[GROUP_NUMBER].long(), gathered["weight"] * (of_pairs + of_tokens))
        metrics = self._metrics[mode]
        metrics["num_tokens"] = [self._total_train_tokens]
        metrics["num_computed_tokens"] = [self._computed_tokens]
        if self.aux_loss_enabled:
            aux_loss = self.accelerator.gather_for_metrics(cast(Tensor, policy.aux_loss).detach())
            metrics["aux_loss"].append(aux_loss.mean().item())

    def evaluation_loss(self) -> float:
        """The objective over all pairs of the evaluation."""
        loss = self.sums["eval"].loss(by_weight=self.weight_normalization == "batch")
        if self.aux_loss_enabled and self._metrics["eval"]["aux_loss"]:
            loss += self.router_aux_loss_coef * float(np.mean(self._metrics["eval"]["aux_loss"]))
        return loss

    def summary(self, mode: str) -> dict[str, float]:
        """The metrics of all pairs since the last log, in training with the groups' weights."""
        found = super().summary(mode)
        if mode == "train" and found:
            self._displacement.see(found["rewards/chosen"], self.beta)
            if self.groups is not None:
                weights = zip(self.groups.names, self.groups.alpha.tolist(), strict=True)
                found |= {f"groups/{name}/weight": alpha for name, alpha in weights}
        return found
