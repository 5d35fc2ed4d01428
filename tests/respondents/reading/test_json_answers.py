import pytest

from fairpp_hf.respondents.reading.json_answers import with_stated
from fairpp_hf.respondents.reading.mentions import STATED, STATED_NONE
from fairpp_hf.respondents.reading.visible_text import visible


def value(text: str) -> str | None:
    return text if text in "ABC" else "" if " or " in text else None


@pytest.mark.parametrize(
    ("raw", "stated"),
    [
        ('{"answer": "B"}', "B"),
        ('{"final_answer": "B"}', "B"),
        ('{"selectedOption": "B"}', "B"),
        ('{"reason": "A", "answer": "B"}', "B"),
        ('{"answer": {"letter": "B"}}', "B"),
        ('{"answers": {"1": "B"}}', "B"),
        ('{"A": false, "B": true}', "B"),
        ('{"x": "B"}', "B"),
        ('{"answer": "A or B"}', STATED_NONE),
        ('{"answer": "A", "choice": "B"}', STATED_NONE),
        ('{"rejected": "B"}', ""),
        ('{"answer": 1}', ""),
        ("{" * 2000, None),
        ('{"answer": "B"', None),
    ],
)
def test_objects_become_what_they_state(raw: str, stated: str | None) -> None:
    text = with_stated(visible(raw), value).text
    expected = chr(STATED + "ABC".index(stated)) if stated in ("A", "B", "C") else stated
    assert text == raw if expected is None else text.strip("\n") == expected
