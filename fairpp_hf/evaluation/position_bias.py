"""How much the place of an option counts, whatever it says: from questions asked in both orders of A and B."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fairpp_hf.evaluation.resampling import Interval, interval_of_mean


class PositionBias(NamedTuple):
    """Of one system, over the questions with a valid answer in both orders."""

    gap: float
    """Mean over questions of the probability of the option shown as A minus that of the option shown as B, averaged over
    the two orders, so that what the options say cancels. -1 to 1; 0 is no bias, above 0 favours the first place."""
    interval: Interval | None
    """95%, bootstrap over clusters of questions; None where these questions lie in fewer than 30 clusters, or where no two
    resamples differ."""
    same_choice: float
    """Share of these questions whose answer is the same option in both orders, 0 to 1."""


def position_bias(
    by_order: NDArray[np.float64], answers: NDArray[np.integer], clusters: NDArray[np.int64], *, seed: int = 0
) -> PositionBias | None:
    """Measure the position bias of a system.

    With p the probabilities as written and q those with A and B in each other's place, both with pole A first, a question's
    gap is ((p_A - p_B) + (q_B - q_A)) / 2: in the second order, the option of pole B is shown as A.

    Args:
        by_order: (n, 2, 3), NaN where there is no answer.
        answers: (n, 2): 0..2 with 0 for pole A, -1 for none.
        clusters: (n,), number of each question's cluster.
        seed: of the bootstrap.

    Returns:
        None where one order alone was asked, or no question was answered in both.

    Example:
        >>> always_a = np.array([[[1.0, 0, 0], [0, 1, 0]]])  # the option shown as A, whichever it is
        >>> position_bias(always_a, np.array([[0, 1]]), np.array([0]))
        PositionBias(gap=1.0, interval=None, same_choice=0.0)
    """
    if by_order.shape[1] != 2:
        return None
    common = ~np.isnan(by_order).any(axis=(1, 2))
    if not common.any():
        return None
    written, swapped = by_order[common, 0], by_order[common, 1]
    gaps = (written[:, 0] - written[:, 1] + swapped[:, 1] - swapped[:, 0]) / 2
    chosen = answers[common]
    return PositionBias(
        float(gaps.mean()),
        interval_of_mean(gaps, clusters[common], seed),
        float((chosen[:, 0] == chosen[:, 1]).mean()),
    )
