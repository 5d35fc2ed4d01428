"""A server with the OpenAI chat API that answers every request after a fixed time, for measuring clients.

    python benchmarks/_latency_server.py LATENCY_S

Prints its port. A bare asyncio protocol, so that it costs a small part of a core at the rates that are measured. A reply
has log-probabilities if the request asks for them: 20 alternatives a token, as the API gives.
"""

import asyncio
import json
import re
import sys

WORDS = ("B", ".", " What", " brings", " everybody", " to", " the", " same", " basic", " level", ".")
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


def response(*, logprobs: bool) -> bytes:
    """A whole HTTP response: one completion of eleven tokens."""

    def entry(word: str) -> dict[str, object]:
        words = [word, *(f" {chr(64 + n)}" for n in range(1, 20))]
        top = [{"token": token, "logprob": -0.1 - n, "bytes": list(token.encode())} for n, token in enumerate(words)]
        return {**top[0], "top_logprobs": top}

    body = json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "loopback-model",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "".join(WORDS), "refusal": None},
                    "finish_reason": "stop",
                    "logprobs": {"content": list(map(entry, WORDS)), "refusal": None} if logprobs else None,
                }
            ],
            "usage": {"prompt_tokens": 250, "completion_tokens": len(WORDS), "total_tokens": 250 + len(WORDS)},
        }
    ).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


PLAIN, WITH_LOGPROBS = response(logprobs=False), response(logprobs=True)


class Completions(asyncio.Protocol):
    """One connection: requests one after the other, each answered `latency_s` after its last byte."""

    latency_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        found = LENGTH.search(head)
        length = int(found[1]) if found else 0
        if len(rest) < length:
            return
        self._received = rest[length:]
        answer = WITH_LOGPROBS if b'"top_logprobs"' in rest else PLAIN
        asyncio.get_running_loop().call_later(self.latency_s, self._write, answer)

    def _write(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)  # type: ignore[attr-defined]


async def serve(latency_s: float) -> None:
    """Serve until killed."""
    Completions.latency_s = latency_s
    server = await asyncio.get_running_loop().create_server(Completions, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1])))
