"""The stages of a training: settings of the first, where each starts from, and what running one comes to."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

from peft import PeftModel
from transformers import AutoProcessor, Trainer
from trl import ModelConfig
from trl.trainer.utils import create_model_from_path

from fairpp_hf.naming import check_name
from fairpp_hf.training.checkpoints import checkpoint_to_resume, last_checkpoint
from fairpp_hf.training.config import ReweightedDPOConfig, ReweightedSFTConfig

STAGES = {"dpo": ("dpo",), "sft": ("sft",), "sft_then_dpo": ("sft", "dpo")}
"""What each value of `stage` runs, in order."""

RESULTS = "all_results.json"
"""Written last of all, so that it marks a stage as finished."""


@dataclass
class StageArguments:
    """Which stages to train.

    `"sft"` is supervised fine-tuning on the chosen texts. With `"sft_then_dpo"`, the paper's way, its result goes to
    `<output_dir>/sft`, and `"dpo"` starts from it and has it as its reference. The two share all settings that both have;
    settings that only preference optimisation has, such as `beta`, concern it alone.

    Raises:
        ValueError: A value that is not allowed, or a setting of a stage that is not run.
    """

    stage: str = field(
        default="dpo",
        metadata={
            "help": "'dpo', 'sft' (on the chosen texts), or 'sft_then_dpo' (sft's result is dpo's start and reference).",
            "choices": list(STAGES),
        },
    )
    sft_learning_rate: float | None = field(
        default=None, metadata={"help": "Learning rate of the sft stage; learning_rate by default."}
    )
    sft_num_train_epochs: float | None = field(
        default=None, metadata={"help": "Epochs of the sft stage; num_train_epochs and max_steps by default."}
    )

    def __post_init__(self) -> None:
        check_name("stage", self.stage, STAGES)
        for name in ("sft_learning_rate", "sft_num_train_epochs"):
            value = getattr(self, name)
            if value is None:
                continue
            if "sft" not in self.names:
                raise ValueError(
                    f"{name} must be left out with stage='dpo'; got {value}. There is no sft stage. Remove it, or set "
                    "stage: sft_then_dpo."
                )
            if not value > 0:
                raise ValueError(f"{name} must be above 0; got {value}.")

    @property
    def names(self) -> tuple[str, ...]:
        """The stages to run, in order."""
        return STAGES[self.stage]


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


class Start(NamedTuple):
    """Where a stage starts from."""

    finished: bool = False
    """nothing is left to do."""
    checkpoint: str | None = None
    """folder of the checkpoint to go on from; None for the beginning."""


def starts(training: ReweightedDPOConfig, stages: StageArguments) -> dict[str, Start]:
    """Where each stage starts from, by `resume_from_checkpoint`: unset, `true` or `last`, or a checkpoint's folder.

    Raises:
        ValueError: There is no complete checkpoint to go on from.
    """
    # A configuration file gives truth values, a command line their names.
    asked = str(training.resume_from_checkpoint)
    if asked.lower() in ("none", "false"):
        return {name: Start() for name in stages.names}
    last = asked.lower() in ("true", "last")
    main = training.process_index == 0

    def checkpoint(folder: Path) -> Start:
        return Start(checkpoint=checkpoint_to_resume(asked, folder, main_process=main))

    output = Path(str(training.output_dir))
    if len(stages.names) == 1:
        (name,) = stages.names
        return {name: checkpoint(output)}

    folder = sft_folder(training)
    finished = (folder / RESULTS).is_file()
    if last and finished:
        # Between the two stages there is no complete checkpoint: the dpo stage then starts from the result of sft.
        return {"sft": Start(finished=True), "dpo": Start(checkpoint=last_checkpoint(output, said=main))}
    if last or Path(asked).resolve().is_relative_to(folder.resolve()):
        return {"sft": checkpoint(folder), "dpo": Start()}
    if not finished:
        raise ValueError(
            f"resume_from_checkpoint must lie in {str(folder)!r} until the sft stage is finished; got {asked!r}. Set it to "
            "'last', or to a checkpoint there."
        )
    return {"sft": Start(finished=True), "dpo": checkpoint(output)}


def run_stage(trainer: Trainer, start: Start, rows: dict[str, int]) -> dict[str, Any]:
    """Train, evaluate if there is an evaluation set, save, and return the metrics.

    Args:
        trainer: The stage's trainer.
        start: Where the stage starts from.
        rows: Number of training rows, by the name of its metric.
    """
    results = Path(str(trainer.args.output_dir)) / RESULTS
    if trainer.is_world_process_zero():
        # Of an earlier run into the same folder: it would mark this one as finished.
        results.unlink(missing_ok=True)
    outcome = trainer.train(resume_from_checkpoint=start.checkpoint)
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


def finished_metrics(training: ReweightedDPOConfig) -> dict[str, Any]:
    """Metrics of an sft stage that is finished."""
    return json.loads((sft_folder(training) / RESULTS).read_text("utf-8"))


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
