"""Columns of a preference dataset besides its texts and weights: soft labels, tiers and groups."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset
from numpy.typing import NDArray

LABEL_PROBABILITY = "label_probability"
TIER = "tier"
GROUP_NUMBER = "group_number"


def column_of(dataset: Dataset, name: str) -> pa.Array:
    """One column of a dataset, contiguous."""
    column = dataset.select_columns(name).with_format("arrow")[:][name]
    return pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column


def without_selection(dataset: Dataset) -> Dataset:
    """The same rows, without the list of row numbers that `filter` leaves behind even where it keeps all rows.

    On account of that list, `datasets` would write all rows anew to add a column.
    """
    selection = dataset._indices
    if selection is None or not np.array_equal(selection.column(0).to_numpy(), np.arange(len(dataset.data))):
        return dataset
    return Dataset(dataset.data, info=dataset.info, split=dataset.split, fingerprint=dataset._fingerprint)


def check_label_probabilities(dataset: Any, name: str) -> None:
    """Refuse a dataset whose soft labels cannot be trained with.

    Raises:
        ValueError: no column `label_probability`, or a value that is missing or outside [0, 1].
    """
    columns = dataset.column_names
    if columns is not None and LABEL_PROBABILITY not in columns:
        raise ValueError(
            f"{name} must have a {LABEL_PROBABILITY!r} column with soft_labels=True; got columns {columns}. Load the pairs "
            "with soft_labels=True, or leave soft_labels out."
        )
    if not isinstance(dataset, Dataset):
        return
    values = column_of(dataset, LABEL_PROBABILITY).cast("float64").to_numpy(zero_copy_only=False)
    wrong = np.flatnonzero(~((values >= 0) & (values <= 1)))
    if len(wrong):
        raise ValueError(
            f"{name} must have label probabilities between 0 and 1; got {values[wrong[0]]} at row {wrong[0]} ({len(wrong)} "
            f"such of {len(values)} rows). Drop or mend these rows."
        )


def has_tiers(dataset: Any) -> bool:
    """Whether the column `tier` holds a whole number for every row; any other column of that name is not ours."""
    feature = (getattr(dataset, "features", None) or {}).get(TIER)
    if not str(getattr(feature, "dtype", "")).startswith(("int", "uint")):
        return False
    return not isinstance(dataset, Dataset) or column_of(dataset, TIER).null_count == 0


def number_groups(dataset: Dataset, group_column: str, names: list[str], name: str) -> Dataset:
    """Add the column `group_number`, an index into `names`, which new groups are appended to.

    Raises:
        ValueError: a row without a group.
    """
    labels = pc.dictionary_encode(column_of(dataset, group_column).cast(pa.string()))
    if labels.null_count:
        row = int(np.flatnonzero(labels.is_null().to_numpy(zero_copy_only=False))[0])
        raise ValueError(
            f"{name} must have a group in every row of {group_column!r}; got none at row {row} ({labels.null_count} such of "
            f"{len(labels)} rows). Drop or mend these rows."
        )
    for label in labels.dictionary.to_pylist():
        if label not in names:
            names.append(label)
    numbers = np.array([names.index(label) for label in labels.dictionary.to_pylist()], dtype=np.int64)
    return dataset.add_column(GROUP_NUMBER, numbers[labels.indices.to_numpy()])


def group_numbers(dataset: Dataset) -> NDArray[np.int64]:
    """The column that `number_groups` added, (n,)."""
    return column_of(dataset, GROUP_NUMBER).to_numpy()
