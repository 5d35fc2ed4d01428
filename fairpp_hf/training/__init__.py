"""Training with weighted pairs."""

from fairpp_hf.training.collator import DataCollatorForWeightedPreference
from fairpp_hf.training.config import ReweightedDPOConfig
from fairpp_hf.training.trainer import ReweightedDPOTrainer

__all__ = ["DataCollatorForWeightedPreference", "ReweightedDPOConfig", "ReweightedDPOTrainer"]
