"""Pictures of the study."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from analysis import MEASURES, difference, estimate, mean_curve
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from methods import LABELS, METHODS

from fairpp_hf.evaluation.styles import STYLES, drawing_settings

SHOWN = ("question_distance", "marginal_distance", "agreement", "question_margin")


def draw_differences(rows: pd.DataFrame, methods: Sequence[str], baseline: str, path: Path) -> Path:
    """Each method less the baseline, with intervals, by four measures."""
    with drawing_settings({"font.size": 9}):
        figure = _figure((11, 0.9 + 0.3 * len(methods)))
        panels = figure.subplots(1, len(SHOWN), sharey=True)
        for axes, measure in zip(panels, SHOWN, strict=True):
            for place, method in enumerate(reversed(methods)):
                found = difference(rows, method, baseline, f"test/{measure}")
                colour, marker = STYLES[6] if METHODS[method].weighting == "tier" else STYLES[0]
                axes.errorbar(
                    found.mean,
                    place,
                    xerr=_reach(found),
                    fmt=marker,
                    color=colour,
                    markersize=5,
                    capsize=2,
                    linewidth=1,
                )
            axes.axvline(0, color="#888", linewidth=0.8)
            axes.set_title(MEASURES[measure], fontsize=9)
            axes.set_yticks(range(len(methods)), [LABELS[method] for method in reversed(methods)])
            _plain(axes)
        figure.supxlabel(
            f"less {LABELS[baseline]}, each at beta = 1 unless it says otherwise; mean of targets, 95% interval over seeds",
            fontsize=9,
        )
        return _saved(figure, path)


def draw_sensitivity(
    parts: dict[str, pd.DataFrame], names: dict[str, str], baseline: str, measures: Sequence[str], path: Path
) -> Path:
    """One column a part of the study, one row a measure, one line a method less the baseline."""
    with drawing_settings({"font.size": 9}):
        figure = _figure((2.6 * len(parts), 2.3 * len(measures) + 0.5))
        panels = figure.subplots(len(measures), len(parts), squeeze=False, sharey="row")
        there = {method for rows in parts.values() for method in rows["method"]} - {baseline}
        methods = sorted(there, key=list(METHODS).index, reverse=True)
        for column, (part, rows) in enumerate(parts.items()):
            values = sorted(rows["value"].unique(), key=float)
            for line, measure in enumerate(measures):
                axes = panels[line][column]
                for method in [method for method in methods if method in set(rows["method"])]:
                    colour, marker = STYLES[1 + methods.index(method)]
                    found = [
                        difference(rows[rows["value"] == value], method, baseline, f"test/{measure}")
                        for value in values
                    ]
                    axes.errorbar(
                        np.arange(len(values)) + 0.06 * methods.index(method),
                        [each.mean for each in found],
                        yerr=np.array([_reach(each)[:, 0] for each in found]).T,
                        color=colour,
                        marker=marker,
                        markersize=4,
                        capsize=2,
                        linewidth=1,
                        label=f"{LABELS[method]} less {LABELS[baseline]}",
                    )
                axes.axhline(0, color="#888", linewidth=0.8)
                axes.set_xticks(range(len(values)), values)
                if line == len(measures) - 1:
                    axes.set_xlabel(names[part], fontsize=9)
                if column == 0:
                    axes.set_ylabel(MEASURES[measure], fontsize=9)
                _plain(axes)
        handles = {
            label: handle
            for row in panels
            for axes in row
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=len(handles), frameon=False)
        return _saved(figure, path)


def draw_curves(rows: pd.DataFrame, methods: Sequence[str], path: Path) -> Path:
    """Distance and agreement on the way, by tokens computed; mean of targets and seeds, band over seeds."""
    with drawing_settings({"font.size": 9}):
        figure = _figure((9, 3.2))
        panels = figure.subplots(1, 3)
        for axes, measure in zip(panels, SHOWN[:3], strict=True):
            for number, method in enumerate(methods):
                seeds = [mean_curve(of_seed, method, measure) for _, of_seed in rows.groupby("seed")]
                values = [curve for _, curve, _ in seeds]
                at = np.mean([shares * tokens for shares, _, tokens in seeds], axis=0) / 1000
                found = [estimate(points) for points in np.transpose(values)]
                colour, marker = STYLES[1 + number]
                axes.plot(
                    at, [each.mean for each in found], color=colour, marker=marker, markersize=3, label=LABELS[method]
                )
                axes.fill_between(
                    at,
                    [each.low for each in found],
                    [each.high for each in found],
                    color=colour,
                    alpha=0.15,
                    linewidth=0,
                )
            axes.set_title(MEASURES[measure], fontsize=9)
            axes.set_xlabel("thousand tokens computed")
            _plain(axes)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
        return _saved(figure, path)


def _figure(size: tuple[float, float]) -> Figure:
    figure = Figure(figsize=size, layout="constrained", dpi=130)
    FigureCanvasAgg(figure)
    return figure


def _reach(found: Any) -> np.ndarray:
    """Lengths of an error bar, (2, 1); none where there is one seed."""
    if found.seeds < 2:
        return np.zeros((2, 1))
    return np.array([[found.mean - found.low], [found.high - found.mean]])


def _plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#eee", linewidth=0.8)
    axes.set_axisbelow(True)


def _saved(figure: Figure, path: Path) -> Path:
    figure.savefig(path)
    return path
