"""The loopback Hub as real clients see it: what they write is what they read, and every fault reaches them as it would."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import datasets
import httpx2
import pytest
from datasets import Dataset, load_dataset
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    HfFileSystem,
    constants,
    hf_hub_download,
)
from huggingface_hub.errors import (
    BadRequestError,
    HfHubHTTPError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import get_session
from loopback_hub import LoopbackHub, Repo, loopback_hub

TEXTS = [
    "plain",
    "naïve — “quoted”",
    "日本語",
    "a\u0301 \U0001f469\u200d\U0001f467 \u202eleft",
    "tab\t, line\nbreak, \r, \x00",
]
CARD = b"---\nconfigs:\n- config_name: %s\n  data_files:\n  - split: test\n    path: data/test-*\n---\nHello.\n"
HELLO = b"---\nlicense: mit\n---\nHello."
LARGE = bytes(range(256)) * 40


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    with loopback_hub() as running:
        yield running


def add(**files: bytes) -> list[CommitOperationAdd]:
    """The parts of a commit; `_` in a name stands for a dot."""
    return [CommitOperationAdd(name.replace("_", "."), content) for name, content in files.items()]


def push(*operations: object, repo_type: str = "dataset", **settings: object) -> str:
    """One commit to us/x."""
    made = HfApi().create_commit("us/x", operations, commit_message="ours", repo_type=repo_type, **settings)
    return made.oid


# -- what is written is what is read -----------------------------------------------------------------------------------


def test_a_commit_of_small_and_large_files(hub: LoopbackHub) -> None:
    """A Parquet file is large by its name, bytes that are no text by themselves; what did not change makes no commit."""
    repo = hub.create("us/x")
    first = push(*add(README_md=HELLO, a_parquet=b"PAR1", binary=b"\x00\xff", empty_parquet=b""))
    files = {"README.md": HELLO, "a.parquet": b"PAR1", "binary": b"\x00\xff", "empty.parquet": b""}
    assert hub.files("us/x") == files
    assert [path for path, blob in repo.at("main").files.items() if blob.lfs] == ["a.parquet", "binary"]
    assert push(*add(README_md=HELLO, a_parquet=b"PAR1")) == first
    second = push(*add(b_parquet=b"PAR1", README_md=HELLO + HELLO), CommitOperationDelete("binary"))
    assert hub.files("us/x") == {
        "README.md": HELLO + HELLO,
        "a.parquet": b"PAR1",
        "b.parquet": b"PAR1",
        "empty.parquet": b"",
    }
    assert hub.files("us/x", revision=first) == files
    assert hub.count("PUT", "storage") == 2  # the third large file has the content of the first
    assert [commit.sha for commit in hub.commits("us/x")[:2]] == [second, first]
    assert [commit.parent for commit in hub.commits("us/x")][:2] == [first, hub.commits("us/x")[2].sha]


def test_a_folder_is_uploaded_and_downloaded(hub: LoopbackHub, tmp_path: Path) -> None:
    """Names with spaces, percent signs and other scripts come back, and listings come in pages of two."""
    hub.page_size = 2
    hub.create("us/x")
    files = {"a b.txt": b"1", "data/50%.parquet": b"2\x00", "data/ü/日.txt": b"3", "z.json": b"{}"}
    for name, content in files.items():
        (tmp_path / "up" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "up" / name).write_bytes(content)
    api = HfApi()
    api.upload_folder(folder_path=tmp_path / "up", repo_id="us/x", repo_type="dataset")
    assert hub.files("us/x") == files
    assert len(hub.commits("us/x")) == 2
    assert api.list_repo_files("us/x", repo_type="dataset") == [".gitattributes", *files]
    top = {entry.path for entry in api.list_repo_tree("us/x", repo_type="dataset")}
    assert top == {".gitattributes", "a b.txt", "data", "z.json"}
    hub.commit("us/x", {"data/ü/日.txt": b"3"})
    folder = api.snapshot_download("us/x", repo_type="dataset", local_dir=tmp_path / "down")
    assert {name: (Path(folder) / name).read_bytes() for name in files} == files


def test_a_gitignore_is_heeded(hub: LoopbackHub, tmp_path: Path) -> None:
    """The rules of git: of folders, from the root only, by pattern, and one that takes a file out again."""
    (tmp_path / ".gitignore").write_text("# rules\n/sft/\nlogs/\n*.log\n!kept.log\n")
    for name in ("sft/a.bin", "deep/sft/a.txt", "deep/logs/a.txt", "a.log", "deep/a.log", "deep/kept.log", "sft.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"\x00")
    hub.create("us/x")
    HfApi().upload_folder(folder_path=tmp_path, repo_id="us/x", repo_type="dataset")
    assert list(hub.files("us/x")) == [".gitignore", "deep/kept.log", "deep/sft/a.txt", "sft.txt"]
    assert hub.count("PUT", "storage") == 3


def test_no_token_goes_to_the_storage(hub: LoopbackHub) -> None:
    hub.create("us/x")
    push(*add(a_bin=LARGE))
    hf_hub_download("us/x", "a.bin", repo_type="dataset")
    stored = [request for request in hub.requests if request.path.startswith("/storage")]
    assert [(request.method, request.status) for request in stored] == [("PUT", 200), ("GET", 200)]
    assert not any(request.authorized for request in stored)
    answer = get_session().get(f"{hub.storage_url}/guessed/dataset/us/x/{'0' * 64}")
    assert answer.status_code == 403


@pytest.mark.parametrize("name", ["a.bin", "a.txt"])
def test_a_range_of_a_file(hub: LoopbackHub, name: str) -> None:
    content = LARGE if name == "a.bin" else b"0123456789" * 100
    hub.commit("us/x", {name: content})
    files = HfFileSystem()
    assert files.read_bytes(f"datasets/us/x/{name}", start=7, end=20) == content[7:20]
    assert hub.requests[-1].status == 206
    url = f"{hub.url}/datasets/us/x/resolve/main/{name}"
    last = get_session().get(url, headers={"Range": "bytes=-3"})
    assert (last.status_code, last.content) == (206, content[-3:])
    assert last.headers["Content-Range"] == f"bytes {len(content) - 3}-{len(content) - 1}/{len(content)}"
    beyond = get_session().get(url, headers={"Range": "bytes=100000-"})
    assert (beyond.status_code, beyond.headers["Content-Range"]) == (416, f"bytes */{len(content)}")


# -- datasets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streaming", [False, True])
def test_a_dataset_comes_back_equal(hub: LoopbackHub, streaming: bool) -> None:
    rows = Dataset.from_dict({"text": TEXTS, "number": range(5)})
    rows.push_to_hub("us/x", "odd", split="train")
    rows.select([1, 3]).push_to_hub("us/x", "odd", split="test")
    loaded = load_dataset("us/x", "odd", streaming=streaming)
    assert list(loaded["train"]) == list(rows)
    assert [row["number"] for row in loaded["test"]] == [1, 3]
    assert [commit.message for commit in hub.commits("us/x")] == ["Upload dataset", "Upload dataset", "initial commit"]


def test_another_process_loads_it(tmp_path: Path) -> None:
    """With nothing but the variables; and it asks no other host."""
    Dataset.from_dict({"text": TEXTS}).to_parquet(tmp_path / "a.parquet")
    script = "from datasets import load_dataset; print(ascii(load_dataset('us/x', 'ours')['test']['text'][:]))"
    with LoopbackHub() as hub:
        hub.create("us/x", private=True)
        hub.commit("us/x", {"README.md": CARD % b"ours", "data/test-0.parquet": (tmp_path / "a.parquet").read_bytes()})
        environment = {**os.environ, **hub.environment(tmp_path / "home")}
        finished = subprocess.run(
            [sys.executable, "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert finished.stdout.strip() == ascii(TEXTS)
        assert hub.outside == []


# -- who may what ------------------------------------------------------------------------------------------------------


def test_a_private_repository_is_its_owner_s(hub: LoopbackHub) -> None:
    hub.create("us/x", private=True)
    hub.commit("us/x", {"README.md": CARD % b"ours", "a.txt": b"secret"})
    hf_hub_download("us/x", "a.txt", repo_type="dataset")
    for token in (False, "hf_reader"):
        with pytest.raises(RepositoryNotFoundError):
            HfApi(token=token).dataset_info("us/x")
        with pytest.raises(RepositoryNotFoundError):
            hf_hub_download("us/x", "README.md", repo_type="dataset", token=token)
    with pytest.raises(RepositoryNotFoundError):
        HfApi().dataset_info("us/other")


def test_whoever_may_not_write_is_refused(hub: LoopbackHub) -> None:
    hub.create("us/x")
    reader = HfApi(token="hf_reader")
    with pytest.raises(
        HfHubHTTPError, match=r"403 Forbidden: .*you must use a write token to upload to this repository"
    ):
        reader.create_commit("us/x", add(a_txt=b"a"), commit_message="theirs", repo_type="dataset")
    with pytest.raises(HfHubHTTPError, match="You don't have the rights to create a dataset under the namespace"):
        HfApi().create_repo("others/x", repo_type="dataset")
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        HfApi(token="hf_unknown").whoami()
    assert len(hub.commits("us/x")) == 1


# -- what the Hub refuses ----------------------------------------------------------------------------------------------


def test_large_files_must_be_there_before_a_commit_names_them(hub: LoopbackHub) -> None:
    repo = hub.create("us/x")
    hub.before_commit = lambda repo: repo.objects.clear()
    with pytest.raises(
        BadRequestError, match=r"LFS pointer pointed to a file that does not exist. Offending file: a.bin"
    ):
        push(*add(a_bin=LARGE))
    assert hub.files("us/x") == {}
    assert repo.objects == {}


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ("license: [mit", "YAML Metadata Error: while parsing a flow sequence"),
        ("- a\n- b", "YAML Metadata Error: metadata must be an object"),
        ("license: free", '"license" must be one of the known licences; got "free"'),
        ("base_model: /tmp/model", '"base_model\\[0\\]" with value "/tmp/model" is not valid'),
        (
            "language: [en, English]",
            '"language\\[1\\]" must only contain an ISO 639-1, 639-2 or 639-3 code; got "English"',
        ),
        ("tags: [1]", '"tags\\[0\\]" must be a string'),
        ("configs: {a: 1}", '"configs" must be a list of objects'),
        ("configs:\n- config_name: a\n- config_name: a", '"configs" must have unique names; got "a" twice'),
    ],
)
def test_a_card_with_faulty_metadata_is_refused(hub: LoopbackHub, metadata: str, message: str) -> None:
    """By the check that clients ask for, and by the commit itself."""
    hub.create("us/x")
    card = f"---\n{metadata}\n---\nHello.".encode()
    with pytest.raises(ValueError, match=f"Invalid metadata in README.md.\n- {message}"):
        push(*add(README_md=card))
    assert hub.count("POST", "/commit/") == 0
    with pytest.raises(Exception, match=message):
        hub.commit("us/x", {"README.md": card})
    assert hub.files("us/x") == {}


# -- faults ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "waits"),
    [
        ({"path_part": "preupload", "status": 429, "headers": {"Retry-After": "2"}, "times": 2}, [3.0, 3.0]),
        ({"path_part": "objects/batch", "status": 503, "times": 2}, [1, 2]),
        ({"path_part": "storage", "method": "PUT", "status": 500}, [1]),
        ({"path_part": "storage", "method": "PUT", "cut": True, "times": 2}, [1, 2]),
        ({"path_part": "storage", "method": "PUT", "cut": "after"}, [1]),
        ({"path_part": "storage", "method": "PUT", "skip": 1, "status": 504}, [1]),
        ({"path_part": "lfs-verify", "status": 502}, [1]),
    ],
    ids=str,
)
def test_faults_before_the_commit_are_tried_again(hub: LoopbackHub, fault: dict, waits: list[float]) -> None:
    """Seconds between tries double from 1; those of Retry-After have one added."""
    hub.create("us/x")
    hub.fail(**fault)
    push(*add(a_bin=LARGE, b_bin=LARGE + b"b", README_md=HELLO), num_threads=1)
    assert hub.files("us/x") == {"README.md": HELLO, "a.bin": LARGE, "b.bin": LARGE + b"b"}
    assert hub.waits == waits
    assert len(hub.commits("us/x")) == 2


@pytest.mark.parametrize("status", [409, 412, 429, 500, 503])
def test_a_commit_that_fails_is_not_tried_again(hub: LoopbackHub, status: int) -> None:
    hub.create("us/x")
    hub.fail("/commit/", status=status, message="not today")
    with pytest.raises(HfHubHTTPError, match="not today") as caught:
        push(*add(a_bin=LARGE))
    assert caught.value.response.status_code == status
    assert hub.files("us/x") == {}
    push(*add(a_bin=LARGE))
    assert hub.files("us/x") == {"a.bin": LARGE}
    assert hub.count("PUT", "storage") == 1


def test_a_commit_whose_answer_is_lost_was_made(hub: LoopbackHub) -> None:
    """And one whose body was cut was not."""
    hub.create("us/x")
    hub.fail("/commit/", cut=True)
    with pytest.raises(httpx2.TransportError):
        push(*add(a_txt=b"a"))
    assert len(hub.commits("us/x")) == 1
    hub.fail("/commit/", cut="after")
    with pytest.raises(httpx2.TransportError):
        push(*add(a_txt=b"a"))
    assert hub.files("us/x") == {"a.txt": b"a"}
    assert [request.status for request in hub.requests if "/commit/" in request.path] == [None, None]
    assert push(*add(a_txt=b"a")) == hub.commits("us/x")[0].sha
    assert len(hub.commits("us/x")) == 2


def test_a_head_that_has_moved_is_told(hub: LoopbackHub) -> None:
    before = hub.commit("us/x", {"a.txt": b"1"}).sha

    def move(repo: Repo) -> None:
        hub.before_commit = None
        hub.commit(repo.id, {"theirs.txt": b"theirs"})

    hub.before_commit = move
    with pytest.raises(HfHubHTTPError, match=r"A commit has happened since. Please refresh and try again.") as caught:
        push(*add(a_txt=b"2"), parent_commit=before)
    assert caught.value.response.status_code == 412
    push(*add(a_txt=b"2"), parent_commit=HfApi().dataset_info("us/x").sha)
    assert hub.files("us/x") == {"a.txt": b"2", "theirs.txt": b"theirs"}
    assert [commit.author for commit in hub.commits("us/x")] == ["us", "somebody", "somebody", "us"]


def test_a_download_that_is_cut_is_tried_again(hub: LoopbackHub) -> None:
    hub.commit("us/x", {"a.bin": LARGE})
    hub.fail("storage", method="GET", cut=True)
    assert Path(hf_hub_download("us/x", "a.bin", repo_type="dataset")).read_bytes() == LARGE
    assert hub.count("GET", "storage") == 2


# -- nothing else is touched -------------------------------------------------------------------------------------------


def test_other_hosts_are_not_reached() -> None:
    with (
        pytest.raises(AssertionError, match=r"asked of other hosts: \['huggingface.co:443'\]"),
        loopback_hub(),
        pytest.raises(httpx2.ProxyError),
    ):
        get_session().get("https://huggingface.co/api/models")


def test_everything_is_put_back() -> None:
    def state() -> list[object]:
        return [constants.ENDPOINT, constants.HF_HUB_OFFLINE, constants.HF_HUB_CACHE, datasets.config.HF_ENDPOINT,
                HfApi().endpoint, os.environ.get("HTTPS_PROXY"), os.environ["HF_HUB_OFFLINE"]]  # fmt: skip

    before = state()
    with loopback_hub() as hub:
        assert HfApi().endpoint == hub.url
    assert state() == before
    assert constants.HF_HUB_OFFLINE
