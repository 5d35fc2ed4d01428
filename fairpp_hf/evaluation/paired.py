"""Two systems on the same questions: differences of their metrics, with intervals and p-values."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from fairpp_hf.evaluation.intervals import CLUSTER, FEWEST_CLUSTERS, check_drawing, drawn_weights
from fairpp_hf.evaluation.metrics import check_target, metric_values
from fairpp_hf.evaluation.probabilities import option_probabilities
from fairpp_hf.evaluation.weighted_sums import LABELS, combined, question_columns, question_sums

HEADLINES = (
    "js_distance/target",
    "question_js_distance/target",
    "agreement/target",
    "js_distance/margin",
    "worst_group/target",
)
"""Metrics that two systems are compared by."""


class Comparison(NamedTuple):
    """A metric of one system minus that of another."""

    difference: float
    low: float
    high: float
    p_value: float
    """Two-sided, of no difference."""


def paired_comparison(
    first: ArrayLike,
    second: ArrayLike,
    references: Mapping[str, ArrayLike],
    target: str,
    questions: pa.Table | Mapping[str, Any],
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Comparison]:
    """Compare two systems by each of `HEADLINES`, over the questions that both answered.

    Clusters of questions are drawn whole, the same for both systems, so that what makes questions easy or hard for both
    cancels. With d the difference and d* those of b resamples, the p-value is (1 + #{|d* - d| >= |d|}) / (1 + b)
    (Davison and Hinkley 1997, section 4.2), and the interval d -+ the `level` quantile of |d* - d|, which leaves out 0 just
    where the p-value is below 1 - level. For `worst_group/target` of systems whose worst groups are not far from their next
    ones it is wider than it need be, as is every interval of a least value. p-values of several metrics or systems are not
    corrected for their number.

    Args:
        first: answers (n,) or option probabilities (n, 3) of one system.
        second: the same of the other.
        references: persona id to answers (n,) or option probabilities (n, 3).
        target: persona id.
        questions: the n questions, see `alignment_metrics`.
        level: coverage of the intervals, in (0, 1).
        resamples: bootstrap samples drawn.
        seed: of the drawing.

    Returns:
        Metric name to first minus second. None at all where the questions that both answered lie in fewer than 10 clusters.

    Raises:
        ValueError: see `alignment_metrics`; or the systems have answered different numbers of questions or none in common.
    """
    check_drawing(level, resamples)
    rows = [option_probabilities(first, "first"), option_probabilities(second, "second")]
    if len(rows[0]) != len(rows[1]):
        raise ValueError(f"second must answer the same questions as first; got {len(rows[1])} for {len(rows[0])}.")
    both = np.asarray(np.isfinite(np.concatenate(rows, axis=1)).all(axis=1))
    if not both.any():
        raise ValueError("first and second must share a question that both answered; got none.")
    clusters = np.full(len(both), 0, dtype=np.int64)
    # Without gaps: what neither answered is in no cluster that is drawn.
    of_question = combined(question_columns(questions, len(both), CLUSTER), CLUSTER)
    clusters[both] = np.unique(of_question[both], return_inverse=True)[1]
    values: list[dict[str, NDArray[np.float64]]] = []
    for system in rows:
        sums = question_sums(np.where(both[:, None], system, np.nan), references, target, questions, clusters)
        check_target(sums)
        if sums.clusters < FEWEST_CLUSTERS:
            return {}
        blocks = {name: block for name, block in sums.blocks.items() if name not in LABELS}
        totals = replace(sums, blocks=blocks).totals(drawn_weights(sums.clusters, resamples, seed))
        values.append(metric_values(sums, totals))
    return {name: _compared(values[0][name] - values[1][name], level) for name in HEADLINES}


def _compared(differences: NDArray[np.float64], level: float) -> Comparison:
    """From differences (1 + b,), the estimate first; resamples that hold nothing are NaN and left out."""
    difference, drawn = differences[0], differences[1:]
    off = np.abs(drawn[np.isfinite(drawn)] - difference)
    # Rounding must not make a difference of two equal systems larger than itself.
    p_value = (1 + np.count_nonzero(off >= abs(difference) - 1e-12)) / (1 + len(off))
    reach = float(np.quantile(off, level, method="weibull"))
    return Comparison(float(difference), float(difference - reach), float(difference + reach), float(p_value))
