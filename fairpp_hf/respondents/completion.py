"""Takes a chat completion apart, as servers send it over the OpenAI API: text, facts for the record, tokens used."""

from collections.abc import Mapping, Sequence
from typing import Any

from fairpp_hf.respondents.base import Reply
from fairpp_hf.respondents.reading import letter_tokens, read_text


def read_completion(completion: Any, options: Sequence[str], latency_s: float) -> Reply:
    """Read a chat completion.

    Args:
        completion: what a server sent, from JSON. Nothing about it is taken for granted.
        options: as for `read_text`.
        latency_s: goes into the reply.

    Raises:
        ValueError: it is not a chat completion with a choice.
    """
    try:
        choice = completion["choices"][0]
        message = choice["message"]
        content, refusal = message.get("content"), message.get("refusal")
    except (AttributeError, KeyError, IndexError, TypeError):
        raise _no_completion(completion) from None
    if not isinstance(content, str | None) or not isinstance(refusal, str | None):
        raise _no_completion(completion)
    detail: dict[str, Any] = {"finish_reason": choice.get("finish_reason"), "model": completion.get("model")}
    detail |= letter_tokens(content, choice.get("logprobs"))
    if refusal:
        detail["refusal"] = True
    raw = refusal or content
    answer, probabilities, status = read_text(raw, detail, options)
    return Reply(answer, probabilities, status, raw, usage_of(completion), latency_s, detail)


def usage_of(completion: Any) -> dict[str, Any] | None:
    """The tokens of a completion as the server counts them, without entries that are null; None where it does not say."""
    usage = completion.get("usage") if isinstance(completion, dict) else None
    return _without_nulls(usage) if isinstance(usage, dict) else None


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
            total[name] = before + value
        elif before is None:
            total[name] = value
    return total


def _without_nulls(found: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _without_nulls(value) if isinstance(value, dict) else value
        for name, value in found.items()
        if value is not None
    }


def _no_completion(found: Any) -> ValueError:
    return ValueError(f"not a chat completion: {str(found)[:200]!r}")
