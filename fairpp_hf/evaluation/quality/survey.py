"""How far are a run's answers from the leanings of the survey that its personas come from?

The leanings are those of the survey respondent's model (`respondents/survey.py`): expected shares of A, B and C, by
dimension, group and form, averaged over all problems, so that what the model invents for a single question falls out. They
rest on survey figures where a persona's position has such a basis, and on a prior elsewhere; the two are kept apart. How
often a persona takes option C is a prior throughout. The survey did not ask these questions.
"""

from typing import NamedTuple, SupportsFloat

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.stats import rankdata

from fairpp_hf.evaluation.quality.identification import Identification, attribute
from fairpp_hf.evaluation.quality.replies import (
    OPTIONS,
    Codes,
    Measure,
    Replies,
    Resamples,
    measured,
    not_measured,
    ratio,
)
from fairpp_hf.personas import PersonaSet
from fairpp_hf.respondents.survey import survey_answers
from fairpp_hf.statistics.intervals import js_distances

LEAST_SHARE = 1e-3
"""An option that the survey's model excludes has this likelihood, so that one answer does not decide alone."""

ORDERS = 10_000
"""Random orders behind the chance of a rank correlation."""


class Leaning(NamedTuple):
    """How one persona leans on one dimension: P(B | A or B), 0 for pole A to 1 for pole B."""

    run: Measure
    survey: float
    difference: Measure
    """Run minus survey."""
    from_figures: bool
    """Whether the survey's side rests on figures, and not on a prior."""


class Distance(NamedTuple):
    """How far answers are from the survey's leanings."""

    lean: Measure
    """Mean over personas and dimensions of the absolute difference of P(B | A or B); `chance` is for answers divided evenly
    between A and B."""
    lean_noise: float | None
    """What `lean` would be by the noise of so many answers alone: the mean distance of a resample from the run."""
    shares: Measure
    """Mean over personas of the Jensen-Shannon distance of shares of A, B, C, natural logarithm, 0 to 0.833; `chance` is for
    equal shares of the three."""
    shares_noise: float | None


class SurveyFidelity(NamedTuple):
    """The run beside its personas' survey."""

    personas: tuple[str, ...]
    """Those with `choice` parameters."""
    from_figures: Distance
    from_priors: Distance
    by_persona: dict[str, Measure]
    """Persona to its mean absolute difference of P(B | A or B), over the dimensions with a basis in figures."""
    leanings: dict[str, dict[int, Leaning]]
    """Persona, then dimension."""
    order: dict[int, Measure]
    """Dimension to Spearman's rank correlation of P(B | A or B) across personas, run against survey: 1 where the run orders
    them as the survey does. `chance` is what 1 of 20 random orders reaches."""
    identification: Identification
    """Which persona's expected shares make the answers most likely."""


def compare_with_survey(
    replies: Replies, shares: NDArray[np.float64], questions: pa.Table, personas: PersonaSet, seed: int
) -> SurveyFidelity | None:
    """Compare a run's answers with the leanings that its personas have in the survey.

    Args:
        replies: of the run.
        shares: answers, (P, Q, 3); of `shares_of`.
        questions: all questions that could have been asked; the expected shares are averaged over their problems.
        personas: the set that the run was asked with.
        seed: of the bundles and the bootstrap.

    Returns:
        None where no persona of the run has `choice` parameters.
    """
    ids = tuple(
        persona for persona in replies.personas if persona in personas.ids and personas.get(persona).choice is not None
    )
    if not ids:
        return None
    expected = expected_shares(questions, personas, ids, replies.questions)
    answered = shares[[replies.personas.index(persona) for persona in ids]]
    valid = ~np.isnan(answered[:, :, :1])
    resamples = Resamples(replies.clusters, seed)
    numbers, dimension_of = np.unique(replies.questions["dimension"].to_numpy(), return_inverse=True)
    in_dimension = np.eye(len(numbers))[dimension_of]

    def by_dimension(table: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sums by persona, dimension and option, (1 + resamples, P', D, 3)."""
        return np.stack(
            [resamples.totals(rows[:, None, :] * in_dimension[:, :, None]) for rows in np.where(valid, table, 0.0)],
            axis=1,
        )

    ours, theirs = by_dimension(answered), by_dimension(expected)
    given = np.stack([in_dimension.T @ rows[:, 0] for rows in valid])  # answers, (P', D)
    figures = np.array(
        [[not personas.get(persona).choice.positions[number].prior for number in numbers.tolist()] for persona in ids]  # type: ignore[union-attr]
    )
    lean, survey_lean = _lean(ours), _lean(theirs)
    difference = lean - survey_lean
    by_persona = _mean(np.abs(difference), figures, axis=-1)
    return SurveyFidelity(
        personas=ids,
        from_figures=_distance(ours, theirs, given, figures),
        from_priors=_distance(ours, theirs, given, ~figures),
        by_persona={
            persona: measured(by_persona[:, row], (given * figures)[row].sum(), "answers", is_distance=True)
            for row, persona in enumerate(ids)
        },
        leanings={
            persona: {
                int(number): Leaning(
                    measured(lean[:, row, column], given[row, column], "answers", 0.5),
                    float(survey_lean[0, row, column]),
                    measured(difference[:, row, column], given[row, column], "answers", 0.0),
                    bool(figures[row, column]),
                )
                for column, number in enumerate(numbers)
                if given[row, column]
            }
            for row, persona in enumerate(ids)
        },
        order={
            int(number): _order(lean[:, :, column], survey_lean[0, :, column], given[:, column].sum(), seed)
            for column, number in enumerate(numbers)
        },
        identification=_identified(replies, shares, expected, ids, seed),
    )


def expected_shares(
    questions: pa.Table, personas: PersonaSet, ids: tuple[str, ...], asked: pa.Table
) -> NDArray[np.float64]:
    """Shares of A, B, C that the survey's model expects of each persona, (P', Q, 3).

    Args:
        questions: averaged over within each dimension, group and form.
        personas: the set.
        ids: of personas with `choice` parameters.
        asked: Q questions, all of them among `questions`.
    """
    cells = Codes.of(questions, ("dimension", "group", "form"))
    rows = pa.compute.index_in(asked["question_id"].combine_chunks(), questions["question_id"].combine_chunks())
    asked_cells = cells.of_row[rows.to_numpy()]
    counts = np.bincount(cells.of_row, minlength=cells.size)
    tables = []
    for persona in ids:
        probabilities = survey_answers(questions, personas, persona).probabilities
        sums = np.stack([np.bincount(cells.of_row, column, minlength=cells.size) for column in probabilities.T], axis=1)
        tables.append((sums / counts[:, None])[asked_cells])
    return np.stack(tables)


def _lean(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    return ratio(sums[..., 1], sums[..., 0] + sums[..., 1])


def _mean(values: NDArray[np.float64], wanted: NDArray[np.bool_], axis: int | None = None) -> NDArray[np.float64]:
    """Mean of the wanted ones that are known, (1 + resamples, ...); `axis` None for all but the first axis."""
    known = wanted & ~np.isnan(values)
    axes = tuple(range(1, values.ndim)) if axis is None else axis
    return ratio(np.where(known, values, 0.0).sum(axis=axes), known.sum(axis=axes).astype(np.float64))


def _distance(
    ours: NDArray[np.float64], theirs: NDArray[np.float64], given: NDArray[np.float64], wanted: NDArray[np.bool_]
) -> Distance:
    """Over the wanted (persona, dimension) pairs, (P', D)."""
    lean, survey_lean = _lean(ours), _lean(theirs)
    difference = lean - survey_lean
    answers = (given * wanted).sum()
    even = _mean(np.abs(0.5 - survey_lean), wanted)[0]

    mine, survey = (np.where(wanted[..., None], sums, 0.0).sum(axis=2) for sums in (ours, theirs))
    mine, survey = (
        ratio(sums, np.broadcast_to(sums.sum(axis=-1, keepdims=True), sums.shape)) for sums in (mine, survey)
    )
    some = ~np.isnan(mine[0, :, 0])

    def apart(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
        distances = js_distances(first.reshape(-1, OPTIONS), second.reshape(-1, OPTIONS))
        return _mean(distances.reshape(first.shape[:-1]), some)

    return Distance(
        lean=measured(_mean(np.abs(difference), wanted), answers, "answers", _known(even), is_distance=True),
        lean_noise=_known(_mean(np.abs(difference[1:] - difference[:1]), wanted).mean()) if len(lean) > 1 else None,
        shares=measured(
            apart(mine, survey),
            answers,
            "answers",
            _known(apart(np.full_like(survey[:1], 1 / OPTIONS), survey[:1])[0]),
            is_distance=True,
        ),
        shares_noise=_known(np.nanmean(apart(mine[1:], np.broadcast_to(mine[:1], mine[1:].shape))))
        if len(mine) > 1 and some.any()
        else None,
    )


def _known(value: SupportsFloat) -> float | None:
    number = float(value)
    return None if np.isnan(number) else number


def _order(lean: NDArray[np.float64], survey: NDArray[np.float64], answers: float, seed: int) -> Measure:
    """Spearman's rank correlation across personas, over (1 + resamples, P') against (P',), resting on so many answers."""
    known = ~(np.isnan(lean[0]) | np.isnan(survey))
    count = int(known.sum())
    if count < 3:
        return not_measured(f"an order needs 3 personas with answers A or B; there are {count}", "personas")
    ours, theirs = _centred_ranks(lean[:, known]), _centred_ranks(survey[known])
    shuffled = np.random.default_rng(seed).permuted(np.tile(theirs, (ORDERS, 1)), axis=1)
    chance = float(np.quantile(_correlation(shuffled, theirs), 0.95))
    return measured(_correlation(ours, theirs), count, "personas", chance, drawn=answers)


def _centred_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    ranks = rankdata(values, axis=-1)
    return ranks - ranks.mean(axis=-1, keepdims=True)


def _correlation(rows: NDArray[np.float64], one: NDArray[np.float64]) -> NDArray[np.float64]:
    return ratio(rows @ one, np.sqrt((rows**2).sum(axis=-1) * (one**2).sum()))


def _identified(
    replies: Replies, shares: NDArray[np.float64], expected: NDArray[np.float64], ids: tuple[str, ...], seed: int
) -> Identification:
    log_expected = np.log(np.maximum(expected, LEAST_SHARE))

    def log_likelihoods(persona: int, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.einsum("qo,rqo->qr", shares[persona, rows], log_expected[:, rows])

    # Nothing is learnt from the answers, so that there is nothing to hold out: one fold.
    return attribute(replies, shares, ids, log_likelihoods, np.zeros(len(np.unique(replies.clusters)), np.int64), seed)
