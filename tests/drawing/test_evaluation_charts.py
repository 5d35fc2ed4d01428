import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fairpp_hf.drawing.evaluation_charts import answer_charts, distance_chart, most_divided, shares_by
from fairpp_hf.evaluation.results import References, Results


def with_metrics(results: Results, **changed: Any) -> Results:
    metrics = {name.replace("__", "/"): value for name, value in changed.items()}
    return replace(
        results, systems=tuple(replace(each, metrics={**each.metrics, **metrics}) for each in results.systems)
    )


def test_distance_stands_beside_the_constant_chance_and_the_nearest_other_persona(results: Results) -> None:
    """The margin is the distance to the nearest other persona less that to the target."""
    chart = distance_chart(results)
    assert chart.heads == ("", "distance", "95% from", "95% to", "nearest other persona")
    aligned = next(system for system in results.systems if system.name == "aligned model")
    expected = aligned.metrics["question_js_distance/target"] + aligned.metrics["question_js_distance/margin"]
    assert chart.rows[1][0] == "aligned model"
    assert float(chart.rows[1][4]) == pytest.approx(expected, abs=5e-4)
    assert len(distance_chart(with_metrics(results, question_js_distance__margin=None)).heads) == 4


def test_to_single_answers_the_picture_shows_what_does_not_reward_confidence(results: Results) -> None:
    chart = distance_chart(replace(results, references=References(results.answers)))
    assert (chart.title, chart.heads[1]) == ("Brier score against Loyal Nationals", "Brier score")
    assert len(chart.heads) == 4


def test_answers_are_shown_by_dimension_and_over_all_questions(results: Results) -> None:
    dimension, options = answer_charts(results)
    names = ["Loyal Nationals", "aligned model", "plain model"]
    assert [row[:2] for row in dimension.rows[:3]] == [["dimension 1", name] for name in names]
    assert [row[0] for row in options.rows] == ["Loyal Nationals", *(system.name for system in results.systems)]
    assert ["uniform", "33%", "33%", "33%"] in options.rows
    assert options.heads == ("", "A: first pole", "B: second pole", "C: neither")


def test_shares_leave_unanswered_questions_out() -> None:
    """In label 0: (1, 0, 0) and (0.5, 0.5, 0), mean (0.75, 0.25, 0), of three; in 1 nothing is answered."""
    rows = np.array([[1, 0, 0], [0.5, 0.5, 0], [np.nan] * 3, [np.nan] * 3])
    np.testing.assert_array_equal(shares_by(rows, np.array([0, 0, 0, 1])), [[0.75, 0.25, 0], [np.nan] * 3])


def test_the_questions_that_divide_the_personas_most_come_first(results: Results) -> None:
    """Three personas, three answers: entropy ln 3; two alike: 0.637; one answer: 0. Models miss ties by more and more."""
    rows = most_divided(results, 1000)
    assert sorted(rows) == list(range(120))
    assert most_divided(results, 10) == rows[:10]
    answers = np.stack(list(results.answers.values()))[:, rows]
    entropy = [
        sum(-share * math.log(share) for share in (np.bincount(given[given >= 0]) / (given >= 0).sum()) if share)
        for given in answers.T
    ]
    assert (np.diff(entropy) <= 1e-12).all()
    assert max(entropy) == pytest.approx(math.log(3))
    own = results.answers[results.target][rows]
    right = np.mean([system.probabilities[rows, own] for system in results.models], axis=0)
    tied = (np.abs(np.diff(entropy)) < 1e-12) & ~np.isnan(right[1:]) & ~np.isnan(right[:-1])
    assert (np.diff(right)[tied] >= 0).all()


def test_baselines_do_not_choose_the_questions_to_read(results: Results) -> None:
    by_name = {system.name: system for system in results.systems}
    plain, majority = by_name["plain model"], by_name["majority of the others"]
    rolled = np.roll(majority.probabilities, 1, axis=1)
    wrong = replace(majority, scores=majority.scores._replace(probabilities=rolled))
    assert most_divided(replace(results, systems=(plain, wrong)), 50) == most_divided(
        replace(results, systems=(plain,)), 50
    )
    assert len(most_divided(replace(results, systems=(majority,)), 50)) == 50
