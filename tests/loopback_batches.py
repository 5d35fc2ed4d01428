"""The OpenAI Batch API on the loopback interface, kept in memory, that counts what it is asked and fails to order.

    with BatchServer(answer, outcome=lambda batch: Outcome("expired", answered=3)) as server:
        ...
    assert server.answered_twice() == []

`answer` decides the reply to each line as it does to each ordinary call, `outcome` how a batch ends, and `fault` what goes
wrong with a call of the API itself. A batch ends when it has been asked for `polls` times.
"""

import itertools
import json
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from loopback_openai import Call, LoopbackServer, Served, _payload, letter_by_hash
from loopback_server import send

Line = dict[str, Any]


class Outcome(NamedTuple):
    """How a batch ends."""

    status: str = "completed"
    answered: int | None = None
    """How many lines of the input are answered; None for all. An expired batch says of the others that they are."""
    errors: Sequence[Mapping[str, Any]] = ()
    """Of a batch that failed."""
    output: Callable[[list[bytes]], list[bytes]] = list
    """Changes the lines of the output file, newlines included."""
    late: int = 0
    """How often the batch is shown as ended before it names its output file."""


class Fault(NamedTuple):
    """What goes wrong with a call."""

    status: int = 0
    """Answer with this status, instead of doing anything; 0 does what was asked."""
    error: Mapping[str, Any] = {}
    headers: Mapping[str, str] = {}
    drop: bool = False
    """Do what was asked and close the connection without an answer."""
    sent: int | None = None
    """Send that many bytes of the body and close the connection."""
    body: bytes | None = None
    """Do what was asked and send this with status 200."""
    before: Callable[[], object] = lambda: None
    """Called before anything is done."""
    after: Callable[[], object] = lambda: None
    """Called when it is done, and the answer sent in so far as it is."""


def stopping(signal_number: int) -> Callable[[str, int], Fault | None]:
    """A fault: this process gets a signal when a batch is submitted."""

    def fault(name: str, _: int) -> Fault | None:
        return Fault(after=lambda: os.kill(os.getpid(), signal_number)) if name == "POST /batches" else None

    return fault


def characters(messages: Sequence[Mapping[str, str]]) -> int:
    """What counts for tokens here."""
    return sum(len(message["content"]) for message in messages)


class BatchServer(LoopbackServer):
    """Serves until the `with` block ends.

    Args:
        answer: to one line or one ordinary call.
        outcome: how a batch ends, by the batch as the API shows it.
        fault: what goes wrong, by `"POST /batches"` or the like (ids in the path are left out) and how often that was
            called before.
        polls: how often a batch must be asked for until it has ended.
        enqueued: how many tokens may wait; what goes over fails with `token_limit_exceeded`.
        most_requests: how many lines a file may have.
        most_bytes: how long a file may be.
        hidden_s: how long a batch that was created is in no list of batches.
    """

    def __init__(
        self,
        answer: Callable[[Call], Served] = letter_by_hash,
        *,
        outcome: Callable[[Line], Outcome] = lambda _: Outcome(),
        fault: Callable[[str, int], Fault | None] = lambda *_: None,
        polls: int = 1,
        enqueued: int = 2_000_000,
        most_requests: int = 50_000,
        most_bytes: int = 200_000_000,
        hidden_s: float = 0.0,
    ) -> None:
        super().__init__(answer)
        self.outcome, self.fault, self.polls = outcome, fault, polls
        self.enqueued, self.most_requests, self.most_bytes = enqueued, most_requests, most_bytes
        self.hidden_s = hidden_s
        self.of_others = 0
        """How many tokens others on the account have in progress."""
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, Line] = {}
        """By id, oldest first."""
        self.api_calls: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        """Answers bought by custom_id."""
        self.most_enqueued = 0
        self._numbers = itertools.count()
        self._polled: Counter[str] = Counter()
        self._late: Counter[str] = Counter()
        self._made: dict[str, float] = {}
        self._served: Counter[tuple[str, str]] = Counter()
        self._batches_lock = threading.RLock()

    def add_foreign(self, count: int, *, created_at: int | None = None, **metadata: str) -> None:
        """Batches of somebody else on the same account, in progress for ever."""
        for _ in range(count):
            self._add_batch(self._add_file(b""), metadata or None, created_at)["foreign"] = True

    def inputs(self, batch: Line) -> list[Line]:
        """The lines of a batch's input file."""
        return [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]

    def intents(self) -> list[str]:
        """The intent of each batch that was created, in order."""
        return [batch["metadata"]["fairpp_batch"] for batch in self.ours()]

    def ours(self) -> list[Line]:
        """The batches that a test's runs created, oldest first."""
        return [batch for batch in self.batches.values() if "foreign" not in batch]

    def answered_twice(self) -> list[str]:
        """Custom ids that were paid for more than once, by batches that nobody asked for again as well."""
        with self._batches_lock:
            for batch in self.ours():
                if batch["status"] == "in_progress":
                    self._end(batch, self.outcome(batch))
        return [custom_id for custom_id, times in self.answers.items() if times > 1]

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        url = urlsplit(handler.path)
        path = url.path.removeprefix("/v1")
        if path == "/chat/completions":
            super().serve(handler)
            return
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        name = f"{handler.command} {re.sub('/(file|batch)-[0-9]+', '', path)}"
        with self._batches_lock:
            number = self.api_calls[name]
            self.api_calls[name] += 1
        fault = self.fault(name, number) or Fault()
        fault.before()
        if fault.status:
            _send_json(handler, fault.status, {"error": {"message": "no reason", "code": None, **fault.error}}, fault)
            return
        with self._batches_lock:
            status, answer = self._do(handler, name, path, parse_qs(url.query), body)
        if fault.drop:
            handler.close_connection = True
        elif isinstance(answer, bytes):
            content = answer if fault.body is None else fault.body
            send(handler, status, content, {"Content-Type": "application/octet-stream"}, sent=fault.sent)
            handler.wfile.flush()
        else:
            _send_json(handler, status, answer, fault)
        fault.after()

    def _do(
        self, handler: BaseHTTPRequestHandler, name: str, path: str, query: Mapping[str, list[str]], body: bytes
    ) -> tuple[int, Any]:
        """(status, answer) of a call; an error is an answer as well."""
        the_id = next(iter(re.findall("(?:file|batch)-[0-9]+", path)), "")
        if (the_id.startswith("file") and the_id not in self.files) or (
            the_id.startswith("batch") and the_id not in self.batches
        ):
            return 404, {"error": {"message": f"No such object: {the_id}", "code": None}}
        if name == "POST /files":
            content = _file_in_form(body, handler.headers["Content-Type"])
            if len(content) > self.most_bytes:
                return 413, {"error": {"message": "The file is too large", "code": None}}
            file_id = self._add_file(content)
            return 200, {
                **{"id": file_id, "object": "file", "bytes": len(content), "created_at": int(time.time())},
                **{"filename": "f.jsonl", "purpose": "batch", "status": "processed"},
            }
        if name == "GET /files/content":
            return 200, self.files[the_id]
        if name == "POST /batches":
            asked = json.loads(body)
            assert (asked["endpoint"], asked["completion_window"]) == ("/v1/chat/completions", "24h")
            batch = self._add_batch(asked["input_file_id"], asked.get("metadata"), None)
            self._made[batch["id"]] = time.monotonic()
            self._validate(batch)
            return 200, batch
        if name == "GET /batches" and the_id:
            self._advance(the_id)
            if self._late[the_id]:
                self._late[the_id] -= 1
                return 200, {**self.batches[the_id], "output_file_id": None}
            return 200, self.batches[the_id]
        if name == "GET /batches":
            now = time.monotonic()
            newest_first = [
                batch for the_id, batch in self.batches.items() if now - self._made.get(the_id, 0.0) >= self.hidden_s
            ][::-1]
            after = query.get("after", [""])[0]
            start = 1 + [batch["id"] for batch in newest_first].index(after) if after else 0
            limit = min(100, int(query.get("limit", ["20"])[0]))
            page = newest_first[start : start + limit]
            return 200, {"object": "list", "data": page, "has_more": start + limit < len(newest_first)}
        if name == "POST /batches/cancel":
            self._end(self.batches[the_id], Outcome("cancelled", answered=0))
            return 200, self.batches[the_id]
        return 404, {"error": {"message": f"no such call: {name}", "code": None}}

    def _add_file(self, content: bytes) -> str:
        self.files[f"file-{len(self.files)}"] = content
        return f"file-{len(self.files) - 1}"

    def _add_batch(self, file_id: str, metadata: Mapping[str, str] | None, created_at: int | None) -> Line:
        batch = {
            **{"id": f"batch-{next(self._numbers)}", "object": "batch", "endpoint": "/v1/chat/completions"},
            **{"completion_window": "24h", "created_at": created_at or int(time.time()), "input_file_id": file_id},
            **{"status": "in_progress", "metadata": metadata, "errors": None},
            **{"output_file_id": None, "error_file_id": None},
        }
        self.batches[batch["id"]] = batch
        self._count(batch, 0, 0)
        return batch

    def _count(self, batch: Line, completed: int, failed: int) -> None:
        total = self.files[batch["input_file_id"]].count(b"\n")
        batch["request_counts"] = {"total": total, "completed": completed, "failed": failed}

    def _tokens(self, batch: Line) -> int:
        return sum(characters(line["body"]["messages"]) for line in self.inputs(batch))

    def _validate(self, batch: Line) -> None:
        lines = self.inputs(batch)
        waiting = sum(self._tokens(other) for other in self.ours() if other["status"] == "in_progress") + self.of_others
        code = None
        if len({line["custom_id"] for line in lines}) != len(lines):
            code, message = "duplicate_custom_id", "The custom_id of a line is used twice"
        elif len(lines) > self.most_requests:
            code, message = "too_many_tasks", "The batch has too many tasks"
        elif waiting > self.enqueued:
            code, message = "token_limit_exceeded", f"Enqueued token limit reached. Limit: {self.enqueued} tokens."
        if code:
            self._end(
                batch, Outcome("failed", errors=[{"code": code, "message": message, "line": None, "param": None}])
            )
        else:
            self.most_enqueued = max(self.most_enqueued, waiting)

    def _advance(self, batch_id: str) -> None:
        batch = self.batches[batch_id]
        self._polled[batch_id] += 1
        if batch["status"] == "in_progress" and "foreign" not in batch and self._polled[batch_id] >= self.polls:
            self._end(batch, self.outcome(batch))

    def _end(self, batch: Line, outcome: Outcome) -> None:
        batch["status"] = outcome.status
        self._late[batch["id"]] = outcome.late
        if outcome.errors:
            batch["errors"] = {"object": "list", "data": list(outcome.errors)}
        if outcome.status == "failed":
            return
        lines = self.inputs(batch)
        answered = len(lines) if outcome.answered is None else outcome.answered
        good, bad = [], []
        for number, line in enumerate(lines):
            result: Line = {"id": f"r-{number}", "custom_id": line["custom_id"], "response": None, "error": None}
            if number < answered:
                texts = {message["role"]: message["content"] for message in line["body"]["messages"]}
                prompt = texts.get("system", ""), texts["user"]
                served = self.answer(Call(*prompt, self._served[prompt], line["body"]))
                self._served[prompt] += 1
                body = json.loads(served.body) if served.body is not None else _payload(served, line["body"])
                result["response"] = {"status_code": served.status, "request_id": "x", "body": body}
                self.answers[line["custom_id"]] += served.status == 200
            else:
                code = f"batch_{outcome.status}"
                result["error"] = {"code": code, "message": "This request could not be executed in time."}
            is_good = result["response"] is not None and result["response"]["status_code"] == 200
            (good if is_good else bad).append(json.dumps(result).encode() + b"\n")
        good = outcome.output(good)
        batch["output_file_id"] = self._add_file(b"".join(good)) if good else None
        batch["error_file_id"] = self._add_file(b"".join(bad)) if bad else None
        self._count(batch, len(good), len(bad))


def _send_json(handler: BaseHTTPRequestHandler, status: int, answer: Any, fault: Fault) -> None:
    body = json.dumps(answer).encode() if fault.body is None else fault.body
    send(handler, status, body, {"Content-Type": "application/json", **fault.headers}, sent=fault.sent)


def _file_in_form(body: bytes, content_type: str) -> bytes:
    """The content of the part called `file` of a multipart form."""
    boundary = b"--" + content_type.split("boundary=")[1].strip('"').encode()
    for part in body.split(boundary)[1:-1]:
        headers, _, content = part.partition(b"\r\n\r\n")
        if b'name="file"' in headers:
            return content.removesuffix(b"\r\n")
    raise AssertionError("the form must have a part called file")


def of_batches(messages: Iterable[str]) -> list[str]:
    """What is said beside how a server is asked."""
    return [message for message in messages if "is asked like this" not in message]
