"""Replies as arrays, against plain loops."""

import re

import numpy as np
import pytest
from quality_tables import replies_of, whole_clusters

from fairpp_hf.evaluation.quality.replies import (
    RESAMPLES,
    Codes,
    FormPairs,
    Measure,
    Replies,
    Resamples,
    measured,
    shares_of,
)
from fairpp_hf.schema import STATUSES
from fairpp_hf.statistics.intervals import Interval

IDS = whole_clusters(3)["question_id"].to_pylist()


def row(question: int, persona: str, answer: int, **more: object) -> dict[str, object]:
    return {"question_id": IDS[question], "persona": persona, "answer": answer, **more}


def test_votes_are_counted_by_persona_question_order_and_option() -> None:
    """Ann answers question 4 with A, A, B in the first order and B in the other; Bob's one reply is invalid."""
    table = replies_of(
        [row(4, "ann", answer, sample=number) for number, answer in enumerate((0, 0, 1))]
        + [row(4, "ann", 1, swapped=True), row(2, "ann", 2), row(2, "bob", -1)]
    )
    replies = Replies.of(table, whole_clusters(3))
    assert replies.personas == ("ann", "bob")
    assert replies.questions["question_id"].to_pylist() == [IDS[2], IDS[4]]
    assert replies.samples == 3
    assert replies.is_swapped
    votes = replies.votes()
    assert votes[0, 1].tolist() == [[2, 1, 0], [0, 1, 0]]
    assert votes[0, 0].tolist() == [[0, 0, 1], [0, 0, 0]]
    assert votes[1].sum() == 0
    assert [STATUSES[code] for code in replies.status[-2:]] == ["ok", "invalid"]


def test_a_share_is_the_mean_over_orders_and_missing_where_one_order_has_no_answer() -> None:
    """Orders (2, 1, 0) and (0, 1, 0): the mean of (2/3, 1/3, 0) and (0, 1, 0) is (1/3, 2/3, 0)."""
    votes = np.array([[[[2.0, 1, 0], [0, 1, 0]], [[0, 0, 1], [0, 0, 0]]]])
    np.testing.assert_allclose(shares_of(votes, is_swapped=True), [[[1 / 3, 2 / 3, 0], [np.nan] * 3]])
    assert shares_of(votes[:, 1:], is_swapped=False).tolist() == [[[0, 0, 1]]]


def test_probabilities_count_in_leanings_where_there_are_some() -> None:
    one, other = row(0, "ann", 0, probabilities=[0.5, 0.3, 0.2]), row(1, "ann", 1)
    replies = Replies.of(replies_of([one, other]), whole_clusters(3))
    np.testing.assert_allclose(replies.leanings()[0, :2, 0], [[0.5, 0.3, 0.2], [0, 1, 0]])
    # Several samples are for the frequencies of their answers.
    replies = Replies.of(replies_of([one, row(0, "ann", 1, sample=1)]), whole_clusters(3))
    np.testing.assert_allclose(replies.leanings()[0, 0, 0], [1, 1, 0])


def test_an_unknown_question_is_named() -> None:
    table = replies_of([{"question_id": "nowhere", "persona": "ann", "answer": 0}])
    with pytest.raises(
        ValueError,
        match=r"^A reply's question must be one of the 30 questions; got 'nowhere'\. Pass the table that the run asked as "
        r"`questions`\.$",
    ):
        Replies.of(table, whole_clusters(3))


def test_no_reply_is_one_error() -> None:
    message = "A run must have replies; got none. Run `fairpp generate` on it first."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Replies.of(replies_of([]), whole_clusters(3))


def test_codes_number_the_combinations_of_columns() -> None:
    questions = whole_clusters(3)
    codes = Codes.of(questions, ("dimension", "form"))
    assert codes.size == 10
    keys = list(zip(questions["dimension"].to_pylist(), questions["form"].to_pylist(), strict=True))
    assert all((codes.of_row[i] == codes.of_row[j]) == (keys[i] == keys[j]) for i in range(30) for j in range(30))
    assert codes.of_row[codes.first].tolist() == list(range(10))


def test_form_pairs_are_the_two_questions_of_a_unit_and_leave_out_what_has_one() -> None:
    questions = whole_clusters(3)
    pairs = FormPairs.of(questions.slice(0, 29))
    assert len(pairs.criterion) == 14
    for first, second in zip(pairs.criterion.tolist(), pairs.explanation.tolist(), strict=True):
        one, other = questions.slice(first, 1).to_pylist()[0], questions.slice(second, 1).to_pylist()[0]
        assert (one["form"], other["form"]) == ("criterion", "explanation")
        assert all(one[name] == other[name] for name in ("problem", "group", "dimension"))


def test_resampled_totals_are_sums_over_the_drawn_clusters() -> None:
    """Values that name their cluster: a resample's total is the number of clusters, drawn, times 10."""
    cluster = np.repeat(np.arange(12), [1, 2, 3] * 4)
    values = np.eye(12)[cluster] / np.bincount(cluster)[cluster][:, None]
    totals = Resamples(cluster, seed=3).totals(values)
    assert totals.shape == (1 + RESAMPLES, 12)
    np.testing.assert_allclose(totals[0], 1)
    np.testing.assert_allclose(totals.sum(axis=1), 12)
    np.testing.assert_allclose(totals, totals.round(), atol=1e-9)
    assert 0.8 < totals[1:].std(axis=0).mean() < 1.1  # a multinomial count of mean 1 has variance 11/12


def test_few_clusters_or_few_counted_give_no_interval() -> None:
    totals = Resamples(np.arange(9), seed=0).totals(np.arange(9.0))
    assert totals.tolist() == [36.0]
    assert measured(totals, 9, "records") == Measure(36.0, None, 9, "records")
    resamples = np.concatenate([[0.5], np.linspace(0, 1, RESAMPLES)])
    assert measured(resamples, 9, "records").interval is None
    assert measured(resamples, 100, "records").interval == pytest.approx((0.025, 0.975))
    assert measured(np.full(5, np.nan), 0, "records") == Measure(None, None, 0, "records", None, "no records")


def test_the_interval_of_a_distance_is_about_its_value_and_not_below_0() -> None:
    """Resamples of a distance lie above it: value 0.1, their 97.5th percentile 0.3, so 0.1 +- 0.2."""
    values = np.concatenate([[0.1], np.linspace(0.15, 0.303846, RESAMPLES)])
    assert measured(values, 100, "answers", is_distance=True).interval == pytest.approx(Interval(0.0, 0.3), abs=1e-3)
