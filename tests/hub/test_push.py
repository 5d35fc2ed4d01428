"""Pushing a dataset folder to a Hub: what arrives, what stays, and who may."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import get_dataset_config_names, load_dataset
from loopback_hub import LoopbackHub, loopback_hub
from push_folders import REPO, actions, as_pushed, assert_holds, contents

from fairpp_hf import push_dataset
from fairpp_hf.hub import build_dataset_folder
from fairpp_hf.provenance import FOLDER_MANIFEST, Provenance

# What arrives


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
            provenance = Provenance.in_text(rows.info.description)
            assert (provenance is not None and provenance.simulated) == (config != "questions")
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


# Again


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
    assert files == as_pushed(rebuilt)
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


# Files of other origin


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


def test_a_manifest_on_the_hub_cannot_have_other_files_deleted(hub: LoopbackHub, built: Path) -> None:
    """Whoever may write to the repo can list there what `fairpp build` never writes, with its digest."""
    theirs = {"model.safetensors": b"weights", "data/train-00000-of-00001.parquet": b"rows", "figures.png": b"picture"}
    listed = [{"path": name, "sha256": hashlib.sha256(content).hexdigest()} for name, content in theirs.items()]
    hub.commit(REPO, {**theirs, FOLDER_MANIFEST: json.dumps({"files": listed}).encode()})
    assert actions(push_dataset(built, REPO))["delete"] == []
    assert hub.files(REPO) == as_pushed(built) | theirs


def test_a_manifest_on_the_hub_that_cannot_be_read_is_an_error(hub: LoopbackHub, built: Path) -> None:
    hub.commit(REPO, {FOLDER_MANIFEST: b"{"})
    with pytest.raises(
        ValueError, match=r"^The manifest on the Hub must be as it was pushed; got us/fairpp, whose manifest"
    ):
        push_dataset(built, REPO)


# Who may


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


# Bad input


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


@pytest.mark.parametrize("name", ["README.md", FOLDER_MANIFEST, "preferences"])
def test_what_lies_behind_a_link_is_neither_sent_nor_written(
    hub: LoopbackHub, built: Path, tmp_path: Path, name: str
) -> None:
    """In a folder that somebody else made: a private text would go out on the card, and files elsewhere be replaced."""
    elsewhere = (built / name).rename(tmp_path / "elsewhere")
    before = contents(elsewhere) if elsewhere.is_dir() else elsewhere.read_bytes()
    (built / name).symlink_to(elsewhere)
    with pytest.raises(ValueError, match=rf"^The folder must be one .*, where '{name}' is a link to another place\."):
        push_dataset(built, REPO)
    with pytest.raises(ValueError, match=rf"^The output folder must .*, where '{name}' is a link to another place\."):
        build_dataset_folder(built, targets=[], progress=False)
    assert hub.repos == {}
    assert before == (contents(elsewhere) if elsewhere.is_dir() else elsewhere.read_bytes())
