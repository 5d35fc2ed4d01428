"""Principal components of answer shares: distances by hand, and why cells are needed."""

import numpy as np
import pyarrow as pa
import pytest
from placed_world import ANCHORS, drawn, true_probabilities
from scipy.linalg import orthogonal_procrustes
from scipy.spatial.distance import jensenshannon

from fairpp_hf.evaluation.positioning import pca
from fairpp_hf.evaluation.positioning.counts import Template, cluster_counts, templates_of
from fairpp_hf.questions import load_questions


def test_distances_are_hellinger() -> None:
    """One cell, shares (1, 0, 0) and (0, 1, 0): distance 1. Two cells, equal in one of them: sqrt(1 / 2)."""
    one = pca.features_of(np.array([[[4.0, 0, 0]], [[0, 2.0, 0]]]))
    assert np.linalg.norm(one[0] - one[1]) == pytest.approx(1.0)
    two = pca.features_of(np.array([[[4.0, 0, 0], [1, 1, 1]], [[0, 2.0, 0], [5, 5, 5]]]))
    assert np.linalg.norm(two[0] - two[1]) == pytest.approx(np.sqrt(0.5))


def test_hellinger_and_jensen_shannon_bound_each_other() -> None:
    shares = np.random.default_rng(0).dirichlet([0.5, 0.5, 0.5], (2, 500))
    features = pca.features_of(shares[:, :, None, :])
    hellinger = np.linalg.norm(features[0] - features[1], axis=1)
    distance = jensenshannon(shares[0], shares[1], axis=1)
    assert (distance <= hellinger + 1e-12).all()
    assert (distance >= np.sqrt(np.log(2)) * hellinger - 1e-12).all()


def test_plane_is_that_of_the_covariance_of_the_personas() -> None:
    """Against the eigenvectors of the covariance matrix, which the code does not form."""
    features = np.random.default_rng(0).normal(size=(1, 6, 9))
    plane = pca.fit_plane(features)
    values, vectors = np.linalg.eigh(np.cov(features[0].T))
    for axis in (0, 1):
        assert abs(plane.axes[0, axis] @ vectors[:, -1 - axis]) == pytest.approx(1.0)
    np.testing.assert_allclose(plane.explained[0], values[:-3:-1] / values.sum())
    np.testing.assert_allclose(plane.coordinates(features)[0].mean(axis=0), 0, atol=1e-12)


@pytest.mark.parametrize(
    ("answers", "by"), [(80, ("dimension", "topic")), (79, ("dimension",)), (20, ("dimension",)), (19, ())]
)
def test_cells_get_coarser_where_one_would_be_too_thin(answers: float, by: tuple[str, ...]) -> None:
    """Two dimensions and two topics: a dimension has twice the answers of a cell; 38 are too few there, too."""
    templates = [Template(topic, dimension, "criterion") for topic in "xy" for dimension in (1, 2)]
    counts = np.zeros((1, 4, 3))
    counts[..., 0] = answers
    cells = pca.choose_cells(templates, counts, pca.DIVISIONS)
    assert cells.by == by
    assert cells.counts(counts).sum() == pytest.approx(4 * answers)


def test_single_questions_would_push_models_to_the_middle() -> None:
    """A model that answers by a persona's own probabilities belongs on its point.

    By cells it falls there; by single questions, the axes follow the noise of the personas' draws, in which the model has no
    part, and it falls to the middle.
    """
    rng = np.random.default_rng(0)
    rows = rng.choice(len(load_questions()), 1500, replace=False)
    questions = load_questions().take(pa.array(rows))
    truth = true_probabilities(ANCHORS)[:, rows]
    everybody = np.concatenate([drawn(truth, rng), drawn(truth, rng)])

    def how_far_out(features: np.ndarray) -> float:
        points = pca.fit_plane(features[None, :7]).coordinates(features[None])[0]
        return float((points[7:] * points[:7]).sum() / (points[:7] ** 2).sum())

    templates, template = templates_of(questions)
    counts = cluster_counts(everybody, questions, template).sum(axis=0)
    cells = pca.cells_by(templates, ("dimension", "topic"))
    assert how_far_out(pca.features_of(cells.counts(counts))) == pytest.approx(1.0, abs=0.1)
    assert how_far_out(pca.features_of(everybody)) < 0.6


def test_turned_and_reflected_maps_are_brought_back() -> None:
    """Against scipy's Procrustes, and on a case with a known answer."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(5, 2))
    onto = points[:3] - points[:3].mean(axis=0)
    centred = points - points[:3].mean(axis=0)
    turn = np.array([[np.cos(1.2), -np.sin(1.2)], [np.sin(1.2), np.cos(1.2)]])
    moved = np.stack([centred @ turn, centred @ turn @ np.diag([1, -1])])
    back = pca.aligned(moved, moved[:, :3], onto)
    np.testing.assert_allclose(back, np.stack([centred, centred]), atol=1e-12)
    noisy = moved + rng.normal(scale=0.1, size=moved.shape)
    rotation, _ = orthogonal_procrustes(noisy[0, :3], onto)
    np.testing.assert_allclose(pca.aligned(noisy, noisy[:, :3], onto)[0], noisy[0] @ rotation)
