"""What the page says, without the time that its drawings take."""

import html
import re
from dataclasses import replace
from typing import Any

import numpy as np

from fairpp_hf import __version__
from fairpp_hf.drawing.page import facts_of, render
from fairpp_hf.evaluation.results import Results, System, SystemComparison
from fairpp_hf.statistics.bootstrap import Interval
from fairpp_hf.statistics.paired import Comparison


def words(results: Results) -> str:
    """The text of the page, in one line."""
    flush = re.sub("</?(bdi|strong|code|span)[^>]*>", "", render(results, drawn=False))
    return " ".join(html.unescape(re.sub("<[^>]*>", " ", flush)).split())


def with_metrics(system: System, **changed: Any) -> System:
    return replace(system, metrics={**system.metrics, **{name.replace("__", "/"): x for name, x in changed.items()}})


def named(results: Results, *names: str) -> list[System]:
    by_name = {system.name: system for system in results.systems}
    return [by_name[name] for name in names]


def test_who_was_asked_what_is_said(results: Results) -> None:
    page = words(results)
    assert (
        "2 models were asked 120 questions (test split), in both orders of the options. 4 baselines stand beside them. All "
        "are compared with 3 personas of survey:britains_choice_2020 (simulated): with the personas' option probabilities, "
        "which are known, and not with one drawn answer a question."
    ) in page
    assert "No valid answer came from" not in page
    assert "Nobody was asked" in page
    assert f"numbers computed by fairpp_hf {results.version} page drawn by fairpp_hf {__version__}" in page
    assert "Nobody was asked" not in words(replace(results, reference="survey of people"))
    plain, uniform = named(results, "plain model", "uniform")
    statuses = np.full_like(plain.scores.statuses, "refusal")
    silent = replace(plain, scores=plain.scores._replace(statuses=statuses), metrics={"unanswered": 1.0}, intervals={})
    page = words(replace(results, systems=(silent, uniform), kind="scenarios", comparisons=()))
    assert (
        "1 model was asked 120 scenarios (test split), in both orders of the options. 1 baseline stands beside it."
        in page
    )
    assert "No valid answer came from plain model." in page
    assert "No model answered a question that Loyal Nationals answered too: there is nothing to compare." in page


def test_the_headline_says_whether_the_best_model_is_nearer_than_the_constant(results: Results) -> None:
    page = words(results)
    assert re.search(
        r"Who agrees with Loyal Nationals\? aligned model is nearer to Loyal Nationals than the constant answer \(skill "
        r"0.845 \[[^]]+\]\), and is nearer to Loyal Nationals than to any other persona\.",
        page,
    )
    aligned, *others = named(results, "aligned model", "plain model", "constant")
    page = words(replace(results, systems=tuple(others)))
    assert re.search(r"plain model is further from Loyal Nationals than the constant answer \(skill -0.634 \[", page)
    unsure = {"skill/target": Interval(-0.02, 0.9), "question_js_distance/margin": Interval(-0.1, 0.1)}
    page = words(replace(results, systems=(replace(aligned, intervals=unsure), *named(results, "constant"))))
    assert "aligned model is neither clearly nearer nor clearly further than the constant answer (skill 0.845" in page
    assert "; whether Loyal Nationals or another persona is nearer cannot be said." in page
    alone = with_metrics(aligned, skill__target=None)
    assert "aligned model has distance 0.020 [" in words(replace(results, systems=(alone,)))


def test_the_first_table_has_five_numbers_a_system_and_the_rest_is_on_demand(results: Results) -> None:
    facts = facts_of(results)
    constant, aligned = facts["systems"][:2]
    assert (constant["name"], constant["kind"], aligned["kind"]) == ("constant", "baseline, to beat", "")
    assert [text for text, _ in aligned["cells"]][:2] == ["0.845", "0.020"]
    assert [len(row["cells"]) for row in facts["systems"]] == [5] * 6
    names = [row["name"] for row in facts["systems"]]
    assert facts["metrics"]["heads"] == ["metric", *names]
    metrics = {row[0]: dict(zip(names, row[1:], strict=True)) for row in facts["metrics"]["rows"]}
    assert set(metrics) == {*results.to_pandas().columns, "position gap", "length gap", "replies"}
    assert metrics["question_js_distance/target"]["aligned model"].startswith("0.020 [")
    assert metrics["nearest_other"]["aligned model"] == "backbone_conservatives"
    assert [metrics["replies"][name] for name in ("plain model", "uniform")] == ["ok 228, refusal 12", "not asked"]
    assert [metrics[name]["uniform"] for name in ("position gap", "questions/target")] == ["none", "120"]


def test_a_pair_is_a_row_and_a_metric_a_column(results: Results) -> None:
    def compared(second: str, metric: str, difference: Any, p_value: Any) -> SystemComparison:
        bounds = (None, None) if difference is None else (difference - 0.1, difference + 0.1)
        return SystemComparison("aligned model", second, metric, Comparison(difference, Interval(*bounds), p_value))

    comparisons = (
        compared("plain model", "js_distance/target", -0.25, 0.0002),
        compared("plain model", "agreement/target", 0.125, 0.25),
        compared("uniform", "agreement/target", None, None),
    )
    found = facts_of(replace(results, comparisons=comparisons))["comparisons"]
    assert found["heads"] == ["systems", "js_distance/target", "agreement/target"]
    assert found["rows"] == [
        ["aligned model minus plain model", "-0.250 [-0.350, -0.150], p < 0.001", "+0.125 [+0.025, +0.225], p 0.250"],
        ["aligned model minus uniform", "none", "none"],
    ]
    assert "Compared in pairs" not in words(replace(results, comparisons=()))


def test_a_map_of_something_else_says_so(results: Results) -> None:
    assert "was not made of" not in words(results)
    assert results.positions is not None
    points = [{**results.positions["points"][0], "name": "Somebody <else>"}, *results.positions["points"][1:]]
    other = {"questions": 5669, "division": "train split", "reference": "openai:gpt-4.1 (simulated)", "points": points}
    assert (
        "The map was not made of what the rest of this page is about. Questions: 5,669, elsewhere 120. Division: train "
        "split, elsewhere test split. Answers of the personas: openai:gpt-4.1 (simulated), elsewhere "
        "survey:britains_choice_2020 (simulated). Personas that are nowhere else: Somebody <else>. Run fairpp position "
        f"--out {results.path} with the options of fairpp evaluate to make it again."
    ) in words(replace(results, positions={**results.positions, **other}))


def test_what_was_not_measured_is_not_told(results: Results) -> None:
    changes: dict[str, Any] = {"length_gap": None, "position_bias": None}
    page = words(replace(results, systems=tuple(replace(system, **changes) for system in results.systems)))
    assert "The options were shown in one order alone, so that position bias could not be measured." in page
    assert [text in page for text in ("Length gap:", "Position gap:", "length gap")] == [False] * 3


def test_what_comes_from_outside_is_text_and_nothing_else(results: Results) -> None:
    """As test_page.py sees it in a browser, where there is one."""
    hostile = "</bdi><script>alert(1)</script>\" onload='x' \x00"
    plain = results.models[-1]
    systems = (replace(plain, scores=plain.scores._replace(name=hostile, facts={**plain.facts, hostile: hostile})),)
    names = dict.fromkeys(results.names, hostile)
    changed = replace(results, systems=systems, names=names, reference=hostile)
    page = render(changed, drawn=False)
    assert "<script" not in page
    assert page.count("default-src 'none'") == 1
    assert "script-src" not in page
    assert page.count("</bdi>") == page.count("<bdi>")
    assert not re.search(r"<[^>]* onload='x'", page)
    assert "\x00" not in page
