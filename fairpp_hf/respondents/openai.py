"""Answers from any server that speaks the OpenAI API: api.openai.com, vLLM, llama.cpp, `transformers serve` and so on."""

import asyncio
import contextlib
import os
import re
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from fairpp_hf.respondents.base import SIMULATED, Reply, Request, RespondentStopped, has_room, is_stopped
from fairpp_hf.respondents.client import OPENAI_ADDRESS, open_client, public_address, secrets_of
from fairpp_hf.respondents.completion import read_completion
from fairpp_hf.respondents.exchange import Exchange, Paid, RequestsStopped
from fairpp_hf.respondents.faults import sentence
from fairpp_hf.respondents.ladder import TOP_LOGPROBS, Ladder, Way, folded
from fairpp_hf.respondents.pace import Pace
from fairpp_hf.schema import OPTION_LETTERS

if TYPE_CHECKING:
    import openai

MAX_TOKENS = 64
"""Of a reply, by default: enough for one option written out."""

ROOM_TO_THINK = 4_096
"""Further tokens of a reply where a model thinks first, and of the one further try of a reply that ran out."""

_CHOICE = re.compile(r'\{\s*"answer"\s*:\s*(?:"(?:[A-C](?:"\s*\}?)?)?)?')
"""An answer as the schema constrains it, whole or cut off."""
_FEWEST_FAILURES_TO_STOP = 10
_LOOK_S = 0.1
"""How often a look is taken at whether the requests are stopped."""


class OpenAIRespondent:
    """Asks a chat model over the OpenAI API.

    The first requests, one at a time, find out how the server is to be asked (`ladder`): for a choice of letters that a JSON
    schema constrains, or for free text; with log-probabilities or without; and what else it refuses. That is logged once,
    and `ways` has it. The option probabilities are read off the alternatives of the answer's token (`reading`), and are
    None where the server gives none; those of a constrained choice are probabilities under the constraint, and
    `detail["asked"]` says so.

    If `max_tokens` is left out, a model that is seen to think has room for that from then on. A reply that was cut off
    before an answer is then asked for once more with that room, if the budget allows it, and is `truncated` after that. A
    refusal, or a reply or prompt that the provider's filter stopped, is `refusal`. A reply without content is asked for
    again, `further_tries` times, and then `empty`. The tokens of all replies on the way are added up in `usage`;
    `detail["tries"]` says how many.

    Dropped connections, time-outs and server errors are tried again, `max_retries` times, with growing, jittered pauses;
    then the request is `failed`. On 429 requests pause for as long as the server says, fewer are in flight from then on,
    and no try is used up. A rejected key, an unknown model and an exhausted quota stop everything at once.

    Args:
        model: Name of the model on the server.
        base_url: Address of the server, such as `http://localhost:8000/v1`; its query is sent with every request.
            `OPENAI_BASE_URL`, or else OpenAI, by default.
        api_key: Key for the server; `OPENAI_API_KEY` by default. A server of your own usually needs none.
        concurrency: Requests in flight at most, at least 1.
        temperature: Sampling temperature, 0 to 2; 0 asks for the likeliest reply. Left out where the server refuses it.
        max_tokens: Tokens of a reply at most, at least 1. None: `MAX_TOKENS`, and `ROOM_TO_THINK` more where the model
            thinks.
        max_retries: Further tries after a failure, at least 0.
        timeout_s: Seconds from sending a request to the end of its response, above 0.
        ask: `"choice"` or `"text"` to ask so whatever the server takes; None tries the choice first. The paper's way is
            `"text"`.
        logprobs: Whether to ask for log-probabilities at all.
        system_as_user: Whether the portrait begins the user's message also where the server has a system role.

    Raises:
        ValueError: An argument is out of range, an address is no URL, or there is neither a key nor a base URL.
    """

    further_tries = 2
    """How often a reply that is `worth_another_try` is asked for again."""

    response_format: Mapping[str, Any] = {
        "type": "json_schema",
        "json_schema": {
            "name": "answer",
            "strict": True,
            "schema": {
                "type": "object",
                "properties": {"answer": {"type": "string", "enum": list(OPTION_LETTERS)}},
                "required": ["answer"],
                "additionalProperties": False,
            },
        },
    }
    """What constrains a reply, where the server takes it."""

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        concurrency: int = 32,
        temperature: float = 0.0,
        max_tokens: int | None = None,
        max_retries: int = 5,
        timeout_s: float = 120.0,
        ask: Literal["choice", "text"] | None = None,
        logprobs: bool = True,
        system_as_user: bool = False,
    ) -> None:
        if not model:
            raise ValueError("model must name a model of the server; got ''.")
        for what, value, lowest in (
            ("concurrency", concurrency, 1),
            ("max_tokens", MAX_TOKENS if max_tokens is None else max_tokens, 1),
            ("max_retries", max_retries, 0),
        ):
            if value < lowest:
                raise ValueError(f"{what} must be at least {lowest}; got {value}.")
        if not 0 <= temperature <= 2:
            raise ValueError(f"temperature must be in 0..2; got {temperature}.")
        if not timeout_s > 0:
            raise ValueError(f"timeout_s must be above 0; got {timeout_s}.")
        if ask not in (None, "choice", "text"):
            raise ValueError(f"ask must be 'choice', 'text' or None; got {ask!r}.")
        self.model = model
        # An empty one is as good as none, as is an empty OPENAI_BASE_URL.
        self.base_url = (base_url or os.environ.get("OPENAI_BASE_URL", "")).strip() or None
        self.address = public_address(self.base_url or OPENAI_ADDRESS)
        """The server's address, without anything in it that could be a secret."""
        self.concurrency = concurrency
        self.temperature = temperature
        self.max_retries = max_retries
        self.timeout_s = timeout_s
        self.ask = ask
        self.gives_room = max_tokens is None
        """Whether a reply may have more room than it was given at first."""
        self._max_tokens = MAX_TOKENS if max_tokens is None else max_tokens
        self._logprobs = logprobs
        self._system_as_user = system_as_user
        self._api_key = api_key or os.environ.get("OPENAI_API_KEY") or ("unused" if self.base_url else "")
        if not self._api_key:
            raise ValueError(
                "The openai respondent must have a key or a server of your own; got neither. "
                "Set OPENAI_API_KEY, or give a base URL such as http://localhost:8000/v1."
            )
        self.secrets = secrets_of(self._api_key, self.base_url)
        """What is shown and kept nowhere, though a server may repeat it."""
        self.ladder = Ladder(self.top_way, frozenset({"ask"} if ask == "choice" else ()))
        """How the server is asked, as far as it is known."""

    @property
    def name(self) -> str:
        """`openai:` and the model."""
        return f"openai:{self.model}{SIMULATED}"

    @property
    def settings(self) -> dict[str, Any]:
        """Model and sampling parameters, and how the server is asked as far as that is fixed: None is for it to settle."""
        return {
            "kind": "openai",
            "model": self.model,
            "temperature": self.temperature,
            "max_tokens": None if self.gives_room else self._max_tokens,
            "ask": self.ask,
            "logprobs": self._logprobs,
            "system_as_user": self._system_as_user,
        }

    @property
    def max_tokens(self) -> int:
        """The most that a reply may have as the server is now asked."""
        return self.tokens_for(self.ladder.way)

    @property
    def top_way(self) -> Way:
        """How a server is asked first."""
        return Way(
            ask=self.ask or "choice", top_logprobs=TOP_LOGPROBS[0] * self._logprobs, system=not self._system_as_user
        )

    @property
    def ways(self) -> dict[str, dict[str, Any]]:
        """Address to how it is asked, once an answer has shown that."""
        return {self.address: self.ladder.way.facts()} if self.ladder.settled else {}

    def begin_with(self, ways: Mapping[str, Any]) -> None:
        """Ask the server as it was asked before, as far as `ways` knows and it still takes that."""
        if (way := Way.of(ways.get(self.address))) is not None:
            self.ladder.begin_with(way)

    def tokens_for(self, way: Way) -> int:
        """The most tokens of a reply that is asked for in a way."""
        return self._max_tokens + (ROOM_TO_THINK if way.room else 0)

    def request_body(self, request: Request, way: Way | None = None) -> dict[str, Any]:
        """What is sent for a request that is asked in a way; by default, in that of the last answer."""
        way = way or self._known_way()
        body: dict[str, Any] = {
            "model": self.model,
            "messages": request.messages if way.system else folded(request.messages),
            way.length_parameter: self.tokens_for(way),
        }
        if way.temperature:
            body["temperature"] = self.temperature
        if way.ask != "text":
            body["response_format"] = dict(self.response_format)
        if way.top_logprobs:
            body |= {"logprobs": True, "top_logprobs": way.top_logprobs}
        return body

    def _known_way(self) -> Way:
        return self.ladder.way if self.ladder.settled else self.ladder.answered or self.ladder.way

    def read(self, completion: Mapping[str, Any], request: Request, latency_s: float, way: Way | None = None) -> Reply:
        """Turn a chat completion, as it stands in JSON, into a reply to a request that was asked in a way.

        The reply's `detail["asked"]` has the facts of the way, without the schema or the log-probabilities that the server
        has ignored, as far as the reply shows it.

        Raises:
            ValueError: It is not a chat completion with a choice.
        """
        reply = read_completion(completion, request.options, latency_s)
        way = way or self._known_way()
        if reply.status != "refusal" and reply.raw and reply.raw.strip():
            logprobs = completion["choices"][0].get("logprobs")
            if not (isinstance(logprobs, Mapping) and logprobs.get("content")):
                way = way._replace(top_logprobs=0)
            if way.ask == "choice" and not _CHOICE.fullmatch(reply.raw[max(0, reply.raw.rfind("{")) :].rstrip()):
                way = way._replace(ask="text")
        return reply._replace(detail={**(reply.detail or {}), "asked": way.facts()})

    def worth_another_try(self, reply: Reply) -> bool:
        """Whether a reply that was paid for is asked for again: one without content."""
        return reply.status == "empty"

    def open_client(self, *, limited: bool) -> "openai.AsyncOpenAI":
        """A client without retries of its own, for bodies up to a limit or of any size; the caller closes it."""
        url = self.base_url or OPENAI_ADDRESS
        return open_client(url, self._api_key, self.timeout_s, self.concurrency, limited=limited)

    async def answer(self, requests: Sequence[Request]) -> AsyncIterator[tuple[int, Reply]]:
        """Ask the requests, as many at a time as the server takes, `concurrency` at most.

        Cancelled, it still yields what had come, and what was paid for requests that were under way.

        Raises:
            RespondentStopped: After the replies in flight, if the server will not take a further request.
        """
        waiting = enumerate(requests)
        in_flight: dict[asyncio.Task[Reply], tuple[int, Paid]] = {}
        finished: deque[asyncio.Task[Reply]] = deque()
        changed = asyncio.Event()
        pace = Pace(self.concurrency, lambda: self.ladder.settled, changed.set)
        client = self.open_client(limited=True)
        exchange = Exchange(self, pace, client, requests)
        stop: RespondentStopped | None = None
        exhausted = False
        limit, failures = 1, 0

        def finish(task: asyncio.Task[Reply]) -> None:
            finished.append(task)
            changed.set()

        def end(error: RespondentStopped) -> None:
            nonlocal stop
            stop = stop or error
            pace.close(stop)

        try:
            while True:
                exhausted = exhausted or is_stopped(requests)
                while (
                    not exhausted
                    and stop is None
                    and len(in_flight) < limit
                    and (not in_flight or has_room(requests))
                    and pace.take_free()
                ):
                    index_and_request = next(waiting, None)
                    if index_and_request is None:
                        pace.leave()
                        exhausted = True
                        break
                    paid = Paid()
                    task = asyncio.create_task(exchange.ask(index_and_request[1], paid))
                    in_flight[task] = index_and_request[0], paid
                    task.add_done_callback(finish)
                if not in_flight and (exhausted or stop is not None):
                    break
                if stop is None and is_stopped(requests):
                    pace.close(RequestsStopped("The run was stopped before an answer came."))
                elif stop is None and (too_long := exchange.too_long_a_wait()) is not None:
                    end(too_long)
                    continue
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_S):
                        await changed.wait()
                changed.clear()
                # All that have come are handed over before anything else is sent: the caller saves them in one go.
                while finished:
                    task = finished.popleft()
                    index, paid = in_flight.pop(task)
                    # Others take the places of those that pause: without an answer, no more than it takes to stop.
                    limit = (
                        self.concurrency if self.ladder.answered else min(self.concurrency, _FEWEST_FAILURES_TO_STOP)
                    )
                    error = task.exception()
                    if isinstance(error, RespondentStopped | RequestsStopped):
                        if isinstance(error, RespondentStopped):
                            end(error)
                        if (given_up := paid.given_up(str(error))) is not None:
                            yield index, given_up
                        exchange.let_go(paid)
                        continue
                    reply = task.result()
                    failures = failures + 1 if reply.status == "failed" else 0
                    at_once = self.concurrency if self.ladder.settled else 1
                    if failures >= max(_FEWEST_FAILURES_TO_STOP, 2 * at_once):
                        last = sentence((reply.detail or {})["error"])
                        got = f"got {failures} failed requests in a row, the last with: {last}"
                        end(RespondentStopped(f"The server must answer; {got}"))
                    yield index, reply
                    exchange.let_go(paid)
        except asyncio.CancelledError:
            outcomes = await _cancelled(in_flight)
            for (index, paid), outcome in zip(in_flight.values(), outcomes, strict=True):
                reply_or_none = outcome if isinstance(outcome, Reply) else paid.given_up("The run was stopped.")
                if reply_or_none is not None:
                    yield index, reply_or_none
            raise
        finally:
            await _cancelled(in_flight)
            await client.close()
        if stop is not None:
            raise stop


async def _cancelled(tasks: Iterable[asyncio.Task[Reply]]) -> list[Reply | BaseException]:
    """Cancel tasks, as far as they are not done, and wait for their ends."""
    for task in tasks:
        task.cancel()
    return await asyncio.gather(*tasks, return_exceptions=True)
