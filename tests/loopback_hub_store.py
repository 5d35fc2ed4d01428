"""The repositories of the loopback Hub: files, commits, branches, and what the real Hub refuses to take."""

import base64
import codecs
import hashlib
import json
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, NamedTuple

import yaml

LFS_ABOVE = 10 * 1024 * 1024
"""Bytes from which on a file is kept by LFS whatever its name."""
_LFS_NAMES = (
    "*.7z *.arrow *.bin *.bz2 *.ckpt *.gz *.h5 *.joblib *.lz4 *.model *.msgpack *.npy *.npz *.onnx *.parquet *.pb "
    "*.pickle *.pkl *.pt *.pth *.rar *.safetensors *.tar.* *.tar *.tflite *.tgz *.wasm *.xz *.zip *.zst *tfevents*"
)
_MEDIA_NAMES = "*.flac *.mp3 *.ogg *.wav *.bmp *.gif *.png *.tiff *.jpg *.jpeg *.webp *.mp4 *.webm"
_REPO_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_LICENCES = (
    "apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause "
    "bsd-3-clause c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 "
    "cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 "
    "cc-by-nc-sa-4.0 cdla-permissive-2.0 cdla-sharing-1.0 gpl gpl-2.0 gpl-3.0 agpl-3.0 lgpl lgpl-2.1 lgpl-3.0 llama2 "
    "llama3 llama3.1 llama3.2 llama3.3 gemma isc mpl-2.0 ms-pl odbl odc-by ofl-1.1 osl-3.0 pddl unlicense wtfpl zlib "
    "unknown other"
)
_SIZES = "n<1K 1K<n<10K 10K<n<100K 100K<n<1M 1M<n<10M 10M<n<100M 100M<n<1B 1B<n<10B 10B<n<100B 100B<n<1T n>1T"


class HubError(Exception):
    """An answer other than the one that was asked for; `code` is the Hub's X-Error-Code."""

    def __init__(self, status: int, message: str, code: str | None = None, **fields: Any) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.fields = status, message, code, fields


def entry_not_found(path: str, sha: str | None = None) -> HubError:
    error = HubError(404, f"Entry not found: {path}", "EntryNotFound")
    if sha is not None:
        error.fields["headers"] = {"X-Repo-Commit": sha}
    return error


class Blob:
    """A file's content, and whether LFS keeps it."""

    def __init__(self, content: bytes, lfs: bool) -> None:
        self.content, self.lfs = content, lfs

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def pointer(self) -> bytes:
        """What git has in the place of a file that LFS keeps."""
        return b"version https://git-lfs.github.com/spec/v1\noid sha256:%b\nsize %d\n" % (
            self.sha256.encode(),
            len(self.content),
        )

    @cached_property
    def oid(self) -> str:
        """Git's name of the file."""
        kept = self.pointer if self.lfs else self.content
        return hashlib.sha1(b"blob %d\0" % len(kept) + kept).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid

    def lfs_facts(self, key: str) -> dict[str, Any]:
        """The `lfs` field of a listing, nothing for a regular file; `key` is what the listing calls the SHA-256."""
        facts = {key: self.sha256, "size": len(self.content), "pointerSize": len(self.pointer)}
        return {"lfs": facts} if self.lfs else {}


class Commit(NamedTuple):
    """One commit; `files` is the whole tree after it."""

    sha: str
    parent: str | None
    date: str
    message: str
    description: str
    author: str
    files: Mapping[str, Blob]


class Repo:
    """A repository; `objects` holds what LFS was given, by SHA-256, whether or not a commit names it yet."""

    def __init__(self, repo_id: str, repo_type: str, private: bool = False) -> None:
        self.id, self.type, self.private = repo_id, repo_type, private
        self.objects: dict[str, bytes] = {}
        self.by_sha: dict[str, Commit] = {}
        self.branches: dict[str, str] = {}
        names = f"{_LFS_NAMES} {_MEDIA_NAMES if repo_type == 'dataset' else ''}".split()
        attributes = "".join(f"{name} filter=lfs diff=lfs merge=lfs -text\n" for name in names)
        self._add(
            "main",
            "initial commit",
            "",
            repo_id.partition("/")[0],
            {".gitattributes": Blob(attributes.encode(), False)},
        )

    def at(self, revision: str) -> Commit:
        """The commit that a branch or a SHA's beginning names."""
        sha = self.branches.get(revision)
        if sha is None and re.fullmatch(r"[0-9a-f]{5,40}", revision):
            sha = next((known for known in self.by_sha if known.startswith(revision)), None)
        if sha is None:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.by_sha[sha]

    def history(self, revision: str) -> Iterator[Commit]:
        """The commits up to a revision, the newest first."""
        commit: Commit | None = self.at(revision)
        while commit is not None:
            yield commit
            commit = self.by_sha[commit.parent] if commit.parent else None

    def is_lfs(self, path: str, size: int, sample: bytes, files: Mapping[str, Blob]) -> bool:
        """Whether LFS keeps a file: .gitattributes says so, it is large, or it is no text."""
        kept = size > LFS_ABOVE or not _is_text(sample)
        for line in files[".gitattributes"].content.decode().splitlines() if ".gitattributes" in files else ():
            pattern, *attributes = line.split()
            name = path if "/" in pattern else path.rsplit("/", 1)[-1]
            if fnmatchcase(name, pattern) and any("filter" in attribute for attribute in attributes):
                kept = "filter=lfs" in attributes
        return kept

    def commit(self, branch: str, operations: Sequence[Mapping[str, Any]], author: str) -> Commit:
        """Take the lines of a commit, the header first, whole or not at all."""
        header = next(line["value"] for line in operations if line["key"] == "header")
        if branch not in self.branches:
            raise HubError(404, f"Invalid rev id: {branch}", "RevisionNotFound")
        head = self.at(branch)
        if not head.sha.startswith(header.get("parentCommit") or ""):
            raise HubError(412, "A commit has happened since. Please refresh and try again.")
        files = dict(head.files)
        for line in operations:
            self._apply(files, line["key"], line["value"])
        return self._add(branch, header["summary"], header.get("description", ""), author, files)

    def _apply(self, files: dict[str, Blob], key: str, value: Mapping[str, Any]) -> None:
        if key == "header":
            return
        path = value["path"]
        if key == "file":
            content = base64.b64decode(value["content"])
            if len(content) > LFS_ABOVE:
                raise HubError(400, f"Your push was rejected because it contains files larger than 10 MiB: {path}")
            if path == "README.md":
                check_card(content.decode(errors="replace"), self.type)
            files[path] = Blob(content, lfs=False)
        elif key == "lfsFile":
            if value["oid"] not in self.objects:
                raise HubError(
                    400,
                    "Your push was rejected because an LFS pointer pointed to a file that does not exist. "
                    f"Offending file: {path}",
                )
            files[path] = Blob(self.objects[value["oid"]], lfs=True)
        elif key == "deletedFile":
            if path not in files:
                raise HubError(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
            del files[path]
        else:
            raise HubError(400, f"Unknown operation {key!r}")

    def _add(self, branch: str, message: str, description: str, author: str, files: Mapping[str, Blob]) -> Commit:
        parent = self.branches.get(branch)
        now = datetime.now(UTC)
        # With chance in it, as with real hashes' authors and dates: two commits never have one name, nor two servers.
        told = [parent, message, description, author, now.isoformat(), secrets.token_hex(8)]
        sha = hashlib.sha1(json.dumps([*told, {path: blob.oid for path, blob in files.items()}]).encode()).hexdigest()
        date = now.strftime("%Y-%m-%dT%H:%M:%S.") + f"{now.microsecond // 1000:03d}Z"
        self.by_sha[sha] = Commit(sha, parent, date, message, description, author, dict(sorted(files.items())))
        self.branches[branch] = sha
        return self.by_sha[sha]


def _is_text(sample: bytes) -> bool:
    try:
        # A decoder that awaits more: the sample may end within a character.
        codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError:
        return False
    return b"\0" not in sample


def is_ignored(path: str, rules: str) -> bool:
    """Whether the rules of a .gitignore, of which the last that fits counts, leave out a file."""
    parts = path.split("/")
    ignored = False
    for rule in rules.split("\n"):
        pattern = rule.strip().removeprefix("!").rstrip("/")
        if not pattern or pattern.startswith("#"):
            continue
        # The file itself, unless the rule is for folders, and each folder it is in.
        places = range(1, len(parts) + (not rule.strip().endswith("/")))
        names = ["/".join(parts[:stop]) if "/" in pattern else parts[stop - 1] for stop in places]
        if any(fnmatchcase(name, pattern.removeprefix("/")) for name in names):
            ignored = not rule.startswith("!")
    return ignored


def check_card(content: str, repo_type: str) -> list[str]:
    """What the Hub warns of in a card.

    Raises:
        HubError: 400 for metadata that the Hub refuses; `errors` among its fields lists what it refuses.
    """
    found = re.match(r"\s*---[ \t]*\r?\n(.*?)^---[ \t]*\r?$", content, re.DOTALL | re.MULTILINE)
    if found is None:
        return ["empty or missing yaml metadata in repo card"]
    try:
        data = yaml.safe_load(found[1])
    except yaml.YAMLError as error:
        raise _refused([f"YAML Metadata Error: {error}"]) from error
    if data is None:
        return ["empty or missing yaml metadata in repo card"]
    if not isinstance(data, dict):
        raise _refused(["YAML Metadata Error: metadata must be an object"])
    errors = [
        f'"license" must be one of the known licences; got "{name}"'
        for name in _listed(data, "license")
        if name not in _LICENCES.split()
    ]
    for key in ("base_model", "datasets"):
        errors += [
            f'"{key}[{place}]" with value "{name}" is not valid. Use a {key.removesuffix("s")} id from '
            "https://hf.co/models or https://hf.co/datasets."
            for place, name in enumerate(_listed(data, key))
            if not (isinstance(name, str) and _REPO_ID.fullmatch(name))
        ]
    errors += [
        f'"language[{place}]" must only contain an ISO 639-1, 639-2 or 639-3 code; got "{code}"'
        for place, code in enumerate(_listed(data, "language"))
        if not (isinstance(code, str) and re.fullmatch(r"[a-z]{2,3}(-[A-Za-z0-9]+)*|code|multilingual", code))
    ]
    errors += [
        f'"tags[{place}]" must be a string'
        for place, tag in enumerate(_listed(data, "tags"))
        if not isinstance(tag, str)
    ]
    configs = data.get("configs", [])
    if not (isinstance(configs, list) and all(isinstance(config, dict) for config in configs)):
        errors.append('"configs" must be a list of objects')
    elif repo_type == "dataset":
        names = [config.get("config_name") for config in configs]
        errors += [f'"configs[{place}].config_name" is required' for place, name in enumerate(names) if not name]
        errors += [
            f'"configs" must have unique names; got "{name}" twice' for name in {n for n in names if names.count(n) > 1}
        ]
    if errors:
        raise _refused(errors)
    return [
        f'The size_categories "{size}" is not in the official list'
        for size in _listed(data, "size_categories")
        if size not in _SIZES.split()
    ]


def _listed(data: Mapping[str, Any], key: str) -> list[Any]:
    value = data.get(key)
    return value if isinstance(value, list) else [] if value is None else [value]


def _refused(errors: Sequence[str]) -> HubError:
    return HubError(400, "Invalid metadata in README.md: " + "; ".join(errors), errors=[{"message": e} for e in errors])
