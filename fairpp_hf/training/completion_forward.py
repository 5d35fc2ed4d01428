"""One forward of a model over a batch's completions, their prompts shared where that is exact."""

from typing import Any, NamedTuple, cast

from accelerate import Accelerator
from torch import Tensor, nn

from fairpp_hf.scoring.shared_prefix import PADDING, model_inputs, only_positions, separate_rows
from fairpp_hf.scoring.sharing import PrefixSharing
from fairpp_hf.training.frozen_head import shorter_backward


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
    """Runs a model on batches of `shared_prefix.lay_out`, each model's rows as `PrefixSharing` allows.

    Args:
        accelerator: The trainer's accelerator, which unwraps models.
        share_prefix: `"auto"`, True or False, see `ReweightedDPOConfig`.
        pad_token_id: Padding token of the rows.
        router_loss: Whether the balance of a mixture of experts is part of the loss.
    """

    def __init__(
        self, accelerator: Accelerator, *, share_prefix: str | bool, pad_token_id: int, router_loss: bool
    ) -> None:
        self.accelerator = accelerator
        self.share_prefix = share_prefix
        self.pad_token_id = pad_token_id
        self.router_loss = router_loss
        self._sharing: dict[int, PrefixSharing] = {}
        # Policy and reference mostly have the same to say.
        self._said: set[str] = set()

    def __call__(self, model: nn.Module, batch: dict[str, Tensor], **model_kwargs: Any) -> CompletionTokens:
        """One forward over the C completions of a batch.

        Args:
            model: A causal language model with TRL's fused head, wrapped for training or not.
            batch: A batch from the collator.
            model_kwargs: Further arguments of the model.

        Raises:
            ValueError: Prompts must be shared and cannot be.
        """
        # With as many rows as completions no prompt is shared, and it is the plain layout.
        shared = len(batch["input_ids"]) != len(batch["place"])
        if shared and not self._shares(model, batch):
            batch, shared = separate_rows(batch, self.pad_token_id), False
        return self._run(model, batch, shared=shared, **model_kwargs)

    def sharing(self, model: nn.Module) -> PrefixSharing:
        """What decides whether this model's rows share prompts."""
        model = self.accelerator.unwrap_model(model, keep_torch_compile=False)
        if id(model) not in self._sharing:
            self._sharing[id(model)] = PrefixSharing(
                model,
                obstacle="the balance of a mixture of experts counts all tokens, and would count a shared prompt once"
                if self.router_loss
                else None,
                said=self._said,
            )
        return self._sharing[id(model)]

    @property
    def fell_back(self) -> bool:
        """Whether some model was found not to share prompts."""
        return any(sharing.off for sharing in self._sharing.values())

    def _shares(self, model: nn.Module, batch: dict[str, Tensor]) -> bool:
        if self.share_prefix is False:
            return False
        sharing = self.sharing(model)
        with self.accelerator.autocast():
            reason = sharing.reason_against(batch["input_ids"].size(1), int(batch["sequence_length"].max()))
        if reason is not None and self.share_prefix is True:
            raise ValueError(cannot_share(model, reason))
        return reason is None

    def _run(
        self, model: nn.Module, batch: dict[str, Tensor], *, shared: bool, **model_kwargs: Any
    ) -> CompletionTokens:
        causal_lm = self.sharing(model).causal_lm
        eager = causal_lm.config.get_text_config()._attn_implementation == "eager"
        inputs = model_inputs(batch, shared=shared, eager=eager, dtype=causal_lm.dtype)
        with (
            only_positions(causal_lm.base_model, batch["predicted_by"], batch["input_ids"].size(1)),
            shorter_backward(),
        ):
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


def cannot_share(model: nn.Module, reason: str) -> str:
    """The error where prompts must be shared and cannot be."""
    return (
        f"share_prefix must be 'auto' or False for {type(model).__name__}; got True. {reason[0].upper()}{reason[1:]}."
    )
