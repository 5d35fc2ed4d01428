"""A batch's files, line by line: requests as the Batch API takes them, and answers as it gives them."""

import asyncio
import itertools
import json
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fairpp_hf.respondents.base import Reply, Request, RespondentStopped
from fairpp_hf.respondents.completion import usage_of
from fairpp_hf.respondents.faults import final_error as final_error_of
from fairpp_hf.respondents.faults import is_flagged, one_line
from fairpp_hf.respondents.openai import OpenAIRespondent
from fairpp_hf.schema import NO_ANSWER

if TYPE_CHECKING:
    import openai

LINES_AT_ONCE = 1000
MOST_ROUNDS = 3
"""In how many batches a request is asked in one call that fails for passing reasons."""
_NOT_ASKED = ("batch_expired", "batch_cancelled")
_PASSING = (408, 409, 429)
UNFIT = "unfit_body"
"""The code of a line that cannot be read though it is one."""
_LONGEST_SHOWN = 2000
_CUSTOM_ID = re.compile(rb'"custom_id"\s*:\s*"([0-9a-f]{64})"')


class Answer(NamedTuple):
    """A line of an output or error file."""

    custom_id: str
    status: int | None
    """Of HTTP; None where the model was not asked."""
    body: Any
    """A chat completion with status 200."""
    code: str | None
    """Of an error."""
    message: str
    """Of an error; empty with status 200."""

    @property
    def not_asked(self) -> bool:
        """Whether the batch ended before this request's turn came."""
        return self.code in _NOT_ASKED

    @property
    def passing(self) -> bool:
        """Whether the error may be gone the next time."""
        return self.status is None or self.status in _PASSING or self.status >= 500


def request_line(key: str, body: Mapping[str, Any]) -> bytes:
    """A line of an input file, its end included."""
    line = {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


def read_answer(line: bytes) -> Answer | None:
    """Read a line of an output or error file; None where it is none."""
    try:
        answer = json.loads(line)
    except json.JSONDecodeError:
        return None
    except (RecursionError, ValueError) as unfit:
        # Too deep, or with too long a number. It was paid for, and would be so again.
        if (asked := _CUSTOM_ID.search(line)) is None:
            return None
        shown = line[:_LONGEST_SHOWN].decode("utf-8", "replace")
        return Answer(asked[1].decode(), 200, shown, UNFIT, f"unreadable response: {type(unfit).__name__}")
    try:
        custom_id, response, error = answer["custom_id"], answer.get("response"), answer.get("error")
        status = body = None
        if response is not None:
            status, body = response["status_code"], response.get("body")
            # The API gives what the model's server said as the body of the response.
            error = error or (body.get("error") if isinstance(body, dict) else None)
        if not isinstance(custom_id, str) or not isinstance(status, int | None):
            raise TypeError
    except (AttributeError, KeyError, TypeError):
        return None
    if status == 200:
        return Answer(custom_id, status, body, None, "")
    code = error.get("code") or error.get("type") if isinstance(error, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    words = one_line(message) if isinstance(message, str) and message else f"status {status}"
    return Answer(custom_id, status, body, code, words)


def reply_to(
    answer: Answer, request: Request, respondent: OpenAIRespondent, batch_id: str, rounds: int
) -> tuple[Reply, bool]:
    """What an answer says to a request that was asked `rounds` times before, and whether it is to be asked again.

    A reply that is worth another try was paid for: it is kept as `failed`, with its text and usage, until another comes, and
    as what it is after the last try.
    """
    if answer.code == UNFIT:
        facts = {"finish_reason": "error", "error": answer.message, "batch": batch_id}
        return Reply(NO_ANSWER, None, "invalid", answer.body, None, 0.0, facts), False
    if answer.status == 200:
        try:
            reply = respondent.read(answer.body, request, 0.0)
        except Exception as error:  # whatever is wrong with a reply, it costs that reply only
            # It was paid for all the same.
            usage, message, passing = usage_of(answer.body), f"unreadable response: {error}", True
        else:
            detail = {**(reply.detail or {}), "batch": batch_id}
            if rounds >= respondent.further_tries or not respondent.worth_another_try(reply):
                return reply._replace(detail=detail), False
            detail["error"] = f"a reply that is {reply.status}"
            return reply._replace(status="failed", answer=NO_ANSWER, probabilities=None, detail=detail), True
    elif answer.status is not None and is_flagged(_error_of(answer, answer.status), answer.message):
        detail = {"error": answer.message, "refusal": True, "batch": batch_id}
        return Reply(NO_ANSWER, None, "refusal", answer.message, None, 0.0, detail), False
    else:
        usage, message, passing = None, answer.message, answer.passing
    failed = Reply(NO_ANSWER, None, "failed", None, usage, 0.0, {"error": message, "batch": batch_id})
    return failed, passing and rounds + 1 < MOST_ROUNDS


def final_error(answer: Answer, respondent: OpenAIRespondent) -> RespondentStopped | None:
    """The error for what an answer says, if no other request would escape it."""
    if answer.status is None or answer.status == 200:
        return None
    error = _error_of(answer, answer.status)
    return None if is_flagged(error, answer.message) else final_error_of(error, answer.message, respondent.model)


def _error_of(answer: Answer, status: int) -> "openai.APIStatusError":
    import httpx2
    import openai

    response = httpx2.Response(status, request=httpx2.Request("POST", "http://batch"))
    body = {"message": answer.message, "code": answer.code}
    return openai.APIStatusError(answer.message, response=response, body=body)


async def pages_of(path: Path) -> AsyncIterator[list[bytes]]:
    """The lines of a file, `LINES_AT_ONCE` at a time; others may run in between."""
    with path.open("rb") as file:
        while lines := list(itertools.islice(file, LINES_AT_ONCE)):
            yield lines
            await asyncio.sleep(0)
