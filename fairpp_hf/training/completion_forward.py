"""One forward of a model over a batch's completions, their prompts shared where that is exact."""

import logging
from typing import Any, NamedTuple, cast

import torch
from accelerate import Accelerator
from accelerate.utils import is_peft_model
from torch import Tensor, nn
from transformers import PreTrainedModel

from fairpp_hf.scoring.shared_prefix import (
    HALF_PRECISION_TOLERANCE,
    PADDING,
    TOLERANCE,
    model_inputs,
    only_positions,
    separate_rows,
    sharing_obstacle,
)

logger = logging.getLogger(__name__)


class CompletionTokens(NamedTuple):
    """What a model says of the tokens of C completions; fields are (C, L), 0 where `completion_mask` is False."""

    logps: Tensor
    """log-probability of each token."""
    entropy: Tensor | None
    """of the distribution that predicts the token, nats."""
    mean_logits: Tensor | None
    is_top1: Tensor | None
    """whether the token is the most likely one."""
    aux_loss: Tensor | None
    """of a mixture of experts, a scalar."""
    computed: Tensor
    """tokens that went through the model, a whole number."""


class CompletionForward:
    """Runs a model on batches of `shared_prefix.lay_out`.

    Whether prompts can be shared is found out once for each model: nothing in its configuration is known to stand in the
    way, and on the first batch with a shared prompt the log-probabilities are those of separate sequences.

    Args:
        accelerator: of the trainer; a model is unwrapped with it, and all processes decide alike.
        share_prefix: `"auto"`, True or False, see `ReweightedDPOConfig`.
        max_length: longest sequence, in tokens.
        pad_token_id: of the rows.
        half_precision: whether models compute in 16 bits or fewer, where rounding differs more.
        router_loss: whether the balance of a mixture of experts is part of the loss.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        *,
        share_prefix: str | bool,
        max_length: int | None,
        pad_token_id: int,
        half_precision: bool,
        router_loss: bool,
    ) -> None:
        self.accelerator = accelerator
        self.share_prefix = share_prefix
        self.max_length = max_length
        self.pad_token_id = pad_token_id
        self.tolerance = HALF_PRECISION_TOLERANCE if half_precision else TOLERANCE
        self.router_loss = router_loss
        self._can_share: dict[int, bool] = {}

    def __call__(self, model: nn.Module, batch: dict[str, Tensor], **model_kwargs: Any) -> CompletionTokens:
        """One forward over the C completions of a batch.

        Args:
            model: a causal language model with TRL's fused head, wrapped for training or not.
            batch: from the collator.
            model_kwargs: more arguments of the model.

        Raises:
            ValueError: prompts must be shared and cannot be.
        """
        # As many rows as completions: no prompt is shared, and the plain layout it is.
        has_shared = len(batch["input_ids"]) != len(batch["place"])
        can_share = self._shares(model, batch, has_shared)
        if has_shared and can_share:
            return self._run(model, batch, shared=True, **model_kwargs)
        if has_shared:
            batch = separate_rows(batch, self.pad_token_id)
        return self._run(model, batch, shared=False, **model_kwargs)

    def obstacle(self, model: nn.Module) -> str | None:
        """Why this model cannot share prompts, as far as its configuration tells."""
        unwrapped = self.accelerator.unwrap_model(model)
        if any(config.is_prompt_learning for config in getattr(unwrapped, "peft_config", {}).values()):
            return "a prompt-learning adapter puts virtual tokens before every row"
        causal_lm = self._causal_lm(model)
        if getattr(causal_lm, "_is_stateful", False):
            return "the model carries a state from token to token"
        if self.router_loss:
            return "the balance of a mixture of experts counts all tokens, and would count a shared prompt once"
        return sharing_obstacle(causal_lm.config, self.max_length)

    @property
    def fell_back(self) -> bool:
        """Whether some model was found not to share prompts."""
        return not all(self._can_share.values())

    def _shares(self, model: nn.Module, batch: dict[str, Tensor], has_shared: bool) -> bool:
        key = id(self._causal_lm(model))
        if key not in self._can_share:
            if self.share_prefix is False or self.obstacle(model) is not None:
                self._can_share[key] = False
                return False
            # Processes have batches of their own, and must come to the check together.
            if not self.accelerator.gather(torch.tensor([has_shared], device=batch["input_ids"].device)).any():
                return False
            self._can_share[key] = self._agrees(model, batch)
        return self._can_share[key]

    def _agrees(self, model: nn.Module, batch: dict[str, Tensor]) -> bool:
        """Compare with the plain forward on real rows, the same decision on every process."""
        reason = None
        was_training = model.training
        model.eval()
        try:
            with torch.no_grad(), self.accelerator.autocast():
                plain = self._run(model, separate_rows(batch, self.pad_token_id), shared=False).logps
                try:
                    shared = self._run(model, batch, shared=True).logps
                except Exception as error:  # whatever an unknown architecture says to a mask of its own for each row
                    reason = f"the model does not take such rows ({type(error).__name__}: {error})"
        finally:
            model.train(was_training)
        if reason is None:
            difference = (shared - plain).abs().sum().item() / int(batch["completion_mask"].sum())
            if not difference <= self.tolerance:
                reason = f"log-probabilities differ from those of separate sequences by {difference:.2g} nats a token"
        agreed = self.accelerator.gather(torch.tensor([reason is None], device=batch["input_ids"].device))
        if agreed.all():
            logger.info(
                "Prompts are shared: log-probabilities as of separate sequences (mean difference %.1g).", difference
            )
            return True
        reason = reason or "another process found that they differ from those of separate sequences"
        if self.share_prefix is True:
            raise ValueError(cannot_share(model, reason))
        logger.warning("Prompts are computed for each completion, which is slower: %s.", reason)
        return False

    def _run(
        self, model: nn.Module, batch: dict[str, Tensor], *, shared: bool, **model_kwargs: Any
    ) -> CompletionTokens:
        causal_lm = self._causal_lm(model)
        eager = causal_lm.config.get_text_config()._attn_implementation == "eager"
        inputs = model_inputs(batch, shared=shared, eager=eager, dtype=causal_lm.dtype)
        with only_positions(causal_lm.base_model, batch["predicted_by"], batch["input_ids"].size(1)):
            outputs = model(
                **inputs,
                use_cache=False,
                shift_labels=batch["target_ids"].unsqueeze(0),
                fused_lm_head=True,
                **model_kwargs,
            )
        mask = batch["completion_mask"]

        def by_completion(values: Tensor | None) -> Tensor | None:
            return None if values is None else values.new_zeros(mask.shape).masked_scatter(mask, values.squeeze(0))

        return CompletionTokens(
            logps=cast(Tensor, by_completion(outputs.log_probs)),
            entropy=by_completion(outputs.entropy),
            mean_logits=by_completion(outputs.mean_logits),
            is_top1=by_completion(outputs.is_top1),
            aux_loss=outputs.aux_loss,
            computed=(batch["segment"] != PADDING).sum(),
        )

    def _causal_lm(self, model: nn.Module) -> PreTrainedModel:
        unwrapped = self.accelerator.unwrap_model(model)
        return cast(PreTrainedModel, unwrapped.get_base_model() if is_peft_model(unwrapped) else unwrapped)


def cannot_share(model: nn.Module, reason: str) -> str:
    """The error where prompts must be shared and cannot be."""
    return (
        f"share_prefix must be 'auto' or False for {type(model).__name__}; got True. {reason[0].upper()}{reason[1:]}."
    )
