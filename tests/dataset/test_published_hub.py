"""`answers="published"` by the real clients: made-up tables on a loopback Hub."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict, load_dataset
from huggingface_hub import constants, hf_hub_download
from loopback_hub import LoopbackHub, as_client, loopback_hub
from published_tables import published_row, scenario_row, write_published, write_scenarios
from small_runs import some_questions

from fairpp_hf.dataset.published_files import PUBLISHED_REPO, SCENARIOS_REPO
from fairpp_hf.dataset.sources import load_answers, resolve_answers
from fairpp_hf.provenance import Provenance

TARGET = "loyal_nationals"
LOCAL = "or download its files by other means and give their folder as answers."


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    with loopback_hub() as hub:
        yield hub


pytestmark = pytest.mark.usefixtures("fresh_log")


def publish(hub: LoopbackHub, folder: Path, repo: str = PUBLISHED_REPO, **more: bytes) -> str:
    """Commit a folder's files as they lie; gives the commit."""
    files = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    return hub.commit(repo, files | more).sha


def load(*arguments: Any, **options: Any) -> Any:
    return load_dataset("fairpp", *arguments, answers="published", **options)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_tables_come_from_the_hub_with_their_commit(suffix: str, hub: LoopbackHub, tmp_path: Path) -> None:
    folder = write_published(tmp_path / "tables", suffix=suffix)
    sha = publish(hub, folder, paper=b"%PDF")
    local = load_answers(folder)
    answers = load_answers("published")
    assert answers.provenance == replace(local.provenance, source=PUBLISHED_REPO, revision=sha)
    assert answers.questions.equals(local.questions)
    assert all(answers.records[persona].equals(local.records[persona]) for persona in local.personas)
    # Of other files nothing was asked.
    assert hub.count("GET", "paper") == 0

    loaded = load()
    assert loaded["train"].with_format("arrow")[:].equals(pa.concat_tables(local.preferences("train")))
    info = loaded["train"].info
    assert (info.license, info.homepage) == (
        "cc-by-nc-sa-4.0",
        "https://huggingface.co/datasets/tools-o/Fair-PP",
    )
    found = Provenance.in_text(info.description)
    assert found is not None
    assert (found.kind, found.source, found.revision) == ("published", PUBLISHED_REPO, sha)
    assert list(load(streaming=True, split="test")) == loaded["test"].to_list()
    pairs = load("pairs", target=TARGET, heldout="topics")
    assert Provenance.in_text(pairs["train"].info.description) == found
    assert f"answers by gpt-4o-mini (simulated), from tools-o/Fair-PP at commit {sha[:12]}." in (
        pairs["train"].info.description
    )


def test_tables_that_push_to_hub_wrote(hub: LoopbackHub, tmp_path: Path) -> None:
    """The layout and the card are those of the real client; pandas has left its index behind."""
    rows = [published_row(question) | {"__index_level_0__": 4} for question in some_questions().to_pylist()]
    tables = {"train": Dataset.from_list(rows[:30]), "test": Dataset.from_list(rows[30:])}
    hub.tokens["hf_authors"] = hub.tokens[next(iter(hub.tokens))]._replace(name="tools-o")
    DatasetDict(tables).push_to_hub(PUBLISHED_REPO, token="hf_authors")
    told = [scenario_row(question) for question in some_questions(train=0).to_pylist()]
    Dataset.from_list(told).push_to_hub(SCENARIOS_REPO, token="hf_authors")
    local = load_answers(write_published(tmp_path / "tables"))
    answers = load_answers("published")
    assert answers.questions.equals(local.questions)
    assert answers.is_test.tolist() == local.is_test.tolist()
    assert {persona: column.tolist() for persona, column in answers.matrix().items()} == {
        persona: column.tolist() for persona, column in local.matrix().items()
    }
    scenarios = load("scenarios")
    assert {split: len(rows) for split, rows in scenarios.items()} == {"test": 70}


def test_scenarios_are_another_dataset_with_own_revisions(hub: LoopbackHub, tmp_path: Path) -> None:
    publish(hub, write_published(tmp_path / "tables"))
    sha = publish(hub, write_scenarios(tmp_path / "told"), SCENARIOS_REPO)
    source = resolve_answers("published", sha, scenarios=True)
    assert source.fingerprint() == sha != resolve_answers("published").fingerprint()
    scenarios, local = source.load(), resolve_answers(tmp_path / "told", scenarios=True).load()
    assert scenarios.provenance == replace(local.provenance, source=SCENARIOS_REPO, revision=sha)
    loaded = load("scenarios", published_revision=sha)
    assert loaded["test"].with_format("arrow")[:].equals(pa.concat_tables(local.preferences("test")))
    assert loaded["test"].info.homepage.endswith("/tools-o/Fair-PP-simulation")


def test_a_revision_is_a_commit_of_its_own(hub: LoopbackHub, tmp_path: Path) -> None:
    """What was loaded comes from the cache; what main moves to is built anew."""
    first = publish(hub, write_published(tmp_path / "one", some_questions(4, 2)))
    before = load(split="train")
    second = publish(hub, write_published(tmp_path / "two", some_questions(5, 2)))
    after = load(split="train")
    assert (len(before), len(after)) == (7 * 4, 7 * 5)
    for revision, meant in (("main", after), (second, after), (first, before)):
        again = load(split="train", published_revision=revision)
        assert again.cache_files == meant.cache_files
    assert len(load_answers("published", published_revision=first).questions) == 6


def test_offline_the_cache_is_enough(hub: LoopbackHub, tmp_path: Path) -> None:
    sha = publish(hub, write_published(tmp_path / "tables"))
    online = load_answers("published")
    with mock.patch.object(constants, "HF_HUB_OFFLINE", True):
        for revision in (None, "main", sha):
            assert load_answers("published", published_revision=revision).provenance == online.provenance
        with pytest.raises(ConnectionError, match="at revision 'v2' on the Hub or whole in its cache; got neither"):
            resolve_answers("published", "v2")


def test_an_interrupted_download_goes_on(hub: LoopbackHub, tmp_path: Path) -> None:
    """Half the tables must not be taken for the whole, offline either."""
    folder = write_published(tmp_path / "tables")
    publish(hub, folder)
    hub.fail("storage", method="GET", skip=1, times=50, cut=True)
    rule = f"answers='published' must find the dataset {PUBLISHED_REPO} at revision 'main'"
    with pytest.raises(OSError, match=f"^{re.escape(rule)}") as error:
        load_answers("published")
    assert str(error.value).endswith(LOCAL)
    with (
        mock.patch.object(constants, "HF_HUB_OFFLINE", True),
        pytest.raises(ConnectionError, match=f"^{re.escape(rule)} on the Hub or whole in its cache; got neither: "),
    ):
        load_answers("published")
    hub._faults.clear()
    assert len(load_answers("published").questions) == 40


def test_files_that_another_download_left_are_not_the_whole(hub: LoopbackHub, tmp_path: Path) -> None:
    """One file of two, and no listing of the commit, as `hf_hub_download` leaves them: offline, and with the Hub down."""
    publish(hub, write_published(tmp_path / "tables"), **{"README.md": b"A card."})
    for file in ("data/train-00000-of-00001.parquet", "README.md"):
        hf_hub_download(PUBLISHED_REPO, file, repo_type="dataset")
    message = (
        f"answers='published' must find the dataset {PUBLISHED_REPO} at revision 'main' on the Hub or whole in its cache; "
        "got neither: "
    )
    with mock.patch.object(constants, "HF_HUB_OFFLINE", True):
        for ask in (lambda: load_answers("published"), load):
            with pytest.raises(ConnectionError, match=f"^{re.escape(message)}"):
                ask()
    hub.fail("Fair-PP", times=50, status=503)
    with pytest.raises(ConnectionError, match=f"^{re.escape(message)}"):
        load_answers("published")
    hub._faults.clear()
    assert {split: len(rows) for split, rows in load().items()} == {"train": 7 * 30, "test": 7 * 10}
    with mock.patch.object(constants, "HF_HUB_OFFLINE", True):
        assert len(load_answers("published").questions) == 40


def test_refusals_say_what_to_do(hub: LoopbackHub, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        resolve_answers("published")
    assert str(error.value) == (
        "answers='published' must find the dataset tools-o/Fair-PP at revision 'main'; got no such dataset on the Hub "
        f"(status 404). If you have access, log in with `hf auth login`, {LOCAL}"
    )
    publish(hub, write_published(tmp_path / "tables"))
    for wrong in ("v9", "0" * 40):
        with pytest.raises(ValueError, match=r"^published_revision") as unknown:
            resolve_answers("published", wrong)
        assert str(unknown.value) == (
            f"published_revision must be a branch, tag or commit of the dataset {PUBLISHED_REPO}; got '{wrong}', which it "
            "does not have. Leave it out for the newest."
        )
    hub.fail("Fair-PP", times=50, status=503)
    with pytest.raises(
        ConnectionError, match=r"on the Hub or whole in its cache; got neither: HTTPStatusError \(.* '503 "
    ):
        resolve_answers("published")


def test_a_private_dataset_without_a_token(tmp_path: Path) -> None:
    with LoopbackHub() as hub:
        hub.create(PUBLISHED_REPO, private=True)
        publish(hub, write_published(tmp_path / "tables"))
        with as_client(hub, tmp_path / "home", token=None), pytest.raises(FileNotFoundError) as error:
            resolve_answers("published")
    assert "; got no such dataset on the Hub (status 40" in str(error.value)
