"""Runs one cell: world, pairs, training, measures."""

import random
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from base_model import base_model_folder
from cells import Cell, StudySettings
from measures import as_numbers, ceiling, measures, ordinary_accuracy, score
from methods import Trained, train, training_pairs
from numpy.typing import NDArray
from ordinary_questions import general_questions, taxonomy_questions
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback, TrainerControl, TrainerState
from worlds import World, draw_world

from fairpp_hf.demo.small_model import small_model_folder
from fairpp_hf.personas import DEFAULT_PERSONA_SET, load_personas
from fairpp_hf.questions import is_held_out, split_of
from fairpp_hf.scoring import OptionScorer
from fairpp_hf.stable_hash import uniforms

HELD_OUT = "topics"
"""One topic of the five is never trained on, see `heldout_labels`."""


class Questions:
    """Which questions are for what, by row number; another draw for each seed."""

    def __init__(self, settings: StudySettings, questions: pa.Table, seed: int) -> None:
        held_out = is_held_out(questions, HELD_OUT)
        is_test = split_of(questions)
        self.is_train: NDArray[np.bool_] = ~is_test & ~held_out
        ids = questions["question_id"].to_numpy(zero_copy_only=False).astype(np.str_)
        self._order = uniforms(ids, f"study/questions/{seed}")
        self.train = self._first(self.is_train, settings.budget.questions)
        self.test = self._first(is_test & ~held_out, settings.measuring.questions)
        self.topic = self._first(is_test & held_out, settings.measuring.topic_questions)
        self.curve = self.test[: settings.measuring.curve_questions]

    def _first(self, among: NDArray[np.bool_], count: int) -> NDArray[np.int64]:
        rows = np.flatnonzero(among)
        if count > len(rows):
            raise ValueError(f"The study must have as many questions as it asks for; got {count} of {len(rows)}.")
        return rows[np.argsort(self._order[rows])][:count]


def start_folder(settings: StudySettings, models: Path) -> Path:
    """The folder of the model that methods start from; the small one is trained, and SmolLM2 unpacked, on the first call.

    Raises:
        RuntimeError: the package that holds SmolLM2 is not installed.
    """
    if settings.model == "small":
        return base_model_folder(settings.base, models)
    return small_model_folder() if settings.model == "smollm2" else Path(settings.model).expanduser()


class Curve(TrainerCallback):
    """Measures a model on its way."""

    def __init__(self, tokenizer: Any, world: World, rows: NDArray[np.int64], target: str, points: int) -> None:
        self._tokenizer, self._world, self._rows, self._target, self._points = tokenizer, world, rows, target, points
        self.points: list[dict[str, float]] = []

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Measure at evenly spaced steps."""
        every = max(1, state.max_steps // self._points)
        if state.global_step % every and state.global_step != state.max_steps:
            return
        model = kwargs["model"]
        measured = score(OptionScorer(model, self._tokenizer), self._world.questions.take(pa.array(self._rows)))
        model.train()
        found = measures(measured, self._world, self._rows, self._target)
        self.points.append({"share": state.global_step / state.max_steps, **as_numbers(found)})


def run_cell(settings: StudySettings, cell: Cell, models: Path) -> dict[str, Any]:
    """Train and measure.

    Args:
        settings: of the study.
        cell: one of its cells.
        models: folder of the small models.

    Returns:
        Numbers, ready for JSON.
    """
    began = time.monotonic()
    world = draw_world(cell.world, cell.seed, settings.answers)
    questions = Questions(settings, world.questions, cell.seed)
    folder = start_folder(settings, models)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    result: dict[str, Any] = {}
    if cell.how.stages:
        pairs = training_pairs(world, cell.how, cell.target, questions.is_train, questions.train, cell.seed)
        curve = Curve(tokenizer, world, questions.curve, cell.target, settings.measuring.curve_points)
        with tempfile.TemporaryDirectory() as scratch:
            trained: Trained = train(
                cell.how,
                pairs,
                model,
                tokenizer,
                settings.budget,
                seed=cell.seed,
                output_dir=scratch,
                callbacks=[curve] if cell.curve else None,
                peft_config=_lora(settings, model.config.num_hidden_layers),
            )
        model = trained.model
        result |= {"computed_tokens": trained.computed_tokens, "effective_share": trained.effective_share}
        if cell.curve:
            result["curve"] = curve.points
    scorer = OptionScorer(model, tokenizer)
    portrait = load_personas(DEFAULT_PERSONA_SET).get(cell.target).portrait if cell.how.with_portrait else None
    for name, rows in (("test", questions.test), ("topic", questions.topic)):
        measured = score(scorer, world.questions.take(pa.array(rows)), portrait)
        result[name] = as_numbers(measures(measured, world, rows, cell.target))
        result[f"{name}_ceiling"] = as_numbers(ceiling(world, rows, cell.target))
    ordinary = taxonomy_questions() if settings.model == "small" else general_questions()
    # Drawn, and not every so many: they come in threes, by the place of the right answer.
    ordinary = random.Random(0).sample(ordinary, min(settings.measuring.ordinary, len(ordinary)))
    result["ordinary_accuracy"] = ordinary_accuracy(scorer, ordinary)
    result["seconds"] = time.monotonic() - began
    return result


def _lora(settings: StudySettings, layers: int) -> LoraConfig | None:
    if settings.lora_rank is None:
        return None
    top = settings.lora_layers or layers
    return LoraConfig(
        r=settings.lora_rank,
        lora_alpha=2 * settings.lora_rank,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        layers_to_transform=list(range(layers - top, layers)),
        layers_pattern="layers",
        task_type="CAUSAL_LM",
    )
