"""Weights and pairs of a target persona out of answers: whom it is compared with, whose shares count, what is missing."""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fairpp_hf.dataset.answers import Answers
from fairpp_hf.dataset.pair_labels import PairLabels, pair_labels
from fairpp_hf.naming import check_name
from fairpp_hf.personas import PersonaSet
from fairpp_hf.preferences import PairSettings, PreferenceWeights, comparison_personas
from fairpp_hf.preferences.label_model import LabelModel
from fairpp_hf.preferences.pairs import build_pairs
from fairpp_hf.preferences.schemes import uses_shares
from fairpp_hf.schema import NO_ANSWER


class Comparison(NamedTuple):
    """Whom a target is compared with."""

    personas: tuple[str, ...]
    shares: dict[str, float] | None
    """Persona id to its share of the population; None where not all are known."""
    note: str
    """A sentence where shares would be used that are not known, otherwise empty."""


class AnswerPairs(NamedTuple):
    """The pairs of a target."""

    tables: Mapping[str, pa.Table]
    """Under `"train"` and `"test"`, with the columns of `PAIR_FEATURES` or `SOFT_PAIR_FEATURES`."""
    comparison: Comparison
    label_model: LabelModel | None
    """Of the target's answers, with `labels="fitted"`."""
    notes: tuple[str, ...]
    """Sentences on what is missing: questions that give no pair, shares that are not known."""


def answer_pairs(
    answers: Answers, target: str, settings: PairSettings, persona_set: PersonaSet | None = None
) -> AnswerPairs:
    """Preference pairs by split.

    Tiers' masses, the nearest persona and label models are fitted on the training questions and applied to both splits.
    Where no training question was answered, as in a run over the test split alone, they are fitted on the test questions.

    Args:
        answers: who answered what.
        target: id of the persona to align with.
        settings: how the pairs are made.
        persona_set: the set that the personas belong to, whose population shares count; all count alike where it is None
            or lacks one of the comparison personas.

    Raises:
        ValueError: an unknown persona, or as `preference_weights`, `pair_labels` and `build_pairs` do.
    """
    check_name("target", target, answers.personas)
    comparison = compared(answers, target, settings, persona_set)
    is_train = fit_rows(answers)
    labels: PairLabels | None = None
    if settings.soft:
        labels = pair_labels(
            answers, target, settings, comparison.personas, shares=comparison.shares, fit_rows=is_train
        )
    pairs = build_pairs(
        answers.questions,
        answers.matrix(),
        target,
        replace(settings, comparison=comparison.personas),
        is_train=is_train,
        shares=comparison.shares,
        probabilities=labels.probabilities if labels else None,
    )
    if is_train is None:
        pairs = {"train": pairs["train"].slice(0, 0), "test": pairs["train"]}
    notes = tuple(filter(None, (missing_pairs(answers, target), comparison.note)))
    return AnswerPairs(pairs, comparison, labels.label_model if labels else None, notes)


def answer_weights(
    answers: Answers, target: str, settings: PairSettings, persona_set: PersonaSet | None = None
) -> PreferenceWeights:
    """Tier and weight of every question, those that `answer_pairs` gives to its pairs; the arguments are the same."""
    comparison = compared(answers, target, settings, persona_set)
    return replace(settings, comparison=comparison.personas).weights(
        answers.matrix(), target, shares=comparison.shares, fit_rows=fit_rows(answers)
    )


def compared(
    answers: Answers, target: str, settings: PairSettings, persona_set: PersonaSet | None = None
) -> Comparison:
    """Whom a target is compared with, and with which shares; the arguments are those of `answer_pairs`."""
    personas = comparison_personas(answers.matrix(), target, settings.comparison, fit_rows=fit_rows(answers))
    known = {persona.id: persona.share for persona in persona_set} if persona_set else {}
    if set(personas) <= set(known):
        return Comparison(tuple(personas), {persona: known[persona] for persona in personas}, "")
    users = [f"weighting {settings.scheme_name!r}"] if uses_shares(settings.scheme) else []
    users += [f"divergence {settings.divergence:g}"] if settings.divergence else []
    note = ""
    if users:
        note = (
            f"The population shares of these personas are not known: {' and '.join(users)} "
            f"count{'s' if len(users) == 1 else ''} them all alike."
        )
    return Comparison(tuple(personas), None, note)


def fit_rows(answers: Answers) -> NDArray[np.bool_] | None:
    """The rows to fit weights and label models on, (n,): the training questions; None, which is all, without any."""
    is_train = ~answers.is_test
    return is_train if is_train.any() else None


def missing_pairs(answers: Answers, target: str) -> str:
    """A sentence on the questions that `answer_pairs` leaves out, empty where there are none."""
    column = answers.matrix()[target]
    without = int((column == NO_ANSWER).sum())
    if not without:
        return ""
    return f"{without:,} of {len(column):,} questions have no valid answer of {target} and give no pair."
