"""Option probabilities of language models."""

from fairpp_hf.scoring.option_scorer import OptionScorer, OptionScores

__all__ = ["OptionScorer", "OptionScores"]
