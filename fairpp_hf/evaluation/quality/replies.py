"""The replies of a run as arrays, and whether they agree: over samples, orders of the options and forms of a question."""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fairpp_hf.questions.taxonomy import FORMS
from fairpp_hf.schema import NO_ANSWER, OPTION_LETTERS, STATUSES
from fairpp_hf.statistics.biases import order_gaps
from fairpp_hf.statistics.bootstrap import Measure, Resamples, measured, not_measured, ratio
from fairpp_hf.statistics.question_sums import clusters_of, numbered, question_columns

OPTIONS = len(OPTION_LETTERS)
NO_SAMPLES = "one sample a request; ask for 2 or more, at a temperature above 0"
NO_ORDERS = "one order of the options; ask in both"
NO_PAIRS = "no (problem, group, dimension) was asked in both forms; ask more questions"


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
    """The mean of sums (P, Q) over counts (P, Q) of what `of` names, and what it would be by chance (P,)."""
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


class Statuses(NamedTuple):
    """Replies by status; statuses in the order of `STATUSES`."""

    counts: dict[str, int]
    by_persona: dict[str, dict[str, int]]
    by_group: dict[str, dict[str, int]]

    @classmethod
    def of(cls, replies: Replies) -> "Statuses":
        """Count the statuses of a run's replies."""
        group, groups = question_columns(replies.questions, needed=("group",))["group"]

        def counted(codes: NDArray[np.int64], names: Sequence[str]) -> dict[str, dict[str, int]]:
            table = np.bincount(codes * len(STATUSES) + replies.status, minlength=len(names) * len(STATUSES))
            rows = table.reshape(len(names), len(STATUSES)).tolist()
            return {name: dict(zip(STATUSES, row, strict=True)) for name, row in zip(names, rows, strict=True)}

        everyone = counted(np.zeros_like(replies.persona), ("all",))["all"]
        return cls(everyone, counted(replies.persona, replies.personas), counted(group[replies.question], groups))


class OrderConsistency(NamedTuple):
    """What swapping the places of the options of pole A and B does."""

    changed: ByPersona
    """Probability that the two orders' answers to a question differ; `chance` is for answers of the same persona to two
    different questions."""
    changed_by_samples: float | None
    """How often two samples of one order differ: what of `changed` is no effect of the order. None without samples."""
    gap: ByPersona
    """Position bias: `order_gaps`, mean over questions answered in both orders; -1..1, 0 without bias."""


class FormConsistency(NamedTuple):
    """Answers to the two forms, criterion and explanation, of the same (problem, group, dimension)."""

    contradictory: ByPersona
    """Share with opposite poles, of those where both forms are answered A or B; `chance` is the share that there would be if
    the forms were independent, given the persona's leaning on the dimension in each form."""
    excess: Measure
    """Contradictory minus that chance: below 0 where the answers to the two forms hang together."""


def sample_consistency(replies: Replies) -> ByPersona:
    """Probability that two samples of one request, both valid, give the same answer.

    With n[o] of n samples giving option o, its unbiased estimate is sum over o of n[o] (n[o] - 1) / (n (n - 1)); the mean
    is over requests with n > 1. By chance: the same for answers of the persona to two different questions, the sum of the
    squares of its shares of A, B and C.
    """
    if replies.samples < 2:
        return ByPersona(not_measured(NO_SAMPLES, "requests"), {})
    votes, n = replies.votes, replies.votes.sum(axis=-1)
    pairs = n * (n - 1)
    agreement = ratio((votes * (votes - 1)).sum(axis=-1), pairs)
    return by_persona(
        replies, np.nansum(agreement, axis=2), (pairs > 0).sum(axis=2), "requests", _same_by_chance(votes)
    )


def order_consistency(replies: Replies, samples: ByPersona) -> OrderConsistency:
    """Compare the answers to each question between the two orders, where both have a valid reply."""
    if not replies.is_swapped:
        nothing = ByPersona(not_measured(NO_ORDERS), {})
        return OrderConsistency(nothing, None, nothing)
    n = replies.votes.sum(axis=-1, keepdims=True)
    both = (n[:, :, :, 0] > 0).all(axis=2)
    shares, gaps = ratio(replies.votes, n), order_gaps(ratio(replies.leanings, n))
    differ = np.where(both, 1 - (shares[:, :, 0] * shares[:, :, 1]).sum(axis=-1), 0.0)
    agreed = samples.overall.value
    return OrderConsistency(
        changed=by_persona(replies, differ, both, "records", 1 - _same_by_chance(replies.votes)),
        changed_by_samples=None if agreed is None else 1 - agreed,
        gap=by_persona(replies, np.where(both, gaps, 0.0), both, "records"),
    )


def form_consistency(replies: Replies) -> FormConsistency:
    """How often the two forms of a (problem, group, dimension) get opposite poles.

    With y[c,o] and y[e,o] a persona's shares of option o in the two forms of unit u, and the pair's weight
    w = (y[c,A] + y[c,B]) (y[e,A] + y[e,B]), which is 1 where both are single answers A or B, else 0:

        contradictory = sum over u of (y[c,A] y[e,B] + y[c,B] y[e,A]) / sum over u of w

    Chance takes, for each persona and dimension, the share a[c] of A among its answers A and B in the one form, whether or
    not the other was asked, and a[e] in the other, and is the w-weighted mean of a[c] (1 - a[e]) + (1 - a[c]) a[e]. The
    forms are no paraphrases: a contradiction is not a mistake, and who always takes pole A has none, by chance either.
    """
    of = "pairs of answers"
    shares, questions = replies.shares, replies.questions
    unit = numbered(questions, ("problem", "group", "dimension"))
    form = pc.index_in(questions["form"].combine_chunks(), pa.array(FORMS)).to_numpy()
    rows_of_form = np.full((unit.max() + 1, len(FORMS)), -1)
    rows_of_form[unit, form] = np.arange(len(questions))
    pairs = rows_of_form[(rows_of_form >= 0).all(axis=1)].T
    if not pairs.size:
        nothing = not_measured(NO_PAIRS, of)
        return FormConsistency(ByPersona(nothing, {}), nothing)
    first, second = (np.nan_to_num(shares[:, rows, :2]) for rows in pairs)
    weight = first.sum(axis=-1) * second.sum(axis=-1)
    opposite = first[..., 0] * second[..., 1] + first[..., 1] * second[..., 0]
    dimension = questions["dimension"].to_numpy()
    numbers = np.unique(dimension[pairs[0]])
    in_dimension = (dimension[:, None] == numbers).astype(np.float64)

    def totals(table: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Sums of (P, m) by persona and dimension, (1 + resamples, P, D)."""
        return np.stack([replies.resamples.totals(row[:, None] * in_dimension[rows], rows) for row in table], axis=1)

    def share_of_a(number: int) -> NDArray[np.float64]:
        rows = np.flatnonzero(form == number)
        a_or_b = np.nan_to_num(shares[:, rows, :2])
        return ratio(totals(a_or_b[..., 0], rows), totals(a_or_b.sum(axis=-1), rows))

    weights, opposites = totals(weight, pairs[0]), totals(opposite, pairs[0])
    share_first, share_second = share_of_a(0), share_of_a(1)
    expected = np.nan_to_num(share_first * (1 - share_second) + (1 - share_first) * share_second) * weights

    def over(axis: int | tuple[int, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Observed, by chance, and the number of pairs; of the axes that are left."""
        total = weights.sum(axis=axis)
        return ratio(opposites.sum(axis=axis), total), ratio(expected.sum(axis=axis), total), total[0]

    found, by_chance, counts = over(2)
    observed, chance, n = over((1, 2))
    return FormConsistency(
        contradictory=ByPersona(
            measured(observed, n, of, float(chance[0])),
            {
                persona: measured(found[:, row], counts[row], of, float(by_chance[0, row]))
                for row, persona in enumerate(replies.personas)
            },
        ),
        excess=measured(observed - chance, n, of, 0.0),
    )


def _same_by_chance(votes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probability that a persona's answers to two different questions are the same, (P,)."""
    totals = votes.sum(axis=(1, 2))
    return (ratio(totals, totals.sum(axis=-1, keepdims=True)) ** 2).sum(axis=-1)
