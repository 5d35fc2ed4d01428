"""Checkpoints that a kill, a full disk or a hand left incomplete."""

import json
import shutil

import pytest
import torch
from checkpoint_folders import write_checkpoint
from peft import LoraConfig
from tiny_trainers import make_trainer, parameters, question_pairs

from fairpp_hf.training.checkpoints import flaw_of, last_checkpoint

PAIRS = question_pairs([[1.0, 1.0]] * 4)
SETTINGS = {"save_strategy": "steps", "save_steps": 1, "max_steps": 3, "eval_dataset": None, "optim": "adamw_torch"}
LORA = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM", init_lora_weights=False)


@pytest.mark.parametrize("peft", [None, LORA], ids=["whole", "adapter"])
def test_whatever_is_missing_or_cut_off_is_noticed(tmp_path, peft):
    """Every file that training needs to go on as it was, cut at each of several places, as a kill leaves it."""
    make_trainer(tmp_path, PAIRS, peft=peft, **SETTINGS).train()
    checkpoint = tmp_path / "out" / "checkpoint-3"
    assert flaw_of(checkpoint) is None
    weights = "adapter_model.safetensors" if peft else "model.safetensors"
    for name in (weights, "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"):
        path = checkpoint / name
        whole = path.read_bytes()
        path.unlink()
        assert name.partition(".")[0].removeprefix("adapter_") in flaw_of(checkpoint), name
        for size in (0, 1, 8, 20, len(whole) // 2, len(whole) - 2):
            path.write_bytes(whole[:size])
            assert name in flaw_of(checkpoint), (name, size)
        path.write_bytes(whole)
    assert flaw_of(checkpoint) is None


def test_shards_are_counted(tmp_path):
    checkpoint = write_checkpoint(tmp_path / "checkpoint-1")
    (checkpoint / "model.safetensors").rename(checkpoint / "model-00001-of-00002.safetensors")
    assert flaw_of(checkpoint) == "model.safetensors is missing"
    shards = {"weight": "model-00001-of-00002.safetensors", "head": "model-00002-of-00002.safetensors"}
    index = checkpoint / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": shards}))
    assert flaw_of(checkpoint) == "model-00002-of-00002.safetensors is missing"
    shutil.copy(checkpoint / shards["weight"], checkpoint / shards["head"])
    assert flaw_of(checkpoint) is None
    index.write_text('{"weight_map"')
    assert flaw_of(checkpoint) == "model.safetensors.index.json is cut off"


def test_a_model_that_is_divided_among_processes_may_have_parts_of_its_own(tmp_path):
    checkpoint = write_checkpoint(tmp_path / "checkpoint-1")
    for name in ("model.safetensors", "optimizer.pt"):
        (checkpoint / name).unlink()
    for name in ("pytorch_model_fsdp_0", "optimizer_0"):
        (checkpoint / name).mkdir()
    assert flaw_of(checkpoint) in ("optimizer_0/.metadata is missing", "pytorch_model_fsdp_0/.metadata is missing")
    for name in ("pytorch_model_fsdp_0", "optimizer_0"):
        (checkpoint / name / ".metadata").touch()
    assert flaw_of(checkpoint) is None


def test_the_last_is_the_highest_number_that_is_whole(tmp_path):
    for step in (9, 10, 100):
        write_checkpoint(tmp_path / f"checkpoint-{step}")
    (tmp_path / "checkpoint-1000").write_text("no folder")
    (tmp_path / "checkpoint-old").mkdir()
    (tmp_path / "checkpoint-100" / "scheduler.pt").unlink()
    assert last_checkpoint(tmp_path) == (
        str(tmp_path / "checkpoint-10"), {"checkpoint-100": "scheduler.pt is missing"},
    )  # fmt: skip
    assert last_checkpoint(tmp_path / "nowhere") == (None, {})


def test_a_killed_training_goes_on_from_the_checkpoint_before(tmp_path):
    """As it would have gone on without the kill; through `train(resume_from_checkpoint=True)` too."""
    whole = make_trainer(tmp_path, PAIRS, **SETTINGS)
    whole.train()
    (tmp_path / "out" / "checkpoint-3" / "optimizer.pt").write_bytes(b"")
    resumed = make_trainer(tmp_path, PAIRS, **SETTINGS)
    resumed.train(resume_from_checkpoint=True)
    assert [entry["step"] for entry in resumed.state.log_history if "loss" in entry] == [1, 2, 3]
    torch.testing.assert_close(parameters(resumed), parameters(whole), rtol=1e-6, atol=1e-7)
    (tmp_path / "out" / "checkpoint-1" / "scheduler.pt").unlink()
    with pytest.raises(
        ValueError, match=r"must be a complete checkpoint; got '.*checkpoint-1': scheduler.pt is missing"
    ):
        resumed.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-1"))
