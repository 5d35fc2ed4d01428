"""What a model has to beat: rules that know the target's answers to other questions, and rules that know less."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fairpp_hf.dataset.answers import Answers
from fairpp_hf.evaluation.results import CONSTANT, SystemScores, as_scores
from fairpp_hf.naming import check_name
from fairpp_hf.preferences.label_model import FEWEST_CLUSTERS, fit_label_model
from fairpp_hf.schema import NO_ANSWER, OPTION_LETTERS
from fairpp_hf.statistics.options import option_probabilities, shared_first_places
from fairpp_hf.statistics.question_sums import clusters_of

LABEL_MODEL = "label model"
MAJORITY = "majority of the others"
UNIFORM = "uniform"
BASELINES = (CONSTANT, LABEL_MODEL, MAJORITY, UNIFORM)

FEWEST_ANSWERS = 50
"""Answers of the target to other questions that `constant` and `label model` are fitted to, at least; and these in as many
clusters as a label model needs. With 50, a share has a standard error of 0.07."""

FOLDS = 5


def baselines(
    answers: Answers, questions: pa.Table, target: str, shares: Mapping[str, float | None] | None = None
) -> list[SystemScores]:
    """All baselines, in the order of `BASELINES`.

    Args:
        answers: Answers of all personas, to the training questions as well where there are some.
        questions: The n questions that systems are scored on, all of one split of `answers`.
        target: Id of the persona.
        shares: Persona id to its share of the population, None where it is unknown; by default all are unknown.

    Returns:
        The baselines of `fitted_baselines`, the share-weighted majority vote of the personas other than the target, and
        equal probabilities for all options.
    """
    rows = _rows_of(questions, answers)
    others = {persona: column[rows] for persona, column in answers.matrix().items() if persona != target}
    uniform = np.full((len(questions), len(OPTION_LETTERS)), 1 / len(OPTION_LETTERS))
    return [
        *fitted_baselines(answers, questions, target),
        as_scores(MAJORITY, majority_vote(others, shares or {})),
        as_scores(UNIFORM, uniform),
    ]


def fitted_baselines(answers: Answers, questions: pa.Table, target: str) -> list[SystemScores]:
    """The constant and the label model: what the target's answers to other questions say about these.

    `constant` gives every question the target's mean shares of A, B and C; `label model` gives each question what its
    labels predict (`preferences.label_model`). Neither is fitted to the answer that it is compared with, see `_folds`; the
    fact `fitted` says to what instead. For the arguments see `baselines`; there is none of the two where the target has
    answered too few questions, see `FEWEST_ANSWERS`.
    """
    constant = constant_rows(answers, questions, target)
    if constant is None:
        return []
    (folds, fitted), rows = _folds(answers, questions, target), _rows_of(questions, answers)
    drawn = answers.matrix()[target]
    probabilities = np.empty_like(constant)
    is_better = False
    for fold in folds:
        fit = fit_label_model(answers.questions, drawn, fold.fit)
        probabilities[fold.judged] = fit.probabilities[rows[fold.judged]]
        is_better |= bool(fit.is_better)
    found = [as_scores(CONSTANT, constant), as_scores(LABEL_MODEL, probabilities)]
    found[0].facts["fitted"] = fitted
    found[1].facts.update(fitted=fitted, is_better=is_better)
    return found


def constant_rows(answers: Answers, questions: pa.Table, target: str) -> NDArray[np.float64] | None:
    """The target's mean shares of A, B and C over other questions, as a row for each of these: (n, 3).

    Means are over option probabilities where all of them are known, otherwise over answers. The rows are equal, or equal
    within each of five folds where there are no training answers to take the shares from, see `_folds`. Arguments: see
    `baselines`; None where the target has answered too few questions, see `FEWEST_ANSWERS`.
    """
    folds, _ = _folds(answers, questions, target)
    if not folds:
        return None
    drawn = answers.matrix()[target]
    known = answers.probabilities(target)
    if np.isnan(known[drawn != NO_ANSWER]).any():
        known = option_probabilities(drawn)
    rows = np.empty((len(questions), len(OPTION_LETTERS)))
    for fold in folds:
        mean = known[fold.fit].mean(axis=0)
        rows[fold.judged] = mean / mean.sum()
    return rows


class _Fold(NamedTuple):
    """What is fitted to which answers."""

    fit: NDArray[np.bool_]
    """(N,): questions of the answers that are fitted to; the target has answered each."""
    judged: NDArray[np.bool_]
    """(n,): questions to score that this fit is for."""


def _folds(answers: Answers, questions: pa.Table, target: str) -> tuple[list[_Fold], str]:
    """Which of the target's answers the baselines of each question are fitted to, also in words.

    Test questions have the training answers. Where these are too few, or training questions are scored themselves, the
    answers of the split that is scored are divided into `FOLDS` by clusters of questions on one problem and group, and each
    question has those in the other folds.

    Returns:
        No fold at all where these are too few as well.
    """
    check_name("target", target, answers.records)
    rows = _rows_of(questions, answers)
    cluster = clusters_of(answers.questions)
    has_answer = answers.matrix()[target] != NO_ANSWER
    in_training = bool((~answers.is_test[rows]).any())

    def enough(fold: _Fold) -> bool:
        return fold.fit.sum() >= FEWEST_ANSWERS and len(np.unique(cluster[fold.fit])) >= FEWEST_CLUSTERS

    on_training = _Fold(~answers.is_test & has_answer, np.ones(len(rows), dtype=np.bool_))
    if not in_training and enough(on_training):
        return [on_training], f"to its {on_training.fit.sum():,} answers to training questions"
    pool = has_answer & (answers.is_test != in_training)
    drawn = np.random.default_rng(0).permutation(np.unique(cluster[pool]))
    # A cluster that the target has not answered may be in any fold.
    fold_of = np.zeros(cluster.max() + 1, dtype=np.int64)
    fold_of[drawn] = np.arange(len(drawn)) % FOLDS
    fold = fold_of[cluster]
    folds = [_Fold(pool & (fold != number), fold[rows] == number) for number in range(FOLDS)]
    if not all(map(enough, folds)):
        return [], ""
    words = (
        f"to its {pool.sum():,} answers to {'training' if in_training else 'test'} questions, in {FOLDS} folds: each "
        "question by the answers to those on other problems and groups"
    )
    return [fold for fold in folds if fold.judged.any()], words


def _rows_of(questions: pa.Table, answers: Answers) -> NDArray[np.int64]:
    """Row of each question among those of the answers, (n,)."""
    rows = pc.index_in(questions["question_id"], value_set=answers.questions["question_id"].combine_chunks())
    if rows.null_count:
        unknown = questions["question_id"][pc.index(rows.is_null(), True).as_py()].as_py()
        raise ValueError(
            f"questions must be among those of the answers; got {unknown!r}. Take them from these answers."
        )
    return rows.to_numpy().astype(np.int64)


def majority_vote(
    answers: Mapping[str, NDArray[np.integer]], shares: Mapping[str, float | None]
) -> NDArray[np.float64]:
    """The option that most of a population would vote for, question by question.

    Args:
        answers: Persona id to answers, (n,), 0..2 or -1 for none.
        shares: Persona id to its share of the population; where one is unknown, each persona counts as one.

    Returns:
        (n, 3): 1 for the option with most of the votes cast, shared equally where several are equal; a row of NaN where
        nobody has answered.

    Example:
        >>> votes = {"a": np.array([0, 0, -1]), "b": np.array([1, 1, -1]), "c": np.array([1, 2, -1])}
        >>> majority_vote(votes, {"a": 0.5, "b": 0.3, "c": 0.2})[:2].tolist()
        [[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]
    """
    known = all(shares.get(persona) is not None for persona in answers)
    votes = np.zeros((len(next(iter(answers.values()))), len(OPTION_LETTERS)))
    for persona, column in answers.items():
        share = shares[persona] if known else 1.0
        votes += share * (np.asarray(column)[:, None] == np.arange(len(OPTION_LETTERS)))
    return shared_first_places(votes)
