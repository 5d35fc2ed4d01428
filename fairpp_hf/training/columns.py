"""Columns of a training dataset: weights, soft labels, tiers and groups, checked and normalised before training."""

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset
from numpy.typing import NDArray

WEIGHT = "weight"
LABEL_PROBABILITY = "label_probability"
TIER = "tier"
GROUP_NUMBER = "_group_number"
"""The trainer's own column: an index of `group_column`."""

WEIGHT_NORMALIZATIONS = ("dataset", "batch", "none")
LEAST_WEIGHT, LARGEST_WEIGHT = 1e-30, 1e30
"""Between these, products with losses and sums over a step are ordinary numbers in float32, which both are computed in."""
_ROWS_AT_ONCE = 100_000


def named_datasets(datasets: Any, name: str) -> Iterator[tuple[str, Any]]:
    """A dataset, or each of a mapping, with its name in messages; nothing for None."""
    if isinstance(datasets, dict):
        for key, dataset in datasets.items():
            yield f"{name}[{key!r}]", dataset
    elif datasets is not None:
        yield name, datasets


def column_of(dataset: Dataset, name: str) -> pa.Array:
    """One column of a dataset, contiguous."""
    column = dataset.select_columns(name).with_format("arrow")[:][name]
    return pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column


def column_parts(dataset: Dataset, name: str) -> Iterator[pa.Array]:
    """One column of a dataset in parts of some rows, for columns that are too long to be held whole, such as tokens."""
    for part in dataset.select_columns(name).with_format("arrow").iter(batch_size=_ROWS_AT_ONCE):
        yield cast(Any, part)[name].combine_chunks()


def without_selection(dataset: Dataset) -> Dataset:
    """The same rows, without the list of row numbers that `filter` leaves behind even if it keeps all rows.

    Because of that list, `datasets` would write all rows anew to add a column.
    """
    selection = dataset._indices
    if selection is None or not np.array_equal(selection.column(0).to_numpy(), np.arange(len(dataset.data))):
        return dataset
    return Dataset(dataset.data, info=dataset.info, split=dataset.split, fingerprint=dataset._fingerprint)


def prompt_groups(dataset: Dataset, column: str = "prompt_ids") -> NDArray[np.int64]:
    """Number of each row's prompt, (n,): the different prompts are counted in the order of their first rows."""
    numbers: dict[bytes, int] = {}
    groups: list[int] = []
    for part in column_parts(dataset, column):
        tokens = part.flatten().cast(pa.int64()).to_numpy().tobytes()
        ends = 8 * np.cumsum(part.value_lengths().to_numpy().astype(np.int64))
        for start, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True):
            groups.append(numbers.setdefault(tokens[start:end], len(numbers)))
    return np.array(groups, dtype=np.int64)


# -- weights -----------------------------------------------------------------------------------------------------------


def dataset_problems(dataset: Any, name: str, normalization: str) -> list[str]:
    """Why a dataset, `name` in messages, cannot be trained with, a sentence each; no model need be loaded for it."""
    if not isinstance(dataset, Dataset):
        return [
            f"{name} must be a map-style datasets.Dataset; got {type(dataset).__name__}. Weights are normalised over the "
            "whole dataset. Load it without streaming=True."
        ]
    columns = dataset.column_names
    problems = []
    if images := {"image", "images"} & set(columns):
        problems.append(f"{name} must hold text only; got column {images.pop()!r}. Use TRL's trainer for images.")
    if WEIGHT not in columns:
        return [
            *problems,
            f"{name} must have a {WEIGHT!r} column; got columns {columns}. Add it, for instance from "
            'fairpp_hf.preference_weights, or load pairs that have it: load_dataset("fairpp", "pairs", target=...).',
        ]
    dtype = getattr(dataset.features[WEIGHT], "dtype", "list")
    if not dtype.startswith(("float", "int", "uint")):
        return [*problems, f"{name} must have numbers in its {WEIGHT!r} column; got {dtype}."]
    return problems + _value_problems(weights_of(dataset), name, normalization)


def weights_of(dataset: Dataset) -> NDArray[np.float64]:
    """The weights of a dataset, float64 (n,); missing values become NaN."""
    return column_of(dataset, WEIGHT).cast("float64", safe=False).to_numpy(zero_copy_only=False)


def _value_problems(weights: NDArray[np.float64], name: str, normalization: str) -> list[str]:
    if found := _first(weights, ~(np.isfinite(weights) & (weights >= 0))):
        return [f"{name} must have finite weights of at least 0; {found}. Drop or mend these rows."]
    if not weights.any():
        return [f"{name} must have a weight above 0; got 0 in all {len(weights)} rows, from which nothing is learnt."]
    used = weights if normalization == "none" else _to_mean_1(weights)
    if found := _first(weights, ((used < LEAST_WEIGHT) | (used > LARGEST_WEIGHT)) & (weights > 0)):
        unit = "" if normalization == "none" else " times their mean"
        return [
            f"{name} must have weights that are 0, or between {LEAST_WEIGHT:g} and {LARGEST_WEIGHT:g}{unit}; {found}. In "
            "float32, which losses are computed in, others are 0 or infinite. Set such weights to 0, or scale the weights."
        ]
    return []


def _first(values: NDArray[np.float64], wrong: NDArray[np.bool_]) -> str:
    """The first of the wrong values, its row and their number, for a message; empty if there is none."""
    rows = np.flatnonzero(wrong)
    return f"got {values[rows[0]]} at row {rows[0]} ({len(rows)} such of {len(values)} rows)" if len(rows) else ""


def exponent_of(weights: NDArray[np.float64]) -> int:
    """The power of two to divide weights by, so that the largest is in [1/2, 1) and no sum of them overflows."""
    return int(np.frexp(weights.max())[1])


def _to_mean_1(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    scaled = np.ldexp(weights, -exponent_of(weights))  # exact
    return scaled / scaled.mean()


def normalize_weights(dataset: Dataset, name: str, normalization: str) -> Dataset:
    """Divide the weights by their mean, in float64, so that they average 1, unless `normalization` is `"none"`.

    Equal weights become exactly 1. If the objective divides by their sum over a step, only their range changes.

    Raises:
        ValueError: The weights cannot be trained with.
    """
    weights = weights_of(dataset)
    # Again: rows may have been dropped since the first check.
    if problems := _value_problems(weights, name, normalization):
        raise ValueError(problems[0])
    if normalization == "none":
        return dataset
    return dataset.remove_columns(WEIGHT).add_column(WEIGHT, _to_mean_1(weights))


# -- labels, tiers and groups ------------------------------------------------------------------------------------------


def label_problems(dataset: Dataset, name: str) -> list[str]:
    """Why a dataset's soft labels cannot be trained with: no column `label_probability`, or a value outside [0, 1]."""
    columns = dataset.column_names
    if LABEL_PROBABILITY not in columns:
        return [
            f"{name} must have a {LABEL_PROBABILITY!r} column with soft_labels=True; got columns {columns}. Load the pairs "
            "with labels='fitted' or 'respondent', or leave soft_labels out."
        ]
    values = column_of(dataset, LABEL_PROBABILITY).cast("float64").to_numpy(zero_copy_only=False)
    found = _first(values, ~((values >= 0) & (values <= 1)))
    return [f"{name} must have label probabilities between 0 and 1; {found}. Drop or mend these rows."] if found else []


def has_tiers(dataset: Dataset) -> bool:
    """Whether the column `tier` holds a whole number for every row; any other column of that name is not ours."""
    dtype = str(getattr(dataset.features.get(TIER), "dtype", ""))
    return dtype.startswith(("int", "uint")) and column_of(dataset, TIER).null_count == 0


def number_groups(dataset: Dataset, group_column: str, names: list[str], name: str) -> Dataset:
    """Add the column `GROUP_NUMBER`, an index into `names`; new groups are appended to `names`.

    Raises:
        ValueError: A row has no group.
    """
    labels = pc.dictionary_encode(column_of(dataset, group_column).cast(pa.string()))
    if labels.null_count:
        row = int(np.flatnonzero(labels.is_null().to_numpy(zero_copy_only=False))[0])
        raise ValueError(
            f"{name} must have a group in every row of {group_column!r}; got none at row {row} ({labels.null_count} such of "
            f"{len(labels)} rows). Drop or mend these rows."
        )
    known = {label: number for number, label in enumerate(names)}
    numbers = np.array([known.setdefault(label, len(known)) for label in labels.dictionary.to_pylist()], dtype=np.int64)
    names[:] = known
    return dataset.add_column(GROUP_NUMBER, numbers[labels.indices.to_numpy()])


# -- pairs as demonstrations -------------------------------------------------------------------------------------------


def chosen_texts(pairs: Dataset) -> Dataset:
    """The demonstrations in preference pairs: rows of `prompt` and `completion`, each distinct (prompt, chosen) once.

    The pairs of a question have the same chosen text, which need not be learnt twice. A row has its pairs' weight, or the
    mean of their weights if these differ, and the columns of its first pair but `rejected`. Rows are in the order in which
    they first appear.

    With soft labels, a column `label_probability`, a text that a pair of the same prompt rejects is no demonstration: the
    likelier of the two options that the target did not choose is chosen in one pair, and rejected in another.

    The chosen text of a random third pair is not the target's answer either. It is a row like any other, because the option
    asks for noise: half of the texts are then noise, and a third of the pairs.

    Args:
        pairs: Columns `prompt`, `chosen` and `weight`, and with soft labels `rejected`; texts or chat messages.
    """
    texts = _with_prompt(pairs, "chosen")
    if LABEL_PROBABILITY in pairs.column_names:
        rejected = set(_with_prompt(pairs, "rejected"))
        rows = [row for row, text in enumerate(texts) if text not in rejected]
        pairs, texts = pairs.select(rows).remove_columns(LABEL_PROBABILITY), [texts[row] for row in rows]
    numbers: dict[str, int] = {}
    number = np.array([numbers.setdefault(text, len(numbers)) for text in texts])
    weight = weights_of(pairs)
    exponent = exponent_of(weight)  # taken out, so that sums are finite
    mean = np.ldexp((np.bincount(number, np.ldexp(weight, -exponent)) / np.bincount(number))[number], exponent)
    if (mean != weight).any():
        pairs = pairs.remove_columns(WEIGHT).add_column(WEIGHT, mean)
    # `select` comes last: adding a column to selected rows would write all of them anew.
    _, first = np.unique(number, return_index=True)
    return (
        pairs.select(first)
        .rename_column("chosen", "completion")
        .remove_columns([name for name in pairs.column_names if name == "rejected"])
    )


def _with_prompt(pairs: Dataset, column: str) -> list[str]:
    """Prompt and a completion of each pair as one text, (n,); different rows give different texts."""
    return [repr(row) for row in zip(pairs["prompt"][:], pairs[column][:], strict=True)]
