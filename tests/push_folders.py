"""What tests of pushes compare: folders, what goes out from them, and what a repo then holds."""

import json
from pathlib import Path

from loopback_hub import LoopbackHub

from fairpp_hf.hub import push
from fairpp_hf.hub.owned_folder import manifest_bytes
from fairpp_hf.provenance import FOLDER_MANIFEST

REPO = "us/fairpp"


def contents(folder: Path) -> dict[str, bytes]:
    """All files."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def actions(pushed: push.Push) -> dict[str, list[str]]:
    return {
        action: [file.path for file in pushed.files if file.action == action]
        for action in ("add", "replace", "delete", "keep")
    }


def as_pushed(folder: Path) -> dict[str, bytes]:
    """The folder's files as they go out: with the repo's name on the card, and without the notes of pushes."""
    files = contents(folder)
    card = files["README.md"].decode().replace('"USER/fairpp"', f'"{REPO}"')
    manifest = json.loads(files[FOLDER_MANIFEST])
    del manifest["pushed"]
    return files | {"README.md": card.encode(), FOLDER_MANIFEST: manifest_bytes(manifest)}


def assert_holds(hub: LoopbackHub, folder: Path, commits: int, but: tuple[str, ...] = ()) -> None:
    """The repo holds the folder that was pushed last, but for the files named, after so many commits of ours or others'."""
    there, here = hub.files(REPO), as_pushed(folder)
    for name in but:
        there.pop(name), here.pop(name, None)
    assert there == here
    assert len(hub.commits(REPO)) == 1 + commits


def edit_card(hub: LoopbackHub, old: str, new: str) -> str:
    card = hub.files(REPO)["README.md"].decode()
    assert old in card
    hub.commit(REPO, {"README.md": card.replace(old, new, 1).encode()})
    return card
