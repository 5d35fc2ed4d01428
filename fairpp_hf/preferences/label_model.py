"""The label model: a persona's option probabilities from what a question is about, fitted to its answers.

An answer is one draw from a persona's option probabilities, and says little about them by itself. Answers to thousands of
questions with labels in common (dimension, group, problem and so on) say much: a logistic regression on the labels and on
their pairs. It is the target of training where only answers are known, and a baseline that every model has to beat.
"""

import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.optimize import minimize_scalar

from fairpp_hf.naming import check_name
from fairpp_hf.preferences.weights import checked_rows
from fairpp_hf.schema import NO_ANSWER, OPTION_LETTERS
from fairpp_hf.stable_hash import uniforms

logger = logging.getLogger(__name__)

LABEL_COLUMNS = ("topic", "category", "problem", "group_type", "group", "dimension", "form")
"""Labels of Fair-PP's questions."""

CLUSTER = ("problem", "group")
"""Questions that share these are held out together."""

UNIT = ("problem", "group", "dimension")
"""Questions that share these ask for one stance in two forms: how far one answer tells the other is how far an answer tells
a persona's probabilities on its own question."""

FOLDS = 5
FEWEST_CLUSTERS = 2 * FOLDS
PAIR_SCALE = 0.5
"""Of the columns for pairs of labels: a pair's coefficient costs four times as much as that of a single label, so that it is
used for what single labels cannot say."""
PENALTIES = (1000.0, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1)
"""Strengths of the L2 penalty on the coefficients, in the unit of one answer, from the strongest."""

OWN_WEIGHT_EVIDENCE = 4.0
"""By so many nats in all must other forms predict answers better for own answers to count. Two forms predict each other,
which says the same thing twice: with each pair counted once it is 2 nats, which one in forty samples reaches by chance.
Without it, a few pairs that happen to agree would make every drawn answer nearly certain."""


@dataclass(frozen=True)
class LabelModel:
    """Option probabilities of n questions, from their labels, for whoever gave the answers that it was fitted to."""

    probabilities: NDArray[np.float64]
    """(n, 3): from labels alone, of every question, answered or not; the constant where labels were no better."""
    constant: NDArray[np.float64]
    """(3,): mean shares of A, B, C on the rows that it was fitted to, each count plus a third."""
    log_likelihood: float
    """Mean over answers that were held out in cross-validation, in nats."""
    constant_log_likelihood: float
    """The same of the constant."""
    pairs: bool
    """Whether pairs of labels were used, or single labels alone."""
    penalty: float
    """One of `PENALTIES`; chosen, as `pairs` is, by the held-out log-likelihood."""
    own_weight: float
    """How much a persona's own answer to a question says about its probabilities there, 0 to 1; see `with_own_answers`."""

    @property
    def is_better(self) -> bool:
        """Whether labels predicted held-out answers better than the constant did."""
        return self.log_likelihood > self.constant_log_likelihood

    @property
    def quality(self) -> str:
        """How good it is, in words."""
        fallback = "" if self.is_better else ", which takes its place"
        return (
            f"held-out log-likelihood {self.log_likelihood:.4f} nats per answer, against {self.constant_log_likelihood:.4f} "
            f"for the constant{fallback}; a question's own answer counts {self.own_weight:.0%}"
        )

    def with_own_answers(self, answers: ArrayLike) -> NDArray[np.float64]:
        """(1 - w) label model + w own answer, where there is one, with w = `own_weight`.

        What is particular to a question, and labels do not know, shows in the persona's answer to it, with much noise. How
        much that answer is worth is seen where a stance is asked for in two forms: w is the weight at which a question's
        other form, blended in the same way, predicts held-out answers best. The two forms are not quite one question, so
        that w is rather too small than too large. Without such questions it is 0, and where the gain is within chance.

        Args:
            answers: (n,) or (n, 3), as `fit_label_model` takes them.

        Returns:
            (n, 3).
        """
        given = _rows(answers, len(self.probabilities))
        weight = np.where(given.any(axis=1), self.own_weight, 0.0)[:, None]
        blended: NDArray[np.float64] = (1 - weight) * self.probabilities + weight * _shares(given)
        return blended


def one_hot(answers: NDArray[np.integer]) -> NDArray[np.float64]:
    """Answers (n,), 0..2 or -1, as rows (n, 3); zeros where there is none."""
    return (np.asarray(answers)[:, None] == np.arange(len(OPTION_LETTERS))).astype(np.float64)


def mean_answers(
    answers: Mapping[str, NDArray[np.integer]], shares: Mapping[str, float] | None = None
) -> NDArray[np.float64]:
    """The answers of several personas as one population, (n, 3): their shares of each option among those who answered.

    Args:
        answers: Persona id to answers, (n,), 0..2 or -1.
        shares: Persona id to its share of the population; all alike by default.

    Returns:
        (n, 3); zeros where nobody answered. Rows sum to the share of the population that answered.
    """
    total = sum(shares[persona] for persona in answers) if shares else len(answers)
    return sum(
        (one_hot(column) * ((shares[persona] if shares else 1.0) / total) for persona, column in answers.items()),
        np.zeros((len(next(iter(answers.values()))), len(OPTION_LETTERS))),
    )


def fit_label_model(
    questions: pa.Table,
    answers: ArrayLike,
    fit_rows: NDArray[np.bool_] | None = None,
    *,
    labels: Sequence[str] = LABEL_COLUMNS,
) -> LabelModel:
    """Fit option probabilities to answers, by the labels of their questions.

    A multinomial logistic regression on a column for each value of each label and, where that helps, for each pair of
    values of two labels. Penalty and pairs are those with the best log-likelihood of answers that were held out, whole
    clusters at a time (5-fold cross-validation). Where even the best predicts held-out answers no better than the constant
    does, the log says so and the constant takes its place.

    Args:
        questions: N rows with the columns of `labels`, and those of `CLUSTER` and `UNIT`.
        answers: Answers to fit: integers (n,) in 0..2, or -1 for none; or (n, 3), what of one answer goes to
            each option, such as the mean of several personas; a row of NaN or zeros for none.
        fit_rows: Boolean (n,), the rows to learn from, such as the training questions; all by default.
        labels: Columns to learn from.

    Returns:
        A `LabelModel` of all n rows.

    Raises:
        ValueError: Fewer than 10 clusters of questions to learn from, so that none can be held out; answers or `fit_rows` of
            another shape, answers that are none, or a label that is no column.
    """
    given = _rows(answers, len(questions))
    for name in labels:
        check_name("labels", name, questions.column_names)
    rows = given.sum(axis=1) > 0
    if fit_rows is not None:
        rows = rows & checked_rows(fit_rows, len(questions))
    folds = _folds(questions, CLUSTER)
    clusters = len(np.unique(_numbers(questions, CLUSTER)[rows]))
    if clusters < FEWEST_CLUSTERS:
        raise ValueError(
            f"A label model must have answers to questions of at least {FEWEST_CLUSTERS} pairs of problem and group to "
            f"learn from; got {clusters}. Answer more questions, or use labels='answers', or labels='respondent' where the "
            "answers have option probabilities."
        )
    designs = {pairs: cache(partial(_design, questions, labels, rows, pairs)) for pairs in (False, True)}
    constant = _constant(given[rows])
    held_out = np.zeros((len(given), len(OPTION_LETTERS)))
    for fold in range(FOLDS):
        held_out[folds == fold] = _constant(given[rows & (folds != fold)])
    constant_likelihood = _log_likelihood(held_out[rows], given[rows])

    best = (-np.inf, False, PENALTIES[0], held_out)
    for pairs in (False, True):
        design = designs[pairs]()
        last = -np.inf
        for penalty in PENALTIES:
            predicted = np.zeros_like(held_out)
            for fold in range(FOLDS):
                part = folds == fold
                predicted[part] = _fitted(design, given, rows & ~part, penalty, design[np.flatnonzero(part)])
            likelihood = _log_likelihood(predicted[rows], given[rows])
            if likelihood > best[0]:
                best = (likelihood, pairs, penalty, predicted)
            if likelihood < last:  # from the strongest penalty on it rises to a peak and falls
                break
            last = likelihood
    likelihood, pairs, penalty, held_out_best = best
    if likelihood <= constant_likelihood:
        logger.warning(
            "The labels of these questions predict held-out answers no better than the constant does (%.4f against %.4f "
            "nats an answer, %d answers). The label model is the constant.",
            *(likelihood, constant_likelihood, rows.sum()),
        )
        probabilities = np.tile(constant, (len(given), 1))
        held_out_best = held_out
    else:
        design = designs[pairs]()
        probabilities = _fitted(design, given, rows, penalty, design)
    return LabelModel(
        probabilities=probabilities,
        constant=constant,
        log_likelihood=likelihood,
        constant_log_likelihood=constant_likelihood,
        pairs=pairs,
        penalty=penalty,
        own_weight=_own_weight(held_out_best, given, rows, _numbers(questions, UNIT)),
    )


def _design(questions: pa.Table, labels: Sequence[str], rows: NDArray[np.bool_], pairs: bool) -> sparse.csr_matrix:
    """Columns of 0 and 1 that a question's labels give, and pairs of them; those that no fitted row has are left out."""
    from sklearn.preprocessing import OneHotEncoder

    singles = [[label] for label in labels]
    blocks = []
    for combinations, scale in ((singles, 1.0), (list(itertools.combinations(labels, 2)) if pairs else [], PAIR_SCALE)):
        if combinations:
            codes = np.stack([_numbers(questions, names) for names in combinations], axis=1)
            blocks.append(OneHotEncoder(handle_unknown="ignore").fit(codes[rows]).transform(codes) * scale)
    return sparse.hstack(blocks, format="csr")


def _fitted(
    design: sparse.csr_matrix,
    given: NDArray[np.float64],
    rows: NDArray[np.bool_],
    penalty: float,
    asked: sparse.csr_matrix,
) -> NDArray[np.float64]:
    """Probabilities of the rows of `asked`, (m, 3), by a regression on some rows of `design`."""
    from sklearn.linear_model import LogisticRegression

    row, option = np.nonzero(np.where(rows[:, None], given, 0.0))
    known = np.unique(option)
    probabilities = np.zeros((asked.shape[0], len(OPTION_LETTERS)))
    if len(known) == 1:
        probabilities[:, known] = 1.0
        return probabilities
    model = LogisticRegression(C=1 / penalty, max_iter=1000, tol=1e-4)
    model.fit(design[row], option, sample_weight=given[row, option])
    probabilities[:, known] = model.predict_proba(asked)
    return probabilities


def _constant(given: NDArray[np.float64]) -> NDArray[np.float64]:
    counts = given.sum(axis=0) + 1 / len(OPTION_LETTERS)
    constant: NDArray[np.float64] = counts / counts.sum()
    return constant


def _log_likelihood(predicted: NDArray[np.float64], given: NDArray[np.float64]) -> float:
    """Mean over answers, nats. An option that a fold had no example of counts as one in a million."""
    return float((given * np.log(np.maximum(predicted, 1e-6))).sum() / given.sum())


def _own_weight(
    held_out: NDArray[np.float64], given: NDArray[np.float64], rows: NDArray[np.bool_], units: NDArray[np.int64]
) -> float:
    """The weight of the other answers of a unit at which they predict an answer best; 0 where that is no clear gain."""
    shares = np.where(rows[:, None], given, 0.0)
    totals = np.stack([np.bincount(units, column, units.max() + 1) for column in shares.T], axis=1)
    # Less than rounding leaves of a sum that is nothing.
    others = np.where((left := totals[units] - shares).sum(axis=1, keepdims=True) > 1e-9, left, 0.0)
    asked = rows & others.any(axis=1)
    if not asked.any():
        return 0.0
    predicted, others, answered = held_out[asked], _shares(others[asked]), given[asked]
    found = minimize_scalar(
        lambda weight: -_log_likelihood((1 - weight) * predicted + weight * others, answered),
        bounds=(0.0, 0.95),
        method="bounded",
    )
    gain = (-found.fun - _log_likelihood(predicted, answered)) * answered.sum()
    return float(found.x) if gain > OWN_WEIGHT_EVIDENCE else 0.0


def _rows(answers: ArrayLike, count: int) -> NDArray[np.float64]:
    """Answers as `fit_label_model` takes them, as (n, 3): zeros where there is none."""
    array = np.asarray(answers)
    if array.shape == (count, len(OPTION_LETTERS)):
        rows = np.nan_to_num(array.astype(np.float64), posinf=np.nan)
        valid = rows >= 0
    elif array.shape == (count,):
        rows = one_hot(array)
        valid = np.isin(array, range(NO_ANSWER, len(OPTION_LETTERS)))
    else:
        raise ValueError(
            f"answers must have the shape ({count},) or ({count}, {len(OPTION_LETTERS)}), a row for each question; got "
            f"{array.shape}."
        )
    if not valid.all():
        row = np.argwhere(~valid)[0][0]
        raise ValueError(
            f"answers must be 0, 1, 2 or -1 for none, or shares of the three options of at least 0; got {array[row]} at row "
            f"{row}."
        )
    return rows


def _shares(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows (n, 3) scaled to a sum of 1, zeros where there is nothing."""
    totals = rows.sum(axis=1, keepdims=True)
    return np.divide(rows, totals, out=np.zeros_like(rows), where=totals > 0)


def _numbers(questions: pa.Table, columns: Sequence[str]) -> NDArray[np.int64]:
    """Number of each row's combination of labels, (n,)."""
    codes = np.zeros(len(questions), dtype=np.int64)
    for name in columns:
        encoded = pc.dictionary_encode(questions[name].combine_chunks(), null_encoding="encode")
        codes = codes * max(1, len(encoded.dictionary)) + encoded.indices.to_numpy(zero_copy_only=False)
    return np.unique(codes, return_inverse=True)[1].astype(np.int64)


def _folds(questions: pa.Table, columns: Sequence[str]) -> NDArray[np.int64]:
    """Fold of each row, (n,), 0..4; rows with these labels in common are in one, the same in any selection of rows."""
    text = [pc.fill_null(questions[name].cast(pa.string()), "").combine_chunks() for name in columns]
    joined = pc.binary_join_element_wise(*text, "\x1f").dictionary_encode()
    of_cluster = uniforms(joined.dictionary.to_numpy(zero_copy_only=False).astype(np.str_), "label model")
    return (of_cluster * FOLDS).astype(np.int64)[joined.indices.to_numpy()]
