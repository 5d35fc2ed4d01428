"""One self-contained page from an evaluated folder: no network, no font or script from elsewhere.

The text is in page.html, a Jinja template that escapes whatever it is given; here is what it shows.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from fairpp_hf import __version__
from fairpp_hf.drawing.canvas import Chart, png, svg
from fairpp_hf.drawing.evaluation_charts import (
    agreeing_chart,
    answer_charts,
    asking_charts,
    distance_charts,
    headline_charts,
)
from fairpp_hf.drawing.numbers import most_divided
from fairpp_hf.drawing.position_map import methods_of, position_chart
from fairpp_hf.drawing.texts import number, percent, with_interval
from fairpp_hf.evaluation.baselines import CONSTANT
from fairpp_hf.evaluation.positioning.report import TITLES
from fairpp_hf.evaluation.results import Results, System, read_results
from fairpp_hf.evaluation.results_table import COMPARED_WITH, MARGIN, metric_notes, p_value_text, signed
from fairpp_hf.provenance import CITATION
from fairpp_hf.respondents.base import SIMULATED
from fairpp_hf.schema import NO_ANSWER, OPTION_LETTERS

PAGE = "report.html"
PICTURES = "report"
_QUESTIONS = 100
"""Questions on the page, of however many: it has to be small enough to be sent by mail."""

_MORE = {
    "brier/target": "Brier score",
    "js_distance/target": "distance of shares",
    "js_distance/margin": "margin of shares",
    "worst_group/target": "worst group",
    "calibration_error/target": "calibration error",
    "forms_consistency": "consistency of forms",
    "abstention": "abstention (C)",
}
"""Metrics that the page shows on demand, with their headings."""
_COMPARED = {
    "question_js_distance/target": "distance by question",
    "agreement/target": "agreement",
    "js_divergence/target": "divergence of shares",
    "js_divergence/margin": "divergence margin",
    **_MORE,
}


def write_report(folder: Path, *, progress: bool = True) -> list[Path]:
    """Write report.html and the pictures of its charts, report/*.png, into an evaluated folder.

    Args:
        folder: Output of `fairpp evaluate`, in which `fairpp position` may have added positions.json.
        progress: Whether to show a bar, picture by picture.

    Returns:
        Paths of the page and of the pictures. Those of an earlier report in the folder are replaced.

    Raises:
        FileNotFoundError: The folder has not been evaluated.
        ValueError: One of its files is damaged, of another format, or does not go with the others.
    """
    results = read_results(folder)
    charts = charts_of(results)
    page, pictures = folder / PAGE, folder / PICTURES
    if pictures.is_symlink():
        raise ValueError(f"{PICTURES} must be a folder in {folder}; got a link. Remove it.")
    before = (
        re.findall(r'<figure id="figure-([a-z0-9-]+)"', page.read_text("utf-8", "replace")) if page.is_file() else []
    )
    for key in before:
        (pictures / f"{key}.png").unlink(missing_ok=True)
    pictures.mkdir(exist_ok=True)
    written, drawings = [], {}
    everything = [chart for of_section in charts.values() for chart in of_section]
    for chart in tqdm(everything, desc="Drawing", unit="picture", disable=not progress):
        written.append(pictures / f"{chart.key}.png")
        written[-1].unlink(missing_ok=True)  # a link is replaced and not written through, here and below
        written[-1].write_bytes(png([chart]))
        drawings[chart.key] = svg(chart)
    page.unlink(missing_ok=True)
    # Half a surrogate pair, which JSON can hold and UTF-8 cannot, becomes a question mark.
    page.write_text(render(results, charts, drawings), encoding="utf-8", errors="replace")
    return [page, *written]


def charts_of(results: Results) -> dict[str, list[Chart]]:
    """The charts of each section of the page."""
    positions = results.positions
    systems = [system.name for system in results.systems]
    methods = [] if positions is None else methods_of(positions)
    return {
        "results": headline_charts(results),
        "map": [position_chart(method, positions, systems) for method in methods if positions is not None],
        "answers": answer_charts(results),
        "distances": distance_charts(results),
        "agreeing": [agreeing_chart(results)],
        "asking": asking_charts(results),
    }


def render(results: Results, charts: Mapping[str, Sequence[Chart]], drawings: Mapping[str, str]) -> str:
    """The page as HTML.

    Args:
        results: Results of the evaluation.
        charts: Charts of each section.
        drawings: Key of a chart to its SVG.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    loader = PackageLoader("fairpp_hf.drawing", ".")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    here = files(__package__)
    script = "\n" + here.joinpath("page.js").read_text("utf-8")
    html = environment.get_template("page.html").render(
        **facts_of(results),
        charts=charts,
        drawings={key: Markup(drawing) for key, drawing in drawings.items()},
        style=Markup(here.joinpath("page.css").read_text("utf-8")),
        script=Markup(script),
        # Nothing but this script may run, whatever a name or a text has been made to hold.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    return re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", "\ufffd", html)


def facts_of(results: Results) -> dict[str, Any]:
    """What the page says, without its charts: names, numbers as texts, and what follows from them."""
    models = [system for system in results.models if system.metrics.get("question_js_distance/target") is not None]
    best = results.systems[results.best].name
    divided = most_divided(results, _QUESTIONS)
    return {
        "target": results.name(results.target),
        "results": results,
        "version": __version__,
        "citation": CITATION,
        "simulated": SIMULATED.strip() in results.reference,
        "letters": OPTION_LETTERS,
        "kind": "scenario" if results.scenarios else "question",
        "compared_with": COMPARED_WITH[results.compared_with],
        "notes": metric_notes(results.compared_with),
        "baselines": sum(system.is_baseline for system in results.systems),
        "constrained": [system.name for system in results.systems if system.facts.get("constrained")],
        "silent": [system.name for system in results.systems if not system.statuses.get("ok")],
        "best": next((verdict(results, system) for system in models if system.name == best), None),
        "verdicts": [verdict(results, system) for system in models if system.name != best],
        "systems": [_row(results, system) for system in results.systems],
        "more": _more(results),
        "comparisons": _comparisons(results),
        "personas": [_persona(results, persona) for persona in results.personas],
        "titles": TITLES,
        "other_map": _other_map(results),
        "questions": _questions(
            results, divided.rows.tolist(), divided.entropy.tolist(), divided.disagreement.tolist()
        ),
        "facts": {system.name: _facts(system) for system in results.systems},
    }


def verdict(results: Results, system: System) -> dict[str, str | None]:
    """Where a system stands, by its intervals; by the values alone where there are none.

    Returns:
        `skill` and `margin` are "yes", "no" or "open": whether it is nearer to the target than the constant, and than to any
        other persona; None where that is not known. The numbers stand beside, as texts.
    """
    margin = MARGIN[results.compared_with][1]
    error = "question_js_distance/target" if results.compared_with == "probabilities" else "brier/target"
    other = system.metrics.get("nearest_other")
    return {
        "name": system.name,
        "kind": "baseline" if system.is_baseline else "",
        "skill": _sign(system, "skill/target"),
        "skill_text": _text(system, "skill/target"),
        "margin": _sign(system, margin),
        "margin_text": _text(system, margin),
        "error": "distance" if error.startswith("question") else "Brier score",
        "error_text": _text(system, error),
        "other": None if other is None else results.name(other),
    }


def _sign(system: System, metric: str) -> str | None:
    value = system.metrics.get(metric)
    if value is None:
        return None
    low, high = system.interval(metric) or (value, value)
    return "yes" if low > 0 else "no" if high < 0 else "open"


def _text(system: System, metric: str) -> str:
    return with_interval(system.metrics.get(metric), system.interval(metric))


def _cell(system: System, metric: str) -> dict[str, Any]:
    """A number of a table with its interval, and the number as sorting takes it."""
    value, interval = system.metrics.get(metric), system.interval(metric)
    bounds = "" if interval is None else f"[{number(interval[0])}, {number(interval[1])}]"
    return {"text": number(value), "interval": bounds, "key": "" if value is None else f"{value:.9g}"}


def _row(results: Results, system: System) -> dict[str, Any]:
    """A row of the table of systems."""
    by_question = results.compared_with == "probabilities"
    metrics = (
        "skill/target",
        "question_js_distance/target" if by_question else "js_distance/target",
        MARGIN[results.compared_with][1],
        "agreement/target",
    )
    unanswered = system.metrics.get("unanswered")
    share = {"text": "none" if unanswered is None else f"{unanswered:.1%}", "interval": "", "key": unanswered or 0}
    kind = "" if not system.is_baseline else "baseline, to beat" if system.name == CONSTANT else "baseline"
    return {"name": system.name, "kind": kind, "cells": [*(_cell(system, metric) for metric in metrics), share]}


def _more(results: Results) -> dict[str, Any]:
    """The table of the other metrics, those that some system has."""
    shown = {
        metric: head
        for metric, head in _MORE.items()
        if any(system.metrics.get(metric) is not None for system in results.systems)
    }
    rows = []
    for system in results.systems:
        other = system.metrics.get("nearest_other")
        nearest = "none" if other is None else results.name(other)
        rows.append([system.name, *(_text(system, metric) for metric in shown), nearest])
    return {"heads": ["system", *shown.values(), "nearest other"], "rows": rows}


def _comparisons(results: Results) -> dict[str, Any] | None:
    """The table of paired comparisons: a row a pair, a column a metric."""
    pairs: dict[str, dict[str, str]] = {}
    for first, second, metric, found in results.comparisons:
        interval = "" if None in found.interval else f" [{', '.join(map(signed, found.interval))}]"
        p = "" if found.p_value is None else f", p {p_value_text(found.p_value)}"
        pairs.setdefault(f"{first} minus {second}", {})[metric] = f"{signed(found.difference)}{interval}{p}"
    metrics = [metric for metric in _COMPARED if any(metric in found for found in pairs.values())]
    rows = [[pair, *(found.get(metric, "none") for metric in metrics)] for pair, found in pairs.items()]
    return {"heads": ["systems", *(_COMPARED[metric] for metric in metrics)], "rows": rows} if rows else None


def _persona(results: Results, persona: str) -> list[str]:
    share = results.shares.get(persona)
    answered = int((results.answers[persona] != NO_ANSWER).sum())
    return [
        results.name(persona) + (" (target)" if persona == results.target else ""),
        "not known" if share is None else percent(share),
        f"{answered:,} of {len(results.questions):,}",
    ]


def _other_map(results: Results) -> list[str]:
    """What the map was made of, where that is something else than the rest of the page."""
    positions = results.positions
    if positions is None:
        return []
    both = (
        ("Questions", f"{positions['questions']:,}", f"{len(results.questions):,}"),
        ("Division", positions.get("division"), results.division),
        ("Answers of the personas", positions.get("reference"), results.reference),
    )
    said = [f"{what}: {of_map}, elsewhere {of_page}" for what, of_map, of_page in both if of_map not in (None, of_page)]
    known = {*results.personas, *map(results.name, results.personas)}
    points = [point["name"] for point in positions["points"] if point["kind"] == "persona"]
    others = [name for name in points if name not in known]
    return said + [f"Personas that are nowhere else: {', '.join(others)}"] * bool(others)


def _questions(
    results: Results, rows: Sequence[int], entropy: Sequence[float], missed: Sequence[float]
) -> list[dict[str, Any]]:
    """The questions to read, with who gave which answer."""
    found = []
    for question, row, divided, miss in zip(
        results.questions.take(rows).to_pylist(), rows, entropy, missed, strict=True
    ):
        given = {persona: int(column[row]) for persona, column in results.answers.items()}
        options = [
            (f"{letter}. {question[f'option_{letter.lower()}']}", place) for place, letter in enumerate(OPTION_LETTERS)
        ]
        if NO_ANSWER in given.values():
            options.append(("no valid answer", NO_ANSWER))
        systems = [(system.name, " ".join(map(percent, system.probabilities[row]))) for system in results.systems]
        found.append(
            {
                **question,
                "options": [
                    (
                        text,
                        [
                            (results.name(persona), persona == results.target)
                            for persona in given
                            if given[persona] == place
                        ],
                    )
                    for text, place in options
                ],
                "systems": [(name, "no valid answer" if "none" in said else said) for name, said in systems],
                "entropy": divided,
                "missed": None if np.isnan(miss) else miss,
            }
        )
    return found


def _facts(system: System) -> list[tuple[str, str]]:
    """How a system was asked."""
    facts = list(_flat(system.facts))
    facts.append(("replies", ", ".join(f"{status} {count:,}" for status, count in system.statuses.items())))
    if system.prompts_hash is not None:
        facts += [("different prompts", f"{system.prompts:,}"), ("SHA-256 of their hashes", system.prompts_hash)]
    return facts


def _flat(tree: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Names with dots, and values as JSON has them but for texts; what is not given is left out."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{before}{key}.")
        elif value is not None and value != {}:
            yield f"{before}{key}".replace("_", " "), value if isinstance(value, str) else json.dumps(value)
