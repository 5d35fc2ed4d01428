"""How much nearer to the target than a constant answer: the one number that says whether a model is worth anything."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairpp_hf.statistics.bootstrap import (
    FEWEST_CLUSTERS,
    Interval,
    added_up,
    drawn_weights,
    percentile_interval,
    ratio,
)
from fairpp_hf.statistics.options import js_distances, option_probabilities


class Skill(NamedTuple):
    """1 - error / error of the constant, see `skill`."""

    value: float
    """1 at most, for a model that is the target; 0 is as near as the constant, and below 0 is further."""
    interval: Interval | None
    """95%; None with fewer than 30 clusters, or where no two resamples differ, as for the constant itself."""


def skill(
    predictions: ArrayLike,
    constant: ArrayLike,
    reference: ArrayLike,
    clusters: NDArray[np.int64],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Skill | None:
    """Compare a system's error with that of a constant answer: 1 - error(predictions) / error(constant).

    Both are over the questions that the system and the target answered. Where the target's option probabilities are known,
    the error is the mean Jensen-Shannon distance to them (`question_js_distance/target` of `alignment_metrics`). Where only
    its answers are known, it is the Brier score (`brier/target`; the result is the Brier skill score of weather forecasts):
    a distance to single answers rewards confidence, so that always giving the target's most frequent answer would have a
    skill of 0.3 and more. Clusters of questions are drawn whole, the same for both, so that what makes a question hard for
    both cancels.

    Args:
        predictions: Answers (n,) or option probabilities (n, 3).
        constant: Answers or option probabilities of the constant, such as `baselines.constant_rows` gives.
        reference: Answers or option probabilities of the target, which decide the error.
        clusters: Number of each question's cluster, (n,), 0 and up.
        resamples: Number of bootstrap samples; 0 for no interval.
        seed: Seed of the drawing.

    Returns:
        None where there is no common question, or where the constant's error is 0.

    Example:
        >>> target = np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
        >>> half = np.array([[0.75, 0.25, 0.0], [0.75, 0.25, 0.0]])
        >>> skill(target, half, target, np.arange(2)).value, skill(half, half, target, np.arange(2)).value
        (1.0, 0.0)
        >>> always_the_first = np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
        >>> round(skill(always_the_first, np.full((4, 3), [0.75, 0.25, 0]), np.array([0, 0, 0, 1]), np.arange(4)).value, 3)
        -0.333
    """
    is_answers = np.ndim(reference) == 1
    rows = [option_probabilities(values) for values in (predictions, constant, reference)]
    common = np.asarray(np.isfinite(np.concatenate(rows, axis=1)).all(axis=1))
    ours, base, theirs = (values[common] for values in rows)
    count = int(clusters.max()) + 1
    # All clusters are drawn from, those without a common question too, as for the intervals of the distances themselves.
    errors = [((own - theirs) ** 2).sum(axis=1) if is_answers else js_distances(own, theirs) for own in (ours, base)]
    sums = added_up(np.stack(errors, axis=1), clusters[common], count)
    total, of_constant = sums.sum(axis=0).tolist()
    if of_constant <= 0:
        return None
    interval = None
    if resamples and len(np.unique(clusters[common])) >= FEWEST_CLUSTERS:
        drawn = drawn_weights(count, resamples, seed) @ sums
        interval = percentile_interval(1 - ratio(drawn[:, 0], drawn[:, 1]))
    return Skill(1 - total / of_constant, interval)
