"""Training with weighted pairs."""

from fairpp_hf.training.config import ReweightedDPOConfig
from fairpp_hf.training.trainer import ReweightedDPOTrainer

__all__ = ["ReweightedDPOConfig", "ReweightedDPOTrainer"]
