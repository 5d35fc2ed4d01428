"""The sections of charts: the map, the personas, distances, agreement, shares, position bias and statuses."""

from collections.abc import Mapping
from typing import Any

from fairpp_hf.evaluation.report.agreeing import agreeing_charts
from fairpp_hf.evaluation.report.bar_charts import share_chart, status_chart
from fairpp_hf.evaluation.report.charts import Labeller, heat_map, interval_chart, key_of, percent
from fairpp_hf.evaluation.report.folder import METHODS, Evaluated
from fairpp_hf.evaluation.report.markup import (
    Section,
    controls,
    figure,
    grid,
    name,
    paragraph,
    section,
    select,
    table,
    text,
)
from fairpp_hf.evaluation.report.numbers import Labels, agreeing_others, distance_matrix, labels_of, shares_by
from fairpp_hf.evaluation.report.position_map import position_chart
from fairpp_hf.evaluation.report.radar import radar_chart
from fairpp_hf.schema import OPTION_LETTERS
from fairpp_hf.statistics.biases import LengthGap, PositionBias


def map_section(evaluated: Evaluated) -> Section:
    """Models among the personas, by each method that positions.json has."""
    key, title = "map", "The map: models among the personas"
    positions = evaluated.positions
    methods = [
        method
        for method in METHODS
        if positions is not None and any(point.get(method) for point in positions["points"])
    ]
    if positions is None or not methods:
        how = f"fairpp position --out {evaluated.path} ..."
        return section(
            key,
            title,
            paragraph(
                f"There are no positions in this folder. <code>{text(how)}</code> adds them; then write the report again."
            ),
        )
    charts = [position_chart(method, positions) for method in methods]
    chooser = select("method", {"data-shows": "map"}, [(method, METHODS[method]) for method in methods])
    division, reference = positions.get("division"), positions.get("reference")
    return section(
        key,
        title,
        paragraph(
            f"Counted over {positions['questions']:,} questions"
            + (f" ({text(division)})" if division else "")
            + (f", with the answers of {name(reference)}" if reference else "")
            + ". Near together: alike in their answers."
        ),
        _differs(evaluated, positions),
        controls(chooser) if len(methods) > 1 else "",
        grid(figure(chart, wide=True) for chart in charts),
        charts=charts,
    )


def _differs(evaluated: Evaluated, positions: Mapping[str, Any]) -> str:
    """A warning where the map was made of something else than the rest of the page."""
    both = (
        ("Questions", f"{positions['questions']:,}", f"{len(evaluated.questions):,}"),
        ("Division", positions.get("division"), evaluated.division),
        ("Answers of the personas", positions.get("reference"), evaluated.reference),
    )
    said = [
        f"{what}: {name(of_map)}, elsewhere {name(of_page)}"
        for what, of_map, of_page in both
        if of_map not in (None, of_page)
    ]
    known = {*evaluated.personas, *map(evaluated.name, evaluated.personas)}
    others = [
        point["name"] for point in positions["points"] if point["kind"] == "persona" and point["name"] not in known
    ]
    if others:
        said.append(f"Personas that are nowhere else: {', '.join(map(name, others))}")
    if not said:
        return ""
    how = f"fairpp position --out {evaluated.path}"
    return (
        f'<p class="notice">The map was not made of what the rest of this page is about. {". ".join(said)}. '
        f"<code>{text(how)}</code> with the options of <code>fairpp evaluate</code> makes it again.</p>"
    )


def radar_section(evaluated: Evaluated, labels: Labeller) -> Section:
    """A radar a persona, and a system of choice over all of them."""
    dimensions = labels_of(evaluated.questions, "dimension")
    firsts = [int((dimensions.codes == code).argmax()) for code in range(len(dimensions.names))]
    poles = [(evaluated.questions["pole_a"][row].as_py(), evaluated.questions["pole_b"][row].as_py()) for row in firsts]
    best = evaluated.best
    charts = [radar_chart(evaluated, labels, persona, dimensions, poles, best) for persona in evaluated.personas]
    options = [("none", "no system"), *((str(n), system.name) for n, system in enumerate(evaluated.systems))]
    return section(
        "personas",
        "The personas by dimension",
        paragraph(
            "Shares of answers for the first pole (A) and for the second pole (B) on each dimension, from 0 in the middle "
            f"to 100% at the rim; the rest is C, neither. Over each, hollow marks: the shares of one system, here "
            f"{name(evaluated.systems[best].name)} unless another is chosen."
        ),
        controls(select("system shown over the personas", {"data-shows": "overlay"}, options, str(best))),
        grid((figure(chart) for chart in charts), kind="thirds"),
        f"<details><summary>Numbers of the systems</summary>{_by_dimension(evaluated, dimensions)}</details>",
        charts=charts,
    )


def _by_dimension(evaluated: Evaluated, dimensions: Labels) -> str:
    """Shares of each system on each dimension, as a table."""
    rows = [
        [f"{system.name}, dimension {label}", *map(percent, shares)]
        for system in evaluated.systems
        for label, shares in zip(dimensions.names, shares_by(system.probabilities, dimensions).shares, strict=True)
    ]
    return table(("system", *OPTION_LETTERS), rows, "The systems by dimension")


def distance_section(evaluated: Evaluated, labels: Labeller) -> Section:
    """How far everybody is from everybody."""
    personas, systems = evaluated.personas, evaluated.systems
    rows = [*evaluated.persona_probabilities.values(), *(system.probabilities for system in systems)]
    marks = [*(str(n) for n in range(1, len(personas) + 1)), *(f"S{n}" for n in range(1, len(systems) + 1))]
    names = [*map(evaluated.name, personas), *(system.name for system in systems)]
    shown = [*labels.personas.values(), *labels.systems]
    first_system = len(personas)
    charts = []
    for value, by_question, measure in (
        ("questions", True, "mean Jensen-Shannon distance question by question"),
        ("shares", False, "Jensen-Shannon distance of the shares of A, B and C"),
    ):
        distances = distance_matrix(rows, by_question=by_question)
        charts.append(
            heat_map(
                key_of("distances", value, "personas"),
                "To the personas",
                shown,
                names,
                range(first_system),
                distances,
                marks,
                ("distances", value),
                measure,
            )
        )
        if len(systems) > 1:
            charts.append(
                heat_map(
                    key_of("distances", value, "systems"),
                    "Among the systems",
                    shown[first_system:],
                    names[first_system:],
                    range(len(systems)),
                    distances[first_system:, first_system:],
                    marks[first_system:],
                    ("distances", value),
                    measure,
                )
            )
    options = [("questions", "question by question"), ("shares", "shares of all questions")]
    undecided = ", and so does being undecided between two options" if evaluated.compared_with == "answers" else ""
    return section(
        "distances",
        "Distances",
        paragraph(
            "Jensen-Shannon distance, natural logarithm, from 0 for alike to 0.833 for nothing in common; darker is further."
            " The distance of shares, the paper's, is blind to who answers what; question by question, answers that differ "
            f"count even where the shares are equal{undecided}."
        ),
        controls(select("distance of", {"data-shows": "distances"}, options)),
        grid(figure(chart) for chart in charts),
        charts=charts,
    )


def agreeing_section(evaluated: Evaluated, labels: Labeller) -> Section:
    """Where the target stands alone and where all agree."""
    charts = agreeing_charts(evaluated, labels, agreeing_others(evaluated))
    return section("agreeing", "Alone or with the others", grid(map(figure, charts)), charts=charts)


def shares_section(evaluated: Evaluated, labels: Labeller) -> Section:
    """A, B and C by problem category and by group, for a persona or system of choice."""
    questions = evaluated.questions
    categories, groups, types = (labels_of(questions, column) for column in ("category", "group", "group_type"))
    # In the order of the questions, groups of one type stand together.
    headings: dict[int, str] = {}
    for row in range(len(groups.names)):
        kind = types.names[types.codes[int((groups.codes == row).argmax())]]
        if kind not in headings.values():
            headings[row] = kind
    responders = [
        *(
            (labels.personas[persona], evaluated.name(persona), "persona", rows)
            for persona, rows in evaluated.persona_probabilities.items()
        ),
        *(
            (labels.systems[n], system.name, "system", system.probabilities)
            for n, system in enumerate(evaluated.systems)
        ),
    ]
    charts, options = [], []
    for place, (label, shown, kind, rows) in enumerate(responders):
        value = str(place)
        options.append((value, f"{shown} ({kind})"))
        for what, title, of, heads in (
            ("category", "by problem category", categories, {}),
            ("group", "by group", groups, headings),
        ):
            found = shares_by(rows, of)
            key = key_of("shares", what, place + 1, label)
            charts.append(share_chart(key, f"{shown}, {title}", shown, found, heads, ("shares", value)))
    target = str(evaluated.personas.index(evaluated.target))
    return section(
        "shares",
        "Answers by problem and by group",
        paragraph(
            "Percentages of A (first pole), B (second pole) and C (neither), over all five dimensions. Of a system: the "
            "probability that it gives to each option."
        ),
        controls(select("answers of", {"data-shows": "shares"}, options, target)),
        grid(map(figure, charts), kind="thirds" if len(charts) > 2 else "halves"),
        charts=charts,
    )


def asking_section(evaluated: Evaluated, labels: Labeller) -> Section:
    """Position bias, length gap, and how replies came out."""
    charts = []
    said = ["The options were shown in one order alone, so that position bias could not be measured."]
    if any(system.position_bias for system in evaluated.systems):
        said = [
            "Each question was asked in both orders of its options. Position bias: probability of the option shown as A "
            "minus that of the option shown as B, mean over both orders, in which what the options say cancels; 0 is none. "
            "The mean of both orders favours neither pole; a system that goes by the place alone gets half of A and half of "
            "B."
        ]
        charts.append(
            interval_chart(
                "position-bias",
                "Position bias",
                evaluated,
                labels,
                lambda system: _gap(system.position_bias),
                axis="above 0: the first option is favoured",
                what="gap",
            )
        )
    if any(system.length_gap for system in evaluated.systems):
        said.append(
            "Length gap: probability of a question's shortest option minus that of its longest, less the same by the "
            "options' letters alone; 0 where the length of the lines that were scored changes nothing. A liking of an "
            "option for its brevity is not in it."
        )
        charts.append(
            interval_chart(
                "length-gap",
                "Length gap",
                evaluated,
                labels,
                lambda system: _gap(system.length_gap),
                axis="above 0: the shortest option is favoured",
                what="gap",
            )
        )
    charts.append(status_chart(evaluated, labels))
    return section(
        "asking",
        "Position bias, length gap, refusals and other replies",
        *map(paragraph, said),
        paragraph("Refusals and replies that name no option are kept apart: they are never counted as an answer."),
        grid(map(figure, charts), kind="thirds" if len(charts) > 2 else "halves"),
        charts=charts,
    )


def _gap(bias: PositionBias | LengthGap | None) -> tuple[float | None, tuple[float, float] | None]:
    return (None, None) if bias is None else (bias.gap, bias.interval)
