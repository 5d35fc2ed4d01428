"""What the weighted trainers share: one weighted sum a step, finite numbers, complete checkpoints, exact metrics, a card."""

import json
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, EvalLoopOutput, TrainOutput

from fairpp_hf.training.columns import normalize_weights, without_selection
from fairpp_hf.training.metrics import WeightedSums
from fairpp_hf.training.model_card import collect_facts, render_model_card
from fairpp_hf.training.weighted_step import WeightedStep

CARD = "README.md"
CHECKPOINT_PARTS = ("model", "optimizer", "scheduler")
"""Words in the names of the files or folders that a complete checkpoint has, whole, sharded or of an adapter."""

logger = logging.getLogger(__name__)


class WeightedTrainer(WeightedStep):
    """Mixin for a TRL trainer whose rows have weights; it stands before TRL's trainer among the base classes.

    - An optimiser step is one weighted sum over all of its rows, see `WeightedStep`.
    - Training stops at the first step with a loss, or with weights after it, that are not finite; on all processes at
      once, and before anything of it is saved. Losses are checked when they are gathered for the log anyway; of the
      weights, one number an optimiser step is read.
    - `resume_from_checkpoint=True` is the last complete checkpoint, and an incomplete one is refused.
    - Logged metrics are exact over all rows since the last log. All metrics of an evaluation have the name of its dataset,
      so that the best checkpoint can be chosen by the right one.
    - The model's card says whose preferences it has and how they were weighed. TRL writes the card with every checkpoint
      and before a push; here it is also written when a user saves the model into the output folder, with the final metrics.

    A subclass sets `weight_normalization` and `sums`, calls `guard` at the end of its `__init__`, and `record` with the
    rows of each batch.
    """

    card_facts: Mapping[str, Any] = {}
    """What the trainer cannot know, to be set on it: keys of `model_card.CARD_FACTS`."""

    model: Any
    state: Any
    weight_normalization: str
    sums: dict[str, Any]
    """Sums over rows by mode, `"train"` and `"eval"`; `WeightedSums` each."""
    _metrics: dict[str, dict[str, list[float]]]
    _signature_columns: list[str] | None

    def guard(self) -> None:
        """Check the model's weights after each optimiser step from now on."""
        self.add_callback(_FiniteWeights(self))  # type: ignore[attr-defined]

    def _mode(self) -> str:
        return "train" if self.model.training else "eval"

    # -- data ----------------------------------------------------------------------------------------------------------

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()  # type: ignore[misc]
        # Without this, `Trainer` drops the columns without a warning before the collator sees them.
        columns = cast(list[str], self._signature_columns)
        columns += [name for name in self.full_precision_columns if name not in columns]

    def _with_weights(self, prepared: Any, before: Dataset, name: str, max_length: int | None) -> Dataset:
        """A dataset that TRL has prepared, with normalised weights; a warning counts the rows that it dropped."""
        if dropped := len(before) - len(prepared):
            warnings.warn(
                f"{dropped} of {len(before)} rows of the {name} are left out: their prompts alone fill "
                f"max_length={max_length} tokens. Raise max_length to keep them.",
                stacklevel=2,
            )
        else:
            prepared = without_selection(prepared)
        return normalize_weights(prepared, name, self.weight_normalization)

    # -- numbers -------------------------------------------------------------------------------------------------------

    def stop_unless_weights_finite(self, when: str, *, together: bool = True) -> None:
        """Stop if a trained weight of any process, or with `together=False` of this one, is infinite or NaN.

        Raises:
            FloatingPointError: A weight is infinite or NaN; the message says `when`, such as "after step 3".
        """
        finite = torch.tensor([_is_finite(self.model)], device=self.args.device)
        if not (self.accelerator.gather(finite) if together else finite).all():
            self._stop(f"weights that are infinite or NaN {when}")

    def _stop(self, found: str) -> None:
        checkpoint = last_checkpoint(Path(str(self.args.output_dir)))
        before = (
            "There is no checkpoint before it."
            if checkpoint is None
            else f"The last checkpoint is {checkpoint}: resume_from_checkpoint='last' goes on from it, at its learning rate."
        )
        raise FloatingPointError(
            f"Losses and weights must be finite; got {found}. Nothing of it is saved. {before} Start again with a "
            f"learning_rate below {self.args.learning_rate:g}; if this was the first step, the model itself computes no "
            "finite numbers: try dtype float32."
        )

    # -- saving --------------------------------------------------------------------------------------------------------

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """As in `Trainer`, from a checkpoint that is complete."""
        if resume_from_checkpoint:
            resume_from_checkpoint = checkpoint_to_resume(
                str(resume_from_checkpoint),
                Path(str(self.args.output_dir)),
                main_process=self.is_world_process_zero(),  # type: ignore[attr-defined]
            )
        return super().train(resume_from_checkpoint or None, *args, **kwargs)  # type: ignore[misc]

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model as `Trainer` does, if its weights are finite; in the output folder, also its card."""
        # If every process has all weights, one may save on its own.
        divided = self.is_fsdp_enabled or self.is_deepspeed_enabled  # type: ignore[attr-defined]
        self.stop_unless_weights_finite("before they are saved", together=divided)
        super().save_model(output_dir, _internal_call)  # type: ignore[misc]
        # Afterwards, because PEFT puts its own tags into a card that it finds.
        if not _internal_call and output_dir in (None, self.args.output_dir):
            self.create_model_card()

    def create_model_card(
        self, model_name: str | None = None, dataset_name: str | None = None, tags: str | list[str] | None = None
    ) -> None:
        """Write README.md into the output folder, in place of the card there, on the main process; see `collect_facts`.

        It also says everything that PEFT's card says: library, pipeline, tags, base model and PEFT's version.
        """
        if not self.is_world_process_zero():  # type: ignore[attr-defined]
            return
        folder = Path(self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        text = render_model_card(collect_facts(self, model_name, dataset_name, tags))
        (folder / CARD).write_text(text, encoding="utf-8", newline="\n")

    # -- metrics -------------------------------------------------------------------------------------------------------

    def record(self, mode: str, columns: Mapping[str, Tensor], objective: Tensor, checked: str) -> dict[str, Tensor]:
        """Add the rows of all processes to `sums`, and stop if a loss of training is not finite.

        Args:
            mode: `"train"` or `"eval"`.
            columns: This process's rows, (B,) each.
            objective: The micro-batch's part of the objective, a scalar.
            checked: Name of the column that must be finite, besides the objective.

        Returns:
            The columns of all processes, (rows,) each, float64 on the CPU.

        Raises:
            FloatingPointError: A loss of training is infinite or NaN.
        """
        weight = columns["weight"]
        with torch.no_grad():
            of_rows = {**columns, "objective": objective.expand(len(weight))}
            stacked = torch.stack([column.detach().double().to(weight.device) for column in of_rows.values()], dim=1)
            # In evaluation, the rows that pad the last batch are left out. In training there are none, and
            # gather_for_metrics would take the end of the accumulation window for the end of the data.
            gather = self.accelerator.gather_for_metrics if mode == "eval" else self.accelerator.gather
            gathered = dict(zip(of_rows, gather(stacked).cpu().unbind(dim=1), strict=True))
        objectives = gathered.pop("objective")
        losses = torch.cat([gathered[checked], objectives])
        if mode == "train" and not torch.isfinite(losses).all():  # of all processes, so that all stop or none
            wrong = losses[~torch.isfinite(losses)][0].item()
            self._stop(f"a loss of {wrong} at step {self.state.global_step + 1}")
        self.sums[mode].add(gathered)
        return gathered

    def summary(self, mode: str) -> dict[str, float]:
        """The metrics of all rows since the last log, by name; the sums start again."""
        sums: WeightedSums = self.sums[mode]
        found = sums.summary() if sums.rows else {}
        sums.clear()
        return found

    def evaluation_loss(self) -> float:
        """The loss over the whole dataset of the evaluation that has just been run."""
        raise NotImplementedError

    def evaluation_loop(
        self,
        dataloader: Any,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """As in `Trainer`, with the loss over the whole dataset instead of a mean over batches, and with all metrics.

        `Trainer` logs these later, and TRL would then give all of them the prefix `eval_`, whichever dataset they are of.
        """
        for left in (self._metrics["eval"], self.sums["eval"]):  # of a prediction that was not logged
            left.clear()
        output = super().evaluation_loop(  # type: ignore[misc]
            dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix
        )
        means = {name: sum(values) / len(values) for name, values in self._metrics["eval"].items()}
        found = {"loss": self.evaluation_loss(), **means, **self.summary("eval")}
        self._metrics["eval"].clear()
        named = {f"{metric_key_prefix}_{name}": value for name, value in found.items()}
        return output._replace(metrics={**(output.metrics or {}), **named})

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the metrics of all rows since the last log, then log as TRL does."""
        if self._mode() == "train":
            self._metrics["train"] |= {name: [value] for name, value in self.summary("train").items()}
        super().log(logs, start_time)  # type: ignore[misc]


class _FiniteWeights(TrainerCallback):
    def __init__(self, trainer: WeightedTrainer) -> None:
        self.trainer = trainer

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.trainer.stop_unless_weights_finite(f"after step {state.global_step + 1}")


def _is_finite(model: nn.Module) -> bool:
    """Whether this process's part of all trained weights is finite; one pass over them."""
    parts = [_local(parameter).detach() for parameter in model.parameters() if parameter.requires_grad]
    parts = [part for part in parts if part.numel() and part.is_floating_point()]
    # The norm is several times faster than a look at each number, and may overflow although all of them are finite.
    if not parts or torch.isfinite(torch.nn.utils.get_total_norm(parts)):
        return True
    return all(bool(torch.isfinite(part).all()) for part in parts)


def _local(parameter: nn.Parameter) -> Tensor:
    """The part of a parameter that this process has, under FSDP or ZeRO-3."""
    if hasattr(parameter, "to_local"):
        return parameter.to_local()
    return getattr(parameter, "ds_tensor", parameter)


# -- checkpoints -------------------------------------------------------------------------------------------------------


def flaw_of(checkpoint: Path) -> str | None:
    """What a checkpoint lacks for training to go on as it was; None if it is complete.

    `Trainer` writes its state last, after weights and optimizer, and a kill leaves a folder that looks like the others.
    Without an optimizer or a scheduler, as `save_only_model` leaves a checkpoint, it would start new ones without a word,
    and come to other weights.
    """
    try:
        json.loads((checkpoint / TRAINER_STATE_NAME).read_text("utf-8"))
    except (OSError, ValueError):
        return f"{TRAINER_STATE_NAME} is missing or cut off"
    names = [path.name for path in checkpoint.iterdir()]
    if any(name.startswith("global_step") for name in names):  # DeepSpeed's, with all of it
        return None
    return next((f"{part} is missing" for part in CHECKPOINT_PARTS if not any(part in name for name in names)), None)


def last_checkpoint(folder: Path, *, said: bool = False) -> str | None:
    """The last complete checkpoint in the output folder of a training, if any; `said` logs which are passed over."""
    found = folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*")
    numbered = {
        int(number): path
        for path in found
        if (number := path.name.removeprefix(f"{PREFIX_CHECKPOINT_DIR}-")).isdecimal()
    }
    for _, path in sorted(numbered.items(), reverse=True):
        flaw = flaw_of(path)
        if flaw is None:
            return str(path)
        if said:
            logger.warning("%s is incomplete and is passed over: its %s.", path, flaw)
    return None


def checkpoint_to_resume(asked: str, folder: Path, *, main_process: bool = True) -> str:
    """The checkpoint that a training goes on from.

    If there is none, training does not start from the beginning: a user who asks to go on has something to lose, and may
    have named the wrong folder.

    Args:
        asked: `"last"`, `"true"` or the folder of a checkpoint.
        folder: Output folder of the training.
        main_process: Whether this process logs the choice.

    Raises:
        ValueError: There is no checkpoint, or it is incomplete.
    """
    if asked.lower() not in ("last", "true"):
        if flaw := flaw_of(Path(asked)):
            raise ValueError(
                f"resume_from_checkpoint must be a complete checkpoint; got {asked!r}, whose {flaw}. Training would go on "
                "to other weights, or not at all. Set it to 'last' for the last complete one."
            )
        return asked
    found = last_checkpoint(folder, said=main_process)
    if found is None:
        raise ValueError(
            f"resume_from_checkpoint must find a complete checkpoint; got none in {str(folder)!r}. Leave it out to start "
            "from the beginning."
        )
    if main_process:
        logger.warning("Training goes on from %s.", found)
    return found
