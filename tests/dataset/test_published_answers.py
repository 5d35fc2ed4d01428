"""Replies and columns of answers of the published tables: which of them count, and in which coding."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from published_tables import MODEL, ROLES, published_row, scenario_row, write_table
from small_runs import some_questions

from fairpp_hf.dataset import published_files, sources
from fairpp_hf.dataset.sources import load_answers, load_scenarios
from fairpp_hf.personas import load_personas
from fairpp_hf.questions import load_questions
from fairpp_hf.respondents.reading import parse_answer

PERSONAS = load_personas().ids
CODING = "Answers must be 0, 1 and 2, or the letters A, B and C"


@pytest.fixture(autouse=True)
def fresh_log() -> None:
    published_files.say_once.cache_clear()
    sources.show_licence()


def rows_of(train: int = 30, test: int = 10, **options: Any) -> list[dict[str, Any]]:
    return [published_row(question, **options) for question in some_questions(train, test).to_pylist()]


def by_id(path: Path, persona: str) -> dict[str, tuple[int, str, str | None]]:
    """question_id to answer, status and raw reply."""
    answers = load_answers(path)
    ids = answers.questions["question_id"].to_pylist()
    records = answers.records[persona].to_pylist()
    return {ids[row["row"]]: (row["answer"], row["status"], row.get("raw_reply")) for row in records}


def by_reply(question: dict[str, Any], role: int) -> tuple[int, str, str | None]:
    raw = published_row(question)[f"{MODEL}_role_{role}"]
    return (*parse_answer(raw, [question["option_a"], question["option_b"], "N/A"]), raw)


def by_column(question: dict[str, Any], role: int) -> tuple[int, str, str | None]:
    value = published_row(question)[f"{MODEL}_role_{role}_answer"]
    return (-1, "empty", None) if value is None else (int(value), "ok", None)


# Which of them count


@pytest.mark.parametrize("silent", ["absent", None, ""])
def test_replies_count_in_the_files_that_have_them(silent: str | None, tmp_path: Path) -> None:
    """The test file has no such columns, or nothing in them: its answers are those of the column of answers."""
    train, test = rows_of(test=0), rows_of(train=0)
    for row in test:
        for role in ROLES:
            if silent == "absent":
                del row[f"{MODEL}_role_{role}"]
            else:
                row[f"{MODEL}_role_{role}"] = silent
    write_table(train, tmp_path / "data" / "train-0.parquet")
    write_table(test, tmp_path / "data" / "test-0.parquet")
    for role, persona in zip(ROLES, PERSONAS, strict=True):
        expected = {
            question["question_id"]: by_reply(question, role) for question in some_questions(test=0).to_pylist()
        }
        expected |= {
            question["question_id"]: by_column(question, role) for question in some_questions(train=0).to_pylist()
        }
        assert by_id(tmp_path, persona) == expected
    answers = load_answers(tmp_path)
    columns = answers.matrix().values()
    assert sum(int((column[answers.is_test] >= 0).sum()) for column in columns) > 60
    assert answers.origin.notes[-1] == (
        "There are no raw replies in data/test-0.parquet: an answer C may stand for a call that failed."
    )


def test_replies_of_some_personas_in_some_files(tmp_path: Path) -> None:
    """Role 2 has none at all, role 5 none in the second file, which gives two sentences."""
    first, second = rows_of(test=0), rows_of(train=0)
    for row in (*first, *second):
        del row[f"{MODEL}_role_2"]
    for row in second:
        del row[f"{MODEL}_role_5"]
    write_table(first, tmp_path / "one.csv")
    write_table(second, tmp_path / "two.csv")
    for role, readers in ((1, (by_reply, by_reply)), (2, (by_column, by_column)), (5, (by_reply, by_column))):
        questions = (some_questions(test=0).to_pylist(), some_questions(train=0).to_pylist())
        expected = {
            question["question_id"]: reader(question, role)
            for reader, part in zip(readers, questions, strict=True)
            for question in part
        }
        assert by_id(tmp_path, PERSONAS[role - 1]) == expected
    assert load_answers(tmp_path).origin.notes[-2:] == (
        "There are no raw replies of civic_pragmatists in these tables: an answer C may stand for a call that failed.",
        "There are no raw replies of loyal_nationals in two.csv: an answer C may stand for a call that failed.",
    )


def test_of_cells_without_an_answer_nothing_is_said_of_replies(tmp_path: Path) -> None:
    """The authors' code counted replies as C; where there are none, an empty cell is no work of its."""
    rows = rows_of(raw=False)
    empty = sum(row[f"{MODEL}_role_{role}_answer"] is None for row in rows for role in ROLES)
    note = f"{empty} of 280 answers are not valid (empty {empty}): they are -1."
    assert note in load_answers(write_table(rows, tmp_path / "train.parquet")).origin.notes
    # Beside a file all of whose replies are valid.
    for row in rows[:30]:
        row |= {f"{MODEL}_role_{role}": "A" for role in ROLES}
    write_table(rows[:30], tmp_path / "both" / "train.parquet")
    write_table(rows[30:], tmp_path / "both" / "test.parquet")
    empty = sum(row[f"{MODEL}_role_{role}_answer"] is None for row in rows[30:] for role in ROLES)
    note = f"{empty} of 280 answers are not valid (empty {empty}): they are -1."
    assert note in load_answers(tmp_path / "both").origin.notes


# In which coding


def recoded(rows: list[dict[str, Any]], change: Callable[[float], Any]) -> list[dict[str, Any]]:
    return [
        {
            name: change(value) if "_role_" in name and name.endswith("_answer") and value is not None else value
            for name, value in row.items()
        }
        for row in rows
    ]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("letters", ["ABC", "abc", (" A", "B ", "c")])
def test_letters_are_answers(letters: str | tuple[str, ...], suffix: str, tmp_path: Path) -> None:
    rows = rows_of(raw=False)
    numbered = load_answers(write_table(rows, tmp_path / f"train-numbers{suffix}"))
    lettered = load_answers(write_table(recoded(rows, lambda value: letters[int(value)]), tmp_path / f"train{suffix}"))
    assert lettered.records == numbered.records
    assert {answer for column in lettered.matrix().values() for answer in column.tolist()} == {-1, 0, 1, 2}


def test_letters_are_answers_to_scenarios(tmp_path: Path) -> None:
    told = [scenario_row(question) for question in some_questions(train=0).to_pylist()]
    numbered = load_scenarios(write_table(told, tmp_path / "numbers.parquet"))
    for row in told:
        for role in ROLES:
            row[f"{MODEL}_role_{role}_simulation"] = "ABC"[row[f"{MODEL}_role_{role}_simulation"]]
    lettered = load_scenarios(write_table(told, tmp_path / "letters.parquet"))
    assert numbered is not None
    assert lettered is not None
    assert lettered.records == numbered.records


FROM_ONE = (
    "Counted from 1, as a 3 suggests, an answer A would be read as B. Subtract 1 from the answers, and leave a cell empty "
    "where there is none."
)
FORMS = "Write them in one of these two forms, and leave a cell empty where there is no answer."


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda value: value + 1, f"3 beside 1, 2 in {{}}. {FROM_ONE}"),
        (lambda value: str(int(value) + 1), f"3 beside 1, 2 in {{}}. {FROM_ONE}"),
        (lambda value: "Option " + "ABC"[int(value)], f"other texts, and none of these, in {{}}. {FORMS}"),
        (lambda value: value - 10, f"-10, -9, -8, and none of these, in {{}}. {FORMS}"),
    ],
)
def test_another_coding_is_refused(change: Callable[[float], Any], problem: str, tmp_path: Path) -> None:
    """Beside replies nobody reads the column, whatever its coding."""
    path = write_table(recoded(rows_of(raw=False), change), tmp_path / "train.parquet")
    column = f"column '{MODEL}_role_1_answer' of train.parquet"
    message = f"{CODING}; got {problem.format(column)}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load_answers(path)
    plain = load_answers(write_table(rows_of(), tmp_path / "train-plain.parquet"))
    replied = load_answers(write_table(recoded(rows_of(), change), tmp_path / "train-replied.parquet"))
    assert replied.records == plain.records


def test_the_coding_is_that_of_a_column(tmp_path: Path) -> None:
    """A column of 1 and 2 alone may be just that."""
    rows = rows_of(2, 0, raw=False)
    for role in ROLES:
        for row, value in zip(rows, (0.0, 4.0) if role == 1 else (1.0, 2.0), strict=True):
            row[f"{MODEL}_role_{role}_answer"] = value
    first, second, *_ = load_answers(write_table(rows, tmp_path / "train.parquet")).matrix().values()
    assert sorted(first.tolist()) == [-1, 0]
    assert sorted(second.tolist()) == [1, 2]
    for row in rows:
        row[f"{MODEL}_role_4_answer"] += 1
    problem = "got 3 beside 2 in column 'gpt-4o-mini_role_4_answer' of train.parquet. Counted from 1, "
    with pytest.raises(ValueError, match=f"^{re.escape(f'{CODING}; {problem}')}"):
        load_answers(write_table(rows, tmp_path / "train.parquet"))


@pytest.mark.parametrize("missing", [-1.0, 0.0, 9.0, "none", None])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_answers_from_1_are_refused_beside_any_code_for_a_missing_one(
    suffix: str, missing: float | str | None, tmp_path: Path
) -> None:
    """With 0 to 3, too, nothing tells whether 0 is A or no answer."""
    rows = rows_of(5, 0, raw=False)
    codes = (missing, 1.0, 2.0, 3.0, 2.0)
    for row, code in zip(rows, codes, strict=True):
        row |= {f"{MODEL}_role_{role}_answer": str(code) if isinstance(missing, str) else code for role in ROLES}
    others = {-1.0: "-1, 1, 2", 0.0: "0, 1, 2", 9.0: "1, 2, 9"}.get(missing, "1, 2")
    message = f"{CODING}; got 3 beside {others} in column '{MODEL}_role_1_answer' of train{suffix}. {FROM_ONE}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load_answers(write_table(rows, tmp_path / f"train{suffix}"))


def test_nothing_but_3(tmp_path: Path) -> None:
    rows = [row | {f"{MODEL}_role_{role}_answer": 3 for role in ROLES} for row in rows_of(2, 0, raw=False)]
    message = f"{CODING}; got 3 in column '{MODEL}_role_1_answer' of train.parquet. {FROM_ONE}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load_answers(write_table(rows, tmp_path / "train.parquet"))


def test_personas_without_any_answer_are_no_coding(tmp_path: Path) -> None:
    rows = rows_of(3, 0, raw=False)
    for row in rows:
        row[f"{MODEL}_role_6_answer"] = None
    answers = load_answers(write_table(rows, tmp_path / "train.csv"))
    np.testing.assert_array_equal(answers.matrix()["disengaged_traditionalists"], [-1] * 3)
    assert len(load_questions()) > 3
