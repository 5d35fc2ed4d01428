"""Sizes, strata and stability of the train/test split."""

import hashlib

import numpy as np
import pyarrow as pa
import pytest

from fairpp_hf.questions import divided_unit, load_questions, split_of
from fairpp_hf.questions.split import allot_units


def test_sizes_are_the_published_ones():
    assert load_questions("train").num_rows == 22_751
    assert load_questions("test").num_rows == 5_669


def test_splits_partition_the_questions_in_order():
    questions = load_questions()
    is_test = split_of(questions)
    ids = questions["question_id"].to_numpy()
    assert load_questions("train")["question_id"].to_pylist() == list(ids[~is_test])
    assert load_questions("test")["question_id"].to_pylist() == list(ids[is_test])


def test_both_forms_stay_together_but_for_the_divided_unit():
    questions = load_questions()
    units = np.array([id_.rpartition(".")[0] for id_ in questions["question_id"].to_pylist()])
    _, unit = np.unique(units, return_inverse=True)
    in_test = np.bincount(unit, weights=split_of(questions)).astype(int)
    assert np.bincount(unit).tolist() == [2] * 14_210
    # 5,669 is odd: exactly one unit is apart.
    apart = np.unique(units)[in_test == 1]
    assert apart.tolist() == [divided_unit()]
    assert f"{divided_unit()}.criterion" in load_questions("test")["question_id"].to_pylist()
    assert f"{divided_unit()}.explanation" in load_questions("train")["question_id"].to_pylist()


def test_each_stratum_has_its_share_within_one_unit():
    questions = load_questions()
    frame = questions.select(["topic", "dimension", "group_type"]).to_pandas().assign(test=split_of(questions))
    strata = frame.groupby(["topic", "dimension", "group_type"])["test"].agg(["size", "sum"])
    assert len(strata) == 5 * 5 * 6
    ideal = strata["size"] * 5_669 / 28_420
    assert ((strata["sum"] - ideal).abs() < 2).all()  # a unit is two questions


def test_split_never_drifts():
    """A pinned digest: results on the test split compare over time only while its ids stay the same."""
    ids = "\n".join(load_questions("test")["question_id"].to_pylist())
    assert (
        hashlib.sha256(ids.encode()).hexdigest() == "cdcffdd36b7c964bebbf0a20b5fc30459e087c392a4ddbd3780221665e50be8b"
    )
    assert divided_unit() == "wages.homosexual-people.3"


def test_a_question_has_its_side_whatever_the_other_rows():
    questions = load_questions()
    rows = np.random.default_rng(0).permutation(questions.num_rows)[:500]
    assert split_of(questions.take(rows)).tolist() == split_of(questions)[rows].tolist()
    assert split_of(questions.slice(0, 0)).tolist() == []


def test_an_unknown_question_has_no_side():
    ids = pa.table({"question_id": ["food.men.1.criterion", "food.martians.1.criterion"]})
    with pytest.raises(ValueError) as error:  # noqa: PT011
        split_of(ids)
    assert str(error.value) == (
        "A question_id must be one of the 28,420 of load_questions(); got 'food.martians.1.criterion' at row 1. "
        "Only these belong to a split."
    )


def test_largest_remainder_by_hand():
    """10 units, 7 test questions: strata of 6, 3 and 1 units are due 6 * 7 / 20 = 2.1, 1.05 and 0.35 units.

    Whole parts 2, 1 and 0 leave 0.5 unit, which goes to the largest fraction, 0.35: its unit is divided.
    """
    units = np.array([f"u{i}" for i in range(10)])
    strata = np.array(["a"] * 6 + ["b"] * 3 + ["c"])
    in_test = allot_units(units, strata, 7)
    assert sorted(in_test[:6]) == [0, 0, 0, 0, 2, 2]
    assert sorted(in_test[6:9]) == [0, 0, 2]
    assert in_test[9] == 1
