import pytest

from fairpp_hf.respondents.reading.grammar import declarations
from fairpp_hf.respondents.reading.mentions import MOST_NAMED, QUOTE, STATED, STATED_NONE

Q = chr(QUOTE + 1)


@pytest.mark.parametrize(
    ("text", "letters"),
    [
        ("B", ["B"]),
        ("Answer: B", ["B"]),
        ("the answer would be option B, I think", ["B"]),
        ("I choose B because it is fair", ["B"]),
        ("B is my choice", ["B"]),
        ("Ich würde B wählen.", ["B"]),
        ("Bを選びます", ["B"]),
        (Q, ["B"]),
        (f"A. {Q}", [""]),
        (chr(STATED + 2), ["C"]),
        (STATED_NONE, [""]),
        ("A or B", []),
        ("I choose A or B", [""]),
        ("I do not choose B", []),
        ("Do you choose B?", []),
        ("If I were rich I would choose B", []),
        ("At first I chose B", []),
        ("At first A, but I choose B", ["B"]),
        ("B is unfair", []),
        ("the worst option is B", []),
        ("a person", []),
        ("A. one\nB. two", []),
        ("B " * (MOST_NAMED + 1), []),
    ],
)
def test_letters_are_declared_by_what_stands_around_them(text: str, letters: list[str]) -> None:
    assert [declaration.letter for declaration in declarations(text)[0]] == letters


def test_letters_that_declare_nothing_are_named() -> None:
    assert declarations("B reflects my view, A is cheap, a third costs more.")[1] == {"A", "B"}


def test_what_opens_the_text_and_what_holds_beside_others_is_told() -> None:
    opening, later = declarations("Answer: B. I choose B.")[0]
    assert (opening.opens, later.opens) == (True, False)
    assert [declaration.firm for declaration in declarations("B reflects my view.")[0]] == [False]
    assert [declaration.lettered for declaration in declarations(f"I choose {Q}.")[0]] == [False]
