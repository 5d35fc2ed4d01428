"""The client of a server with the OpenAI API: connections, bodies up to a limit, and what of its address may be shown."""

import json
import zlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import httpx2

from fairpp_hf.respondents.faults import Secrets

if TYPE_CHECKING:
    import openai

OPENAI_ADDRESS = "https://api.openai.com/v1"

MOST_BYTES = 4_000_000
"""Longest body, unpacked. Long replies with 20 alternatives of each of thousands of tokens stay below it."""

_LONGEST_CONNECTING_S = 15.0
_ACCEPTED = "gzip, deflate"
_PACKED = ("gzip", "x-gzip", "deflate")
_CUT = "fairpp_cut"
_HEADER_OR_ZLIB = zlib.MAX_WBITS | 32


def open_client(
    base_url: str, api_key: str, timeout_s: float, connections: int, *, limited: bool = True
) -> "openai.AsyncOpenAI":
    """A client that makes no retries of its own; the caller closes it.

    Args:
        base_url: Address of the server; its query is sent with every request.
        api_key: Key that is sent with every request.
        timeout_s: Seconds that a read may take.
        connections: Connections at most.
        limited: Whether reading a body stops at `MOST_BYTES`.
    """
    import openai

    url = httpx2.URL(base_url)
    # A connection that does not come about in half the time would leave too little for the reply.
    timeout = httpx2.Timeout(timeout_s, connect=min(timeout_s / 2, _LONGEST_CONNECTING_S), pool=None)
    limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
    hooks = {"response": [_limit_body]} if limited else {}
    return openai.AsyncOpenAI(
        api_key=api_key,
        base_url=url.copy_with(query=None, fragment=None),
        default_query=dict(url.params),
        default_headers={"Accept-Encoding": _ACCEPTED},
        # Retries are made by `Exchange`: the client's own would spend them on an exhausted quota as well.
        max_retries=0,
        timeout=timeout,
        # A request takes a third less of the processor than over the client's usual transport.
        http_client=openai.DefaultAioHttpClient(limits=limits, timeout=timeout, event_hooks=hooks),
    )


def public_address(url: str) -> str:
    """A server's URL without query and fragment; scheme and host in lower case.

    Raises:
        ValueError: It is no URL of a server, or has a password in it.

    Example:
        >>> public_address("https://host:8000/v1/?key=secret")
        'https://host:8000/v1'
    """
    try:
        parsed = httpx2.URL(url.strip())
    except httpx2.InvalidURL:
        parsed = httpx2.URL("")
    # A URL with a slip in it, such as an unescaped # in a password, may have its secret anywhere.
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.userinfo or "@" in url:
        raise ValueError(
            "base_url must be the URL of a server, without a password; got something else, which is not shown since there "
            "may be a secret in it. Pass one such as http://localhost:8000/v1, and a key as OPENAI_API_KEY."
        )
    return str(parsed.copy_with(query=None, fragment=None)).rstrip("/")


def secrets_of(api_key: str, base_url: str | None) -> Secrets:
    """The key, and the values of the address's query."""
    # An API's version is no secret, and a server may name it.
    params = httpx2.URL(base_url or OPENAI_ADDRESS).params.items()
    return Secrets(api_key, *(value for name, value in params if "version" not in name.lower()))


class UnfitBody(ValueError):
    """A body that is too long or too deep to be read, and would be so again."""


def from_json(response: httpx2.Response, content: bytes) -> Any:
    """The body of a response, from JSON.

    Raises:
        UnfitBody: The body is longer than the limit, nested too deeply, or has a number of thousands of digits.
        ValueError: The body is no JSON.
    """
    import jiter

    if _CUT in response.extensions:
        raise UnfitBody(f"a body of more than {MOST_BYTES:,} bytes")
    try:
        # Some 20 KB of log-probabilities a reply: the parser that the openai client brings takes half the time.
        return jiter.from_json(content)
    except ValueError:
        pass  # it takes no lone surrogates, which models do send, and whose text is to be kept
    try:
        return json.loads(content)
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise
    except (RecursionError, ValueError) as error:
        raise UnfitBody(f"JSON that is too deep or has too long a number ({type(error).__name__})") from None


async def _limit_body(response: httpx2.Response) -> None:
    """A hook of the client's: no memory is used for what a body has beyond `MOST_BYTES`."""
    # The client's own unpacking has no limit.
    packed = response.headers.get("content-encoding", "").strip().lower() in _PACKED
    if packed:
        del response.headers["content-encoding"]
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    response.stream = _Limited(response.stream, packed, response.extensions)


class _Limited(httpx2.AsyncByteStream):
    """The bytes of a stream, unpacked, `MOST_BYTES` at most."""

    def __init__(self, stream: httpx2.AsyncByteStream, packed: bool, extensions: dict[str, Any]) -> None:
        self._stream = stream
        self._unpack = zlib.decompressobj(_HEADER_OR_ZLIB) if packed else None
        self._extensions = extensions

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = MOST_BYTES
        async for chunk in self._stream:
            try:
                part = self._unpack.decompress(chunk, left + 1) if self._unpack else chunk
            except zlib.error as error:
                raise httpx2.DecodingError(str(error)) from error
            if len(part) > left:
                self._extensions[_CUT] = True
                yield part[:left]
                return
            left -= len(part)
            yield part

    async def aclose(self) -> None:
        await self._stream.aclose()
