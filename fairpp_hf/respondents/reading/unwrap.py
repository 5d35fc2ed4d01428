"""Takes the wrapping off a reply: Markdown, LaTeX, XML, fences, tick boxes, role headers and stop tokens.

Every rule here puts as many characters in the place of what it takes as there were, so that places stay what they are.
A letter that stands alone within brackets, quotes or emphasis keeps a mark of that, `SET_OFF`: "(A)" is no article.
"""

import re
import unicodedata
from functools import cache

from fairpp_hf.respondents.reading.visible_text import Visible
from fairpp_hf.respondents.reading.words import phrases

SET_OFF = "\ue200"
"""Follows a letter that was set off from the text around it."""

TICK = "\ue201"
"""In the place of a box that is ticked."""

_STOP = re.compile(
    r"<\|(?:im_end|eot_id|eom_id|end|endoftext|end_of_text|return|end_of_turn_token|eos|user)\|>|</s>|<end_of_turn>|<eos>"
    r"|<\|end▁of▁sentence\|>|\[/INST\]|<start_of_turn>user\b|<\|im_start\|>user\b|\n(?:human|user|question):",
    re.IGNORECASE,
)
_SPEAKER = r"(?:[\w ]{0,20})?\b(?:assistant|model|ai|bot|chatbot|respondent|interviewee|participant|persona|me)"
_ROLE = re.compile(
    r"<\|start_header_id\|>[^<\n]{0,20}<\|end_header_id\|>|<\|im_start\|>\s?(?:assistant|user)?|<\|start\|>\s?assistant"
    rf"|<start_of_turn>\s?(?:model)?|\A[\s#]*(?:assistant|model)\s?(?:\n|$)|<\|[^|<>\n]{{1,40}}\|?>|</?s>|<[bp](?:os|ad)>"
    r"|\AQ:[^\n]*\nA:"
    rf"|\[/?INST\]|<<?/?SYS>>?|<unused\d+>|<0x[0-9A-F]{{2}}>|^[\s#>*\[]*{_SPEAKER}[*\]]*\s?:",
    re.IGNORECASE | re.MULTILINE,
)
# A base model goes on with the conversation: what somebody else says in it is no reply.
_PROMPT = re.compile(
    r"\A\s*(?:(?:human|user|interviewer|question)\s?:|<\|im_start\|>user|<start_of_turn>user)"
    r"(?:(?!\n\s*(?:assistant|ai|bot|model|answer|respondent)\s?:|<\|im_start\|>assistant|<start_of_turn>model).)*",
    re.IGNORECASE | re.DOTALL,
)
_STRUCK = re.compile(
    r"~~[^~\n]{1,300}~~|<(del|strike)>[^<\n]{1,300}</\1>|<s>[^<\n]{1,300}</s>(?=\s*[^\s<])|<s>[^<\n]{1,300}</s>(?=\s*<[a-z])"
)
_UNTICKED = re.compile(r"(?:\[ ?\]|[☐◯○⬜🔲]|\( ?\))[^\n☐◯○⬜🔲☑☒◉✅✔\[(]*")
_CROSSED = re.compile(r"(?:\b[A-Za-z])?[ .:)]{0,4}[❌✗✘🚫👎][^\n]*")
_TICKED = re.compile(r"(?:\[[xX✓✔•]\]|[☑☒◉🔘●]|\([•xX✓✔]\))(?=[ *]*(?:option )?[A-Za-z]\b)", re.IGNORECASE)
_TICK_ALONE = re.compile(r"\[[xX✓✔]\]")
# A list that says of each option whether it is the one.
_DENIED = re.compile(r"^[ |*-]*[A-Z]\b[ .:|–—*-]+(?:no|not|nope|false|n)\b[^\n]*$", re.MULTILINE | re.IGNORECASE)
_AFFIRMED = re.compile(
    r"^([ |*-]*[A-Z]\b)([ .:|–—*-]+(?:yes|true|y|that['’]s me|this is (?:me|mine|my)|chosen|selected)\b[^\n]*)$",
    re.MULTILINE | re.IGNORECASE,
)
_TAG = re.compile(r"[<\[【](?P<ends>/?)(?P<name>[^\W\d][\w:-]{0,30})(?:\s[^<>\[\]\n]{0,100})?/?[>\]】]")
_REJECTED = re.compile(r"(?:reject|discard|exclud|eliminat|wrong|not|other|least|worst)", re.IGNORECASE)
_VALUE = re.compile(r"""=\s?["']?([A-Za-z])["']?\s?/>""")
_BREAKING_TAGS = frozenset({"br", "p", "div", "li", "ul", "ol", "tr", "h1", "h2", "h3", "h4"})
_SIGNATURE = re.compile(
    r"\n(?:sincerely|respectfully|cheers|best|(?:best |kind |warm )?regards|yours(?: \w+)?),? ?\n[^\n]{1,60}\s*\Z", re.IGNORECASE
)
_FENCE = re.compile(r"```(?:[A-Za-z]{2,12}(?=\n))?|~~~(?:[A-Za-z]{2,12}(?=\n))?")
_COMMAND = re.compile(
    r"\\(?:begin|end)\{\w{1,20}\*?\}|\\?[A-Za-z]{2,20}\s?(?=\{\s?\\?[A-Za-z]*\{?\s?[A-Z]\b)|\\[A-Za-z]{2,20}\s?(?=\{)|\\[()\[\],;! ]|\\(?=[^\w\s]|[A-Z]\b)|&(?:nbsp|quot|amp|lt|gt|apos|#\d{1,5});|<!--[^\n]{0,200}?-->"
)
_ASIDE = re.compile(
    r"^(?:\*[a-z][^*\n]{2,80} [^*\n]{1,80}\*|\*[a-z]{3,20}s\*|\([a-z][^()\x22\n]{8,100}\)|\[[A-Za-z][a-z]+ [^\[\]\n]{1,60}\])",
    re.MULTILINE,
)
_CELL_LETTER = re.compile(r"(?<![\w'’])([A-Z]) (?=\|)")
# "Letter: B | Text: ..." are two lines.
_CELL = re.compile(r"\|(?= ?\w[^|\n:]{0,30}:)")
_TABLE_RULE = re.compile(r"^[ |:-]*-{3,}[ |:-]*$", re.MULTILINE)
_PAIRS = {"Ps": "", "Pe": "", "Pi": "", "Pf": ""}
for _point in range(0x20, 0x10000):
    if (_category := unicodedata.category(chr(_point))) in _PAIRS:
        _PAIRS[_category] += chr(_point)
_OPENING = "[" + re.escape("*_~`\"'‘‚“„$#=-<﴾" + _PAIRS["Ps"] + _PAIRS["Pi"]) + "]"
_CLOSING = "[" + re.escape("*_~`\"'’‘“”$#=->﴿" + _PAIRS["Pe"] + _PAIRS["Pf"]) + "]"
_SET_OFF_LETTER = re.compile(
    rf"(?:(?<=[^0-9A-Za-z])|^)({_OPENING}(?:{_OPENING}| ){{0,11}})([A-Za-z])([.:)]?)( ?{_CLOSING}{{1,12}})(?![0-9A-Za-z])",
    re.MULTILINE,
)
_GLUED_LETTER = re.compile(r"(?<=[a-z])([(\[])([A-Z])()([)\]])(?![0-9A-Za-z])")
_LINE_START = re.compile(r"^(?:[ >#*•·▪‣●◦+→⇒➡=–—-]|\d{1,2}[.)] ?(?=[A-Z\ue200*\"(])|\(\d{1,2}\) )+", re.MULTILINE)
_MARKUP = re.compile(r"""[*`~$|{}"“”„«»「」『』▁Ġ]|(?<!\w)['‘’‹]|['’›](?!\w)|(?<![^\W_])_+|_+(?![^\W_])""")
_UNDERSCORE = re.compile(r"(?<=[^\W_])_+(?=[^\W_])")
# Arrows between words say "is"; all other pictures say nothing that is known here.
_PICTURE = re.compile(
    "["
    + re.escape("".join(c for c in map(chr, range(0x2000, 0xE000)) if unicodedata.category(c) in ("So", "Sk")))
    + "∴\U0001f000-\U0001faff]"
)


def unwrapped(reply: Visible) -> Visible:
    """A reply as plain text: a tag that names an answer, such as `<answer>`, is "answer:"; other markup is gone."""
    reply = _up_to_stop(reply).stripped()
    text = _STRUCK.sub(_blank, _PROMPT.sub(_broken, reply.text))
    text = _ROLE.sub(_broken, text)
    text = _UNTICKED.sub(_blank, text) if _TICKED.search(text) else text
    text = _TICKED.sub(lambda box: TICK.rjust(len(box.group())), _CROSSED.sub(_blank, text))
    text = _TICK_ALONE.sub(_blank, text)
    if _DENIED.search(text) and len(_AFFIRMED.findall(text)) == 1:
        text = _AFFIRMED.sub(lambda line: line[1] + SET_OFF.ljust(len(line[2])), _DENIED.sub(_blank, text))
    text = _FENCE.sub(_broken, text)
    closed = {tag["name"] for tag in _TAG.finditer(text) if tag["ends"]}
    text = _TAG.sub(lambda tag: _tag(tag, closed), text)
    text = _CELL_LETTER.sub(rf"\1{SET_OFF}", text)
    text = _SIGNATURE.sub(_blank, _CELL.sub(_broken, text))
    text = _TABLE_RULE.sub(_blank, _ASIDE.sub(_blank, text))
    text = _COMMAND.sub(_blank, text)
    text = _GLUED_LETTER.sub(_letter, _SET_OFF_LETTER.sub(_letter, text))
    text = _LINE_START.sub(_blank, _PICTURE.sub(_blank, text))
    text = _UNDERSCORE.sub(_blank, _MARKUP.sub(_blank, text))
    return Visible(text, reply.origin).collapsed().stripped()


def _up_to_stop(reply: Visible) -> Visible:
    """Without what was generated after the reply's own end."""
    for stop in _STOP.finditer(reply.text):
        if _ROLE.sub(" ", reply.text[: stop.start()]).strip() and not _STRUCK.search(reply.text, 0, stop.end() + 40):
            return reply.cut(0, stop.start())
    return reply


def _blank(found: re.Match[str]) -> str:
    return " " * len(found.group())


def _broken(found: re.Match[str]) -> str:
    return "\n" + " " * (len(found.group()) - 1)


def _tag(tag: re.Match[str], closed: set[str]) -> str:
    name, whole = tag["name"], tag.group()
    if len(name) == 1 and not tag["ends"] and (name not in closed or whole[0] == "[") and len(whole) == 3:
        return whole  # a letter in brackets
    label = name.replace("_", " ").replace("-", " ")
    if _REJECTED.match(label) and not tag["ends"]:
        return f"\n{label} :".ljust(len(whole))
    if not _answer_name().fullmatch(label):
        if whole[0] in "[【":
            return whole
        return _broken(tag) if name.lower() in _BREAKING_TAGS else _blank(tag)
    if tag["ends"]:
        return _broken(tag)
    value = _VALUE.search(whole)
    if value is None or not whole.endswith("/>"):
        return f"\n{label}:".ljust(len(whole))
    # <answer letter="B"/>: the letter stays in its place
    return f"\nanswer:".ljust(value.start(1))[: value.start(1)] + value[1] + " " * (len(whole) - value.end(1))


@cache
def _answer_name() -> re.Pattern[str]:
    return re.compile(rf"(?:\w+[ -])?{phrases('answer')}", re.IGNORECASE)


def _letter(found: re.Match[str]) -> str:
    before, letter, mark, after = found.groups()
    return " " * len(before) + letter.upper() + SET_OFF + " " * (len(mark) + len(after) - 1)
