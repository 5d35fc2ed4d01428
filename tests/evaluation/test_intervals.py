"""Bootstrap intervals on cases with known answers; `test_coverage.py` has whether they keep their promise."""

import re

import numpy as np
import pyarrow as pa
import pytest
from scipy.spatial.distance import jensenshannon
from survey_worlds import TARGET, Population

from fairpp_hf.evaluation.intervals import clusters_of, js_distances, metric_intervals
from fairpp_hf.evaluation.metrics import MAX_JS_DISTANCE, alignment_metrics


def questions(clusters: np.ndarray) -> pa.Table:
    """Questions of given clusters, each a problem of its own, all on one group."""
    count = len(clusters)
    same = {name: ["same"] * count for name in ("topic", "group_type", "group")}
    forms = {"dimension": [1] * count, "form": ["criterion"] * count}
    return pa.table({"problem": [str(cluster) for cluster in clusters], **same, **forms})


def test_vectorised_distance_matches_scipy() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.dirichlet([1, 1, 1], 20), rng.dirichlet([1, 1, 1], 20)
    first[0] = [1.0, 0.0, 0.0]
    np.testing.assert_allclose(js_distances(first, second), jensenshannon(first, second, axis=1))
    assert (js_distances(first, first / 3 * 3) == 0).all()


def test_clusters_are_problem_and_group() -> None:
    clusters = clusters_of({"problem": ["x", "x", "y", "x"], "group": ["a", "b", "a", "a"]})
    assert clusters[0] == clusters[3]
    assert sorted(set(clusters.tolist())) == [0, 1, 2]


def test_percentiles_are_those_of_a_plain_loop() -> None:
    """The drawing of clusters again, and the mean of the drawn questions; the ends differ by less than a resample's."""
    rng = np.random.default_rng(0)
    answers, clusters = rng.integers(0, 2, 60), np.arange(60) // 3
    predictions = rng.dirichlet([1, 1, 1], 60)
    found = metric_intervals(predictions, {"x": answers}, None, questions(clusters), resamples=2000)["agreement/x"]
    agreement = predictions[np.arange(60), answers]
    means = []
    for _ in range(2000):
        drawn = rng.integers(0, 20, 20)
        means.append(np.mean([agreement[clusters == cluster].mean() for cluster in drawn]))
    np.testing.assert_allclose(found, np.percentile(means, [2.5, 97.5]), atol=0.01)


def test_clustering_widens_the_interval_of_repeated_questions() -> None:
    rng = np.random.default_rng(1)
    target = rng.integers(0, 2, 30).repeat(10)
    predictions = rng.integers(0, 2, 30).repeat(10)
    widths = []
    for clusters in (np.arange(300), np.arange(30).repeat(10)):
        references = {"t": target, "x": 1 - target}
        low, high = metric_intervals(predictions, references, "t", questions(clusters))["agreement/target"]
        widths.append(high - low)
    assert widths[1] > 2 * widths[0]


def test_few_clusters_give_no_interval() -> None:
    references = {"t": np.arange(40) % 2, "x": np.arange(40) % 3}
    predictions = np.random.default_rng(0).dirichlet([1, 1, 1], 40)
    assert metric_intervals(predictions, references, "t", questions(np.arange(40) % 9)) == {}
    assert metric_intervals(predictions, references, "t", questions(np.arange(40) % 10)) != {}


def test_what_does_not_vary_has_no_interval() -> None:
    """Nobody is unanswered and everybody abstains: nothing says how often another draw would have it otherwise."""
    references = {"t": np.arange(20) % 3, "x": np.arange(20) % 2}
    intervals = metric_intervals(np.full(20, 2), references, "t", questions(np.arange(20)))
    assert not {"unanswered", "abstention"} & set(intervals)
    assert {"agreement/target", "js_distance/target", "js_distance/margin"} <= set(intervals)


def test_the_targets_own_answers_have_a_margin() -> None:
    """Its distance to itself is 0 in every resample; the margin is then the nearest other's distance."""
    rng = np.random.default_rng(0)
    references = {"t": rng.integers(0, 2, 50), "x": rng.choice(3, 50, p=[0.2, 0.2, 0.6])}
    intervals = metric_intervals(references["t"], references, "t", questions(np.arange(50)))
    assert "js_distance/target" not in intervals
    assert intervals["js_distance/margin"] == intervals["js_distance/nearest_other"] == intervals["js_distance/x"]


def test_equal_shares_by_chance_are_not_surely_equal() -> None:
    """Opposite answers with equal marginals: distance 0, and an interval that starts there but does not end there."""
    answers = np.arange(40) % 2
    low, high = metric_intervals(answers, {"x": 1 - answers}, None, questions(np.arange(40)))["js_distance/x"]
    assert low == 0.0
    assert 0.1 < high < 0.4


def test_a_persona_with_few_answers_does_not_spoil_the_others() -> None:
    predictions = np.random.default_rng(0).dirichlet([1, 1, 1], 20)
    rare = np.full(20, -1)
    rare[3] = 0
    references = {"t": np.arange(20) % 3, "rare": rare, "x": np.arange(20) % 2}
    intervals = metric_intervals(predictions, references, "t", questions(np.arange(20)))
    assert "agreement/rare" not in intervals
    low, high = intervals["js_distance/margin"]
    assert low < alignment_metrics(predictions, references, "t")["js_distance/margin"] < high
    # Where it is the nearest, there is a margin, but nothing to say how sure it is.
    rare[3] = int(predictions.mean(axis=0).argmax())
    near = np.tile([0.98, 0.01, 0.01], (20, 1))
    references = {"t": np.full(20, 1), "rare": np.where(np.arange(20) == 3, 0, -1), "x": np.arange(20) % 2}
    assert "js_distance/margin" not in metric_intervals(near, references, "t", questions(np.arange(20)))


def test_every_interval_holds_its_estimate_and_twins_agree() -> None:
    population = Population((TARGET, "backbone_conservatives", "civic_pragmatists"), every=4)
    world = population.draw(population.probabilities[TARGET], 150, np.random.default_rng(0))
    given = world.predictions, world.references, TARGET, world.questions
    metrics, intervals = alignment_metrics(*given), metric_intervals(*given)
    assert all(low <= metrics[name] <= high for name, (low, high) in intervals.items())
    assert intervals["js_distance/target"] == intervals[f"js_distance/{TARGET}"]
    np.testing.assert_allclose(
        np.array(intervals["js_distance_base2/target"]) * MAX_JS_DISTANCE, intervals["js_distance/target"]
    )
    assert intervals == metric_intervals(*given)
    narrow = metric_intervals(*given, level=0.5)
    assert all(high - low <= np.ptp(intervals[name]) + 1e-12 for name, (low, high) in narrow.items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"level": 95}, "level must be between 0 and 1; got 95. 0.95 is usual."),
        ({"resamples": 10}, "resamples must be at least 100; got 10. Fewer say nothing of the tails."),
    ],
)
def test_bad_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        metric_intervals([0], {"x": [0]}, None, questions(np.arange(1)), **arguments)


def test_questions_of_another_number_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^questions must be those of predictions; got 30 for 20\.$"):
        metric_intervals(np.zeros(20, int), {"x": np.zeros(20, int)}, None, questions(np.arange(30)))
