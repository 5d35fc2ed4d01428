"""Attribution of answers to personas: against plain loops, and on answers whose truth is known."""

import numpy as np
import pyarrow as pa
import pytest
from quality_tables import column_replies, survey_replies, whole_clusters

from fairpp_hf.evaluation.quality.identification import (
    FOLDS,
    _blocks,
    _bundled,
    _credit,
    held_out_log_shares,
    identify_among_themselves,
)
from fairpp_hf.evaluation.quality.replies import Replies, shares_of


def read(table: pa.Table, questions: pa.Table) -> tuple[Replies, np.ndarray]:
    replies = Replies.of(table, questions)
    return replies, shares_of(replies.votes(), is_swapped=replies.is_swapped)


def shuffled_labels(table: pa.Table, questions: int) -> pa.Table:
    """The personas of each question in a random order; the replies are persona by persona."""
    answers = table["answer"].to_numpy().reshape(-1, questions).copy()
    np.random.default_rng(0).permuted(answers, axis=0, out=answers)
    return table.set_column(table.column_names.index("answer"), "answer", pa.array(answers.ravel()))


def test_survey_personas_are_recognised_and_shuffled_labels_are_not() -> None:
    questions = whole_clusters(200)
    table = survey_replies(questions)
    found = identify_among_themselves(*read(table, questions), seed=0)
    right = [measure.value for measure in found.by_size.values()]
    assert right == sorted(right)
    assert found.by_size[20].interval.low > 0.5
    assert found.over_all.value == 1.0
    assert found.size == 20
    np.testing.assert_allclose(np.sum(found.confusion, axis=1), 1)
    for number, persona in enumerate(found.personas):
        assert found.by_persona[persona].value == pytest.approx(found.confusion[number][number])

    by_chance = identify_among_themselves(*read(shuffled_labels(table, len(questions)), questions), seed=0)
    for measure in by_chance.by_size.values():
        assert measure.chance == pytest.approx(1 / 7)
        assert measure.interval is None or measure.interval.low < 1 / 7 + 0.02
        assert measure.value < 0.25


def test_personas_that_answer_alike_are_told_apart_by_chance_exactly() -> None:
    """Every likelihood is tied, so that each of the two gets half of each bundle."""
    questions = whole_clusters(20)
    answer = np.arange(200) % 3
    table = pa.concat_tables([column_replies(questions, name, answer) for name in ("ann", "bob")])
    found = identify_among_themselves(*read(table, questions), seed=0)
    assert found.by_size[1].value == 0.5
    assert found.over_all.value == 0.5
    assert found.confusion == [[0.5, 0.5], [0.5, 0.5]]


def test_opposite_personas_are_recognised_from_one_answer() -> None:
    questions = whole_clusters(20)
    table = pa.concat_tables([column_replies(questions, f"{p}", np.full(200, p)) for p in (0, 1, 2)])
    found = identify_among_themselves(*read(table, questions), seed=0)
    assert found.by_size[1].value == found.by_size[5].value == 1.0
    assert found.by_size[1].n == 600


def test_learnt_shares_are_those_of_a_plain_loop_over_the_other_folds() -> None:
    questions = whole_clusters(15)
    table = survey_replies(questions).filter(pa.array(np.random.default_rng(1).random(7 * 150) < 0.8))
    replies, shares = read(table, questions)
    fold = np.unique(replies.clusters, return_inverse=True)[1] % FOLDS
    log_theta, cell = held_out_log_shares(replies, shares, fold)
    rows = replies.questions.select(["dimension", "group_type", "form"]).to_pylist()
    answers = shares.argmax(axis=2)
    valid = ~np.isnan(shares[..., 0])
    for held_out in range(FOLDS):
        for question in range(0, len(rows), 17):
            for persona in range(7):
                counts = np.zeros(3)
                in_dimension = np.zeros((7, 3))
                for other in range(len(rows)):
                    if fold[other] == held_out or rows[other]["dimension"] != rows[question]["dimension"]:
                        continue
                    for whose in range(7):
                        if valid[whose, other]:
                            in_dimension[whose, answers[whose, other]] += 1
                    if rows[other] == rows[question] and valid[persona, other]:
                        counts[answers[persona, other]] += 1
                everyone = (in_dimension.sum(axis=0) + 1) / (in_dimension.sum() + 3)
                level = (in_dimension[persona] + 5 * everyone) / (in_dimension[persona].sum() + 5)
                expected = (counts + 5 * level) / (counts.sum() + 5)
                np.testing.assert_allclose(np.exp(log_theta[held_out, cell[question], persona]), expected)


def test_blocks_stay_within_folds_and_bundles_within_blocks() -> None:
    """23 clusters in fold 0 make 4 blocks of 5, the last with the 3 left over; 4 clusters in fold 1 make one."""
    fold_of = np.array([0] * 23 + [1] * 4)
    block_of = _blocks(fold_of, 5, seed=0)
    assert sorted(np.bincount(block_of[:23]).tolist()) == [5, 5, 5, 8]
    assert set(block_of[23:]) == {4}
    assert set(block_of[:23]) == {0, 1, 2, 3}

    block = np.repeat([0, 1, 2], [7, 4, 11])
    score = np.zeros((22, 2))
    score[:, 0] = 1.0
    blocks, share = _bundled(score, block, np.arange(22)[::-1], 5)
    assert blocks.tolist() == [0, 2, 2]
    assert share.tolist() == [[1, 0]] * 3


def test_ties_share_the_credit() -> None:
    assert _credit(np.array([[-1.0, -1.0, -2.0], [-3.0, -1.0, -2.0]])).tolist() == [[0.5, 0.5, 0], [0, 1, 0]]


def test_what_cannot_be_measured_says_why() -> None:
    questions = whole_clusters(20)
    alone = identify_among_themselves(*read(column_replies(questions, "ann", np.zeros(200, int)), questions), seed=0)
    assert alone.by_size[20].value is None
    assert alone.over_all.note == "one persona alone cannot be mistaken for another; ask a set of several"
    few = identify_among_themselves(*read(survey_replies(questions.slice(0, 40)), questions), seed=0)
    assert few.over_all.note == (
        "questions on 5 (problem, group) pairs are needed to hold some out; there are 4: raise --limit"
    )
    small = identify_among_themselves(*read(survey_replies(whole_clusters(5)), whole_clusters(5)), seed=0)
    assert small.by_size[100].note == "no persona has 100 valid answers to attribute at once; raise --limit"
    assert small.size == 5
