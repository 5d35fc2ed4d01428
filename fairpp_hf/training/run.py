"""What `train.py` does: read a configuration, load weighted pairs, train, save, and say what came of it."""

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow.compute as pc

from fairpp_hf.dataset.sources import resolve_answers
from fairpp_hf.naming import check_name
from fairpp_hf.preferences import LABELS, PairSettings
from fairpp_hf.provenance import FOLDER_MANIFEST, read_provenance
from fairpp_hf.questions import load_questions
from fairpp_hf.questions.heldout import HELDOUT, heldout_labels
from fairpp_hf.questions.option_order import OPTION_ORDERS
from fairpp_hf.training.pair_columns import LABEL_PROBABILITY, column_of
from fairpp_hf.training.stages import (
    RESULTS,
    STAGES,
    StageArguments,
    finished_metrics,
    keep_sft_off_the_hub,
    run_stage,
    sft_arguments,
    start_of_dpo,
    starts,
)

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict
    from transformers import Trainer, TrainerCallback, TrainingArguments
    from trl import TrlParser

    from fairpp_hf.training.config import ReweightedDPOConfig
    from fairpp_hf.training.sft import ReweightedSFTTrainer
    from fairpp_hf.training.trainer import ReweightedDPOTrainer


BUILDER = "fairpp"
GROUP_COLUMNS = ("topic", "category", "problem", "group_type", "group", "dimension", "form")
"""Columns of the questions that pairs can be grouped by."""
_BUILDER_ARGUMENTS = (
    "answers",
    "published_revision",
    "personas",
    "heldout",
    "labels",
    "divergence",
    "comparison",
    "weighting",
    "weight_alpha",
    "weight_beta",
    "random_third_pair",
    "option_order",
    "alignment_questions",
)


@dataclass
class PairArguments:
    """Which pairs to train on.

    Args:
        target (`str`): persona to align with.
        dataset_name (`str`): `"fairpp"` builds the pairs; anything else is a Hub dataset or a local dataset folder whose
            config `pairs-<target>` holds them.
        answers (`str`): whose answers: `"survey"`, `"published"`, or the path of a run, of a dataset folder or of a
            published table. With "fairpp" only, as are the next eleven and the last.
        published_revision (`str`, *optional*): branch, tag or commit of the published tables, with `answers="published"`;
            `main` by default.
        personas (`str`, *optional*): name or file of the persona set; by default `britains_choice_2020` for "survey", and
            otherwise all that answered.
        heldout (`str`, *optional*): what to keep out of training and evaluate on, see `heldout_labels`: `"topics"`,
            `"groups"` or `"dimensions"`. By default the questions are divided as they always are, all labels on both
            sides.
        labels (`str`): where a pair's label comes from, see `PairSettings`: `"fitted"`, a label model of the target's
            answers; `"respondent"`, the respondent's own option probabilities; `"answers"`, the one answer of each question,
            which is the paper's way. All but the last give soft labels and three pairs a question.
        divergence (`float`): how far soft labels lean away from the comparison personas; 0 is the target itself.
        comparison (`list[str]`, *optional*): personas to move away from; all others by default, `"nearest"` for the one
            that agrees with the target most often.
        weighting (`str`, *optional*): weighting scheme, see `preference_weights`; `"uniform"`, which weighs all alike, by
            default, and `"tier"` with `labels="answers"`.
        weight_alpha (`float`): exponent of a tier's number.
        weight_beta (`float`): exponent of a tier's size.
        random_third_pair (`bool`): adds the authors' third pair, which is noise by construction, with `labels="answers"`.
        option_order (`str`): `"mixed"` shows the options of the two poles in each other's place in a random half of the
            questions, so that the model cannot learn the letter in place of the stance; `"written"` never does.
        max_train_pairs (`int`, *optional*): use at most that many training pairs, those of as many whole questions, drawn
            with `data_seed` or `seed`.
        max_eval_pairs (`int`, *optional*): evaluate on at most that many test pairs, drawn likewise.
        alignment_questions (`int`): at each evaluation, also score a fixed sample of that many test questions and log the
            model's distances to all personas, see `PersonaAlignmentCallback`; 0 for none.
    """

    target: str = field(metadata={"help": "Persona to align with, such as loyal_nationals."})
    dataset_name: str = field(
        default="fairpp",
        metadata={"help": "'fairpp', or a Hub dataset or local folder with a config pairs-<target>."},
    )
    answers: str = field(
        default="survey",
        metadata={"help": "'survey', 'published', or the path of a run, dataset folder or published table."},
    )
    published_revision: str | None = field(
        default=None, metadata={"help": "Branch, tag or commit of the published tables; main by default."}
    )
    personas: str | None = field(
        default=None,
        metadata={"help": "Name or file of the persona set; by default britains_choice_2020 for 'survey', else all."},
    )
    heldout: str | None = field(
        default=None,
        metadata={
            "help": "Keep one topic, one group of each type or one dimension out of training, and evaluate on it.",
            "choices": list(HELDOUT),
        },
    )
    labels: str = field(
        default="fitted",
        metadata={
            "help": "Where a pair's label comes from: 'fitted' (a label model of the answers), 'respondent' (its option "
            "probabilities), or 'answers' (the one answer of each question, as in the paper).",
            "choices": list(LABELS),
        },
    )
    divergence: float = field(
        default=0.0, metadata={"help": "How far soft labels lean away from the comparison personas; 0 is the target."}
    )
    comparison: list[str] | None = field(
        default=None, metadata={"help": "Personas to move away from, or 'nearest'; all others by default."}
    )
    weighting: str | None = field(
        default=None,
        metadata={"help": "Weighting scheme: by default 'uniform' (all alike), or 'tier' with labels 'answers'."},
    )
    weight_alpha: float = field(default=1.0, metadata={"help": "Exponent of a tier's number."})
    weight_beta: float = field(default=1.0, metadata={"help": "Exponent of a tier's size."})
    random_third_pair: bool = field(
        default=False, metadata={"help": "Add the authors' third pair, which is noise by construction."}
    )
    option_order: str = field(
        default="mixed",
        metadata={
            "help": "'mixed' shows the poles' options in each other's place in half of the questions; 'written' never.",
            "choices": list(OPTION_ORDERS),
        },
    )
    max_train_pairs: int | None = field(
        default=None, metadata={"help": "Most training pairs to draw, of whole questions."}
    )
    max_eval_pairs: int | None = field(default=None, metadata={"help": "Most test pairs to draw, of whole questions."})
    alignment_questions: int = field(
        default=0,
        metadata={"help": "Number of test questions to score against all personas at each evaluation; 0 for none."},
    )

    def __post_init__(self) -> None:
        # A configuration file gives one name as a text, a command line as a list of one.
        given = [self.comparison] if isinstance(self.comparison, str) else self.comparison
        self.comparison = cast(Any, "nearest") if given == ["nearest"] else given
        if self.dataset_name != BUILDER:
            defaults = {item.name: item.default for item in fields(self)}
            given = [name for name in _BUILDER_ARGUMENTS if getattr(self, name) != defaults[name]]
            if given:
                raise ValueError(
                    f"{', '.join(given)} must be left out with dataset_name={self.dataset_name!r}; its pairs are as they "
                    f"are. Remove them, or use dataset_name: {BUILDER}."
                )
        if self.heldout is not None:
            check_name("heldout", self.heldout, HELDOUT)
        self.settings()  # for its checks
        for name in ("max_train_pairs", "max_eval_pairs"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1; got {value}. Leave it out to use all pairs.")
        if self.alignment_questions < 0:
            raise ValueError(f"alignment_questions must be at least 0; got {self.alignment_questions}. 0 scores none.")

    def settings(self) -> PairSettings:
        """How the pairs are made.

        Raises:
            ValueError: settings that do not go together.
        """
        return PairSettings(
            weighting=self.weighting,
            alpha=self.weight_alpha,
            beta=self.weight_beta,
            comparison=self.comparison,
            random_third_pair=self.random_third_pair,
            option_order=cast(Any, self.option_order),
            labels=cast(Any, self.labels),
            divergence=self.divergence,
        )


def load_pairs(arguments: PairArguments) -> "DatasetDict":
    """The weighted pairs that the arguments ask for, by split.

    Raises:
        ValueError: an unknown persona, scheme or source of answers.
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
        ValueError: no such column, or a question that is not ours.
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
        ValueError: the first question that is drawn has more than `count` pairs.
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


def argument_parser() -> "TrlParser":
    """What reads a configuration file and a command line: the fields of `PairArguments`, `StageArguments`,
    `ReweightedDPOConfig` and TRL's `ModelConfig`.

    Two defaults differ from the trainer's own: there is no reference model, so that training ends where the labels are, and
    `soft_labels` follows from the labels.
    """
    from trl import ModelConfig, TrlParser

    from fairpp_hf.training.config import ReweightedDPOConfig

    parser = TrlParser(cast(Any, (PairArguments, StageArguments, ReweightedDPOConfig, ModelConfig)), prog="train.py")
    parser.set_defaults(reference="none", soft_labels=None)
    return parser


def main(
    argv: Sequence[str] | None = None,
    *,
    alignment: "Callable[[PairArguments, TrainingArguments], Callable[[Trainer], TrainerCallback] | None] | None" = None,
) -> "ReweightedDPOTrainer | ReweightedSFTTrainer":
    """Train as the command line and its `--config` file say.

    Args:
        argv: arguments without the program's name; `sys.argv` by default.
        alignment: from what was asked for, makes what makes each stage's callback for `alignment_questions`, or None; it
            may refuse before a model is loaded. `alignment_for_training` is one.

    Returns:
        The trainer of the last stage, after training and saving.

    Raises:
        ValueError: settings that do not go together, pairs that cannot be had, or nothing to go on from.
        RuntimeError: the model was trained and saved, and could not be pushed to the Hub.
    """
    from trl import get_peft_config, get_quantization_config

    from fairpp_hf.training import ReweightedDPOTrainer, ReweightedSFTTrainer

    pair_arguments, stages, training_arguments, model_arguments = argument_parser().parse_args_and_config(argv)
    if model_arguments.model_name_or_path is None:
        raise ValueError("model_name_or_path must be given; got none. Add it to the configuration file.")
    if pair_arguments.alignment_questions and alignment is None:
        raise ValueError(
            f"alignment_questions must be 0 for main() without `alignment`; got {pair_arguments.alignment_questions}. "
            "Nothing would be scored. Pass alignment=alignment_for_training, as train.py does."
        )
    quantization_config = get_quantization_config(model_arguments)
    if quantization_config is not None and not model_arguments.use_peft:
        raise ValueError(
            "use_peft must be true with load_in_4bit or load_in_8bit; got false. Quantised weights cannot be trained, only "
            "an adapter on them. Add use_peft: true."
        )
    init_kwargs = training_arguments.model_init_kwargs = {
        "revision": model_arguments.model_revision,
        "attn_implementation": model_arguments.attn_implementation,
        "dtype": model_arguments.dtype,
        **(training_arguments.model_init_kwargs or {}),
    }
    if len(STAGES[stages.stage]) > 1 and training_arguments.deepspeed_plugin is not None:
        raise ValueError(
            f"stage must be one stage under DeepSpeed, which a process starts once; got {stages.stage!r}. Run --stage sft "
            "with an output_dir of its own, then --stage dpo with that folder as model_name_or_path."
        )
    if pair_arguments.dataset_name == BUILDER:
        training_arguments.soft_labels = _soft_labels(pair_arguments.settings(), training_arguments.soft_labels)
    # Before anything is loaded: they may refuse.
    plan = starts(training_arguments, stages)
    sft_settings = sft_arguments(training_arguments, stages) if "sft" in plan else None

    train_pairs, eval_pairs = _load_splits(pair_arguments, training_arguments)
    data = {"train_dataset": train_pairs, "eval_dataset": eval_pairs}
    alignment_callback = None if alignment is None else alignment(pair_arguments, training_arguments)
    model = {
        "model": model_arguments.model_name_or_path,
        "quantization_config": quantization_config,
        "peft_config": get_peft_config(model_arguments),
    }
    facts = card_facts(pair_arguments) if training_arguments.process_index == 0 else {}
    trainer: Any = None
    results: dict[str, dict[str, Any]] = {}
    if sft_settings is not None:
        if len(plan) > 1 and training_arguments.process_index == 0:
            keep_sft_off_the_hub(training_arguments)
        if plan["sft"].finished:
            results["sft"] = finished_metrics(training_arguments)
        else:
            trainer = ReweightedSFTTrainer(args=sft_settings, **model, **data)
            trainer.card_facts = facts
            if alignment_callback is not None:
                trainer.add_callback(alignment_callback(trainer))
            results["sft"] = run_stage(trainer, plan["sft"], {"train_texts": len(trainer.train_dataset)})
    if "dpo" in plan:
        if sft_settings is not None:
            trainer = None
            gc.collect()  # the next model takes the last one's place
            model = start_of_dpo(training_arguments, model_arguments, quantization_config)
            facts = {**facts, "base_model": model_arguments.model_name_or_path, "after_sft": True}
        trainer = ReweightedDPOTrainer(args=training_arguments, **model, **data)
        training_arguments.model_init_kwargs = init_kwargs  # where the card finds the revision
        trainer.card_facts = facts
        if alignment_callback is not None:
            trainer.add_callback(alignment_callback(trainer))
        results["dpo"] = run_stage(trainer, plan["dpo"], {"train_pairs": len(trainer.train_dataset)})

    if trainer.is_world_process_zero():
        print(_summary(pair_arguments, len(train_pairs), results, training_arguments.output_dir))
    if training_arguments.push_to_hub:
        _push(trainer)
    return trainer


def _push(trainer: "ReweightedDPOTrainer | ReweightedSFTTrainer") -> None:
    """Push, and say what to do where that fails: the training that came before is not lost.

    Raises:
        RuntimeError: the push failed.
    """
    folder = trainer.args.output_dir
    try:
        trainer.push_to_hub()
    except Exception as error:
        raise RuntimeError(
            f"The push to {trainer.hub_model_id} must reach the Hub; got {type(error).__name__}: {error}. The model is "
            f'saved in {folder!r}. Push it with: hf upload {trainer.hub_model_id} {folder} . --exclude "checkpoint-*".'
        ) from error


def card_facts(arguments: PairArguments) -> dict[str, Any]:
    """What the model's card says of the pairs, and no trainer knows: `card_facts` of `WeightedModelCard`."""
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


def _soft_labels(settings: PairSettings, asked: bool | None) -> bool:
    """Whether to train with soft labels, which the labels of the pairs decide.

    Raises:
        ValueError: what was asked for is something else.
    """
    if asked not in (None, settings.soft):
        raise ValueError(
            f"soft_labels must be {settings.soft} with labels={settings.labels!r}; got {asked}. Remove it; labels decide."
        )
    return settings.soft


def _load_splits(arguments: PairArguments, training: "ReweightedDPOConfig") -> tuple["Dataset", "Dataset | None"]:
    """The training pairs, and the test pairs where there is evaluation."""
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
