"""What goes to the Hub: dataset folders with their cards, and exports."""

from fairpp_hf.hub.cards import draw_dataset_card, render_dataset_card
from fairpp_hf.hub.dataset_folder import build_dataset_folder

__all__ = ["build_dataset_folder", "draw_dataset_card", "render_dataset_card"]
