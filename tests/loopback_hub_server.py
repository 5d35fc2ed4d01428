"""The server of the loopback Hub: what huggingface_hub 2.4 and datasets 5.2 ask for, from memory. See `loopback_hub`."""

import base64
import hashlib
import json
import re
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote, unquote, urlsplit

import yaml
from loopback_hub_store import Blob, Commit, HubError, Repo, check_card, entry_not_found, is_ignored
from loopback_server import Loopback, send

TOKEN = "hf_loopback"
"""The token of the user `us`, with the right to write."""
_PLURALS = {"models": "model", "datasets": "dataset", "spaces": "space"}


class User(NamedTuple):
    """Whose a token is."""

    name: str
    write: bool = True


class Request(NamedTuple):
    """A request that was answered, or cut."""

    method: str
    path: str
    """Unquoted, without the query."""
    status: int | None
    """None where no answer was sent."""
    authorized: bool
    """Whether a token came with it."""


@dataclass
class Fault:
    """What to do to the next requests of a kind, see `LoopbackHub.fail`."""

    path_part: str
    method: str | None
    times: int
    skip: int
    status: int
    headers: Mapping[str, str]
    message: str
    cut: bool | str


@dataclass
class Asked:
    """One request as the endpoints see it."""

    method: str
    parts: Sequence[str]
    """The path's parts, each unquoted: a revision or a path may hold a slash."""
    query: Mapping[str, Sequence[str]]
    headers: Mapping[str, str]
    """Their names in small letters."""
    body: bytes
    user: User | None

    def json(self) -> Any:
        return json.loads(self.body or b"{}")

    def flag(self, name: str) -> bool:
        return self.query.get(name, ["false"])[0].lower() in ("1", "true")


@dataclass
class Answer:
    """What to send; anything but bytes goes out as JSON."""

    body: Any = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class LoopbackHub(Loopback):
    """Serves until the `with` block ends.

    Args:
        tokens: the users by token; by default `TOKEN` is `us` and "hf_reader" is `reader`, who may not write.
        page_size: entries of a page of a listing; the Hub's 1,000.

    `repos` holds the repositories by (type, id), `requests` all requests, `outside` the requests for other hosts, `waits`
    the seconds that clients in this process would have waited before they tried again (see `loopback_hub`).
    `before_commit`, when set, is called with the repository before a commit is taken, so that a test can commit first.
    """

    def __init__(self, tokens: Mapping[str, User] | None = None, page_size: int = 1000) -> None:
        super().__init__()
        self.tokens = dict(tokens or {TOKEN: User("us"), "hf_reader": User("reader", write=False)})
        self.page_size = page_size
        self.repos: dict[tuple[str, str], Repo] = {}
        self.requests: list[Request] = []
        self.outside: list[str] = []
        self.waits: list[float] = []
        self.before_commit: Callable[[Repo], None] | None = None
        self.url = f"http://127.0.0.1:{self.port}"
        # Another host in the clients' eyes, as the real Hub's storage is: no token may go there.
        self.storage_url = f"http://localhost:{self.port}/storage"
        self._secret = secrets.token_hex(8)
        self._faults: list[Fault] = []
        self._lock = threading.RLock()

    # -- for tests -----------------------------------------------------------------------------------------------------

    def repo(self, repo_id: str, repo_type: str = "dataset") -> Repo:
        """A repository; KeyError where there is none."""
        return self.repos[repo_type, repo_id]

    def create(self, repo_id: str, repo_type: str = "dataset", *, private: bool = False) -> Repo:
        """A new repository."""
        self.repos[repo_type, repo_id] = repo = Repo(repo_id, repo_type, private)
        return repo

    def commit(
        self,
        repo_id: str,
        files: Mapping[str, bytes],
        repo_type: str = "dataset",
        *,
        delete: Sequence[str] = (),
        message: str = "a commit of somebody else",
        author: str = "somebody",
    ) -> Commit:
        """Commit from the server's side, whatever `before_commit` and faults say; the repository is made if need be."""
        with self._lock:
            repo = self.repos.get((repo_type, repo_id)) or self.create(repo_id, repo_type)
            lines: list[dict[str, Any]] = [{"key": "header", "value": {"summary": message}}]
            lines += [{"key": "deletedFile", "value": {"path": path}} for path in delete]
            for path, content in files.items():
                if repo.is_lfs(path, len(content), content[:512], repo.at("main").files):
                    oid = hashlib.sha256(content).hexdigest()
                    repo.objects[oid] = content
                    lines.append({"key": "lfsFile", "value": {"path": path, "oid": oid}})
                else:
                    lines.append({"key": "file", "value": {"path": path, "content": base64.b64encode(content)}})
            return repo.commit("main", lines, author)

    def files(self, repo_id: str, repo_type: str = "dataset", revision: str = "main") -> dict[str, bytes]:
        """The contents by path, without the `.gitattributes` that every repository starts with."""
        files = self.repo(repo_id, repo_type).at(revision).files
        return {path: blob.content for path, blob in files.items() if path != ".gitattributes"}

    def commits(self, repo_id: str, repo_type: str = "dataset", revision: str = "main") -> list[Commit]:
        """The commits, the newest first; the last one is the repository's creation."""
        return list(self.repo(repo_id, repo_type).history(revision))

    def count(self, method: str, path_part: str) -> int:
        """How many such requests arrived."""
        return sum(request.method == method and path_part in request.path for request in self.requests)

    def fail(
        self,
        path_part: str,
        *,
        times: int = 1,
        skip: int = 0,
        method: str | None = None,
        status: int = 500,
        headers: Mapping[str, str] | None = None,
        message: str = "ordered by the test",
        cut: bool | str = False,
    ) -> None:
        """Let the next `times` requests with `path_part` in their path fail, after `skip` of them that do not.

        Args:
            method: of such requests only.
            status: the answer's; nothing is done.
            headers: of the answer, such as {"Retry-After": "0"}.
            message: the answer's error.
            cut: True reads half the body and closes the connection, or sends half the answer where there is no body to
                read; "after" does all that was asked and closes the connection without an answer.
        """
        self._faults.append(Fault(path_part, method, times, skip, status, headers or {}, message, cut))

    def environment(self, home: Path | str, token: str | None = TOKEN) -> dict[str, str]:
        """The variables that make this the Hub of another process, with all caches under `home`."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_TOKEN": token or "",
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",  # datasets counts loads at another host
            **self._proxy(),
        }

    def _proxy(self) -> dict[str, str]:
        names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
        proxy = dict.fromkeys((*names, *(name.lower() for name in names)), self.url)
        return {**proxy, "NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}

    # -- one request ---------------------------------------------------------------------------------------------------

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        target = urlsplit(handler.path)
        path = unquote(target.path)
        # What is meant for another host names it, since this is a proxy to whoever asks.
        if handler.command == "CONNECT" or target.netloc:
            # `datasets` asks for exports at this name; the real Hub too has none of a repository just pushed.
            if target.hostname != "datasets-server.127.0.0.1":
                self.outside.append(handler.path)
            handler.close_connection = True
            send(handler, 404, b"", {})
            return
        token = handler.headers.get("Authorization", "").removeprefix("Bearer ")
        fault = self._fault(handler.command, path)
        answer = self._answer(handler, target.path, target.query, token, fault)
        request = Request(handler.command, path, answer.status if answer else None, bool(token))
        # Before the answer goes out: who has it may look here at once.
        with self._lock:
            self.requests.append(request)
        if answer is None:
            handler.close_connection = True
            return
        half = len(answer.body) // 2 if fault is not None and fault.cut is True else None
        if not send(handler, answer.status, answer.body, answer.headers, sent=half):
            with self._lock:
                self.requests[self.requests.index(request)] = request._replace(status=None)

    def _fault(self, method: str, path: str) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.path_part in path and fault.method in (None, method):
                    if fault.skip:
                        fault.skip -= 1
                        continue
                    fault.times -= 1
                    if fault.times == 0:
                        self._faults.remove(fault)
                    return fault
        return None

    def _answer(
        self, handler: BaseHTTPRequestHandler, path: str, query: str, token: str, fault: Fault | None
    ) -> Answer | None:
        """What to send, in bytes; None where the connection is to be cut."""
        length = int(handler.headers.get("Content-Length", 0))
        if fault is not None and fault.cut is True and length:
            handler.rfile.read(length // 2)
            return None
        body = handler.rfile.read(length)
        if fault is not None and not fault.cut:
            answer = _error(HubError(fault.status, fault.message, headers=dict(fault.headers)))
        else:
            try:
                asked = Asked(
                    handler.command,
                    [unquote(part) for part in path.split("/") if part],
                    parse_qs(query),
                    {name.lower(): value for name, value in handler.headers.items()},
                    body,
                    self._user(token),
                )
                answer = self._route(asked)
            except HubError as error:
                answer = _error(error)
        if fault is not None and fault.cut == "after":
            return None
        if isinstance(answer.body, bytes):
            return answer
        return Answer(
            json.dumps(answer.body).encode(), answer.status, {**answer.headers, "Content-Type": "application/json"}
        )

    def _user(self, token: str) -> User | None:
        if not token:
            return None
        if token not in self.tokens:
            raise HubError(401, "Invalid credentials in Authorization header")
        return self.tokens[token]

    def _route(self, asked: Asked) -> Answer:
        match asked.method, *asked.parts:
            case "GET", "api", "whoami-v2":
                return self._whoami(asked)
            case "HEAD", "api", "telemetry", *_:
                return Answer()
            case "GET", "api", "agent-harnesses":
                return Answer({"standardEnvVars": [], "harnesses": {}})
            case "POST", "api", "validate-yaml":
                wanted = asked.json()
                warnings = check_card(wanted["content"], wanted["repoType"])
                return Answer({"errors": [], "warnings": [{"message": text} for text in warnings]})
            case "POST", "api", "repos", "create":
                return self._create(asked)
            case _, "api", plural, namespace, name, *rest if plural in _PLURALS:
                write = rest[:1] in (["preupload"], ["commit"], ["lfs-verify"])
                repo = self._find(asked, _PLURALS[plural], namespace, name, write=write)
                return self._repo_api(repo, rest, asked)
            case _, "storage", *rest:
                return self._storage(asked, rest)
        # Pages of models have no word before their name.
        plural, parts = ("models", asked.parts) if asked.parts[0] not in _PLURALS else (asked.parts[0], asked.parts[1:])
        match asked.method, *parts:
            case "POST", namespace, git, "info", "lfs", "objects", "batch":
                repo = self._find(asked, _PLURALS[plural], namespace, git.removesuffix(".git"), write=True)
                return self._lfs_batch(repo, asked)
            case "GET" | "HEAD", namespace, name, "resolve", revision, *path:
                repo = self._find(asked, _PLURALS[plural], namespace, name)
                return self._resolve(repo, revision, "/".join(path), asked)
        raise HubError(404, f"The loopback Hub does not have {asked.method} /{'/'.join(asked.parts)}")

    def _repo_api(self, repo: Repo, rest: Sequence[str], asked: Asked) -> Answer:
        match asked.method, *rest:
            case "GET", *revision if revision[:1] in ([], ["revision"]):
                return Answer(self._info(repo, repo.at(revision[1] if revision else "main"), asked))
            case "GET", "tree", revision, *folder:
                return self._tree(repo, repo.at(revision), "/".join(folder), asked)
            case "POST", "paths-info", revision:
                form = parse_qs(asked.body.decode())
                entries = _entries(repo.at(revision), form.get("expand") == ["true"])
                return Answer([entries[path] for path in form.get("paths", []) if path in entries])
            case "POST", "preupload", revision:
                files = repo.at(revision).files
                wanted = asked.json()
                ignore = wanted.get("gitIgnore") or (
                    files[".gitignore"].content.decode() if ".gitignore" in files else ""
                )
                return Answer({"files": [_upload_mode(repo, files, item, ignore) for item in wanted["files"]]})
            case "POST", "commit", branch:
                return self._commit(repo, branch, asked)
            case "POST", "lfs-verify":
                if len(repo.objects.get(asked.json()["oid"], b"")) != asked.json()["size"]:
                    raise HubError(404, "The object was not uploaded")
                return Answer()
            case "GET", "auth-check":
                return Answer()
        if rest[:1] in (["xet-write-token"], ["xet-read-token"]):
            raise HubError(501, "The loopback Hub speaks LFS, not Xet. Set HF_HUB_DISABLE_XET=1")
        raise HubError(404, f"The loopback Hub does not have {asked.method} {'/'.join(rest)} of a repository")

    def _find(self, asked: Asked, repo_type: str, namespace: str, name: str, *, write: bool = False) -> Repo:
        """The repository, if this user may know of it; with `write`, if they may change it."""
        repo = self.repos.get((repo_type, f"{namespace}/{name}"))
        owner = asked.user is not None and asked.user.name == namespace
        if repo is None or (repo.private and not owner):
            # The real Hub says 401 to strangers, and clients tell it from other ones by its https address. Ours is none.
            raise HubError(404 if asked.user else 401, "Repository not found", "RepoNotFound")
        if write and asked.user is None:
            raise HubError(401, "Invalid username or password.")
        if write and not (owner and asked.user and asked.user.write):
            raise HubError(403, "Forbidden: you must use a write token to upload to this repository")
        return repo

    def _whoami(self, asked: Asked) -> Answer:
        if asked.user is None:
            raise HubError(401, "Invalid username or password.")
        role = {"accessToken": {"displayName": "test", "role": "write" if asked.user.write else "read"}}
        return Answer({"type": "user", "id": asked.user.name, "name": asked.user.name, "orgs": [], "auth": role})

    def _create(self, asked: Asked) -> Answer:
        if asked.user is None:
            raise HubError(401, "Invalid username or password.")
        wanted = asked.json()
        repo_type, namespace = wanted.get("type") or "model", wanted.get("organization") or asked.user.name
        repo_id = f"{namespace}/{wanted['name']}"
        if not asked.user.write or namespace != asked.user.name:
            raise HubError(403, f'You don\'t have the rights to create a {repo_type} under the namespace "{namespace}"')
        url = f"{self.url}/{repo_type + 's/' if repo_type != 'model' else ''}{repo_id}"
        with self._lock:
            if (repo_type, repo_id) in self.repos:
                raise HubError(409, f"You already created this {repo_type} repo: {repo_id}", url=url)
            self.create(repo_id, repo_type, private=wanted.get("visibility") == "private")
        return Answer({"url": url, "name": repo_id})

    def _info(self, repo: Repo, commit: Commit, asked: Asked) -> dict[str, Any]:
        siblings: list[dict[str, Any]] = [{"rfilename": path} for path in commit.files]
        if asked.flag("blobs"):
            for entry, blob in zip(siblings, commit.files.values(), strict=True):
                entry |= {"size": len(blob.content), "blobId": blob.oid, **blob.lfs_facts("sha256")}
        # Cards come from anybody, in any encoding.
        card = commit.files["README.md"].content.decode(errors="replace") if "README.md" in commit.files else ""
        found = re.match(r"\s*---[ \t]*\r?\n(.*?)^---", card, re.DOTALL | re.MULTILINE)
        # JSON has no dates, which YAML has.
        metadata = json.loads(json.dumps(yaml.safe_load(found[1]), default=str)) if found else None
        facts = {
            "author": repo.id.split("/")[0],
            "sha": commit.sha,
            "lastModified": commit.date,
            "createdAt": next(iter(repo.by_sha.values())).date,
            "private": repo.private,
            "gated": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "cardData": metadata,
            "siblings": siblings,
        }
        wanted = asked.query.get("expand")
        return {
            "_id": repo.id,
            "id": repo.id,
            **{key: value for key, value in facts.items() if wanted is None or key in wanted},
        }

    def _tree(self, repo: Repo, commit: Commit, folder: str, asked: Asked) -> Answer:
        start = f"{folder}/" if folder else ""
        entries = _entries(commit, asked.flag("expand"))
        within = [entry for path, entry in entries.items() if path.startswith(start)]
        if not within and folder:
            raise entry_not_found(folder, commit.sha)
        recursive = asked.flag("recursive")
        return self._page([e for e in within if recursive or "/" not in e["path"][len(start) :]], asked)

    def _page(self, entries: Sequence[Any], asked: Asked) -> Answer:
        """One page, with the address of the next one in the header `Link`."""
        first = int(asked.query.get("cursor", ["0"])[0])
        page, headers = entries[first : first + self.page_size], {}
        if first + self.page_size < len(entries):
            again = {**{key: values[0] for key, values in asked.query.items()}, "cursor": str(first + self.page_size)}
            address = "/".join(quote(part, safe="") for part in asked.parts)
            query = "&".join(f"{key}={quote(value)}" for key, value in again.items())
            headers["Link"] = f'<{self.url}/{address}?{query}>; rel="next"'
        return Answer(page, headers=headers)

    def _commit(self, repo: Repo, branch: str, asked: Asked) -> Answer:
        if asked.flag("create_pr"):
            raise HubError(501, "The loopback Hub has no pull requests")
        lines = [json.loads(line) for line in asked.body.splitlines() if line]
        if self.before_commit is not None:
            self.before_commit(repo)
        assert asked.user is not None
        with self._lock:
            commit = repo.commit(branch, lines, asked.user.name)
        prefix = "" if repo.type == "model" else f"{repo.type}s/"
        address = f"{self.url}/{prefix}{repo.id}/commit/{commit.sha}"
        return Answer({"success": True, "commitOid": commit.sha, "commitUrl": address, "hookOutput": ""})

    def _resolve(self, repo: Repo, revision: str, path: str, asked: Asked) -> Answer:
        commit = repo.at(revision)
        if path not in commit.files:
            raise entry_not_found(path, commit.sha)
        blob = commit.files[path]
        headers = {"X-Repo-Commit": commit.sha, "ETag": f'"{blob.etag}"', "Accept-Ranges": "bytes"}
        if not blob.lfs:
            return _ranged(blob.content, headers, asked)
        headers |= {"X-Linked-Etag": f'"{blob.etag}"', "X-Linked-Size": str(len(blob.content))}
        headers["Location"] = self._storage_address(repo, blob.sha256)
        return Answer(status=302, headers=headers)

    # -- large files ---------------------------------------------------------------------------------------------------

    def _storage_address(self, repo: Repo, oid: str) -> str:
        return "/".join([self.storage_url, self._secret, repo.type, repo.id, oid])

    def _lfs_batch(self, repo: Repo, asked: Asked) -> Answer:
        """How to upload each file; no way is given where the repository has it."""
        wanted, objects = asked.json(), []
        for item in wanted["objects"]:
            oid, size = item["oid"], item["size"]
            described: dict[str, Any] = {"oid": oid, "size": size, "authenticated": True}
            if oid not in repo.objects:
                upload: dict[str, Any] = {"href": self._storage_address(repo, oid)}
                verify = {"href": f"{self.url}/api/{repo.type}s/{repo.id}/lfs-verify"}
                described["actions"] = {"upload": upload, "verify": verify}
            objects.append(described)
        return Answer({"transfer": "basic", "objects": objects})

    def _storage(self, asked: Asked, rest: Sequence[str]) -> Answer:
        """The place of large files: it takes no token, and addresses that the Hub gave out."""
        if rest[:1] != [self._secret]:
            raise HubError(403, "The address is not one that the Hub gave out")
        repo_type, namespace, name, oid = rest[1:]
        repo = self.repos[repo_type, f"{namespace}/{name}"]
        if asked.method in ("GET", "HEAD"):
            return _ranged(repo.objects[oid], {"ETag": f'"{oid}"', "Accept-Ranges": "bytes"}, asked)
        if asked.method != "PUT" or hashlib.sha256(asked.body).hexdigest() != oid:
            raise HubError(400, f"The content is not that of {oid}")
        with self._lock:
            repo.objects[oid] = asked.body
        return Answer()


def _error(error: HubError) -> Answer:
    headers = {"X-Error-Message": error.message.splitlines()[0], **error.fields.pop("headers", {})}
    if error.code is not None:
        headers["X-Error-Code"] = error.code
    return Answer({"error": error.message, **error.fields}, error.status, headers)


def _ranged(content: bytes, headers: dict[str, str], asked: Asked) -> Answer:
    """All of the content, or the one range that was asked for."""
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", asked.headers.get("range", ""))
    if found is None:
        return Answer(content, headers=headers)
    first, last = found.groups()
    start = int(first) if first else max(len(content) - int(last), 0)
    stop = min(int(last) + 1, len(content)) if first and last else len(content)
    if start >= len(content):
        raise HubError(416, "Range not satisfiable", headers={"Content-Range": f"bytes */{len(content)}"})
    return Answer(content[start:stop], 206, {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{len(content)}"})


def _entries(commit: Commit, expand: bool) -> dict[str, dict[str, Any]]:
    """Every file and folder of a commit, by path, as listings have them."""
    folders = {path.rsplit("/", depth)[0] for path in commit.files for depth in range(1, path.count("/") + 1)}
    entries: dict[str, dict[str, Any]] = {}
    for folder in folders:
        oid = hashlib.sha1(f"{commit.sha} {folder}".encode()).hexdigest()
        entries[folder] = {"type": "directory", "oid": oid, "size": 0, "path": folder}
    for path, blob in commit.files.items():
        size = {"size": len(blob.content), **blob.lfs_facts("oid")}
        entries[path] = {"type": "file", "oid": blob.oid, "path": path, **size}
    if expand:
        for entry in entries.values():
            entry["lastCommit"] = {"id": commit.sha, "title": commit.message, "date": commit.date}
    return dict(sorted(entries.items()))


def _upload_mode(repo: Repo, files: Mapping[str, Blob], wanted: Mapping[str, Any], ignore: str) -> dict[str, Any]:
    path = wanted["path"]
    lfs = repo.is_lfs(path, wanted["size"], base64.b64decode(wanted["sample"]), files)
    known = {"oid": files[path].etag} if path in files else {}
    return {"path": path, "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": is_ignored(path, ignore), **known}
