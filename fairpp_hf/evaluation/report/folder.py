"""The results that a page shows, under their former names."""

from fairpp_hf.evaluation.results import POSITIONS, POSITIONS_FORMAT, System
from fairpp_hf.evaluation.results import Results as Evaluated
from fairpp_hf.evaluation.results import read_results as read_evaluated

METHODS = {"pca": "Principal components", "ideal_point": "Ideal points"}
"""Keys of the maps in positions.json, and their titles."""

__all__ = ["METHODS", "POSITIONS", "POSITIONS_FORMAT", "Evaluated", "System", "read_evaluated"]
