"""Ideal points: a spatial model of choice, fitted on the personas, in which models are then placed.

The log-odds of pole A against pole B under template t (topic, dimension, form) are, for respondent i,

    log P(A) / P(B) = a_t . theta_i - b_t,     theta_i and a_t in R^2,

the two-parameter logistic form of the spatial models of Poole and Rosenthal (1985) and of Clinton, Jackman and Rivers
(2004), with templates in place of roll calls. Answers C are a vote for neither pole: they are left out here and reported
apart. The parameters maximise

    sum_i mean log-likelihood of i's answers  -  RIDGE / 2 (sum |theta_i|^2 + sum |a_t|^2 + INTERCEPT_RIDGE sum b_t^2),

where normal priors identify the scale and keep a template finite on which all agree. It is the mean for each respondent,
and not the sum: every persona has the same say, and the estimate aims at the same point however many questions were asked.

Coordinates are those of the fitted log-odds: centred on the personas, on their principal axes, and scaled so that the
distance of two points is the root mean square, over templates, of the difference of their fitted log-odds.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

_Floats = NDArray[np.float64]

RIDGE = 1e-3
INTERCEPT_RIDGE = 0.04
"""Of `RIDGE`: how far a template leans varies by more than what respondents think of it."""


class SpatialModel(NamedTuple):
    """Where p personas and t templates stand, before any rotation."""

    theta: _Floats
    """(p, 2)."""
    slopes: _Floats
    """a: (t, 2)."""
    intercepts: _Floats
    """b: (t,)."""


def fit_spatial_model(counts: _Floats, start: SpatialModel | None = None, *, tolerance: float = 1e-12) -> SpatialModel:
    """Fit the model on the personas.

    Args:
        counts: How much of A and of B each persona gave under each template, (p, t, 2); each gave some.
        start: A fit to similar counts, to begin with; one to the observed log-odds by default.
        tolerance: Relative gain of the objective below which a step is the last.
    """
    from scipy.optimize import minimize
    from threadpoolctl import threadpool_limits

    shares = _shares(counts)
    first = _first_guess(shares) if start is None else start
    shapes = [array.shape for array in first]
    ends = np.cumsum([array.size for array in first])[:-1]

    def unpack(values: _Floats) -> SpatialModel:
        parts = zip(np.split(values, ends), shapes, strict=True)
        return SpatialModel(*(part.reshape(shape) for part, shape in parts))

    def loss(values: _Floats) -> tuple[float, _Floats]:
        value, gradient = _loss(unpack(values), shares)
        return value, _flat(gradient)

    # The solver calls BLAS on a hundred numbers at a time: its threads take ten times as long to wake as to work.
    with threadpool_limits(1, user_api="blas"):
        result = minimize(
            loss,
            _flat(first),
            jac=True,
            method="L-BFGS-B",
            options={"ftol": tolerance, "gtol": tolerance**0.625, "maxiter": 2000},
        )
    return unpack(result.x)


def place(slopes: _Floats, intercepts: _Floats, counts: _Floats) -> _Floats:
    """The theta that fit respondents best in b given fits, (b, r, 2); for personas, those of the fit itself.

    Each step maximises a quadratic that touches the objective from below (Jaakkola and Jordan 2000): it needs no step size.
    Slopes (b, t, 2), intercepts (b, t), counts of A and B (b, r, t, 2), of which each respondent gave some.
    """
    shares = _shares(counts)
    votes, surplus = shares.sum(axis=-1), (shares[..., 0] - shares[..., 1]) / 2
    theta = np.zeros((*counts.shape[:2], 2))
    for _ in range(_MAX_STEPS):
        curvature = votes * _curvature(_log_odds(theta, slopes, intercepts))
        squares = np.einsum("brt,bti,btj->brij", curvature, slopes, slopes, optimize=True) + RIDGE * np.eye(2)
        pull = np.einsum("brt,bti->bri", surplus + curvature * intercepts[:, None, :], slopes, optimize=True)
        before, theta = theta, np.linalg.solve(squares, pull[..., None])[..., 0]
        if np.abs(theta - before).max() < _TOLERANCE:
            break
    return theta


def coordinates(theta: _Floats, slopes: _Floats, personas: int) -> tuple[_Floats, _Floats]:
    """Bring theta (b, r, 2), personas first, into the scale of log-odds, centred on the personas, on their principal axes.

    Returns:
        Points (b, r, 2), and what a template's log-odds gain in a step along each axis, (b, t, 2).
    """
    centred = theta - theta[:, :personas].mean(axis=1, keepdims=True)
    # slopes = Q R with Q'Q = t: |R theta| is the root mean square of the log-odds over templates.
    templates = slopes.shape[1]
    orthogonal, triangle = np.linalg.qr(slopes)
    points = centred @ triangle.swapaxes(1, 2) / np.sqrt(templates)
    axes = np.linalg.svd(points[:, :personas], full_matrices=False)[2].swapaxes(1, 2)
    return points @ axes, orthogonal @ axes * np.sqrt(templates)


_MAX_STEPS = 500
_TOLERANCE = 1e-6


def _loss(model: SpatialModel, shares: _Floats) -> tuple[float, SpatialModel]:
    """The negative objective, and its derivatives."""
    log_odds = model.theta @ model.slopes.T - model.intercepts
    in_a, in_b = shares[..., 0], shares[..., 1]
    likelihood = -(in_a * np.logaddexp(0, -log_odds) + in_b * np.logaddexp(0, log_odds)).sum()
    squares = (model.theta**2).sum() + (model.slopes**2).sum() + INTERCEPT_RIDGE * (model.intercepts**2).sum()
    excess = (in_a + in_b) * expit(log_odds) - in_a
    gradient = SpatialModel(
        excess @ model.slopes + RIDGE * model.theta,
        excess.T @ model.theta + RIDGE * model.slopes,
        -excess.sum(axis=0) + RIDGE * INTERCEPT_RIDGE * model.intercepts,
    )
    return float(RIDGE / 2 * squares - likelihood), gradient


def _first_guess(shares: _Floats) -> SpatialModel:
    """The two largest components of the observed log-odds, a little smoothed."""
    a_bit = 0.1 / shares.shape[1]
    observed = np.log((shares[..., 0] + a_bit) / (shares[..., 1] + a_bit))
    mean = observed.mean(axis=0)
    left, size, right = np.linalg.svd(observed - mean, full_matrices=False)
    scale = np.sqrt(size[:2])
    return SpatialModel(left[:, :2] * scale, right[:2].T * scale, -mean)


def _shares(counts: _Floats) -> _Floats:
    """What each respondent gave, as shares of all that it gave of A and B."""
    return counts / counts.sum(axis=(-2, -1), keepdims=True)


def _log_odds(theta: _Floats, slopes: _Floats, intercepts: _Floats) -> _Floats:
    return theta @ slopes.swapaxes(-2, -1) - intercepts[..., None, :]


def _curvature(log_odds: _Floats) -> _Floats:
    """tanh(x / 2) / (2 x), which is 1/4 at 0."""
    size = np.maximum(np.abs(log_odds), 1e-8)
    return np.tanh(size / 2) / (2 * size)


def _flat(model: SpatialModel) -> _Floats:
    return np.concatenate([array.ravel() for array in model])
