"""Log-probabilities through a language-model head that is not trained, such as that under an adapter.

TRL's fused head projects twice more in its backward: once to have the logits again, and once for the gradient. Where the
head's weights need no gradient, there is a shorter way. With z = W h and log p(t) = z_t - log sum_v exp(z_v), the gradient
of log p(t) with respect to h is W^T (e_t - p), whatever the loss; the loss only scales it. So it is computed in the
forward, where p is at hand, stored at the size of h, and multiplied in the backward.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
import trl.trainer.utils as trl_utils
from torch import Tensor

_NAME = "_ChunkedLogProbFunction"
_TRLS_OWN = getattr(trl_utils, _NAME)

_LOGITS_AT_ONCE = 2**23
"""Elements of the float32 logits that exist at a time: 32 MiB."""


@contextmanager
def shorter_backward() -> Iterator[None]:
    """Within this context, models with TRL's fused head (`add_fused_lm_head`) go the shorter way where they can."""
    setattr(trl_utils, _NAME, _Chosen)
    try:
        yield
    finally:
        setattr(trl_utils, _NAME, _TRLS_OWN)


class _Chosen:
    """Stands where TRL looks for its autograd function."""

    @staticmethod
    def apply(
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        temperature: float,
        chunk_size: int,
        softcap: float | None,
        logit_scale: float,
        outputs: tuple[str, ...],
    ) -> tuple[Tensor | None, ...]:
        """As TRL's function, with its arguments and results."""
        # Not whether a gradient is wanted right now: policy and reference go the same way, and agree to the last digit.
        is_trained = any(part is not None and part.requires_grad for part in (weight, bias))
        if is_trained or softcap is not None or "log_sum_sq_probs" in outputs:
            found = _TRLS_OWN.apply(
                hidden, weight, bias, targets, temperature, chunk_size, softcap, logit_scale, outputs
            )
        else:
            found = FrozenHeadLogProbs.apply(hidden, weight, bias, targets, logit_scale / temperature)
        return cast(tuple[Tensor | None, ...], found)


class FrozenHeadLogProbs(torch.autograd.Function):
    """Per-token log-probabilities of `scale * (hidden @ weight.T + bias)`, with a gradient for `hidden` alone.

    Returns:
        As TRL's `ChunkedLogProbFunction`: log-probabilities (N,), entropies in nats (N,), None, mean logits (N,), and
        whether the target is the most probable token (N,); a tie with an earlier token is none. Only the first has a
        gradient.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, scale: float
    ) -> tuple[Tensor | None, ...]:
        """Compute log-probabilities and, where a gradient is wanted, their gradients.

        Args:
            ctx: Context of the backward.
            hidden: (N, H).
            weight: (V, H).
            bias: (V,), or None.
            targets: (N,), token ids.
            scale: Factor of the logits.
        """
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        head = weight.to(dtype)
        rows = max(1, _LOGITS_AT_ONCE // len(weight))
        found = []
        gradient = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        for start in range(0, len(hidden), rows):
            here = slice(start, start + rows)
            logits = hidden[here].to(dtype) @ head.t()
            if bias is not None:
                logits += bias.to(dtype)
            logits = logits.float() * scale
            target = targets[here, None]
            largest, likeliest = logits.max(dim=1)
            probabilities = logits.softmax(dim=1)
            # The largest probability is 1 / V or more, so that its logarithm is exact where that of a small one is not.
            log_total = largest - probabilities.amax(dim=1).log()
            entropy = log_total - torch.linalg.vecdot(probabilities, logits)
            found.append(
                (logits.gather(1, target)[:, 0] - log_total, entropy, logits.mean(dim=1), likeliest == target[:, 0])
            )
            if gradient is not None:
                # The difference is rounded and not p, which near 1 would leave nothing of 1 - p.
                towards = probabilities.neg_().scatter_add_(1, target, torch.ones_like(target, dtype=torch.float32))
                gradient[here] = (towards.to(dtype) @ head) * scale
        columns = zip(*found, strict=True) if found else [[hidden.new_zeros(0)]] * 4
        logps, entropies, mean_logits, is_top1 = (torch.cat(list(column)) for column in columns)
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(entropies, mean_logits, is_top1)
        return logps, entropies, None, mean_logits, is_top1

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Scale the gradients of the forward by what the loss asks of each log-probability."""
        (gradient,) = ctx.saved_tensors
        return (gradients[0][:, None] * gradient).to(gradient.dtype), None, None, None, None
