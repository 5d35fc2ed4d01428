"""Radars: a persona's shares of A and B by dimension, and a system over them."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fairpp_hf.evaluation.report.charts import Chart, Labeller, key_of, percent
from fairpp_hf.evaluation.report.drawing import (
    INK,
    LINE,
    MUTED,
    OPTION_COLORS,
    PAPER,
    Marks,
    drawable,
    drawn,
    in_lines,
    panel,
    say,
)
from fairpp_hf.evaluation.report.folder import Evaluated
from fairpp_hf.evaluation.report.numbers import Labels, shares_by
from fairpp_hf.schema import OPTION_LETTERS

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure


def radar_chart(
    evaluated: Evaluated,
    labels: Labeller,
    persona: str,
    dimensions: Labels,
    poles: Sequence[tuple[str, str]],
    best: int,
) -> Chart:
    """A persona's shares of A and B by dimension, and, one at a time, those of a system over it.

    Args:
        evaluated: the folder.
        labels: names in figures.
        persona: its id.
        dimensions: of the questions.
        poles: of each dimension, A and B.
        best: number of the system that is shown at first.
    """
    place = evaluated.personas.index(persona) + 1
    key = key_of("radar", place, persona)
    own = shares_by(evaluated.persona_probabilities[persona], dimensions).shares[:, :2]
    theirs = [shares_by(system.probabilities, dimensions).shares[:, :2] for system in evaluated.systems]
    count = len(dimensions.names)
    angles = np.pi / 2 - 2 * np.pi * np.arange(count) / count
    unit = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    size = (3.7, 2.9)

    def ring(shares: NDArray[np.float64]) -> NDArray[np.float64]:
        points = unit * shares[:, None]
        return np.concatenate([points, points[:1]])

    def paint(figure: "Figure") -> tuple[Marks, list["Artist"]]:
        axes = panel(figure, (0, 0.3, 3.7, 2.55), (-1.75, 1.75), (-1.01, 1.4))
        for level in (0.25, 0.5, 0.75, 1.0):
            axes.plot(*ring(np.full(count, level)).T, color=LINE, linewidth=0.8, zorder=0)
        for number_, (x, y) in enumerate(unit):
            axes.plot([0, x], [0, y], color=LINE, linewidth=0.8, zorder=0)
            text = "\n".join(in_lines(drawable(pole) or "?", 14, 1) for pole in poles[number_])
            side = "center" if abs(x) < 0.2 else "left" if x > 0 else "right"
            say(axes, 1.08 * x, 1.1 * y + (0.1 if abs(x) < 0.2 else 0.0), text, size=8, color=MUTED, ha=side)  # type: ignore[arg-type]
        say(axes, 0.02, 0.5, " 50%", size=7.5, color=MUTED, ha="left")
        say(axes, 0.02, 1.0, " 100%", size=7.5, color=MUTED, ha="left", va="top")
        marks: Marks = {}
        for option in (0, 1):
            color, marker = OPTION_COLORS[option], "os"[option]
            axes.fill(*ring(own[:, option]).T, facecolor=color, alpha=0.22, edgecolor="none", zorder=1)
            line = axes.plot(*ring(own[:, option]).T, color=color, linewidth=2, marker=marker, markersize=5, zorder=3)[
                0
            ]
            line.set_gid(f"own{option}")
            shares = ", ".join(f"{poles[n][option]} {percent(share)}" for n, share in enumerate(own[:, option]))
            marks[f"own{option}"] = {"data-tip": f"{evaluated.name(persona)}, {OPTION_LETTERS[option]}: {shares}"}
        hidden: list[Artist] = []
        for system, of_system in enumerate(theirs):
            for option in (0, 1):
                line = axes.plot(
                    *ring(of_system[:, option]).T,
                    color=INK,
                    linewidth=1.3,
                    linestyle=(0, (4, 2)) if option == 0 else (0, (1, 1.5)),
                    marker="os"[option],
                    markersize=4.5,
                    markerfacecolor=PAPER,
                    markeredgewidth=1,
                    zorder=4,
                )[0]
                gid = f"over{system}-{option}"
                line.set_gid(gid)
                said = ", ".join(f"{poles[n][option]} {percent(share)}" for n, share in enumerate(of_system[:, option]))
                marks[gid] = {
                    "data-of": "overlay",
                    "data-value": str(system),
                    "data-tip": f"{evaluated.systems[system].name}, {OPTION_LETTERS[option]}: {said}",
                }
                if system != best:
                    marks[gid]["class"] = "off"
                    hidden.append(line)
        _radar_legend(figure)
        return marks, hidden

    rows = [
        [f"{dimensions.names[n]} {poles[n][0]} / {poles[n][1]}", *map(percent, own[n]), percent(1 - own[n].sum())]
        for n in range(count)
    ]
    share = evaluated.shares.get(persona)
    said = "; ".join(
        f"dimension {dimensions.names[n]}: A {percent(own[n, 0])}, B {percent(own[n, 1])}" for n in range(count)
    )
    title = evaluated.name(persona) + (" (target)" if persona == evaluated.target else "")
    notes = () if share is None else (f"{100 * share:.0f}% of the survey's population.",)
    return Chart(
        key,
        title,
        f"Radar of {evaluated.name(persona)}: shares of A and B by dimension. {said}.",
        partial(drawn, key, size, paint),
        ("dimension", *OPTION_LETTERS),
        rows,
        notes=notes,
    )


def _radar_legend(figure: "Figure") -> None:
    axes = panel(figure, (0, 0, 3.7, 0.3), (0, 3.7), (0, 1))
    for option, x in ((0, 0.25), (1, 0.95)):
        axes.plot([x, x + 0.25], [0.5, 0.5], color=OPTION_COLORS[option], linewidth=2)
        axes.plot([x + 0.125], [0.5], color=OPTION_COLORS[option], marker="os"[option], markersize=5)
        say(axes, x + 0.3, 0.5, OPTION_LETTERS[option], size=8.5, ha="left")
    for option, x in ((0, 1.6), (1, 2.55)):
        dashes = (0, (4, 2)) if option == 0 else (0, (1, 1.5))
        axes.plot([x, x + 0.3], [0.5, 0.5], color=INK, linewidth=1.3, linestyle=dashes)
        axes.plot([x + 0.15], [0.5], color=INK, marker="os"[option], markersize=4.5, markerfacecolor=PAPER)
        say(axes, x + 0.36, 0.5, f"system {OPTION_LETTERS[option]}", size=8.5, ha="left")
