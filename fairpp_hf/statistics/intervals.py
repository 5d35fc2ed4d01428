"""Intervals of the alignment metrics, by bootstrap over clusters of related questions.

The ten questions on one problem and one group (five dimensions, two forms) share most of their words, so that they are
not ten independent observations. Clusters are drawn whole, with replacement (Cameron, Gelbach and Miller 2008).

What the intervals are for: these 98 problems and these 29 groups, asked again, with answers drawn anew. The design is
crossed: clusters that share a problem, or a group, are related as well, which drawing (problem, group) clusters leaves
out. A model that has an opinion of its own on a problem, whoever the group, has it in all 29 clusters of that problem, and
a claim about other problems needs wider intervals: give `cluster_by=("problem",)`. (29 groups are too few clusters for
claims about other groups.) The variation over training seeds is in none of them.

Three kinds of metrics need three kinds of intervals:

- Means and smooth functions of means (agreement, kappa, question distance, Brier score, abstention, unanswered, forms
  consistency): percentiles of the resamples; for a share of 0 or 1, the rule of three over clusters.
- What is at least 0 and enlarged by noise (distances of marginals, calibration error): see `size_intervals`.
- The least of several numbers (nearest other, margins, worst group): see `least_intervals`.

Every interval is widened, where need be, to hold the estimate. How often each held a known truth, by the number of
clusters, is in benchmarks/results/interval_coverage.json: on average over metrics, 94% to 96% with 30 to 300 clusters of ten
questions and with 50 to 1,000 single questions; with 30 to 50 clusters the percentiles of means are about 1% short.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from fairpp_hf.statistics.alignment import check_target, group_agreement, label_shares, metric_values
from fairpp_hf.statistics.bootstrap import (
    FEWEST_CLUSTERS,
    Interval,
    check_drawing,
    drawn_weights,
    percentile_interval,
    share_interval,
)
from fairpp_hf.statistics.least_intervals import nearest_intervals, worst_group_interval
from fairpp_hf.statistics.options import MAX_JS_DISTANCE, js_distances
from fairpp_hf.statistics.question_sums import LABELS, QuestionSums, combined, question_columns, question_sums
from fairpp_hf.statistics.size_intervals import as_one_label, calibration_interval, distance_interval

__all__ = ["FEWEST_CLUSTERS", "Interval", "clusters_of", "js_distances", "metric_intervals"]

FEWEST_LABEL_CLUSTERS = 40
"""Distances within labels have an interval where every label that was asked on has so many clusters. With some 30 clusters
of one question a label they held the truth in 90% to 94% of repetitions, with 50 and more in 94% to 97%."""

CLUSTER = ("problem", "group")
"""What the questions of a cluster have in common."""

CLUSTER_COLUMNS = ("problem", "group", "topic", "group_type")
"""Columns that may make up a cluster: those that the questions of both forms share."""


def clusters_of(
    questions: pa.Table | Mapping[str, Any], cluster_by: Sequence[str] = CLUSTER, count: int | None = None
) -> NDArray[np.int64]:
    """A number for each question's cluster, int64 (n,), 0 and up without gaps.

    Args:
        questions: a table, or a mapping of columns.
        cluster_by: the columns that the questions of a cluster have in common.
        count: rows that `questions` must have.

    Raises:
        ValueError: `cluster_by` is empty or names another column than `CLUSTER_COLUMNS`; or see `alignment_metrics`.
    """
    if not cluster_by or isinstance(cluster_by, str) or not set(cluster_by) <= set(CLUSTER_COLUMNS):
        raise ValueError(
            f"cluster_by must be some of {', '.join(map(repr, CLUSTER_COLUMNS))}; got {cluster_by!r}. "
            'Give ("problem", "group") for claims about these problems, ("problem",) for claims about others.'
        )
    return combined(question_columns(questions, count, needed=tuple(cluster_by)), tuple(cluster_by))


def metric_intervals(
    predictions: ArrayLike,
    references: Mapping[str, ArrayLike],
    target: str | None,
    questions: pa.Table | Mapping[str, Any],
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    cluster_by: Sequence[str] = CLUSTER,
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
        cluster_by: what the questions of a cluster have in common. `("problem", "group")` for claims about these problems
            and groups, `("problem",)` for claims about other problems.

    Returns:
        Metric name to interval. A metric has none where it has no value, where it is over fewer than 30 clusters of
        questions (`js_distance_by_...`: where a label is over fewer than 40), where half the resamples give it no value, or
        where no two resamples differ (a share of 0 or 1 has one nevertheless). `group_p20` and `group_gini` have none:
        what noise adds to them is more than resampling tells. Personas without an interval count in those of
        `nearest_other` and the margins only by barring them when they are the nearest.

    Raises:
        ValueError: see `alignment_metrics`; or a level, a number of resamples or `cluster_by` out of range.
    """
    check_drawing(level, resamples)
    count = len(np.asarray(predictions))
    clusters = clusters_of(questions, cluster_by, count) if count else None
    sums = question_sums(predictions, references, target, questions, clusters)
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
        seen = int(np.count_nonzero(counts))
        if seen >= FEWEST_CLUSTERS:
            found[name] = share_interval(values[name], seen, level)
    seen_by_persona = np.count_nonzero(sums.blocks["personas"][:, :, 0], axis=0)
    for place in np.flatnonzero(seen_by_persona >= FEWEST_CLUSTERS).tolist():
        by_persona = _of_persona(sums, totals, values, place, int(seen_by_persona[place]), level)
        for end in (sums.personas[place], "target") if place == sums.target else (sums.personas[place],):
            found |= {f"{name}/{end}": interval for name, interval in by_persona.items()}
    if sums.target is not None and seen_by_persona[sums.target] >= FEWEST_CLUSTERS:
        found["brier/target"] = percentile_interval(values["brier/target"], level)
        asked = totals["personas"][:, sums.target, :1]
        found["calibration_error/target"] = calibration_interval(totals["bins"] / np.maximum(asked, 1), level)
        found |= nearest_intervals(sums, totals, values, found, level)
        in_group = np.count_nonzero(sums.blocks["groups"][..., 0], axis=0)
        found["worst_group/target"] = worst_group_interval(group_agreement(sums, totals), in_group, level)
    return {
        name: _holding(interval, float(values[name][0])) for name, interval in found.items() if interval is not None
    }


def _of_persona(
    sums: QuestionSums,
    totals: Mapping[str, NDArray[np.float64]],
    values: Mapping[str, NDArray[np.float64]],
    place: int,
    clusters: int,
    level: float,
) -> dict[str, Interval | None]:
    """Of the metrics that every persona has, by name without its end."""
    persona = sums.personas[place]
    natural = distance_interval(*as_one_label(totals["personas"][:, place]), level)
    found = {
        "question_js_distance": percentile_interval(values[f"question_js_distance/{persona}"], level),
        "agreement": share_interval(values[f"agreement/{persona}"], clusters, level),
        "kappa": percentile_interval(values[f"kappa/{persona}"], level),
        "js_distance": natural,
        "js_distance_base2": natural and Interval(natural.low / MAX_JS_DISTANCE, natural.high / MAX_JS_DISTANCE),
    }
    for label in LABELS:
        seen = np.count_nonzero(sums.blocks[label][:, place, :, 0], axis=0)
        if seen[seen > 0].min() >= FEWEST_LABEL_CLUSTERS:
            found[f"js_distance_by_{label}"] = distance_interval(*label_shares(totals[label][:, place]), level)
    return found


def _holding(interval: Interval, estimate: float) -> Interval:
    return Interval(float(min(interval.low, estimate)), float(max(interval.high, estimate)))
