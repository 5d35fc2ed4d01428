"""Tiers and sample weights: which questions tell a target persona apart from the others, and how much they count.

A row on which every comparison persona answers like the target teaches a model nothing about the target in particular;
a row on which they all differ is what distinguishes it. The paper sorts rows into tiers by that count and gives each
tier its own mass (Zhou et al. 2025, arXiv:2505.11861, section on sample reweighting). That and the other schemes are in
`fairpp_hf.preferences.schemes`; here is what surrounds them: whom to compare with, the tiers, and the checks.
"""

from collections.abc import Collection, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairpp_hf.naming import check_name
from fairpp_hf.preferences.schemes import (
    SCHEMES,
    Scheme,
    WeightingFacts,
    WeightingFunction,
    check_scheme,
    scheme_name,
)
from fairpp_hf.schema import NO_ANSWER, OPTION_LETTERS

if TYPE_CHECKING:
    import pandas as pd

NEAREST = "nearest"
"""As `comparison`: the one persona that agrees with the target most often."""


class PreferenceWeights(NamedTuple):
    """Tier and weight of n questions for one target persona."""

    tier: NDArray[np.int64]
    """(n,): 1 + the number of comparison personas that disagree with the target, so 1..K; 0 where the target has no
    valid answer."""
    weight: NDArray[np.float64]
    """(n,): at least 0; 0 where the target has no valid answer. Not normalised over rows."""

    def by_tier(self) -> "pd.DataFrame":
        """A row a tier: number of `questions`, their mean `weight`, and their `share of mass`, of all weights."""
        import pandas as pd

        rows = pd.DataFrame({"tier": self.tier, "weight": self.weight})
        found = rows[rows["tier"] > 0].groupby("tier")["weight"].agg(questions="count", weight="mean", mass="sum")
        total = found["mass"].sum()
        found["share of mass"] = found.pop("mass") / (total if total else 1.0)
        return found

    def __repr__(self) -> str:
        """The number of questions and the table by tier."""
        return f"PreferenceWeights of {len(self.tier):,} questions\n{self.by_tier()}"

    def _repr_html_(self) -> str:
        return str(self.by_tier().to_html(border=0))


def preference_weights(
    answers: Mapping[str, ArrayLike],
    target: str,
    *,
    comparison: Sequence[str] | Literal["nearest"] | None = None,
    scheme: str | WeightingFunction = "tier",
    alpha: float = 1.0,
    beta: float = 1.0,
    shares: Mapping[str, float] | None = None,
    fit_rows: NDArray[np.bool_] | None = None,
) -> PreferenceWeights:
    """Weigh each question by how far the target's answer sets it apart from the comparison personas.

    The tier of a question is 1 + the number of comparison personas that disagree with the target. What a question weighs
    is up to the scheme:

    - `"tier"` (Zhou et al. 2025): T_i proportional to (i / K)^alpha (1 / N_i)^beta, see `tier_weights`.
    - `"tier_from_zero"`: the released tables' form of it, see `tier_from_zero_weights`.
    - `"surprisal"`: -log p, p the smoothed share of the comparison population that answers like the target, see
      `surprisal_weights`.
    - `"uniform"`: 1 for every row.
    - a function: called with `WeightingFacts`, returns the weights.

    A comparison persona without a valid answer to a question counts as neither agreeing nor disagreeing there. A question
    that the target did not validly answer has tier 0 and weight 0, is left out of every count, and yields no pair.

    Args:
        answers: Persona id to an integer array (n,): 0, 1, 2 for A, B, C, or -1 for no valid answer.
        target: Id of the persona to align with.
        comparison: Ids of the personas to move away from; all others in `answers` by default. `"nearest"` is the one
            that most often gives the target's answer, see `comparison_personas`. Order and repetition do not matter.
        scheme: A name in `SCHEMES`, or a function of `WeightingFacts`.
        alpha: Exponent of the tier's number; 0 gives every tier the same mass where beta is 1. At least 0. For the tier
            schemes only.
        beta: Exponent of the tier's size; 1 makes the tiers' masses independent of their sizes. At least 0. For the tier
            schemes only.
        shares: Persona id to its share of the population, finite and above 0; only their ratios matter, so percentages
            will do. All alike by default. `"surprisal"` uses them, and a function may.
        fit_rows: Boolean (n,): the rows that tier sizes and the nearest persona are counted on, such as the training
            rows; all by default. The resulting weights apply to every row.

    Returns:
        `PreferenceWeights` of two arrays of shape (n,).

    Raises:
        ValueError: An unknown persona or scheme, arrays of unequal lengths, answers outside -1..2, the target among the
            comparison personas, no comparison persona, a negative or non-finite exponent, an exponent for a scheme that
            has none, a share that is missing or not above 0, `fit_rows` of another shape, or a function whose weights are
            not n finite numbers of at least 0.

    Example:
        >>> import numpy as np
        >>> answers = {"a": np.array([0, 1]), "b": np.array([0, 2])}
        >>> preference_weights(answers, "a")
        PreferenceWeights(tier=array([1, 2]), weight=array([0.33333333, 0.66666667]))
        >>> preference_weights(answers, "a", scheme=lambda facts: facts.tier - 1).weight
        array([0., 1.])
    """
    columns = _checked_columns(answers, target)
    own = columns[target].astype(np.int8, copy=False)
    valid = own != NO_ANSWER
    fit = valid if fit_rows is None else valid & checked_rows(fit_rows, len(own))
    compared = _compared_personas(columns, target, comparison, fit)
    check_scheme("scheme", scheme, alpha, beta)
    chosen = SCHEMES[scheme] if isinstance(scheme, str) else Scheme(scheme)

    # The one matrix: answers fit in a byte, whatever type they came in.
    matrix = np.empty((len(compared), len(own)), dtype=np.int8)
    for row, persona in enumerate(compared):
        matrix[row] = columns[persona]
    tier = _tiers(own, matrix)
    facts = WeightingFacts(own, matrix, _checked_shares(shares, compared), tier, fit, 1 + len(compared))
    weights = chosen.function(facts, alpha, beta) if chosen.has_exponents else chosen.function(facts)
    return PreferenceWeights(tier=tier, weight=_checked_weights(weights, facts, scheme))


def comparison_personas(
    answers: Mapping[str, ArrayLike],
    target: str,
    comparison: Sequence[str] | Literal["nearest"] | None = None,
    *,
    fit_rows: NDArray[np.bool_] | None = None,
) -> list[str]:
    """The personas that a target is compared with, as `preference_weights` finds them.

    `"nearest"` maximises (rows on which both give the same valid answer) / (rows on which both give a valid one); of
    several, it is the first in the order of `answers`.

    Args:
        answers: Persona id to an integer array (n,): 0, 1, 2 for A, B, C, or -1 for no valid answer.
        target: Id of the persona to align with.
        comparison: Ids; all others by default; `"nearest"` for the one persona that most often gives the target's answer.
        fit_rows: Boolean (n,), the rows on which the nearest persona is found, such as the training rows; all by default.

    Returns:
        Different ids, at least one, in the order of `answers`.

    Raises:
        ValueError: As `preference_weights` raises it.

    Example:
        >>> comparison_personas({"a": [0, 1, 2], "b": [1, 1, 0], "c": [0, 1, -1]}, "a", "nearest")
        ['c']
    """
    columns = _checked_columns(answers, target)
    valid = columns[target] != NO_ANSWER
    fit = valid if fit_rows is None else valid & checked_rows(fit_rows, len(valid))
    return _compared_personas(columns, target, comparison, fit)


def _tiers(own: NDArray[np.int8], comparison: NDArray[np.int8]) -> NDArray[np.int64]:
    """1 + the number of comparison personas that disagree with the target, 0 where it has no valid answer; (n,)."""
    disagreements = np.zeros(len(own), dtype=np.int16)
    for others in comparison:
        disagreements += (others != own) & (others != NO_ANSWER)
    # int64 in the end: a narrow type would overflow unnoticed in a function's tier ** 3, and saves nothing at the peak,
    # since numpy makes an index int64 anyway.
    return np.where(own != NO_ANSWER, 1 + disagreements, 0).astype(np.int64)


# Checks


def _checked_columns(answers: Mapping[str, ArrayLike], target: str) -> dict[str, NDArray[np.integer]]:
    """The answers as integer arrays of one length in -1..2, of whatever integer type they came in."""
    columns = {persona: _checked_answers(persona, values) for persona, values in answers.items()}
    check_name("target", target, columns)
    lengths = {persona: len(column) for persona, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"answers must all have the same length; got {lengths}.")
    return columns


def _checked_answers(persona: str, values: ArrayLike) -> NDArray[np.integer]:
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(
            f"answers[{persona!r}] must be a one-dimensional integer array; got {array.dtype} of shape {array.shape}."
        )
    if len(array) and not (array.min() >= NO_ANSWER and array.max() < len(OPTION_LETTERS)):
        wrong = np.flatnonzero((array < NO_ANSWER) | (array >= len(OPTION_LETTERS)))
        raise ValueError(
            f"answers[{persona!r}] must be in -1..2 (-1 for no valid answer); got {array[wrong[0]]} at row {wrong[0]}."
        )
    return array


def checked_rows(fit_rows: NDArray[np.bool_], count: int) -> NDArray[np.bool_]:
    """The rows to fit on, (count,), which must be a boolean array of that shape."""
    rows = np.asarray(fit_rows)
    if rows.dtype != np.bool_ or rows.shape != (count,):
        raise ValueError(
            f"fit_rows must be a boolean array of shape ({count},), one for each row; got {rows.dtype} of shape "
            f"{rows.shape}. Leave it out to fit on all rows."
        )
    return rows


def _compared_personas(
    columns: Mapping[str, NDArray[np.integer]],
    target: str,
    comparison: Sequence[str] | None,
    fit: NDArray[np.bool_],
) -> list[str]:
    """The different comparison personas in the order of the answers, so that sums over them are the same every time."""
    others = [persona for persona in columns if persona != target]
    if comparison is None:
        comparison = others
    check_comparison(comparison)
    if isinstance(comparison, str):
        return [_nearest(columns, target, fit)]
    for persona in comparison:
        check_name("comparison", persona, columns)
    if target in comparison:
        raise ValueError(f"comparison must not contain the target; got {target!r}. Remove it from the list.")
    chosen = set(comparison)
    if not chosen:
        raise ValueError("comparison must name at least one persona; got none. Pass the answers of another persona.")
    return [persona for persona in others if persona in chosen]


def check_comparison(comparison: object) -> None:
    """Check the form of `comparison`, a list of texts or `"nearest"`, not the names in it."""
    if isinstance(comparison, str):
        if comparison != NEAREST:
            raise ValueError(
                f"comparison must be a list of persona ids, or 'nearest'; got {comparison!r}. Write [{comparison!r}] for "
                "one persona."
            )
    elif not isinstance(comparison, Collection) or not all(isinstance(persona, str) for persona in comparison):
        raise ValueError(f"comparison must be a list of persona ids, or 'nearest'; got {comparison!r}.")


def _nearest(columns: Mapping[str, NDArray[np.integer]], target: str, fit: NDArray[np.bool_]) -> str:
    """The first persona of maximal agreement on the rows to fit, on which the target has a valid answer."""
    own = columns[target]
    agreement = {}
    for persona, column in columns.items():
        if persona != target and (both := np.count_nonzero(fit & (column != NO_ANSWER))):
            agreement[persona] = np.count_nonzero(fit & (column == own)) / both
    if not agreement:
        raise ValueError(
            f"The nearest persona must be found on rows that it and the target both answered; got none of {target!r} and "
            "another persona. Name the comparison personas, or fit on other rows."
        )
    return max(agreement, key=lambda persona: agreement[persona])


def _checked_shares(shares: Mapping[str, float] | None, compared: Sequence[str]) -> NDArray[np.float64]:
    """Shares of the comparison personas, (m,), scaled to a mean of 1."""
    if shares is None:
        return np.ones(len(compared))
    for persona in compared:
        if persona not in shares:
            raise ValueError(
                f"shares must cover every comparison persona; got none for {persona!r}. Add it, or leave shares out to "
                "count all personas alike."
            )
        share = shares[persona]
        if not isinstance(share, Real) or isinstance(share, bool) or not 0 < share < np.inf:
            raise ValueError(f"shares[{persona!r}] must be a finite number above 0; got {share!r}.")
    given = np.array([shares[persona] for persona in compared], dtype=np.float64)
    return given / given.mean()


def _checked_weights(weights: ArrayLike, facts: WeightingFacts, scheme: str | WeightingFunction) -> NDArray[np.float64]:
    """What a scheme returned, as float64 (n,), 0 on rows without a valid answer of the target."""
    array = np.asarray(weights)
    count = len(facts.own)
    if array.shape != (count,) or array.dtype.kind not in "biuf":
        raise ValueError(
            f"The weights of scheme {scheme_name(scheme)!r} must be numbers of shape ({count},), one for each row; got "
            f"{array.dtype} of shape {array.shape}."
        )
    valid = facts.tier > 0
    array = array.astype(np.float64, copy=False)
    if not valid.all():
        # A user's function may have kept its array.
        array = array.copy() if callable(scheme) else array
        array[~valid] = 0.0
    if count and not (array.min() >= 0 and array.max() < np.inf):  # so that NaN fails, too
        wrong = np.flatnonzero(~((array >= 0) & (array < np.inf)))[0]
        raise ValueError(
            f"The weights of scheme {scheme_name(scheme)!r} must be finite and at least 0; got {array[wrong]} at row "
            f"{wrong}."
        )
    return array
