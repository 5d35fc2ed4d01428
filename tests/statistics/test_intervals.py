"""Bootstrap intervals on cases with known answers; `test_coverage.py` has whether they keep their promise."""

import re

import numpy as np
import pyarrow as pa
import pytest
from survey_worlds import TARGET, Population

from fairpp_hf.statistics.alignment import MAX_JS_DISTANCE, alignment_metrics
from fairpp_hf.statistics.intervals import metric_intervals
from fairpp_hf.statistics.question_sums import clusters_of


def questions(clusters: np.ndarray) -> pa.Table:
    """Questions of given clusters, each a problem of its own, all on one group."""
    count = len(clusters)
    same = {name: ["same"] * count for name in ("topic", "group_type", "group")}
    forms = {"dimension": [1] * count, "form": ["criterion"] * count}
    return pa.table({"problem": [str(cluster) for cluster in clusters], **same, **forms})


def test_clusters_are_problem_and_group() -> None:
    clusters = clusters_of({"problem": ["x", "x", "y", "x"], "group": ["a", "b", "a", "a"]})
    assert clusters[0] == clusters[3]
    assert sorted(set(clusters.tolist())) == [0, 1, 2]
    assert clusters_of({"problem": ["x", "x", "y"], "group": ["a", "b", "a"]}, ("problem",)).tolist() == [0, 0, 1]


def test_percentiles_are_those_of_a_plain_loop() -> None:
    """The drawing of clusters again, and the mean of the drawn questions; the ends differ by less than a resample's."""
    rng = np.random.default_rng(0)
    answers, clusters = rng.integers(0, 2, 90), np.arange(90) // 3
    predictions = rng.dirichlet([1, 1, 1], 90)
    found = metric_intervals(predictions, {"x": answers}, None, questions(clusters), resamples=2000)["agreement/x"]
    agreement = predictions[np.arange(90), answers]
    means = []
    for _ in range(2000):
        drawn = rng.integers(0, 30, 30)
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
    assert metric_intervals(predictions, references, "t", questions(np.arange(40) % 29)) == {}
    assert metric_intervals(predictions, references, "t", questions(np.arange(40) % 30)) != {}


def test_shares_of_none_and_all_have_the_interval_of_their_number_of_clusters() -> None:
    """Nobody of 30 clusters is unanswered: a share s of them would all be missed with probability (1 - s)^30 = 0.05."""
    references = {"t": np.arange(60) % 3, "x": np.arange(60) % 2}
    intervals = metric_intervals(np.full(60, 2), references, "t", questions(np.arange(60) // 2))
    reach = 1 - 0.05 ** (1 / 30)
    assert intervals["unanswered"] == pytest.approx((0, reach))
    assert intervals["abstention"] == pytest.approx((1 - reach, 1))
    assert (1 - intervals["unanswered"].high) ** 30 == pytest.approx(0.05)
    assert {"agreement/target", "js_distance/target", "question_js_distance/margin"} <= set(intervals)


def test_claims_about_other_problems_have_wider_intervals() -> None:
    """A model that is right on half of 40 problems, whichever of 10 groups it is asked about: 40 observations, not 400."""
    problem, group = np.arange(400) // 10, np.arange(400) % 10
    same = {name: ["same"] * 400 for name in ("topic", "group_type")}
    asked = same | {"problem": problem, "group": group, "dimension": [1] * 400, "form": ["criterion"] * 400}
    references = {"t": np.zeros(400, int), "x": np.ones(400, int)}
    related, problems = (
        np.ptp(metric_intervals(problem % 2, references, "t", asked, cluster_by=by)["agreement/target"])
        for by in (("problem", "group"), ("problem",))
    )
    # The standard error of a share of 1/2 is 1/2 / sqrt(400), and 1/2 / sqrt(40).
    assert related == pytest.approx(3.92 * 0.5 / np.sqrt(400), rel=0.1)
    assert problems == pytest.approx(3.92 * 0.5 / np.sqrt(40), rel=0.1)
    # Ten groups are too few clusters.
    assert metric_intervals(problem % 2, references, "t", asked, cluster_by=("group",)) == {}


def test_equal_shares_by_chance_are_not_surely_equal() -> None:
    """Opposite answers with equal marginals: distance 0, and an interval that starts there but does not end there."""
    answers = np.arange(40) % 2
    low, high = metric_intervals(answers, {"x": 1 - answers}, None, questions(np.arange(40)))["js_distance/x"]
    assert low == 0.0
    assert 0.1 < high < 0.4


def test_a_persona_with_few_answers_does_not_spoil_the_others() -> None:
    predictions = np.random.default_rng(0).dirichlet([1, 1, 1], 40)
    rare = np.full(40, -1)
    rare[3] = 0
    references = {"t": np.arange(40) % 3, "rare": rare, "x": np.arange(40) % 2}
    intervals = metric_intervals(predictions, references, "t", questions(np.arange(40)))
    assert "agreement/rare" not in intervals
    assert "agreement/x" in intervals
    # Where it is the nearest, there is a margin, but nothing to say how sure it is.
    near = np.tile([0.98, 0.01, 0.01], (40, 1))
    references = {"t": np.full(40, 1), "rare": np.where(np.arange(40) == 3, 0, -1), "x": np.arange(40) % 2}
    assert "question_js_distance/margin" not in metric_intervals(near, references, "t", questions(np.arange(40)))


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"cluster_by": ("dimension",)},
            "cluster_by must be some of 'problem', 'group', 'topic', 'group_type'; got ('dimension',). "
            'Give ("problem", "group") for claims about these problems, ("problem",) for claims about others.',
        ),
        ({"resamples": 10}, "resamples must be at least 100; got 10. Fewer say nothing of the tails."),
    ],
)
def test_bad_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        metric_intervals([0], {"x": [0]}, None, questions(np.arange(1)), **arguments)
