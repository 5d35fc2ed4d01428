"""Pictures of the study."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from analysis import Study, level_of
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from methods import LABELS, METHODS
from tables import DISTANCE, MARGIN, at_visits

from fairpp_hf.evaluation.styles import STYLES, drawing_settings

CURVES = ("dpo", "tier_dpo", "soft_dpo", "distil", "aim_0", "list_0")


def draw_trade_off(study: Study, families: Sequence[str], path: Path) -> Path:
    """Distance to the target against the margin to the nearest other persona: a point a method, a curve over lambda.

    Args:
        study: with its grid.
        families: beginnings of the names of methods that differ in lambda alone, such as `list`.
        path: of the PNG.
    """
    rows = study.grid
    there = [method for method in LABELS if method in set(rows["method"])]
    at = {method: (level_of(rows, method, DISTANCE).mean, level_of(rows, method, MARGIN).mean) for method in there}
    with drawing_settings({"font.size": 10}):
        figure = _figure((8.4, 5.2))
        axes = figure.subplots()
        axes.axvspan(0, at["constant"][0], color="#e9f5ee", zorder=0)
        for number, family in enumerate(families):
            curve = [
                method for method in there if method.startswith(f"{family}_") and METHODS[method].labels == "fitted"
            ]
            colour = (STYLES[4], STYLES[6])[number][0]
            axes.plot(
                *zip(*(at[method] for method in curve), strict=True), "-o", color=colour, markersize=7, linewidth=2
            )
            for method in curve:
                _say(axes, at[method], f"lambda {METHODS[method].divergence:g}", colour, (7, -12))
        curved = [method for method in there if any(method.startswith(f"{family}_") for family in families)]
        for method in [method for method in there if method not in curved and not method.startswith(("aim", "list"))]:
            baseline = METHODS[method].baseline is not None
            colour = "#000" if baseline else STYLES[0][0]
            axes.scatter(*at[method], color=colour, marker="D" if baseline else "o", s=46, zorder=3)
            _say(axes, at[method], LABELS[method].split(" (")[0].split(", then")[0], colour, (7, 4))
        axes.axhline(0, color="#888", linewidth=0.8)
        axes.set_xlim(left=0.08)
        axes.set_xlabel(
            "distance to the target, question by question (left is nearer; green: nearer than a constant answer)"
        )
        axes.set_ylabel("margin: how much further the nearest other persona is (up is better)")
        axes.set_title(
            f"Aligned models, {rows['target'].nunique()} personas, {rows['seed'].nunique()} seeds, "
            f"{study.settings.budget.visits:,} questions each",
            fontsize=10,
        )
        _plain(axes)
        return _saved(figure, path)


def draw_visits(study: Study, path: Path) -> Path:
    """Distance by how many questions were visited, a curve a method, beside constant and label model."""
    counts = [320, study.settings.budget.visits, 5120]
    with drawing_settings({"font.size": 10}):
        figure = _figure((7.6, 4.6))
        axes = figure.subplots()
        for number, method in enumerate(CURVES):
            found = [level_of(at_visits(study, count), method, DISTANCE) for count in counts]
            colour, marker = STYLES[1 + number]
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
                level_of(study.grid, method, DISTANCE).mean, color="#000", linestyle=style, label=LABELS[method]
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


def _say(axes: Any, at: tuple[float, float], text: str, colour: str, offset: tuple[int, int]) -> None:
    axes.annotate(text, at, xytext=offset, textcoords="offset points", fontsize=8, color=colour)


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
