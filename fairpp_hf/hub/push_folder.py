"""What goes out from a dataset folder: its files, its card as it stands for a repo, and a note of what was pushed."""

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fairpp_hf.dataset.card_merge import card_contents, joined_histories, merge_cards
from fairpp_hf.dataset.folder_manifest import (
    CARD,
    FOLDER_MANIFEST,
    PUSHES,
    file_digest,
    manifest_bytes,
    read_card,
    read_manifest,
)
from fairpp_hf.hub.card_text import REPO_ID

logger = logging.getLogger(__name__)

_LOADED_REPO = re.compile(rf'load_dataset\("{re.escape(REPO_ID)}"')


class PushFolder(NamedTuple):
    """A dataset folder on disk: every file that was built, by its relative path, the card included."""

    paths: dict[str, Path]
    digests: dict[str, str]
    """SHA-256 of each, in hexadecimal."""
    card: str
    """As it is, with what people wrote into it; or an older one, taken home from the Hub."""
    generated: str
    """The card as it was built."""
    manifest: Mapping[str, Any]
    """With the history of the cards of all repos that it was pushed to."""
    sent: Mapping[str, Any] | None
    """`card_contents` of the card that last went out from this folder to this repo; None where none did."""
    configs: tuple[str, ...]
    left_out: tuple[str, ...]


def read_folder(root: Path, repo_id: str) -> PushFolder:
    """Read a dataset folder, and check that it is whole.

    Args:
        root: the folder.
        repo_id: where it is to go.

    Raises:
        ValueError: it is no such folder, or a file other than the card was changed since it was built.
    """
    manifest = root / FOLDER_MANIFEST
    rule = "The folder must be one that `fairpp build` has written, whole"
    if not manifest.is_file():
        raise ValueError(
            f"{rule}; got {root}, which has no {FOLDER_MANIFEST}. Run `fairpp build --out {root.name}` first."
        )
    content = manifest.read_bytes()
    try:
        recorded = read_manifest(content, f"{rule}; got {root}")
    except ValueError as error:
        raise ValueError(f"{error} Build it again.") from error
    tree = json.loads(content)
    # While a build is moved into place, the manifest says no more than which files are its own.
    if CARD not in recorded.files or recorded.card is None or "origin" not in tree:
        raise ValueError(f"{rule}; got {root}, whose build was cut short. Build it again.")
    paths, digests = {}, {}
    for name, known in recorded.files.items():
        paths[name] = root / name
        if not paths[name].is_file():
            raise ValueError(f"{rule}; got {root} without {name!r}. Build it again.")
        digests[name] = file_digest(paths[name])
        if name != CARD and digests[name] not in known:
            raise ValueError(f"{rule}; got {root}, where {name!r} was changed since. Build it again.")
    card = read_card(paths[CARD])
    card_contents(card, str(paths[CARD]))
    pushes = _pushes(root)
    configs = dict.fromkeys(file["config"] for file in tree["files"] if file.get("config"))
    return PushFolder(
        paths=paths,
        digests=digests,
        card=card,
        generated=recorded.card,
        manifest={**tree, "card_history": joined_histories(pushes["card_history"], recorded.history)},
        sent=pushes["repos"].get(repo_id),
        configs=tuple(configs),
        left_out=tuple(sorted(_others(root, {*paths, FOLDER_MANIFEST, PUSHES}))),
    )


def _pushes(root: Path) -> dict[str, Any]:
    """What was pushed from a folder: `repos`, by name, and `card_history` of their cards.

    Empty where nothing was pushed, or where the note of it cannot be read.
    """
    nothing: dict[str, Any] = {"repos": {}, "card_history": {}}
    try:
        pushes = json.loads((root / PUSHES).read_bytes())
        return {name: dict(pushes[name]) for name in nothing}
    except FileNotFoundError:
        return nothing
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("%s cannot be read (%r): what is on the Hub counts as written there.", root / PUSHES, error)
        return nothing


def note_push(root: Path, repo_id: str, card: str, history: Mapping[str, Any]) -> None:
    """Note what went out, for the next push to tell what was written on the Hub from what was sent there.

    Args:
        root: the folder.
        repo_id: where it went.
        card: as it went out, before it was merged with the repo's.
        history: `card_history` of both.
    """
    pushes = _pushes(root)
    note = {"repos": {**pushes["repos"], repo_id: card_contents(card)}, "card_history": history}
    scratch = root / f".{PUSHES}"
    try:
        scratch.write_text(json.dumps(note, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")
        os.replace(scratch, root / PUSHES)
    except OSError as error:
        logger.warning("%s cannot be written (%s): the next push keeps all of the Hub's card.", root / PUSHES, error)
        scratch.unlink(missing_ok=True)


def _others(root: Path, built: set[str]) -> Iterator[str]:
    """Files that were not built, by relative path; those in hidden folders, such as .git, are not looked at."""
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        relative = (Path(folder, name).relative_to(root).as_posix() for name in names)
        yield from (name for name in relative if name not in built)


def outgoing(local: PushFolder, repo_id: str, history: Mapping[str, Any]) -> dict[str, Any]:
    """The folder's files as they go out, by path: the card and the manifest as bytes, others by their path on disk.

    What is generated on the card goes out as it was built, whatever stands there: it may be an older card, taken home from
    the Hub. The manifest takes along the history of the repo's card.

    Args:
        local: the folder.
        repo_id: what the card's load lines name.
        history: of the repo's card.
    """
    history = joined_histories(history, local.manifest["card_history"])
    card = merge_cards(local.generated, local.card, history, where=str(local.paths[CARD])).text
    return {
        **local.paths,
        CARD: _LOADED_REPO.sub(f'load_dataset("{repo_id}"', card).encode(),
        FOLDER_MANIFEST: manifest_bytes({**local.manifest, "card_history": history}),
    }
