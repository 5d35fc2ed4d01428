"""Attribution of answers to personas: against plain loops, and on answers whose truth is known."""

import numpy as np
import pyarrow as pa
import pytest
from quality_tables import column_replies, survey_replies, whole_clusters

from fairpp_hf.evaluation.quality.identification import FOLDS, held_out_log_shares, identify_among_themselves
from fairpp_hf.evaluation.quality.replies import Replies


def shuffled_labels(table: pa.Table, questions: int) -> pa.Table:
    """The personas of each question in a random order; the replies are persona by persona."""
    answers = table["answer"].to_numpy().reshape(-1, questions).copy()
    np.random.default_rng(0).permuted(answers, axis=0, out=answers)
    return table.set_column(table.column_names.index("answer"), "answer", pa.array(answers.ravel()))


def test_survey_personas_are_recognised_and_shuffled_labels_are_not() -> None:
    questions = whole_clusters(200)
    table = survey_replies(questions)
    found = identify_among_themselves(Replies(table, questions))
    right = [measure.value for measure in found.by_size.values()]
    assert right == sorted(right)
    assert found.by_size[20].value > 0.5
    assert found.size == 20
    np.testing.assert_allclose(np.sum(found.confusion, axis=1), 1)
    for number, persona in enumerate(found.personas):
        assert found.by_persona[persona].value == pytest.approx(found.confusion[number][number])

    by_chance = identify_among_themselves(Replies(shuffled_labels(table, len(questions)), questions))
    for measure in by_chance.by_size.values():
        assert measure.chance == pytest.approx(1 / 7)
        assert measure.interval is None or measure.interval.low < 1 / 7 + 0.02
        assert measure.value < 0.25


def test_personas_that_answer_alike_are_told_apart_by_chance_exactly() -> None:
    """Every likelihood is tied, so that each of the two gets half of each bundle."""
    questions = whole_clusters(20)
    answer = np.arange(200) % 3
    table = pa.concat_tables([column_replies(questions, name, answer) for name in ("ann", "bob")])
    found = identify_among_themselves(Replies(table, questions))
    assert found.by_size[1].value == 0.5
    assert found.confusion == [[0.5, 0.5], [0.5, 0.5]]


def test_opposite_personas_are_recognised_from_one_answer() -> None:
    questions = whole_clusters(20)
    table = pa.concat_tables([column_replies(questions, f"{p}", np.full(200, p)) for p in (0, 1, 2)])
    found = identify_among_themselves(Replies(table, questions))
    assert found.by_size[1].value == found.by_size[5].value == 1.0
    assert found.by_size[1].n == 600


def test_learnt_shares_are_those_of_a_plain_loop_over_the_other_folds() -> None:
    questions = whole_clusters(15)
    table = survey_replies(questions).filter(pa.array(np.random.default_rng(1).random(7 * 150) < 0.8))
    replies = Replies(table, questions)
    shares = replies.shares
    fold = np.unique(replies.clusters, return_inverse=True)[1] % FOLDS
    log_theta, cell = held_out_log_shares(replies, fold)
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


def test_what_cannot_be_measured_says_why() -> None:
    questions = whole_clusters(20)
    alone = identify_among_themselves(Replies(column_replies(questions, "ann", np.zeros(200, int)), questions))
    assert alone.by_size[20].value is None
    assert alone.by_size[20].note == "one persona alone cannot be mistaken for another; ask a set of several"
    few = identify_among_themselves(Replies(survey_replies(questions.slice(0, 40)), questions))
    assert few.by_size[1].note == (
        "questions on 5 (problem, group) pairs are needed to hold some out; there are 4: ask more questions"
    )
    small = identify_among_themselves(Replies(survey_replies(whole_clusters(5)), whole_clusters(5)))
    assert small.by_size[100].note == "no persona has 100 valid answers to attribute at once; ask more questions"
    assert small.size == 5
