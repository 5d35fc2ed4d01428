"""`chosen_texts` against the plainest oracle: one row at a time, in a dictionary."""

import numpy as np
import pytest
from datasets import Dataset, load_dataset

from fairpp_hf.training.chosen_texts import chosen_texts


def plain(pairs):
    """Weights of each distinct (prompt, chosen), in order of appearance."""
    found = {}
    for row in pairs:
        found.setdefault((repr(row["prompt"]), repr(row["chosen"])), []).append(row["weight"])
    return {key: sum(weights) / len(weights) for key, weights in found.items()}


def assert_as_plain(pairs):
    rows = chosen_texts(pairs)
    expected = plain(pairs)
    assert [(repr(row["prompt"]), repr(row["completion"])) for row in rows] == list(expected)
    assert rows["weight"] == pytest.approx(list(expected.values()))
    return rows


@pytest.mark.parametrize("random_third_pair", [False, True])
def test_the_pairs_of_a_question_give_one_text_and_the_random_one_another(random_third_pair):
    pairs = load_dataset(
        "fairpp", "pairs", target="loyal_nationals", random_third_pair=random_third_pair, split="train[:600]"
    )
    rows = assert_as_plain(pairs)
    questions = len(set(pairs["question_id"]))
    assert (questions, len(rows)) == ((200, 400) if random_third_pair else (300, 300))
    assert rows.column_names == ["prompt", "completion", "weight", "tier", "question_id", "persona"]
    # Equal weights are kept to the last bit.
    of_question = dict(zip(pairs["question_id"], pairs["weight"], strict=True))
    assert rows["weight"] == [of_question[question] for question in rows["question_id"]]


def test_texts_need_not_stand_together_nor_weigh_the_same():
    pairs = Dataset.from_dict(
        {
            "prompt": ["p", "q", "p", "p"],
            "chosen": ["a", "a", "a", "b"],
            "rejected": ["b", "b", "c", "a"],
            "weight": [1, 2, 4, 3],
        }
    )
    rows = assert_as_plain(pairs)
    assert rows.to_dict() == {"prompt": ["p", "q", "p"], "completion": ["a", "a", "b"], "weight": [2.5, 2.0, 3.0]}


def test_rows_that_were_selected_and_messages_of_any_form_are_told_apart():
    """Joining `role` and `content` without a separator would make one of the first two."""
    prompts = [
        [{"role": "user", "content": "ab"}],
        [{"role": "usera", "content": "b"}],
        [{"role": "user", "content": "ab"}, {"role": "assistant", "content": ""}],
        [{"role": "user", "content": None}],
        [],
        [{"role": "user", "content": "ab"}],
    ]
    pairs = Dataset.from_dict({"prompt": prompts, "chosen": ["x"] * 6, "weight": np.arange(6.0)})
    assert len(assert_as_plain(pairs)) == 5
    assert len(assert_as_plain(pairs.select([5, 1, 0]))) == 2
    assert len(assert_as_plain(pairs.select(range(2, 5)))) == 3


def test_with_soft_labels_the_texts_are_the_targets_answers():
    """Those of labels="answers": the third pair of a question chooses what the target did not."""
    options = {"target": "loyal_nationals", "weighting": "uniform", "option_order": "mixed", "split": "train[:600]"}
    soft = load_dataset("fairpp", "pairs", labels="respondent", **options).shuffle(seed=0)
    rows = chosen_texts(soft)
    hard = load_dataset("fairpp", "pairs", **options)
    answers = dict(zip(hard["question_id"], hard["chosen"], strict=True))
    assert rows.column_names == ["prompt", "completion", "weight", "tier", "question_id", "persona"]
    assert len(rows) == 200
    assert rows["completion"] == [answers[question] for question in rows["question_id"]]
    assert rows["question_id"] == list(
        dict.fromkeys(row["question_id"] for row in soft if row["chosen"] == answers[row["question_id"]])
    )
