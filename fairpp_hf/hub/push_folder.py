"""What goes out from a dataset folder: its files, its card as it stands for a repo, and a note of what was pushed."""

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fairpp_hf.hub.card_merge import check_card, merge_cards
from fairpp_hf.hub.cards import REPO_ID
from fairpp_hf.hub.owned_folder import (
    CARD,
    check_links,
    digests_of,
    file_digest,
    manifest_bytes,
    read_card,
    read_manifest,
)
from fairpp_hf.provenance import FOLDER_MANIFEST

logger = logging.getLogger(__name__)

_LOADED_REPO = re.compile(rf'load_dataset\("{re.escape(REPO_ID)}"')


class PushFolder(NamedTuple):
    """A dataset folder on disk: every file that was built, by its relative path, the card included."""

    root: Path
    paths: dict[str, Path]
    digests: dict[str, str]
    """SHA-256 of each, in hexadecimal."""
    card: str
    """As it is, with what people wrote into it."""
    manifest: Mapping[str, Any]
    left_out: tuple[str, ...]
    """Files that were not built."""

    @property
    def configs(self) -> tuple[str, ...]:
        """In the order of the files."""
        return tuple(dict.fromkeys(file["config"] for file in self.manifest["files"] if file.get("config")))

    def outgoing(self, repo_id: str) -> dict[str, Any]:
        """The files as they go out, by path: the card and the manifest as bytes, others by their path on disk.

        What is generated on the card goes out as it was built, and the manifest without the notes of pushes.
        """
        card = merge_cards(self.manifest["card"], self.card, [self.manifest["card"]], where=str(self.paths[CARD])).text
        manifest = {name: value for name, value in self.manifest.items() if name != "pushed"}
        return {
            **self.paths,
            CARD: _LOADED_REPO.sub(f'load_dataset("{repo_id}"', card).encode(),
            FOLDER_MANIFEST: manifest_bytes(manifest),
        }

    def note_push(self, repo_id: str, card: str) -> None:
        """Note which card went out to a repo: where it is unchanged there, a later edit at home may replace it."""
        tree = {**self.manifest, "pushed": {**self.manifest.get("pushed", {}), repo_id: card}}
        scratch = self.root / f".{FOLDER_MANIFEST}"
        try:
            scratch.write_bytes(manifest_bytes(tree))
            os.replace(scratch, self.root / FOLDER_MANIFEST)
        except OSError as error:
            logger.warning(
                "%s cannot be written (%s): what you edit on the card here will not replace what was sent.",
                self.root / FOLDER_MANIFEST,
                error,
            )
            scratch.unlink(missing_ok=True)


def read_folder(root: Path) -> PushFolder:
    """Read a dataset folder, and check that it is whole.

    Raises:
        ValueError: It is no such folder, holds links, or a file other than the card was changed since it was built.
    """
    manifest = root / FOLDER_MANIFEST
    rule = f"The folder must be one that `fairpp build` has written, whole; got {root}"
    if not manifest.is_file():
        raise ValueError(f"{rule}, which has no {FOLDER_MANIFEST}. Run `fairpp build --out {root.name}` first.")
    check_links(root, [FOLDER_MANIFEST], rule)
    try:
        tree = read_manifest(manifest.read_bytes(), rule)
    except ValueError as error:
        raise ValueError(f"{error} Build it again.") from error
    recorded = digests_of(tree)
    if CARD not in recorded or tree.get("moving") or "card" not in tree:
        raise ValueError(f"{rule}, whose build was cut short. Build it again.")
    # The text behind a link would go out on the card.
    check_links(root, recorded, rule)
    paths = {name: root / name for name in recorded}
    digests = {}
    for name, path in paths.items():
        if not path.is_file():
            raise ValueError(f"{rule} without {name!r}. Build it again.")
        digests[name] = file_digest(path)
        if name != CARD and digests[name] not in recorded[name]:
            raise ValueError(f"{rule}, where {name!r} was changed since. Build it again.")
    card = read_card(paths[CARD])
    check_card(card, str(paths[CARD]))
    others = (path for path in root.rglob("*") if path.is_file())
    names = (path.relative_to(root) for path in others)
    # Hidden files and folders, such as .git, are not looked at.
    visible = {name.as_posix() for name in names if not any(part.startswith(".") for part in name.parts)}
    return PushFolder(root, paths, digests, card, tree, tuple(sorted(visible - {*paths, FOLDER_MANIFEST})))
