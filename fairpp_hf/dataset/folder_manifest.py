"""The place of a dataset folder: its manifest, which files are its own, and how a new build replaces an old one."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from fairpp_hf.dataset.card_merge import card_record

FOLDER_MANIFEST = "fairpp_build.json"
"""A dataset folder's record of how it was built; folders from elsewhere need none."""

CARD = "README.md"

_ADVICE = "Nothing was changed there. Choose another folder, or move the file away."


class Recorded(NamedTuple):
    """What a manifest says of its folder."""

    files: dict[str, set[str]]
    """Path relative to the folder to the SHA-256, in hexadecimal, that the file may have. While a new build is moved into
    place, a file may be the old one or the new one: then there are two."""
    card: Mapping[str, Any] | None
    """`card_record` of the generated card; None where an older version wrote the manifest."""
    sent: Mapping[str, Any] | None
    """`card_record` of the card that was pushed with the manifest, with what people had written into it at home; None in a
    folder that was not."""

    def card_before(self, existing: bytes) -> Mapping[str, Any] | None:
        """`card_record` of the generated card that an existing one began as; None where it cannot be told."""
        if self.card is None and hashlib.sha256(existing).hexdigest() in self.files.get(CARD, ()):
            # As an older version wrote it: all of it is generated.
            return card_record(existing.decode("utf-8"))
        return self.card


NOTHING_RECORDED = Recorded({}, None, None)


def read_card(path: Path) -> str:
    """The text of a card on disk.

    Raises:
        ValueError: it is not UTF-8.
    """
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"A card must be UTF-8; got byte {error.object[error.start]:#04x} at position {error.start} of {path}. Save it "
            "as UTF-8."
        ) from error


def read_manifest(content: bytes, rule: str) -> Recorded:
    """Read a manifest.

    Args:
        content: of the manifest.
        rule: how an error begins, up to what the manifest is of.

    Raises:
        ValueError: the manifest cannot be read, or lists a path outside of the folder.
    """
    try:
        tree = json.loads(content)
        entries = [(str(entry["path"]), str(entry["sha256"])) for entry in tree["files"]]
        card, sent = (_checked_record(tree.get(key)) for key in ("card", "sent_card"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{rule}, whose {FOLDER_MANIFEST} cannot be read ({error!r}).") from error
    files: dict[str, set[str]] = {}
    for name, digest in entries:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"{rule}, whose {FOLDER_MANIFEST} lists {name!r}, a path outside of it.")
        files.setdefault(name, set()).add(digest)
    return Recorded(files, card, sent)


def _checked_record(record: Any) -> dict[str, Any] | None:
    if record is None:
        return None
    return {"metadata": dict(record["metadata"]), "sections": dict(record["sections"]), "notice": str(record["notice"])}


def manifest_bytes(tree: Mapping[str, Any]) -> bytes:
    """A manifest as it is written."""
    return f"{json.dumps(tree, indent=2, ensure_ascii=False)}\n".encode()


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_place(out: Path) -> Recorded:
    """What an earlier build wrote to a folder; nothing where it is new or empty.

    Raises:
        ValueError: the folder holds files of other origin and no manifest, or a file other than the card was edited.
    """
    rule = f"The output folder must be new, empty, or written by `fairpp build`; got {out}"
    if out.exists() and not out.is_dir():
        raise ValueError(f"{rule}, which is a file. {_ADVICE}")
    above = next(folder for folder in out.parents if folder.exists())
    if not above.is_dir():
        raise ValueError(f"{rule}, but {above} is a file. {_ADVICE}")
    manifest = out / FOLDER_MANIFEST
    if not manifest.is_file():
        other = min((entry.name for entry in out.iterdir()), default=None) if out.is_dir() else None
        if other is not None:
            raise ValueError(f"{rule}, which holds {other!r} and no {FOLDER_MANIFEST}. {_ADVICE}")
        return NOTHING_RECORDED
    try:
        recorded = read_manifest(manifest.read_bytes(), rule)
    except ValueError as error:
        raise ValueError(f"{error} {_ADVICE}") from error
    for name, digests in recorded.files.items():
        if name != CARD and (out / name).is_file() and file_digest(out / name) not in digests:
            raise ValueError(f"{rule}, where {name!r} was edited since. {_ADVICE}")
    return recorded


def move_into_place(built: Path, out: Path, files: Mapping[str, str], recorded: Recorded) -> None:
    """Move a built folder, manifest included, to where an earlier build may be.

    Args:
        built: on the file system of `out`.
        out: see `check_place`.
        files: path relative to the folder to SHA-256, of all that was built but the manifest.
        recorded: of the earlier build.

    Raises:
        ValueError: a file of other origin is in the way.
    """
    if not out.exists():
        built.rename(out)
        return
    for name in files:
        if name not in recorded.files and (out / name).exists():
            raise ValueError(
                f"The output folder must leave room for {name!r}; got a file of other origin there in {out}. Nothing was "
                "changed. Choose another folder, or move the file away."
            )
    # Until all files are moved, the manifest lists old and new ones: an interrupted move can be repeated.
    both = [{"path": name, "sha256": digest} for name, digests in recorded.files.items() for digest in sorted(digests)]
    both += [{"path": name, "sha256": digest} for name, digest in files.items()]
    (built / "moving.json").write_bytes(manifest_bytes({"files": both, "card": recorded.card}))
    os.replace(built / "moving.json", out / FOLDER_MANIFEST)
    for name in files:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(built / name, out / name)
    for name in set(recorded.files) - set(files):
        (out / name).unlink(missing_ok=True)
        parent = (out / name).parent
        if parent != out and parent.is_dir() and not any(parent.iterdir()):
            parent.rmdir()
    os.replace(built / FOLDER_MANIFEST, out / FOLDER_MANIFEST)
