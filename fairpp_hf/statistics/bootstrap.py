"""The bootstrap over clusters: how often each cluster counts, and intervals from what the resamples give."""

from typing import NamedTuple, SupportsFloat

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_matrix

FEWEST_CLUSTERS = 30
"""Below so many clusters there are no intervals: with 10 or 20, what resamples give is measurably too short."""

RESAMPLES = 1000


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
    return bool(np.isfinite(values[0]) and len(drawn) >= max(len(values) / 2, 1) and np.ptp(drawn) > 1e-12)


def percentile_interval(values: NDArray[np.float64], level: float) -> Interval | None:
    """Percentile interval of what the resamples give.

    Args:
        values: Values, (1 + b,), the estimate first, NaN for a resample that has no value.
        level: Coverage, in (0, 1).

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
        values: Values, (1 + b,), the estimate first.
        clusters: Number of clusters that the mean is over.
        level: Coverage, in (0, 1).
    """
    reach = float(1 - (1 - level) ** (1 / clusters))
    if values[0] <= 1e-12:
        return Interval(0.0, reach)
    if values[0] >= 1 - 1e-12:
        return Interval(1 - reach, 1.0)
    return percentile_interval(values, level)


class Resamples:
    """Totals of a bootstrap over clusters: each resample draws as many clusters as there are, with replacement.

    Row 0 of whatever is computed with them is the estimate itself, with every cluster once; the others are the resamples.
    There are none with fewer than 30 clusters.

    Args:
        clusters: Number of each row's cluster, (n,).
        seed: Seed of the drawing.
    """

    def __init__(self, clusters: NDArray[np.integer], seed: int) -> None:
        names, self._cluster = np.unique(clusters, return_inverse=True)
        self.count = len(names)
        self._weights = drawn_weights(self.count, RESAMPLES if self.count >= FEWEST_CLUSTERS else 0, seed)

    def totals(self, values: ArrayLike, rows: NDArray[np.integer] | None = None) -> NDArray[np.float64]:
        """Sums over the drawn clusters.

        Args:
            values: Values, (m, ...), one row a row of `clusters`, or a row for each of `rows`.
            rows: The row of `clusters` that each row of `values` belongs to, (m,).

        Returns:
            (1 + resamples, ...).
        """
        table = np.asarray(values, dtype=np.float64)
        cluster = self._cluster if rows is None else self._cluster[rows]
        member = csr_matrix((np.ones(len(cluster)), (cluster, np.arange(len(cluster)))), (self.count, len(cluster)))
        return (self._weights @ (member @ table.reshape(len(table), -1))).reshape(len(self._weights), *table.shape[1:])


def interval_of_mean(values: NDArray[np.float64], clusters: NDArray[np.int64], seed: int) -> Interval | None:
    """95% percentile interval of a mean over 1,000 resamples, in which clusters are drawn whole, with replacement.

    Args:
        values: Values, (n,).
        clusters: Number of each value's cluster, (n,).
        seed: Seed of the drawing.

    Returns:
        None with fewer than 30 clusters, or where no two resamples differ.
    """
    sums, sizes = Resamples(clusters, seed).totals(np.stack([values, np.ones(len(values))], axis=1)).T
    return percentile_interval(ratio(sums, sizes), 0.95)


class Measure(NamedTuple):
    """A number of a report, or why there is none."""

    value: float | None
    """None where it could not be measured; `note` says why."""
    interval: Interval | None
    """95%, bootstrap over clusters of questions; None with fewer than 30 of these, or of what is counted."""
    n: int
    of: str
    """What n counts, such as `records`."""
    chance: float | None = None
    """What the number would be if what it measures were not there; each place says how that is computed."""
    note: str = ""


def not_measured(note: str, of: str = "records") -> Measure:
    """No number, and why. Never 0, which would be a finding."""
    return Measure(None, None, 0, of, None, note)


def measured(
    values: NDArray[np.float64], n: SupportsFloat, of: str, chance: float | None = None, *, is_distance: bool = False
) -> Measure:
    """A measure from its estimate and its resamples.

    Args:
        values: Values, (1 + resamples,), the estimate first.
        n: Number of what `of` names that the measure is over.
        of: Plural noun.
        chance: See `Measure`.
        is_distance: Whether to give v +- (q - v), at least 0, with v the value and q the 97.5th percentile: noise makes
            distances larger, and the resamples' noise larger once more, so that percentiles would lie beside the value. It
            is wide rather than narrow; what noise alone makes of a distance is said beside it.
    """
    if np.isnan(values[0]):
        return not_measured(f"no {of}", of)
    value = float(values[0])
    # Three answers may be alike by chance, and all resamples with them.
    interval = percentile_interval(values, 0.95) if float(n) >= FEWEST_CLUSTERS and len(values) > 1 else None
    if interval is not None and is_distance:
        high = max(interval.high, value)
        interval = Interval(max(2 * value - high, 0.0), high)
    return Measure(value, interval, round(float(n)), of, chance)
