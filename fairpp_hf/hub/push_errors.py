"""What to do when the Hub does not take a push: wait and try again, or say what the user can do."""

import email.utils
import logging
import random
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import parse_ratelimit_headers

logger = logging.getLogger(__name__)

ATTEMPTS = 6
"""Commits that are tried before a push gives up."""

LONGEST_WAIT = 300.0
"""Seconds; a Hub that asks for more is left alone, and the user told."""


class FileUnreadable(ConnectionError):
    """A file that a repo lists could not be had: it may take a moment until all of the Hub has it."""


def wait_or_give_up(error: Exception, attempt: int, repo_id: str) -> None:
    """Sleep before the next attempt, or raise what the user can do something about, see `push_dataset`."""
    response = _response(error)
    status = None if response is None else response.status_code
    if response is not None and status in (401, 403):
        what = "a token" if status == 401 else f"a token that may write to {repo_id.partition('/')[0]!r}"
        raise PermissionError(
            f"The Hub must be given {what}; got {status} for {repo_id}.{_said(response)} Log in with `hf auth login`, or "
            "set HF_TOKEN to a token with the right to write, from the settings of your account. The repo is as it was."
        ) from error
    after = "The repo is as it was, or complete. Push again: what was uploaded is not sent again."
    will_pass = status is None or status in (408, 409, 412, 429) or status >= 500
    if not will_pass and not isinstance(error, FileUnreadable):
        raise ConnectionError(
            f"The Hub must accept the push; got {in_short(error)} for {repo_id}.{_said(response)} {after}"
        ) from error
    wait = min(60.0, 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)
    asked = None if response is None else asked_wait(response.headers)
    if asked is not None and asked > LONGEST_WAIT:
        raise ConnectionError(
            f"The Hub must take requests; got {status} for {repo_id}, with the wish to be left alone for {asked:,.0f} "
            f"seconds. {after}"
        ) from error
    if attempt >= ATTEMPTS:
        raise ConnectionError(
            f"The Hub must accept the push within {ATTEMPTS} attempts; got {in_short(error)} for {repo_id} in the last. "
            f"{after}"
        ) from error
    wait = max(wait, asked or 0.0)
    logger.warning(
        "Push to %s, attempt %d of %d: %s. Trying again in %.0f s.", repo_id, attempt, ATTEMPTS, in_short(error), wait
    )
    _sleep(wait)


def _said(response: Any) -> str:
    """The Hub's own words, as a sentence with a space before it; empty where it had none."""
    message = response.headers.get("x-error-message")
    if not message:
        try:
            message = response.json().get("error")
        except (ValueError, AttributeError):
            message = None
    return f" It said: {' '.join(str(message).split()).rstrip('.')}." if message else ""


def _response(error: BaseException | None) -> Any:
    """The Hub's answer behind an error, however deep; None where there was none."""
    while error is not None:
        if isinstance(error, HfHubHTTPError):
            return error.response
        error = error.__cause__ or error.__context__
    return None


def in_short(error: BaseException) -> str:
    """The Hub's answer, or else the innermost cause, on one line."""
    response = _response(error)
    if response is not None:
        return f"{response.status_code} {response.reason_phrase} to {response.request.method} {response.url.path}"
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")[:300]


def asked_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that the Hub asks to wait: `Retry-After` (seconds or a date) or the draft's `RateLimit`; None if neither."""
    value = (headers.get("retry-after") or "").strip()
    if value.isdigit():
        return float(value)
    if value:
        try:
            date = email.utils.parsedate_to_datetime(value)
        except ValueError:
            return None
        return max(0.0, (date - datetime.now(UTC)).total_seconds())
    limit = parse_ratelimit_headers(headers)
    return float(limit.reset_in_seconds) if limit is not None and limit.remaining == 0 else None


def _sleep(seconds: float) -> None:
    """Where tests save the time."""
    time.sleep(seconds)
