"""What each objective aims at: its minimum over models that know a question's labels, with as much data as one likes.

The reference is the public that taught the small model (`public`), as if the model had learnt it perfectly.

Take the questions of a cell (dimension, form, kind of group and standing), the mean p of the target's option probabilities
over them, and the mean weight w_k of a question on which the target answered k. Then the minimum is

    SFT:  pi_k proportional to p_k w_k
    DPO:  pi_k proportional to ref_k (p_k w_k)^(1 / beta)

The first is that of a weighted log-likelihood. For the second: with r = beta log(pi / ref), the two pairs of a question give
each pair of options {k, j} the expected loss -p_k w_k log sigmoid(r_k - r_j) - p_j w_j log sigmoid(r_j - r_k), least at
r_k - r_j = log(p_k w_k / p_j w_j), and these conditions hold for all three pairs of options at once. With soft labels a
question's pairs have the label p_k / (p_k + p_j) whichever option was drawn, so that weights that depend on the draw cancel
where questions are alike: w_k = 1.

So beta below 1 sharpens, a reference that already leans towards p is counted twice, and a weight that depends on the answer
that was drawn tilts the answer: weights are larger where others answered otherwise, so that options that others choose
seldom count for more than the target gives them.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from methods import Method, scheme_weights
from numpy.typing import NDArray
from worlds import World

from fairpp_hf.evaluation.probabilities import js_distances
from fairpp_hf.personas import DEFAULT_PERSONA_SET, PERSONA_SETS, load_personas
from fairpp_hf.questions import load_questions
from fairpp_hf.respondents.survey import STANDING, all_survey_answers


class Aim(NamedTuple):
    """How an objective's minimum would stand to the target's true probabilities."""

    question_distance: float
    marginal_distance: float
    agreement: float


def label_cells(questions: pa.Table) -> NDArray[np.int64]:
    """Numbers of the cells (dimension, form, kind of group, standing) of n questions, (n,)."""
    frame = questions.select(["dimension", "form", "group_type", "group"]).to_pandas()
    frame["standing"] = frame.pop("group").map(lambda group: STANDING.get(group, 1.0))
    return frame.groupby(list(frame.columns)).ngroup().to_numpy()


def cell_means(values: NDArray[np.float64], cells: NDArray[np.int64], rows: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Means over the rows of each cell.

    Args:
        values: (n, 3).
        cells: (n,).
        rows: boolean (n,), those to take.

    Returns:
        (c, 3).
    """
    count = cells.max() + 1
    sums = [np.bincount(cells[rows], values[rows, option], count) for option in range(values.shape[1])]
    return np.stack(sums, axis=1) / np.bincount(cells[rows], minlength=count)[:, None]


def aim(
    method: Method, world: World, target: str, is_train: NDArray[np.bool_], asked: NDArray[np.int64], seed: int
) -> Aim:
    """Where a method's last objective has its minimum.

    Args:
        method: with at least one stage.
        world: whose answers.
        target: persona id.
        is_train: (n,), questions that could be trained on.
        asked: numbers of the questions to measure on.
        seed: of the world.
    """
    cells = label_cells(world.questions)
    drawn = np.eye(3)[world.training_answers[target]]
    weights = scheme_weights(world, method, target, is_train, seed)
    tilted = cell_means(drawn * weights[:, None], cells, is_train)
    policy = cell_means(public(), cells, is_train)
    for stage in method.stages:
        aimed = tilted
        if stage == "dpo":
            share = cell_means(world.truth[target], cells, is_train) if method.soft_labels else tilted
            aimed = policy * share ** (1 / method.dpo_beta)
        policy = aimed / aimed.sum(axis=1, keepdims=True)
    return distances(policy[cells[asked]], world.truth[target][asked])


def best_from_labels(world: World, target: str, is_train: NDArray[np.bool_], asked: NDArray[np.int64]) -> Aim:
    """What the means of the target's probabilities by label would reach: the rest is particular to single questions."""
    cells = label_cells(world.questions)
    return distances(cell_means(world.truth[target], cells, is_train)[cells[asked]], world.truth[target][asked])


def distances(predicted: NDArray[np.float64], truth: NDArray[np.float64]) -> Aim:
    """Compare option probabilities, (n, 3) each."""
    marginals = js_distances(predicted.mean(axis=0), truth.mean(axis=0))
    first = predicted.argmax(axis=1)
    return Aim(
        float(js_distances(predicted, truth).mean()),
        float(marginals),
        float(truth[np.arange(len(first)), first].mean()),
    )


@cache
def public() -> NDArray[np.float64]:
    """What taught the small model without a portrait: the share-weighted mean of the two other persona sets, (n, 3)."""
    questions = load_questions()
    total, shares = np.zeros((len(questions), 3)), 0.0
    for name in PERSONA_SETS:
        if name == DEFAULT_PERSONA_SET:
            continue
        personas = load_personas(name)
        answers = all_survey_answers(questions, personas)
        for persona in personas:
            total += persona.share * answers[persona.id].probabilities
            shares += persona.share
    return total / shares
