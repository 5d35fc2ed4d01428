"""Intervals of what is at least 0 and enlarged by noise: distances of marginals and the calibration error.

Percentiles would lie beside the truth where that is small, since the resamples carry the noise twice. Instead, the interval
holds every size at which the estimate would not be surprising (test inversion, Carpenter 1999): the estimated differences
behind the metric are scaled by t >= 0, the resamples' noise is added, and t runs over the values at which the estimate lies
between the tails.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from fairpp_hf.statistics.alignment import distance_within, label_shares
from fairpp_hf.statistics.bootstrap import Interval, is_informative


def as_one_label(block: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Marginals and weights as of a single label, from a persona's totals (b, 9)."""
    return label_shares(block[:, None, :7])


def distance_interval(
    ours: NDArray[np.float64], theirs: NDArray[np.float64], weights: NDArray[np.float64], level: float
) -> Interval | None:
    """Of the mean distance within labels, by test inversion.

    Args:
        ours: marginals, (1 + b, l, 3), the estimate first, as all of these.
        theirs: marginals, (1 + b, l, 3).
        weights: of the labels, (1 + b, l).
        level: coverage.
    """
    distances = distance_within(ours, theirs, weights)
    if not is_informative(distances):
        return None
    # Labels that nothing was asked on, and those that a resample missed, weigh nothing.
    middle, half = np.nan_to_num((ours[0] + theirs[0]) / 2), np.nan_to_num((ours[0] - theirs[0]) / 2)
    noise = [np.nan_to_num(rows[1:] - rows[0]) for rows in (ours, theirs)]

    def scaled(scale: float, noises: Any, drawn: NDArray[np.float64]) -> NDArray[np.float64]:
        shares = [
            np.maximum(middle + sign * scale * half + noise, 0.0) for sign, noise in zip((1, -1), noises, strict=True)
        ]
        sums = [np.maximum(rows.sum(axis=-1, keepdims=True), 1e-12) for rows in shares]
        return distance_within(shares[0] / sums[0], shares[1] / sums[1], drawn)

    return _sizes_that_fit(
        lambda scale: scaled(scale, noise, weights[1:]),
        lambda scale: float(scaled(scale, (0.0, 0.0), weights[0])),
        float(distances[0]),
        level,
    )


def calibration_interval(gaps: NDArray[np.float64], level: float) -> Interval | None:
    """Of the sum of absolute gaps of bins, (1 + b, 10), the estimate first."""
    errors = np.abs(gaps).sum(axis=-1)
    if not is_informative(errors):
        return None
    return _sizes_that_fit(
        lambda scale: np.abs(scale * gaps[0] + gaps[1:] - gaps[0]).sum(axis=-1),
        lambda scale: float(scale * errors[0]),
        float(errors[0]),
        level,
    )


def _sizes_that_fit(
    drawn: Callable[[float], NDArray[np.float64]], size: Callable[[float], float], estimate: float, level: float
) -> Interval:
    """The sizes at which an estimate lies between the tails of what would be estimated.

    Args:
        drawn: what resamples would estimate, (b,), at a scale t >= 0; grows with it.
        size: the truth at that scale.
        estimate: `size(1)`.
        level: coverage; with 0, both ends are the size at which the estimate is the median.
    """
    tail = (1 - level) / 2
    if estimate <= 1e-9:
        # No direction to scale: the noise alone says how large an unseen difference may be.
        return Interval(0.0, float(np.nanquantile(drawn(0.0), level)))

    @cache  # the ends start from the same scales
    def drawn_at(scale: float) -> NDArray[np.float64]:
        values = drawn(scale)
        return np.sort(values[np.isfinite(values)])

    def surplus(scale: float, share: float) -> float:
        ordered = drawn_at(scale)
        # As in `percentile_interval`; `np.quantile` would take longer than all the rest.
        return float(np.interp(share * (len(ordered) + 1), np.arange(1, len(ordered) + 1), ordered)) - estimate

    @cache
    def where_it_fits(share: float) -> float:
        """The scale at which the estimate is this quantile of what would be estimated, 0 if noise alone exceeds it."""
        if surplus(0.0, share) >= 0:
            return 0.0
        above = 1.0
        while surplus(above, share) < 0:
            above *= 2
            # At the edge of what can be estimated, no size is too large.
            if above > 2**16:
                return above
        return float(brentq(surplus, 0.0, above, args=(share,), xtol=1e-3 * above))

    return Interval(size(where_it_fits(1 - tail)), size(where_it_fits(tail)))
