"""Columns of a training dataset: weights of any size, and demonstrations out of pairs."""

import re

import numpy as np
import pytest
from datasets import Dataset, load_dataset
from tiny_trainers import assert_same, make_trainer, question_pairs, step_gradient

from fairpp_hf.training import ReweightedDPOConfig, ReweightedDPOTrainer, ReweightedSFTConfig, ReweightedSFTTrainer
from fairpp_hf.training.columns import chosen_texts, normalize_weights, prompt_groups, weights_of, without_selection

FLAT = np.array([1.0, 3.0, 2.0, 2.0])
PAIRS = question_pairs([[1.0, 1.0], [1.0, 1.0]]).remove_columns("weight")
SCALES = {"tiny": 1e-40, "vanishing in float32": 1e-46, "subnormal": 1e-310, "huge": 1e40, "their sum overflows": 5e307}


def weighted(weights):
    return PAIRS.add_column("weight", weights)


# -- weights -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("normalization", ["dataset", "batch"])
@pytest.mark.parametrize("scale", SCALES)
def test_a_scale_changes_nothing(tmp_path, normalization, scale):
    """Neither the gradient, nor the means of demonstrations: two pairs a text, 1 and 3, 2 and 2."""
    batches = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    settings = {"weight_normalization": normalization, **batches}
    ordinary = step_gradient(tmp_path, weighted(FLAT), **settings)
    scaled = step_gradient(tmp_path, weighted(FLAT * SCALES[scale]), **settings)
    assert_same(scaled, ordinary, tolerance=1e-6)
    texts = chosen_texts(weighted(FLAT * SCALES[scale]))
    assert weights_of(texts) / SCALES[scale] == pytest.approx([2.0, 2.0], rel=1e-9)


@pytest.mark.parametrize(
    ("normalization", "weights", "found"),
    [
        *(
            ("none", FLAT * scale, f"; got {(FLAT * scale)[0]} at row 0 (4 such of 4 rows). ")
            for scale in SCALES.values()
        ),
        ("dataset", [1.0, 1e-46, 0.0, 1e-300], " times their mean; got 1e-46 at row 1 (2 such of 4 rows). "),
        ("batch", [1.0, 1e-46, 0.0, 1e-300], " times their mean; got 1e-46 at row 1 (2 such of 4 rows). "),
    ],
)
def test_weights_that_vanish_in_float32_are_refused(tmp_path, normalization, weights, found):
    message = f"train_dataset must have weights that are 0, or between 1e-30 and 1e+30{found}"
    for trainer, config in ((ReweightedDPOTrainer, ReweightedDPOConfig), (ReweightedSFTTrainer, ReweightedSFTConfig)):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
            trainer(
                model="a model that does not exist",
                args=config(str(tmp_path), report_to="none", weight_normalization=normalization),
                train_dataset=weighted(weights),
            )


def test_weights_are_normalised_in_float64():
    for value in (0.1, 1e-300, 1.7e308):
        assert weights_of(normalize_weights(weighted([value] * 4), "pairs", "dataset")).tolist() == [1.0] * 4
    used = weights_of(normalize_weights(weighted([2**53 + 1, 2**53 + 1, 2**62, 2**62]), "pairs", "batch"))
    assert used == pytest.approx(np.array([1, 1, 512, 512]) / 256.5)


def test_a_weight_of_1e_20_beside_others_is_trained_with(tmp_path):
    assert make_trainer(tmp_path, weighted([1.0, 0.0, 0.0, 1e-20])).train().training_loss > 0


# -- rows --------------------------------------------------------------------------------------------------------------


def test_prompts_are_numbered_in_the_order_of_their_first_rows():
    prompts = [[1, 2], [3], [1, 2], [1], [3], []]
    dataset = Dataset.from_dict({"prompt_ids": prompts})
    assert prompt_groups(dataset).tolist() == [0, 1, 0, 2, 1, 3]
    assert prompt_groups(dataset.select([3, 0, 5, 3])).tolist() == [0, 1, 2, 0]


def test_only_a_selection_of_all_rows_in_order_is_dropped():
    everything = PAIRS.filter(lambda row: True)
    assert everything._indices is not None
    assert without_selection(everything)._indices is None
    assert without_selection(everything).to_list() == PAIRS.to_list()
    for selection in (PAIRS.select([3, 2, 1, 0]), PAIRS.select([0, 2])):
        assert without_selection(selection).to_list() == selection.to_list()


# -- demonstrations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("random_third_pair", [False, True])
def test_the_pairs_of_a_question_give_one_text_and_the_random_one_another(random_third_pair):
    pairs = load_dataset(
        "fairpp", "pairs", target="loyal_nationals", random_third_pair=random_third_pair, split="train[:600]"
    )
    rows = chosen_texts(pairs)
    questions = len(set(pairs["question_id"]))
    assert (questions, len(rows)) == ((200, 400) if random_third_pair else (300, 300))
    assert rows.column_names == ["prompt", "completion", "weight", "tier", "question_id", "persona"]
    # Equal weights stay the same to the last bit.
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
    assert chosen_texts(pairs).to_dict() == {
        "prompt": ["p", "q", "p"],
        "completion": ["a", "a", "b"],
        "weight": [2.5, 2.0, 3.0],
    }


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
