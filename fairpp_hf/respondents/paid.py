"""What one request has cost on the way to its reply."""

import time
from typing import Any

from fairpp_hf.respondents.base import Reply
from fairpp_hf.respondents.completion import sum_of_usage
from fairpp_hf.schema import NO_ANSWER

LONGEST_BODY_KEPT = 2000
"""Characters of a body that could not be read."""


class Paid:
    """What the replies to one request have cost so far."""

    def __init__(self) -> None:
        self.since = time.monotonic()
        """When the request was first sent."""
        self.tries = 0
        """Replies that came with status 200, whatever was in them."""
        self.read = 0
        """Those of them that could be read."""
        self.usage: dict[str, Any] | None = None
        self.body: str | None = None
        """The last one that could not."""
        self.earlier: list[str] = []
        """Texts of those that were asked for again."""
        self.room: dict[str, int] | None = None
        """What a further try with more room may use; None where there was none."""
        self.ran_out: Reply | None = None
        """The reply that was cut off before that try."""
        self.cramped = False
        """Whether the server has refused this request for its room."""

    def add(self, usage: dict[str, Any] | None) -> None:
        """Count one more."""
        self.tries += 1
        self.usage = sum_of_usage(self.usage, usage)

    def all_told(self, reply: Reply) -> Reply:
        """The last reply, with the tokens of all, and the texts of the others: they were paid for as well."""
        detail = dict(reply.detail or {})
        if self.tries:
            detail["tries"] = self.tries
        earlier = list(self.earlier)
        if self.ran_out is not None and self.ran_out is not reply and self.ran_out.raw:
            earlier.append(self.ran_out.raw)
        if earlier:
            detail["earlier"] = earlier
        return reply._replace(usage=self.usage, detail=detail)

    def failed(self, message: str, latency_s: float) -> Reply:
        """No reply, but what was paid on the way stays known."""
        detail = {"error": message} | ({} if self.body is None else {"body": self.body})
        return self.all_told(Reply(NO_ANSWER, None, "failed", None, None, latency_s, detail))

    def ended(self, message: str, latency_s: float) -> Reply:
        """The request's last try has failed: the reply that ran out before it, or none."""
        return self.failed(message, latency_s) if self.ran_out is None else self.all_told(self.ran_out)

    def unfit(self, message: str, latency_s: float) -> Reply:
        """A reply that came, cannot be read, and is not to be bought again."""
        detail = {"finish_reason": "error", "error": message}
        return self.all_told(Reply(NO_ANSWER, None, "invalid", self.body, None, latency_s, detail))

    def given_up(self, message: str) -> Reply | None:
        """What is handed over of a request that will not be sent again: nothing, if nothing was paid."""
        return self.failed(message, time.monotonic() - self.since) if self.tries else None
