"""What an export of ours says of its tables: whose answers their columns hold. Tables from elsewhere say nothing."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fairpp_hf.dataset.origin import Origin, read_origin
from fairpp_hf.dataset.published_files import schema_metadata, table_files
from fairpp_hf.personas import DEFAULT_PERSONA_SET, load_personas
from fairpp_hf.preferences.export_folder import RECORD_KEY
from fairpp_hf.preferences.exports import EXPORT_MANIFEST

_SURVEY = "survey:"
"""How the survey respondent's name begins; the id of its persona set follows."""


class Export(NamedTuple):
    """The record of tables that `fairpp export` wrote."""

    where: Path
    """The manifest, or a Parquet file that has the record in its metadata."""
    record: Mapping[str, Any]
    """The manifest; in a Parquet file, its `personas`, `persona_set` and `origin`."""
    personas: tuple[str, ...]
    """Id of the persona of each role, in their order."""

    def origin(self) -> Origin:
        """Where the answers were first given; see `read_origin`."""
        if self.where.name == EXPORT_MANIFEST:
            return read_origin(self.where)
        # No hand edits this one.
        origin = self.record["origin"]
        return Origin(**{**origin, "notes": tuple(origin["notes"])})

    def check_unchanged(self, files: Iterable[Path]) -> None:
        """Refuse files that the manifest does not list, or lists with another digest: they may be other personas'.

        Raises:
            ValueError: there is such a file.
        """
        if self.where.name != EXPORT_MANIFEST:
            return
        listed = {str(file["path"]): file for file in self.record["files"]}
        for file in files:
            known = listed.get(file.relative_to(self.where.parent).as_posix())
            if known is None:
                problem = "which it does not list"
            # Of a record made by hand, nothing is known but the roles.
            elif "sha256" in known and known["sha256"] != hashlib.sha256(file.read_bytes()).hexdigest():
                problem = "which was changed since"
            else:
                continue
            raise ValueError(
                f"The files of an export must be those that its {EXPORT_MANIFEST} lists; got {file}, {problem}. Whose "
                "answers its columns hold cannot be told. Put the original file back, or export the answers again with "
                "`fairpp export`."
            )


def read_export(path: Path) -> Export | None:
    """The record of the export that tables belong to: the manifest's, or that in the files themselves without one.

    Args:
        path: a CSV or Parquet file, or a folder.

    Returns:
        None where there is no `fairpp_export.json` in the folder, or beside the file one that lists it, and no Parquet file
        that was exported.

    Raises:
        ValueError: the record does not say whose answers these are, or the files of a folder have different ones.
    """
    manifest = (path if path.is_dir() else path.parent) / EXPORT_MANIFEST
    if manifest.is_file():
        try:
            tree = json.loads(manifest.read_bytes())
            listed = {str(file["path"]) for file in tree["files"]}
            personas = tree["personas"]
        except (ValueError, KeyError, TypeError) as error:
            raise _unclear(f"{type(error).__name__} ({error})", manifest) from error
        if path.is_dir() or path.name in listed:
            if not _are_ids(personas):
                raise _unclear(json.dumps(personas), manifest)
            return Export(manifest, tree, tuple(personas))
    return _embedded(path)


def _embedded(path: Path) -> Export | None:
    """The record in the metadata of a Parquet file, or the one that all files of a folder have."""
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
        personas, _ = tree["personas"], tree["origin"]["notes"]
    except (ValueError, KeyError, TypeError) as error:
        raise _unclear(f"{type(error).__name__} ({error})", files[0]) from error
    if not _are_ids(personas):
        raise _unclear(json.dumps(personas), files[0])
    return Export(files[0], tree, tuple(personas))


def _are_ids(personas: Any) -> bool:
    return (
        isinstance(personas, list)
        and len(personas) > 0
        and all(isinstance(persona, str) and persona for persona in personas)
        and len(set(personas)) == len(personas)
    )


def _unclear(got: str, where: Path) -> ValueError:
    return ValueError(
        "The record of an export must list its files and, under personas, a different persona id for each role; got "
        f"{got} at {where}. Whose answers the columns hold cannot be told without. Export the answers again with "
        "`fairpp export`."
    )


def role_personas(path: Path) -> tuple[str, ...]:
    """Ids of the personas whose answers tables hold, in the order of the roles.

    Those that an export of ours records; otherwise the seven of `britains_choice_2020`, which numbered the published
    columns.

    Raises:
        ValueError: as `read_export` does.
    """
    export = read_export(path)
    return load_personas().ids if export is None else export.personas


def without_record(model: str, path: Path) -> list[str]:
    """What to note of tables without a record, by the name of the model in their columns.

    The survey respondent's name says that an export of ours lost its record, and whose answers it has.

    Raises:
        ValueError: they are those of another persona set than the one that is assumed.
    """
    if not model.startswith(_SURVEY):
        return []
    name = model.removeprefix(_SURVEY)
    if name != DEFAULT_PERSONA_SET:
        raise ValueError(
            f"An export of answers for another persona set than {DEFAULT_PERSONA_SET} must have its {EXPORT_MANIFEST} "
            f"beside it, which lists the file; got columns of {model!r} without at {path}. They would be read under the "
            f"names of other personas. Keep {EXPORT_MANIFEST} and the Parquet files as they were exported, or export again "
            "with `fairpp export`."
        )
    return [
        f"No {EXPORT_MANIFEST} lists these tables of {model!r}: their roles are taken for the personas of "
        f"{DEFAULT_PERSONA_SET} in their order, and their licence for that of the published tables."
    ]
