"""Pushes when the Hub, the network or the user lets them down."""

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
from huggingface_hub import constants
from loopback_hub import LoopbackHub, Repo
from loopback_hub_store import HubError
from push_folders import REPO, assert_holds

from fairpp_hf import push_dataset
from fairpp_hf.hub import push, push_errors
from fairpp_hf.provenance import FOLDER_MANIFEST


@pytest.mark.parametrize(
    ("where", "fault"),
    [
        ("/commit/", {"status": 429, "headers": {"Retry-After": "7"}}),
        ("/commit/", {"status": 503}),
        ("/commit/", {"status": 412}),
        ("/commit/", {"cut": True}),
        ("/commit/", {"cut": "after"}),
        ("/preupload/", {"status": 429, "headers": {"Retry-After": "0"}}),
        ("/preupload/", {"status": 500}),
        ("/objects/batch", {"status": 429, "headers": {"Retry-After": "0"}}),
        ("/objects/batch", {"status": 502}),
        ("/storage/", {"status": 500}),
        ("/storage/", {"cut": True}),
        ("/storage/", {"cut": "after"}),
        ("/tree/", {"status": 504}),
        ("/repos/create", {"status": 429}),
        ("/repos/create", {"cut": "after"}),
        ("/api/datasets/us/fairpp", {"status": 500}),
        ("/validate-yaml", {"status": 500}),
    ],
)
@pytest.mark.parametrize("times", [1, 3])
def test_a_passing_fault_ends_in_a_correct_repo(
    hub: LoopbackHub, built: Path, where: str, fault: dict, times: int
) -> None:
    hub.fail(where, times=times, **fault)
    pushed = push_dataset(built, REPO)
    assert_holds(hub, built, commits=1)
    assert pushed.commit == hub.commits(REPO)[0].sha
    if fault.get("headers") == {"Retry-After": "7"}:
        assert len(hub.waits) == times
        assert min(hub.waits) >= 7


def test_a_fault_that_stays_gives_up_and_the_same_call_finishes(
    hub: LoopbackHub, built: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hub.fail("/commit/", times=push_errors.ATTEMPTS, status=503)
    with (
        caplog.at_level(logging.WARNING, "fairpp_hf.hub.push_errors"),
        pytest.raises(
            ConnectionError,
            match=r"^The Hub must accept the push within 6 attempts; got 503 Service Unavailable to POST "
            r"/api/datasets/us/fairpp/commit/main "
            r"for us/fairpp in the last\. The repo is as "
            r"it was, or complete\. Push again: what was uploaded is not sent again\.$",
        ),
    ):
        push_dataset(built, REPO)
    assert hub.files(REPO) == {}
    assert len(caplog.records) == push_errors.ATTEMPTS - 1
    assert caplog.messages[0].startswith("Push to us/fairpp, attempt 1 of 6: 503 Service Unavailable to POST /api/")
    assert len(hub.waits) == push_errors.ATTEMPTS - 1
    sent = hub.count("PUT", "/storage/")
    push_dataset(built, REPO)
    assert_holds(hub, built, commits=1)
    assert hub.count("PUT", "/storage/") == sent  # what was uploaded is not sent again


def test_a_hub_that_asks_for_a_long_wait_is_left_alone(hub: LoopbackHub, built: Path) -> None:
    hub.fail("/commit/", status=429, headers={"Retry-After": "3600"})
    with pytest.raises(
        ConnectionError, match=r"got 429 for us/fairpp, with the wish to be left alone for 3,600 seconds\."
    ):
        push_dataset(built, REPO)
    assert hub.waits == []


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "12"}, 12),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"retry-after": "soon"}, None),
        ({"ratelimit": '"api";r=0;t=55'}, 55),
        ({"ratelimit": '"api";r=9;t=55'}, None),
    ],
)
def test_how_long_the_hub_asks_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert push_errors.asked_wait(headers) == seconds


def test_a_commit_of_somebody_else_in_between_is_merged_with(hub: LoopbackHub, built: Path, rebuilt: Path) -> None:
    push_dataset(built, REPO)

    def once(repo: Repo) -> None:
        hub.before_commit = None
        card = hub.files(REPO)["README.md"].decode()
        hub.commit(REPO, {"README.md": (card + "\n## Late words\n\nJust in time.\n").encode(), "theirs.txt": b"x"})

    hub.before_commit = once
    pushed = push_dataset(rebuilt, REPO)
    assert pushed.edited_on_card == ("section 'Late words'",)
    files = hub.files(REPO)
    assert "## Late words\n\nJust in time.\n" in files["README.md"].decode()
    assert files["theirs.txt"] == b"x"
    assert len(hub.commits(REPO)) == 1 + 3


def test_somebody_who_never_stops_committing(hub: LoopbackHub, built: Path) -> None:
    hub.before_commit = lambda repo: hub.commit(REPO, {"theirs.txt": str(len(hub.commits(REPO))).encode()})
    with pytest.raises(ConnectionError, match=r"within 6 attempts; got 412 Precondition Failed to POST"):
        push_dataset(built, REPO)
    hub.before_commit = None
    push_dataset(built, REPO)
    assert_holds(hub, built, commits=push_errors.ATTEMPTS + 1, but=("theirs.txt",))


def test_a_gitignore_there_that_leaves_files_out_is_noticed(hub: LoopbackHub, built: Path) -> None:
    """The client leaves them out of the commit without a word."""
    hub.commit(REPO, {".gitignore": b"questions/\n"})
    with pytest.raises(
        ConnectionError,
        match=r"^The repo must hold what was pushed; got us/fairpp, where 'questions/test-.*', 'questions/train-.*' still "
        r"differ after 6 commits\. Is there a \.gitignore, or does somebody else write to it\? Look there, and push",
    ):
        push_dataset(built, REPO)


def test_an_interrupted_push_says_that_nothing_is_lost(
    hub: LoopbackHub, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    hub.fail("/commit/", status=500)
    monkeypatch.setattr(push_errors, "_sleep", interrupt)
    with pytest.raises(push.PushInterrupted, match=r"^stopped\. A commit is all or nothing: the repo is as it was, or"):
        push_dataset(built, REPO)
    push_dataset(built, REPO)
    assert_holds(hub, built, commits=1)


def test_files_on_the_hub_that_cannot_be_read_for_a_while(hub: LoopbackHub, built: Path, rebuilt: Path) -> None:
    push_dataset(built, REPO)
    hub.fail(f"/{FOLDER_MANIFEST}", times=3, status=503)
    hub.fail("/README.md", times=1, status=404)
    push_dataset(rebuilt, REPO)
    assert_holds(hub, rebuilt, commits=2)
    hub.fail(f"/{FOLDER_MANIFEST}", times=1000, status=503)
    with pytest.raises(ConnectionError, match=r"^The Hub must accept the push within 6 attempts; got "):
        push_dataset(built, REPO)


def test_offline_is_not_tried_again(hub: LoopbackHub, built: Path) -> None:
    with (
        mock.patch.object(constants, "HF_HUB_OFFLINE", True),
        pytest.raises(
            ConnectionError, match=r"^A push must reach the Hub; got HF_HUB_OFFLINE=1 for us/fairpp\. Unset it, and"
        ),
    ):
        push_dataset(built, REPO)
    assert hub.waits == []


@pytest.mark.parametrize(("status", "kind"), [(403, PermissionError), (413, ConnectionError)])
def test_the_hubs_own_words_are_passed_on(hub: LoopbackHub, built: Path, status: int, kind: type[Exception]) -> None:
    hub.fail("/commit/", status=status, message="your quota is used up.")
    with pytest.raises(kind, match=r" It said: your quota is used up\. "):
        push_dataset(built, REPO)


@pytest.mark.parametrize("is_taken", [False, True])
def test_a_killed_push_is_finished_by_the_same_command(
    hub: LoopbackHub, built: Path, tmp_path: Path, is_taken: bool
) -> None:
    """The process dies while the Hub has its commit in hand, and the Hub takes it or not."""
    command = [sys.executable, "-m", "fairpp_hf", "push", str(built), "--repo-id", REPO]
    environment = {**os.environ, **hub.environment(tmp_path / "home")}

    def kill(_: Repo) -> None:
        hub.before_commit = None
        process.kill()
        process.wait()
        if not is_taken:
            raise HubError(500, "not taken")

    hub.before_commit = kill
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    sent = hub.count("PUT", "/storage/")
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert again.startswith("Nothing to send") == is_taken
    assert_holds(hub, built, commits=1)
    assert hub.count("PUT", "/storage/") == sent  # what was uploaded is not sent again
