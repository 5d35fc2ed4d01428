"""One self-contained page from an evaluated folder: no network, no script, no font from elsewhere.

The text is in page.html, a Jinja template that escapes whatever it is given; here is what it shows.
"""

import base64
import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

from fairpp_hf import __version__
from fairpp_hf.drawing.canvas import png, svg
from fairpp_hf.drawing.evaluation_charts import answer_charts, distance_chart, error_of, most_divided, system_parties
from fairpp_hf.drawing.position_map import methods_of, position_chart
from fairpp_hf.drawing.texts import number, percent, with_interval
from fairpp_hf.evaluation.baselines import CONSTANT
from fairpp_hf.evaluation.results import Results, System, read_results
from fairpp_hf.evaluation.results_table import COMPARED_WITH, metric_notes, p_value_text, signed
from fairpp_hf.provenance import CITATION
from fairpp_hf.respondents.base import SIMULATED
from fairpp_hf.schema import NO_ANSWER, OPTION_LETTERS

PAGE = "report.html"
_QUESTIONS, _MORE_QUESTIONS = 10, 30
"""Questions on the page, and more of them on demand: it has to be small enough to be sent by mail."""


def write_report(folder: Path) -> Path:
    """Write report.html into an evaluated folder.

    Args:
        folder: Output of `fairpp evaluate`, in which `fairpp position` may have added positions.json.

    Returns:
        Path of the page.

    Raises:
        FileNotFoundError: The folder has not been evaluated.
        ValueError: One of its files is damaged, of another format, or does not go with the others.
    """
    html = render(read_results(folder))
    page = folder / PAGE
    page.unlink(missing_ok=True)  # a link is replaced and not written through
    # Half a surrogate pair, which JSON can hold and UTF-8 cannot, becomes a question mark.
    page.write_text(html, encoding="utf-8", errors="replace")
    return page


def render(results: Results, *, drawn: bool = True) -> str:
    """The page as HTML; drawing the charts takes most of the time."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("fairpp_hf.drawing", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    positions, systems = results.positions, [system.name for system in results.systems]
    charts = {
        "results": [distance_chart(results)],
        "map": [position_chart(method, positions, systems) for method in methods_of(positions)] if positions else [],
        "answers": answer_charts(results),
    }
    everything = [chart for of_section in charts.values() for chart in of_section]
    html = environment.get_template("page.html").render(
        **facts_of(results),
        charts=charts,
        number=number,
        drawings={chart.key: Markup(svg(chart)) if drawn else "" for chart in everything},
        pictures={chart.key: _download("image/png", png([chart])) if drawn else "" for chart in everything},
        csv=_download("text/csv", results.to_pandas().to_csv().encode("utf-8", "replace")),
        style=Markup((files(__package__) / "page.css").read_text("utf-8")),
    )
    return re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", "\ufffd", html)


def _download(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def facts_of(results: Results) -> dict[str, Any]:
    """What the page says, without its charts: names, numbers as texts, and what follows from them."""
    best = results.systems[results.best]
    compared = best.metrics.get(error_of(results)[0]) is not None
    questions = _questions(results)
    return {
        "target": results.name(results.target),
        "results": results,
        "version": __version__,
        "citation": CITATION,
        "simulated": SIMULATED.strip() in results.reference,
        "kind": "scenario" if results.scenarios else "question",
        "compared_with": COMPARED_WITH[results.compared_with],
        "notes": metric_notes(results.compared_with),
        "baselines": sum(system.is_baseline for system in results.systems),
        "constrained": [system.name for system in results.systems if system.facts.get("constrained")],
        "silent": [system.name for system in results.systems if not system.statuses.get("ok")],
        "best": verdict(results, best) if compared else None,
        "systems": _systems(results),
        "metrics": _metrics(results),
        "measured": {
            name for name in ("position_bias", "length_gap") if any(getattr(each, name) for each in results.systems)
        },
        "comparisons": _comparisons(results),
        "personas": [
            [
                f"{results.name(persona)} (target)" if persona == results.target else results.name(persona),
                "not known" if results.shares.get(persona) is None else percent(results.shares[persona]),
                f"{int((results.answers[persona] != NO_ANSWER).sum()):,} of {len(results.questions):,}",
            ]
            for persona in results.personas
        ],
        "questions": questions[:_QUESTIONS],
        "more_questions": questions[_QUESTIONS:],
        "facts": {system.name: _facts(system) for system in results.systems},
        "other_map": _other_map(results),
    }


def verdict(results: Results, system: System) -> dict[str, str | None]:
    """Whether a system is nearer to the target than the constant (`skill`), and than to any other persona (`margin`).

    Each is "yes", "no" or "open" by its interval, by the value alone where there is none, and None where it is not known.
    """

    def sign(metric: str) -> str | None:
        value = system.metrics.get(metric)
        if value is None:
            return None
        low, high = system.interval(metric) or (value, value)
        return "yes" if low > 0 else "no" if high < 0 else "open"

    error, error_name = error_of(results)
    other = system.metrics.get("nearest_other")
    return {
        "name": system.name,
        "kind": "baseline" if system.is_baseline else "",
        "skill": sign("skill/target"),
        "skill_text": with_interval(system.metrics.get("skill/target"), system.interval("skill/target")),
        "margin": sign(results.margin),
        "error": error_name,
        "error_text": with_interval(system.metrics.get(error), system.interval(error)),
        "other": None if other is None else results.name(other),
    }


def _systems(results: Results) -> list[dict[str, Any]]:
    """The table of systems: who each is, its colour in the charts, and five numbers, each with its interval."""
    by_question = results.compared_with == "probabilities"
    metrics = (
        "skill/target",
        "question_js_distance/target" if by_question else "js_distance/target",
        results.margin,
        "agreement/target",
    )
    rows = []
    for party, system in zip(system_parties(results), results.systems, strict=True):
        unanswered = system.metrics.get("unanswered")
        kind = "" if not system.is_baseline else "baseline, to beat" if system.name == CONSTANT else "baseline"
        rows.append(
            {
                "name": system.name,
                "look": party.look,
                "kind": kind,
                "cells": [
                    *((number(system.metrics.get(metric)), system.interval(metric)) for metric in metrics),
                    ("none" if unanswered is None else f"{unanswered:.1%}", None),
                ],
            }
        )
    return rows


def _metrics(results: Results) -> dict[str, Any]:
    """The table of everything that was measured, a row a metric, and of how replies came out."""
    rows = []
    for metric in results.to_pandas().columns:
        found = [(system.metrics.get(metric), system.interval(metric)) for system in results.systems]
        rows.append([metric, *(str(x) if isinstance(x, str | int) else with_interval(x, at) for x, at in found)])
    for name in ("position_bias", "length_gap"):
        gaps = [getattr(system, name) for system in results.systems]
        if any(gaps):
            said = [with_interval(gap.gap, gap.interval) if gap else "none" for gap in gaps]
            rows.append([name.replace("position_bias", "position gap").replace("_", " "), *said])
    replies = [", ".join(f"{status} {count:,}" for status, count in each.statuses.items()) for each in results.systems]
    asked = zip(results.systems, replies, strict=True)
    rows.append(["replies", *("not asked" if system.is_baseline else said for system, said in asked)])
    return {"heads": ["metric", *(system.name for system in results.systems)], "rows": rows}


def _comparisons(results: Results) -> dict[str, Any] | None:
    """The table of paired comparisons: a row a pair, a column a metric."""
    pairs: dict[str, dict[str, str]] = {}
    for first, second, metric, found in results.comparisons:
        interval = "" if None in found.interval else f" [{', '.join(map(signed, found.interval))}]"
        p = "" if found.p_value is None else f", p {p_value_text(found.p_value)}"
        pairs.setdefault(f"{first} minus {second}", {})[metric] = f"{signed(found.difference)}{interval}{p}"
    metrics = list(dict.fromkeys(comparison.metric for comparison in results.comparisons))
    rows = [[pair, *(found.get(metric, "none") for metric in metrics)] for pair, found in pairs.items()]
    return {"heads": ["systems", *metrics], "rows": rows} if rows else None


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


def _questions(results: Results) -> list[dict[str, Any]]:
    """The questions that divide the personas most, with who gave which answer."""
    found = []
    rows = most_divided(results, _QUESTIONS + _MORE_QUESTIONS)
    for question, row in zip(results.questions.take(rows).to_pylist(), rows, strict=True):
        given = {persona: int(column[row]) for persona, column in results.answers.items()}
        options = [
            (f"{letter}. {question[f'option_{letter.lower()}']}", at) for at, letter in enumerate(OPTION_LETTERS)
        ]
        if NO_ANSWER in given.values():
            options.append(("no valid answer", NO_ANSWER))
        systems = [(system.name, [percent(share) for share in system.probabilities[row]]) for system in results.systems]
        found.append(
            {
                **question,
                "options": [
                    (text, [(results.name(one), one == results.target) for one in given if given[one] == at])
                    for text, at in options
                ],
                "systems": [[name, *shares] for name, shares in systems],
            }
        )
    return found


def _facts(system: System) -> list[tuple[str, str]]:
    """How a system was asked: texts, and other values as JSON has them; what is not given is left out."""
    facts = {
        **system.facts,
        "different_prompts": system.prompts or None,
        "SHA-256 of their hashes": system.prompts_hash,
    }
    return [
        (name.replace("_", " "), value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for name, value in facts.items()
        if value not in (None, {})
    ]
