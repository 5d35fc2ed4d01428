"""Two systems on the same questions: differences of their metrics, with intervals and p-values."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from fairpp_hf.statistics.alignment import metric_values
from fairpp_hf.statistics.bootstrap import FEWEST_CLUSTERS, LEVEL, Interval, check_resamples, drawn_weights
from fairpp_hf.statistics.options import option_probabilities
from fairpp_hf.statistics.question_sums import CLUSTER, QuestionSums, clusters_of, question_sums

HEADLINES = (
    "js_divergence/target",
    "question_js_distance/target",
    "agreement/target",
    "brier/target",
    "js_divergence/margin",
)
"""What two systems are compared by."""


class Comparison(NamedTuple):
    """A metric of one system minus that of another; for `js_divergence/...` without what noise adds to it."""

    difference: float
    interval: Interval
    p_value: float
    """Two-sided, of no difference."""


def paired_comparison(
    first: ArrayLike,
    second: ArrayLike,
    references: Mapping[str, ArrayLike],
    target: str,
    questions: pa.Table | Mapping[str, Any],
    *,
    resamples: int = 1000,
    seed: int = 0,
    cluster_by: Sequence[str] = CLUSTER,
) -> dict[str, Comparison]:
    """Compare two systems by each of `HEADLINES`, over the questions that both answered.

    Clusters of questions are drawn whole, the same for both systems, so that what makes questions easy or hard for both
    cancels. With d the difference and d* those of b resamples, the p-value is (1 + #{|d* - m| >= |d|}) / (1 + b)
    (Davison and Hinkley 1997, section 4.2), with m = d, and the interval d -+ the 95% quantile of |d* - m|, which leaves
    out 0 just where the p-value is below 0.05. p-values of several metrics or systems are not corrected for their
    number.

    Marginals are compared by Jensen-Shannon divergences, the squares of the distances. Noise enlarges a distance, a small
    one more than a large one, so that a difference of two distances lies beside the truth; a divergence it enlarges by an
    amount that resampling shows. With m the mean of d*, the difference that is given is 2 d - m in the place of d (Efron and
    Tibshirani 1993, section 10.6). `js_divergence/margin` is the divergence from the nearest other persona minus that from
    the target; the nearest of a system is the one that it is nearest to in the answers at hand.

    `brier/target` is proper; `agreement` and `question_js_distance` reward confidence, see `alignment_metrics`.

    Args:
        first: Answers (n,) or option probabilities (n, 3) of one system.
        second: Answers or option probabilities of the other system.
        references: Persona id to answers (n,) or option probabilities (n, 3).
        target: Id of the persona.
        questions: The n questions, see `alignment_metrics`.
        resamples: Number of bootstrap samples.
        seed: Seed of the drawing.
        cluster_by: Columns that the questions of a cluster have in common, see `metric_intervals`.

    Returns:
        Metric name to first minus second. None at all where the questions that both answered lie in fewer than 30 clusters.

    Raises:
        ValueError: see `alignment_metrics`; or the systems have answered different numbers of questions or none in common.
    """
    check_resamples(resamples)
    rows = [option_probabilities(first, "first"), option_probabilities(second, "second")]
    if len(rows[0]) != len(rows[1]):
        raise ValueError(f"second must answer the same questions as first; got {len(rows[1])} for {len(rows[0])}.")
    both = np.asarray(np.isfinite(np.concatenate(rows, axis=1)).all(axis=1))
    if not both.any():
        raise ValueError("first and second must share a question that both answered; got none.")
    clusters = np.full(len(both), 0, dtype=np.int64)
    # Without gaps: what neither answered is in no cluster that is drawn.
    of_question = clusters_of(questions, cluster_by, len(both))
    clusters[both] = np.unique(of_question[both], return_inverse=True)[1]
    values: list[dict[str, NDArray[np.float64]]] = []
    for system in rows:
        sums = question_sums(np.where(both[:, None], system, np.nan), references, target, questions, clusters)
        if sums.clusters < FEWEST_CLUSTERS:
            return {}
        totals = sums.totals(drawn_weights(sums.clusters, resamples, seed))
        values.append(_with_divergences(sums, metric_values(sums, totals)))
    return {name: _compared(values[0][name] - values[1][name], name.startswith("js_divergence/")) for name in HEADLINES}


def _with_divergences(sums: QuestionSums, values: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """The metrics (1 + b,), the estimate first, and the divergences from the target and the nearest other."""
    divergences = {persona: values[f"js_distance/{persona}"] ** 2 for persona in (*sums.personas, "target")}
    others = [sums.personas[place] for place in sums.others if np.isfinite(divergences[sums.personas[place]][0])]
    # The least of each resample would be too low once more than that of the estimate.
    nearest = min(others, key=lambda persona: divergences[persona][0])
    return {
        **values,
        "js_divergence/target": divergences["target"],
        "js_divergence/margin": divergences[nearest] - divergences["target"],
    }


def _compared(differences: NDArray[np.float64], is_enlarged: bool) -> Comparison:
    """From differences (1 + b,), the estimate first, NaN for a resample that holds nothing.

    `is_enlarged` says whether noise adds to them, which is then taken off.
    """
    drawn = differences[1:][np.isfinite(differences[1:])]
    centre = drawn.mean() if is_enlarged else differences[0]
    difference = 2 * differences[0] - centre
    off = np.abs(drawn - centre)
    # Rounding must not make a difference of two equal systems larger than itself.
    p_value = (1 + np.count_nonzero(off >= abs(difference) - 1e-12)) / (1 + len(off))
    reach = float(np.quantile(off, LEVEL, method="weibull"))
    return Comparison(float(difference), Interval(float(difference - reach), float(difference + reach)), float(p_value))
