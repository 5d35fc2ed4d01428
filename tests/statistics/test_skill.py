import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from fairpp_hf.statistics.bootstrap import drawn_weights
from fairpp_hf.statistics.skill import skill


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_to_probabilities_skill_is_one_minus_the_ratio_of_mean_distances(rng: np.random.Generator) -> None:
    """Over what both have answered, by scipy's distances."""
    model, target = rng.dirichlet([1, 1, 1], 40), rng.dirichlet([2, 1, 1], 40)
    constant = np.tile(target.mean(axis=0), (40, 1))
    model[3], target[5] = np.nan, np.nan
    common = np.setdiff1d(np.arange(40), [3, 5])
    ours, base = (sum(jensenshannon(rows[row], target[row]) for row in common) for rows in (model, constant))
    found = skill(model, constant, target, np.arange(40))
    assert found.value == pytest.approx(1 - ours / base)
    assert found.interval.low < found.value < found.interval.high


def test_a_resample_has_the_same_clusters_for_model_and_constant(rng: np.random.Generator) -> None:
    """A plain loop over the drawn questions, Brier scores since the target is answers. The constant has no interval."""
    target = rng.integers(0, 3, 120)
    model, constant = rng.dirichlet([1, 1, 1], 120), rng.dirichlet([1, 1, 1], 120)
    clusters = np.repeat(np.arange(40), 3)
    found = skill(model, constant, target, clusters, resamples=200, seed=3)
    errors = [
        np.array([sum((rows[row] - np.eye(3)[target[row]]) ** 2) for row in range(120)]) for rows in (model, constant)
    ]
    drawn = []
    for weights in drawn_weights(40, 200, 3)[1:]:
        rows = np.concatenate(
            [np.flatnonzero(clusters == cluster) for cluster in np.repeat(np.arange(40), weights.astype(int))]
        )
        drawn.append(1 - errors[0][rows].mean() / errors[1][rows].mean())
    np.testing.assert_allclose(found.interval, np.quantile(drawn, (0.025, 0.975), method="weibull"))
    own = skill(constant, constant, target, clusters)
    assert own == (0.0, None)


def test_confidence_alone_has_no_skill(rng: np.random.Generator) -> None:
    """A target that draws its answers from the same shares for every question: nobody can know more than the constant does.
    By the distance to its answers, its likeliest option with certainty would be better than that."""
    shares = np.array([0.6, 0.25, 0.15])
    constant, sure = np.tile(shares, (3000, 1)), np.tile([1.0, 0, 0], (3000, 1))
    clusters = np.arange(3000)
    answers = rng.choice(3, 3000, p=shares)
    probabilities = np.where(clusters[:, None] % 2, [0.7, 0.2, 0.1], [0.5, 0.3, 0.2])
    to_answers, to_probabilities = (skill(sure, constant, target, clusters) for target in (answers, probabilities))
    assert to_answers.value < -0.3
    assert to_probabilities.value < -3


def test_what_has_no_skill() -> None:
    """Nothing in common; a constant that is the target itself; and with few clusters no interval."""
    target = np.array([0, 0, 1])
    rows = np.full((3, 3), 1 / 3)
    assert skill(np.full((3, 3), np.nan), rows, target, np.arange(3)) is None
    assert skill(rows, np.array([0, 0, 1]), target, np.arange(3)) is None
    found = skill(rows, np.array([0, 0, 0]), target, np.arange(3))
    assert found.interval is None
