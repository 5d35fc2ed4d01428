"""What tests of pushes compare: folders, what goes out from them, and what a repo then holds."""

import json
from pathlib import Path

from loopback_hub import LoopbackHub

from fairpp_hf.dataset.card_merge import joined_histories
from fairpp_hf.dataset.folder_manifest import FOLDER_MANIFEST, PUSHES, manifest_bytes
from fairpp_hf.hub import push

REPO = "us/fairpp"


def contents(folder: Path) -> dict[str, bytes]:
    """All files but the note of what was pushed."""
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: content for name, content in files.items() if name != PUSHES}


def actions(pushed: push.Push) -> dict[str, list[str]]:
    return {
        action: [file.path for file in pushed.files if file.action == action]
        for action in ("add", "replace", "delete", "keep")
    }


def as_pushed(folder: Path, *earlier: Path) -> dict[str, bytes]:
    """The folder's files as they go out: with the repo's name on the card, and the history of earlier pushes' cards."""
    files = contents(folder)
    card = files["README.md"].decode().replace('"USER/fairpp"', f'"{REPO}"')
    manifest = json.loads(files[FOLDER_MANIFEST])
    for other in reversed(earlier):
        history = json.loads((other / FOLDER_MANIFEST).read_bytes())["card_history"]
        manifest["card_history"] = joined_histories(history, manifest["card_history"])
    return files | {"README.md": card.encode(), FOLDER_MANIFEST: manifest_bytes(manifest)}


def assert_holds(hub: LoopbackHub, *folders: Path, commits: int, but: tuple[str, ...] = ()) -> None:
    """The repo holds the last of the folders pushed, but for the files named, after so many commits of ours or others'."""
    there, here = hub.files(REPO), as_pushed(folders[-1], *folders[:-1])
    for name in but:
        there.pop(name), here.pop(name, None)
    assert there == here
    assert len(hub.commits(REPO)) == 1 + commits


def edit_card(hub: LoopbackHub, old: str, new: str) -> str:
    card = hub.files(REPO)["README.md"].decode()
    assert old in card
    hub.commit(REPO, {"README.md": card.replace(old, new, 1).encode()})
    return card
