"""Training with weighted pairs."""

from fairpp_hf.training.collator import DataCollatorForWeightedPreference
from fairpp_hf.training.config import ReweightedDPOConfig
from fairpp_hf.training.sft import DataCollatorForWeightedLanguageModeling, ReweightedSFTTrainer
from fairpp_hf.training.sft_config import ReweightedSFTConfig
from fairpp_hf.training.trainer import ReweightedDPOTrainer

__all__ = [
    "DataCollatorForWeightedLanguageModeling",
    "DataCollatorForWeightedPreference",
    "ReweightedDPOConfig",
    "ReweightedDPOTrainer",
    "ReweightedSFTConfig",
    "ReweightedSFTTrainer",
]
