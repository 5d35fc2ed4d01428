"""Charts with two scales: lines, columns and points."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fairpp_hf.drawing.canvas import WIDTH, Canvas, Chart, bar, dot, say, say_left
from fairpp_hf.drawing.charts import Party
from fairpp_hf.drawing.texts import in_lines, percent
from fairpp_hf.drawing.theme import INK, LINE, MUTED, Look, option_fill

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_Floats = NDArray[np.float64]


def line_chart(
    key: str, title: str, lines: Sequence[tuple[Party, _Floats]], counts: Sequence[int], *, axis: str, note: str
) -> Chart:
    """A line each over the whole numbers from 0, with shares from 0 to 100%.

    Args:
        key: Key of the chart.
        title: Title of the chart.
        lines: Who a line is of, and its values, (m,), NaN for none.
        counts: How many questions there are at each of the m numbers; written below it.
        axis: What the m numbers are.
        note: A sentence below the chart.
    """
    count, left, width = len(counts), 0.6, WIDTH - 0.8
    legend = 0.2 * -(-len(lines) // 2)
    size = (WIDTH, 2.85 + legend)

    def paint(canvas: Canvas) -> None:
        axes = canvas.panel((left, 0.7 + legend, width, 2.0), (-0.5, count - 0.5), (0, 1))
        _levels(axes)
        for place, questions in enumerate(counts):
            say(axes, place, -0.03, str(place), va="top")
            say(axes, place, -0.11, f"n {questions:,}", size=7, color=MUTED, va="top")
        say(axes, (count - 1) / 2, -0.2, axis, color=MUTED, va="top")
        below = canvas.panel((left, 0.1, width, legend), (0, 2), (-(-len(lines) // 2), 0))
        for row, (party, values) in enumerate(lines):
            line = axes.plot(range(count), values, color=party.look.color, linewidth=1.6, clip_on=False)[0]
            said = ", ".join(f"{place}: {percent(value)}" for place, value in enumerate(values))
            canvas.tip(line, f"{party.name}: {said}")
            for place, value in enumerate(values):
                if not np.isnan(value):
                    dot(axes, place, value, party.look, 6)
            x, y = row % 2, row // 2 + 0.5
            dot(below, x + 0.04, y, party.look, 6)
            say(below, x + 0.1, y, in_lines(party.label, 26, 1), ha="left")

    rows = [["questions", *(f"{questions:,}" for questions in counts)]]
    rows += [[party.name, *map(percent, values)] for party, values in lines]
    said = "; ".join(
        f"{party.name} {percent(values[0])} at 0, {percent(values[-1])} at {count - 1}" for party, values in lines
    )
    return Chart(key, title, f"Lines by {axis}: {said}.", size, paint, ("", *map(str, range(count))), rows, (note,))


def _levels(axes: "Axes") -> None:
    """Thin lines at the quarters of 100%, their numbers at the left."""
    low, high = axes.get_xlim()
    for level in (0, 0.25, 0.5, 0.75, 1):
        axes.plot([low, high], [level, level], color=LINE, linewidth=0.8, zorder=0, clip_on=False)
        say_left(axes, level, f"{level:.0%}")


def column_chart(key: str, title: str, counts: Sequence[int], *, highest: int) -> Chart:
    """A small chart with a column of each count, numbered from 0, up to `highest`."""
    count = len(counts)
    size = (max(2.3, 0.27 * count), 1.4)

    def paint(canvas: Canvas) -> None:
        axes = canvas.panel((0.05, 0.22, size[0] - 0.1, 1.0), (-0.6, count - 0.4), (0, highest or 1))
        axes.plot([-0.6, count - 0.4], [0, 0], color=MUTED, linewidth=0.9)
        for place, questions in enumerate(counts):
            bar(axes, place - 0.4, questions / 2, 0.8, questions, option_fill(0, "").color)
            say(axes, place, questions + 0.02 * highest, short_count(questions), size=7, va="bottom")
            say(axes, place, -0.04 * highest, str(place), size=8, va="top")

    return Chart(key, title, title, size, paint)


def short_count(count: int) -> str:
    """A count in at most four characters, such as 860, 7.1k or 12k."""
    return str(count) if count < 1000 else f"{count / 1000:.1f}k" if count < 9950 else f"{count / 1000:.0f}k"


class Spot(NamedTuple):
    """A point of `scatter_chart`."""

    x: float
    y: float
    y_interval: tuple[float, float] | None
    is_firm: bool
    """Whether its marker is filled."""


def scatter_chart(
    key: str, title: str, spots: Sequence[tuple[Party, Sequence[Spot]]], *, axes_names: tuple[str, str], note: str
) -> Chart:
    """Points of several parties between 0 and 1 on both axes, with the diagonal, on which both are alike."""
    side = WIDTH - 0.9
    legend = 0.2 * -(-len(spots) // 2)
    size = (WIDTH, side + 0.7 + legend)

    def paint(canvas: Canvas) -> None:
        axes = canvas.panel((0.6, 0.6 + legend, side, side), (-0.03, 1.03), (-0.03, 1.03))
        _levels(axes)
        for level in (0, 0.25, 0.5, 0.75, 1):
            axes.plot([level, level], [-0.03, 1.03], color=LINE, linewidth=0.8, zorder=0)
            say(axes, level, -0.05, f"{level:.0%}", va="top")
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, zorder=1)
        say(axes, 0.5, -0.11, axes_names[0], color=MUTED, va="top")
        say(axes, -0.16, 0.5, axes_names[1], color=MUTED, rotation=90)
        below = canvas.panel((0.3, 0.05, WIDTH - 0.4, legend), (0, 2), (-(-len(spots) // 2), 0))
        for row, (party, found) in enumerate(spots):
            for spot in found:
                if spot.y_interval is not None:
                    axes.plot([spot.x, spot.x], spot.y_interval, color=party.look.color, linewidth=1, zorder=2)
                dot(axes, spot.x, spot.y, Look(*party.look[:2], hollow=not spot.is_firm), 6)
            dot(below, row % 2 + 0.04, row // 2 + 0.5, party.look, 6)
            say(below, row % 2 + 0.1, row // 2 + 0.5, in_lines(party.label, 28, 1), color=INK, ha="left")

    return Chart(key, title, f"{title}: {axes_names[1]} against {axes_names[0]}.", size, paint, notes=(note,))
