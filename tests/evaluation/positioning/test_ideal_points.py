"""The spatial model against plain maximisers and numeric derivatives."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime, minimize

from fairpp_hf.evaluation.positioning import ideal_points
from fairpp_hf.evaluation.positioning.ideal_points import INTERCEPT_RIDGE, RIDGE, SpatialModel


@pytest.fixture
def counts() -> np.ndarray:
    """Expected counts of 5 personas under 12 templates, from known places."""
    rng = np.random.default_rng(0)
    log_odds = rng.normal(size=(5, 2)) @ rng.normal(size=(12, 2)).T - rng.normal(size=12)
    in_a = 1 / (1 + np.exp(-log_odds))
    return np.stack([in_a, 1 - in_a], axis=-1) * 30


def plain_objective(theta: np.ndarray, slopes: np.ndarray, intercepts: np.ndarray, counts: np.ndarray) -> float:
    """The module docstring's formula, term by term."""
    total = 0.0
    for i, person in enumerate(theta):
        likelihood = 0.0
        for t, slope in enumerate(slopes):
            in_a = 1 / (1 + np.exp(-(slope @ person - intercepts[t])))
            likelihood += counts[i, t, 0] * np.log(in_a) + counts[i, t, 1] * np.log(1 - in_a)
        total += likelihood / counts[i].sum()
    squares = (theta**2).sum() + (slopes**2).sum() + INTERCEPT_RIDGE * (intercepts**2).sum()
    return float(total - RIDGE / 2 * squares)


def test_loss_and_gradient_are_those_of_the_formula(counts: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    model = SpatialModel(rng.normal(size=(5, 2)), rng.normal(size=(12, 2)), rng.normal(size=12))
    shares = counts / counts.sum(axis=(1, 2), keepdims=True)
    value, gradient = ideal_points._loss(model, shares)
    assert value == pytest.approx(-plain_objective(*model, counts))

    def at(values: np.ndarray) -> float:
        return -plain_objective(values[:10].reshape(5, 2), values[10:34].reshape(12, 2), values[34:], counts)

    numeric = approx_fprime(np.concatenate([part.ravel() for part in model]), at, 1e-6)
    np.testing.assert_allclose(np.concatenate([part.ravel() for part in gradient]), numeric, atol=1e-5)


def test_fit_recovers_the_log_odds_it_was_made_from(counts: np.ndarray) -> None:
    """The ridge draws them in a little: 5% of their spread."""
    fit = ideal_points.fit_spatial_model(counts)
    fitted = fit.theta @ fit.slopes.T - fit.intercepts
    truth = np.log(counts[..., 0] / counts[..., 1])
    assert np.sqrt(((fitted - truth) ** 2).mean()) < 0.1 * truth.std()


def test_fit_does_not_depend_on_how_many_questions_were_asked(counts: np.ndarray) -> None:
    fits = [ideal_points.fit_spatial_model(counts * factor) for factor in (1, 100)]
    first, second = (fit.theta @ fit.slopes.T - fit.intercepts for fit in fits)
    np.testing.assert_allclose(first, second, atol=1e-8)


def test_personas_are_placed_where_the_fit_has_them_and_others_at_their_maximum(counts: np.ndarray) -> None:
    fit = ideal_points.fit_spatial_model(counts)
    other = np.random.default_rng(2).random((1, 12, 2)) * 10
    placed = ideal_points.place(fit.slopes[None], fit.intercepts[None], np.concatenate([counts, other])[None])[0]
    np.testing.assert_allclose(placed[:5], fit.theta, atol=5e-3)

    def alone(theta: np.ndarray) -> float:
        return -plain_objective(theta[None], fit.slopes, fit.intercepts, other)

    best = minimize(alone, np.zeros(2), options={"gtol": 1e-8}).x
    np.testing.assert_allclose(placed[5], best, atol=1e-4)


def test_distances_are_root_mean_squares_of_log_odds(counts: np.ndarray) -> None:
    fit = ideal_points.fit_spatial_model(counts)
    points, slopes = ideal_points.coordinates(fit.theta[None], fit.slopes[None], 5)
    log_odds = fit.theta @ fit.slopes.T
    expected = np.sqrt(((log_odds[0] - log_odds[3]) ** 2).mean())
    assert np.linalg.norm(points[0, 0] - points[0, 3]) == pytest.approx(expected)
    centred = log_odds - log_odds.mean(axis=0)
    np.testing.assert_allclose(points[0] @ slopes[0].T, centred, atol=1e-10)
    # On principal axes: no covariance, the larger spread first.
    square = points[0].T @ points[0]
    assert square[0, 1] == pytest.approx(0, abs=1e-10)
    assert square[0, 0] > square[1, 1]
