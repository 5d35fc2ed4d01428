"""A folder that a command owns: its manifest lists the files that the command wrote, and a new version replaces only these.

The folder is built beside its place and then moved there, so that an interruption leaves the old files or the new ones.
"""

import contextlib
import glob
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from fairpp_hf.hub.card_merge import merge_cards

logger = logging.getLogger(__name__)

CARD = "README.md"

_LOCK = "lock"
"""In a folder that is being built; the system releases it when the process dies, however it dies."""

_ADVICE = "Nothing was changed there. Choose another folder, or move the file away."


class WrittenFile(NamedTuple):
    """A file of an owned folder."""

    path: str
    """Relative to the folder, with slashes."""
    config: str | None
    """None for the card and its figures, as are split and rows."""
    split: str | None
    rows: int | None
    size: int
    """Bytes."""
    sha256: str


def written(
    folder: Path, path: str, config: str | None = None, split: str | None = None, rows: int | None = None
) -> WrittenFile:
    """What the manifest says of a file that lies in a folder."""
    return WrittenFile(path, config, split, rows, (folder / path).stat().st_size, file_digest(folder / path))


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_owned_folder(
    out: str | Path,
    manifest: str,
    command: str,
    build: Callable[[Path], tuple[Mapping[str, Any], Sequence[WrittenFile]]],
) -> list[WrittenFile]:
    """Write a folder, or replace what an earlier call of the command wrote there; returns the files, the card last.

    Files that an earlier call did not write are left alone, and what people wrote on the card stays, see `merge_cards`.
    `build` writes into the folder that it is given, and returns what the manifest says and the files, the card last.

    Raises:
        ValueError: `out` holds files of other origin, or a file other than the card was edited since.
    """
    out = Path(out).expanduser().absolute()
    before = check_place(out, manifest, command)
    # Beside `out`, so that the move is a rename.
    out.parent.mkdir(parents=True, exist_ok=True)
    _clear_leftovers(out)
    scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}.building-", dir=out.parent))
    lock = FileLock(scratch / _LOCK, thread_local=False, fallback_to_soft=False)
    try:
        with contextlib.suppress(OSError):  # without locks, what a dead process leaves stays there
            lock.acquire()
        # The scratch folder is for its owner alone; one inside of it has the usual permissions.
        built = scratch / "folder"
        built.mkdir()
        facts, files = build(built)
        generated = (built / CARD).read_text("utf-8")
        if (out / CARD).is_file():
            merged = merge_cards(
                generated, read_card(out / CARD), [before["card"]] if before.get("card") else [], where=str(out / CARD)
            )
            if merged.edited:
                logger.warning("Kept in %s, as people wrote it: %s.", out / CARD, "; ".join(merged.edited))
            if merged.renewed:
                logger.warning("Made anew in %s, although it was edited: %s.", out / CARD, "; ".join(merged.renewed))
            (built / CARD).write_bytes(merged.text.encode())
        files = [*files[:-1], written(built, CARD)]
        tree = {
            "about": f"Written by `{command}`. It replaces only files listed here, and only if they are unchanged.",
            **facts,
            "files": [file._asdict() for file in files],
            # The base of the next merge: it tells what people write on the card from what was generated.
            "card": generated,
            "pushed": before.get("pushed", {}),
        }
        _move_into_place(built, out, manifest, tree, before)
    finally:
        lock.release()
        shutil.rmtree(scratch)
    return list(files)


def _clear_leftovers(out: Path) -> None:
    """Remove what processes that were killed have built beside a folder; where one is at work, its folder is locked."""
    for left in out.parent.glob(f".{glob.escape(out.name)}.building-*"):
        if left.is_symlink() or not (left / _LOCK).is_file():
            continue
        with contextlib.suppress(Timeout, OSError):
            with FileLock(left / _LOCK, fallback_to_soft=False, blocking=False):
                pass
            shutil.rmtree(left)


def read_card(path: Path) -> str:
    """The text of a card on disk."""
    return decoded_card(path.read_bytes(), str(path))


def decoded_card(content: bytes, where: str) -> str:
    """The text of a card, which must be UTF-8."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"A card must be UTF-8; got byte {content[error.start]:#04x} at position {error.start} of {where}. Save it as "
            "UTF-8."
        ) from error


def manifest_bytes(tree: Mapping[str, Any]) -> bytes:
    """A manifest as it is written."""
    return f"{json.dumps(tree, indent=2, ensure_ascii=False)}\n".encode()


def read_manifest(content: bytes, rule: str) -> dict[str, Any]:
    """Read a manifest, which must list no path outside of its folder; an error begins with `rule`."""
    try:
        tree: dict[str, Any] = json.loads(content)
        paths = [PurePosixPath(file["path"]) for file in tree["files"] if file["sha256"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{rule}, whose manifest cannot be read ({error!r}).") from error
    for path in paths:
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"{rule}, whose manifest lists {str(path)!r}, a path outside of it.")
    return tree


def check_links(folder: Path, names: Iterable[str], rule: str) -> None:
    """Check that no file of a folder, and no folder above it, is a link, through which others' files would be used."""
    for name in names:
        for path in (PurePosixPath(name), *PurePosixPath(name).parents):
            if path.name and (folder / path).is_symlink():
                raise ValueError(f"{rule}, where {str(path)!r} is a link to another place. Put the file itself there.")


def digests_of(tree: Mapping[str, Any]) -> dict[str, set[str]]:
    """Path to the SHA-256 that a file may have, by a manifest; while files are moved into place, there are two."""
    digests: dict[str, set[str]] = {}
    for file in tree.get("files", ()):
        digests.setdefault(file["path"], set()).add(file["sha256"])
    return digests


def check_place(out: Path, manifest: str, command: str) -> dict[str, Any]:
    """The manifest of what an earlier call wrote to a folder; empty where it is new or empty.

    A folder that holds files of other origin and no manifest, or links, or an edited file beside the card, is refused.
    """
    rule = f"The output folder must be new, empty, or written by `{command}`; got {out}"
    above = next(folder for folder in (out, *out.parents) if folder.exists())
    if not above.is_dir():
        raise ValueError(f"{rule}, but {above} is a file. {_ADVICE}")
    check_links(out, [manifest, CARD], rule)
    if not (out / manifest).is_file():
        other = min((entry.name for entry in out.iterdir()), default=None) if out.is_dir() else None
        if other is not None:
            raise ValueError(f"{rule}, which holds {other!r} and no {manifest}. {_ADVICE}")
        return {}
    try:
        tree = read_manifest((out / manifest).read_bytes(), rule)
    except ValueError as error:
        raise ValueError(f"{error} {_ADVICE}") from error
    check_links(out, digests_of(tree), rule)
    for name, digests in digests_of(tree).items():
        if name != CARD and (out / name).is_file() and file_digest(out / name) not in digests:
            raise ValueError(f"{rule}, where {name!r} was edited since. {_ADVICE}")
    return tree


def _move_into_place(built: Path, out: Path, manifest: str, tree: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    """Move a built folder to where an earlier build may be, unless a file of other origin is in the way."""
    (built / manifest).write_bytes(manifest_bytes(tree))
    if not out.exists():
        built.rename(out)
        return
    old, new = digests_of(before), digests_of(tree)
    check_links(out, new, f"The output folder must hold its own files; got {out}")
    for name in new:
        if name not in old and (out / name).exists():
            raise ValueError(
                f"The output folder must leave room for {name!r}; got a file of other origin there in {out}. {_ADVICE}"
            )
    # Until all files are moved, the manifest lists old and new ones: an interrupted move can be repeated.
    both = {**before, "files": [*before.get("files", ()), *tree["files"]], "moving": True}
    (built / "moving.json").write_bytes(manifest_bytes(both))
    os.replace(built / "moving.json", out / manifest)
    for name in new:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(built / name, out / name)
    for name in set(old) - set(new):
        (out / name).unlink(missing_ok=True)
        parent = (out / name).parent
        if parent != out and parent.is_dir() and not any(parent.iterdir()):
            parent.rmdir()
    os.replace(built / manifest, out / manifest)
