"""Metrics against hand arithmetic and scipy."""

import math
import re

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from fairpp_hf.evaluation.metrics import MAX_JS_DISTANCE, alignment_metrics


def test_js_distance_by_hand():
    """p = (1/2, 1/2, 0), q = (1, 0, 0), r = (3/4, 1/4, 0).

    KL(p||r) = 1/2 ln(2/3) + 1/2 ln 2, KL(q||r) = ln(4/3); distance = sqrt of half their sum.
    """
    metrics = alignment_metrics([0, 1], {"x": [0, 0]})
    divergence = (0.5 * math.log(2 / 3) + 0.5 * math.log(2) + math.log(4 / 3)) / 2
    assert metrics == {
        "js_distance/x": pytest.approx(math.sqrt(divergence)),
        "agreement/x": 0.5,
        "questions/x": 2,
    }


def test_disjoint_answers_are_at_the_largest_distance():
    metrics = alignment_metrics([0, 0, 0], {"x": [1, 2, 1]})
    assert metrics["js_distance/x"] == pytest.approx(MAX_JS_DISTANCE) == pytest.approx(0.8326, abs=1e-4)
    assert metrics["agreement/x"] == 0.0


def test_marginal_distance_is_blind_to_who_answers_what_and_agreement_is_not():
    metrics = alignment_metrics([0, 1], {"opposite": [1, 0], "same": [0, 1]})
    assert metrics["js_distance/opposite"] == metrics["js_distance/same"] == 0.0
    assert (metrics["agreement/opposite"], metrics["agreement/same"]) == (0.0, 1.0)


def test_probabilities_match_scipy_and_expectation():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([1, 1, 1], 50)
    answers = rng.integers(0, 3, 50)
    metrics = alignment_metrics(probabilities, {"x": answers})
    shares = np.bincount(answers, minlength=3) / 50
    assert metrics["js_distance/x"] == pytest.approx(jensenshannon(probabilities.mean(axis=0), shares))
    assert metrics["agreement/x"] == pytest.approx(
        np.mean([row[a] for row, a in zip(probabilities, answers, strict=True)])
    )


def test_answers_are_certain_probabilities():
    answers = np.array([0, 2, 1, 1])
    references = {"x": np.array([0, 0, 1, 2])}
    assert alignment_metrics(answers, references) == alignment_metrics(np.eye(3)[answers], references)


def test_missing_answers_are_left_out_of_both_sides():
    metrics = alignment_metrics([0, -1, 1, 2], {"x": [0, 0, -1, 2], "none": [-1, 1, -1, -1]})
    assert metrics["questions/x"] == 2
    assert (metrics["agreement/x"], metrics["js_distance/x"]) == (1.0, 0.0)
    assert (metrics["questions/none"], metrics["agreement/none"], metrics["js_distance/none"]) == (0, None, None)


def test_target_metrics():
    references = {"far": [1, 1, 1, 1], "near": [0, 0, 0, 1], "t": [0, 0, 1, 1]}
    metrics = alignment_metrics([0, 0, 1, 1], references, target="t")
    assert metrics["js_distance/target"] == 0.0
    assert metrics["nearest_other"] == "near"
    assert metrics["js_distance/nearest_other"] == metrics["js_distance/near"] == metrics["js_distance/margin"]
    assert metrics["agreement/target"] == 1.0


@pytest.mark.parametrize(
    ("predictions", "references", "target", "message"),
    [
        ([0, 3], {"x": [0, 0]}, None, "predictions must be in -1..2 (-1 for no valid answer); got 3 at row 1."),
        (
            [[0.5, 0.5, 0.5]],
            {"x": [0]},
            None,
            "predictions must be probabilities that sum to 1 over A, B, C; got [0.5, 0.5, 0.5] at row 0.",
        ),
        (
            [0.5],
            {"x": [0]},
            None,
            "predictions must be integer answers of shape (n,) or probabilities of shape (n, 3); got float64 of shape (1,).",
        ),
        ([0], {"x": [0, 1]}, None, "references['x'] must answer the same questions as predictions; got 2 for 1."),
        ([0], {"x": [0]}, "y", "target must be one of 'x'; got 'y'."),
        ([0], {"x": [0]}, "x", "references must hold another persona than the target; got only 'x'."),
        (
            [0],
            {"x": [-1], "y": [0]},
            "x",
            "target must share a question with the predictions; got none answered by both for 'x'.",
        ),
    ],
)
def test_bad_input_is_refused(predictions, references, target, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        alignment_metrics(predictions, references, target=target)
