"""Comparisons of two systems on cases with known answers; `test_coverage.py` has the size of the test."""

import re

import numpy as np
import pyarrow as pa
import pytest
from survey_worlds import TARGET, Population, divergences

from fairpp_hf.statistics.alignment import alignment_metrics
from fairpp_hf.statistics.bootstrap import drawn_weights
from fairpp_hf.statistics.paired import HEADLINES, paired_comparison
from fairpp_hf.statistics.question_sums import clusters_of


@pytest.fixture(scope="module")
def population() -> Population:
    return Population((TARGET, "backbone_conservatives", "progressive_activists"), every=4)


def test_differences_are_those_of_the_metrics_and_change_sign_with_the_order(population: Population) -> None:
    world = population.draw(population.probabilities[TARGET], 60, np.random.default_rng(0))
    other = population.probabilities["progressive_activists"][world.rows]
    given = world.references, TARGET, world.questions
    compared = paired_comparison(world.predictions, other, *given)
    ours, theirs = (alignment_metrics(system, *given) for system in (world.predictions, other))
    assert tuple(compared) == HEADLINES
    for name, comparison in compared.items():
        if not name.startswith("js_divergence/"):
            assert comparison.difference == pytest.approx(ours[name] - theirs[name])
        assert comparison.interval.low < comparison.difference < comparison.interval.high
    # So different that no resample comes near: the least p-value of 1000 resamples.
    assert compared["agreement/target"].p_value == 1 / 1001
    assert compared["agreement/target"].interval.low > 0
    for name, back in paired_comparison(other, world.predictions, *given).items():
        assert back.difference == pytest.approx(-compared[name].difference)
        np.testing.assert_allclose(np.array(back.interval)[::-1] * -1, compared[name].interval)


def test_noise_is_taken_off_divergences_as_in_a_plain_loop(population: Population) -> None:
    """The drawing of clusters again: twice the difference of the answers at hand minus the mean of the resamples'."""
    world = population.draw(population.probabilities[TARGET], 30, np.random.default_rng(0))
    systems = world.predictions, population.probabilities["backbone_conservatives"][world.rows]
    found = paired_comparison(*systems, world.references, TARGET, world.questions, resamples=100, seed=5)
    clusters = clusters_of(world.questions)
    differences = []
    for drawn in drawn_weights(30, 100, seed=5).astype(int):
        rows = np.repeat(np.arange(300), drawn[clusters])
        references = {persona: answers[rows] for persona, answers in world.references.items()}
        first, second = (
            divergences(alignment_metrics(system[rows], references, TARGET), references) for system in systems
        )
        differences.append(first["js_divergence/target"] - second["js_divergence/target"])
    comparison = found["js_divergence/target"]
    assert comparison.difference == pytest.approx(2 * differences[0] - np.mean(differences[1:]))
    off = np.sort(np.abs(differences[1:] - np.mean(differences[1:])))
    assert off[94] <= comparison.interval.high - comparison.difference <= off[95]
    assert comparison.p_value == pytest.approx((1 + (off >= abs(comparison.difference)).sum()) / 101)


def test_claims_about_other_problems_have_wider_intervals(population: Population) -> None:
    """A model that is right on half of the 98 problems, on whatever group it is asked: 98 observations."""
    problem = np.unique(population.questions["problem"].to_numpy(zero_copy_only=False), return_inverse=True)[1]
    right = (problem % 2 == 0)[:, None]
    model = np.where(right, population.probabilities[TARGET], 1 / 3)
    rows = np.random.default_rng(0).choice(len(model), 1500, replace=False)
    references = {persona: rows_of[rows] for persona, rows_of in population.probabilities.items()}
    questions = population.questions.take(pa.array(rows))
    given = model[rows], population.probabilities[TARGET][rows], references, TARGET, questions
    related, problems = paired_comparison(*given), paired_comparison(*given, cluster_by=("problem",))
    for name in ("brier/target", "agreement/target", "question_js_distance/target"):
        assert problems[name].difference == pytest.approx(related[name].difference)
        assert np.ptp(problems[name].interval) > 1.3 * np.ptp(related[name].interval)


def test_a_system_does_not_differ_from_itself(population: Population) -> None:
    world = population.draw(population.probabilities[TARGET], 30, np.random.default_rng(0))
    for comparison in paired_comparison(world.predictions, world.predictions, *world[1:2], TARGET, world[2]).values():
        assert comparison == (0.0, (0.0, 0.0), 1.0)


def test_the_interval_leaves_out_zero_where_the_p_value_is_small(population: Population) -> None:
    model = population.blend({TARGET: 0.9, "backbone_conservatives": 0.1})
    for seed in range(20):
        world = population.draw(population.probabilities[TARGET], 40, np.random.default_rng(seed))
        compared = paired_comparison(world.predictions, model[world.rows], world.references, TARGET, world.questions)
        for comparison in compared.values():
            assert (comparison.p_value < 0.049) <= (not comparison.interval.low <= 0 <= comparison.interval.high)
            assert (comparison.p_value > 0.051) <= (comparison.interval.low <= 0 <= comparison.interval.high)


def test_only_what_both_answered_counts(population: Population) -> None:
    """The first leaves out odd rows, the second the first half: the rest is compared as if it were all."""
    world = population.draw(population.probabilities[TARGET], 60, np.random.default_rng(0))
    first, second = world.predictions.copy(), population.probabilities["backbone_conservatives"][world.rows]
    first[1::2] = np.nan
    second[:300] = np.nan
    rows = np.arange(300, 600, 2)
    whole = paired_comparison(first, second, world.references, TARGET, world.questions)
    part = paired_comparison(
        first[rows],
        second[rows],
        {persona: answers[rows] for persona, answers in world.references.items()},
        TARGET,
        world.questions.take(rows),
    )
    assert whole.keys() == part.keys() == set(HEADLINES)
    for name, comparison in whole.items():
        # Where noise is taken off, by the same resamples.
        assert comparison.difference == pytest.approx(part[name].difference)


def test_few_common_clusters_give_no_comparison(population: Population) -> None:
    world = population.draw(population.probabilities[TARGET], 29, np.random.default_rng(0))
    assert paired_comparison(world.predictions, world.predictions, world.references, TARGET, world.questions) == {}


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ([0], [0, 1], "second must answer the same questions as first; got 2 for 1."),
        ([0, -1], [-1, 0], "first and second must share a question that both answered; got none."),
        ([0, 4], [0, 0], "first must be in -1..2 (-1 for no valid answer); got 4 at row 1."),
    ],
)
def test_bad_input_is_refused(first: list[int], second: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        paired_comparison(first, second, {"t": [0, 0], "x": [0, 0]}, "t", {})
