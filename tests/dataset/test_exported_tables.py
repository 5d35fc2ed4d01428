"""Wide exports of ours come back as what they were: the personas, their set, and where the answers came from."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from published_tables import MODEL, published_row, write_published, write_table
from small_runs import make_run, some_questions

from fairpp_hf.cli import main
from fairpp_hf.dataset import published_files, sources
from fairpp_hf.dataset.answers import Answers
from fairpp_hf.dataset.exported_tables import Export, read_export, role_personas
from fairpp_hf.dataset.sources import load_answers, resolve_answers, source_origin, source_personas
from fairpp_hf.personas import load_personas

MANIFEST = "fairpp_export.json"


@pytest.fixture(autouse=True)
def fresh_log() -> None:
    published_files.say_once.cache_clear()
    sources.show_licence()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def reversed_set(tmp_path: Path) -> Path:
    """The default set's personas from the last to the first."""
    tree = load_personas().as_dict()
    del tree["id"]
    tree["personas"].reverse()
    (tmp_path / "backwards.json").write_text(json.dumps(tree))
    return tmp_path / "backwards.json"


def export(out: Path, **options: Any) -> Path:
    """`fairpp export --format wide`."""
    given = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    assert main(["export", "--format", "wide", "--out", str(out), *given]) == 0
    return out


def same_answers(one: Answers, other: Answers) -> bool:
    return one.personas == other.personas and all(
        np.array_equal(column, other.matrix()[persona]) for persona, column in one.matrix().items()
    )


def test_personas_of_another_set_come_back(tmp_path: Path) -> None:
    """As many as the default set has, under other names."""
    survey = load_answers(personas="seven_segments_2025")
    wide = export(tmp_path / "wide", personas="seven_segments_2025")
    assert role_personas(wide) == load_personas("seven_segments_2025").ids
    for path in (wide, wide / "train.parquet"):
        again = load_answers(path)
        assert again.personas == survey.personas
        assert again.respondents == ("survey:seven_segments_2025 (simulated)",)
        assert source_personas(resolve_answers(path)) == load_personas("seven_segments_2025")
    assert same_answers(load_answers(wide), survey)


def test_any_number_of_personas_in_any_order(run: Path, reversed_set: Path, tmp_path: Path) -> None:
    backwards = load_answers(export(tmp_path / "backwards", answers=run, personas=reversed_set))
    assert backwards.personas == load_personas().ids[::-1]
    assert same_answers(backwards, load_answers(run, reversed_set))

    hidden = load_answers(export(tmp_path / "hidden", personas="hidden_tribes_2018"))
    assert same_answers(hidden, load_answers(personas="hidden_tribes_2018"))

    # Ten roles, of which the last has two digits.
    ids = [f"persona_{number}" for number in range(1, 11)]
    rows = [published_row(question, raw=False) for question in some_questions().to_pylist()]
    for row in rows:
        row |= {f"{MODEL}_role_{number}_answer": (number + row["weight"]) // 1 % 3 for number in range(1, 11)}
    write_table(rows, tmp_path / "ten" / "train.parquet")
    (tmp_path / "ten" / MANIFEST).write_text(json.dumps({"personas": ids, "files": [{"path": "train.parquet"}]}))
    answers = load_answers(tmp_path / "ten")
    assert {persona: set(column.tolist()) for persona, column in answers.matrix().items()} == {
        persona: {number % 3} for number, persona in enumerate(ids, start=1)
    }


def test_roles_beyond_those_recorded_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Two personas of an export; seven without one, whatever other roles there are."""
    rows = [published_row(question, raw=False) for question in some_questions(3, 0).to_pylist()]
    path = write_table([row | {"other_role_8_answer": 0} for row in rows], tmp_path / "train.parquet")
    assert load_answers(path).personas == load_personas().ids
    assert "'other_role_8_answer'" in caplog.text
    (tmp_path / MANIFEST).write_text(json.dumps({"personas": ["a", "b"], "files": [{"path": "train.parquet"}]}))
    caplog.clear()
    published_files.say_once.cache_clear()
    assert load_answers(path).personas == ("a", "b")
    assert f"'{MODEL}_role_3_answer'" in caplog.text
    ids = ["a", "b", *"cdefgh"]
    (tmp_path / MANIFEST).write_text(json.dumps({"personas": ids, "files": [{"path": "train.parquet"}]}))
    message = (
        "A published table must have role columns of one model; got those of 'gpt-4o-mini', 'other' in "
        f"{path}. Which of them answered cannot be told. Remove the others' columns."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load_answers(path)


def test_the_record_beside_a_file_counts_if_it_lists_it(run: Path, tmp_path: Path) -> None:
    """An export of a run is under our licence, also by its file; a table that lies beside it is not of the export."""
    wide = export(tmp_path / "wide", answers=run)
    origin = load_answers(run).origin
    for path in (wide, wide / "train.parquet", wide / "test.parquet"):
        loaded = load_answers(path)
        assert (loaded.origin.kind, loaded.origin.licence, loaded.origin.answered_on) == (
            "run",
            "cc-by-4.0",
            origin.answered_on,
        )
        assert source_origin(resolve_answers(path)) == origin
        assert load_dataset("fairpp", answers=str(path))[loaded.splits()[0]].info.license == "cc-by-4.0"
    shutil.copyfile(write_published(tmp_path / "theirs") / "data/train-00000-of-00001.parquet", wide / "other.parquet")
    assert read_export(wide / "other.parquet") is None
    assert source_origin(resolve_answers(wide / "other.parquet")).licence == "cc-by-nc-sa-4.0"


def test_an_export_of_published_answers_keeps_terms_notes_and_answers(tmp_path: Path) -> None:
    """Of its two files, one has replies. All are in one file afterwards: answers without a reply must not be lost."""
    write_published(tmp_path / "theirs")
    rows = [published_row(question, raw=False) for question in some_questions(train=0).to_pylist()]
    write_table(rows, tmp_path / "theirs" / "data" / "test-00000-of-00001.parquet")
    theirs = load_answers(tmp_path / "theirs")
    wide = export(tmp_path / "wide", answers=tmp_path / "theirs", heldout="dimensions")
    again = load_answers(wide)
    assert same_answers(again, theirs)
    for persona, records in again.records.items():
        assert records["raw_reply"].equals(theirs.records[persona]["raw_reply"])
    assert (again.origin.licence, again.origin.repo) == ("cc-by-nc-sa-4.0", "theirs")
    assert again.origin.notes[: len(theirs.origin.notes)] == theirs.origin.notes
    assert len(set(again.origin.notes)) == len(again.origin.notes)


def test_in_an_export_no_c_stands_for_a_failed_call(run: Path, tmp_path: Path) -> None:
    notes = load_answers(export(tmp_path / "wide", answers=run)).origin.notes
    invalid = sum(int((column < 0).sum()) for column in load_answers(run).matrix().values())
    assert notes == (
        "These are 40 of the 28,420 questions.",
        f"{invalid} of 280 answers are not valid (empty {invalid}): they are -1.",
    )


def test_a_set_that_is_not_known(run: Path, tmp_path: Path) -> None:
    wide = export(tmp_path / "wide", answers=run)
    assert source_personas(resolve_answers(wide)) == load_personas()
    tree = json.loads((wide / MANIFEST).read_text("utf-8"))
    before = resolve_answers(wide).fingerprint()
    (wide / MANIFEST).write_text(json.dumps(tree | {"persona_set": None}))
    source = resolve_answers(wide)
    assert source_personas(source) is None
    assert source_personas(source, "britains_choice_2020") == load_personas()
    assert source.fingerprint() != before


@pytest.mark.parametrize(
    ("record", "got"),
    [
        ('{"personas": ["a", "a"], "files": [{"path": "t.parquet"}]}', '["a", "a"]'),
        ('{"personas": [], "files": [{"path": "t.parquet"}]}', "[]"),
        ('{"personas": [1], "files": [{"path": "t.parquet"}]}', "[1]"),
        ('{"personas": "ab", "files": [{"path": "t.parquet"}]}', '"ab"'),
        ('{"files": []}', "KeyError ('personas')"),
        ('{"personas": ["a"]}', "KeyError ('files')"),
        ("{", "JSONDecodeError (Expecting property name enclosed in double quotes: line 1 column 2 (char 1))"),
        ("[]", "TypeError (list indices must be integers or slices, not str)"),
    ],
)
def test_a_record_that_says_nothing_of_personas(record: str, got: str, tmp_path: Path) -> None:
    """Under the names of other personas, answers would be worse than none."""
    path = write_table([published_row(some_questions(1, 0).to_pylist()[0])], tmp_path / "t.parquet")
    (tmp_path / MANIFEST).write_text(record)
    message = (
        "The record of an export must list its files and, under personas, a different persona id for each role; got "
        f"{got} at {tmp_path / MANIFEST}. Whose answers the columns hold cannot be told without. Export the answers again "
        "with `fairpp export`."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load_answers(path)


def test_what_is_read_of_a_record(tmp_path: Path) -> None:
    record = {"personas": ["b", "a"], "files": [{"path": "t.csv"}]}
    (tmp_path / MANIFEST).write_text(json.dumps(record))
    for path in (tmp_path, tmp_path / "t.csv"):
        (tmp_path / "t.csv").touch()
        assert read_export(path) == Export(tmp_path / MANIFEST, record, ("b", "a"))


# Away from the manifest


def refused(message: str) -> Any:
    return pytest.raises(ValueError, match=f"^{re.escape(message)}$")


def as_csv(parquet: Path, csv: Path) -> Path:
    csv.parent.mkdir(exist_ok=True)
    table = pq.read_table(parquet)
    pacsv.write_csv(table, csv)
    return csv


def survey_table(model: str, path: Path) -> Path:
    """A row of answers of all seven roles, as an export has them that was saved as something else."""
    return write_table([published_row(some_questions(1, 0).to_pylist()[0], model, raw=False)], path)


def test_a_copied_or_renamed_file_keeps_its_personas_and_terms(run: Path, reversed_set: Path, tmp_path: Path) -> None:
    """Roles from the last persona to the first: by number, each answer would be another persona's."""
    wide = export(tmp_path / "wide", answers=run, personas=reversed_set)
    expected, origin = load_answers(run, reversed_set), load_answers(wide).origin
    persona_set = source_personas(resolve_answers(wide))
    copied = tmp_path / "copied"
    copied.mkdir()
    for split in ("train", "test"):
        shutil.copyfile(wide / f"{split}.parquet", copied / f"{split}.parquet")
    assert same_answers(load_answers(copied), expected)
    assert load_answers(copied).origin == origin
    (wide / "train.parquet").rename(wide / "train-mine.parquet")
    for path in (copied, copied / "test.parquet", wide / "train-mine.parquet"):
        assert role_personas(path) == load_personas().ids[::-1]
        source = resolve_answers(path)
        assert source_origin(source)._replace(notes=()) == origin._replace(notes=())
        assert source_personas(source) == persona_set
        assert source.fingerprint() == resolve_answers(path).fingerprint()
        loaded = load_dataset("fairpp", answers=str(path))
        assert next(iter(loaded.values())).info.license == "cc-by-4.0"


def test_files_of_different_exports_in_one_folder(run: Path, reversed_set: Path, tmp_path: Path) -> None:
    one, two = export(tmp_path / "one", answers=run), export(tmp_path / "two", answers=run, personas=reversed_set)
    both = tmp_path / "both"
    both.mkdir()
    shutil.copyfile(one / "train.parquet", both / "train.parquet")
    shutil.copyfile(two / "test.parquet", both / "test.parquet")
    message = (
        f"Tables in one folder must be of one export, or of none; got {both / 'train.parquet'} and {both / 'test.parquet'}, "
        "of which the records differ. Whose answers their columns hold would differ as well. Move one of them to another "
        "folder."
    )
    with refused(message):
        load_answers(both)


def test_a_spoilt_record_in_a_file(tmp_path: Path) -> None:
    path = survey_table("m", tmp_path / "t.parquet")
    table = pq.read_table(path)
    rule = "The record of an export must list its files and, under personas, a different persona id for each role; got "
    for record, got in (
        ("{}", "KeyError ('personas')"),
        ('{"personas": ["a", "a"], "origin": {"notes": []}}', '["a", "a"]'),
    ):
        pq.write_table(table.replace_schema_metadata({"fairpp_export": record}), path)
        with refused(
            f"{rule}{got} at {path}. Whose answers the columns hold cannot be told without. Export the answers again with "
            "`fairpp export`."
        ):
            load_answers(path)


def test_another_set_without_a_record_is_refused(tmp_path: Path) -> None:
    """Seven personas, as many as the default set has."""
    wide = export(tmp_path / "wide", personas="seven_segments_2025")
    for path in (
        as_csv(wide / "test.parquet", wide / "test-mine.csv"),
        as_csv(wide / "test.parquet", tmp_path / "elsewhere" / "test.csv"),
        survey_table("survey:hidden_tribes_2018", tmp_path / "t.parquet"),
    ):
        model = "survey:hidden_tribes_2018" if path.name == "t.parquet" else "survey:seven_segments_2025"
        with refused(
            "An export of answers for another persona set than britains_choice_2020 must have its fairpp_export.json beside "
            f"it, which lists the file; got columns of {model!r} without at {path}. They would be read under the names of "
            "other personas. Keep fairpp_export.json and the Parquet files as they were exported, or export again with "
            "`fairpp export`."
        ):
            load_answers(path)


def test_the_default_set_without_a_record_is_assumed_aloud(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    note = (
        "No fairpp_export.json lists these tables of 'survey:britains_choice_2020': their roles are taken for the personas "
        "of britains_choice_2020 in their order, and their licence for that of the published tables."
    )
    answers = load_answers(survey_table("survey:britains_choice_2020", tmp_path / "train.csv"))
    assert answers.personas == load_personas().ids
    assert answers.origin.licence == "cc-by-nc-sa-4.0"
    assert answers.origin.notes[0] == note
    assert note in caplog.text
    assert not any("fairpp_export" in line for line in load_answers(survey_table("m", tmp_path / "m.csv")).origin.notes)


def test_a_file_put_over_another_is_refused(run: Path, reversed_set: Path, tmp_path: Path) -> None:
    """By the file and by the folder; also where the file itself says whose answers it holds."""
    wide = export(tmp_path / "wide", answers=run)
    other = export(tmp_path / "other", answers=run, personas=reversed_set)
    shutil.copyfile(other / "test.parquet", wide / "test.parquet")
    message = (
        "The files of an export must be those that its fairpp_export.json lists; got {}, {}. Whose answers its columns hold "
        "cannot be told. Put the original file back, or export the answers again with `fairpp export`."
    )
    for path in (wide, wide / "test.parquet"):
        with refused(message.format(wide / "test.parquet", "which was changed since")):
            load_answers(path)
    assert load_answers(wide / "train.parquet").personas == load_personas().ids
    # Without a card, names alone say what belongs to a folder.
    (other / "README.md").unlink()
    (other / "test.parquet").rename(other / "test-mine.parquet")
    with refused(message.format(other / "test-mine.parquet", "which it does not list")):
        load_answers(other)
