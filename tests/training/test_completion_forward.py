"""Shared prompts in training: the same log-probabilities and gradients as separate sequences, and who cannot."""

import logging
import random
import re

import pytest
import torch
from peft import PromptTuningConfig
from tiny_architectures import SHARING, tiny
from tiny_trainers import make_pairs, make_trainer, question_pairs
from trl.trainer.dpo_trainer import DataCollatorForPreference

from fairpp_hf.scoring.shared_prefix import PADDING, separate_rows
from fairpp_hf.training import DataCollatorForWeightedPreference


@pytest.mark.parametrize("truncation_mode", ["keep_start", "keep_end"])
@pytest.mark.parametrize("max_length", [None, 1, 2, 5, 8, 11])
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


def test_a_leaking_mask_is_noticed(tmp_path, monkeypatch):
    """If a model let completions see each other, the check on the first batch must find it."""
    from fairpp_hf.scoring import shared_prefix

    def causal(segment, cached):
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
