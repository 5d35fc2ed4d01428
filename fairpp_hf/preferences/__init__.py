"""From preference records to training data: tiers, weights and pairs."""

from fairpp_hf.preferences.pair_settings import LABELS, PairSettings
from fairpp_hf.preferences.schemes import SCHEMES, WeightingFacts
from fairpp_hf.preferences.weights import (
    PreferenceWeights,
    comparison_personas,
    preference_weights,
)

__all__ = [
    "LABELS",
    "SCHEMES",
    "PairSettings",
    "PreferenceWeights",
    "WeightingFacts",
    "comparison_personas",
    "preference_weights",
]
