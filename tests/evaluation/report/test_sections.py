"""What the page says, without the time that its drawings take."""

import html
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fairpp_hf import __version__
from fairpp_hf.evaluation.report.chart_sections import asking_section, map_section
from fairpp_hf.evaluation.report.charts import Labeller
from fairpp_hf.evaluation.report.folder import Evaluated, System, read_evaluated
from fairpp_hf.evaluation.report.method_section import method_section
from fairpp_hf.evaluation.report.results_section import results_section


@pytest.fixture(scope="module")
def evaluated(folder: Path) -> Evaluated:
    return read_evaluated(folder)


def words(markup: str) -> str:
    """The text of HTML, in one line."""
    flush = re.sub("</?(bdi|strong|code|span)[^>]*>", "", markup)
    return " ".join(html.unescape(re.sub("<[^>]*>", " ", flush)).split())


def results(evaluated: Evaluated) -> str:
    return results_section(evaluated, Labeller(evaluated)).html


def with_metrics(system: System, **changed: Any) -> System:
    return replace(system, metrics={**system.metrics, **{name.replace("__", "/"): x for name, x in changed.items()}})


def named(evaluated: Evaluated, *names: str) -> list[System]:
    by_name = {system.name: system for system in evaluated.systems}
    return [by_name[name] for name in names]


def test_who_is_nearer_than_the_constant_is_said(evaluated: Evaluated) -> None:
    page = words(results(evaluated))
    assert "Nearest to Loyal Nationals, question by question: aligned model, distance by question 0.020 [" in page
    assert re.search("Nearer than the constant, [^:]+: aligned model \\(skill 0.845 \\[[^:]+\\]\\)\\. Further", page)
    assert re.search("Further than the constant, [^:]+: plain model \\(skill -0.634 \\[[^:]+\\]\\)\\.", page)
    (aligned,) = named(evaluated, "aligned model")
    unsure = replace(aligned, intervals={**aligned.intervals, "skill/target": [-0.02, 0.9]})
    page = words(results(replace(evaluated, systems=(unsure, *named(evaluated, "constant", "plain model")))))
    assert re.search("Neither clearly nearer nor clearly further than the constant, [^:]+: aligned model", page)
    assert "Nearer than the constant" not in page
    systems = tuple(with_metrics(system, skill__target=None) for system in evaluated.systems)
    assert "r than the constant" not in words(results(replace(evaluated, systems=systems)))


def test_the_unanswered_have_a_column_where_there_are_some(evaluated: Evaluated) -> None:
    assert ">unanswered</th>" in results(evaluated)
    systems = tuple(with_metrics(system, unanswered=0.0) for system in evaluated.systems)
    page = results(replace(evaluated, systems=systems))
    assert ">unanswered</th>" not in page
    assert "not imputed; here there are none." in page


def test_what_cannot_be_said_of_any_is_one_sentence(evaluated: Evaluated) -> None:
    systems = tuple(
        replace(system, intervals={**system.intervals, "question_js_distance/margin": [-0.1, 0.1]})
        for system in evaluated.systems
    )
    page = results(replace(evaluated, systems=systems))
    assert "Of none can be said whether the target or another persona is nearer: each interval has 0 in it." in page
    assert "Either may be true of" not in page


def test_a_map_of_something_else_says_so(evaluated: Evaluated) -> None:
    assert "was not made of" not in map_section(evaluated).html
    assert evaluated.positions is not None
    points = [{**evaluated.positions["points"][0], "name": "Somebody <else>"}, *evaluated.positions["points"][1:]]
    other = {"questions": 5669, "division": "train split", "reference": "openai:gpt-4.1 (simulated)", "points": points}
    page = words(map_section(replace(evaluated, positions={**evaluated.positions, **other})).html)
    assert (
        "The map was not made of what the rest of this page is about. Questions: 5,669, elsewhere 120. Division: train "
        "split, elsewhere test split. Answers of the personas: openai:gpt-4.1 (simulated), elsewhere "
        "survey:britains_choice_2020 (simulated). Personas that are nowhere else: Somebody <else>. fairpp position --out "
        f"{evaluated.path} with the options of fairpp evaluate makes it again."
    ) in page


def test_position_bias_is_that_of_models(evaluated: Evaluated) -> None:
    section = asking_section(evaluated, Labeller(evaluated))
    assert [row[0] for row in section.charts[0].rows] == ["aligned model", "plain model"]
    assert "a system that goes by the place alone gets half of A and half of B." in section.html


def test_the_length_gap_is_that_of_models_scored_by_lines(evaluated: Evaluated) -> None:
    section = asking_section(evaluated, Labeller(evaluated))
    chart = section.charts[1]
    assert (chart.key, [row[0] for row in chart.rows]) == ("length-gap", ["aligned model", "plain model"])
    assert "A liking of an option for its brevity is not in it." in words(section.html)
    on_servers = replace(evaluated, systems=tuple(replace(system, length_gap=None) for system in evaluated.systems))
    section = asking_section(on_servers, Labeller(on_servers))
    assert [chart.key for chart in section.charts] == ["position-bias", "statuses"]
    assert "Length gap:" not in section.html


def test_both_versions_are_on_the_page(evaluated: Evaluated) -> None:
    assert f"numbers computed by fairpp_hf 9.9 page drawn by fairpp_hf {__version__}" in words(
        method_section(replace(evaluated, version="9.9")).html
    )
    assert "numbers computed by a version that the folder does not name" in words(
        method_section(replace(evaluated, version=None)).html
    )
