"""Takes a chat completion apart, as servers send it over the OpenAI API: text, facts for the record, tokens used."""

import logging
import math
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import islice
from typing import Any

from fairpp_hf.respondents.base import Reply
from fairpp_hf.respondents.reading import ReadReply, letter_tokens, read_reply
from fairpp_hf.schema import NO_ANSWER

logger = logging.getLogger(__name__)

MOST_TOKENS = 1_000_000_000
"""A count of tokens from here on is none, and what the reply cost is unknown; it is kept as this number."""

_LONGEST_FACT = 200
"""Characters that are kept of a fact, such as the model's name."""
_THOUGHTS = ("reasoning", "reasoning_content")
_TEXT_PARTS = ("text", "output_text")
_DEEPEST_USAGE, _MOST_COUNTS = 3, 50


def read_completion(completion: Any, options: Sequence[str], latency_s: float) -> Reply:
    """Read a chat completion, of which nothing is taken for granted.

    Whatever goes wrong in reading what the model wrote costs this reply only: it is then `invalid`, and its text is kept.

    Raises:
        ValueError: It is not a chat completion with a choice.
    """
    try:
        choice = completion["choices"][0]
        message = choice["message"]
        content, refusal = _text_of(message.get("content")), message.get("refusal")
    except (AttributeError, KeyError, IndexError, TypeError):
        raise _no_completion(completion) from None
    if not isinstance(refusal, str | None):
        raise _no_completion(completion)
    usage = usage_of(completion)
    detail: dict[str, Any] = {
        "finish_reason": _fact(choice.get("finish_reason")),
        "model": _fact(completion.get("model")),
    }
    if any(isinstance(thought := message.get(name), str) and thought for name in _THOUGHTS) or reasoning_tokens(usage):
        detail["reasoned"] = True
    if refusal:
        detail["refusal"] = True
    raw = refusal or content
    try:
        detail |= letter_tokens(content, choice.get("logprobs"))
    except Exception as error:
        _say_unread("log-probabilities", type(error).__name__)
    try:
        read = read_reply(raw, detail, options)
    except Exception as error:
        _say_unread("text", type(error).__name__)
        read = ReadReply(NO_ANSWER, None, "invalid")
    if read.contradicted:
        detail["contradicted"] = True
    return Reply(read.answer, read.probabilities, read.status, raw, usage, latency_s, detail)


def usage_of(completion: Any) -> dict[str, Any] | None:
    """The counts of a completion's usage as the server gives them, at most `MOST_TOKENS` each; None where there are none.

    What is no number at all is left out, and so is what lies deeper than such counts do.
    """
    usage = completion.get("usage") if isinstance(completion, dict) else None
    return _counts(usage) if isinstance(usage, dict) else None


def reasoning_tokens(usage: Mapping[str, Any] | None) -> float:
    """How many tokens of thinking a server counts; 0 where it says nothing of them."""
    for place in (usage or {}, (usage or {}).get("completion_tokens_details")):
        found = place.get("reasoning_tokens") if isinstance(place, Mapping) else None
        if isinstance(found, int | float):
            return found
    return 0


def sum_of_usage(first: Mapping[str, Any] | None, second: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Tokens of two replies together: numbers are added up, at every level; None where neither says.

    Example:
        >>> sum_of_usage({"prompt_tokens": 7, "details": {"cached": 1}}, {"prompt_tokens": 7, "details": {"cached": 2}})
        {'prompt_tokens': 14, 'details': {'cached': 3}}
    """
    if first is None or second is None:
        either = second if first is None else first
        return None if either is None else dict(either)
    total = dict(first)
    for name, value in second.items():
        before = total.get(name)
        if isinstance(value, dict) and isinstance(before, dict):
            total[name] = sum_of_usage(before, value)
        elif isinstance(value, int | float) and isinstance(before, int | float):
            total[name] = min(MOST_TOKENS, before + value)
        elif before is None:
            total[name] = value
    return total


def _text_of(content: Any) -> str | None:
    """A message's text: of one in parts, the parts that are text, one after the other.

    Raises:
        TypeError: It has no form of a message.
    """
    if not isinstance(content, list):
        if not isinstance(content, str | None):
            raise TypeError
        return content
    texts = []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif part.get("type", "text") in _TEXT_PARTS:
            text = part.get("text")
            # Some wrap it once more: {"text": {"value": "A"}}.
            text = text.get("value") if isinstance(text, dict) else text
            if isinstance(text, str):
                texts.append(text)
    return "".join(texts) if texts else None


def _counts(found: dict[str, Any], depth: int = 1) -> dict[str, Any]:
    counts: dict[str, Any] = {}
    for name, value in islice(found.items(), _MOST_COUNTS):
        if isinstance(value, dict) and depth < _DEEPEST_USAGE:
            counts[name] = _counts(value, depth + 1)
        elif (isinstance(value, int) and not isinstance(value, bool)) or (
            isinstance(value, float) and not math.isnan(value)
        ):
            counts[name] = min(MOST_TOKENS, max(-MOST_TOKENS, value))
    return counts


def _fact(value: Any) -> str | None:
    return value[:_LONGEST_FACT] if isinstance(value, str) else None


@cache  # once for each kind of error
def _say_unread(what: str, kind: str) -> None:
    logger.warning(
        "The %s of a reply could not be read (%s): the reply is kept and counts without it. Please report the reply.",
        what,
        kind,
    )


def _no_completion(found: Any) -> ValueError:
    try:
        shown = str(found)[:200]
    except (ValueError, RecursionError):
        shown = f"a {type(found).__name__} that cannot be shown"
    return ValueError(f"not a chat completion: {shown!r}")
