"""What the axes of a map mean: their direction, and the cells that count most."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fairpp_hf.evaluation.positioning.pca import Cells

_Floats = NDArray[np.float64]

_NAMED = 3
"""Cells that stand for an axis."""


def turned(leaning: _Floats, cells: Cells) -> _Floats:
    """The sign of each axis, (2,): along the first, pole A of the first dimension grows; along the second, of the second.

    `leaning` is what pole A gains on pole B in each cell along an axis, (2, k).
    """
    if "dimension" not in cells.by:
        return np.where(leaning.sum(axis=1) < 0, -1.0, 1.0)
    dimension = np.array([label[cells.by.index("dimension")] for label in cells.labels])
    present = np.unique(dimension)
    sums = [leaning[axis, dimension == present[min(axis, len(present) - 1)]].sum() for axis in (0, 1)]
    return np.where(np.array(sums) < 0, -1.0, 1.0)


def axis_in_words(loadings: _Floats, cells: Cells, poles: Mapping[int, tuple[str, str]]) -> tuple[str, str]:
    """A sentence on each of two axes: what is chosen more along it, in the cells that count most.

    `loadings` are what A, B and C gain in each cell along an axis, (2, k, 3); `poles` the names of each dimension's poles.
    """
    return _sentence("to the right", loadings[0], cells, poles), _sentence("upwards", loadings[1], cells, poles)


def _sentence(which: str, loadings: _Floats, cells: Cells, poles: Mapping[int, tuple[str, str]]) -> str:
    terms = []
    for label, (in_a, in_b, in_c) in zip(cells.labels, loadings, strict=True):
        values = dict(zip(cells.by, label, strict=True))
        pole_a, pole_b = poles[int(values["dimension"])] if "dimension" in values else ("pole A", "pole B")
        where = str(values.get("topic", ""))
        leaning, neither = (in_a - in_b) / np.sqrt(2), (2 * in_c - in_a - in_b) / np.sqrt(6)
        first, second = (pole_a, pole_b) if leaning >= 0 else (pole_b, pole_a)
        terms.append((abs(leaning), f"{first} over {second}", where))
        amount = "more" if neither >= 0 else "fewer"
        terms.append((abs(neither), f"{amount} answers C to {pole_a} against {pole_b}", where))
    places: dict[str, dict[str, None]] = {}
    for _, choice, where in sorted(terms, key=lambda term: -term[0])[:_NAMED]:
        places.setdefault(choice, {})[where] = None
    phrases = [f"{choice} ({', '.join(where)})" if any(where) else choice for choice, where in places.items()]
    return f"{which}: {'; '.join(phrases)}"
