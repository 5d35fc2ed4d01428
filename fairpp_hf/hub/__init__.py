"""What goes to the Hub: dataset folders with their cards."""

from collections.abc import Sequence
from pathlib import Path

from fairpp_hf.dataset.folder import WrittenFile, write_dataset_folder
from fairpp_hf.hub.cards import draw_dataset_card, render_dataset_card
from fairpp_hf.preferences import PairSettings

__all__ = ["build_dataset_folder", "draw_dataset_card", "render_dataset_card"]


def build_dataset_folder(
    out: str | Path,
    *,
    answers: str | Path = "survey",
    personas: str | Path | None = None,
    published_revision: str | None = None,
    targets: Sequence[str] | None = None,
    pairs: PairSettings | None = None,
    progress: bool = True,
) -> list[WrittenFile]:
    """Write a dataset folder in Hub layout, card and figures included; arguments are those of `write_dataset_folder`."""
    return write_dataset_folder(
        out,
        card=draw_dataset_card,
        answers=answers,
        personas=personas,
        published_revision=published_revision,
        targets=targets,
        pairs=pairs,
        progress=progress,
    )
