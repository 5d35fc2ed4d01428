"""What charts show, from arrays: their tables and words, and that odd data is drawn without a warning."""

import warnings

import numpy as np
import pytest

from fairpp_hf.drawing.canvas import Chart, png, svg
from fairpp_hf.drawing.charts import Party, Value, diverging_bars, heat_map, interval_chart, stacked_bars
from fairpp_hf.drawing.texts import percent, short_count
from fairpp_hf.drawing.theme import PERSONA, option_fill, system_looks

A, B = (Party(name, name, look) for name, look in system_looks(["a", "b"]).items())
TARGET = Party("target", "target", PERSONA)
OPTIONS = [option_fill(option, letter) for option, letter in enumerate("ABC")]
NONE = np.full(3, np.nan)


def drawn(chart: Chart) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert png([chart]).startswith(b"\x89PNG")
        return svg(chart)


def test_values_have_intervals_ticks_and_lines_to_see_them_beside() -> None:
    values = [Value(A, 0.5, (0.25, 0.75), 0.625), Value(B, None)]
    chart = interval_chart(
        "key", "Distance", values, axis="← better", head="distance", tick="other", lines={"chance": 2.0}
    )
    assert chart.heads == ("", "distance", "95% from", "95% to", "other")
    assert chart.rows == [["a", "0.500", "0.250", "0.750", "0.625"], ["b", "none", "none", "none", "none"]]
    assert chart.alt == "Distance: a 0.500 [0.250, 0.750]; b none."
    picture = drawn(chart)
    assert [text in picture for text in ("chance", "← better", "not measured")] == [True] * 3


def test_bars_to_two_sides_have_a_row_a_label_and_markers_of_systems() -> None:
    chart = diverging_bars(
        "key",
        "By topic",
        {"x": ("left", "right"), "y": ("less", "more")},
        (TARGET, np.array([[0.5, 0.3, 0.2], NONE])),
        [(A, np.array([[0.1, 0.8, 0.1], NONE])), (B, np.stack([NONE, NONE]))],
        OPTIONS,
    )
    assert chart.heads == ("", "of", "A", "B", "C")
    assert chart.rows[:2] == [["x", "target", "50%", "30%", "20%"], ["x", "a", "10%", "80%", "10%"]]
    assert chart.alt.startswith("Bars to two sides, target: x A 50%, B 30%, C 20%; y A none")
    picture = drawn(chart)
    # A bar and a marker on each side.
    assert picture.count("<title>target, x: A 50%, B 30%, C 20%</title>") == 2
    assert picture.count("<title>a, x: A 10%, B 80%, C 10%</title>") == 2
    assert "target, y" not in picture


@pytest.mark.parametrize("options", [2, 3, 7])
def test_any_number_of_parts_is_stacked(options: int) -> None:
    fills = [option_fill(option, f"option {option}") for option in range(options)]
    shares = np.stack([np.full(options, 1 / options), np.full(options, np.nan)])
    chart = stacked_bars("key", "Shares", [A, B._replace(look=None)], {"one\ntwo": shares, "three": shares}, fills)
    assert chart.rows[0][:2] == ["a", "one, two"]
    assert [len(row) for row in chart.rows] == [options + 2] * 4
    picture = drawn(chart)
    assert picture.count("<title>") == 2 * options
    assert "no valid answer" in picture


def test_a_heat_map_leaves_out_what_is_infinite() -> None:
    values = np.array([[np.inf, 0.25], [0.5, np.nan]])
    picture = drawn(heat_map("key", "Distances", ["x", "y"], ["1", "2"], values, form=percent))
    assert [picture.count(f">{text}<") for text in ("25%", "50%", "–")] == [1, 1, 1]
    drawn(heat_map("key", "Nothing", ["x"], ["a long name"], np.array([[np.nan]]), form=percent))
    drawn(heat_map("key", "Nothing", ["x"], ["0", "1"], np.zeros((1, 2)), form=short_count))


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0"), (999, "999"), (1_000, "1.0k"), (9_949, "9.9k"), (9_950, "10k"), (28_420, "28k")]
)
def test_short_counts(count: int, text: str) -> None:
    assert short_count(count) == text
