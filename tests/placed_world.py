"""Survey respondents, whose true probabilities are known: personas of one set, and those of another in place of models."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from fairpp_hf.evaluation.positioning import Respondent
from fairpp_hf.personas import load_personas
from fairpp_hf.questions import load_questions
from fairpp_hf.respondents.survey import survey_answers

ANCHORS, MODELS = "britains_choice_2020", "hidden_tribes_2018"


@cache
def true_probabilities(personas: str) -> NDArray[np.float64]:
    """(p, 28,420, 3)."""
    known = load_personas(personas)
    return np.stack([survey_answers(load_questions(), known, name).probabilities for name in known.ids])


def drawn(probabilities: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """One answer for each row of probabilities, one-hot."""
    choice = (rng.random(probabilities.shape[:-1])[..., None] > probabilities.cumsum(axis=-1)[..., :2]).sum(axis=-1)
    return np.eye(3)[choice]


def respondents(probabilities: NDArray[np.float64], personas: int) -> list[Respondent]:
    """The first `personas` rows of (r, n, 3) as personas, the others as models."""
    return [
        Respondent(
            f"persona {row}" if row < personas else f"model {row}", "persona" if row < personas else "model", item
        )
        for row, item in enumerate(probabilities)
    ]


def drawn_clusters(
    cluster: NDArray[np.int64], count: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Clusters drawn with replacement, each draw a cluster of its own.

    Args:
        cluster: number of each row's cluster, (n,).
        count: how many are drawn.
        rng: draws them.

    Returns:
        The rows of the drawn clusters, and the number of the draw that each belongs to.
    """
    order = np.argsort(cluster, kind="stable")
    starts = np.searchsorted(cluster[order], np.arange(cluster.max() + 2))
    picked = rng.integers(0, cluster.max() + 1, count)
    rows = np.concatenate([order[starts[number] : starts[number + 1]] for number in picked])
    return rows, np.repeat(np.arange(count), np.diff(starts)[picked])
