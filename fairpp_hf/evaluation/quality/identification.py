"""Do a persona's answers tell whose they are?

Bundles of answers are attributed to the persona that makes them most likely. With y[q,o] a persona's share of option o in
its answers to question q (1 for a single answer), and c(q) the question's cell, the candidate r of a bundle b has

    L(b, r) = sum over q in b, o in (A, B, C) of y[q,o] log theta[r,c(q),o]

and the bundle goes to the largest L; ties are divided. By chance, 1 / candidates are right.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fairpp_hf.evaluation.quality.replies import OPTIONS, Replies
from fairpp_hf.statistics.bootstrap import Measure, Resamples, measured, not_measured, ratio
from fairpp_hf.statistics.options import shared_first_places
from fairpp_hf.statistics.question_sums import numbered

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
    personas: tuple[str, ...]
    """Whose answers, in the order of `confusion`'s rows; the candidates are the same, in the order of its columns."""
    size: int | None
    """Answers in a bundle of `confusion` and `by_persona`: `CONFUSION_SIZE`, or the largest size below that there is."""
    confusion: list[list[float | None]]
    """Share of a persona's bundles that is attributed to each candidate."""
    by_persona: dict[str, Measure]


def identify_among_themselves(replies: Replies) -> Identification:
    """Attribute each persona's answers among the run's personas; what is attributed is never learnt from.

    Clusters, (problem, group), are divided into 5 folds at random; the answers of a fold are scored with frequencies from
    the other four. With n[r,..,o] their answers, and m = `SMOOTHING`, each level leans on the one above:

        theta[r,d,o]       = (n[r,d,o] + m g[d,o]) / (n[r,d] + m),          g[d,o] = (n[d,o] + 1) / (n[d] + 3)
        theta[r,(d,t,f),o] = (n[r,(d,t,f),o] + m theta[r,d,o]) / (n[r,(d,t,f)] + m)

    over dimension d, group type t and form f; g is of all personas together.
    """
    if len(replies.personas) < 2:
        return _unknown("one persona alone cannot be mistaken for another; ask a set of several", ())
    if replies.resamples.count < FOLDS:
        return _unknown(
            f"questions on {FOLDS} (problem, group) pairs are needed to hold some out; there are "
            f"{replies.resamples.count}: ask more questions",
            replies.personas,
        )
    fold_of = np.random.default_rng(replies.seed).permutation(replies.clusters.max() + 1) % FOLDS
    log_theta, cell = held_out_log_shares(replies, fold_of[replies.clusters])
    scores = np.einsum("pqo,qro->pqr", replies.shares, log_theta[fold_of[replies.clusters], cell])
    return attribute(replies, replies.personas, scores, fold_of)


def held_out_log_shares(replies: Replies, fold: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Logarithms of theta, learnt without each fold: (folds, cells, P, 3), and each question's cell, (Q,)."""
    cell = numbered(replies.questions, ("dimension", "group_type", "form"))
    dimension = numbered(replies.questions, ("dimension",))
    dimension_of_cell = np.eye(dimension.max() + 1)[dimension[np.unique(cell, return_index=True)[1]]]
    in_cell = np.zeros((FOLDS, cell.max() + 1, len(fold)))
    in_cell[fold, cell, np.arange(len(fold))] = 1
    sums = np.einsum("fcq,pqo->fcpo", in_cell, np.nan_to_num(replies.shares), optimize=True)
    learnt = sums.sum(axis=0) - sums
    by_dimension = np.einsum("cd,fcpo->fdpo", dimension_of_cell, learnt)
    everyone = by_dimension.sum(axis=2, keepdims=True)
    everyone = (everyone + 1) / (everyone.sum(axis=-1, keepdims=True) + OPTIONS)

    def smoothed(counts: NDArray[np.float64], above: NDArray[np.float64]) -> NDArray[np.float64]:
        return (counts + SMOOTHING * above) / (counts.sum(axis=-1, keepdims=True) + SMOOTHING)

    theta = smoothed(learnt, np.einsum("cd,fdpo->fcpo", dimension_of_cell, smoothed(by_dimension, everyone)))
    return np.log(theta), cell


def attribute(
    replies: Replies, candidates: tuple[str, ...], scores: NDArray[np.float64], fold_of: NDArray[np.int64]
) -> Identification:
    """Attribute the candidates' own answers, in bundles, to candidates.

    Args:
        replies: Replies of the run.
        candidates: Ids of k personas, some of the run's.
        scores: Log-likelihood of each candidate's answer to each question under each candidate, (k, Q, k); NaN where there
            is no answer.
        fold_of: Fold of each cluster; a bundle stays within a fold.
    """
    found = {size: _attributed(replies, scores, fold_of, size) for size in SIZES}
    by_size = {}
    for size, (blocks, credit, counts) in found.items():
        if not counts.any():
            note = f"no persona has {size} valid answers to attribute at once; ask more questions"
            by_size[size] = not_measured(note, f"bundles of {size}")
            continue
        right, drawn = blocks.totals(np.einsum("bii->b", credit)), blocks.totals(counts.sum(axis=1))
        by_size[size] = measured(ratio(right, drawn), counts.sum(), f"bundles of {size}", 1 / len(candidates))
    shown = max((size for size in SIZES if by_size[size].value is not None and size <= CONFUSION_SIZE), default=None)
    if shown is None:
        return Identification(by_size, candidates, None, [], {})
    blocks, credit, counts = found[shown]
    total = counts.sum(axis=0)
    confusion = ratio(credit.sum(axis=0), total[:, None]).tolist()
    right, drawn = blocks.totals(np.einsum("bii->bi", credit)), blocks.totals(counts)
    return Identification(
        by_size,
        candidates,
        shown,
        [[None if np.isnan(share) else share for share in row] for row in confusion],
        {
            candidate: measured(
                ratio(right[:, row], drawn[:, row]), total[row], f"bundles of {shown}", 1 / len(candidates)
            )
            for row, candidate in enumerate(candidates)
        },
    )


def _attributed(
    replies: Replies, scores: NDArray[np.float64], fold_of: NDArray[np.int64], size: int
) -> tuple[Resamples, NDArray[np.float64], NDArray[np.int64]]:
    """Cut each candidate's answers into bundles, and divide the credit for each.

    Blocks are `size` clusters of one fold, at random; what is left over in a fold joins its last block. A bundle stays
    within a block, so that blocks can be drawn as clusters are.

    Returns:
        Resamples of the b blocks with a bundle; credit, (b, k, k), a row an answerer, a column a candidate; numbers of
        bundles, (b, k).
    """
    rng = np.random.default_rng(replies.seed)
    block_of, blocks = np.empty(len(fold_of), dtype=np.int64), 0
    for fold in np.unique(fold_of):
        members = rng.permutation(np.flatnonzero(fold_of == fold))
        count = max(len(members) // size, 1)
        block_of[members] = blocks + np.minimum(np.arange(len(members)) // size, count - 1)
        blocks += count
    block = block_of[replies.clusters]
    candidates = len(scores)
    credit, counts = np.zeros((blocks, candidates, candidates)), np.zeros((blocks, candidates), dtype=np.int64)
    turn = rng.permutation(len(block))
    for row, own in enumerate(scores):
        answered = np.flatnonzero(~np.isnan(own[:, 0]))
        order = answered[np.lexsort((turn[answered], block[answered]))]
        place = np.arange(len(order)) - np.searchsorted(block[order], block[order])
        whole = np.bincount(block[order], minlength=blocks)[block[order]] // size * size
        bundled = order[place < whole].reshape(-1, size)
        likelihoods = own[bundled].sum(axis=1)
        # Relative to the best of each row: a place is shared up to rounding.
        np.add.at(
            credit[:, row],
            block[bundled[:, 0]],
            shared_first_places(np.exp(likelihoods - likelihoods.max(axis=1, keepdims=True, initial=-np.inf))),
        )
        np.add.at(counts[:, row], block[bundled[:, 0]], 1)
    used = np.flatnonzero(counts.sum(axis=1))
    return Resamples(used, replies.seed), credit[used], counts[used]


def _unknown(note: str, personas: tuple[str, ...]) -> Identification:
    return Identification(dict.fromkeys(SIZES, not_measured(note, "bundles")), personas, None, [], {})
