"""The files of the published tables: found on the Hub, in its cache or on this machine, and read."""

import csv
import hashlib
import logging
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import yaml
from datasets import load_dataset_builder
from huggingface_hub import get_cached_repo_tree, snapshot_download
from huggingface_hub.errors import (
    CachedRepoTreeNotFoundError,
    GatedRepoError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

logger = logging.getLogger(__name__)

PUBLISHED_REPO = "tools-o/Fair-PP"
SCENARIOS_REPO = "tools-o/Fair-PP-simulation"

_SUFFIXES = (".csv", ".parquet")
_CARD = "README.md"
_SPLIT_IN_NAME = re.compile(
    r"(?:^|[-._ 0-9/])(?:(?P<train>train|training)|(?P<test>test|testing|eval|evaluation))(?=[-._ 0-9/])"
)
"""As `datasets` sees a split in a file's name."""


@lru_cache
def say_once(path: Path, sentence: str) -> None:
    """Once in the log of a process, however often the tables at a path are loaded."""
    logger.warning("Published tables of %s: %s", _shown(path), sentence)


def _shown(path: Path) -> str:
    """Dataset and commit of a folder in the cache of the Hub, whose path is long; other paths as they are."""
    if path.parent.name != "snapshots":
        return str(path)
    return f"{path.parents[1].name.removeprefix('datasets--').replace('--', '/')} at commit {path.name[:12]}"


class TableFile(NamedTuple):
    """A file of a table."""

    path: Path
    split: str | None
    """`"train"` or `"test"`; None where nothing says so."""


def download_tables(repo: str, revision: str | None = None) -> Path:
    """Download a dataset's card, CSV and Parquet files, or find them in the cache of the Hub.

    Args:
        repo: id of a dataset on the Hub.
        revision: branch, tag or commit, `main` by default. Offline, a branch means what it meant at the last download.

    Returns:
        Folder in the cache, named after the commit, with all these files of the commit.

    Raises:
        ValueError: the dataset has no such revision.
        OSError: the files can neither be downloaded nor found in the cache.
    """
    revision = "main" if revision is None else revision
    rule = f"answers='published' must find the dataset {repo} at revision {revision!r}"
    local = "or download its files by other means and give their folder as answers"
    again = f"Load it once with a network (and without HF_HUB_OFFLINE), {local}"
    try:
        folder = snapshot_download(
            repo,
            repo_type="dataset",
            revision=revision,
            allow_patterns=[_CARD, *(f"*{suffix}" for name in _SUFFIXES for suffix in (name, name.upper()))],
        )
        # Beside a listing of the commit, which it leaves there itself, it sees what is missing; without one, any file that
        # another download left is taken for the whole when the Hub does not answer.
        get_cached_repo_tree(repo, repo_type="dataset", revision=Path(folder).name)
    except CachedRepoTreeNotFoundError as error:
        raise ConnectionError(
            f"{rule} on the Hub or whole in its cache; got files there of which nothing says "
            f"that they are all, and no answer from the Hub. {again}."
        ) from error
    except (RevisionNotFoundError, HFValidationError) as error:
        raise ValueError(
            f"published_revision must be a branch, tag or commit of the dataset {repo}; got {revision!r}, which it does not "
            "have. Leave it out for the newest."
        ) from error
    except GatedRepoError as error:
        raise PermissionError(
            f"{rule}; got a refusal: it is open only to those whom its authors admit. Ask for access on its page, log in "
            f"with `hf auth login`, {local}."
        ) from error
    except RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f"{rule}; got no such dataset on the Hub (status {error.response.status_code}). It is gone, or private. If you "
            f"have access, log in with `hf auth login`, {local}."
        ) from error
    except LocalEntryNotFoundError as error:
        raise ConnectionError(
            f"{rule} on the Hub or whole in its cache; got neither: {_cause(error)}. {again}."
        ) from error
    except (OSError, HTTPError) as error:
        raise ConnectionError(
            f"{rule}; got an interrupted download: {_cause(error)}. Try again, which goes on where it stopped, {local}."
        ) from error
    return Path(folder)


def _cause(error: BaseException) -> str:
    """What lies at the bottom of an error, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__} ({lines[0].rstrip('.')})" if lines else type(error).__name__


def _in_one_line(error: BaseException) -> str:
    """All of an error's message, for a sentence that goes on after it."""
    return " ".join(str(error).split()).rstrip(".")


def is_table_source(path: Path) -> bool:
    """Whether a path is a CSV or Parquet file, or a folder with some in it, at any depth."""
    if path.is_dir():
        return next(_tables_in(path), None) is not None
    return _is_table(path)


def _is_table(file: Path) -> bool:
    return file.suffix.lower() in _SUFFIXES


def _tables_in(folder: Path) -> Iterator[Path]:
    """The CSV and Parquet files of a folder, at any depth, in no order."""
    return (file for file in folder.rglob("*") if _is_table(file) and file.is_file())


def table_files(path: Path) -> list[TableFile]:
    """The files of a table, in the order of splits and names.

    A folder is read as `load_dataset` would read it: by the configs of its card, otherwise by the names of its files. A
    file by itself has the split that its name has.

    Args:
        path: a CSV or Parquet file, or a folder.

    Returns:
        At least one file. Files of other splits than train and test are left out, and the splits named in the log.

    Raises:
        ValueError: a folder has several configs, or no CSV or Parquet file that belongs to a split.
    """
    if path.is_file():
        return [TableFile(path, _split_in(path.name))]
    data_files = _data_files(path)
    found = {split: sorted(data_files.get(split, ())) for split in ("train", "test")}
    if not any(found.values()):
        raise ValueError(
            f"A folder of published tables must hold CSV or Parquet files for train or test; got none in {path}, where "
            f"load_dataset sees {sorted(data_files)}. Give the CSV or Parquet file itself as answers."
        )
    others = sorted(split for split in data_files if split not in found)
    if others:
        say_once(path, f"Splits other than train and test are left out: {', '.join(map(repr, others))}.")
    # `datasets` calls everything train where no name has a split.
    if not found["test"] and not any(_split_in(file.relative_to(path).as_posix()) for file in found["train"]):
        return [TableFile(file, None) for file in found["train"]]
    return [TableFile(file, split) for split, files in found.items() for file in files]


def _data_files(folder: Path) -> Mapping[str, list[Path]]:
    """The tables of a folder by split, as `load_dataset` sees them.

    It looks at the card and at names alone. These are copied into a scratch folder, since the names of folders above may
    hold what it takes for a pattern, it knows no suffixes in capitals, and other files beside the tables, such as a script,
    make it refuse the folder.
    """
    with tempfile.TemporaryDirectory(prefix="fairpp-names-") as scratch:
        names = Path(scratch).resolve() / "tables"
        names.mkdir()
        if (folder / _CARD).is_file():
            shutil.copyfile(folder / _CARD, names / _CARD)
        tables = {}
        for file in _tables_in(folder):
            name = names / file.relative_to(folder)
            if name.suffix not in _SUFFIXES:
                name = name.with_name(name.name + name.suffix.lower())
            tables[name] = file
            name.parent.mkdir(parents=True, exist_ok=True)
            name.touch()
        try:
            found = load_dataset_builder(str(names)).config.data_files or {}
        except (ValueError, OSError, RuntimeError, yaml.YAMLError) as error:
            raise ValueError(
                f"A folder of published tables must hold one dataset that load_dataset can find; got {folder}: "
                f"{_in_one_line(error).replace(str(names), str(folder))}. Give the CSV or Parquet file itself as answers."
            ) from error
    return {
        str(split): [tables[Path(file)] for file in files if Path(file) in tables] for split, files in found.items()
    }


def _split_in(name: str) -> str | None:
    match = _SPLIT_IN_NAME.search(name)
    return match.lastgroup if match else None


def tables_fingerprint(path: Path) -> str:
    """Digest of the files of a table and of their splits: 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for file, split in table_files(path):
        digest.update(f"{split}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\0".encode())
    return digest.hexdigest()


def snapshot_fingerprint(folder: Path) -> str:
    """Digest of the names and sizes of the files of a commit that a folder of the cache has: 64 hexadecimal digits.

    Contents follow from the commit, but not that they are all there.
    """
    digest = hashlib.sha256()
    for file in sorted((*folder.glob(_CARD), *_tables_in(folder))):
        digest.update(f"{file.relative_to(folder).as_posix()}\0{file.stat().st_size}\0".encode())
    return digest.hexdigest()


def column_names(file: Path) -> list[str]:
    """Names of a file's columns, all different.

    Raises:
        ValueError: the file cannot be read, or two columns have one name.
    """
    if file.suffix.lower() == ".parquet":
        try:
            names = pq.read_schema(file).names
        except (pa.ArrowInvalid, OSError) as error:
            raise _unreadable(file, error) from error
    else:
        try:
            with file.open(encoding="utf-8-sig", newline="") as lines:
                names = next(csv.reader(lines), [])
        except (UnicodeDecodeError, csv.Error) as error:
            raise _unreadable(file, error) from error
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"The columns of a table must have different names; got {', '.join(map(repr, twice))} twice in {file}. Rename "
            "or remove one."
        )
    return names


def schema_metadata(file: Path) -> Mapping[bytes, bytes]:
    """What a Parquet file's schema says besides the columns; empty for a CSV file.

    Raises:
        ValueError: the file cannot be read.
    """
    if file.suffix.lower() != ".parquet":
        return {}
    try:
        return pq.read_schema(file).metadata or {}
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(file, error) from error


def read_columns(file: Path, names: Sequence[str]) -> pa.Table:
    """Some columns of a file; those of a CSV file as texts, nothing between two commas as null.

    Raises:
        ValueError: the file cannot be read.
    """
    try:
        if file.suffix.lower() == ".parquet":
            # By itself: a path with a `=` in it would otherwise give a column, and a dot in a name a nested one.
            with pq.ParquetFile(file) as parquet:
                return parquet.read().select(names)
        return pacsv.read_csv(
            file,
            parse_options=pacsv.ParseOptions(newlines_in_values=True),
            convert_options=pacsv.ConvertOptions(
                include_columns=names,
                column_types=dict.fromkeys(names, pa.string()),
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> ValueError:
    return ValueError(
        f"A table must be a readable {'Parquet' if file.suffix.lower() == '.parquet' else 'CSV'} file; got {file}: "
        f"{_in_one_line(error)}. Download or export it again (CSV as UTF-8, with commas)."
    )
