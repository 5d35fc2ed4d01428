"""The bootstrap over clusters: how often each cluster counts, and intervals from what the resamples give."""

import math
from typing import NamedTuple, SupportsFloat

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_matrix

FEWEST_CLUSTERS = 30
"""Below so many clusters there are no intervals: with 10 or 20, what resamples give is measurably too short."""

RESAMPLES = 1000
LEVEL = 0.95
"""Coverage of every interval."""


class Interval(NamedTuple):
    """Where a number lies with the promised probability."""

    low: float
    high: float


def check_resamples(resamples: int) -> None:
    """Refuse a number of resamples that no interval can be drawn with."""
    if resamples < 100:
        raise ValueError(f"resamples must be at least 100; got {resamples}. Fewer say nothing of the tails.")


def added_up(values: NDArray[np.generic], of: NDArray[np.integer], size: int) -> NDArray[np.float64]:
    """Sums of values (m, ...) over the rows of each of `size` numbers `of` (m,)."""
    member = csr_matrix((np.ones(len(of)), (of, np.arange(len(of)))), shape=(size, len(of)))
    flat = values.reshape(len(of), math.prod(values.shape[1:])).astype(np.float64)
    return (member @ flat).reshape(size, *values.shape[1:])


def weighted_sums(weights: NDArray[np.floating], sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of clusters (c, ...), weighted by (b, c): (b, ...)."""
    flat = sums.reshape(len(sums), math.prod(sums.shape[1:]))
    return np.asarray((weights @ flat).reshape(len(weights), *sums.shape[1:]))


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


def percentile_interval(values: NDArray[np.float64]) -> Interval | None:
    """95% percentile interval of what the resamples give: values (1 + b,), the estimate first, NaN for no value.

    None where half the resamples or the estimate have no value, or where no two resamples differ.
    """
    if not is_informative(values):
        return None
    drawn = values[1:][np.isfinite(values[1:])]
    # Of n resamples and the truth, each is as likely to be the k-th: rank (n + 1) p, and not (n - 1) p + 1.
    low, high = np.quantile(drawn, ((1 - LEVEL) / 2, (1 + LEVEL) / 2), method="weibull")
    return Interval(float(low), float(high))


def share_interval(values: NDArray[np.float64], clusters: int) -> Interval | None:
    """As `percentile_interval`, of a mean over clusters of numbers in 0..1, and the rule of three where it is 0 or 1.

    Where no cluster has any, a cluster has some with probability 1 - (1 - 0.95)^(1 / clusters) at most, which is about
    3 / clusters (Hanley and Lippman-Hand 1983).
    """
    reach = float(1 - (1 - LEVEL) ** (1 / clusters))
    if values[0] <= 1e-12:
        return Interval(0.0, reach)
    if values[0] >= 1 - 1e-12:
        return Interval(1 - reach, 1.0)
    return percentile_interval(values)


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
        """Sums of values (m, ...), one a row or one for each of `rows`, over the drawn clusters: (1 + resamples, ...)."""
        cluster = self._cluster if rows is None else self._cluster[rows]
        return weighted_sums(self._weights, added_up(np.asarray(values), cluster, self.count))


def interval_of_mean(values: NDArray[np.float64], clusters: NDArray[np.int64], seed: int) -> Interval | None:
    """95% percentile interval of the mean of values (n,), whose clusters are drawn whole, with replacement.

    None with fewer than 30 clusters, or where no two resamples differ.
    """
    sums, sizes = Resamples(clusters, seed).totals(np.stack([values, np.ones(len(values))], axis=1)).T
    return percentile_interval(ratio(sums, sizes))


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
    interval = percentile_interval(values) if float(n) >= FEWEST_CLUSTERS and len(values) > 1 else None
    if interval is not None and is_distance:
        high = max(interval.high, value)
        interval = Interval(max(2 * value - high, 0.0), high)
    return Measure(value, interval, round(float(n)), of, chance)
