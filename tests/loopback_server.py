"""What the loopback servers of the tests share: serving on 127.0.0.1, to clients that may go away."""

import sys
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Loopback:
    """Serves on a free port of 127.0.0.1 until the `with` block ends; a subclass answers in `serve`."""

    def __init__(self) -> None:
        loopback = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *_: object) -> None:
                """Keep the tests' output clean."""

        for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT"):
            setattr(Handler, f"do_{method}", lambda handler: loopback.serve(handler))

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, *args: Any) -> None:
                # A client that was killed, as some tests mean it to be, is no news.
                if not isinstance(sys.exc_info()[1], ConnectionError):
                    super().handle_error(*args)

        self._http = Server(("127.0.0.1", 0), Handler)
        self.port = self._http.server_port
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> Any:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        raise NotImplementedError


def send(
    handler: BaseHTTPRequestHandler,
    status: int,
    body: bytes,
    headers: Mapping[str, str],
    *,
    sent: int | None = None,
    drip_s: float = 0.0,
) -> bool:
    """Send an answer, of its body the first `sent` bytes at most; whether the client took it.

    The body of an answer to HEAD is announced and not sent.
    """
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name, value)
    try:
        handler.end_headers()
        if handler.command != "HEAD":
            for part in [body[:sent]] if not drip_s else (body[n : n + 1] for n in range(len(body))):
                handler.wfile.write(part)
                time.sleep(drip_s)
    except ConnectionError:
        handler.close_connection = True
        return False
    if sent is not None:
        handler.close_connection = True
    return True
