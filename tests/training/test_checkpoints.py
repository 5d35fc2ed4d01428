"""Checkpoints that a kill left incomplete: training goes on from the one before."""

import pytest
import torch
from tiny_trainers import make_trainer, parameters, question_pairs

from fairpp_hf.training.checkpoints import last_checkpoint

PAIRS = question_pairs([[1.0, 1.0]] * 4)
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


def test_the_last_has_the_highest_number(tmp_path):
    for step in (9, 10, 100):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-100")
    assert last_checkpoint(tmp_path / "nowhere") is None
