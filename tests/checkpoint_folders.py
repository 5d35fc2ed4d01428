"""Checkpoints of a training that was never run: folders that have what `Trainer` writes."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file


def write_checkpoint(folder: Path) -> Path:
    """A complete checkpoint of one process."""
    folder.mkdir(parents=True)
    save_file({"weight": torch.arange(6.0)}, folder / "model.safetensors")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        torch.save({"state": torch.arange(100)}, folder / name)
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": int(folder.name.rpartition("-")[2])}))
    return folder
