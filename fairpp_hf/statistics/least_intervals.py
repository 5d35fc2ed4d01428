"""Intervals of the least of several numbers, which noise lowers: nearest other, margins, worst group.

They come from an interval of each number. The least of their lower ends is below the least number as often as the one end
is; of the upper ends, those of all k numbers that may be the least are stretched to hold together (Bonferroni). The
intervals hold at least their share, and more where many numbers are close.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from scipy.stats import t as student

from fairpp_hf.statistics.bootstrap import Interval, is_informative, percentile_interval
from fairpp_hf.statistics.question_sums import QuestionSums
from fairpp_hf.statistics.size_intervals import as_one_label, distance_interval


class _Sized(NamedTuple):
    """A distance with its interval, for differences of two."""

    drawn: NDArray[np.float64]
    """(1 + b,), the estimate first."""
    centre: float
    """The size at which the estimate is the median: unlike the estimate, not enlarged by noise."""
    interval: Interval


def nearest_intervals(
    sums: QuestionSums,
    totals: Mapping[str, NDArray[np.float64]],
    values: Mapping[str, NDArray[np.float64]],
    found: Mapping[str, Interval | None],
    level: float,
) -> dict[str, Interval | None]:
    """Of the least distance to another persona, and of the margins."""
    sized: dict[int, _Sized] = {}
    of_questions: dict[int, tuple[float, Interval]] = {}
    for place, persona in enumerate(sums.personas):
        if f"js_distance/{persona}" not in found:
            continue  # it has answered too few
        drawn = values[f"js_distance/{persona}"]
        # Without an interval, it is the same in every resample, such as the distance of the target's own answers.
        interval = found[f"js_distance/{persona}"] or Interval(float(drawn[0]), float(drawn[0]))
        centre = distance_interval(*as_one_label(totals["personas"][:, place]), level=0)
        sized[place] = _Sized(drawn, centre.low if centre else float(drawn[0]), interval)
        if place != sums.target:
            difference = values[f"question_js_distance/{persona}"] - values["question_js_distance/target"]
            estimate = float(difference[0])
            of_questions[place] = estimate, percentile_interval(difference, level) or Interval(estimate, estimate)
    of_target = sized.pop(sums.target) if sums.target is not None else None
    nearest = {place: (one.centre, one.interval) for place, one in sized.items()}
    margins = {place: _difference(one, of_target, level) for place, one in sized.items() if of_target is not None}

    tail = (1 - level) / 2

    def stretch(contenders: int) -> float:
        return float(norm.ppf(1 - tail / contenders) / norm.ppf(1 - tail))

    intervals: dict[str, Interval | None] = {}
    for name, parts, base in (
        ("js_distance/nearest_other", nearest, "js_distance"),
        ("js_distance/margin", margins, "js_distance"),
        ("question_js_distance/margin", of_questions, "question_js_distance"),
    ):
        estimates = [values[f"{base}/{sums.personas[place]}"][0] for place in sums.others]
        if sums.others[int(np.nanargmin(estimates))] in parts and is_informative(values[name]):
            intervals[name] = _of_least(list(parts.values()), stretch)
    return intervals


def _difference(first: _Sized, second: _Sized, level: float) -> tuple[float, Interval]:
    """The difference of two distances' centres, and its interval.

    Far from 0, distances are smooth and so is their difference. Where one may be 0, resamples know neither its noise nor how
    that goes with the other's: the intervals are combined as those of independent quantities (Zou and Donner 2008), or with
    their correlation where that makes it wider.
    """
    difference = first.centre - second.centre
    of_drawn = percentile_interval(first.drawn - second.drawn, level)
    if min(first.interval.low, second.interval.low) > 0 and of_drawn is not None:
        return difference, of_drawn
    finite = np.isfinite(first.drawn[1:]) & np.isfinite(second.drawn[1:])
    drawn = np.stack([first.drawn[1:][finite], second.drawn[1:][finite]])
    correlation = float(np.asarray(np.corrcoef(drawn))[0, 1]) if (np.ptp(drawn, axis=1) > 0).all() else 0.0

    def reach(of_first: float, of_second: float) -> float:
        return float(np.sqrt(of_first**2 + of_second**2 - 2 * min(correlation, 0) * of_first * of_second))

    low = difference - reach(first.centre - first.interval.low, second.interval.high - second.centre)
    high = difference + reach(first.interval.high - first.centre, second.centre - second.interval.low)
    return difference, Interval(low, high)


def _of_least(parts: list[tuple[float, Interval]], stretch: Callable[[int], NDArray[np.float64] | float]) -> Interval:
    """Of the least of several numbers, from their estimates and intervals.

    Args:
        parts: estimate and interval of each.
        stretch: by how much longer the upper arm of an interval (of each, or of all) must be for k to hold together.
    """
    estimates = np.array([estimate for estimate, _ in parts])
    lows, highs = np.array([interval for _, interval in parts]).T
    contenders = int((lows <= highs.min()).sum())
    return Interval(float(lows.min()), float((estimates + (highs - estimates) * stretch(contenders)).min()))


def worst_group_interval(agreement: NDArray[np.float64], clusters: NDArray[np.int64], level: float) -> Interval | None:
    """Of the lowest agreement over groups, from normal intervals of each, by Student's t.

    Args:
        agreement: by group, (1 + b, g), the estimate first, NaN for groups that do not count.
        clusters: of each group, (g,).
        level: coverage.
    """
    counts = ~np.isnan(agreement[0])
    agreement, clusters = agreement[:, counts], clusters[counts]
    if not counts.any() or (clusters < 2).any():
        return None
    # A bootstrap of c clusters has (c - 1) / c of the variance.
    error = np.nanstd(agreement[1:] - agreement[0], axis=0) * np.sqrt(clusters / (clusters - 1))
    if not error.any():
        return None
    tail = (1 - level) / 2
    arms = student.ppf(1 - tail, clusters - 1)
    parts = [
        (float(estimate), Interval(float(estimate - reach), float(estimate + reach)))
        for estimate, reach in zip(agreement[0], arms * error, strict=True)
    ]
    low, high = _of_least(parts, lambda k: student.ppf(1 - tail / k, clusters - 1) / arms)
    return Interval(max(low, 0.0), min(high, 1.0))
