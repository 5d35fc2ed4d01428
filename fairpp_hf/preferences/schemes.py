"""Weighting schemes: what a question weighs, given who answers it like the target and who does not.

Each is a function of `WeightingFacts`; `SCHEMES` gives names to those that are here. A user's own function is one more.
"""

from collections.abc import Callable
from numbers import Real
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairpp_hf.naming import check_name
from fairpp_hf.schema import NO_ANSWER, OPTION_LETTERS

# Rows that are worked on at a time: a block's arrays of floats stay in the processor's cache.
_BLOCK = 1 << 16


class WeightingFacts(NamedTuple):
    """What a weighting scheme may look at: n questions, the target and its m comparison personas."""

    own: NDArray[np.int8]
    """(n,): the target's answers, 0..2, or -1 for no valid answer. Such rows get weight 0 whatever the scheme gives."""
    comparison: NDArray[np.int8]
    """(m, n): answers of the comparison personas, in the order of `answers`; 0..2, or -1."""
    shares: NDArray[np.float64]
    """(m,): their shares of the population, scaled to a mean of 1 over the m; all 1 where none are known."""
    tier: NDArray[np.int64]
    """(n,): 1 + the number of comparison personas that disagree with the target, 1..K; 0 where `own` is -1."""
    fit: NDArray[np.bool_]
    """(n,): rows to estimate from, such as the training rows; False where `own` is -1."""
    tier_count: int
    """K = m + 1."""


WeightingFunction: TypeAlias = Callable[[WeightingFacts], ArrayLike]
"""A scheme of one's own: the facts to a weight for each row, (n,), finite and at least 0."""


def tier_weights(facts: WeightingFacts, alpha: float = 1.0, beta: float = 1.0) -> NDArray[np.float64]:
    """The paper's scheme: a row of tier i of K weighs

        T_i proportional to (i / K)^alpha (1 / N_i)^beta,    sum over tiers of T_i = 1,

    where N_i is the number of rows to fit in tier i (Zhou et al. 2025, arXiv:2505.11861, section on sample reweighting).
    An empty tier has no row and no share of the mass; one that occurs only outside the rows to fit counts as one row.

    A tier depends on the one answer that the target gave. Where answers are draws, a draw that others seldom give weighs
    more, and a model that is trained on them leans away from the others further than the target does; soft labels undo that
    (`benchmarks/study` has the equations, and what came of it).
    """
    return _tier_weights(facts, alpha, beta, first=1)


def tier_from_zero_weights(facts: WeightingFacts, alpha: float = 1.0, beta: float = 1.0) -> NDArray[np.float64]:
    """`tier_weights` with ((i - 1) / K)^alpha in place of (i / K)^alpha, so that rows on which all agree weigh 0.

    It is how the tables that Zhou et al. 2025 released count their tiers; the paper itself counts from 1.
    With alpha = 0 the first tier still weighs 0.
    """
    return _tier_weights(facts, alpha, beta, first=0)


def surprisal_weights(facts: WeightingFacts) -> NDArray[np.float64]:
    """How surprising the target's answer is to somebody who knows the comparison population: a row weighs

        w = -log p,    p = (1/3 + sum_s share_s [s gives the target's answer]) / (1 + sum_s share_s [s answers validly]),

    in nats, where s runs over the m comparison personas and their shares have a mean of 1. This is the information
    content of the answer (Shannon 1948, "A Mathematical Theory of Communication", section 6) under the population's
    distribution over the three options, smoothed by one more persona of average size that is spread evenly over them: p
    is never 0, and is 1/3 where nobody answered. Where the tier counts segments, this counts the people in them. Every
    row stands for itself: nothing is estimated from other rows.
    Weights lie between log((m + 1) / (m + 1/3)), where all agree with the target, and log(3 (m + 1)), where nobody does.
    """
    weights = np.empty(len(facts.own))
    # By blocks of rows: three times as fast as whole columns, and next to no memory beside the result.
    for start in range(0, len(weights), _BLOCK):
        block = slice(start, start + _BLOCK)
        own = facts.own[block]
        same = np.full(len(own), 1 / len(OPTION_LETTERS))
        answered = np.ones(len(own))
        for share, others in zip(facts.shares, facts.comparison[:, block], strict=True):
            same += share * (others == own)
            answered += share * (others != NO_ANSWER)
        weights[block] = np.log(answered / same)
    return weights


def uniform_weights(facts: WeightingFacts) -> NDArray[np.float64]:
    """Every row weighs 1: plain, unweighted training (the baseline in Zhou et al. 2025)."""
    return np.ones(len(facts.own))


def _tier_weights(facts: WeightingFacts, alpha: float, beta: float, *, first: int) -> NDArray[np.float64]:
    """T of each row's tier, with tiers numbered from `first`."""
    sizes = np.bincount(facts.tier[facts.fit], minlength=facts.tier_count + 1)[1:]
    # A tier seen only outside the fitted rows has no size of its own to divide by.
    sizes = np.maximum(sizes, np.bincount(facts.tier, minlength=facts.tier_count + 1)[1:] > 0)
    numbers = np.arange(first, first + facts.tier_count) / facts.tier_count
    per_tier = np.where(sizes > 0, numbers**alpha / np.maximum(sizes, 1) ** beta, 0.0)
    if first == 0:
        # 0 ** 0 is 1: with alpha = 0 the zeroth tier would come back, which this form is there to leave out.
        per_tier[0] = 0.0
    total = per_tier.sum()
    if total > 0:
        per_tier /= total
    return np.concatenate([[0.0], per_tier])[facts.tier]


class Scheme(NamedTuple):
    """A weighting scheme, and what it takes."""

    function: Callable[..., ArrayLike]
    """Called with `WeightingFacts`, and with alpha and beta where it has exponents; returns weights (n,)."""
    meaning: str = ""
    """A sentence or two for the cards of datasets and models: what a question weighs, and what that favours. Of a user's
    function it is not known."""
    has_exponents: bool = False
    uses_shares: bool = True
    """Whether `shares` change the weights. Of a user's function that is not known, so it is taken to use them."""


SCHEMES: dict[str, Scheme] = {
    "tier": Scheme(
        tier_weights,
        "With N_i questions in tier i of K, each of them weighs in proportion to (i / K)^alpha (1 / N_i)^beta, as in the "
        "paper: rare questions that set the target apart count most.",
        has_exponents=True,
        uses_shares=False,
    ),
    "tier_from_zero": Scheme(
        tier_from_zero_weights,
        "With N_i questions in tier i of K, each of them weighs in proportion to ((i - 1) / K)^alpha (1 / N_i)^beta, as in "
        "the published tables: questions on which all agree weigh 0, and rare ones that set the target apart count most.",
        has_exponents=True,
        uses_shares=False,
    ),
    "uniform": Scheme(uniform_weights, "Every question weighs the same.", uses_shares=False),
    "surprisal": Scheme(
        surprisal_weights,
        "A question weighs -log p, where p is the smoothed share of the comparison personas that gave the target's answer, "
        "each counted by its share of the population where that is known: surprising answers count most.",
    ),
}
"""Weighting schemes by name; each function's docstring has its formula and source."""


def scheme_name(scheme: str | WeightingFunction) -> str:
    """What to call a scheme in a message: its name in `SCHEMES`, or that of the function."""
    return scheme if isinstance(scheme, str) else getattr(scheme, "__name__", type(scheme).__name__)


def uses_shares(scheme: str | WeightingFunction) -> bool:
    """Whether the population shares of the comparison personas may change the weights of a scheme."""
    return SCHEMES[scheme].uses_shares if isinstance(scheme, str) else True


def check_scheme(what: str, scheme: str | WeightingFunction, alpha: float, beta: float) -> None:
    """Check a scheme and its exponents; `what` is what the caller's argument for the scheme is called."""
    for name, exponent in (("alpha", alpha), ("beta", beta)):
        if not isinstance(exponent, Real) or isinstance(exponent, bool) or not 0 <= exponent < np.inf:
            raise ValueError(f"{name} must be a finite number of at least 0; got {exponent!r}.")
    if not callable(scheme):
        check_name(what, scheme, SCHEMES)
    if isinstance(scheme, str) and SCHEMES[scheme].has_exponents:
        return
    with_exponents = " or ".join(repr(name) for name, known in SCHEMES.items() if known.has_exponents)
    for name, exponent in (("alpha", alpha), ("beta", beta)):
        if exponent != 1:
            raise ValueError(
                f"{name} must be left at 1.0 with {what} {scheme_name(scheme)!r}, which has no exponents; got {exponent!r}. "
                f"Leave it out, or use {what} {with_exponents}."
            )
