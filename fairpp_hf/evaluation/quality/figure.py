"""One picture of the quality of a run, readable in print and without colour vision."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fairpp_hf.evaluation.quality.quality import RunQuality
from fairpp_hf.evaluation.styles import STYLES, readable
from fairpp_hf.schema import STATUSES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_STATUS_STYLES = (
    ("#cfe3f1", ""),
    ("#E69F00", "//"),
    ("#D55E00", "\\\\"),
    ("#7f7f7f", ".."),
    ("#CC79A7", "xx"),
    ("#000000", ""),
)
"""Of `STATUSES`: fill and hatching."""


def draw_quality(quality: RunQuality, run: str, path: Path) -> Path:
    """Draw who is taken for whom, leanings beside the survey's, contradictory forms and statuses into a PNG file."""
    # The object interface, and not pyplot: no window system, no figures left open.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height = max(9.5, 3 + 0.6 * len(quality.personas))
    figure = Figure(figsize=(13, height), layout="constrained", dpi=130)
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.15, h_pad=0.15)  # type: ignore[union-attr, call-arg]
    (confusion, leanings), (forms, statuses) = figure.subplots(2, 2)
    _draw_confusion(confusion, quality)
    _draw_leanings(leanings, quality)
    _draw_forms(forms, quality)
    _draw_statuses(statuses, quality)
    figure.suptitle(f"Quality of the run {run}: {quality.respondent}", fontsize=13, fontweight="bold")
    figure.supxlabel(
        f"{quality.replies:,} simulated replies to {quality.questions:,} questions; bars: 95% intervals over clusters of "
        "questions. How a model plays its roles, and nothing about people.",
        fontsize=9,
        color="#444",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def _draw_confusion(axes: "Axes", quality: RunQuality) -> None:
    """A row a persona whose answers they are, a column a persona they are attributed to."""
    identification = quality.identification
    size = identification.size
    if size is None:
        _say(axes, "Who is taken for whom", next(iter(identification.by_size.values())).note)
        return
    names = [readable(persona) for persona in identification.personas]
    shares = np.array(identification.confusion, dtype=np.float64)
    axes.imshow(np.nan_to_num(shares), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    if len(names) <= 12:
        for (row, column), share in np.ndenumerate(shares):
            text = "-" if np.isnan(share) else f"{share:.0%}"
            color = "white" if share > 0.55 else "#222" if share >= 0.005 else "#aaa"
            axes.text(column, row, text, ha="center", va="center", fontsize=9, color=color)
    axes.set_xticks(range(len(names)), names, rotation=35, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_xlabel("attributed to")
    axes.set_ylabel("answers of")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    accuracy = identification.by_size[size]
    plural = "" if size == 1 else "s"
    _title(
        axes,
        f"Who is taken for whom, from {size} answer{plural}",
        f"{accuracy.value:.0%} right, by chance {accuracy.chance:.0%}; n = {accuracy.n:,} bundles",
    )


def _draw_leanings(axes: "Axes", quality: RunQuality) -> None:
    """A marker a persona and dimension: the survey's P(B | A or B) against the run's."""
    title = "Leanings: run and survey"
    if quality.survey is None:
        _say(axes, title, "The personas have no survey figures on record.")
        return
    axes.plot([0, 1], [0, 1], color="#999", linewidth=1, zorder=1)
    for number, (persona, leanings) in enumerate(quality.survey.leanings.items()):
        color, marker = STYLES[number % len(STYLES)]
        label = readable(persona)
        # With the survey's side from figures filled, from a prior hollow.
        for face, from_figures in ((color, True), ("white", False)):
            points = [
                (leaning.survey, leaning.run.value, leaning.run.interval or (leaning.run.value,) * 2)
                for leaning in leanings.values()
                if leaning.from_figures is from_figures and leaning.run.value is not None
            ]
            if points:
                survey, run, intervals = zip(*points, strict=True)
                axes.vlines(survey, *zip(*intervals, strict=True), color=color, linewidth=1, zorder=2)
                axes.scatter(survey, run, s=42, marker=marker, facecolor=face, edgecolor=color, zorder=3)
        axes.scatter([], [], s=42, marker=marker, facecolor=color, edgecolor=color, label=label)
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("survey's model: P(B | A or B)")
    axes.set_ylabel("run: P(B | A or B)")
    axes.grid(color="#eee", zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8)
    distance = quality.survey.from_figures.lean
    said = "" if distance.value is None else f"; distance {distance.value:.3f}, n = {distance.n:,}"
    _title(axes, title, f"a marker a dimension, hollow: from a prior{said}")


def _draw_forms(axes: "Axes", quality: RunQuality) -> None:
    """A row a persona: contradictory forms beside chance."""
    contradictory = quality.forms.contradictory
    title = "Opposite poles in the two forms of a question"
    if contradictory.overall.value is None:
        _say(axes, title, contradictory.overall.note)
        return
    personas = quality.personas
    for row, persona in enumerate(reversed(personas)):
        measure = contradictory.by_persona[persona]
        if measure.value is None or measure.chance is None:
            continue
        if measure.interval is not None:
            axes.plot(measure.interval, [row, row], color="#0072B2", linewidth=2.5, zorder=2)
        axes.scatter([measure.value], [row], color="#0072B2", s=46, zorder=3)
        axes.scatter([measure.chance], [row], color="#D55E00", marker="|", s=220, linewidth=2.5, zorder=3)
    axes.scatter([], [], color="#0072B2", s=46, label="run")
    axes.scatter(
        [], [], color="#D55E00", marker="|", s=220, linewidth=2.5, label="by chance, with the forms independent"
    )
    axes.set_yticks(range(len(personas)), [readable(persona) for persona in reversed(personas)], fontsize=8)
    axes.set_ylim(-0.6, len(personas) - 0.4)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_xlabel("share of pairs answered A or B in both forms")
    axes.grid(axis="x", color="#ddd", zorder=1)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, frameon=False, fontsize=8)
    _title(axes, title, f"{contradictory.overall.value:.1%} of n = {contradictory.overall.n:,} pairs")


def _draw_statuses(axes: "Axes", quality: RunQuality) -> None:
    """A bar a persona: shares of the statuses."""
    personas = quality.personas[::-1]
    counts = np.array(
        [[quality.statuses.by_persona[persona][status] for status in STATUSES] for persona in personas],
        dtype=np.float64,
    )
    shares = counts / counts.sum(axis=1, keepdims=True)
    left = np.zeros(len(personas))
    for number, status in enumerate(STATUSES):
        if shares[:, number].any():
            color, hatch = _STATUS_STYLES[number]
            axes.barh(
                range(len(personas)),
                shares[:, number],
                left=left,
                color=color,
                hatch=hatch,
                edgecolor="white",
                label=status,
                height=0.66,
            )
            left += shares[:, number]
    axes.set_yticks(range(len(personas)), [readable(persona) for persona in personas], fontsize=8)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_xlabel("share of replies")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=len(STATUSES), frameon=False, fontsize=8)
    _title(
        axes, "How replies came out", f"{quality.valid / quality.replies:.1%} valid; n = {quality.replies:,} replies"
    )


def _title(axes: "Axes", title: str, below: str) -> None:
    axes.set_title(title, fontsize=11, fontweight="bold", loc="left", pad=20)
    axes.text(0, 1.012, below, transform=axes.transAxes, fontsize=9, color="#444", va="bottom", linespacing=1.6)


def _say(axes: "Axes", title: str, why: str) -> None:
    """A panel without numbers says why."""
    axes.axis("off")
    axes.set_title(title, fontsize=11, fontweight="bold", loc="left")
    axes.text(
        0.02, 0.9, f"Not measured: {why}", transform=axes.transAxes, fontsize=9, color="#444", va="top", wrap=True
    )
