"""Do intervals and p-values keep their promises where the truth is known? See `survey_worlds` for the worlds.

200 repetitions of a share of 0.95 have a standard error of 0.0154: 3.3 of them below is 0.899, and 3.3 above a size of 0.05
is 0.101. `benchmarks/interval_coverage.py` does the same for more models, clusters and kinds of answers.
"""

import numpy as np
import pytest
from survey_worlds import TARGET, Population

from fairpp_hf.evaluation.intervals import metric_intervals
from fairpp_hf.evaluation.paired import HEADLINES, paired_comparison

REPETITIONS = 200
CLUSTERS = 100
LOWEST_COVERAGE = 0.95 - 3.3 * np.sqrt(0.95 * 0.05 / REPETITIONS)
LARGEST_SIZE = 0.05 + 3.3 * np.sqrt(0.95 * 0.05 / REPETITIONS)


@pytest.fixture(scope="module")
def population() -> Population:
    return Population((TARGET, "backbone_conservatives"), every=4)


def test_every_interval_holds_the_truth_in_its_share_of_repetitions(population: Population) -> None:
    """A model near the target, 5% of its answers missing, against answers drawn from known probabilities."""
    model = population.blend({TARGET: 0.8, "backbone_conservatives": 0.2})
    truth = population.truth(model, unanswered=0.05)
    held: dict[str, list[bool]] = {}
    for seed in range(REPETITIONS):
        world = population.draw(model, CLUSTERS, np.random.default_rng(seed), unanswered=0.05)
        intervals = metric_intervals(
            world.predictions, world.references, TARGET, world.questions, resamples=150, seed=seed
        )
        for name, (low, high) in intervals.items():
            held.setdefault(name, []).append(low <= truth[name] <= high)
    numbers = {name for name, value in truth.items() if isinstance(value, float)}
    assert set(held) == numbers
    assert {name for name, times in held.items() if len(times) < REPETITIONS} == set()
    shares = {name: np.mean(times) for name, times in held.items()}
    assert {name: share for name, share in shares.items() if share < LOWEST_COVERAGE} == {}


def test_equal_systems_differ_significantly_in_five_percent_of_repetitions(population: Population) -> None:
    """Two systems that draw their answers from the same probabilities, so that no metric differs in truth."""
    model = population.blend({TARGET: 0.5, "backbone_conservatives": 0.5})
    significant = dict.fromkeys(HEADLINES, 0)
    for seed in range(REPETITIONS):
        rng = np.random.default_rng(seed)
        world = population.draw(model, CLUSTERS, rng, drawn_predictions=True)
        other = (model[world.rows].cumsum(axis=1)[:, :2] <= rng.random(len(world.rows))[:, None]).sum(axis=1)
        compared = paired_comparison(
            world.predictions, np.eye(3)[other], world.references, TARGET, world.questions, resamples=150, seed=seed
        )
        for name, comparison in compared.items():
            significant[name] += comparison.p_value < 0.05
    assert {name: count for name, count in significant.items() if count / REPETITIONS > LARGEST_SIZE} == {}
