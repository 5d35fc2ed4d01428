import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from scipy.spatial.distance import jensenshannon

from fairpp_hf.drawing.numbers import (
    Labels,
    agreeing_others,
    distances_between,
    labels_of,
    most_divided,
    shares_by,
)
from fairpp_hf.evaluation.results import Results


def test_labels_are_in_the_order_of_the_taxonomy_and_unknown_ones_last() -> None:
    questions = pa.table({"group": ["strangers", "women", "men", "women"], "dimension": [5, 2, 2, 1]})
    groups, dimensions = labels_of(questions, "group"), labels_of(questions, "dimension")
    assert (groups.names, groups.codes.tolist()) == (("men", "women", "strangers"), [2, 1, 0, 1])
    assert (dimensions.names, dimensions.codes.tolist()) == (("1", "2", "5"), [2, 1, 1, 0])


def test_shares_leave_unanswered_questions_out() -> None:
    """In label x: (1, 0, 0) and (0.5, 0.5, 0), mean (0.75, 0.25, 0), of three; in y nothing is answered."""
    rows = np.array([[1, 0, 0], [0.5, 0.5, 0], [np.nan] * 3, [np.nan] * 3])
    found = shares_by(rows, Labels(("x", "y"), np.array([0, 0, 0, 1])))
    np.testing.assert_array_equal(found, [[0.75, 0.25, 0], [np.nan] * 3])


def test_distances_are_those_of_scipy(results: Results) -> None:
    rows = [results.systems[0].probabilities, results.persona_probabilities["civic_pragmatists"]]
    common = ~np.isnan(rows[0]).any(axis=1)
    first, second = rows[0][common], rows[1][common]
    of_shares, by_question = (distances_between(rows, rows, by_question=kind) for kind in (False, True))
    assert of_shares[1, 0] == pytest.approx(jensenshannon(first.mean(axis=0), second.mean(axis=0)))
    expected = np.mean([jensenshannon(one, other) for one, other in zip(first, second, strict=True)])
    assert by_question[0, 1] == pytest.approx(expected)
    assert of_shares[0, 0] == 0
    # Two without a common question have no distance.
    assert np.isnan(distances_between([np.full((2, 3), np.nan)], [np.full((2, 3), 1 / 3)], by_question=False)[0, 0])


def test_agreeing_others_by_a_plain_loop(results: Results) -> None:
    target, *others = (results.answers[persona].tolist() for persona in results.personas)
    counts: Counter[int] = Counter()
    given: dict[int, list[float]] = {}
    for row, own in enumerate(target):
        if own < 0 or any(other[row] < 0 for other in others):
            continue
        agreeing = sum(other[row] == own for other in others)
        counts[agreeing] += 1
        value = results.systems[0].probabilities[row][own]
        if not math.isnan(value):
            given.setdefault(agreeing, []).append(value)
    found = agreeing_others(results)
    assert found.questions.tolist() == [counts[number] for number in range(3)]
    assert found.left_out == 120 - sum(counts.values())
    np.testing.assert_allclose(found.agreement[0], [np.mean(given[number]) for number in range(3)])


def test_the_questions_to_read_are_half_divisive_and_half_missed(results: Results) -> None:
    found = most_divided(results, 20)
    assert len(found.rows) == len(set(found.rows.tolist())) == 20
    everything = most_divided(results, 1000)
    assert sorted(everything.rows.tolist()) == list(range(120))
    assert (np.diff(everything.entropy) <= 1e-12).all()
    # Three personas, three answers: entropy ln 3; one answer: 0.
    assert everything.entropy.max() == pytest.approx(math.log(3))
    top = set(np.argsort(-everything.disagreement, kind="stable")[:5].tolist())
    assert {everything.rows[place] for place in top} <= set(found.rows.tolist())


def test_baselines_do_not_choose_the_questions_to_read(results: Results) -> None:
    """Whatever baselines answer, the same questions are missed; without a model, those of the baselines are."""
    by_name = {system.name: system for system in results.systems}
    names = ("plain model", "aligned model", "majority of the others", "uniform")
    plain, aligned, majority, uniform = (by_name[name] for name in names)
    rolled = np.roll(majority.probabilities, 1, axis=1)
    wrong = replace(majority, scores=majority.scores._replace(probabilities=rolled))
    np.testing.assert_array_equal(
        most_divided(results).disagreement,
        most_divided(replace(results, systems=(plain, aligned, wrong, uniform))).disagreement,
    )
    alone = most_divided(replace(results, systems=(uniform,)))
    np.testing.assert_allclose(alone.disagreement, 2 / 3)
