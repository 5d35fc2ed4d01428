"""Shared prompts in training: the same log-probabilities and gradients as separate sequences, and who cannot."""

import logging
import random
import re

import pytest
import torch
from datasets import Dataset, concatenate_datasets
from peft import PromptTuningConfig
from tiny_architectures import ENDS, SHARING, tiny
from tiny_trainers import make_trainer, question_pairs
from trl import DPOConfig, DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference
from trl.trainer.utils import add_fused_lm_head

from fairpp_hf.scoring.shared_prefix import PADDING, separate_rows
from fairpp_hf.scoring.sharing import PrefixSharing
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


@pytest.fixture(scope="module")
def trainers(tmp_path_factory):
    """`trl.DPOTrainer` and ours of the same pairs, to be given models of any architecture; the reference is a Llama."""
    pairs = question_pairs([[1.0, 1.0, 1.0], [1.0, 1.0]])
    plain = pairs.remove_columns([name for name in pairs.column_names if name not in ("prompt", "chosen", "rejected")])
    folder = tmp_path_factory.mktemp("trainers")
    return (
        make_trainer(folder, plain, trainer=DPOTrainer, config=DPOConfig, eval_dataset=None),
        make_trainer(folder, pairs, eval_dataset=None, share_prefix=True),
    )


def train(trainer, make, examples):
    """Loss, log-probabilities of chosen and rejected completions and gradient of a model, over a batch of examples."""
    model = make()
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "mean_logits", "is_top1"))
    trainer.aux_loss_enabled = False
    return train_again(trainer, model, examples)


def train_again(trainer, model, examples):
    model.zero_grad()
    batch = trainer.data_collator(examples)
    logps = torch.stack(trainer.compute_ref_log_probs(model, batch))
    loss = trainer.compute_loss(model, batch)
    loss.backward()
    gradient = torch.cat([p.grad.reshape(-1) for p in model.parameters() if p.grad is not None])
    return loss.item(), logps, gradient


def assert_same_training(ours, theirs):
    assert ours[0] == pytest.approx(theirs[0], rel=1e-5)
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-5, atol=1e-4)
    assert theirs[2].norm() > 1e-4
    assert (ours[2] - theirs[2]).norm() < 1e-4 * theirs[2].norm()


@pytest.mark.parametrize("kind", SHARING)
def test_architectures_that_are_known_train_as_with_trl(trainers, kind, monkeypatch):
    """Loss, log-probabilities and gradient of `trl.DPOTrainer`, in rows of a question with its options.

    With a mask that lets options see each other all three would be others, so that the comparison can fail.
    """
    stock, trainer = trainers
    examples = list(trainer.train_dataset)
    theirs = train(stock, SHARING[kind], examples)
    assert_same_training(train(trainer, SHARING[kind], examples), theirs)
    decision = list(trainer._forward._sharing.values())[-1]
    assert decision.known
    batch = trainer.data_collator(examples)
    assert len(batch["input_ids"]) == 2
    if "window" in kind or "few positions" in kind:
        assert batch["sequence_length"].max() <= ENDS < batch["input_ids"].size(1)

    def leaking(segment, cached):
        return torch.ones(len(segment), 1, segment.size(1), segment.size(1), dtype=torch.bool).tril()

    monkeypatch.setattr("fairpp_hf.scoring.shared_prefix.attention_mask", leaking)
    _, wrong, of_wrong = train(trainer, SHARING[kind], examples)
    assert (wrong - theirs[1]).abs().max() > 0.1
    assert (of_wrong - theirs[2]).norm() > 0.05 * theirs[2].norm()


def test_a_fresh_model_whose_positions_go_by_place_is_refused(tmp_path, caplog, trainers):
    """RoFormer as it comes: a comparison of its own weights would pass, and be wrong by nats after training."""

    def roformer():
        return tiny("roformer", initializer_range=0.02)

    pairs = question_pairs([[1.0, 1.0, 1.0], [1.0, 1.0]])
    with caplog.at_level(logging.INFO, logger="fairpp_hf"):
        trainer = make_trainer(tmp_path, pairs, eval_dataset=None, model=roformer())
        examples = list(trainer.train_dataset)
        ours = train_again(trainer, trainer.model, examples)
        trainer.train()
    assert_same_training(ours, train(trainers[0], roformer, examples))
    assert trainer.data_collator.share_prefix is False
    (said,) = [message for message in caplog.messages if "roformer" in message]
    assert re.match(
        "Prompts are computed for each completion, which is slower: log-probabilities of roformer differ from those of "
        "separate sequences by ",
        said,
    )


def two_lengths():
    """Three pairs of a short question, and three of one whose row has over 64 tokens."""
    short, long = question_pairs([[1.0, 1.0, 1.0]], seed=3), question_pairs([[1.0, 1.0, 1.0]], seed=3).to_list()
    for row in long:
        row["prompt"][0]["content"] *= 4
    return concatenate_datasets([short, Dataset.from_list(long)])


def test_rows_that_outgrow_a_window_by_place(tmp_path, caplog, trainers):
    """GPT-Neo, window 64: a short first batch is shared, and longer ones have TRL's gradients; so has a batch of both."""

    def neo():
        return tiny("gpt_neo", window_size=64)

    trainer = make_trainer(tmp_path, two_lengths(), eval_dataset=None, model=neo())
    shared = []
    for rows in (range(3), range(3, 6), range(6), range(3)):
        examples = [trainer.train_dataset[row] for row in rows]
        assert_same_training(train_again(trainer, trainer.model, examples), train(trainers[0], neo, examples))
        batch = trainer.data_collator(examples)
        computed = trainer._forward(trainer.model, batch).computed
        shared.append(bool(computed == (batch["segment"] != PADDING).sum()))
    assert shared == [True, False, False, True]
    assert [message for message in caplog.messages if "slower" in message] == [
        "Prompts are computed for each completion in rows of more than 64 tokens, which is slower: attention reaches back "
        "64 tokens."
    ]


CANNOT = {
    "recurrent": (
        lambda: tiny("mamba", state_size=4, num_heads=2),
        "the model carries a state from token to token",
    ),
    "a mask for all rows": (
        lambda: tiny("bloom", n_head=2, n_layer=2),
        "the model does not take such rows",
    ),
    "a short sliding window": (lambda: tiny("mistral", sliding_window=16), "attention reaches back 16 tokens"),
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
    assert len(said) == 1, said
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
    bloom = CANNOT["a mask for all rows"][0]
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


def test_stored_reference_values_say_how_they_were_computed(tmp_path, monkeypatch):
    """Values of shared rows are not found by a training that does not share, however wrong the sharing was."""
    pairs = two_lengths()

    def stored(**settings):
        models = {"model": tiny("gpt_neo", window_size=64), "ref_model": tiny("gpt_neo", window_size=64)}
        trainer = make_trainer(tmp_path, pairs, eval_dataset=None, precompute_ref_log_probs=True, **models, **settings)
        dataset = trainer.train_dataset
        return torch.tensor([dataset["ref_chosen_logps"][:], dataset["ref_rejected_logps"][:]]), trainer

    # As if every row could be shared: log-probabilities are wrong where rows are wider than the window.
    with monkeypatch.context() as context:
        context.setattr(PrefixSharing, "reason_against", lambda self, width, longest: None)
        wrong, _ = stored()
    separate, trainer = stored(share_prefix=False)
    batch = trainer.data_collator(list(trainer.train_dataset))
    expected = torch.stack(trainer.compute_ref_log_probs(trainer.ref_model, batch))
    torch.testing.assert_close(separate, expected, rtol=1e-5, atol=1e-4)
    assert (wrong - expected).abs().max() > 0.02
