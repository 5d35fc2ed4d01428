"""Resamples of clusters, and measures from them."""

import numpy as np
import pytest

from fairpp_hf.statistics.bootstrap import RESAMPLES, Interval, Measure, Resamples, drawn_weights, measured


def test_each_resample_draws_as_many_clusters_as_there_are() -> None:
    weights = drawn_weights(7, 1000, seed=0)
    assert weights[0].tolist() == [1] * 7
    assert (weights.sum(axis=1) == 7).all()
    np.testing.assert_allclose(weights[1:].mean(axis=0), 1, atol=0.12)  # a multinomial's standard error is 0.03
    np.testing.assert_allclose(weights[1:].var(axis=0), 6 / 7, atol=0.2)
    assert (weights == drawn_weights(7, 1000, seed=0)).all()


def test_resampled_totals_are_sums_over_the_drawn_clusters() -> None:
    """Values that name their cluster: a resample's total is the number of times that each is drawn."""
    cluster = np.repeat(np.arange(36), [1, 2, 3] * 12)
    values = np.eye(36)[cluster] / np.bincount(cluster)[cluster][:, None]
    totals = Resamples(cluster, seed=3).totals(values)
    assert totals.shape == (1 + RESAMPLES, 36)
    np.testing.assert_allclose(totals[0], 1)
    np.testing.assert_allclose(totals.sum(axis=1), 36)
    np.testing.assert_allclose(totals, totals.round(), atol=1e-9)
    rows = np.array([0, 5, 5])
    again = Resamples(cluster, seed=3).totals(np.ones(3), rows)
    np.testing.assert_allclose(again, totals[:, cluster[[0]]][:, 0] + 2 * totals[:, cluster[5]])


def test_few_clusters_or_few_counted_give_no_interval() -> None:
    totals = Resamples(np.arange(29), seed=0).totals(np.ones(29))
    assert totals.tolist() == [29.0]
    assert measured(totals, 29, "records") == Measure(29.0, None, 29, "records")
    resamples = np.concatenate([[0.5], np.linspace(0, 1, RESAMPLES)])
    assert measured(resamples, 29, "records").interval is None
    assert measured(resamples, 100, "records").interval == pytest.approx((0.025, 0.975), abs=1e-3)
    assert measured(np.full(5, np.nan), 0, "records") == Measure(None, None, 0, "records", None, "no records")


def test_the_interval_of_a_distance_is_about_its_value_and_not_below_0() -> None:
    """Resamples of a distance lie above it: value 0.1, their 97.5th percentile 0.3, so 0.1 +- 0.2."""
    values = np.concatenate([[0.1], np.linspace(0.15, 0.303846, RESAMPLES)])
    assert measured(values, 100, "answers", is_distance=True).interval == pytest.approx(Interval(0.0, 0.3), abs=1e-3)
