"""The target distribution: by hand, as the minimum that its docstring says it is, and at the edges."""

import re

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import softmax

from fairpp_hf.preferences.target_distribution import target_distribution


def test_by_hand():
    """p = (0.6, 0.3, 0.1), q = (0.3, 0.6, 0.1): p p/q = (1.2, 0.15, 0.1), which sums to 1.45."""
    aim = target_distribution([0.6, 0.3, 0.1], [0.3, 0.6, 0.1], divergence=1.0)
    assert aim == pytest.approx([1.2 / 1.45, 0.15 / 1.45, 0.1 / 1.45])
    # p (p/q)^0.5 = (0.6 2^0.5, 0.3 2^-0.5, 0.1)
    half = np.array([0.6 * 2**0.5, 0.3 * 2**-0.5, 0.1])
    assert target_distribution([0.6, 0.3, 0.1], [0.3, 0.6, 0.1], 0.5) == pytest.approx(half / half.sum())


@pytest.fixture(scope="module")
def distributions():
    rng = np.random.default_rng(0)
    return rng.dirichlet(np.ones(3), 40), rng.dirichlet(2 * np.ones(3), 40)


@pytest.mark.parametrize("divergence", [0.25, 1.0, 3.0])
def test_it_is_the_minimum_of_what_it_balances(divergence, distributions):
    """(1 + lambda) KL(pi || p) - lambda KL(pi || q), minimised over pi by a search that knows nothing of the formula."""
    p, q = (values[:6].clip(0.05) / values[:6].clip(0.05).sum(axis=1, keepdims=True) for values in distributions)
    aims = target_distribution(p, q, divergence)
    for target, comparison, aim in zip(p, q, aims, strict=True):

        def cost(pi, target=target, comparison=comparison):
            to_target, to_others = (np.sum(pi * np.log(pi / of)) for of in (target, comparison))
            return (1 + divergence) * to_target - divergence * to_others

        found = minimize(lambda logits, cost=cost: cost(softmax(logits)), np.zeros(3), method="BFGS")
        assert softmax(found.x) == pytest.approx(aim, abs=1e-4)
        assert cost(aim) <= found.fun + 1e-9


def test_without_divergence_it_is_the_target(distributions):
    p, q = distributions
    for comparison in (None, q):
        np.testing.assert_allclose(target_distribution(p, comparison), p, rtol=1e-12)
    # And where both agree, whatever the divergence.
    np.testing.assert_allclose(target_distribution(p, p, 2.0), p, rtol=1e-9)
    rare = [[0.004, 0.996, 0.0]]
    np.testing.assert_allclose(target_distribution(rare, rare, 2.0), rare, rtol=1e-9)


def test_the_edges():
    """A comparison of nothing counts as 0.01; an option that the target never chooses stays at 0; NaN rows stay NaN."""
    p = [[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [np.nan] * 3, [0.2, 0.3, 0.5]]
    q = [[0.0, 0.5, 0.5], [1.0, 0.0, 0.0], [0.2, 0.3, 0.5], [np.nan] * 3]
    aim = target_distribution(p, q, 1.0)
    assert aim[0] == pytest.approx(np.array([0.25 / 0.01, 0.25 / 0.5, 0.0]) / (25.5))
    assert aim[1] == pytest.approx(np.array([0.25, 0.25 / 0.01, 0.0]) / 25.25)
    assert np.isnan(aim[2:]).all()
    assert np.isnan(target_distribution(p)[2]).all()
    # Powers this high would underflow one by one.
    assert target_distribution([0.01, 0.98, 0.01], [0.98, 0.01, 0.01], 1e4) == pytest.approx([0, 1, 0])


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (([0.5, 0.5], [0.5, 0.5], -1), "divergence must be a finite number of at least 0; got -1."),
        (([0.5, 0.5], None, 0.5), "comparison must be given with a divergence above 0; got none with 0.5."),
        (([0.5, 0.5], [[0.5, 0.5]], 0.5), "must have the same shape; got (2,) and (1, 2)."),
        (
            ([[0.5, 0.5], [0.5, 0.6]],),
            "target must be option probabilities of at least 0 with a sum of 1; got [0.5, 0.6]",
        ),
        (([0.5, 0.5], [1.5, -0.5], 1), "comparison must be option probabilities of at least 0"),
        (([np.inf, 0.5],), "got [inf, 0.5]."),
        ((0.5,), "target must be rows of option probabilities; got the number 0.5."),
    ],
)
def test_what_will_not_do_is_refused(arguments, named):
    with pytest.raises(ValueError, match=re.escape(named)):
        target_distribution(*arguments)
