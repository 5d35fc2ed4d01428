"""Group robustness: weights of groups that grow with the groups' losses."""

import logging
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

logger = logging.getLogger(__name__)


class GroupWeights(TrainerCallback, ExportableState):
    """Exponentiated-gradient weights alpha over G groups, saved with every checkpoint.

    Minimises max over alpha of sum_g alpha_g L_g instead of the average loss, where L_g is the weighted mean loss of
    group g. A pair's loss is multiplied by alpha_g / s_g, with s_g the group's share of the weight, and after each
    optimiser step

        alpha_g <- alpha_g exp(step_size * L_g) / Z,

    with L_g estimated without bias by (sum over the step's pairs in g of w_i l_i / D) / s_g, which is 0 for a group that
    the step does not have.

    Source: Ramesh et al. 2024, "Group Robust Preference Optimization in Reward-free RLHF" (arXiv:2405.20304), Algorithm 1,
    whose N / N_g is 1 / s_g here, for pairs that have weights.

    Args:
        names: Names of the groups; those that only evaluation has come last.
        share: (G,), each group's share of the training pairs' weight, sum 1; 0 for a group without training pairs.
        step_size: Step size of the ascent, above 0.
    """

    def __init__(self, names: list[str], share: NDArray[np.float64], step_size: float) -> None:
        self.names = names
        self.share = torch.tensor(share, dtype=torch.float64)
        self.step_size = step_size
        self._begin()

    def _begin(self) -> None:
        trained = (self.share > 0).double()
        self.alpha = trained / trained.sum()
        self._sums = torch.zeros_like(self.share)

    def factor(self, group: Tensor) -> Tensor:
        """alpha_g / s_g for the group of each pair, (P,)."""
        return self._by_share(self.alpha).to(group.device)[group]

    def _by_share(self, values: Tensor) -> Tensor:
        return torch.where(self.share > 0, values / self.share.clamp(min=1e-300), 0.0)

    def add(self, group: Tensor, weighted_losses: Tensor) -> None:
        """Take in pairs of the current step: their groups, and w_i l_i / D, each (P,)."""
        self._sums.index_add_(0, group.cpu(), weighted_losses.detach().double().cpu())

    def step(self) -> None:
        """Move alpha by the losses of one optimiser step."""
        losses = self._by_share(self._sums)
        self._sums.zero_()
        # Shifted by the largest, which the normalisation takes out again, so that exp cannot overflow.
        self.alpha = self.alpha * torch.exp(self.step_size * (losses - losses.max()))
        self.alpha /= self.alpha.sum()

    def state(self) -> dict[str, Any]:
        """The state that a checkpoint stores."""
        weights = dict(zip(self.names, self.alpha.tolist(), strict=True))
        return {"args": {}, "attributes": {"weights": weights}}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begin with equal weights, or with those of the checkpoint that the run is resumed from."""
        self._begin()
        if not state.global_step:
            return
        saved = cast(dict[str, Any], state.stateful_callbacks or {}).get(type(self).__name__)
        weights = saved["attributes"]["weights"] if isinstance(saved, dict) else {}
        unknown = [
            name for name, share in zip(self.names, self.share, strict=True) if share > 0 and name not in weights
        ]
        if unknown:
            raise ValueError(
                f"A checkpoint must have a weight for every group; got none for {unknown[0]!r} ({len(unknown)} such). "
                "Resume with the data and the group_column that the run began with."
            )
        self.alpha = torch.tensor([weights.get(name, 0.0) for name in self.names], dtype=torch.float64)
        logger.info("Group weights taken up from the checkpoint: %s", weights)
