"""Charts of rows: values with intervals, bars to two sides, stacked bars and heat maps.

Each takes names and arrays, and knows nothing of evaluations or runs.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fairpp_hf.drawing.canvas import WIDTH, Canvas, Chart, bar, dot, ink_on, say, say_left
from fairpp_hf.drawing.texts import in_lines, number, percent, with_interval
from fairpp_hf.drawing.theme import EMPTY, INK, LINE, MUTED, SHADES, Fill, Look

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_Floats = NDArray[np.float64]


class Party(NamedTuple):
    """A persona or a system in charts."""

    name: str
    """Name in tables and texts."""
    label: str
    """Name in figures: a number where their font lacks a letter of `name`."""
    look: Look


class Value(NamedTuple):
    """A row of `interval_chart`."""

    party: Party
    value: float | None
    interval: tuple[float, float] | None = None
    ticks: tuple[float, ...] = ()
    """Other values to see this one beside, such as chance."""


def interval_chart(
    key: str,
    title: str,
    values: Sequence[Value],
    *,
    axis: str,
    head: str = "value",
    line: float | None = 0.0,
    ticks: str = "",
    lowest: float = -np.inf,
    form: Callable[[float | None], str] = number,
    note: str = "",
) -> Chart:
    """A row each: the value as a marker, its 95% interval as a line, other values as small ticks.

    Args:
        key: Key of the chart.
        title: Title of the chart.
        values: Rows from the top.
        axis: What the numbers are, in one line below them.
        head: Heading of the numbers.
        line: Value of a line through all rows, which is always on the axis; None for no line.
        ticks: What the small ticks are, for the table and the words; empty without any.
        lowest: Values below it are drawn at it, so that they do not press the others together.
        form: Writes a value.
        note: A sentence below the chart.
    """
    ends = [end for row in values if row.value is not None for end in (row.value, *(row.interval or ()), *row.ticks)]
    ends = [max(end, lowest) for end in ends] + ([] if line is None else [line])
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    span = (high - low) or 1.0
    low, high = low - 0.06 * span, high + 0.06 * span
    rows, step, left = len(values), 0.4, 1.7
    size = (WIDTH, 0.6 + step * rows)

    def paint(canvas: Canvas) -> None:
        axes = canvas.panel((left, 0.5, WIDTH - left - 0.25, step * rows), (low, high), (rows - 0.5, -0.5))
        _scale(axes, low, high, rows, form)
        if line is not None:
            axes.plot([line, line], [-0.5, rows - 0.5], color=MUTED, linewidth=1.2, zorder=1, clip_on=False)
        for row, (party, value, interval, marks) in enumerate(values):
            say_left(axes, row, in_lines(party.label, 22))
            if value is None:
                say(axes, low, row, " not measured", color=MUTED, ha="left")
                continue
            at = max(value, lowest)
            if interval is not None:
                bounds = [max(end, lowest) for end in interval]
                axes.plot(bounds, [row, row], color=INK, linewidth=1.6, clip_on=False, solid_capstyle="round")
            for mark in marks:
                axes.plot([mark, mark], [row - 0.22, row + 0.22], color=MUTED, linewidth=1.6, clip_on=False)
            canvas.tip(dot(axes, at, row, party.look), f"{party.name}: {with_interval(value, interval)}")
            text = form(value) if at == value else f"◀ {form(value)}"
            say(axes, at, row - 0.2, text, va="bottom", ha="center" if at == value else "left")
        say(axes, high, rows - 0.5 + 0.3 / step, axis, color=MUTED, va="top", ha="right")

    heads = ("", head, "95% from", "95% to", *([ticks] if ticks else []))
    table = [
        [
            row.party.name,
            form(row.value),
            *(map(form, row.interval) if row.interval else ("none", "none")),
            *([", ".join(map(form, row.ticks))] if ticks else []),
        ]
        for row in values
    ]
    said = "; ".join(f"{row.party.name} {with_interval(row.value, row.interval)}" for row in values)
    return Chart(key, title, f"{title}: {said}.", size, paint, heads, table, _notes(note))


def _scale(axes: "Axes", low: float, high: float, rows: int, form: Callable[[float | None], str]) -> None:
    """Thin lines at round numbers, the numbers below them."""
    from matplotlib.ticker import MaxNLocator

    for tick in MaxNLocator(4).tick_values(low, high):
        if low <= tick <= high:
            axes.plot([tick, tick], [-0.5, rows - 0.5], color=LINE, linewidth=0.9, zorder=0, clip_on=False)
            text = percent(tick) if form is percent else f"{tick:g}"
            say(axes, tick, rows - 0.42, text, size=8, color=MUTED, va="top")


def diverging_bars(
    key: str,
    title: str,
    labels: Sequence[str],
    target: tuple[Party, _Floats],
    systems: Sequence[tuple[Party, _Floats]],
    fills: Sequence[Fill],
    *,
    sides: Sequence[tuple[str, str]] | None = None,
    headings: Mapping[int, str] | None = None,
) -> Chart:
    """A row a label: the target's share of the first option as a bar to the left, of the second to the right.

    The systems' shares are markers on both sides. What is missing to 100% went to the other options.

    Args:
        key: Key of the chart.
        title: Title of the chart.
        labels: Names of the m rows.
        target: Who the bars are, and shares, (m, K) over the options, NaN for none.
        systems: Who the markers are, and shares of each, (m, K).
        fills: Fill of each option.
        sides: What the first and the second option are, for each row; written above it.
        headings: Row to the heading above it.
    """
    party, shares = target
    step, left = 0.3, 1.75
    places, place = [], 0.0
    for row in range(len(labels)):
        place += 1.0 * (headings is not None and row in headings) + 0.75 * (sides is not None)
        places.append(place)
        place += 1.0
    legend = 0.2 * -(-(len(systems) + 2) // 2) + 0.1
    height = step * place
    size = (WIDTH, height + 0.45 + legend)
    everything = np.concatenate([shares[:, :2], *(found[:, :2] for _, found in systems)])
    reach = min(1.0, 1.08 * float(np.nanmax(everything))) if np.isfinite(everything).any() else 1.0

    def paint(canvas: Canvas) -> None:
        inside = (left, 0.4 + legend, WIDTH - left - 0.25, height)
        axes = canvas.panel(inside, (-reach, reach), (place - 0.5, -0.5))
        for level in (-0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75):
            if abs(level) < reach:
                color = MUTED if level == 0 else LINE
                axes.plot([level, level], [-0.5, place - 0.5], color=color, linewidth=0.9, zorder=0, clip_on=False)
                say(axes, level, place - 0.4, f"{abs(level):.0%}", size=8, color=MUTED, va="top")
        for row, y in enumerate(places):
            if headings and row in headings:
                say_left(axes, y - 1, headings[row], bold=True)
            label = in_lines(labels[row], 28)
            say_left(axes, y, label, size=7.5 if "\n" in label else 8.5)
            if sides is not None:
                for side, text in zip((-1, 1), sides[row], strict=True):
                    say(axes, side * 0.02, y - 0.72, text, size=7.5, color=MUTED, ha="right" if side < 0 else "left")
            for side, option in ((-1, 0), (1, 1)):
                if np.isnan(shares[row, option]):
                    continue
                piece = bar(axes, min(0.0, side * shares[row, option]), y, shares[row, option], 0.7, fills[option])
                canvas.tip(piece, f"{party.name}, {labels[row]}: {_in_words(shares[row], fills)}")
                for system, found in systems:
                    if not np.isnan(found[row, option]):
                        marker = dot(axes, side * found[row, option], y, system.look, 5.5)
                        canvas.tip(marker, f"{system.name}, {labels[row]}: {_in_words(found[row], fills)}")
        rows = -(-(len(systems) + 2) // 2)
        below = canvas.panel((0.25, 0.05, WIDTH - 0.4, legend), (0, 2), (rows, 0))
        for side, option in ((0, 0), (1, 1)):
            bar(below, side, 0.5, 0.07, 0.55, fills[option])
            say(below, side + 0.1, 0.5, in_lines(f"{party.label}, {fills[option].label}", 29, 1), size=8, ha="left")
        for spot, (system, _) in enumerate(systems, 2):
            dot(below, spot % 2 + 0.035, spot // 2 + 0.5, system.look, 6)
            say(below, spot % 2 + 0.1, spot // 2 + 0.5, in_lines(system.label, 29, 1), size=8, ha="left")

    table = [
        [labels[row], who.name, *map(percent, found[row])]
        for row in range(len(labels))
        for who, found in ((party, shares), *systems)
    ]
    said = "; ".join(f"{label} {_in_words(shares[row], fills)}" for row, label in enumerate(labels))
    return Chart(
        key,
        title,
        f"Bars to two sides, {party.name}: {said}. Markers: {', '.join(who.name for who, _ in systems) or 'none'}.",
        size,
        paint,
        ("", "of", *(fill.label for fill in fills)),
        table,
    )


def _in_words(shares: _Floats, fills: Sequence[Fill]) -> str:
    return ", ".join(f"{fill.label} {percent(share)}" for fill, share in zip(fills, shares, strict=True))


def stacked_bars(
    key: str,
    title: str,
    labels: Sequence[str],
    columns: Mapping[str, _Floats],
    fills: Sequence[Fill],
    *,
    names: Sequence[str] | None = None,
    empty: str = "no valid answer",
    note: str = "",
) -> Chart:
    """A bar of 100% for each row, in one or several columns.

    Args:
        key: Key of the chart.
        title: Title of the chart.
        labels: Names of the m rows.
        columns: Heading, of one or more lines, to shares of the K parts, (m, K), NaN for none.
        fills: The K parts.
        names: Names of the rows in tables and texts, if figures cannot show them.
        empty: What is written where there are no shares.
        note: A sentence below the chart.
    """
    names = names or labels
    step, left, gap = 0.3, 1.9, 0.12
    width = WIDTH - left - 0.15 if len(columns) == 1 else 1.7
    most = max(heading.count("\n") + 1 if heading else 0 for heading in columns)
    whole = left + (width + gap) * len(columns)
    per_row = max(1, min(len(fills), int((whole - 0.3) / 1.3)))
    legend = 0.22 * -(-len(fills) // per_row)
    height = step * len(labels)
    size = (whole, height + legend + 0.2 + 0.16 * most)

    def paint(canvas: Canvas) -> None:
        for place, (heading, shares) in enumerate(columns.items()):
            inside = (left + place * (width + gap), legend + 0.12, width, height)
            axes = canvas.panel(inside, (0, 1), (len(labels) - 0.5, -0.5))
            say(axes, 0.5, -0.6, heading, size=8.5, va="bottom")
            for row, label in enumerate(labels):
                if place == 0:
                    say_left(axes, row, in_lines(label, 26))
                if np.isnan(shares[row]).any():
                    say(axes, 0.5, row, empty, size=8, color=MUTED)
                    continue
                start = 0.0
                for fill, share in zip(fills, shares[row], strict=True):
                    if share > 0:
                        canvas.tip(bar(axes, start, row, share, 0.8, fill), f"{names[row]}, {fill.label}: {share:.1%}")
                    # A number that does not fit in its piece would be read as its neighbour's.
                    text = f"{100 * share:.0f}"
                    if share * width > 0.03 + 0.06 * len(text) and not fill.hatch:
                        say(axes, start + share / 2, row, text, size=8, color=ink_on(fill.color))
                    start += share
        below = canvas.panel((0.15, 0.02, whole - 0.3, legend), (0, per_row), (-(-len(fills) // per_row), 0))
        for spot, fill in enumerate(fills):
            x, y = spot % per_row, spot // per_row + 0.5
            bar(below, x, y, 0.14 * per_row / (whole - 0.3), 0.6, fill)
            say(below, x + 0.2 * per_row / (whole - 0.3), y, fill.label, size=8, ha="left")

    table = [
        [name, *([heading.replace("\n", ", ")] if len(columns) > 1 else []), *map(percent, shares[row])]
        for heading, shares in columns.items()
        for row, name in enumerate(names)
    ]
    said = "; ".join(f"{row[0]} {fills[0].label} {row[-len(fills)]}" for row in table)
    heads = ("", *([""] if len(columns) > 1 else []), *(fill.label for fill in fills))
    return Chart(key, title, f"Stacked bars: {said}.", size, paint, heads, table, _notes(note))


def heat_map(
    key: str,
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    values: _Floats,
    *,
    what: str,
    form: Callable[[float], str] = lambda value: f"{value:.2f}".lstrip("0") or "0",
    names: tuple[Sequence[str], Sequence[str]] | None = None,
    limits: tuple[float, float] | None = None,
    note: str = "",
) -> Chart:
    """A table of coloured cells with their numbers; a cell of a row with itself, or masked, is left out.

    Args:
        key: Key of the chart.
        title: Title of the chart.
        rows: Names of the m rows in the figure.
        columns: Headings of the n columns: short marks, or names, which are turned.
        values: (m, n); infinite for a cell that is left out, NaN for one without a value.
        what: What the numbers are, in a few words.
        form: Writes a number.
        names: Names of rows and columns in tables and texts, where they differ.
        limits: Values of the lightest and the darkest colour; the values' own by default, from 0.
        note: A sentence below the chart.
    """
    from matplotlib import colormaps

    row_names, column_names = names or (rows, columns)
    found = values[np.isfinite(values)]
    low, high = limits or (0.0, float(found.max()) if len(found) else 1.0)
    turned = max(map(len, columns), default=0) > 3
    left, top = 2.1, min(1.35, 0.12 + 0.07 * max(map(len, columns), default=0)) if turned else 0.28
    right = 0.8 if turned else 0.1
    cell = min(0.46, (WIDTH - left - right) / max(len(columns), 1))
    height = max(0.27, min(cell, 0.36))
    size = (WIDTH, top + height * len(rows) + 0.1)

    def paint(canvas: Canvas) -> None:
        axes = canvas.panel(
            (left, 0.06, cell * len(columns), height * len(rows)), (-0.5, len(columns) - 0.5), (len(rows) - 0.5, -0.5)
        )
        for x, column in enumerate(columns):
            say(
                *(axes, x - 0.25 * turned, -0.62, in_lines(column, 22, 1)),
                color=MUTED,
                va="bottom",
                ha="left" if turned else "center",
                rotation=40 if turned else 0,
                size=8,
            )
        for y, row in enumerate(rows):
            say_left(axes, y, in_lines(row, 29, 1))
            for x in range(len(columns)):
                value = values[y, x]
                if np.isinf(value):
                    continue
                depth = 0.05 + 0.85 * min(1.0, max(0.0, (value - low) / ((high - low) or 1.0)))
                face = EMPTY if np.isnan(value) else colormaps[SHADES](depth)
                text = "–" if np.isnan(value) else form(value)
                canvas.tip(bar(axes, x - 0.48, y, 0.96, 0.96, face), f"{row_names[y]} and {column_names[x]}: {text}")
                say(axes, x, y, text, size=8 if cell > 0.3 else 7, color=ink_on(face))

    table = [
        [name, *("" if np.isinf(value) else number(value) for value in values[y])] for y, name in enumerate(row_names)
    ]
    said = f"Heat map, {what}.{_extremes(values, row_names, column_names)}"
    return Chart(key, title, said, size, paint, ("", *columns), table, _notes(note))


def _extremes(values: _Floats, rows: Sequence[str], columns: Sequence[str]) -> str:
    """A sentence on the smallest and the largest value."""
    if not np.isfinite(values).any():
        return ""
    found = np.where(np.isfinite(values), values, np.nan)
    low, high = (np.unravel_index(int(pick(found)), found.shape) for pick in (np.nanargmin, np.nanargmax))
    said = [f"{rows[int(y)]} and {columns[int(x)]}, {number(float(found[y, x]))}" for y, x in (low, high)]
    return f" Smallest: {said[0]}. Largest: {said[1]}."


def _notes(note: str) -> tuple[str, ...]:
    return (note,) if note else ()
