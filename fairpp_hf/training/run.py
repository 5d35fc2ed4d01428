"""A training from its configuration: load weighted pairs, train in one stage or two, save, and summarise.

Read downwards: `train` loads pairs (`pairs.load_splits`), runs each stage (`run_stage`), prints a summary, and pushes.
"""

import dataclasses
import gc
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from peft import PeftModel
from transformers import AutoProcessor, Trainer, TrainerCallback
from trl import ModelConfig, get_peft_config, get_quantization_config
from trl.trainer.utils import create_model_from_path

from fairpp_hf.questions.heldout import heldout_labels
from fairpp_hf.text_table import in_columns
from fairpp_hf.training import ReweightedDPOConfig, ReweightedDPOTrainer, ReweightedSFTConfig, ReweightedSFTTrainer
from fairpp_hf.training.arguments import BUILDER, PairArguments, StageArguments, TrainArguments
from fairpp_hf.training.pairs import card_facts, load_splits
from fairpp_hf.training.weighted_trainer import checkpoint_to_resume, last_checkpoint

RESULTS = "all_results.json"
"""Written last of all, so that it marks a stage as finished."""


def train(
    arguments: TrainArguments, callback: Callable[[Trainer], TrainerCallback] | None = None
) -> ReweightedDPOTrainer | ReweightedSFTTrainer:
    """Train as the arguments say, save the model with its card and results, and print a summary.

    Args:
        arguments: Arguments from `parse_arguments`.
        callback: Makes a further callback of each stage's trainer.

    Returns:
        The trainer of the last stage, after training and saving.

    Raises:
        ValueError: Settings do not go together, pairs cannot be had, or there is nothing to resume from.
        RuntimeError: The model was trained and saved, and could not be pushed to the Hub.
    """
    pairs, stages, training, model = arguments
    main_process = training.process_index == 0
    quantization = get_quantization_config(model)
    if quantization is not None and not model.use_peft:
        raise ValueError(
            "use_peft must be true with load_in_4bit or load_in_8bit; got false. Quantised weights cannot be trained, only "
            "an adapter on them. Add use_peft: true."
        )
    if len(stages.names) > 1 and training.deepspeed_plugin is not None:
        raise ValueError(
            f"stage must be one stage under DeepSpeed, which a process starts once; got {stages.stage!r}. Run --stage sft "
            "with an output_dir of its own, then --stage dpo with that folder as model_name_or_path."
        )
    init_kwargs = training.model_init_kwargs = {
        "revision": model.model_revision,
        "attn_implementation": model.attn_implementation,
        "dtype": model.dtype,
        **cast(dict[str, Any], training.model_init_kwargs or {}),
    }
    start = starts(training, stages)
    sft_settings = sft_arguments(training, stages) if "sft" in stages.names else None
    train_pairs, eval_pairs = load_splits(pairs, training)
    facts = card_facts(pairs) if main_process else {}
    results: dict[str, dict[str, Any]] = {}

    def run_stage(stage: str, kind: Any, settings: Any, **given: Any) -> Any:
        trainer = kind(args=settings, **given, train_dataset=train_pairs, eval_dataset=eval_pairs)
        settings.model_init_kwargs = init_kwargs  # where the card finds the revision
        trainer.card_facts = facts
        if callback is not None:
            trainer.add_callback(callback(trainer))
        rows = {"sft": "train_texts", "dpo": "train_pairs"}[stage]
        results[stage] = train_and_save(trainer, start[stage], {rows: len(trainer.train_dataset)})
        return trainer

    trainer: Any = None
    given: dict[str, Any] = {
        "model": model.model_name_or_path,
        "quantization_config": quantization,
        "peft_config": get_peft_config(model),
    }
    if sft_settings is not None:
        if len(stages.names) > 1 and main_process:
            keep_sft_off_the_hub(training)
        if "sft" in start:
            trainer = run_stage("sft", ReweightedSFTTrainer, sft_settings, **given)
        else:
            results["sft"] = json.loads((sft_folder(training) / RESULTS).read_text("utf-8"))
    if "dpo" in stages.names:
        if sft_settings is not None:
            trainer = None
            gc.collect()  # the next model takes the last one's place
            given = start_of_dpo(training, model, quantization)
            facts = {**facts, "base_model": model.model_name_or_path, "after_sft": True}
        trainer = run_stage("dpo", ReweightedDPOTrainer, training, **given)

    if main_process:
        print(_summary(pairs, len(train_pairs), results, str(training.output_dir)))
    if training.push_to_hub:
        _push(trainer)
    return trainer


# -- stages ------------------------------------------------------------------------------------------------------------


def starts(training: ReweightedDPOConfig, stages: StageArguments) -> dict[str, str | None]:
    """The checkpoint that each stage goes on from, by `resume_from_checkpoint`: unset, `true` or `last`, or a folder.

    Returns:
        Folders by stage, None for the beginning. A sft stage that is finished is not among them.

    Raises:
        ValueError: There is no complete checkpoint to go on from.
    """
    # A configuration file gives truth values, a command line their names.
    asked = str(training.resume_from_checkpoint)
    if asked.lower() in ("none", "false"):
        return dict.fromkeys(stages.names)
    last = asked.lower() in ("true", "last")
    main = training.process_index == 0
    output, folder = Path(str(training.output_dir)), sft_folder(training)
    if len(stages.names) == 1:
        return {stages.names[0]: checkpoint_to_resume(asked, output, main_process=main)}
    finished = (folder / RESULTS).is_file()
    if last and finished:
        # Between the two stages there is no complete checkpoint: the dpo stage then starts from the result of sft.
        return {"dpo": last_checkpoint(output, said=main)}
    if last or Path(asked).resolve().is_relative_to(folder.resolve()):
        return {"sft": checkpoint_to_resume(asked, folder, main_process=main), "dpo": None}
    if not finished:
        raise ValueError(
            f"resume_from_checkpoint must lie in {str(folder)!r} until the sft stage is finished; got {asked!r}. Set it to "
            "'last', or to a checkpoint there."
        )
    return {"dpo": checkpoint_to_resume(asked, output, main_process=main)}


def sft_arguments(training: ReweightedDPOConfig, stages: StageArguments) -> ReweightedSFTConfig:
    """The settings of the sft stage: those that both stages have, from preference optimisation's, and its own.

    Before another stage, it is not pushed to the Hub, and its best checkpoint is that of the lowest loss, as it has no
    rewards.

    Raises:
        ValueError: `ReweightedSFTTrainer` does not support a setting.
    """
    names = {item.name for item in dataclasses.fields(ReweightedSFTConfig) if item.init}
    settings = {name: value for name, value in training.to_dict().items() if name in names}
    # `to_dict` hides what may be a secret, by its name; that of padding is none.
    settings |= {name: getattr(training, name) for name in settings if name.endswith("_token")}
    settings["model_init_kwargs"] = training.model_init_kwargs
    del settings["loss_type"]  # of the same name, and nothing else in common
    if stages.sft_learning_rate is not None:
        settings["learning_rate"] = stages.sft_learning_rate
    if stages.sft_num_train_epochs is not None:
        settings |= {"num_train_epochs": stages.sft_num_train_epochs, "max_steps": -1}
    if "dpo" in stages.names:
        settings |= {"output_dir": str(sft_folder(training)), "push_to_hub": False, "hub_model_id": None}
        if settings["metric_for_best_model"] is not None:
            settings |= {"metric_for_best_model": "loss", "greater_is_better": False}
        if settings["run_name"] is not None:
            settings["run_name"] += "-sft"
    return ReweightedSFTConfig(**settings)


def sft_folder(training: ReweightedDPOConfig) -> Path:
    """Where the result of an sft stage goes that another stage follows."""
    return Path(str(training.output_dir)) / "sft"


def keep_sft_off_the_hub(training: ReweightedDPOConfig) -> None:
    """Have pushes of the output folder leave out the sft stage's folder, whose checkpoints include optimizers.

    `Trainer` pushes all folders but its own checkpoints. Hub clients heed the .gitignore of what they upload.
    """
    path, rule = Path(str(training.output_dir)) / ".gitignore", f"/{sft_folder(training).name}/"
    rules = path.read_text("utf-8").splitlines() if path.is_file() else []
    if rule not in rules:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in [*rules, rule]), "utf-8")


def start_of_dpo(training: ReweightedDPOConfig, model: ModelConfig, quantization_config: Any) -> dict[str, Any]:
    """The result of the sft stage, as arguments of `ReweightedDPOTrainer`.

    A model that was trained whole is loaded from the stage's folder, for policy and reference alike. An adapter is
    loaded, trainable, over the base model (quantised, where that is asked for); TRL copies it into a frozen one named
    "ref", which the reference's log-probabilities come from, so that the outcome is one adapter over the base model.
    """
    folder = str(sft_folder(training))
    if not model.use_peft:
        return {"model": folder, "quantization_config": quantization_config}
    settings = {
        **cast(dict[str, Any], training.model_init_kwargs or {}),
        "trust_remote_code": training.trust_remote_code,
    }
    if quantization_config is not None:
        settings["quantization_config"] = quantization_config
    # As TRL loads a model for training on several devices.
    if training.distributed_state.distributed_type in ("MULTI_GPU", "DEEPSPEED"):
        settings["device_map"] = None
    base = create_model_from_path(str(model.model_name_or_path), **settings)
    training.model_init_kwargs = None  # they have been used
    return {
        "model": PeftModel.from_pretrained(base, folder, is_trainable=True),
        "processing_class": AutoProcessor.from_pretrained(folder, trust_remote_code=training.trust_remote_code),
    }


def train_and_save(trainer: Trainer, checkpoint: str | None, rows: dict[str, int]) -> dict[str, Any]:
    """Train, evaluate if there is an evaluation set, save, and return the metrics.

    Args:
        trainer: The stage's trainer.
        checkpoint: Folder of the checkpoint to go on from; None for the beginning.
        rows: Number of training rows, by the name of its metric.
    """
    if trainer.is_world_process_zero():
        # Of an earlier run into the same folder: it would mark this one as finished.
        (Path(str(trainer.args.output_dir)) / RESULTS).unlink(missing_ok=True)
    outcome = trainer.train(resume_from_checkpoint=checkpoint)
    metrics = {**outcome.metrics, **rows}
    if trainer.eval_dataset is not None:
        metrics |= trainer.evaluate()
    # Saved otherwise, it would be pushed, without the results below; and if that failed, they would be lost.
    trainer.save_model(_internal_call=True)
    trainer.create_model_card()
    trainer.save_state()
    trainer.save_metrics("all", metrics)
    # One process saves; the others must not read what follows from the folder before.
    trainer.accelerator.wait_for_everyone()
    return metrics


# -- the end -----------------------------------------------------------------------------------------------------------


_SHOWN_METRICS = {
    "train_loss": "train loss",
    "eval_loss": "eval loss (weighted)",
    "eval_rewards/accuracies": "eval reward accuracy",
    "eval_rewards/weighted_accuracies": "the same, weighted",
    "eval_skill/target": "skill (above 0: nearer than a constant)",
    "eval_question_js_distance/target": "distance to target by question",
    "eval_question_js_distance/constant": "the same of a constant answer",
    "eval_js_distance/target": "distance of shares",
    "eval_js_distance/margin": "margin of shares to nearest other",
    "eval_agreement/target": "agreement with target",
}


def _summary(arguments: PairArguments, train_pairs: int, results: dict[str, dict[str, Any]], output_dir: str) -> str:
    """A short table of how each stage went and where the files are."""
    rows = [("target persona", arguments.target), ("training pairs", f"{train_pairs:,}")]
    if arguments.dataset_name == BUILDER:
        lean = f", divergence {arguments.divergence:g}" if arguments.divergence else ""
        rows += [("labels", arguments.labels + lean)] if "dpo" in results else []
        rows.append(("weighting", arguments.settings().scheme_name))
    else:
        rows.append(("labels, weighting", f"as in {arguments.dataset_name}"))
    if arguments.heldout is not None:
        labels = ", ".join(map(str, heldout_labels(arguments.heldout)))
        rows.append(("held out", f"{arguments.heldout}: {labels}"))
    for stage, metrics in results.items():
        prefix = f"{stage}: " if len(results) > 1 else ""
        if "train_texts" in metrics:
            rows.append((f"{prefix}texts", f"{metrics['train_texts']:,}"))
        rows += [(prefix + label, f"{metrics[name]:.4f}") for name, label in _SHOWN_METRICS.items() if name in metrics]
        rows.append((f"{prefix}time", f"{metrics['train_runtime']:.0f} s"))
    rows += [("model", output_dir), ("metrics", str(Path(output_dir) / RESULTS))]
    return "\n" + in_columns(rows, right=(False, False))


def _push(trainer: ReweightedDPOTrainer | ReweightedSFTTrainer) -> None:
    """Push, and say what to do where that fails: the training that came before is not lost.

    Raises:
        RuntimeError: The push failed.
    """
    folder = trainer.args.output_dir
    try:
        trainer.push_to_hub()
    except Exception as error:
        raise RuntimeError(
            f"The push to {trainer.hub_model_id} must reach the Hub; got {type(error).__name__}: {error}. The model is "
            f'saved in {folder!r}. Push it with: hf upload {trainer.hub_model_id} {folder} . --exclude "checkpoint-*".'
        ) from error
