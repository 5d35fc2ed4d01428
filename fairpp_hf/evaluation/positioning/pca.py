"""The plane that spreads the personas best: principal components of their answer shares, in Hellinger's distance.

A respondent is a row of features: in each cell of questions, the square roots of its shares of A, B and C. Scaled, the
Euclidean distance of two rows is the root mean square over cells of the Hellinger distance H of their shares, from 0 to 1
(principal components of shares so transformed: Legendre and Gallagher 2001). H is a close relative of the Jensen-Shannon
distance of the paper, which lies between sqrt(ln 2) H and H (natural logarithm; Topsoe 2000).

The axes are the personas' alone; models are projected. Cells, and not single questions: a persona's answer to one question
is a single draw, so that every persona would differ from all others by its own noise on each question. The axes would
follow that noise, in which no model has a part, and models would fall to the middle of the map whatever they answer.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fairpp_hf.evaluation.positioning.counts import Template

_Floats = NDArray[np.float64]

Divisions: TypeAlias = Sequence[tuple[tuple[str, ...], int]]
"""From fine to coarse: fields of `Template` by which questions are put into cells, and the answers that each persona must
have in each cell."""

MIN_ANSWERS = 40
"""In each cell, for a place on the map."""

DIVISIONS: Divisions = ((("dimension", "topic"), 2 * MIN_ANSWERS), (("dimension",), MIN_ANSWERS), ((), 0))
"""Square roots of the shares of few answers are biased, most of all where an option is rare, so that regions hold the truth
too rarely: of a model with 40 answers a cell in about 90% of samples (benchmarks/position_coverage.py)."""


class Cells(NamedTuple):
    """A division of the questions into k cells."""

    by: tuple[str, ...]
    """Fields of `Template`."""
    labels: tuple[tuple[str | int, ...], ...]
    """Their values in each cell."""
    member: _Floats
    """(t, k): 1 where a template belongs to a cell."""

    def counts(self, counts: _Floats) -> _Floats:
        """Counts by template, (..., t, o), summed within cells, (..., k, o)."""
        return self.member.T @ counts

    def fewest(self, counts: _Floats) -> _Floats:
        """Answers of each respondent, counted by template, (r, t, o), in the cell where it has the fewest, (r,)."""
        # Sums of probabilities: a whole number may come out a last digit short.
        return self.counts(counts).sum(axis=-1).min(axis=-1).round(9)


class Plane(NamedTuple):
    """The first two principal components of the personas, for each of b sets of counts."""

    centre: _Floats
    """(b, f): the personas' mean."""
    axes: _Floats
    """(b, 2, f), orthonormal."""
    explained: _Floats
    """(b, 2): shares of the personas' variance."""

    def coordinates(self, features: _Floats) -> _Floats:
        """Features (b, r, f) to points (b, r, 2)."""
        return (features - self.centre[:, None, :]) @ self.axes.swapaxes(1, 2)


def cells_by(templates: Sequence[Template], by: tuple[str, ...]) -> Cells:
    """The cells of templates with equal values of the fields `by`."""
    keys = [tuple(getattr(template, name) for name in by) for template in templates]
    labels = tuple(sorted(set(keys)))
    return Cells(by, labels, np.eye(len(labels))[[labels.index(key) for key in keys]])


def choose_cells(templates: Sequence[Template], counts: _Floats, divisions: Divisions) -> Cells:
    """The first division in which every persona has enough in each cell; else the last.

    The personas alone decide, by counts (p, t, o), so that a model which answers little does not blur the map for others.
    """
    for by, enough in divisions:
        cells = cells_by(templates, by)
        if cells.fewest(counts).min() >= enough:
            break
    return cells


def features_of(counts: _Floats) -> _Floats:
    """Counts by cell, (..., k, 3), to features of which distances are root-mean-square Hellinger, (..., 3 k)."""
    shares = counts / counts.sum(axis=-1, keepdims=True)
    return np.sqrt(shares / (2 * shares.shape[-2])).reshape(*shares.shape[:-2], -1)


def fit_plane(features: _Floats) -> Plane:
    """Principal components of the personas' features, (b, p, f), p and f at least 3."""
    centre = features.mean(axis=1)
    _, spread, axes = np.linalg.svd(features - centre[:, None, :], full_matrices=False)
    variance = spread**2
    return Plane(centre, axes[:, :2], variance[:, :2] / variance.sum(axis=1, keepdims=True))


def aligned(points: _Floats, anchors: _Floats, onto: _Floats) -> _Floats:
    """Rotate and reflect points so that their anchors come nearest to given ones (orthogonal Procrustes, Schonemann 1966).

    Points (b, r, 2); anchors in their frame (b, p, 2) and where to bring them (p, 2), both centred: nothing is moved.
    """
    left, _, right = np.linalg.svd(anchors.swapaxes(1, 2) @ onto)
    return points @ (left @ right)
