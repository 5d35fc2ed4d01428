"""An evaluation as Markdown: tables for people, and what their numbers are in plain words."""

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fairpp_hf.evaluation.baselines import CONSTANT, FEWEST_ANSWERS, LABEL_MODEL, MAJORITY, UNIFORM
from fairpp_hf.evaluation.results_folder import status_counts
from fairpp_hf.markdown import one_line, table
from fairpp_hf.schema import STATUSES

if TYPE_CHECKING:
    from fairpp_hf.evaluation.evaluate import Evaluation, SystemResult
    from fairpp_hf.evaluation.length_gap import LengthGap
    from fairpp_hf.evaluation.position_bias import PositionBias

_NONE = "none"

_HEADLINE = (
    ("skill", "skill/target"),
    ("distance by question", "question_js_distance/target"),
    ("agreement with target", "agreement/target"),
    ("Brier score", "brier/target"),
    ("distance of shares", "js_distance/target"),
    ("worst group", "worst_group/target"),
)
"""Columns of the first table with the metric in each, and then `MARGIN`."""

MARGIN = {
    "probabilities": ("margin by question", "question_js_distance/margin"),
    "answers": ("margin of shares", "js_distance/margin"),
}
"""The margin to show, by `compared_with` of results.json: by question only where that distance is one to trust."""

_COMPARED = (
    ("distance by question", "question_js_distance/target"),
    ("agreement with target", "agreement/target"),
    ("Brier score", "brier/target"),
    ("divergence of shares", "js_divergence/target"),
    ("divergence margin", "js_divergence/margin"),
)
"""Columns of the comparisons, likewise."""

_SKILL = {
    "probabilities": "Skill: 1 - distance by question / that of the constant, over the questions that the system answered. "
    "1 is the target itself, 0 is as near as the constant, and below 0 is further from the target than the same shares said "
    "to every question.",
    "answers": "Skill: 1 - Brier score / that of the constant, over the questions that the system answered. 0 is as good as "
    "the constant, below 0 is worse than the same shares said to every question, and the target's own probabilities have "
    "the highest skill to be expected, which is below 1 where its answers vary.",
}
"""What skill says, by `compared_with` of results.json."""
_METRICS = (
    "Distance by question: mean over questions of the Jensen-Shannon distance, natural logarithm, 0 to 0.833; lower is "
    "closer. Systems are compared {compared}.",
    "Agreement: mean probability that an answer of the system is the target's answer. It rewards confidence.",
    "Brier score: mean squared error of the probabilities, 0 to 2; lower is better, and confidence alone does not help.",
    "Distance of shares: the Jensen-Shannon distance between the shares of A, B and C over all questions. It is blind to "
    "who answers what, so that the constant has next to none.",
    "Worst group: the lowest agreement among the groups with at least 10 problems answered.",
)
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
_NO_CONSTANT = (
    "No constant is shown, so that no skill can be given: it takes the target's answers to other questions, at least "
    f"{FEWEST_ANSWERS} of them. Use --answers with more, or in Python `baselines` beside the systems."
)
_INTERVALS = (
    "In brackets: 95% interval, bootstrap over (problem, group) clusters of questions; none with fewer than 30 of "
    "these. It is for these problems and these groups, asked again: a claim about other problems needs a wider "
    "one (cluster_by=('problem',) in Python). It does not cover the variation over training seeds."
)
_BOTH_ORDERS = (
    "Models saw each question in both orders of options A and B, and their probabilities are the mean of the two. Position "
    "gap: probability of the option shown as A minus that of the option shown as B, over both orders, so that what they say "
    "cancels; 0 is no bias. Same choice: share of questions with the same answer in both orders."
)
_ONE_ORDER = (
    "Models saw the options in one order, as written, so that a preference for the place of A or B is in the numbers."
)
_LENGTH_GAP = (
    "Length gap, of models scored by whole lines: probability of a question's shortest option minus that of its longest, "
    "less the same by the options' letters alone, at which a model has chosen and which are as long as each other; 0 where "
    "the lines change nothing, above 0 where a result leans to short options because each token of a line costs something. "
    "Liking an option for its brevity is not in it, and odd wording is: see `length_gap`."
)
_DIFFERENCES = (
    "Differences: a system minus the other one, on the questions that both answered, with the same resamples for both. "
    "Divergence of shares: the square of their distance, less what noise adds to it; divergence margin: that from the "
    "nearest other persona minus that from the target. p: two-sided bootstrap test of no difference, one comparison at a "
    "time."
)
_CONSTRAINED = (
    "Of {systems}, the probabilities are probabilities under a constrained choice: the server let the model write the "
    "letter of an option alone."
)
_REPLIES = (
    "Replies: by question and order. Refused, invalid, empty, cut off and failed ones are counted and never made into an "
    "answer; a question without a valid answer in each order is left out of the metrics (unanswered)."
)


def tables(evaluation: "Evaluation") -> str:
    """The tables, in each the constant first and then the nearest."""
    systems = evaluation.best_first()
    parts = [
        _headline(systems, evaluation.compared_with),
        *_biases(systems),
        *_comparisons(evaluation),
        *_statuses(systems),
    ]
    return "\n\n".join(parts) + "\n"


def notes(evaluation: "Evaluation") -> str:
    """What the numbers are."""
    systems = evaluation.best_first()
    constrained = [system.name for system in systems if system.scores.facts.get("constrained")]
    points = [
        _baselines(evaluation),
        *metric_notes(evaluation.compared_with),
        _INTERVALS,
        _BOTH_ORDERS if evaluation.orders == 2 else _ONE_ORDER,
        *([_CONSTRAINED.format(systems=", ".join(map(one_line, constrained)))] if constrained else []),
        *([_LENGTH_GAP] if any(system.length_gap for system in systems) else []),
        *([_DIFFERENCES] if evaluation.comparisons else []),
        _REPLIES,
    ]
    paragraphs = [
        *evaluation.warnings(),
        f"Target: {evaluation.target}; {len(evaluation.questions):,} {evaluation.kind} ({evaluation.division}); answers of "
        f"the personas: {one_line(evaluation.reference)}.",
    ]
    blocks = [textwrap.fill(paragraph, 120) for paragraph in paragraphs]
    blocks.append("\n".join(textwrap.fill(point, 120, initial_indent="- ", subsequent_indent="  ") for point in points))
    return "\n\n".join(blocks) + "\n"


def metric_notes(compared_with: str) -> list[str]:
    """What each metric of the first table is, by `compared_with` of results.json."""
    distance = {"probabilities": "distance by question", "answers": "distance of shares"}[compared_with]
    return [
        _SKILL[compared_with],
        *(text.format(compared=COMPARED_WITH[compared_with]) for text in _METRICS),
        f"{MARGIN[compared_with][0].capitalize()}: the {distance} to the nearest other persona minus that to the target; "
        "above 0 is closer to the target than to anyone else.",
    ]


def warnings(evaluation: "Evaluation") -> list[str]:
    """A sentence or two on each adapted model that is no nearer to the target than a constant answer."""
    return [
        f"`{one_line(system.name)}` is no nearer to {evaluation.target} than a constant answer, the target's mean shares "
        f"said to every question (skill {_with_interval(system, 'skill/target')}). Train on more questions and for more "
        "steps, and aim at the target's probabilities: labels: fitted, reference: none."
        for system in evaluation.best_first()
        if _is_adapted(system.scores.facts) and (system.metrics["skill/target"] or 0.0) < 0
    ]


def _is_adapted(facts: Mapping[str, Any]) -> bool:
    """Whether a system is a model that was trained, and not one with a prompt."""
    return facts.get("adapter") is not None or (facts.get("before") is not None and facts.get("persona") is None)


def _baselines(evaluation: "Evaluation") -> str:
    """What each baseline is."""
    facts = {system.name: system.scores.facts for system in evaluation.systems}
    said = [
        f"{name}, {words.format_map({'fitted': '', **facts[name]})}".rstrip()
        for name, words in _BASELINES.items()
        if facts.get(name, {}).get("kind") == "baseline"
    ]
    paragraph = f"Baselines: {'; '.join(said)}." if said else ""
    if facts.get(LABEL_MODEL, {}).get("is_better") is False:
        paragraph += (
            " The label model predicts held-out answers no better than the constant, and gives the same shares."
        )
    if facts.get(CONSTANT, {}).get("kind") != "baseline":
        paragraph = f"{paragraph} {_NO_CONSTANT}".strip()
    return paragraph


def _headline(systems: "list[SystemResult]", compared_with: str) -> str:
    columns = (*_HEADLINE, MARGIN[compared_with])
    rows = [
        [
            system.name,
            *(_with_interval(system, metric) for _, metric in columns),
            _text(system.metrics.get("nearest_other")),
            _share(system.metrics.get("unanswered")),
        ]
        for system in systems
    ]
    return table(["system", *(head for head, _ in columns), "nearest other", "unanswered"], rows)


def _biases(systems: "list[SystemResult]") -> list[str]:
    rows = [
        [
            system.name,
            _gap(system.position_bias),
            _share(system.position_bias and system.position_bias.same_choice),
            _gap(system.length_gap),
        ]
        for system in systems
        if system.position_bias is not None or system.length_gap is not None
    ]
    return [table(["system", "position gap", "same choice in both orders", "length gap"], rows)] if rows else []


def _gap(bias: "PositionBias | LengthGap | None") -> str:
    if bias is None:
        return _NONE
    return signed(bias.gap) + ("" if bias.interval is None else f" [{', '.join(map(signed, bias.interval))}]")


def _comparisons(evaluation: "Evaluation") -> list[str]:
    pairs: dict[tuple[str, str], dict[str, Any]] = {}
    for comparison in evaluation.comparisons:
        pairs.setdefault((comparison.first, comparison.second), {})[comparison.metric] = comparison.result
    if not pairs:
        return []
    rows = [
        [first, second, *(_difference(found, metric) for _, metric in _COMPARED)]
        for (first, second), found in pairs.items()
    ]
    return [table(["system", "minus", *(head for head, _ in _COMPARED)], rows, left=2)]


def _difference(found: Mapping[str, Any], metric: str) -> str:
    if metric not in found:
        return _NONE
    result = found[metric]
    return (
        f"{signed(result.difference)} [{signed(result.low)}, {signed(result.high)}], p {p_value_text(result.p_value)}"
    )


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


def _statuses(systems: "list[SystemResult]") -> list[str]:
    """Of models: a baseline was not asked."""
    counts = {system.name: status_counts(system) for system in systems if system.scores.facts["kind"] == "model"}
    shown = [status for status in STATUSES if status == "ok" or any(status in found for found in counts.values())]
    rows = [[name, *(f"{found.get(status, 0):,}" for status in shown)] for name, found in counts.items()]
    return [table(["replies of", *shown], rows)] if rows else []


def _with_interval(system: "SystemResult", metric: str) -> str:
    value = system.metrics.get(metric)
    if value is None:
        return _NONE
    interval = system.intervals.get(metric)
    bounds = "" if interval is None else f" [{_rounded(interval.low):.3f}, {_rounded(interval.high):.3f}]"
    return f"{_rounded(value):.3f}{bounds}"


def _share(value: float | None) -> str:
    return _NONE if value is None else f"{value:.1%}"


def _text(value: str | None) -> str:
    return _NONE if value is None else value
