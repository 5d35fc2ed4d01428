import numpy as np
import pytest

from fairpp_hf.evaluation.position_bias import position_bias

A, B, C = np.eye(3)
NONE = np.full(3, np.nan)


def bias_of(*questions, answers=None):
    by_order = np.array(questions, dtype=float)
    if answers is None:
        answers = np.nan_to_num(by_order, nan=-1).argmax(axis=2)
    return position_bias(by_order, np.asarray(answers), np.arange(len(by_order)))


@pytest.mark.parametrize(
    ("question", "gap", "same"),
    [
        # Always what is shown as A: as written the option of pole A, swapped that of pole B.
        ((A, B), 1.0, 0.0),
        # Always what is shown as B.
        ((B, A), -1.0, 0.0),
        # Always the same option, wherever it is shown: what it says cancels.
        ((A, A), 0.0, 1.0),
        ((B, B), 0.0, 1.0),
        ((C, C), 0.0, 1.0),
        # ((0.7 - 0.2) + (0.5 - 0.4)) / 2 = 0.3
        (([0.7, 0.2, 0.1], [0.4, 0.5, 0.1]), 0.3, 0.0),
    ],
)
def test_one_question_by_hand(question, gap, same):
    found = bias_of(question)
    assert found.gap == pytest.approx(gap)
    assert found.same_choice == same
    assert found.interval is None


def test_questions_without_an_answer_in_both_orders_do_not_count():
    found = bias_of((A, B), (A, NONE), (NONE, A), (NONE, NONE))
    assert (found.gap, found.same_choice) == (1.0, 0.0)
    assert bias_of((A, NONE), (NONE, NONE)) is None
    assert position_bias(np.array([[A], [B]]), np.array([[0], [1]]), np.arange(2)) is None


def test_the_same_choice_is_of_answers_and_not_of_probabilities():
    """A server may give probabilities of a first token and then write something else."""
    even = [0.4, 0.4, 0.2]
    assert bias_of((even, even), answers=[[0, 1]]).same_choice == 0.0


def test_the_interval_draws_clusters_whole():
    """40 clusters of 5 like questions, 24 with gap 1 and 16 with gap -1: the resampled mean of 40 has standard error
    sqrt(0.96 / 40) = 0.155. Taken for 200 questions of their own, it would be 0.069."""
    signs = np.repeat([1.0] * 24 + [-1.0] * 16, 5)
    by_order = np.where(signs[:, None, None] > 0, [A, B], [B, A])
    answers = by_order.argmax(axis=2)
    clustered = position_bias(by_order, answers, np.repeat(np.arange(40), 5))
    assert clustered.gap == pytest.approx(0.2)
    low, high = clustered.interval
    assert (high - low) / (2 * 1.96) == pytest.approx(0.155, rel=0.15)
    single = position_bias(by_order, answers, np.arange(200))
    low, high = single.interval
    assert (high - low) / (2 * 1.96) == pytest.approx(0.069, rel=0.15)
