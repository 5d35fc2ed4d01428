"""Worlds: whose answers models are trained on and compared with, with the truth behind them.

A simulated world is drawn from the survey respondent's choice model (`fairpp_hf.respondents.survey`), whose option
probabilities are known exactly. A seed draws anew what is particular to each persona and question, and the answers.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fairpp_hf.dataset.sources import load_answers
from fairpp_hf.personas import DEFAULT_PERSONA_SET, load_personas
from fairpp_hf.questions import load_questions
from fairpp_hf.respondents.survey import all_survey_answers
from fairpp_hf.schema import OPTION_LETTERS
from fairpp_hf.stable_hash import uniforms


@dataclass(frozen=True)
class WorldSettings:
    """How a world differs from the survey respondent as it is."""

    flips: float = 0.0
    """Share of the training answers, of every persona, that are replaced by one of the two other options; 0 to 1."""


@dataclass(frozen=True)
class World:
    """Answers of all personas to all questions, n of them."""

    questions: pa.Table
    """n rows with the columns of `QUESTION_FEATURES`."""
    truth: dict[str, NDArray[np.float64]]
    """Persona id to its option probabilities, (n, 3)."""
    answers: dict[str, NDArray[np.int8]]
    """Persona id to one answer drawn from these, (n,), 0..2; before flips."""
    training_answers: dict[str, NDArray[np.int8]]
    """The same with flips: what training sees."""


SIMULATED = "simulated"
"""As `answers`: a world of this module's own."""


@lru_cache(maxsize=32)
def draw_world(settings: WorldSettings, seed: int, answers: str = SIMULATED) -> World:
    """The world of a seed.

    Args:
        settings: how it differs.
        seed: of everything random in it.
        answers: `"simulated"`, or what `load_dataset("fairpp", answers=...)` takes, such as `"published"`. Those answers are
            then the truth themselves, the same for all seeds, on the questions that all personas answered.
    """
    if answers != SIMULATED:
        return _given_world(settings, seed, answers)
    questions = load_questions()
    personas = load_personas(DEFAULT_PERSONA_SET)
    # The id names the stream of random numbers of what is particular to a persona and question.
    personas = replace(personas, id=f"{personas.id}/study/{seed}")
    ids = questions["question_id"].to_numpy(zero_copy_only=False).astype(np.str_)
    truth, drawn = {}, {}
    for persona, simulated in all_survey_answers(questions, personas).items():
        probabilities = simulated.probabilities
        draw = uniforms(ids, f"study/answer/{seed}/{persona}")
        truth[persona] = probabilities
        drawn[persona] = (draw[:, None] >= probabilities.cumsum(axis=1)[:, :2]).sum(axis=1).astype(np.int8)
    return World(questions, truth, drawn, _flipped(drawn, ids, settings.flips, seed))


def _flipped(
    answers: dict[str, NDArray[np.int8]], ids: NDArray[np.str_], share: float, seed: int
) -> dict[str, NDArray[np.int8]]:
    """Answers of which some are replaced by one of the two other options."""
    flipped = {}
    for persona, answer in answers.items():
        is_flipped = uniforms(ids, f"study/flip/{seed}/{persona}") < share
        step = 1 + (uniforms(ids, f"study/other/{seed}/{persona}") < 0.5)
        flipped[persona] = np.where(is_flipped, (answer + step) % len(OPTION_LETTERS), answer).astype(np.int8)
    return flipped


def _given_world(settings: WorldSettings, seed: int, answers: str) -> World:
    """A world of answers that are there."""
    loaded = load_answers(answers)
    given = loaded.matrix()
    whole = np.all([column >= 0 for column in given.values()], axis=0)
    questions = loaded.questions.filter(pa.array(whole))
    ids = questions["question_id"].to_numpy(zero_copy_only=False).astype(np.str_)
    kept = {persona: column[whole] for persona, column in given.items()}
    truth = {persona: np.eye(len(OPTION_LETTERS))[column] for persona, column in kept.items()}
    return World(questions, truth, kept, _flipped(kept, ids, settings.flips, seed))
