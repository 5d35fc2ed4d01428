"""Bootstrap intervals against scipy's, and on cases with known answers."""

import numpy as np
import pyarrow as pa
from scipy.spatial.distance import jensenshannon

from fairpp_hf.evaluation.intervals import bootstrap_intervals, clusters_of, js_distances


def test_vectorised_distance_matches_scipy():
    rng = np.random.default_rng(0)
    first, second = rng.dirichlet([1, 1, 1], 20), rng.dirichlet([1, 1, 1], 20)
    first[0] = [1.0, 0.0, 0.0]
    np.testing.assert_allclose(js_distances(first, second), jensenshannon(first, second, axis=1))


def test_clusters_are_problem_and_group():
    questions = pa.table({"problem": ["x", "x", "y", "x"], "group": ["a", "b", "a", "a"]})
    clusters = clusters_of(questions)
    assert clusters[0] == clusters[3]
    assert len(set(clusters.tolist())) == 3


def test_interval_covers_the_true_agreement_at_about_its_level():
    """Agreement of a coin of known bias, 60 questions in 60 clusters: 95% intervals miss in some 5% of 200 worlds."""
    rng = np.random.default_rng(0)
    covered = 0
    for world in range(200):
        target = rng.integers(0, 2, 60)
        hit = rng.random(60) < 0.7
        predictions = np.eye(3)[np.where(hit, target, 1 - target)]
        references = {"t": target, "x": rng.integers(0, 2, 60)}
        interval = bootstrap_intervals(predictions, references, "t", np.arange(60), resamples=300, seed=world)
        low, high = interval["agreement/target"]
        covered += low <= 0.7 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_clustering_widens_the_interval_of_repeated_questions():
    rng = np.random.default_rng(1)
    target = rng.integers(0, 2, 30).repeat(10)
    predictions = np.eye(3)[rng.integers(0, 2, 30).repeat(10)]
    references = {"t": target, "x": 1 - target}
    widths = []
    for clusters in (np.arange(300), np.arange(30).repeat(10)):
        low, high = bootstrap_intervals(predictions, references, "t", clusters)["agreement/target"]
        widths.append(high - low)
    assert widths[1] > 2 * widths[0]


def test_one_cluster_gives_no_interval():
    predictions = np.full((4, 3), 1 / 3)
    references = {"t": np.zeros(4, int), "x": np.ones(4, int)}
    assert bootstrap_intervals(predictions, references, "t", np.zeros(4, int)) == {}


def test_a_persona_with_few_answers_does_not_spoil_the_others():
    predictions = np.random.default_rng(0).dirichlet([1, 1, 1], 20)
    rare = np.full(20, -1)
    rare[3] = 0
    references = {"t": np.zeros(20, int), "rare": rare, "x": np.ones(20, int)}
    interval = bootstrap_intervals(predictions, references, "t", np.arange(20))["js_distance/margin"]
    assert np.isfinite(interval).all()
    assert interval.low < interval.high
