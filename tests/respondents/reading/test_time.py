"""However hostile a text is, the time to read it grows no faster than its length."""

import time

import pytest
from reading_forms import OPTIONS

from fairpp_hf.respondents.reading import LONGEST_RAW, LONGEST_READ, read_text

# fmt: off
UNITS = (
    "\n", " ", "[", "{", '{"a":', "A ", "A, ", "as a ", "the answer ",
    "*", "<a ", "<think>", "my ", "I would ", "A\n", ". ", "_", "\\", "$ ",
    "<", "<|", "é", "\u0301", '{"answer": "B"} ', "and, ", "| ", "| A ", "[ ] ",
    "-", "(", "\\boxed{", "A ❌ ", "☑ ", "<!--", "if I had to ", "not ", "but ",
    "closest to my view ", "我选", "最も近いのは", "? ", "1. ", ": ", "no, ", "\nhuman: ", "the persona would ",
    "persona ", "Q: ", "<s>a", "~~a", "A. A fair process for all. ", "I cannot really ", "in my view, ",
)
# fmt: on


def seconds(text: str) -> float:
    start = time.process_time()
    read_text(text, {"finish_reason": "stop"}, OPTIONS)
    return time.process_time() - start


@pytest.mark.parametrize("unit", UNITS)
def test_a_text_four_times_as_long_takes_at_most_some_four_times_as_long(unit: str) -> None:
    """Quadratic time would be 16-fold; times below 20 ms tell nothing."""
    seconds("I choose B because it is fair.")  # compiles
    text = unit * (LONGEST_READ // len(unit))
    long, short = text[: LONGEST_READ - 12] + "\nAnswer: B", text[: LONGEST_READ // 4] + "\nAnswer: B"
    assert min(seconds(long) for _ in range(2)) < 9 * max(min(seconds(short) for _ in range(2)), 0.02)


@pytest.mark.parametrize("length", [LONGEST_RAW, 10_000_000])
@pytest.mark.parametrize("unit", ["B ", "<", "é", "\n", "<think>A</think>"])
def test_texts_of_megabytes_are_given_up(unit: str, length: int) -> None:
    answer, _, status = read_text(unit * (length // len(unit)), {"finish_reason": "stop"}, OPTIONS)
    assert (answer, status) in {(-1, "invalid"), (-1, "empty")}


def test_a_long_thought_is_no_reason_to_lose_the_answer() -> None:
    raw = "<think>" + "I choose A, é. " * 60_000 + "</think>\n\nAnswer: B"
    letters = [{"place": len(raw) - 1, "token": "B", "alternatives": [("A", -2.0), ("B", -0.5), ("C", -3.0)]}]
    answer, probabilities, status = read_text(raw, {"finish_reason": "stop", "letters": letters}, OPTIONS)
    assert (answer, status) == (1, "ok")
    assert probabilities is not None
