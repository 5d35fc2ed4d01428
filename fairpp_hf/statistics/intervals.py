"""Intervals of the alignment metrics, by bootstrap over clusters of related questions.

The ten questions on one problem and one group (five dimensions, two forms) share most of their words, so that they are
not ten independent observations. Clusters are drawn whole, with replacement (Cameron, Gelbach and Miller 2008).

What the intervals are for: these 98 problems and these 29 groups, asked again, with answers drawn anew. The design is
crossed: clusters that share a problem, or a group, are related as well, which drawing (problem, group) clusters leaves
out. A model that has an opinion of its own on a problem, whoever the group, has it in all 29 clusters of that problem, and
a claim about other problems needs wider intervals: give `cluster_by=("problem",)`. (29 groups are too few clusters for
claims about other groups.) The variation over training seeds is in none of them.

Two kinds of metrics need two kinds of intervals:

- Means and smooth functions of means (agreement, kappa, question distance, Brier score, abstention, unanswered, forms
  consistency): percentiles of the resamples; for a share of 0 or 1, the rule of three over clusters. The margin by question
  is the difference to the other persona that is nearest in the answers at hand.
- The distance of marginals, which is at least 0 and enlarged by noise: see `distance_interval`.

What is the least of noisy numbers or a spread (nearest other, margin of marginals, worst group, calibration error) has
none: noise shifts it by more than resampling shows.

Every interval is widened, where need be, to hold the estimate. How often each held a known truth, by the number of
clusters, is in benchmarks/results/interval_coverage.json: on average over metrics, 94% to 96% with 30 to 300 clusters of ten
questions and with 50 to 1,000 single questions; with 30 to 50 clusters the percentiles of means are about 1% short.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

from fairpp_hf.statistics.alignment import metric_values, persona_means
from fairpp_hf.statistics.bootstrap import (
    FEWEST_CLUSTERS,
    LEVEL,
    Interval,
    check_resamples,
    drawn_weights,
    is_informative,
    percentile_interval,
    share_interval,
)
from fairpp_hf.statistics.options import MAX_JS_DISTANCE, js_distances
from fairpp_hf.statistics.question_sums import CLUSTER, clusters_of, question_sums


def metric_intervals(
    predictions: ArrayLike,
    references: Mapping[str, ArrayLike],
    target: str | None,
    questions: pa.Table | Mapping[str, Any],
    *,
    resamples: int = 1000,
    seed: int = 0,
    cluster_by: Sequence[str] = CLUSTER,
) -> dict[str, Interval]:
    """Intervals of the numbers that `alignment_metrics` gives; see the top of this module for which.

    What they cover is what the metrics estimate, see `alignment_metrics`: with single answers as references, the metrics of
    the probabilities behind them, except for `question_js_distance`.

    Args:
        predictions: Answers (n,) or option probabilities (n, 3).
        references: Persona id to answers (n,) or option probabilities (n, 3).
        target: Persona id, or None.
        questions: The n questions, see `alignment_metrics`.
        resamples: Number of bootstrap samples, at least 100.
        seed: Seed of the drawing.
        cluster_by: Columns that the questions of a cluster have in common. `("problem", "group")` for claims about these
            problems and groups, `("problem",)` for claims about other problems.

    Returns:
        Metric name to interval. A metric has none where it has no value, where it is over fewer than 30 clusters of
        questions, where half the resamples give it no value, or where no two resamples differ (a share of 0 or 1 has one
        nevertheless).

    Raises:
        ValueError: See `alignment_metrics`; or a number of resamples or `cluster_by` is out of range.
    """
    check_resamples(resamples)
    count = len(np.asarray(predictions))
    clusters = clusters_of(questions, cluster_by, count) if count else None
    sums = question_sums(predictions, references, target, questions, clusters)
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
        seen = int(np.count_nonzero(counts))
        if seen >= FEWEST_CLUSTERS:
            found[name] = share_interval(values[name], seen)
    seen_by_persona = np.count_nonzero(sums.blocks["personas"][:, :, 0], axis=0)
    ours, theirs, *_ = persona_means(totals["personas"])
    for place in np.flatnonzero(seen_by_persona >= FEWEST_CLUSTERS).tolist():
        persona = sums.personas[place]
        distance = distance_interval(ours[:, place], theirs[:, place])
        intervals = {
            "question_js_distance": percentile_interval(values[f"question_js_distance/{persona}"]),
            "agreement": share_interval(values[f"agreement/{persona}"], int(seen_by_persona[place])),
            "kappa": percentile_interval(values[f"kappa/{persona}"]),
            "js_distance": distance,
            "js_distance_base2": distance and Interval(*(bound / MAX_JS_DISTANCE for bound in distance)),
        }
        for end in (persona, "target") if place == sums.target else (persona,):
            found |= {f"{name}/{end}": interval for name, interval in intervals.items()}
    if sums.target is not None and seen_by_persona[sums.target] >= FEWEST_CLUSTERS:
        found["brier/target"] = percentile_interval(values["brier/target"])
        distances = {place: values[f"question_js_distance/{sums.personas[place]}"] for place in sums.others}
        nearest = min(distances, key=lambda place: np.nan_to_num(distances[place][0], nan=np.inf))
        if seen_by_persona[nearest] >= FEWEST_CLUSTERS:
            margin = distances[nearest] - values["question_js_distance/target"]
            found["question_js_distance/margin"] = percentile_interval(margin)
    return {
        name: Interval(min(interval.low, float(values[name][0])), max(interval.high, float(values[name][0])))
        for name, interval in found.items()
        if interval is not None
    }


def distance_interval(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> Interval | None:
    """Interval of the Jensen-Shannon distance of two marginals, by test inversion (Carpenter 1999).

    Percentiles would lie beside the truth where that is small, since the resamples carry the noise twice. Instead, the
    interval holds every size at which the estimate would not be surprising: the estimated difference of the marginals is
    scaled by t >= 0, the resamples' noise is added, and t runs over the values at which the estimate lies between the tails.

    Of two marginals, (1 + b, K), the estimate first. None where `percentile_interval` has none.
    """
    distances = js_distances(ours, theirs)
    if not is_informative(distances):
        return None
    known = np.isfinite(distances)
    ours, theirs = ours[known], theirs[known]
    estimate, tail = float(distances[0]), (1 - LEVEL) / 2
    middle, half = (ours[0] + theirs[0]) / 2, (ours[0] - theirs[0]) / 2
    noises = ours[1:] - ours[0], theirs[1:] - theirs[0]

    def scaled(scale: float, noises: Any) -> NDArray[np.float64]:
        shares = [
            np.maximum(middle + sign * scale * half + noise, 0.0) for sign, noise in zip((1, -1), noises, strict=True)
        ]
        first, second = (rows / np.maximum(rows.sum(axis=-1, keepdims=True), 1e-12) for rows in shares)
        return js_distances(first, second)

    if estimate <= 1e-9:
        # No direction to scale: the noise alone says how large an unseen difference may be.
        return Interval(0.0, float(np.quantile(scaled(0.0, noises), LEVEL)))

    @cache  # the ends start from the same scales
    def drawn_at(scale: float) -> NDArray[np.float64]:
        return np.sort(scaled(scale, noises))

    def surplus(scale: float, share: float) -> float:
        ordered = drawn_at(scale)
        # As in `percentile_interval`; `np.quantile` would take longer than all the rest.
        return float(np.interp(share * (len(ordered) + 1), np.arange(1, len(ordered) + 1), ordered)) - estimate

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

    return Interval(*(float(scaled(where_it_fits(share), (0.0, 0.0))) for share in (1 - tail, tail)))
