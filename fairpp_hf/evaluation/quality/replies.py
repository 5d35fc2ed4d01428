"""The replies of a run as arrays, and numbers with intervals over clusters of questions: what its quality is read off."""

from collections.abc import Sequence
from typing import NamedTuple, SupportsFloat

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_matrix

from fairpp_hf.questions.taxonomy import FORMS
from fairpp_hf.schema import NO_ANSWER, OPTION_LETTERS, STATUSES
from fairpp_hf.statistics.intervals import Interval, clusters_of

OPTIONS = len(OPTION_LETTERS)
RESAMPLES = 1000
LEVEL = 0.95
FEWEST_CLUSTERS = 10
"""With fewer of them, or of what is counted, an interval would be far too narrow: there is none then."""


class Measure(NamedTuple):
    """A number of the report."""

    value: float | None
    """None where it could not be measured; `note` says why."""
    interval: Interval | None
    """95%, bootstrap over clusters of questions; None where there are fewer than `FEWEST_CLUSTERS`."""
    n: int
    of: str
    """What n counts, such as `records`."""
    chance: float | None = None
    """What the number would be if what it measures were not there; each place says how that is computed."""
    note: str = ""


def not_measured(note: str, of: str = "records") -> Measure:
    """No number, and why. Never 0, which would be a finding."""
    return Measure(None, None, 0, of, None, note)


class Replies(NamedTuple):
    """r replies of P personas to Q questions; every index starts at 0."""

    personas: tuple[str, ...]
    questions: pa.Table
    """The Q questions with a reply, with the columns of `QUESTION_FEATURES`."""
    persona: NDArray[np.int64]
    """(r,)"""
    question: NDArray[np.int64]
    """(r,), rows of `questions`."""
    order: NDArray[np.int64]
    """(r,), 0 for pole A first, 1 for pole B first."""
    status: NDArray[np.int64]
    """(r,), indices into `STATUSES`."""
    answer: NDArray[np.int64]
    """(r,), 0..2 with A for pole A, or -1."""
    probabilities: NDArray[np.float64]
    """(r, 3), over A, B, C with A for pole A; rows of NaN where there are none."""
    samples: int
    """The most replies that one persona gave to one question in one order."""

    @classmethod
    def of(cls, replies: pa.Table, questions: pa.Table) -> "Replies":
        """Read a table of `load_replies`.

        Args:
            replies: the columns `question_id`, `persona`, `sample`, `swapped`, `status`, `answer` and `probabilities`
                are read; at least one row.
            questions: with the columns of `QUESTION_FEATURES`, the replies' among others.

        Raises:
            ValueError: there is no reply, or one to a question that is not in the table.
        """
        if not len(replies):
            raise ValueError("A run must have replies; got none. Run `fairpp generate` on it first.")
        rows = pc.index_in(replies["question_id"].combine_chunks(), questions["question_id"].combine_chunks())
        if rows.null_count:
            unknown = replies["question_id"].filter(rows.is_null())[0].as_py()
            raise ValueError(
                f"A reply's question must be one of the {len(questions)} questions; got {unknown!r}. "
                "Pass the table that the run asked as `questions`."
            )
        asked, question = np.unique(rows.to_numpy(), return_inverse=True)
        personas = replies["persona"].combine_chunks().dictionary_encode()
        order = replies["swapped"].to_numpy().astype(np.int64)
        cell = (personas.indices.to_numpy().astype(np.int64) * len(asked) + question) * 2 + order
        return cls(
            personas=tuple(personas.dictionary.to_pylist()),
            questions=questions.take(pa.array(asked)),
            persona=personas.indices.to_numpy().astype(np.int64),
            question=question.astype(np.int64),
            order=order,
            status=pc.index_in(replies["status"].combine_chunks(), pa.array(STATUSES)).to_numpy().astype(np.int64),
            answer=replies["answer"].to_numpy().astype(np.int64),
            probabilities=_probabilities(replies["probabilities"].combine_chunks()),
            samples=int(np.bincount(cell).max()),
        )

    @property
    def is_swapped(self) -> bool:
        """Whether both orders were asked."""
        return bool(self.order.any()) and not self.order.all()

    @property
    def clusters(self) -> NDArray[np.int64]:
        """Number of each question's (problem, group), (Q,)."""
        return clusters_of(self.questions)

    def votes(self) -> NDArray[np.float64]:
        """How many valid replies gave each answer, (P, Q, 2 orders, 3 options)."""
        return self._sums(np.eye(OPTIONS)[self.answer])

    def leanings(self) -> NDArray[np.float64]:
        """As `votes`, but of one sample a reply with option probabilities counts with them, as in `load_run`."""
        with_probabilities = ~np.isnan(self.probabilities[:, :1]) & (self.samples == 1)
        return self._sums(np.where(with_probabilities, self.probabilities, np.eye(OPTIONS)[self.answer]))

    def _sums(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        valid = self.answer != NO_ANSWER
        cell = ((self.persona * len(self.questions) + self.question) * 2 + self.order)[valid]
        count = len(self.personas) * len(self.questions) * 2
        columns = weights[valid].T.astype(np.float64)
        sums: NDArray[np.float64] = np.stack([np.bincount(cell, column, minlength=count) for column in columns], axis=1)
        return sums.reshape(len(self.personas), len(self.questions), 2, OPTIONS)


def shares_of(votes: NDArray[np.float64], *, is_swapped: bool) -> NDArray[np.float64]:
    """What each persona answered to each question, as shares of A, B and C.

    The mean over an order's valid replies, and then over the orders; with one reply a question, a single 1. Where one of
    two orders has no valid reply there is no answer, as in `load_run`: the other order's has the bias of its positions.

    Args:
        votes: (P, Q, 2, 3), of `Replies.votes`.
        is_swapped: whether both orders were asked.

    Returns:
        (P, Q, 3), rows of NaN where there is no answer.
    """
    with np.errstate(invalid="ignore"):
        by_order = votes / votes.sum(axis=-1, keepdims=True)
    return (
        by_order.mean(axis=2)
        if is_swapped
        else np.where(np.isnan(by_order[:, :, 0]), by_order[:, :, 1], by_order[:, :, 0])
    )


class Codes(NamedTuple):
    """Numbers for the different values of some columns of questions, together."""

    of_row: NDArray[np.int64]
    size: int
    first: NDArray[np.int64]
    """(size,), a row that has each value."""

    @classmethod
    def of(cls, questions: pa.Table, columns: Sequence[str]) -> "Codes":
        """Number the rows by those columns; by nothing, all get 0."""
        encoded = [questions[name].combine_chunks().dictionary_encode().indices.to_numpy() for name in columns]
        keys = np.stack([np.zeros(len(questions), np.int64), *encoded])
        _, first, of_row = np.unique(keys, axis=1, return_index=True, return_inverse=True)
        return cls(of_row.ravel().astype(np.int64), len(first), first)


class FormPairs(NamedTuple):
    """The units, (problem, group, dimension), of which both forms were asked: u pairs of rows."""

    criterion: NDArray[np.int64]
    explanation: NDArray[np.int64]

    @classmethod
    def of(cls, questions: pa.Table) -> "FormPairs":
        """Find the pairs among Q questions."""
        unit = Codes.of(questions, ("problem", "group", "dimension"))
        form = pc.index_in(questions["form"].combine_chunks(), pa.array(FORMS)).to_numpy()
        rows = np.full((unit.size, len(FORMS)), -1)
        rows[unit.of_row, form] = np.arange(len(questions))
        both = rows[(rows >= 0).all(axis=1)]
        return cls(both[:, 0], both[:, 1])


class Resamples:
    """Weights of a bootstrap over clusters: each resample draws as many as there are, with replacement.

    Row 0 of whatever is computed with them is the estimate itself, with every cluster once; the others are the resamples.

    Args:
        cluster: number of each question's cluster, (Q,).
        seed: of the drawing.
    """

    def __init__(self, cluster: NDArray[np.integer], seed: int) -> None:
        self.names, self._cluster = np.unique(cluster, return_inverse=True)
        count = len(self.names)
        draws = np.ones((1, count))
        if count >= FEWEST_CLUSTERS:
            drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
            draws = np.concatenate([draws, drawn])
        self._draws = draws

    def totals(self, values: ArrayLike, rows: NDArray[np.integer] | None = None) -> NDArray[np.float64]:
        """Sums over the drawn clusters.

        Args:
            values: (m, ...), one row a question, or a row for each of `rows`.
            rows: the question whose cluster each row of `values` belongs to, (m,).

        Returns:
            (1 + resamples, ...).
        """
        table = np.asarray(values, dtype=np.float64)
        cluster = self._cluster if rows is None else self._cluster[rows]
        member = csr_matrix(
            (np.ones(len(cluster)), (cluster, np.arange(len(cluster)))), shape=(len(self.names), len(cluster))
        )
        sums = member @ table.reshape(len(table), -1)
        return (self._draws @ sums).reshape(len(self._draws), *table.shape[1:])


def ratio(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    """Their quotient, NaN where nothing was counted: a resample may miss whatever is rare."""
    return np.divide(numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=denominator > 0)


def measured(
    values: NDArray[np.float64],
    n: SupportsFloat,
    of: str,
    chance: float | None = None,
    *,
    drawn: SupportsFloat | None = None,
    is_distance: bool = False,
) -> Measure:
    """A measure from its estimate and its resamples.

    Args:
        values: (1 + resamples,), the estimate first.
        n: how many of what `of` names it is over.
        of: plural noun.
        chance: see `Measure`.
        drawn: how many the resamples draw from, if these are others than `of` counts.
        is_distance: give v +- (q - v), at least 0, with v the value and q the 97.5th percentile: noise makes distances
            larger, and the resamples' noise larger once more, so that percentiles would lie beside the value. It is wide
            rather than narrow; what noise alone makes of a distance is said beside it.
    """
    count = round(float(n))
    if np.isnan(values[0]):
        return not_measured(f"no {of}", of)
    value = float(values[0])
    # Three answers may be alike by chance, and all resamples with them; and what few resamples can give has no interval.
    if float(n if drawn is None else drawn) < FEWEST_CLUSTERS or np.isfinite(values[1:]).sum() < RESAMPLES / 2:
        return Measure(value, None, count, of, chance)
    low, high = np.nanpercentile(values[1:], (50 * (1 - LEVEL), 50 * (1 + LEVEL)))
    if is_distance:
        high = max(high, value)
        low = max(2 * value - high, 0.0)
    return Measure(value, Interval(float(low), float(high)), count, of, chance)


def _probabilities(column: pa.ListArray) -> NDArray[np.float64]:
    rows = np.full((len(column), OPTIONS), np.nan)
    rows[column.is_valid().to_numpy(zero_copy_only=False)] = column.flatten().to_numpy().reshape(-1, OPTIONS)
    return rows
