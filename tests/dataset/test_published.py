"""The published tables as answers: against a plain importer, by hand, and every error."""

import json
import logging
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from published_tables import (
    CLOSING,
    MODEL,
    ROLES,
    published_row,
    reply_of,
    scenario_row,
    write_published,
    write_scenarios,
    write_table,
)
from small_runs import some_questions

from fairpp_hf.dataset import published_files, sources
from fairpp_hf.dataset.origin import Origin
from fairpp_hf.dataset.published_files import TableFile, table_files
from fairpp_hf.dataset.sources import (
    load_answers,
    load_scenarios,
    resolve_answers,
    source_features,
    source_has_scenarios,
    source_personas,
)
from fairpp_hf.personas import load_personas
from fairpp_hf.preferences.exports import wide_rows
from fairpp_hf.questions import load_questions, render_prompt, split_of
from fairpp_hf.respondents.reading import parse_answer
from fairpp_hf.schema import PREFERENCE_FEATURES, REPLIED_PREFERENCE_FEATURES

PERSONAS = load_personas().ids
NO_REPLIES = "There are no raw replies in these tables: an answer C may stand for a call that failed."


@pytest.fixture(autouse=True)
def fresh_log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    published_files.say_once.cache_clear()
    sources.show_licence()
    with caplog.at_level(logging.WARNING):
        caplog.clear()
        yield caplog


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
            if value is None:
                answers[persona] = (-1, "empty", None)
            else:
                answers[persona] = (int(value), "ok", None) if value in (0, 1, 2) else (-1, "invalid", None)
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
    if not raw:
        for number, value in enumerate((None, 4.0, -1.0, 0.5)):
            rows[number][f"{MODEL}_role_5_answer"] = value
    names = [list(rows[0])[column] for column in rng.permutation(len(rows[0]))]
    path = write_table([{name: row[name] for name in names} for row in rows], tmp_path / f"table{suffix}")
    plain = plain_import(rows)
    assert as_plain(path) == plain
    if raw:
        replies = [answer for answers in plain.values() for answer in answers.values()]
        assert {status for _, status, _ in replies} == {"ok", "invalid", "refusal", "empty"}
        assert {answer for answer, _, _ in replies} == {-1, 0, 1, 2}


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
    assert answers.features == source_features(resolve_answers(path)) == REPLIED_PREFERENCE_FEATURES
    (table,) = {table.schema for table in answers.preferences("test")}
    assert table.equals(REPLIED_PREFERENCE_FEATURES.arrow_schema, check_metadata=True)


def test_both_texts_by_a_join(tmp_path: Path) -> None:
    """Their rows keep their text; ours have the same ids."""
    answers = load_answers(write_published(tmp_path / "folder"))
    assert set(answers.questions["option_c"].to_pylist()) == {"N/A"}
    joined = answers.questions.join(load_questions(), "question_id", join_type="inner", right_suffix="_ours")
    assert len(joined) == 40
    assert joined["group"].to_pylist() == joined["group_ours"].to_pylist()
    assert "N/A" not in joined["option_c_ours"].to_pylist()
    np.testing.assert_array_equal(answers.is_test, split_of(answers.questions))


# Types, layouts and splits


def as_dictionaries(table: pa.Table) -> pa.Table:
    for number, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            table = table.set_column(number, field.name, table[field.name].dictionary_encode())
    return table


def as_texts(table: pa.Table) -> pa.Table:
    return table.cast(pa.schema([(field.name, pa.large_string()) for field in table.schema]))


def as_small_numbers(table: pa.Table) -> pa.Table:
    """Answers as whole numbers, and a perspective in single precision: 3.2 is 3.20000005 there."""
    fields = [
        (
            field.name,
            pa.float32() if field.name == "Perspective" else pa.int8() if "_answer" in field.name else field.type,
        )
        for field in table.schema
    ]
    return table.cast(pa.schema(fields))


def as_nans(table: pa.Table) -> pa.Table:
    """What pandas writes where there is nothing."""
    for number, field in enumerate(table.schema):
        if field.name.endswith("_answer"):
            table = table.set_column(number, field.name, pa.array(table[field.name].to_pandas(), from_pandas=False))
    return table


@pytest.mark.parametrize("change", [as_dictionaries, as_texts, as_small_numbers, as_nans])
@pytest.mark.parametrize("raw", [True, False])
def test_types_do_not_matter(raw: bool, change: Callable[[pa.Table], pa.Table], tmp_path: Path) -> None:
    rows = rows_of(some_questions(), raw=raw)
    pq.write_table(change(pa.Table.from_pylist(rows)), tmp_path / "table.parquet")
    assert as_plain(tmp_path / "table.parquet") == plain_import(rows)


@pytest.mark.parametrize("nothing", [pa.nulls(40), pa.array([float("nan")] * 40), pa.array([""] * 40)])
def test_columns_of_replies_with_nothing_in_them(nothing: pa.Array, tmp_path: Path) -> None:
    """Of one persona, or of all: then the column of answers counts."""
    rows = rows_of(some_questions())
    table = pa.Table.from_pylist(rows)
    for role in (3, *(role for role in ROLES if role != 3)):
        name = f"{MODEL}_role_{role}"
        table = table.set_column(table.column_names.index(name), name, nothing)
        for row in rows:
            del row[name]
        pq.write_table(table, tmp_path / "table.parquet")
        found = as_plain(tmp_path / "table.parquet")
        expected = plain_import(rows)
        assert {id_: answers["disengaged_battlers"][:2] for id_, answers in found.items()} == {
            id_: answers["disengaged_battlers"][:2] for id_, answers in expected.items()
        }
        sentence = load_answers(tmp_path / "table.parquet").origin.notes[-1]
        assert sentence == (NO_REPLIES.replace("replies", "replies of disengaged_battlers") if role == 3 else sentence)
    assert sentence == NO_REPLIES
    assert found == expected


@pytest.mark.parametrize(
    ("files", "split_of_files"),
    [
        (["train.csv", "test.csv"], ["train", "test"]),
        (["data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"], ["train", "test"]),
        (["train/0.parquet", "test/0.parquet"], ["train", "test"]),
        (["fairpp_train.csv", "fairpp_test.csv"], ["train", "test"]),
        (["train-1.csv", "train-2.csv"], ["train", "train"]),
        (["one.csv", "two.csv"], [None, None]),
    ],
)
def test_splits_are_those_of_the_files(files: list[str], split_of_files: list[str | None], tmp_path: Path) -> None:
    for number, file in enumerate(files):
        write_table(rows_of(load_questions().slice(10 * number, 10)), tmp_path / "tables" / file)
    found = [TableFile((tmp_path / "tables" / file), split) for file, split in zip(files, split_of_files, strict=True)]
    assert table_files(tmp_path / "tables") == found
    answers = load_answers(tmp_path / "tables")
    if split_of_files[0] is None:
        np.testing.assert_array_equal(answers.is_test, split_of(answers.questions))
    else:
        assert answers.is_test.tolist() == np.repeat([split == "test" for split in split_of_files], 10).tolist()


def test_configs_of_a_card_count(tmp_path: Path) -> None:
    write_table(rows_of(load_questions().slice(0, 3)), tmp_path / "a.parquet")
    write_table(rows_of(load_questions().slice(3, 4)), tmp_path / "b.parquet")
    write_table([{"x": 1}], tmp_path / "c.parquet")
    header = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: a.parquet\n"
    (tmp_path / "README.md").write_text(f"{header}  - split: test\n    path: b.parquet\n---\n")
    assert load_answers(tmp_path).is_test.tolist() == [False] * 3 + [True] * 4


def test_other_splits_are_named(tmp_path: Path, fresh_log: pytest.LogCaptureFixture) -> None:
    for number, split in enumerate(("train", "validation")):
        write_table(rows_of(load_questions().slice(3 * number, 3)), tmp_path / f"{split}.parquet")
    assert len(load_answers(tmp_path).questions) == 3
    sentence = "Splits other than train and test are left out: 'validation'."
    assert fresh_log.messages.count(f"Published tables of {tmp_path}: {sentence}") == 1


@pytest.mark.parametrize(("name", "split"), [("test.csv", "test"), ("my-train-1.csv", "train"), ("contest.csv", None)])
def test_a_file_by_itself(name: str, split: str | None, tmp_path: Path, fresh_log: pytest.LogCaptureFixture) -> None:
    """Neither the name of its folder nor a part of a word says a split."""
    path = write_table(rows_of(some_questions(), raw=False), tmp_path / "train" / name)
    answers = load_answers(path)
    expected = split_of(answers.questions) if split is None else np.full(40, split == "test")
    np.testing.assert_array_equal(answers.is_test, expected)
    sentence = "Names of files tell no split: questions are divided as fairpp_hf divides its own."
    assert (sentence in answers.origin.notes) == (split is None)
    assert (f"Published tables of {path}: {sentence}" in fresh_log.messages) == (split is None)


# What is said


def test_what_is_counted_is_said_once(tmp_path: Path, fresh_log: pytest.LogCaptureFixture) -> None:
    """Three questions whose replies are those of `reply_of`, counted here by hand from its list."""
    questions = some_questions(train=3, test=0).to_pylist()
    rows = [published_row(question) for question in questions]
    rows[1]["Question"] = "Which is fairer? A. this B. that C. N/A"
    path = write_table(rows, tmp_path / "train.csv")
    kinds = [
        (sum(question["question_id"].encode()) + 5 * role) % 12
        for question in (questions[0], questions[2])
        for role in ROLES
    ]
    invalid, empty = sum(kind in (7, 8) for kind in kinds), sum(kind == 9 for kind in kinds)
    differing = sum(kind in (10, 11) for kind in kinds)
    assert min(invalid, empty, differing) > 0
    notes = (
        "1 of 3 questions are left out, since their text has no lines 'A. ', 'B. ' and 'C. ': row 1 of train.csv.",
        "These are 2 of the 28,420 questions.",
        f"{invalid + empty} of 14 answers are not valid (empty {empty}, invalid {invalid}): they are -1. The authors' code "
        "counted such replies as C.",
        f"{differing} of 14 raw replies say something else than the column of answers: the reply counts.",
    )
    for _ in range(2):
        assert load_answers(path).origin == Origin("published", "cc-by-nc-sa-4.0", "train.csv", notes=notes)
    extras = "'Falcon3-7B-Instruct', 'Falcon3-7B-Instruct_answer', 'Tier', 'Unnamed: 0', 'weight'"
    assert fresh_log.messages == [
        f"Published tables of {path}: {sentence}"
        for sentence in (f"Columns without a use here are left out: {extras}.", *notes)
    ]


def test_the_licence_is_shown_once(tmp_path: Path, fresh_log: pytest.LogCaptureFixture) -> None:
    sources.show_licence.cache_clear()
    write_published(tmp_path / "tables")
    write_scenarios(tmp_path / "told")
    load_answers(tmp_path / "tables")
    load_answers(tmp_path / "tables")
    load_scenarios(tmp_path / "told")
    licence = [message for message in fresh_log.messages if "licensed" in message]
    assert licence == [
        "fairpp: the published tables of Fair-PP are licensed under CC BY-NC-SA 4.0, and so is what is derived from them: "
        "name the authors, no commercial use, share alike."
    ]


def test_the_personas_are_those_of_the_default_set(tmp_path: Path) -> None:
    source = resolve_answers(write_published(tmp_path / "tables"))
    assert source == ("published", tmp_path / "tables", None, None)
    assert source_personas(source) == load_personas()
    assert load_answers(tmp_path / "tables", "britains_choice_2020").personas == PERSONAS


def test_the_fingerprint_follows_contents_and_splits(tmp_path: Path) -> None:
    folder = write_published(tmp_path / "tables")
    before = resolve_answers(folder).fingerprint()
    assert resolve_answers(folder.rename(tmp_path / "moved")).fingerprint() == before
    data = tmp_path / "moved" / "data"
    (data / "test-00000-of-00001.parquet").rename(data / "train-00001-of-00001.parquet")
    assert resolve_answers(tmp_path / "moved").fingerprint() != before


# Scenarios


def test_scenarios_have_the_columns_of_preferences(tmp_path: Path) -> None:
    questions = some_questions(train=0)
    path = write_scenarios(tmp_path / "told")
    assert source_has_scenarios(resolve_answers(path))
    scenarios = load_scenarios(path)
    assert scenarios is not None
    assert scenarios.features == source_features(resolve_answers(path), scenarios=True) == PREFERENCE_FEATURES
    assert scenarios.origin.notes == (NO_REPLIES,)
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
    scenarios = load_scenarios(path)
    assert scenarios is not None
    rows = {row["question_id"]: row for row in scenarios.questions.to_pylist()}
    if parts is None:
        assert list(rows) == [first["question_id"]]
        assert scenarios.origin.notes[0] == (
            "1 of 2 questions are left out, since their text has no lines 'A. ', 'B. ' and 'C. ': row 1 of t.parquet."
        )
    else:
        row = rows[second["question_id"]]
        assert (row["question"], row["option_a"], row["option_b"], row["option_c"]) == parts


def test_questions_and_scenarios_of_one_table(tmp_path: Path) -> None:
    """The table of scenarios has the answers to its questions too: test questions, whatever its split is called."""
    path = write_scenarios(tmp_path / "told")
    answers = load_answers(path)
    assert answers.is_test.all()
    ids = answers.questions["question_id"].to_pylist()
    of_id = {question["question_id"]: question for question in some_questions(train=0).to_pylist()}
    expected = [int(-1 if (value := reply_of(of_id[id_], 5)[1]) is None else value) for id_ in ids]
    assert answers.matrix()["loyal_nationals"].tolist() == expected
    assert not source_has_scenarios(resolve_answers(write_published(tmp_path / "tables")))
    assert load_scenarios(tmp_path / "tables") is None


# Errors


def changed(**cells: Any) -> Callable[[list[dict[str, Any]]], None]:
    """Changes cells of row 3, with `_` for a space in the name of the column."""
    return lambda rows: rows[3].update({name.replace("_", " "): value for name, value in cells.items()})


def renamed(**names: str) -> Callable[[list[dict[str, Any]]], None]:
    def rename(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            for name, other in names.items():
                row[other] = row.pop(name.replace("__", " "))

    return rename


def two_models(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        row |= {"other-llm_role_1_answer": 0, "third_role_7": "A"}


def the_same_question_again(rows: list[dict[str, Any]]) -> None:
    rows.append(rows[2])


def without_lines(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        row["Question"] = "Which is fairer?"


NEEDED = (
    "A published table must have the columns 'Topic', 'Problem Category', 'Specific Problem', 'Group Type', 'Group', "
    "'Option', 'Perspective', 'Question' and, for one model and each role 1 to 7, "
)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            renamed(Group__Type="GroupType", **{f"{MODEL}_role_3_answer": "third answer", "Option": "x"}),
            NEEDED
            + "'gpt-4o-mini_role_<n>_answer'; got none named 'Group Type' (the nearest is 'GroupType'), 'Option', "
            "'gpt-4o-mini_role_3_answer' (the nearest is 'gpt-4o-mini_role_3') in {path}. Rename or add them there.",
        ),
        (
            two_models,
            "A published table must have role columns of one model; got those of 'gpt-4o-mini', 'other-llm', 'third' in "
            "{path}. Which of them answered cannot be told. Remove the others' columns.",
        ),
        (
            changed(Specific_Problem="foods"),
            "Specific Problem must be one of the 98 labels of Fair-PP's taxonomy; got 'foods' at row 3 of {path}. Did you "
            "mean 'food'?",
        ),
        (
            changed(Group=None),
            "Group must have no missing values; got one at row 3 of {path}. Mend the row.",
        ),
        (
            changed(Topic="fair treatment"),
            "Topic must agree with Specific Problem; got 'fair treatment' beside 'food' at row 3 of {path}. That belongs to "
            "'fair essentials'. Mend the row.",
        ),
        (
            changed(Problem_Category="tax"),
            "Problem Category must agree with Specific Problem; got 'tax' beside 'food' at row 3 of {path}. That belongs to "
            "'basic material needs'. Mend the row.",
        ),
        (
            changed(Group_Type="Age"),
            "Group Type must agree with Group; got 'Age' beside 'men' at row 3 of {path}. That belongs to 'Gender'. Mend "
            "the row.",
        ),
        (
            changed(Perspective=2.2),
            "Perspective must be the number of the topic, a point, and the number of the option's dimension; got 2.2 beside "
            "'fair essentials' and 'distributive' at row 3 of {path}. These make 1.2. Mend the row.",
        ),
        (
            changed(Option="moral"),
            "Perspective must be the number of the topic, a point, and the number of the option's dimension; got 1.2 beside "
            "'fair essentials' and 'moral' at row 3 of {path}. These make 1.5. Mend the row.",
        ),
        (
            the_same_question_again,
            "A question must be there once; got 'food.men.2.criterion' at row 2 of {path} and at row 5 of {path}. Remove "
            "one of them.",
        ),
        (
            without_lines,
            "A published table must have texts with lines 'A. ', 'B. ' and 'C. ' (scenarios: and a closing question below); "
            "got none of that form in 5 rows, such as 'Which is fairer?' at row 0 of {path}.",
        ),
        (
            lambda rows: rows.__delitem__(slice(None)),
            "A published table must have at least one row; got none in {path}.",
        ),
    ],
)
def test_errors_say_where_and_what(
    change: Callable[[list[dict[str, Any]]], None], message: str, tmp_path: Path
) -> None:
    """The first five questions: food, men, dimensions 1, 1, 2, 2, 3."""
    rows = rows_of(load_questions().slice(0, 5))
    schema = pa.Table.from_pylist(rows).schema
    change(rows)
    path = tmp_path / "train.parquet"
    pq.write_table(pa.Table.from_pylist(rows) if rows else schema.empty_table(), path)
    with pytest.raises(ValueError, match=f"^{re.escape(message.format(path=path))}$"):
        load_answers(path)


def test_a_table_without_anybody(tmp_path: Path) -> None:
    path = write_table([{"Topic": "x"}], tmp_path / "t.csv")
    with pytest.raises(ValueError, match=re.escape("got none named 'Problem Category', ")) as error:
        load_answers(path)
    assert "each role 1 to 7, '<model>_role_<n>_answer'; got" in str(error.value)
    assert str(error.value).endswith(f"'<model>_role_7_answer' in {path}. Rename or add them there.")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    bad = tmp_path / "t.parquet"
    bad.write_bytes(b"no")
    rule = f"^{re.escape(f'A table must be a readable Parquet file; got {bad}: ')}"
    with pytest.raises(ValueError, match=rule):
        load_answers(bad)
    bad = tmp_path / "t.csv"
    bad.write_bytes("Topic,Größe\n".encode("latin-1"))
    with pytest.raises(ValueError, match=f"^{re.escape(f'A table must be a readable CSV file; got {bad}: ')}"):
        load_answers(bad)
    bad.write_text("Topic,Topic,x\n1,2,3\n")
    message = f"The columns of a table must have different names; got 'Topic' twice in {bad}. Rename or remove one."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load_answers(bad)


def test_folders_that_are_no_dataset(tmp_path: Path) -> None:
    write_table([{"x": 1}], tmp_path / "a.csv")
    header = "---\nconfigs:\n- config_name: one\n  data_files: a.csv\n- config_name: two\n  data_files: a.csv\n---\n"
    (tmp_path / "README.md").write_text(header)
    rule = f"A folder of published tables must hold one dataset that load_dataset can find; got {tmp_path}: "
    with pytest.raises(ValueError, match=f"^{re.escape(rule)}") as error:
        load_answers(tmp_path)
    assert str(error.value).endswith(" Give the CSV or Parquet file itself as answers.")
    (tmp_path / "README.md").unlink()
    (tmp_path / "a.csv").rename(tmp_path / "validation.csv")
    message = (
        f"A folder of published tables must hold CSV or Parquet files for train or test; got none in {tmp_path}, where "
        "load_dataset sees ['validation']. Give the CSV or Parquet file itself as answers."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load_answers(tmp_path)


# The Hub where there is none; with one on loopback: test_published_hub


def test_offline_and_not_in_the_cache() -> None:
    message = (
        "answers='published' must find the dataset tools-o/Fair-PP at revision 'v2' on the Hub or whole in its cache; got "
        "neither: OfflineModeIsEnabled"
    )
    with pytest.raises(ConnectionError, match=f"^{re.escape(message)}") as error:
        resolve_answers("published", "v2")
    assert str(error.value).endswith(
        " Load it once with a network (and without HF_HUB_OFFLINE), or download its files by other means and give their "
        "folder as answers."
    )


def test_offline_and_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Laid out as huggingface_hub lays out its cache, with its listing of the commit's files."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    commit = "0123456789abcdef" * 2 + "01234567"
    home = tmp_path / "datasets--tools-o--Fair-PP"
    write_published(home / "snapshots" / commit)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit)
    names = [f"data/{split}-00000-of-00001.parquet" for split in ("train", "test")]
    listing = {"format_version": 1, "files": {name: {"size": 1, "blob_id": "0"} for name in (*names, "other.pdf")}}
    (home / "trees").mkdir()
    (home / "trees" / f"{commit}.json").write_text(json.dumps(listing))
    for revision in (None, "main", commit):
        source = resolve_answers("published", revision)
        assert source == ("published", home / "snapshots" / commit, "tools-o/Fair-PP", commit)
        assert source.fingerprint().startswith(f"{commit}-")
    answers = load_answers("published")
    assert len(answers.questions) == 40
    assert answers.origin[:4] == ("published", "cc-by-nc-sa-4.0", "tools-o/Fair-PP", commit)


# What our own wide export writes


@pytest.mark.parametrize("raw", [True, False])
def test_a_wide_export_comes_back_as_it_was(raw: bool, tmp_path: Path) -> None:
    answers = load_answers(write_published(tmp_path / "tables", raw=raw))
    replies = {persona: table["raw_reply"] for persona, table in answers.records.items()} if raw else None
    wide = wide_rows(answers.questions, answers.matrix(), MODEL, raw_replies=replies)
    for split, in_split in (("train", ~answers.is_test), ("test", answers.is_test)):
        write_table(wide.filter(pa.array(in_split)).to_pylist(), tmp_path / "wide" / f"{split}.parquet")
    again = load_answers(tmp_path / "wide")
    assert again.questions.equals(answers.questions)
    np.testing.assert_array_equal(again.is_test, answers.is_test)
    assert again.records == answers.records


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
