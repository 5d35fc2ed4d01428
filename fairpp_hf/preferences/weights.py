"""Tiers and sample weights: which questions tell a target persona apart from the others, and how much they count.

A row on which every comparison persona answers like the target teaches a model nothing about the target in particular;
a row on which they all differ is what distinguishes it. The paper sorts rows into tiers by that count and gives each
tier its own mass (Zhou et al. 2025, arXiv:2505.11861, section on sample reweighting).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairpp_hf.naming import check_name
from fairpp_hf.schema import NO_ANSWER, OPTION_LETTERS


class PreferenceWeights(NamedTuple):
    """Tier and weight of n questions for one target persona."""

    tier: NDArray[np.int64]
    """(n,): 1 + the number of comparison personas that disagree with the target, so 1..K; 0 where the target has no
    valid answer."""
    weight: NDArray[np.float64]
    """(n,): at least 0; 0 where the target has no valid answer. Not normalised over rows."""


def preference_weights(
    answers: Mapping[str, ArrayLike],
    target: str,
    *,
    comparison: Sequence[str] | None = None,
    scheme: str = "tier",
    alpha: float = 1.0,
    beta: float = 1.0,
    fit_rows: NDArray[np.bool_] | None = None,
) -> PreferenceWeights:
    """Weigh each question by how far the target's answer sets it apart from the comparison personas.

    With `scheme="tier"`, tier i of K has

        T_i proportional to (i / K)^alpha * (1 / N_i)^beta,    sum over tiers of T_i = 1,

    where N_i is the number of rows in tier i; a row's weight is its tier's T_i (Zhou et al. 2025). An empty tier has no
    row and no share of the mass. A comparison persona without a valid answer to a question counts as neither agreeing
    nor disagreeing there. A question that the target did not validly answer has tier 0 and weight 0, is left out of
    every count, and yields no pair.

    Args:
        answers: persona id to an integer array (n,): 0, 1, 2 for A, B, C, or -1 for no valid answer.
        target: id of the persona to align with.
        comparison: ids of the personas to move away from; all others in `answers` by default.
        scheme: `"tier"`, `"tier_from_zero"` (the released tables' form: tiers counted from 0, so that rows on which all
            agree weigh 0) or `"uniform"` (1 for every row).
        alpha: exponent of the tier's number; 0 gives every tier the same mass where beta is 1. At least 0.
        beta: exponent of the tier's size; 1 makes the tiers' masses independent of their sizes. At least 0.
        fit_rows: boolean (n,): the rows that N_i counts, such as the training rows; all by default. The resulting T_i
            apply to every row. A tier that occurs only outside `fit_rows` counts as one row.

    Returns:
        `PreferenceWeights` of two arrays of shape (n,).

    Raises:
        ValueError: an unknown persona or scheme, arrays of unequal lengths, answers outside -1..2, the target among the
            comparison personas, no comparison persona, or a negative or non-finite exponent.

    Example:
        >>> import numpy as np
        >>> preference_weights({"a": np.array([0, 1]), "b": np.array([0, 2])}, "a")
        PreferenceWeights(tier=array([1, 2]), weight=array([0.33333333, 0.66666667]))
    """
    columns = {persona: _checked_answers(persona, values) for persona, values in answers.items()}
    check_name("target", target, columns)
    if comparison is None:
        comparison = [persona for persona in columns if persona != target]
    for persona in comparison:
        check_name("comparison", persona, columns)
    if target in comparison:
        raise ValueError(f"comparison must not contain the target; got {target!r}. Remove it from the list.")
    if not comparison:
        raise ValueError("comparison must name at least one persona; got none. Pass the answers of another persona.")
    for name, exponent in (("alpha", alpha), ("beta", beta)):
        if not (np.isfinite(exponent) and exponent >= 0):
            raise ValueError(f"{name} must be a finite number of at least 0; got {exponent!r}.")
    check_name("scheme", scheme, SCHEMES)

    own = columns[target]
    lengths = {persona: len(column) for persona, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"answers must all have the same length; got {lengths}.")
    valid = own != NO_ANSWER
    disagreements = np.zeros(len(own), dtype=np.int64)
    for persona in set(comparison):
        other = columns[persona]
        disagreements += (other != own) & (other != NO_ANSWER)
    tier = np.where(valid, 1 + disagreements, 0)
    fit = valid if fit_rows is None else valid & fit_rows
    tier_count = 1 + len(set(comparison))
    sizes = np.bincount(tier[fit], minlength=tier_count + 1)
    # A tier seen only outside the fitted rows has no size of its own to divide by.
    sizes[1:] = np.maximum(sizes[1:], np.bincount(tier[valid], minlength=tier_count + 1)[1:] > 0)
    per_tier = SCHEMES[scheme](sizes[1:], alpha, beta)
    return PreferenceWeights(tier=tier, weight=np.concatenate([[0.0], per_tier])[tier])


def _checked_answers(persona: str, values: ArrayLike) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(
            f"answers[{persona!r}] must be a one-dimensional integer array; got {array.dtype} of shape {array.shape}."
        )
    wrong = np.flatnonzero((array < NO_ANSWER) | (array >= len(OPTION_LETTERS)))
    if len(wrong):
        raise ValueError(
            f"answers[{persona!r}] must be in -1..2 (-1 for no valid answer); got {array[wrong[0]]} at row {wrong[0]}."
        )
    return array.astype(np.int64)


def _tier_weights(sizes: NDArray[np.int64], alpha: float, beta: float, *, first: int) -> NDArray[np.float64]:
    """T_i of K tiers of the given sizes, (K,), with tiers numbered from `first`; 0 for empty tiers."""
    tier_count = len(sizes)
    numbers = np.arange(first, first + tier_count) / tier_count
    occupied = sizes > 0
    weights = np.where(occupied, numbers**alpha / np.maximum(sizes, 1) ** beta, 0.0)
    if first == 0:
        # 0 ** 0 is 1: with alpha = 0 the zeroth tier would come back, which this form is there to leave out.
        weights[0] = 0.0
    total = weights.sum()
    return weights / total if total > 0 else weights


SCHEMES: dict[str, Callable[[NDArray[np.int64], float, float], NDArray[np.float64]]] = {
    "tier": lambda sizes, alpha, beta: _tier_weights(sizes, alpha, beta, first=1),
    "tier_from_zero": lambda sizes, alpha, beta: _tier_weights(sizes, alpha, beta, first=0),
    "uniform": lambda sizes, alpha, beta: np.ones(len(sizes)),
}
"""Weighting schemes: the sizes of tiers 1..K, alpha and beta to a weight for a row of each tier, (K,)."""
