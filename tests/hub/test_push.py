"""Pushing a dataset folder to a Hub: what arrives, what stays, and what happens when things go wrong."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, get_dataset_config_names, load_dataset
from huggingface_hub import constants
from loopback_hub import LoopbackHub, Repo, loopback_hub
from loopback_hub_store import HubError
from small_runs import make_run

from fairpp_hf import push_dataset
from fairpp_hf.dataset.builder import NOBODY_ASKED
from fairpp_hf.dataset.card_merge import joined_histories
from fairpp_hf.dataset.folder_manifest import FOLDER_MANIFEST, PUSHES, manifest_bytes
from fairpp_hf.hub import build_dataset_folder, push, push_errors, push_folder

REPO = "us/fairpp"


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders from small runs with other answers, and with pairs of another target."""
    folder = tmp_path_factory.mktemp("builds")
    for version, (name, target) in enumerate({"built": "loyal_nationals", "rebuilt": "civic_pragmatists"}.items()):
        run = make_run(folder / f"run-{version}", version=version, train=12, test=6)
        build_dataset_folder(folder / name, answers=run, targets=[target], progress=False)
    return folder


@pytest.fixture
def built(builds: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(builds / "built", tmp_path / "built"))


@pytest.fixture
def rebuilt(builds: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(builds / "rebuilt", tmp_path / "rebuilt"))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    with loopback_hub() as hub:
        monkeypatch.setattr(push_errors, "_sleep", hub.waits.append)
        yield hub
        assert hub.outside == []


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


# -- what arrives --------------------------------------------------------------------------------------------------------


def test_everything_arrives_in_one_commit(hub: LoopbackHub, built: Path) -> None:
    pushed = push_dataset(built, REPO)
    assert_holds(hub, built, commits=1)
    assert pushed.url == f"{hub.url}/datasets/{REPO}"
    assert pushed.commit == hub.commits(REPO)[0].sha
    assert actions(pushed)["add"] == sorted(contents(built))
    assert pushed.load_line == f'load_dataset("{REPO}", "pairs-loyal_nationals")'
    assert hub.repo(REPO).private is False


def test_a_new_repo_is_private_if_asked(hub: LoopbackHub, built: Path) -> None:
    push_dataset(built, REPO, private=True)
    assert hub.repo(REPO).private is True
    push_dataset(built, REPO, private=True)
    assert_holds(hub, built, commits=1)


def test_what_is_loaded_back_equals_the_folder_to_the_byte(hub: LoopbackHub, built: Path) -> None:
    push_dataset(built, REPO)
    assert f'load_dataset("{REPO}", "pairs-loyal_nationals")' in hub.files(REPO)["README.md"].decode()
    configs = get_dataset_config_names(REPO)
    assert configs == ["questions", "preferences", "pairs-loyal_nationals"]
    for config in configs:
        loaded = load_dataset(REPO, config)
        assert set(loaded) == {"train", "test"}
        for split, rows in loaded.items():
            (file,) = (built / config).glob(f"{split}-*.parquet")
            table = pq.read_table(file)
            assert rows.data.table.cast(table.schema).equals(table)
            assert rows.info.license == "cc-by-4.0"
            assert (NOBODY_ASKED in rows.info.description) == (config != "questions")
            streamed = load_dataset(REPO, config, split=split, streaming=True)
            assert streamed.features == rows.features
            assert list(streamed.take(5)) == list(rows.take(5))
    assert load_dataset(REPO, split="test").features["answer"].names == ["A", "B", "C"]


def test_it_loads_without_this_package(hub: LoopbackHub, built: Path, tmp_path: Path) -> None:
    push_dataset(built, REPO)
    code = f"""
import sys
sys.modules["fairpp_hf"] = None  # an import of it is an error
from datasets import load_dataset
pairs = load_dataset("{REPO}", "pairs-loyal_nationals")
stream = load_dataset("{REPO}", "pairs-loyal_nationals", split="train", streaming=True)
assert next(iter(stream)) == pairs["train"][0]
print(pairs.num_rows)
"""
    printed = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **hub.environment(tmp_path / "home")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    pairs = {
        split: len(pq.read_table(built / "pairs-loyal_nationals" / f"{split}-00000-of-00001.parquet"))
        for split in ("train", "test")
    }
    assert printed.strip() == str(pairs)


ODD = [
    "\U0001f642\u200d\u2642",
    "\u0627\u0644\u0627\u0646\u0635\u0627\u0641",
    "a\r\nb\rc\n",
    "a\0b",
    "e\u0301\u00e9",
    "\u202eabc",
    "\ufeffx",
    "",
    " ",
]


def test_odd_unicode_arrives_byte_for_byte(hub: LoopbackHub, built: Path, tmp_path: Path) -> None:
    """Answers from a folder of another's making, with odd texts in every column that may hold any."""
    (table,) = (pq.read_table(file) for file in (built / "preferences").glob("test-*.parquet"))
    table = table.slice(0, len(ODD))
    odd = pa.array(ODD)
    for name in ("question", "option_a", "option_b", "option_c", "prompt"):
        table = table.set_column(table.schema.get_field_index(name), table.schema.field(name), odd)
    ids = pa.array([f"q{number}{text}" for number, text in enumerate(ODD)])
    table = table.set_column(0, table.schema.field("question_id"), ids)
    (tmp_path / "other" / "preferences").mkdir(parents=True)
    pq.write_table(table, tmp_path / "other" / "preferences" / "test-0.parquet")
    build_dataset_folder(tmp_path / "odd", answers=tmp_path / "other", targets=[], progress=False)
    push_dataset(tmp_path / "odd", REPO)
    loaded = load_dataset(REPO, "preferences", split="test")
    assert sorted(loaded["question"]) == sorted(ODD)
    by_id = dict(zip(loaded["question_id"], loaded["prompt"], strict=True))
    assert by_id == dict(zip(ids.to_pylist(), ODD, strict=True))


# -- again ---------------------------------------------------------------------------------------------------------------


def test_pushing_again_does_nothing(hub: LoopbackHub, built: Path) -> None:
    first = push_dataset(built, REPO)
    again = push_dataset(built, REPO)
    assert_holds(hub, built, commits=1)
    assert again.commit == first.commit
    assert actions(again) == {"add": [], "replace": [], "delete": [], "keep": sorted(contents(built))}


def test_a_rebuilt_folder_replaces_what_changed_and_deletes_what_is_gone(
    hub: LoopbackHub, built: Path, rebuilt: Path
) -> None:
    push_dataset(built, REPO)
    hub.commit(REPO, {"notes.txt": b"mine", "preferences/extra.parquet": b"mine too"})
    pushed = push_dataset(rebuilt, REPO)
    files = hub.files(REPO)
    assert files.pop("notes.txt") == b"mine"
    assert files.pop("preferences/extra.parquet") == b"mine too"
    assert files == as_pushed(rebuilt, built)
    done = actions(pushed)
    assert [name for name in done["delete"] if name.endswith(".parquet")] == [
        "pairs-loyal_nationals/test-00000-of-00001.parquet",
        "pairs-loyal_nationals/train-00000-of-00001.parquet",
    ]
    assert "questions/train-00000-of-00001.parquet" in done["keep"]
    assert "preferences/train-00000-of-00001.parquet" in done["replace"]
    assert len(hub.commits(REPO)) == 1 + 3


def test_a_dry_run_changes_nothing(hub: LoopbackHub, built: Path, rebuilt: Path) -> None:
    planned = push_dataset(built, REPO, dry_run=True)
    assert hub.repos == {}
    assert planned.commit is None
    assert actions(planned)["add"] == sorted(contents(built))
    push_dataset(built, REPO)
    planned = push_dataset(rebuilt, REPO, dry_run=True)
    assert_holds(hub, built, commits=1)
    assert planned.files == push_dataset(rebuilt, REPO).files


def test_files_of_the_folder_that_were_not_built_stay_at_home(hub: LoopbackHub, built: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(built, tmp_path / "fairpp")
    (folder / "secrets").mkdir()
    (folder / "secrets" / "token.txt").write_text("hf_x")
    assert push_dataset(folder, REPO).left_out == ("secrets/token.txt",)
    assert_holds(hub, built, commits=1)


# -- the card ------------------------------------------------------------------------------------------------------------


def edit_card(hub: LoopbackHub, old: str, new: str) -> str:
    card = hub.files(REPO)["README.md"].decode()
    assert old in card
    hub.commit(REPO, {"README.md": card.replace(old, new, 1).encode()})
    return card


def test_what_people_wrote_on_the_card_is_kept(hub: LoopbackHub, built: Path, rebuilt: Path) -> None:
    push_dataset(built, REPO)
    edit_card(hub, "## Limits", "## Our findings\n\nWe found that.\n\n## Limits")
    edit_card(hub, "- dpo\n", "- dpo\n- our-tag\n")
    edit_card(hub, "license:", "extra_gated_prompt: Say who you are\nlicense:")
    assert push_dataset(built, REPO).kept_on_card == (
        "extra_gated_prompt: 'Say who you are'",
        "'our-tag' in tags",
        "section 'Our findings'",
    )
    assert len(hub.commits(REPO)) == 1 + 4  # the card was as it should be, so that nothing was sent
    push_dataset(rebuilt, REPO)
    card = hub.files(REPO)["README.md"].decode()
    assert "## Our findings\n\nWe found that.\n\n## Limits" in card
    assert "- our-tag\n" in card
    assert "extra_gated_prompt: Say who you are\n" in card
    assert "config_name: pairs-civic_pragmatists" in card
    assert "pairs-loyal_nationals" not in card
    assert_holds(hub, built, rebuilt, commits=5, but=("README.md",))
    assert load_dataset(REPO, "pairs-civic_pragmatists", split="train").num_rows


def test_what_the_user_writes_on_the_card_at_home_goes_along(hub: LoopbackHub, built: Path, tmp_path: Path) -> None:
    """An edit at home replaces the earlier one; one on the Hub in the meantime is kept."""
    folder = Path(shutil.copytree(built, tmp_path / "fairpp"))
    card = (folder / "README.md").read_text("utf-8")
    (folder / "README.md").write_text(card + "\n## Our study\n\nFirst words.\n\n## Contact\n\nA.\n", "utf-8")
    push_dataset(folder, REPO)
    edit_card(hub, "## Contact\n\nA.", "## Contact\n\nB.")
    (folder / "README.md").write_text(card + "\n## Our study\n\nSecond words.\n\n## Contact\n\nA.\n", "utf-8")
    pushed = push_dataset(folder, REPO)
    assert pushed.kept_on_card == ("section 'Contact'",)
    there = hub.files(REPO)["README.md"].decode()
    assert there.endswith("## Our study\n\nSecond words.\n\n## Contact\n\nB.\n")
    assert "First words" not in there
    assert actions(push_dataset(folder, REPO))["replace"] == []


def test_what_was_written_in_one_folder_is_not_deleted_by_a_push_from_another(
    hub: LoopbackHub, built: Path, rebuilt: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(built, tmp_path / "fairpp"))
    card = (folder / "README.md").read_text("utf-8").replace("\nlicense:", "\ndoi: 10/1\nlicense:", 1)
    (folder / "README.md").write_text(card + "\n## Our study\n\nWords.\n", "utf-8")
    push_dataset(folder, REPO)
    for other in (rebuilt, built):
        assert push_dataset(other, REPO).kept_on_card == ("doi: '10/1'", "section 'Our study'")
        there = hub.files(REPO)["README.md"].decode()
        assert there.endswith("## Our study\n\nWords.\n")
        assert "\ndoi: 10/1\n" in there


def test_a_card_taken_home_is_built_and_pushed_again(
    hub: LoopbackHub, built: Path, rebuilt: Path, tmp_path: Path
) -> None:
    """It names the repo then, which is no edit; the new folder's own load line goes out."""
    push_dataset(built, REPO)
    folder = Path(shutil.copytree(built, tmp_path / "fairpp"))
    (folder / "README.md").write_bytes(hub.files(REPO)["README.md"])
    build_dataset_folder(folder, answers=rebuilt, targets=["civic_pragmatists"], progress=False)
    assert (folder / "README.md").read_bytes() == (rebuilt / "README.md").read_bytes()
    assert push_dataset(folder, REPO).kept_on_card == ()


def test_of_two_folders_that_edit_one_section_neither_loses_its_words_unsaid(
    hub: LoopbackHub, built: Path, rebuilt: Path
) -> None:
    """The first one's are on the Hub and stay, and the second is told; the first may change its own words later."""

    def write(folder: Path, words: str) -> None:
        card = (folder / "README.md").read_text("utf-8")
        start = card.index("## Limits")
        (folder / "README.md").write_text(
            f"{card[:start]}## Limits\n\n{words}\n\n{card[card.index('## ', start + 3) :]}", "utf-8"
        )

    write(built, "From the first.")
    write(rebuilt, "From the second.")
    assert push_dataset(built, REPO).kept_on_card == ()
    assert push_dataset(rebuilt, REPO).kept_on_card == ("section 'Limits'",)
    assert "From the first." in hub.files(REPO)["README.md"].decode()
    write(built, "From the first, later.")
    assert push_dataset(built, REPO).kept_on_card == ()
    assert "From the first, later." in hub.files(REPO)["README.md"].decode()


def test_an_older_card_taken_home_brings_nothing_stale_along(hub: LoopbackHub, built: Path, rebuilt: Path) -> None:
    """The card of the folder that pushed in between: its configs, numbers and load lines are not this folder's."""
    push_dataset(built, REPO)
    push_dataset(rebuilt, REPO)
    edit_card(hub, "## Limits", "## Our study\n\nWords.\n\n## Limits")
    (built / "README.md").write_bytes(hub.files(REPO)["README.md"])
    for repo in (REPO, "us/other"):
        pushed = push_dataset(built, repo)
        card = hub.files(repo)["README.md"].decode()
        generated = json.loads((built / FOLDER_MANIFEST).read_bytes())["card"].replace('"USER/fairpp"', f'"{repo}"')
        assert card == generated.replace("## Limits", "## Our study\n\nWords.\n\n## Limits")
        assert load_dataset(repo, "pairs-loyal_nationals", split="test").num_rows
        assert f'load_dataset("{repo}", "pairs-loyal_nationals")' in card
        assert "civic" not in pushed.load_line


def test_a_config_that_would_lose_its_files_is_refused(hub: LoopbackHub, built: Path, rebuilt: Path) -> None:
    push_dataset(built, REPO)
    edit_card(hub, "configs:\n", "configs:\n- config_name: theirs\n  data_files: pairs-loyal_nationals/*.parquet\n")
    with pytest.raises(
        ValueError, match=r"got 'theirs' with 'pairs-loyal_nationals/\*\.parquet', which would match none of"
    ):
        push_dataset(rebuilt, REPO)
    assert load_dataset(REPO, "theirs", split="train").num_rows


def test_a_folder_that_cannot_be_written_is_pushed_all_the_same(
    hub: LoopbackHub, built: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(push_folder.os, "replace", refuse)
        push_dataset(built, REPO)
    assert_holds(hub, built, commits=1)
    assert any("the next push keeps all of the Hub's card" in message for message in caplog.messages)


def test_a_notice_that_was_edited_there_is_made_anew(hub: LoopbackHub, built: Path) -> None:
    push_dataset(built, REPO)
    edit_card(hub, "> **Simulated answers.**", "> **Real answers.**")
    assert push_dataset(built, REPO).renewed_on_card == ("the notice on what is simulated",)
    assert_holds(hub, built, commits=3)


def test_a_repo_made_by_datasets_stays_loadable(hub: LoopbackHub, built: Path) -> None:
    """Its config is called default, and `datasets` refuses a card with two defaults."""
    Dataset.from_dict({"x": [1, 2]}).push_to_hub(REPO)
    pushed = push_dataset(built, REPO)
    assert "configs 'default'" in pushed.kept_on_card
    assert load_dataset(REPO, "default", split="train")["x"][:] == [1, 2]
    assert load_dataset(REPO, "preferences", split="test").num_rows == 42


def test_shards_of_other_origin_are_not_taken_for_ours(hub: LoopbackHub, built: Path) -> None:
    (file,) = (built / "preferences").glob("test-*.parquet")
    hub.commit(REPO, {"preferences/test-00000-of-00002.parquet": file.read_bytes()})
    push_dataset(built, REPO)
    assert load_dataset(REPO, "preferences", split="test").num_rows == 42
    assert len(list(load_dataset(REPO, "preferences", split="test", streaming=True))) == 42


def test_a_config_without_its_files_is_refused(hub: LoopbackHub, built: Path, tmp_path: Path) -> None:
    """With such a config on the card, no config of the repo could be loaded."""
    folder = Path(shutil.copytree(built, tmp_path / "fairpp"))
    card = (folder / "README.md").read_text("utf-8")
    (folder / "README.md").write_text(
        card.replace("configs:\n", "configs:\n- config_name: extra\n  data_files: extra/*.parquet\n"), "utf-8"
    )
    for there in ({}, {"other.csv": b"a\n1\n"}):
        if there:
            hub.commit(REPO, there)
        with pytest.raises(
            ValueError,
            match=r"^The configs on the card must have their files in the repo; got 'extra' with 'extra/\*\.parquet', which "
            r"would match none of us/fairpp\. It could not be loaded, and if it stands first, no other\. Nothing was sent\.",
        ):
            push_dataset(folder, REPO)
    pq.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    hub.commit(REPO, {"extra/a.parquet": (tmp_path / "a.parquet").read_bytes()})
    push_dataset(folder, REPO)
    assert load_dataset(REPO, "extra", split="train")["a"][:] == [1]
    assert load_dataset(REPO, "preferences", split="test").num_rows == 42


@pytest.mark.parametrize("where", ["home", "there"])
def test_a_card_that_is_no_utf8(hub: LoopbackHub, built: Path, tmp_path: Path, where: str) -> None:
    folder = Path(shutil.copytree(built, tmp_path / "fairpp"))
    if where == "home":
        (folder / "README.md").write_bytes("é".encode("latin-1"))
    else:
        hub.commit(REPO, {"README.md": "é".encode("latin-1")})
    with pytest.raises(
        ValueError, match=r"^A card must be UTF-8; got byte 0xe9 at position 0 of .*\. Save it as UTF-8"
    ):
        push_dataset(folder, REPO)


def test_a_repo_with_a_card_of_its_own_keeps_it(hub: LoopbackHub, built: Path) -> None:
    hub.commit(
        REPO, {"README.md": b"---\nlicense: mit\ntags:\n- mine\n---\n# My data\n\nBy hand.\n", "data.csv": b"a\n1\n"}
    )
    pushed = push_dataset(built, REPO)
    card = hub.files(REPO)["README.md"].decode()
    assert "# My data\n\n<!-- fairpp:notice -->\n> **Simulated answers.**" in card
    assert "By hand.\n" in card
    assert "## Limits" in card
    assert "license: 'mit' (instead of 'cc-by-4.0')" in pushed.kept_on_card
    assert hub.files(REPO)["data.csv"] == b"a\n1\n"
    assert load_dataset(REPO, "questions", split="test").num_rows == 5_669


# -- files of other origin -------------------------------------------------------------------------------------------------


def test_a_file_of_other_origin_is_not_replaced(hub: LoopbackHub, built: Path) -> None:
    hub.commit(REPO, {"questions/test-00000-of-00001.parquet": b"mine"})
    with pytest.raises(
        ValueError,
        match=r"^A push must not replace files of other origin; got 'questions/test-00000-of-00001\.parquet' in us/fairpp, "
        r"which `fairpp push` did not write, or which were changed since\. Nothing was sent\. Move them away there, or push "
        r"to another repo\.$",
    ):
        push_dataset(built, REPO)
    assert hub.files(REPO) == {"questions/test-00000-of-00001.parquet": b"mine"}


def test_a_file_of_ours_that_was_changed_there_is_neither_replaced_nor_deleted(
    hub: LoopbackHub, built: Path, rebuilt: Path
) -> None:
    push_dataset(built, REPO)
    hub.commit(REPO, {"pairs-loyal_nationals/test-00000-of-00001.parquet": b"mine"})
    push_dataset(rebuilt, REPO)
    assert hub.files(REPO)["pairs-loyal_nationals/test-00000-of-00001.parquet"] == b"mine"
    hub.commit(
        REPO,
        {"preferences/test-00000-of-00001.parquet": b"mine"},
        delete=["pairs-loyal_nationals/test-00000-of-00001.parquet"],
    )
    with pytest.raises(ValueError, match=r"got 'preferences/test-00000-of-00001\.parquet' in us/fairpp"):
        push_dataset(built, REPO)


def test_a_manifest_on_the_hub_that_cannot_be_read_is_an_error(hub: LoopbackHub, built: Path) -> None:
    hub.commit(REPO, {FOLDER_MANIFEST: b"{"})
    with pytest.raises(
        ValueError, match=r"^The manifest on the Hub must be as it was pushed; got us/fairpp, whose fairpp_build"
    ):
        push_dataset(built, REPO)


# -- faults --------------------------------------------------------------------------------------------------------------


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
    assert pushed.kept_on_card == ("section 'Late words'",)
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
    assert_holds(hub, built, rebuilt, commits=2)
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


# -- who may -------------------------------------------------------------------------------------------------------------


def test_without_a_token(built: Path) -> None:
    with (
        loopback_hub(token=None) as hub,
        pytest.raises(
            PermissionError,
            match=r"^The Hub must be given a token; got 401 for us/fairpp\. It said: Invalid username or password\. Log "
            r"in with `hf auth login`, or set HF_TOKEN to a token with the right to write, from the settings of your "
            r"account\. The repo is as it was\.$",
        ),
    ):
        push_dataset(built, REPO)
    assert hub.repos == {}


def test_with_a_token_that_may_not_write(built: Path) -> None:
    with loopback_hub(token="hf_reader") as hub:
        hub.create(REPO)
        with pytest.raises(
            PermissionError, match=r"^The Hub must be given a token that may write to 'us'; got 403 for us/fairpp"
        ):
            push_dataset(built, REPO)
        assert hub.files(REPO) == {}


def test_a_public_repo_is_not_taken_for_a_private_one(hub: LoopbackHub, built: Path) -> None:
    hub.create(REPO)
    with pytest.raises(
        ValueError,
        match=r"^--private must be left out for a repo that is public; got it for us/fairpp\. Make the repo private in its "
        r"settings, or push to another\.$",
    ):
        push_dataset(built, REPO, private=True)
    assert hub.files(REPO) == {}


def test_a_hub_that_cannot_be_reached(hub: LoopbackHub, built: Path) -> None:
    hub.fail("/api/", times=1000, cut=True)
    with pytest.raises(
        ConnectionError, match=r"^The Hub must accept the push within 6 attempts; got .* for us/fairpp in the"
    ):
        push_dataset(built, REPO)


# -- bad input -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("repo_id", ["fairpp", "a/b/c", "us/", "us/fair pp", "us/-x", "u s/x", ""])
def test_a_wrong_repo_id(hub: LoopbackHub, built: Path, repo_id: str) -> None:
    with pytest.raises(
        ValueError,
        match=r"^repo_id must be USER/NAME, each of letters, digits, '-', '_' and '\.'",
    ):
        push_dataset(built, repo_id)
    assert hub.requests == []


def test_folders_that_will_not_do(hub: LoopbackHub, built: Path, tmp_path: Path) -> None:
    rule = r"^The folder must be one that `fairpp build` has written, whole; got "
    with pytest.raises(
        ValueError, match=rule + r".*nowhere, which has no fairpp_build\.json\. Run `fairpp build --out nowhere`"
    ):
        push_dataset(tmp_path / "nowhere", REPO)
    folder = shutil.copytree(built, tmp_path / "fairpp")
    file = folder / "preferences" / "test-00000-of-00001.parquet"
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(ValueError, match=rule + r".*where 'preferences/test-.*' was changed since\. Build it again\.$"):
        push_dataset(folder, REPO)
    file.unlink()
    with pytest.raises(ValueError, match=rule + r".*without 'preferences/test-.*'\. Build it again\.$"):
        push_dataset(folder, REPO)
    (folder / FOLDER_MANIFEST).write_text(json.dumps({"files": []}))
    with pytest.raises(ValueError, match=rule + r".*, whose build was cut short\. Build it again\.$"):
        push_dataset(folder, REPO)
    assert hub.requests == []
