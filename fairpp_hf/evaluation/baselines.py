"""What a model has to beat: the other personas' vote, and no opinion at all."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fairpp_hf.evaluation.model_scores import SystemScores, first_choices, shared_first_places
from fairpp_hf.schema import OPTION_LETTERS, STATUSES

MAJORITY = "majority vote"
UNIFORM = "uniform"


def majority_vote(
    answers: Mapping[str, NDArray[np.integer]], shares: Mapping[str, float | None]
) -> NDArray[np.float64]:
    """The option that most of a population would vote for, question by question.

    Args:
        answers: persona id to answers, (n,), 0..2 or -1 for none.
        shares: persona id to its share of the population; where one is unknown, each persona counts as one.

    Returns:
        (n, 3): 1 for the option with most of the votes cast, shared equally where several are equal; a row of NaN where
        nobody has answered.

    Example:
        >>> votes = {"a": np.array([0, 0, -1]), "b": np.array([1, 1, -1]), "c": np.array([1, 2, -1])}
        >>> majority_vote(votes, {"a": 0.5, "b": 0.3, "c": 0.2})[:2].tolist()
        [[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]
    """
    known = all(shares.get(persona) is not None for persona in answers)
    votes = np.zeros((len(next(iter(answers.values()))), len(OPTION_LETTERS)))
    for persona, column in answers.items():
        share = shares[persona] if known else 1.0
        votes += share * (np.asarray(column)[:, None] == np.arange(len(OPTION_LETTERS)))
    return shared_first_places(votes)


def baselines(
    answers: Mapping[str, NDArray[np.integer]], shares: Mapping[str, float | None], target: str
) -> list[SystemScores]:
    """The share-weighted majority vote of the personas other than the target, and equal probabilities for all options.

    Args:
        answers: persona id to answers, (n,).
        shares: persona id to its share of the population, None where it is unknown.
        target: persona id.
    """
    others = {persona: column for persona, column in answers.items() if persona != target}
    uniform = np.full((len(answers[target]), len(OPTION_LETTERS)), 1 / len(OPTION_LETTERS))
    return [as_scores(MAJORITY, majority_vote(others, shares)), as_scores(UNIFORM, uniform)]


def as_scores(name: str, probabilities: NDArray[np.float64], *, kind: str = "baseline") -> SystemScores:
    """Option probabilities from anywhere as the scores of a system.

    Args:
        name: the system's.
        probabilities: (n, 3) over A, B, C; or (n, orders, 3), one for each order in which the options were shown, pole A
            first in both. A row of NaN means that there is no answer; its status is `empty`.
        kind: `"baseline"` or `"model"`.

    Raises:
        ValueError: another shape.
    """
    if probabilities.shape[-1:] != (len(OPTION_LETTERS),) or probabilities.ndim not in (2, 3):
        raise ValueError(
            f"probabilities must be of shape (n, 3) or (n, orders, 3); got {probabilities.shape} at {name!r}. "
            "Give one value for each of A, B and C."
        )
    by_order = probabilities if probabilities.ndim == 3 else probabilities[:, None]
    # Wide enough for any status that somebody writes into it.
    statuses = np.where(np.isnan(by_order).any(axis=2), "empty", "ok").astype(f"<U{max(map(len, STATUSES))}")
    return SystemScores(name, by_order.mean(axis=1), by_order, statuses, {"kind": kind}, first_choices(by_order))
