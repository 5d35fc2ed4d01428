"""Reads a reply's answer and option probabilities out of its text and of what the journal keeps beside it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fairpp_hf.respondents.parsing import after_thought, parse_answer
from fairpp_hf.schema import NO_ANSWER, OPTION_LETTERS

Probabilities = tuple[float, float, float]


def read_text(
    raw: str | None, detail: Mapping[str, Any] | None, options: Sequence[str]
) -> tuple[int, Probabilities | None, str]:
    """Read a reply that has come, from what the journal keeps of it.

    Args:
        raw: the reply's text.
        detail: of its facts, these are read: `refusal` (true where the server said so), `finish_reason`, `first_token`
            and `top_logprobs` (token to log-probability).
        options: texts of options A, B, C as they were shown, without their letters.

    Returns:
        (answer, probabilities, status), as in `Reply`. Status is `refusal` where the server or its filter refused;
        `truncated` where the reply was cut off before it named an option; otherwise as `parse_answer` reads it.
        Probabilities are those of the letters where the reply's first token is the answer's letter, and else None; so also
        where the first token is of a thought.
    """
    facts = detail or {}
    if facts.get("refusal") or facts.get("finish_reason") == "content_filter":
        return NO_ANSWER, None, "refusal"
    answer, status = parse_answer(raw, options)
    if status != "ok":
        return NO_ANSWER, None, "truncated" if facts.get("finish_reason") == "length" else status
    first_token = facts.get("first_token")
    if (
        isinstance(first_token, str)
        and first_token.strip() == OPTION_LETTERS[answer]
        and raw is not None
        and after_thought(raw) == raw
    ):
        return answer, letter_probabilities(facts.get("top_logprobs") or {}), status
    return answer, None, status


def letter_probabilities(top_logprobs: Mapping[str, Any]) -> Probabilities | None:
    """Probabilities of A, B, C from the alternatives of a reply's first token.

    The tokens of a letter, with and without white space around it, are added up, and the three sums are divided by
    their total. None where a letter is missing or has no finite log-probability: what is not known is not made up.

    Example:
        >>> import math
        >>> letter_probabilities({"A": math.log(0.2), " A": math.log(0.1), "B": math.log(0.2), "C": math.log(0.1)})
        (0.5, 0.3333333333333333, 0.16666666666666669)
    """
    by_letter: dict[str, list[float]] = {letter: [] for letter in OPTION_LETTERS}
    for token, logprob in top_logprobs.items():
        # -9999 is how the API writes "very unlikely" where it gives no figure.
        if (letter := token.strip()) in by_letter and isinstance(logprob, int | float) and -9999 < logprob < 1:
            by_letter[letter].append(math.exp(logprob))
    sums = [math.fsum(probabilities) for probabilities in by_letter.values()]
    total = math.fsum(sums)
    if not all(sums) or not math.isfinite(total):
        return None
    return sums[0] / total, sums[1] / total, sums[2] / total


def letter_tokens(raw: str | None, logprobs: Any) -> dict[str, Any]:
    """The first token and its alternatives; nothing where they are not there or look otherwise: the text still counts."""
    try:
        first = logprobs["content"][0]
        alternatives = {top["token"]: top["logprob"] for top in first["top_logprobs"] or ()}
        found = {"first_token": first["token"], "top_logprobs": alternatives}
    except (KeyError, IndexError, TypeError):
        return {}
    return found if all(isinstance(token, str) for token in (found["first_token"], *alternatives)) else {}
