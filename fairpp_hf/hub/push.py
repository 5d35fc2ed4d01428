"""Publishes a dataset folder: one commit, which can be repeated after any interruption.

What to send is decided by comparing the folder with what the repo holds, each time anew. So a push that was cut off, and one
whose answer was lost, is finished by the same call; and a commit that somebody else makes in the meantime is seen and merged
with, since ours names the commit that it follows.
"""

import email.utils
import hashlib
import json
import logging
import random
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HTTPError, RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import parse_ratelimit_headers, validate_repo_id

from fairpp_hf.dataset.card_merge import card_record, merge_cards
from fairpp_hf.dataset.folder_manifest import (
    CARD,
    FOLDER_MANIFEST,
    Recorded,
    file_digest,
    manifest_bytes,
    read_manifest,
)
from fairpp_hf.hub.card_text import REPO_ID

logger = logging.getLogger(__name__)

ATTEMPTS = 6
"""Commits that are tried before a push gives up."""

LONGEST_WAIT = 300.0
"""Seconds; a Hub that asks for more is left alone, and the user told."""

_DEFAULT_CONFIG = "preferences"


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
    kept_on_card: tuple[str, ...]
    """What people wrote on the Hub's card, in words, and what stays."""
    left_out: tuple[str, ...]
    """Files of the folder that `fairpp build` did not write: they are not sent."""
    load_line: str
    """The Python line that loads it."""


class PushInterrupted(KeyboardInterrupt):
    """The user stopped a push."""


class _Folder(NamedTuple):
    """A dataset folder on disk: every file that was built, by its relative path, the card and the manifest included."""

    paths: dict[str, Path]
    digests: dict[str, str]
    """SHA-256 of each, in hexadecimal."""
    card: str
    manifest: bytes
    """With the record of the card as it is now, which may have been edited since it was built."""
    configs: tuple[str, ...]
    left_out: tuple[str, ...]


class _Plan(NamedTuple):
    head: str | None
    files: tuple[PlannedFile, ...]
    contents: dict[str, bytes | Path]
    """Of the files to send, by path."""
    kept_on_card: tuple[str, ...]

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
    The Hub's answers 412, 429 and 5xx, and lost connections, are tried again `ATTEMPTS` times.

    Args:
        folder: written by `fairpp build`; its card may have been edited since.
        repo_id: `USER/NAME` or `ORGANISATION/NAME`. The repo is made if there is none.
        private: make a new repo private; the owner's default if None. True with a public repo is an error.
        token: by default the one that `hf auth login` stored, or `$HF_TOKEN`.
        dry_run: say what would be done, and do nothing.

    Raises:
        ValueError: the folder, the repo's id or its visibility will not do; or the repo holds a file of other origin where
            one of ours belongs.
        PermissionError: the Hub wants a token, or the token may not write there.
        ConnectionError: the Hub could not be reached, or refused, all attempts long. The repo is as it was, and the same
            call goes on; what was uploaded is not sent again.
        PushInterrupted: the user stopped it; as above.
    """
    if not re.fullmatch(r"[^/\s]+/[^/\s]+", repo_id):
        raise ValueError(
            f"repo_id must be USER/NAME; got {repo_id!r}. It says under whose name the dataset stands. Add yours, as in "
            f"'me/{repo_id.strip('/').split('/')[-1] or 'fairpp'}'."
        )
    validate_repo_id(repo_id)
    local = _read_folder(Path(folder).expanduser().absolute(), repo_id)
    api = HfApi(token=token)
    try:
        plan = _push(api, local, repo_id, private, dry_run)
    except KeyboardInterrupt as interruption:
        raise PushInterrupted(
            "stopped. A commit is all or nothing: the repo is as it was, or complete. The same command goes on, and sends "
            "nothing twice"
        ) from interruption
    return Push(
        repo_id=repo_id,
        url=f"{api.endpoint}/datasets/{repo_id}",
        commit=plan.head,
        files=plan.files,
        kept_on_card=plan.kept_on_card,
        left_out=local.left_out,
        load_line=_load_line(repo_id, local.configs),
    )


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
        except (HTTPError, ConnectionError, RuntimeError) as error:
            _wait_or_give_up(error, attempt, repo_id)
    names = ", ".join(repr(file.path) for file in plan.changes[:5])
    raise ConnectionError(
        f"The repo must hold what was pushed; got {repo_id}, where {names} still differ after {ATTEMPTS} commits. Is "
        "there a .gitignore, or does somebody else write to it? Look there, and push again."
    )


def _read_folder(root: Path, repo_id: str) -> _Folder:
    manifest = root / FOLDER_MANIFEST
    rule = "The folder must be one that `fairpp build` has written, whole"
    if not manifest.is_file():
        raise ValueError(
            f"{rule}; got {root}, which has no {FOLDER_MANIFEST}. Run `fairpp build --out {root.name}` first."
        )
    recorded = read_manifest(manifest.read_bytes(), f"{rule}; got {root}")
    tree = json.loads(manifest.read_bytes())
    paths, digests = {}, {}
    for name, known in recorded.files.items():
        paths[name] = root / name
        if not paths[name].is_file():
            raise ValueError(f"{rule}; got {root} without {name!r}. Build it again.")
        digests[name] = file_digest(paths[name])
        if name != CARD and digests[name] not in known:
            raise ValueError(f"{rule}; got {root}, where {name!r} was changed since. Build it again.")
    if CARD not in paths:
        raise ValueError(f"{rule}; got {root}, whose {FOLDER_MANIFEST} lists no {CARD}. Build it again.")
    card = paths[CARD].read_text("utf-8").replace(f'"{REPO_ID}"', f'"{repo_id}"')
    configs = dict.fromkeys(file["config"] for file in tree["files"] if file.get("config"))
    others = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()} - {
        *paths,
        FOLDER_MANIFEST,
    }
    return _Folder(
        paths=paths,
        digests=digests,
        card=card,
        # Records the card as it goes out, with what the user wrote into it here: what differs from that on the Hub later was
        # written there.
        manifest=manifest_bytes({**tree, "card": card_record(card)}),
        configs=tuple(configs),
        left_out=tuple(sorted(others)),
    )


def _compare(api: HfApi, local: _Folder, repo_id: str, private: bool | None) -> _Plan:
    """What to add, replace and delete for the repo to hold the folder; `head` is None where there is no repo."""
    contents: dict[str, bytes | Path] = {**local.paths, CARD: local.card.encode(), FOLDER_MANIFEST: local.manifest}
    try:
        info = api.dataset_info(repo_id)
    except RepositoryNotFoundError:
        new = (PlannedFile(name, "add", _size(content)) for name, content in sorted(contents.items()))
        return _Plan(None, tuple(new), contents, ())
    if private and info.private is False:
        raise ValueError(
            f"--private must be left out for a repo that is public; got it for {repo_id}. Make the repo private in its "
            "settings, or push to another."
        )
    head = str(info.sha)
    there = _tree(api, repo_id, head)
    recorded = Recorded({}, None)
    if FOLDER_MANIFEST in there:
        content = _download(api, repo_id, FOLDER_MANIFEST, head)
        recorded = read_manifest(content, f"The manifest on the Hub must be as it was pushed; got {repo_id}")
    kept: tuple[str, ...] = ()
    if CARD in there:
        existing = _download(api, repo_id, CARD, head).decode("utf-8", errors="replace")
        merged = merge_cards(local.card, existing, recorded.card, f"the card of {repo_id}")
        contents[CARD], kept = merged.text.encode(), merged.kept

    files: list[PlannedFile] = []
    foreign: list[str] = []
    for name, ours in sorted(contents.items()):
        if name not in there:
            files.append(PlannedFile(name, "add", _size(ours)))
        elif _is_same(there[name], ours, local.digests[name] if isinstance(ours, Path) else None):
            files.append(PlannedFile(name, "keep", _size(ours)))
        else:
            files.append(PlannedFile(name, "replace", _size(ours)))
            if isinstance(ours, Path) and not _is_ours(api, repo_id, head, there[name], recorded):
                foreign.append(name)
    for name in sorted(set(recorded.files) - set(contents)):
        # What was changed there since is no longer what we wrote.
        if name in there and _is_ours(api, repo_id, head, there[name], recorded):
            files.append(PlannedFile(name, "delete", 0))
    if foreign:
        names = ", ".join(map(repr, foreign[:5])) + (", ..." if len(foreign) > 5 else "")
        raise ValueError(
            f"A push must not replace files of other origin; got {names} in {repo_id}, which `fairpp push` did not write, "
            "or which were changed since. Nothing was sent. Move them away there, or push to another repo."
        )
    return _Plan(head, tuple(sorted(files)), contents, kept)


def _size(content: bytes | Path) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _tree(api: HfApi, repo_id: str, revision: str) -> dict[str, RepoFile]:
    try:
        entries = list(api.list_repo_tree(repo_id, recursive=True, revision=revision, repo_type="dataset"))
    except EntryNotFoundError:  # a repo without a single file
        return {}
    return {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}


def _download(api: HfApi, repo_id: str, name: str, revision: str) -> bytes:
    return Path(api.hf_hub_download(repo_id, name, repo_type="dataset", revision=revision)).read_bytes()


def _is_same(there: RepoFile, ours: bytes | Path, sha256: str | None) -> bool:
    """Whether a file on the Hub has the bytes of ours; large files go by SHA-256, others by the id of their git blob."""
    if there.lfs is not None and sha256 is not None:
        return there.lfs.sha256 == sha256
    content = ours if isinstance(ours, bytes) else ours.read_bytes()
    if there.lfs is not None:
        return there.lfs.sha256 == hashlib.sha256(content).hexdigest()
    return there.blob_id == hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _is_ours(api: HfApi, repo_id: str, head: str, there: RepoFile, recorded: Recorded) -> bool:
    """Whether a file on the Hub is as an earlier push wrote it."""
    known = recorded.files.get(there.path, set())
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


def _wait_or_give_up(error: Exception, attempt: int, repo_id: str) -> None:
    """Sleep before the next attempt, or raise what the user can do something about.

    Raises:
        PermissionError: see `push_dataset`.
        ConnectionError: see `push_dataset`.
    """
    response = _response(error)
    status = None if response is None else response.status_code
    if status in (401, 403):
        _no_access(error, status, repo_id)
    after = "The repo is as it was, or complete. Push again: what was uploaded is not sent again."
    if status is not None and status not in (408, 409, 412, 429) and status < 500:
        raise ConnectionError(f"The Hub must accept the push; got {error} for {repo_id}. {after}") from error
    wait = min(60.0, 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)
    asked = None if response is None else _asked_wait(response.headers)
    if asked is not None and asked > LONGEST_WAIT:
        raise ConnectionError(
            f"The Hub must take requests; got {status} for {repo_id}, with the wish to be left alone for {asked:,.0f} "
            f"seconds. {after}"
        ) from error
    if attempt >= ATTEMPTS:
        raise ConnectionError(
            f"The Hub must accept the push within {ATTEMPTS} attempts; got {_in_short(error)} for {repo_id} in the last. "
            f"{after}"
        ) from error
    wait = max(wait, asked or 0.0)
    logger.warning(
        "Push to %s, attempt %d of %d: %s. Trying again in %.0f s.", repo_id, attempt, ATTEMPTS, _in_short(error), wait
    )
    _sleep(wait)


def _no_access(error: Exception, status: int, repo_id: str) -> NoReturn:
    what = "a token" if status == 401 else f"a token that may write to {repo_id.partition('/')[0]!r}"
    raise PermissionError(
        f"The Hub must be given {what}; got {status} for {repo_id}. Log in with `hf auth login`, or set HF_TOKEN to a token "
        "with the right to write, from the settings of your account. Nothing was sent."
    ) from error


def _response(error: BaseException | None) -> Any:
    """The Hub's answer behind an error, however deep; None where there was none."""
    while error is not None:
        if isinstance(error, HfHubHTTPError):
            return error.response
        error = error.__cause__ or error.__context__
    return None


def _in_short(error: BaseException) -> str:
    """The Hub's answer, or else the innermost cause, on one line."""
    response = _response(error)
    if response is not None:
        return f"{response.status_code} {response.reason_phrase} to {response.request.method} {response.url.path}"
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _asked_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that the Hub asks to wait: `Retry-After` (seconds or a date) or the draft's `RateLimit`; None if neither."""
    value = (headers.get("retry-after") or "").strip()
    if value.isdigit():
        return float(value)
    if value:
        try:
            date = email.utils.parsedate_to_datetime(value)
        except ValueError:
            return None
        return max(0.0, (date - datetime.now(UTC)).total_seconds())
    limit = parse_ratelimit_headers(headers)
    return float(limit.reset_in_seconds) if limit is not None and limit.remaining == 0 else None


def _sleep(seconds: float) -> None:
    """Where tests save the time."""
    time.sleep(seconds)


def _load_line(repo_id: str, configs: tuple[str, ...]) -> str:
    config = next((name for name in configs if name.startswith("pairs-")), _DEFAULT_CONFIG)
    return f'load_dataset("{repo_id}", "{config}")'
