"""Everything that is drawn: pictures of evaluations, maps, runs and datasets, and the page of an evaluated folder."""

from fairpp_hf.drawing.page import write_report
from fairpp_hf.drawing.pictures import draw_evaluation, draw_positions, draw_quality

__all__ = ["draw_evaluation", "draw_positions", "draw_quality", "write_report"]
