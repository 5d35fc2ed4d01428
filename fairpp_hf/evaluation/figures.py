"""Pictures of an evaluation, drawn with matplotlib and readable in print and without colour vision."""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairpp_hf.evaluation.results import Results as Evaluation
from fairpp_hf.evaluation.results import System as SystemResult
from fairpp_hf.evaluation.styles import STYLES, drawable, drawing_settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDEST_NAME = 24  # characters a line
_LOWEST_SKILL = -1.0
"""What is lower stands at the edge, so that it does not press the others together."""


def draw_evaluation(evaluation: Evaluation, path: Path) -> Path:
    """Draw the distance of each system to each persona, and its skill, into a PNG file.

    Distances are question by question where option probabilities are known, and of shares otherwise, since a distance to
    single answers rewards confidence. Where there is no constant, and so no skill, agreement with the target is drawn.
    """
    # The object interface, and not pyplot: no window system, no figures left open.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = max(len(evaluation.personas), len(evaluation.systems))
    names = {
        persona: drawable(name) or f"persona {number}"
        for number, (persona, name) in enumerate(evaluation.names.items(), 1)
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with drawing_settings():
        figure = Figure(figsize=(13, 3.0 + 0.42 * rows), layout="constrained", dpi=150)
        FigureCanvasAgg(figure)
        distances, values = figure.subplots(1, 2, width_ratios=[1.25, 1])
        _draw_distances(distances, evaluation, names)
        if any(system.metrics["skill/target"] is not None for system in evaluation.systems):
            error = "distance" if evaluation.compared_with == "probabilities" else "Brier score"
            _draw_values(
                values, evaluation, "skill/target", f"Skill: 1 - {error} / that of the constant (95% interval)"
            )
            values.axvline(0, color="#444", linewidth=1.2, zorder=1)
            values.set_xlim(left=max(values.get_xlim()[0], _LOWEST_SKILL))
        else:
            _draw_values(values, evaluation, "agreement/target", "Agreement with the target (95% interval)")
        figure.suptitle(f"How near to each persona? Target: {names[evaluation.target]}", fontsize=13, fontweight="bold")
        orders = "both orders of A and B" if evaluation.orders == 2 else "options in one order"
        division = drawable(evaluation.division) or "see results.md"
        figure.supxlabel(
            f"{len(evaluation.questions):,} {evaluation.kind} ({division}), {orders}. "
            f"{'Probabilities' if evaluation.compared_with == 'probabilities' else 'Single answers'} of the personas: "
            f"{drawable(evaluation.reference) or 'see results.md'}.",
            fontsize=9,
            color="#444",
        )
        figure.savefig(path)
    return path


def _draw_distances(axes: "Axes", evaluation: Evaluation, names: Mapping[str, str]) -> None:
    """One row a persona, the target on top; one marker a system, one below the other."""
    others = [persona for persona in evaluation.personas if persona != evaluation.target]
    rows = [evaluation.target, *others][::-1]
    axes.axhspan(len(rows) - 1.5, len(rows) - 0.5, color="#fff3d6", zorder=0)
    systems = evaluation.systems
    by_question = evaluation.compared_with == "probabilities"
    metric = "question_js_distance" if by_question else "js_distance"
    count = len(systems)
    spread = min(0.12, 0.8 / count)
    for number, system in enumerate(systems):
        offset = spread * ((count - 1) / 2 - number)
        points = [
            (distance, row + offset)
            for row, persona in enumerate(rows)
            if (distance := system.metrics[f"{metric}/{persona}"]) is not None
        ]
        xs, ys = [x for x, _ in points], [y for _, y in points]
        _points(axes, xs, ys, number, 46 if count < 5 else 32)
    axes.set_yticks(range(len(rows)), [names[persona] for persona in rows])
    axes.get_yticklabels()[-1].set_fontweight("bold")
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.hlines(
        [row - 0.5 for row in range(1, len(rows))], 0, 1, transform=axes.get_yaxis_transform(), color="#eee", lw=1
    )
    axes.set_xlim(left=0)
    of_what = "mean, question by question" if by_question else "of the shares of A, B and C"
    axes.set_xlabel(f"Jensen-Shannon distance, {of_what} (lower is closer)")
    _quiet(axes)


def _draw_values(axes: "Axes", evaluation: Evaluation, metric: str, label: str) -> None:
    """One row a system, which is the legend of the other panel as well: a metric with its 95% interval."""
    systems = evaluation.systems
    count = len(systems)
    for number, system in enumerate(systems):
        color = STYLES[number % len(STYLES)][0]
        row = count - 1 - number
        value = system.metrics.get(metric)
        if value is None:
            axes.annotate("no answer", (0.02, row), xycoords=("axes fraction", "data"), va="center", color="#666")
            continue
        if metric == "skill/target" and value < _LOWEST_SKILL:
            _points(axes, [_LOWEST_SKILL], [row], number, 64, clip_on=False)
            axes.annotate(
                f"◀ {value:.3f}",
                (_LOWEST_SKILL, row),
                xytext=(9, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
            )
            continue
        if metric in system.intervals:
            axes.plot(system.intervals[metric], [row, row], color=color, linewidth=2.5, zorder=2)
        _points(axes, [value], [row], number, 64)
        axes.annotate(f"{value:.3f}", (value, row), xytext=(0, 7), textcoords="offset points", ha="center", fontsize=9)
    # In data coordinates of the row and beside the axis: the marker of each system stands next to its name.
    for number in range(count):
        _points(axes, [-0.025], [count - 1 - number], number, 49, clip_on=False, transform=axes.get_yaxis_transform())
    axes.set_yticks(range(count), [_label(system, number) for number, system in enumerate(systems, 1)][::-1])
    axes.set_ylim(-0.6, count - 0.3)
    axes.set_xlabel(label)
    _quiet(axes)
    axes.tick_params(axis="y", pad=14)


def _points(axes: "Axes", xs: list[float], ys: list[float], number: int, size: float, **others: Any) -> None:
    """The markers of the system with this number; where the colours come a second time, they are hollow."""
    color, marker = STYLES[number % len(STYLES)]
    size *= 1.8 if marker == "*" else 1.0  # which has little area
    face, edge, width = (color, "white", 0.4) if number < len(STYLES) else ("white", color, 1.4)
    axes.scatter(xs, ys, facecolor=face, edgecolor=edge, linewidth=width, marker=marker, s=size, zorder=3, **others)


def _label(system: SystemResult, number: int) -> str:
    name = drawable(system.name) or f"system {number}"
    return textwrap.fill(name, _WIDEST_NAME, max_lines=2, placeholder="...")


def _quiet(axes: "Axes") -> None:
    axes.grid(axis="x", color="#ddd", zorder=1)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
