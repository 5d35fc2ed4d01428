"""Reads an answer out of a reply's text, and never makes one up.

Rules, in this order, after unifying Unicode forms and dropping invisible marks and what the model thought first: all up
to the first `</think>` or `</thinking>`, whose opening tag some chat templates put into the prompt, and all after an opening
tag at the start that nothing closes, since that is no reply yet:

1. nothing left: `empty`;
2. JSON with a key such as `answer`: its value is read by the rules below;
3. an option's text or whole line: that option;
4. a letter alone, or a letter set off at the start (`B.`, `(b)`, `**B**: ...`), or one after words that announce a choice
   (`Answer: B`, `I would choose option B`): that option, if no other letter is named anywhere in the reply;
5. anything else: `invalid`.

Prose that begins with the article "A", a negation ("not B"), a letter beyond C, or two letters are all `invalid`.
"""

import json
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from fairpp_hf.schema import NO_ANSWER, OPTION_LETTERS

_KEYS = ("answer", "choice", "option", "selection", "letter")
_INVISIBLE = re.compile("[\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufe0e\ufe0f\ufeff]")
_THOUGHT = re.compile(r".*?</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_STILL_THINKING = re.compile(r"\s*<think(?:ing)?>", re.IGNORECASE)
_FENCED = re.compile(r"```\w*\n(.*?)\n?```", re.DOTALL)
_OBJECT = re.compile(r"\{[^{}]*\}")

_OPENING = r"""[\s*_`"'“‘«(\[{<]*"""
_CLOSING = r"""[*_`"'”’»)\]}>]*"""
_ALONE = re.compile(rf"{_OPENING}([A-Za-z]){_CLOSING}[.:;,!]*{_CLOSING}\s*")
# Set off at the start: a closing mark, or punctuation, or a line's end. A hyphen must stand free ("A-levels" is a word).
_LEADING = re.compile(
    rf"""{_OPENING}([A-Za-z])(?:[*_`"'”’»)\]}}>]+[.:;,]*(?!\w)|[.:;,](?!\w\b)|\s+[-–—=](?=\s)|[–—]|\s*\n)"""
)
_ANNOUNCED = re.compile(
    r"""
    \b(?:(?:option|choice|answer|letter|selection|response)(?:\s+(?:is|would\s+be))?
       | (?:choose|chose|pick|picked|select|selected|prefer|go(?:ing)?\s+with|opt\s+for)
      )["']?
    \s*(?:[:=]\s*)?
    (?:(?:the\s+)?(?:option|choice|answer|letter)\s+)?
    [\s*_`"'“‘(\[]*
    ([A-Za-z])(?!\w|['’]\w)
    """,
    re.VERBOSE | re.IGNORECASE,
)
# A capital on its own; not one of a dotted abbreviation such as "U.K.".
_CAPITAL = re.compile(r"(?<![\w.])(?<!\w['’])([A-Z])(?!\w|['’]\w)(?!\.\w\b)")
_MARKED = re.compile(r"""(?:\(([a-z])\)|\[([a-z])\]|\*\*\(?([a-z])\)?\.?\*\*|(?:^|\n)\s*([a-z])[.)](?=\s|$))""")
# "A" opens a sentence and a word follows that an article can stand before: not the letter.
_ARTICLE = re.compile(
    r"""(?:^|[.!?:;"'“‘(*\n]\s*)A\s+(?!(?:is|was|because|since|and|or|nor|but|would|seems|has|than|if|to)\b)\w"""
)
_NEGATION = re.compile(r"\b(?:not|never|neither|cannot|nor|except|against|rather\s+than|instead\s+of)\b|n['’]t\b", re.I)
_SENTENCE_END = re.compile(r"[.!?\n]")


def parse_answer(raw: str | None, options: Sequence[str]) -> tuple[int, str]:
    """Read which option a reply names.

    Args:
        raw: text of the reply.
        options: texts of options A, B, C, without their letters.

    Returns:
        (answer, status): 0, 1 or 2 with `"ok"`, or -1 with `"empty"` or `"invalid"`.
    """
    # What is asked for, a whole line as it was shown, is most of what comes: the rules would say the same.
    if raw:
        for number, option in enumerate(options):
            if raw == f"{OPTION_LETTERS[number]}. {option}":
                return number, "ok"
    text = _unified(raw or "")
    if not text:
        return NO_ANSWER, "empty"
    letters = _answers_in_json(text)
    if letters is None:
        answer = _answer_in_text(text, [_unified(option) for option in options])
    else:
        answers = {_answer_in_text(_unified(letter), [_unified(option) for option in options]) for letter in letters}
        answer = answers.pop() if len(answers) == 1 else NO_ANSWER
    return answer, "invalid" if answer == NO_ANSWER else "ok"


def _unified(text: str) -> str:
    """One form for look-alikes that Unicode deems compatible (full-width letters), without what cannot be seen."""
    text = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text)).replace("\r\n", "\n").replace("\r", "\n")
    return after_thought(text).strip()


def after_thought(text: str) -> str:
    """The reply, without what the model thought before it; empty where it never came to one.

    Example:
        >>> after_thought("Need or merit?</think>B"), after_thought("<think>I would choose option A, bec")
        ('B', '')
    """
    thought = _THOUGHT.match(text)
    reply = text[thought.end() :] if thought else text
    return "" if _STILL_THINKING.match(reply) else reply


def _answers_in_json(text: str) -> list[str] | None:
    """The values of answer keys of the JSON object in `text`; None where there is no such object."""
    fenced = _FENCED.search(text)
    for candidate in [text, *([fenced.group(1)] if fenced else []), *_OBJECT.findall(text)]:
        try:
            found: Any = json.loads(candidate)
        except ValueError:
            continue
        if isinstance(found, dict):
            values = [value for key, value in found.items() if key.strip().lower() in _KEYS]
            # A number could count from 0 or from 1, so that it names no option.
            return [value if isinstance(value, str) else "" for value in values]
    return None


def _answer_in_text(text: str, options: Sequence[str]) -> int:
    folded = _bare(text)
    for number, option in enumerate(options):
        if folded in (_bare(option), _bare(f"{OPTION_LETTERS[number]}. {option}")):
            return number
    alone = _ALONE.fullmatch(text)
    if alone:
        return _number(alone.group(1))
    # Option texts may hold capitals and articles of their own; what is left is the respondent's.
    quoted = set()
    rest = text
    for number in sorted(range(len(options)), key=lambda n: -len(options[n])):
        shorter = re.sub(re.escape(options[number].rstrip(".")), " … ", rest, flags=re.IGNORECASE)
        if options[number] and shorter != rest:
            quoted.add(number)
            rest = shorter
    named = {match.group(1) for match in _CAPITAL.finditer(_ARTICLE.sub(" ", rest))} - {"I"}
    named |= {next(filter(None, groups)).upper() for groups in _MARKED.findall(rest)}
    declared = set()
    leading = _LEADING.match(rest)
    if leading:
        declared.add(leading.group(1).upper())
    for match in _ANNOUNCED.finditer(rest):
        if _is_article(match.group(1), rest[match.end() :]) or _negated(rest[: match.start(1)]):
            continue
        declared.add(match.group(1).upper())
    if len(declared) != 1 or len(named | declared) != 1:
        return NO_ANSWER
    answer = _number(declared.pop())
    return answer if quoted <= {answer} else NO_ANSWER


def _bare(text: str) -> str:
    """For comparing whole texts: lower case, single spaces, without wrapping quotes, emphasis and final full stop."""
    return " ".join(text.split()).strip(" *_`\"'“”‘’«».").casefold()


def _number(letter: str) -> int:
    letter = letter.upper()
    return OPTION_LETTERS.index(letter) if letter in OPTION_LETTERS else NO_ANSWER


def _is_article(letter: str, after: str) -> bool:
    """Whether an announced "a" is the article of what follows ("the answer: a fair share")."""
    if letter == "a":
        return re.match(r"\s+\w", after) is not None
    return letter == "A" and _ARTICLE.match("A" + after) is not None


def _negated(before: str) -> bool:
    return _NEGATION.search(_SENTENCE_END.split(before)[-1]) is not None
