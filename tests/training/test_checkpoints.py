"""Checkpoints that a kill left incomplete: training goes on from the one before."""

import pytest
import torch
from checkpoint_folders import write_checkpoint
from peft import LoraConfig
from tiny_trainers import make_trainer, parameters, question_pairs

from fairpp_hf.training.weighted_trainer import checkpoint_to_resume, flaw_of, last_checkpoint

PAIRS = question_pairs([[1.0, 1.0]] * 4)
LORA = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
SETTINGS = {"save_strategy": "steps", "save_steps": 1, "max_steps": 3, "eval_dataset": None, "optim": "adamw_torch"}


def test_a_killed_training_goes_on_from_the_checkpoint_before(tmp_path):
    """As it would have gone on without the kill; `Trainer` writes a checkpoint's state last."""
    whole = make_trainer(tmp_path, PAIRS, **SETTINGS)
    whole.train()
    out = tmp_path / "out"
    state = out / "checkpoint-3" / "trainer_state.json"
    written = [path.stat().st_mtime_ns for path in (out / "checkpoint-3").iterdir()]
    assert state.stat().st_mtime_ns == max(written)
    assert last_checkpoint(out) == str(out / "checkpoint-3")
    state.write_text(state.read_text()[:100])
    (out / "checkpoint-old").mkdir()
    assert last_checkpoint(out) == str(out / "checkpoint-2")
    resumed = make_trainer(tmp_path, PAIRS, **SETTINGS)
    resumed.train(resume_from_checkpoint=True)
    assert [entry["step"] for entry in resumed.state.log_history if "loss" in entry] == [1, 2, 3]
    torch.testing.assert_close(parameters(resumed), parameters(whole), rtol=1e-6, atol=1e-7)
    (out / "checkpoint-1" / "trainer_state.json").unlink()
    with pytest.raises(
        ValueError, match=r"must be a complete checkpoint; got '.*checkpoint-1', whose trainer_state.json"
    ):
        resumed.train(resume_from_checkpoint=str(out / "checkpoint-1"))


@pytest.mark.parametrize("peft", [None, LORA], ids=["whole", "adapter"])
def test_a_part_that_is_missing_is_noticed(tmp_path, peft):
    """`Trainer` would start a new optimizer or scheduler without a word, and come to other weights."""
    make_trainer(tmp_path, PAIRS, peft=peft, **SETTINGS).train()
    checkpoint = tmp_path / "out" / "checkpoint-3"
    assert flaw_of(checkpoint) is None
    for name in ("adapter_model.safetensors" if peft else "model.safetensors", "optimizer.pt", "scheduler.pt"):
        (checkpoint / name).rename(tmp_path / name)
        part = name.partition(".")[0].removeprefix("adapter_")
        assert flaw_of(checkpoint) == f"{part} is missing"
        (tmp_path / name).rename(checkpoint / name)
    assert flaw_of(checkpoint) is None


def test_checkpoints_of_a_divided_model_are_complete_in_parts(tmp_path):
    checkpoint = write_checkpoint(tmp_path / "checkpoint-1")
    for name in ("model.safetensors", "optimizer.pt"):
        (checkpoint / name).unlink()
    for name in ("pytorch_model_fsdp_0", "optimizer_0"):
        assert flaw_of(checkpoint) is not None
        (checkpoint / name).mkdir()
    assert flaw_of(checkpoint) is None
    deepspeed = write_checkpoint(tmp_path / "checkpoint-2", parts=())
    assert flaw_of(deepspeed) == "model is missing"
    (deepspeed / "global_step2").mkdir()
    assert flaw_of(deepspeed) is None


def test_the_last_complete_one_is_gone_on_from_and_said(tmp_path, caplog):
    for step in (9, 10, 100):
        write_checkpoint(tmp_path / f"checkpoint-{step}")
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-100")
    assert last_checkpoint(tmp_path / "nowhere") is None
    (tmp_path / "checkpoint-1000").write_text("no folder")
    (tmp_path / "checkpoint-100" / "scheduler.pt").unlink()
    assert checkpoint_to_resume("last", tmp_path) == str(tmp_path / "checkpoint-10")
    assert caplog.messages == [
        f"{tmp_path / 'checkpoint-1000'} is incomplete and is passed over: its trainer_state.json is missing or cut off.",
        f"{tmp_path / 'checkpoint-100'} is incomplete and is passed over: its scheduler is missing.",
        f"Training goes on from {tmp_path / 'checkpoint-10'}.",
    ]
    with pytest.raises(ValueError, match=r"must be a complete checkpoint; got '.*checkpoint-100', whose scheduler is"):
        checkpoint_to_resume(str(tmp_path / "checkpoint-100"), tmp_path)
