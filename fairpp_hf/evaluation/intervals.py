"""Bootstrap intervals of the alignment metrics, over clusters of related questions.

The ten questions on one problem and one group (five dimensions, two forms) share most of their words, so that they are
not ten independent observations. Clusters are drawn whole, with replacement (Cameron, Gelbach and Miller 2008).
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fairpp_hf.evaluation.metrics import option_probabilities


class Interval(NamedTuple):
    """A percentile interval."""

    low: float
    high: float


def clusters_of(questions: pa.Table) -> NDArray[np.int64]:
    """A number for each question's (problem, group), int64 (n,)."""
    problem = questions["problem"].combine_chunks().dictionary_encode().indices.to_numpy()
    group = questions["group"].combine_chunks().dictionary_encode().indices.to_numpy()
    return np.unique(np.stack([problem, group]), axis=1, return_inverse=True)[1].astype(np.int64)


def bootstrap_intervals(
    predictions: NDArray[np.float64],
    references: Mapping[str, NDArray[np.integer]],
    target: str,
    clusters: NDArray[np.int64],
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Percentile intervals of `js_distance/target`, `agreement/target` and `js_distance/margin`.

    Args:
        predictions: option probabilities, (n, 3).
        references: persona id to answers, (n,).
        target: persona id.
        clusters: number of each question's cluster, (n,).
        level: coverage, in (0, 1).
        resamples: bootstrap samples drawn.
        seed: of the drawing.

    Returns:
        Metric name to interval. With a single cluster nothing can be resampled, and there are no intervals.
    """
    names, cluster = np.unique(clusters, return_inverse=True)
    if len(names) < 2:
        return {}
    draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    weights = draws[:, cluster].astype(np.float64)  # (resamples, n): how often each question was drawn
    distances = {}
    for persona, answers in references.items():
        reference = option_probabilities(answers)
        common = ~(np.isnan(predictions).any(axis=1) | np.isnan(reference).any(axis=1))
        ours, theirs, drawn = predictions[common], reference[common], weights[:, common]
        # A resample may miss every question that a rarely answering persona has in common; it then has no value.
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = drawn / drawn.sum(axis=1, keepdims=True)
        distances[persona] = js_distances(shares @ ours, shares @ theirs)
        if persona == target:
            agreement = shares @ (ours * theirs).sum(axis=1)
    others = np.stack([distances[persona] for persona in references if persona != target])
    values = {
        "js_distance/target": distances[target],
        "agreement/target": agreement,
        "js_distance/margin": np.nanmin(others, axis=0) - distances[target],
    }
    tails = 50 * (1 - level), 50 * (1 + level)
    return {name: Interval(*map(float, np.nanpercentile(sample, tails))) for name, sample in values.items()}


def js_distances(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Jensen-Shannon distance of each row pair of two (b, 3) arrays of distributions, natural logarithm, (b,)."""
    middle = (first + second) / 2

    def divergence(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        ratio = np.divide(rows, middle, out=np.ones_like(rows), where=rows > 0)
        return (rows * np.log(ratio)).sum(axis=1)

    return np.sqrt(np.maximum((divergence(first) + divergence(second)) / 2, 0.0))
