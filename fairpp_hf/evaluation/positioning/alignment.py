"""Rotations and reflections that bring one map over another."""

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]


def aligned(points: _Floats, anchors: _Floats, onto: _Floats) -> _Floats:
    """Rotate and reflect points so that their anchors come nearest to given ones (orthogonal Procrustes, Schonemann 1966).

    Args:
        points: (b, r, 2).
        anchors: (b, p, 2), centred: the same anchors, in the frame of the points.
        onto: (p, 2), centred.

    Returns:
        (b, r, 2). Nothing is moved or scaled.
    """
    left, _, right = np.linalg.svd(anchors.swapaxes(1, 2) @ onto)
    return points @ (left @ right)
