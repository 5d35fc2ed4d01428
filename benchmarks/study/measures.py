"""What is measured of a model: how near it is to its target, in which way, and what it still can do."""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from ordinary_questions import OrdinaryQuestion
from worlds import World

from fairpp_hf.evaluation.callback import average_orders
from fairpp_hf.questions.option_order import with_swapped_options
from fairpp_hf.scoring import OptionScorer
from fairpp_hf.statistics.alignment import alignment_metrics
from fairpp_hf.statistics.options import js_distances

DISTINGUISHING = 0.25
"""Share of the questions that count as those which set the target apart."""


class Shown(NamedTuple):
    """Questions in both orders, as a scorer takes them."""

    messages: list[list[dict[str, str]]]
    options: list[tuple[str, str, str]]

    @classmethod
    def of(cls, questions: pa.Table, portrait: str | None = None) -> "Shown":
        """Each question as it is written, and after it with the options of its poles swapped."""
        orders = [with_swapped_options(questions, np.full(len(questions), swapped)) for swapped in (False, True)]
        opening = [{"role": "system", "content": portrait}] if portrait else []
        prompts = [order["prompt"].to_pylist() for order in orders]
        options = [
            list(zip(*(order[name].to_pylist() for name in ("option_a", "option_b", "option_c")), strict=True))
            for order in orders
        ]
        return cls(
            [[*opening, {"role": "user", "content": prompt}] for both in zip(*prompts, strict=True) for prompt in both],
            [triple for both in zip(*options, strict=True) for triple in both],
        )


class Measured(NamedTuple):
    """Scores of n questions."""

    probabilities: NDArray[np.float64]
    """(n, 3), over A, B, C as they are written, mean of both orders."""
    logprobs: NDArray[np.float64]
    """(n, 3), log-probabilities of the whole option lines, mean of both orders."""
    mass: NDArray[np.float64]
    """(n,), probability of writing one of the three lines, mean of both orders."""
    shown: NDArray[np.float64]
    """(2n, 3), over what is shown as A, B, C."""


def score(scorer: OptionScorer, questions: pa.Table, portrait: str | None = None) -> Measured:
    """Score questions in both orders."""
    scores = scorer.score(*Shown.of(questions, portrait))
    mass = np.exp(scores.logprobs).sum(axis=1)
    return Measured(
        average_orders(scores.probabilities),
        average_orders(scores.logprobs),
        (mass[0::2] + mass[1::2]) / 2,
        scores.probabilities,
    )


def measures(measured: Measured, world: World, rows: NDArray[np.int64], target: str) -> dict[str, float]:
    """All numbers of a model on some questions.

    Distances and margins are to the personas' true option probabilities. Agreement is the probability that the target gives
    the option that is the model's most probable one. The Brier score is on drawn answers. The worst group is the kind of
    group, of six, with the largest distance question by question.

    Args:
        measured: scores of the questions.
        world: whose answers.
        rows: numbers of the questions in the world, (n,).
        target: persona id.
    """
    questions = world.questions.take(pa.array(rows))
    truth = {persona: values[rows] for persona, values in world.truth.items()}
    answers = {persona: values[rows] for persona, values in world.answers.items()}
    against_truth = alignment_metrics(measured.probabilities, truth, target, questions)
    against_answers = alignment_metrics(measured.probabilities, answers, target, questions)
    own = answers[target].astype(np.int64)
    others = np.mean([values for persona, values in truth.items() if persona != target], axis=0)
    apart = js_distances(truth[target], others)
    distinguishing = apart >= np.quantile(apart, 1 - DISTINGUISHING)
    by_question = js_distances(measured.probabilities, truth[target])
    kinds = questions["group_type"].to_numpy(zero_copy_only=False)
    first = measured.probabilities.argmax(axis=1)
    place = np.arange(len(own))
    return {
        "marginal_distance": against_truth["js_distance/target"],
        "question_distance": against_truth["question_js_distance/target"],
        "marginal_margin": against_truth["js_distance/margin"],
        "question_margin": against_truth["question_js_distance/margin"],
        "agreement": float(truth[target][place, first].mean()),
        "agreement_where_apart": float(truth[target][place, first][distinguishing].mean()),
        "question_distance_where_apart": by_question[distinguishing].mean(),
        "brier": against_answers["brier/target"],
        "worst_group_distance": max(by_question[kinds == kind].mean() for kind in np.unique(kinds)),
        "chosen_logprob": float(measured.logprobs[place, own].mean()),
        "on_an_option": float(measured.mass.mean()),
        "position_gap": float(abs(measured.shown[:, 0].mean() - measured.shown[:, 1].mean())),
    }


def as_measured(probabilities: NDArray[np.float64]) -> Measured:
    """What is no model, and says option probabilities, (n, 3), outright."""
    shown = np.repeat(probabilities, 2, axis=0)
    shown[1::2] = shown[1::2][:, [1, 0, 2]]
    with np.errstate(divide="ignore"):
        return Measured(probabilities, np.log(probabilities), np.ones(len(probabilities)), shown)


def ordinary_accuracy(scorer: OptionScorer, asked: list[OrdinaryQuestion]) -> float:
    """Share of ordinary questions whose right option is the most probable."""
    probabilities = scorer.score(
        [[{"role": "user", "content": question.prompt}] for question in asked], [question.options for question in asked]
    ).probabilities
    return float((probabilities.argmax(axis=1) == [question.answer for question in asked]).mean())


def as_numbers(values: dict[str, Any]) -> dict[str, float]:
    """Plain numbers for JSON, to the sixth digit."""
    return {name: round(float(value), 6) for name, value in values.items()}
