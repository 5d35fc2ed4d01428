"""`ReweightedSFTTrainer`: TRL's `SFTTrainer` in which every text has a weight; the stage before preference optimisation."""

import dataclasses
from dataclasses import dataclass
from typing import Any, cast

import torch
from datasets import Dataset
from torch import Tensor, nn
from trl import SFTConfig, SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from fairpp_hf.scoring.four_bit import keep_four_bit_layout
from fairpp_hf.scoring.vocabulary import check_vocabulary
from fairpp_hf.training.columns import WEIGHT, chosen_texts, dataset_problems, named_datasets
from fairpp_hf.training.config import ReweightedSFTConfig, unsupported_sft_settings
from fairpp_hf.training.metrics import WeightedSums
from fairpp_hf.training.weighted_trainer import WeightedTrainer

IGNORED = -100
"""Label of a token that is not learnt."""


@dataclass
class DataCollatorForWeightedLanguageModeling(DataCollatorForLanguageModeling):
    """TRL's collator for language modelling, plus the weights.

    Each example holds `input_ids`, `labels` (-100 where a token is not learnt) and `weight`. For B examples the batch
    holds `input_ids`, `attention_mask` and `labels` of shape (B, T), and `weight`, float32 of shape (B,).

    Example:
        >>> collator = DataCollatorForWeightedLanguageModeling(pad_token_id=0)
        >>> batch = collator([
        ...     {"input_ids": [1, 2, 3], "labels": [-100, 2, 3], "weight": 0.5},
        ...     {"input_ids": [4, 5], "labels": [-100, 5], "weight": 1.5},
        ... ])
        >>> batch["labels"].tolist()
        [[-100, 2, 3], [-100, 5, -100]]
        >>> batch["weight"]
        tensor([0.5000, 1.5000])
    """

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super().torch_call(examples)
        return {**batch, WEIGHT: torch.tensor([example[WEIGHT] for example in examples], dtype=torch.float32)}


class ReweightedSFTTrainer(WeightedTrainer, SFTTrainer):  # type: ignore[misc]
    """Supervised fine-tuning with a weight for each text: the stage from which the paper starts preference optimisation.

    Minimises, over the rows i of an optimiser step, with n_i completion tokens each,

        sum_i w_i sum_t -log p(y_it | x_i, y_i<t) / D,

    where D = sum_i n_i and the weights are normalised to mean 1 over the dataset; or D = sum_i w_i n_i, or weights as they
    are, as `weight_normalization` says. D is that of the whole step, over all accumulated micro-batches and all processes.
    The logged `eval_loss` is the same sum over the whole evaluation set, each row counted once. With equal weights it
    trains as `SFTTrainer` does.

    Called like `trl.SFTTrainer`. Datasets have the columns `prompt` and `completion`, or are preference pairs, as
    `load_dataset("fairpp", "pairs", target=...)` gives them: their chosen texts are learnt, see `chosen_texts`. Every
    dataset needs a `weight` column of finite numbers that are at least 0, and not all 0. Text models only; the loss is on
    completions only.

    Source: the weighted SFT stage of Zhou et al. 2025, "Fair-PP" (arXiv:2505.11861). Their code divides by the sum of
    weights of one device's micro-batch, so that at one row a micro-batch the weights cancel; here they do not.

    Logged besides TRL's metrics, over the rows since the last log: `weights/mean`, `weights/max` and
    `weights/effective_sample_size` ((sum w)^2 / sum w^2, in rows).

    Raises:
        ValueError: A dataset has no usable columns or weights, or a setting is not supported; all are named at once.
        FloatingPointError: In training, a loss or a weight is infinite or NaN; see `WeightedTrainer`.
        TypeError: `args` has another class.

    Example:
        ```python
        from datasets import load_dataset
        from fairpp_hf import ReweightedSFTConfig, ReweightedSFTTrainer

        pairs = load_dataset("fairpp", "pairs", target="loyal_nationals")
        trainer = ReweightedSFTTrainer(
            model="Qwen/Qwen2.5-0.5B-Instruct",
            args=ReweightedSFTConfig(output_dir="outputs/loyal_nationals/sft"),
            train_dataset=pairs["train"],
        )
        trainer.train()
        ```
    """

    _tag_names = ["trl", "sft", "fairpp_hf", "reweighted-sft"]  # noqa: RUF012 (TRL's own form)
    _name = "Reweighted SFT"

    def __init__(
        self,
        model: Any,
        args: SFTConfig | None = None,
        data_collator: Any = None,
        train_dataset: Dataset | None = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        compute_loss_func: Any = None,
        compute_metrics: Any = None,
        callbacks: Any = None,
        optimizers: tuple[torch.optim.Optimizer | None, torch.optim.lr_scheduler.LambdaLR | None] = (None, None),
        optimizer_cls_and_kwargs: Any = None,
        preprocess_logits_for_metrics: Any = None,
        quantization_config: Any = None,
        peft_config: Any = None,
        formatting_func: Any = None,
    ) -> None:
        if args is None:
            name = model if isinstance(model, str) else model.config._name_or_path
            args = ReweightedSFTConfig(f"{name.split('/')[-1]}-Reweighted-SFT")
        elif not isinstance(args, SFTConfig):
            raise TypeError(
                f"args must be a ReweightedSFTConfig or a trl.SFTConfig; got {type(args).__name__}. Pass one of the two."
            )
        given = [*named_datasets(train_dataset, "train_dataset"), *named_datasets(eval_dataset, "eval_dataset")]
        self.weight_normalization = getattr(args, "weight_normalization", "dataset")
        problems = unsupported_sft_settings(args)
        for function, argument, reason in (
            ("compute_loss_func", compute_loss_func, "The weighted loss is the trainer's own."),
            ("compute_metrics", compute_metrics, "The trainer does not store the logits that it would need."),
            ("preprocess_logits_for_metrics", preprocess_logits_for_metrics, "The trainer does not store the logits."),
            ("formatting_func", formatting_func, "It makes one text of prompt and completion."),
        ):
            if argument is not None:
                problems.append(f"{function} must be None; got a function. {reason} Leave it out.")
        for name, dataset in given:
            problems += self._dataset_problems(dataset, name)
        if problems:
            raise ValueError("\n".join(problems))
        self.sums = {"train": WeightedSums(), "eval": WeightedSums()}
        super().__init__(
            model=model,
            args=args,
            data_collator=data_collator,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            callbacks=callbacks,
            optimizers=optimizers,
            optimizer_cls_and_kwargs=optimizer_cls_and_kwargs,
            quantization_config=quantization_config,
            peft_config=peft_config,
        )
        self.guard()
        processor: Any = self.processing_class
        check_vocabulary(getattr(processor, "tokenizer", processor), self.model.config)
        keep_four_bit_layout(self.model)
        parallelism = self.accelerator.parallelism_config
        if parallelism is not None and parallelism.non_data_parallel_size > 1:
            raise ValueError(
                f"parallelism_config must divide the data only; got tp_size={parallelism.tp_size}, "
                f"cp_size={parallelism.cp_size}, sp_size={parallelism.sp_size}. Tokens would be counted more than once. Use "
                "FSDP for a model that one device cannot hold."
            )
        if data_collator is None:
            plain = cast(DataCollatorForLanguageModeling, self.data_collator)
            self.data_collator = DataCollatorForWeightedLanguageModeling(**dataclasses.asdict(plain))

    # -- data ----------------------------------------------------------------------------------------------------------

    def _dataset_problems(self, dataset: Any, name: str) -> list[str]:
        """Why a dataset cannot be trained with, a sentence each."""
        problems = dataset_problems(dataset, name, self.weight_normalization)
        if isinstance(dataset, Dataset):
            columns = set(dataset.column_names)
            if "labels" not in columns and not ({"prompt", "completion"} <= columns or {"prompt", "chosen"} <= columns):
                problems.append(
                    f"{name} must have the columns 'prompt' and 'completion', or 'prompt' and 'chosen'; got columns "
                    f"{dataset.column_names}. Rename yours, or load pairs that have them: "
                    'load_dataset("fairpp", "pairs", target=...).'
                )
        return problems

    def _prepare_dataset(
        self,
        dataset: Any,
        processing_class: Any,
        args: SFTConfig,
        packing: bool,
        formatting_func: Any,
        dataset_name: str,
    ) -> Dataset:
        # Also for a dataset that is handed to `evaluate`, which __init__ has not seen.
        name = f"{dataset_name} dataset"
        if problems := self._dataset_problems(dataset, name):
            raise ValueError("\n".join(problems))
        # TRL decides by the first row of the training set, which may still be a pair.
        self.completion_only_loss = True
        if "chosen" in dataset.column_names and "completion" not in dataset.column_names:
            dataset = chosen_texts(dataset)
        prepared = super()._prepare_dataset(dataset, processing_class, args, packing, formatting_func, dataset_name)
        return self._with_weights(prepared, dataset, name, args.max_length)

    # -- loss ----------------------------------------------------------------------------------------------------------

    def step_share(self, batch: dict[str, Any]) -> Tensor:
        """The micro-batch's completion tokens, times their rows' weights for `"batch"`: a scalar."""
        tokens = _completion_tokens(batch["labels"])
        return (batch[WEIGHT] * tokens).sum() if self.weight_normalization == "batch" else tokens.sum()

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """This process's part of the step's loss, times the number of processes; see the class.

        In evaluation it is that of the batch alone, over its completion tokens; `eval_loss` is put together from sums.
        """
        weight = inputs[WEIGHT]
        tokens = _completion_tokens(inputs["labels"])
        # A model swallows unknown keyword arguments, so the weights must not reach it.
        inputs = {key: value for key, value in inputs.items() if key != WEIGHT}
        factor = weight
        if num_items_in_batch is not None:
            # TRL divides by 1 where the divisor is less, which a sum of weights may be.
            divisor = torch.as_tensor(num_items_in_batch)
            factor = weight * (divisor.clamp(min=1) / divisor)
        rows = _WeightedRows(model, factor)
        loss = super().compute_loss(cast(nn.Module, rows), inputs, return_outputs, num_items_in_batch)
        columns = {
            "weight": weight,
            "nll": rows.nll,
            "tokens": tokens,
            "weighted nll": weight * rows.nll,
            "weighted tokens": weight * tokens,
        }
        self.record(self._mode(), columns, loss[0] if return_outputs else loss, checked="nll")
        return loss

    def evaluation_loss(self) -> float:
        """The objective over all rows of the evaluation."""
        sums = self.sums["eval"].sums
        divisor = sums["weighted tokens" if self.weight_normalization == "batch" else "tokens"]
        return sums["weighted nll"] / divisor if divisor else 0.0


class _WeightedRows:
    """A model whose rows' log-probabilities are multiplied by their weights, so that TRL's sum over them is weighted."""

    def __init__(self, model: nn.Module, factor: Tensor) -> None:
        self.model = model
        self.factor = factor
        self.nll = factor.new_zeros(len(factor))
        """(B,): negative log-likelihood of each completion, unweighted, without gradient."""

    def __call__(self, **inputs: Any) -> Any:
        outputs = self.model(**inputs)
        # TRL also asks for logits, to return them; those have no weights.
        if inputs.get("fused_lm_head"):
            self.nll = -outputs.log_probs.detach().sum(dim=1)
            outputs.log_probs = outputs.log_probs * self.factor.to(outputs.log_probs.device).unsqueeze(1)
        return outputs


def _completion_tokens(labels: Tensor) -> Tensor:
    """Tokens of each row that are learnt, (B,), of labels (B, T); the first token of a row is never predicted."""
    return (labels[:, 1:] != IGNORED).sum(dim=1)
