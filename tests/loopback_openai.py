"""A small OpenAI server on the loopback interface that counts calls and fails to order.

`answer` decides the reply to one request: a `Served`. The calls of each (system, user) prompt are counted when they
arrive, so that a test can tell whether a reply was bought twice.
"""

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler
from types import MappingProxyType
from typing import Any, NamedTuple

from loopback_server import Loopback, send


class Served(NamedTuple):
    """What the server sends for one request."""

    content: str | list[Any] | None = "A"
    """Text, or parts."""
    delay_s: float = 0.0
    status: int = 200
    headers: Mapping[str, str] = {}
    error: Mapping[str, Any] = {}
    """Body of an error."""
    refusal: str | None = None
    finish_reason: str = "stop"
    first_token: Sequence[tuple[str, float]] = ()
    """Alternatives of the first token with their log-probabilities, the one chosen first."""
    tokens: Sequence[Sequence[tuple[str, float]]] = ()
    """The same for every token, instead of `first_token`."""
    message: Mapping[str, Any] = {}
    """More fields of the message, such as `reasoning_content`."""
    body: bytes | None = None
    """Sent as it is, instead of a chat completion."""
    drip_s: float = 0.0
    """Seconds between any two bytes of the body."""
    drop: bool = False
    """Close the connection without a response."""
    usage: Mapping[str, Any] | None = MappingProxyType({"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8})


def chosen(letter: str, **more: Any) -> Served:
    """What a server sends that keeps to the schema of a choice."""
    return Served(content=json.dumps({"answer": letter}), **more)


class Call(NamedTuple):
    """A request as it arrived."""

    system: str
    user: str
    number: int
    """How many calls with this prompt arrived before."""
    body: Mapping[str, Any]


def letter_by_hash(call: Call) -> Served:
    """A fixed letter for each prompt, the same in every process."""
    digest = hashlib.sha256(f"{call.system}\n{call.user}".encode()).digest()
    return Served(content="ABC"[digest[0] % 3])


class LoopbackServer(Loopback):
    """Serves until the `with` block ends; `calls` counts by (system, user)."""

    def __init__(self, answer: Callable[[Call], Served] = letter_by_hash) -> None:
        super().__init__()
        self.answer = answer
        self.calls: Counter[tuple[str, str]] = Counter()
        self.bodies: list[Mapping[str, Any]] = []
        self.paths: list[str] = []
        self.completed = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self.base_url = f"http://127.0.0.1:{self.port}/v1"
        self._lock = threading.Lock()

    @property
    def total(self) -> int:
        return sum(self.calls.values())

    def reset(self) -> None:
        with self._lock:
            self.calls.clear()
            self.bodies.clear()
            self.completed = self.most_in_flight = 0

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        sent = handler.rfile.read(length := int(handler.headers["Content-Length"]))
        if len(sent) < length:
            handler.close_connection = True  # a client that was killed on the way
            return
        body = json.loads(sent)
        self.paths.append(handler.path)
        if handler.path.partition("?")[0] != "/v1/chat/completions":
            handler.send_error(404)
            return
        texts = {message["role"]: message["content"] for message in body["messages"]}
        key = texts.get("system", ""), texts["user"]
        with self._lock:
            number = self.calls[key]
            self.calls[key] += 1
            self.bodies.append(body)
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            served = self.answer(Call(*key, number, body))
            time.sleep(served.delay_s)
        finally:
            with self._lock:
                self.in_flight -= 1
        if served.drop:
            handler.close_connection = True
            return
        payload = served.body if served.body is not None else json.dumps(_payload(served, body)).encode()
        headers = {"Content-Type": "application/json", **served.headers}
        if not send(handler, served.status, payload, headers, drip_s=served.drip_s):
            return
        with self._lock:
            self.completed += 1


def _payload(served: Served, body: Mapping[str, Any]) -> dict[str, Any]:
    if served.status != 200:
        return {"error": {"message": "no reason given", "type": "test", "param": None, "code": None, **served.error}}
    tokens = []
    for pairs in served.tokens or [served.first_token] * bool(served.first_token):
        alternatives = [{"token": token, "logprob": logprob, "bytes": None} for token, logprob in pairs]
        tokens.append({**alternatives[0], "top_logprobs": alternatives})
    return {
        "id": "chatcmpl-loopback",
        "object": "chat.completion",
        "created": 1,
        "model": body["model"],
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": served.content,
                    "refusal": served.refusal,
                    **served.message,
                },
                "finish_reason": served.finish_reason,
                "logprobs": {"content": tokens, "refusal": None} if tokens and body.get("logprobs") else None,
            }
        ],
        "usage": None if served.usage is None else dict(served.usage),
    }
