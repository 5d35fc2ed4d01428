"""Answers of respondents counted by template, as they are and resampled over clusters of questions.

Both maps of this room start from the same numbers: how much of A, B and C each respondent gave under each of the 50
templates (topic, dimension, form). The bootstrap weighs whole (problem, group) clusters, so that it needs their sums alone.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fairpp_hf.statistics.bootstrap import added_up, weighted_sums
from fairpp_hf.statistics.question_sums import clusters_of


class Template(NamedTuple):
    """The wording that questions share, whatever their problem and group."""

    topic: str
    dimension: int
    form: str


def templates_of(questions: pa.Table) -> tuple[tuple[Template, ...], NDArray[np.int64]]:
    """The templates that the questions have, sorted, and the number of each question's template, (n,)."""
    of_questions = list(zip(*(questions[name].to_pylist() for name in Template._fields), strict=True))
    templates = sorted(set(of_questions))
    number = {template: index for index, template in enumerate(templates)}
    return tuple(Template(*template) for template in templates), np.array([number[key] for key in of_questions])


def cluster_counts(
    probabilities: NDArray[np.float64], questions: pa.Table, template: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Sums of probabilities (r, n, 3) by (problem, group) cluster and template, (c, r, t, 3); a row of NaN adds nothing."""
    respondents, _, options = probabilities.shape
    cluster = clusters_of(questions)
    clusters, templates = int(cluster.max()) + 1, int(template.max()) + 1
    place = cluster * templates + template
    answered = np.nan_to_num(probabilities)  # a row of NaN adds nothing
    sums = added_up(answered.transpose(1, 0, 2), place, clusters * templates)
    return sums.reshape(clusters, templates, respondents, options).transpose(0, 2, 1, 3)


def resampled_counts(counts: NDArray[np.float64], resamples: int, seed: int) -> NDArray[np.float64]:
    """Bootstrap replicates of the summed counts, (b, r, t, 3).

    The Bayesian bootstrap (Rubin 1981): each cluster weighs a standard exponential number, the same for all respondents. No
    weight is 0, so that no replicate loses a cell of few clusters.
    """
    clusters = len(counts)
    weights = np.random.default_rng(seed).standard_exponential((resamples, clusters))
    weights *= clusters / weights.sum(axis=1, keepdims=True)
    return weighted_sums(weights, counts)
