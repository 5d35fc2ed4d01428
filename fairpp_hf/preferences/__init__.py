"""From preference records to training data: tiers, weights and pairs."""

from fairpp_hf.preferences.weights import SCHEMES, PreferenceWeights, preference_weights

__all__ = ["SCHEMES", "PreferenceWeights", "preference_weights"]
