"""What a run may cost: requests are handed out as long as the next one still fits under the cap."""

import json
import logging
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fairpp_hf.generation.prices import Prices, in_batch
from fairpp_hf.respondents.base import Reply, Respondent
from fairpp_hf.runs.journal import Journal

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fairpp_hf.generation.estimate import RequestTokens

logger = logging.getLogger(__name__)


class Budget:
    """A cap on what a run's replies cost, those of earlier calls among them.

    A request fits if the cap has room for it and for all in flight, each at the largest cost of a reply so far; before the
    first reply, at `guess`. What is spent therefore exceeds the cap by no more than the replies in flight exceed that.

    In batches, thousands are in flight by one decision. There a request counts for `guess` until a batch has brought
    replies, and for no less than what one cost that was asked at once, at the price of batches.

    Args:
        cap: USD; at least 0.
        spent: USD paid for all replies that the run's journal has ever had.
        guess: USD that a request is thought to cost.
        prices: Prices of the model.
        batch: Whether requests are asked in batches.
        dearest: Tokens of the dearest reply that the run's requests have had before; None where there is none.
    """

    def __init__(
        self,
        cap: float,
        spent: float,
        guess: float,
        prices: Prices,
        *,
        batch: bool = False,
        dearest: Mapping[str, Any] | None = None,
    ) -> None:
        self.cap = cap
        self._prices = prices
        self._batch = batch
        self.spent = spent
        self.reached = False
        """Whether a request did not fit."""
        self.without_usage: Reply | None = None
        """The first reply that was paid for while its cost cannot be known: nothing more is asked after it."""
        self._guess = guess
        self._largest = prices.cost(dearest, batch=batch) or 0.0
        self._known = False
        self._in_flight = 0
        self._set_aside = 0.0

    def take(self) -> bool:
        """Whether one more request fits; if so, it is in flight from now on."""
        if self.fits():
            self._in_flight += 1
            return True
        self.reached = True
        return False

    def fitting(self, count: int) -> int:
        """How many of the first of `count` requests fit, where none but these are in flight."""
        fits = (self.without_usage is None) & (self.spent + self._each * np.arange(1, count + 1) <= self.cap)
        number = int(np.count_nonzero(fits))
        self.reached = number < count
        return number

    def pay(self, reply: Reply) -> None:
        """A reply came to a request in flight. One in whose place no server's reply came costs nothing."""
        self._in_flight = max(0, self._in_flight - 1)
        cost = self._prices.cost_of(reply)
        if cost is None:
            if is_paid_for(reply):
                self.without_usage = self.without_usage or reply
            return
        self.spent += cost
        self._largest = max(self._largest, self._prices.cost(reply.usage, batch=self._batch) or 0.0)
        self._known = self._known or in_batch(reply) == self._batch

    def set_aside(self, usage: Mapping[str, Any]) -> bool:
        """Whether a further try of a request in flight fits, with so many tokens; if so, its price is kept for it."""
        cost = self._prices.cost(usage)
        if cost is None or not self._has(self._in_flight * self._each + cost):
            return False
        self._set_aside += cost
        return True

    def give_back(self, usage: Mapping[str, Any]) -> None:
        """The reply to a request with a further try was paid, or none comes."""
        self._set_aside = max(0.0, self._set_aside - (self._prices.cost(usage) or 0.0))

    @property
    def _each(self) -> float:
        """USD that a request counts for."""
        return self._largest if self._known else max(self._guess, self._largest)

    def fits(self) -> bool:
        """Whether there is room for one more request, beside those in flight."""
        return self._has((self._in_flight + 1) * self._each)

    def _has(self, cost: float) -> bool:
        return self.without_usage is None and self.spent + self._set_aside + cost <= self.cap


def is_paid_for(reply: Reply) -> bool:
    """Whether a server sent a reply, and so wants money for it, whether or not it counted the tokens: as `database.SENT`."""
    detail = reply.detail or {}
    return reply.usage is not None or detail.get("finish_reason") is not None or detail.get("tries", 0) > 0


def most_of_one(tokens: "RequestTokens", positions: "NDArray[np.int64]", respondent: Respondent) -> tuple[float, float]:
    """Input and output tokens that one of some requests is thought to have at most.

    Without earlier replies nothing tells how much a model thinks before it answers: then it counts with all that its
    `max_tokens` allow.
    """
    asked, written = (float(part.max()) for part in tokens.at(positions))
    return asked, written if tokens.measured else max(written, getattr(respondent, "max_tokens", 0))


def price_earlier(journal: Journal, prices: Prices) -> None:
    """Price what came to the run's requests before prices were given.

    A request's key has the model's name in it, so that the prices are those of its replies. What came to requests that
    the run asks no more may be another model's, and stays without.
    """

    def cost(usage: str, detail: str | None) -> float | None:
        return prices.cost(json.loads(usage), batch="batch" in json.loads(detail or "{}"))

    chosen = "cost_usd IS NULL AND json_valid(usage) AND key IN (SELECT key FROM requests)"
    with journal.transaction() as connection:
        connection.create_function("fairpp_cost", 2, cost, deterministic=True)
        for table in ("replies", "replaced"):
            connection.execute(f"UPDATE {table} SET cost_usd = fairpp_cost(usage, detail) WHERE {chosen}")


def check_max_cost(max_cost: float | None, prices: Prices | None, respondent: str) -> None:
    """Check that a cap on the cost can be kept.

    Raises:
        ValueError: It is no amount above 0, or there are no prices to count by.
    """
    if max_cost is None:
        return
    if not (max_cost > 0 and math.isfinite(max_cost)):
        raise ValueError(f"max_cost must be an amount in USD above 0; got {max_cost}.")
    if prices is None:
        raise ValueError(
            f"max_cost must come with the price of the model; got no price for {respondent}. Pass its prices."
        )
