"""Answers from any server that speaks the OpenAI API: api.openai.com, vLLM, llama.cpp, `transformers serve` and so on."""

import asyncio
import os
import re
from base64 import b64encode
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote_to_bytes

from fairpp_hf.respondents.base import SIMULATED, Reply, Request, RespondentStopped, can_stop, has_room, is_stopped
from fairpp_hf.respondents.completion import read_completion
from fairpp_hf.respondents.endpoints import Addresses, Dialect, Places
from fairpp_hf.respondents.exchange import KEEP_GOING, Exchange, Paid, RequestsStopped
from fairpp_hf.respondents.faults import message_of

if TYPE_CHECKING:
    import openai

TOP_LOGPROBS = 20
"""How many alternatives of the first token are asked for; the most that the API allows."""

_OPENAI_ADDRESS = "https://api.openai.com/v1"
_URL = re.compile(
    r"([a-z][a-z0-9+.-]*://)(?:[^/?#]*@)?((?:[^/?#@:\[\]]+|\[[0-9a-f:.]+\])(?::\d+)?)(/[^?#]*)?(?:[?#].*)?",
    re.IGNORECASE,
)
_LONGEST_CONNECTING_S = 15.0
_FEWEST_FAILURES_TO_STOP = 10
_LOOK_S = 0.1
"""How often a look is taken at whether the requests are stopped."""


class Options(NamedTuple):
    """The options of the command line that messages name."""

    model: str = "--model"
    base_url: str = "--base-url"
    temperature: str = "--temperature"


class OpenAIRespondent:
    """Asks a chat model over the OpenAI API.

    The reply's text is read by `reading.read_text`. Where the server gives log-probabilities, the reply's first token is
    the answer's letter, and all three letters are among its alternatives, the option probabilities are those of the
    letters, renormalised; otherwise they are None.

    A reply that was cut off at `max_tokens` is `ok` if what came names one option and `truncated` if not. A refusal or a
    reply that the provider's filter stopped is `refusal`. One without content is asked for again, `further_tries` times,
    and then `empty`. The tokens of all replies on the way are added up in `usage`; `detail["tries"]` says how many.

    Dropped connections, time-outs and server errors are tried again, `max_retries` times, with growing, jittered pauses;
    then the request is `failed`. On 429 requests pause for as long as the server says, fewer are in flight from then on,
    and no try is used up. A rejected key, an unknown model and an exhausted quota stop everything at once.

    Several addresses share the load, each up to what it turns out to take (`endpoints`). One that cannot be reached or
    keeps failing is left out for a while, and its requests go to the others.

    Args:
        model: the model's name on the server.
        base_url: the server, such as `http://localhost:8000/v1`, or several that serve the same model;
            `OPENAI_BASE_URL`, or else OpenAI, by default.
        api_key: `OPENAI_API_KEY` by default. A server of your own usually needs none.
        concurrency: how many requests are in flight at most, over all addresses; at least 1. The first goes alone, to see
            whether the server takes it.
        temperature: 0 to 2; 0 asks for the likeliest reply.
        max_tokens: enough for one option written out. A model that thinks first needs more; at least 1.
        max_retries: further tries after a failure; at least 0.
        timeout_s: seconds to wait for one reply; above 0.

    Raises:
        ValueError: an argument out of range, or neither a key nor a base URL.
    """

    further_tries = 2
    """How often a reply that is `worth_another_try` is asked for again."""

    optional_parameters: Mapping[str, Any] = {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
    """What is asked for where the server takes it."""

    without_optional_parameters = (
        "The server rejects requests for logprobs: asking without, so no option probabilities."
    )
    """The warning where it does not."""

    options = Options()
    """Where a user says what can be said otherwise."""

    def __init__(
        self,
        model: str,
        *,
        base_url: str | Sequence[str] | None = None,
        api_key: str | None = None,
        concurrency: int = 32,
        temperature: float = 0.0,
        max_tokens: int = 64,
        max_retries: int = 5,
        timeout_s: float = 120.0,
    ) -> None:
        if not model:
            raise ValueError("model must name a model of the server; got ''. Pass --model MODEL.")
        for what, value, lowest in (
            ("concurrency", concurrency, 1),
            ("max_tokens", max_tokens, 1),
            ("max_retries", max_retries, 0),
        ):
            if value < lowest:
                raise ValueError(f"{what} must be at least {lowest}; got {value}.")
        if not 0 <= temperature <= 2:
            raise ValueError(f"temperature must be in 0..2; got {temperature}.")
        if not timeout_s > 0:
            raise ValueError(f"timeout_s must be above 0; got {timeout_s}.")
        given = (base_url,) if isinstance(base_url, str) else tuple(base_url or ())
        if len(given) > 1 and not all(given):
            raise ValueError(f"Each base_url must be an address; got '' at number {given.index('') + 1}.")
        self.model = model
        # An empty one is as good as none, as is an empty OPENAI_BASE_URL.
        urls = given if any(given) else (os.environ.get("OPENAI_BASE_URL", ""),)
        self.base_urls = tuple(dict.fromkeys(filter(None, urls)))
        self.concurrency = concurrency
        self.temperature = temperature
        self.max_tokens = max_tokens
        self.max_retries = max_retries
        self.timeout_s = timeout_s
        self._api_key = api_key or os.environ.get("OPENAI_API_KEY") or ("unused" if self.base_urls else "")
        if not self._api_key:
            raise ValueError(
                "The openai respondent must have a key or a server of your own; got neither. "
                "Set OPENAI_API_KEY, or pass --base-url http://HOST:PORT/v1."
            )
        self._addresses = Addresses([_public(url) for url in self.base_urls or (_OPENAI_ADDRESS,)], concurrency)

    @property
    def name(self) -> str:
        """`openai:` and the model."""
        return f"openai:{self.model}{SIMULATED}"

    @property
    def settings(self) -> dict[str, Any]:
        """Model and sampling parameters."""
        return {
            "kind": "openai",
            "model": self.model,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
        }

    @property
    def address(self) -> str:
        """The servers' addresses, in alphabetical order, without anything in them that could be a secret."""
        return ", ".join(sorted(address.name for address in self._addresses))

    def request_body(self, request: Request, dialect: Dialect | None = None) -> dict[str, Any]:
        """What is sent for a request.

        Args:
            request: the request.
            dialect: what the server takes; by default, what is known of the first address.
        """
        dialect = dialect or self._addresses[0].dialect
        body = {
            "model": self.model,
            "messages": request.messages,
            "temperature": self.temperature,
            dialect.length_parameter: self.max_tokens,
        }
        return body | dict(self.optional_parameters) if dialect.optional else body

    def read(self, completion: Mapping[str, Any], request: Request, latency_s: float) -> Reply:
        """Turn a chat completion, as it stands in JSON, into a reply.

        Raises:
            ValueError: it is not a chat completion with a choice.
        """
        return read_completion(completion, request.options, latency_s)

    def worth_another_try(self, reply: Reply) -> bool:
        """Whether a reply that was paid for is asked for again: one without content."""
        return reply.status == "empty"

    def open_client(self) -> "openai.AsyncOpenAI":
        """A client for the first address, that makes no retries of its own; the caller closes it."""
        return self._client(0)

    async def answer(self, requests: Sequence[Request]) -> AsyncIterator[tuple[int, Reply]]:
        """Ask the requests, as many at a time as the addresses take, `concurrency` at most.

        Cancelled, it still yields what had come, and what was paid for requests that were under way.

        Raises:
            RespondentStopped: after the replies in flight, if no address will take a further request.
        """
        waiting = enumerate(requests)
        in_flight: dict[asyncio.Task[Reply], tuple[int, Paid]] = {}
        finished: deque[asyncio.Task[Reply]] = deque()
        changed = asyncio.Event()
        places = Places(self._addresses, changed.set)
        exchange = Exchange(self, self._addresses, places, list(map(self._client, range(len(self._addresses)))))
        stop: RespondentStopped | None = None
        exhausted = False
        limit, failures = 1, 0
        watcher = asyncio.create_task(_when_stopped(requests, places, changed)) if can_stop(requests) else None

        def finish(task: asyncio.Task[Reply]) -> None:
            finished.append(task)
            changed.set()

        def end(error: RespondentStopped) -> None:
            nonlocal stop
            stop = stop or error
            places.close(stop)

        try:
            while True:
                exhausted = exhausted or is_stopped(requests)
                while (
                    not exhausted
                    and stop is None
                    and len(in_flight) < limit
                    and (not in_flight or has_room(requests))
                    and (address := places.free())
                ):
                    index_and_request = next(waiting, None)
                    if index_and_request is None:
                        places.leave(address)
                        exhausted = True
                        break
                    paid = Paid()
                    task = asyncio.create_task(exchange.ask(address, index_and_request[1], paid))
                    in_flight[task] = index_and_request[0], paid
                    task.add_done_callback(finish)
                if not in_flight and (exhausted or stop is not None):
                    break
                if stop is None and not is_stopped(requests) and (too_long := exchange.too_long_a_wait()) is not None:
                    end(too_long)
                    continue
                await changed.wait()
                changed.clear()
                # All that have come are handed over before anything else is sent: the caller saves them in one go.
                while finished:
                    task = finished.popleft()
                    index, paid = in_flight.pop(task)
                    limit = self.concurrency
                    error = task.exception()
                    if isinstance(error, RespondentStopped | RequestsStopped):
                        if isinstance(error, RespondentStopped):
                            end(error)
                        if (given_up := paid.given_up(str(error))) is not None:
                            yield index, given_up
                        continue
                    reply = task.result()
                    failures = failures + 1 if reply.status == "failed" else 0
                    if failures >= max(_FEWEST_FAILURES_TO_STOP, 2 * self.concurrency):
                        end(exchange.nothing_but_failures(failures, reply))
                    yield index, reply
        except asyncio.CancelledError:
            outcomes = await _cancelled(in_flight)
            for (index, paid), outcome in zip(in_flight.values(), outcomes, strict=True):
                reply_or_none = outcome if isinstance(outcome, Reply) else paid.given_up("The run was stopped.")
                if reply_or_none is not None:
                    yield index, reply_or_none
            raise
        finally:
            if watcher is not None:
                watcher.cancel()
            await _cancelled(in_flight)
            for address in self._addresses:
                address.in_flight = 0  # a task that was cancelled before it began gives no place back
            await exchange.close()
        if stop is not None:
            raise stop

    def stop_if_final(self, error: "openai.APIStatusError", address: str | None = None) -> None:
        """Stop at an error that no other request would escape.

        Args:
            error: what the client raised.
            address: the server's, for the message where there are several; by default the first.

        Raises:
            RespondentStopped: 401, 402, 403, 404, an exhausted quota, or an account that cannot pay.
        """
        status = error.status_code
        if status == 402 or "insufficient_quota" in (error.code, error.type):
            problem, fix = "The account must have quota left", "Add credit"
        elif any(str(kind).startswith("billing_") for kind in (error.code, error.type)):
            problem, fix = "The account must be able to pay", "Check its billing"
        elif status == 401:
            problem, fix = "The server must accept the key", "Set OPENAI_API_KEY to a valid one"
        elif status == 403:
            problem, fix = (
                "The key must be allowed to use the model",
                f"Use another key or another {self.options.model}",
            )
        elif status == 404:
            problem, fix = "The server must have the model", f"Check {self.options.model} and {self.options.base_url}"
        else:
            return
        where = f" at {address or self._addresses[0].name}" if len(self._addresses) > 1 else ""
        raise RespondentStopped(
            f"{problem}; got {status} for model {self.model!r}{where}: {message_of(error)} {fix}. {KEEP_GOING}"
        )

    def _client(self, number: int) -> "openai.AsyncOpenAI":
        """A client for the address of that number."""
        import httpx2
        import openai

        url = httpx2.URL(self.base_urls[number] if self.base_urls else _OPENAI_ADDRESS)
        # Somebody's own gate in front of the server, which takes the place of the key.
        gate = (
            {"Authorization": f"Basic {b64encode(unquote_to_bytes(url.userinfo)).decode()}"} if url.userinfo else None
        )
        timeout = httpx2.Timeout(self.timeout_s, connect=min(self.timeout_s, _LONGEST_CONNECTING_S), pool=None)
        limits = httpx2.Limits(max_connections=self.concurrency, max_keepalive_connections=self.concurrency)
        return openai.AsyncOpenAI(
            api_key=self._api_key,
            base_url=url.copy_with(userinfo=b""),
            default_headers=gate,
            # Retries are made by `Exchange`: the client's own would spend them on an exhausted quota as well.
            max_retries=0,
            timeout=timeout,
            # A request takes a third less of the processor than over the client's usual transport.
            http_client=openai.DefaultAioHttpClient(limits=limits, timeout=timeout),
        )


async def _when_stopped(requests: Sequence[Request], places: Places, changed: asyncio.Event) -> None:
    """End all waiting when the requests are stopped."""
    while not is_stopped(requests):
        await asyncio.sleep(_LOOK_S)
    places.close(RequestsStopped("The run was stopped before an answer came."))
    changed.set()


async def _cancelled(tasks: Iterable[asyncio.Task[Reply]]) -> list[Reply | BaseException]:
    """Cancel tasks, as far as they are not done, and wait for their ends."""
    for task in tasks:
        task.cancel()
    return await asyncio.gather(*tasks, return_exceptions=True)


def _public(url: str) -> str:
    """A URL without user name, password, query and fragment; scheme and host in lower case.

    Example:
        >>> _public("https://me:secret@host:8000/v1/?key=secret")
        'https://host:8000/v1'
    """
    found = _URL.fullmatch(url.strip())
    # A URL with a slip in it, such as an unescaped # in the password, may have its secret anywhere.
    if not found:
        return "an address that is no URL"
    scheme, server, path = found.groups(default="")
    return f"{scheme.lower()}{server.lower()}{path.rstrip('/')}"
