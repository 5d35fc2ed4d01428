"""Consistency over samples, orders and forms: hand arithmetic, plain loops, and answers whose truth is known."""

import numpy as np
import pyarrow as pa
import pytest
from quality_tables import column_replies, replies_of, survey_replies, whole_clusters

from fairpp_hf.evaluation.quality.replies import (
    FormConsistency,
    Replies,
    form_consistency,
    order_consistency,
    sample_consistency,
)


def forms(table: pa.Table, questions: pa.Table) -> FormConsistency:
    return form_consistency(Replies(table, questions))


def test_two_samples_agree_as_often_as_pairs_of_replies_do() -> None:
    """Counts (2, 1, 0): of 3 pairs, 1 agrees. (0, 0, 2): 1 of 1. One valid reply: no pair. Mean of 1/3 and 1 is 2/3."""
    questions = whole_clusters(2)
    ids = questions["question_id"].to_pylist()
    answers = {0: (0, 0, 1), 1: (2, 2, -1), 2: (1, -1, -1)}
    table = replies_of(
        [
            {"question_id": ids[question], "persona": "ann", "answer": answer, "sample": number}
            for question, given in answers.items()
            for number, answer in enumerate(given)
        ]
    )
    agreement = sample_consistency(Replies(table, questions)).overall
    assert agreement.value == pytest.approx(2 / 3)
    assert (agreement.n, agreement.of) == (2, "requests")
    assert agreement.chance == pytest.approx((2**2 + 2**2 + 2**2) / 6**2)  # answers: 2 A, 2 B, 2 C


def test_agreement_of_samples_is_what_the_probabilities_say() -> None:
    """The survey's P of each question is known: two draws agree with probability sum P^2, within the interval."""
    from fairpp_hf.personas import load_personas
    from fairpp_hf.respondents.survey import all_survey_answers

    questions = whole_clusters(60)
    agreement = sample_consistency(Replies(survey_replies(questions, samples=3), questions))
    truth = np.mean(
        [(answers.probabilities**2).sum(axis=1) for answers in all_survey_answers(questions, load_personas()).values()]
    )
    assert agreement.overall.interval.low < truth < agreement.overall.interval.high
    assert agreement.overall.n == 7 * 600
    assert agreement.overall.value > agreement.overall.chance


def test_one_sample_and_one_order_are_not_measured() -> None:
    questions = whole_clusters(2)
    replies = Replies(survey_replies(questions), questions)
    samples = sample_consistency(replies)
    order = order_consistency(replies, samples)
    assert samples.overall.value is order.changed.overall.value is order.gap.overall.value is None
    assert samples.overall.note == "one sample a request; ask for 2 or more, at a temperature above 0"
    assert order.gap.overall.note == "one order of the options; ask in both"
    assert order.changed_by_samples is None


def test_who_always_takes_the_first_option_has_a_gap_of_1_and_always_changes() -> None:
    """First is A in the one order and B in the other."""
    questions = whole_clusters(20)
    table = pa.concat_tables(
        [column_replies(questions, "first", np.full(200, order), 0, order) for order in (0, 1)]
        + [column_replies(questions, "steady", np.arange(200) % 3, 0, order) for order in (0, 1)]
    )
    replies = Replies(table, questions)
    order = order_consistency(replies, sample_consistency(replies))
    assert order.gap.by_persona["first"].value == order.changed.by_persona["first"].value == 1.0
    assert order.gap.by_persona["steady"].value == order.changed.by_persona["steady"].value == 0.0
    assert order.gap.overall.value == order.changed.overall.value == 0.5
    assert order.changed.by_persona["first"].chance == pytest.approx(0.5)  # half A, half B
    assert order.gap.overall.n == 400


def test_the_gap_is_read_off_probabilities_where_there_are_some_and_needs_both_orders() -> None:
    """A first: 0.6 - 0.3; B first: B 0.5 - A 0.4. Mean 0.2. The second question has one valid order and does not count."""
    questions = whole_clusters(2)
    ids = questions["question_id"].to_pylist()
    rows = [
        {"question_id": ids[0], "persona": "ann", "answer": 0, "probabilities": [0.6, 0.3, 0.1]},
        {"question_id": ids[0], "persona": "ann", "answer": 1, "probabilities": [0.4, 0.5, 0.1], "swapped": True},
        {"question_id": ids[1], "persona": "ann", "answer": 0},
        {"question_id": ids[1], "persona": "ann", "answer": -1, "swapped": True},
    ]
    replies = Replies(replies_of(rows), questions)
    order = order_consistency(replies, sample_consistency(replies))
    assert order.gap.overall.value == pytest.approx(0.2)
    assert order.changed.overall.value == 1.0
    assert order.gap.overall.n == order.changed.overall.n == 1


def test_contradictory_forms_are_those_of_a_plain_loop() -> None:
    questions = whole_clusters(30)
    rng = np.random.default_rng(0)
    given = {
        name: rng.choice([-1, 0, 1, 2], 300, p=[0.1, *shares])
        for name, shares in (("ann", (0.3, 0.5, 0.1)), ("bob", (0.6, 0.1, 0.2)))
    }
    found = forms(
        pa.concat_tables([column_replies(questions, name, answer) for name, answer in given.items()]), questions
    )
    rows = questions.select(["problem", "group", "dimension", "form"]).to_pylist()
    where = {tuple(row.values()): number for number, row in enumerate(rows)}
    opposite = pairs = by_chance = 0.0
    for name, answer in given.items():
        own = [0, 0, 0.0]
        for row in rows:
            if row["form"] == "explanation":
                continue
            first, second = (
                answer[where[row["problem"], row["group"], row["dimension"], form]]
                for form in ("criterion", "explanation")
            )
            if first in (0, 1) and second in (0, 1):
                share = []
                for form in ("criterion", "explanation"):
                    same = [
                        answer[number]
                        for number, other in enumerate(rows)
                        if (other["form"], other["dimension"]) == (form, row["dimension"]) and answer[number] in (0, 1)
                    ]
                    share.append(same.count(0) / len(same))
                own = [
                    own[0] + (first != second),
                    own[1] + 1,
                    own[2] + share[0] * (1 - share[1]) + (1 - share[0]) * share[1],
                ]
        measure = found.contradictory.by_persona[name]
        assert (measure.value, measure.n) == (pytest.approx(own[0] / own[1]), own[1])
        assert measure.chance == pytest.approx(own[2] / own[1])
        opposite, pairs, by_chance = opposite + own[0], pairs + own[1], by_chance + own[2]
    assert found.contradictory.overall.value == pytest.approx(opposite / pairs)
    assert found.excess.value == pytest.approx((opposite - by_chance) / pairs)
    assert found.contradictory.overall.n == pairs


def test_forms_that_were_not_both_asked_are_not_measured() -> None:
    questions = whole_clusters(20)
    half = questions.filter(pa.compute.equal(questions["form"], "criterion"))
    found = forms(survey_replies(half), questions)
    assert (
        found.contradictory.overall.note == "no (problem, group, dimension) was asked in both forms; ask more questions"
    )
    assert found.excess.value is None
