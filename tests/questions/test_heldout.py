"""Divisions that keep whole labels out of training."""

import numpy as np
import pytest

from fairpp_hf.questions import HELDOUT, heldout_labels, is_held_out, load_questions

COLUMNS = {"topics": "topic", "groups": "group", "dimensions": "dimension"}


def test_labels_never_drift() -> None:
    """Pinned: results on held-out questions compare over time only while the labels stay the same."""
    assert HELDOUT == ("topics", "groups", "dimensions")
    assert heldout_labels("topics") == ("fair treatment",)
    assert heldout_labels("dimensions") == (1,)
    assert heldout_labels("groups") == (
        "men",
        "Latino people",
        "jewish people",
        "heterosexual people",
        "teenagers",
        "people with disabilities",
    )


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        ("topics", 20 * 29 * 5 * 2),  # problems of fair treatment x groups x dimensions x forms
        ("groups", 98 * 6 * 5 * 2),
        ("dimensions", 98 * 29 * 1 * 2),
    ],
)
def test_no_label_is_on_both_sides(kind: str, count: int) -> None:
    questions = load_questions()
    held_out = is_held_out(questions, kind)
    assert held_out.dtype == np.bool_
    assert held_out.sum() == count
    labels = questions[COLUMNS[kind]].to_pylist()
    assert held_out.tolist() == [label in heldout_labels(kind) for label in labels]


def test_a_question_has_its_side_whatever_the_other_rows() -> None:
    rows = np.random.default_rng(0).permutation(28_420)[:500]
    for kind in HELDOUT:
        side = is_held_out(load_questions(), kind)[rows]
        assert is_held_out(load_questions().take(rows), kind).tolist() == side.tolist()
    assert is_held_out(load_questions().slice(0, 0), "topics").tolist() == []
