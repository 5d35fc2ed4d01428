"""Replies as arrays, against plain loops."""

import numpy as np
import pytest
from quality_tables import replies_of, whole_clusters

from fairpp_hf.evaluation.quality.replies import Replies, Statuses
from fairpp_hf.schema import STATUSES

IDS = whole_clusters(3)["question_id"].to_pylist()


def row(question: int, persona: str, answer: int, **more: object) -> dict[str, object]:
    return {"question_id": IDS[question], "persona": persona, "answer": answer, **more}


def test_votes_are_counted_by_persona_question_order_and_option() -> None:
    """Ann answers question 4 with A, A, B in the first order and B in the other; Bob's one reply is invalid."""
    table = replies_of(
        [row(4, "ann", answer, sample=number) for number, answer in enumerate((0, 0, 1))]
        + [row(4, "ann", 1, swapped=True), row(2, "ann", 2), row(2, "bob", -1)]
    )
    replies = Replies(table, whole_clusters(3))
    assert replies.personas == ("ann", "bob")
    assert replies.questions["question_id"].to_pylist() == [IDS[2], IDS[4]]
    assert replies.samples == 3
    assert replies.is_swapped
    votes = replies.votes
    assert votes[0, 1].tolist() == [[2, 1, 0], [0, 1, 0]]
    assert votes[0, 0].tolist() == [[0, 0, 1], [0, 0, 0]]
    assert votes[1].sum() == 0
    assert [STATUSES[code] for code in replies.status[-2:]] == ["ok", "invalid"]


def test_a_share_is_the_mean_over_orders_and_missing_where_one_order_has_no_answer() -> None:
    """Orders (2, 1, 0) and (0, 1, 0): the mean of (2/3, 1/3, 0) and (0, 1, 0) is (1/3, 2/3, 0)."""
    one = [row(0, "ann", answer, sample=number) for number, answer in enumerate((0, 0, 1))]
    both = [*one, row(0, "ann", 1, swapped=True), row(1, "ann", 2), row(1, "ann", -1, swapped=True)]
    shares = Replies(replies_of(both), whole_clusters(3)).shares
    np.testing.assert_allclose(shares, [[[1 / 3, 2 / 3, 0], [np.nan] * 3]])
    np.testing.assert_allclose(Replies(replies_of(one), whole_clusters(3)).shares, [[[2 / 3, 1 / 3, 0]]])


def test_probabilities_count_in_leanings_where_there_are_some() -> None:
    one, other = row(0, "ann", 0, probabilities=[0.5, 0.3, 0.2]), row(1, "ann", 1)
    replies = Replies(replies_of([one, other]), whole_clusters(3))
    np.testing.assert_allclose(replies.leanings[0, :2, 0], [[0.5, 0.3, 0.2], [0, 1, 0]])
    # Several samples are for the frequencies of their answers.
    replies = Replies(replies_of([one, row(0, "ann", 1, sample=1)]), whole_clusters(3))
    np.testing.assert_allclose(replies.leanings[0, 0, 0], [1, 1, 0])


def test_an_unknown_question_is_named() -> None:
    table = replies_of([{"question_id": "nowhere", "persona": "ann", "answer": 0}])
    with pytest.raises(
        ValueError,
        match=r"^A reply's question must be one of the 30 questions; got 'nowhere'\. Pass the table that the run asked as "
        r"`questions`\.$",
    ):
        Replies(table, whole_clusters(3))
    with pytest.raises(ValueError, match=r"^A run must have replies; got none\. Ask for some first\.$"):
        Replies(replies_of([]), whole_clusters(3))


def test_statuses_are_counted_by_persona_and_group() -> None:
    questions = whole_clusters(3)
    group = questions["group"].to_pylist()
    rows = [row(question, "ann", -1 if question in (2, 9) else 0) for question in (0, 2, 9)] + [row(2, "bob", 1)]
    found = Statuses.of(Replies(replies_of(rows), questions))
    assert (found.counts["ok"], found.counts["invalid"], found.counts["refusal"]) == (2, 2, 0)
    assert list(found.counts) == list(STATUSES)
    assert found.by_persona["ann"]["invalid"] == 2
    assert found.by_persona["bob"]["ok"] == 1
    assert sum(found.by_group[group[2]].values()) == sum(group[question] == group[2] for question in (0, 2, 9, 2))
