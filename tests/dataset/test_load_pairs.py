"""`load_pairs` is `load_dataset` with a signature."""

import inspect
from dataclasses import fields

import pytest
from datasets import load_dataset

import fairpp_hf
from fairpp_hf.dataset.builder import ARGUMENTS
from fairpp_hf.preferences import PairSettings


def test_it_takes_every_argument_with_the_same_default():
    parameters = inspect.signature(fairpp_hf.load_pairs).parameters
    assert set(parameters) == set(ARGUMENTS["pairs"]) - {"soft_labels"}
    for item in fields(PairSettings):
        assert parameters[item.name].default == item.default, item.name


def test_it_gives_the_same_rows():
    options = {"labels": "fitted", "divergence": 0.5, "comparison": "nearest", "heldout": "groups"}
    found = fairpp_hf.load_pairs("loyal_nationals", **options)
    expected = load_dataset("fairpp", "pairs", target="loyal_nationals", **options)
    for split in ("train", "test"):
        assert found[split].data.table.equals(expected[split].data.table)


def test_a_wrong_name_is_named():
    with pytest.raises(ValueError, match="'loyal_nationals'"):
        fairpp_hf.load_pairs("loyal_national")
