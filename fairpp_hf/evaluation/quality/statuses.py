"""How replies came out, by persona and by group, and where that differs most."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fairpp_hf.evaluation.quality.replies import Codes, Measure, Replies, Resamples, measured, ratio
from fairpp_hf.schema import STATUSES

SHUFFLES = 500


class Difference(NamedTuple):
    """Where a status is more, or less, frequent than elsewhere: the largest such difference of all personas, or groups."""

    status: str
    among: str
    """`persona` or `group`."""
    name: str
    rate: float
    rate_elsewhere: float
    difference: Measure
    """`chance` is what the largest difference exceeds in 1 of 20 shuffles of the names among clusters; the interval is of
    this one difference, and does not know that it was chosen for its size."""


class Statuses(NamedTuple):
    """Replies by status."""

    counts: dict[str, int]
    by_persona: dict[str, dict[str, int]]
    by_group: dict[str, dict[str, int]]
    largest: tuple[Difference, ...]
    """Of each status but `ok` that occurs, among personas and among groups."""


def count_statuses(replies: Replies, seed: int) -> Statuses:
    """Count statuses by persona and group, and name the largest differences.

    Args:
        replies: of the run.
        seed: of the bootstrap and of the shuffles.
    """
    names, cluster = np.unique(replies.clusters, return_inverse=True)
    groups = Codes.of(replies.questions, ("group",))
    group_names = replies.questions["group"].take(groups.first).to_pylist()
    of_reply = cluster[replies.question]
    shape = (len(names), len(replies.personas), len(STATUSES))
    key = (of_reply * shape[1] + replies.persona) * shape[2] + replies.status
    table = np.bincount(key, minlength=np.prod(shape)).reshape(shape).astype(np.float64)
    # A cluster is a problem and a group, and so within one group.
    group_of = np.empty(len(names), dtype=np.int64)
    group_of[cluster] = groups.of_row
    in_group = np.eye(groups.size)[group_of]
    resamples = Resamples(np.arange(len(names)), seed)

    by_persona, by_group = table.sum(axis=0), in_group.T @ table.sum(axis=1)
    largest = []
    for number, status in enumerate(STATUSES):
        if status == "ok" or not table[..., number].any():
            continue
        hits, counts = table[..., number], table.sum(axis=2)
        rng = np.random.default_rng(seed)
        if shape[1] > 1:
            chance = [
                np.abs(_differences(*(rows.sum(axis=0) for rows in _shuffled_rows(hits, counts, rng)))).max()
                for _ in range(SHUFFLES)
            ]
            largest.append(_largest(status, "persona", replies.personas, hits, counts, chance, resamples))
        if groups.size > 1:
            hits, counts = hits.sum(axis=1), counts.sum(axis=1)
            chance = [
                np.nanmax(np.abs(_differences(hits @ shuffled, counts @ shuffled)))
                for shuffled in (rng.permutation(in_group) for _ in range(SHUFFLES))
            ]
            columns = in_group * hits[:, None], in_group * counts[:, None]
            largest.append(_largest(status, "group", tuple(group_names), *columns, chance, resamples))
    return Statuses(
        counts=_named(by_persona.sum(axis=0)),
        by_persona=dict(zip(replies.personas, map(_named, by_persona), strict=True)),
        by_group=dict(zip(group_names, map(_named, by_group), strict=True)),
        largest=tuple(largest),
    )


def _named(counts: NDArray[np.float64]) -> dict[str, int]:
    return {status: int(count) for status, count in zip(STATUSES, counts, strict=True)}


def _differences(hits: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rate of each column minus the rate of all others, over the last axis."""
    everywhere, all_counts = hits.sum(axis=-1, keepdims=True), counts.sum(axis=-1, keepdims=True)
    return ratio(hits, counts) - ratio(everywhere - hits, all_counts - counts)


def _shuffled_rows(
    hits: NDArray[np.float64], counts: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The personas of each cluster in another order."""
    order = rng.permuted(np.tile(np.arange(hits.shape[1]), (len(hits), 1)), axis=1)
    return np.take_along_axis(hits, order, axis=1), np.take_along_axis(counts, order, axis=1)


def _largest(
    status: str,
    among: str,
    names: tuple[str, ...],
    hits: NDArray[np.float64],
    counts: NDArray[np.float64],
    chance: list[float],
    resamples: Resamples,
) -> Difference:
    totals, weights = resamples.totals(hits), resamples.totals(counts)
    differences = _differences(totals, weights)
    row = int(np.nanargmax(np.abs(differences[0])))
    elsewhere = np.arange(len(names)) != row
    return Difference(
        status=status,
        among=among,
        name=names[row],
        rate=float(totals[0, row] / weights[0, row]),
        rate_elsewhere=float(totals[0, elsewhere].sum() / weights[0, elsewhere].sum()),
        difference=measured(differences[:, row], weights[0, row], "replies", float(np.quantile(chance, 0.95))),
    )
