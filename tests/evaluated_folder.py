"""A small folder as `fairpp evaluate` and `fairpp position` write it, with systems made from arrays."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fairpp_hf.evaluation.baselines import CONSTANT, LABEL_MODEL, MAJORITY, UNIFORM, majority_vote
from fairpp_hf.evaluation.evaluate import evaluate_systems
from fairpp_hf.evaluation.results import References, Results, SystemScores, as_scores
from fairpp_hf.personas import load_personas
from fairpp_hf.questions import load_questions, sample_questions
from fairpp_hf.respondents.survey import all_survey_answers

TARGET = "loyal_nationals"
REGIONS = ("Europe", "North America", "East Asia", "Middle East")


def small_evaluation(
    questions: int = 120,
    names: tuple[str, ...] = ("plain model", "aligned model"),
    *,
    personas: tuple[str, ...] = (TARGET, "civic_pragmatists", "backbone_conservatives"),
    groups: tuple[str, ...] = ("men", "women", "muslim people"),
    refusals: int = 6,
) -> Results:
    """Models of these names, each nearer to the target than the one before, and baselines like the real ones.

    Args:
        questions: number of questions.
        names: of the models; the first has nothing to do with the target.
        personas: their ids; all of the default set if empty.
        groups: that the questions are about; all if empty.
        refusals: questions that the first model refuses.
    """
    table = load_questions()
    if groups:
        table = table.filter(pc.is_in(table["group"], pa.array(groups)))
    table = table.take(pa.array(sample_questions(table, questions)))
    segments = load_personas()
    found = all_survey_answers(table, segments)
    answers = {persona: found[persona].answer for persona in personas or segments.ids}
    probabilities = {persona: found[persona].probabilities for persona in answers}
    shares = {persona.id: persona.share for persona in segments}
    systems = [
        model_scores(
            name, found[TARGET][1], number / max(len(names) - 1, 1), seed=number, refusals=refusals * (number == 0)
        )
        for number, name in enumerate(names)
    ]
    target = probabilities[TARGET]
    mean = np.tile(target.mean(axis=0), (len(target), 1))
    others = {persona: column for persona, column in answers.items() if persona != TARGET}
    baselines = {
        CONSTANT: mean,
        LABEL_MODEL: (mean + target) / 2,
        MAJORITY: majority_vote(others, shares),
        UNIFORM: np.full_like(mean, 1 / 3),
    }
    if len(names) > 1:
        systems[1].facts["before"] = names[0]
    return evaluate_systems(
        [*systems, *(as_scores(name, rows) for name, rows in baselines.items())],
        table,
        References(answers, probabilities),
        TARGET,
        reference="survey:britains_choice_2020 (simulated)",
        division="test split",
        personas=segments,
    )


def model_scores(
    name: str, target: NDArray[np.float64], nearness: float, *, seed: int, refusals: int = 0
) -> SystemScores:
    """Probabilities between those of somebody who favours A and the target's, in both orders, the first option favoured."""
    rng = np.random.default_rng(seed)
    own = rng.dirichlet((4, 2, 1), size=len(target))
    one = (1 - nearness) * own + nearness * target
    favour = rng.uniform(0, 0.2, size=(len(target), 1))
    both = np.stack([one + favour * np.eye(3)[0], one + favour * np.eye(3)[1]], axis=1)
    both /= both.sum(axis=2, keepdims=True)
    both[:refusals] = np.nan
    scores = as_scores(name, both, kind="model")
    statuses = scores.statuses.astype("<U9")
    statuses[:refusals] = "refusal"
    facts = {
        **scores.facts,
        "respondent": f"transformers:{name} (simulated)",
        "settings": {"model": name, "rule": "line"},
        "template_hash": "5f" * 32,
        "persona": None,
        "region": REGIONS[seed % len(REGIONS)],
        "before": None,
    }
    # Lines of 9, 8 and 4 tokens, of which each but the first, the letter's, costs 0.05 nats.
    tokens = np.tile([9.0, 8.0, 4.0], (*both.shape[:2], 1))
    letters = np.log(np.where(np.isnan(both), np.nan, 0.1 + both))
    hashes = np.array([[f"{2 * row + order:064x}" for order in (0, 1)] for row in range(len(target))])
    return scores._replace(
        facts=facts,
        prompt_hashes=hashes,
        statuses=statuses,
        logprobs=letters - 0.05 * (tokens - 1),
        letter_logprobs=letters,
        tokens=np.where(np.isnan(both), np.nan, tokens),
    )


def write_evaluated_folder(folder: Path, evaluation: Results | None = None, *, positions: bool = True) -> Path:
    """Write the files of an evaluation, and positions.json for its personas and models.

    Args:
        folder: where.
        evaluation: `small_evaluation()` by default.
        positions: whether there is a positions.json.
    """
    evaluation = evaluation or small_evaluation()
    evaluation.write(folder)
    if positions:
        (folder / "positions.json").write_text(json.dumps(positions_of(evaluation)), "utf-8")
    return folder


def positions_of(evaluation: Results) -> dict[str, Any]:
    """Points at made-up places: personas on a circle, models from its edge towards the target."""
    points: list[dict[str, Any]] = []

    def add(name: str, kind: str, place: NDArray[np.float64], radius: float, **more: Any) -> None:
        angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
        ring = place + radius * np.stack([np.cos(angles), 0.6 * np.sin(angles)], axis=1)
        point = {"xy": place.tolist(), "ellipse_95": ring.tolist()}
        turned = {"xy": (-place).tolist(), "ellipse_95": (-ring).tolist()}
        given = {"name": name, "kind": kind, "region": None, "before": None, **more}
        points.append({**given, "pca": point, "ideal_point": turned})

    angles = np.linspace(0, 2 * np.pi, len(evaluation.personas), endpoint=False)
    circle = 0.5 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    for persona, place in zip(evaluation.personas, circle, strict=True):
        add(evaluation.names[persona], "persona", place, 0.03)
    add("majority", "majority", circle.mean(axis=0) + 0.05, 0.02)
    models = [system.scores for system in evaluation.systems if system.scores.facts["kind"] == "model"]
    target = circle[evaluation.personas.index(evaluation.target)]
    for number, scores in enumerate(models):
        place = np.array([0.3, -0.4]) + (target - [0.3, -0.4]) * 0.8 * number / max(len(models) - 1, 1)
        add(scores.name, "model", place, 0.04, region=scores.facts["region"], before=scores.facts["before"])
    return {
        "format": 1,
        "questions": len(evaluation.questions),
        "division": evaluation.division,
        "reference": evaluation.reference,
        "methods": {
            "pca": {"explained_variance": [0.61, 0.22], "axes": ["egalitarian to libertarian", "law to moral"]},
            "ideal_point": {"axes": []},
        },
        "points": points,
    }
