"""A training from its configuration: load weighted pairs, train, save, and summarise.

Read downwards: `train` loads pairs (`load_splits`) and runs one or two stages (`stages.run_stage`).
"""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow.compute as pc

from fairpp_hf.dataset.sources import resolve_answers
from fairpp_hf.naming import check_name
from fairpp_hf.preferences import PairSettings
from fairpp_hf.provenance import FOLDER_MANIFEST, read_provenance
from fairpp_hf.questions import load_questions
from fairpp_hf.questions.heldout import heldout_labels
from fairpp_hf.training.arguments import BUILDER, PairArguments, TrainArguments
from fairpp_hf.training.columns import LABEL_PROBABILITY, column_of
from fairpp_hf.training.stages import (
    RESULTS,
    STAGES,
    finished_metrics,
    keep_sft_off_the_hub,
    run_stage,
    sft_arguments,
    start_of_dpo,
    starts,
)

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict
    from transformers import Trainer, TrainerCallback

    from fairpp_hf.training.config import ReweightedDPOConfig
    from fairpp_hf.training.dpo_trainer import ReweightedDPOTrainer
    from fairpp_hf.training.sft_trainer import ReweightedSFTTrainer

GROUP_COLUMNS = ("topic", "category", "problem", "group_type", "group", "dimension", "form")
"""Columns of the questions that pairs can be grouped by."""
# -- training ----------------------------------------------------------------------------------------------------------


def train(
    arguments: TrainArguments, callback: "Callable[[Trainer], TrainerCallback] | None" = None
) -> "ReweightedDPOTrainer | ReweightedSFTTrainer":
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
    from trl import get_peft_config, get_quantization_config

    from fairpp_hf.training import ReweightedDPOTrainer, ReweightedSFTTrainer

    pairs, stages, training, model = arguments
    main_process = training.process_index == 0
    quantization = get_quantization_config(model)
    if quantization is not None and not model.use_peft:
        raise ValueError(
            "use_peft must be true with load_in_4bit or load_in_8bit; got false. Quantised weights cannot be trained, only "
            "an adapter on them. Add use_peft: true."
        )
    if len(STAGES[stages.stage]) > 1 and training.deepspeed_plugin is not None:
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
    plan = starts(training, stages)
    sft_settings = sft_arguments(training, stages) if "sft" in plan else None
    train_pairs, eval_pairs = load_splits(pairs, training)

    given: dict[str, Any] = {
        "model": model.model_name_or_path,
        "quantization_config": quantization,
        "peft_config": get_peft_config(model),
    }
    facts = card_facts(pairs) if main_process else {}
    results: dict[str, dict[str, Any]] = {}
    trainer: Any = None

    def run(kind: Any, settings: Any, stage: str, rows: str) -> Any:
        trainer = kind(args=settings, **given, train_dataset=train_pairs, eval_dataset=eval_pairs)
        settings.model_init_kwargs = init_kwargs  # where the card finds the revision
        trainer.card_facts = facts
        if callback is not None:
            trainer.add_callback(callback(trainer))
        results[stage] = run_stage(trainer, plan[stage], {rows: len(trainer.train_dataset)})
        return trainer

    if sft_settings is not None:
        if len(plan) > 1 and main_process:
            keep_sft_off_the_hub(training)
        if plan["sft"].finished:
            results["sft"] = finished_metrics(training)
        else:
            trainer = run(ReweightedSFTTrainer, sft_settings, "sft", "train_texts")
    if "dpo" in plan:
        if sft_settings is not None:
            trainer = None
            gc.collect()  # the next model takes the last one's place
            given = start_of_dpo(training, model, quantization)
            facts = {**facts, "base_model": model.model_name_or_path, "after_sft": True}
        trainer = run(ReweightedDPOTrainer, training, "dpo", "train_pairs")

    if main_process:
        print(_summary(pairs, len(train_pairs), results, training.output_dir))
    if training.push_to_hub:
        _push(trainer)
    return trainer


def _push(trainer: "ReweightedDPOTrainer | ReweightedSFTTrainer") -> None:
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


# -- pairs -------------------------------------------------------------------------------------------------------------


def load_splits(arguments: PairArguments, training: "ReweightedDPOConfig") -> tuple["Dataset", "Dataset | None"]:
    """The training pairs, and the test pairs if there is evaluation; sets `training.soft_labels` as the labels say.

    Raises:
        ValueError: The pairs cannot be had, lack a split, or contradict `soft_labels`.
    """
    if arguments.dataset_name == BUILDER:
        training.soft_labels = _soft_labels(arguments.settings(), training.soft_labels)
    # One process builds the dataset; the others then read it from the cache.
    with training.main_process_first(desc="loading pairs"):
        pairs = load_pairs(arguments)
    if training.soft_labels is None:  # pairs that are not built here have the column, or do not
        training.soft_labels = all(LABEL_PROBABILITY in rows.column_names for rows in pairs.values())
    seed = training.data_seed if training.data_seed is not None else training.seed
    wanted = {"train": arguments.max_train_pairs}
    if training.eval_strategy != "no":
        wanted["test"] = arguments.max_eval_pairs
    drawn = {}
    for split, count in wanted.items():
        if split not in pairs:
            raise ValueError(
                f"The pairs must have a {split} split; got {', '.join(pairs)}. Answer questions of that split first"
                + (", or set eval_strategy: 'no'." if split == "test" else ".")
            )
        dataset = pairs[split]
        if training.group_column is not None:
            dataset = with_group_column(dataset, training.group_column)
        drawn[split] = draw_pairs(dataset, count, seed)
    return drawn["train"], drawn.get("test")


def _soft_labels(settings: PairSettings, asked: bool | None) -> bool:
    """Whether to train with soft labels, which the labels of the pairs decide.

    Raises:
        ValueError: Something else was asked for.
    """
    if asked not in (None, settings.soft):
        raise ValueError(
            f"soft_labels must be {settings.soft} with labels={settings.labels!r}; got {asked}. Remove it; labels decide."
        )
    return settings.soft


def load_pairs(arguments: PairArguments) -> "DatasetDict":
    """The weighted pairs that the arguments ask for, by split.

    Raises:
        ValueError: A persona, a scheme or a source of answers is not known.
    """
    from datasets import load_dataset, load_dataset_builder

    if arguments.dataset_name != BUILDER:
        config = f"pairs-{arguments.target}"
        if not Path(arguments.dataset_name).is_dir():
            return load_dataset(arguments.dataset_name, config)
        # By its name, a folder is found in the cache as it was when it was first loaded, or as another of the same name
        # was: datasets 5.2 looks at the folder's last name and its card alone. By its files, it is found as it is.
        builder = load_dataset_builder(arguments.dataset_name, config)
        return load_dataset(
            builder.name, data_files={split: list(files) for split, files in builder.config.data_files.items()}
        )
    return load_dataset(
        BUILDER,
        "pairs",
        target=arguments.target,
        answers=arguments.answers,
        published_revision=arguments.published_revision,
        personas=arguments.personas,
        heldout=arguments.heldout,
        **vars(arguments.settings()),
    )


def with_group_column(pairs: "Dataset", name: str) -> "Dataset":
    """Pairs with the column `name`, looked up by `question_id` among the questions' unless it is there.

    Raises:
        ValueError: There is no such column, or a question is not in the question set.
    """
    if name in pairs.column_names:
        return pairs
    own = [column for column in pairs.column_names if column not in ("prompt", "chosen", "rejected", "weight")]
    check_name("group_column", name, [*own, *(GROUP_COLUMNS if "question_id" in own else ())])
    questions = load_questions()
    asked = column_of(pairs, "question_id")
    row = pc.index_in(asked, value_set=questions["question_id"].combine_chunks())
    if row.null_count:
        first = int(np.flatnonzero(row.is_null().to_numpy(zero_copy_only=False))[0])
        raise ValueError(
            f"question_id must be that of one of the {len(questions):,} questions to look up group_column={name!r}; got "
            f"{asked[first].as_py()!r} at row {first} ({row.null_count} such of {len(row)} rows). Add the column "
            f"{name!r} to the pairs."
        )
    return pairs.add_column(name, questions[name].take(row).combine_chunks())


def draw_pairs(pairs: "Dataset", count: int | None, seed: int) -> "Dataset":
    """All pairs; or at most `count` of them, of questions in random order, the pairs of each one after the other.

    The pairs of a question stay together: the trainer computes a prompt once for those that are in one batch, and soft
    labels determine a distribution over its options only together. Pairs without `question_id` are drawn one by one.

    Raises:
        ValueError: The first question that is drawn has more than `count` pairs.
    """
    if count is None or count >= len(pairs):
        return pairs
    if "question_id" not in pairs.column_names:
        return pairs.shuffle(seed=seed).select(range(count))
    # Counting a missing id as a question of its own keeps such pairs in the draw.
    question = column_of(pairs, "question_id").dictionary_encode(null_encoding="encode")
    place = np.random.default_rng(seed).permutation(len(question.dictionary))[question.indices.to_numpy()]
    upto = np.cumsum(np.bincount(place))
    whole = upto[upto <= count]
    if not len(whole):
        raise ValueError(
            f"The number of pairs to draw must be at least that of one question; got {count} for {upto[0]}. Raise "
            "max_train_pairs or max_eval_pairs."
        )
    return pairs.select(np.argsort(place, kind="stable")[: whole[-1]])


def card_facts(arguments: PairArguments) -> dict[str, Any]:
    """What the model's card says of the pairs, and no trainer knows: `card_facts` of `WeightedTrainer`."""
    facts = {"target": arguments.target, "dataset_name": arguments.dataset_name}
    if arguments.dataset_name != BUILDER:
        # A folder says so in its manifest; a dataset of the Hub, if at all, in the info of what was loaded.
        licence = read_provenance(Path(arguments.dataset_name) / FOLDER_MANIFEST).licence
        return facts if licence is None else {**facts, "licence": licence}
    source = resolve_answers(arguments.answers, arguments.published_revision)
    answers = source.load(arguments.personas)
    licence = answers.provenance.licence
    return {
        **facts,
        **({} if licence is None else {"licence": licence}),
        "persona_set": source.persona_set(arguments.personas),
        "answers": arguments.answers,
        "simulated": answers.provenance.simulated,
        "comparison": arguments.comparison,
        "weighting": arguments.settings().scheme_name,
        "alpha": arguments.weight_alpha,
        "beta": arguments.weight_beta,
        "labels": arguments.labels,
        "divergence": arguments.divergence,
    }


def _summary(
    arguments: PairArguments, train_pairs: int, results: dict[str, dict[str, Any]], output_dir: str | None
) -> str:
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
        rows += [
            (prefix + label, f"{metrics[name]:.4f}")
            for name, label in (
                ("train_loss", "train loss"),
                ("eval_loss", "eval loss (weighted)"),
                ("eval_rewards/accuracies", "eval reward accuracy"),
                ("eval_rewards/weighted_accuracies", "the same, weighted"),
                ("eval_skill/target", "skill (above 0: nearer than a constant)"),
                ("eval_question_js_distance/target", "distance to target by question"),
                ("eval_question_js_distance/constant", "the same of a constant answer"),
                ("eval_js_distance/target", "distance of shares"),
                ("eval_js_distance/margin", "margin of shares to nearest other"),
                ("eval_agreement/target", "agreement with target"),
            )
            if name in metrics
        ]
        rows.append((f"{prefix}time", f"{metrics['train_runtime']:.0f} s"))
    rows += [("model", str(output_dir)), ("metrics", str(Path(output_dir or ".") / RESULTS))]
    width = max(len(label) for label, _ in rows)
    return "\n" + "\n".join(f"{label:<{width}}  {value}" for label, value in rows)
