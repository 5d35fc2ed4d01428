"""Weights and pairs of a target persona out of answers: whom it is compared with, whose shares count, what is missing."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fairpp_hf.dataset.answers import Answers
from fairpp_hf.naming import check_name
from fairpp_hf.personas import PersonaSet
from fairpp_hf.preferences import PairSettings, PreferenceWeights, comparison_personas
from fairpp_hf.preferences.exports import FORMATS, wide_rows
from fairpp_hf.preferences.label_model import LabelModel, fit_label_model, mean_answers
from fairpp_hf.preferences.pairs import build_pairs
from fairpp_hf.preferences.schemes import uses_shares
from fairpp_hf.preferences.target_distribution import target_distribution
from fairpp_hf.provenance import SIMULATED
from fairpp_hf.schema import NO_ANSWER, RAW_REPLY


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
    label_model: LabelModel | None = None
    """Of the target's answers, with `labels="fitted"`."""
    notes: tuple[str, ...] = ()
    """Sentences on what is missing: questions that give no pair, shares that are not known."""


def answer_pairs(
    answers: Answers, target: str, settings: PairSettings, persona_set: PersonaSet | None = None
) -> AnswerPairs:
    """Preference pairs by split.

    Tiers' masses, the nearest persona and label models are fitted on the training questions and applied to both splits.
    Where no training question was answered, as in a run over the test split alone, they are fitted on the test questions.

    Args:
        answers: Who answered what.
        target: Id of the persona to align with.
        settings: How the pairs are made.
        persona_set: The set that the personas belong to, whose population shares count; all count alike where it is None
            or lacks one of the comparison personas.

    Raises:
        ValueError: An unknown persona, or as `preference_weights`, `pair_labels` and `build_pairs` do.
    """
    check_name("target", target, answers.personas)
    comparison = compared(answers, target, settings, persona_set)
    is_train = fit_rows(answers)
    aim, label_model = None, None
    if settings.soft:
        aim, label_model = pair_labels(
            answers, target, settings, comparison.personas, shares=comparison.shares, fit_rows=is_train
        )
    pairs = build_pairs(
        answers.questions,
        answers.matrix(),
        target,
        replace(settings, comparison=comparison.personas),
        is_train=is_train,
        shares=comparison.shares,
        probabilities=aim,
    )
    if is_train is None:
        pairs = {"train": pairs["train"].slice(0, 0), "test": pairs["train"]}
    notes = [comparison.note] if comparison.note else []
    column = answers.matrix()[target]
    if without := int((column == NO_ANSWER).sum()):
        notes.insert(0, f"{without:,} of {len(column):,} questions have no valid answer of {target} and give no pair.")
    return AnswerPairs(pairs, comparison, label_model, tuple(notes))


def export_tables(
    answers: Answers,
    form: str,
    target: str | None,
    settings: PairSettings,
    persona_set: PersonaSet | None = None,
) -> AnswerPairs:
    """What `answer_pairs` gives, with tables in one of `FORMATS`; `target` is None only for a wide table without weights."""
    if target is not None:
        check_name("target", target, answers.personas)
    if (rows_of := FORMATS[form].of_pairs) is not None:
        assert target is not None
        pairs = answer_pairs(answers, target, settings, persona_set)
        others = len(pairs.comparison.personas)
        return pairs._replace(tables={split: rows_of(table, others) for split, table in pairs.tables.items()})
    if len(answers.respondents) != 1:
        raise ValueError(
            f"The answers must be of one respondent for a wide table; got {', '.join(map(repr, answers.respondents))}. "
            "The columns have its name. Export each respondent's run on its own."
        )
    weights, comparison = None, Comparison((), None, "")
    if target is not None:
        comparison = compared(answers, target, settings, persona_set)
        weights = answer_weights(answers, target, settings, persona_set)
    raw_replies = None
    if RAW_REPLY in answers.features:
        raw_replies = {persona: answers.by_question(persona, RAW_REPLY) for persona in answers.personas}
    model = answers.respondents[0].removesuffix(SIMULATED)
    table = wide_rows(answers.questions, answers.matrix(), model, raw_replies=raw_replies, weights=weights)
    parts = {"train": ~answers.is_test, "test": answers.is_test}
    tables = {split: table.filter(pa.array(rows)) for split, rows in parts.items()}
    return AnswerPairs(tables, comparison, notes=(comparison.note,) if comparison.note else ())


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


def pair_labels(
    answers: Answers,
    target: str,
    settings: PairSettings,
    comparison: Sequence[str],
    *,
    shares: Mapping[str, float] | None = None,
    fit_rows: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.float64], LabelModel | None]:
    """The target distribution of n questions, by `settings.labels` and `settings.divergence`.

    With `"respondent"`, p and q are option probabilities as they were given; q is the mean over those comparison personas
    that have any for a question, weighted by their shares. With `"fitted"`, p comes from a label model of the target's
    answers, q from one of the comparison personas as one population, and each counts its own answers as far as they
    predict anything, see `LabelModel.with_own_answers`. q is only needed, and only found, with a divergence above 0.

    Returns:
        (n, 3), NaN where it is not known; and the label model of the target's answers, with `"fitted"`.
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
        return target_distribution(p, q, settings.divergence), None

    model = _fitted(answers, own, fit_rows, repr(target))
    p, q = model.with_own_answers(own), None
    if settings.divergence:
        others = mean_answers({persona: answers.matrix()[persona] for persona in comparison}, shares)
        q = _fitted(answers, others, fit_rows, "the comparison personas").with_own_answers(others)
    return target_distribution(p, q, settings.divergence), model


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
