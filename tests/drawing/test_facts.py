"""What the page says, without the time that its drawings take."""

import html
import re
from dataclasses import replace
from typing import Any

import pytest

from fairpp_hf import __version__
from fairpp_hf.drawing.page import charts_of, facts_of, render
from fairpp_hf.evaluation.report.folder import Evaluated, System


def words(evaluated: Evaluated) -> str:
    """The text of the page, in one line."""
    charts = charts_of(evaluated)
    drawings = {chart.key: "" for of_section in charts.values() for chart in of_section}
    flush = re.sub("</?(bdi|strong|code|span)[^>]*>", "", render(evaluated, charts, drawings))
    return " ".join(html.unescape(re.sub("<[^>]*>", " ", flush)).split())


def with_metrics(system: System, **changed: Any) -> System:
    return replace(system, metrics={**system.metrics, **{name.replace("__", "/"): x for name, x in changed.items()}})


def named(evaluated: Evaluated, *names: str) -> list[System]:
    by_name = {system.name: system for system in evaluated.systems}
    return [by_name[name] for name in names]


def test_who_was_asked_what_is_said(evaluated: Evaluated) -> None:
    page = words(evaluated)
    assert (
        "2 models were asked 120 questions (test split), in both orders of the options. 4 baselines stand beside them. All "
        "are compared with 3 personas of survey:britains_choice_2020 (simulated): with the personas' option probabilities, "
        "which are known, and not with one drawn answer a question."
    ) in page
    assert "No valid answer came from" not in page
    plain, uniform = named(evaluated, "plain model", "uniform")
    silent = replace(plain, statuses={"refusal": 240}, metrics={"unanswered": 1.0}, intervals={}, position_bias=None)
    page = words(replace(evaluated, systems=(silent, uniform), orders=1, scenarios=True, comparisons=()))
    assert (
        "1 model was asked 120 scenarios (test split), in one order of the options. 1 baseline stands beside it."
        in page
    )
    assert "No valid answer came from plain model." in page
    assert "No model answered a question that Loyal Nationals answered too: there is nothing to compare." in page


def test_the_headline_says_whether_the_best_model_is_nearer_than_the_constant(evaluated: Evaluated) -> None:
    page = words(evaluated)
    assert re.search(
        r"Who agrees with Loyal Nationals\? aligned model is nearer to Loyal Nationals than the constant answer \(skill "
        r"0.845 \[[^]]+\]\), and nearer to Loyal Nationals than to any other persona\.",
        page,
    )
    assert re.search(r"plain model is further from Loyal Nationals than the constant answer \(skill -0.634 \[", page)
    (aligned,) = named(evaluated, "aligned model")
    unsure = {"skill/target": [-0.02, 0.9], "question_js_distance/margin": [-0.1, 0.1]}
    page = words(replace(evaluated, systems=(replace(aligned, intervals=unsure), *named(evaluated, "constant"))))
    assert "aligned model is neither clearly nearer nor clearly further than the constant answer (skill 0.845" in page
    assert "; whether Loyal Nationals or another persona is nearer cannot be said." in page
    alone = with_metrics(aligned, skill__target=None)
    assert "aligned model has distance 0.020 [" in words(replace(evaluated, systems=(alone,)))


def test_the_first_table_has_five_numbers_a_system_and_the_rest_is_on_demand(evaluated: Evaluated) -> None:
    facts = facts_of(evaluated)
    constant, aligned = facts["systems"][:2]
    assert (constant["name"], constant["kind"], aligned["kind"]) == ("constant", "baseline, to beat", "")
    assert [cell["text"] for cell in aligned["cells"]][:2] == ["0.845", "0.020"]
    assert [len(row["cells"]) for row in facts["systems"]] == [5] * 6
    assert facts["more"]["heads"][:3] == ["system", "Brier score", "distance of shares"]
    assert [row[0] for row in facts["more"]["rows"]] == [row["name"] for row in facts["systems"]]


def test_a_pair_is_a_row_and_a_metric_a_column(evaluated: Evaluated) -> None:
    def compared(second: str, metric: str, difference: float | None, p_value: float | None) -> dict[str, Any]:
        interval = [None, None] if difference is None else [difference - 0.1, difference + 0.1]
        pair = {"first": "aligned model", "second": second, "metric": metric}
        return {**pair, "difference": difference, "interval_95": interval, "p_value": p_value}

    comparisons = (
        compared("plain model", "js_distance/target", -0.25, 0.0002),
        compared("plain model", "agreement/target", 0.125, 0.25),
        compared("uniform", "agreement/target", None, None),
    )
    found = facts_of(replace(evaluated, comparisons=comparisons))["comparisons"]
    assert found["heads"] == ["systems", "agreement", "distance of shares"]
    assert found["rows"] == [
        ["aligned model minus plain model", "+0.125 [+0.025, +0.225], p 0.250", "-0.250 [-0.350, -0.150], p < 0.001"],
        ["aligned model minus uniform", "none", "none"],
    ]
    assert "Compared in pairs" not in words(replace(evaluated, comparisons=()))


def test_a_map_of_something_else_says_so(evaluated: Evaluated) -> None:
    assert "was not made of" not in words(evaluated)
    assert evaluated.positions is not None
    points = [{**evaluated.positions["points"][0], "name": "Somebody <else>"}, *evaluated.positions["points"][1:]]
    other = {"questions": 5669, "division": "train split", "reference": "openai:gpt-4.1 (simulated)", "points": points}
    assert (
        "The map was not made of what the rest of this page is about. Questions: 5,669, elsewhere 120. Division: train "
        "split, elsewhere test split. Answers of the personas: openai:gpt-4.1 (simulated), elsewhere "
        "survey:britains_choice_2020 (simulated). Personas that are nowhere else: Somebody <else>. Run fairpp position "
        f"--out {evaluated.path} with the options of fairpp evaluate to make it again."
    ) in words(replace(evaluated, positions={**evaluated.positions, **other}))


def test_what_was_not_measured_has_no_chart(evaluated: Evaluated) -> None:
    bias, length, statuses = charts_of(evaluated)["asking"]
    assert [[row[0] for row in chart.rows] for chart in (bias, length, statuses)] == [
        ["aligned model", "plain model"]
    ] * 3
    changes: dict[str, Any] = {"length_gap": None, "position_bias": None}
    other = replace(evaluated, systems=tuple(replace(system, **changes) for system in evaluated.systems))
    assert [chart.key for chart in charts_of(other)["asking"]] == ["statuses"]
    page = words(other)
    assert "The options were shown in one order alone, so that position bias could not be measured." in page
    assert "Length gap is" not in page


def test_the_picture_shows_skill_where_it_is_known_and_agreement_otherwise(evaluated: Evaluated) -> None:
    distance, skill = charts_of(evaluated)["results"]
    assert (distance.heads[1], skill.key) == ("distance", "skill")
    # To the two other personas.
    assert [len(row[-1].split(", ")) for row in distance.rows] == [2] * 6
    systems = tuple(with_metrics(system, skill__target=None) for system in evaluated.systems)
    assert charts_of(replace(evaluated, systems=systems, compared_with="answers"))["results"][1].key == "agreement"


def test_answers_are_shown_by_dimension_category_and_group(evaluated: Evaluated) -> None:
    dimension, category, group = charts_of(evaluated)["answers"]
    assert {tuple(row[:2]) for row in group.rows} == {
        (label, name)
        for label in ("men", "women", "muslim people")
        for name in ("Loyal Nationals", "aligned model", "plain model")
    }
    assert dimension.rows[0][0] == "dimension 1"
    assert len(category.rows) > 10


@pytest.mark.parametrize(
    ("version", "said"), [("9.9", "fairpp_hf 9.9"), (None, "a version that the folder does not name")]
)
def test_both_versions_are_on_the_page(version: str | None, said: str, evaluated: Evaluated) -> None:
    page = words(replace(evaluated, version=version))
    assert f"numbers computed by {said} page drawn by fairpp_hf {__version__}" in page


def test_the_page_begins_with_a_model(evaluated: Evaluated) -> None:
    plain, aligned, majority, uniform = named(
        evaluated, "plain model", "aligned model", "majority of the others", "uniform"
    )
    best = with_metrics(majority, skill__target=1.0)
    assert replace(evaluated, systems=(best, plain, aligned, uniform)).best == 2
    assert replace(evaluated, systems=(uniform, best)).best == 1
