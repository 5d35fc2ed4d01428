"""One request to its end over the OpenAI API: places, tries, pauses, and what each response means."""

import asyncio
import logging
import random
import re
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import httpx2

from fairpp_hf.respondents.base import Reply, Request, RespondentStopped, give_back, set_aside
from fairpp_hf.respondents.client import UnfitBody, from_json
from fairpp_hf.respondents.completion import sum_of_usage, usage_of
from fairpp_hf.respondents.faults import (
    Fault,
    connection_fault,
    final_error,
    hidden_error,
    is_flagged,
    is_unsupported,
    message_of,
    sentence,
)
from fairpp_hf.respondents.ladder import Way
from fairpp_hf.respondents.pace import Pace, retry_after
from fairpp_hf.schema import NO_ANSWER

if TYPE_CHECKING:
    import openai

    from fairpp_hf.respondents.openai import OpenAIRespondent

logger = logging.getLogger(__name__)

PATIENCE_S = 600.0
"""How long a server may refuse everything before the run stops."""

LONGEST_BACKOFF_S = 30.0

_LONGEST_BODY_KEPT = 2000
"""Characters of a body that could not be read."""
_TRIES_TO_REACH = 2
_MOST_REFUSED = 3
"""Requests in a row that a server may refuse, however they are asked, before it has taken one."""
_TOO_MUCH = (408, 503, 504)
"""Statuses that say, beside 429, that a server has too much to do."""
_PASSING = (408, 409, 425)
"""Statuses below 500 that may be another one the next time."""
_OF_THE_WAY = (400, 403, 422)
"""Statuses below 500 that may be due to how a request is asked."""

_ABOUT_LENGTH = re.compile(r"max_(completion_)?tokens|context|too (long|large|many)|length|maximum", re.I)
_TOO_LONG = re.compile(r"context|too (long|many tokens)|max_(completion_)?tokens", re.I)


class RequestsStopped(Exception):
    """The user stopped the run: what waits for its turn ends."""


class Paid:
    """What the replies to one request have cost so far."""

    def __init__(self) -> None:
        self.since = time.monotonic()
        self.tries = 0
        """Replies that came with status 200, whatever was in them."""
        self.read = 0
        """Those of them that could be read."""
        self.usage: dict[str, Any] | None = None
        self.body: str | None = None
        """The last reply that could not be read."""
        self.earlier: list[str] = []
        """Texts of replies that were asked for again."""
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

    def given_up(self, message: str) -> Reply | None:
        """What is handed over of a request that will not be sent again: nothing, if nothing was paid."""
        return self.failed(message, time.monotonic() - self.since) if self.tries else None


class Exchange:
    """What the requests of one call of `OpenAIRespondent.answer` share."""

    def __init__(
        self, respondent: "OpenAIRespondent", pace: Pace, client: "openai.AsyncOpenAI", requests: Sequence[Request]
    ) -> None:
        self._respondent = respondent
        self._ladder = respondent.ladder
        self._pace = pace
        self._client = client
        self._requests = requests
        self._reached = False
        self._refused_since: float | None = None

    async def ask(self, request: Request, paid: Paid) -> Reply:
        """Ask one request to its end, with all its tries. A place for the first try is taken already.

        Args:
            request: The request.
            paid: Filled in on the way, so that it is known also if this ends with an error.

        Raises:
            RespondentStopped: No request can succeed any more.
            RequestsStopped: The user stopped the run while this one waited for its turn.
        """
        tries, max_retries = 0, self._respondent.max_retries
        while True:
            started = time.monotonic()
            try:
                outcome = await self._send(request, paid)
            finally:
                self._pace.leave()
            if isinstance(outcome, Reply):
                return outcome
            if outcome.costs_a_try:
                if not self._reached and tries == min(_TRIES_TO_REACH, max_retries):
                    raise self._unreachable(outcome)
                if tries == max_retries:
                    return paid.ended(outcome.message, time.monotonic() - started)
                tries += 1
                await self._pace.pause(min(LONGEST_BACKOFF_S, 0.5 * 2**tries) * random.uniform(0.5, 1.0))
            await self._pace.take()

    def let_go(self, paid: Paid) -> None:
        """A request's reply has been taken and paid, or none comes: what was set aside for its further try is free."""
        if paid.room is not None:
            give_back(self._requests, paid.room)

    async def _send(self, request: Request, paid: Paid) -> Reply | Fault:
        """Send a request once."""
        import aiohttp
        import openai

        way = self._ladder.way
        way = way._replace(room=(way.room or paid.room is not None) and not paid.cramped)
        body = self._respondent.request_body(request, way)
        started = time.monotonic()
        try:
            # The client's own limits hold for each read.
            async with asyncio.timeout(self._respondent.timeout_s):
                # Not `chat.completions.create`: its checks and models take as long again as all the rest.
                response = await self._client.post("/chat/completions", cast_to=httpx2.Response, body=body)
        except openai.APIStatusError as error:
            return self._after_status(error, way, started, paid)
        except TimeoutError:
            words = f"Timed out. No whole response in {self._respondent.timeout_s:g} s."
            return self._after_failure(Fault(words, timed_out=True), way, started)
        except (openai.APIConnectionError, aiohttp.ClientError) as error:
            # The client passes on those of aiohttp's errors that it does not know.
            return self._after_failure(connection_fault(error, self._respondent.secrets), way, started)
        except UnicodeEncodeError as error:
            return paid.failed(f"The request must be valid Unicode; got {error}.", time.monotonic() - started)
        return self._after_success(response, request, way, started, paid)

    def _after_success(
        self, response: httpx2.Response, request: Request, way: Way, sent_at: float, paid: Paid
    ) -> Reply | Fault:
        """What a response with status 200 means: a reply, an error in its place, or nothing that can be read."""
        latency_s = time.monotonic() - sent_at
        content = self._respondent.secrets.hide_in_bytes(response.content)
        completion, reply, hidden = None, None, None
        self._reached = True
        try:
            completion = from_json(response, content)
            hidden = hidden_error(completion, response)
            if hidden is None:
                reply = self._respondent.read(completion, request, latency_s, way)
        except Exception as error:
            # It was paid for all the same, and whatever is wrong with it costs this reply only.
            paid.add(usage_of(completion))
            paid.body = content[: 4 * _LONGEST_BODY_KEPT].decode("utf-8", "replace")[:_LONGEST_BODY_KEPT]
            message = f"unreadable response: {error}"
            # A body that is no JSON, or JSON that is no chat completion, may be another one the next time.
            if isinstance(error, ValueError) and not isinstance(error, UnfitBody):
                return self._after_failure(Fault(message), way, sent_at)
            detail = {"finish_reason": "error", "error": message}
            return paid.all_told(Reply(NO_ANSWER, None, "invalid", paid.body, None, latency_s, detail))
        if reply is None:
            assert hidden is not None
            paid.usage = sum_of_usage(paid.usage, usage_of(completion))
            return self._after_status(hidden, way, sent_at, paid)
        paid.add(reply.usage)
        paid.read += 1
        # A server may answer a request for a schema with nothing.
        may_ask_again = paid.read <= self._respondent.further_tries
        asked_in_vain = reply.status == "empty" and way.ask != "text" and may_ask_again
        if asked_in_vain and self._ladder.step_down(way, crashed=True, at_fault="ask"):
            return Fault("a reply without content", costs_a_try=False)
        self._succeeded(way, reply)
        if self._gets_more_room(way, reply, paid):
            return Fault("a reply that ran out of tokens", costs_a_try=False)
        if self._respondent.worth_another_try(reply) and may_ask_again:
            if reply.raw:
                paid.earlier.append(reply.raw)
            return Fault(f"a reply that is {reply.status}", costs_a_try=False)
        return paid.all_told(reply)

    def _gets_more_room(self, way: Way, reply: Reply, paid: Paid) -> bool:
        """Whether a reply that ran out is asked for once more, with room to think, where the budget has room for that."""
        if not self._respondent.gives_room or self._ladder.roomless or paid.cramped:
            return False
        if (reply.detail or {}).get("reasoned"):
            self._ladder.learn(room=True)
        if reply.status != "truncated" or way.room or paid.room is not None:
            return False
        asked = (reply.usage or {}).get("prompt_tokens", 0)
        room = {"prompt_tokens": asked, "completion_tokens": self._respondent.tokens_for(way._replace(room=True))}
        if not set_aside(self._requests, room):
            return False
        paid.room, paid.ran_out = room, reply
        return True

    def _succeeded(self, way: Way, reply: Reply) -> None:
        self._refused_since = None
        self._pace.succeeded()
        self._ladder.roomy = self._ladder.roomy or way.room
        answered = Way.of((reply.detail or {}).get("asked")) or way
        if self._ladder.succeeded(answered._replace(room=self._ladder.way.room), way):
            # A warning in every case: the command line shows no less.
            logger.warning("The server %s is asked like this: %s.", self._respondent.address, self._ladder.way.words())

    def _after_status(self, error: "openai.APIStatusError", way: Way, sent_at: float, paid: Paid) -> Reply | Fault:
        message, status = message_of(error, self._respondent.secrets), error.status_code
        latency_s = time.monotonic() - sent_at
        self._reached = self._reached or status < 500
        if status < 500 and is_flagged(error, message):
            detail = {"error": message, "refusal": True}
            return paid.all_told(Reply(NO_ANSWER, None, "refusal", message, None, latency_s, detail))
        way_at_fault = status == 403 and self._ladder.named(way, message)
        if not way_at_fault and (stop := final_error(error, message, self._respondent.model)) is not None:
            raise stop
        asked = retry_after(error.response.headers, time.time())
        if status == 429:
            self._pace.refused(sent_at)
            self._hold_back(asked or self._pace.refusal_pause_s())
            self._check_patience()
            return Fault(message, costs_a_try=False)
        if status >= 500 or status in _PASSING:
            self._hold_back(asked)
            return self._after_failure(
                Fault(message, reached=True, timed_out=status in _TOO_MUCH, crashed=status >= 500), way, sent_at
            )
        if status in _OF_THE_WAY:
            # Newer OpenAI models know the same limit by another name only.
            if way.length_parameter == "max_tokens" and "max_completion_tokens" in message:
                self._ladder.learn(length_parameter="max_completion_tokens")
                return Fault(message, costs_a_try=False)
            if way.room and _ABOUT_LENGTH.search(message):
                # The room that we have asked for may be more than the model has.
                paid.cramped = True
                if not self._ladder.roomy:
                    self._ladder.roomless = True
                    self._ladder.learn(room=False)
                return paid.ended(message, latency_s) if paid.ran_out is not None else Fault(message, costs_a_try=False)
            if self._ladder.step_down(way, message):
                return Fault(message, costs_a_try=False)
            unsupported = not self._ladder.settled and is_unsupported(error, message)
            if self._ladder.refusals >= _MOST_REFUSED or unsupported:
                raise self._refused(error, message)
        return paid.ended(message, latency_s)

    def _after_failure(self, fault: Fault, way: Way, sent_at: float) -> Fault:
        self._reached = self._reached or fault.reached
        if fault.timed_out:
            self._pace.refused(sent_at)
        stepped = fault.crashed and self._ladder.step_down(way, fault.message, crashed=True)
        return fault._replace(costs_a_try=not stepped)

    def _hold_back(self, wait_s: float | None) -> None:
        if wait_s and self._pace.hold_back(wait_s):
            logger.info("The server %s asks for fewer requests: pausing for %.1f s.", self._respondent.address, wait_s)

    def _check_patience(self) -> None:
        now = time.monotonic()
        if self._refused_since is None:
            self._refused_since = now
        if now - self._refused_since > PATIENCE_S:
            raise RespondentStopped(
                f"The server must take requests; got 429 (too many requests) for {PATIENCE_S / 60:.0f} minutes. "
                "Use a smaller concurrency or wait."
            )

    def too_long_a_wait(self) -> RespondentStopped | None:
        """An error if the server asks for a wait that is longer than `PATIENCE_S`."""
        wait_s = self._pace.opens_at - time.monotonic()
        if wait_s <= PATIENCE_S:
            return None
        return RespondentStopped(
            f"The server must take requests; got the word to wait for {wait_s / 60:.0f} minutes, from "
            f"{self._respondent.address}. Go on then."
        )

    def _refused(self, error: "openai.APIStatusError", message: str) -> RespondentStopped:
        """The error for a server that takes a request in no way."""
        model = self._respondent.model
        if (stop := final_error(error, message, model, is_about_key=True)) is not None:
            return stop
        fix = "Use another model"
        if _TOO_LONG.search(message):
            fix = "Ask for fewer tokens, or use another model with a longer context"
        if self._respondent.ask == "choice":
            fix = "Leave out ask='choice', or use another model"
        return RespondentStopped(
            f"The model must take what a request asks for; got {error.status_code} for model {model!r}: "
            f"{sentence(message)} {fix}."
        )

    def _unreachable(self, fault: Fault) -> RespondentStopped:
        got = f"got {fault.message!r} from {self._respondent.address}"
        if fault.timed_out:
            return RespondentStopped(f"The server must answer in time; {got}. Allow a longer time-out.")
        return RespondentStopped(f"The server must be reachable; {got}. Check the base URL, and that the server runs.")
