"""Dataset folders: what is written loads back equal, the bytes are fixed, and nothing of the user's is lost."""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import get_dataset_config_names, get_dataset_default_config_name, load_dataset
from small_runs import make_run

from fairpp_hf.dataset import folder as folder_module
from fairpp_hf.dataset.folder import FolderFacts, WrittenFile, write_dataset_folder
from fairpp_hf.hub import build_dataset_folder
from fairpp_hf.personas import load_personas
from fairpp_hf.schema import PAIR_FEATURES, PREFERENCE_FEATURES, QUESTION_FEATURES

TARGETS = ["loyal_nationals", "backbone_conservatives"]
PERSONAS = load_personas().ids


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "run")


def build(out: Path, answers: str | Path, **options: Any) -> list[WrittenFile]:
    return build_dataset_folder(out, answers=answers, progress=False, **options)


def contents(folder: Path) -> dict[str, str]:
    """Relative path of every file below a folder to its digest."""
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


@pytest.mark.parametrize("config", ["questions", "preferences", "pairs-loyal_nationals"])
def test_a_folder_loads_back_as_the_builder_has_it(config: str, run: Path, tmp_path: Path) -> None:
    build(tmp_path / "fairpp", run, targets=TARGETS)
    cache = str(tmp_path / "cache")
    name, _, target = config.partition("-")
    options = {} if name == "questions" else {"answers": run}
    built = load_dataset("fairpp", name, cache_dir=cache, **options, **({"target": target} if target else {}))
    loaded = load_dataset(str(tmp_path / "fairpp"), config, cache_dir=cache)
    features = {"questions": QUESTION_FEATURES, "preferences": PREFERENCE_FEATURES, "pairs": PAIR_FEATURES}[name]
    assert list(loaded) == list(built) == ["train", "test"]
    for split in loaded:
        assert loaded[split].features == features
        assert loaded[split].with_format("arrow")[:].equals(built[split].with_format("arrow")[:])
    if name == "preferences":
        assert loaded["train"]["probabilities"][:].count(None) > 0
        assert loaded["train"]["answer"][:].count(-1) > 0
    streamed = load_dataset(str(tmp_path / "fairpp"), config, split="test", streaming=True)
    assert streamed.features == features
    assert next(iter(streamed)) == built["test"][0]


def test_the_folder_is_a_source_of_answers(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "fairpp"
    build(folder, run, targets=[])
    cache = str(tmp_path / "cache")
    of_folder = load_dataset("fairpp", answers=folder, cache_dir=cache)
    of_run = load_dataset("fairpp", answers=run, cache_dir=cache)
    for split in of_run:
        assert of_folder[split].to_list() == of_run[split].to_list()
    # A folder made from a folder has the same tables.
    build(tmp_path / "again", folder, targets=[])
    ours, theirs = contents(tmp_path / "again"), contents(folder)
    parquet = [name for name in theirs if name.endswith(".parquet")]
    assert len(parquet) == 4
    assert [ours[name] for name in parquet] == [theirs[name] for name in parquet]


def test_layout_and_configs(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "fairpp"
    files = build(folder, run)
    configs = ["questions", "preferences", *(f"pairs-{persona}" for persona in PERSONAS)]
    assert get_dataset_config_names(str(folder)) == configs
    assert get_dataset_default_config_name(str(folder)) == "preferences"
    assert [str(file.path) for file in files] == [
        *(f"{config}/{split}-00000-of-00001.parquet" for config in configs for split in ("train", "test")),
        "README.md",
    ]
    for file in files:
        assert file.size == (folder / file.path).stat().st_size
        if file.rows is not None:
            assert file.rows == pq.read_metadata(folder / file.path).num_rows
    assert (files[2].rows, files[3].rows) == (7 * 30, 7 * 10)
    # A row group for each persona.
    assert pq.read_metadata(folder / files[2].path).num_row_groups == 7


def test_a_new_folder_has_the_usual_permissions(run: Path, tmp_path: Path) -> None:
    build(tmp_path / "new", run, targets=[])
    (tmp_path / "usual").mkdir()
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_what_a_killed_build_left_behind_is_not_in_the_way(run: Path, tmp_path: Path) -> None:
    """In a container, the next build has the same process number."""
    left = tmp_path / f".fairpp.building-{os.getpid()}"
    left.mkdir()
    (left / "half").write_text("half")
    build(tmp_path / "fairpp", run, targets=[])
    assert sorted(path.name for path in tmp_path.iterdir()) == [left.name, "fairpp"]
    assert (left / "half").exists()


def test_questions_without_an_answer_are_counted_in_the_log(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    build(tmp_path / "fairpp", run, targets=TARGETS)
    counts = json.loads((tmp_path / "fairpp" / "fairpp_build.json").read_text("utf-8"))["answer_counts"]
    assert caplog.messages == [
        f"{counts[target]['none']} of 40 questions have no valid answer of {target} and give no pair."
        for target in TARGETS
    ]


def test_the_same_input_gives_the_same_bytes(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path / "one", run, targets=TARGETS)
    monkeypatch.chdir(tmp_path)
    build(Path("elsewhere/two"), Path(os.path.relpath(run)), targets=TARGETS)
    assert contents(tmp_path / "one") == contents(tmp_path / "elsewhere" / "two")
    build(tmp_path / "one", run, targets=TARGETS)
    assert contents(tmp_path / "one") == contents(tmp_path / "elsewhere" / "two")


def test_the_manifest_says_where_the_folder_comes_from(run: Path, tmp_path: Path) -> None:
    files = build(tmp_path / "fairpp", run, targets=TARGETS)
    manifest = json.loads((tmp_path / "fairpp" / "fairpp_build.json").read_text("utf-8"))
    assert manifest["answers"]["kind"] == "run"
    assert manifest["respondents"] == ["known (simulated)"]
    assert manifest["simulated"] is True
    assert manifest["persona_set"] == load_personas().as_dict()
    assert manifest["personas"] == list(PERSONAS)
    assert manifest["targets"] == TARGETS
    assert [entry["path"] for entry in manifest["files"]] == [str(file.path) for file in files]
    # No path of the machine goes to the Hub with it.
    assert str(tmp_path) not in json.dumps(manifest)
    preferences = pa.concat_tables(pq.read_table(tmp_path / "fairpp" / file.path) for file in files[2:4])
    answers, personas = preferences["answer"].to_pylist(), preferences["persona"].to_pylist()
    counted = {
        persona: {
            key: sum(p == persona and a == value for p, a in zip(personas, answers, strict=True))
            for key, value in (("none", -1), ("A", 0), ("B", 1), ("C", 2))
        }
        for persona in PERSONAS
    }
    assert manifest["answer_counts"] == counted
    statuses = preferences["status"].to_pylist()
    assert manifest["status_counts"] == {status: statuses.count(status) for status in ("invalid", "ok")}


def test_a_run_over_one_split_gives_files_for_that_split(tmp_path: Path) -> None:
    folder = tmp_path / "fairpp"
    build(folder, make_run(tmp_path / "run", train=0, test=6), targets=TARGETS[:1])
    assert sorted(name for name in contents(folder) if name.endswith(".parquet")) == [
        "pairs-loyal_nationals/test-00000-of-00001.parquet",
        "preferences/test-00000-of-00001.parquet",
        "questions/test-00000-of-00001.parquet",
        "questions/train-00000-of-00001.parquet",
    ]
    assert list(load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))) == ["test"]


def test_building_again_replaces_what_it_wrote_and_nothing_else(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "fairpp"
    build(folder, run, targets=TARGETS)
    (folder / "notes.md").write_text("mine")
    (folder / "pairs-loyal_nationals" / "mine.txt").write_text("mine")
    before = contents(folder)
    files = build(folder, make_run(tmp_path / "other", version=1), targets=[])
    after = contents(folder)
    assert set(after) == {
        "notes.md",
        "pairs-loyal_nationals/mine.txt",
        "fairpp_build.json",
        *(str(f.path) for f in files),
    }
    assert after["notes.md"] == before["notes.md"]
    assert after["preferences/train-00000-of-00001.parquet"] != before["preferences/train-00000-of-00001.parquet"]
    # The folder of a config that is gone goes with its last file.
    assert not (folder / "pairs-backbone_conservatives").exists()


def test_an_interruption_leaves_no_half_folder(run: Path, tmp_path: Path) -> None:
    def interrupt(facts: FolderFacts) -> str:
        raise KeyboardInterrupt

    def write(out: Path) -> None:
        write_dataset_folder(out, card=interrupt, answers=run, targets=[], progress=False)

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "fairpp")
    assert list(tmp_path.iterdir()) == []
    build(tmp_path / "fairpp", run, targets=TARGETS)
    before = contents(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "fairpp")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("moves", [1, 3, 6])
def test_an_interrupted_move_can_be_repeated(
    moves: int, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A move is a manifest of both, four Parquet files, the card and the new manifest; it breaks after `moves` of them."""
    folder = tmp_path / "fairpp"
    build(folder, run, targets=TARGETS[:1])
    other = make_run(tmp_path / "other", version=1)
    replace, count = os.replace, iter(range(100))

    def break_off(source: Path, destination: Path) -> None:
        if next(count) == moves:
            raise KeyboardInterrupt
        replace(source, destination)

    with monkeypatch.context() as patch:
        patch.setattr(folder_module.os, "replace", break_off)
        with pytest.raises(KeyboardInterrupt):
            build(folder, other, targets=[])
    build(folder, other, targets=[])
    build(tmp_path / "whole", other, targets=[])
    assert contents(folder) == contents(tmp_path / "whole")


RULE = "The output folder must be new, empty, or written by `fairpp build`; got {out}"
ADVICE = "Nothing was changed there. Choose another folder, or move the file away."


def refuse(out: Path, message: str) -> None:
    before = contents(out.parent)
    with pytest.raises(ValueError, match=f"^{re.escape(message.format(out=out))}$"):
        build(out, "survey")
    assert contents(out.parent) == before


def test_a_folder_of_other_origin_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("text")
    refuse(tmp_path / "mine", f"{RULE}, which holds 'thesis.tex' and no fairpp_build.json. {ADVICE}")
    refuse(tmp_path / "mine" / "thesis.tex", f"{RULE}, which is a file. {ADVICE}")


def test_a_file_that_was_edited_since_is_not_overwritten(run: Path, tmp_path: Path) -> None:
    build(tmp_path / "fairpp", run, targets=[])
    with (tmp_path / "fairpp" / "README.md").open("a") as card:
        card.write("My own section.\n")
    refuse(tmp_path / "fairpp", f"{RULE}, where 'README.md' was edited since. {ADVICE}")


def test_a_file_of_other_origin_in_the_way_is_not_overwritten(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "fairpp"
    build(folder, run, targets=[])
    (folder / "pairs-loyal_nationals").mkdir()
    (folder / "pairs-loyal_nationals" / "test-00000-of-00001.parquet").write_text("mine")
    before = contents(folder)
    message = (
        "The output folder must leave room for 'pairs-loyal_nationals/test-00000-of-00001.parquet'; got a file of other "
        f"origin there in {folder}. Nothing was changed. Choose another folder, or move the file away."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        build(folder, run, targets=TARGETS)
    assert contents(folder) == before


def test_a_manifest_cannot_reach_outside_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("text")
    folder = tmp_path / "fairpp"
    folder.mkdir()
    entry = {"path": "../precious.txt", "sha256": hashlib.sha256(b"text").hexdigest()}
    (folder / "fairpp_build.json").write_text(json.dumps({"files": [entry]}))
    refuse(folder, f"{RULE}, whose fairpp_build.json lists '../precious.txt', a path outside of it. {ADVICE}")
    (folder / "fairpp_build.json").write_text("{}")
    refuse(folder, f"{RULE}, whose fairpp_build.json cannot be read (KeyError('files')). {ADVICE}")


def test_an_unknown_target_is_refused(run: Path, tmp_path: Path) -> None:
    message = f"target must be one of {', '.join(map(repr, PERSONAS))}; got 'loyal'. Did you mean 'loyal_nationals'?"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        build(tmp_path / "fairpp", run, targets=["loyal"])
    assert list(tmp_path.iterdir()) == []
