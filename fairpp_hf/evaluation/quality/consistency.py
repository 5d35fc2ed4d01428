"""Does a run agree with itself: over samples, over the order of the options, and over the two forms of a question?"""

from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from fairpp_hf.evaluation.quality.replies import (
    OPTIONS,
    Codes,
    FormPairs,
    Measure,
    Replies,
    Resamples,
    measured,
    not_measured,
    ratio,
)
from fairpp_hf.questions.taxonomy import FORMS
from fairpp_hf.schema import NO_ANSWER

NO_SAMPLES = "one sample a request; ask with --samples 2 or more, at a --temperature above 0"
NO_ORDERS = "one order of the options; ask with --swap"
IMPOSSIBLE = 4
"""Rankings that have no cycle of majorities, see `intransitive`."""

RANKINGS = 20_000
"""Random rankings behind the chance of a cycle."""


class Consistency(NamedTuple):
    """A measure over all personas, and for each."""

    overall: Measure
    by_persona: dict[str, Measure]


class OrderConsistency(NamedTuple):
    """What swapping the places of the options of pole A and B does."""

    changed: Consistency
    """Probability that the two orders' answers to a question differ; `chance` is for answers of the same persona to two
    different questions."""
    changed_by_samples: float | None
    """How often two samples of one order differ: what of `changed` is no effect of the order. None without samples."""
    gap: Consistency
    """Position bias: P(option listed first) - P(option listed second), mean over questions answered in both orders, each
    pole being first once; -1..1, 0 without bias."""


class FormConsistency(NamedTuple):
    """Answers to the two forms, criterion and explanation, of the same (problem, group, dimension)."""

    contradictory: Consistency
    """Share with opposite poles, of those where both forms are answered A or B; `chance` is the share that there would be if
    the forms were independent, given the persona's leaning on the dimension in each form."""
    excess: Measure
    """Contradictory minus that chance: below 0 where the answers to the two forms hang together."""
    by_dimension: dict[int, Measure]
    intransitive: Measure
    """Share of units whose replies prefer A to B, B to C and C to A by majority, or the reverse; see `intransitive`."""


def sample_consistency(replies: Replies, votes: NDArray[np.float64], seed: int) -> Consistency:
    """Probability that two samples of one request, both valid, give the same answer.

    With n[o] of n samples giving option o, its unbiased estimate is sum over o of n[o] (n[o] - 1) / (n (n - 1)); the mean
    is over requests with n > 1. By chance: the same for answers of the persona to two different questions, the sum of the
    squares of its shares of A, B and C.

    Args:
        replies: of the run.
        votes: of `Replies.votes`, (P, Q, 2, 3).
        seed: of the bootstrap.
    """
    if replies.samples < 2:
        return Consistency(not_measured(NO_SAMPLES, "requests"), {})
    n = votes.sum(axis=-1)
    pairs = n * (n - 1)
    agreement = ratio((votes * (votes - 1)).sum(axis=-1), pairs)
    return _consistency(
        replies, np.nansum(agreement, axis=2), (pairs > 0).sum(axis=2), "requests", _chances(votes), seed
    )


def order_consistency(
    replies: Replies, votes: NDArray[np.float64], leanings: NDArray[np.float64], samples: Consistency, seed: int
) -> OrderConsistency:
    """Compare the answers to each question between the two orders, where both have a valid reply.

    Args:
        replies: of the run.
        votes: of `Replies.votes`, (P, Q, 2, 3).
        leanings: of `Replies.leanings`, (P, Q, 2, 3).
        samples: of `sample_consistency`.
        seed: of the bootstrap.
    """
    if not replies.is_swapped:
        nothing = Consistency(not_measured(NO_ORDERS), {})
        return OrderConsistency(nothing, None, nothing)
    n = votes.sum(axis=-1, keepdims=True)
    both = (n[:, :, :, 0] > 0).all(axis=2)
    shares, leaning = ratio(votes, np.broadcast_to(n, votes.shape)), ratio(leanings, np.broadcast_to(n, votes.shape))
    differ = np.where(both, 1 - (shares[:, :, 0] * shares[:, :, 1]).sum(axis=-1), 0.0)
    # P(first) - P(second) is A - B in the one order and B - A in the other.
    towards_a = leaning[..., 0] - leaning[..., 1]
    gap = np.where(both, (towards_a[:, :, 0] - towards_a[:, :, 1]) / 2, 0.0)
    same_persona = _chances(votes)
    agreed = samples.overall.value
    return OrderConsistency(
        changed=_consistency(replies, differ, both, "records", 1 - same_persona, seed),
        changed_by_samples=None if agreed is None else 1 - agreed,
        gap=_consistency(replies, gap, both, "records", np.zeros(len(replies.personas)), seed),
    )


def form_consistency(replies: Replies, shares: NDArray[np.float64], seed: int) -> FormConsistency:
    """How often the two forms of a (problem, group, dimension) get opposite poles.

    With y[c,o] and y[e,o] a persona's shares of option o in the two forms of unit u, and the pair's weight
    w = (y[c,A] + y[c,B]) (y[e,A] + y[e,B]), which is 1 where both are single answers A or B, else 0:

        contradictory = sum over u of (y[c,A] y[e,B] + y[c,B] y[e,A]) / sum over u of w

    Chance takes, for each persona and dimension, the share a[c] of A among its answers A and B in the one form, whether or
    not the other was asked, and a[e] in the other, and is the w-weighted mean of a[c] (1 - a[e]) + (1 - a[c]) a[e]. The
    forms are no paraphrases: a contradiction is not a mistake, and who always takes pole A has none, by chance either.

    Args:
        replies: of the run.
        shares: answers, (P, Q, 3); of `shares_of`.
        seed: of the bootstrap.
    """
    pairs = FormPairs.of(replies.questions)
    nothing = not_measured("no (problem, group, dimension) was asked in both forms; raise --limit", "pairs of answers")
    if not len(pairs.criterion):
        return FormConsistency(Consistency(nothing, {}), nothing, {}, intransitive(replies, seed))
    first, second = (np.nan_to_num(shares[:, rows, :2]) for rows in pairs)
    weight = first.sum(axis=-1) * second.sum(axis=-1)
    opposite = first[..., 0] * second[..., 1] + first[..., 1] * second[..., 0]

    dimension = replies.questions["dimension"].to_numpy()
    numbers = np.unique(dimension[pairs.criterion])
    in_dimension = (dimension[:, None] == numbers).astype(np.float64)
    resamples = Resamples(replies.clusters, seed)

    def totals(table: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Sums of (P, m) by persona and dimension, (1 + resamples, P, D)."""
        return np.stack([resamples.totals(row[:, None] * in_dimension[rows], rows) for row in table], axis=1)

    def share_of_a(form: str) -> NDArray[np.float64]:
        rows = np.flatnonzero(pc.equal(replies.questions["form"], form).to_numpy())
        a_or_b = np.nan_to_num(shares[:, rows, :2])
        return ratio(totals(a_or_b[..., 0], rows), totals(a_or_b.sum(axis=-1), rows))

    weights, opposites = totals(weight, pairs.criterion), totals(opposite, pairs.criterion)
    share_first, share_second = map(share_of_a, FORMS)
    expected = np.nan_to_num(share_first * (1 - share_second) + (1 - share_first) * share_second) * weights

    def over(axis: int | tuple[int, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Observed, by chance, and the number of pairs; of the axes that are left."""
        total = weights.sum(axis=axis)
        return ratio(opposites.sum(axis=axis), total), ratio(expected.sum(axis=axis), total), total[0]

    of = "pairs of answers"
    observed, chance, n = over((1, 2))
    by_persona, by_dimension = over(2), over(1)
    return FormConsistency(
        contradictory=Consistency(
            measured(observed, n, of, float(chance[0])),
            {
                persona: measured(by_persona[0][:, row], by_persona[2][row], of, float(by_persona[1][0, row]))
                for row, persona in enumerate(replies.personas)
            },
        ),
        excess=measured(observed - chance, n, of, 0.0),
        by_dimension={
            int(number): measured(by_dimension[0][:, row], by_dimension[2][row], of, float(by_dimension[1][0, row]))
            for row, number in enumerate(numbers)
        },
        intransitive=intransitive(replies, seed),
    )


def intransitive(replies: Replies, seed: int) -> Measure:
    """Share of units, (persona, problem, group, dimension), whose replies have a cycle of majority preferences.

    Three options are asked at once, and an answer names the first choice alone, which can contradict no other: only replies
    with option probabilities rank all three. Each such reply of a unit, over forms, orders and samples, prefers a to b
    where P(a) > P(b); the unit prefers a to b where more of its replies do than do the reverse. A cycle is A over B, B over
    C, C over A, or its reverse. By chance: the share among as many random rankings each.

    Two replies cannot make a cycle; they can only differ, see the orders and the forms. Nor can four: a majority is 3 to 1
    at least, a margin of 2, three times that is 6, and a ranking adds at most 2 - 1 = 1, so 4 together. Counted are units
    with 3 replies, or 5 and more.

    Args:
        replies: of the run.
        seed: of the bootstrap and of the random rankings.
    """
    ranked = (replies.answer != NO_ANSWER) & ~np.isnan(replies.probabilities[:, 0])
    if not ranked.any():
        return not_measured(
            "replies without option probabilities name their first choice alone, and rank nothing", "units"
        )
    unit = Codes.of(replies.questions, ("problem", "group", "dimension"))
    key = replies.persona[ranked] * unit.size + unit.of_row[replies.question[ranked]]
    probabilities = replies.probabilities[ranked]
    count = len(replies.personas) * unit.size
    around = np.sign(probabilities - np.roll(probabilities, -1, axis=1))  # A over B, B over C, C over A
    majority = np.stack([np.bincount(key, column, minlength=count) for column in around.T], axis=1)
    rankings = np.bincount(key, minlength=count)
    counted = (rankings >= OPTIONS) & (rankings != IMPOSSIBLE)
    if not counted.any():
        return not_measured(
            "no cycle is possible among 1, 2 or 4 rankings of a unit; ask with --samples 3 or more", "units"
        )
    per_unit = (len(replies.personas), unit.size)
    resamples = Resamples(replies.clusters, seed)
    cycles, units = (
        resamples.totals(column.reshape(per_unit).sum(axis=0), unit.first)
        for column in (_is_cycle(majority) & counted, counted)
    )
    sizes, numbers = np.unique(rankings[counted], return_counts=True)
    chance = float(np.average([_cycle_chance(size, seed) for size in sizes.tolist()], weights=numbers))
    return measured(ratio(cycles, units), counted.sum(), "units", chance)


def _is_cycle(majority: NDArray[Any]) -> NDArray[np.bool_]:
    return np.abs(np.sign(majority).sum(axis=-1)) == OPTIONS


def _cycle_chance(count: int, seed: int) -> float:
    """Share of cycles among sets of that many random rankings."""
    # A ranking chosen at random out of the six.
    kinds = np.array([[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]])
    around = np.sign(kinds - np.roll(kinds, -1, axis=1))
    drawn = np.random.default_rng(seed).multinomial(count, np.full(len(kinds), 1 / len(kinds)), size=RANKINGS)
    return float(_is_cycle(drawn @ around).mean())


def _chances(votes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probability that a persona's answers to two different questions are the same, (P,)."""
    totals = votes.sum(axis=(1, 2))
    shares = ratio(totals, np.broadcast_to(totals.sum(axis=-1, keepdims=True), totals.shape))
    return (shares**2).sum(axis=-1)


def _consistency(
    replies: Replies,
    sums: NDArray[np.float64],
    counts: NDArray[np.number],
    of: str,
    chances: NDArray[np.float64],
    seed: int,
) -> Consistency:
    """The mean of `sums` over `counts`, (P, Q) both, with the chance of each persona, (P,)."""
    resamples = Resamples(replies.clusters, seed)
    totals, weights = resamples.totals(sums.T), resamples.totals(counts.T)
    n = counts.sum(axis=1)
    overall = not_measured(f"no {of} with the replies that it takes", of)
    if n.sum():
        chance = float(np.average(chances[n > 0], weights=n[n > 0]))
        overall = measured(ratio(totals.sum(axis=1), weights.sum(axis=1)), n.sum(), of, chance)
    return Consistency(
        overall,
        {
            persona: measured(ratio(totals[:, row], weights[:, row]), n[row], of, float(chances[row]))
            for row, persona in enumerate(replies.personas)
        },
    )
