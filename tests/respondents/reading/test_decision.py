import pytest

from fairpp_hf.respondents.reading.decision import decided, refuses
from fairpp_hf.respondents.reading.grammar import declarations


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B. So my answer is B.", "B"),
        ("I choose A. I choose B.", None),
        ("I choose A. Wait, I choose B.", "B"),
        ("I choose B. Wait, I choose A. On reflection, I choose B.", "B"),
        ("I choose B. But I can't decide.", None),
        ("B reflects my view.", "B"),
        ("B reflects my view. A is cheap.", None),
        ("Is it A or B? I choose B.", "B"),
        ("nothing", None),
    ],
)
def test_a_text_comes_to_one_choice_or_none(text: str, letter: str | None) -> None:
    found = decided(text, *declarations(text), False)
    assert (found.letter or None if found else None) == letter


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B. Those who", "B"),
        ("My answer is B because", "B"),
        ("Okay, so B", None),
        ("The persona would choose B", None),
        ("First a thought. My answer is B", None),
        ("B. But then, my answer is A", None),
        ("Option B:", None),
    ],
)
def test_of_a_text_that_was_cut_off_only_the_opening_counts(text: str, letter: str | None) -> None:
    found = decided(text, *declarations(text), True)
    assert (found.letter or None if found else None) == letter


@pytest.mark.parametrize(
    ("text", "is_refusal"), [("I can't help with that.", True), ("I can't pick A.", False), ("Hm.", False)]
)
def test_refusals_are_told_from_replies_without_a_choice(text: str, is_refusal: bool) -> None:
    assert refuses(text) == is_refusal
