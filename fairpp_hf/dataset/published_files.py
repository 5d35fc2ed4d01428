"""The files of tables in the published shape: found on the Hub, in its cache or on this machine, and read.

A file that `fairpp export` wrote says in its metadata whose answers its columns hold, and on what terms.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
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

from fairpp_hf.personas import DEFAULT_PERSONA_SET
from fairpp_hf.provenance import Provenance

PUBLISHED_REPO = "tools-o/Fair-PP"
SCENARIOS_REPO = "tools-o/Fair-PP-simulation"

_SUFFIXES = (".csv", ".parquet")
_SPLIT_IN_NAME = re.compile(r"(?:^|[-._ /])(train|test)(?=[-._ /])")


EXPORT_MANIFEST = "fairpp_export.json"
"""Beside the exported files: what they hold and where it came from."""

RECORD_KEY = b"fairpp_export"
"""In the metadata of each exported Parquet file's schema: `personas` and `provenance`, as JSON. A file may be copied, and a
wide one does not say in its columns whose answers they hold, nor on what terms."""

_PARSE = pacsv.ParseOptions(newlines_in_values=True)


class TableFile(NamedTuple):
    """A file of a table."""

    path: Path
    split: str | None
    """`"train"` or `"test"`; None where the name does not say."""
    columns: tuple[str, ...]


def download_tables(repo: str, revision: str | None = None) -> Path:
    """Download a dataset's CSV and Parquet files, or find them in the cache of the Hub.

    Args:
        repo: Id of a dataset on the Hub.
        revision: Branch, tag or commit, `main` by default. Offline, a branch means what it meant at the last download.

    Returns:
        Folder in the cache, named after the commit, with all these files.

    Raises:
        ValueError: The dataset has no such revision.
        OSError: The files can neither be downloaded nor found in the cache.
    """
    revision = "main" if revision is None else revision
    rule = f"answers='published' must find the dataset {repo} at revision {revision!r}"
    local = "or download its files by other means and give their folder as answers"
    try:
        folder = snapshot_download(
            repo, repo_type="dataset", revision=revision, allow_patterns=[f"*{suffix}" for suffix in _SUFFIXES]
        )
        # Without this listing of the commit, any file that another download left would be taken for the whole when the Hub
        # does not answer.
        get_cached_repo_tree(repo, repo_type="dataset", revision=Path(folder).name)
    except (RevisionNotFoundError, HFValidationError) as error:
        raise ValueError(
            f"published_revision must be a branch, tag or commit of the dataset {repo}; got {revision!r}, which it does not "
            "have. Leave it out for the newest."
        ) from error
    except (GatedRepoError, RepositoryNotFoundError) as error:
        refused = isinstance(error, GatedRepoError)
        raise (PermissionError if refused else FileNotFoundError)(
            f"{rule}; got {'a refusal' if refused else 'no such dataset on the Hub'} (status {error.response.status_code}). "
            f"If you have access, log in with `hf auth login`, {local}."
        ) from error
    except (LocalEntryNotFoundError, CachedRepoTreeNotFoundError, OSError, HTTPError) as error:
        raise ConnectionError(
            f"{rule} on the Hub or whole in its cache; got neither: {_cause(error)}. Try again with a network (and without "
            f"HF_HUB_OFFLINE), which goes on where a download stopped, {local}."
        ) from error
    return Path(folder)


def _cause(error: BaseException) -> str:
    """What lies at the bottom of an error, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__} ({lines[0].rstrip('.')})" if lines else type(error).__name__


def is_table_source(path: Path) -> bool:
    """Whether a path is a CSV or Parquet file, or a folder with some in it, at any depth."""
    return bool(_paths(path))


def _paths(path: Path) -> list[Path]:
    """The files of a table, sorted."""
    return sorted(file for file in (path.rglob("*") if path.is_dir() else [path]) if file.suffix in _SUFFIXES)


def table_files(path: Path) -> list[TableFile]:
    """The CSV and Parquet files at or below a path, training ones first; a split is read off a file's name or folder."""
    found = []
    for file in _paths(path):
        match = _SPLIT_IN_NAME.search(file.relative_to(path).as_posix() if path.is_dir() else file.name)
        found.append(TableFile(file, match[1] if match else None, tuple(_schema(file).names)))
    if len({file.split is None for file in found}) > 1:
        unclear = next(file.path for file in found if file.split is None)
        raise ValueError(
            f"Files of published tables must all have train or test in their name, or none of them; got {unclear} beside "
            "others that do. Rename it, or give one file as answers."
        )
    return sorted(found, key=lambda file: (file.split == "test", file.path))


def tables_fingerprint(path: Path) -> str:
    """Digest of the files of a table and of their names, which tell their splits: 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for file in _paths(path):
        name = file.relative_to(path).as_posix() if path.is_dir() else file.name
        digest.update(f"{name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\0".encode())
    return digest.hexdigest()


def _schema(file: Path) -> pa.Schema:
    try:
        if file.suffix == ".parquet":
            return pq.read_schema(file)
        with pacsv.open_csv(file, parse_options=_PARSE) as lines:
            return lines.schema
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(file, error) from error


def read_columns(file: Path, types: dict[str, pa.DataType]) -> pa.Table:
    """Some columns of a file, cast to types; in a CSV file, nothing between two commas is null."""
    names: Sequence[str] = list(types)
    try:
        if file.suffix == ".parquet":
            # By itself: a path with a `=` in it would otherwise give a column.
            with pq.ParquetFile(file) as parquet:
                return parquet.read(names).select(names).cast(pa.schema(types.items()))
        convert = pacsv.ConvertOptions(
            include_columns=names, column_types=types, null_values=[""], strings_can_be_null=True
        )
        return pacsv.read_csv(file, parse_options=_PARSE, convert_options=convert)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> ValueError:
    return ValueError(
        "A published table must be a readable CSV file (UTF-8, with commas) or Parquet file, with numbers in Perspective "
        f"and in the columns of answers; got {file}: {' '.join(str(error).split()).rstrip('.')}. Download or export it "
        "again."
    )


# Exports of ours


class Export(NamedTuple):
    """The record of tables that `fairpp export` wrote."""

    personas: tuple[str, ...]
    """Id of the persona of each role, in their order."""
    provenance: Provenance


def read_export(path: Path) -> Export | None:
    """The record of the export that the tables at a path belong to; None where no file was exported by us."""
    files = [file.path for file in table_files(path)]
    records = [(_schema(file).metadata or {}).get(RECORD_KEY) for file in files]
    for file, record in zip(files, records, strict=True):
        if record != records[0]:
            raise ValueError(
                f"Tables in one folder must be of one export, or of none; got {files[0]} and {file}, of which the records "
                "differ. Whose answers their columns hold would differ as well. Move one of them to another folder."
            )
    if records[0] is None:
        return None
    try:
        tree = json.loads(records[0])
        personas, provenance = tree["personas"], tree["provenance"]
        got = json.dumps(personas)[:200]
    except (ValueError, KeyError, TypeError) as error:
        personas, provenance, got = [], None, repr(error)
    named = isinstance(personas, list) and all(isinstance(name, str) and name for name in personas)
    if not named or not personas or len(set(personas)) < len(personas):
        # Under the names of other personas, answers would be worse than none.
        raise ValueError(
            "The record of an export must have a provenance and, under personas, a different persona id for each role; got "
            f"{got} in {files[0]}. Whose answers the columns hold cannot be told. Export the answers again with `fairpp "
            "export`."
        )
    return Export(tuple(personas), Provenance.from_dict(provenance, files[0]))


def check_unrecorded(model: str, path: Path) -> str:
    """Refuse tables that lost the record of an export: their roles would be read as other personas.

    Returns:
        A sentence on what is assumed of the survey respondent's answers; empty for other models, whose tables are taken
        for the published ones.
    """
    manifest = (path if path.is_dir() else path.parent) / EXPORT_MANIFEST
    other_set = model.startswith("survey:") and model != f"survey:{DEFAULT_PERSONA_SET}"
    if manifest.is_file() or other_set:
        raise ValueError(
            "The files of an export must have the record that they were written with; got none in "
            f"{path} with columns of {model!r}. Whose answers the columns hold cannot be told. Put the original Parquet "
            "file back, or export the answers again with `fairpp export`."
        )
    if not model.startswith("survey:"):
        return ""
    return (
        f"No record of an export is in these tables of {model!r}: their roles are taken for the personas of "
        f"{DEFAULT_PERSONA_SET} in their order, and their licence for that of the published tables."
    )
