"""The loopback Hub as real clients see it: what it refuses, and that nothing else is reached. Pushes test the rest."""

import os
from collections.abc import Iterator

import datasets
import httpx2
import pytest
from huggingface_hub import (
    CommitOperationAdd,
    HfApi,
    constants,
)
from huggingface_hub.errors import (
    BadRequestError,
)
from huggingface_hub.utils import get_session
from loopback_hub import LoopbackHub, loopback_hub

LARGE = bytes(range(256)) * 40


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    with loopback_hub() as running:
        yield running


def add(**files: bytes) -> list[CommitOperationAdd]:
    """The parts of a commit; `_` in a name stands for a dot."""
    return [CommitOperationAdd(name.replace("_", "."), content) for name, content in files.items()]


def push(*operations: object) -> None:
    """One commit to us/x."""
    HfApi().create_commit("us/x", operations, commit_message="ours", repo_type="dataset")


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
