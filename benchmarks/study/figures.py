"""Pictures of the study."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from analysis import Study, level_of
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from methods import LABELS, METHODS
from tables import DISTANCE, MARGIN, at_visits

from fairpp_hf.drawing.labels import Label, write_labels
from fairpp_hf.drawing.theme import BASELINES, SYSTEM_STYLES, drawing_settings

CURVES = ("dpo", "tier_dpo", "soft_dpo", "distil", "aim_0", "list_0")


def draw_trade_off(study: Study, path: Path) -> Path:
    """Distance to the target against the margin to the nearest other persona: a point a method, a curve over lambda.

    Args:
        study: Study with its grid.
        path: Path of the PNG.
    """
    rows = study.grid
    at = {
        method: (level_of(rows, method, DISTANCE).mean, level_of(rows, method, MARGIN).mean)
        for method in LABELS
        if method in set(rows["method"])
    }
    with drawing_settings({"font.size": 10}):
        figure = _figure((8.4, 5.2))
        axes = figure.subplots()
        axes.axvspan(0, at["constant"][0], color="#e9f5ee", zorder=0)
        labels, lines = [], []
        for family, (colour, _), width, name in (
            ("aim", SYSTEM_STYLES[1], 1.2, "the same, pair by pair"),
            ("list", SYSTEM_STYLES[3], 2.4, "aligned towards the aim"),
        ):
            curve = [method for method in at if method.startswith(f"{family}_") and METHODS[method].labels == "fitted"]
            points = [at[method] for method in curve]
            axes.plot(*zip(*points, strict=True), "-o", color=colour, markersize=3 * width, linewidth=width)
            lines += [(np.array(start), np.array(end)) for start, end in pairwise(points)]
            shown = {"list_0.25": f"{name}, lambda 0.25", "aim_1": name}
            if family == "list":
                shown = {method: f"lambda {METHODS[method].divergence:g}" for method in curve} | shown
            labels += [
                Label(shown[method], point, method == "list_0.25")
                for method, point in zip(curve, points, strict=True)
                if method in shown
            ]
        for method in [name for name in at if not name.startswith(("aim", "list", "both"))]:
            look = BASELINES.get(LABELS[method])
            colour, marker = ("#666", "o") if look is None else (look.color, look.marker)
            axes.scatter(*at[method], color=colour, marker=marker, s=46 if look is None else 90, zorder=3)
            words = "the paper's two weighted stages" if method == "paper" else LABELS[method]
            labels.append(Label(words, at[method], look is not None))
        axes.axhline(0, color="#888", linewidth=0.8)
        axes.set_xlim(0.08, 0.25)
        axes.set_ylim(top=0.1)
        axes.set_xlabel(
            "distance to the target, question by question (left is nearer; green: nearer than a constant answer)"
        )
        axes.set_ylabel("margin to the nearest other persona (up is better)")
        seeds = rows["seed"].nunique()
        axes.set_title(
            f"{rows['target'].nunique()} personas, {seeds} seed{'s' if seeds > 1 else ''}, a small model, "
            f"{study.settings.budget.visits:,} questions each; simulated answers",
            fontsize=10,
        )
        _plain(axes)
        figure.draw_without_rendering()  # places are found in pixels
        write_labels(axes, labels, 9, lines)
        return _saved(figure, path)


def draw_visits(study: Study, path: Path) -> Path:
    """Distance by how many questions were visited, a curve a method, beside constant and label model."""
    counts = [320, study.settings.budget.visits, 5120]
    with drawing_settings({"font.size": 10}):
        figure = _figure((7.6, 4.6))
        axes = figure.subplots()
        for number, method in enumerate(CURVES):
            found = [level_of(at_visits(study, count), method, DISTANCE) for count in counts]
            colour, marker = SYSTEM_STYLES[number]
            reach = np.array([[each.mean - each.low, each.high - each.mean] for each in found]).T
            axes.errorbar(
                counts,
                [each.mean for each in found],
                yerr=reach,
                color=colour,
                marker=marker,
                capsize=2,
                label=LABELS[method],
            )
        for method, style in (("constant", "-"), ("label_model", "--")):
            axes.axhline(
                level_of(study.grid, method, DISTANCE).mean,
                color=BASELINES[LABELS[method]].color,
                linestyle=style,
                label=LABELS[method],
            )
        axes.set_xscale("log")
        axes.set_xticks(counts, [f"{count:,}" for count in counts])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.set_xlabel("questions visited")
        axes.set_ylabel("distance to the target (lower is nearer)")
        axes.legend(fontsize=8, ncols=2, frameon=False)
        _plain(axes)
        return _saved(figure, path)


def _figure(size: tuple[float, float]) -> Figure:
    figure = Figure(figsize=size, layout="constrained", dpi=130)
    FigureCanvasAgg(figure)
    return figure


def _plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#eee", linewidth=0.8)
    axes.set_axisbelow(True)


def _saved(figure: Figure, path: Path) -> Path:
    figure.savefig(path)
    return path
