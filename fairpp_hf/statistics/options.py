"""Answers as option probabilities, and the distance between two distributions of them."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import rel_entr

from fairpp_hf.schema import NO_ANSWER, OPTION_LETTERS

MAX_JS_DISTANCE = float(np.sqrt(np.log(2)))
"""The Jensen-Shannon distance of two distributions without common support, natural logarithm: 0.8326."""

_TIE = 1e-9  # Means of equal votes may differ by rounding.


def js_distances(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Jensen-Shannon distances between distributions, natural logarithm, 0 to 0.8326.

    sqrt((KL(p || r) + KL(q || r)) / 2) with r = (p + q) / 2, as `scipy.spatial.distance.jensenshannon` has it. Finite for
    subnormal probabilities as well, where that gives infinity.

    Args:
        first: Distributions, (..., K), rows that sum to 1; a row of NaN gives NaN.
        second: Distributions, (..., K).

    Returns:
        (...); 0 where the two are equal up to rounding.
    """
    # Twice p, q and r: half of the smallest number is 0, and p log(p / 0) is infinite.
    both = first + second
    terms = rel_entr(2 * first, both) + rel_entr(2 * second, both)
    divergence = np.einsum("...k->...", terms) / 4  # `sum` over so short an axis is slow
    # Rounding errors are of some 1e-16, of which the square root would make 1e-8.
    return np.where(divergence < 1e-15, 0.0, np.sqrt(np.maximum(divergence, 0.0)))


def option_probabilities(values: ArrayLike, name: str = "predictions") -> NDArray[np.float64]:
    """Answers as one-hot rows, probabilities as they are: float64 (n, 3), with rows of NaN where there is no answer.

    Raises:
        ValueError: The values are neither integers (n,) in -1..2 nor probabilities (n, 3) that sum to 1.
    """
    array = np.asarray(values)
    count = len(OPTION_LETTERS)
    if array.ndim == 1 and array.dtype.kind in "iu":
        wrong = np.flatnonzero((array < NO_ANSWER) | (array >= count))
        if len(wrong):
            raise ValueError(
                f"{name} must be in -1..2 (-1 for no valid answer); got {array[wrong[0]]} at row {wrong[0]}."
            )
        rows = np.full((len(array), count), np.nan)
        valid = array != NO_ANSWER
        rows[valid] = np.eye(count)[array[valid]]
        return rows
    if array.ndim == 2 and array.shape[1] == count and array.dtype.kind == "f":
        # NaN compares as false, so that rows of NaN pass; one NaN among numbers is no row of probabilities.
        missing = np.isnan(array).sum(axis=1)
        wrong = np.flatnonzero(
            (array < 0).any(axis=1) | (np.abs(array.sum(axis=1) - 1) > 1e-3) | ((missing > 0) & (missing < count))
        )
        if len(wrong):
            raise ValueError(
                f"{name} must be probabilities that sum to 1 over A, B, C; got {array[wrong[0]].tolist()} at row {wrong[0]}."
            )
        return array.astype(np.float64)
    raise ValueError(
        f"{name} must be integer answers of shape (n,) or probabilities of shape (n, 3); "
        f"got {array.dtype} of shape {array.shape}."
    )


def shared_first_places(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 for the largest value of each row, shared equally by those that tie for the first place.

    Args:
        values: Probabilities or votes, (..., K), at least 0.

    Returns:
        (..., K); a row of NaN for one of NaN or of zeros alone.

    Example:
        >>> shared_first_places(np.array([[0.2, 0.7, 0.1], [0.5, 0.5, 0.0]])).tolist()
        [[0.0, 1.0, 0.0], [0.5, 0.5, 0.0]]
    """
    rows = np.nan_to_num(values)
    first = (rows >= rows.max(axis=-1, keepdims=True) - _TIE) & rows.any(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return first / first.sum(axis=-1, keepdims=True)


def first_choices(probabilities: NDArray[np.float64]) -> NDArray[np.int8]:
    """The most probable option of each row: (...) of (..., K); -1 where there is none, or a tie for the first place."""
    first = shared_first_places(probabilities)
    return np.where((first == 1).any(axis=-1), first.argmax(axis=-1), NO_ANSWER).astype(np.int8)
