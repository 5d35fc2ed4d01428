"""Does a run agree with itself: over samples, over the order of the options, and over the two forms of a question?"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fairpp_hf.evaluation.quality.replies import ByPersona, Codes, Replies, by_persona
from fairpp_hf.questions.taxonomy import FORMS
from fairpp_hf.statistics.biases import order_gaps
from fairpp_hf.statistics.bootstrap import Measure, measured, not_measured, ratio

NO_SAMPLES = "one sample a request; ask for 2 or more, at a temperature above 0"
NO_ORDERS = "one order of the options; ask in both"
NO_PAIRS = "no (problem, group, dimension) was asked in both forms; ask more questions"


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
    by_dimension: dict[int, Measure]


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
    """Compare the answers to each question between the two orders, where both have a valid reply.

    Args:
        replies: Replies of the run.
        samples: What `sample_consistency` gives.
    """
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
    units = Codes.of(questions, ("problem", "group", "dimension"))
    form = pc.index_in(questions["form"].combine_chunks(), pa.array(FORMS)).to_numpy()
    rows_of_form = np.full((units.size, len(FORMS)), -1)
    rows_of_form[units.of_row, form] = np.arange(len(questions))
    pairs = rows_of_form[(rows_of_form >= 0).all(axis=1)].T
    if not pairs.size:
        nothing = not_measured(NO_PAIRS, of)
        return FormConsistency(ByPersona(nothing, {}), nothing, {})
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

    def measures(axis: int) -> list[Measure]:
        found, chance, n = over(axis)
        return [measured(found[:, row], n[row], of, float(chance[0, row])) for row in range(len(n))]

    observed, chance, n = over((1, 2))
    return FormConsistency(
        contradictory=ByPersona(
            measured(observed, n, of, float(chance[0])), dict(zip(replies.personas, measures(2), strict=True))
        ),
        excess=measured(observed - chance, n, of, 0.0),
        by_dimension=dict(zip(map(int, numbers), measures(1), strict=True)),
    )


def _same_by_chance(votes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probability that a persona's answers to two different questions are the same, (P,)."""
    totals = votes.sum(axis=(1, 2))
    return (ratio(totals, totals.sum(axis=-1, keepdims=True)) ** 2).sum(axis=-1)
