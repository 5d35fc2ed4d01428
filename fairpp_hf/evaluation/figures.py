"""Pictures of an evaluation, drawn with matplotlib and readable in print and without colour vision."""

from pathlib import Path
from typing import TYPE_CHECKING

from fairpp_hf.evaluation.evaluate import Evaluation
from fairpp_hf.evaluation.styles import STYLES, readable

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_evaluation(evaluation: Evaluation, path: Path) -> Path:
    """Draw the distance of each system to each persona, and its agreement with the target, into a PNG file."""
    # The object interface, and not pyplot: no window system, no figures left open.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5.4), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    distances, agreement = figure.subplots(1, 2, width_ratios=[1.6, 1])
    _draw_distances(distances, evaluation)
    _draw_agreement(agreement, evaluation)
    figure.suptitle(
        f"How near to each persona? Target: {readable(evaluation.target)}",
        fontsize=13,
        fontweight="bold",
    )
    figure.supxlabel(
        f"{len(evaluation.questions)} questions. Answers of the personas: {evaluation.reference}.",
        fontsize=9,
        color="#444",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def _draw_distances(axes: "Axes", evaluation: Evaluation) -> None:
    """One row a persona, the target on top; one marker a system."""
    others = [persona for persona in evaluation.personas if persona != evaluation.target]
    rows = [evaluation.target, *others][::-1]
    axes.axhspan(len(rows) - 1.5, len(rows) - 0.5, color="#fff3d6", zorder=0)
    spread = 0.12
    for number, system in enumerate(evaluation.systems):
        color, marker = STYLES[number % len(STYLES)]
        offset = spread * ((len(evaluation.systems) - 1) / 2 - number)
        points = [
            (system.metrics[f"js_distance/{persona}"], row + offset)
            for row, persona in enumerate(rows)
            if system.metrics[f"js_distance/{persona}"] is not None
        ]
        distances, heights = zip(*points, strict=True)
        axes.scatter(distances, heights, color=color, marker=marker, s=48, label=system.name, zorder=3)
    axes.set_yticks(range(len(rows)), [readable(persona) for persona in rows])
    axes.get_yticklabels()[-1].set_fontweight("bold")
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlim(left=0)
    axes.set_xlabel("Jensen-Shannon distance of answer shares (lower is closer)")
    axes.grid(axis="x", color="#ddd", zorder=1)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=len(evaluation.systems), frameon=False)


def _draw_agreement(axes: "Axes", evaluation: Evaluation) -> None:
    """One row a system: agreement with the target, with its 95% interval."""
    count = len(evaluation.systems)
    for number, system in enumerate(evaluation.systems):
        color, marker = STYLES[number % len(STYLES)]
        row = count - 1 - number
        value = system.metrics["agreement/target"]
        if "agreement/target" in system.intervals:
            axes.plot(system.intervals["agreement/target"], [row, row], color=color, linewidth=2.5, zorder=2)
        axes.scatter([value], [row], color=color, marker=marker, s=60, zorder=3)
        axes.annotate(f"{value:.3f}", (value, row), xytext=(0, 8), textcoords="offset points", ha="center", fontsize=9)
    axes.set_yticks(range(count), [system.name for system in evaluation.systems][::-1])
    axes.set_ylim(-0.6, count - 0.3)
    axes.set_xlabel("Agreement with the target (95% interval)")
    axes.grid(axis="x", color="#ddd", zorder=1)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
