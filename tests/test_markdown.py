"""Bits of Markdown, as a browser sees them."""

import re

import markdown_it
import pytest

from fairpp_hf.markdown import code, row


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("plain", "`plain`"),
        ("a`b", "`` a`b ``"),
        ("`a``b", "``` `a``b ```"),
        ("one\ntwo\r\n\n## three", "`one two ## three`"),
    ],
)
def test_code_is_one_piece_whatever_is_in_it(text: str, written: str) -> None:
    assert code(text) == written
    html = markdown_it.MarkdownIt("commonmark").render(f"before {code(text)} after")
    shown = re.sub(r"\s+", " ", text)
    assert html == f"<p>before <code>{shown}</code> after</p>\n"


def test_a_cell_stays_a_cell() -> None:
    assert row("a|b", "c\nd") == "| a\\|b | c d |"
