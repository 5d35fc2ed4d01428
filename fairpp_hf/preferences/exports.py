"""Answers and pairs in the shapes that other tools take: TRL's KTO, reward and SFT trainers, and the paper's wide table.

The functions turn tables into tables, a column at a time. Pairs as they are, `PAIR_FEATURES`, are what TRL's DPOTrainer
takes. `fairpp_hf.hub.export_folder` writes them where `load_dataset` reads them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Features, Value
from numpy.typing import NDArray

from fairpp_hf.naming import check_name
from fairpp_hf.preferences.weights import PreferenceWeights
from fairpp_hf.questions import option_lines
from fairpp_hf.questions.taxonomy import FORMS, load_taxonomy
from fairpp_hf.schema import NO_ANSWER, PAIR_FEATURES
from fairpp_hf.stable_hash import hash_strings

_MESSAGES = PAIR_FEATURES["prompt"]
_OTHERS = {name: PAIR_FEATURES[name] for name in ("weight", "tier", "question_id", "persona")}

KTO_FEATURES = Features({"prompt": _MESSAGES, "completion": _MESSAGES, "label": Value("bool"), **_OTHERS})
"""A row is an option of a question, conversational; `label` is true where the target chose it."""

REWARD_FEATURES = Features(
    {"prompt": _MESSAGES, "chosen": _MESSAGES, "rejected": _MESSAGES, "margin": Value("float64"), **_OTHERS}
)
"""A row is a preference pair; `margin` is in [0, 1]."""

SFT_FEATURES = Features({"prompt": _MESSAGES, "completion": _MESSAGES, **_OTHERS})
"""A row is a question and the target's answer, conversational."""


def kto_rows(pairs: pa.Table) -> pa.Table:
    """Unpaired rows for TRL's KTOTrainer (Ethayarajh et al. 2024, arXiv:2402.01306): each option of a question once.

    The target's option has the label true, the two others false: one desirable row to two undesirable ones. Equation 8
    of the paper then asks for a `desirable_weight` between 2 and 8/3 times the `undesirable_weight` in `KTOConfig`.

    The rows are in a fixed random order. KTOTrainer goes through them in the order in which they stand, and estimates the
    KL term by giving a prompt the completion of the row before it: beside another option of the same question, that
    would hardly be another prompt's completion.

    KTOTrainer takes no notice of the columns after `label`; `weight` is there for other trainers, and to sample by.

    Args:
        pairs: Pairs with the columns of `PAIR_FEATURES`; with `load_dataset`, that is `dataset.with_format("arrow")[:]`.

    Returns:
        The columns of `KTO_FEATURES`; for m questions, 3 m rows.

    Raises:
        ValueError: A column is missing, or a question has two different chosen texts, as with `random_third_pair`.

    Example:
        >>> pairs = load_dataset("fairpp", "pairs", target="loyal_nationals", split="train")
        >>> Dataset(kto_rows(pairs.with_format("arrow")[:])).column_names
        ['prompt', 'completion', 'label', 'weight', 'tier', 'question_id', 'persona']
    """
    first = _first_pairs(pairs)
    row = np.concatenate([first, np.arange(len(pairs))])
    completion = pa.concat_arrays([_whole(pairs["chosen"]).take(pa.array(first)), _whole(pairs["rejected"])])
    order = np.argsort(hash_strings(pa.array(np.arange(len(row))).cast(pa.string()), "kto"), kind="stable")
    columns = {
        **_take(pairs, ["prompt", *_OTHERS], row[order]),
        "completion": completion.take(pa.array(order)),
        "label": pa.array(order < len(first)),
    }
    return pa.table([columns[name] for name in KTO_FEATURES], schema=KTO_FEATURES.arrow_schema)


def reward_rows(pairs: pa.Table, comparison_personas: int) -> pa.Table:
    """Pairs with a margin for TRL's RewardTrainer, whose loss is -log sigmoid(r_chosen - r_rejected - margin):

        margin = (tier - 1) / (K - 1),    K - 1 comparison personas,

    the share of the comparison personas that answer otherwise than the target. Llama 2's reward models have margins that
    grow with how distinct a preference is, the small ones from 0 to 1 (Touvron et al. 2023, arXiv:2307.09288, section
    3.2.2). Theirs come from how much better the annotators found one reply; here, what is distinct is the target from
    the others, and how strongly it prefers its answer is not known.

    RewardTrainer puts the prompt in front of both texts, and takes no notice of the columns after `margin`.

    Args:
        pairs: Pairs with the columns of `PAIR_FEATURES`.
        comparison_personas: Number of personas that the tiers were counted over, K - 1; at least 1.

    Returns:
        The columns of `REWARD_FEATURES`, a row for each pair, in the same order.

    Raises:
        ValueError: A column is missing, `comparison_personas` is below 1, or a tier is not in 1..K.
    """
    _check_columns(pairs)
    tier = pairs["tier"].to_numpy()
    wrong = np.flatnonzero((tier < 1) | (tier > comparison_personas + 1))
    if comparison_personas < 1 or len(wrong):
        got = f"tier {tier[wrong[0]]} at row {wrong[0]}" if len(wrong) else "no such persona"
        raise ValueError(
            f"Tiers must be in 1..{comparison_personas + 1} with {comparison_personas} comparison personas, of which there "
            f"must be one; got {got}. Give the number of personas that the tiers were counted over."
        )
    margin = pa.array((tier - 1) / comparison_personas, pa.float64())
    columns = [margin if name == "margin" else pairs[name] for name in REWARD_FEATURES]
    return pa.table(columns, schema=REWARD_FEATURES.arrow_schema)


def sft_rows(pairs: pa.Table) -> pa.Table:
    """Questions with the target's answer for TRL's SFTTrainer, which then takes the loss on the completion alone.

    SFTTrainer takes no notice of the columns after `completion`; `fairpp_hf.ReweightedSFTTrainer` uses `weight`.

    Args:
        pairs: Pairs with the columns of `PAIR_FEATURES`.

    Returns:
        The columns of `SFT_FEATURES`, a row for each question and persona, in the order of their first pairs.

    Raises:
        ValueError: A column is missing, or a question has two different chosen texts, as with `random_third_pair`.
    """
    columns = _take(pairs, ["prompt", "chosen", *_OTHERS], _first_pairs(pairs))
    columns["completion"] = columns.pop("chosen")
    return pa.table([columns[name] for name in SFT_FEATURES], schema=SFT_FEATURES.arrow_schema)


def wide_rows(
    questions: pa.Table,
    answers: Mapping[str, NDArray[np.integer]],
    model: str,
    *,
    raw_replies: Mapping[str, pa.Array | pa.ChunkedArray] | None = None,
    weights: PreferenceWeights | None = None,
) -> pa.Table:
    """One row a question in the columns of the tables that Zhou et al. 2025 (arXiv:2505.11861) released.

    `Perspective` is the topic's number before the point and the dimension after it. `Option` is the dimension's first
    pole where a criterion is asked for, its second where an explanation is. `Question` is the question and its three
    option lines. `<model>_role_<n>` is the raw reply of the n-th persona, `<model>_role_<n>_answer` its answer: 0, 1 or
    2, and null, never C, where it has none.

    Args:
        questions: n rows with the columns of `QUESTION_FEATURES`.
        answers: Persona id to an integer array (n,), 0..2 or -1; the order numbers the personas from 1.
        model: Name of the model that answered.
        raw_replies: Persona id to the texts of its replies, (n,), null where there is none; for every persona, or None
            for a table without them.
        weights: Tiers and weights for the target. `Tier` counts from 0 here, as in the released tables; it and `weight`
            are null where the target has no valid answer. Without weights, there are no such columns.

    Returns:
        A row for each question, in their order.

    Raises:
        ValueError: A topic that is not in the taxonomy.
    """
    taxonomy = load_taxonomy()
    topic = pc.index_in(questions["topic"], value_set=pa.array(taxonomy.topics))
    if topic.null_count:
        row = int(np.flatnonzero(topic.is_null().to_numpy(zero_copy_only=False))[0])
        check_name(f"topic at row {row}", questions["topic"][row].as_py(), taxonomy.topics)
    columns: dict[str, Any] = {
        "Topic": questions["topic"],
        "Problem Category": questions["category"],
        "Specific Problem": questions["problem"],
        "Group Type": questions["group_type"],
        "Group": questions["group"],
        # Tenths first: the quotient is then the float that is written 3.2, which 3 + 2 * 0.1 is not.
        "Perspective": (10 * (topic.to_numpy() + 1) + questions["dimension"].to_numpy()) / 10,
        "Option": pc.if_else(pc.equal(questions["form"], FORMS[0]), questions["pole_a"], questions["pole_b"]),
        "Question": pc.binary_join_element_wise(questions["question"], *option_lines(questions), "\n"),
    }
    for number, persona in enumerate(answers if raw_replies is not None else (), start=1):
        columns[f"{model}_role_{number}"] = raw_replies[persona]  # type: ignore[index]
    for number, column in enumerate(answers.values(), start=1):
        columns[f"{model}_role_{number}_answer"] = pa.array(column, pa.float64(), mask=column == NO_ANSWER)
    if weights is not None:
        unanswered = weights.tier == 0
        columns["Tier"] = pa.array(weights.tier - 1, pa.int64(), mask=unanswered)
        columns["weight"] = pa.array(weights.weight, pa.float64(), mask=unanswered)
    return pa.table(columns)


def _first_pairs(pairs: pa.Table) -> NDArray[np.int64]:
    """Row of the first pair of each question and persona, ascending, (m,)."""
    _check_columns(pairs)
    encoded = [pairs[name].combine_chunks().dictionary_encode() for name in ("question_id", "persona")]
    question, persona = (column.indices.to_numpy().astype(np.int64) for column in encoded)
    number = question * max(1, len(encoded[1].dictionary)) + persona
    _, first, group = np.unique(number, return_index=True, return_inverse=True)
    chosen = _whole(pairs["chosen"]).flatten().field("content")
    differs = np.flatnonzero(pc.not_equal(chosen, chosen.take(pa.array(first[group]))).to_numpy(zero_copy_only=False))
    if len(differs):
        row = int(differs[0])
        raise ValueError(
            f"The pairs of a question must have the same chosen text; got another at row {row}, for "
            f"{pairs['question_id'][row].as_py()!r}. Third pairs choose what the target did not. Make the pairs with "
            "labels='answers' and random_third_pair=False."
        )
    return np.sort(first)


def _check_columns(pairs: pa.Table) -> None:
    missing = [name for name in PAIR_FEATURES if name not in pairs.column_names]
    if missing:
        raise ValueError(
            f"pairs must have the columns {', '.join(PAIR_FEATURES)}; got none named {', '.join(missing)} among "
            f'{pairs.column_names}. Load them with load_dataset("fairpp", "pairs", target=...).'
        )


def _take(table: pa.Table, names: Sequence[str], rows: NDArray[np.int64]) -> dict[str, pa.Array]:
    return {name: _whole(table[name]).take(pa.array(rows)) for name in names}


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array."""
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


class ExportFormat(NamedTuple):
    """A shape that answers are exported in."""

    rows: str
    """What a row is."""
    use: str
    """What to do with it: which trainer takes it, and with which setting."""
    task: str
    """The Hub's name of what it is for."""
    of_pairs: Callable[[pa.Table, int], pa.Table] | None
    """Makes the rows of a target's pairs and the number of its comparison personas; None: they are made of all answers."""
    soft: bool = False
    """Whether rows can have label probabilities."""


FORMATS = {
    "dpo": ExportFormat(
        "a pair of option texts, chosen and rejected",
        "Train with trl.DPOTrainer, or with fairpp_hf.ReweightedDPOTrainer, which uses the weights.",
        "text-generation",
        lambda pairs, _: pairs,
        soft=True,
    ),
    "kto": ExportFormat(
        "an option text, desirable or not",
        "Train with trl.KTOTrainer and KTOConfig(desirable_weight=2.0): there are two undesirable texts to each desirable "
        "one. It does not use the weights.",
        "text-generation",
        lambda pairs, _: kto_rows(pairs),
    ),
    "reward": ExportFormat(
        "a pair of option texts with a margin",
        "Train with trl.RewardTrainer, which uses the margins, but not the weights.",
        "text-classification",
        reward_rows,
    ),
    "sft": ExportFormat(
        "a question with the target's answer",
        "Train with trl.SFTTrainer, or with fairpp_hf.ReweightedSFTTrainer, which uses the weights. Both learn the answer "
        "alone.",
        "text-generation",
        lambda pairs, _: sft_rows(pairs),
    ),
    "wide": ExportFormat(
        "a question with the answers of all personas, in the columns of the paper's tables",
        "No trainer takes it; tools that read the paper's tables do.",
        "multiple-choice",
        None,
    ),
}
"""The formats of `fairpp export`, by name."""
