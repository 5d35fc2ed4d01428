"""How much of a result is the options' length: from the log-probabilities of whole lines and of their letters."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from fairpp_hf.evaluation.model_scores import SystemScores
from fairpp_hf.evaluation.resampling import Interval, interval_of_mean


class LengthGap(NamedTuple):
    """Of one system that is scored by whole lines, over the questions whose options differ in length."""

    gap: float
    """Mean over questions of the probability of the shortest option minus that of the longest, less the same by the letters
    alone. -2 to 2; 0 where the lines change nothing, above 0 where they favour short options."""
    interval: Interval | None
    """95%, bootstrap over clusters of questions; None where these questions lie in fewer than 30 clusters, or where no two
    resamples differ."""


def length_gap(scores: SystemScores, clusters: NDArray[np.int64], *, seed: int = 0) -> LengthGap | None:
    """Measure what the length of options does to a system.

    A model writes an option's letter and then its text. At the letter it has read all options and chosen among them, and
    letters are as long as each other. What follows repeats a text of the prompt, and each of its tokens costs some
    probability, so that a long option loses more on the way than a short one. With p a question's probabilities, q those
    that its letters alone would give, s its shortest option and l its longest, in tokens, a question's gap is

        (p_s - p_l) - (q_s - q_l),

    mean over both orders. Of options that are as long as each other, all count equally.

    It does not say whether a model likes an option because it is short: that is in the letter as well, and nothing tells it
    from what the option says. Nor is it length alone: of two texts as long as each other, the odder one costs more.

    Args:
        scores: of the system.
        clusters: (n,), number of each question's cluster.
        seed: of the bootstrap.

    Returns:
        None where no lines were scored (a baseline, a model on a server, the letter alone), or no question has options of
        different lengths and an answer in each order.
    """
    if scores.letter_logprobs is None or scores.tokens is None:
        return None
    by_letter, tokens = softmax(scores.letter_logprobs, axis=-1), scores.tokens
    shortest, longest = tokens.min(axis=-1, keepdims=True), tokens.max(axis=-1, keepdims=True)
    counts = np.isfinite(scores.by_order + by_letter).all(axis=(1, 2)) & (shortest < longest).all(axis=(1, 2))
    if not counts.any():
        return None
    change = (scores.by_order - by_letter)[counts]
    ends = [(tokens == end)[counts] for end in (shortest, longest)]
    short, long = ((change * end).sum(axis=-1) / end.sum(axis=-1) for end in ends)
    gaps = (short - long).mean(axis=1)
    return LengthGap(float(gaps.mean()), interval_of_mean(gaps, clusters[counts], seed))
