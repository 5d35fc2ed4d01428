"""The files of tables: found whatever they and their folders are called, and refused in one line."""

import re
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from published_tables import published_row, write_published, write_table
from small_runs import some_questions

from fairpp_hf.dataset.published_files import TableFile, column_names, is_table_source, read_columns, table_files
from fairpp_hf.dataset.sources import load_answers

ROWS = [published_row(question, raw=False) for question in some_questions(3, 0).to_pylist()]
GIVE = "Give the CSV or Parquet file itself as answers."


@pytest.mark.parametrize(("name", "split"), [("TRAIN.CSV", None), ("test.Parquet", "test")])
def test_suffixes_in_capitals(name: str, split: str | None, tmp_path: Path) -> None:
    small = write_table(ROWS, tmp_path / "small" / name.lower())
    (tmp_path / "capital").mkdir()
    file = small.rename(tmp_path / "capital" / name)
    assert is_table_source(file)
    assert is_table_source(tmp_path / "capital")
    assert table_files(tmp_path / "capital") == table_files(file) == [TableFile(file, split)]
    assert len(load_answers(tmp_path / "capital").questions) == len(load_answers(file).questions) == 3


@pytest.mark.parametrize("name", ["v[1]*", "a?b", "**", "train{1,2}", "[!x]"])
def test_folders_whose_names_look_like_patterns(name: str, tmp_path: Path) -> None:
    folder = write_published(tmp_path / name / "tables")
    data = folder / "data"
    assert table_files(folder) == [
        TableFile(data / "train-00000-of-00001.parquet", "train"),
        TableFile(data / "test-00000-of-00001.parquet", "test"),
    ]
    assert load_answers(folder).is_test.sum() == 10
    # The folder itself as well.
    folder = write_published(tmp_path / "below" / name)
    assert [file.split for file in table_files(folder)] == ["train", "test"]


@pytest.mark.parametrize("name", ["tables.py", "notes.json", "more.jsonl", "data/README.txt"])
def test_other_files_beside_the_tables(name: str, tmp_path: Path) -> None:
    """`load_dataset` would refuse a folder with a script of its name, and may take notes for the data."""
    folder = write_published(tmp_path / "tables")
    expected = table_files(folder)
    (folder / name).write_text("{}")
    assert table_files(folder) == expected


@pytest.mark.parametrize(
    ("card", "problem"),
    [
        ("---\na: [1\n---\n", "while parsing a flow sequence in "),
        ("---\n- a\n---\n", "repo card metadata block "),
        ("---\nconfigs:\n- config_name: x\n  data_files: none.csv\n---\n", "Unable to find '{folder}/none.csv'"),
        ("---\nlicense: \xe9\n---\n", "'utf-8' codec can't decode byte 0xe9"),
    ],
)
def test_a_card_that_cannot_be_used(card: str, problem: str, tmp_path: Path) -> None:
    folder = write_table(ROWS, tmp_path / "folder" / "train.csv").parent
    (folder / "README.md").write_bytes(card.encode("latin-1"))
    rule = f"A folder of published tables must hold one dataset that load_dataset can find; got {folder}: "
    start = re.escape(rule + problem.format(folder=folder))
    with pytest.raises(ValueError, match=f"^{start}[^\n]*\\. {re.escape(GIVE)}$") as error:
        table_files(folder)
    assert "fairpp-names" not in str(error.value)


def test_tables_that_load_dataset_does_not_see(tmp_path: Path) -> None:
    write_table(ROWS, tmp_path / ".hidden" / "train.csv")
    message = (
        f"A folder of published tables must hold one dataset that load_dataset can find; got {tmp_path}: The directory at "
        f"{tmp_path} doesn't contain any data files. {GIVE}"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        table_files(tmp_path)


def spoil_start(content: bytes) -> bytes:
    return content[:200] + b"x" * 60 + content[260:]


def spoil_footer(content: bytes) -> bytes:
    """Thrift, which the end of a Parquet file is, says much when it cannot be read."""
    size = int.from_bytes(content[-8:-4], "little")
    return content[: -8 - size] + b"\xff" * size + content[-8:]


@pytest.mark.parametrize("spoil", [spoil_start, spoil_footer, lambda content: content[:5000]])
def test_spoilt_files_are_told_in_one_line(spoil: Callable[[bytes], bytes], tmp_path: Path) -> None:
    rows = [published_row(question) for question in some_questions().to_pylist()]
    file = write_table(rows, tmp_path / "t.parquet")
    names = pq.read_schema(file).names
    file.write_bytes(spoil(file.read_bytes()))
    rule = re.escape(f"A table must be a readable Parquet file; got {file}: ")
    ending = re.escape(". Download or export it again (CSV as UTF-8, with commas).")
    with pytest.raises(ValueError, match=f"^{rule}[^\n]+[^.]{ending}$"):
        read_columns(file, names)
    with pytest.raises(ValueError, match=f"^{rule}[^\n]+[^.]{ending}$"):
        load_answers(file)
    if spoil is not spoil_start:
        with pytest.raises(ValueError, match=f"^{rule}[^\n]+[^.]{ending}$"):
            column_names(file)
