"""One request to its end over the OpenAI API: places, tries, pauses, and what each response means."""

import asyncio
import logging
import random
import re
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from fairpp_hf.respondents.base import Reply, Request, RespondentStopped, give_back, set_aside
from fairpp_hf.respondents.completion import sum_of_usage, usage_of
from fairpp_hf.respondents.endpoints import Address, Addresses, Places, retry_after, until_reset
from fairpp_hf.respondents.faults import (
    Fault,
    connection_fault,
    hidden_error,
    is_flagged,
    is_unsupported,
    message_of,
    sentence,
)
from fairpp_hf.respondents.ladder import Way
from fairpp_hf.respondents.paid import LONGEST_BODY_KEPT, Paid
from fairpp_hf.schema import NO_ANSWER

if TYPE_CHECKING:
    import httpx2
    import openai

    from fairpp_hf.respondents.openai import OpenAIRespondent

logger = logging.getLogger(__name__)

KEEP_GOING = "Every reply received so far is kept; run the same command again to continue."

PATIENCE_S = 600.0
"""How long all addresses may refuse everything before the run stops."""

LONGEST_BACKOFF_S = 30.0

_TRIES_TO_REACH = 2
_MOST_REFUSED = 3
"""Requests in a row that a server may refuse, however they are asked, before it has taken one."""
_TOO_MUCH = (408, 503, 504)
"""Statuses that say, beside 429, that a server has too much to do."""

_PASSING = (408, 409, 425)
"""Statuses below 500 that may be another one the next time."""

_ABOUT_LENGTH = re.compile(r"max_(completion_)?tokens|context|too (long|large|many)|length|maximum", re.I)

_TOO_LONG = re.compile(r"context|too (long|many tokens)|max_(completion_)?tokens", re.I)

_OF_THE_WAY = (400, 403, 422)
"""Statuses below 500 that may be due to how a request is asked."""


class RequestsStopped(Exception):
    """The user stopped the run: what waits for its turn ends."""


class _Again(NamedTuple):
    """The request is sent again."""

    message: str
    costs_a_try: bool = False
    """Whether `max_retries` counts it, with a pause before the next."""
    timed_out: bool = False
    """Whether there was a connection, and the response took too long."""


class Exchange:
    """What the requests of one call of `answer` share.

    Args:
        respondent: says what is sent, how it is read, and how often it is tried.
        addresses: where to.
        places: they decide when.
        clients: one for each address.
        requests: they may have a budget.
    """

    def __init__(
        self,
        respondent: "OpenAIRespondent",
        addresses: Addresses,
        places: Places,
        clients: "Sequence[openai.AsyncOpenAI]",
        requests: Sequence[Request],
    ) -> None:
        self._respondent = respondent
        self._requests = requests
        self._addresses = addresses
        self._places = places
        self._clients = dict(zip(addresses, clients, strict=True))
        self._refused_since: float | None = None

    async def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.close()

    async def ask(self, address: Address, request: Request, paid: Paid) -> Reply:
        """Ask one request to its end, with all its tries.

        Args:
            address: where a place for the first try is taken already.
            request: the request.
            paid: filled in on the way, so that it is known also if this ends with an error.

        Raises:
            RespondentStopped: no request can succeed any more.
            RequestsStopped: the user stopped the run while this one waited for its turn.
        """
        tries, max_retries = 0, self._respondent.max_retries
        while True:
            started = time.monotonic()
            try:
                outcome = await self._send(address, request, paid)
            finally:
                self._places.leave(address)
            if isinstance(outcome, Reply):
                return outcome
            if not outcome.costs_a_try:
                address = await self._places.take()
                continue
            if not self._addresses.reached and tries == min(_TRIES_TO_REACH, max_retries):
                raise self._too_slow() if outcome.timed_out else self._unreachable()
            if tries == max_retries:
                return paid.ended(outcome.message, time.monotonic() - started)
            tries += 1
            await self._places.pause(min(LONGEST_BACKOFF_S, 0.5 * 2**tries) * random.uniform(0.5, 1.0))
            address = await self._places.take(avoid=address)

    def let_go(self, paid: Paid) -> None:
        """A request's reply has been taken and paid, or none comes: what was set aside for its further try is free."""
        if paid.room is not None:
            give_back(self._requests, paid.room)

    async def _send(self, address: Address, request: Request, paid: Paid) -> Reply | _Again:
        """Send a request once."""
        import aiohttp
        import httpx2
        import openai

        way = address.ladder.way
        way = way._replace(room=(way.room or paid.room is not None) and not paid.cramped)
        body = self._respondent.request_body(request, way)
        started = time.monotonic()
        try:
            # The client's own limits hold for each read.
            async with asyncio.timeout(self._respondent.timeout_s):
                # Not `chat.completions.create`: its checks and models take as long again as all the rest.
                response = await self._clients[address].post("/chat/completions", cast_to=httpx2.Response, body=body)
        except openai.APIStatusError as error:
            return self._after_status(address, error, way, started, paid)
        except TimeoutError:
            words = f"Timed out. No whole response in {self._respondent.timeout_s:g} s."
            return self._after_failure(address, Fault(words, timed_out=True), way, started)
        except (openai.APIConnectionError, aiohttp.ClientError) as error:
            # The client passes on those of aiohttp's errors that it does not know.
            return self._after_failure(address, connection_fault(error, self._respondent.secrets), way, started)
        except UnicodeEncodeError as error:
            return paid.failed(f"The request must be valid Unicode; got {error}.", time.monotonic() - started)
        latency_s = time.monotonic() - started
        self._hold_back(address, until_reset(response.headers))
        return self._after_success(address, response, request, way, started, latency_s, paid)

    def _after_success(
        self,
        address: Address,
        response: "httpx2.Response",
        request: Request,
        way: Way,
        sent_at: float,
        latency_s: float,
        paid: Paid,
    ) -> Reply | _Again:
        """What a response with status 200 means: a reply, an error in its place, or nothing that can be read."""
        from fairpp_hf.respondents.body import UnfitBody, from_json

        content = self._respondent.secrets.hide_in_bytes(response.content)
        completion: Any = None
        reply: Reply | None = None
        try:
            completion = from_json(response, content)
            hidden = hidden_error(completion, response)
            if hidden is None:
                reply = self._respondent.read(completion, request, latency_s, way)
        except Exception as error:
            # It was paid for all the same, and whatever is wrong with it costs this reply only.
            paid.add(usage_of(completion))
            paid.body = content[: 4 * LONGEST_BODY_KEPT].decode("utf-8", "replace")[:LONGEST_BODY_KEPT]
            message = f"unreadable response: {error}"
            # A body that is no JSON, or JSON that is no chat completion, may be another one the next time.
            if isinstance(error, ValueError) and not isinstance(error, UnfitBody):
                return self._after_failure(address, Fault(message, reached=True), way, sent_at)
            address.responded()
            return paid.unfit(message, latency_s)
        if reply is None:
            assert hidden is not None
            paid.usage = sum_of_usage(paid.usage, usage_of(completion))
            return self._after_status(address, hidden, way, sent_at, paid)
        paid.add(reply.usage)
        paid.read += 1
        # A server may answer a request for a schema with nothing.
        if reply.status == "empty" and way.ask != "text" and paid.read <= self._respondent.further_tries:
            address.responded()
            if address.ladder.step_down(way, crashed=True, at_fault="ask"):
                return _Again("a reply without content")
        self._succeeded(address, way, reply)
        if self._gets_more_room(address, way, reply, paid):
            return _Again("a reply that ran out of tokens")
        if self._respondent.worth_another_try(reply) and paid.read <= self._respondent.further_tries:
            if reply.raw:
                paid.earlier.append(reply.raw)
            return _Again(f"a reply that is {reply.status}")
        return paid.all_told(reply)

    def _gets_more_room(self, address: Address, way: Way, reply: Reply, paid: Paid) -> bool:
        """Whether a reply that ran out is asked for once more, with room to think, where the budget has room for that."""
        if not self._respondent.gives_room or address.ladder.roomless or paid.cramped:
            return False
        if (reply.detail or {}).get("reasoned"):
            address.ladder.learn(room=True)
        if reply.status != "truncated" or way.room or paid.room is not None:
            return False
        asked = (reply.usage or {}).get("prompt_tokens", 0)
        room = {"prompt_tokens": asked, "completion_tokens": self._respondent.tokens_for(way._replace(room=True))}
        if not set_aside(self._requests, room):
            return False
        paid.room, paid.ran_out = room, reply
        return True

    def _succeeded(self, address: Address, way: Way, reply: Reply) -> None:
        self._refused_since = None
        if address.times_left_out:
            logger.info("The server %s answers again.", address.name)
        address.succeeded()
        address.ladder.roomy = address.ladder.roomy or way.room
        answered = Way.of((reply.detail or {}).get("asked")) or way
        if address.ladder.succeeded(answered._replace(room=address.ladder.way.room), way):
            # A warning in every case: the command line shows no less.
            logger.warning("The server %s is asked like this: %s.", address.name, address.ladder.way.words())

    def _after_status(
        self, address: Address, error: "openai.APIStatusError", way: Way, sent_at: float, paid: Paid
    ) -> Reply | _Again:
        message, status, now = message_of(error, self._respondent.secrets), error.status_code, time.monotonic()
        if status < 500 and is_flagged(error, message):
            address.responded()
            detail = {"error": message, "refusal": True}
            return paid.all_told(Reply(NO_ANSWER, None, "refusal", message, None, now - sent_at, detail))
        ladder = address.ladder
        if not (status == 403 and ladder.named(way, message)):
            self._respondent.stop_if_final(error, address.name)
        asked = retry_after(error.response.headers, time.time())
        if asked is None:
            asked = until_reset(error.response.headers)
        if status == 429:
            address.responded()
            address.refused(sent_at, now)
            self._hold_back(address, asked or address.refusal_pause_s())
            self._check_patience(now)
            return _Again(message)
        if status >= 500 or status in _PASSING:
            self._hold_back(address, asked)
            fault = Fault(message, reached=True, timed_out=status in _TOO_MUCH, crashed=status >= 500)
            return self._after_failure(address, fault, way, sent_at)
        address.responded()
        if status in _OF_THE_WAY:
            # Newer OpenAI models know the same limit by another name only.
            if way.length_parameter == "max_tokens" and "max_completion_tokens" in message:
                ladder.learn(length_parameter="max_completion_tokens")
                return _Again(message)
            if way.room and _ABOUT_LENGTH.search(message):
                # The room that we have asked for may be more than the model has.
                paid.cramped = True
                if not ladder.roomy:
                    ladder.roomless = True
                    ladder.learn(room=False)
                return paid.ended(message, now - sent_at) if paid.ran_out is not None else _Again(message)
            if ladder.step_down(way, message):
                return _Again(message)
            none_known = not any(other.ladder.settled for other in self._addresses)
            if ladder.refusals >= _MOST_REFUSED or (none_known and is_unsupported(error, message)):
                raise self._refused(address, error, message)
        return paid.ended(message, now - sent_at)

    def _after_failure(self, address: Address, fault: Fault, way: Way, sent_at: float) -> _Again:
        now = time.monotonic()
        address.reached = address.reached or fault.reached
        address.erred(fault.message)
        if fault.timed_out:
            address.refused(sent_at, now)
        was_in = not address.times_left_out
        left_out = self._addresses.leave_out_if_failing(address, now, unreachable=fault.unreachable)
        if left_out and was_in:
            logger.warning("The server %s is left out for a while: %s", address.name, fault.message)
        # Where others take over, an address that is not there is no fault of the request's.
        elsewhere = left_out and fault.unreachable
        stepped = fault.crashed and address.ladder.step_down(way, fault.message, crashed=True)
        return _Again(fault.message, not elsewhere and not stepped, fault.timed_out)

    def _hold_back(self, address: Address, wait_s: float | None) -> None:
        now = time.monotonic()
        if wait_s and now + wait_s > address.opens_at:
            if now >= address.opens_at:
                logger.info("The server %s asks for fewer requests: pausing for %.1f s.", address.name, wait_s)
            address.hold_back(now, wait_s)

    def _check_patience(self, now: float) -> None:
        if self._refused_since is None:
            self._refused_since = now
        if now - self._refused_since > PATIENCE_S:
            raise RespondentStopped(
                f"The server must take requests; got 429 (too many requests) for {PATIENCE_S / 60:.0f} minutes. "
                f"Use a smaller --concurrency or wait. {KEEP_GOING}"
            )

    def too_long_a_wait(self) -> RespondentStopped | None:
        """An error if every address asks for a wait that is longer than `PATIENCE_S`."""
        wait_s = self._addresses.wait_s(time.monotonic())
        if wait_s <= PATIENCE_S:
            return None
        return RespondentStopped(
            f"The server must take requests; got the word to wait for {wait_s / 60:.0f} minutes, from "
            f"{self._respondent.address}. Go on then. {KEEP_GOING}"
        )

    def nothing_but_failures(self, number: int, last: Reply) -> RespondentStopped:
        """The error for many failed requests in a row."""
        errors = self._addresses.errors() if len(self._addresses) > 1 else (last.detail or {})["error"]
        return RespondentStopped(
            f"The server must answer; got {number} failed requests in a row, the last with: {sentence(errors)} {KEEP_GOING}"
        )

    def _refused(self, address: Address, error: "openai.APIStatusError", message: str) -> RespondentStopped:
        """The error for a server that takes a request in no way."""
        if error.status_code == 403:
            return self._respondent.not_allowed(error, address.name)
        fix = f"Use another {self._respondent.options.model}"
        if _TOO_LONG.search(message):
            fix = f"Ask for fewer tokens, or use another {self._respondent.options.model} with a longer context"
        if self._respondent.ask == "choice":
            fix = "Leave out --ask choice, or use another model"
        where = f" at {address.name}" if len(self._addresses) > 1 else ""
        return RespondentStopped(
            f"The model must take what a request asks for; got {error.status_code} for model "
            f"{self._respondent.model!r}{where}: {sentence(message)} {fix}. {KEEP_GOING}"
        )

    def _too_slow(self) -> RespondentStopped:
        return RespondentStopped(
            f"The server must answer in time; got {self._addresses.errors()}. Use a longer --timeout. {KEEP_GOING}"
        )

    def _unreachable(self) -> RespondentStopped:
        return RespondentStopped(
            f"The server must be reachable; got {self._addresses.errors()}. "
            f"Check {self._respondent.options.base_url}, and that the server runs. {KEEP_GOING}"
        )
