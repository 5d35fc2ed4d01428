"""What a run's record says in words, for the card: what was sent, how often, and what came."""

from collections.abc import Mapping
from typing import Any

from fairpp_hf.markdown import escaped

_COUNTED = "a reply counting with its option probabilities or as one vote"


class RunWords:
    """The record of a run, or of its scenarios, in words.

    Args:
        run: What `run_record` gave.
    """

    def __init__(self, run: Mapping[str, Any]) -> None:
        self.run = {"respondent": None, "storyteller": None, **run}
        self._statuses: Mapping[str, int] = run.get("statuses", {})
        self._replied = sum(count for status, count in self._statuses.items() if status != "failed")

    def messages(self, what: str) -> str:
        """What was sent for a question or a scenario."""
        apart = f"each persona's portrait as system message and the {what}'s prompt as user message"
        folded = int(self.run.get("asked", {}).get("portraits_in_user_message", 0))
        if self.run.get("settings", {}).get("system_as_user") or folded >= self._replied > 0:
            return f"each persona's portrait and the {what}'s prompt in one user message, without a system message"
        return f"{apart}; for {folded:,} replies, both in one user message" if folded else apart

    def how_often(self) -> str:
        """Sentences on samples, orders, settings and statuses."""
        samples, asked = self.run["samples"], self.run.get("asked", {})
        times = "once" if samples == 1 else f"{int(samples)} times"
        if self.run["swap"]:
            said = (
                f"Each was asked {times} in each of two orders, the second with the texts of A and B in each other's place, "
                f"and the answer is the option with the highest mean over both orders, {_COUNTED}."
            )
        elif samples > 1:
            said = f"Each was asked {times}, and the answer is the option with the highest mean over them, {_COUNTED}."
        else:
            said = "Each was asked once, in one order of the options."
        without = asked.get("without_temperature", 0)
        names = ["max_tokens"] if without and without >= self._replied else ["temperature", "max_tokens"]
        settings = self.run.get("settings", {})
        tuned = [
            f"{name.replace('_', ' ')} {escaped(settings[name])}" for name in names if settings.get(name) is not None
        ]
        said += f" Settings: {', '.join(tuned)}." if tuned else ""
        if choices := asked.get("choices"):
            given = asked["constrained_probabilities"]
            said += f" {choices:,} replies were constrained to a choice of the letters; " + (
                f"{given:,} of them have probabilities, and these are probabilities under a constrained choice."
                if given
                else "none of them has probabilities."
            )
        if without:
            said += f" For {without:,} replies the temperature was left out."
        statuses = ", ".join(f"{count:,} {escaped(status)}" for status, count in self._statuses.items())
        return f"{said} Replies by status: {statuses or 'none'}."
