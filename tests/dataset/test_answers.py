"""Sources of answers, and their compact form."""

import json
import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_runs import KnownRespondent, answer_of, make_run, some_questions

from fairpp_hf.dataset import answers as answers_module
from fairpp_hf.dataset.answers import compact
from fairpp_hf.dataset.sources import FolderSource, load_answers, resolve_answers
from fairpp_hf.generation import RunOptions, generate
from fairpp_hf.hub import build_dataset_folder
from fairpp_hf.personas import load_personas
from fairpp_hf.provenance import Provenance
from fairpp_hf.questions import load_questions, split_of
from fairpp_hf.respondents.survey import survey_answers
from fairpp_hf.runs import load_run
from fairpp_hf.schema import PREFERENCE_FEATURES, REPLIED_PREFERENCE_FEATURES


def records(rows: list[tuple[int, str, int]]) -> pa.Table:
    """Preference records of (row of `load_questions`, persona, answer)."""
    questions = load_questions().take(pa.array([row for row, _, _ in rows], pa.int64()))
    columns = {name: questions[name] for name in questions.column_names}
    columns["persona"] = pa.array([persona for _, persona, _ in rows], pa.string())
    columns["respondent"] = pa.array(["r"] * len(rows), pa.string())
    columns["answer"] = pa.array([answer for _, _, answer in rows], pa.int64())
    columns["probabilities"] = pa.array([None] * len(rows), pa.list_(pa.float32()))
    columns["status"] = pa.array(["ok"] * len(rows), pa.string())
    return pa.table([columns[name] for name in PREFERENCE_FEATURES], schema=PREFERENCE_FEATURES.arrow_schema)


def test_survey_answers_are_those_of_the_survey_respondent() -> None:
    answers = load_answers()
    assert answers.personas == load_personas().ids
    assert answers.respondents == ("survey:britains_choice_2020 (simulated)",)
    assert answers.questions.equals(load_questions())
    np.testing.assert_array_equal(answers.is_test, split_of(load_questions()))
    expected = survey_answers(load_questions(), load_personas(), "loyal_nationals")
    table = answers.records["loyal_nationals"]
    np.testing.assert_array_equal(table["answer"].to_numpy(), expected.answer)
    np.testing.assert_array_equal(
        table["probabilities"].combine_chunks().flatten().to_numpy().reshape(-1, 3),
        expected.probabilities.astype(np.float32),
    )
    np.testing.assert_array_equal(answers.matrix()["loyal_nationals"], expected.answer)


def test_a_run_becomes_one_record_for_each_reply(run: Path) -> None:
    answers = load_answers(run)
    assert answers.personas == load_personas().ids
    assert answers.respondents == ("known (simulated)",)
    # Questions come back in their own order, whatever the order of asking.
    asked = set(some_questions()["question_id"].to_pylist())
    ids = [i for i in load_questions()["question_id"].to_pylist() if i in asked]
    assert answers.questions["question_id"].to_pylist() == ids
    assert answers.is_test.sum() == 10
    for persona, column in answers.matrix().items():
        assert column.tolist() == [answer_of(question, persona) for question in ids]


def test_wide_tables_hold_what_the_run_holds(run: Path) -> None:
    answers = load_answers(run)
    wide = pa.concat_tables([table for split in answers.splits() for table in answers.preferences(split)])
    key = [("persona", "ascending"), ("question_id", "ascending")]
    assert wide.schema.equals(PREFERENCE_FEATURES.arrow_schema, check_metadata=True)
    assert wide.sort_by(key).equals(load_run(run).sort_by(key))
    statuses = set(zip(wide["status"].to_pylist(), (answer < 0 for answer in wide["answer"].to_pylist()), strict=True))
    assert statuses == {("ok", False), ("invalid", True)}
    with_probabilities = [row is not None for row in wide["probabilities"].to_pylist()]
    assert with_probabilities == [answer == 0 for answer in wide["answer"].to_pylist()]


def test_a_persona_set_chooses_among_the_personas_of_a_run(run: Path) -> None:
    assert load_answers(run, "britains_choice_2020").personas == load_personas().ids
    rule = f"persona must be one of {', '.join(map(repr, load_personas().ids))}"
    with pytest.raises(ValueError, match=f"^{re.escape(rule)}; got 'traditional_liberals'. Did you mean '\\w+'\\?$"):
        load_answers(run, "hidden_tribes_2018")
    answers = load_answers(run).select(["loyal_nationals", "civic_pragmatists"])
    assert answers.personas == ("loyal_nationals", "civic_pragmatists")


def test_matrix_has_minus_one_where_a_persona_has_no_record() -> None:
    """p answers rows 3 and 5, q answers rows 4 and 3; the questions are 3, 4, 5."""
    answers = compact(records([(5, "p", 0), (3, "p", 2), (4, "q", 1), (3, "q", -1)]), np.zeros(4, dtype=np.bool_))
    columns = answers.matrix()
    assert answers.questions.equals(load_questions().slice(3, 3))
    assert {persona: column.tolist() for persona, column in columns.items()} == {"p": [2, -1, 0], "q": [-1, 1, -1]}
    assert columns["p"].dtype == np.int8


def test_probabilities_are_nan_where_there_are_none(run: Path) -> None:
    """The known respondent gives (0.5, 0.25, 0.25) with the answer A, and otherwise none; c answers one question only."""
    answers = load_answers(run)
    expected = [
        (0.5, 0.25, 0.25) if answer_of(question, "loyal_nationals") == 0 else (np.nan,) * 3
        for question in answers.questions["question_id"].to_pylist()
    ]
    assert answers.probabilities("loyal_nationals").dtype == np.float64
    np.testing.assert_array_equal(answers.probabilities("loyal_nationals"), expected)

    table = records([(0, "a", 1), (3, "a", 1), (3, "c", 0)])
    lists = pa.array([None, [0.25, 0.5, 0.25], [1.0, 0.0, None]], pa.list_(pa.float32()))
    table = table.set_column(table.column_names.index("probabilities"), table.schema.field("probabilities"), lists)
    sparse = compact(table, np.zeros(3, dtype=np.bool_))
    np.testing.assert_array_equal(sparse.probabilities("a"), [[np.nan] * 3, [0.25, 0.5, 0.25]])
    np.testing.assert_array_equal(sparse.probabilities("c"), [[np.nan] * 3, [1.0, 0.0, np.nan]])


def test_probabilities_of_another_number_are_refused() -> None:
    table = records([(0, "a", 1), (3, "a", 1)])
    lists = pa.array([None, [0.5, 0.5]], pa.list_(pa.float32()))
    table = table.set_column(table.column_names.index("probabilities"), table.schema.field("probabilities"), lists)
    answers = compact(table, np.zeros(2, dtype=np.bool_))
    question = load_questions()["question_id"][3].as_py()
    message = f"probabilities must have one value for each of A, B, C; got 2 for question {question!r} and persona 'a'."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        answers.probabilities("a")
    with pytest.raises(ValueError, match=r"^persona must be one of 'a'; got 'b'\.$"):
        answers.probabilities("b")


def test_questions_of_other_origin_come_last() -> None:
    table = records([(5, "p", 0), (3, "p", 2)])
    table = table.set_column(0, "question_id", pa.array(["foreign", table["question_id"][1].as_py()]))
    answers = compact(table, np.array([True, False]))
    assert answers.questions["question_id"].to_pylist() == [load_questions()["question_id"][3].as_py(), "foreign"]
    assert answers.is_test.tolist() == [False, True]
    assert answers.records["p"]["row"].to_pylist() == [0, 1]


@pytest.mark.parametrize(
    ("rows", "is_test", "message"),
    [
        (
            [(0, "p", 1), (1, "p", 1), (0, "p", 2)],
            [False] * 3,
            "A persona must answer a question once; got two records of 'p' for '{0}' in here.",
        ),
        ([(0, "p", 1), (0, "q", 1)], [False, True], "A question must be in one split; got '{0}' in both in here."),
        (
            [(0, "p", 1), (1, "p", 3)],
            [False] * 2,
            "answer must be in -1..2 (-1 for no valid answer); got 3 at row 1 of here.",
        ),
    ],
)
def test_malformed_records_are_refused(rows: list[tuple[int, str, int]], is_test: list[bool], message: str) -> None:
    message = message.format(load_questions()["question_id"][0])
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        compact(records(rows), np.array(is_test), where="here")


def test_a_dataset_folder_from_elsewhere_needs_only_its_preferences(tmp_path: Path) -> None:
    """Several files a split, further columns and no manifest are fine; splits come from the names of the files."""
    folder = tmp_path / "folder"
    (folder / "preferences").mkdir(parents=True)
    table = records([(0, "p", 1), (1, "p", 2), (2, "p", 0)]).append_column("note", pa.array(["x", "y", "z"]))
    pq.write_table(table.slice(0, 1), folder / "preferences" / "train-00000-of-00002.parquet")
    pq.write_table(table.slice(1, 1), folder / "preferences" / "train-00001-of-00002.parquet")
    pq.write_table(table.slice(2, 1), folder / "preferences" / "test-00000-of-00001.parquet")
    source = resolve_answers(folder)
    assert source == FolderSource(folder)
    answers = load_answers(folder)
    assert answers.is_test.tolist() == [False, False, True]
    assert answers.matrix()["p"].tolist() == [1, 2, 0]
    assert source.persona_set() is None
    before = source.fingerprint()
    assert before == resolve_answers(folder).fingerprint()
    # The same rows in the other split are other data.
    (folder / "preferences" / "test-00000-of-00001.parquet").rename(folder / "preferences" / "train-00002.parquet")
    assert resolve_answers(folder).fingerprint() != before

    no_answer = table.set_column(table.column_names.index("answer"), "answer", pa.array([0, None, 1], pa.int64()))
    pq.write_table(no_answer, folder / "preferences" / "train-00002.parquet")
    message = (
        f"Column 'answer' of preference records must have no missing values; got one at row 1 of a table in {folder}."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load_answers(folder)
    pq.write_table(table.drop_columns("status"), folder / "preferences" / "train-00002.parquet")
    with pytest.raises(
        ValueError, match=r"^Preference records must have the column 'status'; got \[.*\] in /.*/folder\.$"
    ):
        load_answers(folder)


def test_the_persona_set_of_a_source(run: Path) -> None:
    assert resolve_answers("survey").persona_set() == load_personas()
    assert resolve_answers(run).persona_set() == load_personas()
    other = load_personas("hidden_tribes_2018")
    assert resolve_answers("survey").persona_set("hidden_tribes_2018") == other
    assert load_answers(personas="hidden_tribes_2018").personas == other.ids


@pytest.fixture(scope="module")
def look_alike(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's own file that keeps the name of a shipped set, and its ids."""
    folder = tmp_path_factory.mktemp("personas")
    tree = load_personas().as_dict()
    del tree["id"]
    tree |= {"title": "My own survey", "sources": ["https://example.org/mine"]}
    for persona in tree["personas"]:
        persona |= {"share": 0.1, "portrait": f"You are my own {persona['name']}."}
    path = folder / "britains_choice_2020.json"
    path.write_text(json.dumps(tree))
    return path


@pytest.fixture(scope="module")
def own_run(look_alike: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "own"
    generate(path, KnownRespondent(), load_personas(look_alike), some_questions(8, 4), RunOptions(progress=False))
    return path


def test_a_run_says_itself_who_was_asked(own_run: Path, look_alike: Path, caplog: pytest.LogCaptureFixture) -> None:
    own, source = load_personas(look_alike), resolve_answers(own_run)
    assert own.id == load_personas().id
    assert source.persona_set() == source.persona_set(look_alike) == own
    assert caplog.messages == []
    # A set named beside the record chooses among the personas; it is not who was asked.
    assert source.persona_set("britains_choice_2020") == own
    assert caplog.messages == [
        f"The answers of {own_run} were given by the persona set 'britains_choice_2020' as it is recorded there, which "
        "differs from 'britains_choice_2020': the record counts."
    ]


def test_a_folder_says_itself_who_was_asked(own_run: Path, look_alike: Path, tmp_path: Path) -> None:
    own = load_personas(look_alike)
    build_dataset_folder(tmp_path / "one", answers=own_run, targets=[], progress=False)
    build_dataset_folder(tmp_path / "two", answers=tmp_path / "one", targets=[], progress=False)
    for name in ("one", "two"):
        assert resolve_answers(tmp_path / name).persona_set() == own
        card = (tmp_path / name / "README.md").read_text("utf-8")
        assert "personas of *My own survey*" in card
        assert "<https://example.org/mine>" in card
        assert "| `loyal_nationals` | Loyal Nationals | 10% |" in card


RULE = "answers must be 'survey', 'published', or the path of a run, a dataset folder or published tables"


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ("surveyy", f"{RULE}; got 'surveyy', and there is nothing at {{cwd}}/surveyy. Did you mean 'survey'?"),
        ("runs/none", f"{RULE}; got 'runs/none', and there is nothing at {{cwd}}/runs/none."),
        ("publish", f"{RULE}; got 'publish', and there is nothing at {{cwd}}/publish. Did you mean 'published'?"),
        (
            ".",
            f"{RULE}; got '.', which is none of them. A run holds manifest.json and journal.sqlite, a dataset folder holds "
            "preferences/train-*.parquet or preferences/test-*.parquet, and published tables are CSV or Parquet files. Make "
            "one with `fairpp generate` or `fairpp build`.",
        ),
    ],
)
def test_answers_that_are_neither_a_name_nor_a_source(
    answers: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"^{re.escape(message.format(cwd=tmp_path.resolve()))}$"):
        load_answers(answers)


def test_a_source_without_records_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "preferences").mkdir(parents=True)
    pq.write_table(records([]), folder / "preferences" / "train-00000-of-00001.parquet")
    message = f"answers must hold at least one record; got none in {folder}. Ask first, or use other answers."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load_answers(folder)


def test_answers_know_where_they_come_from(run: Path, tmp_path: Path) -> None:
    today = datetime.now(UTC).date().isoformat()
    survey, ran = load_answers().provenance, load_answers(run).provenance
    assert (survey.kind, survey.licence, survey.line) == (
        "survey",
        "cc-by-4.0",
        "survey:britains_choice_2020 (simulated)",
    )
    assert (ran.kind, ran.licence, ran.line, ran.simulated) == ("model", "cc-by-4.0", "known (simulated)", True)
    assert ran.persona_set == load_personas().as_dict()
    assert ran.run is not None
    assert ran.run["statuses"]["ok"] > 0
    # A day may end between the run and this line.
    assert ran.created is not None
    assert ran.created[:10] <= today
    folder = tmp_path / "folder"
    (folder / "preferences").mkdir(parents=True)
    pq.write_table(records([(0, "p", 1)]), folder / "preferences" / "train-0.parquet")
    assert load_answers(folder).provenance == Provenance("unknown", ("r",))
    told = Provenance(
        "published", ("r",), "cc-by-nc-sa-4.0", "a/b", "c" * 40, "2025-01-01/2025-02-01", ("One.", "Two.")
    )
    (folder / "fairpp_build.json").write_text(json.dumps({"provenance": told.to_dict()}))
    assert load_answers(folder).provenance == resolve_answers(folder).provenance() == told
    assert load_answers(folder).select(["p"]).held_out("topics").provenance == told


def test_dates_of_a_run_that_took_days(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", train=2, test=0)
    with closing(sqlite3.connect(run / "journal.sqlite")) as journal, journal:
        journal.execute("UPDATE replies SET created_at = 1735689600")  # 2025-01-01, 00:00 UTC
        assert journal.execute("SELECT count(*) FROM replies").fetchone() == (14,)
    assert load_answers(run).provenance.created == "2025-01-01"
    with closing(sqlite3.connect(run / "journal.sqlite")) as journal, journal:
        journal.execute("UPDATE replies SET created_at = created_at + 86399 * 2 WHERE rowid % 2")
    assert load_answers(run).provenance.created == "2025-01-01/2025-01-02"


@pytest.mark.parametrize(
    ("kind", "dimension", "sentence"),
    [
        (
            "dimensions",
            2,
            "heldout='dimensions' leaves nothing to test on: none of the 5 questions with answers has a held-out label "
            "(1).",
        ),
        (
            "dimensions",
            1,
            "heldout='dimensions' leaves nothing to train on: each of the 5 questions with answers has a held-out label "
            "(1).",
        ),
        (
            "groups",
            2,
            "heldout='groups' leaves nothing to test on: none of the 5 questions with answers has a held-out label (men, "
            "Latino people, jewish people, heterosexual people, teenagers, people with disabilities).",
        ),
    ],
)
def test_a_division_with_one_side_alone_is_said_once(
    kind: str, dimension: int, sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    questions = load_questions()
    wanted = (questions["dimension"].to_numpy() == dimension) & (np.array(questions["group"].to_pylist()) == "women")
    table = records([(int(row), "p", 0) for row in np.flatnonzero(wanted)[:5]])
    answers = compact(table, np.zeros(5, dtype=np.bool_))
    answers_module.warn_once.cache_clear()
    for _ in range(2):
        assert answers.held_out(kind).is_test.tolist() == [dimension == 1] * 5
    assert caplog.messages == [sentence]
    caplog.clear()
    load_answers().held_out(kind)
    assert caplog.messages == []


def with_replies(table: pa.Table) -> pa.Table:
    replies = [None, *(f"reply {row}" for row in range(1, len(table)))]
    return table.append_column("raw_reply", pa.array(replies, pa.string()))


def test_a_folder_keeps_raw_replies_and_scenarios(tmp_path: Path) -> None:
    """The second file has no raw replies: null there. A scenario is a question with other texts."""
    folder = tmp_path / "folder"
    (folder / "preferences").mkdir(parents=True)
    table = records([(0, "p", 1), (1, "p", 2), (2, "p", 0)])
    pq.write_table(with_replies(table.slice(0, 2)), folder / "preferences" / "train-0.parquet")
    pq.write_table(table.slice(2, 1), folder / "preferences" / "test-0.parquet")
    source = resolve_answers(folder)
    assert not source.has_scenarios()
    answers = load_answers(folder)
    assert answers.features == source.features() == REPLIED_PREFERENCE_FEATURES
    assert answers.records["p"]["raw_reply"].to_pylist() == [None, "reply 1", None]
    (train,) = answers.preferences("train")
    assert train.schema.equals(REPLIED_PREFERENCE_FEATURES.arrow_schema, check_metadata=True)
    assert train["raw_reply"].to_pylist() == [None, "reply 1"]

    (folder / "scenarios").mkdir()
    told = table.set_column(table.column_names.index("question"), "question", pa.array(["Which story?"] * 3))
    pq.write_table(told, folder / "scenarios" / "test-0.parquet")
    told_source = resolve_answers(folder, scenarios=True)
    scenarios = told_source.load()
    assert scenarios.is_test.tolist() == [True] * 3
    assert set(scenarios.questions["question"].to_pylist()) == {"Which story?"}
    assert scenarios.features == told_source.features() == PREFERENCE_FEATURES
    assert scenarios.provenance == answers.provenance
    assert told_source.fingerprint() != source.fingerprint()


def test_answers_are_shown_in_short():
    answers = load_answers()
    assert repr(answers) == "Answers(28,420 questions, 7 personas; survey:britains_choice_2020 (simulated))"
    counts = answers.counts()
    assert list(counts.index) == list(answers.personas)
    assert (counts.sum(axis=1) == 28_420).all()
    assert counts.loc["loyal_nationals", "A"] == (answers.matrix()["loyal_nationals"] == 0).sum()
    assert "<td>" in answers._repr_html_()
