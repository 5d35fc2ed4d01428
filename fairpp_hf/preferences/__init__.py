"""From preference records to training data: tiers, weights and pairs."""

from fairpp_hf.preferences.schemes import SCHEMES, WeightingFacts
from fairpp_hf.preferences.weights import PreferenceWeights, nearest_persona, preference_weights

__all__ = ["SCHEMES", "PreferenceWeights", "WeightingFacts", "nearest_persona", "preference_weights"]
