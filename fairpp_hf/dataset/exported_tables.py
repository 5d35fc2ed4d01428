"""What an export of ours says of its tables: whose answers their columns hold. Tables from elsewhere say nothing."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from fairpp_hf.personas import load_personas
from fairpp_hf.preferences.exports import EXPORT_MANIFEST


class Export(NamedTuple):
    """The record beside tables that `fairpp export` wrote."""

    manifest: Path
    personas: tuple[str, ...]
    """Id of the persona of each role, in their order."""


def read_export(path: Path) -> Export | None:
    """The record of the export that tables belong to.

    Args:
        path: a CSV or Parquet file, or a folder.

    Returns:
        None where there is no `fairpp_export.json` in the folder, or beside the file one that lists it.

    Raises:
        ValueError: the record does not say whose answers these are.
    """
    manifest = (path if path.is_dir() else path.parent) / EXPORT_MANIFEST
    if not manifest.is_file():
        return None
    try:
        tree = json.loads(manifest.read_bytes())
        listed = {str(file["path"]) for file in tree["files"]}
        personas = tree["personas"]
    except (ValueError, KeyError, TypeError) as error:
        raise _unclear(f"{type(error).__name__} ({error})", manifest) from error
    if path.is_file() and path.name not in listed:
        return None
    if not _are_ids(personas):
        raise _unclear(json.dumps(personas), manifest)
    return Export(manifest, tuple(personas))


def _are_ids(personas: Any) -> bool:
    return (
        isinstance(personas, list)
        and len(personas) > 0
        and all(isinstance(persona, str) and persona for persona in personas)
        and len(set(personas)) == len(personas)
    )


def _unclear(got: str, manifest: Path) -> ValueError:
    return ValueError(
        "The record of an export must list its files and, under personas, a different persona id for each role; got "
        f"{got} at {manifest}. Whose answers the columns hold cannot be told without. Export the answers again with "
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
