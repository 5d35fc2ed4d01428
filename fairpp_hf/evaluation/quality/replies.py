"""The replies of a run as arrays: what its quality is read off."""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fairpp_hf.schema import NO_ANSWER, OPTION_LETTERS, STATUSES
from fairpp_hf.statistics.bootstrap import Measure, Resamples, measured, not_measured, ratio
from fairpp_hf.statistics.question_sums import clusters_of

OPTIONS = len(OPTION_LETTERS)


class Replies:
    """r replies of P personas to Q questions; every index starts at 0.

    Args:
        replies: Table of `load_replies`; the columns `question_id`, `persona`, `sample`, `swapped`, `status`, `answer` and
            `probabilities` are read.
        questions: Table with the columns of `QUESTION_FEATURES`, the replies' questions among others.
        seed: Seed of the bootstrap over (problem, group) clusters.

    Raises:
        ValueError: There is no reply, or one to a question that is not in the table.
    """

    def __init__(self, replies: pa.Table, questions: pa.Table, seed: int = 0) -> None:
        if not len(replies):
            raise ValueError("A run must have replies; got none. Ask for some first.")
        rows = pc.index_in(replies["question_id"].combine_chunks(), questions["question_id"].combine_chunks())
        if rows.null_count:
            unknown = replies["question_id"].filter(rows.is_null())[0].as_py()
            raise ValueError(
                f"A reply's question must be one of the {len(questions)} questions; got {unknown!r}. "
                "Pass the table that the run asked as `questions`."
            )
        asked, self.question = np.unique(rows.to_numpy(), return_inverse=True)
        personas = replies["persona"].combine_chunks().dictionary_encode()
        self.personas: tuple[str, ...] = tuple(personas.dictionary.to_pylist())
        self.questions = questions.take(pa.array(asked))
        """The Q questions with a reply."""
        self.persona = personas.indices.to_numpy().astype(np.int64)
        self.order = replies["swapped"].to_numpy().astype(np.int64)
        """(r,), 0 for pole A first, 1 for pole B first."""
        self.status = pc.index_in(replies["status"].combine_chunks(), pa.array(STATUSES)).to_numpy().astype(np.int64)
        """(r,), indices into `STATUSES`."""
        self.answer = replies["answer"].to_numpy().astype(np.int64)
        """(r,), 0..2 with 0 for pole A, or -1."""
        column = replies["probabilities"].combine_chunks()
        self.probabilities = np.full((len(column), OPTIONS), np.nan)
        """(r, 3), over A, B, C with A for pole A; rows of NaN where there are none."""
        self.probabilities[column.is_valid().to_numpy(zero_copy_only=False)] = (
            column.flatten().to_numpy().reshape(-1, OPTIONS)
        )
        self._cell = (self.persona * len(asked) + self.question) * 2 + self.order
        self.samples = int(np.bincount(self._cell).max())
        """The most replies that one persona gave to one question in one order."""
        self.is_swapped = bool(self.order.any()) and not self.order.all()
        """Whether both orders were asked."""
        self.clusters = clusters_of(self.questions)
        """Number of each question's (problem, group), (Q,)."""
        self.resamples = Resamples(self.clusters, seed)
        self.seed = seed

    @cached_property
    def votes(self) -> NDArray[np.float64]:
        """Number of valid replies with each answer, (P, Q, 2 orders, 3 options)."""
        return self._sums(np.eye(OPTIONS)[self.answer])

    @cached_property
    def leanings(self) -> NDArray[np.float64]:
        """As `votes`, but of one sample a reply with option probabilities counts with them, as in `load_run`."""
        with_probabilities = ~np.isnan(self.probabilities[:, :1]) & (self.samples == 1)
        return self._sums(np.where(with_probabilities, self.probabilities, np.eye(OPTIONS)[self.answer]))

    @cached_property
    def shares(self) -> NDArray[np.float64]:
        """What each persona answered to each question, as shares of A, B and C, (P, Q, 3); NaN where there is no answer.

        The mean over an order's valid replies, and then over the orders; with one reply a question, a single 1. Where one of
        two orders has no valid reply there is no answer, as in `load_run`: the other order's has the bias of its positions.
        """
        by_order = ratio(self.votes, self.votes.sum(axis=-1, keepdims=True))
        if self.is_swapped:
            return by_order.mean(axis=2)
        return np.where(np.isnan(by_order[:, :, 0]), by_order[:, :, 1], by_order[:, :, 0])

    def _sums(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        valid = self.answer != NO_ANSWER
        shape = (len(self.personas), len(self.questions), 2)
        columns = [np.bincount(self._cell[valid], column, minlength=np.prod(shape)) for column in weights[valid].T]
        return np.stack(columns, axis=1).astype(np.float64).reshape(*shape, OPTIONS)


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


class ByPersona(NamedTuple):
    """A measure over all personas, and for each."""

    overall: Measure
    by_persona: dict[str, Measure]


def by_persona(
    replies: Replies,
    sums: NDArray[np.float64],
    counts: NDArray[np.number],
    of: str,
    chances: NDArray[np.float64] | None = None,
) -> ByPersona:
    """The mean of sums over counts, for each persona and over all.

    Args:
        replies: Replies of the run.
        sums: What is added up for each persona and question, (P, Q).
        counts: What the sums are divided by, (P, Q).
        of: Plural noun for what is counted.
        chances: What each persona's mean would be by chance, (P,); 0 by default.
    """
    chances = np.zeros(len(replies.personas)) if chances is None else chances
    totals, weights = replies.resamples.totals(sums.T), replies.resamples.totals(counts.T)
    n = counts.sum(axis=1)
    overall = not_measured(f"no {of} with the replies that it takes", of)
    if n.sum():
        chance = float(np.average(chances[n > 0], weights=n[n > 0]))
        overall = measured(ratio(totals.sum(axis=1), weights.sum(axis=1)), n.sum(), of, chance)
    return ByPersona(
        overall,
        {
            persona: measured(ratio(totals[:, row], weights[:, row]), n[row], of, float(chances[row]))
            for row, persona in enumerate(replies.personas)
        },
    )
