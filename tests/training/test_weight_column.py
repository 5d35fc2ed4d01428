"""Weights of any size are normalised in float64, or refused; none is trained with as 0 or as infinity in silence."""

import re

import numpy as np
import pytest
import torch
from tiny_trainers import assert_same, make_trainer, question_pairs, step_gradient
from trl import SFTConfig

from fairpp_hf.training import ReweightedDPOConfig, ReweightedDPOTrainer, ReweightedSFTConfig, ReweightedSFTTrainer
from fairpp_hf.training.chosen_texts import chosen_texts
from fairpp_hf.training.weight_column import normalize_weights, weights_of

FLAT = np.array([1.0, 3.0, 2.0, 2.0])
PAIRS = question_pairs([[1.0, 1.0], [1.0, 1.0]]).remove_columns("weight")


def weighted(weights):
    return PAIRS.add_column("weight", weights)


SCALES = {"tiny": 1e-40, "vanishing in float32": 1e-46, "subnormal": 1e-310, "huge": 1e40, "their sum overflows": 5e307}


@pytest.mark.parametrize("normalization", ["dataset", "batch"])
@pytest.mark.parametrize("scale", SCALES)
def test_a_scale_changes_nothing(tmp_path, normalization, scale):
    settings = {
        "weight_normalization": normalization,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
    }
    ordinary = step_gradient(tmp_path, weighted(FLAT), **settings)
    scaled = step_gradient(tmp_path, weighted(FLAT * SCALES[scale]), **settings)
    assert_same(scaled, ordinary, tolerance=1e-6)


@pytest.mark.parametrize("scale", SCALES)
def test_chosen_texts_keep_the_mean_of_any_scale(scale):
    """Two pairs a text, 1 and 3, 2 and 2: each has a mean of 2."""
    texts = chosen_texts(weighted(FLAT * SCALES[scale]))
    assert weights_of(texts) / SCALES[scale] == pytest.approx([2.0, 2.0], rel=1e-9)


@pytest.mark.parametrize("scale", SCALES)
def test_as_they_are_such_weights_are_refused(tmp_path, scale):
    first = (FLAT * SCALES[scale])[0]
    message = (
        f"train_dataset must have weights that are 0, or between 1e-30 and 1e+30; got {first} at row 0 (4 such of 4 rows). "
        "In float32, which losses are computed in, others cannot be told apart from 0 or from infinity. Set "
        "weight_normalization='dataset', or scale the weights yourself."
    )
    for trainer, config in (
        (ReweightedDPOTrainer, ReweightedDPOConfig),
        (ReweightedSFTTrainer, ReweightedSFTConfig),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            trainer(
                model="a model that does not exist",
                args=config(str(tmp_path), report_to="none", weight_normalization="none"),
                train_dataset=weighted(FLAT * SCALES[scale]),
            )


@pytest.mark.parametrize("normalization", ["dataset", "batch"])
def test_weights_that_are_nothing_beside_the_others_are_refused(tmp_path, normalization):
    message = (
        "train_dataset must have weights that are 0, or between 1e-30 and 1e+30 times their mean; got 1e-46 at row 1 (2 "
        "such of 4 rows). In float32, which losses are computed in, others cannot be told apart from 0 or from infinity. "
        "Set such weights to 0."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ReweightedDPOTrainer(
            model="a model that does not exist",
            args=ReweightedDPOConfig(str(tmp_path), report_to="none", weight_normalization=normalization),
            train_dataset=weighted([1.0, 1e-46, 0.0, 1e-300]),
        )
    ordinary = make_trainer(tmp_path, weighted([1.0, 0.0, 0.0, 1e-20]), weight_normalization=normalization)
    assert ordinary.train().training_loss > 0


def test_equal_weights_become_exactly_1():
    for value in (0.1, 1e-300, 1.7e308):
        assert weights_of(normalize_weights(weighted([value] * 4), "pairs", "dataset")).tolist() == [1.0] * 4


def test_whole_numbers_beyond_those_of_float64_are_weights_too():
    used = weights_of(normalize_weights(weighted([2**53 + 1, 2**53 + 1, 2**62, 2**62]), "pairs", "batch"))
    assert used == pytest.approx(np.array([1, 1, 512, 512]) / 256.5)


def test_sft_weights_are_normalised_likewise(tmp_path):
    """Means of pairs whose sum overflows: not infinite, and not refused as such."""

    class Trainer(ReweightedSFTTrainer):
        def __init__(self, ref_model, **arguments):
            super().__init__(**arguments)

    trainer = make_trainer(tmp_path, weighted(FLAT * 5e307), trainer=Trainer, config=SFTConfig)
    assert weights_of(trainer.train_dataset).tolist() == [1.0, 1.0]
    assert torch.isfinite(torch.tensor(trainer.train().training_loss))
