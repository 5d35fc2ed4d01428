"""Checkpoints of a training that was never run: folders with files of the names that `Trainer` writes."""

from collections.abc import Iterable
from pathlib import Path

PARTS = ("model.safetensors", "optimizer.pt", "scheduler.pt")


def write_checkpoint(folder: Path, *, parts: Iterable[str] = PARTS) -> Path:
    """A complete checkpoint of one process, or one of these parts alone."""
    folder.mkdir(parents=True)
    for name in parts:
        (folder / name).touch()
    (folder / "trainer_state.json").write_text("{}")
    return folder
