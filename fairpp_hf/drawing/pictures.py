"""The pictures beside the results: results.png, positions.png and quality.png."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fairpp_hf.drawing.canvas import Chart, png
from fairpp_hf.drawing.charts import Party, Value, heat_map, interval_chart
from fairpp_hf.drawing.evaluation_charts import answer_charts, distance_chart
from fairpp_hf.drawing.position_map import methods_of, position_chart
from fairpp_hf.drawing.texts import percent
from fairpp_hf.drawing.theme import PERSONA, drawable
from fairpp_hf.evaluation.quality.quality import RunQuality
from fairpp_hf.evaluation.results import Results
from fairpp_hf.markdown import counted
from fairpp_hf.naming import readable


def draw_evaluation(results: Results, path: Path) -> Path:
    """Draw how near each system is to the target, and the shares of its answers, into a PNG file."""
    target = drawable(results.name(results.target), "the target")
    orders = "both orders of A and B" if results.orders == 2 else "options in one order"
    division = drawable(results.division, "see results.md")
    kind = "scenarios" if results.scenarios else "questions"
    lines = "Lines: 95% intervals. " if any(system.intervals for system in results.systems) else ""
    return _write(
        path,
        [distance_chart(results), answer_charts(results)[1]],
        title=f"Who agrees with {target}?",
        caption=f"{len(results.questions):,} {kind} ({division}), {orders}. "
        f"{'Probabilities' if results.compared_with == 'probabilities' else 'Single answers'} of the personas: "
        f"{drawable(results.reference, 'see results.md')}. {lines}Constant: the target's mean shares said to "
        "every question. By chance: a third for each option.",
    )


def draw_positions(positions: Mapping[str, Any], path: Path, systems: Sequence[str] = ()) -> Path:
    """Draw both maps of positions.json into a PNG file; systems of an evaluation beside it have the same look here."""
    return _write(
        path,
        [position_chart(method, positions, systems) for method in methods_of(positions)],
        title="Where models stand among the personas",
        caption="Nearer to the target is better: the nearer two are, the more alike are their answers. Where regions "
        f"overlap, it may be chance. {positions['questions']:,} questions "
        f"({drawable(positions['division'], 'see positions.md')}). Answers of the personas: "
        f"{drawable(positions['reference'], 'see positions.md')}.",
    )


def draw_quality(quality: RunQuality, run: str, path: Path) -> Path:
    """Draw who is taken for whom, distances from the survey's leanings and contradictory forms into a PNG file."""
    charts = [_confusion(quality), _leanings(quality), _forms(quality)]
    return _write(
        path,
        [chart for chart in charts if chart is not None],
        title=f"Quality of the run {drawable(run)}: {drawable(quality.respondent)}",
        caption=f"{quality.replies:,} simulated replies to {quality.questions:,} questions, "
        f"{quality.valid / quality.replies:.1%} of them valid; lines: 95% intervals over clusters of questions. They say "
        "how a model plays its roles, and nothing about people. quality.md says what was not measured, and why.",
    )


def _write(path: Path, charts: Sequence[Chart], *, title: str, caption: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(charts, title=title, caption=caption))
    return path


def _parties(personas: Sequence[str]) -> list[Party]:
    return [
        Party(readable(persona), drawable(readable(persona), f"persona {place}"), PERSONA)
        for place, persona in enumerate(personas, 1)
    ]


def _confusion(quality: RunQuality) -> Chart | None:
    """A row a persona whose answers they are, a column a persona they are attributed to."""
    found = quality.identification
    if found.size is None:
        return None
    names = [party.label for party in _parties(found.personas)]
    accuracy = found.by_size[found.size]
    return heat_map(
        "confusion",
        f"Taken for whom, from {counted(found.size, 'answer')}, in percent",
        names,
        names,
        np.array(found.confusion, dtype=float),
        form=partial(percent, sign=""),
        limits=(0.0, 1.0),
        note=f"Better: 100 on the diagonal. {percent(accuracy.value)} right, by chance {percent(accuracy.chance)}; "
        f"n = {accuracy.n:,} bundles.",
    )


def _leanings(quality: RunQuality) -> Chart | None:
    """A row a persona, a column a dimension: how far the run's P(B | A or B) is from the survey's."""
    if quality.survey is None:
        return None
    leanings = quality.survey.leanings
    numbers = sorted({number for of_persona in leanings.values() for number in of_persona})

    def apart(persona: str, number: int) -> float:
        leaning = leanings[persona].get(number)
        return np.nan if leaning is None or leaning.run.value is None else abs(leaning.run.value - leaning.survey)

    survey = [leaning.survey for of_persona in leanings.values() for leaning in of_persona.values()]
    coin = float(np.abs(np.array(survey) - 0.5).mean()) if survey else None
    distance = quality.survey.from_figures.lean
    mean = "" if distance.value is None else f" Where the survey has figures: mean {percent(distance.value)}."
    return heat_map(
        "leanings",
        "Distance from the survey, in percent",
        [party.label for party in _parties(list(leanings))],
        [str(number) for number in numbers],
        np.array([[apart(persona, number) for number in numbers] for persona in leanings], dtype=float),
        form=partial(percent, sign=""),
        limits=(0.0, 1.0),
        note=f"Of P(B | A or B), by dimension. Better: 0. By chance, as a coin would lean: mean {percent(coin)}.{mean}",
    )


def _forms(quality: RunQuality) -> Chart | None:
    """A row a persona: contradictory forms beside chance."""
    found = quality.forms.contradictory
    if found.overall.value is None:
        return None
    measures = [found.by_persona[persona] for persona in quality.personas]
    return interval_chart(
        "forms",
        "Opposite poles in the two forms",
        [
            Value(party, measure.value, measure.interval, measure.chance)
            for party, measure in zip(_parties(quality.personas), measures, strict=True)
        ],
        axis="← further left is better; small tick: by chance",
        lines={},
        tick="by chance",
        form=percent,
        note=f"Of pairs answered A or B in both forms: {found.overall.value:.1%} of n = {found.overall.n:,}.",
    )
