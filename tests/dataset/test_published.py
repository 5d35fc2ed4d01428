"""Published tables: the import against a plain loop, rows by hand, splits, notes, and errors that say where and what."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
import pytest
from published_tables import (
    CLOSING,
    MODEL,
    ROLES,
    published_row,
    scenario_row,
    write_published,
    write_scenarios,
    write_table,
)
from small_runs import some_questions

from fairpp_hf.dataset import sources
from fairpp_hf.dataset.answers import warn_once
from fairpp_hf.dataset.sources import load_answers, resolve_answers
from fairpp_hf.personas import load_personas
from fairpp_hf.preferences.exports import wide_rows
from fairpp_hf.questions import load_questions, render_prompt, split_of
from fairpp_hf.respondents.reading import parse_answer
from fairpp_hf.schema import PREFERENCE_FEATURES, REPLIED_PREFERENCE_FEATURES

PERSONAS = load_personas().ids
NO_REPLIES = "Without raw replies, an answer C may stand for a call that failed: all personas in "


@pytest.fixture(autouse=True)
def licence_was_shown(fresh_log: pytest.LogCaptureFixture) -> None:
    sources.show_licence()
    fresh_log.clear()


@cache
def ids_and_forms() -> tuple[dict[tuple[Any, ...], str], dict[str, str]]:
    """question_id by its labels, and the form of a pole's question."""
    ids, forms = {}, {}
    for question in load_questions().to_pylist():
        ids[question["problem"], question["group"], question["dimension"], question["form"]] = question["question_id"]
        forms[question["pole_a"]] = "criterion"
        forms[question["pole_b"]] = "explanation"
    return ids, forms


def plain_import(rows: list[dict[str, Any]]) -> dict[str, dict[str, tuple[Any, ...]]]:
    """The plainest importer: question_id to persona to (answer, status, raw reply), row by row and cell by cell."""
    of_labels, form_of_pole = ids_and_forms()
    imported: dict[str, dict[str, tuple[Any, ...]]] = {}
    for row in rows:
        lines = row["Question"].replace("\r\n", "\n").split("\n")
        options = [line.strip()[3:].strip() for line in lines[-3:]]
        dimension = int(str(row["Perspective"]).split(".")[1][0])
        key = (row["Specific Problem"], row["Group"], dimension, form_of_pole[row["Option"]])
        answers = imported.setdefault(of_labels[key], {})
        for role, persona in zip(ROLES, PERSONAS, strict=True):
            if f"{MODEL}_role_{role}" in row:
                raw = row[f"{MODEL}_role_{role}"]
                answers[persona] = (*parse_answer(raw, options), raw)
                continue
            value = row[f"{MODEL}_role_{role}_answer"]
            answers[persona] = (-1, "empty", None) if value is None else (int(value), "ok", None)
    return imported


def as_plain(path: Path) -> dict[str, dict[str, tuple[Any, ...]]]:
    """What the column-wise importer gives, in the form of `plain_import`."""
    answers = load_answers(path)
    ids = answers.questions["question_id"].to_pylist()
    found: dict[str, dict[str, tuple[Any, ...]]] = {id_: {} for id_ in ids}
    for persona, table in answers.records.items():
        for record in table.to_pylist():
            raw = record.get("raw_reply")
            found[ids[record["row"]]][persona] = (record["answer"], record["status"], raw)
    return found


def rows_of(questions: pa.Table, **options: Any) -> list[dict[str, Any]]:
    return [published_row(question, **options) for question in questions.to_pylist()]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("raw", [True, False])
def test_the_import_is_that_of_a_plain_loop(raw: bool, suffix: str, tmp_path: Path) -> None:
    """Rows and columns shuffled; every odd reply occurs for every persona."""
    rng = np.random.default_rng(4)
    rows = rows_of(load_questions().take(rng.permutation(28_420)[:400]), raw=raw)
    names = [list(rows[0])[column] for column in rng.permutation(len(rows[0]))]
    path = write_table([{name: row[name] for name in names} for row in rows], tmp_path / f"table{suffix}")
    plain = plain_import(rows)
    assert as_plain(path) == plain
    if raw:
        replies = [answer for answers in plain.values() for answer in answers.values()]
        assert {status for _, status, _ in replies} == {"ok", "invalid", "refusal", "empty"}
        assert {answer for answer, _, _ in replies} == {-1, 0, 1, 2}


def as_dictionaries(table: pa.Table) -> pa.Table:
    for number, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            table = table.set_column(number, field.name, table[field.name].dictionary_encode())
    return table


def as_texts(table: pa.Table) -> pa.Table:
    return table.cast(pa.schema([(field.name, pa.large_string()) for field in table.schema]))


def as_nans(table: pa.Table) -> pa.Table:
    """What pandas writes where there is nothing; and a perspective in single precision: 3.2 is 3.20000005 there."""
    for number, field in enumerate(table.schema):
        if field.name.endswith("_answer"):
            table = table.set_column(number, field.name, pa.array(table[field.name].to_pandas(), from_pandas=False))
        elif field.name == "Perspective":
            table = table.set_column(number, field.name, table[field.name].cast(pa.float32()))
    return table


@pytest.mark.parametrize("change", [as_dictionaries, as_texts, as_nans])
def test_types_do_not_matter(change: Callable[[pa.Table], pa.Table], tmp_path: Path) -> None:
    for raw in (True, False):
        rows = rows_of(some_questions(), raw=raw)
        pq.write_table(change(pa.Table.from_pylist(rows)), tmp_path / f"{raw}.parquet")
        assert as_plain(tmp_path / f"{raw}.parquet") == plain_import(rows)


@pytest.mark.parametrize("silent", ["absent", None, ""])
def test_replies_count_in_the_files_that_have_them(silent: str | None, tmp_path: Path) -> None:
    """The test file has none, and the training file none of role 2: there, answers are those of the column of answers."""
    train, test = rows_of(some_questions(test=0)), rows_of(some_questions(train=0))
    for row in train:
        del row[f"{MODEL}_role_2"]
    expected = plain_import(train)
    for row in test:
        for role in ROLES:
            del row[f"{MODEL}_role_{role}"]
    expected |= plain_import(test)
    blanks = {} if silent == "absent" else {f"{MODEL}_role_{role}": silent for role in ROLES}
    write_table(train, tmp_path / "data" / "train-0.parquet")
    write_table([row | blanks for row in test], tmp_path / "data" / "test-0.parquet")
    assert as_plain(tmp_path) == expected
    answers = load_answers(tmp_path)
    assert answers.features == resolve_answers(tmp_path).features() == REPLIED_PREFERENCE_FEATURES
    assert sum(int((column[answers.is_test] >= 0).sum()) for column in answers.matrix().values()) > 60
    assert answers.provenance.notes[-1] == (
        "Without raw replies, an answer C may stand for a call that failed: civic_pragmatists in train-0.parquet; all "
        "personas in test-0.parquet."
    )


def test_a_table_of_more_personas_says_what_is_left_out(tmp_path: Path) -> None:
    rows = [row | {f"{MODEL}_role_8_answer": 0.0} for row in rows_of(some_questions(3, 0), raw=False)]
    answers = load_answers(write_table(rows, tmp_path / "train.parquet"))
    assert answers.personas == PERSONAS
    assert answers.provenance.notes[0] == f"Columns of further roles are left out: '{MODEL}_role_8_answer'."


def test_the_licence_is_shown_once(tmp_path: Path, fresh_log: pytest.LogCaptureFixture) -> None:
    warn_once.cache_clear()
    for folder in (write_published(tmp_path / "tables"), tmp_path / "tables", write_scenarios(tmp_path / "told")):
        load_answers(folder)
    assert [message for message in fresh_log.messages if "licensed" in message] == [
        "fairpp: the published tables of Fair-PP are licensed under CC BY-NC-SA 4.0, and so is what is derived from them: "
        "name the authors, no commercial use, share alike."
    ]


def test_a_row_by_hand(tmp_path: Path) -> None:
    """3.2 and "distributive" are topic 3, dimension 2 and, by the second pole, the form explanation."""
    row = {
        "Topic": "Fair  Rewards",
        "Problem Category": " work and compensation ",
        "Specific Problem": "WAGES",
        "Group Type": "Gender",
        "Group": "women",
        "Perspective": 3.2,
        "Option": "Distributive",
        "Question": "Why is it fair?\r\nIt is.\r\n\r\n A.  The rule. \r\nB.\u00a0Their need.\r\nC. N/A\r\n",
        "m-1.5_role_1_answer": 2.0,
    }
    row |= {f"m-1.5_role_{role}": reply for role, reply in zip(ROLES, ("B. their need", *"ABCabc"), strict=True)}
    row |= {f"m-1.5_role_{role}_answer": float(role % 3) for role in ROLES[1:]}
    path = write_table([row], tmp_path / "test.parquet")
    answers = load_answers(path)
    (question,) = answers.questions.to_pylist()
    ours = load_questions().filter(pa.compute.equal(load_questions()["question_id"], "wages.women.2.explanation"))
    texts = {
        "question": "Why is it fair?\nIt is.",
        "option_a": "The rule.",
        "option_b": "Their need.",
        "option_c": "N/A",
    }
    assert question == ours.to_pylist()[0] | texts | {"prompt": render_prompt(*texts.values())}
    assert answers.is_test.tolist() == [True]
    assert answers.personas == PERSONAS
    assert answers.respondents == ("m-1.5 (simulated)",)
    assert [column.tolist() for column in answers.matrix().values()] == [[1], [0], [1], [2], [0], [1], [2]]
    assert np.isnan(answers.probabilities("loyal_nationals")).all()
    assert answers.records["progressive_activists"]["raw_reply"].to_pylist() == ["B. their need"]
    assert answers.features == resolve_answers(path).features() == REPLIED_PREFERENCE_FEATURES
    (table,) = {table.schema for table in answers.preferences("test")}
    assert table.equals(REPLIED_PREFERENCE_FEATURES.arrow_schema, check_metadata=True)


@pytest.mark.parametrize(
    ("files", "splits"),
    [
        (["data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"], ["train", "test"]),
        (["train/a.csv", "test/a.csv"], ["train", "test"]),
        (["Fair-PP_train.csv", "Fair-PP_test.csv"], ["train", "test"]),
        (["a.csv", "latest.csv"], None),
    ],
)
def test_splits_are_those_of_the_names(files: list[str], splits: list[str] | None, tmp_path: Path) -> None:
    """Where no name has a split, questions are divided as ours; where some have, none may lack it."""
    questions = some_questions(4, 4)
    for number, file in enumerate(files):
        write_table(rows_of(questions.slice(4 * number, 4)), tmp_path / "tables" / file)
    answers = load_answers(tmp_path / "tables")
    if splits is None:
        np.testing.assert_array_equal(answers.is_test, split_of(answers.questions))
        assert "Names of files tell no split: questions are divided as fairpp_hf divides its own." in (
            answers.provenance.notes
        )
    else:
        test = set(questions.slice(4, 4)["question_id"].to_pylist())
        assert answers.is_test.tolist() == [id_ in test for id_ in answers.questions["question_id"].to_pylist()]
        write_table(rows_of(some_questions(1, 0)), tmp_path / "tables" / "other.csv")
        with pytest.raises(
            ValueError, match=r"must all have train or test in their name, or none of them; got .*other"
        ):
            load_answers(tmp_path / "tables")


def test_what_is_counted_is_said_once_and_noted(tmp_path: Path, fresh_log: pytest.LogCaptureFixture) -> None:
    """One text of another form, and replies that say something else than the column, or nothing."""
    questions = some_questions(40, 0)
    rows = rows_of(questions)
    rows[3]["Question"] = "No options."
    path = write_table(rows, tmp_path / "train.csv")
    for _ in range(2):
        answers = load_answers(path)
    plain = plain_import([row for row in rows if row["Question"] != "No options."])
    found = [reading for of_persona in plain.values() for reading in of_persona.values()]
    missing = sum(answer < 0 for answer, *_ in found)
    text, count, statuses, differing = answers.provenance.notes
    assert text == (
        "1 of 40 questions are left out, since their text has no lines 'A. ', 'B. ' and 'C. ': row 3 of train.csv."
    )
    assert count == "These are 39 of the 28,420 questions."
    assert statuses.startswith(f"{missing} of {39 * 7} answers are not valid (empty ")
    assert statuses.endswith("): they are -1. The authors' code counted such replies as C.")
    assert differing.endswith(
        f" of {39 * 7} raw replies say something else than the column of answers: the reply counts."
    )
    assert fresh_log.messages == [f"Published tables of {path}: {note}" for note in answers.provenance.notes]
    assert (answers.provenance.kind, answers.provenance.licence, answers.provenance.source) == (
        "published",
        "cc-by-nc-sa-4.0",
        "train.csv",
    )


def test_the_personas_are_those_of_the_default_set_and_the_fingerprint_follows_contents(tmp_path: Path) -> None:
    path = write_published(tmp_path / "tables")
    source = resolve_answers(path)
    assert source.persona_set() == source.persona_set("hidden_tribes_2018") == load_personas()
    before = source.fingerprint()
    write_published(tmp_path / "tables", some_questions(3, 2))
    assert resolve_answers(path).fingerprint() != before


def test_the_fingerprint_follows_splits_and_not_the_place(tmp_path: Path) -> None:
    """Otherwise what `datasets` has kept would go on training with what is now for tests."""
    write_table(rows_of(some_questions(3, 0)), tmp_path / "tables" / "train" / "0.parquet")
    before = resolve_answers(tmp_path / "tables").fingerprint()
    moved = (tmp_path / "tables").rename(tmp_path / "moved")
    assert resolve_answers(moved).fingerprint() == before
    (moved / "train").rename(moved / "test")
    assert resolve_answers(moved).fingerprint() != before


def test_scenarios_have_the_columns_of_preferences(tmp_path: Path) -> None:
    questions = some_questions(train=0)
    path = write_scenarios(tmp_path / "told")
    source = resolve_answers(path, scenarios=True)
    assert source.has_scenarios()
    scenarios = source.load()
    assert scenarios.features == source.features() == PREFERENCE_FEATURES
    (note,) = scenarios.provenance.notes
    assert note.startswith(NO_REPLIES)
    assert scenarios.is_test.all()
    labels = [name for name in questions.column_names if name not in ("question", "prompt") and "option" not in name]
    in_order = questions.take(pa.compute.index_in(scenarios.questions["question_id"], questions["question_id"]))
    assert scenarios.questions.select(labels).equals(in_order.select(labels))
    for question in scenarios.questions.to_pylist():
        number = sum(question["question_id"].encode())
        assert question["question"] == CLOSING
        assert question["option_a"] == f"Ada decides by {question['pole_a']}.\n\nShe is at peace."
        assert question["option_b"] == f'Ben decides by {question["pole_b"]}: "so be it".'
        assert question["option_c"] == ("N/A" if number % 2 else "Nobody gets more.\nAll go home.")
        options = [question[f"option_{letter}"] for letter in "abc"]
        assert question["prompt"] == render_prompt(CLOSING, *options)
    numbers = [sum(id_.encode()) for id_ in scenarios.questions["question_id"].to_pylist()]
    for role, column in zip(ROLES, scenarios.matrix().values(), strict=True):
        assert column.tolist() == [(number + role) % 3 for number in numbers]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("A. a\nB. b\nC. N/A\nWhich?", ("Which?", "a", "b", "N/A")),
        ("A. a\nB. b\nC. N/A Which?", ("Which?", "a", "b", "N/A")),
        ("A. a\nB. b\nC. N/A.\nWhich?", ("Which?", "a", "b", "N/A.")),
        ("\r\n A.a \r\n\r\n B. b1\r\nb2\r\nC. c1\r\n\r\nc2\r\n\r\nWhich? \r\n", ("Which?", "a", "b1\nb2", "c1\n\nc2")),
        ("A. Plan B. It works.\nB. b\nC. c\nWhich?", ("Which?", "Plan B. It works.", "b", "c")),
        ("A. a\nB. b\nC. N/A", None),
        ("A. a\nB. b\nWhich?", None),
        ("", None),
    ],
)
def test_texts_of_scenarios(text: str, parts: tuple[str, ...] | None, tmp_path: Path) -> None:
    first, second = some_questions(train=0, test=2).to_pylist()
    path = write_table(
        [scenario_row(first), scenario_row(second) | {"simulation_question": text}], tmp_path / "t.parquet"
    )
    scenarios = resolve_answers(path, scenarios=True).load()
    rows = {row["question_id"]: row for row in scenarios.questions.to_pylist()}
    if parts is None:
        assert list(rows) == [first["question_id"]]
        assert scenarios.provenance.notes[0] == (
            "1 of 2 questions are left out, since their text has no lines 'A. ', 'B. ' and 'C. ': row 1 of t.parquet."
        )
    else:
        row = rows[second["question_id"]]
        assert (row["question"], row["option_a"], row["option_b"], row["option_c"]) == parts


def test_questions_and_scenarios_of_one_table_and_beside_each_other(tmp_path: Path) -> None:
    """The table of scenarios has the answers to its questions too: test questions, whatever its split is called."""
    path = write_scenarios(tmp_path / "told")
    answers = load_answers(path)
    assert answers.is_test.all()
    assert any(note.startswith(NO_REPLIES) for note in answers.provenance.notes)
    write_published(tmp_path / "told" / "questions")
    assert len(load_answers(path).questions) == 40
    assert len(resolve_answers(path, scenarios=True).load().questions) == 10


def changed(**values: Any) -> Callable[[list[dict[str, Any]]], None]:
    return lambda rows: rows[1].update(values)


def renamed(old: str, new: str) -> Callable[[list[dict[str, Any]]], None]:
    def rename(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row[new] = row.pop(old)

    return rename


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (renamed("Group", "Groups"), r"got none named 'Group' in .*train\.parquet\. Is it 'Groups'\? Rename or add"),
        (renamed(f"{MODEL}_role_7_answer", "x"), rf"got none named '{MODEL}_role_7_answer' in"),
        (renamed(f"{MODEL}_role_7_answer", "x_role_7_answer"), rf"of one model; got those of '{MODEL}', 'x' in"),
        (
            changed(Group="womem"),
            r"^Group must be one of the 29 labels .*; got 'womem' at row 1 of train\.parquet\. Did you",
        ),
        (changed(Group=None), r"^Group must be one of the 29 labels of Fair-PP's taxonomy; got None at row 1 of"),
        (changed(Topic="fair treatment "), r"^Topic must agree with the other labels of its row, which make "),
        (
            changed(Perspective=9.5),
            r"^Perspective must agree with the other labels of its row, which make 1\.1; got 9\.5",
        ),
        (
            changed(**{f"{MODEL}_role_3_answer": 3.0}),
            rf"^Answers must be 0, 1 and 2, .*; got 3 in column '{MODEL}_role_3",
        ),
        (changed(**{f"{MODEL}_role_3_answer": -1.0}), r"got -1 in column"),
        (lambda rows: rows.append(rows[0]), r"^A question must be there once; got '.*' at row 0 of .* and at row 3 of"),
        (lambda rows: [row.update(Question="No.") for row in rows], r"got none of that form in 3 rows, such as 'No\.'"),
    ],
)
def test_errors_say_where_and_what(change: Callable[[Any], Any], message: str, tmp_path: Path) -> None:
    rows = rows_of(load_questions().take(pa.array([0, 11, 21])), raw=False)
    for row in rows:
        row["Topic"] = row["Topic"].upper()
    change(rows)
    path = write_table(rows, tmp_path / "train.parquet")
    with pytest.raises(ValueError, match=message):
        load_answers(path)


@pytest.mark.parametrize(("name", "content"), [("a.csv", b"a,b\n\xff\xfe,1\n"), ("a.parquet", b"PAR1")])
def test_files_that_cannot_be_read(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"^A published table must (be a readable CSV file|have the columns)"):
        load_answers(tmp_path / name)


def test_a_wide_export_of_the_survey_comes_back(tmp_path: Path) -> None:
    """The model is `survey:britains_choice_2020`; our own texts are parsed like theirs."""
    survey = load_answers()
    model = survey.respondents[0].removesuffix(" (simulated)")
    pq.write_table(wide_rows(survey.questions, survey.matrix(), model), tmp_path / "wide.parquet")
    again = load_answers(tmp_path / "wide.parquet")
    assert again.questions.equals(survey.questions)
    assert again.respondents == survey.respondents
    np.testing.assert_array_equal(again.is_test, survey.is_test)
    for persona, column in survey.matrix().items():
        np.testing.assert_array_equal(again.matrix()[persona], column)
