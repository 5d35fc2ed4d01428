"""What a chart of the report is: a drawing, words for those who cannot see it, and its numbers as a table."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fairpp_hf.evaluation.report.drawing import (
    INK,
    LINE,
    MUTED,
    PAPER,
    WIDTH,
    Drawing,
    Marks,
    bar,
    drawable,
    drawn,
    in_lines,
    ink_on,
    panel,
    say,
    style_of,
)
from fairpp_hf.evaluation.report.folder import Evaluated, System

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Chart:
    """A chart of the page."""

    key: str
    """Unique on the page, and the name of the PNG without the suffix."""
    title: str
    alt: str
    """What it shows, in a sentence or two with the main numbers."""
    draw: Callable[[], Drawing]
    """Takes most of the time, and is asked for once."""
    heads: tuple[str, ...]
    """Of the table of numbers."""
    rows: list[list[str]]
    shown_by: tuple[str, str] | None = None
    """Name of a control, and the value of it with which the chart is shown; None for always."""
    notes: tuple[str, ...] = field(default=())
    """Sentences below it."""


class Labeller:
    """What personas and systems are called in figures: by their number where the font lacks a letter of the name."""

    def __init__(self, evaluated: Evaluated) -> None:
        """Args: evaluated: the folder."""
        self.personas = {
            persona: drawable(evaluated.name(persona)) or f"persona {number}"
            for number, persona in enumerate(evaluated.personas, 1)
        }
        self.systems = [
            drawable(system.name) or f"system {number}" for number, system in enumerate(evaluated.systems, 1)
        ]


def key_of(*parts: str | int) -> str:
    """A file name and id from parts, such as `radar-2-loyal-nationals`."""
    return "-".join(re.sub("[^a-z0-9]+", "-", str(part).lower()).strip("-") or "x" for part in parts)


def number(value: float | None, digits: int = 3) -> str:
    """A number of a table; `none` where there is no value."""
    # Added to 0, a small negative number is not -0.000.
    return "none" if value is None or np.isnan(value) else f"{round(value, digits) + 0.0:.{digits}f}"


def percent(value: float) -> str:
    """Such as `31%`; `none` where there is no value."""
    return "none" if np.isnan(value) else f"{100 * value:.0f}%"


def interval_chart(
    key: str,
    title: str,
    evaluated: Evaluated,
    labels: Labeller,
    of: Callable[[System], tuple[float | None, tuple[float, float] | None]],
    *,
    axis: str,
    zero: bool = True,
    what: str,
) -> Chart:
    """A row a system, but for baselines without a value: the value as a marker, its 95% interval as a line.

    Args:
        key: of the chart.
        title: of the chart.
        evaluated: the folder.
        labels: names in figures.
        of: value and interval of a system.
        axis: what the numbers are, in one line.
        zero: whether 0 is on the axis in any case.
        what: heading of the numbers.
    """
    found = [
        (place, system, *of(system))
        for place, system in enumerate(evaluated.systems)
        # That a baseline was not asked for something says nothing about it.
        if not (system.is_baseline and of(system)[0] is None)
    ]
    ends = [end for _, _, value, interval in found if value is not None for end in (value, *(interval or ()))]
    low, high = min([*ends, *([0.0] * zero)], default=0.0), max([*ends, *([0.0] * zero)], default=1.0)
    span = (high - low) or 1.0
    low, high = low - 0.06 * span, high + 0.06 * span
    rows = len(found)
    step, left = 0.4, 1.7
    # Three of them stand in a row: the narrower, the larger are the letters.
    width = 4.1
    size = (width, 0.55 + step * rows)

    def paint(figure: "Figure") -> tuple[Marks, list["Artist"]]:
        axes = panel(figure, (left, 0.45, width - left - 0.25, step * rows), (low, high), (rows - 0.5, -0.5))
        _grid(axes, low, high, rows)
        marks: Marks = {}
        for row, (place, system, value, interval) in enumerate(found):
            say_left(axes, low, row, in_lines(labels.systems[place], 22))
            if value is None:
                bar(axes, low, row, high - low, 0.5, PAPER)
                say(axes, low, row, " not measured", size=8.5, color=MUTED, ha="left")
                continue
            color, marker = style_of(place)
            if interval is not None:
                axes.plot(interval, [row, row], color=INK, linewidth=1.6, clip_on=False, solid_capstyle="round")
            point = axes.plot(
                [value], [row], marker=marker, color=color, markersize=8, markeredgecolor=INK, markeredgewidth=0.8
            )[0]
            point.set(gid=f"point{row}", clip_on=False)
            marks[f"point{row}"] = {"data-tip": f"{system.name}: {_with(value, interval)}"}
            say(axes, value, row - 0.2, number(value), size=8.5, va="bottom")
        say(axes, high, rows - 0.5 + 0.27 / step, axis, size=8.5, color=MUTED, va="top", ha="right")
        return marks, []

    table = [
        [system.name, number(value), *(map(number, interval) if interval else ("none", "none"))]
        for _, system, value, interval in found
    ]
    said = "; ".join(f"{system.name} {_with(value, interval)}" for _, system, value, interval in found)
    return Chart(
        key, title, f"{title}: {said}.", partial(drawn, key, size, paint), ("system", what, "95% from", "95% to"), table
    )


def _with(value: float | None, interval: Sequence[float] | None) -> str:
    return number(value) + ("" if interval is None else f" [{number(interval[0])}, {number(interval[1])}]")


def say_left(axes: "Axes", x: float, y: float, text: str, *, bold: bool = False, size: float = 8.5) -> None:
    """A row's name, to the left of the axes."""
    offset = 7 / 72 / axes.figure.get_size_inches()[0] / axes.get_position().width  # type: ignore[union-attr]
    span = axes.get_xlim()[1] - axes.get_xlim()[0]
    say(axes, x - offset * span, y, text, size=size, ha="right", bold=bold)


def _grid(axes: "Axes", low: float, high: float, rows: int) -> None:
    """Thin lines at round numbers, the numbers below them."""
    from matplotlib.ticker import MaxNLocator

    for tick in MaxNLocator(4).tick_values(low, high):
        if low <= tick <= high:
            at_zero = abs(tick) < 1e-9
            axes.plot(
                [tick, tick],
                [-0.5, rows - 0.5],
                color=MUTED if at_zero else LINE,
                linewidth=0.9,
                zorder=0,
                clip_on=False,
            )
            say(axes, tick, rows - 0.42, f"{tick:g}", size=8, color=MUTED, va="top")


def heat_map(
    key: str,
    title: str,
    labels: Sequence[str],
    names: Sequence[str],
    columns: Sequence[int],
    distances: NDArray[np.float64],
    marks_of: Sequence[str],
    shown_by: tuple[str, str],
    measure: str,
) -> Chart:
    """Distances as a table of coloured cells with their numbers; columns are headed by the rows' short marks.

    Args:
        key: of the chart.
        title: of the chart.
        labels: of the rows in the figure.
        names: of the rows in words.
        columns: which rows are columns as well.
        distances: (rows, rows), 0 to 0.8326, NaN for none.
        marks_of: a short mark of each row.
        shown_by: control and value.
        measure: what the distance is, in a few words.
    """
    from matplotlib import colormaps

    rows, left = len(labels), 2.15
    cell = min(0.42, (WIDTH - left - 0.1) / len(columns))
    height = max(0.27, min(cell, 0.34))
    size = (WIDTH, 0.3 + height * rows + 0.08)
    off = distances[~np.eye(rows, dtype=bool)]
    top = float(np.nanmax(off)) if np.isfinite(off).any() else 1.0

    def paint(figure: "Figure") -> tuple[Marks, list["Artist"]]:
        axes = panel(
            figure, (left, 0.06, cell * len(columns), height * rows), (-0.5, len(columns) - 0.5), (rows - 0.5, -0.5)
        )
        marks: Marks = {}
        for x, column in enumerate(columns):
            say(axes, x, -0.62, marks_of[column], size=8.5, color=MUTED, va="bottom")
        for y in range(rows):
            say_left(axes, -0.5, y, f"{in_lines(labels[y], 27, 1)}  {marks_of[y]}")
            for x, column in enumerate(columns):
                if column == y:
                    continue
                value = distances[y, column]
                face = "#f2f2f2" if np.isnan(value) else colormaps["YlGnBu"](0.05 + 0.85 * value / (top or 1.0))
                bar(axes, x - 0.48, y, 0.96, 0.96, face, gid=f"cell{y}-{x}")
                marks[f"cell{y}-{x}"] = {"data-tip": f"{names[y]} and {names[column]}: {number(value)}"}
                text = "–" if np.isnan(value) else f"{value:.2f}".lstrip("0") or "0"
                say(axes, x, y, text, size=8 if cell > 0.3 else 7, color=ink_on(face))
        return marks, []

    table = [
        [f"{marks_of[y]} {names[y]}", *("" if column == y else number(distances[y, column]) for column in columns)]
        for y in range(rows)
    ]
    pairs = [
        (distances[y, column], names[y], names[column])
        for y in range(rows)
        for column in columns
        if (y > column or y not in columns) and np.isfinite(distances[y, column])
    ]
    said = ""
    if pairs:
        near, far = min(pairs), max(pairs)
        said = (
            f" Nearest: {near[1]} and {near[2]}, {number(near[0])}. Furthest: {far[1]} and {far[2]}, {number(far[0])}."
        )
    return Chart(
        key,
        title,
        f"Heat map, {measure}.{said}",
        partial(drawn, key, size, paint),
        ("", *(marks_of[column] for column in columns)),
        table,
        shown_by=shown_by,
    )
