"""Answers from any server that speaks the OpenAI API: api.openai.com, vLLM, llama.cpp, `transformers serve` and so on."""

import asyncio
import json
import logging
import math
import os
import random
import re
import time
from collections.abc import AsyncIterator, Sequence
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from fairpp_hf.respondents.base import SIMULATED, Reply, Request, RespondentStopped
from fairpp_hf.respondents.parsing import parse_answer
from fairpp_hf.schema import NO_ANSWER, OPTION_LETTERS

if TYPE_CHECKING:
    import openai

logger = logging.getLogger(__name__)

TOP_LOGPROBS = 20
"""How many alternatives of the first token are asked for; the most that the API allows."""

_OPENAI_ADDRESS = "https://api.openai.com/v1"
_URL = re.compile(
    r"([a-z][a-z0-9+.-]*://)(?:[^/?#]*@)?((?:[^/?#@:\[\]]+|\[[0-9a-f:.]+\])(?::\d+)?)(/[^?#]*)?(?:[?#].*)?",
    re.IGNORECASE,
)
_PATIENCE_S = 600.0
_LONGEST_BACKOFF_S = 30.0
_FEWEST_FAILURES_TO_STOP = 10
_TRIES_TO_REACH = 2
_KEEP_GOING = "Every reply received so far is kept; run the same command again to continue."


class OpenAIRespondent:
    """Asks a chat model over the OpenAI API.

    The reply's text is read by `parse_answer`. Where the server gives log-probabilities, the reply's first token is the
    answer's letter, and all three letters are among its alternatives, the option probabilities are those of the letters,
    renormalised; otherwise they are None.

    A reply that was cut off at `max_tokens` is `ok` if what came names one option and `truncated` if not. A refusal or a
    reply that the provider's filter stopped is `refusal`.

    Dropped connections, time-outs and server errors are tried again, `max_retries` times, with growing, jittered pauses;
    then the request is `failed`. On 429 all requests pause for as long as the server says, and no try is used up. A
    rejected key, an unknown model and an exhausted quota stop everything at once.

    Args:
        model: the model's name on the server.
        base_url: the server, such as `http://localhost:8000/v1`; `OPENAI_BASE_URL`, or else OpenAI, by default.
        api_key: `OPENAI_API_KEY` by default. A server of your own usually needs none.
        concurrency: how many requests are in flight at most; at least 1. The first goes alone, to see whether the server
            takes it.
        temperature: 0 to 2; 0 asks for the likeliest reply.
        max_tokens: enough for one option written out. A model that thinks first needs more; at least 1.
        max_retries: further tries after a failure; at least 0.
        timeout_s: seconds to wait for one reply; above 0.

    Raises:
        ValueError: an argument out of range, or neither a key nor a base URL.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        concurrency: int = 16,
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
        self.model = model
        self.base_url = base_url or os.environ.get("OPENAI_BASE_URL") or None
        self.concurrency = concurrency
        self.temperature = temperature
        self.max_tokens = max_tokens
        self.max_retries = max_retries
        self.timeout_s = timeout_s
        self._api_key = api_key or os.environ.get("OPENAI_API_KEY") or ("unused" if self.base_url else "")
        if not self._api_key:
            raise ValueError(
                "The openai respondent must have a key or a server of your own; got neither. "
                "Set OPENAI_API_KEY, or pass --base-url http://HOST:PORT/v1."
            )
        self._optional: dict[str, Any] = {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
        self._optional_known = False
        self._length_parameter = "max_tokens"
        self._reached = False
        self._not_before = 0.0

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
        """The server's address, without anything in it that could be a secret."""
        return _public(self.base_url or _OPENAI_ADDRESS)

    async def answer(self, requests: Sequence[Request]) -> AsyncIterator[tuple[int, Reply]]:
        """Ask the requests, `concurrency` at a time.

        Raises:
            RespondentStopped: after the replies in flight, if the server will take no further request.
        """
        import openai

        waiting = enumerate(requests)
        in_flight: dict[asyncio.Task[Reply], int] = {}
        finished: asyncio.Queue[asyncio.Task[Reply]] = asyncio.Queue()
        stop: RespondentStopped | None = None
        limit, failures = 1, 0
        # Retries are made below: the client's own would spend them on an exhausted quota as well.
        client = openai.AsyncOpenAI(
            api_key=self._api_key, base_url=self.base_url, max_retries=0, timeout=self.timeout_s
        )
        try:
            while True:
                while stop is None and len(in_flight) < limit:
                    index_and_request = next(waiting, None)
                    if index_and_request is None:
                        break
                    task = asyncio.create_task(self._ask(client, index_and_request[1]))
                    in_flight[task] = index_and_request[0]
                    task.add_done_callback(finished.put_nowait)
                if not in_flight:
                    break
                task = await finished.get()
                index = in_flight.pop(task)
                limit = self.concurrency
                try:
                    reply = task.result()
                except RespondentStopped as error:
                    stop = stop or error
                    continue
                failures = failures + 1 if reply.status == "failed" else 0
                if failures >= max(_FEWEST_FAILURES_TO_STOP, 2 * self.concurrency) and stop is None:
                    stop = RespondentStopped(
                        f"The server must answer; got {failures} failed requests in a row, the last with: "
                        f"{(reply.detail or {}).get('error')}. {_KEEP_GOING}"
                    )
                yield index, reply
        finally:
            for task in in_flight:
                task.cancel()
            await asyncio.gather(*in_flight, return_exceptions=True)
            await client.close()
        if stop is not None:
            raise stop

    async def _ask(self, client: "openai.AsyncOpenAI", request: Request) -> Reply:
        """One request to its end, with all its tries."""
        import openai

        tries, too_many, waited, plain = 0, 0, 0.0, False
        while True:
            waited += await self._pause()
            if waited > _PATIENCE_S:
                raise RespondentStopped(
                    f"The server must take requests; got 429 (too many requests) for {_PATIENCE_S / 60:.0f} minutes. "
                    f"Use a smaller --concurrency or wait. {_KEEP_GOING}"
                )
            optional = {} if plain else self._optional
            length_parameter = self._length_parameter
            started = time.monotonic()
            retry_after = None
            try:
                parameters = self._parameters(request) | {length_parameter: self.max_tokens} | optional
                completion = await client.chat.completions.create(**parameters)
                self._reached = True
                reply = _read(completion, request, time.monotonic() - started)
                self._learn(optional)
                return reply
            except openai.APIStatusError as error:
                self._reached = True
                self._stop_if_final(error)
                message = _message(error)
                if error.code == "content_filter":
                    latency_s = time.monotonic() - started
                    return Reply(NO_ANSWER, None, "refusal", message, None, latency_s, {"error": message})
                retry_after = _retry_after(error.response.headers)
                if error.status_code == 429:
                    too_many += 1
                    self._hold_back(retry_after or random.uniform(0.5, 1.0) * min(8.0, 2.0**too_many))
                    continue
                if error.status_code in (400, 422):
                    # Newer OpenAI models know the same limit by another name only.
                    if length_parameter == "max_tokens" and "max_completion_tokens" in message:
                        self._length_parameter = "max_completion_tokens"
                        continue
                    if optional and not self._optional_known:
                        plain = True
                        continue
                    return _failed(message, started)
            except openai.APIConnectionError as error:
                message = f"{error.message} {error.__cause__ or ''}".strip()
                if not self._reached and tries == min(_TRIES_TO_REACH, self.max_retries):
                    raise RespondentStopped(
                        f"The server must be reachable; got {message!r} from {self.address}. "
                        f"Check --base-url, and that the server runs. {_KEEP_GOING}"
                    ) from error
            except (openai.APIError, ValueError) as error:
                # A body that is no JSON, or JSON that is no chat completion.
                message = f"unreadable response: {error}"
            if tries == self.max_retries:
                return _failed(message, started)
            tries += 1
            backoff = min(_LONGEST_BACKOFF_S, 0.5 * 2**tries) * random.uniform(0.5, 1.0)
            await asyncio.sleep(max(backoff, retry_after or 0.0))

    def _parameters(self, request: Request) -> dict[str, Any]:
        return {"model": self.model, "messages": request.messages, "temperature": self.temperature}

    def _learn(self, optional: dict[str, Any]) -> None:
        """Remember, from the first success, whether this kind of server takes the optional parameters."""
        if self._optional_known:
            return
        self._optional_known = True
        if not optional:
            self._optional = {}
            logger.warning("The server rejects requests for logprobs: asking without, so no option probabilities.")

    async def _pause(self) -> float:
        """Wait until the server takes requests again; returns the seconds waited."""
        started = time.monotonic()
        while (wait := self._not_before - time.monotonic()) > 0:
            # Jitter, so that the requests held back do not all return in the same instant.
            await asyncio.sleep(wait + random.uniform(0.0, min(1.0, 0.25 * wait)))
        return time.monotonic() - started

    def _hold_back(self, wait_s: float) -> None:
        """Hold all requests back after a 429."""
        if time.monotonic() >= self._not_before:
            logger.info("The server asks for fewer requests (429): pausing for %.1f s.", wait_s)
        self._not_before = max(self._not_before, time.monotonic() + wait_s)

    def _stop_if_final(self, error: "openai.APIStatusError") -> None:
        message = _message(error)
        status = error.status_code
        if status == 402 or "insufficient_quota" in (error.code, error.type):
            problem, fix = "The account must have quota left", "Add credit"
        elif status == 401:
            problem, fix = "The server must accept the key", "Set OPENAI_API_KEY to a valid one"
        elif status == 403:
            problem, fix = "The key must be allowed to use the model", "Use another key or another --model"
        elif status == 404:
            problem, fix = "The server must have the model", "Check --model and --base-url"
        else:
            return
        raise RespondentStopped(f"{problem}; got {status} for model {self.model!r}: {message} {fix}. {_KEEP_GOING}")


def _read(completion: Any, request: Request, latency_s: float) -> Reply:
    """Turn a chat completion into a reply.

    Raises:
        ValueError: it is not a chat completion with a choice. The client does not check what a server sends.
    """
    try:
        return _read_checked(completion, request, latency_s)
    except (AttributeError, TypeError, IndexError) as error:
        raise ValueError(f"not a chat completion: {str(completion)[:200]!r}") from error


def _read_checked(completion: Any, request: Request, latency_s: float) -> Reply:
    choice = completion.choices[0]
    message = choice.message
    usage = completion.usage.model_dump(exclude_none=True) if completion.usage else None
    detail: dict[str, Any] = {"finish_reason": choice.finish_reason, "model": completion.model}
    first_token = choice.logprobs.content[0] if choice.logprobs and choice.logprobs.content else None
    if first_token is not None:
        detail["first_token"] = first_token.token
        detail["top_logprobs"] = {top.token: top.logprob for top in first_token.top_logprobs or ()}
    if message.refusal or choice.finish_reason == "content_filter":
        return Reply(NO_ANSWER, None, "refusal", message.refusal or message.content, usage, latency_s, detail)
    answer, status = parse_answer(message.content, request.options)
    if status != "ok" and choice.finish_reason == "length":
        status = "truncated"
    probabilities = None
    if status == "ok" and first_token is not None and first_token.token.strip() == OPTION_LETTERS[answer]:
        probabilities = letter_probabilities(detail["top_logprobs"])
    return Reply(answer, probabilities, status, message.content, usage, latency_s, detail)


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


def letter_probabilities(top_logprobs: dict[str, float]) -> tuple[float, float, float] | None:
    """Probabilities of A, B, C from the alternatives of a reply's first token.

    The tokens of a letter, with and without white space around it, are added up, and the three sums are divided by
    their total. None where a letter is missing or has no finite log-probability: what is not known is not made up.

    Example:
        >>> import math
        >>> letter_probabilities({"A": math.log(0.2), " A": math.log(0.1), "B": math.log(0.2), "C": math.log(0.1)})
        (0.5, 0.33333333333333337, 0.16666666666666669)
    """
    sums = []
    for letter in OPTION_LETTERS:
        # -9999 is how the API writes "very unlikely" where it gives no figure.
        known = [logprob for token, logprob in top_logprobs.items() if token.strip() == letter and -9999 < logprob < 1]
        sums.append(math.fsum(math.exp(logprob) for logprob in known))
    total = math.fsum(sums)
    if not all(sums) or not math.isfinite(total):
        return None
    return sums[0] / total, sums[1] / total, sums[2] / total


def _failed(message: str, started: float) -> Reply:
    return Reply(NO_ANSWER, None, "failed", None, None, time.monotonic() - started, {"error": message})


def _message(error: "openai.APIStatusError") -> str:
    """The server's own words, on one line."""
    body = error.body
    text = body.get("message") if isinstance(body, dict) else None
    if not isinstance(text, str):
        text = body if isinstance(body, str) and body else json.dumps(body) if body else error.message
    return " ".join(text.split())[:500]


def _retry_after(headers: Any) -> float | None:
    """Seconds that the server asks to wait: `Retry-After-Ms`, or `Retry-After` in seconds or as a date."""
    for header, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = headers.get(header, "")
        if re.fullmatch(r"\d+(\.\d+)?", value):
            return float(value) / unit
    try:
        return max(0.0, parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - time.time())
    except ValueError:
        return None  # no date either: the caller has its own back-off
