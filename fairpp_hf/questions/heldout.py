"""Divisions that keep whole labels out of training, to test whether a model generalises to what it never saw.

Beside the default split, which tests known labels in unknown combinations, there are three: of the 5 topics one is held
out, of the 5 dimensions one, and of each of the 6 group types one group. Questions with a held-out label are the test
questions, all others are for training. Labels are drawn by a hash of their names, so that they are the same everywhere.
"""

from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fairpp_hf.naming import check_name
from fairpp_hf.questions.taxonomy import load_taxonomy
from fairpp_hf.stable_hash import hash_strings

HELDOUT = ("topics", "groups", "dimensions")
"""What can be held out."""

_COLUMNS = {"topics": "topic", "groups": "group", "dimensions": "dimension"}


@cache
def heldout_labels(kind: str) -> tuple[str, ...] | tuple[int, ...]:
    """The labels that are kept out of training.

    - `topics`: fair treatment; 5,800 of the 28,420 questions are then test questions.
    - `groups`: men, Latino people, jewish people, heterosexual people, teenagers and people with disabilities; 5,880.
    - `dimensions`: 1, libertarianism against egalitarianism; 5,684.

    Args:
        kind: One of `HELDOUT`.

    Returns:
        One topic; one dimension, by its number; or one group of each group type, in published order.

    Raises:
        ValueError: `kind` is none of these.
    """
    check_name("heldout", kind, HELDOUT)
    taxonomy = load_taxonomy()
    if kind == "topics":
        return (_drawn(taxonomy.topics, kind),)
    if kind == "dimensions":
        return (int(_drawn([str(dimension.number) for dimension in taxonomy.dimensions], kind)),)
    groups: dict[str, list[str]] = {}
    for group in taxonomy.groups:
        groups.setdefault(group.group_type, []).append(group.name)
    # Without its only group, a group type would be unknown in training as a whole.
    return tuple(_drawn(names, kind) for names in groups.values() if len(names) > 1)


def _drawn(labels: "tuple[str, ...] | list[str]", kind: str) -> str:
    return labels[int(np.argmin(hash_strings(list(labels), f"heldout/{kind}")))]


def is_held_out(questions: pa.Table, kind: str) -> NDArray[np.bool_]:
    """Which questions have a label that is kept out of training.

    Args:
        questions: N rows with the columns `topic`, `group` and `dimension`.
        kind: One of `HELDOUT`.

    Returns:
        Boolean array of shape (n,), true for test.

    Raises:
        ValueError: `kind` is none of these.
    """
    labels = heldout_labels(kind)
    column = questions[_COLUMNS[kind]]
    return pc.is_in(column, value_set=pa.array(labels, column.type)).to_numpy(zero_copy_only=False)
