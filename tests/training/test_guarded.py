"""Trainings that diverge stop at once, on all processes, and leave what was good."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import tiny_model
from tiny_trainers import make_trainer, question_pairs
from transformers import TrainerCallback
from two_processes import run_on_two_processes

from fairpp_hf.training import ReweightedSFTConfig, ReweightedSFTTrainer
from fairpp_hf.training.weighted_trainer import _is_finite

PAIRS = question_pairs([[1.0, 1.0]] * 6)
EVERY_STEP = {"save_strategy": "steps", "save_steps": 1, "eval_dataset": None}


class Spoil(TrainerCallback):
    """Makes a weight NaN before a step: `on_step_begin` is before its forward."""

    def __init__(self, step, value=torch.nan):
        self.step, self.value = step, value

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        if state.global_step == self.step - 1:
            next(model.parameters()).data[5:].fill_(self.value)


def sft_trainer(tmp_path, pairs, **settings):
    return make_trainer(tmp_path, pairs, trainer=ReweightedSFTTrainer, config=ReweightedSFTConfig, **settings)


def saved_weights(folder):
    return [load_file(path) for path in sorted(Path(folder).rglob("model.safetensors"))]


@pytest.mark.parametrize("make", [make_trainer, sft_trainer], ids=["dpo", "sft"])
def test_training_stops_at_the_first_loss_that_is_no_number(tmp_path, make):
    trainer = make(tmp_path, PAIRS, per_device_train_batch_size=2, **EVERY_STEP)
    trainer.add_callback(Spoil(step=3))
    out = tmp_path / "out"
    message = (
        f"Losses and weights must be finite; got a loss of nan at step 3. Nothing of it is saved. The last checkpoint is "
        f"{out / 'checkpoint-2'}: resume_from_checkpoint='last' goes on from it, at its learning rate. Start again with a "
        "learning_rate below 0.01; if this was the first step, the model itself computes no finite "
        "numbers: try dtype float32."
    )
    with pytest.raises(FloatingPointError, match=f"^{re.escape(message)}$"):
        trainer.train()
    assert {path.name for path in out.glob("checkpoint-*")} == {"checkpoint-1", "checkpoint-2"}
    assert all(torch.isfinite(tensor).all() for weights in saved_weights(out) for tensor in weights.values())
    with pytest.raises(FloatingPointError, match="got weights that are infinite or NaN before they are saved"):
        trainer.save_model()
    assert not (out / "model.safetensors").exists()


class Overflow(TrainerCallback):
    """What an overflow in a backward pass leaves, of a loss that is a number."""

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        next(model.parameters()).grad[5, 0] = torch.inf


@pytest.mark.parametrize("make", [make_trainer, sft_trainer], ids=["dpo", "sft"])
@pytest.mark.parametrize("settings", [{"max_steps": 1}, {"gradient_accumulation_steps": 2}, {"optim": "adamw_torch"}])
def test_training_stops_after_the_step_that_makes_a_weight_infinite(tmp_path, make, settings):
    """Also where it is the last one, whose loss was a number, and with accumulated batches."""
    trainer = make(tmp_path, PAIRS, **EVERY_STEP, **settings)
    trainer.add_callback(Overflow())
    with pytest.raises(FloatingPointError, match="got weights that are infinite or NaN after step 1"):
        trainer.train()
    assert not list((tmp_path / "out").rglob("*.safetensors"))


def test_large_weights_are_numbers():
    """Of these the norm is not: it overflows."""
    model = tiny_model()
    parameters = list(model.parameters())
    parameters[0].data.fill_(3e38)
    assert _is_finite(model)
    parameters[-1].data[0] = torch.nan
    assert not _is_finite(model)
    parameters[-1].requires_grad_(False)
    assert _is_finite(model), "frozen ones are not trained"


def test_all_processes_stop(tmp_path):
    """One pair of one process makes a loss that is no number; and then one process alone has a weight that is none."""
    printed = run_on_two_processes(Path(__file__).parent / "two_spoilt_trainers.py", [], tmp_path)
    assert printed.count("got a loss of nan at step 1") == 2
    assert printed.count("got weights that are infinite or NaN after step 1") == 2


def test_a_balance_that_is_no_number_stops_too(tmp_path, monkeypatch):
    """The objective itself is looked at, and not the losses of pairs alone."""
    trainer = make_trainer(tmp_path, PAIRS, eval_dataset=None)
    trainer.aux_loss_enabled, trainer.router_aux_loss_coef = True, 1.0
    run = type(trainer)._policy_tokens

    def unbalanced(self, model, batch):
        self.aux_loss_enabled = False
        try:
            return run(self, model, batch)._replace(aux_loss=torch.tensor(torch.inf))
        finally:
            self.aux_loss_enabled = True

    monkeypatch.setattr(type(trainer), "_policy_tokens", unbalanced)
    with pytest.raises(FloatingPointError, match=r"got a loss of inf at step 1\. .* There is no checkpoint before it"):
        trainer.train()
