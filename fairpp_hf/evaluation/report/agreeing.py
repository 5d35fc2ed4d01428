"""How many of the others agree with the target, and how systems do where few or many do."""

from functools import partial
from typing import TYPE_CHECKING

from fairpp_hf.evaluation.report.charts import Chart, Labeller, percent, say_left
from fairpp_hf.evaluation.report.drawing import (
    INK,
    LINE,
    MUTED,
    OPTION_COLORS,
    WIDTH,
    Marks,
    bar,
    drawn,
    in_lines,
    panel,
    say,
    style_of,
)
from fairpp_hf.evaluation.report.folder import Evaluated
from fairpp_hf.evaluation.report.numbers import Agreeing

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def agreeing_charts(evaluated: Evaluated, labels: Labeller, found: Agreeing) -> list[Chart]:
    """How many questions have so many others on the target's side, and how systems do on them."""
    bins = len(found.questions)
    total = int(found.questions.sum())
    target = evaluated.name(evaluated.target)
    left, width = 0.55, WIDTH - 0.75

    def frame(figure: "Figure", top: float, height: float) -> "Axes":
        axes = panel(figure, (left, 0.55, width, height), (-0.5, bins - 0.5), (0, top))
        axes.plot([-0.5, bins - 0.5], [0, 0], color=MUTED, linewidth=0.9, clip_on=False)
        for others in range(bins):
            say(axes, others, -0.03 * top, str(others), size=8.5, va="top")
        say(
            axes,
            (bins - 1) / 2,
            -0.13 * top,
            "other personas that give the target's answer",
            size=8.5,
            color=MUTED,
            va="top",
        )
        return axes

    def paint_counts(figure: "Figure") -> tuple[Marks, list["Artist"]]:
        most = max(int(found.questions.max()), 1)
        axes = frame(figure, 1.1 * most, 2.0)
        marks: Marks = {}
        for others, questions in enumerate(found.questions.tolist()):
            bar(axes, others - 0.4, questions / 2, 0.8, questions, OPTION_COLORS[0], gid=f"bar{others}")
            share = questions / total if total else 0.0
            marks[f"bar{others}"] = {
                "data-tip": f"{others} of {bins - 1} others agree: {questions:,} questions, {share:.0%}"
            }
            say(axes, others, questions + 0.02 * most, f"{questions:,}", size=8.5, va="bottom")
        return marks, []

    def paint_agreement(figure: "Figure") -> tuple[Marks, list["Artist"]]:
        legend = -(-len(evaluated.systems) // 2) * 0.2
        axes = panel(figure, (left, 0.6 + legend, width, 2.0), (-0.5, bins - 0.5), (0, 1))
        for level in (0, 0.25, 0.5, 0.75, 1):
            axes.plot([-0.5, bins - 0.5], [level, level], color=LINE, linewidth=0.8, zorder=0, clip_on=False)
            say_left(axes, -0.5, level, f"{level:.0%}")
        for others in range(bins):
            say(axes, others, -0.03, str(others), size=8.5, va="top")
        say(
            axes, (bins - 1) / 2, -0.13, "other personas that give the target's answer", size=8.5, color=MUTED, va="top"
        )
        marks: Marks = {}
        below = panel(figure, (left, 0.1, width, legend), (0, 2), (-(-len(evaluated.systems) // 2), 0))
        for row, values in enumerate(found.agreement):
            color, marker = style_of(row)
            line = axes.plot(
                range(bins), values, color=color, marker=marker, markersize=6, linewidth=1.6, clip_on=False
            )[0]
            line.set(gid=f"line{row}", markeredgecolor=INK, markeredgewidth=0.6)
            said = ", ".join(f"{others}: {percent(value)}" for others, value in enumerate(values))
            marks[f"line{row}"] = {"data-tip": f"{evaluated.systems[row].name}, by others that agree: {said}"}
            x, y = row % 2, row // 2 + 0.5
            below.plot(
                [x + 0.04], [y], color=color, marker=marker, markersize=6, markeredgecolor=INK, markeredgewidth=0.6
            )
            say(below, x + 0.1, y, in_lines(labels.systems[row], 26, 1), size=8.5, ha="left")
        return marks, []

    left_out = f" {found.left_out:,} questions that some persona has not answered are left out." * bool(found.left_out)
    rows = [[str(others), f"{questions:,}"] for others, questions in enumerate(found.questions.tolist())]
    counts = Chart(
        "agreeing",
        "How many of the others agree with the target",
        f"Bars: of {total:,} questions, "
        + ", ".join(f"{questions:,} with {others}" for others, questions in enumerate(found.questions.tolist()))
        + f" of the {bins - 1} others on the side of {target}.",
        partial(drawn, "agreeing", (WIDTH, 2.75), paint_counts),
        ("others that agree", "questions"),
        rows,
        notes=(f"{total:,} questions. Where few agree, an answer tells {target} from the rest.{left_out}",),
    )
    size = (WIDTH, 2.75 + -(-len(evaluated.systems) // 2) * 0.2)
    agreement = Chart(
        "agreeing-systems",
        "Agreement with the target, by how many others share its answer",
        "Lines: mean probability that each system gives to the target's answer, by the number of other personas that give "
        "it too. "
        + "; ".join(
            f"{system.name}: {percent(values[0])} where it stands alone, {percent(values[-1])} where all agree"
            for system, values in zip(evaluated.systems, found.agreement, strict=True)
        )
        + ".",
        partial(drawn, "agreeing-systems", size, paint_agreement),
        ("others that agree", *map(str, range(bins))),
        [[system.name, *map(percent, row)] for system, row in zip(evaluated.systems, found.agreement, strict=True)],
        notes=("Agreement on the right is easy, since everybody says the same; on the left it has to be learnt.",),
    )
    return [counts, agreement]
