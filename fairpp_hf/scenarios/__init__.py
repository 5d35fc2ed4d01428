"""Scenarios: questions told as scenes by a storyteller, checked, then answered by the personas."""

from fairpp_hf.scenarios.storyteller import StorytellerRespondent
from fairpp_hf.scenarios.tell_and_answer import ScenarioSummary, estimate_scenarios, tell_and_answer

__all__ = ["ScenarioSummary", "StorytellerRespondent", "estimate_scenarios", "tell_and_answer"]
