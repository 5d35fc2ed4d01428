"""One optimiser step as one weighted sum: the divisor is known before the first micro-batch is computed."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.distributed.fsdp import MixedPrecisionPolicy


class WeightedStep:
    """Mixin for a `Trainer` whose loss is sum_i w_i l_i / D over *all* rows i of an optimiser step.

    `Trainer` averages the means of micro-batches and of processes. That is the mean over the step's rows only where all
    are equally long, and no mean of ratios equals sum(w l) / sum(w) over the step. So D is added up beforehand, over all
    accumulated micro-batches and all processes, and every micro-batch divides its own sum by it: 8 x 1 accumulated, 1 x 8
    and 2 processes x 4 give the same gradient.

    A subclass says what a micro-batch adds to D (`step_share`), and multiplies its local sum by `self.step_scale / D`. A
    loss of two sums, each with a divisor of its own, has a D of two numbers.
    """

    # Trainer would divide by the number of micro-batches once more.
    loss_is_scaled_for_ga = True

    accelerator: Any
    args: Any
    full_precision_columns: tuple[str, ...] = ("weight",)
    """Columns of a batch that keep their precision."""

    def step_share(self, batch: dict[str, Any]) -> Tensor:
        """What one micro-batch adds to the divisor of its step: a scalar, or (k,)."""
        raise NotImplementedError

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor]:
        """The micro-batches of one optimiser step, and its divisor D over all processes, a tensor."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)  # type: ignore[misc]
        share = torch.zeros((), device=device)
        for batch in batches:
            share = share + self.step_share(batch).to(device=device, dtype=share.dtype)
        # An epoch that ends within the window leaves it empty on every process alike.
        divisor = self.accelerator.gather(share.unsqueeze(0)).sum(dim=0) if batches else share
        # All weights of a step may be 0: its sum is then 0, and so must the loss be.
        return batches, torch.where(divisor > 0, divisor, torch.ones_like(divisor))

    def create_accelerator_and_postprocess(self) -> None:
        """As in `Trainer`; but log-probabilities leave a model that FSDP2 shards in float32.

        Accelerate has FSDP2 cast all outputs to the 16 bits of mixed precision, in which a completion's log-probability of
        -80 is known to half a nat, and a margin to no better.
        """
        super().create_accelerator_and_postprocess()  # type: ignore[misc]
        plugin: Any = getattr(self.accelerator.state, "fsdp_plugin", None)
        policy = getattr(plugin, "mixed_precision_policy", None)
        if isinstance(policy, MixedPrecisionPolicy):
            plugin.mixed_precision_policy = dataclasses.replace(policy, output_dtype=torch.float32)

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """As in `Trainer`; but DeepSpeed's 16 bits are for the model, not for weights and log-probabilities."""
        prepared = super()._prepare_inputs(inputs)  # type: ignore[misc]
        precise = {name: inputs[name].to(self.args.device) for name in self.full_precision_columns if name in inputs}
        return {**prepared, **precise}

    @property
    def step_scale(self) -> int:
        """Undoes the mean that data-parallel training takes over the gradients of its processes."""
        return int(self.accelerator.num_processes)
