"""Takes the wrapping off a reply: Markdown, LaTeX, XML, fences, tick boxes, tables.

Every rule here puts as many characters in the place of what it takes as there were, so that places stay what they are.
A letter that stands alone within brackets, quotes or emphasis keeps a mark of that, `SET_OFF`: "(A)" is no article.
"""

import re
import unicodedata
from functools import cache

from fairpp_hf.respondents.reading.transcripts import blank, broken, reply_alone
from fairpp_hf.respondents.reading.visible_text import Visible
from fairpp_hf.respondents.reading.words import phrases

SET_OFF = "\ue200"
"""Follows a letter that was set off from the text around it."""

TICK = "\ue201"
"""In the place of a box that is ticked."""


def unwrapped(reply: Visible) -> Visible:
    """A reply as plain text: a tag that names an answer, such as `<answer>`, is "answer:"; other markup is gone."""
    reply = reply_alone(reply)
    text = reply.text
    for stage in (_without_boxes, _without_tags, _without_tables, _without_asides, _without_commands, _without_marks):
        text = stage(text)
    return Visible(text, reply.origin).collapsed().stripped()


# Boxes, and lists that say of each option whether it is the one.
_EMPTY_BOX = re.compile(r"(?:\[ ?\]|[☐◯○⬜🔲]|\( ?\))[^\n☐◯○⬜🔲☑☒◉✅✔\[(]*")
_CROSSED = re.compile(r"(?:\b[A-Za-z])?[ .:)]{0,4}[❌✗✘🚫👎][^\n]*")
_TICKED = re.compile(r"(?:\[[xX✓✔•]\]|[☑☒◉🔘●]|\([•xX✓✔]\))(?=[ *]{0,9}(?:option )?[A-Za-z]\b)", re.IGNORECASE)
_TICK_ALONE = re.compile(r"\[[xX✓✔]\]")
_DENIED = re.compile(r"^[ |*-]{0,9}[A-Z]\b[ .:|–—*-]+(?:no|not|nope|false|n)\b[^\n]*$", re.MULTILINE | re.IGNORECASE)
_AFFIRMED = re.compile(
    r"^([ |*-]{0,9}[A-Z]\b)([ .:|–—*-]+(?:yes|true|y|that['’]s me|this is (?:me|mine|my)|chosen|selected)\b[^\n]*)$",
    re.MULTILINE | re.IGNORECASE,
)


def _without_boxes(text: str) -> str:
    if _TICKED.search(text):
        text = _EMPTY_BOX.sub(blank, text)
    text = _TICKED.sub(lambda box: TICK.rjust(len(box.group())), _CROSSED.sub(blank, text))
    text = _TICK_ALONE.sub(blank, text)
    if _DENIED.search(text) and len(_AFFIRMED.findall(text)) == 1:
        text = _AFFIRMED.sub(lambda line: line[1] + SET_OFF.ljust(len(line[2])), _DENIED.sub(blank, text))
    return text


# Fences and tags: <answer>B</answer>, <answer letter="B"/>, <rejected>A</rejected>, [ANSWER] B.
_FENCE = re.compile(r"```(?:[A-Za-z]{2,12}(?=\n))?|~~~(?:[A-Za-z]{2,12}(?=\n))?")
_TAG = re.compile(
    r"[<\[【](?P<ends>/?)(?P<name>[^\W\d][\w:-]{0,30})(?:\s(?!(?-i:[A-Z])\b)[^<>\[\]\n]{0,100})?/?[>\]】]"
)
_VALUE = re.compile(r"""=\s?["']?(?P<letter>[A-Za-z])["']?\s?/>""")
_REJECTED = re.compile(r"(?:reject|discard|exclud|eliminat|wrong|not|other|least|worst)", re.IGNORECASE)
_BREAKING_TAGS = frozenset({"br", "p", "div", "li", "ul", "ol", "tr", "h1", "h2", "h3", "h4"})


@cache
def _answer_name() -> re.Pattern[str]:
    return re.compile(rf"(?:\w+[ -])?{phrases('answer')}", re.IGNORECASE)


def _without_tags(text: str) -> str:
    text = _FENCE.sub(broken, text)
    closed = {tag["name"] for tag in _TAG.finditer(text) if tag["ends"]}
    return _TAG.sub(lambda tag: _tag(tag, closed), text)


def _tag(tag: re.Match[str], closed: set[str]) -> str:
    name, whole = tag["name"], tag.group()
    if len(name) == 1 and not tag["ends"] and (name not in closed or whole[0] == "[") and len(whole) == 3:
        return whole  # a letter in brackets
    label = name.replace("_", " ").replace("-", " ")
    if _answer_name().fullmatch(label):
        value = _VALUE.search(whole)
        if value is not None:
            before = "\nanswer:".ljust(value.start("letter"))
            return (before + value["letter"]).ljust(len(whole)) if len(before) == value.start("letter") else whole
        return broken(tag) if tag["ends"] else f"\n{label}:".ljust(len(whole))
    if _REJECTED.match(label) and not tag["ends"]:
        return f"\n{label}:".ljust(len(whole))
    if whole[0] in "[【":
        return whole
    return broken(tag) if name.lower() in _BREAKING_TAGS else blank(tag)


# In a table, a cell that is a letter is set off; "Letter: B | Text: ..." are two lines.
_CELL_LETTER = re.compile(r"(?<![\w'’])([A-Z]) (?=\|)")
_CELL = re.compile(r"\|(?= ?\w[^|\n:]{0,30}:)")
_TABLE_RULE = re.compile(r"^[ |:-]{0,80}-{3}[ |:-]*$", re.MULTILINE)


def _without_tables(text: str) -> str:
    return _TABLE_RULE.sub(blank, _CELL.sub(broken, _CELL_LETTER.sub(rf"\1{SET_OFF}", text)))


# What is no part of the answer: *adjusts her glasses*, (after some thought), and a signature.
_ASIDE = re.compile(
    r"^(?:\*[a-z][^*\n]{2,80} [^*\n]{1,80}\*|\*[a-z]{3,20}s\*|\([a-z][^()\"\n]{8,100}\)"
    r"|\[[A-Za-z][a-z]+ (?![^\[\]\n]{0,60}\b[A-Z]\])[^\[\]\n]{1,60}\])",
    re.MULTILINE,
)
_SIGNATURE = re.compile(
    r"\n(?:sincerely|respectfully|cheers|best|(?:best |kind |warm )?regards|yours(?: \w+)?),? ?\n[^\n]{1,60}\s?\Z",
    re.IGNORECASE,
)


def _without_asides(text: str) -> str:
    return _ASIDE.sub(blank, _SIGNATURE.sub(blank, text))


_COMMAND = re.compile(
    r"\\(?:begin|end)\{\w{1,20}\*?\}"
    r"|\\?\b[A-Za-z]{2,20}\s?(?=\{\s?\\?[A-Za-z]{0,20}\{?\s?[A-Z]\b)|\\[A-Za-z]{2,20}\s?(?=\{)"  # \boxed{\text{B}}, boxed{B}
    r"|\\[()\[\],;! ]|\\(?=[^\w\s]|[A-Z]\b)"
    r"|&(?:nbsp|quot|amp|lt|gt|apos|#\d{1,5});|<!--[^\n]{0,200}?-->"
)


def _without_commands(text: str) -> str:
    return _COMMAND.sub(blank, text)


_BRACKETS = "༺༼᚛⁅⌈⌊❨❪❬❮❰❲❴⟅⟦⟨⟪⟬⟮⦃⦅⦇⦉⦋⦍⦏⦑⦓⦕⦗⧘⧚⧼⸢⸤⸦⸨⹂⹕⹗⹙⹛〈《「『【〔〖〘〚〝﴿«‛‟‹⸂⸄⸉⸌⸜⸠"
_CLOSING_BRACKETS = "༻༽᚜⁆⌉⌋❩❫❭❯❱❳❵⟆⟧⟩⟫⟭⟯⦄⦆⦈⦊⦌⦎⦐⦒⦔⦖⦘⧙⧛⧽⸣⸥⸧⸩⹖⹘⹚⹜〉》」』】〕〗〙〛〞〟﴾»›⸃⸅⸊⸍⸝⸡"
_OPENING = "[" + re.escape("*_~`\"'‘‚“„$#=-<([{" + _BRACKETS + "﴾") + "]"
_CLOSING = "[" + re.escape("*_~`\"'’‘“”$#=->)]}" + _CLOSING_BRACKETS + "﴿") + "]"
_SET_OFF_LETTER = re.compile(
    rf"(?<![0-9A-Za-z])({_OPENING}(?:{_OPENING}| ){{0,11}})([A-Za-z])([.:)]?)( ?{_CLOSING}{{1,12}})(?![0-9A-Za-z])"
)
_GLUED_LETTER = re.compile(r"(?<=[a-z])([(\[])([A-Z])()([)\]])(?![0-9A-Za-z])")
_LINE_START = re.compile(
    r"^(?:[ >#*•·▪‣●◦+→⇒➡=–—-]|\d{1,2}[.)] ?(?=[A-Z\ue200*\"(])|\(\d{1,2}\) )+",
    re.MULTILINE,
)
_MARK = re.compile(
    r"""[*`~$|{}"“”„«»「」『』▁Ġ]|(?<!\w)['‘’‹]|['’›](?!\w)|(?<![^\W_])_+|_+(?![^\W_])|(?<=[^\W_])_+(?=[^\W_])"""
)
_MAYBE_PICTURE = re.compile("[\u2010-\u2e7f\u3000-\u33ff\U0001f000-\U0001faff∴]")


def _without_marks(text: str) -> str:
    text = _GLUED_LETTER.sub(_letter, _SET_OFF_LETTER.sub(_letter, text))
    return _MARK.sub(blank, _LINE_START.sub(blank, _MAYBE_PICTURE.sub(_picture, text)))


def _letter(found: re.Match[str]) -> str:
    before, letter, mark, after = found.groups()
    return " " * len(before) + letter.upper() + SET_OFF + " " * (len(mark) + len(after) - 1)


def _picture(found: re.Match[str]) -> str:
    """Arrows between words say "is"; all other pictures say nothing that is known here."""
    character = found.group()
    return " " if character == "∴" or unicodedata.category(character) in ("So", "Sk") else character
