import re
from importlib.resources import files

import pytest
import yaml

from fairpp_hf.respondents.reading import words
from fairpp_hf.respondents.reading.words import anywhere, phrases


def table(name: str) -> str:
    return files(words.__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")


ROWS = {(language, role) for language, rows in words._languages().items() for role in rows}


@pytest.mark.parametrize("language", sorted({language for language, _ in ROWS}))
def test_every_row_is_a_regular_expression_of_a_known_role(language: str) -> None:
    fragments = set(re.findall(r"\{([a-z_]+)\}", "".join(map(table, words._TABLES))))
    for role, row in words._languages()[language].items():
        assert f"`{role}`" in (words.__doc__ or "") or role in fragments, role
        assert re.compile(row).fullmatch("") is None or role in fragments, f"{role} finds nothing everywhere"


def test_no_phrase_stands_twice_in_a_row() -> None:
    for text in map(table, words._TABLES):
        assert all(len(line) <= 120 for line in text.splitlines())
        for language, rows in yaml.safe_load(text).items():
            for role, row in rows.items():
                found = words._phrases(row)
                assert len(found) == len(set(found)), (language, role)


@pytest.mark.parametrize(
    ("role", "text"),
    [
        ("choose", "I'd go with"),
        ("choose", "I’d go with"),
        ("choose", "id go with"),
        ("choose", "we would probably choose"),
        ("choose", "ich wähle"),
        ("choose", "我会选择"),
        ("answer", "Antwort"),
        ("lead", "part of me says B"),
    ],
)
def test_phrases_are_those_of_all_languages(role: str, text: str) -> None:
    assert re.fullmatch(phrases(role), text, re.IGNORECASE)


@pytest.mark.parametrize(
    ("text", "is_found"), [("I do not", True), ("a knot", False), ("我不选", True), ("nothing", False)]
)
def test_a_role_is_found_as_whole_words_where_words_are_divided(text: str, is_found: bool) -> None:
    assert (anywhere("not").search(text) is not None) == is_found


def test_one_letter_is_a_word_only_in_lower_case_or_at_the_start() -> None:
    assert re.search(f"{phrases('which')} resposta", "A resposta", re.IGNORECASE)
    assert re.search(f"[a-z]: {phrases('which')} resposta", "x: a resposta", re.IGNORECASE)
    assert re.search(f"[a-z]: {phrases('which')} resposta", "x: A resposta", re.IGNORECASE) is None
