"""Takes off a reply what chat software leaves around it: role headers, stop tokens, further turns of a conversation.

Every rule puts as many characters in the place of what it takes as there were, so that places stay what they are.
"""

import re

from fairpp_hf.respondents.reading.visible_text import Visible

_STOP = re.compile(
    r"<\|(?:im_end|eot_id|eom_id|end|endoftext|end_of_text|return|end_of_turn_token|eos|user)\|>|</s>|<end_of_turn>|<eos>"
    r"|<\|end▁of▁sentence\|>|\[/INST\]|<start_of_turn>user\b|<\|im_start\|>user\b|\n(?:human|user|question):",
    re.IGNORECASE,
)
_SPEAKER = r"(?:[\w ]{0,20}\b(?:assistant|model|ai|bot|chatbot|respondent|interviewee|participant|persona)|me)"
_ROLE = re.compile(
    r"<\|start_header_id\|>[^<\n]{0,20}<\|end_header_id\|>"
    r"|<\|im_start\|>\s?(?:assistant|user)?|<\|start\|>\s?assistant|<start_of_turn>\s?(?:model)?"
    r"|\A[\s#]*(?:assistant|model)\s?(?:\n|$)"
    r"|<\|[^|<>\n]{1,40}\|?>|</?s>|<[bp](?:os|ad)>|\[/?INST\]|<<?/?SYS>>?|<unused\d+>|<0x[0-9A-F]{2}>"
    r"|\AQ:[^\n]*\nA:"
    rf"|^[\s#>*\[]{{0,9}}{_SPEAKER}[*\]]{{0,9}}\s?:",
    re.IGNORECASE | re.MULTILINE,
)
# A base model goes on with the conversation: what somebody else says in it is no reply.
_PROMPT = re.compile(
    r"\A\s*(?:(?:human|user|interviewer|question)\s?:|<\|im_start\|>user|<start_of_turn>user)"
    r"(?:(?!\n\s?(?:assistant|ai|bot|model|answer|respondent)\s?:|<\|im_start\|>assistant|<start_of_turn>model).)*",
    re.IGNORECASE | re.DOTALL,
)
_STRUCK = re.compile(
    r"~~[^~\n]{1,300}~~|<(del|strike)>[^<\n]{1,300}</\1>|<s>[^<\n]{1,300}</s>(?=\s?[^\s<])|<s>[^<\n]{1,300}</s>(?=\s?<[a-z])"
)


def reply_alone(transcript: Visible) -> Visible:
    """A reply without role headers and struck text, up to where it stops."""
    reply = _up_to_stop(transcript).stripped()
    text = _STRUCK.sub(blank, _PROMPT.sub(broken, reply.text))
    return Visible(_ROLE.sub(broken, text), reply.origin)


def _up_to_stop(reply: Visible) -> Visible:
    for stop in _STOP.finditer(reply.text):
        if _ROLE.sub(" ", reply.text[: stop.start()]).strip() and not _STRUCK.search(reply.text, 0, stop.end() + 40):
            return reply.cut(0, stop.start())
    return reply


def blank(found: re.Match[str]) -> str:
    """As many blanks."""
    return " " * len(found.group())


def broken(found: re.Match[str]) -> str:
    """A line break and blanks."""
    return "\n" + " " * (len(found.group()) - 1)
