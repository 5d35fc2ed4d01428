"""The `weight` column of a preference dataset: checked and normalised once, before training."""

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict
from numpy.typing import NDArray

TextDataset: TypeAlias = Dataset | IterableDataset
TextDatasets: TypeAlias = TextDataset | DatasetDict | IterableDatasetDict | dict[str, TextDataset]

WEIGHT_COLUMN = "weight"
_MAKE_WEIGHTS = (
    "Add it, for instance from fairpp_hf.preference_weights, or load pairs that have it: "
    'load_dataset("fairpp", "pairs", target=...).'
)


def named_datasets(datasets: TextDatasets | None, name: str) -> Iterator[tuple[str, TextDataset]]:
    """A dataset, or each of a mapping, with the name that messages call it by."""
    if isinstance(datasets, dict):
        for key, dataset in datasets.items():
            yield f"{name}[{key!r}]", dataset
    elif datasets is not None:
        yield name, datasets


def check_weight_columns(datasets: TextDatasets | None, name: str) -> None:
    """Refuse a dataset whose weights cannot be trained with, before any model is loaded.

    Args:
        datasets: a dataset, or a mapping of datasets; a streaming dataset is only checked for the column.
        name: how messages call it, such as `"train_dataset"`.

    Raises:
        ValueError: the column is missing, not numeric, or has a missing, non-finite or negative value, or only zeros.
    """
    for of_one, dataset in named_datasets(datasets, name):
        columns = dataset.column_names
        # A stream from a generator may not know its columns before its first row; the collator meets them then.
        if columns is not None and WEIGHT_COLUMN not in columns:
            raise ValueError(f"{of_one} must have a {WEIGHT_COLUMN!r} column; got columns {columns}. {_MAKE_WEIGHTS}")
        if isinstance(dataset, Dataset):
            _check_values(weights_of(dataset, of_one), of_one)


def weights_of(dataset: Dataset, name: str) -> NDArray[np.float64]:
    """The weights of a dataset, float64 (n,); missing values become NaN.

    Raises:
        ValueError: the column does not hold numbers.
    """
    dtype = getattr(dataset.features[WEIGHT_COLUMN], "dtype", "list")
    if not dtype.startswith(("float", "int", "uint")):
        raise ValueError(f"{name} must have numbers in its {WEIGHT_COLUMN!r} column; got {dtype}.")
    column = dataset.select_columns(WEIGHT_COLUMN).with_format("arrow")[:][WEIGHT_COLUMN]
    return column.cast("float64").to_numpy()


def _check_values(weights: NDArray[np.float64], name: str) -> None:
    wrong = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(wrong):
        raise ValueError(
            f"{name} must have finite weights of at least 0; got {weights[wrong[0]]} at row {wrong[0]} "
            f"({len(wrong)} such of {len(weights)} rows). Drop or mend these rows."
        )
    if not weights.any():
        raise ValueError(
            f"{name} must have a weight above 0; got 0 in all {len(weights)} rows, from which nothing is learnt."
        )


def normalize_weights(dataset: Dataset, name: str) -> Dataset:
    """Divide the weights by their mean, so that they average 1; equal weights become exactly 1."""
    weights = weights_of(dataset, name)
    _check_values(weights, name)  # again: rows may have been dropped since the first check
    return dataset.remove_columns(WEIGHT_COLUMN).add_column(WEIGHT_COLUMN, weights / weights.mean())
