"""An evaluation as Markdown: tables for people, and what their numbers mean in plain words (notes.md)."""

import textwrap
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined

from fairpp_hf.evaluation.baselines import CONSTANT, FEWEST_ANSWERS, LABEL_MODEL, MAJORITY, UNIFORM
from fairpp_hf.evaluation.results import Results, System
from fairpp_hf.markdown import one_line, table
from fairpp_hf.schema import STATUSES
from fairpp_hf.statistics.bootstrap import Interval

_NONE = "none"

_HEADLINE = (
    ("skill", "skill/target"),
    ("distance by question", "question_js_distance/target"),
    ("agreement with target", "agreement/target"),
    ("Brier score", "brier/target"),
    ("distance of shares", "js_distance/target"),
    ("worst group", "worst_group/target"),
)
"""Columns of the first table with the metric in each, and then the margin."""

_MARGINS = {"probabilities": "margin by question", "answers": "margin of shares"}

_COMPARED = (
    ("distance by question", "question_js_distance/target"),
    ("agreement with target", "agreement/target"),
    ("Brier score", "brier/target"),
    ("divergence of shares", "js_divergence/target"),
    ("divergence margin", "js_divergence/margin"),
)
"""Columns of the comparisons, likewise."""

COMPARED_WITH = {
    "probabilities": "with the personas' option probabilities, which are known, and not with one drawn answer a question",
    "answers": "with one answer a question, since option probabilities are not known for all of them; the distance by "
    "question then rewards mere confidence, and only a system that is certain and right has 0",
}
"""What systems are compared with, by `compared_with` of results.json."""

_BASELINES = {
    CONSTANT: "the target's mean shares of A, B and C, whatever the question, fitted {fitted}",
    LABEL_MODEL: "what the questions' labels predict, fitted likewise",
    MAJORITY: "the majority vote of the other personas, weighted by their shares where all of these are known",
    UNIFORM: "the same probability for every option",
}


def tables(results: Results) -> str:
    """Tables of the systems, the constant first and then the nearest; of biases; of comparisons; of how replies came out."""
    parts = [_headline(results), *_biases(results.systems), *_comparisons(results), *_statuses(results.systems)]
    return "\n\n".join(parts) + "\n"


def notes(results: Results) -> str:
    """What the numbers are, in plain words, wrapped to 120 characters."""
    facts = {system.name: system.facts for system in results.systems if system.is_baseline}
    said = [
        f"{name}, {words.format_map({'fitted': '', **facts[name]})}".rstrip()
        for name, words in _BASELINES.items()
        if name in facts
    ]
    module = _template().make_module(
        {
            "said": said,
            "label_model_is_better": facts.get(LABEL_MODEL, {}).get("is_better"),
            "has_constant": CONSTANT in facts,
            "fewest_answers": FEWEST_ANSWERS,
            "orders": results.orders,
            "constrained": [one_line(each.name) for each in results.systems if each.facts.get("constrained")],
            "has_lengths": any(system.length_gap for system in results.systems),
            "has_comparisons": bool(results.comparisons),
        }
    )
    points = [" ".join(module.baselines().split()), *metric_notes(results.compared_with), *_lines(module.others())]
    paragraphs = [
        *warnings(results),
        f"Target: {results.target}; {len(results.questions):,} {results.kind} ({results.division}); answers of "
        f"the personas: {one_line(results.reference)}.",
    ]
    blocks = [textwrap.fill(paragraph, 120) for paragraph in paragraphs]
    blocks.append("\n".join(textwrap.fill(point, 120, initial_indent="- ", subsequent_indent="  ") for point in points))
    return "\n\n".join(blocks) + "\n"


def metric_notes(compared_with: str) -> list[str]:
    """What each metric of the first table is, by `compared_with` of results.json."""
    module = _template().make_module({"compared": COMPARED_WITH[compared_with]})
    return _lines(module.metrics(compared_with))


def warnings(results: Results) -> list[str]:
    """A sentence or two on each adapted model that is no nearer to the target than a constant answer."""
    return [
        f"`{one_line(system.name)}` is no nearer to {results.target} than a constant answer, the target's mean shares "
        f"said to every question (skill {_with_interval(system, 'skill/target')}). Train on more questions and for more "
        "steps, and aim at the target's probabilities: labels: fitted, reference: none."
        for system in results.systems
        if _is_adapted(system.facts) and (system.metrics["skill/target"] or 0.0) < 0
    ]


def _is_adapted(facts: Mapping[str, Any]) -> bool:
    """Whether a system is a model that was trained, and not one with a prompt."""
    return facts.get("adapter") is not None or (facts.get("before") is not None and facts.get("persona") is None)


@cache
def _template() -> Any:
    text = (files("fairpp_hf.evaluation") / "notes.md").read_text(encoding="utf-8")
    return Environment(undefined=StrictUndefined, autoescape=False).from_string(text)


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line]


def _headline(results: Results) -> str:
    columns = (*_HEADLINE, (_MARGINS[results.compared_with], results.margin))
    rows = [
        [
            system.name,
            *(_with_interval(system, metric) for _, metric in columns),
            system.metrics.get("nearest_other") or _NONE,
            _share(system.metrics.get("unanswered")),
        ]
        for system in results.systems
    ]
    return table(["system", *(head for head, _ in columns), "nearest other", "unanswered"], rows)


def _biases(systems: Sequence[System]) -> list[str]:
    rows = []
    for system in systems:
        place, length = system.position_bias, system.length_gap
        if place is not None or length is not None:
            gaps = [
                _NONE if gap is None else signed(gap.gap) + _bounds(gap.interval, "+.3f") for gap in (place, length)
            ]
            rows.append([system.name, gaps[0], _share(place and place.same_choice), gaps[1]])
    return [table(["system", "position gap", "same choice in both orders", "length gap"], rows)] if rows else []


def _comparisons(results: Results) -> list[str]:
    pairs: dict[tuple[str, str], dict[str, str]] = {}
    for first, second, metric, found in results.comparisons:
        cell = f"{signed(found.difference)}{_bounds(found.interval, '+.3f')}, p {p_value_text(found.p_value)}"
        pairs.setdefault((first, second), {})[metric] = cell
    if not pairs:
        return []
    rows = [[*pair, *(cells.get(metric, _NONE) for _, metric in _COMPARED)] for pair, cells in pairs.items()]
    return [table(["system", "minus", *(head for head, _ in _COMPARED)], rows, left=2)]


def _statuses(systems: Sequence[System]) -> list[str]:
    """How the replies of models came out; a baseline was not asked."""
    counts = {system.name: system.statuses for system in systems if not system.is_baseline}
    shown = [status for status in STATUSES if status == "ok" or any(status in found for found in counts.values())]
    rows = [[name, *(f"{found.get(status, 0):,}" for status in shown)] for name, found in counts.items()]
    return [table(["replies of", *shown], rows)] if rows else []


def _with_interval(system: System, metric: str) -> str:
    value = system.metrics.get(metric)
    return _NONE if value is None else f"{_rounded(value):.3f}{_bounds(system.interval(metric), '.3f')}"


def _bounds(interval: Interval | None, form: str) -> str:
    return "" if interval is None else f" [{', '.join(format(_rounded(bound), form) for bound in interval)}]"


def p_value_text(value: float | None) -> str:
    """A p-value with three digits, `< 0.001` below them, and `none` for None."""
    if value is None:
        return _NONE
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def signed(value: float | None) -> str:
    """A difference with its sign and three digits, never `-0.000`, and `none` for None.

    Example:
        >>> signed(0.25), signed(-0.0001), signed(None)
        ('+0.250', '+0.000', 'none')
    """
    return _NONE if value is None else f"{_rounded(value):+.3f}"


def _rounded(value: float) -> float:
    """To three digits; adding 0 makes 0 of -0."""
    return round(value, 3) + 0.0


def _share(value: float | None) -> str:
    return _NONE if value is None else f"{value:.1%}"
