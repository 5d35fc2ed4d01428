"""The bootstrap over clusters: how often each cluster counts, and intervals from what the resamples give."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FEWEST_CLUSTERS = 30
"""Below so many clusters there are no intervals: with 10 or 20, what resamples give is measurably too short."""


class Interval(NamedTuple):
    """Where a number lies with the promised probability."""

    low: float
    high: float


def check_drawing(level: float, resamples: int) -> None:
    """Refuse arguments that no interval can be drawn with.

    Raises:
        ValueError: they are out of range.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1; got {level}. 0.95 is usual.")
    if resamples < 100:
        raise ValueError(f"resamples must be at least 100; got {resamples}. Fewer say nothing of the tails.")


def drawn_weights(clusters: int, resamples: int, seed: int) -> NDArray[np.float64]:
    """How often each cluster counts, (1 + resamples, clusters): once in the first row, then as a bootstrap draws them."""
    chosen = np.random.default_rng(seed).integers(0, clusters, (resamples, clusters))
    # A number a (resample, cluster), to count all resamples at once.
    cells = chosen + clusters * np.arange(resamples)[:, None]
    draws = np.bincount(cells.ravel(), minlength=resamples * clusters).reshape(resamples, clusters)
    return np.concatenate([np.ones((1, clusters)), draws])


def ratio(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    """Their quotient, NaN where nothing was counted: a resample may miss whatever is rare."""
    shape = np.broadcast_shapes(np.shape(numerator), np.shape(denominator))
    return np.divide(numerator, denominator, out=np.full(shape, np.nan), where=denominator > 0)


def is_informative(values: NDArray[np.float64]) -> bool:
    """Whether values (1 + b,), the estimate first, have an estimate and enough resamples that differ."""
    drawn = values[1:][np.isfinite(values[1:])]
    return bool(np.isfinite(values[0]) and len(drawn) >= len(values) / 2 and np.ptp(drawn) > 1e-12)


def percentile_interval(values: NDArray[np.float64], level: float) -> Interval | None:
    """Percentile interval of what the resamples give.

    Args:
        values: (1 + b,), the estimate first, NaN for a resample that has no value.
        level: coverage, in (0, 1).

    Returns:
        None where half the resamples or the estimate have no value, or where no two resamples differ.
    """
    if not is_informative(values):
        return None
    drawn = values[1:][np.isfinite(values[1:])]
    # Of n resamples and the truth, each is as likely to be the k-th: rank (n + 1) p, and not (n - 1) p + 1.
    low, high = np.quantile(drawn, ((1 - level) / 2, (1 + level) / 2), method="weibull")
    return Interval(float(low), float(high))


def share_interval(values: NDArray[np.float64], clusters: int, level: float) -> Interval | None:
    """Percentile interval of a mean of numbers in 0..1, and the rule of three where it is 0 or 1.

    Where no cluster has any, a cluster has some with probability 1 - (1 - level)^(1 / clusters) at most, which at 95% is
    about 3 / clusters (Hanley and Lippman-Hand 1983).

    Args:
        values: (1 + b,), the estimate first.
        clusters: that the mean is over.
        level: coverage, in (0, 1).
    """
    reach = float(1 - (1 - level) ** (1 / clusters))
    if values[0] <= 1e-12:
        return Interval(0.0, reach)
    if values[0] >= 1 - 1e-12:
        return Interval(1 - reach, 1.0)
    return percentile_interval(values, level)


def interval_of_mean(values: NDArray[np.float64], clusters: NDArray[np.int64], seed: int) -> Interval | None:
    """95% percentile interval of a mean over 1,000 resamples, in which clusters are drawn whole, with replacement.

    Args:
        values: (n,).
        clusters: number of each value's cluster, (n,).
        seed: of the drawing.

    Returns:
        None with fewer than 30 clusters, or where no two resamples differ.
    """
    _, cluster = np.unique(clusters, return_inverse=True)
    count = int(cluster.max()) + 1
    if count < FEWEST_CLUSTERS:
        return None
    sums, sizes = np.bincount(cluster, values), np.bincount(cluster)
    weights = drawn_weights(count, 1000, seed)
    return percentile_interval((weights @ sums) / (weights @ sizes), 0.95)
