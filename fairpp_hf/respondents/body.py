"""The body of a response: unpacked as far as a limit goes, and read from JSON."""

import json
import zlib
from collections.abc import AsyncIterator
from typing import Any

import httpx2

MOST_BYTES = 4_000_000
"""Longest body, unpacked. Long replies with 20 alternatives of each of thousands of tokens stay below it."""

ACCEPTED = "gzip, deflate"
"""Packings of a body that servers are told are accepted."""

_PACKED = ("gzip", "x-gzip", "deflate")
_CUT = "fairpp_cut"
_HEADER_OR_ZLIB = zlib.MAX_WBITS | 32


class UnfitBody(ValueError):
    """A body that is too long or too deep to be read, and would be so again."""


async def limit_body(response: httpx2.Response) -> None:
    """A hook of the client's: reading the body stops at `MOST_BYTES`, and no memory is used for what comes after."""
    # The client's own unpacking has no limit.
    packed = response.headers.get("content-encoding", "").strip().lower() in _PACKED
    if packed:
        del response.headers["content-encoding"]
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    response.stream = _Limited(response.stream, packed, response.extensions)


def from_json(response: httpx2.Response, content: bytes) -> Any:
    """What a server sent, from JSON.

    Args:
        response: A response that was read under `limit_body`.
        content: Its body.

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
