"""Bits of Markdown that hold whatever a persona, a respondent or a file is called."""

import re
from collections.abc import Iterable, Sequence


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> str:
    """A table whose first `left` columns are flush left, and the others, with numbers, flush right."""
    rule = ["---"] * left + ["---:"] * (len(heads) - left)
    return "\n".join([row(*heads), f"|{'|'.join(rule)}|", *(row(*cells) for cells in rows)])


def row(*cells: str) -> str:
    """A row of a Markdown table."""
    # A bar would end the cell, also within code.
    escaped = [one_line(cell).replace("|", "\\|") for cell in cells]
    return f"| {' | '.join(escaped)} |"


def bullets(texts: Iterable[str]) -> str:
    """A list."""
    return "\n".join(f"- {text}" for text in texts)


def code(text: str) -> str:
    """Code in Markdown, whatever backticks and line breaks are in the text."""
    text = one_line(text)
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {text} {fence}" if longest else f"`{text}`"


def one_line(text: str) -> str:
    """The text with a space for each stretch of white space."""
    return " ".join(text.split())


def escaped(text: object) -> str:
    """A stranger's text as plain words of one line: it begins no heading, image, link or HTML."""
    return re.sub(r"[\[\]<&]|^[#>-]", lambda found: f"&#{ord(found[0])};", one_line(str(text)))


def link(address: str) -> str:
    """A web address to follow; anything else as plain words."""
    return f"<{address}>" if re.fullmatch(r"https?://[^\s<>\x00-\x1f]+", address) else escaped(address)


def counted(count: int, what: str) -> str:
    """Such as `1 persona` or `28,420 questions`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"
