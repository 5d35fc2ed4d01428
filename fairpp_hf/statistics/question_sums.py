"""Sums over questions from which every alignment metric follows, added up a cluster of questions at a time.

Each metric is a function of a few sums over questions. Clusters are the unit of the bootstrap: a weight a cluster turns
their sums into totals, so that weights of one give the estimate and the numbers of times that a bootstrap draws each
cluster give a resample, by one matrix product and the same function.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from fairpp_hf.naming import check_name
from fairpp_hf.questions.taxonomy import FORMS
from fairpp_hf.statistics.bootstrap import added_up, weighted_sums
from fairpp_hf.statistics.options import js_distances, option_probabilities

QUESTION_COLUMNS = ("problem", "group", "dimension", "form")
"""Columns of the questions that the metrics by group and of the two forms read."""

CALIBRATION_BINS = 10

CLUSTER = ("problem", "group")
"""What the questions of a cluster have in common."""

CLUSTER_COLUMNS = ("problem", "group", "topic", "group_type")
"""Columns that may make up a cluster: those that the questions of both forms share."""

RESERVED = ("target", "margin", "nearest_other", "constant")
"""Ends of metric names that are no personas."""


@dataclass(frozen=True)
class QuestionSums:
    """Sums over the questions of each of c clusters; k personas, 3 options.

    Blocks, where a question counts for a persona if both it and the prediction have an answer:

    - `answers` (c, 3): questions, questions with a prediction, and the predictions' probability of C.
    - `personas` (c, k, 9): questions; predicted probabilities of A, B, C; the persona's; the probability of equal
      answers; the Jensen-Shannon distance between the two distributions.
    - `groups` (c, g, 2): questions and probability of equal answers with the target, for each group.
    - `bins` (c, 10): top probability minus the probability that it is the target's answer, by bins of the first.
    - `brier` (c,): the target's expected squared error.
    - `forms` (c, 2): units whose two forms both have a prediction, and the probability of equal ones.
    """

    personas: tuple[str, ...]
    target: int | None
    """The target's place in `personas`."""
    blocks: dict[str, NDArray[np.float64]]
    groups: tuple[str, ...] = ()
    """Names of the groups, in the order of the block's axis."""
    group_problems: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """On how many problems the prediction and the target both have an answer, for each group, (g,)."""

    @property
    def clusters(self) -> int:
        """How many clusters there are."""
        return len(self.blocks["answers"])

    @property
    def others(self) -> list[int]:
        """Places of the personas other than the target."""
        return [place for place in range(len(self.personas)) if place != self.target]

    def totals(self, weights: NDArray[np.floating]) -> dict[str, NDArray[np.float64]]:
        """Each block summed over clusters with weights (b, c): a first axis of length b in the place of the clusters."""
        return {name: weighted_sums(weights, block) for name, block in self.blocks.items()}


def clusters_of(
    questions: pa.Table | Mapping[str, Any], cluster_by: Sequence[str] = CLUSTER, count: int | None = None
) -> NDArray[np.int64]:
    """A number for each question's cluster, int64 (n,), 0 and up without gaps.

    Args:
        questions: A table, or a mapping of columns.
        cluster_by: Columns that the questions of a cluster have in common.
        count: Number of rows that `questions` must have.

    Raises:
        ValueError: `cluster_by` is empty or names another column than `CLUSTER_COLUMNS`; or see `alignment_metrics`.
    """
    if not cluster_by or isinstance(cluster_by, str) or not set(cluster_by) <= set(CLUSTER_COLUMNS):
        raise ValueError(
            f"cluster_by must be some of {', '.join(map(repr, CLUSTER_COLUMNS))}; got {cluster_by!r}. "
            'Give ("problem", "group") for claims about these problems, ("problem",) for claims about others.'
        )
    return numbered(questions, tuple(cluster_by), count)


def numbered(
    questions: pa.Table | Mapping[str, Any], names: Sequence[str], count: int | None = None
) -> NDArray[np.int64]:
    """A number for each question's values of some columns together, (n,), 0 and up without gaps."""
    return combined(question_columns(questions, count, needed=names), names)


def question_sums(
    predictions: ArrayLike,
    references: Mapping[str, ArrayLike],
    target: str | None = None,
    questions: pa.Table | Mapping[str, Any] | None = None,
    clusters: NDArray[np.int64] | None = None,
) -> QuestionSums:
    """Add up what the metrics need, see `alignment_metrics` for the arguments and for what is refused.

    `clusters` are the number of each question's cluster, (n,), 0 and up without gaps; one cluster of all by default.
    """
    if len(np.asarray(predictions)) == 0:
        raise ValueError("predictions must hold at least one question; got none.")
    ours = option_probabilities(predictions)
    theirs = _references(references, len(ours))
    if target is not None:
        check_name("target", target, references)
    place = None if target is None else list(references).index(target)
    columns = None if questions is None else question_columns(questions, len(ours))
    if clusters is None:
        clusters = np.zeros(len(ours), dtype=np.int64)
    count = int(clusters.max()) + 1

    def by_cluster(values: NDArray[Any]) -> NDArray[np.float64]:
        return added_up(values, clusters, count)

    answered = np.asarray(np.isfinite(ours).all(axis=1))
    common = answered[:, None] & np.asarray(np.isfinite(theirs).all(axis=2))
    ours, theirs = np.where(answered[:, None], ours, 0.0), np.where(common[..., None], theirs, 0.0)
    by_persona = np.empty((*common.shape, 9))
    by_persona[..., 0] = common
    by_persona[..., 1:4] = ours[:, None] * common[..., None]
    by_persona[..., 4:7] = theirs
    by_persona[..., 7] = (by_persona[..., 1:4] * theirs).sum(axis=2)
    by_persona[..., 8] = js_distances(by_persona[..., 1:4], theirs)
    blocks = {
        "answers": by_cluster(np.column_stack([np.ones(len(ours)), answered, ours[:, 2]])),
        "personas": by_cluster(by_persona),
    }
    groups: tuple[str, ...] = ()
    group_problems = np.zeros(0, dtype=np.int64)
    if place is not None:
        bins, brier = _calibration(ours, theirs[:, place], common[:, place])
        blocks |= {"bins": by_cluster(bins), "brier": by_cluster(brier)}
    if columns is not None:
        of_row, groups = columns["group"]
        if place is not None:
            # A cluster and a group together are one number, so that one sum serves all groups.
            cells, size = clusters * len(groups) + of_row, count * len(groups)
            blocks["groups"] = added_up(by_persona[:, place][:, [0, 7]], cells, size).reshape(count, -1, 2)
            # How many problems the rows that count have for each group.
            problem, problems = columns["problem"]
            counts = common[:, place]
            seen = np.unique(of_row[counts] * len(problems) + problem[counts]) // len(problems)
            group_problems = np.bincount(seen, minlength=len(groups))
        unit, same = _same_in_both_forms(columns, ours, answered)
        # The questions of a unit are in one cluster, so that any of them tells which.
        of_unit = np.zeros(len(same), dtype=np.int64)
        of_unit[unit] = clusters
        blocks["forms"] = added_up(same, of_unit, count)
    if place is not None:
        has_common = np.asarray(common.any(axis=0))
        if not has_common[place]:
            raise ValueError(
                f"target must share a question with the predictions; got none answered by both for {target!r}."
            )
        if has_common.sum() < 2:
            raise ValueError(f"references must hold another persona than the target; got only {target!r}.")
    return QuestionSums(tuple(references), place, blocks, groups, group_problems)


def _references(references: Mapping[str, ArrayLike], count: int) -> NDArray[np.float64]:
    """Their option probabilities, (n, k, 3)."""
    columns = np.empty((count, len(references), 3))
    for place, (persona, answers) in enumerate(references.items()):
        if persona in RESERVED:
            raise ValueError(
                f"references must not have a persona called {persona!r}: metrics end in that name. Rename the persona."
            )
        rows = option_probabilities(answers, name=f"references[{persona!r}]")
        if len(rows) != count:
            raise ValueError(
                f"references[{persona!r}] must answer the same questions as predictions; got {len(rows)} for {count}."
            )
        columns[:, place] = rows
    return columns


def _calibration(
    ours: NDArray[np.float64], theirs: NDArray[np.float64], common: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What the blocks `bins` and `brier` add up, (n, 10) and (n,)."""
    top = ours.max(axis=1)
    # Equal top probabilities are as good as each other.
    is_top = ours >= top[:, None] - 1e-9
    gap = (top - (theirs * is_top).sum(axis=1) / is_top.sum(axis=1)) * common
    bins = np.zeros((len(ours), CALIBRATION_BINS))
    bins[np.arange(len(ours)), np.minimum((top * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)] = gap
    # sum_k (p_k - [a = k])^2 = sum_k p_k^2 - 2 p_a + 1, whose mean over answers is linear in their probabilities.
    return bins, ((ours**2).sum(axis=1) - 2 * (ours * theirs).sum(axis=1) + 1) * common


def question_columns(
    questions: pa.Table | Mapping[str, Any], count: int | None = None, needed: Sequence[str] = QUESTION_COLUMNS
) -> dict[str, tuple[NDArray[np.int64], tuple[str, ...]]]:
    """Columns as numbers (n,) and the labels that they stand for; missing columns, values and rows are refused."""
    names = questions.column_names if isinstance(questions, pa.Table) else list(questions)
    for name in needed:
        if name not in names:
            raise ValueError(
                f"questions must have the columns {', '.join(needed)}; got no {name!r}. "
                "Give rows of `load_questions()`, or leave questions out."
            )
    table = pa.table({name: questions[name] for name in needed})
    if count is not None and len(table) != count:
        raise ValueError(f"questions must be those of predictions; got {len(table)} for {count}.")
    columns = {}
    for name in needed:
        if table[name].null_count:
            row = int(np.flatnonzero(table[name].is_null().to_numpy())[0])
            raise ValueError(f"questions must have a {name!r} in every row; got none at row {row}.")
        encoded = table[name].combine_chunks().dictionary_encode()
        columns[name] = encoded.indices.to_numpy().astype(np.int64), tuple(map(str, encoded.dictionary.to_pylist()))
    return columns


def combined(
    columns: Mapping[str, tuple[NDArray[np.int64], tuple[str, ...]]], names: Sequence[str]
) -> NDArray[np.int64]:
    """A number for each row's combination of labels, (n,), 0 and up without gaps."""
    number = np.zeros(len(columns[names[0]][0]), dtype=np.int64)
    for name in names:
        codes, labels = columns[name]
        number = number * len(labels) + codes
    return np.unique(number, return_inverse=True)[1].astype(np.int64)


def _same_in_both_forms(
    columns: Mapping[str, tuple[NDArray[np.int64], tuple[str, ...]]],
    ours: NDArray[np.float64],
    answered: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Each row's (problem, group, dimension), (n,), and of each of these u units what `forms` adds up, (u, 2).

    Any answer of one form is paired with any of the other: the mean product is the product of the means.
    """
    unit = combined(columns, ("problem", "group", "dimension"))
    units = int(unit.max()) + 1
    form, names = columns["form"]
    both, means = np.ones(units, dtype=bool), np.ones((units, ours.shape[1]))
    for name in FORMS:
        counts = answered & (form == names.index(name)) if name in names else np.zeros(len(form), dtype=bool)
        sums = added_up(np.column_stack([counts, ours * counts[:, None]]), unit, units)
        both &= sums[:, 0] > 0
        means *= sums[:, 1:] / np.maximum(sums[:, :1], 1)
    return unit, np.column_stack([both, means.sum(axis=1) * both])
