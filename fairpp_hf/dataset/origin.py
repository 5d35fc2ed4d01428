"""Where answers were first given, and on what terms: it travels with them from folder to folder."""

import json
import logging
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

logger = logging.getLogger(__name__)

OriginKind = Literal["survey", "run", "published", "folder"]

OUR_LICENCE = "cc-by-4.0"
"""Hub id of the licence of answers made with this package."""

PUBLISHED_LICENCE = "cc-by-nc-sa-4.0"
"""Hub id of the licence of the tables that the paper published; what is derived from them inherits it."""


class Origin(NamedTuple):
    """Where answers were first given: building a folder from them does not change it."""

    kind: OriginKind
    """`folder` where a folder does not say where its answers come from."""
    licence: str | None
    """Hub id of a licence; None where it is not known."""
    repo: str | None = None
    """Hub dataset that was imported, or name of the imported local file."""
    commit: str | None = None
    """Of that Hub dataset, 40 hexadecimal digits."""
    answered_on: str | None = None
    """ISO date, or first and last date with a slash between; None where answers are computed, or nobody wrote it down."""
    notes: tuple[str, ...] = ()
    """Sentences on what was counted or left out at import."""


UNKNOWN_ORIGIN = Origin("folder", None)


def read_origin(manifest: Path, key: str = "origin") -> Origin:
    """The origin in a dataset folder's or an export's manifest.

    Args:
        manifest: JSON file; it need not exist.
        key: where in it the origin is.

    Returns:
        Kind `folder` without a licence where the manifest says nothing, or nothing that can be read, which is logged.
    """
    if not manifest.is_file():
        return UNKNOWN_ORIGIN
    try:
        tree = json.loads(manifest.read_bytes())
        record = tree.get(key) if isinstance(tree, dict) else None
        return UNKNOWN_ORIGIN if record is None else _checked_origin(record)
    except ValueError as error:
        _say_unknown(str(error), manifest)
        return UNKNOWN_ORIGIN


@lru_cache
def _say_unknown(error: str, manifest: Path) -> None:
    """Once in the log of a process: a manifest is read several times a load."""
    logger.warning("Where these answers were first given is unknown: %s Got it at %s.", error, manifest)


def _checked_origin(record: Any) -> Origin:
    rule = (
        f"An origin must be an object with the keys {', '.join(Origin._fields)}, texts or null, notes a list of texts"
    )
    if not isinstance(record, dict) or not {"kind", "licence"} <= set(record) <= set(Origin._fields):
        raise ValueError(f"{rule}; got {json.dumps(record)}.")
    texts = {name: record.get(name) for name in ("licence", "repo", "commit", "answered_on")}
    notes = record.get("notes", [])
    if (
        record["kind"] not in get_args(OriginKind)
        or any(not isinstance(text, str | None) for text in texts.values())
        or not isinstance(notes, list)
        or any(not isinstance(note, str) for note in notes)
    ):
        raise ValueError(f"{rule}; got {json.dumps(record)}.")
    return Origin(kind=record["kind"], notes=tuple(notes), **texts)
