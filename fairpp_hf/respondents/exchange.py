"""One request to its end over the OpenAI API: places, tries, pauses, and what each response means."""

import json
import logging
import random
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from fairpp_hf.respondents.base import Reply, Request, RespondentStopped
from fairpp_hf.respondents.completion import sum_of_usage, usage_of
from fairpp_hf.respondents.endpoints import Address, Addresses, Dialect, Places, retry_after, until_reset
from fairpp_hf.respondents.faults import connection_fault, hidden_error, is_unsupported, message_of
from fairpp_hf.schema import NO_ANSWER

if TYPE_CHECKING:
    import openai

    from fairpp_hf.respondents.openai import OpenAIRespondent

logger = logging.getLogger(__name__)

KEEP_GOING = "Every reply received so far is kept; run the same command again to continue."

PATIENCE_S = 600.0
"""How long all addresses may refuse everything before the run stops."""

LONGEST_BACKOFF_S = 30.0

_TRIES_TO_REACH = 2
_LONGEST_BODY_KEPT = 2000
_TOO_MUCH = (408, 503, 504)
"""Statuses that say, beside 429, that a server has too much to do."""

_PASSING = (408, 409, 425)
"""Statuses below 500 that may be another one the next time."""


class RequestsStopped(Exception):
    """The user stopped the run: what waits for its turn ends."""


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

    def add(self, usage: dict[str, Any] | None) -> None:
        """Count one more."""
        self.tries += 1
        self.usage = sum_of_usage(self.usage, usage)

    def all_told(self, reply: Reply) -> Reply:
        """The last reply, with the tokens of all, and the texts of the others: they were paid for as well."""
        detail = dict(reply.detail or {})
        if self.tries:
            detail["tries"] = self.tries
        if self.earlier:
            detail["earlier"] = self.earlier
        return reply._replace(usage=self.usage, detail=detail)

    def failed(self, message: str, latency_s: float) -> Reply:
        """No reply, but what was paid on the way stays known."""
        detail = {"error": message} | ({} if self.body is None else {"body": self.body})
        return self.all_told(Reply(NO_ANSWER, None, "failed", None, None, latency_s, detail))

    def given_up(self, message: str) -> Reply | None:
        """What is handed over of a request that will not be sent again: nothing, if nothing was paid."""
        return self.failed(message, time.monotonic() - self.since) if self.tries else None


class _Again(NamedTuple):
    """The request is sent again."""

    message: str
    costs_a_try: bool = False
    """Whether `max_retries` counts it, with a pause before the next."""
    plain: bool = False
    """Whether without the optional parameters."""


class Exchange:
    """What the requests of one call of `answer` share.

    Args:
        respondent: says what is sent, how it is read, and how often it is tried.
        addresses: where to.
        places: they decide when.
        clients: one for each address.
    """

    def __init__(
        self,
        respondent: "OpenAIRespondent",
        addresses: Addresses,
        places: Places,
        clients: "Sequence[openai.AsyncOpenAI]",
    ) -> None:
        self._respondent = respondent
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
        plain_at: set[Address] = set()
        while True:
            dialect = address.dialect._replace(optional=False) if address in plain_at else address.dialect
            started = time.monotonic()
            try:
                outcome = await self._send(address, request, dialect, paid)
            finally:
                self._places.leave(address)
            if isinstance(outcome, Reply):
                return outcome
            if outcome.plain:
                plain_at.add(address)
            if not outcome.costs_a_try:
                address = await self._places.take()
                continue
            if not self._addresses.reached and tries == min(_TRIES_TO_REACH, max_retries):
                raise self._unreachable()
            if tries == max_retries:
                return paid.failed(outcome.message, time.monotonic() - started)
            tries += 1
            await self._places.pause(min(LONGEST_BACKOFF_S, 0.5 * 2**tries) * random.uniform(0.5, 1.0))
            address = await self._places.take(avoid=address)

    async def _send(self, address: Address, request: Request, dialect: Dialect, paid: Paid) -> Reply | _Again:
        """Send a request once."""
        import aiohttp
        import httpx2
        import openai

        body = self._respondent.request_body(request, dialect)
        started = time.monotonic()
        try:
            # Not `chat.completions.create`: its checks and models take as long again as all the rest.
            response = await self._clients[address].post("/chat/completions", cast_to=httpx2.Response, body=body)
        except openai.APIStatusError as error:
            return self._after_status(address, error, dialect, started, paid)
        except (openai.APIConnectionError, aiohttp.ClientError) as error:
            # The client passes on those of aiohttp's errors that it does not know.
            fault = connection_fault(error)
            return self._after_failure(
                address,
                fault.message,
                started,
                reached=fault.reached,
                unreachable=fault.unreachable,
                too_much=fault.timed_out,
            )
        except UnicodeEncodeError as error:
            return paid.failed(f"The request must be valid Unicode; got {error}.", time.monotonic() - started)
        latency_s = time.monotonic() - started
        self._hold_back(address, until_reset(response.headers))
        completion: Any = None
        try:
            completion = _from_json(response.content)
            if (hidden := hidden_error(completion, response)) is not None:
                paid.usage = sum_of_usage(paid.usage, usage_of(completion))
                return self._after_status(address, hidden, dialect, started, paid)
            reply = self._respondent.read(completion, request, latency_s)
        except ValueError as error:
            # A body that is no JSON, or JSON that is no chat completion. It was paid for all the same.
            paid.add(usage_of(completion))
            paid.body = response.content.decode("utf-8", "replace")[:_LONGEST_BODY_KEPT]
            return self._after_failure(address, f"unreadable response: {error}", started)
        paid.add(reply.usage)
        paid.read += 1
        self._succeeded(address, dialect)
        if self._respondent.worth_another_try(reply) and paid.read <= self._respondent.further_tries:
            if reply.raw:
                paid.earlier.append(reply.raw)
            return _Again(f"a reply that is {reply.status}")
        return paid.all_told(reply)

    def _succeeded(self, address: Address, dialect: Dialect) -> None:
        self._refused_since = None
        if address.times_left_out:
            logger.info("The server %s answers again.", address.name)
        address.succeeded()
        if not address.dialect.known:
            # The first success shows what this server takes.
            address.dialect = dialect._replace(known=True)
            if not dialect.optional:
                logger.warning(self._respondent.without_optional_parameters)

    def _after_status(
        self, address: Address, error: "openai.APIStatusError", dialect: Dialect, sent_at: float, paid: Paid
    ) -> Reply | _Again:
        message, status, now = message_of(error), error.status_code, time.monotonic()
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
            return self._after_failure(address, message, sent_at, reached=True, too_much=status in _TOO_MUCH)
        address.responded()
        if error.code == "content_filter":
            detail = {"error": message, "refusal": True}
            return paid.all_told(Reply(NO_ANSWER, None, "refusal", message, None, now - sent_at, detail))
        if status in (400, 422):
            # Newer OpenAI models know the same limit by another name only.
            if dialect.length_parameter == "max_tokens" and "max_completion_tokens" in message:
                address.dialect = address.dialect._replace(length_parameter="max_completion_tokens")
                return _Again(message)
            if dialect.optional and not address.dialect.known:
                return _Again(message, plain=True)
            if not any(other.dialect.known for other in self._addresses) and is_unsupported(error, message):
                raise self._unsupported(address, status, message)
        return paid.failed(message, now - sent_at)

    def _after_failure(
        self,
        address: Address,
        message: str,
        sent_at: float,
        *,
        unreachable: bool = False,
        reached: bool = True,
        too_much: bool = False,
    ) -> _Again:
        now = time.monotonic()
        address.reached = address.reached or reached
        address.erred(message)
        if too_much:
            address.refused(sent_at, now)
        was_in = not address.times_left_out
        left_out = self._addresses.leave_out_if_failing(address, now, unreachable=unreachable)
        if left_out and was_in:
            logger.warning("The server %s is left out for a while: %s", address.name, message)
        # Where others take over, an address that is not there is no fault of the request's.
        return _Again(message, costs_a_try=not (left_out and unreachable))

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
        errors = self._addresses.errors() if len(self._addresses) > 1 else (last.detail or {}).get("error")
        return RespondentStopped(
            f"The server must answer; got {number} failed requests in a row, the last with: {errors}. {KEEP_GOING}"
        )

    def _unsupported(self, address: Address, status: int, message: str) -> RespondentStopped:
        of_temperature = "temperature" in message and self._respondent.temperature != 1
        options = self._respondent.options
        fix = f"Pass {options.temperature} 1" if of_temperature else f"Use another {options.model}"
        where = f" at {address.name}" if len(self._addresses) > 1 else ""
        return RespondentStopped(
            f"The model must take what a request asks for; got {status} for model {self._respondent.model!r}{where}: "
            f"{message} {fix}. {KEEP_GOING}"
        )

    def _unreachable(self) -> RespondentStopped:
        return RespondentStopped(
            f"The server must be reachable; got {self._addresses.errors()}. "
            f"Check {self._respondent.options.base_url}, and that the server runs. {KEEP_GOING}"
        )


def _from_json(content: bytes) -> Any:
    """What a server sent, from JSON.

    Raises:
        ValueError: it is no JSON.
    """
    import jiter

    try:
        # Some 20 KB of log-probabilities a reply: the parser that the openai client brings takes half the time.
        return jiter.from_json(content)
    except ValueError:
        # It takes no lone surrogates, which models do send, and whose text is to be kept.
        return json.loads(content)
