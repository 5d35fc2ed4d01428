"""What the form of a question does to answers, whatever its options say: their order, and their length."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from fairpp_hf.statistics.bootstrap import Interval, interval_of_mean


class PositionBias(NamedTuple):
    """How much the place of an option counts, over the questions with a valid answer in both orders."""

    gap: float
    """Mean over questions of the probability of the option shown as A minus that of the option shown as B, averaged over
    the two orders, so that what the options say cancels. -1 to 1; 0 is no bias, above 0 favours the first place."""
    interval: Interval | None
    """95%, bootstrap over clusters of questions; None where these questions lie in fewer than 30 clusters, or where no two
    resamples differ."""
    same_choice: float
    """Share of these questions whose answer is the same option in both orders, 0 to 1."""


def order_gaps(by_order: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probability of the option shown first minus that of the option shown second, mean over the two orders.

    With p the probabilities as written and q those with A and B in each other's place, both with pole A first, a question's
    gap is ((p_A - p_B) + (q_B - q_A)) / 2: in the second order, the option of pole B is shown as A. Of (..., 2, K), pole A
    first in both orders, (...); NaN where an order has no answer.
    """
    written, swapped = by_order[..., 0, :], by_order[..., 1, :]
    return (written[..., 0] - written[..., 1] + swapped[..., 1] - swapped[..., 0]) / 2


def position_bias(
    by_order: NDArray[np.float64], answers: NDArray[np.integer], clusters: NDArray[np.int64], *, seed: int = 0
) -> PositionBias | None:
    """Measure the position bias of a system, see `order_gaps`.

    Args:
        by_order: Option probabilities, (n, 2, K), NaN where there is no answer.
        answers: Answers, (n, 2): 0 for pole A, -1 for none.
        clusters: Number of each question's cluster, (n,).
        seed: Seed of the bootstrap.

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
    gaps, chosen = order_gaps(by_order[common]), answers[common]
    return PositionBias(
        float(gaps.mean()),
        interval_of_mean(gaps, clusters[common], seed),
        float((chosen[:, 0] == chosen[:, 1]).mean()),
    )


class LengthGap(NamedTuple):
    """How much of a result is the options' length, over the questions whose options differ in length."""

    gap: float
    """Mean over questions of the probability of the shortest option minus that of the longest, less the same by the letters
    alone. -2 to 2; 0 where the lines change nothing, above 0 where they favour short options."""
    interval: Interval | None
    """95%, as that of `PositionBias`."""


def length_gap(
    by_order: NDArray[np.float64],
    letter_logprobs: NDArray[np.float64] | None,
    tokens: NDArray[np.float64] | None,
    clusters: NDArray[np.int64],
    *,
    seed: int = 0,
) -> LengthGap | None:
    """Measure what the length of options does to a system that is scored by whole lines.

    A model writes an option's letter and then its text. At the letter it has read all options and chosen among them, and
    letters are as long as each other. What follows repeats a text of the prompt, and each of its tokens costs some
    probability, so that a long option loses more on the way than a short one. With p a question's probabilities, q those
    that its letters alone would give, s its shortest option and l its longest, in tokens, a question's gap is

        (p_s - p_l) - (q_s - q_l),

    mean over both orders. Of options that are as long as each other, all count equally.

    It does not say whether a model likes an option because it is short: that is in the letter as well, and nothing tells it
    from what the option says. Nor is it length alone: of two texts as long as each other, the odder one costs more.

    Args:
        by_order: Option probabilities by whole lines, (n, orders, K).
        letter_logprobs: Log-probabilities of the letters alone, (n, orders, K); None where no lines were scored.
        tokens: Numbers of tokens of the options, (n, orders, K); None likewise.
        clusters: Number of each question's cluster, (n,).
        seed: Seed of the bootstrap.

    Returns:
        None where no lines were scored (a baseline, a model on a server, the letter alone), or no question has options of
        different lengths and an answer in each order.
    """
    if letter_logprobs is None or tokens is None:
        return None
    by_letter = softmax(letter_logprobs, axis=-1)
    shortest, longest = tokens.min(axis=-1, keepdims=True), tokens.max(axis=-1, keepdims=True)
    counts = np.isfinite(by_order + by_letter).all(axis=(1, 2)) & (shortest < longest).all(axis=(1, 2))
    if not counts.any():
        return None
    change = (by_order - by_letter)[counts]
    ends = [(tokens == end)[counts] for end in (shortest, longest)]
    short, long = ((change * end).sum(axis=-1) / end.sum(axis=-1) for end in ends)
    gaps = (short - long).mean(axis=1)
    return LengthGap(float(gaps.mean()), interval_of_mean(gaps, clusters[counts], seed))
