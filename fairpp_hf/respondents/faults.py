"""What a request that went wrong says: without a response, behind a status 200, and in the server's own words.

What must not be shown of it is hidden here, too.
"""

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import httpx2

from fairpp_hf.respondents.base import RespondentStopped

if TYPE_CHECKING:
    import openai

_UNSUPPORTED_CODES = ("unsupported_value", "unsupported_parameter", "unknown_parameter")
_UNSUPPORTED = re.compile(r"(unsupported|unknown|unrecogni[sz]ed) (request )?(value|parameter|argument|field)", re.I)
"""At the start of a message: further on, it may be the words of the prompt."""
_FLAGGED = re.compile(r"\bflagged\b|moderat|content.?(filter|policy)|usage polic|safety", re.I)
_ACCESS = re.compile(
    r"access|permission|authori[sz]|\bkeys?\b|model|account|organi[sz]ation|project|region|country", re.I
)
_SAYING = ("message", "msg", "error", "errors", "detail", "details", "title", "reason", "reasons", "metadata", "raw")
"""Where the words of an error are, in its body."""
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_LONGEST_MESSAGE = 500
_LONGEST_NESTED = 20_000
_DEEPEST, _MOST_PARTS = 6, 5
_SHORTEST_SECRET = 8

HIDDEN = "[hidden]"
"""Stands in the place of a secret that a server has repeated."""


class Fault(NamedTuple):
    """Why a request is sent again."""

    message: str
    timed_out: bool = False
    """Whether there was a connection, and the response took too long."""
    reached: bool = False
    """Whether the server began to respond."""
    crashed: bool = False
    """Whether the server may have failed at how it was asked: it responds with 500 or above, or closes the connection."""
    costs_a_try: bool = True
    """Whether `max_retries` counts it, with a pause before the next try."""


def connection_fault(error: Exception, secrets: "Secrets") -> Fault:
    """What went wrong without a response, or with one that is not whole."""
    import aiohttp

    # The client's own classes do not tell: a connection that the server drops is a time-out to them.
    cause: BaseException = error
    while cause.__cause__ is not None and not isinstance(cause, aiohttp.ClientError | httpx2.DecodingError):
        cause = cause.__cause__
    # Where aiohttp's words have a whole URL in them, ours take their place: there may be a secret in it.
    words = cause.message if isinstance(cause, aiohttp.ClientResponseError) else str(cause)
    words = one_line(secrets.hide(words))
    if isinstance(cause, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError):
        return Fault("No connection. The address is not the URL of a server.")
    if isinstance(cause, aiohttp.ConnectionTimeoutError):
        return Fault("No connection. The server did not take it in time.")
    if isinstance(cause, aiohttp.ClientConnectorError):
        return Fault(f"No connection. {words}")
    if isinstance(cause, aiohttp.ClientHttpProxyError):
        return Fault(f"No connection. The proxy refuses it: {cause.status} {words}")
    if isinstance(cause, TimeoutError):
        return Fault(f"Timed out. {words}", timed_out=True)
    if isinstance(cause, aiohttp.ClientPayloadError):
        return Fault(f"The connection was dropped. {words}", reached=True, crashed=True)
    if isinstance(cause, aiohttp.ClientConnectionError | OSError):
        return Fault(f"The connection was dropped. {words}", crashed=True)
    # What came is not HTTP, is packed wrongly, or leads round in circles.
    return Fault(f"unreadable response: {words}", reached=isinstance(cause, httpx2.DecodingError))


def hidden_error(completion: Any, response: httpx2.Response) -> "openai.APIStatusError | None":
    """The error in a response that says 200 and holds one, as gateways send it; 500 where it names no status.

    It is in `error`, of the whole or of a choice without content, or the whole is an error object without choices.
    """
    import openai

    if not isinstance(completion, dict):
        return None
    choices = completion.get("choices")
    error = completion.get("error")
    if choices and isinstance(choices, list) and isinstance(choices[0], dict):
        message = choices[0].get("message")
        has_content = isinstance(message, dict) and bool(message.get("content"))
        error = None if has_content else choices[0].get("error")
    elif not error and (completion.get("object") == "error" or "detail" in completion):
        error = completion
    if not error:
        return None
    body = error if isinstance(error, dict) else {"message": error}
    found_names = [body.get(name) for name in ("code", "status", "status_code", "type")]
    named = [str(word) for word in found_names if isinstance(word, str) or (isinstance(word, int) and word < 1000)]
    status = next((int(word) for word in named if re.fullmatch(r"[45]\d\d", word)), None)
    if status is None:
        status = 429 if any("rate_limit" in word or "too_many" in word for word in named) else 500
    found = openai.APIStatusError("an error in a response", response=response, body=body)
    found.status_code = status
    return found


def is_unsupported(error: "openai.APIStatusError", message: str) -> bool:
    """Whether a rejection is about what every request asks for alike, and not about this one's prompt."""
    return error.code in _UNSUPPORTED_CODES or error.param == "temperature" or _UNSUPPORTED.match(message) is not None


def is_flagged(error: "openai.APIStatusError", message: str) -> bool:
    """Whether a filter of the provider's has stopped this one prompt."""
    if error.code == "content_filter":
        return True
    body = error.body if isinstance(error.body, dict) else {}
    metadata = body.get("metadata")
    is_moderation = isinstance(metadata, dict) and ("flagged_input" in metadata or "reasons" in metadata)
    return error.status_code == 403 and (is_moderation or _FLAGGED.search(message) is not None)


def final_error(
    error: "openai.APIStatusError", message: str, model: str, *, is_about_key: bool = False
) -> RespondentStopped | None:
    """The error for what no other request would escape; None where others may.

    With `is_about_key`, a 403 is about the key or the model, whatever its `message` says.
    """
    status, kinds = error.status_code, (error.code, error.type)
    if status == 402 or "insufficient_quota" in kinds:
        problem, fix = "The account must have quota left", "Add credit"
    elif any(str(kind).startswith("billing_") for kind in kinds):
        problem, fix = "The account must be able to pay", "Check its billing"
    elif status == 401:
        problem, fix = "The server must accept the key", "Set OPENAI_API_KEY to a valid one"
    elif status == 403 and (is_about_key or _ACCESS.search(message)):
        problem, fix = "The key must be allowed to use the model", "Use another key or another model"
    elif status == 404:
        problem, fix = "The server must have the model", "Check the model's name and the base URL"
    else:
        return None
    return RespondentStopped(f"{problem}; got {status} for model {model!r}: {sentence(message)} {fix}.")


def message_of(error: "openai.APIStatusError", secrets: "Secrets") -> str:
    """The server's own words, those of the provider behind it among them, on one line and without secrets."""
    body = error.body
    words = list(dict.fromkeys(_words(body)))
    if not words:
        try:
            words = [json.dumps(body) if body else error.message]
        except (ValueError, RecursionError):
            words = [error.message]
    return one_line(secrets.hide(": ".join(words)))


def one_line(text: str) -> str:
    """A text of a server's on one line, 500 characters at most, without control characters."""
    return _CONTROL.sub("", " ".join(text.split()))[:_LONGEST_MESSAGE]


def sentence(text: str) -> str:
    """A text with a full stop, so that advice can follow it."""
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _words(body: Any, depth: int = 0) -> Iterator[str]:
    """The texts of an error's body that say what is wrong, from the outside in."""
    if isinstance(body, str):
        inner = _read(body) if body.lstrip().startswith(("{", "[")) else None
        words = [] if inner is None else list(_words(inner, depth + 1))
        yield from words or ([body] if body.strip() else [])
    elif isinstance(body, list) and depth < _DEEPEST:
        for part in body[:_MOST_PARTS]:
            yield from _words(part, depth + 1)
    elif isinstance(body, dict) and depth < _DEEPEST:
        place = body.get("loc")
        if isinstance(place, list) and isinstance(body.get("msg"), str):  # as FastAPI writes it
            yield f"{'.'.join(map(str, place[:_MOST_PARTS]))}: {body['msg']}"
            return
        for name in _SAYING:
            if name in body:
                yield from _words(body[name], depth + 1)


def _read(text: str) -> Any:
    try:
        return json.loads(text[:_LONGEST_NESTED])
    except (ValueError, RecursionError):
        return None


class Secrets:
    """What must be shown nowhere, though a server may repeat it: keys, and whatever else is secret in what is sent."""

    def __init__(self, *secrets: str) -> None:
        # A short one, such as EMPTY, may be a word of a reply: it is hidden as a header has it alone.
        hidden = {secret if len(secret) >= _SHORTEST_SECRET else f"Bearer {secret}" for secret in secrets if secret}
        hidden |= {json.dumps(secret)[1:-1] for secret in hidden} | {quote(secret, safe="") for secret in hidden}
        # Where there is none, nothing matches.
        longest_first = "|".join(map(re.escape, sorted(hidden, key=len, reverse=True))) or r"(?!)"
        self._pattern = re.compile(longest_first)
        self._in_bytes = re.compile(longest_first.encode("utf-8", "surrogatepass"))

    def hide(self, text: str) -> str:
        """A text without the secrets."""
        return self._pattern.sub(HIDDEN, text)

    def hide_in_bytes(self, content: bytes) -> bytes:
        """The same for bytes of UTF-8."""
        return self._in_bytes.sub(HIDDEN.encode(), content)
