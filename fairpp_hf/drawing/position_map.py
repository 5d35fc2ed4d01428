"""The map: personas, their majority and the systems in two dimensions, the same on the page and in positions.png."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fairpp_hf.drawing.canvas import LEGEND_ROW, WIDTH, Canvas, Chart, dot, legend, say
from fairpp_hf.drawing.labels import Label, write_labels
from fairpp_hf.drawing.texts import in_lines
from fairpp_hf.drawing.theme import BASELINES, INK, LINE, MUTED, PERSONA, Look, drawable, system_looks
from fairpp_hf.evaluation.baselines import MAJORITY
from fairpp_hf.evaluation.positioning.positions import FEW_QUESTIONS
from fairpp_hf.evaluation.positioning.report import TITLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_NAMES = 6
"""Models beyond which they are numbered on the map, and named below it: in a crowd there is no room for names."""
_MARGIN = 0.1
"""Share of what is drawn that is free on each side, for labels."""
_UNITS = {"pca": "Hellinger distance", "ideal_point": "log-odds of pole A to pole B"}


def methods_of(positions: Mapping[str, Any]) -> list[str]:
    """The maps, by `TITLES`, on which some point has a place."""
    return [method for method in TITLES if any(point.get(method) for point in positions["points"])]


def position_chart(method: str, positions: Mapping[str, Any], systems: Sequence[str] = ()) -> Chart:
    """The map by one method of `TITLES`; systems of an evaluation beside it have the same look here as there."""
    points = [point for point in positions["points"] if point.get(method)]
    places = np.array([point[method]["xy"] for point in points], dtype=float)
    regions = [np.array(point[method].get("ellipse_95") or [], dtype=float).reshape(-1, 2) for point in points]
    place_of = {point["name"]: place for point, place in zip(points, places, strict=True)}
    arrows = [
        (place_of[start], place_of[point["name"]]) for point in points if (start := point.get("before")) in place_of
    ]
    others = [point["name"] for point in positions["points"] if point["kind"] in ("baseline", "model")]
    by_name = system_looks([*systems, *others])
    fixed = {"persona": PERSONA, "majority": BASELINES[MAJORITY]}
    looks = [fixed.get(point["kind"]) or by_name[point["name"]] for point in points]
    models = [point["name"] for point in points if point["kind"] == "model"]
    numbers = {name: str(place) for place, name in enumerate(models, 1)} if len(models) > _MOST_NAMES else {}
    shown = [drawable(point["name"], f"{point['kind']} {place}") for place, point in enumerate(points, 1)]
    labels = [numbers.get(point["name"], label) for point, label in zip(points, shown, strict=True)]
    entries = _legend(points, shown, numbers, looks)
    below, side = LEGEND_ROW * len(entries), WIDTH - 0.5

    def paint(canvas: Canvas) -> None:
        axes = canvas.panel((0.4, 0.4 + below, side, side), *_limits(places, regions))
        _frame(axes, method, positions)
        for point, look, place, region in zip(points, looks, places, regions, strict=True):
            if len(region):
                axes.fill(*region.T, facecolor=look.color, alpha=0.13, edgecolor="none", zorder=1)
                axes.plot(*np.concatenate([region, region[:1]]).T, color=look.color, linewidth=0.7, alpha=0.8, zorder=1)
            details = ", ".join(text for text in (point["kind"], point.get("region")) if text)
            canvas.tip(
                dot(axes, float(place[0]), float(place[1]), look),
                f"{point['name']} ({details}): {place[0]:.3f}, {place[1]:.3f}",
            )
        for start, end in arrows:
            style = {"arrowstyle": "-|>", "shrinkA": 6, "shrinkB": 6, "mutation_scale": 11}
            axes.annotate("", tuple(end), tuple(start), arrowprops={**style, "color": INK, "linewidth": 1.3}, zorder=3)
        # The legend names the baselines; in the middle of the map, there is no room for their names.
        named = [place for place, point in enumerate(points) if point["kind"] in ("persona", "model")]
        said = [in_lines(label, 16 if look is PERSONA else 24) for label, look in zip(labels, looks, strict=True)]
        write_labels(
            axes,
            [Label(said[at], (float(places[at, 0]), float(places[at, 1])), looks[at] is PERSONA) for at in named],
            size=8,
            lines=[*arrows, *((places[at], places[at]) for at in range(len(points)) if at not in named)],
        )
        legend(canvas, 0.35, side, entries)

    rows = [
        [
            f"{numbers[point['name']]} {point['name']}" if point["name"] in numbers else point["name"],
            point["kind"],
            point.get("region") or "",
            point.get("before") or "",
            *(f"{coordinate:.3f}" for coordinate in place),
        ]
        for point, place in zip(points, places, strict=True)
    ]
    told = "; ".join(f"{row[0]} at {row[4]}, {row[5]}" for row in rows)
    return Chart(
        f"map-{method.replace('_', '-')}",
        TITLES[method],
        f"{TITLES[method]}: {len(points)} points. {told}.",
        (WIDTH, side + 0.45 + below),
        paint,
        ("name", "kind", "region", "before", "x", "y"),
        rows,
        notes=tuple(_notes(method, positions, bool(arrows), any(map(len, regions)))),
    )


def _legend(
    points: Sequence[Mapping[str, Any]], shown: Sequence[str], numbers: Mapping[str, str], looks: Sequence[Look]
) -> list[tuple[str, Look]]:
    entries: dict[str, Look] = {}
    for point, label, look in zip(points, shown, looks, strict=True):
        fixed = {"persona": "personas", "majority": "majority of all personas", "baseline": f"{label}, a baseline"}
        text = fixed.get(point["kind"], f"{numbers.get(point['name'], '')} {label}".strip())
        region = drawable(point.get("region") or "") if point["kind"] == "model" else ""
        entries.setdefault(f"{text}, {region}" if region else text, look)
    return list(entries.items())


def _notes(method: str, positions: Mapping[str, Any], has_arrows: bool, has_regions: bool) -> list[str]:
    axes = (positions["methods"].get(method) or {}).get("axes") or []
    said = [f"{text[0].upper()}{text[1:]}." for text in axes if text]
    if has_arrows:
        said.append("Arrows lead from before to after alignment.")
    if has_regions:
        few = positions["questions"] < FEW_QUESTIONS
        unsure = f", which are not to be relied on under {FEW_QUESTIONS} questions" if few else ""
        said.append(f"Shaded: 95% regions{unsure}. Distances: {_UNITS[method]}.")
    return said


def _limits(
    places: NDArray[np.float64], regions: Sequence[NDArray[np.float64]]
) -> tuple[tuple[float, float], tuple[float, float]]:
    """A square with room for every point, and for its region unless that is larger than the map."""
    low, high = places.min(axis=0), places.max(axis=0)
    reach = float((high - low).max()) / 2
    outlines = np.concatenate([places, *regions])
    low = np.maximum(np.minimum(low, outlines.min(axis=0)), low - reach)
    high = np.minimum(np.maximum(high, outlines.max(axis=0)), high + reach)
    half = float((high - low).max() or 1.0) * (0.5 + _MARGIN)
    x, y = ((float(middle) - half, float(middle) + half) for middle in (low + high) / 2)
    return x, y


def _frame(axes: "Axes", method: str, positions: Mapping[str, Any]) -> None:
    found = positions["methods"].get(method) or {}
    shares = found.get("explained_variance") or found.get("spread")
    said = [f", {share:.0%} of the personas' sample variance" for share in shares] if shares else ["", ""]
    x, y = axes.get_xlim(), axes.get_ylim()
    axes.plot([x[0], x[1], x[1], x[0], x[0]], [y[0], y[0], y[1], y[1], y[0]], color=LINE, linewidth=1, clip_on=False)
    if x[0] < 0 < x[1]:
        axes.plot([0, 0], y, color=LINE, linewidth=0.8, zorder=0)
    if y[0] < 0 < y[1]:
        axes.plot(x, [0, 0], color=LINE, linewidth=0.8, zorder=0)
    say(axes, sum(x) / 2, y[0] - 0.02 * (y[1] - y[0]), f"first axis{said[0]} →", color=MUTED, va="top")
    name = f"second axis{said[1]} →"
    say(axes, x[0] - 0.025 * (x[1] - x[0]), sum(y) / 2, name, color=MUTED, ha="right", rotation=90)
