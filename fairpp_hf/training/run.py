"""What `train.py` does: read a configuration, load weighted pairs, train, save, and say what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import DatasetDict

    from fairpp_hf.training.trainer import ReweightedDPOTrainer


BUILDER = "fairpp"
_BUILDER_ARGUMENTS = (
    "answers",
    "personas",
    "comparison",
    "weighting",
    "weight_alpha",
    "weight_beta",
    "random_third_pair",
)


@dataclass
class PairArguments:
    """Which pairs to train on.

    Args:
        target (`str`): persona to align with.
        dataset_name (`str`): `"fairpp"` builds the pairs; anything else is a Hub dataset or a local dataset folder whose
            config `pairs-<target>` holds them.
        answers (`str`): whose answers: `"survey"`, or the path of a run or of a dataset folder. With "fairpp" only, as
            are the next six.
        personas (`str`, *optional*): name or file of the persona set; by default `britains_choice_2020` for "survey", and
            otherwise all that answered.
        comparison (`list[str]`, *optional*): personas to move away from; all others by default.
        weighting (`str`): weighting scheme; `"uniform"` makes this plain DPO.
        weight_alpha (`float`): exponent of a tier's number.
        weight_beta (`float`): exponent of a tier's size.
        random_third_pair (`bool`): adds the authors' third pair, which is noise by construction.
        max_train_pairs (`int`, *optional*): use that many training pairs, drawn with `data_seed` or `seed`.
        max_eval_pairs (`int`, *optional*): evaluate on that many test pairs, drawn likewise.
    """

    target: str = field(metadata={"help": "Persona to align with, such as loyal_nationals."})
    dataset_name: str = field(
        default="fairpp",
        metadata={"help": "'fairpp', or a Hub dataset or local folder with a config pairs-<target>."},
    )
    answers: str = field(default="survey", metadata={"help": "'survey', or the path of a run or of a dataset folder."})
    personas: str | None = field(
        default=None,
        metadata={"help": "Name or file of the persona set; by default britains_choice_2020 for 'survey', else all."},
    )
    comparison: list[str] | None = field(
        default=None, metadata={"help": "Personas to move away from; all others by default."}
    )
    weighting: str = field(default="tier", metadata={"help": "Weighting scheme; 'uniform' makes this plain DPO."})
    weight_alpha: float = field(default=1.0, metadata={"help": "Exponent of a tier's number."})
    weight_beta: float = field(default=1.0, metadata={"help": "Exponent of a tier's size."})
    random_third_pair: bool = field(
        default=False, metadata={"help": "Add the authors' third pair, which is noise by construction."}
    )
    max_train_pairs: int | None = field(default=None, metadata={"help": "Number of training pairs to draw."})
    max_eval_pairs: int | None = field(default=None, metadata={"help": "Number of test pairs to draw."})

    def __post_init__(self) -> None:
        if self.dataset_name != BUILDER:
            defaults = {item.name: item.default for item in fields(self)}
            given = [name for name in _BUILDER_ARGUMENTS if getattr(self, name) != defaults[name]]
            if given:
                raise ValueError(
                    f"{', '.join(given)} must be left out with dataset_name={self.dataset_name!r}; its pairs are as they "
                    f"are. Remove them, or use dataset_name: {BUILDER}."
                )
        for name in ("max_train_pairs", "max_eval_pairs"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1; got {value}. Leave it out to use all pairs.")


def load_pairs(arguments: PairArguments) -> "DatasetDict":
    """The weighted pairs that the arguments ask for, by split.

    Raises:
        ValueError: an unknown persona, scheme or source of answers.
    """
    from datasets import load_dataset

    if arguments.dataset_name != BUILDER:
        return load_dataset(arguments.dataset_name, f"pairs-{arguments.target}")
    return load_dataset(
        BUILDER,
        "pairs",
        target=arguments.target,
        answers=arguments.answers,
        personas=arguments.personas,
        comparison=arguments.comparison,
        weighting=arguments.weighting,
        alpha=arguments.weight_alpha,
        beta=arguments.weight_beta,
        random_third_pair=arguments.random_third_pair,
    )


def main(argv: Sequence[str] | None = None) -> "ReweightedDPOTrainer":
    """Train as the command line and its `--config` file say.

    Args:
        argv: arguments without the program's name; `sys.argv` by default.

    Returns:
        The trainer, after training and saving.
    """
    from transformers.trainer_utils import get_last_checkpoint
    from trl import ModelConfig, TrlParser, get_peft_config, get_quantization_config

    from fairpp_hf.training import ReweightedDPOConfig, ReweightedDPOTrainer

    argument_types: Any = (PairArguments, ReweightedDPOConfig, ModelConfig)
    parser = TrlParser(argument_types, prog="train.py")
    pair_arguments, training_arguments, model_arguments = parser.parse_args_and_config(argv)
    training_arguments.model_init_kwargs = {
        "revision": model_arguments.model_revision,
        "attn_implementation": model_arguments.attn_implementation,
        "dtype": model_arguments.dtype,
        **(training_arguments.model_init_kwargs or {}),
    }
    checkpoint: str | None = training_arguments.resume_from_checkpoint
    if checkpoint is not None and checkpoint.lower() in ("true", "last"):
        output_dir = Path(training_arguments.output_dir)
        checkpoint = get_last_checkpoint(str(output_dir)) if output_dir.is_dir() else None
        if checkpoint is None:
            raise ValueError(
                f"resume_from_checkpoint must find a checkpoint; got none in {training_arguments.output_dir!r}. "
                "Leave it out to start from the beginning."
            )

    # One process builds the dataset; the others then read it from the cache.
    with training_arguments.main_process_first(desc="loading pairs"):
        pairs = load_pairs(pair_arguments)
    seed = training_arguments.data_seed if training_arguments.data_seed is not None else training_arguments.seed
    train_pairs = _draw(pairs, "train", pair_arguments.max_train_pairs, seed)
    eval_pairs = None
    if training_arguments.eval_strategy != "no":
        eval_pairs = _draw(pairs, "test", pair_arguments.max_eval_pairs, seed)

    trainer = ReweightedDPOTrainer(
        model=model_arguments.model_name_or_path,
        args=training_arguments,
        train_dataset=train_pairs,
        eval_dataset=eval_pairs,
        quantization_config=get_quantization_config(model_arguments),
        peft_config=get_peft_config(model_arguments),
    )
    result = trainer.train(resume_from_checkpoint=checkpoint)
    metrics = {**result.metrics, "train_pairs": len(train_pairs)}
    if eval_pairs is not None:
        metrics |= trainer.evaluate()
    trainer.save_model()
    trainer.save_state()
    trainer.save_metrics("all", metrics)
    if training_arguments.push_to_hub:
        # The card links the dataset, and only one on the Hub has a page to link.
        on_hub = "/" in pair_arguments.dataset_name and not Path(pair_arguments.dataset_name).exists()
        trainer.push_to_hub(**({"dataset_name": pair_arguments.dataset_name} if on_hub else {}))
    if trainer.is_world_process_zero():
        print(_summary(pair_arguments, metrics, training_arguments.output_dir))
    return trainer


def _draw(pairs: "DatasetDict", split: str, count: int | None, seed: int) -> Any:
    """All pairs of a split, or `count` of them in random order."""
    if split not in pairs:
        raise ValueError(
            f"The pairs must have a {split} split; got {', '.join(pairs)}. Answer questions of that split first"
            + (", or set eval_strategy: 'no'." if split == "test" else ".")
        )
    if count is None or count >= len(pairs[split]):
        return pairs[split]
    return pairs[split].shuffle(seed=seed).select(range(count))


def _summary(arguments: PairArguments, metrics: dict[str, Any], output_dir: str | None) -> str:
    """A short table of how training went and where the files are."""
    rows = [
        ("target persona", arguments.target),
        ("training pairs", f"{metrics['train_pairs']:,}"),
        ("weighting", arguments.weighting if arguments.dataset_name == BUILDER else f"as in {arguments.dataset_name}"),
        ("train loss", f"{metrics['train_loss']:.4f}"),
    ]
    rows += [
        (label, f"{metrics[name]:.4f}")
        for name, label in (
            ("eval_loss", "eval loss (weighted)"),
            ("eval_rewards/accuracies", "eval reward accuracy"),
            ("eval_rewards/weighted_accuracies", "the same, weighted"),
        )
        if name in metrics
    ]
    rows += [
        ("time", f"{metrics['train_runtime']:.0f} s"),
        ("model", str(output_dir)),
        ("metrics", str(Path(output_dir or ".") / "all_results.json")),
    ]
    width = max(len(label) for label, _ in rows)
    return "\n" + "\n".join(f"{label:<{width}}  {value}" for label, value in rows)
