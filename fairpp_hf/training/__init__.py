"""Training with weighted pairs."""

from fairpp_hf.training.batches import DataCollatorForWeightedPreference
from fairpp_hf.training.config import ReweightedDPOConfig, ReweightedSFTConfig
from fairpp_hf.training.dpo_trainer import ReweightedDPOTrainer
from fairpp_hf.training.sft_trainer import DataCollatorForWeightedLanguageModeling, ReweightedSFTTrainer

__all__ = [
    "DataCollatorForWeightedLanguageModeling",
    "DataCollatorForWeightedPreference",
    "ReweightedDPOConfig",
    "ReweightedDPOTrainer",
    "ReweightedSFTConfig",
    "ReweightedSFTTrainer",
]
