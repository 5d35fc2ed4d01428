"""Shared prompts: the layout and the mask by hand, and dropout that is silenced."""

import pytest
import torch
from tiny_architectures import tiny

from fairpp_hf.scoring.shared_prefix import (
    Completion,
    attention_mask,
    dropout_silenced,
    lay_out,
    model_inputs,
    separate_rows,
)

A, B = Completion((1, 2), (3,)), Completion((1, 2), (4, 5))
ALONE, NO_PROMPT = Completion((6,), (7, 8)), Completion((), (9, 10, 11))


def test_layout_by_hand():
    """Row 0 is 1 | 2 | 2 4: the prompt without its last token, then 2 (predicts 3) and 2 4 (predict 4 and 5)."""
    rows = lay_out([A, B, ALONE, NO_PROMPT], share_prefix=True, pad_token_id=0)
    assert rows["input_ids"].tolist() == [[1, 2, 2, 4], [6, 7, 0, 0], [9, 10, 0, 0]]
    assert rows["position_ids"].tolist() == [[0, 1, 1, 2], [0, 1, 0, 0], [0, 1, 0, 0]]
    assert rows["segment"].tolist() == [[0, 1, 2, 2], [1, 1, -1, -1], [1, 1, -1, -1]]
    assert rows["place"].tolist() == [[0, 1], [0, 2], [1, 1], [2, 1]]
    assert rows["predicted_by"].tolist() == [1, 2, 3, 4, 5, 8, 9]
    # without a prompt, nothing predicts a completion's first token
    assert rows["target_ids"].tolist() == [3, 4, 5, 7, 8, 10, 11]
    assert rows["completion_mask"].int().tolist() == [[1, 0], [1, 1], [1, 1], [1, 1]]
    assert rows["completion_length"].tolist() == [1, 2, 2, 3]
    assert rows["sequence_length"].tolist() == [3, 4, 3, 3]


def test_mask_by_hand():
    """Positions 2 and 3 of the first row are the second completion: they see the prompt and themselves, not position 1."""
    mask = attention_mask(lay_out([A, B], share_prefix=True, pad_token_id=0)["segment"])
    assert mask[0, 0].int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 1, 1]]


def test_a_cached_beginning_is_seen_by_all_of_the_row():
    """Two tokens before the row of `test_mask_by_hand`: two columns of ones, and positions that go on from there."""
    rows = lay_out([A, B], share_prefix=True, pad_token_id=0)
    inputs = model_inputs(rows, shared=True, eager=False, dtype=torch.float32, cached=2)
    assert inputs["attention_mask"][0, 0].int().tolist() == [
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 1, 0, 1, 0],
        [1, 1, 1, 0, 1, 1],
    ]
    assert inputs["position_ids"].tolist() == [[2, 3, 3, 4]]


def test_separate_rows_are_the_plain_layout():
    completions = [A, B, ALONE, NO_PROMPT, Completion((1, 2), (3, 3, 3))]
    shared = lay_out(completions, share_prefix=True, pad_token_id=0)
    plain = lay_out(completions, share_prefix=False, pad_token_id=0)
    assert len(plain["input_ids"]) == len(completions)
    again = separate_rows({**shared, "weight": torch.ones(3)}, pad_token_id=0)
    assert again.pop("weight").tolist() == [1, 1, 1]
    assert {name: tensor.tolist() for name, tensor in again.items()} == {
        name: tensor.tolist() for name, tensor in plain.items()
    }


def test_dropout_is_silenced_and_every_module_left_as_it_was():
    model = tiny("gpt2", resid_pdrop=0.5, attn_pdrop=0.5).train()
    model.transformer.h[0].eval()
    modes = [module.training for module in model.modules()]
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad(), dropout_silenced(model):
        torch.testing.assert_close(model(ids).logits, model(ids).logits)
    assert [module.training for module in model.modules()] == modes
    with torch.no_grad():
        assert not torch.equal(model(ids).logits, model(ids).logits)


def test_layers_of_bitsandbytes_stay_in_training_mode():
    """In evaluation mode without gradients they may repack their weights for good."""
    bitsandbytes = pytest.importorskip("bitsandbytes")
    model = torch.nn.Sequential(bitsandbytes.nn.Linear4bit(32, 32), torch.nn.Dropout(0.5)).train()
    with dropout_silenced(model):
        assert [module.training for module in model] == [True, False]
    assert [module.training for module in model] == [True, True]


def test_groups_have_rows_of_their_own():
    rows = lay_out([A, B, A], share_prefix=True, pad_token_id=0, groups=[0, 0, 1])
    assert rows["input_ids"].tolist() == [[1, 2, 2, 4], [1, 2, 0, 0]]
    assert rows["place"].tolist() == [[0, 1], [0, 2], [1, 1]]


def test_rows_are_padded_to_a_multiple():
    rows = lay_out([A, B], share_prefix=True, pad_token_id=0, pad_to_multiple_of=8)
    assert rows["input_ids"].shape == (1, 8)
    assert attention_mask(rows["segment"]).any(dim=-1).all(), "a softmax over nothing is not a number"
