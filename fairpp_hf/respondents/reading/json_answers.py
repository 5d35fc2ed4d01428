"""Reads answers out of the JSON objects in a reply."""

import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from fairpp_hf.respondents.reading.mentions import STATED, STATED_NONE
from fairpp_hf.respondents.reading.visible_text import Visible, joined
from fairpp_hf.respondents.reading.words import phrases
from fairpp_hf.schema import OPTION_LETTERS

_LETTER = re.compile(r"\s*[(*]*[A-Za-z][.)*]*\s*")
_OTHER_KEY = re.compile(
    r"reject|error|consider|reason|explan|because|why|note|exclu|not|least|worst|dis|elimin|avoid|wrong|against|never|other|second|last|example|format",
    re.IGNORECASE,
)
_MOST_OBJECTS = 50
_DEEPEST = 40
_DECODER = json.JSONDecoder()


@cache
def _answer_key() -> re.Pattern[str]:
    """A key with a word for "answer" and none that turns it round: `final_answer`, `selectedOption`."""
    words = rf"(?:{phrases('answer')}|chosen|selected|choose|select|pick)"
    before = r"(?:(?:my|the|your|final|best|correct|right|chosen|selected|preferred|single) ?){0,3}"
    after = r"(?: ?(?:answer|option|choice|letter|id|key|code|value|label|text|selected|chosen|final|is))?"
    return re.compile(rf"{before}{words}{after}|text|content|value", re.IGNORECASE)


def with_stated(reply: Visible, read_value: Callable[[str], str | None]) -> Visible:
    """Put one character in the place of each JSON object that has a key such as `answer`, and nothing in that of others.

    Args:
        reply: The reply.
        read_value: Function from a value to a letter; empty for one that names no single option, None for one without any.
    """
    parts: list[Visible] = []
    end = 0
    for start, stop, found in _objects(reply.text):
        letters = {letter for value in _answers(found) if (letter := read_value(value)) is not None}
        letter = next(iter(letters)) if len(letters) == 1 else ""
        stated = chr(STATED + OPTION_LETTERS.index(letter)) if letter else STATED_NONE if letters else ""
        parts.append(reply.cut(end, start))
        parts.append(
            Visible(f"\n{stated}\n", [reply.origin[_place_of(letter, reply.text, start, stop)]] * (2 + len(stated)))
        )
        end = stop
    parts.append(reply.cut(end, len(reply.text)))
    return joined(parts)


def _objects(text: str) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """(start, end, object) of JSON objects; of nested ones the outermost. What is no JSON is skipped."""
    start, tried = text.find("{"), 0
    while start >= 0 and tried < _MOST_OBJECTS:
        tried += 1
        try:
            found, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            start = text.find("{", start + 1)
            continue
        if isinstance(found, dict):
            yield start, end, found
        start = text.find("{", end)


def _answers(found: Any) -> list[str]:
    """The texts in an object that state its answer: those of keys such as `answer`, or else its only letter.

    A number could count from 0 or from 1, so that it names no option.
    """
    texts: list[tuple[str, str]] = []
    ticked: list[tuple[str, bool]] = []
    _collect(found, "", texts, ticked, 0)
    answers = [text for key, text in texts if _answer_key().fullmatch(key)]
    if answers:
        return [] if "" in answers else answers
    if len(ticked) > 1 and sum(is_true for _, is_true in ticked) == 1:
        return [key for key, is_true in ticked if is_true]
    letters = [text for key, text in texts if _LETTER.fullmatch(text) and not _OTHER_KEY.search(key)]
    return letters if len(letters) == 1 else []


def _collect(found: Any, key: str, texts: list[tuple[str, str]], ticked: list[tuple[str, bool]], depth: int) -> None:
    """The texts of an object with their keys as words, and the keys that are letters and true or false."""
    if depth > _DEEPEST:
        return
    if isinstance(found, dict):
        for name, value in found.items():
            words = re.sub(r"(?<=[a-z])(?=[A-Z])|[_\W]+", " ", name).strip()
            # What is numbered is named by what it is in: {"answers": {"1": "B"}}.
            _collect(value, key if re.fullmatch(r"\d{1,3}", words) and key else words, texts, ticked, depth + 1)
    elif isinstance(found, list):
        if found and all(isinstance(item, str) for item in found):
            texts.append((key, " or ".join(found)))  # several in a list are several choices
        else:
            for item in found:
                _collect(item, key, texts, ticked, depth + 1)
    elif isinstance(found, str) or found is None:
        texts.append((key, found or ""))  # an answer of null is an answer that was not given
    elif _LETTER.fullmatch(key) and (isinstance(found, bool) or found in (0, 1)):
        ticked.append((key, bool(found)))


def _place_of(letter: str, text: str, start: int, stop: int) -> int:
    """Where the letter stands as a value of its own, or else the object's start."""
    found = re.compile(rf'[:\[]\s*"[\s*(\[]*({letter or "$."})(?!\w)', re.IGNORECASE).search(text, start, stop)
    return found.start(1) if found else start
