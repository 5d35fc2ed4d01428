"""The map: personas, their majority and the models in two dimensions, as `fairpp position` placed them."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from fairpp_hf.evaluation.positioning.positions import FEW_QUESTIONS
from fairpp_hf.evaluation.report.charts import Chart
from fairpp_hf.evaluation.report.drawing import (
    INK,
    LINE,
    MARKERS,
    MUTED,
    WIDTH,
    Marks,
    drawable,
    drawn,
    in_lines,
    panel,
    say,
)
from fairpp_hf.evaluation.report.folder import METHODS
from fairpp_hf.evaluation.styles import STYLES

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_Box: TypeAlias = tuple[float, float, float, float]
"""Left, low, right, high."""

_SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))

_NO_REGION = "region not given"


def position_chart(method: str, positions: Mapping[str, Any]) -> Chart:
    """The map by one of `METHODS`.

    Args:
        method: key of `METHODS`.
        positions: what positions.json holds, with that method at each point.
    """
    points = [point for point in positions["points"] if point.get(method)]
    regions = list(dict.fromkeys(_region(point) for point in points if point["kind"] == "model"))
    places = np.array([point[method]["xy"] for point in points], dtype=float).reshape(-1, 2)
    rings = [np.array(point[method].get("ellipse_95") or [], dtype=float).reshape(-1, 2) for point in points]
    everything = np.concatenate([places, *rings])
    middle = (everything.min(axis=0) + everything.max(axis=0)) / 2
    half = 0.56 * float((everything.max(axis=0) - everything.min(axis=0)).max() or 1.0)
    entries = _legend_entries(points, regions)
    legend = 0.22 * len(entries)
    side = WIDTH - 0.5
    size = (WIDTH, side + 0.55 + legend)
    marked = {point["name"]: number for number, point in enumerate(points)}
    # Models often stand in a crowd, where there is no room for names: the legend has them.
    models = [number for number, point in enumerate(points) if point["kind"] == "model"]
    labels = [
        str(models.index(number) + 1)
        if number in models
        else drawable(point["name"]) or f"{point['kind']} {number + 1}"
        for number, point in enumerate(points)
    ]
    axis_x, axis_y = _axis_names(method, positions)

    def paint(figure: "Figure") -> tuple[Marks, list["Artist"]]:
        x, y = ((float(m - half), float(m + half)) for m in middle)
        axes = panel(figure, (0.35, 0.45 + legend, side, side), x, y)
        _frame(axes, x, y)
        say(axes, float(middle[0]), y[0] - 0.05 * half, axis_x, size=8.5, color=MUTED, va="top")
        axes.text(
            x[0] - 0.05 * half, middle[1], axis_y, fontsize=8.5, color=MUTED, rotation=90, ha="right", va="center"
        )
        marks: Marks = {}
        for point, ring in zip(points, rings, strict=True):
            color, _, _ = _look(point, regions)
            if len(ring):
                axes.fill(*ring.T, facecolor=color, alpha=0.13, edgecolor="none", zorder=1)
                axes.plot(*np.concatenate([ring, ring[:1]]).T, color=color, linewidth=0.7, alpha=0.8, zorder=1)
        for number, point in enumerate(points):
            start = marked.get(point.get("before"))
            if start is not None:
                _arrow(axes, places[start], places[number])
        for number, point in enumerate(points):
            color, marker, edge = _look(point, regions)
            dot = axes.plot(
                *places[number],
                marker=marker,
                color=color,
                markersize=8 if point["kind"] != "majority" else 12,
                zorder=4,
            )[0]
            dot.set(gid=f"point{number}", clip_on=False, markeredgecolor=edge, markeredgewidth=0.8)
            marks[f"point{number}"] = {"data-tip": _tip(point, places[number])}
        arrows = [
            (places[marked[point["before"]]], place)
            for point, place in zip(points, places, strict=True)
            if point.get("before") in marked
        ]
        _place_labels(axes, places, labels, [point["kind"] == "persona" for point in points], 2 * half / side, arrows)
        below = panel(figure, (0.25, 0.06, WIDTH - 0.35, legend), (0, 1), (len(entries), 0))
        for row, (text, color, marker, edge) in enumerate(entries):
            size_ = 10 if marker == "*" else 7
            below.plot([0.05], [row + 0.5], marker=marker, color=color, markersize=size_, markeredgecolor=edge)
            say(below, 0.1, row + 0.5, in_lines(text, 60, 1), size=8.5, ha="left")
        return marks, []

    rows = [
        [
            f"{label} {point['name']}" if point["kind"] == "model" else point["name"],
            point["kind"],
            (point.get("region") or "") if point["kind"] == "model" else "",
            point.get("before") or "",
            f"{place[0]:.3f}",
            f"{place[1]:.3f}",
        ]
        for point, place, label in zip(points, places, labels, strict=True)
    ]
    moved = [f"{point['before']} to {point['name']}" for point in points if point.get("before") in marked]
    said = f"{METHODS[method]}: {len(points)} points. " + "; ".join(
        f"{point['name']} at {place[0]:.2f}, {place[1]:.2f}" for point, place in zip(points, places, strict=True)
    )
    notes = _axes_in_words(method, positions)
    if moved:
        notes.append(f"Arrows, before to after alignment: {'; '.join(moved)}.")
    if any(len(ring) for ring in rings):
        few = positions["questions"] < FEW_QUESTIONS
        unsure = f", which are not to be relied on under {FEW_QUESTIONS} questions" if few else ""
        notes.append(f"Shaded: 95% regions{unsure}.")
    return Chart(
        f"map-{method.replace('_', '-')}",
        f"The map: {METHODS[method].lower()}",
        f"{said}.",
        partial(drawn, f"map-{method.replace('_', '-')}", size, paint),
        ("name", "kind", "region", "before", "x", "y"),
        rows,
        shown_by=("map", method),
        notes=tuple(notes),
    )


def _region(point: Mapping[str, Any]) -> str:
    return point.get("region") or _NO_REGION


def _look(point: Mapping[str, Any], regions: Sequence[str]) -> tuple[str, str, str]:
    """Fill, marker and edge: personas dark diamonds, the majority a star, baselines crosses, models by region."""
    if point["kind"] == "persona":
        return INK, "D", INK
    if point["kind"] == "majority":
        return "#F0E442", "*", INK
    if point["kind"] == "baseline":
        return "#8a5a00", "P", INK
    number = regions.index(_region(point))
    # Diamonds are the personas'.
    markers = [marker for marker in MARKERS if marker != "D"]
    color = STYLES[(number + 1) % len(STYLES)][0] if _region(point) != _NO_REGION else STYLES[0][0]
    return color, markers[number % len(markers)], INK


def _legend_entries(points: Sequence[Mapping[str, Any]], regions: Sequence[str]) -> list[tuple[str, str, str, str]]:
    """Text, fill, marker and edge of each line."""
    entries = []
    for kind, text in (
        ("persona", "personas"),
        ("majority", "their majority, by shares"),
        ("baseline", "baselines, fitted to the target"),
    ):
        first = next((point for point in points if point["kind"] == kind), None)
        if first is not None:
            entries.append((text, *_look(first, regions)))
    for place, point in enumerate((point for point in points if point["kind"] == "model"), 1):
        region = drawable(point.get("region") or "")
        text = f"{place}  {drawable(point['name']) or f'model {place}'}{f', {region}' if region else ''}"
        entries.append((text, *_look(point, regions)))
    return entries


def _axis_names(method: str, positions: Mapping[str, Any]) -> tuple[str, str]:
    variance = (positions["methods"].get(method) or {}).get("explained_variance")
    if variance:
        return (
            f"first component, {variance[0]:.0%} of the sample variance",
            f"second component, {variance[1]:.0%} of the sample variance",
        )
    return "first dimension", "second dimension"


def _axes_in_words(method: str, positions: Mapping[str, Any]) -> list[str]:
    """A sentence an axis."""
    axes = (positions["methods"].get(method) or {}).get("axes") or []
    return [f"{text[0].upper()}{text[1:]}." for text in axes if isinstance(text, str) and text]


def _tip(point: Mapping[str, Any], place: Sequence[float]) -> str:
    details = [point["kind"], *([point["region"]] if point.get("region") else [])]
    return f"{point['name']} ({', '.join(details)}): {place[0]:.3f}, {place[1]:.3f}"


def _frame(axes: "Axes", x: tuple[float, float], y: tuple[float, float]) -> None:
    axes.plot([x[0], x[1], x[1], x[0], x[0]], [y[0], y[0], y[1], y[1], y[0]], color=LINE, linewidth=1, clip_on=False)
    if x[0] < 0 < x[1]:
        axes.plot([0, 0], y, color=LINE, linewidth=0.8, zorder=0)
    if y[0] < 0 < y[1]:
        axes.plot(x, [0, 0], color=LINE, linewidth=0.8, zorder=0)


def _arrow(axes: "Axes", start: Sequence[float], end: Sequence[float]) -> None:
    axes.annotate(
        "",
        (end[0], end[1]),
        (start[0], start[1]),
        arrowprops={
            "arrowstyle": "-|>",
            "color": INK,
            "linewidth": 1.3,
            "shrinkA": 6,
            "shrinkB": 6,
            "mutation_scale": 11,
        },
        zorder=3,
    )


def _place_labels(
    axes: "Axes", places: Any, labels: Sequence[str], bold: Sequence[bool], unit: float, arrows: Sequence[Any]
) -> None:
    """Write each name near its point, where it covers no other name and no point as far as there is room.

    Args:
        axes: square, with equal scales.
        places: (m, 2).
        labels: of the points.
        bold: which are bold.
        unit: data units an inch.
        arrows: start and end of each.
    """
    x_limits, y_limits = axes.get_xlim(), axes.get_ylim()
    taken = [(x - 0.07 * unit, y - 0.07 * unit, x + 0.07 * unit, y + 0.07 * unit) for x, y in places]
    for start, end in arrows:
        along = start + np.linspace(0, 1, 30)[:, None] * (end - start)
        taken += [(x - 0.03 * unit, y - 0.03 * unit, x + 0.03 * unit, y + 0.03 * unit) for x, y in along]
    for (x, y), label, is_bold in zip(places, labels, bold, strict=True):
        text = in_lines(label, 18)
        lines = text.split("\n")
        width = max(map(len, lines)) * (0.078 if is_bold else 0.07) * unit
        height = 0.13 * len(lines) * unit
        best: tuple[float, float, float] | None = None
        for reach in (0.1, 0.15, 0.22, 0.3):
            gap = reach * unit
            for dx, dy in _SIDES:
                left = x + dx * gap - (width / 2 if dx == 0 else width if dx < 0 else 0)
                low = y + dy * gap - (height / 2 if dy == 0 else height if dy < 0 else 0)
                box = (left, low, left + width, low + height)
                covered = sum(_overlap(box, other) for other in taken)
                outside = max(0.0, x_limits[0] - box[0], box[2] - x_limits[1]) + max(
                    0.0, y_limits[0] - box[1], box[3] - y_limits[1]
                )
                cost = covered / unit**2 + 5 * outside / unit + 0.02 * reach
                if best is None or cost < best[0] - 1e-9:
                    best = (cost, left, low)
        assert best is not None
        _, left, low = best
        box = (left, low, left + width, low + height)
        taken.append(box)
        say(axes, left + width / 2, low + height / 2, text, size=8, bold=is_bold)


def _overlap(one: _Box, other: _Box) -> float:
    """Area in common."""
    return max(0.0, min(one[2], other[2]) - max(one[0], other[0])) * max(
        0.0, min(one[3], other[3]) - max(one[1], other[1])
    )
