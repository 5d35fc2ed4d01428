"""Stacked bars: shares of A, B and C by label, and how replies came out."""

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from fairpp_hf.evaluation.report.charts import Chart, Labeller, percent, say_left
from fairpp_hf.evaluation.report.drawing import (
    MUTED,
    OPTION_COLORS,
    WIDTH,
    Marks,
    bar,
    drawable,
    drawn,
    in_lines,
    ink_on,
    panel,
    say,
)
from fairpp_hf.evaluation.report.folder import Evaluated
from fairpp_hf.evaluation.report.numbers import Shares
from fairpp_hf.schema import OPTION_LETTERS, STATUSES

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def share_chart(
    key: str, title: str, name: str, found: Shares, headings: dict[int, str], shown_by: tuple[str, str]
) -> Chart:
    """A stacked bar a label: shares of A, B and C.

    Args:
        key: of the chart.
        title: of the chart.
        name: of the persona or system.
        found: its shares.
        headings: row of `found` to the heading above it.
        shown_by: control and value.
    """
    step, left = 0.25, 1.95
    places, place = [], 0.0
    for row in range(len(found.labels)):
        place += 1.0 if row in headings else 0.0
        places.append(place)
        place += 1.0
    height = step * place
    size = (WIDTH, height + 0.42)

    def paint(figure: "Figure") -> tuple[Marks, list["Artist"]]:
        _option_legend(figure, left, height + 0.1)
        axes = panel(figure, (left, 0.05, WIDTH - left - 0.15, height), (0, 1), (place - 0.5, -0.5))
        marks: Marks = {}
        for row, y in enumerate(places):
            if row in headings:
                say_left(axes, 0, y - 1, headings[row], bold=True)
            label = in_lines(drawable(found.labels[row]) or f"row {row + 1}", 30)
            say_left(axes, 0, y, label, size=7.5 if "\n" in label else 8.5)
            shares = found.shares[row]
            if np.isnan(shares).any():
                say(axes, 0, y, " no valid answer", size=8, color=MUTED, ha="left")
                continue
            for option, (start, share) in enumerate(zip(np.cumsum(shares) - shares, shares, strict=True)):
                _piece(axes, y, start, share, OPTION_COLORS[option], f"bar{row}-{option}")
            said = ", ".join(f"{letter} {percent(share)}" for letter, share in zip(OPTION_LETTERS, shares, strict=True))
            marks |= {f"bar{row}-{option}": {"data-tip": f"{name}, {found.labels[row]}: {said}"} for option in range(3)}
        return marks, []

    rows = [
        [label, *map(percent, found.shares[row]), f"{found.answered[row]:,} of {found.asked[row]:,}"]
        for row, label in enumerate(found.labels)
    ]
    extremes = ""
    b = found.shares[:, 1]
    if np.isfinite(b).any():
        low, high = int(np.nanargmin(b)), int(np.nanargmax(b))
        extremes = f" Most B: {found.labels[high]}, {percent(b[high])}; least: {found.labels[low]}, {percent(b[low])}."
    return Chart(
        key,
        title,
        f"Stacked bars of {name}, {title.lower()}.{extremes}",
        partial(drawn, key, size, paint),
        ("", "A", "B", "C", "answered"),
        rows,
        shown_by=shown_by,
    )


def _piece(axes: "Axes", y: float, start: float, share: float, color: str, gid: str) -> None:
    """A piece of a stacked bar, with its percentage where that fits."""
    if share <= 0:
        return
    bar(axes, start, y, share, 0.84, color, gid=gid)
    if share >= 0.09:
        say(axes, start + share / 2, y, f"{100 * share:.0f}", size=8, color=ink_on(color))


def _option_legend(figure: "Figure", left: float, bottom: float) -> None:
    axes = panel(figure, (left, bottom, WIDTH - left - 0.15, 0.25), (0, 3), (0, 1))
    for option, text in enumerate(("A: first pole", "B: second", "C: neither")):
        x = (0, 1.15, 2.1)[option]
        _piece_key(axes, x, OPTION_COLORS[option])
        say(axes, x + 0.19, 0.5, text, size=8, ha="left")


def _piece_key(axes: "Axes", x: float, color: str, hatch: str = "") -> None:
    bar(axes, x, 0.5, 0.14, 0.5, color, hatch=hatch)


_STATUS_STYLES = dict(
    zip(
        STATUSES,
        (
            ("#9ecae1", ""),
            ("#E69F00", "//"),
            ("#D55E00", "\\\\"),
            ("#7f7f7f", "--"),
            ("#CC79A7", "||"),
            ("#666666", ""),
        ),
        strict=True,
    )
)


def status_chart(evaluated: Evaluated, labels: Labeller) -> Chart:
    """A stacked bar a system: how its replies came out."""
    systems = evaluated.systems
    statuses = [status for status in STATUSES if any(system.statuses.get(status) for system in systems)]
    statuses += sorted({status for system in systems for status in system.statuses} - set(STATUSES))
    rows, step, left = len(systems), 0.4, 1.75
    size = (WIDTH, step * rows + 0.42)

    def paint(figure: "Figure") -> tuple[Marks, list["Artist"]]:
        above = panel(figure, (0.15, step * rows + 0.1, WIDTH - 0.3, 0.25), (0, 6), (0, 1))
        for place, status in enumerate(statuses):
            _piece_key(above, place, *_STATUS_STYLES.get(status, ("#666666", "")))
            say(above, place + 0.19, 0.5, status, size=8, ha="left")
        axes = panel(figure, (left, 0.05, WIDTH - left - 0.15, step * rows), (0, 1), (rows - 0.5, -0.5))
        marks: Marks = {}
        for row, system in enumerate(systems):
            say_left(axes, 0, row, in_lines(labels.systems[row], 22))
            total = sum(system.statuses.values())
            start = 0.0
            for status in statuses:
                count = system.statuses.get(status, 0)
                if not count:
                    continue
                color, hatch = _STATUS_STYLES.get(status, ("#666666", ""))
                gid = f"bar{row}-{status}"
                bar(axes, start, row, count / total, 0.66, color, hatch=hatch, gid=gid)
                marks[gid] = {"data-tip": f"{system.name}, {status}: {count:,} of {total:,}, {count / total:.1%}"}
                if status == "ok" and count / total > 0.2:
                    say(axes, start + count / total / 2, row, f"{count / total:.1%}", size=8, color=ink_on(color))
                start += count / total
        return marks, []

    table = [[system.name, *(f"{system.statuses.get(status, 0):,}" for status in statuses)] for system in systems]
    said = "; ".join(
        f"{system.name} {system.statuses.get('ok', 0):,} of {sum(system.statuses.values()):,} valid"
        for system in systems
    )
    return Chart(
        "statuses",
        "How replies came out",
        f"Stacked bars: {said}.",
        partial(drawn, "statuses", size, paint),
        ("system", *statuses),
        table,
    )
