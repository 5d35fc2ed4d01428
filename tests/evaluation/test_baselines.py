import numpy as np
import pytest

from fairpp_hf.evaluation.baselines import as_scores, baselines, majority_vote

ANSWERS = {
    "t": np.array([0, 0, 0, 0]),
    "x": np.array([0, 1, 2, -1]),
    "y": np.array([1, 1, -1, -1]),
    "z": np.array([1, 0, -1, -1]),
}


def test_the_majority_is_of_shares():
    """x alone outweighs y and z on the first question (0.6 > 0.4); together with y it has 0.8 of the second."""
    shares = {"x": 0.6, "y": 0.2, "z": 0.2}
    others = {name: ANSWERS[name] for name in shares}
    np.testing.assert_array_equal(
        majority_vote(others, shares), [[1, 0, 0], [0, 1, 0], [0, 0, 1], [np.nan, np.nan, np.nan]]
    )


def test_without_shares_each_persona_counts_as_one_and_equal_votes_share():
    """First question: y and z against x. With t as well, two against two."""
    others = {name: ANSWERS[name] for name in ("x", "y", "z")}
    assert majority_vote(others, {"x": 0.6, "y": None, "z": 0.2})[0].tolist() == [0, 1, 0]
    assert majority_vote(ANSWERS, {})[0].tolist() == [0.5, 0.5, 0]


def test_baselines_leave_the_target_out():
    majority, uniform = baselines(ANSWERS, {"t": 0.9, "x": 0.6, "y": 0.2, "z": 0.2}, "t")
    assert majority.name == "majority vote"
    assert majority.probabilities[1].tolist() == [0, 1, 0]
    assert majority.statuses.tolist() == [["ok"], ["ok"], ["ok"], ["empty"]]
    assert majority.answers.tolist() == [[0], [1], [2], [-1]]
    assert uniform.name == "uniform"
    np.testing.assert_allclose(uniform.probabilities, 1 / 3)
    assert uniform.answers.tolist() == [[-1]] * 4  # no option is the first choice
    assert majority.facts == uniform.facts == {"kind": "baseline"}


def test_scores_of_probabilities_in_both_orders():
    both = np.array([[[0.6, 0.3, 0.1], [0.2, 0.7, 0.1]], [[1, 0, 0], [np.nan] * 3]])
    scores = as_scores("m", both, kind="model")
    np.testing.assert_allclose(scores.probabilities, [[0.4, 0.5, 0.1], [np.nan] * 3])
    assert scores.answers.tolist() == [[0, 1], [0, -1]]
    assert scores.statuses.tolist() == [["ok", "ok"], ["ok", "empty"]]


def test_probabilities_of_another_shape_are_refused():
    message = (
        r"^probabilities must be of shape \(n, 3\) or \(n, orders, 3\); got \(4,\) at 'm'\. "
        r"Give one value for each of A, B and C\.$"
    )
    with pytest.raises(ValueError, match=message):
        as_scores("m", np.zeros(4))
