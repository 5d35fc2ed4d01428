"""Columns of a preference dataset besides its texts and weights: soft labels, tiers and groups."""

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset
from numpy.typing import NDArray

LABEL_PROBABILITY = "label_probability"
TIER = "tier"
GROUP_NUMBER = "_group_number"
"""The trainer's own column: an index of `group_column`."""

_ROWS_AT_ONCE = 100_000


def column_of(dataset: Dataset, name: str) -> pa.Array:
    """One column of a dataset, contiguous."""
    column = dataset.select_columns(name).with_format("arrow")[:][name]
    return pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column


def column_parts(dataset: Dataset, name: str) -> Iterator[pa.ChunkedArray]:
    """One column of a dataset in parts of some rows, for what is too long to be held whole, such as tokens."""
    for part in dataset.select_columns(name).with_format("arrow").iter(batch_size=_ROWS_AT_ONCE):
        yield cast(Any, part)[name]


def without_selection(dataset: Dataset) -> Dataset:
    """The same rows, without the list of row numbers that `filter` leaves behind even where it keeps all rows.

    On account of that list, `datasets` would write all rows anew to add a column.
    """
    selection = dataset._indices
    if selection is None or not np.array_equal(selection.column(0).to_numpy(), np.arange(len(dataset.data))):
        return dataset
    return Dataset(dataset.data, info=dataset.info, split=dataset.split, fingerprint=dataset._fingerprint)


def label_problems(dataset: Any, name: str) -> list[str]:
    """Why a dataset's soft labels cannot be trained with: no column `label_probability`, or a value outside [0, 1]."""
    columns = dataset.column_names
    if columns is not None and LABEL_PROBABILITY not in columns:
        return [
            f"{name} must have a {LABEL_PROBABILITY!r} column with soft_labels=True; got columns {columns}. Load the pairs "
            "with labels='fitted' or 'respondent', or leave soft_labels out."
        ]
    if not isinstance(dataset, Dataset):
        return []
    values = column_of(dataset, LABEL_PROBABILITY).cast("float64").to_numpy(zero_copy_only=False)
    wrong = np.flatnonzero(~((values >= 0) & (values <= 1)))
    if not len(wrong):
        return []
    return [
        f"{name} must have label probabilities between 0 and 1; got {values[wrong[0]]} at row {wrong[0]} ({len(wrong)} "
        f"such of {len(values)} rows). Drop or mend these rows."
    ]


def has_tiers(dataset: Any) -> bool:
    """Whether the column `tier` holds a whole number for every row; any other column of that name is not ours."""
    feature = (getattr(dataset, "features", None) or {}).get(TIER)
    if not str(getattr(feature, "dtype", "")).startswith(("int", "uint")):
        return False
    return not isinstance(dataset, Dataset) or column_of(dataset, TIER).null_count == 0


def number_groups(dataset: Dataset, group_column: str, names: list[str], name: str) -> Dataset:
    """Add the column `GROUP_NUMBER`, an index into `names`, which new groups are appended to.

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
    known = {label: number for number, label in enumerate(names)}
    numbers = np.array([known.setdefault(label, len(known)) for label in labels.dictionary.to_pylist()], dtype=np.int64)
    names[:] = known
    return dataset.add_column(GROUP_NUMBER, numbers[labels.indices.to_numpy()])


def group_numbers(dataset: Dataset) -> NDArray[np.int64]:
    """The column that `number_groups` added, (n,)."""
    return column_of(dataset, GROUP_NUMBER).to_numpy()
