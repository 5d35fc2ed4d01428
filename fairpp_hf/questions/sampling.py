"""Samples of questions that are the same on every machine, and of which a larger one contains the smaller."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fairpp_hf.stable_hash import hash_strings


def sample_questions(questions: pa.Table, count: int, *, for_selection: bool = False) -> NDArray[np.int64]:
    """Choose a fixed random sample of questions, by a hash of their ids.

    Args:
        questions: A table with the column `question_id`, n rows.
        count: Number of questions, at least 1. With n or more, every question is chosen.
        for_selection: Whether to draw from the other end, for choosing a checkpoint or a setting: such a sample shares no
            question with one that the result is then judged on, as long as both together have at most n.

    Returns:
        Row numbers, ascending.

    Raises:
        ValueError: `count` is below 1.
    """
    if count < 1:
        raise ValueError(f"A sample must have at least 1 question; got {count}.")
    ids = questions["question_id"].to_numpy(zero_copy_only=False).astype(np.str_)
    order = np.argsort(hash_strings(ids, "sample"), kind="stable")
    return np.sort(order[-count:] if for_selection else order[:count])
