"""The distribution that soft labels come from: the respondent's option probabilities, or those of a label model."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fairpp_hf.dataset.answers import Answers
from fairpp_hf.preferences import PairSettings
from fairpp_hf.preferences.label_model import LabelModel, fit_label_model, mean_answers
from fairpp_hf.preferences.target_distribution import target_distribution
from fairpp_hf.schema import NO_ANSWER


class PairLabels(NamedTuple):
    """What the soft labels of a target's pairs come from."""

    probabilities: NDArray[np.float64]
    """(n, 3), the target distribution of each of the n questions; NaN where it is not known."""
    label_model: LabelModel | None
    """Of the target's answers, with `labels="fitted"`."""


def pair_labels(
    answers: Answers,
    target: str,
    settings: PairSettings,
    comparison: Sequence[str],
    *,
    shares: Mapping[str, float] | None = None,
    fit_rows: NDArray[np.bool_] | None = None,
) -> PairLabels:
    """The target distribution of every question, by `settings.labels` and `settings.divergence`.

    With `"respondent"`, p and q are option probabilities as they were given; q is the mean over those comparison personas
    that have any for a question, weighted by their shares. With `"fitted"`, p comes from a label model of the target's
    answers, q from one of the comparison personas as one population, and each counts its own answers as far as they
    predict anything, see `LabelModel.with_own_answers`. q is only needed, and only found, with a divergence above 0.

    Args:
        answers: n questions and who answered what.
        target: id of the persona to align with.
        settings: with soft labels.
        comparison: ids of the personas to move away from.
        shares: persona id to its share of the population, for every comparison persona; all alike by default.
        fit_rows: boolean (n,), the rows that label models learn from; all by default.

    Raises:
        ValueError: The labels cannot be fitted, see `fit_label_model` and `target_distribution`; or the comparison personas
            have no probabilities for a question that the target has some for.
    """
    own = answers.matrix()[target]
    if settings.labels == "respondent":
        p = answers.probabilities(target)
        q = None
        if settings.divergence:
            q = _mean_probabilities(answers, comparison, shares)
            asked = (own != NO_ANSWER) & ~np.isnan(p).any(axis=1)
            missing = asked & np.isnan(q).any(axis=1)
            if missing.any():
                raise ValueError(
                    "divergence must be 0 where no comparison persona has option probabilities; got "
                    f"{settings.divergence:g} and none for {missing.sum():,} of {asked.sum():,} questions of {target!r}. "
                    "Use labels='fitted', which needs answers alone, or other comparison personas."
                )
        return PairLabels(target_distribution(p, q, settings.divergence), None)

    model = _fitted(answers, own, fit_rows, repr(target))
    p, q = model.with_own_answers(own), None
    if settings.divergence:
        others = mean_answers({persona: answers.matrix()[persona] for persona in comparison}, shares)
        q = _fitted(answers, others, fit_rows, "the comparison personas").with_own_answers(others)
    return PairLabels(target_distribution(p, q, settings.divergence), model)


def _fitted(answers: Answers, given: NDArray, fit_rows: NDArray[np.bool_] | None, whose: str) -> LabelModel:
    """A label model, or an error that says whose answers are too few."""
    try:
        return fit_label_model(answers.questions, given, fit_rows)
    except ValueError as error:
        raise ValueError(f"Answers of {whose}: {error}") from error


def _mean_probabilities(
    answers: Answers, personas: Sequence[str], shares: Mapping[str, float] | None
) -> NDArray[np.float64]:
    """Mean over the personas that have option probabilities, weighted by their shares, (n, 3); NaN where none has."""
    total, counted = np.zeros((len(answers.questions), 3)), np.zeros((len(answers.questions), 1))
    for persona in personas:
        share = shares[persona] if shares else 1.0
        probabilities = answers.probabilities(persona)
        total += share * np.nan_to_num(probabilities)
        counted += share * ~np.isnan(probabilities).any(axis=1, keepdims=True)
    return np.divide(total, counted, out=np.full_like(total, np.nan), where=counted > 0)
