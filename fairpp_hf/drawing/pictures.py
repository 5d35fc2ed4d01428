"""The pictures beside the results: results.png, positions.png and quality.png."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fairpp_hf.drawing.canvas import Chart, png
from fairpp_hf.drawing.charts import Party, Value, heat_map, interval_chart, stacked_bars
from fairpp_hf.drawing.evaluation_charts import headline_charts
from fairpp_hf.drawing.plots import Spot, scatter_chart
from fairpp_hf.drawing.position_map import methods_of, position_chart
from fairpp_hf.drawing.texts import percent
from fairpp_hf.drawing.theme import drawable, status_fill, system_looks
from fairpp_hf.evaluation.quality.quality import RunQuality
from fairpp_hf.evaluation.results import Results
from fairpp_hf.markdown import counted
from fairpp_hf.naming import readable
from fairpp_hf.schema import STATUSES


def draw_evaluation(results: Results, path: Path) -> Path:
    """Draw how near each system is to the target and to the others, and its skill, into a PNG file."""
    target = drawable(results.name(results.target), "the target")
    orders = "both orders of A and B" if results.orders == 2 else "options in one order"
    division = drawable(results.division, "see results.md")
    kind = "scenarios" if results.scenarios else "questions"
    return _write(
        path,
        headline_charts(results),
        title=f"Who agrees with {target}?",
        caption=f"{len(results.questions):,} {kind} ({division}), {orders}. "
        f"{'Probabilities' if results.compared_with == 'probabilities' else 'Single answers'} of the personas: "
        f"{drawable(results.reference, 'see results.md')}. Lines: 95% intervals.",
    )


def draw_positions(positions: Mapping[str, Any], path: Path, systems: Sequence[str] = ()) -> Path:
    """Draw both maps into a PNG file.

    Args:
        positions: What positions.json holds.
        path: Path of the PNG file.
        systems: Names of systems of an evaluation beside it, so that each has the same look here.
    """
    return _write(
        path,
        [position_chart(method, positions, systems) for method in methods_of(positions)],
        title="Where models stand among the personas",
        caption=f"{positions['questions']:,} questions ({drawable(positions['division'], 'see positions.md')}). Answers "
        f"of the personas: {drawable(positions['reference'], 'see positions.md')}.",
    )


def draw_quality(quality: RunQuality, run: str, path: Path) -> Path:
    """Draw who is taken for whom, leanings beside the survey's, contradictory forms and statuses into a PNG file."""
    charts = [_confusion(quality), _leanings(quality), _forms(quality), _statuses(quality)]
    return _write(
        path,
        [chart for chart in charts if chart is not None],
        title=f"Quality of the run {drawable(run)}: {drawable(quality.respondent)}",
        caption=f"{quality.replies:,} simulated replies to {quality.questions:,} questions; lines: 95% intervals over "
        "clusters of questions. They say how a model plays its roles, and nothing about people. quality.md says what was "
        "not measured, and why.",
    )


def _write(path: Path, charts: Sequence[Chart], *, title: str, caption: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(charts, columns=2, title=title, caption=caption))
    return path


def _parties(personas: Sequence[str]) -> list[Party]:
    """Personas with a look each, which are told apart in these pictures."""
    looks = system_looks(personas)
    return [
        Party(readable(persona), drawable(readable(persona), f"persona {place}"), looks[persona])
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
        what="share attributed to each persona",
        form=partial(percent, sign=""),
        limits=(0.0, 1.0),
        note=f"{percent(accuracy.value)} right, by chance {percent(accuracy.chance)}; n = {accuracy.n:,} bundles.",
    )


def _leanings(quality: RunQuality) -> Chart | None:
    """A marker a persona and dimension: the survey's P(B | A or B) against the run's."""
    if quality.survey is None:
        return None
    spots = [
        [
            Spot(leaning.survey, leaning.run.value, leaning.run.interval, leaning.from_figures)
            for leaning in leanings.values()
            if leaning.run.value is not None
        ]
        for leanings in quality.survey.leanings.values()
    ]
    distance = quality.survey.from_figures.lean
    said = "" if distance.value is None else f" Distance {distance.value:.3f}, n = {distance.n:,}."
    return scatter_chart(
        "leanings",
        "Leanings: run and survey",
        list(zip(_parties(list(quality.survey.leanings)), spots, strict=True)),
        axes_names=("survey's model: P(B | A or B)", "run: P(B | A or B)"),
        note=f"A marker a dimension; hollow: the survey's side is a prior.{said}",
    )


def _forms(quality: RunQuality) -> Chart | None:
    """A row a persona: contradictory forms beside chance."""
    found = quality.forms.contradictory
    if found.overall.value is None:
        return None
    values = []
    for persona, party in zip(quality.personas, _parties(quality.personas), strict=True):
        measure = found.by_persona[persona]
        ticks = () if measure.chance is None else (measure.chance,)
        values.append(Value(party, measure.value, measure.interval, ticks))
    return interval_chart(
        "forms",
        "Opposite poles in the two forms",
        values,
        axis="of pairs answered A or B in both forms; small ticks: by chance",
        ticks="by chance",
        form=percent,
        note=f"{found.overall.value:.1%} of n = {found.overall.n:,} pairs.",
    )


def _statuses(quality: RunQuality) -> Chart:
    """A bar a persona: shares of the statuses."""
    by_persona = quality.statuses.by_persona
    shown = [status for status in STATUSES if any(by_persona[persona][status] for persona in quality.personas)]
    counts = np.array([[by_persona[persona][status] for status in shown] for persona in quality.personas], dtype=float)
    return stacked_bars(
        "statuses",
        "How replies came out",
        [party.label for party in _parties(quality.personas)],
        {"": counts / counts.sum(axis=1, keepdims=True)},
        [status_fill(status) for status in shown],
        note=f"{quality.valid / quality.replies:.1%} valid; n = {quality.replies:,} replies.",
    )
