import unicodedata

import pytest

from fairpp_hf.respondents.reading import unwrap
from fairpp_hf.respondents.reading.unwrap import SET_OFF, TICK, unwrapped
from fairpp_hf.respondents.reading.visible_text import visible

B = f"B{SET_OFF}"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("**Answer:** B", "Answer: B"),
        ("**B**", B),
        ("(b)", B),
        (r"\boxed{\text{B}}", B),
        (r"$\boxed{B}$", B),
        ("<answer>B</answer>", "answer:B"),
        ('<answer letter="B"/>', "answer: B"),
        ("<rejected>B</rejected>", "rejected:B"),
        ("<b>B</b>", "B"),
        ("[x] B", f"{TICK} B"),
        ("[ ] A\n[x] B", f"{TICK} B"),
        ("A ❌\nB", "B"),
        ("~~A~~ B", "B"),
        ("```json\nB\n```", "B"),
        ("| B | C |", f"{B} C{SET_OFF}"),
        ("Letter: B | Text: x", f"Letter: {B}\nText: x"),
        ("*sighs* B", "B"),
        ("1. B", "B"),
        ("👉 B", "B"),
        ("snake_case and A_B", "snake case and A B"),
        ("fair (in all)", "fair (in all)"),
        ("B\n\nSincerely,\nA. Smith", "B"),
    ],
)
def test_markup_is_gone_and_says_what_it_said(raw: str, text: str) -> None:
    assert unwrapped(visible(raw)).text == text


def test_letters_keep_their_places() -> None:
    raw = "Well:\n\n> **Answer**: `(B)`, I think."
    plain = unwrapped(visible(raw))
    assert raw[plain.origin[plain.text.index("B")]] == "B"


def test_brackets_are_all_that_unicode_has() -> None:
    known = {"Ps": unwrap._OPENING, "Pi": unwrap._OPENING, "Pe": unwrap._CLOSING, "Pf": unwrap._CLOSING}
    for character in map(chr, range(0x10000)):
        expected = known.get(unicodedata.category(character))
        if expected and unicodedata.normalize("NFKC", character) == character:
            assert character in expected, f"U+{ord(character):04X}"
