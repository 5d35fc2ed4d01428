"""Weighting schemes against hand arithmetic, plain loops and what must not change them."""

import math
import re

import numpy as np
import pytest

from fairpp_hf.preferences import SCHEMES, WeightingFacts, preference_weights
from fairpp_hf.preferences.schemes import scheme_name


def random_answers(rows: int = 500, personas: str = "abcdefg", seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.integers(-1, 3, rows) for name in personas}


def test_surprisal_by_hand():
    """Shares 0.3 and 0.1 have the mean 0.2: scaled, x is 1.5 and y is 0.5. p = (same + 1/3) / (answered + 1).

    Row 0, both agree: (2 + 1/3) / 3 = 7/9. Row 1, x agrees: (1.5 + 1/3) / 3 = 11/18. Row 2, y agrees:
    (0.5 + 1/3) / 3 = 5/18. Row 3, neither: (1/3) / 3 = 1/9. Row 4, x agrees and y is missing: (11/6) / 2.5 = 11/15.
    Row 5, both missing: (1/3) / 1 = 1/3. Row 6: no answer of the target.
    """
    answers = {
        "t": np.array([0, 1, 2, 0, 1, 2, -1]),
        "x": np.array([0, 1, 0, 1, 1, -1, 0]),
        "y": np.array([0, 0, 2, 2, -1, -1, -1]),
    }
    result = preference_weights(answers, "t", scheme="surprisal", shares={"x": 0.3, "y": 0.1, "other": 0.5})
    probabilities = np.array([7 / 9, 11 / 18, 5 / 18, 1 / 9, 11 / 15, 1 / 3])
    np.testing.assert_allclose(result.weight, [*-np.log(probabilities), 0.0], rtol=1e-14)
    np.testing.assert_array_equal(result.tier, [1, 2, 2, 3, 1, 1, 0])


@pytest.mark.parametrize("rows", [500, 70_000])
def test_surprisal_matches_a_plain_loop(rows):
    """70,000 rows are more than a block of them."""
    answers = random_answers(rows)
    shares = dict(zip("abcdefg", (0.13, 0.13, 0.12, 0.12, 0.17, 0.18, 0.15), strict=True))
    others = "abdefg"
    mean = sum(shares[name] for name in others) / 6
    result = preference_weights(answers, "c", scheme="surprisal", shares=shares)
    for row in range(0, rows, max(1, rows // 997)):
        own = answers["c"][row]
        same = sum(shares[name] / mean for name in others if answers[name][row] == own)
        answered = sum(shares[name] / mean for name in others if answers[name][row] != -1)
        expected = 0.0 if own == -1 else -math.log((same + 1 / 3) / (answered + 1))
        assert result.weight[row] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("factor", [0.01, 100.0, 3.7])
def test_only_the_ratios_of_shares_matter(factor):
    answers = random_answers()
    shares = {name: 0.05 + 0.01 * number for number, name in enumerate("abcdefg")}
    scaled = {name: factor * share for name, share in shares.items()}
    one, other = (preference_weights(answers, "c", scheme="surprisal", shares=given) for given in (shares, scaled))
    np.testing.assert_allclose(one.weight, other.weight, rtol=1e-13)
    equal = preference_weights(answers, "c", scheme="surprisal", shares=dict.fromkeys("abcdefg", factor))
    np.testing.assert_allclose(equal.weight, preference_weights(answers, "c", scheme="surprisal").weight, rtol=1e-13)
    assert not np.allclose(one.weight, equal.weight)


def twice_the_tier(facts: WeightingFacts) -> np.ndarray:
    return 2 * facts.tier


@pytest.mark.parametrize("scheme", [*SCHEMES, twice_the_tier])
def test_letters_and_the_order_of_personas_do_not_matter(scheme):
    """The options renamed alike for all, and the comparison personas in another order, repeated: the very same weights."""
    answers = random_answers()
    renamed = {name: np.array([2, 0, 1, -1])[column] for name, column in answers.items()}
    result = preference_weights(answers, "c", scheme=scheme)
    for other in (
        preference_weights(renamed, "c", scheme=scheme),
        preference_weights(answers, "c", scheme=scheme, comparison=["g", "a", "f", "a", "b", "e", "d"]),
        preference_weights({name: answers[name].astype(np.int8) for name in answers}, "c", scheme=scheme),
    ):
        np.testing.assert_array_equal(result.tier, other.tier)
        np.testing.assert_array_equal(result.weight, other.weight)
    assert result.tier.dtype == np.int64
    assert result.weight.dtype == np.float64


def test_a_function_gets_the_facts():
    answers = {"y": [0, 1, 1, -1], "t": [0, 1, -1, 2], "x": [0, 2, 0, 2], "z": [0, 1, 1, 1]}
    seen = []

    def mine(facts: WeightingFacts) -> np.ndarray:
        seen.append(facts)
        return np.array([1, 2, np.nan, 4])

    result = preference_weights(
        answers,
        "t",
        comparison=["x", "y"],
        scheme=mine,
        shares={"x": 1, "y": 3},
        fit_rows=np.array([True, True, True, False]),
    )
    (facts,) = seen
    np.testing.assert_array_equal(facts.own, [0, 1, -1, 2])
    # In the order of the answers: y before x.
    np.testing.assert_array_equal(facts.comparison, [[0, 1, 1, -1], [0, 2, 0, 2]])
    assert facts.own.dtype == facts.comparison.dtype == np.int8
    np.testing.assert_array_equal(facts.shares, [1.5, 0.5])
    np.testing.assert_array_equal(facts.tier, [1, 2, 0, 1])
    np.testing.assert_array_equal(facts.fit, [True, True, False, False])
    assert facts.tier_count == 3
    # What it says of a row without an answer of the target does not count.
    np.testing.assert_array_equal(result.weight, [1.0, 2.0, 0.0, 4.0])
    assert result.weight.dtype == np.float64


@pytest.mark.parametrize(
    ("weights", "named"),
    [
        ([1.0], "must be numbers of shape (3,), one for each row; got float64 of shape (1,)."),
        (["1", "2", "3"], "must be numbers of shape (3,), one for each row; got <U1 of shape (3,)."),
        ([1.0, math.nan, math.inf], "must be finite and at least 0; got nan at row 1."),
        ([1.0, 2.0, math.inf], "must be finite and at least 0; got inf at row 2."),
        ([-1.0, 1.0, 1.0], "must be finite and at least 0; got -1.0 at row 0."),
    ],
)
def test_what_a_function_returns_is_checked(weights, named):
    def mine(facts: WeightingFacts) -> list:
        return weights

    with pytest.raises(ValueError, match=f"^The weights of scheme 'mine' {re.escape(named)}$"):
        preference_weights({"t": [0, 1, 2], "x": [0, 0, 0]}, "t", scheme=mine)


@pytest.mark.parametrize("exponent", ["alpha", "beta"])
@pytest.mark.parametrize("scheme", ["uniform", "surprisal", twice_the_tier])
def test_exponents_are_for_the_tier_schemes(scheme, exponent):
    name = scheme_name(scheme)
    message = (
        f"{exponent} must be left at 1.0 with scheme {name!r}, which has no exponents; got 0.5. Leave it out, "
        "or use scheme 'tier' or 'tier_from_zero'."
    )
    answers = {"t": [0, 1], "x": [0, 0]}
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        preference_weights(answers, "t", scheme=scheme, **{exponent: 0.5})
    preference_weights(answers, "t", scheme=scheme, **{exponent: 1})
