"""What the replies of a run have cost."""

import math
from typing import NamedTuple

from fairpp_hf.respondents.completion import MOST_TOKENS


class Spending(NamedTuple):
    """What all replies have cost that a journal ever got."""

    cost_usd: float
    """Sum over the replies whose price is known."""
    input_tokens: int
    output_tokens: int
    replies: int
    """Replies that came; a failure without a reply is not counted."""
    unpriced: int
    """Replies that a server sent and whose cost is unknown, with or without tokens: they are not in `cost_usd`."""
    clamped: int = 0
    """Replies whose count of tokens is beyond all bounds and taken as `MOST_TOKENS`."""

    @property
    def known_cost(self) -> float | None:
        """USD, or None where there are only replies of unknown price."""
        return None if self.unpriced and not self.cost_usd else self.cost_usd

    def words(self) -> str:
        """Cost and tokens in a sentence; empty where nothing was spent."""
        if not (self.input_tokens or self.output_tokens or self.unpriced):
            return ""
        cost = self.known_cost
        price = "unknown cost" if cost is None else dollars(cost)
        if self.unpriced and cost is not None:
            price += f" and {self.unpriced:,} replies of unknown price"
        tokens = f"{self.input_tokens:,} input and {self.output_tokens:,} output tokens, in {self.replies:,} replies"
        clamped = ""
        if self.clamped:
            clamped = (
                f" {self.clamped:,} replies have a count of tokens beyond all bounds, taken as {MOST_TOKENS:,}: no sum can "
                "be trusted."
            )
        return f"{price}; {tokens} that were ever received.{clamped}"


def dollars(amount: float) -> str:
    """An amount in USD with as many digits as a small one needs.

    Example:
        >>> dollars(1234.5), dollars(0.01234), dollars(0.0)
        ('$1,234.50', '$0.0123', '$0.00')
    """
    digits = 2 - math.floor(math.log10(amount)) if 0 < amount < 0.1 else 2
    return f"${amount:,.{digits}f}"
