"""Fair-PP for the Hugging Face ecosystem: align language models with the preferences of particular people, and measure it.

Importing the package makes `load_dataset("fairpp")` work. Everything heavier is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from fairpp_hf.dataset.registration import register

if TYPE_CHECKING:
    from fairpp_hf.api import evaluate
    from fairpp_hf.dataset.load_pairs import load_pairs
    from fairpp_hf.hub.push import push_dataset
    from fairpp_hf.personas import load_personas
    from fairpp_hf.preferences import preference_weights
    from fairpp_hf.scoring import OptionScorer
    from fairpp_hf.statistics.alignment import alignment_metrics
    from fairpp_hf.training import (
        ReweightedDPOConfig,
        ReweightedDPOTrainer,
        ReweightedSFTConfig,
        ReweightedSFTTrainer,
    )

__version__ = "0.1.0"

_HOMES = {
    "ReweightedDPOTrainer": "fairpp_hf.training",
    "ReweightedDPOConfig": "fairpp_hf.training",
    "ReweightedSFTTrainer": "fairpp_hf.training",
    "ReweightedSFTConfig": "fairpp_hf.training",
    "preference_weights": "fairpp_hf.preferences",
    "load_pairs": "fairpp_hf.dataset.load_pairs",
    "load_personas": "fairpp_hf.personas",
    "OptionScorer": "fairpp_hf.scoring",
    "evaluate": "fairpp_hf.api",
    "alignment_metrics": "fairpp_hf.statistics.alignment",
    "push_dataset": "fairpp_hf.hub.push",
}

__all__ = [
    "OptionScorer",
    "ReweightedDPOConfig",
    "ReweightedDPOTrainer",
    "ReweightedSFTConfig",
    "ReweightedSFTTrainer",
    "alignment_metrics",
    "evaluate",
    "load_pairs",
    "load_personas",
    "preference_weights",
    "push_dataset",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


register()
