"""The charts of an evaluation, from its results: for the page, and the first two for results.png."""

from dataclasses import replace

import numpy as np

from fairpp_hf.drawing.canvas import Chart
from fairpp_hf.drawing.charts import Party, Value, diverging_bars, heat_map, interval_chart, stacked_bars
from fairpp_hf.drawing.numbers import agreeing_others, distances_between, labels_of, shares_by
from fairpp_hf.drawing.plots import line_chart
from fairpp_hf.drawing.theme import PERSONA, drawable, option_fill, status_fill, system_looks
from fairpp_hf.evaluation.results import Results, System
from fairpp_hf.schema import OPTION_LETTERS, STATUSES

_LOWEST_SKILL = -1.0


def headline_charts(results: Results) -> list[Chart]:
    """How near each system is to the target and to the others, and its skill where that is known.

    Distances are question by question where option probabilities are known, and of shares otherwise, since a distance to
    single answers rewards confidence.
    """
    by_question = results.compared_with == "probabilities"
    metric = "question_js_distance" if by_question else "js_distance"
    others = [persona for persona in results.personas if persona != results.target]
    parties = system_parties(results)
    charts = [
        interval_chart(
            "distance",
            f"Distance to {drawable(results.name(results.target), 'the target')}",
            [
                Value(
                    party,
                    *_measured(system, f"{metric}/target"),
                    tuple(
                        distance
                        for persona in others
                        if (distance := system.metrics.get(f"{metric}/{persona}")) is not None
                    ),
                )
                for party, system in zip(parties, results.systems, strict=True)
            ],
            axis=f"{'question by question' if by_question else 'of shares'}; left is closer; small ticks: other personas",
            head="distance",
            ticks="to other personas",
        )
    ]
    known = any(system.metrics.get("skill/target") is not None for system in results.systems)
    name = "skill/target" if known else "agreement/target"
    charts.append(
        interval_chart(
            "skill" if known else "agreement",
            "Skill: nearer than the constant?" if known else "Agreement with the target",
            [Value(party, *_measured(system, name)) for party, system in zip(parties, results.systems, strict=True)],
            axis="right of 0 is nearer to the target than the constant" if known else "right is closer",
            head="skill" if known else "agreement",
            line=0.0 if known else None,
            lowest=_LOWEST_SKILL if known else -np.inf,
        )
    )
    return charts


def answer_charts(results: Results) -> list[Chart]:
    """The target's answers beside the models', by dimension, problem category and group."""
    questions = results.questions
    target = Party(*_named(results.name(results.target), "the target"), PERSONA)
    rows = results.persona_probabilities[results.target]
    letters = ["first pole", "second pole", *OPTION_LETTERS[2:]]
    fills = [option_fill(option, letters[option]) for option in range(rows.shape[1])]
    models = {system.name: system.probabilities for system in results.models}
    systems = [(party, models[party.name]) for party in system_parties(results) if party.name in models]
    charts = []
    for column, title in (("dimension", "By dimension"), ("category", "By problem category"), ("group", "By group")):
        labels = labels_of(questions, column)
        # A question of each label, since those of one label have the same poles and group type.
        found = questions.take([int((labels.codes == code).argmax()) for code in range(len(labels.names))]).to_pylist()
        names = [drawable(name, f"row {place}") for place, name in enumerate(labels.names, 1)]
        sides, headings = None, None
        if column == "dimension":
            names = [f"dimension {name}" for name in names]
            sides = [(drawable(question["pole_a"], "A"), drawable(question["pole_b"], "B")) for question in found]
        elif column == "group":
            types = [question["group_type"] for question in found]
            headings = {row: drawable(kind) for row, kind in enumerate(types) if kind not in types[:row]}
        charts.append(
            diverging_bars(
                f"answers-{column}",
                title,
                names,
                (target, shares_by(rows, labels)),
                [(party, shares_by(given, labels)) for party, given in systems],
                fills,
                sides=sides,
                headings=headings,
            )
        )
    return charts


def distance_charts(results: Results) -> list[Chart]:
    """Heat maps: how far personas and systems are from each persona, question by question and by shares."""
    personas = list(results.persona_probabilities.values())
    systems = [system.probabilities for system in results.systems]
    parties = [*persona_parties(results), *system_parties(results)]
    marks = [str(place) for place in range(1, len(personas) + 1)]
    rows = [f"{party.label}  {mark}" for party, mark in zip(parties, marks, strict=False)]
    rows += [party.label for party in parties[len(personas) :]]
    charts = []
    for value, by_question, what in (
        ("questions", True, "mean Jensen-Shannon distance question by question"),
        ("shares", False, "Jensen-Shannon distance of the shares over all questions"),
    ):
        distances = distances_between([*personas, *systems], personas, by_question=by_question)
        np.fill_diagonal(distances, np.inf)
        chart = heat_map(
            f"distances-{value}",
            "To the personas",
            rows,
            marks,
            distances,
            what=what,
            names=([party.name for party in parties], [party.name for party in parties[: len(personas)]]),
        )
        charts.append(replace(chart, shown_by=("distances", value)))
    return charts


def agreeing_chart(results: Results) -> Chart:
    """How systems do where the target stands alone, and where all agree."""
    found = agreeing_others(results)
    left_out = f" {found.left_out:,} questions that some persona has not answered are left out." * bool(found.left_out)
    return line_chart(
        "agreeing",
        "Agreement, by how many others share the answer",
        list(zip(system_parties(results), found.agreement, strict=True)),
        found.questions.tolist(),
        axis="other personas that give the target's answer",
        note="On the right everybody says the same, and agreement is easy; on the left it has to be learnt." + left_out,
    )


def asking_charts(results: Results) -> list[Chart]:
    """Position bias and length gap, where they were measured, and how replies came out."""
    parties = system_parties(results)
    charts = []
    for key, title, axis in (
        ("position_bias", "Position bias", "above 0: the first option is favoured"),
        ("length_gap", "Length gap", "above 0: the shortest option is favoured"),
    ):
        gaps = [getattr(system, key) for system in results.systems]
        if any(gaps):
            # That a baseline was not asked says nothing about it.
            values = [
                Value(party, None if gap is None else gap.gap, None if gap is None else gap.interval)
                for party, gap, system in zip(parties, gaps, results.systems, strict=True)
                if gap or not system.is_baseline
            ]
            charts.append(interval_chart(key.replace("_", "-"), title, values, axis=axis, head="gap"))
    asked = [(party, system) for party, system in zip(parties, results.systems, strict=True) if not system.is_baseline]
    asked = asked or list(zip(parties, results.systems, strict=True))
    statuses = dict.fromkeys([*STATUSES, *(status for _, system in asked for status in system.statuses)])
    shown = [status for status in statuses if any(system.statuses.get(status) for _, system in asked)]
    counts = np.array([[system.statuses.get(status, 0) for status in shown] for _, system in asked], dtype=float)
    charts.append(
        stacked_bars(
            "statuses",
            "How replies came out",
            [party.label for party, _ in asked],
            {"": counts / counts.sum(axis=1, keepdims=True)},
            [status_fill(status) for status in shown],
            names=[party.name for party, _ in asked],
        )
    )
    return charts


def system_parties(results: Results) -> list[Party]:
    """The systems as they are drawn everywhere."""
    looks = system_looks(system.name for system in results.systems)
    return [
        Party(*_named(system.name, f"system {place}"), looks[system.name])
        for place, system in enumerate(results.systems, 1)
    ]


def persona_parties(results: Results) -> list[Party]:
    """The personas as they are drawn."""
    return [
        Party(*_named(results.name(persona), f"persona {place}"), PERSONA)
        for place, persona in enumerate(results.personas, 1)
    ]


def _named(name: str, otherwise: str) -> tuple[str, str]:
    return name, drawable(name, otherwise)


def _measured(system: System, metric: str) -> tuple[float | None, tuple[float, float] | None]:
    return system.metrics.get(metric), system.interval(metric)
