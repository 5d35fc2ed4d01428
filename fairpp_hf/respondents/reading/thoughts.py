"""Cuts out of a reply what the model thought before it: a thought is no answer, whatever letters it names."""

import re

from fairpp_hf.respondents.reading.visible_text import Visible, joined

_THINK = r"(?:think(?:ing)?|thoughts?)"
_NAME = rf"(?:{_THINK}|reason(?:ing)?|reflection|analysis|scratch_?pad|inner_monologue|cot|details)"
_MARK = re.compile(
    rf"""
    (?P<opens>
        [<◁⟨]\|?\s?(?!end_)(?:\w+[:_]|ant)?(?:(?:begin|start)_(?:of_)?)?{_NAME}\s?\|?[>▷⟩]
        # <think>, ◁think▷, <|begin_of_thought|>
      | \[{_THINK}\]|\[{_NAME}\](?=[^\[]*\[/{_NAME}\])  # Magistral
      | <\|channel\|>\s*(?:analysis|commentary)\b  # gpt-oss
      | \A\s*(?-i:analysis(?=[A-Z]))  # gpt-oss without its special tokens
      | <\|channel>\s*thought|<\|open\|>think<\|sep\|>  # Gemma, Kimi
      | \A\s*thinking\.{3}$  # Ollama
      | <\|inner_prefix\|>  # Apertus
      | \[unused16\]  # openPangu
      | <unused94>  # MedGemma
      | \A\s*here(?:\s+is|['’]s)\s+my\s+thought\s+process:  # Granite
    )
    | (?P<closes>
        [<◁⟨]\|?(?:/\s?(?:\w+[:_]|ant)?|end_(?:of_)?){_NAME}\s?\|?[>▷⟩]
      | \[/{_NAME}\]
      | <\|channel\|>\s*final\b(?:\s*<\|message\|>)?
      | (?-i:assistantfinal):?
      | <channel\|>(?!\s*(?:analysis|thought))|<\|close\|>think<\|sep\|>
      | ^\.{3}\s?done\s+thinking\.?$
      | <\|inner_suffix\|>
      | <unused95>|\[unused17\]
      | here(?:\s+is|['’]s)\s+my\s+response:
    )""",
    re.VERBOSE | re.IGNORECASE | re.MULTILINE,
)


def without_thoughts(reply: Visible) -> tuple[Visible, Visible]:
    """A reply without thoughts.

    A mark that nothing closes opens a thought up to the end: the model never came to its answer. Where a mark closes what
    nothing opened, everything before it is a thought: some chat templates put the opening mark into the prompt.

    Returns:
        (the reply, what stood before the last such mark that nothing opened; empty where there is none).
    """
    parts: list[Visible] = []
    before = reply.cut(0, 0)
    start, thinking = 0, False
    for mark in _MARK.finditer(reply.text):
        if mark["opens"] is not None:
            if not thinking:
                parts.append(reply.cut(start, mark.start()))
                thinking = True
            continue
        if not thinking:
            before = joined([*parts, reply.cut(start, mark.start())])
            parts = []
        start, thinking = mark.end(), False
    if not thinking:
        parts.append(reply.cut(start, len(reply.text)))
    return (joined(parts) if parts else reply.cut(0, 0)), before
