"""The pairs of a training: loaded, drawn, and what the model's card says of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict, load_dataset, load_dataset_builder

from fairpp_hf.dataset.sources import resolve_answers
from fairpp_hf.naming import check_name
from fairpp_hf.provenance import FOLDER_MANIFEST, read_provenance
from fairpp_hf.questions import load_questions
from fairpp_hf.training.arguments import BUILDER, PairArguments
from fairpp_hf.training.columns import LABEL_PROBABILITY, column_of
from fairpp_hf.training.config import ReweightedDPOConfig

GROUP_COLUMNS = ("topic", "category", "problem", "group_type", "group", "dimension", "form")
"""Columns of the questions that pairs can be grouped by."""


def load_splits(arguments: PairArguments, training: ReweightedDPOConfig) -> tuple[Dataset, Dataset | None]:
    """The training pairs, and the test pairs if there is evaluation; sets `training.soft_labels` as the labels say.

    Raises:
        ValueError: The pairs cannot be had, lack a split, or contradict `soft_labels`.
    """
    if arguments.dataset_name == BUILDER:
        soft = arguments.settings().soft
        if training.soft_labels not in (None, soft):
            raise ValueError(
                f"soft_labels must be {soft} with labels={arguments.labels!r}; got {training.soft_labels}. Remove it; "
                "labels decide."
            )
        training.soft_labels = soft
    # One process builds the dataset; the others then read it from the cache.
    with training.main_process_first(desc="loading pairs"):
        pairs = load_training_pairs(arguments)
    if training.soft_labels is None:  # pairs that are not built here have the column, or do not
        training.soft_labels = all(LABEL_PROBABILITY in rows.column_names for rows in pairs.values())
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
        drawn[split] = draw_pairs(dataset, count, training.seed if training.data_seed is None else training.data_seed)
    return drawn["train"], drawn.get("test")


def load_training_pairs(arguments: PairArguments) -> DatasetDict:
    """The weighted pairs that the arguments ask for, by split.

    Raises:
        ValueError: A persona, a scheme or a source of answers is not known.
    """
    if arguments.dataset_name != BUILDER:
        config = f"pairs-{arguments.target}"
        if not Path(arguments.dataset_name).is_dir():
            return load_dataset(arguments.dataset_name, config)
        # By its name, a folder is found in the cache as it was when it was first loaded, or as another of the same name
        # was: datasets 5.2 looks at the folder's last name and its card alone. By its files, it is found as it is.
        builder = load_dataset_builder(arguments.dataset_name, config)
        files = {split: list(paths) for split, paths in builder.config.data_files.items()}
        return load_dataset(builder.name, data_files=files)
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


def with_group_column(pairs: Dataset, name: str) -> Dataset:
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


def draw_pairs(pairs: Dataset, count: int | None, seed: int) -> Dataset:
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
    facts: dict[str, Any] = {"target": arguments.target, "dataset_name": arguments.dataset_name}
    if arguments.dataset_name != BUILDER:
        # A folder says so in its manifest; a dataset of the Hub, if at all, in the info of what was loaded.
        licence = read_provenance(Path(arguments.dataset_name) / FOLDER_MANIFEST).licence
    else:
        source, settings = resolve_answers(arguments.answers, arguments.published_revision), arguments.settings()
        provenance = source.load(arguments.personas).provenance
        licence = provenance.licence
        facts |= {
            "persona_set": source.persona_set(arguments.personas),
            "answers": arguments.answers,
            "simulated": provenance.simulated,
            "weighting": settings.scheme_name,
            **{name: getattr(settings, name) for name in ("alpha", "beta", "labels", "divergence")},
            "comparison": arguments.comparison,
        }
    return facts if licence is None else {**facts, "licence": licence}
