"""Divides the questions into train and test, the same on every machine, in the published sizes.

The two forms of a (problem, group, dimension), a unit, stay on the same side. Test units are drawn within each stratum
of topic, dimension and group type, in the order of a hash of their names.
"""

from functools import cache
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fairpp_hf.naming import check_name
from fairpp_hf.questions.rendering import render_questions
from fairpp_hf.questions.taxonomy import FORMS
from fairpp_hf.stable_hash import hash_strings

TEST_QUESTIONS = 5_669
"""Size of the published test split; the other 22,751 questions are for training."""

SPLITS = ("train", "test")


def allot_units(units: NDArray[np.str_], strata: NDArray[np.str_], test_questions: int) -> NDArray[np.int64]:
    """Allot units of two questions each to the test split, stratum by stratum, by largest remainder.

    A stratum of s units is due s * test_questions / (2 n) test units. It gets the whole part; the units left over go,
    one each, to the strata with the largest fractions (ties in hash order). If `test_questions` is odd, the stratum
    that is next gives half a unit.

    Args:
        units: Names of the units, shape (n,), all different.
        strata: Name of each unit's stratum, shape (n,).
        test_questions: Questions to allot, 0..2n.

    Returns:
        Questions of each unit in the test split, int64 of shape (n,): 0 or 2, and 1 for one unit if the number is odd.
    """
    names, stratum, sizes = np.unique(strata, return_inverse=True, return_counts=True)
    # Whole numbers throughout, so that equal fractions compare as equal.
    whole, remainder = np.divmod(sizes * test_questions, 2 * len(units))
    by_remainder = np.lexsort((hash_strings(names, "split"), -remainder))
    left_over = test_questions - 2 * int(whole.sum())
    due = 2 * whole
    due[by_remainder[: left_over // 2]] += 2
    if left_over % 2:
        due[by_remainder[left_over // 2]] += 1

    order = np.lexsort((hash_strings(units, "split"), stratum))
    rank = np.empty(len(units), dtype=np.int64)
    rank[order] = np.arange(len(units)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.clip(due[stratum] - 2 * rank, 0, 2)


@cache
def _test_ids_and_divided_unit() -> tuple[pa.Array, str]:
    questions = render_questions()
    # The two forms of a unit are neighbours in the table.
    firsts = questions.filter(pc.equal(questions["form"], FORMS[0]))
    suffix = f".{FORMS[0]}"
    units = pc.utf8_slice_codeunits(firsts["question_id"], 0, -len(suffix))
    strata = pc.binary_join_element_wise(firsts["topic"], firsts["dimension"].cast("string"), firsts["group_type"], "|")
    unit_names = units.to_numpy().astype(np.str_)
    in_test = allot_units(unit_names, strata.to_numpy().astype(np.str_), TEST_QUESTIONS)
    # A divided unit gives its first form to the test split and keeps the second for training.
    is_test = (in_test[:, None] > np.arange(len(FORMS))).ravel()
    (divided,) = np.flatnonzero(in_test == 1)
    return questions["question_id"].combine_chunks().filter(pa.array(is_test)), str(unit_names[divided])


def divided_unit() -> str:
    """The one (problem, group, dimension) whose forms are apart, as a `question_id` without its form.

    28,420 questions are 14,210 units, and 5,669 is odd: one unit has its `criterion` question in the test split and its
    `explanation` question in the training split. Which one follows from the hash order, as for every other unit.
    """
    return _test_ids_and_divided_unit()[1]


def split_of(questions: pa.Table) -> NDArray[np.bool_]:
    """Which questions are in the test split.

    A question's side depends on its `question_id` alone, not on the other rows of the table.

    Args:
        questions: A table with the column `question_id`, n rows in any order.

    Returns:
        Boolean array of shape (n,), true for test.

    Raises:
        ValueError: A `question_id` is not one of the 28,420.
    """
    ids = questions["question_id"]
    unknown = np.flatnonzero(~pc.is_in(ids, value_set=render_questions()["question_id"]).to_numpy(zero_copy_only=False))
    if len(unknown):
        raise ValueError(
            f"A question_id must be one of the 28,420 of load_questions(); got {ids[unknown[0]].as_py()!r} "
            f"at row {unknown[0]}. Only these belong to a split."
        )
    return pc.is_in(ids, value_set=_test_ids_and_divided_unit()[0]).to_numpy(zero_copy_only=False)


@cache
def load_questions(split: Literal["train", "test"] | None = None) -> pa.Table:
    """The questions, in taxonomy order of problem, group, dimension and form.

    Args:
        split: `"train"` (22,751 questions), `"test"` (5,669), or None for all 28,420.

    Returns:
        A table with the columns and types of `QUESTION_FEATURES`, their metadata attached.

    Raises:
        ValueError: `split` is none of these.
    """
    questions = render_questions()
    if split is None:
        return questions
    check_name("split", split, SPLITS)
    is_test = split_of(questions)
    return questions.filter(pa.array(is_test if split == "test" else ~is_test))
