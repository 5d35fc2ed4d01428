"""What a Parquet file that `fairpp export` wrote says in its metadata: whose answers its columns hold, on what terms."""

import json
from pathlib import Path
from typing import NamedTuple

from fairpp_hf.dataset.published_files import schema_metadata, table_files
from fairpp_hf.personas import DEFAULT_PERSONA_SET
from fairpp_hf.provenance import Provenance

EXPORT_MANIFEST = "fairpp_export.json"
"""Beside the exported files: what they hold and where it came from."""

RECORD_KEY = b"fairpp_export"
"""In the metadata of each exported Parquet file's schema: `personas` and `provenance`, as JSON. A file may be copied, and a
wide one does not say in its columns whose answers they hold, nor on what terms."""


class Export(NamedTuple):
    """The record of tables that `fairpp export` wrote."""

    personas: tuple[str, ...]
    """Id of the persona of each role, in their order."""
    provenance: Provenance


def read_export(path: Path) -> Export | None:
    """The record of the export that tables belong to.

    Args:
        path: A CSV or Parquet file, or a folder.

    Returns:
        None where no file was exported by us.

    Raises:
        ValueError: Files of one folder have different records, or a record does not say whose answers the columns hold.
    """
    files = [file.path for file in table_files(path)]
    records = [schema_metadata(file).get(RECORD_KEY) for file in files]
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
    except (ValueError, KeyError, TypeError) as error:
        raise _unclear(repr(error), files[0]) from error
    named = isinstance(personas, list) and all(isinstance(name, str) and name for name in personas)
    if not named or not personas or len(set(personas)) < len(personas):
        # Under the names of other personas, answers would be worse than none.
        raise _unclear(json.dumps(personas)[:200], files[0])
    return Export(tuple(personas), Provenance.from_dict(provenance, files[0]))


def _unclear(got: str, file: Path) -> ValueError:
    return ValueError(
        "The record of an export must have a provenance and, under personas, a different persona id for each role; got "
        f"{got} in {file}. Whose answers the columns hold cannot be told. Export the answers again with `fairpp export`."
    )


def check_unrecorded(model: str, path: Path) -> str:
    """Refuse tables that lost the record of an export: their roles would be read as other personas.

    Args:
        model: Name of the model in their columns.
        path: A file or folder without a record.

    Returns:
        A sentence on what is assumed of the survey respondent's answers; empty for other models, whose tables are taken
        for the published ones.

    Raises:
        ValueError: An export's manifest lies beside them, or the survey respondent answered for another persona set.
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
