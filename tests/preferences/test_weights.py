"""Tiers and weights against hand arithmetic and a plain-Python recount."""

import re

import numpy as np
import pytest

from fairpp_hf.preferences import comparison_personas, preference_weights


def test_tier_weights_by_hand():
    """K = 3. Rows: all agree, all agree, one differs, both differ.

    N = (2, 1, 1); (i/3) / N_i = 1/6, 2/3, 1; sum 11/6; T = 1/11, 4/11, 6/11.
    """
    answers = {"t": np.array([0, 1, 2, 0]), "x": np.array([0, 1, 2, 1]), "y": np.array([0, 1, 0, 2])}
    result = preference_weights(answers, "t")
    np.testing.assert_array_equal(result.tier, [1, 1, 2, 3])
    np.testing.assert_allclose(result.weight, np.array([1, 1, 4, 6]) / 11)


def test_tier_from_zero_by_hand():
    """Same rows, tiers 0, 1, 2: (i/3) / N_i = 0, 1/3, 2/3; T = 0, 1/3, 2/3. Tier numbers in the table stay 1..K."""
    answers = {"t": np.array([0, 1, 2, 0]), "x": np.array([0, 1, 2, 1]), "y": np.array([0, 1, 0, 2])}
    result = preference_weights(answers, "t", scheme="tier_from_zero")
    np.testing.assert_array_equal(result.tier, [1, 1, 2, 3])
    np.testing.assert_allclose(result.weight, [0, 0, 1 / 3, 2 / 3])


def test_matches_a_plain_recount():
    rng = np.random.default_rng(0)
    answers = {name: rng.integers(-1, 3, 500) for name in "abcdefg"}
    alpha, beta = 0.7, 0.4
    result = preference_weights(answers, "c", alpha=alpha, beta=beta)
    tiers = []
    for row in range(500):
        own = answers["c"][row]
        others = [answers[name][row] for name in "abdefg"]
        tiers.append(0 if own == -1 else 1 + sum(other not in (own, -1) for other in others))
    raw = {i: (i / 7) ** alpha / tiers.count(i) ** beta for i in range(1, 8) if tiers.count(i)}
    expected = [raw[i] / sum(raw.values()) if i else 0.0 for i in tiers]
    np.testing.assert_array_equal(result.tier, tiers)
    np.testing.assert_allclose(result.weight, expected)


def test_empty_tiers_take_no_mass_and_divide_nothing():
    """Nobody ever disagrees with the target: one tier is occupied, and it holds all the mass."""
    answers = {name: np.array([1, 1, 0]) for name in "abc"}
    result = preference_weights(answers, "a")
    np.testing.assert_array_equal(result.tier, [1, 1, 1])
    np.testing.assert_allclose(result.weight, [1.0, 1.0, 1.0])


def test_missing_target_answer_weighs_nothing_and_is_not_counted():
    answers = {"t": np.array([0, -1, 0]), "x": np.array([1, 1, 0])}
    with_gap = preference_weights(answers, "t")
    without = preference_weights({name: column[[0, 2]] for name, column in answers.items()}, "t")
    np.testing.assert_array_equal(with_gap.tier, [2, 0, 1])
    assert with_gap.weight[1] == 0
    np.testing.assert_allclose(with_gap.weight[[0, 2]], without.weight)


def test_comparison_subset_sets_the_number_of_tiers():
    answers = {"t": np.array([0, 0]), "x": np.array([1, 0]), "y": np.array([0, 1])}
    np.testing.assert_array_equal(preference_weights(answers, "t", comparison=["x"]).tier, [2, 1])


def test_fit_rows_decide_the_masses_of_all_rows():
    """Fitted on the first two rows, N = (1, 1): T = 1/3, 2/3, whatever the other rows hold."""
    answers = {"t": np.array([0, 0, 0, 0]), "x": np.array([0, 1, 1, 1])}
    result = preference_weights(answers, "t", fit_rows=np.array([True, True, False, False]))
    np.testing.assert_allclose(result.weight, [1 / 3, 2 / 3, 2 / 3, 2 / 3])


@pytest.mark.parametrize("fit", [None, np.arange(500) % 3 > 0])
def test_nearest_matches_a_plain_recount(fit):
    rng = np.random.default_rng(2)
    answers = {name: rng.integers(-1, 3, 500) for name in "abcdefg"}
    agreement = {}
    for name in "abdefg":
        both = [
            row
            for row in range(500)
            if answers["c"][row] != -1 and answers[name][row] != -1 and (fit is None or fit[row])
        ]
        agreement[name] = sum(answers[name][row] == answers["c"][row] for row in both) / len(both)
    expected = max(agreement, key=agreement.get)
    assert comparison_personas(answers, "c", "nearest", fit_rows=fit) == [expected]
    by_name = preference_weights(answers, "c", comparison=[expected], fit_rows=fit)
    nearest = preference_weights(answers, "c", comparison="nearest", fit_rows=fit)
    np.testing.assert_array_equal(nearest.tier, by_name.tier)
    np.testing.assert_array_equal(nearest.weight, by_name.weight)
    assert set(nearest.tier) == {0, 1, 2}


def test_nearest_of_several_is_the_first():
    """x agrees on 1 of 2, y on 2 of 4, z on 1 of 4: x and y tie at 1/2, whatever the number of rows."""
    answers = {"z": [0, 1, 1, 1], "y": [0, 0, 1, 1], "t": [0, 0, 0, 0], "x": [-1, -1, 0, 1]}
    assert comparison_personas(answers, "t", "nearest") == ["y"]
    assert comparison_personas({name: answers[name] for name in ("z", "x", "t", "y")}, "t", "nearest") == ["x"]


def test_the_comparison_personas_are_those_that_weights_are_counted_with():
    """x gives t's answer on the first two rows, y on the last two; on rows to fit that are the last ones, y is nearest."""
    answers = {"y": np.array([1, 1, 0, 0]), "t": np.zeros(4, int), "x": np.array([0, 0, 0, 1])}
    last = np.array([False, False, True, True])
    for comparison, fit, expected in (
        (None, None, ["y", "x"]),
        (["x", "y", "x"], None, ["y", "x"]),
        (("x",), None, ["x"]),
        ("nearest", None, ["x"]),
        ("nearest", last, ["y"]),
    ):
        found = comparison_personas(answers, "t", comparison, fit_rows=fit)
        assert found == expected
        for ours, theirs in zip(
            preference_weights(answers, "t", comparison=comparison, fit_rows=fit),
            preference_weights(answers, "t", comparison=found, fit_rows=fit),
            strict=True,
        ):
            np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(ValueError, match=r"^comparison must not contain the target; got 't'"):
        comparison_personas(answers, "t", ["t"])


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (
            {"target": "loyal"},
            "target must be one of 'loyal_nationals', 'x'; got 'loyal'. Did you mean 'loyal_nationals'?",
        ),
        ({"comparison": ["y"]}, "comparison must be one of 'loyal_nationals', 'x'; got 'y'."),
        ({"comparison": ["loyal_nationals"]}, "comparison must not contain the target; got 'loyal_nationals'."),
        ({"comparison": []}, "comparison must name at least one persona; got none."),
        ({"comparison": "x"}, "or 'nearest'; got 'x'. Write ['x'] for one persona."),
        ({"comparison": 3}, "comparison must be a list of persona ids, or 'nearest'; got 3."),
        ({"comparison": "nearest", "fit_rows": np.array([False, False])}, "got none of 'loyal_nationals' and another"),
        ({"beta": float("nan")}, "beta must be a finite number of at least 0; got nan."),
        ({"alpha": "1"}, "alpha must be a finite number of at least 0; got '1'."),
        ({"scheme": "tiers"}, "got 'tiers'. Did you mean 'tier'?"),
        ({"fit_rows": np.array([0])}, "fit_rows must be a boolean array of shape (2,), one for each row; got int64"),
        (
            {"scheme": "surprisal", "shares": {"loyal_nationals": 0.17}},
            "shares must cover every comparison persona; got",
        ),
        ({"shares": {"x": float("nan")}}, "shares['x'] must be a finite number above 0; got nan."),
        ({"shares": {"x": "10%"}}, "shares['x'] must be a finite number above 0; got '10%'."),
        (
            {"answers": {"loyal_nationals": [0, 3], "x": [0, 0]}},
            "must be in -1..2 (-1 for no valid answer); got 3",
        ),
        ({"answers": {"loyal_nationals": [0.0], "x": [0]}}, "must be a one-dimensional integer array; got float64"),
        ({"answers": {"loyal_nationals": [0], "x": [0, 1]}}, "answers must all have the same length; got"),
    ],
)
def test_bad_arguments_are_refused(changes, named):
    arguments = {"answers": {"loyal_nationals": [0, 1], "x": [0, 0]}, "target": "loyal_nationals", **changes}
    with pytest.raises(ValueError, match=re.escape(named)):
        preference_weights(**arguments)


def test_weights_are_shown_by_tier():
    """Three questions of tiers 1, 3 and 2, and one that the target did not answer."""
    weights = preference_weights({"a": [0, 1, 1, -1], "b": [0, 2, 1, 0], "c": [0, 2, 0, 0]}, "a")
    table = weights.by_tier()
    assert table.index.tolist() == [1, 2, 3]
    assert table["questions"].tolist() == [1, 1, 1]
    assert table["share of mass"].tolist() == pytest.approx([1 / 6, 2 / 6, 3 / 6])
    assert repr(weights).startswith("PreferenceWeights of 4 questions\n")
    assert weights._repr_html_().count("<tr>") >= 3
