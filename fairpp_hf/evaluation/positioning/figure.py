"""The two maps as a picture, readable in print and without colour vision."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fairpp_hf.evaluation.positioning.labels import Label, write_labels
from fairpp_hf.evaluation.positioning.positions import FEW_QUESTIONS, METHODS, Place, Point, Positions
from fairpp_hf.evaluation.positioning.report import TITLES
from fairpp_hf.evaluation.styles import STYLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

_PERSONA = ("#333333", "o")
_MAJORITY = ("#000000", "*")
_BASELINE = ("#8a5a00", "P")
_NO_REGION = "no region given"
_MARGIN = 0.1
"""Of what is drawn, on each side: room for labels."""


class _Look(NamedTuple):
    color: str
    marker: str
    size: float


def draw_positions(positions: Positions, path: Path) -> Path:
    """Draw both maps into a PNG file."""
    # The object interface, and not pyplot: no window system, no figures left open.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 8.2), dpi=130)
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.055, right=0.985, top=0.865, bottom=0.225, wspace=0.15)
    regions = list(dict.fromkeys(point.region for point in positions.points if point.kind == "model"))
    looks = {region: _Look(*STYLES[1 + number % (len(STYLES) - 1)], 70) for number, region in enumerate(regions)}
    for axes, method in zip(panels, METHODS, strict=True):
        _draw_map(axes, positions, method, looks)
    figure.suptitle(
        "Where models stand among the personas", fontsize=15, fontweight="bold", x=0.055, ha="left", y=0.975
    )
    figure.text(
        0.055,
        0.92,
        f"{positions.questions:,} questions ({positions.division}). Answers of the personas: {positions.reference}. "
        "Shaded: 95% region of each point"
        + (", not to be relied on with so few questions." if positions.questions < FEW_QUESTIONS else "."),
        fontsize=10,
        color="#444",
    )
    handles = _legend(positions.points, looks)
    figure.legend(
        handles=handles,
        loc="lower center",
        ncols=-(-len(handles) // (1 if len(handles) <= 6 else 2)),
        frameon=False,
        fontsize=10,
        bbox_to_anchor=(0.5, 0),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def _draw_map(axes: "Axes", positions: Positions, method: str, looks: dict[str | None, _Look]) -> None:
    placed = [(point, place) for point in positions.points if (place := point.places[method]) is not None]
    _set_limits(axes, [place for _, place in placed])
    places = {point.name: place for point, place in placed}
    for point, place in placed:
        look = _look(point, looks)
        outline = place.ellipse()
        axes.fill(*outline.T, color=look.color, alpha=0.1, linewidth=0, zorder=1)
        axes.plot(*np.concatenate([outline, outline[:1]]).T, color=look.color, alpha=0.55, linewidth=0.8, zorder=1)
        axes.scatter(
            *(float(place.xy[0]), float(place.xy[1])),
            color=look.color,
            marker=look.marker,
            s=look.size,
            edgecolors="white",
            linewidths=0.8,
            zorder=4,
        )
        if point.before in places:
            axes.annotate(
                "",
                xy=tuple(place.xy),
                xytext=tuple(places[point.before].xy),
                arrowprops={
                    "arrowstyle": "-|>",
                    "color": look.color,
                    "linewidth": 1.6,
                    "shrinkA": 5,
                    "shrinkB": 5,
                    "mutation_scale": 14,
                },
                zorder=3,
            )
    labels = [
        Label(point.name, (float(place.xy[0]), float(place.xy[1])), "#222", point.kind == "persona")
        for point, place in placed
    ]
    arrows = [(places[point.before].xy, place.xy) for point, place in placed if point.before in places]
    write_labels(axes, labels, size=8.5, lines=arrows)
    shares = positions.explained_variance if method == "pca" else positions.spread
    axes.set_xlabel(f"first axis, {shares[0]:.0%} of the personas' sample variance →", fontsize=9.5)
    axes.set_ylabel(f"second axis, {shares[1]:.0%} of the personas' sample variance →", fontsize=9.5)
    words = "\n".join(_wrapped(f"{axis[0].upper()}{axis[1:]}.") for axis in positions.axes[method])
    axes.text(0, -0.115, words, transform=axes.transAxes, fontsize=9, color="#444", va="top", linespacing=1.5)
    unit = "Hellinger distance" if method == "pca" else "distance in log-odds of pole A to pole B"
    axes.set_title(f"{TITLES[method]} ({unit})", fontsize=11, fontweight="bold", loc="left")
    axes.tick_params(labelsize=8, color="#bbb", labelcolor="#555")
    axes.grid(color="#eee", zorder=0)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#bbb")


def _set_limits(axes: "Axes", places: Sequence[Place]) -> None:
    """Room for every point, with its ellipse unless that is larger than the map, at one scale for both axes."""
    points = np.array([place.xy for place in places])
    low, high = points.min(axis=0), points.max(axis=0)
    reach = float((high - low).max()) / 2
    outlines = np.concatenate([place.ellipse() for place in places])
    low = np.maximum(np.minimum(low, outlines.min(axis=0)), low - reach)
    high = np.minimum(np.maximum(high, outlines.max(axis=0)), high + reach)
    panel = axes.get_window_extent()
    size = np.array([panel.width, panel.height])
    half = size * ((high - low) / size).max() * (0.5 + _MARGIN)
    middle = (low + high) / 2
    axes.set_xlim(middle[0] - half[0], middle[0] + half[0])
    axes.set_ylim(middle[1] - half[1], middle[1] + half[1])


def _look(point: Point, looks: dict[str | None, _Look]) -> _Look:
    if point.kind == "model":
        return looks[point.region]
    return {
        "persona": _Look(*_PERSONA, 46),
        "majority": _Look(*_MAJORITY, 170),
        "baseline": _Look(*_BASELINE, 90),
    }[point.kind]


def _legend(points: Sequence[Point], looks: dict[str | None, _Look]) -> "list[Line2D]":
    from matplotlib.lines import Line2D

    entries = [("persona (simulated)", _Look(*_PERSONA, 46))]
    if any(point.kind == "majority" for point in points):
        entries.append(("majority of all personas", _Look(*_MAJORITY, 170)))
    if any(point.kind == "baseline" for point in points):
        entries.append(("baseline, fitted to the target", _Look(*_BASELINE, 90)))
    if looks:
        entries += [
            ("model" if len(looks) == 1 and region is None else f"model, {region or _NO_REGION}", look)
            for region, look in looks.items()
        ]
    return [
        Line2D([], [], color=look.color, marker=look.marker, linestyle="", markersize=look.size**0.5, label=text)
        for text, look in entries
    ]


def _wrapped(text: str) -> str:
    return fill(text, 108, subsequent_indent="    ")
