"""How far are a run's answers from the leanings of the survey that its personas come from?

The leanings are those of the survey respondent's model (`respondents/survey.py`): expected shares of A, B and C, by
dimension, group and form, averaged over all problems, so that what the model invents for a single question falls out. They
rest on survey figures where a persona's position has such a basis, and on a prior elsewhere; the two are kept apart. How
often a persona takes option C is a prior throughout. The survey did not ask these questions.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fairpp_hf.evaluation.quality.identification import Identification, attribute
from fairpp_hf.evaluation.quality.replies import Replies
from fairpp_hf.personas import PersonaSet
from fairpp_hf.respondents.survey import survey_answers
from fairpp_hf.statistics.bootstrap import Measure, added_up, measured, ratio
from fairpp_hf.statistics.question_sums import numbered

LEAST_SHARE = 1e-3
"""An option that the survey's model excludes has this likelihood, so that one answer does not decide alone."""


class Leaning(NamedTuple):
    """How one persona leans on one dimension: P(B | A or B), 0 for pole A to 1 for pole B."""

    run: Measure
    survey: float
    from_figures: bool
    """Whether the survey's side rests on figures, and not on a prior."""


class Distance(NamedTuple):
    """How far answers are from the survey's leanings."""

    lean: Measure
    """Mean over personas and dimensions of the absolute difference of P(B | A or B); `chance` is for answers divided evenly
    between A and B."""
    lean_noise: float | None
    """What `lean` would be by the noise of so many answers alone: the mean distance of a resample from the run."""


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
    identification: Identification
    """Which persona's expected shares make the answers most likely."""


def compare_with_survey(replies: Replies, questions: pa.Table, personas: PersonaSet) -> SurveyFidelity | None:
    """Compare a run's answers with the leanings that its personas have in the survey.

    Args:
        replies: Replies of the run.
        questions: All questions that could have been asked; the expected shares are averaged over their problems.
        personas: The set that the run was asked with.

    Returns:
        None where no persona of the run has `choice` parameters.
    """
    ids = tuple(
        persona for persona in replies.personas if persona in personas.ids and personas.get(persona).choice is not None
    )
    if not ids:
        return None
    expected = expected_shares(questions, personas, ids, replies.questions)
    answered = replies.shares[[replies.personas.index(persona) for persona in ids]]
    valid = ~np.isnan(answered[:, :, :1])
    numbers, dimension_of = np.unique(replies.questions["dimension"].to_numpy(), return_inverse=True)
    in_dimension = np.eye(len(numbers))[dimension_of]

    def leaning(table: NDArray[np.float64]) -> NDArray[np.float64]:
        """P(B | A or B) by persona and dimension, (1 + resamples, P', D)."""
        rows = np.where(valid, table, 0.0)[..., :2].transpose(1, 0, 2)
        sums = replies.resamples.totals(rows[:, :, None, :] * in_dimension[:, None, :, None])
        return ratio(sums[..., 1], sums.sum(axis=-1))

    lean, survey_lean = leaning(answered), leaning(expected)
    given = valid[..., 0] @ in_dimension  # answers, (P', D)
    figures = np.array(
        [[not personas.get(persona).choice.positions[number].prior for number in numbers.tolist()] for persona in ids]  # type: ignore[union-attr]
    )
    apart = _mean(np.abs(lean - survey_lean), figures, axis=-1)
    # Nothing is learnt from the answers, so that there is nothing to hold out: one fold.
    scores = np.einsum("pqo,rqo->pqr", answered, np.log(np.maximum(expected, LEAST_SHARE)))
    return SurveyFidelity(
        personas=ids,
        from_figures=_distance(lean, survey_lean, given, figures),
        from_priors=_distance(lean, survey_lean, given, ~figures),
        by_persona={
            persona: measured(apart[:, row], (given * figures)[row].sum(), "answers", is_distance=True)
            for row, persona in enumerate(ids)
        },
        leanings={
            persona: {
                int(number): Leaning(
                    measured(lean[:, row, column], given[row, column], "answers", 0.5),
                    float(survey_lean[0, row, column]),
                    bool(figures[row, column]),
                )
                for column, number in enumerate(numbers)
                if given[row, column]
            }
            for row, persona in enumerate(ids)
        },
        identification=attribute(replies, ids, scores, np.zeros(replies.clusters.max() + 1, dtype=np.int64)),
    )


def expected_shares(
    questions: pa.Table, personas: PersonaSet, ids: tuple[str, ...], asked: pa.Table
) -> NDArray[np.float64]:
    """Shares of A, B, C that the survey's model expects of each of `ids`, (P', Q, 3), for the Q questions `asked`.

    They are means over those of `questions` with the same dimension, group and form.
    """
    cell = numbered(questions, ("dimension", "group", "form"))
    rows = pc.index_in(asked["question_id"].combine_chunks(), questions["question_id"].combine_chunks()).to_numpy()
    counts = np.bincount(cell)
    tables = []
    for persona in ids:
        probabilities = survey_answers(questions, personas, persona).probabilities
        sums = added_up(probabilities, cell, len(counts))
        tables.append((sums / counts[:, None])[cell[rows]])
    return np.stack(tables)


def _mean(values: NDArray[np.float64], wanted: NDArray[np.bool_], axis: int | None = None) -> NDArray[np.float64]:
    """Mean of the wanted ones that are known, (1 + resamples, ...); `axis` None for all but the first axis."""
    known = wanted & ~np.isnan(values)
    axes = tuple(range(1, values.ndim)) if axis is None else axis
    return ratio(np.where(known, values, 0.0).sum(axis=axes), known.sum(axis=axes).astype(np.float64))


def _distance(
    lean: NDArray[np.float64], survey: NDArray[np.float64], given: NDArray[np.float64], wanted: NDArray[np.bool_]
) -> Distance:
    """Over the wanted (persona, dimension) pairs, (P', D)."""
    even, noise = _mean(np.abs(0.5 - survey), wanted)[0], np.nan
    if len(lean) > 1:
        noise = _mean(np.abs(lean[1:] - lean[:1]), wanted).mean()
    chance, of_noise = (None if np.isnan(value) else float(value) for value in (even, noise))
    apart = _mean(np.abs(lean - survey), wanted)
    return Distance(measured(apart, (given * wanted).sum(), "answers", chance, is_distance=True), of_noise)
