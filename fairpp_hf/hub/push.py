"""Publishes a dataset folder: one commit, which can be repeated after any interruption.

What to send is decided by comparing the folder with what the repo holds, each time anew. So a push that was cut off, and one
whose answer was lost, is finished by the same call; and a commit that somebody else makes in the meantime is seen and merged
with, since ours names the commit that it follows.
"""

import fnmatch
import hashlib
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    EntryNotFoundError,
    HFValidationError,
    HTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import validate_repo_id

from fairpp_hf.hub.card_merge import MergedCard, check_card, config_patterns, merge_cards
from fairpp_hf.hub.cards import DEFAULT_CONFIG, REPO_ID
from fairpp_hf.hub.owned_folder import (
    CARD,
    check_links,
    decoded_card,
    digests_of,
    file_digest,
    manifest_bytes,
    read_card,
    read_manifest,
)
from fairpp_hf.hub.push_errors import ATTEMPTS, FileUnreadable, in_short, wait_or_give_up
from fairpp_hf.provenance import FOLDER_MANIFEST

logger = logging.getLogger(__name__)

_LOADED_REPO = re.compile(rf'load_dataset\("{re.escape(REPO_ID)}"')

_BUILT = re.compile(
    r"(questions|preferences|scenarios|pairs-\w[\w.-]*)/(train|test)-\d{5}-of-\d{5}\.parquet|figures/[\w-]+\.png"
)
"""Where `fairpp build` writes. Whoever may write to a repo can list any file in its manifest; only such are deleted."""


class PlannedFile(NamedTuple):
    """A file of a push and what happens to it on the Hub."""

    path: str
    action: Literal["add", "replace", "delete", "keep"]
    """`keep` where the Hub has the same bytes already."""
    size: int
    """Bytes; 0 for a file to delete."""


class Push(NamedTuple):
    """What a push did, or would do."""

    repo_id: str
    url: str
    commit: str | None
    """That the repo's main branch is at, 40 hexadecimal digits; None where a dry run found no repo."""
    files: tuple[PlannedFile, ...]
    """In the order of their paths."""
    edited_on_card: tuple[str, ...]
    """What people wrote on the Hub's card and what stays, in words."""
    renewed_on_card: tuple[str, ...]
    """What people changed on the Hub's card, and what was made anew all the same."""
    left_out: tuple[str, ...]
    """Files of the folder that `fairpp build` did not write: they are not sent."""
    load_line: str
    """The Python line that loads it."""


class PushInterrupted(KeyboardInterrupt):
    """The user stopped a push."""


class _Folder(NamedTuple):
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


class _Plan(NamedTuple):
    head: str | None
    files: tuple[PlannedFile, ...]
    contents: dict[str, Any]
    """Of the files to send, by path: bytes, or the path of a file on disk."""
    card: str
    """As it comes from the folder, before it was merged with the repo's."""
    edited_on_card: tuple[str, ...]
    renewed_on_card: tuple[str, ...]

    @property
    def changes(self) -> list[PlannedFile]:
        return [file for file in self.files if file.action != "keep"]


def push_dataset(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    dry_run: bool = False,
) -> Push:
    """Publish a dataset folder on the Hub, or bring what is there up to date, in one commit.

    Files on the Hub that an earlier push did not write stay, and so does what people wrote on the card, see `merge_cards`.
    The card that went out is noted in the folder's manifest, to tell the folder's own words from others' the next time.
    The Hub's answers 412, 429 and 5xx, and lost connections, are tried again `ATTEMPTS` times.

    Args:
        folder: Folder written by `fairpp build`; its card may have been edited since.
        repo_id: `USER/NAME` or `ORGANISATION/NAME`. The repo is made if there is none.
        private: Whether to make a new repo private; the owner's default if None. True with a public repo is an error.
        token: Token of the Hub; by default the one that `hf auth login` stored, or `$HF_TOKEN`.
        dry_run: Whether to say what would be done, and do nothing.

    Raises:
        ValueError: The folder, the repo's id or its visibility will not do; or the repo holds a file of other origin where
            one of ours belongs.
        PermissionError: The Hub wants a token, or the token may not write there.
        ConnectionError: The Hub could not be reached, or refused, all attempts long. The repo is as it was, and the same
            call goes on; what was uploaded is not sent again.
        PushInterrupted: The user stopped it; as above.
    """
    _check_repo_id(repo_id)
    root = Path(folder).expanduser().absolute()
    local = _read_folder(root)
    api = HfApi(token=token)
    try:
        plan = _push(api, local, repo_id, private, dry_run)
    except KeyboardInterrupt as interruption:
        raise PushInterrupted(
            "stopped. A commit is all or nothing: the repo is as it was, or complete. The same command goes on, and sends "
            "nothing twice"
        ) from interruption
    if not dry_run:
        local.note_push(repo_id, plan.card)
    configs = (str(file["config"]) for file in local.manifest["files"])
    config = next((name for name in configs if name.startswith("pairs-")), DEFAULT_CONFIG)
    return Push(
        repo_id=repo_id,
        url=f"{api.endpoint}/datasets/{repo_id}",
        commit=plan.head,
        files=plan.files,
        edited_on_card=plan.edited_on_card,
        renewed_on_card=plan.renewed_on_card,
        left_out=local.left_out,
        load_line=f'load_dataset("{repo_id}", "{config}")',
    )


def _read_folder(root: Path) -> _Folder:
    """Read a dataset folder, and check that it is whole, holds no links, and that only the card was changed."""
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
    return _Folder(root, paths, digests, card, tree, tuple(sorted(visible - {*paths, FOLDER_MANIFEST})))


def _push(api: HfApi, local: _Folder, repo_id: str, private: bool | None, dry_run: bool) -> _Plan:
    """Compare and commit until there is nothing left to do; returns what was done, with the new head."""
    sent: _Plan | None = None
    # One more comparison than commits: a push is done when the repo was seen to hold the folder.
    for attempt in range(1, ATTEMPTS + 2):
        try:
            plan = _compare(api, local, repo_id, private)
            if dry_run or not plan.changes:
                # Also where the commit went through and its answer was lost.
                return plan if sent is None else sent._replace(head=plan.head)
            if attempt > ATTEMPTS:
                break
            if plan.head is None:
                api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
                plan = _compare(api, local, repo_id, private)
            sent = plan
            _commit(api, repo_id, plan)
        except OfflineModeIsEnabled as error:
            raise ConnectionError(
                f"A push must reach the Hub; got HF_HUB_OFFLINE=1 for {repo_id}. Unset it, and push again."
            ) from error
        except (HTTPError, ConnectionError, RuntimeError) as error:
            wait_or_give_up(error, attempt, repo_id)
    names = ", ".join(repr(file.path) for file in plan.changes[:5])
    raise ConnectionError(
        f"The repo must hold what was pushed; got {repo_id}, where {names} still differ after {ATTEMPTS} commits. Is "
        "there a .gitignore, or does somebody else write to it? Look there, and push again."
    )


def _check_repo_id(repo_id: str) -> None:
    try:
        if repo_id.count("/") == 1:
            validate_repo_id(repo_id)
            return
    except HFValidationError:
        pass
    raise ValueError(
        f"repo_id must be USER/NAME, each of letters, digits, '-', '_' and '.', such as 'me/fairpp'; got {repo_id!r}."
    )


def _compare(api: HfApi, local: _Folder, repo_id: str, private: bool | None) -> _Plan:
    """What to add, replace and delete for the repo to hold the folder; `head` is None where there is no repo."""
    try:
        info = api.dataset_info(repo_id)
    except RepositoryNotFoundError:
        head, there = None, dict[str, RepoFile]()
    else:
        if private and info.private is False:
            raise ValueError(
                f"--private must be left out for a repo that is public; got it for {repo_id}. Make the repo private in its "
                "settings, or push to another."
            )
        head = str(info.sha)
        there = _tree(api, repo_id, head)
    pushed: Mapping[str, Any] = {}
    if FOLDER_MANIFEST in there:
        content = _download(api, repo_id, FOLDER_MANIFEST, head)
        try:
            pushed = read_manifest(content, f"The manifest on the Hub must be as it was pushed; got {repo_id}")
        except ValueError as error:
            raise ValueError(f"{error} Restore it there from an earlier commit, or push to another repo.") from error
    recorded, contents = digests_of(pushed), local.outgoing(repo_id)
    ours = contents[CARD].decode("utf-8")
    card, existing = MergedCard(ours, (), ()), ""
    if CARD in there:
        existing = decoded_card(_download(api, repo_id, CARD, head), f"the card of {repo_id}")
        # What was generated for the repo, and what this folder sent there, may be replaced.
        bases = [card for card in (pushed.get("card"), local.manifest.get("pushed", {}).get(repo_id)) if card]
        card = merge_cards(ours, existing, bases, where=f"the card of {repo_id}")
        contents[CARD] = card.text.encode()

    files: list[PlannedFile] = []
    foreign: list[str] = []
    for name, content in sorted(contents.items()):
        if name not in there:
            files.append(PlannedFile(name, "add", _size(content)))
        elif _is_same(there[name], content, local.digests[name] if isinstance(content, Path) else None):
            files.append(PlannedFile(name, "keep", _size(content)))
        else:
            files.append(PlannedFile(name, "replace", _size(content)))
            if name not in (CARD, FOLDER_MANIFEST) and not _is_ours(api, repo_id, head, there[name], recorded):
                foreign.append(name)
    for name in sorted(set(recorded) - set(contents)):
        # What was changed there since is no longer what we wrote.
        if name in there and _BUILT.fullmatch(name) and _is_ours(api, repo_id, head, there[name], recorded):
            files.append(PlannedFile(name, "delete", 0))
    if foreign:
        names = ", ".join(map(repr, foreign[:5])) + (", ..." if len(foreign) > 5 else "")
        raise ValueError(
            f"A push must not replace files of other origin; got {names} in {repo_id}, which `fairpp push` did not write, "
            "or which were changed since. Nothing was sent. Move them away there, or push to another repo."
        )
    gone = {file.path for file in files if file.action == "delete"}
    _check_configs(card.text, existing, set(there), {*there, *contents} - gone, repo_id)
    return _Plan(head, tuple(sorted(files)), contents, ours, card.edited, card.renewed)


def _size(content: bytes | Path) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _tree(api: HfApi, repo_id: str, revision: str) -> dict[str, RepoFile]:
    try:
        entries = list(api.list_repo_tree(repo_id, recursive=True, revision=revision, repo_type="dataset"))
    except EntryNotFoundError:  # a repo without a single file
        return {}
    return {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}


def _download(api: HfApi, repo_id: str, name: str, revision: str | None) -> bytes:
    """A file that the tree lists."""
    try:
        return Path(api.hf_hub_download(repo_id, name, repo_type="dataset", revision=revision)).read_bytes()
    except EntryNotFoundError as error:
        # Also what the client says where the Hub does not answer.
        raise FileUnreadable(f"{name} of {repo_id} could not be read: {in_short(error)}.") from error


def _check_configs(card: str, existing: str, before: set[str], after: set[str], repo_id: str) -> None:
    """Check that each config of the card, as it will be, finds its files among those of the repo after the push.

    Those that did not find them before, by the card that exists there, are left alone.
    """
    there = config_patterns(existing)
    for config, patterns in config_patterns(card):
        for pattern in patterns:
            is_broken = (config, patterns) in there and not _matches(pattern, before)
            if "://" not in pattern and not is_broken and not _matches(pattern, after):
                raise ValueError(
                    f"The configs on the card must have their files in the repo; got {config!r} with {pattern!r}, which "
                    f"would match none of {repo_id}. It could not be loaded, and if it stands first, no other. "
                    "Nothing was sent. Take the config off the card, or upload its files first "
                    f"(`hf upload {repo_id} FILE FILE --repo-type dataset`)."
                )


def _matches(pattern: str, files: set[str]) -> bool:
    # A `**/` may stand for no folder.
    wanted = [pattern.removeprefix("./"), pattern.removeprefix("./").replace("**/", "")]
    return any(fnmatch.fnmatchcase(name, one) for name in files for one in wanted)


def _is_same(there: RepoFile, ours: bytes | Path, sha256: str | None) -> bool:
    """Whether a file on the Hub has the bytes of ours; large files go by SHA-256, others by the id of their git blob."""
    if there.lfs is not None and sha256 is not None:
        return there.lfs.sha256 == sha256
    content = ours if isinstance(ours, bytes) else ours.read_bytes()
    if there.lfs is not None:
        return there.lfs.sha256 == hashlib.sha256(content).hexdigest()
    return there.blob_id == hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _is_ours(api: HfApi, repo_id: str, head: str | None, there: RepoFile, recorded: Mapping[str, set[str]]) -> bool:
    """Whether a file on the Hub is as an earlier push wrote it."""
    known = recorded.get(there.path, set())
    if there.lfs is not None or not known:
        return there.lfs is not None and there.lfs.sha256 in known
    return hashlib.sha256(_download(api, repo_id, there.path, head)).hexdigest() in known


def _commit(api: HfApi, repo_id: str, plan: _Plan) -> None:
    operations = [
        CommitOperationDelete(file.path, is_folder=False)
        if file.action == "delete"
        else CommitOperationAdd(file.path, plan.contents[file.path])
        for file in plan.changes
    ]
    is_first = all(file.action == "add" for file in plan.files)
    # With the parent named, the Hub refuses (412) where somebody has committed since we looked.
    api.create_commit(
        repo_id,
        operations,
        commit_message=f"{'Add' if is_first else 'Update'} the dataset with fairpp push",
        repo_type="dataset",
        parent_commit=plan.head,
    )
