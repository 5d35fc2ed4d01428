"""Turns a reply into an answer: what the respondent declared, its option probabilities, and never anything made up.

The stages, each in a file of its own:

1. `visible_text`: one Unicode form, without marks that cannot be seen;
2. `thoughts`: what the model thought first is cut out;
3. `json_answers`: JSON objects with a key such as `answer`;
4. `transcripts` and `unwrap`: role headers and stop tokens, Markdown, LaTeX, XML, tables;
5. `mentions`: where letters and option texts are named;
6. `grammar`: which of these are announced as the choice, in any language that `words` knows;
7. `decision`: what follows if they agree, contradict or correct each other; whether the respondent refuses;
8. `tokens`: option probabilities, from the alternatives of the token at which the answer's letter begins.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from fairpp_hf.respondents.reading.decision import decided, refuses
from fairpp_hf.respondents.reading.grammar import declarations
from fairpp_hf.respondents.reading.json_answers import with_stated
from fairpp_hf.respondents.reading.mentions import QUOTE
from fairpp_hf.respondents.reading.thoughts import without_thoughts
from fairpp_hf.respondents.reading.tokens import Probabilities, letter_probabilities, letter_tokens
from fairpp_hf.respondents.reading.unwrap import unwrapped
from fairpp_hf.respondents.reading.visible_text import Visible, visible
from fairpp_hf.schema import NO_ANSWER, OPTION_LETTERS

__all__ = ["ReadReply", "Reading", "letter_probabilities", "letter_tokens", "parse_answer", "read_reply", "read_text"]

LONGEST_READ = 40_000
"""A reply that has more characters than this, thoughts left out, has no answer: its end is not looked at."""

LONGEST_RAW = 1_000_000
"""The same with its thoughts, and with characters that cannot be seen."""

_SHORTEST_QUOTE = 12
"""Option texts of fewer characters, such as "Need.", may be words of the respondent's own."""

_ONLY_LETTER = re.compile(r"[^\w?]*([A-Z])(?:[^\w?]+\1)*[^\w?]*")
"""A text of nothing but one letter, be it said again and again."""

_BARE = re.compile(r"\s*([A-Z])[.)]?\s*")


class Reading(NamedTuple):
    """What a text says."""

    answer: int
    status: str
    place: int | None = None
    """Index of the answer's letter in the raw text; None where the text does not name it by its letter."""


class ReadReply(NamedTuple):
    """What a reply declares, with the option probabilities that belong to it."""

    answer: int
    """0 for option A, 1 for B and so on; -1 without an answer."""
    probabilities: Probabilities | None
    status: str
    contradicted: bool = False
    """Whether the token at which the answer's letter begins favours another letter than the text names."""


def read_reply(raw: str | None, detail: Mapping[str, Any] | None, options: Sequence[str]) -> ReadReply:
    """Read a reply that has come, from what the journal keeps of it.

    Args:
        raw: The reply's text.
        detail: Its facts. These are read: `refusal` (true if the server said so), `finish_reason`, and `letters`, of
            `letter_tokens`.
        options: Texts of options A, B, C as they were shown, without their letters.

    Returns:
        What it declares. The status is `refusal` if the server, its filter or the text refused; `truncated` if the reply was
        cut off before it declared an option; otherwise that of `parse_answer`. Probabilities are those of the token at which
        the answer's letter begins. They are None if that token is not known, or if it contradicts the text.
    """
    facts = detail or {}
    if facts.get("refusal") or facts.get("finish_reason") == "content_filter":
        return ReadReply(NO_ANSWER, None, "refusal")
    was_cut = facts.get("finish_reason") in ("length", "error")
    reading = _read(raw or "", tuple(options), was_cut)
    if reading.status != "ok":
        return ReadReply(NO_ANSWER, None, "truncated" if was_cut and reading.status != "refusal" else reading.status)
    probabilities = letter_probabilities(facts.get("letters"), reading.place)
    if probabilities is not None and max(probabilities) > probabilities[reading.answer]:
        return ReadReply(reading.answer, None, "ok", contradicted=True)
    return ReadReply(reading.answer, probabilities, "ok")


def read_text(
    raw: str | None, detail: Mapping[str, Any] | None, options: Sequence[str]
) -> tuple[int, Probabilities | None, str]:
    """(answer, probabilities, status) of `read_reply`, as in `Reply`."""
    return read_reply(raw, detail, options)[:3]


def parse_answer(raw: str | None, options: Sequence[str]) -> tuple[int, str]:
    """Read which option a whole reply declares.

    Args:
        raw: Text of the reply.
        options: Texts of options A, B, C, without their letters.

    Returns:
        (answer, status): 0, 1 or 2 with `"ok"`, or -1 with `"empty"`, `"refusal"` or `"invalid"`.
    """
    return _read(raw or "", tuple(options), False)[:2]


def _read(raw: str, options: tuple[str, ...], was_cut: bool) -> Reading:
    # Most replies are a letter, or a whole line as it was shown: all rules would say the same.
    bare = _BARE.fullmatch(raw)
    if bare and bare[1] in OPTION_LETTERS[: len(options)]:
        return Reading(OPTION_LETTERS.index(bare[1]), "ok", bare.start(1))
    for number, option in enumerate(options):
        if raw == f"{OPTION_LETTERS[number]}. {option}":
            return Reading(number, "ok", 0)
    if len(raw) > LONGEST_RAW:
        return Reading(NO_ANSWER, "invalid")
    reply, before = without_thoughts(visible(raw))
    reply = reply.stripped()
    if not reply.text:
        # "B</think>": the mark came after the answer; but a thought that ends so came to none.
        return _read_visible(before, options, True) if _is_bare(before.text, options) else Reading(NO_ANSWER, "empty")
    if len(reply.text) > LONGEST_READ:
        return Reading(NO_ANSWER, "invalid")
    return _read_visible(reply, options, was_cut)


def _read_visible(reply: Visible, options: tuple[str, ...], was_cut: bool) -> Reading:
    plains = tuple(map(plain, options))
    whole = unwrapped(reply)
    only = _ONLY_LETTER.fullmatch(whole.text)
    if only and only[1] in OPTION_LETTERS[: len(options)]:
        return Reading(OPTION_LETTERS.index(only[1]), "ok", whole.origin[only.start(1)])
    for number, option in enumerate(plains):
        if _folded(option) and _folded(whole.text) in (_folded(option), _folded(f"{OPTION_LETTERS[number]} {option}")):
            return Reading(number, "ok", None if _folded(whole.text) == _folded(option) else whole.origin[0])
    stated = with_stated(reply, lambda value: _value(value, options))
    quoted = _with_quotes(unwrapped(stated), plains)
    found, named = declarations(quoted.text)
    chosen = decided(quoted.text, found, named, was_cut)
    if chosen is not None and chosen.letter in OPTION_LETTERS[: len(options)]:
        place = quoted.origin[chosen.start] if chosen.lettered else None
        return Reading(OPTION_LETTERS.index(chosen.letter), "ok", place)
    return Reading(NO_ANSWER, "refusal" if refuses(whole.text) else "invalid")


def _value(value: str, options: tuple[str, ...]) -> str | None:
    """The letter that a value in JSON names; empty for something else than one option, None for a text without a choice."""
    reading = _read_visible(visible(value), options, False) if len(value) <= LONGEST_READ else Reading(NO_ANSWER, "")
    if reading.status == "ok":
        return OPTION_LETTERS[reading.answer]
    return "" if len(value) < 20 and re.search(r"(?<![A-Za-z'])[A-Z](?![A-Za-z'])", value) else None


@lru_cache(maxsize=1024)
def plain(option: str) -> str:
    """An option's text as it would stand in a plain reply, without its full stop."""
    return unwrapped(visible(option)).text.rstrip(".")


def _is_bare(text: str, options: tuple[str, ...]) -> bool:
    lines = [line for option in options for line in (option, *(f"{letter}. {option}" for letter in OPTION_LETTERS))]
    return bool(_folded(text)) and _folded(text) in map(_folded, (*OPTION_LETTERS, *lines))


def _folded(text: str) -> str:
    return re.sub(r"[\W_]+", " ", text).strip().casefold()


def _with_quotes(reply: Visible, plains: Sequence[str]) -> Visible:
    """With one character in the place of each option's text."""
    for number in sorted(range(len(plains)), key=lambda n: -len(plains[n])):
        if len(plains[number]) < _SHORTEST_QUOTE:
            continue
        text, end = "", 0
        origin: list[int] = []
        for found in re.finditer(re.escape(plains[number]), reply.text, re.IGNORECASE):
            text += reply.text[end : found.start()] + chr(QUOTE + number)
            origin += reply.origin[end : found.start() + 1]
            end = found.end()
        if end:
            reply = Visible(text + reply.text[end:], [*origin, *reply.origin[end:]])
    return reply
