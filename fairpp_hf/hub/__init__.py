"""What goes to the Hub: dataset folders with their cards."""

from collections.abc import Sequence
from pathlib import Path

from fairpp_hf.dataset.folder import WrittenFile, write_dataset_folder
from fairpp_hf.hub.cards import render_dataset_card

__all__ = ["build_dataset_folder", "render_dataset_card"]


def build_dataset_folder(
    out: str | Path,
    *,
    answers: str | Path = "survey",
    personas: str | Path | None = None,
    targets: Sequence[str] | None = None,
    progress: bool = True,
) -> list[WrittenFile]:
    """Write a dataset folder in Hub layout, card included; the arguments are those of `write_dataset_folder`."""
    return write_dataset_folder(
        out, card=render_dataset_card, answers=answers, personas=personas, targets=targets, progress=progress
    )
