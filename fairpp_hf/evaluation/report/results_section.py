"""The first section: what was evaluated, on whose answers, and how the systems did, in words and in a table."""

from collections.abc import Sequence
from typing import Any

from fairpp_hf.evaluation.report.charts import Labeller, interval_chart, number
from fairpp_hf.evaluation.report.folder import Evaluated, System
from fairpp_hf.evaluation.report.markup import (
    Section,
    bullets,
    figure,
    grid,
    name,
    paragraph,
    scrolled,
    section,
    table,
    text,
)
from fairpp_hf.markdown import counted

_COLUMNS = (
    ("agreement/target", "agreement", "descending"),
    ("js_distance/target", "JS distance", "ascending"),
    ("question_js_distance/target", "JS distance by question", "ascending"),
    ("js_distance/margin", "margin to nearest other", "descending"),
    ("kappa/target", "agreement beyond chance", "descending"),
    ("worst_group/target", "worst group", "descending"),
    ("calibration_error/target", "calibration error", "ascending"),
    ("forms_consistency", "consistency of forms", "descending"),
    ("abstention", "abstention (C)", "ascending"),
    ("unanswered", "unanswered", "ascending"),
)
"""Metric, heading, and the order of the first click."""

METRIC_NAMES = {metric: heading for metric, heading, _ in _COLUMNS}


def results_section(evaluated: Evaluated, labels: Labeller) -> Section:
    """What stands at the top of the page."""
    target = name(evaluated.name(evaluated.target))
    kind = "scenario" if evaluated.scenarios else "question"
    orders = "in both orders of their options" if evaluated.orders == 2 else "in one order of their options"
    metrics = [
        interval_chart(
            "agreement",
            "Agreement with the target",
            evaluated,
            labels,
            lambda system: _measured(system, "agreement/target"),
            axis="mean probability of the target's answer; right is closer",
            what="agreement",
            zero=False,
        ),
        interval_chart(
            "distance",
            "Distance to the target",
            evaluated,
            labels,
            lambda system: _measured(system, "js_distance/target"),
            axis="Jensen-Shannon distance of shares; left is closer",
            what="JS distance",
        ),
        interval_chart(
            "margin",
            "Nearer to the target than to anyone else?",
            evaluated,
            labels,
            lambda system: _measured(system, "js_distance/margin"),
            axis="distance to the nearest other, minus to the target",
            what="margin",
        ),
    ]
    return section(
        "results",
        "Where the systems stand",
        paragraph(
            f"{text(counted(len(evaluated.systems), 'system'))} answered {text(counted(len(evaluated.questions), kind))} "
            f"({text(evaluated.division)}), {orders}, and {'is' if len(evaluated.systems) == 1 else 'are'} compared with "
            f"{text(counted(len(evaluated.personas), 'persona'))}. The target is {target}. The personas' answers are those "
            f"of {name(evaluated.reference)}."
        ),
        bullets(_findings(evaluated)),
        _systems_table(evaluated),
        paragraph(
            '<span class="muted">In brackets: 95% interval, bootstrap over clusters of questions on one problem and group; '
            "it does not cover the variation over training runs. Agreement: mean probability given to the target's own "
            "answer. JS distance: Jensen-Shannon distance of the shares of A, B and C, natural logarithm, 0 to 0.833, which "
            "is blind to who answers what; the mean distance by question is not. Worst group: agreement where it is lowest. "
            "Unanswered questions are left out and not imputed.</span>"
        ),
        grid(figure(chart) for chart in metrics),
        _comparisons(evaluated),
        _personas(evaluated),
        charts=metrics,
    )


def _measured(system: System, metric: str) -> tuple[float | None, tuple[float, float] | None]:
    return system.metrics.get(metric), system.interval(metric)


def _findings(evaluated: Evaluated) -> list[str]:
    """The main result in sentences, as far as there are numbers for them."""
    target = name(evaluated.name(evaluated.target))
    measured = [system for system in evaluated.systems if system.metrics.get("agreement/target") is not None]
    if not measured:
        return [f"No system answered a question that {target} answered too: there is nothing to compare."]
    by_agreement = sorted(measured, key=lambda system: -system.metrics["agreement/target"])
    found = [
        f"Most agreement with {target}: <strong>{name(by_agreement[0].name)}</strong>, "
        f"{_value(by_agreement[0], 'agreement/target')}."
    ]
    if len(by_agreement) > 1:
        found[0] += f" Least: {name(by_agreement[-1].name)}, {_value(by_agreement[-1], 'agreement/target')}."
    nearest = min(measured, key=lambda system: system.metrics["js_distance/target"])
    found.append(
        f"Shares of A, B and C nearest to the target's: {name(nearest.name)}, {_value(nearest, 'js_distance/target')}."
    )
    nearer: list[str] = []
    not_nearer: list[str] = []
    open_: list[str] = []
    for system in measured:
        margin = system.interval("js_distance/margin")
        place = open_ if margin is None or margin[0] <= 0 <= margin[1] else nearer if margin[0] > 0 else not_nearer
        place.append(name(system.name))
    for systems, said in (
        (nearer, "Nearer to the target than to any other persona"),
        (not_nearer, "Nearer to another persona than to the target"),
        (open_, "Neither can be said of"),
    ):
        if systems:
            found.append(f"{said}: {', '.join(systems)}.")
    return found


def _value(system: System, metric: str) -> str:
    """A number with its interval."""
    value, interval = _measured(system, metric)
    return number(value) + ("" if interval is None else f" [{number(interval[0])}, {number(interval[1])}]")


def _systems_table(evaluated: Evaluated) -> str:
    """A row a system; sorted by a click where there are scripts, and by agreement to begin with."""
    columns = [
        column for column in _COLUMNS if any(system.metrics.get(column[0]) is not None for system in evaluated.systems)
    ]
    heads = (
        '<th scope="col">system</th>'
        + "".join(
            f'<th scope="col" data-kind="number" data-first="{first}"'
            f"{' aria-sort=descending' if metric == 'agreement/target' else ''}>{heading}</th>"
            for metric, heading, first in columns
        )
        + '<th scope="col" class="text">nearest other</th>'
    )
    rows = []
    for system in sorted(evaluated.systems, key=lambda system: -(system.metrics.get("agreement/target") or -1.0)):
        cells = [f'<th scope="row" data-key="{text(system.name)}">{name(system.name)}</th>']
        for metric, _, _ in columns:
            value, interval = _measured(system, metric)
            bounds = "" if interval is None else f"<small>[{number(interval[0])}, {number(interval[1])}]</small>"
            key = "" if value is None else f"{value:.9g}"
            cells.append(f'<td data-key="{key}">{number(value)}{bounds}</td>')
        other = system.metrics.get("nearest_other")
        said = "none" if other is None else evaluated.name(other)
        rows.append(f'<tr>{"".join(cells)}<td class="text" data-key="{text(said)}">{name(said)}</td></tr>')
    caption = f"The systems, beside the target {evaluated.name(evaluated.target)}"
    return (
        "<div>"
        + scrolled(
            f'<table class="sortable" id="systems"><caption>{text(caption)}</caption><thead><tr>{heads}</tr></thead>'
            f"<tbody>{''.join(rows)}</tbody></table>",
            caption,
        )
        + '<p class="muted" aria-live="polite"></p></div>'
    )


def _comparisons(evaluated: Evaluated) -> str:
    """Paired comparisons, where two systems were compared."""
    if not evaluated.comparisons:
        return ""
    rows = []
    for comparison in evaluated.comparisons:
        low, high = comparison["interval_95"]
        value = comparison["p_value"]
        rows.append(
            [
                f"{comparison['first']} minus {comparison['second']}",
                METRIC_NAMES.get(comparison["metric"], comparison["metric"]),
                _signed(comparison["difference"]),
                f"[{_signed(low)}, {_signed(high)}]",
                "none" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}",
            ]
        )
    return (
        "<h3>Compared in pairs</h3>"
        + paragraph(
            "The same questions, resampled together for both. Of agreement, margin and worst group, above 0 is in favour of "
            "the first; of distances, below 0 is."
        )
        + table(("systems", "metric", "difference", "95% interval", "p"), rows, "Differences between systems")
    )


def _signed(value: float | None) -> str:
    return "none" if value is None else f"{value:+.3f}"


def _personas(evaluated: Evaluated) -> str:
    """Who the personas are."""
    rows: list[Sequence[Any]] = []
    for persona in evaluated.personas:
        share = evaluated.shares.get(persona)
        answered = int((evaluated.answers[persona] >= 0).sum())
        rows.append(
            [
                evaluated.name(persona) + (" (target)" if persona == evaluated.target else ""),
                "not known" if share is None else f"{100 * share:.0f}%",
                f"{answered:,} of {len(evaluated.questions):,}",
            ]
        )
    heads = ("persona", "share of the population", "questions answered")
    return f"<details><summary>The personas</summary>{table(heads, rows, 'The personas')}</details>"
