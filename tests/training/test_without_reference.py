"""`reference="none"`: nothing is loaded or run but the policy, and the loss has its minimum at the aim."""

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tiny_models import save_tiny_model, tiny_model, tiny_tokenizer
from tiny_trainers import (
    assert_same,
    make_trainer,
    oracle_gradient,
    question_pairs,
    sequence_logp,
    step_gradient,
)
from trl.trainer import dpo_trainer

from fairpp_hf.training import ReweightedDPOConfig
from fairpp_hf.training.completion_forward import CompletionForward
from fairpp_hf.training.losses import MARGIN_LOSSES

PAIRS = question_pairs([[0.1, 0.4, 0.2], [0.3, 0.3, 0.3], [2.0, 2.0, 1.0]])
WEIGHTS = np.array(PAIRS["weight"])
NONE = {"reference": "none", "ref_model": None}
LORA = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], lora_dropout=0.0, task_type="CAUSAL_LM")


def adapted(folder=None):
    """A model with an adapter that was trained before: its weights are not those that PEFT begins with."""
    model = get_peft_model(tiny_model(), LORA)
    torch.manual_seed(5)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    if folder is None:
        return model
    model.save_pretrained(folder)
    return PeftModel.from_pretrained(tiny_model(), folder, is_trainable=True)


# -- nothing but the policy --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["whole", "new adapter", "adapter from a folder", "adapter in memory"])
def test_no_reference_is_loaded_kept_or_run(kind, tmp_path, monkeypatch):
    """One model is loaded where a path is given, one forward pass is made for each batch, and PEFT keeps one adapter."""
    loaded, forwards = [], []
    load, forward = dpo_trainer.create_model_from_path, CompletionForward.__call__
    monkeypatch.setattr(
        dpo_trainer, "create_model_from_path", lambda path, **settings: loaded.append(path) or load(path, **settings)
    )
    monkeypatch.setattr(
        CompletionForward,
        "__call__",
        lambda self, *given, **options: forwards.append(1) or forward(self, *given, **options),
    )
    settings = {
        "whole": {"model": str(save_tiny_model(tmp_path / "model"))},
        "new adapter": {"peft": LORA},
        "adapter from a folder": {"model": adapted(tmp_path / "adapter")},
        "adapter in memory": {"model": adapted()},
    }[kind]
    trainer = make_trainer(tmp_path, PAIRS, per_device_train_batch_size=9, max_steps=2, **NONE, **settings)
    assert trainer.ref_model is None
    assert trainer.args.precompute_ref_log_probs is trainer.precompute_ref_logps is False
    assert not {"ref_chosen_logps", "ref_rejected_logps"} & set(trainer.train_dataset.column_names)
    if kind != "whole":
        assert list(trainer.model.peft_config) == ["default"]
        assert not any(".ref." in name for name, _ in trainer.model.named_parameters())
    trainer.train()
    assert len(forwards) == 2
    assert len(loaded) == (kind == "whole")


@pytest.mark.parametrize("kind", ["whole", "adapter"])
def test_rewards_are_log_probabilities_of_the_policy_alone(kind, tmp_path):
    """Of the policy with its adapter, as it was loaded; a reference would have taken them off."""
    model = tiny_model() if kind == "whole" else adapted(tmp_path / "adapter")
    trainer = make_trainer(tmp_path, PAIRS, model=model, beta=0.5, soft_labels=True, **NONE)
    with torch.no_grad():
        chosen, rejected = (
            np.array([sequence_logp(model, tiny_tokenizer(), row["prompt"], row[side]).item() for row in PAIRS])
            for side in ("chosen", "rejected")
        )
    metrics = trainer.evaluate()
    assert metrics["eval_rewards/chosen"] == pytest.approx(0.5 * chosen.mean(), rel=1e-4)
    assert metrics["eval_rewards/margins"] == pytest.approx(0.5 * (chosen - rejected).mean(), rel=1e-4)
    label = np.array(PAIRS["label_probability"])
    margin = 0.5 * (chosen - rejected)
    losses = label * np.logaddexp(0, -margin) + (1 - label) * np.logaddexp(0, margin)
    assert metrics["eval_loss"] == pytest.approx((WEIGHTS * losses).sum() / WEIGHTS.sum(), rel=1e-4)


# -- the loss ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("share_prefix", ["auto", False])
def test_the_gradient_is_that_of_the_logistic_loss_on_the_policys_log_ratios(soft, share_prefix, tmp_path):
    ours = step_gradient(tmp_path, PAIRS, soft_labels=soft, share_prefix=share_prefix, **NONE)
    labels = PAIRS["label_probability"] if soft else None
    plain = oracle_gradient(PAIRS, WEIGHTS / WEIGHTS.sum(), beta=1.0, label_probability=labels, reference=False)
    assert_same(ours, plain)


def test_beta_is_one_unless_set(tmp_path):
    def beta(**settings):
        return ReweightedDPOConfig(str(tmp_path), report_to="none", bf16=False, **settings).beta

    assert (beta(), beta(reference="none")) == (0.1, 1.0)
    assert (beta(beta=0.3), beta(beta=0.1, reference="none")) == (0.3, 0.1)
    assert make_trainer(tmp_path, PAIRS, **NONE).beta == 1.0


def test_a_beta_that_moves_the_minimum_is_mentioned(tmp_path, caplog):
    """beta times log-odds of the policy are those of the labels: at 0.25, the policy's are four times as large."""
    make_trainer(tmp_path, PAIRS, soft_labels=True, **NONE)
    assert not caplog.records
    make_trainer(tmp_path, PAIRS, soft_labels=True, beta=0.25, **NONE)
    (record,) = caplog.records
    assert "to the power of 4. Leave beta out" in record.getMessage()


def test_training_ends_at_the_aim(tmp_path):
    """A tiny model, three questions with an aim each: its probabilities of the three lines, from where they began."""
    aim = {
        f"question {number}": row for number, row in enumerate([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.25, 0.25, 0.5]])
    }
    rows = question_pairs([[1.0] * 3] * 3)
    rows = rows.remove_columns("label_probability").add_column(
        "label_probability",
        [
            (p := aim[question])[first] / (p[first] + p[second])
            for question, (first, second) in zip(rows["question_id"], [(0, 1), (0, 2), (1, 2)] * 3, strict=True)
        ],
    )
    settings = {"per_device_train_batch_size": 9, "max_steps": 120, "optim": "adamw_torch", "learning_rate": 0.02}
    settings |= {"lr_scheduler_type": "linear", "logging_strategy": "no", "eval_dataset": None}
    trainer = make_trainer(tmp_path, rows, soft_labels=True, **settings, **NONE)

    def probabilities():
        logps = []
        for first, second in zip(rows.select(range(0, 9, 3)), rows.select(range(1, 9, 3)), strict=True):
            for option in (first["chosen"], first["rejected"], second["rejected"]):
                with torch.no_grad():
                    logps.append(sequence_logp(trainer.model, tiny_tokenizer(), first["prompt"], option).item())
        return torch.tensor(logps).reshape(3, 3).softmax(dim=1).numpy()

    expected = np.array(list(aim.values()))
    before = np.abs(probabilities() - expected).max()
    trainer.train()
    assert before > 0.3
    np.testing.assert_allclose(probabilities(), expected, atol=0.03)


@pytest.mark.parametrize("loss_type", MARGIN_LOSSES)
def test_losses_of_the_margin_alone_train(loss_type, tmp_path):
    smoothing = 0.1 if loss_type == "exo_pair" else 0.0  # which TRL wants above 0
    settings = {"loss_type": [loss_type], "label_smoothing": smoothing, "max_steps": 1, "eval_dataset": None}
    trainer = make_trainer(tmp_path, PAIRS, **settings, **NONE)
    assert np.isfinite(trainer.train().training_loss)
