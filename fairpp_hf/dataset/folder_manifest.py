"""The place of a dataset folder: its manifest, which files are its own, and how a new build replaces an old one."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

FOLDER_MANIFEST = "fairpp_build.json"
"""A dataset folder's record of how it was built; folders from elsewhere need none."""

CARD = "README.md"

PUSHES = "fairpp_push.json"
"""What was pushed from a folder, by repo: `card_contents` of the card. Stays in the folder."""

_ADVICE = "Nothing was changed there. Choose another folder, or move the file away."


class Recorded(NamedTuple):
    """What a manifest says of its folder."""

    files: dict[str, set[str]]
    """Path relative to the folder to the SHA-256, in hexadecimal, that the file may have. While a new build is moved into
    place, a file may be the old one or the new one: then there are two."""
    card: str | None
    """The card as it was generated, before people wrote into it; None where nothing was built yet."""
    history: Mapping[str, Any]
    """`card_history` of that card and of all that stood there before."""


NOTHING_RECORDED = Recorded({}, None, {})


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
        card, history = tree.get("card"), tree.get("card_history", {})
        if not (
            isinstance(card, str | None)
            and all(isinstance(values, list) for part in history.values() for values in part.values())
        ):
            raise ValueError("of another form")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{rule}, whose {FOLDER_MANIFEST} cannot be read ({error!r}).") from error
    files: dict[str, set[str]] = {}
    for name, digest in entries:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"{rule}, whose {FOLDER_MANIFEST} lists {name!r}, a path outside of it.")
        files.setdefault(name, set()).add(digest)
    return Recorded(files, card, history)


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
    if (out / CARD).is_dir():
        raise ValueError(f"{rule}, where {CARD!r} is a folder. {_ADVICE}")
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
    (built / "moving.json").write_bytes(manifest_bytes({"files": both, "card_history": recorded.history}))
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
