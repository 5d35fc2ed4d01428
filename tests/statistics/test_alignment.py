"""Metrics against hand arithmetic and scipy."""

import math
import re

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from fairpp_hf.statistics.alignment import MAX_JS_DISTANCE, alignment_metrics


def test_js_distance_by_hand():
    """p = (1/2, 1/2, 0), q = (1, 0, 0), r = (3/4, 1/4, 0).

    KL(p||r) = 1/2 ln(2/3) + 1/2 ln 2, KL(q||r) = ln(4/3); distance = sqrt of half their sum.
    """
    metrics = alignment_metrics([0, 1], {"x": [0, 0]})
    divergence = (0.5 * math.log(2 / 3) + 0.5 * math.log(2) + math.log(4 / 3)) / 2
    assert metrics == {
        "unanswered": 0.0,
        "abstention": 0.0,
        "js_distance/x": pytest.approx(math.sqrt(divergence)),
        "js_distance_base2/x": pytest.approx(jensenshannon([0.5, 0.5, 0], [1, 0, 0], base=2)),
        "question_js_distance/x": pytest.approx(MAX_JS_DISTANCE / 2),
        "agreement/x": 0.5,
        "kappa/x": 0.0,
        "questions/x": 2,
    }


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


def test_missing_answers_are_left_out_of_both_sides():
    metrics = alignment_metrics([0, -1, 1, 2], {"x": [0, 0, -1, 2], "none": [-1, 1, -1, -1]})
    assert metrics["questions/x"] == 2
    assert (metrics["agreement/x"], metrics["js_distance/x"]) == (1.0, 0.0)
    assert (metrics["questions/none"], metrics["agreement/none"], metrics["js_distance/none"]) == (0, None, None)


def test_question_distance_is_the_mean_over_questions_and_of_draws_not_that_of_their_probabilities():
    """Against itself it is 0; against a draw from itself it is not: P = (1/2, 1/2, 0) lies 0.4645 from either answer."""
    rng = np.random.default_rng(0)
    first, second = rng.dirichlet([1, 1, 1], 20), rng.dirichlet([1, 1, 1], 20)
    metrics = alignment_metrics(first, {"same": first, "other": second})
    assert metrics["question_js_distance/same"] == 0.0
    assert metrics["question_js_distance/other"] == pytest.approx(jensenshannon(first, second, axis=1).mean())
    half = np.array([[0.5, 0.5, 0.0]])
    assert alignment_metrics(half, {"x": [1]})["question_js_distance/x"] == pytest.approx(
        jensenshannon([0.5, 0.5, 0], [0, 1, 0])
    )


def test_kappa_by_hand():
    """Answers A A A B and A A B B: agreement 3/4; marginals (3/4, 1/4) and (1/2, 1/2) agree by chance in 1/2.

    (3/4 - 1/2) / (1 - 1/2) = 1/2.
    """
    assert alignment_metrics([0, 0, 0, 1], {"x": [0, 0, 1, 1]})["kappa/x"] == pytest.approx(0.5)
    # Always the same option on both sides: chance alone agrees, and there is nothing to correct.
    assert alignment_metrics([2, 2], {"x": [2, 2]})["kappa/x"] is None


def test_abstention_and_unanswered():
    metrics = alignment_metrics([2, -1, 0, 2], {"x": [0, 0, 0, 0]})
    assert (metrics["abstention"], metrics["unanswered"]) == (pytest.approx(2 / 3), 0.25)
    nobody = alignment_metrics([-1, -1], {"x": [0, 0]})
    assert (nobody["abstention"], nobody["unanswered"], nobody["js_distance/x"]) == (None, 1.0, None)
    everyone = alignment_metrics([2, 2], {"x": [2, 0]})
    assert (everyone["abstention"], everyone["agreement/x"], everyone["kappa/x"]) == (1.0, 0.5, 0.0)


def test_calibration_and_brier_by_hand():
    """Top probabilities 0.5, 0.58 (one bin, one hit of 2: |0.54 - 0.5|) and 1.0 (its own bin, a miss: |1 - 0|).

    Error: (2 x 0.04 + 1 x 1) / 3. Brier: 0.25 + 0.25 for the first; 0.58^2 + 0.3^2 + 0.88^2 for the second, whose answer
    is C at 0.12; 1 + 1 for the third.
    """
    predictions = np.array([[0.5, 0.5, 0.0], [0.58, 0.3, 0.12], [0.0, 1.0, 0.0]])
    metrics = alignment_metrics(predictions, {"t": [0, 2, 0], "x": [0, 0, 0]}, target="t")
    # Both options of the first question are its top, so that its hit counts half.
    assert metrics["calibration_error/target"] == pytest.approx((abs(0.54 * 2 - 0.5) + 1) / 3)
    assert metrics["brier/target"] == pytest.approx((0.5 + (0.58**2 + 0.3**2 + 0.88**2) + 2) / 3)


def questions(**columns):
    """Two groups of two units each, in both forms, on one topic."""
    base = {
        "topic": ["t"] * 8,
        "problem": ["p"] * 8,
        "group_type": ["g"] * 8,
        "group": ["men"] * 4 + ["women"] * 4,
        "dimension": [1, 1, 2, 2] * 2,
        "form": ["criterion", "explanation"] * 4,
    }
    return base | columns


def on_groups(**problems):
    """A question on each of some problems of each group."""
    group = [name for name, count in problems.items() for _ in range(count)]
    problem = [str(number) for count in problems.values() for number in range(count)]
    same = {name: ["same"] * len(group) for name in ("topic", "group_type")}
    return same | {
        "group": group,
        "problem": problem,
        "dimension": [1] * len(group),
        "form": ["criterion"] * len(group),
    }


def test_groups_by_hand():
    """Agreement 9/12 with men, 3/12 with women: worst 1/4.

    The elderly, on whom nothing is right, are asked about in 9 problems, which is too few to count.
    """
    answers = [0] * 9 + [1] * 3 + [1] * 9 + [0] * 3 + [1] * 9
    references = {"t": [0] * 33, "x": [1] * 33}
    metrics = alignment_metrics(answers, references, "t", on_groups(men=12, women=12, elderly=9))
    assert metrics["worst_group/target"] == 0.25
    assert metrics["worst_group_name/target"] == "women"


@pytest.mark.parametrize("unanswered", [0, 1])
def test_fewer_than_two_groups_of_ten_problems_have_no_worst(unanswered):
    """A problem counts where it is answered, and once, however many questions there are on it."""
    asked = on_groups(men=10, women=10)
    asked["problem"][10] = asked["problem"][10 + 1 - unanswered]
    answers = np.zeros(20, int)
    answers[:unanswered] = -1
    metrics = alignment_metrics(answers, {"t": [0] * 20, "x": [1] * 20}, "t", asked)
    for name in ("worst_group", "worst_group_name"):
        assert metrics[f"{name}/target"] is None
    assert metrics["agreement/target"] == 1.0


def test_forms_consistency_by_hand():
    """Units (0, 0), (0, 1), (1, missing), (even, 0): (1 + 0 + 1/2) / 3."""
    predictions = np.eye(3)[[0, 0, 0, 1, 1, 0, 0, 0]]
    predictions[5] = np.nan
    predictions[6] = [0.5, 0.5, 0]
    metrics = alignment_metrics(predictions, {"x": [0] * 8}, questions=questions())
    assert metrics["forms_consistency"] == pytest.approx(0.5)
    lonely = alignment_metrics([0] * 8, {"x": [0] * 8}, questions=questions(form=["criterion"] * 8))
    assert lonely["forms_consistency"] is None


def test_forms_asked_several_times_are_all_paired():
    """Criterion A and A, explanation B and A: of four pairs, two are the same. Nothing depends on the order of rows."""
    several = {name: ["same"] * 4 for name in ("topic", "problem", "group_type", "group")} | {"dimension": [1] * 4}
    several["form"] = ["criterion", "explanation"] * 2
    for answers in ([0, 1, 0, 0], [0, 0, 0, 1]):
        assert alignment_metrics(answers, {"x": [0] * 4}, questions=several)["forms_consistency"] == 0.5
    # A form without an answer is none; of C and A, A, the one pair that is left is different.
    assert alignment_metrics([2, 0, -1, -1], {"x": [0] * 4}, questions=several)["forms_consistency"] == 0.0


def test_question_margin_has_its_own_nearest_other():
    """One has the predictions' shares and none of their answers, one all their answers but one."""
    references = {"t": [0, 0, 1, 1], "marginal": [1, 1, 0, 0], "same_but_one": [0, 0, 1, 2]}
    metrics = alignment_metrics([0, 0, 1, 1], references, target="t")
    assert metrics["nearest_other"] == "marginal"
    assert metrics["js_distance/margin"] == 0.0
    assert metrics["question_js_distance/margin"] == pytest.approx(MAX_JS_DISTANCE / 4)


@pytest.mark.parametrize("name", ["target", "margin", "nearest_other"])
def test_a_persona_cannot_have_the_name_of_a_metric(name):
    message = f"references must not have a persona called {name!r}: metrics end in that name. Rename the persona."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        alignment_metrics([0], {name: [0]})


def test_questions_must_have_their_columns_and_rows():
    short = {name: column[:3] for name, column in questions().items()}
    with pytest.raises(ValueError, match=r"^questions must be those of predictions; got 3 for 8\.$"):
        alignment_metrics([0] * 8, {"x": [0] * 8}, questions=short)
    missing = questions(problem=["p"] * 3 + [None] * 5)
    with pytest.raises(ValueError, match=r"^questions must have a 'problem' in every row; got none at row 3\.$"):
        alignment_metrics([0] * 8, {"x": [0] * 8}, questions=missing)
    del short["form"]
    message = (
        "questions must have the columns problem, group, dimension, form; got no 'form'. "
        "Give rows of `load_questions()`, or leave questions out."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        alignment_metrics([0] * 8, {"x": [0] * 8}, questions=short)


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
            [[0.5, 0.5, math.nan]],
            {"x": [0]},
            None,
            "predictions must be probabilities that sum to 1 over A, B, C; got [0.5, 0.5, nan] at row 0.",
        ),
        (
            [0.5],
            {"x": [0]},
            None,
            "predictions must be integer answers of shape (n,) or probabilities of shape (n, 3); got float64 of shape (1,).",
        ),
        ([], {"x": []}, None, "predictions must hold at least one question; got none."),
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


def test_a_certain_guess_beats_the_personas_own_probabilities_except_by_brier():
    """Answers drawn from (0.6, 0.3, 0.1): the mode agrees in 0.6, the probabilities themselves in 0.36 + 0.09 + 0.01.

    Brier: 2 (1 - 0.6) of the mode, 1 - 0.46 of the probabilities.
    """
    answers = np.repeat([0, 1, 2], [60, 30, 10])
    references = {"t": answers, "x": np.zeros(100, int)}
    own = alignment_metrics(np.tile([0.6, 0.3, 0.1], (100, 1)), references, "t")
    mode = alignment_metrics(np.zeros(100, int), references, "t")
    assert (own["agreement/target"], mode["agreement/target"]) == (pytest.approx(0.46), pytest.approx(0.6))
    assert own["question_js_distance/target"] > mode["question_js_distance/target"]
    assert (own["brier/target"], mode["brier/target"]) == (pytest.approx(0.54), pytest.approx(0.8))
