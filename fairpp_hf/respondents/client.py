"""The client of a server with the OpenAI API, and what of its address may be shown."""

from typing import TYPE_CHECKING

from fairpp_hf.respondents.faults import Secrets

if TYPE_CHECKING:
    import openai

OPENAI_ADDRESS = "https://api.openai.com/v1"

_LONGEST_CONNECTING_S = 15.0


def open_client(
    base_url: str, api_key: str, timeout_s: float, connections: int, *, limited: bool = True
) -> "openai.AsyncOpenAI":
    """A client that makes no retries of its own; the caller closes it.

    Args:
        base_url: Address of the server; its query is sent with every request.
        api_key: Key that is sent with every request.
        timeout_s: Seconds that a read may take.
        connections: Connections at most.
        limited: Whether the body of a response has a longest length, see `body`.
    """
    import httpx2
    import openai

    from fairpp_hf.respondents.body import ACCEPTED, limit_body

    url = httpx2.URL(base_url)
    # A connection that does not come about in half the time would leave too little for the reply.
    timeout = httpx2.Timeout(timeout_s, connect=min(timeout_s / 2, _LONGEST_CONNECTING_S), pool=None)
    limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
    hooks = {"response": [limit_body]} if limited else {}
    return openai.AsyncOpenAI(
        api_key=api_key,
        base_url=url.copy_with(query=None, fragment=None),
        default_query=dict(url.params),
        default_headers={"Accept-Encoding": ACCEPTED},
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
    import httpx2

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
    import httpx2

    # An API's version is no secret, and a server may name it.
    params = httpx2.URL(base_url or OPENAI_ADDRESS).params.items()
    return Secrets(api_key, *(value for name, value in params if "version" not in name.lower()))
