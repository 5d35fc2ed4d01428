"""Draws from a population whose truth is known: the survey respondent's option probabilities for clusters of questions.

A world is a sample of (problem, group) clusters, drawn with replacement, with answers drawn from the personas'
probabilities. What a metric estimates is then known: the metric of the probabilities over the whole population, or, where
draws are something else (`question_js_distance`, and what is asked of drawn predictions), their expectation.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fairpp_hf.personas import load_personas
from fairpp_hf.questions import load_questions
from fairpp_hf.respondents.survey import all_survey_answers
from fairpp_hf.statistics.alignment import MAX_JS_DISTANCE, alignment_metrics
from fairpp_hf.statistics.options import js_distances
from fairpp_hf.statistics.question_sums import QUESTION_COLUMNS, clusters_of

TARGET = "loyal_nationals"


class World(NamedTuple):
    """What an evaluation sees."""

    predictions: np.ndarray
    references: dict[str, np.ndarray]
    questions: pa.Table
    rows: np.ndarray
    """Of the population, (n,), in the order of the questions."""


class Population:
    """The questions on some groups, and some personas' probabilities for them.

    Args:
        personas: their ids; the target is among them.
        every: take every so manyth group.
    """

    def __init__(self, personas: tuple[str, ...], every: int = 1) -> None:
        questions = load_questions()
        groups = pc.unique(questions["group"]).to_pylist()[::every]
        rows = np.flatnonzero(pc.is_in(questions["group"], pa.array(groups)).to_numpy(zero_copy_only=False))
        questions = questions.take(pa.array(rows))
        answers = all_survey_answers(questions, load_personas())
        self.probabilities = {persona: answers[persona].probabilities for persona in personas}
        self.questions = questions.select(list(QUESTION_COLUMNS))
        clusters = clusters_of(questions)
        self.of_cluster = np.argsort(clusters, kind="stable").reshape(clusters.max() + 1, -1)

    def blend(self, shares: dict[str, float]) -> np.ndarray:
        """A model whose probabilities are a mixture of the personas'."""
        return sum(share * self.probabilities[persona] for persona, share in shares.items())

    def draw(
        self,
        model: np.ndarray,
        clusters: int,
        rng: np.random.Generator,
        *,
        drawn_predictions: bool = False,
        drawn_references: bool = True,
        unanswered: float = 0.0,
        single_questions: bool = False,
    ) -> World:
        """Draw a world.

        Args:
            model: probabilities, (rows of the population, 3).
            clusters: how many.
            rng: of the drawing.
            drawn_predictions: the model gives answers, and not probabilities.
            drawn_references: the personas do.
            unanswered: share of missing predictions.
            single_questions: draw so many questions, each once, in the place of clusters: what `--limit` does.
        """
        if single_questions:
            rows = rng.choice(len(model), clusters, replace=False)
            questions = self.questions.take(pa.array(rows))
        else:
            chosen = rng.integers(0, len(self.of_cluster), clusters)
            rows = self.of_cluster[chosen].ravel()
            questions = with_problems(
                self.questions.take(pa.array(rows)), np.repeat(np.arange(clusters), self.of_cluster.shape[1])
            )
        references = {
            persona: draw_answers(probabilities[rows], rng) if drawn_references else probabilities[rows]
            for persona, probabilities in self.probabilities.items()
        }
        predictions = model[rows]
        if drawn_predictions:
            predictions = np.eye(3)[draw_answers(predictions, rng)]
        predictions[rng.random(len(rows)) < unanswered] = np.nan
        return World(predictions, references, questions, rows)

    def truth(
        self,
        model: np.ndarray,
        *,
        drawn_predictions: bool = False,
        drawn_references: bool = True,
        unanswered: float = 0.0,
    ) -> dict[str, Any]:
        """What the metrics of a world estimate."""
        truth = alignment_metrics(model, self.probabilities, TARGET, self.questions)
        truth |= divergences(truth, self.probabilities)
        truth["unanswered"] = unanswered
        if drawn_references:
            for persona, probabilities in self.probabilities.items():
                distance = self._distance_to_draws(model, probabilities, drawn_predictions)
                truth[f"question_js_distance/{persona}"] = distance
            others = [truth[f"question_js_distance/{persona}"] for persona in self.probabilities if persona != TARGET]
            truth["question_js_distance/target"] = truth[f"question_js_distance/{TARGET}"]
            truth["question_js_distance/margin"] = min(others) - truth["question_js_distance/target"]
        if drawn_predictions:
            # One-hot rows: the squared error of a wrong answer is 2, and every answer is given with probability 1.
            truth["brier/target"] = 2 * (1 - truth["agreement/target"])
            truth["calibration_error/target"] = 1 - truth["agreement/target"]
        return truth

    @staticmethod
    def _distance_to_draws(model: np.ndarray, probabilities: np.ndarray, drawn_predictions: bool) -> float:
        """The expected distance of a question to an answer drawn from `probabilities`."""
        if drawn_predictions:
            return float(MAX_JS_DISTANCE * (1 - (model * probabilities).sum(axis=1).mean()))
        answers = np.eye(3)[:, None, :]
        distances = np.stack([js_distances(model, np.broadcast_to(answer, model.shape)) for answer in answers])
        return float((probabilities.T * distances).sum(axis=0).mean())


def divergences(metrics: dict[str, Any], personas: Iterable[str]) -> dict[str, float]:
    """What `paired_comparison` compares of marginals: from the target, and from the nearest other minus that."""
    of_target = metrics["js_distance/target"] ** 2
    nearest = min(metrics[f"js_distance/{persona}"] for persona in personas if persona != TARGET) ** 2
    return {"js_divergence/target": of_target, "js_divergence/margin": nearest - of_target}


def with_problems(questions: pa.Table, problems: np.ndarray) -> pa.Table:
    """The questions with other problems, by number: what was drawn twice is two."""
    return questions.set_column(questions.column_names.index("problem"), "problem", pa.array(problems.astype(str)))


def draw_answers(probabilities: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One answer a row, (n,), by the inverse of its distribution function."""
    uniform = rng.random(len(probabilities))
    bounds = probabilities.cumsum(axis=1)[:, :2]
    return (uniform[:, None] >= bounds).sum(axis=1)
