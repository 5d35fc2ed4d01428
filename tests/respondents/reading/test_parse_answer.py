import pytest

from fairpp_hf.respondents.reading import parse_answer

OPTIONS = ("A fair process for all.", "Those who need it most come first.", "Neither of these two criteria.")

ANSWERED = [
    ("B", 1),
    ("b", 1),
    ("b.", 1),
    (" C \n", 2),
    ("B.", 1),
    ("B. Those who need it most come first.", 1),
    ("B. Those who need it most come first", 1),
    ("B. those who need it MOST come first.", 1),
    ("B: Those who need it most come first.", 1),
    ("B) Those who need it most come first.", 1),
    ("B - Those who need it most come first.", 1),
    ("B.Those who need it most come first.", 1),
    ("B. Those who need it", 1),
    ("A. A fair process", 0),
    ("(B)", 1),
    ("(b) because need matters.", 1),
    ("[C]", 2),
    ("**B**", 1),
    ("**B.** Need comes first.", 1),
    ("**B. Those who need it most come first.**", 1),
    ("*A*", 0),
    ("`A`", 0),
    ('"B"', 1),
    ("“B.”", 1),
    ("Option B", 1),
    ("option b", 1),
    ("Option A is fairer.", 0),
    ("Answer: B", 1),
    ("answer: b.", 1),
    ("Answer: **C**", 2),
    ("Answer: A because it is fair.", 0),
    ("The answer is B.", 1),
    ("My choice is (C).", 2),
    ("I would choose option B.", 1),
    ("I pick A, as it treats people alike.", 0),
    ("I'd go with B", 1),
    ('{"answer": "B"}', 1),
    ('{"verdict": "B"}', 1),
    ('{"answer": "B. Those who need it most come first."}', 1),
    ('{"Answer": "c", "reason": "A or B would both do harm"}', 2),
    ('```json\n{"answer": "A"}\n```', 0),
    ('Here it is: {"choice": "A"}', 0),
    ("{'answer': 'B'}", 1),
    ("A fair process for all.", 0),
    ("a fair process for all", 0),
    ('"Those who need it most come first."', 1),
    ("Neither of these two criteria.", 2),
    ("C. Neither of these two criteria.", 2),
    ("B. Those who need it most come first. I think this is right in the U.K.", 1),
    ("B.\r\n\r\nNeed comes first.", 1),
    ("B\r\nbecause need comes first", 1),
    ("\u200fB\u200f.", 1),
    ("\u202bB. Those who need it most come first.\u202c", 1),
    ("\ufeffB", 1),
    ("Ｂ", 1),
    ("Ⓑ", 1),
    ("𝐁. Those who need it", 1),
    ("<think>A or B? C is out.</think>\n\nB", 1),
    ("<thinking>A or C?</thinking>B", 1),
    ("Okay. I lean to option A.\n</think>\n\nB", 1),
    ("Okay. </THINK> B. Those who need it most come first.", 1),
    ("B. 😀", 1),
]

UNANSWERED = [
    "A fair criterion is one that counts need.",
    "A person in need should come first.",
    "The answer: A fair share for all.",
    "an option a person would take",
    "the answer: a fair share",
    "A-levels are hard.",
    "A or B",
    "A, B",
    "A and B",
    "B. or C.",
    "Both A and B are fair.",
    "A. Those who need it most come first.",
    "B. A fair process for all.",
    "Option A is fair, but option B is fairer.",
    "B is unfair.",
    "Not B.",
    "I would not choose B.",
    "I can't pick A.",
    "D",
    "D. All of them.",
    "Answer: D",
    "Option D",
    "I",
    "BC",
    "ABC",
    "AB.",
    "Because need comes first.",
    "It depends.",
    "В",  # the Cyrillic letter
    "1",
    '{"answer": 1}',
    '{"answer": "A", "choice": "B"}',
    '{"answer": "D"}',
    '{"answer": null}',
    '{"answer": ["A", "B"]}',
    "😀",
    "...",
    "null",
]


@pytest.mark.parametrize(("raw", "answer"), ANSWERED)
def test_a_clear_answer_is_read(raw: str, answer: int) -> None:
    assert parse_answer(raw, OPTIONS) == (answer, "ok")


@pytest.mark.parametrize("raw", UNANSWERED)
def test_anything_else_is_invalid_and_never_coerced(raw: str) -> None:
    assert parse_answer(raw, OPTIONS) == (-1, "invalid")


@pytest.mark.parametrize(
    "raw",
    [
        None,
        "",
        " \r\n\t",
        "\u200b",
        "\x00",
        "\ufeff \u200f",
        "<think>long thought</think>\n",
        "long thought, so option A</think>\n",
        "<think>\nThe persona values care, so I would choose option A because",
        "<thinking>The answer is C",
        "<think>A?</think>\n<think>The answer is B",
        "\n <THINK>\nB",
    ],
)
def test_nothing_to_see_or_nothing_but_thoughts_is_empty(raw: str | None) -> None:
    assert parse_answer(raw, OPTIONS) == (-1, "empty")


def test_one_option_text_may_contain_another() -> None:
    options = ("Merit.", "Merit and need.", "Neither.")
    assert parse_answer("B. Merit and need.", options) == (1, "ok")
    assert parse_answer("Answer: B. Merit and need.", options) == (1, "ok")
    assert parse_answer("A. Merit and need.", options) == (-1, "invalid")
