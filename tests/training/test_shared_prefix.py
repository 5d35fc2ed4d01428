"""Shared prompts: the layout, the same log-probabilities and gradients as separate sequences, and who cannot."""

import logging
import random
import re

import pytest
import torch
import transformers
from peft import PromptTuningConfig
from tiny_models import tiny_model, tiny_tokenizer
from tiny_trainers import make_pairs, make_trainer, question_pairs
from transformers import AutoModelForCausalLM
from trl.trainer.dpo_trainer import DataCollatorForPreference

from fairpp_hf.training import DataCollatorForWeightedPreference
from fairpp_hf.training.shared_prefix import (
    PADDING,
    Completion,
    attention_mask,
    lay_out,
    separate_rows,
    sharing_obstacle,
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


def test_rows_are_padded_to_a_multiple():
    rows = lay_out([A, B], share_prefix=True, pad_token_id=0, pad_to_multiple_of=8)
    assert rows["input_ids"].shape == (1, 8)
    assert attention_mask(rows["segment"]).any(dim=-1).all(), "a softmax over nothing is not a number"


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


@pytest.mark.parametrize("truncation_mode", ["keep_start", "keep_end"])
@pytest.mark.parametrize("max_length", [None, 2, 5, 8, 11])
def test_truncation_is_that_of_trl(truncation_mode, max_length):
    """The sequences of a batch, put together again, are those of TRL's collator."""
    chance = random.Random(0)
    examples = [
        {
            name: [chance.randrange(1, 50) for _ in range(chance.randint(1, 6))]
            for name in ("prompt_ids", "chosen_ids", "rejected_ids")
        }
        for _ in range(20)
    ]
    settings = {"pad_token_id": 0, "max_length": max_length, "truncation_mode": truncation_mode}
    theirs = DataCollatorForPreference(**settings)(examples)
    ours = DataCollatorForWeightedPreference(**settings)([{**example, "weight": 1.0} for example in examples])
    plain = separate_rows(ours, 0)
    for side, half in (("chosen", 0), ("rejected", 1)):
        for pair, number in enumerate(ours[side].tolist()):
            row = pair + half * len(examples)
            sequence = theirs["input_ids"][row][theirs["attention_mask"][row] == 1].tolist()
            completion = theirs["completion_mask"][row].sum().item()
            assert ours["sequence_length"][number] == len(sequence)
            assert ours["completion_length"][number] == completion
            predicted = plain["target_ids"].split(plain["completion_mask"].sum(dim=1).tolist())[number].tolist()
            expected = sequence[len(sequence) - completion :]
            assert predicted == (expected if completion < len(sequence) else expected[1:])
            if predicted:
                ids = plain["input_ids"][number][plain["segment"][number] != PADDING].tolist()
                assert [*ids, predicted[-1]] == sequence


def tiny(kind, **settings):
    """A tiny random model of an architecture."""
    torch.manual_seed(0)
    sizes = {
        "vocab_size": len(tiny_tokenizer()),
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "max_position_embeddings": 512,
        "initializer_range": 0.3,
        "pad_token_id": 0,
    }
    config = getattr(transformers, f"{kind}Config")(**{**sizes, **settings})
    return AutoModelForCausalLM.from_config(config)


SHARING = {
    "llama": lambda: tiny("Llama"),
    "llama, eager": lambda: tiny("Llama", attn_implementation="eager"),
    "qwen2": lambda: tiny("Qwen2"),
    "qwen3": lambda: tiny("Qwen3"),
    "mistral": lambda: tiny("Mistral", sliding_window=None),
    "gemma2": lambda: tiny("Gemma2", sliding_window=2048),
    "gpt2": lambda: tiny("GPT2", n_embd=16, n_head=2, n_layer=2, n_positions=512),
    "gpt_neox": lambda: tiny("GPTNeoX"),
    "phi": lambda: tiny("Phi"),
}


@pytest.mark.parametrize("kind", SHARING)
def test_architectures_that_share_prompts(tmp_path, kind):
    """Loss and gradient as from separate sequences, at share_prefix=True, which would stop at any other outcome."""
    pairs = question_pairs([[1.0, 2.0, 0.5], [0.3, 0.7]])
    gradients, losses = [], []
    for share_prefix in (True, False):
        trainer = make_trainer(
            tmp_path,
            pairs,
            model=SHARING[kind](),
            ref_model=SHARING[kind](),
            share_prefix=share_prefix,
            eval_dataset=None,
        )
        batch = trainer.data_collator([trainer.train_dataset[row] for row in range(5)])
        assert len(batch["input_ids"]) == (2 if share_prefix else 6)
        loss = trainer.compute_loss(trainer.model, batch)
        loss.backward()
        losses.append(loss.item())
        gradients.append(torch.cat([p.grad.reshape(-1) for p in trainer.model.parameters() if p.grad is not None]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert gradients[1].norm() > 1e-4
    assert (gradients[0] - gradients[1]).norm() < 1e-4 * gradients[1].norm()


CANNOT = {
    "a short sliding window": (
        lambda: tiny("Mistral", sliding_window=16),
        "attention reaches back 16 tokens, and sequences may be longer (max_length=1024)",
    ),
    "sliding layers": (
        lambda: tiny("Gemma2", sliding_window=16),
        "attention reaches back 16 tokens, and sequences may be longer (max_length=1024)",
    ),
    "recurrent": (
        lambda: tiny("Mamba", state_size=4, num_heads=2),
        "the model carries a state from token to token",
    ),
    "positions by distance in the row": (
        lambda: tiny("Bloom", n_head=2, n_layer=2),
        "the model does not take such rows",
    ),
}


@pytest.mark.parametrize("kind", CANNOT)
def test_others_fall_back_with_one_line(tmp_path, caplog, kind):
    """The plain layout, the same loss, and the reason said once; or an error where sharing is asked for."""
    make, reason = CANNOT[kind]
    pairs = question_pairs([[1.0, 2.0, 0.5], [0.3, 0.7]])
    settings = {"eval_dataset": None, "model": make(), "ref_model": make()}
    with caplog.at_level(logging.WARNING, logger="fairpp_hf"):
        trainer = make_trainer(tmp_path, pairs, **settings)
        batch = trainer.data_collator([trainer.train_dataset[row] for row in range(5)])
        losses = [trainer.compute_loss(trainer.model, batch).item() for _ in range(2)]
    said = [record.getMessage() for record in caplog.records if "Prompts are computed for each" in record.getMessage()]
    # once for the policy, and once for a reference of its own where only the forward could tell
    assert 1 <= len(said) <= 2, said
    assert reason in said[0]

    settings = {"eval_dataset": None, "model": make(), "ref_model": make()}
    plain = make_trainer(tmp_path, pairs, share_prefix=False, **settings)
    batch = plain.data_collator([plain.train_dataset[row] for row in range(5)])
    assert losses == pytest.approx([plain.compute_loss(plain.model, batch).item()] * 2, rel=1e-5)

    settings = {"eval_dataset": None, "model": make(), "ref_model": make()}
    with pytest.raises(ValueError, match=r"^share_prefix must be 'auto' or False for .*; got True\. "):
        make_trainer(tmp_path, pairs, share_prefix=True, **settings).train()


def test_prompts_of_one_token_share_nothing():
    """There is nothing to save, and many in one row would cost a mask of their length squared."""
    rows = lay_out([Completion((7,), (1, 2)), Completion((7,), (3, 4))], share_prefix=True, pad_token_id=0)
    assert rows["input_ids"].tolist() == [[7, 1], [7, 3]]


def test_after_a_fallback_batches_come_apart(tmp_path):
    """Tokens that were computed are counted as they were computed, and the collator is told."""
    pairs = question_pairs([[1.0, 1.0]] * 2)
    bloom = CANNOT["positions by distance in the row"][0]
    trainer = make_trainer(tmp_path, pairs, model=bloom(), ref_model=bloom(), eval_dataset=None)
    trainer.train()
    assert trainer.data_collator.share_prefix is False
    options = {
        (tuple(row["prompt_ids"]), tuple(row[f"{side}_ids"]))
        for row in trainer.train_dataset
        for side in ("chosen", "rejected")
    }
    logged = [entry for entry in trainer.state.log_history if "num_computed_tokens" in entry][-1]
    assert logged["num_computed_tokens"] == sum(len(prompt) + len(option) - 1 for prompt, option in options)


def test_prompt_tuning_falls_back(tmp_path, caplog):
    prompts = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    with caplog.at_level(logging.WARNING, logger="fairpp_hf"):
        trainer = make_trainer(tmp_path, question_pairs([[1.0, 1.0]]), peft=prompts)
    assert "a prompt-learning adapter puts virtual tokens before every row" in caplog.text
    assert trainer.train().training_loss == pytest.approx(torch.tensor(2.0).log().item(), rel=0.2)


def test_obstacles_by_configuration():
    config = tiny_model().config
    assert sharing_obstacle(config, 1024) is None
    config._attn_implementation = "flash_attention_2"
    assert sharing_obstacle(config, 1024) == "attention 'flash_attention_2' takes no mask of its own for each row"


def test_a_leaking_mask_is_noticed(tmp_path, monkeypatch):
    """If a model let completions see each other, the check on the first batch must find it."""
    from fairpp_hf.training import shared_prefix

    def causal(segment):
        width = segment.size(1)
        return torch.ones(len(segment), 1, width, width, dtype=torch.bool).tril()

    monkeypatch.setattr(shared_prefix, "attention_mask", causal)
    trainer = make_trainer(tmp_path, question_pairs([[1.0, 1.0]]), share_prefix=True)
    with pytest.raises(
        ValueError, match=r"Log-probabilities differ from those of separate sequences by .* nats a token\.$"
    ):
        trainer.train()


def test_a_foreign_collator_is_refused(tmp_path):
    message = (
        "data_collator must be None or a fairpp_hf.training.DataCollatorForWeightedPreference; got "
        "DataCollatorForPreference. Batches hold completions and pairs that refer to them."
    )
    from fairpp_hf.training import ReweightedDPOConfig, ReweightedDPOTrainer

    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ReweightedDPOTrainer(
            model="a model that does not exist",
            args=ReweightedDPOConfig(str(tmp_path), report_to="none"),
            train_dataset=make_pairs([1.0]),
            data_collator=DataCollatorForPreference(pad_token_id=0),
        )
