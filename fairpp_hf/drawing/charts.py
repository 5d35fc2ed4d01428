"""Charts of rows: values with intervals, bars to two sides, stacked bars and heat maps.

Each takes names and arrays, and knows nothing of evaluations or runs.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fairpp_hf.drawing.canvas import LEGEND_ROW, WIDTH, Canvas, Chart, bar, dot, ink_on, legend, say, say_left
from fairpp_hf.drawing.texts import in_lines, number, percent, with_interval
from fairpp_hf.drawing.theme import EMPTY, INK, LINE, MUTED, SHADES, Fill, Look

_Floats = NDArray[np.float64]


class Party(NamedTuple):
    """A persona or a system in charts."""

    name: str
    """Name in tables and texts."""
    label: str
    """Name in figures: a number where their font lacks a letter of `name`."""
    look: Look | None = None


class Value(NamedTuple):
    """A row of `interval_chart`."""

    party: Party
    value: float | None
    interval: tuple[float, float] | None = None
    tick: float | None = None
    """Another value to see this one beside, such as chance."""


def interval_chart(
    key: str,
    title: str,
    values: Sequence[Value],
    *,
    axis: str,
    lines: Mapping[str, float],
    head: str = "value",
    tick: str,
    form: Callable[[float | None], str] = number,
    note: str = "",
) -> Chart:
    """A row each: the value as a marker, its 95% interval as a line, another value as a small tick."""
    ends = [end for row in values for end in (row.value, row.tick, *(row.interval or ())) if end is not None]
    low, high = min([0.0, *ends, *lines.values()]), max([0.0, *ends, *lines.values()])
    span = (high - low) or 1.0
    low, high = low - 0.06 * span, high + 0.06 * span
    rows, step, left, top = len(values), 0.4, 1.7, 0.17 * len(lines)
    size = (WIDTH, 0.6 + step * rows + top)

    def paint(canvas: Canvas) -> None:
        from matplotlib.ticker import MaxNLocator

        axes = canvas.panel((left, 0.5, WIDTH - left - 0.6, step * rows), (low, high), (rows - 0.5, -0.5))
        right = low + (high - low) * (WIDTH - left - 0.05) / (WIDTH - left - 0.6)
        for place in MaxNLocator(4).tick_values(low, high):
            if low <= place <= high:
                axes.plot([place, place], [-0.5, rows - 0.5], color=LINE, linewidth=0.9, zorder=0, clip_on=False)
                text = percent(place) if form is percent else f"{place:g}"
                say(axes, place, rows - 0.42, text, size=8, color=MUTED, va="top")
        # Names of lines that are near each other would be over each other on one level.
        for level, (text, place) in enumerate(sorted(lines.items(), key=lambda line: line[1])):
            over = -0.5 - (level + 0.5) * 0.17 / step
            axes.plot([place, place], [over + 0.2, rows - 0.5], color=MUTED, linewidth=1.2, zorder=1, clip_on=False)
            say(axes, place, over, text, size=8, color=MUTED)
        for row, (party, value, interval, mark) in enumerate(values):
            say_left(axes, row, in_lines(party.label, 22))
            if value is None:
                say(axes, right, row, "not measured", color=MUTED, ha="right")
                continue
            if interval is not None:
                axes.plot(interval, [row, row], color=INK, linewidth=1.6, clip_on=False, solid_capstyle="round")
            if mark is not None:
                axes.plot([mark, mark], [row - 0.22, row + 0.22], color=MUTED, linewidth=1.6, clip_on=False)
            assert party.look is not None
            canvas.tip(dot(axes, value, row, party.look), f"{party.name}: {with_interval(value, interval)}")
            say(axes, right, row, form(value), ha="right")
        say(axes, right, rows - 0.5 + 0.3 / step, axis, color=MUTED, va="top", ha="right")

    heads = ("", head, "95% from", "95% to", *([tick] if tick else []))
    table = [
        [
            row.party.name,
            form(row.value),
            *(map(form, row.interval) if row.interval else ("none", "none")),
            *([form(row.tick)] if tick else []),
        ]
        for row in values
    ]
    said = "; ".join(f"{row.party.name} {with_interval(row.value, row.interval)}" for row in values)
    return Chart(key, title, f"{title}: {said}.", size, paint, heads, table, _notes(note))


def diverging_bars(
    key: str,
    title: str,
    sides: Mapping[str, tuple[str, str]],
    target: tuple[Party, _Floats],
    systems: Sequence[tuple[Party, _Floats]],
    fills: Sequence[Fill],
) -> Chart:
    """A row a label: the target's share of the first option as a bar to the left, of the second to the right."""
    party, shares = target
    rows, step = len(sides), 0.5
    below = LEGEND_ROW * -(-(len(systems) + 2) // 2) + 0.05
    size = (WIDTH, step * rows + 0.4 + below)
    everything = np.concatenate([found[:, :2] for _, found in (target, *systems)])
    reach = min(1.0, 1.08 * float(np.nanmax(everything))) if np.isfinite(everything).any() else 1.0

    def paint(canvas: Canvas) -> None:
        inside = (0.3, 0.35 + below, WIDTH - 0.6, step * rows)
        axes = canvas.panel(inside, (-reach, reach), (rows - 0.5, -0.5))
        for level in (-0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75):
            if abs(level) < reach:
                color = MUTED if level == 0 else LINE
                axes.plot([level, level], [-0.5, rows - 0.5], color=color, linewidth=0.9, zorder=0, clip_on=False)
                say(axes, level, rows - 0.45, f"{abs(level):.0%}", size=8, color=MUTED, va="top")
        for row, (label, poles) in enumerate(sides.items()):
            y = row + 0.15
            for side, option in ((-1, 0), (1, 1)):
                pole = in_lines(poles[option], 38, 1)
                say(axes, side * 0.02 * reach, row - 0.3, pole, size=8, ha="right" if side < 0 else "left")
                if np.isnan(shares[row, option]):
                    continue
                piece = bar(axes, min(0.0, side * shares[row, option]), y, shares[row, option], 0.45, fills[option])
                canvas.tip(piece, f"{party.name}, {label}: {_in_words(shares[row], fills)}")
                for system, found in systems:
                    if system.look is not None and not np.isnan(found[row, option]):
                        marker = dot(axes, side * found[row, option], y, system.look, 5.5)
                        canvas.tip(marker, f"{system.name}, {label}: {_in_words(found[row], fills)}")
        entries = [(f"{party.label}, {fill.label.partition(':')[0]}", fill) for fill in fills[:2]]
        legend(canvas, 0.3, WIDTH - 0.5, [*entries, *((who.label, who.look) for who, _ in systems if who.look)], 2)

    table = [
        [label, who.name, *map(percent, found[row])]
        for row, label in enumerate(sides)
        for who, found in (target, *systems)
    ]
    said = "; ".join(f"{label} {_in_words(shares[row], fills)}" for row, label in enumerate(sides))
    markers = ", ".join(who.name for who, _ in systems) or "none"
    alt = f"Bars to two sides, {party.name}: {said}. Markers: {markers}."
    return Chart(key, title, alt, size, paint, ("", "of", *(fill.label for fill in fills)), table)


def _in_words(shares: _Floats, fills: Sequence[Fill]) -> str:
    return ", ".join(f"{fill.label} {percent(share)}" for fill, share in zip(fills, shares, strict=True))


def stacked_bars(
    key: str,
    title: str,
    parties: Sequence[Party],
    columns: Mapping[str, _Floats],
    fills: Sequence[Fill],
    *,
    empty: str = "no valid answer",
    note: str = "",
) -> Chart:
    """A bar of 100% for each row, in one or several columns."""
    step, left, gap = 0.3, 1.9, 0.12
    width = WIDTH - left - 0.15 if len(columns) == 1 else 1.7
    most = max(heading.count("\n") + 1 if heading else 0 for heading in columns)
    whole = left + (width + gap) * len(columns)
    per_row = max(1, min(len(fills), int((whole - 0.3) / 1.3)))
    below = LEGEND_ROW * -(-len(fills) // per_row)
    height = step * len(parties)
    size = (whole, height + below + 0.2 + 0.16 * most)

    def paint(canvas: Canvas) -> None:
        for place, (heading, shares) in enumerate(columns.items()):
            inside = (left + place * (width + gap), below + 0.12, width, height)
            axes = canvas.panel(inside, (0, 1), (len(parties) - 0.5, -0.5))
            say(axes, 0.5, -0.6, heading, size=8.5, va="bottom")
            for row, party in enumerate(parties):
                if place == 0:
                    say_left(axes, row, in_lines(party.label, 25), party.look)
                if np.isnan(shares[row]).any():
                    say(axes, 0.5, row, empty, size=8, color=MUTED)
                    continue
                start = 0.0
                for fill, share in zip(fills, shares[row], strict=True):
                    if share > 0:
                        canvas.tip(bar(axes, start, row, share, 0.8, fill), f"{party.name}, {fill.label}: {share:.1%}")
                    # A number that does not fit in its piece would be read as its neighbour's.
                    text = f"{100 * share:.0f}"
                    if share * width > 0.03 + 0.06 * len(text) and not fill.hatch:
                        say(axes, start + share / 2, row, text, size=8, color=ink_on(fill.color))
                    start += share
        legend(canvas, 0.15, whole - 0.3, [(fill.label, fill) for fill in fills], per_row)

    table = [
        [party.name, *([heading.replace("\n", ", ")] if len(columns) > 1 else []), *map(percent, shares[row])]
        for heading, shares in columns.items()
        for row, party in enumerate(parties)
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
    form: Callable[[float], str],
    limits: tuple[float, float] | None = None,
    note: str = "",
) -> Chart:
    """A table of coloured cells with their numbers."""
    from matplotlib import colormaps

    found = values[np.isfinite(values)]
    low, high = limits or (0.0, float(found.max()) if len(found) else 1.0)
    turned = max(map(len, columns), default=0) > 3
    left, top = 2.1, min(1.35, 0.12 + 0.07 * max(map(len, columns), default=0)) if turned else 0.28
    right = 0.8 if turned else 0.1
    cell = min(0.46, (WIDTH - left - right) / max(len(columns), 1))
    height = max(0.27, min(cell, 0.36))
    size = (WIDTH, top + height * len(rows) + 0.1)

    def paint(canvas: Canvas) -> None:
        inside = (left, 0.06, cell * len(columns), height * len(rows))
        axes = canvas.panel(inside, (-0.5, len(columns) - 0.5), (len(rows) - 0.5, -0.5))
        for x, column in enumerate(columns):
            style: dict[str, Any] = {"ha": "left", "rotation": 40} if turned else {}
            say(axes, x - 0.25 * turned, -0.62, in_lines(column, 22, 1), size=8, color=MUTED, va="bottom", **style)
        for y, row in enumerate(rows):
            say_left(axes, y, in_lines(row, 29, 1))
            for x, value in enumerate(values[y]):
                if np.isinf(value):
                    continue
                depth = 0.05 + 0.85 * min(1.0, max(0.0, (value - low) / ((high - low) or 1.0)))
                face = EMPTY if np.isnan(value) else colormaps[SHADES](depth)
                bar(axes, x - 0.48, y, 0.96, 0.96, face)
                text = "–" if np.isnan(value) else form(value)
                say(axes, x, y, text, size=8 if cell > 0.3 else 7, color=ink_on(face))

    return Chart(key, title, f"Heat map: {title}.", size, paint, notes=_notes(note))


def _notes(note: str) -> tuple[str, ...]:
    return (note,) if note else ()
