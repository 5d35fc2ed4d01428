import pytest

from fairpp_hf.respondents.reading.visible_text import Visible, joined, visible


@pytest.mark.parametrize(
    ("raw", "text", "origin"),
    [
        ("B", "B", [0]),
        ("Ｂ．", "B.", [0, 1]),
        ("\u200bB", "B", [1]),
        ("①B", "1B", [0, 1]),
        ("a  b\t\n c", "a b\nc", [0, 1, 3, 4, 7]),
        ("🅱", "B", [0]),
        ("e\u0301B", "éB", [0, 2]),
        ("\ud800B", "B", [1]),
        ("答案：B。", "答案:B.", [0, 1, 2, 3, 4]),
    ],
)
def test_each_character_knows_where_it_stood(raw: str, text: str, origin: list[int]) -> None:
    seen = visible(raw)
    assert (seen.text, list(seen.origin)) == (text, origin)


def test_parts_keep_their_places() -> None:
    whole = Visible(" ab c ", range(6))
    assert list(whole.stripped().origin) == [1, 2, 3, 4]
    assert joined([whole.cut(1, 2), whole.cut(4, 5)]) == Visible("ac", [1, 4])
    assert joined([whole]) is whole
