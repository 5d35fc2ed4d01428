"""Turns a reply into an answer: what the respondent declared, its option probabilities, and never anything made up.

The stages, each in a file of its own:

1. `visible_text`: one Unicode form, without marks that cannot be seen;
2. `thoughts`: what the model thought first is cut out;
3. `json_answers`: JSON objects with a key such as `answer`;
4. `unwrap`: Markdown, LaTeX, XML, role headers and stop tokens;
5. `grammar`: letters and option texts that are announced as the choice, in any language that `words` knows;
6. here: what follows if they agree, contradict or correct each other, or the respondent refuses;
7. `tokens`: option probabilities, from the alternatives of the token at which the answer's letter begins.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from fairpp_hf.respondents.reading.grammar import Declaration, declarations
from fairpp_hf.respondents.reading.json_answers import with_stated
from fairpp_hf.respondents.reading.mentions import QUOTE
from fairpp_hf.respondents.reading.thoughts import without_thoughts
from fairpp_hf.respondents.reading.tokens import Probabilities, letter_probabilities, letter_tokens
from fairpp_hf.respondents.reading.unwrap import unwrapped
from fairpp_hf.respondents.reading.visible_text import Visible, visible
from fairpp_hf.respondents.reading.words import anywhere
from fairpp_hf.schema import NO_ANSWER, OPTION_LETTERS

__all__ = ["Read", "letter_probabilities", "letter_tokens", "parse_answer", "read_reply", "read_text"]

LONGEST_READ = 40_000
"""A reply that has more characters than this, thoughts left out, has no answer: its end is not looked at."""

_SHORTEST_QUOTE = 12
"""Option texts of fewer characters, such as "Need.", may be words of the respondent's own."""

_BARE = re.compile(r"\s*([A-Z])[.)]?\s*")


class _Reading(NamedTuple):
    """What a text says."""

    answer: int
    status: str
    place: int | None = None
    """Index of the answer's letter in the raw text; None where the text does not name it by its letter."""


class Read(NamedTuple):
    """What a reply declares, with the option probabilities that belong to it."""

    answer: int
    """0 for option A, 1 for B and so on; -1 without an answer."""
    probabilities: Probabilities | None
    status: str
    contradicted: bool = False
    """Whether the token at which the answer's letter begins favours another letter than the text names."""


def read_reply(raw: str | None, detail: Mapping[str, Any] | None, options: Sequence[str]) -> Read:
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
        return Read(NO_ANSWER, None, "refusal")
    was_cut = facts.get("finish_reason") in ("length", "error")
    reading = _read(raw or "", tuple(options), was_cut)
    if reading.status != "ok":
        return Read(NO_ANSWER, None, "truncated" if was_cut and reading.status != "refusal" else reading.status)
    probabilities = letter_probabilities(facts.get("letters"), reading.place)
    if probabilities is not None and max(probabilities) > probabilities[reading.answer]:
        return Read(reading.answer, None, "ok", contradicted=True)
    return Read(reading.answer, probabilities, "ok")


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


def _read(raw: str, options: tuple[str, ...], was_cut: bool) -> _Reading:
    # Most replies are a letter, or a whole line as it was shown: all rules would say the same.
    bare = _BARE.fullmatch(raw)
    if bare and bare[1] in OPTION_LETTERS[: len(options)]:
        return _Reading(OPTION_LETTERS.index(bare[1]), "ok", bare.start(1))
    for number, option in enumerate(options):
        if raw == f"{OPTION_LETTERS[number]}. {option}":
            return _Reading(number, "ok", 0)
    reply, before = without_thoughts(visible(raw))
    reply = reply.stripped()
    if not reply.text:
        # "B</think>": the mark came after the answer; but a thought that ends so came to none.
        return _read_visible(before, options, True) if _is_bare(before.text, options) else _Reading(NO_ANSWER, "empty")
    if len(reply.text) > LONGEST_READ:
        return _Reading(NO_ANSWER, "invalid")
    return _read_visible(reply, options, was_cut)


def _read_visible(reply: Visible, options: tuple[str, ...], was_cut: bool) -> _Reading:
    plains = tuple(map(plain, options))
    whole = unwrapped(reply)
    letters = set(re.findall(r"\w+", whole.text))
    if "?" not in whole.text and len(letters) == 1 and letters <= set(OPTION_LETTERS[: len(options)]):
        return _Reading(OPTION_LETTERS.index(*letters), "ok", whole.origin[re.search(r"\w", whole.text).start()])
    for number, option in enumerate(plains):
        if _folded(option) and _folded(whole.text) in (_folded(option), _folded(f"{OPTION_LETTERS[number]} {option}")):
            return _Reading(number, "ok", None if _folded(whole.text) == _folded(option) else whole.origin[0])
    stated = with_stated(reply, lambda value: _value(value, options))
    quoted = _with_quotes(unwrapped(stated), plains)
    found, named = declarations(quoted.text)
    chosen = _decided(quoted.text, found, named, was_cut)
    if chosen is not None and chosen.letter in OPTION_LETTERS[: len(options)]:
        place = quoted.origin[chosen.start] if chosen.lettered else None
        return _Reading(OPTION_LETTERS.index(chosen.letter), "ok", place)
    return _Reading(NO_ANSWER, "refusal" if _refuses(whole.text) else "invalid")


def _decided(text: str, found: list[Declaration], named: set[str], was_cut: bool) -> Declaration | None:
    """The declaration that counts, if the text comes to one."""
    firm = [declaration for declaration in found if declaration.firm]
    if was_cut:
        # What is cut off may be a thought, or on its way to another choice.
        if not firm or not firm[0].opens or len({one.letter for one in firm}) > 1 or text[firm[0].end :].strip() == ":":
            return None
        return None if anywhere("thinks").match(text) else firm[0]
    if not firm:
        letters = {declaration.letter for declaration in found}
        return found[0] if len(letters) == 1 and named <= letters else None
    while not firm[0].letter and len(firm) > 1:
        del firm[0]  # "A, B or C?", and then one of them
    last = firm[-1]
    others = [declaration for declaration in firm if declaration.letter != last.letter]
    if others:
        first = next(one for one in firm if one.start > others[-1].start)
        between = text[others[-1].end : first.start]
        if not (anywhere("correct").search(between) or anywhere("retract").search(between)):
            return None
    else:
        first = firm[0]
    after = text[last.end :]
    return None if anywhere("take_back").search(after) or anywhere("retract").search(after) else first


def _refuses(text: str) -> bool:
    return any(anywhere(role).search(text) for role in ("decline", "disclaim"))


def _value(value: str, options: tuple[str, ...]) -> str | None:
    """The letter that a value in JSON names; empty for something else than one option, None for a text without a choice."""
    reading = _read_visible(visible(value), options, False) if len(value) <= LONGEST_READ else _Reading(NO_ANSWER, "")
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
        text, origin, end = "", [], 0
        for found in re.finditer(re.escape(plains[number]), reply.text, re.IGNORECASE):
            text += reply.text[end : found.start()] + chr(QUOTE + number)
            origin += reply.origin[end : found.start() + 1]
            end = found.end()
        if end:
            reply = Visible(text + reply.text[end:], [*origin, *reply.origin[end:]])
    return reply
