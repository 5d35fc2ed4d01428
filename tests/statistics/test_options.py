"""Distances of any probabilities that a float can hold, against scipy and against 60 decimal digits."""

import itertools
import math
import warnings
from decimal import Decimal, localcontext

import numpy as np
from placed_world import respondents
from scipy.spatial.distance import jensenshannon

from fairpp_hf.evaluation.positioning import position_respondents
from fairpp_hf.questions import load_questions
from fairpp_hf.statistics.alignment import alignment_metrics
from fairpp_hf.statistics.intervals import metric_intervals
from fairpp_hf.statistics.options import MAX_JS_DISTANCE, js_distances
from fairpp_hf.statistics.paired import paired_comparison

TINY = (0.0, 5e-324, 1e-323, 2e-310, 2.2250738585072014e-308, 1e-300, 1e-160, 1e-17, 1e-9)
"""0, the smallest number, more subnormal ones, the smallest normal one, and some whose square or product with another is
0."""


def extreme_rows() -> np.ndarray:
    """Distributions over three options with two of these numbers and what they leave, in every order."""
    rows = {
        order
        for first, second in itertools.product((*TINY, 0.25), repeat=2)
        for order in itertools.permutations((first, second, 1.0 - first - second))
    }
    return np.array(sorted(rows))


def exactly(first: np.ndarray, second: np.ndarray) -> float:
    """The distance by its definition, in decimals: sqrt((sum p ln(p / r) + sum q ln(q / r)) / 2), r = (p + q) / 2."""
    with localcontext(prec=60, Emin=-5000):
        total = Decimal(0)
        for p, q in zip(map(Decimal, first.tolist()), map(Decimal, second.tolist()), strict=True):
            total += sum((x * (2 * x / (p + q)).ln() for x in (p, q) if x), Decimal(0))
        return float((max(total, Decimal(0)) / 2).sqrt())


def test_distances_of_extreme_probabilities_are_finite_and_right():
    """A divergence is off by some 1e-16 of rounding, so that its root is by 1e-8 where it is 0, and by 1e-15 elsewhere."""
    rows = extreme_rows()
    pairs = np.random.default_rng(0).integers(0, len(rows), (500, 2))
    first, second = rows[pairs[:, 0]], rows[pairs[:, 1]]
    with np.errstate(all="raise", under="ignore"):
        found = js_distances(first, second)
        assert np.array_equal(found, js_distances(second, first))
        assert not js_distances(rows, rows).any()
        everything = js_distances(rows[:, None], rows[None])
    assert np.isfinite(everything).all()
    assert 0 <= everything.min() <= everything.max() <= MAX_JS_DISTANCE + 1e-15
    expected = np.array([exactly(*pair) for pair in zip(first, second, strict=True)])
    np.testing.assert_allclose(found**2, expected**2, rtol=1e-14, atol=1e-15)


def test_distances_are_scipys_where_that_has_one():
    rng = np.random.default_rng(1)
    first, second = rng.dirichlet([0.05, 1, 1], 500), rng.dirichlet([0.05, 1, 1], 500)
    expected = [jensenshannon(*pair) for pair in zip(first, second, strict=True)]
    np.testing.assert_allclose(js_distances(first, second), expected, rtol=1e-9, atol=1e-8)
    # Half of the smallest number is 0, which the mean distribution is then where the other one is 0 as well.
    with np.errstate(all="ignore"):
        assert np.isinf(jensenshannon([1.0, 5e-324, 0.0], [1.0, 0.0, 0.0]))
    assert js_distances(np.array([1.0, 5e-324, 0.0]), np.array([1.0, 0.0, 0.0])) == 0.0


def test_every_number_of_an_evaluation_is_finite():
    """Metrics, intervals, comparisons and the map, of the most extreme systems there can be."""
    rows = extreme_rows()
    rng = np.random.default_rng(2)
    questions = load_questions("test")
    count = len(questions)
    systems = [
        rows[rng.integers(0, len(rows), count)],
        np.eye(3)[rng.integers(0, 3, count)],
        np.tile([5e-324, 0.0, 1.0], (count, 1)),
    ]
    references = {name: rows[rng.integers(0, len(rows), count)] for name in ("t", "x", "y")}
    answers = {name: rng.integers(-1, 3, count) for name in ("t", "x", "y")}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for system in systems:
            for others in (references, answers):
                metrics = alignment_metrics(system, others, "t", questions)
                numbers = {name: value for name, value in metrics.items() if not isinstance(value, str)}
                assert [name for name, value in numbers.items() if value is None or not math.isfinite(value)] == []
            found = metric_intervals(system, answers, "t", questions)
            assert np.isfinite([interval for interval in found.values() if interval is not None]).all()
            for comparison in paired_comparison(system, systems[0], answers, "t", questions).values():
                assert math.isfinite(comparison.difference)
        people = np.array([*references.values(), *systems])
        placed = position_respondents(respondents(people, 3), questions, reference="", division="", resamples=20)
    for point in placed.points:
        assert point.js_distance is None or math.isfinite(point.js_distance)
        for place in point.places.values():
            assert place is None or (np.isfinite(place.xy).all() and np.isfinite(place.covariance).all())
