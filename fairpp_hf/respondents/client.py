"""The client of a server with the OpenAI API, and what of its address may be shown."""

import re
from base64 import b64encode
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from fairpp_hf.respondents.faults import Secrets

if TYPE_CHECKING:
    import openai

OPENAI_ADDRESS = "https://api.openai.com/v1"

_URL = re.compile(
    r"([a-z][a-z0-9+.-]*://)(?:[^/?#]*@)?((?:[^/?#@:\[\]]+|\[[0-9a-f:.]+\])(?::\d+)?)(/[^?#]*)?(?:[?#].*)?",
    re.IGNORECASE,
)
_LONGEST_CONNECTING_S = 15.0


def open_client(base_url: str, api_key: str, timeout_s: float, connections: int) -> "openai.AsyncOpenAI":
    """A client that makes no retries of its own; the caller closes it.

    Args:
        base_url: Address of the server. A name and password in it are for a gate in front of the server, and its query is
            sent with every request.
        api_key: Key that is sent where there is no such name and password.
        timeout_s: Seconds that a read may take.
        connections: Connections at most.
    """
    import httpx2
    import openai

    url = httpx2.URL(base_url)
    # A connection that does not come about in half the time would leave too little for the reply.
    timeout = httpx2.Timeout(timeout_s, connect=min(timeout_s / 2, _LONGEST_CONNECTING_S), pool=None)
    limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
    return openai.AsyncOpenAI(
        api_key=api_key,
        base_url=url.copy_with(userinfo=b"", query=None, fragment=None),
        default_query=dict(url.params),
        default_headers={"Authorization": _basic(url.userinfo)} if url.userinfo else {},
        # Retries are made by `Exchange`: the client's own would spend them on an exhausted quota as well.
        max_retries=0,
        timeout=timeout,
        # A request takes a third less of the processor than over the client's usual transport.
        http_client=openai.DefaultAioHttpClient(limits=limits, timeout=timeout),
    )


def public_address(url: str) -> str:
    """A URL without user name, password, query and fragment; scheme and host in lower case.

    Raises:
        ValueError: it is no URL of a server.

    Example:
        >>> public_address("https://me:secret@host:8000/v1/?key=secret")
        'https://host:8000/v1'
    """
    import httpx2

    found = _URL.fullmatch(url.strip())
    try:
        httpx2.URL(url.strip())
    except httpx2.InvalidURL:
        found = None
    # A URL with a slip in it, such as an unescaped # in the password, may have its secret anywhere.
    if not found or found[1].lower() not in ("http://", "https://"):
        raise ValueError(
            "base_url must be the URL of a server, such as http://localhost:8000/v1; got something else, which is not shown "
            "since there may be a password in it. Begin it with http:// or https://, and in a password write % as %25, "
            "# as %23, / as %2F, ? as %3F and @ as %40."
        )
    scheme, server, path = found.groups(default="")
    return f"{scheme.lower()}{server.lower()}{path.rstrip('/')}"


def secrets_of(api_key: str, base_url: str | None) -> Secrets:
    """The key, and the address's name and password, and the values of its query."""
    import httpx2

    headers, others = [f"Bearer {api_key}"], []
    url = httpx2.URL(base_url or OPENAI_ADDRESS)
    if url.userinfo:
        headers.append(_basic(url.userinfo))
        others += [url.userinfo.decode("ascii", "replace"), url.password]
    # An API's version is none, and a server may name it.
    others += [value for name, value in url.params.items() if "version" not in name.lower()]
    return Secrets(headers, others)


def _basic(userinfo: bytes) -> str:
    """The header for somebody's own gate in front of a server, which takes the place of the key."""
    return f"Basic {b64encode(unquote_to_bytes(userinfo)).decode()}"
