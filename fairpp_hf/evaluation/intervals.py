"""Intervals of the alignment metrics, by bootstrap over clusters of related questions.

The ten questions on one problem and one group (five dimensions, two forms) share most of their words, so that they are
not ten independent observations. Clusters are drawn whole, with replacement (Cameron, Gelbach and Miller 2008). The
population is questions like these, asked in clusters like these, with answers drawn anew; the variation over training
seeds is none of it. Three kinds of metrics need three kinds of intervals:

- Means and smooth functions of means (agreement, kappa, question distance, Brier score, abstention, unanswered, forms
  consistency): percentiles of the resamples.
- What is at least 0 and enlarged by noise (distances of marginals, calibration error, Gini): percentiles would lie beside
  the truth where that is small, since the resamples carry the noise twice. Instead, the interval holds every size at which
  the estimate would not be surprising (test inversion, Carpenter 1999): the estimated differences behind the metric are
  scaled by t >= 0, the resamples' noise is added, and t runs over the values at which the estimate lies between the tails.
- The least of several numbers (nearest other, margins, worst group), which noise lowers, and the 20th percentile over
  groups: from an interval of each number. The least of their lower ends is below the least number as often as the one
  end is; of the upper ends, those of all k numbers that may be the least are stretched to hold together (Bonferroni).
  The intervals hold at least their share, and more where many numbers are close. Those of a group's agreement are normal,
  by Student's t; those of a difference of two distances are percentiles, or, where one of the two may be 0, combine the
  two distances' intervals (Zou and Donner 2008).

Every interval is widened, where need be, to hold the estimate. How often each held a known truth is in
benchmarks/results/interval_coverage.json: 93% to 96% on average, and 99% and more for what is over groups.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.stats import norm
from scipy.stats import t as student

from fairpp_hf.evaluation.metrics import (
    check_target,
    distance_within,
    gini,
    group_agreement,
    label_shares,
    metric_values,
    twentieth_percentile,
)
from fairpp_hf.evaluation.probabilities import MAX_JS_DISTANCE, js_distances
from fairpp_hf.evaluation.weighted_sums import LABELS, QuestionSums, combined, question_columns, question_sums

__all__ = ["FEWEST_CLUSTERS", "Interval", "clusters_of", "js_distances", "metric_intervals"]

FEWEST_CLUSTERS = 10
"""Below so many clusters, resamples say nothing, and there are no intervals."""


CLUSTER = ("problem", "group")
"""What the questions of a cluster have in common."""


class Interval(NamedTuple):
    """Where a metric lies with the promised probability."""

    low: float
    high: float


def clusters_of(questions: pa.Table | Mapping[str, Any]) -> NDArray[np.int64]:
    """A number for each question's (problem, group), int64 (n,), 0 and up without gaps."""
    return combined(question_columns(questions, needed=CLUSTER), CLUSTER)


def drawn_weights(clusters: int, resamples: int, seed: int) -> NDArray[np.float64]:
    """How often each cluster counts, (1 + resamples, clusters): once in the first row, then as a bootstrap draws them."""
    chosen = np.random.default_rng(seed).integers(0, clusters, (resamples, clusters))
    # A number a (resample, cluster), to count all resamples at once.
    cells = chosen + clusters * np.arange(resamples)[:, None]
    draws = np.bincount(cells.ravel(), minlength=resamples * clusters).reshape(resamples, clusters)
    return np.concatenate([np.ones((1, clusters)), draws])


def check_drawing(level: float, resamples: int) -> None:
    """Refuse arguments that no interval can be drawn with.

    Raises:
        ValueError: they are out of range.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1; got {level}. 0.95 is usual.")
    if resamples < 100:
        raise ValueError(f"resamples must be at least 100; got {resamples}. Fewer say nothing of the tails.")


def metric_intervals(
    predictions: ArrayLike,
    references: Mapping[str, ArrayLike],
    target: str | None,
    questions: pa.Table | Mapping[str, Any],
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Intervals of the numbers that `alignment_metrics` gives, `questions/` aside; see the top of this module.

    What they cover is what the metrics estimate, see `alignment_metrics`: with single answers as references, the metrics of
    the probabilities behind them, except for `question_js_distance`.

    Args:
        predictions: answers (n,) or option probabilities (n, 3).
        references: persona id to answers (n,) or option probabilities (n, 3).
        target: persona id, or None.
        questions: the n questions, see `alignment_metrics`.
        level: coverage, in (0, 1).
        resamples: bootstrap samples drawn, at least 100.
        seed: of the drawing.

    Returns:
        Metric name to interval. A metric has none where it has no value, where it is over fewer than 10 clusters of
        questions (a group: fewer than 2), where half the resamples give it no value, or where no two resamples differ, as
        with a share of 0, since that says nothing of what another draw would give. Personas without an interval count in
        those of `nearest_other` and the margins only by barring them when they are the nearest.

    Raises:
        ValueError: see `alignment_metrics`; or a level or number of resamples out of range.
    """
    check_drawing(level, resamples)
    sums = question_sums(predictions, references, target, questions, clusters_of(questions))
    check_target(sums)
    if sums.clusters < FEWEST_CLUSTERS:
        return {}
    totals = sums.totals(drawn_weights(sums.clusters, resamples, seed))
    values = metric_values(sums, totals)
    found: dict[str, Interval | None] = {}
    for name, counts in (
        ("unanswered", sums.blocks["answers"][:, 0]),
        ("abstention", sums.blocks["answers"][:, 1]),
        ("forms_consistency", sums.blocks["forms"][:, 0]),
    ):
        if np.count_nonzero(counts) >= FEWEST_CLUSTERS:
            found[name] = _percentiles(values[name], level)
    enough = np.count_nonzero(sums.blocks["personas"][:, :, 0], axis=0) >= FEWEST_CLUSTERS
    for place in np.flatnonzero(enough):
        persona = sums.personas[place]
        by_persona = {
            name: _percentiles(values[f"{name}/{persona}"], level)
            for name in ("question_js_distance", "agreement", "kappa")
        }
        by_persona["js_distance"] = _distance_interval(*_as_one_label(totals["personas"][:, place]), level)
        for label in LABELS:
            by_persona[f"js_distance_by_{label}"] = _distance_interval(*label_shares(totals[label][:, place]), level)
        natural = by_persona["js_distance"]
        by_persona["js_distance_base2"] = (
            None if natural is None else Interval(natural.low / MAX_JS_DISTANCE, natural.high / MAX_JS_DISTANCE)
        )
        for end in (persona, "target") if place == sums.target else (persona,):
            found |= {f"{name}/{end}": interval for name, interval in by_persona.items()}
    if sums.target is not None and enough[sums.target]:
        found["brier/target"] = _percentiles(values["brier/target"], level)
        count = totals["personas"][:, sums.target, :1]
        found["calibration_error/target"] = _calibration_interval(totals["bins"] / np.maximum(count, 1), level)
        found |= _nearest_intervals(sums, totals, values, found, level)
        found |= _group_intervals(sums, group_agreement(totals), level)
    return {
        name: _holding(interval, float(values[name][0])) for name, interval in found.items() if interval is not None
    }


def _holding(interval: Interval, estimate: float) -> Interval:
    return Interval(float(min(interval.low, estimate)), float(max(interval.high, estimate)))


def _is_informative(values: NDArray[np.float64]) -> bool:
    """Whether values (1 + b,), the estimate first, have an estimate and enough resamples that differ."""
    drawn = values[1:][np.isfinite(values[1:])]
    return bool(np.isfinite(values[0]) and len(drawn) >= len(values) / 2 and np.ptp(drawn) > 1e-12)


def _percentiles(values: NDArray[np.float64], level: float) -> Interval | None:
    if not _is_informative(values):
        return None
    drawn = values[1:][np.isfinite(values[1:])]
    # Of n resamples and the truth, each is as likely to be the k-th: rank (n + 1) p, and not (n - 1) p + 1.
    low, high = np.quantile(drawn, ((1 - level) / 2, (1 + level) / 2), method="weibull")
    return Interval(float(low), float(high))


def _as_one_label(block: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Marginals and weights as of a single label, from a persona's totals (b, 9)."""
    return label_shares(block[:, None, :7])


def _distance_interval(
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
    if not _is_informative(distances):
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


def _calibration_interval(gaps: NDArray[np.float64], level: float) -> Interval | None:
    """Of the sum of absolute gaps of bins, (1 + b, 10), the estimate first."""
    errors = np.abs(gaps).sum(axis=-1)
    if not _is_informative(errors):
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
        # As in `_percentiles`; `np.quantile` would take longer than all the rest.
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


class _Sized(NamedTuple):
    """A distance with its interval, for differences of two."""

    drawn: NDArray[np.float64]
    """(1 + b,), the estimate first."""
    centre: float
    """The size at which the estimate is the median: unlike the estimate, not enlarged by noise."""
    interval: Interval


def _nearest_intervals(
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
        centre = _distance_interval(*_as_one_label(totals["personas"][:, place]), level=0)
        sized[place] = _Sized(drawn, centre.low if centre else float(drawn[0]), interval)
        if place != sums.target:
            difference = values[f"question_js_distance/{persona}"] - values["question_js_distance/target"]
            estimate = float(difference[0])
            of_questions[place] = estimate, _percentiles(difference, level) or Interval(estimate, estimate)
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
        if sums.others[int(np.nanargmin(estimates))] in parts and _is_informative(values[name]):
            intervals[name] = _of_least(list(parts.values()), stretch)
    return intervals


def _difference(first: _Sized, second: _Sized, level: float) -> tuple[float, Interval]:
    """The difference of two distances' centres, and its interval.

    Far from 0, distances are smooth and so is their difference. Where one may be 0, resamples know neither its noise nor how
    that goes with the other's: the intervals are combined as those of independent quantities (Zou and Donner 2008), or with
    their correlation where that makes it wider.
    """
    difference = first.centre - second.centre
    of_drawn = _percentiles(first.drawn - second.drawn, level)
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


def _group_intervals(sums: QuestionSums, agreement: NDArray[np.float64], level: float) -> dict[str, Interval | None]:
    """Of the lowest agreement over groups, the 20th percentile and the Gini coefficient.

    Args:
        sums: for the numbers of clusters.
        agreement: by group, (1 + b, g), the estimate first, NaN where a group has no question.
        level: coverage.
    """
    seen = np.count_nonzero(sums.blocks["groups"][..., 0], axis=0)
    agreement, seen = agreement[:, seen > 0], seen[seen > 0]
    if (seen < 2).any():
        return {}
    # A bootstrap of c clusters has (c - 1) / c of the variance.
    noise = (agreement[1:] - agreement[0]) * np.sqrt(seen / (seen - 1))
    error = np.nanstd(noise, axis=0)
    tail = (1 - level) / 2
    arms = student.ppf(1 - tail, seen - 1)
    lows, highs = (np.clip(agreement[0] + sign * arms * error, 0, 1) for sign in (-1, 1))
    parts = [
        (float(estimate), Interval(low, high)) for estimate, low, high in zip(agreement[0], lows, highs, strict=True)
    ]
    found: dict[str, Interval | None] = {}
    if error.any():
        found["worst_group/target"] = _of_least(parts, lambda k: student.ppf(1 - tail / k, seen - 1) / arms)
        low, high = twentieth_percentile(np.stack([lows, highs]))
        found["group_p20/target"] = Interval(float(low), float(high))
    if len(seen) > 1 and _is_informative(gini(agreement)):
        middle = agreement[0].mean()

        def scaled(scale: float) -> NDArray[np.float64]:
            return middle + scale * (agreement[0] - middle)

        found["group_gini/target"] = _sizes_that_fit(
            lambda scale: gini(np.maximum(scaled(scale) + noise, 0)),
            lambda scale: float(gini(np.maximum(scaled(scale)[None], 0))[0]),
            float(gini(agreement[:1])[0]),
            level,
        )
    return found
