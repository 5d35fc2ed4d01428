"""What every trainer here sees to: numbers that are numbers, whole checkpoints, and metrics with their set's name."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import EvalLoopOutput, TrainOutput

from fairpp_hf.training.checkpoints import checkpoint_to_resume, last_checkpoint


class Guarded:
    """Mixin for a `Trainer`.

    - Training stops at the first step whose loss, or whose weights after it, are not finite; on all processes at once, and
      before anything of it is saved. Losses are looked at where they are gathered for the log anyway; of the weights, one
      number an optimiser step is read.
    - `resume_from_checkpoint=True` is the last complete checkpoint, and an incomplete one is refused.
    - All metrics of an evaluation have the name of its set, so that the best checkpoint can be chosen by the right one.

    A subclass calls `guard` when it is set up, and `stop_unless_finite` with what it gathers.
    """

    accelerator: Any
    args: Any
    model: Any
    state: Any
    _metrics: dict[str, dict[str, list[float]]]

    def guard(self) -> None:
        """Look at the weights after each optimiser step from now on."""
        self.add_callback(_FiniteWeights(self))  # type: ignore[attr-defined]

    def _mode(self) -> str:
        return "train" if self.model.training else "eval"

    # -- numbers -------------------------------------------------------------------------------------------------------

    def stop_unless_finite(self, losses: Tensor) -> None:
        """Stop where a loss of the micro-batch is no number.

        Args:
            losses: of all processes, so that all stop or none, (n,), on the CPU.

        Raises:
            FloatingPointError: one is infinite or NaN.
        """
        wrong = losses[~torch.isfinite(losses)]
        if len(wrong):
            self._stop(f"a loss of {wrong[0].item()} at step {self.state.global_step + 1}")

    def stop_unless_weights_finite(self, when: str, *, together: bool = True) -> None:
        """Stop where a weight that is trained is no number.

        Args:
            when: for the message, such as "after step 3".
            together: on whichever process; otherwise on this one.

        Raises:
            FloatingPointError: one is infinite or NaN.
        """
        finite = torch.tensor([_is_finite(self.model)], device=self.args.device)
        if not (self.accelerator.gather(finite) if together else finite).all():
            self._stop(f"weights that are infinite or NaN {when}")

    def _stop(self, found: str) -> None:
        checkpoint, _ = last_checkpoint(Path(str(self.args.output_dir)), main_process=False)
        kept = (
            "There is no checkpoint before it."
            if checkpoint is None
            else f"The last checkpoint is {checkpoint}: --resume_from_checkpoint last goes on from it, at its learning rate."
        )
        raise FloatingPointError(
            f"Losses and weights must be finite; got {found}. Nothing of it is saved. {kept} Begin again with a "
            f"learning_rate below {self.args.learning_rate:g}; if this was the first step, the model itself computes no "
            "numbers: try dtype: float32."
        )

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As in `Trainer`, for weights that are numbers."""
        # Where every process has all weights, one may save on its own.
        divided = self.is_fsdp_enabled or self.is_deepspeed_enabled  # type: ignore[attr-defined]
        self.stop_unless_weights_finite("before they are saved", together=divided)
        super().save_model(output_dir, _internal_call)  # type: ignore[misc]

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """As in `Trainer`, from a checkpoint that is complete."""
        if resume_from_checkpoint:
            resume_from_checkpoint = checkpoint_to_resume(
                str(resume_from_checkpoint),
                Path(str(self.args.output_dir)),
                main_process=self.is_world_process_zero(),  # type: ignore[attr-defined]
            )
        return super().train(resume_from_checkpoint or None, *args, **kwargs)  # type: ignore[misc]

    # -- metrics -------------------------------------------------------------------------------------------------------

    def evaluation_metrics(self) -> dict[str, float]:
        """What the evaluation that has just been run says besides its loss, by name; and forget it."""
        metrics = {name: sum(values) / len(values) for name, values in self._metrics["eval"].items()}
        self._metrics["eval"].clear()
        return metrics

    def evaluation_loss(self) -> float:
        """The loss over the whole set of the evaluation that has just been run."""
        raise NotImplementedError

    def evaluation_loop(
        self,
        dataloader: Any,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """As in `Trainer`, with the loss over the whole set in place of a mean over batches, and with all metrics.

        `Trainer` logs these later, and TRL would then give all of them the prefix `eval_`, whichever set they are of.
        """
        self.evaluation_metrics()  # of a prediction that nobody has logged
        output = super().evaluation_loop(  # type: ignore[misc]
            dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix
        )
        found = {"loss": self.evaluation_loss(), **self.evaluation_metrics()}
        named = {f"{metric_key_prefix}_{name}": value for name, value in found.items()}
        return output._replace(metrics={**(output.metrics or {}), **named})


class _FiniteWeights(TrainerCallback):
    def __init__(self, trainer: Guarded) -> None:
        self.trainer = trainer

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.trainer.stop_unless_weights_finite(f"after step {state.global_step + 1}")


def _is_finite(model: nn.Module) -> bool:
    """Whether this process's part of all weights that are trained are numbers; one pass over them."""
    parts = [_local(parameter).detach() for parameter in model.parameters() if parameter.requires_grad]
    parts = [part for part in parts if part.numel() and part.is_floating_point()]
    # The norm is several times faster than a look at each number, and may overflow where all of them are numbers.
    if not parts or torch.isfinite(torch.nn.utils.get_total_norm(parts)):
        return True
    return all(bool(torch.isfinite(part).all()) for part in parts)


def _local(parameter: nn.Parameter) -> Tensor:
    """What a process has of a parameter that FSDP or ZeRO-3 divides."""
    if hasattr(parameter, "to_local"):
        return parameter.to_local()
    return getattr(parameter, "ds_tensor", parameter)
