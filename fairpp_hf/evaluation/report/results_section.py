"""The first section: what was evaluated, on whose answers, and how the systems did, in words and in a table."""

from collections.abc import Sequence
from typing import Any

from fairpp_hf.evaluation.baselines import CONSTANT
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
from fairpp_hf.evaluation.results_table import COMPARED_WITH, MARGIN, metric_notes, p_value_text, signed
from fairpp_hf.markdown import counted
from fairpp_hf.statistics.paired import Comparison

_COLUMNS = (
    ("skill/target", "skill", "descending"),
    ("question_js_distance/target", "distance by question", "ascending"),
    ("question_js_distance/margin", "margin by question", "descending"),
    ("js_distance/margin", "margin of shares", "descending"),
    ("agreement/target", "agreement", "descending"),
    ("brier/target", "Brier score", "ascending"),
    ("js_distance/target", "distance of shares", "ascending"),
    ("worst_group/target", "worst group", "descending"),
    ("calibration_error/target", "calibration error", "ascending"),
    ("forms_consistency", "consistency of forms", "descending"),
    ("abstention", "abstention (C)", "ascending"),
    ("unanswered", "unanswered", "ascending"),
)
"""Metric, heading, and the order of the first click."""

METRIC_NAMES = {metric: heading for metric, heading, _ in _COLUMNS} | {
    "js_divergence/target": "divergence of shares",
    "js_divergence/margin": "divergence margin",
}


def results_section(evaluated: Evaluated, labels: Labeller) -> Section:
    """What stands at the top of the page."""
    target = name(evaluated.name(evaluated.target))
    margin, margin_metric = MARGIN[evaluated.compared_with]
    metrics = [
        interval_chart(
            "distance",
            "Distance to the target by question",
            evaluated,
            labels,
            lambda system: _measured(system, "question_js_distance/target"),
            axis="mean Jensen-Shannon distance; left is closer",
            what="distance by question",
        ),
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
            "margin",
            "Nearer to the target than to others?",
            evaluated,
            labels,
            lambda system: _measured(system, margin_metric),
            axis="distance to the nearest other persona minus to the target; right is closer",
            what=margin,
        ),
    ]
    return section(
        "results",
        "Where the systems stand",
        paragraph(_asked(evaluated), f"The target is {target}."),
        bullets(_findings(evaluated)),
        _systems_table(evaluated),
        paragraph(
            '<span class="muted">'
            "In brackets: 95% interval, bootstrap over clusters of questions on one problem and group: it is for "
            "these problems and these groups, asked again, and does not cover the variation over training runs. "
            f"{' '.join(metric_notes(evaluated.compared_with))} Unanswered questions are left out and not imputed"
            + (".</span>" if _unanswered(evaluated) else "; here there are none.</span>")
        ),
        grid((figure(chart) for chart in metrics), kind="thirds"),
        _comparisons(evaluated),
        _personas(evaluated),
        charts=metrics,
    )


def _asked(evaluated: Evaluated) -> str:
    """Who was asked what, and who gave no valid answer at all."""
    baselines = sum(system.is_baseline for system in evaluated.systems)
    models = len(evaluated.systems) - baselines
    questions = counted(len(evaluated.questions), "scenario" if evaluated.scenarios else "question")
    orders = "in both orders" if evaluated.orders == 2 else "in one order"
    said = []
    if models:
        verb = "was" if models == 1 else "were"
        said.append(
            f"{counted(models, 'model')} {verb} asked {questions} ({text(evaluated.division)}), {orders} of the options."
        )
    if baselines:
        beside = "beside" if models else f"on {questions} ({text(evaluated.division)}), without a model beside"
        verb = "stands" if baselines == 1 else "stand"
        said.append(f"{counted(baselines, 'baseline')} {verb} {beside} {'it' if models == 1 else 'them'}.")
    said.append(
        f"All are compared with {counted(len(evaluated.personas), 'persona')} of {name(evaluated.reference)}: "
        f"{COMPARED_WITH[evaluated.compared_with]}."
    )
    constrained = [name(system.name) for system in evaluated.systems if system.facts.get("constrained")]
    if constrained:
        said.append(
            f"Of {', '.join(constrained)}, the probabilities are probabilities under a constrained choice: the server let "
            "the model write the letter of an option alone."
        )
    silent = [name(system.name) for system in evaluated.systems if not system.statuses.get("ok")]
    if silent:
        said.append(f"<strong>No valid answer came from {', '.join(silent)}.</strong>")
    return " ".join(said)


def _unanswered(evaluated: Evaluated) -> bool:
    return any(system.metrics.get("unanswered") for system in evaluated.systems)


def _called(system: System) -> str:
    """Its name in a sentence."""
    return name(system.name) + " (baseline)" * system.is_baseline


def _measured(system: System, metric: str) -> tuple[float | None, tuple[float, float] | None]:
    return system.metrics.get(metric), system.interval(metric)


def _findings(evaluated: Evaluated) -> list[str]:
    """The main result in sentences, as far as there are numbers for them."""
    target = name(evaluated.name(evaluated.target))
    measured = [system for system in evaluated.models if system.metrics.get("question_js_distance/target") is not None]
    if not measured:
        return [f"No model answered a question that {target} answered too: there is nothing to compare."]
    by_probabilities = evaluated.compared_with == "probabilities"
    error = "question_js_distance/target" if by_probabilities else "brier/target"
    nearest = measured[0]
    found = [
        f"Nearest to {target}, question by question: <strong>{_called(nearest)}</strong>, "
        f"{METRIC_NAMES[error]} {_value(nearest, error)}.",
        *_beside_the_constant(measured),
    ]
    nearer: list[str] = []
    not_nearer: list[str] = []
    open_: list[str] = []
    for system in measured:
        if (margin := system.interval(MARGIN[evaluated.compared_with][1])) is not None:
            place = open_ if margin[0] <= 0 <= margin[1] else nearer if margin[0] > 0 else not_nearer
            place.append(_called(system))
    for systems, said in (
        (nearer, "Nearer to the target than to any other persona"),
        (not_nearer, "Nearer to another persona than to the target"),
        (open_, "Either may be true of"),
    ):
        if systems is open_ and systems and not nearer + not_nearer:
            found.append(
                "Of none can be said whether the target or another persona is nearer: each interval has 0 in it."
            )
        elif systems:
            found.append(f"{said}: {', '.join(systems)}.")
    return found


def _beside_the_constant(models: Sequence[System]) -> list[str]:
    """Which models are nearer to the target than the same shares for every question, where that is known.

    By the intervals; by the values alone where there are none.
    """
    scored = [system for system in models if system.metrics.get("skill/target") is not None]
    nearer: list[str] = []
    further: list[str] = []
    open_: list[str] = []
    for system in scored:
        low, high = system.interval("skill/target") or (system.metrics["skill/target"],) * 2
        place = nearer if low > 0 else further if high < 0 else open_
        place.append(f"{_called(system)} (skill {_value(system, 'skill/target')})")
    constant = f"than the {CONSTANT}, which says the target's mean shares to every question"
    return [
        f"{said}: {', '.join(systems)}."
        for said, systems in (
            (f"Nearer {constant}", nearer),
            (f"Further {constant}", further),
            (f"Neither clearly nearer nor clearly further {constant}", open_),
        )
        if systems
    ]


def _value(system: System, metric: str) -> str:
    """A number with its interval."""
    value, interval = _measured(system, metric)
    return number(value) + ("" if interval is None else f" [{number(interval[0])}, {number(interval[1])}]")


def _systems_table(evaluated: Evaluated) -> str:
    """A row a system; the constant and then the nearest to begin with, sorted by a click where there are scripts."""
    columns = [
        column
        for column in _COLUMNS
        if any(system.metrics.get(column[0]) is not None for system in evaluated.systems)
        and ("margin" not in column[0] or column[0] == MARGIN[evaluated.compared_with][1])
        and (column[0] != "unanswered" or _unanswered(evaluated))
    ]
    heads = (
        '<th scope="col">system</th>'
        + "".join(
            f'<th scope="col" data-kind="number" data-first="{first}">{heading}</th>'
            for metric, heading, first in columns
        )
        + '<th scope="col" class="text">nearest other</th>'
    )
    rows = []
    for system in evaluated.systems:
        kind = "baseline, to beat" if system.name == CONSTANT else "baseline"
        cells = [
            f'<th scope="row" data-key="{text(system.name)}">{name(system.name)}'
            f"{f'<small>{kind}</small>' * system.is_baseline}</th>"
        ]
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
            f'<table class="sortable dense" id="systems"><caption>{text(caption)}</caption><thead><tr>{heads}</tr></thead>'
            f"<tbody>{''.join(rows)}</tbody></table>",
            caption,
        )
        + '<p class="muted" aria-live="polite"></p></div>'
    )


def _comparisons(evaluated: Evaluated) -> str:
    """Paired comparisons, where two systems were compared."""
    if not evaluated.comparisons:
        return ""
    pairs: dict[tuple[str, str], dict[str, Comparison]] = {}
    for comparison in evaluated.comparisons:
        pairs.setdefault((comparison.first, comparison.second), {})[comparison.metric] = comparison.result
    metrics = list(dict.fromkeys(comparison.metric for comparison in evaluated.comparisons))
    metrics.sort(key=lambda metric: list(METRIC_NAMES).index(metric) if metric in METRIC_NAMES else len(METRIC_NAMES))
    caption = "Differences between systems"
    heads = "".join(f'<th scope="col">{text(METRIC_NAMES.get(metric, metric))}</th>' for metric in metrics)
    rows = "".join(
        f'<tr><th scope="row">{name(first)} minus {name(second)}</th>'
        f"{''.join(_difference(found.get(metric)) for metric in metrics)}</tr>"
        for (first, second), found in pairs.items()
    )
    return (
        "<h3>Compared in pairs</h3>"
        + paragraph(
            "The same questions, resampled together for both. Of agreement and margin, above 0 is in favour of "
            "the first; of the others, below 0 is. Divergence of shares: the square of their distance, less what "
            "noise adds to it. In brackets: 95% interval. p: two-sided test of no difference, one comparison at a time."
        )
        + scrolled(
            f'<table class="dense"><caption>{caption}</caption><thead><tr><th scope="col">systems</th>{heads}</tr></thead>'
            f"<tbody>{rows}</tbody></table>",
            caption,
        )
    )


def _difference(comparison: Comparison | None) -> str:
    """A cell."""
    if comparison is None:
        return "<td>none</td>"
    low, high = comparison.interval
    interval = "" if low is None or high is None else f"<small>[{signed(low)}, {signed(high)}]</small>"
    p = f"<small>p {text(p_value_text(comparison.p_value))}</small>"
    return f"<td>{signed(comparison.difference)}{interval}{p}</td>"


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
