"""Finds where a plain text names an option: by its letter, by its text, or by a JSON object."""

import re
from collections.abc import Iterator, Sequence
from itertools import islice

from fairpp_hf.respondents.reading.unwrap import SET_OFF
from fairpp_hf.respondents.reading.words import JOINS, anywhere, phrases
from fairpp_hf.schema import OPTION_LETTERS

QUOTE = 0xE000
"""One private character in the place of an option's text: this and the option's number."""

STATED = 0xE100
"""One private character in the place of a JSON object that states an answer: this and the option's number."""

STATED_NONE = chr(0xE1FF)
"""In the place of one that states something else."""

MOST_NAMED = 200
"""A text that names letters more often than this declares nothing: each is looked at by itself, and time is limited."""

_QUOTES = r"[\ue000-\ue0ff]"
# What makes a letter a part of a longer word: "B-level", "B's", "B.A."; but Turkish "B'yi" and Hungarian "B-t" are letters.
_GOES_ON = rf"[{JOINS}&]|['’][{JOINS}]|\.[A-Za-z]\b|\([a-z]\)|-(?!(?:t|et|ot|г|ийг)\b)[{JOINS}]"
_INFLECTED = rf"['’](?:[ydts][ıiuüae]|[ıiuüy])[{JOINS}]*\b"
_MENTION = re.compile(
    rf"(?<![{JOINS}'’&@])(?<!\w\()(?<!\b[A-Za-z]\.)(?P<letter>[A-Za-z])(?:(?P<apart>{SET_OFF})|(?!{_GOES_ON})|(?={_INFLECTED}))"
    rf"(?:[ .:;,)\-–—=]{{0,4}}(?P<quoted>{_QUOTES}))?"
    rf"|(?P<quote>{_QUOTES})|(?P<stated>[\ue100-\ue1ff])"
)
_LABEL = re.compile(rf" ?[.):]|{_QUOTES}| ?[–—-] ")


def mentions(text: str) -> list[re.Match[str]]:
    """All places at which a letter stands as a word, or a private character; English "I" is none."""
    found = (match for match in _MENTION.finditer(text) if match["letter"] != "I" or match["apart"])
    return list(islice(found, MOST_NAMED + 1))


def letter_of(mention: re.Match[str]) -> str:
    """The letter that is named, in upper case; empty where letter and quoted text contradict each other."""
    if mention["stated"]:
        return "" if mention["stated"] == STATED_NONE else OPTION_LETTERS[ord(mention["stated"]) - STATED]
    quote = mention["quote"] or mention["quoted"]
    quoted = OPTION_LETTERS[ord(quote) - QUOTE] if quote else None
    if mention["letter"] is None:
        return quoted or ""
    letter = mention["letter"].upper()
    return letter if quoted in (None, letter) else ""


def is_sure(mention: re.Match[str]) -> bool:
    """Whether what was found names an option for certain, and is no article or initial."""
    return mention["letter"] is None or bool(mention["apart"] or mention["quoted"])


def labels(text: str, found: Sequence[re.Match[str]]) -> set[int]:
    """Where lines or sentences begin with the letters of several options: a list of options is no choice."""
    begins = re.compile(rf"(?:^|\n|[.;] )(?:{phrases('option')} )?$", re.IGNORECASE)
    marked = {mention.start(): letter_of(mention) for mention in _labelled(text, found, begins)}
    if len(set(marked.values())) < 2 or anywhere("retract").search(text[min(marked) : max(marked)]):
        return set()
    return set(marked)


def _labelled(text: str, found: Sequence[re.Match[str]], begins: re.Pattern[str]) -> Iterator[re.Match[str]]:
    for mention in found:
        if not mention["letter"] or not begins.search(text[max(0, mention.start() - 20) : mention.start()]):
            continue
        end = mention.end()
        if mention["quoted"] or _LABEL.match(text, end) or (mention["apart"] and not goes_on(text[end : end + 40])):
            yield mention


def goes_on(after: str) -> bool:
    """Whether what follows a letter at the start of a text or line says something else of it than that it is chosen."""
    return _SAYS_OTHERWISE.match(after) is not None


# "A:" may stand for "answer", "A. Smith, 54" is a name, and a predicate may say anything of an option.
_SAYS_OTHERWISE = re.compile(
    r" ?: ?(?-i:[^\W_a-z]|this\b)"
    r"|[ ,.:–—-]{1,3}(?:no(?! (?:doubt|question|contest|hesitation|reservations?|regrets?|matter|need|problem)\b)"
    r"|nope|nah|never|not(?! (?-i:[A-Z])\b)|false|wrong)\b"
    r"|, i(?: doubt|['’]m not sure| am not sure| do(?:n['’]t| not) think so)\b"
    r"|\. (?-i:[A-Z])\w+, (?:aged )?\d"
    r"|[^\n]{0,9}\n(?:- )?(?:pros?|cons?|advantages?|strengths?|weakness(?:es)?)\b"
    r"| (?:is|was|are|were|would|has|have|had|can|could|should|seems|does|means|to be|ist|est|es|é|è|or)\b",
    re.IGNORECASE,
)
