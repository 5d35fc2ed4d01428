import numpy as np
from scipy.linalg import orthogonal_procrustes

from fairpp_hf.evaluation.positioning.alignment import aligned


def test_turned_and_reflected_maps_are_brought_back() -> None:
    """Against scipy's Procrustes, and on a case with a known answer."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(5, 2))
    onto = points[:3] - points[:3].mean(axis=0)
    centred = points - points[:3].mean(axis=0)
    turn = np.array([[np.cos(1.2), -np.sin(1.2)], [np.sin(1.2), np.cos(1.2)]])
    moved = np.stack([centred @ turn, centred @ turn @ np.diag([1, -1])])
    back = aligned(moved, moved[:, :3], onto)
    np.testing.assert_allclose(back, np.stack([centred, centred]), atol=1e-12)
    noisy = moved + rng.normal(scale=0.1, size=moved.shape)
    rotation, _ = orthogonal_procrustes(noisy[0, :3], onto)
    np.testing.assert_allclose(aligned(noisy, noisy[:, :3], onto)[0], noisy[0] @ rotation)
