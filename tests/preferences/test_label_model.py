"""The label model: against plain regressions, on answers whose truth is known, and where there is little to go by."""

import itertools
import logging
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.linear_model import LogisticRegression

from fairpp_hf.preferences.label_model import (
    FOLDS,
    LABEL_COLUMNS,
    PAIR_SCALE,
    PENALTIES,
    LabelModel,
    fit_label_model,
    mean_answers,
    one_hot,
)
from fairpp_hf.questions import load_questions


def fair_questions(every=20):
    """Questions spread over all, both forms of each stance: some 1,400 by default."""
    questions = load_questions()
    # The two forms of a stance stand one after the other.
    rows = np.arange(len(questions))
    return questions.take(pa.array(rows[(rows // 2) % every == 0]))


@pytest.fixture(scope="module")
def questions():
    return fair_questions()


def truth_of(questions, seed=0, spread=1.5):
    """Option probabilities that depend on dimension and group type alone, (n, 3)."""
    rng = np.random.default_rng(seed)
    logits = np.zeros((len(questions), 3))
    for name in ("dimension", "group_type"):
        of_label = {label: spread * rng.normal(size=3) for label in sorted(set(questions[name].to_pylist()))}
        logits += np.array([of_label[label] for label in questions[name].to_pylist()])
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def draw(truth, seed=1):
    """One answer a question."""
    return (np.random.default_rng(seed).random((len(truth), 1)) > truth.cumsum(axis=1)).sum(axis=1)


def distance(one, other):
    """Mean total variation."""
    return np.abs(one - other).sum(axis=1).mean() / 2


def plain_fit(questions, answers, rows, model):
    """The regression that a `LabelModel` says it is, from pandas' dummies and scikit-learn, on dense columns.

    `answers` are of one persona or, in a list, of several that count alike.
    """
    several = answers if isinstance(answers, list) else [answers]
    frame = questions.select(LABEL_COLUMNS).to_pandas().astype(str)
    columns = [pd.get_dummies(frame).to_numpy(float)]
    if model.pairs:
        for first, second in itertools.combinations(LABEL_COLUMNS, 2):
            together = pd.get_dummies(frame[first] + "|" + frame[second])
            columns.append(together.to_numpy(float) * PAIR_SCALE)
    design = np.hstack(columns)
    given = np.concatenate([column[rows] for column in several])
    regression = LogisticRegression(C=1 / model.penalty, max_iter=5000, tol=1e-7)
    regression.fit(np.vstack([design[rows]] * len(several)), given, np.full(len(given), 1 / len(several)))
    return regression.predict_proba(design)


@pytest.fixture(scope="module")
def fitted(questions):
    truth = truth_of(questions)
    answers = draw(truth)
    rows = np.arange(len(questions)) % 5 != 0
    return truth, answers, rows, fit_label_model(questions, answers, rows)


def test_it_is_the_plain_regression_with_the_penalty_that_it_names(questions, fitted):
    """On every question, also those that it was not fitted to; columns that no fitted row has weigh nothing either way."""
    _, answers, rows, model = fitted
    np.testing.assert_allclose(model.probabilities, plain_fit(questions, answers, rows, model), atol=2e-3)
    shares = np.bincount(answers[rows], minlength=3) + 1 / 3
    np.testing.assert_allclose(model.constant, shares / shares.sum())


def test_answers_that_are_not_to_be_fitted_do_not_matter(questions, fitted):
    """Held-out answers, told apart by the rows to fit or left out."""
    _, answers, rows, model = fitted
    other = np.where(rows, answers, (answers + 1) % 3)
    for found in (fit_label_model(questions, other, rows), fit_label_model(questions, np.where(rows, answers, -1))):
        np.testing.assert_array_equal(found.probabilities, model.probabilities)
        assert (found.own_weight, found.log_likelihood) == (model.own_weight, model.log_likelihood)


def test_several_personas_are_fitted_as_one_population(questions, fitted):
    """Shares 1 : 3; where one has not answered, the row sums to the share of who has. Two of equal shares: the regression of
    both their answers, one below the other, at half the weight."""
    given = {"a": np.array([0, 1, -1, -1]), "b": np.array([0, 2, 1, -1])}
    assert mean_answers(given, {"a": 0.1, "b": 0.3, "c": 0.6}).tolist() == pytest.approx(
        np.array([[1, 0, 0], [0, 0.25, 0.75], [0, 0.75, 0], [0, 0, 0]])
    )
    _, answers, rows, _ = fitted
    other = draw(truth_of(questions, seed=9), seed=2)
    model = fit_label_model(questions, mean_answers({"a": answers, "b": other}), rows)
    np.testing.assert_allclose(model.probabilities, plain_fit(questions, [answers, other], rows, model), atol=2e-3)


def test_it_comes_nearer_to_a_known_truth_than_the_constant(fitted):
    truth, _, rows, model = fitted
    assert model.is_better
    for part in (rows, ~rows):
        constant = np.tile(model.constant, (part.sum(), 1))
        assert distance(model.probabilities[part], truth[part]) < 0.5 * distance(constant, truth[part])
    np.testing.assert_allclose(model.probabilities.sum(axis=1), 1.0)


def test_the_likelihoods_are_of_answers_that_were_held_out(questions, fitted):
    """Near the likelihood of answers to questions that it has never seen, drawn anew from the truth."""
    truth, answers, rows, model = fitted
    expected = (truth * np.log(model.probabilities)).sum(axis=1)[~rows].mean()
    assert model.log_likelihood == pytest.approx(expected, abs=0.06)
    assert model.constant_log_likelihood == pytest.approx(np.log(model.constant[answers[rows]]).mean(), abs=0.01)
    assert model.penalty in PENALTIES
    assert re.fullmatch(
        r"held-out log-likelihood -0\.\d{4} nats per answer, against -0\.\d{4} for the constant; a question's own answer "
        r"counts \d+%",
        model.quality,
    )


def test_shuffled_answers_give_the_constant_and_a_warning(questions, fitted, caplog):
    _, answers, _, _ = fitted
    shuffled = np.random.default_rng(3).permutation(answers)
    with caplog.at_level(logging.WARNING):
        model = fit_label_model(questions, shuffled)
    assert not model.is_better
    assert [record.getMessage().split(" (")[0] for record in caplog.records] == [
        "The labels of these questions predict held-out answers no better than the constant does"
    ]
    assert (model.probabilities == model.constant).all()
    assert "for the constant, which takes its place;" in model.quality
    assert "takes its place" not in fitted[3].quality


# -- a question's own answer -------------------------------------------------------------------------------------------


def stances(questions):
    """Number of each question's stance, (n,): its problem, group and dimension, which both forms ask about."""
    keys = zip(*(questions[name].to_pylist() for name in ("problem", "group", "dimension")), strict=True)
    found = {}
    return np.array([found.setdefault(key, len(found)) for key in keys])


def test_own_answers_count_where_stances_are_firm_and_not_where_they_are_draws(questions):
    """A persona that has an opinion of its own on each stance, and answers both forms by it; and one whose answers are
    drawn from the same for all."""
    stance = stances(questions)
    assert (np.bincount(stance) == 2).mean() > 0.9
    firm = np.random.default_rng(0).integers(0, 3, stance.max() + 1)[stance]
    drawn = np.random.default_rng(0).integers(0, 3, len(questions))
    weights = [fit_label_model(questions, answers).own_weight for answers in (firm, drawn)]
    assert weights[0] > 0.9
    assert weights[1] < 0.1
    model = fit_label_model(questions, firm)
    blended = model.with_own_answers(firm)
    assert (blended.argmax(axis=1) == firm).all()
    by_hand = (1 - model.own_weight) * model.probabilities + model.own_weight * one_hot(firm)
    np.testing.assert_allclose(blended, by_hand)


def test_a_blend_by_hand():
    """Own weight 1/4: (3/4) 0.5 + 1/4 = 0.625 for the answer, (3/4) 0.25 = 0.1875 for the others; no answer, no blend.
    Of a population of which four in ten chose A and two in ten C, and the others did not answer: shares 2/3 and 1/3."""
    model = LabelModel(np.array([[0.5, 0.25, 0.25]] * 3), np.ones(3) / 3, -1.0, -1.1, False, 1.0, 0.25)
    assert model.with_own_answers(np.array([0, 1, -1])).tolist() == [
        [0.625, 0.1875, 0.1875],
        [0.375, 0.4375, 0.1875],
        [0.5, 0.25, 0.25],
    ]
    population = np.array([[0.4, 0.0, 0.2], [0.0, 0.0, 0.0], [np.nan] * 3])
    assert model.with_own_answers(population)[0] == pytest.approx([0.375 + 1 / 6, 0.1875, 0.1875 + 1 / 12])
    np.testing.assert_array_equal(model.with_own_answers(population)[1:], model.probabilities[1:])


# -- a population ------------------------------------------------------------------------------------------------------


# -- little to go by ---------------------------------------------------------------------------------------------------


def own_questions(clusters, per_cluster=4):
    """Somebody's own questions: other words, other labels, one of them missing."""
    numbers = np.arange(clusters * per_cluster)
    text = {
        name: [f"{name} {number % count}" for number in numbers]
        for name, count in (("topic", 2), ("category", 3), ("group_type", 2), ("form", 2))
    }
    return pa.table(
        {
            **text,
            "problem": [f"problem {number // per_cluster}" for number in numbers],
            "group": pa.array([None] * len(numbers), pa.string()),
            "dimension": numbers % 3,
        }
    )


def test_questions_of_ones_own():
    """The answer is told by the dimension."""
    questions = own_questions(40)
    answers = questions["dimension"].to_numpy()
    rows = np.arange(len(answers)) < 120
    model = fit_label_model(questions, answers, rows)
    assert model.is_better
    assert (model.probabilities.argmax(axis=1) == answers).all()


def test_too_few_questions_to_hold_any_out():
    questions = own_questions(9)
    message = (
        "A label model must have answers to questions of at least 10 pairs of problem and group to learn from; got 9. "
        "Answer more questions, or use labels='answers', or labels='respondent' where the answers have option probabilities."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        fit_label_model(questions, questions["dimension"].to_numpy())
    enough = own_questions(2 * FOLDS)
    fit_label_model(enough, enough["dimension"].to_numpy())
    with pytest.raises(ValueError, match=r"; got 0\. "):
        fit_label_model(enough, np.full(len(enough), -1))


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (lambda count: np.zeros(count - 1, dtype=int), r"must have the shape \(\d+,\) or \(\d+, 3\), a row for each"),
        (lambda count: np.zeros((count, 4)), r"must have the shape"),
        (lambda count: np.arange(count) % 4, r"must be 0, 1, 2 or -1 for none.*; got 3 at row 3\."),
        (lambda count: np.arange(count) / 2, r"got 0\.5 at row 1\."),
        (lambda count: np.tile([0.5, 0.6, -0.1], (count, 1)), r"got \[ 0\.5  0\.6 -0\.1\] at row 0\."),
        (lambda count: np.tile([np.inf, 0.0, 0.0], (count, 1)), r"at row 0\."),
    ],
)
def test_what_is_no_answer_is_refused(questions, fitted, answers, message):
    answers = answers(len(questions))
    with pytest.raises(ValueError, match=message):
        fit_label_model(questions, answers)
    with pytest.raises(ValueError, match=message):
        fitted[3].with_own_answers(answers)
