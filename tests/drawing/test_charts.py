"""What charts show, from arrays: their tables and words, and that odd data is drawn without a warning."""

import warnings

import numpy as np
import pytest

from fairpp_hf.drawing.canvas import Chart, png, svg
from fairpp_hf.drawing.charts import Party, Value, diverging_bars, heat_map, interval_chart, stacked_bars
from fairpp_hf.drawing.plots import column_chart, line_chart, short_count
from fairpp_hf.drawing.texts import percent
from fairpp_hf.drawing.theme import PERSONA, option_fill, status_fill, system_looks

A, B = (Party(name, name, look) for name, look in system_looks(["a", "b"]).items())
TARGET = Party("target", "target", PERSONA)
OPTIONS = [option_fill(option, letter) for option, letter in enumerate("ABC")]
NONE = np.full(3, np.nan)


def drawn(chart: Chart) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert png([chart]).startswith(b"\x89PNG")
        return svg(chart)


def test_values_have_intervals_and_ticks() -> None:
    values = [Value(A, -3.5, (-4.0, -0.5), (0.25, 0.5)), Value(B, None)]
    chart = interval_chart("key", "Skill", values, axis="more is better", head="skill", ticks="chance", lowest=-1.0)
    assert chart.heads == ("", "skill", "95% from", "95% to", "chance")
    assert chart.rows == [["a", "-3.500", "-4.000", "-0.500", "0.250, 0.500"], ["b", "none", "none", "none", ""]]
    assert chart.alt == "Skill: a -3.500 [-4.000, -0.500]; b none."
    picture = drawn(chart)
    # A value below the lowest stands at the edge and is written out.
    assert "◀ -3.500" in picture
    assert " not measured" in picture


def test_bars_to_two_sides_have_a_row_a_label_and_markers_of_systems() -> None:
    target = np.array([[0.5, 0.3, 0.2], NONE])
    chart = diverging_bars(
        "key",
        "By topic",
        ["x", "y"],
        (TARGET, target),
        [(A, np.array([[0.1, 0.8, 0.1], NONE])), (B, np.stack([NONE, NONE]))],
        OPTIONS,
        sides=[("left", "right"), ("less", "more")],
        headings={0: "Topics"},
    )
    assert chart.heads == ("", "of", "A", "B", "C")
    assert chart.rows[:2] == [["x", "target", "50%", "30%", "20%"], ["x", "a", "10%", "80%", "10%"]]
    assert chart.alt.startswith("Bars to two sides, target: x A 50%, B 30%, C 20%; y A none")
    picture = drawn(chart)
    # A bar and a marker on each side.
    assert picture.count('data-tip="target, x: A 50%, B 30%, C 20%"') == 2
    assert picture.count('data-tip="a, x: A 10%, B 80%, C 10%"') == 2
    assert "target, y" not in picture


@pytest.mark.parametrize("options", [2, 3, 7])
def test_any_number_of_parts_is_stacked(options: int) -> None:
    fills = [option_fill(option, f"option {option}") for option in range(options)]
    shares = np.stack([np.full(options, 1 / options), np.full(options, np.nan)])
    chart = stacked_bars("key", "Shares", ["x", "y"], {"one\ntwo": shares, "three": shares}, fills, empty="not asked")
    assert chart.rows[0][:2] == ["x", "one, two"]
    assert [len(row) for row in chart.rows] == [options + 2] * 4
    picture = drawn(chart)
    assert picture.count("data-tip") == 2 * options
    assert "not asked" in picture


def test_statuses_differ_by_hatching_and_unknown_ones_are_drawn() -> None:
    fills = [status_fill(status) for status in ("ok", "refusal", "of another version")]
    assert len({fill[1:] for fill in fills}) == 3
    drawn(stacked_bars("key", "Statuses", ["x"], {"": np.array([[0.5, 0.3, 0.2]])}, fills))


def test_a_heat_map_leaves_out_what_is_infinite() -> None:
    values = np.array([[np.inf, 0.25], [0.5, np.nan]])
    chart = heat_map(
        "key", "Distances", ["x", "y"], ["1", "2"], values, what="distance", names=(["x", "y"], ["x", "y"])
    )
    assert chart.rows == [["x", "", "0.250"], ["y", "0.500", "none"]]
    assert chart.alt == "Heat map, distance. Smallest: x and y, 0.250. Largest: y and x, 0.500."
    assert drawn(chart).count("data-tip") == 3
    named = heat_map("key", "D", ["x"], ["a long name"], np.array([[np.nan]]), what="share", form=percent)
    assert named.alt == "Heat map, share."
    drawn(named)


def test_lines_have_the_number_of_questions_below() -> None:
    chart = line_chart("key", "L", [(A, np.array([0.25, np.nan, 1]))], [10, 0, 2_000], axis="others", note="A note.")
    assert chart.rows == [["questions", "10", "0", "2,000"], ["a", "25%", "none", "100%"]]
    assert "n 2,000" in drawn(chart)


def test_columns_without_a_question_are_drawn() -> None:
    drawn(column_chart("key", "Nothing", (0, 0), highest=0))


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0"), (999, "999"), (1_000, "1.0k"), (9_949, "9.9k"), (9_950, "10k"), (28_420, "28k")]
)
def test_short_counts(count: int, text: str) -> None:
    assert short_count(count) == text
