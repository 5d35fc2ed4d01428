"""Do a persona's answers tell whose they are?

Bundles of answers are attributed to the persona that makes them most likely. With y[q,o] a persona's share of option o in
its answers to question q (1 for a single answer), and c(q) the question's cell, the candidate r of a bundle b has

    L(b, r) = sum over q in b, o in (A, B, C) of y[q,o] log theta[r,c(q),o]

and the bundle goes to the largest L; ties are divided. By chance, 1 / candidates are right.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fairpp_hf.evaluation.quality.replies import (
    OPTIONS,
    Codes,
    Measure,
    Replies,
    Resamples,
    measured,
    not_measured,
    ratio,
)

FOLDS = 5
SIZES = (1, 5, 20, 100)
"""Answers in a bundle."""

CONFUSION_SIZE = 20
SMOOTHING = 5.0
"""How many answers the level above weighs as."""


class Identification(NamedTuple):
    """How often answers are attributed to the persona that gave them."""

    by_size: dict[int, Measure]
    """Answers in a bundle to the share of bundles attributed rightly."""
    over_all: Measure
    """The same of all held-out answers at once: one bundle a persona and fold, too few for an interval."""
    personas: tuple[str, ...]
    """Whose answers, in the order of `confusion`'s rows; the candidates are the same, in the order of its columns."""
    size: int | None
    """Answers in a bundle of `confusion` and `by_persona`: `CONFUSION_SIZE`, or the largest size below that there is."""
    confusion: list[list[float | None]]
    """Share of a persona's bundles that is attributed to each candidate."""
    by_persona: dict[str, Measure]


def identify_among_themselves(
    replies: Replies, shares: NDArray[np.float64], seed: int, *, sizes: tuple[int, ...] = SIZES
) -> Identification:
    """Attribute each persona's answers among the run's personas; what is attributed is never learnt from.

    Clusters, (problem, group), are divided into 5 folds at random; the answers of a fold are scored with frequencies from
    the other four. With n[r,..,o] their answers, and m = `SMOOTHING`, each level leans on the one above:

        theta[r,d,o]       = (n[r,d,o] + m g[d,o]) / (n[r,d] + m),          g[d,o] = (n[d,o] + 1) / (n[d] + 3)
        theta[r,(d,t,f),o] = (n[r,(d,t,f),o] + m theta[r,d,o]) / (n[r,(d,t,f)] + m)

    over dimension d, group type t and form f; g is of all personas together.

    Args:
        replies: of the run.
        shares: answers, (P, Q, 3), NaN where there is none; of `shares_of`.
        seed: of the folds, the bundles and the bootstrap.
        sizes: answers in a bundle.
    """
    count = len(replies.personas)
    if count < 2:
        return _unknown("one persona alone cannot be mistaken for another; ask a set of several", ())
    clusters = replies.clusters
    names, cluster = np.unique(clusters, return_inverse=True)
    if len(names) < FOLDS:
        wanted = f"questions on {FOLDS} (problem, group) pairs are needed to hold some out; there are {len(names)}"
        return _unknown(f"{wanted}: raise --limit", replies.personas)
    fold_of = np.random.default_rng(seed).permutation(len(names)) % FOLDS
    log_theta, cell = held_out_log_shares(replies, shares, fold_of[cluster])

    def log_likelihoods(persona: int, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.einsum("qo,qro->qr", shares[persona, rows], log_theta[fold_of[cluster[rows]], cell[rows]])

    return attribute(replies, shares, replies.personas, log_likelihoods, fold_of, seed, sizes)


def held_out_log_shares(
    replies: Replies, shares: NDArray[np.float64], fold: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Logarithms of theta, learnt without each fold: (folds, cells, P, 3), and each question's cell, (Q,)."""
    cells = Codes.of(replies.questions, ("dimension", "group_type", "form"))
    dimensions = Codes.of(replies.questions, ("dimension",))
    dimension_of_cell = dimensions.of_row[cells.first]
    answered = np.nan_to_num(shares)
    key = fold * cells.size + cells.of_row
    sums = np.stack(
        [
            np.bincount(key, column, minlength=FOLDS * cells.size)
            for column in np.moveaxis(answered, 1, 0).reshape(len(key), -1).T
        ],
        axis=1,
    ).reshape(FOLDS, cells.size, len(replies.personas), OPTIONS)
    learnt = sums.sum(axis=0) - sums

    by_dimension = np.zeros((FOLDS, dimensions.size, *learnt.shape[2:]))
    for fold_number in range(FOLDS):
        np.add.at(by_dimension[fold_number], dimension_of_cell, learnt[fold_number])
    everyone = by_dimension.sum(axis=2, keepdims=True)
    everyone = (everyone + 1) / (everyone.sum(axis=-1, keepdims=True) + OPTIONS)

    def smoothed(counts: NDArray[np.float64], above: NDArray[np.float64]) -> NDArray[np.float64]:
        return (counts + SMOOTHING * above) / (counts.sum(axis=-1, keepdims=True) + SMOOTHING)

    theta = smoothed(learnt, smoothed(by_dimension, everyone)[:, dimension_of_cell])
    return np.log(theta), cells.of_row


def attribute(
    replies: Replies,
    shares: NDArray[np.float64],
    candidates: tuple[str, ...],
    log_likelihoods: Callable[[int, NDArray[np.int64]], NDArray[np.float64]],
    fold_of: NDArray[np.int64],
    seed: int,
    sizes: tuple[int, ...] = SIZES,
) -> Identification:
    """Attribute the candidates' own answers, in bundles, to candidates.

    Args:
        replies: of the run.
        shares: answers, (P, Q, 3).
        candidates: persona ids, some of the run's.
        log_likelihoods: (persona's number in the run, rows) to log-likelihood of its answers to them, (rows, candidates).
        fold_of: fold of each cluster, in the order of their numbers.
        seed: of the bundles and the bootstrap.
        sizes: answers in a bundle.
    """
    clusters = np.unique(replies.clusters, return_inverse=True)[1]
    turns = _turns(clusters, seed)
    rows_of, scores = [], []
    for candidate in candidates:
        number = replies.personas.index(candidate)
        rows = np.flatnonzero(~np.isnan(shares[number, :, 0]))
        rows_of.append(rows)
        scores.append(log_likelihoods(number, rows))

    by_size, details = {}, {}
    for size in sizes:
        block_of = _blocks(fold_of, size, seed)
        results = [
            _bundled(score, block_of[clusters[rows]], turns[rows], size)
            for score, rows in zip(scores, rows_of, strict=True)
        ]
        blocks = block_of.max() + 1
        counts = np.stack([np.bincount(block, minlength=blocks) for block, _ in results], axis=1)
        credit = np.zeros((blocks, len(candidates), len(candidates)))
        for number, (block, share) in enumerate(results):
            np.add.at(credit[:, number], block, share)
        by_size[size], details[size] = _summed(credit, counts, size, seed)
    known = [size for size in sizes if by_size[size].value is not None and size <= CONFUSION_SIZE]
    shown = max(known, default=None)
    confusion: list[list[float | None]] = []
    by_persona = {}
    if shown is not None:
        shares_attributed, right, counted = details[shown]
        confusion = [[None if np.isnan(value) else float(value) for value in row] for row in shares_attributed]
        by_persona = {
            candidate: measured(right[:, number], counted[number], f"bundles of {shown}", 1 / len(candidates))
            for number, candidate in enumerate(candidates)
        }
    return Identification(
        by_size,
        _over_all(scores, [fold_of[clusters[rows]] for rows in rows_of]),
        candidates,
        shown,
        confusion,
        by_persona,
    )


def _blocks(fold_of: NDArray[np.int64], size: int, seed: int) -> NDArray[np.int64]:
    """Block of each cluster: `size` clusters of one fold, at random; what is left over in a fold joins its last block.

    A bundle stays within a block, so that blocks can be drawn as clusters are; its answers are from different clusters as
    far as these go round.
    """
    block_of = np.empty(len(fold_of), dtype=np.int64)
    rng = np.random.default_rng(seed)
    used = 0
    for fold in range(fold_of.max() + 1):
        members = rng.permutation(np.flatnonzero(fold_of == fold))
        count = max(len(members) // size, 1)
        block_of[members] = used + np.minimum(np.arange(len(members)) // size, count - 1)
        used += count
    return block_of


def _turns(cluster: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """In which order the questions of a block are bundled, (Q,): one of each cluster, then a second, at random else."""
    at_random = np.random.default_rng(seed).permutation(len(cluster))
    order = np.lexsort((at_random, cluster))
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order)) - np.searchsorted(cluster[order], cluster[order])
    return rank * len(cluster) + at_random


def _bundled(
    score: NDArray[np.float64], block: NDArray[np.int64], turn: NDArray[np.int64], size: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Cut one persona's answers into bundles of `size` within blocks; block and attribution, (b,) and (b, candidates)."""
    order = np.lexsort((turn, block))
    sorted_block = block[order]
    place = np.arange(len(order)) - np.searchsorted(sorted_block, sorted_block)
    in_block = np.bincount(block, minlength=int(block.max(initial=0)) + 1)[sorted_block]
    kept = order[place < in_block // size * size]
    return block[kept][::size], _credit(score[kept].reshape(-1, size, score.shape[1]).sum(axis=1))


def _credit(likelihoods: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 for the largest of each row, divided among ties."""
    # Sums of the same numbers in another order differ in the last digits.
    best = likelihoods >= likelihoods.max(axis=1, keepdims=True) - 1e-9
    return best / best.sum(axis=1, keepdims=True)


def _summed(
    credit: NDArray[np.float64], counts: NDArray[np.int64], size: int, seed: int
) -> tuple[Measure, tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]]:
    """Share of right attributions, and beside it the confusion, each persona's own share, and numbers of bundles."""
    candidates = counts.shape[1]
    used = np.flatnonzero(counts.sum(axis=1))
    total = counts.sum(axis=0)
    attributed = ratio(credit.sum(axis=0), np.broadcast_to(total[:, None], credit.shape[1:]))
    if not len(used):
        note = f"no persona has {size} valid answers to attribute at once; raise --limit"
        return not_measured(note, f"bundles of {size}"), (attributed, np.full((1, candidates), np.nan), total)
    resamples = Resamples(used, seed)
    right = resamples.totals(np.einsum("bii->bi", credit)[used], np.arange(len(used)))
    drawn = resamples.totals(counts[used], np.arange(len(used)))
    accuracy = ratio(right.sum(axis=1), drawn.sum(axis=1))
    return (
        measured(accuracy, total.sum(), f"bundles of {size}", 1 / candidates),
        (attributed, ratio(right, drawn), total),
    )


def _over_all(scores: list[NDArray[np.float64]], folds: list[NDArray[np.int64]]) -> Measure:
    right, count = 0.0, 0
    for number, (score, fold) in enumerate(zip(scores, folds, strict=True)):
        totals = np.stack([score[fold == each].sum(axis=0) for each in np.unique(fold)]) if len(fold) else score
        right += float(_credit(totals)[:, number].sum()) if len(totals) else 0.0
        count += len(totals)
    if not count:
        return not_measured("no valid answers", "personas and folds")
    return Measure(right / count, None, count, "personas and folds", 1 / len(scores))


def _unknown(note: str, personas: tuple[str, ...]) -> Identification:
    nothing = not_measured(note, "bundles")
    return Identification(dict.fromkeys(SIZES, nothing), nothing, personas, None, [], {})
