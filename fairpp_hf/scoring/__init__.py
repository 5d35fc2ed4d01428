"""Option probabilities of language models."""

from fairpp_hf.scoring.distributed import SharedScorer, join_processes
from fairpp_hf.scoring.option_scorer import OptionScorer, OptionScores

__all__ = ["OptionScorer", "OptionScores", "SharedScorer", "join_processes"]
