"""What the page says, without the time that its drawings take."""

import html
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fairpp_hf import __version__
from fairpp_hf.evaluation.report.chart_sections import asking_section, map_section
from fairpp_hf.evaluation.report.charts import Labeller
from fairpp_hf.evaluation.report.folder import Evaluated, System, read_evaluated
from fairpp_hf.evaluation.report.method_section import method_section
from fairpp_hf.evaluation.report.numbers import most_divided
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


def test_models_and_baselines_are_counted_apart(evaluated: Evaluated) -> None:
    assert (
        "2 models were asked 120 questions (test split), in both orders of the options. 4 baselines stand beside them. All "
        "are compared with 3 personas of survey:britains_choice_2020 (simulated): with the personas' option probabilities, "
        "which are known, and not with one drawn answer a question. The target is Loyal Nationals."
    ) in words(results(evaluated))
    plain, uniform = named(evaluated, "plain model", "uniform")
    one = replace(evaluated, systems=(plain, uniform), orders=1)
    assert (
        "1 model was asked 120 questions (test split), in one order of the options. 1 baseline stands beside it."
        in words(results(one))
    )
    none = replace(evaluated, systems=(uniform,), scenarios=True)
    assert "1 baseline stands on 120 scenarios (test split), without a model beside them." in words(results(none))


def test_a_system_without_a_valid_answer_is_named(evaluated: Evaluated) -> None:
    assert "No valid answer" not in results(evaluated)
    plain, *others = named(evaluated, "plain model", "aligned model", "constant")
    silent = replace(plain, statuses={"refusal": 240}, metrics={"unanswered": 1.0}, intervals={}, position_bias=None)
    page = words(results(replace(evaluated, systems=(silent, *others))))
    assert "No valid answer came from plain model." in page


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


def test_a_pair_is_a_row_and_a_metric_a_column(evaluated: Evaluated) -> None:
    def compared(second: str, metric: str, difference: float | None, p_value: float | None) -> Mapping[str, Any]:
        interval = [None, None] if difference is None else [difference - 0.1, difference + 0.1]
        pair = {"first": "aligned model", "second": second, "metric": metric}
        return {**pair, "difference": difference, "interval_95": interval, "p_value": p_value}

    comparisons = (
        compared("plain model", "js_distance/target", -0.25, 0.0002),
        compared("plain model", "agreement/target", 0.125, 0.25),
        compared("uniform", "agreement/target", None, None),
    )
    page = results(replace(evaluated, comparisons=comparisons))
    table = page[page.index("<caption>Differences") :]
    assert words(table[: table.index("</table>")]) == (
        "Differences between systems systems agreement distance of shares "
        "aligned model minus plain model +0.125 [+0.025, +0.225] p 0.250 -0.250 [-0.350, -0.150] p < 0.001 "
        "aligned model minus uniform none none"
    )
    assert "Compared in pairs" not in results(replace(evaluated, comparisons=()))


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


def test_baselines_do_not_choose_the_questions_to_read(evaluated: Evaluated) -> None:
    """Whatever baselines answer, the same questions are missed; without a model, those of the baselines are."""
    plain, aligned, majority, uniform = named(
        evaluated, "plain model", "aligned model", "majority of the others", "uniform"
    )
    wrong = replace(majority, probabilities=np.roll(majority.probabilities, 1, axis=1))
    np.testing.assert_array_equal(
        most_divided(evaluated).disagreement,
        most_divided(replace(evaluated, systems=(plain, aligned, wrong, uniform))).disagreement,
    )
    alone = most_divided(replace(evaluated, systems=(uniform,)))
    np.testing.assert_allclose(alone.disagreement, 2 / 3)


def test_the_page_begins_with_a_model(evaluated: Evaluated) -> None:
    plain, aligned, majority, uniform = named(
        evaluated, "plain model", "aligned model", "majority of the others", "uniform"
    )
    best = with_metrics(majority, skill__target=1.0)
    assert replace(evaluated, systems=(best, plain, aligned, uniform)).best == 2
    assert replace(evaluated, systems=(uniform, best)).best == 1
