"""Names beside points, without one over another."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fairpp_hf.drawing.theme import INK, PAPER

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_Floats = NDArray[np.float64]

_STEPS = (0.0, 0.5, -0.5, 1.0, -1.0)
_DIRECTIONS = np.array(
    [(side, step) for step in _STEPS for side in (1, -1)] + [(step, side) for step in _STEPS[:3] for side in (1, -1)]
)
"""Around a square: along one side or the other, a label of any size keeps clear of its point."""
_REACHES = (9, 16, 26, 38, 52, 70, 90, 115)
"""Points from a marker to its label, nearest first."""
_LEADER = 14
"""Points from which on a line leads to the label."""
_CROSSING, _FAR = 1.0, 1e-4
"""What a leading line wholly over other labels and points costs, and a point of its length, where a label wholly over
something else costs 1."""
_MARKER = 6
"""Half the width that stays free around a marker, in points."""


class Label(NamedTuple):
    """A name to be written beside a point."""

    text: str
    xy: tuple[float, float]
    bold: bool = False


def write_labels(
    axes: "Axes", labels: Sequence[Label], size: float, lines: Sequence[tuple[_Floats, _Floats]] = ()
) -> None:
    """Write each label where it covers no other, no point and no line; a line leads to those that are far from theirs.

    The first come first: each takes the nearest free place around its point, or the one that covers least. The axes must
    have their limits, since places are found in pixels.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.patheffects import withStroke

    canvas = axes.figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    texts = [
        axes.text(0, 0, label.text, fontsize=size, fontweight="bold" if label.bold else "normal", color=INK, zorder=6)
        for label in labels
    ]
    for text in texts:
        text.set_path_effects([withStroke(linewidth=2.5, foreground=PAPER, alpha=0.85)])
    extents = [text.get_window_extent(canvas.get_renderer()) for text in texts]
    to_pixels, to_data = axes.transData, axes.transData.inverted()
    points = to_pixels.transform(np.array([label.xy for label in labels]))
    steps = np.linspace(0, 1, 40)[:, None]
    boxes, is_far = free_places(
        points,
        np.array([(extent.width, extent.height) for extent in extents]),
        np.array(axes.get_window_extent().extents),
        np.concatenate(
            [np.empty((0, 2)), *(to_pixels.transform(start + steps * (end - start)) for start, end in lines)]
        ),
        pixel=axes.figure.dpi / 72,
    )
    for text, point, box, far in zip(texts, points, boxes, is_far, strict=True):
        text.set(position=to_data.transform((box[:2] + box[2:]) / 2), ha="center", va="center")
        if far:
            ends = to_data.transform(np.stack([point, np.clip(point, box[:2], box[2:])]))
            axes.plot(*ends.T, color=INK, linewidth=0.6, alpha=0.7, zorder=2, scalex=False, scaley=False)


def free_places(
    points: _Floats, sizes: _Floats, frame: _Floats, occupied: _Floats, pixel: float = 1.0
) -> tuple[_Floats, NDArray[np.bool_]]:
    """Rectangles for the labels of points, one after the other.

    Args:
        points: Places of the points, (m, 2), in pixels.
        sizes: Width and height of each label, (m, 2).
        frame: Rectangle that no label may leave, (4,): x0, y0, x1, y1.
        occupied: Further points to leave free, (k, 2).
        pixel: Number of pixels in a point of the printer.

    Returns:
        (m, 4), x0, y0, x1, y1, and whether each is so far from its point that a line must lead to it.
    """
    markers = np.concatenate([points, occupied])
    taken = np.concatenate([markers - _MARKER * pixel, markers + _MARKER * pixel], axis=1)
    reaches = np.repeat(_REACHES, len(_DIRECTIONS))
    directions = np.tile(_DIRECTIONS, (len(_REACHES), 1))
    # The diagonals of a square are longer than its sides.
    away = (reaches * np.where(np.abs(directions).sum(axis=1) > 1, 0.7, 1.0))[:, None] * pixel
    boxes = np.empty((0, 4))
    is_far = []
    for number, (point, size) in enumerate(zip(points, sizes, strict=True)):
        half = size / 2 + 1.5 * pixel
        middles = point + directions * (half + away)
        candidates = np.concatenate([middles - half, middles + half], axis=1)
        covered = _overlap(candidates, np.concatenate([taken, boxes])).sum(axis=1)
        leaving = (candidates[:, :2] < frame[:2]).any(axis=1) | (candidates[:, 2:] > frame[2:]).any(axis=1)
        edges = np.clip(point, candidates[:, :2], candidates[:, 2:])
        along = point + np.linspace(0.0, 1.0, 30)[:, None, None] * (edges - point)
        in_the_way = np.concatenate([np.delete(taken[: len(points)], number, axis=0), boxes])
        inside = (along[:, :, None] >= in_the_way[:, :2]) & (along[:, :, None] <= in_the_way[:, 2:])
        crossed = inside.all(axis=-1).any(axis=-1).mean(axis=0) * (reaches > _LEADER)
        cost = covered / size.prod() + _CROSSING * crossed + _FAR * reaches + np.where(leaving, 1e9, 0.0)
        best = int(cost.argmin())
        boxes = np.concatenate([boxes, candidates[[best]]])
        is_far.append(bool(reaches[best] > _LEADER))
        if is_far[-1]:
            line = along[:, best]
            taken = np.concatenate([taken, np.concatenate([line - pixel, line + pixel], axis=1)])
    return boxes, np.array(is_far)


def _overlap(boxes: _Floats, others: _Floats) -> _Floats:
    """Common area of rectangles (x0, y0, x1, y1): (m, 4) and (k, 4) to (m, k)."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return np.maximum(high - low, 0).prod(axis=2)
