"""The target distribution (*aim* for short): where training should end, towards one persona and away from the others."""

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

SMALLEST_COMPARISON = 0.01
"""Where the comparison personas' probability of an option is smaller, the ratio p / q is p / min(p, 0.01) at most: it would
rest on answers that hardly anybody gives, and one rare option could take the whole distribution."""


def target_distribution(
    target: ArrayLike, comparison: ArrayLike | None = None, divergence: float = 0.0
) -> NDArray[np.float64]:
    """The distribution over a question's options that training should end at.

    With p the target persona's option probabilities, q those of the comparison personas (the mean over them, weighted by
    their shares of the population), and lambda the divergence:

        aim_k  proportional to  p_k (p_k / q_k)^lambda,    sum_k aim_k = 1.

    It is the only minimum, over distributions pi on the options, of

        (1 + lambda) KL(pi || p) - lambda KL(pi || q)  =  KL(pi || p) - lambda E_pi[log p / q]:

    stay close to the target, and earn lambda for each nat by which an answer is likelier from the target than from the
    others. With lambda = 0 it is the target itself, and so it is where both agree, whatever lambda is. Products of experts
    with a negative exponent have this form in DExperts (Liu et al. 2021, arXiv:2105.03023, equation 2) and contrastive
    decoding (Li et al. 2023, arXiv:2210.15097), at each token; here it is applied to whole answers, before training.

    The sample weights of Fair-PP (Zhou et al. 2025, arXiv:2505.11861) mean the same, towards the target and away from
    the others. But a weight that depends on the drawn answer moves the minimum of DPO to a distribution that nobody
    chose; here it is chosen.

    Args:
        target: P, (..., K), K options; at least 0, rows sum to 1.
        comparison: Q, of the same shape; needed where lambda is above 0. In the ratio it counts as at least the
            smaller of p and `SMALLEST_COMPARISON`.
        divergence: Lambda, finite, at least 0.

    Returns:
        (..., K), float64, rows sum to 1. An option that the target never chooses has probability 0. A row of NaN in either
        argument gives a row of NaN.

    Raises:
        ValueError: A negative or infinite divergence, a missing comparison, shapes that differ, or rows that are no
            distributions.

    Example:
        >>> target_distribution([0.6, 0.3, 0.1], [0.3, 0.6, 0.1], divergence=1.0).round(3).tolist()
        [0.828, 0.103, 0.069]
    """
    check_divergence(divergence)
    p = _distributions(target, "target")
    if divergence == 0:
        return p
    if comparison is None:
        raise ValueError(
            f"comparison must be given with a divergence above 0; got none with {divergence!r}. Pass the option "
            "probabilities of the comparison personas."
        )
    q = _distributions(comparison, "comparison")
    if p.shape != q.shape:
        raise ValueError(f"target and comparison must have the same shape; got {p.shape} and {q.shape}.")
    # In logarithms, less the largest of a row: powers of small ratios would underflow to a row of zeros.
    floored = np.maximum(q, np.minimum(p, SMALLEST_COMPARISON))
    ratio = np.divide(p, floored, out=np.zeros_like(p), where=p > 0)
    with np.errstate(divide="ignore"):
        logits = np.log(p) + divergence * np.log(ratio)
    odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
    aim: NDArray[np.float64] = odds / odds.sum(axis=-1, keepdims=True)
    return aim


def check_divergence(divergence: Any) -> None:
    """Check lambda, which must be a finite number of at least 0."""
    if not isinstance(divergence, Real) or isinstance(divergence, bool) or not 0 <= float(divergence) < np.inf:
        raise ValueError(
            f"divergence must be a finite number of at least 0; got {divergence!r}. 0 is the target itself."
        )


def _distributions(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """Rows that sum to 1 exactly, rows with NaN all NaN."""
    array = np.asarray(values, dtype=np.float64)
    if not array.ndim:
        raise ValueError(f"{name} must be rows of option probabilities; got the number {values!r}.")
    total = array.sum(axis=-1, keepdims=True)
    # Written so that NaN passes and infinity does not.
    wrong = (array < 0).any(axis=-1) | (np.abs(total[..., 0] - 1) > 1e-3)
    if wrong.any():
        first = np.argwhere(wrong)[0]
        where = f" at row {', '.join(map(str, first))}" if len(first) else ""
        raise ValueError(
            f"{name} must be option probabilities of at least 0 with a sum of 1; got {array[tuple(first)].tolist()}{where}."
        )
    return array / total
