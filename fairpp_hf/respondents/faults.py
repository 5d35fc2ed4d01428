"""What a request that went wrong says: without a response, behind a status 200, and in the server's own words."""

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import httpx2
    import openai

_UNSUPPORTED_CODES = ("unsupported_value", "unsupported_parameter", "unknown_parameter")
_UNSUPPORTED = re.compile(r"(unsupported|unknown|unrecogni[sz]ed) (request )?(value|parameter|argument|field)", re.I)
"""At the start of a message: further on, it may be the words of the prompt."""


class Fault(NamedTuple):
    """A request that no response came to."""

    message: str
    unreachable: bool = False
    """Whether no connection came about."""
    timed_out: bool = False
    """Whether there was a connection, and the response took too long."""
    reached: bool = False
    """Whether the server began to respond."""


def connection_fault(error: Exception) -> Fault:
    """What went wrong without a response, or with one that is not whole.

    The client's own classes do not tell: a connection that the server drops is a time-out to them.

    Args:
        error: an `openai.APIConnectionError`, or an `aiohttp.ClientError` that the client lets through.
    """
    import aiohttp
    import httpx2

    cause: BaseException = error
    while cause.__cause__ is not None and not isinstance(cause, aiohttp.ClientError | httpx2.DecodingError):
        cause = cause.__cause__
    # Where aiohttp's words have a whole URL in them, ours take their place: there may be a secret in it.
    words = cause.message if isinstance(cause, aiohttp.ClientResponseError) else str(cause)
    words = " ".join(words.split())[:500]
    if isinstance(cause, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError):
        return Fault("No connection. The address is not the URL of a server.", unreachable=True)
    if isinstance(cause, aiohttp.ConnectionTimeoutError):
        return Fault("No connection. The server did not take it in time.", unreachable=True)
    if isinstance(cause, aiohttp.ClientConnectorError):
        return Fault(f"No connection. {words}", unreachable=True)
    if isinstance(cause, aiohttp.ClientHttpProxyError):
        return Fault(f"No connection. The proxy refuses it: {cause.status} {words}", unreachable=True)
    if isinstance(cause, TimeoutError):
        return Fault(f"Timed out. {words}", timed_out=True)
    if isinstance(cause, aiohttp.ClientPayloadError):
        return Fault(f"The connection was dropped. {words}", reached=True)
    if isinstance(cause, aiohttp.ClientConnectionError | OSError):
        return Fault(f"The connection was dropped. {words}")
    # What came is not HTTP, is packed wrongly, or leads round in circles.
    return Fault(f"unreadable response: {words}", reached=isinstance(cause, httpx2.DecodingError))


def hidden_error(completion: Any, response: "httpx2.Response") -> "openai.APIStatusError | None":
    """The error in a response that says 200 and holds one with another status, as gateways send it."""
    import openai

    error = completion.get("error") if isinstance(completion, dict) and not completion.get("choices") else None
    if not isinstance(error, dict):
        return None
    status = str(error.get("code", ""))
    if not re.fullmatch(r"[45]\d\d", status):
        return None
    found = openai.APIStatusError(str(error.get("message")), response=response, body=error)
    found.status_code = int(status)
    return found


def is_unsupported(error: "openai.APIStatusError", message: str) -> bool:
    """Whether a rejection is about what every request asks for alike, and not about this one's prompt."""
    return error.code in _UNSUPPORTED_CODES or error.param == "temperature" or _UNSUPPORTED.match(message) is not None


def message_of(error: "openai.APIStatusError") -> str:
    """The server's own words, on one line."""
    body = error.body
    text = body.get("message") if isinstance(body, dict) else None
    if not isinstance(text, str):
        text = body if isinstance(body, str) and body else json.dumps(body) if body else error.message
    return " ".join(text.split())[:500]
