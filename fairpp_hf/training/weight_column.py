"""The `weight` column of a preference dataset: checked and normalised once, before training."""

import logging
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np
import torch
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict
from numpy.typing import NDArray
from torch import Tensor

TextDataset: TypeAlias = Dataset | IterableDataset
TextDatasets: TypeAlias = TextDataset | DatasetDict | IterableDatasetDict | dict[str, TextDataset]

logger = logging.getLogger(__name__)

WEIGHT_COLUMN = "weight"
WEIGHT_NORMALIZATIONS = ("dataset", "batch", "none")
LEAST_WEIGHT, LARGEST_WEIGHT = 1e-30, 1e30
"""Between these, products with losses and sums over a step are ordinary numbers in float32, which both are computed in."""
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


def choose_normalization(asked: str | None, datasets: Iterable[tuple[str, TextDataset]]) -> str:
    """What weights are divided by where nobody chose it: `"dataset"`; or `"batch"`, said in one line, with a stream.

    Args:
        asked: one of `WEIGHT_NORMALIZATIONS`, or None.
        datasets: all of the trainer, by the name that messages call them by.
    """
    if asked is not None:
        return asked
    streams = [name for name, dataset in datasets if isinstance(dataset, IterableDataset)]
    if not streams:
        return "dataset"
    logger.warning(
        "weight_normalization is 'batch': weights are divided by their sum over a step, since their mean over a streaming "
        "%s is not known beforehand.",
        streams[0],
    )
    return "batch"


def weight_problems(dataset: TextDataset, name: str, normalization: str) -> list[str]:
    """Why a dataset's weights cannot be trained with, a sentence each; nothing is loaded for it.

    Args:
        dataset: a streaming one is only checked for the column.
        name: how messages call it, such as `"train_dataset"`.
        normalization: one of `WEIGHT_NORMALIZATIONS`.
    """
    columns = dataset.column_names
    # A stream from a generator may not know its columns before its first row; the collator meets them then.
    if columns is not None and WEIGHT_COLUMN not in columns:
        return [f"{name} must have a {WEIGHT_COLUMN!r} column; got columns {columns}. {_MAKE_WEIGHTS}"]
    if not isinstance(dataset, Dataset):
        return []
    dtype = getattr(dataset.features[WEIGHT_COLUMN], "dtype", "list")
    if not dtype.startswith(("float", "int", "uint")):
        return [f"{name} must have numbers in its {WEIGHT_COLUMN!r} column; got {dtype}."]
    return _value_problems(weights_of(dataset), name, normalization)


def weights_of(dataset: Dataset) -> NDArray[np.float64]:
    """The weights of a dataset, float64 (n,); missing values become NaN."""
    column = dataset.select_columns(WEIGHT_COLUMN).with_format("arrow")[:][WEIGHT_COLUMN]
    return column.cast("float64", safe=False).to_numpy()


def _value_problems(weights: NDArray[np.float64], name: str, normalization: str) -> list[str]:
    wrong = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(wrong):
        return [
            f"{name} must have finite weights of at least 0; got {weights[wrong[0]]} at row {wrong[0]} "
            f"({len(wrong)} such of {len(weights)} rows). Drop or mend these rows."
        ]
    if not weights.any():
        return [f"{name} must have a weight above 0; got 0 in all {len(weights)} rows, from which nothing is learnt."]
    relative = normalization != "none"
    used = _to_mean_1(weights) if relative else weights
    wrong = np.flatnonzero(((used < LEAST_WEIGHT) | (used > LARGEST_WEIGHT)) & (weights > 0))
    if not len(wrong):
        return []
    unit = " times their mean" if relative else ""
    fix = "Set such weights to 0." if relative else "Set weight_normalization='dataset', or scale the weights yourself."
    return [
        f"{name} must have weights that are 0, or between {LEAST_WEIGHT:g} and {LARGEST_WEIGHT:g}{unit}; got "
        f"{weights[wrong[0]]} at row {wrong[0]} ({len(wrong)} such of {len(weights)} rows). In float32, which losses are "
        f"computed in, others cannot be told apart from 0 or from infinity. {fix}"
    ]


def exponent_of(weights: NDArray[np.float64]) -> int:
    """The power of two by which to divide weights so that the largest is in [1/2, 1): no sum of them overflows then."""
    return int(np.frexp(weights.max())[1])


def _to_mean_1(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    scaled = np.ldexp(
        weights, -exponent_of(weights)
    )  # exact, and neither its sum nor its mean is infinite or subnormal
    return scaled / scaled.mean()


def normalize_weights(dataset: Dataset, name: str, normalization: str) -> Dataset:
    """Divide the weights by their mean, in float64, so that they average 1; equal weights become exactly 1.

    Where the objective divides by their sum over a step, this changes nothing but the range that they are in.

    Args:
        dataset: with weights of any scale.
        name: how messages call it.
        normalization: as they are with `"none"`.

    Raises:
        ValueError: weights that cannot be trained with.
    """
    weights = weights_of(dataset)
    # Again: rows may have been dropped since the first check.
    if problems := _value_problems(weights, name, normalization):
        raise ValueError(problems[0])
    if normalization == "none":
        return dataset
    return dataset.remove_columns(WEIGHT_COLUMN).add_column(WEIGHT_COLUMN, _to_mean_1(weights))


def batch_of_weights(examples: list[dict[str, Any]]) -> Tensor:
    """The weights of a batch, float32 (B,).

    Raises:
        ValueError: one is out of range. Map-style datasets are checked whole before training; a stream can only be checked
            as it passes.
    """
    weights = np.array([example[WEIGHT_COLUMN] for example in examples], dtype=np.float64)
    if not ((weights == 0) | ((weights >= LEAST_WEIGHT) & (weights <= LARGEST_WEIGHT))).all():
        raise ValueError(
            f"weight must be 0, or between {LEAST_WEIGHT:g} and {LARGEST_WEIGHT:g}; got {weights.tolist()} in one batch. "
            "Others are no numbers, or cannot be told apart from 0 or from infinity in float32."
        )
    return torch.tensor(weights, dtype=torch.float32)
