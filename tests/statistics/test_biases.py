import numpy as np
import pytest
from scipy.special import softmax

from fairpp_hf.scoring.option_scorer import option_scores
from fairpp_hf.statistics.biases import length_gap, position_bias

A, B, C = np.eye(3)
NONE = np.full(3, np.nan)
THIRDS = np.zeros((1, 2, 3))


def bias_of(*questions, answers=None):
    by_order = np.array(questions, dtype=float)
    if answers is None:
        answers = np.nan_to_num(by_order, nan=-1).argmax(axis=2)
    return position_bias(by_order, np.asarray(answers), np.arange(len(by_order)))


@pytest.mark.parametrize(
    ("question", "gap", "same"),
    [
        # Always what is shown as A: as written the option of pole A, swapped that of pole B; then what is shown as B.
        ((A, B), 1.0, 0.0),
        ((B, A), -1.0, 0.0),
        # Always the same option, wherever it is shown: what it says cancels.
        ((A, A), 0.0, 1.0),
        ((C, C), 0.0, 1.0),
        # ((0.7 - 0.2) + (0.5 - 0.4)) / 2 = 0.3
        (([0.7, 0.2, 0.1], [0.4, 0.5, 0.1]), 0.3, 0.0),
    ],
)
def test_position_bias_of_one_question_by_hand(question, gap, same):
    found = bias_of(question)
    assert found.gap == pytest.approx(gap)
    assert (found.same_choice, found.interval) == (same, None)


def test_questions_without_an_answer_in_both_orders_do_not_count():
    found = bias_of((A, B), (A, NONE), (NONE, A), (NONE, NONE))
    assert (found.gap, found.same_choice) == (1.0, 0.0)
    assert bias_of((A, NONE), (NONE, NONE)) is None
    assert position_bias(np.array([[A], [B]]), np.array([[0], [1]]), np.arange(2)) is None
    # A server may give probabilities of a first token and then write something else.
    even = [0.4, 0.4, 0.2]
    assert bias_of((even, even), answers=[[0, 1]]).same_choice == 0.0


def test_the_interval_draws_clusters_whole():
    """40 clusters of 5 like questions, 24 with gap 1 and 16 with gap -1: the resampled mean of 40 has standard error
    sqrt(0.96 / 40) = 0.155. Taken for 200 questions of their own, it would be 0.069."""
    signs = np.repeat([1.0] * 24 + [-1.0] * 16, 5)
    by_order = np.where(signs[:, None, None] > 0, [A, B], [B, A])
    for clusters, error in ((np.repeat(np.arange(40), 5), 0.155), (np.arange(200), 0.069)):
        found = position_bias(by_order, by_order.argmax(axis=2), clusters)
        assert found.gap == pytest.approx(0.2)
        assert (found.interval.high - found.interval.low) / (2 * 1.96) == pytest.approx(error, rel=0.15)


def lines(letters, tokens, cost, rule="line"):
    """The length gap of a model that gives letters these log-probabilities and pays `cost` nats for each further token."""
    letters, tokens = np.broadcast_arrays(np.array(letters, float), np.array(tokens))
    flat = [array.reshape(-1, 3) for array in (letters - cost * (tokens - 1), letters, tokens)]
    by_order = option_scores(*flat, rule).probabilities.reshape(letters.shape)
    return length_gap(by_order, letters, tokens.astype(float), np.arange(len(letters)))


def test_length_gap_by_hand():
    """Letters of 1/3 each; lines of 9, 5 and 1 tokens at ln 2 for each but the first are 2^-8 : 2^-4 : 1 = 1 : 16 : 256.

    (256 - 1) / 273 less 0. Of two shortest options, 2^-8 : 1 : 1, half counts for each: (256 - 1) / 513. A choice made at
    the letter is no length gap. Means over tokens favour long lines where text costs little.
    """
    assert lines(THIRDS, [9, 5, 1], np.log(2)).gap == pytest.approx(255 / 273)
    assert lines(THIRDS, [9, 1, 1], np.log(2)).gap == pytest.approx(255 / 513)
    assert lines(np.log([[[0.1, 0.1, 0.8]] * 2]), [9, 5, 1], 0).gap == pytest.approx(0)
    assert lines(THIRDS + np.log(1 / 3), [9, 5, 2], 0, "per_token").gap < -0.5
    # Options of one length and those without scores do not count.
    letters, tokens = np.zeros((3, 2, 3)), np.array([[[9, 5, 1]] * 2, [[4, 4, 4]] * 2, [[9, 5, 1]] * 2])
    letters[2, 1] = np.nan
    assert lines(letters, tokens, np.log(2)).gap == pytest.approx(255 / 273)
    assert lines(letters[1:], tokens[1:], np.log(2)) is None
    assert length_gap(np.eye(3)[:, None], None, None, np.arange(3)) is None


def test_length_gap_by_a_plain_loop():
    rng = np.random.default_rng(0)
    letters, tokens = rng.normal(size=(50, 2, 3)), rng.integers(2, 20, (50, 2, 3))
    found = lines(letters, tokens, 0.2)
    gaps = []
    for of_question, lengths in zip(letters, tokens, strict=True):
        of_orders = []
        for row, counts in zip(of_question, lengths, strict=True):
            change = softmax(row - 0.2 * (counts - 1)) - softmax(row)
            short = np.mean([change[place] for place in range(3) if counts[place] == min(counts)])
            long = np.mean([change[place] for place in range(3) if counts[place] == max(counts)])
            of_orders.append(short - long)
        gaps.append(np.mean(of_orders))
    assert found.gap == pytest.approx(np.mean(gaps))
    reach = (found.interval.high - found.interval.low) / (2 * 1.96)
    assert reach == pytest.approx(np.std(gaps) / np.sqrt(50), rel=0.15)
