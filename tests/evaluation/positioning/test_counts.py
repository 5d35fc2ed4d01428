"""Counts against a loop over rows."""

import numpy as np
import pyarrow as pa

from fairpp_hf.evaluation.positioning.counts import Template, cluster_counts, resampled_counts, templates_of


def table(problems: list[str], dimensions: list[int]) -> pa.Table:
    count = len(problems)
    return pa.table(
        {
            "topic": ["t"] * count,
            "dimension": dimensions,
            "form": ["criterion"] * count,
            "problem": problems,
            "group": ["g"] * count,
        }
    )


def test_counts_are_sums_by_cluster_and_template() -> None:
    """Two clusters, two templates: problem y has both; a row of NaN counts nowhere."""
    questions = table(["x", "y", "y", "x"], [1, 1, 2, 1])
    probabilities = np.array([[[1, 0, 0], [0.5, 0.5, 0], [0, 0, 1], [np.nan] * 3]])
    templates, template = templates_of(questions)
    assert templates == (Template("t", 1, "criterion"), Template("t", 2, "criterion"))
    counts = cluster_counts(probabilities, questions, template)
    assert counts.tolist() == [[[[1, 0, 0], [0, 0, 0]]], [[[0.5, 0.5, 0], [0, 0, 1]]]]


def test_replicates_weigh_whole_clusters_and_average_to_the_counts() -> None:
    counts = np.random.default_rng(0).random((40, 2, 3, 3))
    replicates = resampled_counts(counts, 2000, seed=1)
    total = counts.sum(axis=0)
    np.testing.assert_allclose(replicates.mean(axis=0), total, rtol=0.02)
    # Each replicate has weights of mean 1: the same answer from everybody stays what it was.
    ones = resampled_counts(np.ones((40, 1, 1, 1)), 5, seed=1)
    np.testing.assert_allclose(ones, 40)
    np.testing.assert_array_equal(replicates[:3], resampled_counts(counts, 2000, seed=1)[:3])
