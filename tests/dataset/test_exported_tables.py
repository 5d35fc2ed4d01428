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
from published_tables import write_published

from fairpp_hf.cli import main
from fairpp_hf.dataset.answers import Answers
from fairpp_hf.dataset.published_files import read_export
from fairpp_hf.dataset.sources import load_answers, resolve_answers
from fairpp_hf.personas import load_personas


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
    """As many as the default set has, under other names; also by a file that was copied elsewhere."""
    survey = load_answers(personas="seven_segments_2025")
    wide = export(tmp_path / "wide", personas="seven_segments_2025")
    assert same_answers(load_answers(wide), survey)
    copied = Path(shutil.copy(wide / "train.parquet", tmp_path / "any.parquet"))
    for path in (wide, copied):
        assert load_answers(path).provenance.respondents == ("survey:seven_segments_2025 (simulated)",)
        assert resolve_answers(path).persona_set() == load_personas("seven_segments_2025")


def test_any_number_of_personas_in_any_order(run: Path, reversed_set: Path, tmp_path: Path) -> None:
    backwards = load_answers(export(tmp_path / "backwards", answers=run, personas=reversed_set))
    assert backwards.personas == load_personas().ids[::-1]
    assert same_answers(backwards, load_answers(run, reversed_set))
    hidden = load_answers(export(tmp_path / "hidden", personas="hidden_tribes_2018"))
    assert same_answers(hidden, load_answers(personas="hidden_tribes_2018"))


def test_an_export_of_a_run_keeps_its_provenance(run: Path, tmp_path: Path) -> None:
    """In an export no C stands for a failed call, so that an answer without a reply counts."""
    told, again = load_answers(run), load_answers(export(tmp_path / "wide", answers=run))
    assert same_answers(again, told)
    invalid = sum(int((column < 0).sum()) for column in told.matrix().values())
    assert again.provenance.notes == (
        "These are 40 of the 28,420 questions.",
        f"{invalid} of 280 answers are not valid (empty {invalid}): they are -1.",
    )
    for name in ("kind", "licence", "created", "respondents"):
        assert getattr(again.provenance, name) == getattr(told.provenance, name)
    assert again.provenance.run == json.loads(json.dumps(told.provenance.run))


def test_an_export_of_published_answers_keeps_terms_notes_and_answers(tmp_path: Path) -> None:
    theirs = load_answers(write_published(tmp_path / "theirs"))
    again = load_answers(export(tmp_path / "wide", answers=tmp_path / "theirs", heldout="dimensions"))
    assert same_answers(again, theirs)
    for persona, records in again.records.items():
        assert records["raw_reply"].equals(theirs.records[persona]["raw_reply"])
    assert (again.provenance.licence, again.provenance.source) == ("cc-by-nc-sa-4.0", "theirs")
    assert again.provenance.notes[: len(theirs.provenance.notes)] == theirs.provenance.notes


def test_files_that_lost_their_record_are_refused(run: Path, tmp_path: Path) -> None:
    """Beside the export's manifest, and of the survey respondent for another persona set."""
    wide = export(tmp_path / "wide", answers=run)
    pq.write_table(pq.read_table(wide / "test.parquet").replace_schema_metadata({}), wide / "test.parquet")
    with pytest.raises(ValueError, match=r"^Tables in one folder must be of one export, or of none; got "):
        read_export(wide)
    with pytest.raises(ValueError, match=r"^The files of an export must have the record that they were written with;"):
        load_answers(wide / "test.parquet")
    survey = export(tmp_path / "survey", personas="hidden_tribes_2018")
    pacsv.write_csv(pq.read_table(survey / "train.parquet"), tmp_path / "train.csv")
    with pytest.raises(ValueError, match="with columns of 'survey:hidden_tribes_2018'"):
        load_answers(tmp_path / "train.csv")


@pytest.mark.parametrize(
    ("record", "got"),
    [
        ("{}", "KeyError('personas')"),
        ("{", "JSONDecodeError("),
        ("[]", "TypeError("),
        ('{"personas": ["a", "a"], "provenance": {}}', '["a", "a"]'),
        ('{"personas": [], "provenance": {}}', "[]"),
        ('{"personas": [1], "provenance": {}}', "[1]"),
        ('{"personas": "ab", "provenance": {}}', '"ab"'),
    ],
)
def test_a_record_that_does_not_say_whose_answers_they_are_is_refused(record: str, got: str, tmp_path: Path) -> None:
    """Under the names of other personas, answers would be worse than none."""
    (file, _) = sorted((write_published(tmp_path) / "data").iterdir())
    pq.write_table(pq.read_table(file).replace_schema_metadata({"fairpp_export": record}), tmp_path / "t.parquet")
    with pytest.raises(ValueError, match=re.escape(f"a different persona id for each role; got {got}")):
        load_answers(tmp_path / "t.parquet")


def test_files_of_different_exports_in_one_folder_are_refused(run: Path, reversed_set: Path, tmp_path: Path) -> None:
    """By itself, each keeps its personas, whatever it lies beside and whatever it is called."""
    one, two = export(tmp_path / "one", answers=run), export(tmp_path / "two", answers=run, personas=reversed_set)
    shutil.copyfile(two / "test.parquet", one / "test.parquet")
    with pytest.raises(ValueError, match=r"^Tables in one folder must be of one export, or of none; got "):
        load_answers(one)
    assert load_answers(one / "train.parquet").personas == load_personas().ids
    moved = load_answers((one / "test.parquet").rename(one / "test-mine.parquet"))
    assert moved.personas == load_personas().ids[::-1]
    assert moved.provenance.licence == "cc-by-4.0"


def test_the_default_set_without_a_record_is_assumed_aloud(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whose answers they are cannot be seen in a CSV file, nor on what terms."""
    survey = export(tmp_path / "survey")
    pacsv.write_csv(pq.read_table(survey / "test.parquet"), tmp_path / "test.csv")
    answers = load_answers(tmp_path / "test.csv")
    note = (
        "No record of an export is in these tables of 'survey:britains_choice_2020': their roles are taken for the personas "
        "of britains_choice_2020 in their order, and their licence for that of the published tables."
    )
    assert answers.provenance.notes[0] == note
    assert note in caplog.text
    assert answers.personas == load_personas().ids
    assert answers.provenance.licence == "cc-by-nc-sa-4.0"
