"""Dataset folders: what is written loads back equal, the bytes are fixed, and nothing of the user's is lost."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import weakref
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from datasets import get_dataset_config_names, get_dataset_default_config_name, load_dataset
from filelock import FileLock
from published_tables import write_published, write_scenarios
from small_runs import make_run

from fairpp_hf.dataset import sources
from fairpp_hf.dataset.answer_pairs import answer_pairs
from fairpp_hf.dataset.folder_facts import FolderFacts, agreement_matrix, answers_are_ours, count_answers
from fairpp_hf.dataset.sources import load_answers
from fairpp_hf.hub import build_dataset_folder, owned_folder, render_dataset_card
from fairpp_hf.hub import dataset_folder as folder_module
from fairpp_hf.hub.owned_folder import WrittenFile
from fairpp_hf.personas import load_personas
from fairpp_hf.preferences import PairSettings
from fairpp_hf.provenance import Provenance
from fairpp_hf.questions import load_questions
from fairpp_hf.schema import (
    PAIR_FEATURES,
    PREFERENCE_FEATURES,
    QUESTION_FEATURES,
    SOFT_PAIR_FEATURES,
)

TARGETS = ["loyal_nationals", "backbone_conservatives"]
PERSONAS = load_personas().ids


def build(out: Path, answers: str | Path, **options: Any) -> list[WrittenFile]:
    """With our card, but without its figures, which take a second to draw."""
    with mock.patch.object(folder_module, "draw_dataset_card", text_card):
        return build_dataset_folder(out, answers=answers, progress=False, **options)


def text_card(facts: FolderFacts) -> dict[str, bytes]:
    return {"README.md": render_dataset_card(facts).encode()}


def load(folder: Path, cache: Path, config: str = "preferences", **options: Any) -> Any:
    return load_dataset(str(folder), config, cache_dir=str(cache), **options)


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
    files = build_dataset_folder(folder, answers=run, progress=False)
    configs = ["questions", "preferences", *(f"pairs-{persona}" for persona in PERSONAS)]
    assert get_dataset_config_names(str(folder)) == configs
    assert get_dataset_default_config_name(str(folder)) == "preferences"
    assert [str(file.path) for file in files] == [
        *(f"{config}/{split}-00000-of-00001.parquet" for config in configs for split in ("train", "test")),
        *(f"figures/{name}.png" for name in ("agreement", "answer_shares", "tiers")),
        "README.md",
    ]
    assert all((file.config, file.split, file.rows) == (None, None, None) for file in files[-4:])
    shown = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", (folder / "README.md").read_text("utf-8"))
    assert sorted(shown) == [str(file.path) for file in files[-4:-1]]
    for file in files:
        assert file.size == (folder / file.path).stat().st_size
        if file.rows is not None:
            assert file.rows == pq.read_metadata(folder / file.path).num_rows
    assert (files[2].rows, files[3].rows) == (7 * 30, 7 * 10)
    # A row group for each persona.
    assert pq.read_metadata(folder / files[2].path).num_row_groups == 7


def test_another_process_writes_the_same_bytes(run: Path, tmp_path: Path) -> None:
    """All of them: Parquet, figures, card and manifest; whatever the hash seed, the time zone and the current folder."""
    code = (
        "import sys; from fairpp_hf.hub import build_dataset_folder\n"
        "build_dataset_folder('theirs', answers=sys.argv[1], targets=['loyal_nationals'], progress=False)"
    )
    environment = os.environ | {"PYTHONHASHSEED": "1", "TZ": "Asia/Tokyo", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code, str(run)], check=True, cwd=tmp_path, env=environment)
    build_dataset_folder(tmp_path / "ours", answers=run, targets=TARGETS[:1], progress=False)
    assert len(contents(tmp_path / "ours")) == 6 + 3 + 2
    assert contents(tmp_path / "ours") == contents(tmp_path / "theirs")


def test_the_manifest_says_where_the_folder_comes_from(run: Path, tmp_path: Path) -> None:
    files = build(tmp_path / "fairpp", run, targets=TARGETS)
    manifest = json.loads((tmp_path / "fairpp" / "fairpp_build.json").read_text("utf-8"))
    assert manifest["answers"]["kind"] == "run"
    assert Provenance.from_dict(manifest["provenance"]) == load_answers(run).provenance
    assert manifest["provenance"]["simulated"] is True
    assert manifest["pairs"] == PairSettings().as_dict()
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
    assert manifest["status_counts"] == {
        persona: {"invalid": counts["none"], "ok": counts["A"] + counts["B"] + counts["C"]}
        for persona, counts in counted.items()
    }


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
    def write(out: Path) -> None:
        with mock.patch.object(folder_module, "draw_dataset_card", side_effect=KeyboardInterrupt):
            build_dataset_folder(out, answers=run, targets=[], progress=False)

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "fairpp")
    assert list(tmp_path.iterdir()) == []
    build(tmp_path / "fairpp", run, targets=TARGETS)
    before = contents(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "fairpp")
    assert contents(tmp_path) == before


def test_what_a_killed_build_left_behind_is_cleared_by_the_next(run: Path, tmp_path: Path) -> None:
    """What another process is building stays, and what no build has made."""
    killed, other = tmp_path / ".fair[pp].building-a", tmp_path / ".fair[pp].building-theirs"
    code = (
        "import os, sys; from fairpp_hf.hub import owned_folder\n"
        "def build(folder): (folder / 'half').write_text('half'); os.kill(os.getpid(), 9)\n"
        "owned_folder.write_owned_folder(sys.argv[1], 'm.json', 'x', build)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "fair[pp]")], check=False)
    assert done.returncode != 0
    (left,) = tmp_path.iterdir()
    assert (left / "folder" / "half").exists()
    left.rename(killed)
    other.mkdir()
    busy = Path(tempfile.mkdtemp(prefix=".fair[pp].building-", dir=tmp_path))
    with FileLock(busy / "lock"):
        build(tmp_path / "fair[pp]", run, targets=[])
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([busy.name, other.name, "fair[pp]"])
    (tmp_path / "usual").mkdir()
    assert (tmp_path / "fair[pp]").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits of a process are POSIX")
@pytest.mark.parametrize("limit", [20_000, 400_000])
def test_a_full_disk_is_an_error_and_leaves_nothing(limit: int, tmp_path: Path) -> None:
    """Arrow would end the process where it cannot write, depending on the size."""
    code = (
        "import resource, signal, sys; from fairpp_hf.hub import build_dataset_folder\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)\n"
        "try:\n    build_dataset_folder(sys.argv[1], targets=[], progress=False)\n"
        "except OSError:\n    sys.exit(7)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "fairpp"), str(limit)], check=False)
    assert done.returncode == 7
    assert list(tmp_path.iterdir()) == []


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
        patch.setattr(owned_folder.os, "replace", break_off)
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
    refuse(tmp_path / "mine" / "thesis.tex", f"{RULE}, but {{out}} is a file. {ADVICE}")


def test_a_file_that_was_edited_since_is_not_overwritten(run: Path, tmp_path: Path) -> None:
    build(tmp_path / "fairpp", run, targets=[])
    with (tmp_path / "fairpp" / "preferences" / "test-00000-of-00001.parquet").open("a") as file:
        file.write("mine")
    refuse(tmp_path / "fairpp", f"{RULE}, where 'preferences/test-00000-of-00001.parquet' was edited since. {ADVICE}")


def test_what_people_wrote_on_the_card_survives_a_rebuild(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "fairpp"
    build(folder, run, targets=[])
    card = folder / "README.md"
    card.write_text(
        card.read_text("utf-8").replace("## Limits", "## Our study\n\nWe found that.\n\n## Limits"), "utf-8"
    )
    for version in (1, 1, 2):
        caplog.clear()
        build(folder, make_run(tmp_path / f"run-{version}", version=version), targets=[])
        assert f"Kept in {card}, as people wrote it: section 'Our study'." in caplog.messages
        written = card.read_text("utf-8")
        build(tmp_path / f"whole-{version}", tmp_path / f"run-{version}", targets=[])
        whole = (tmp_path / f"whole-{version}" / "README.md").read_text("utf-8")
        assert written == whole.replace("## Limits", "## Our study\n\nWe found that.\n\n## Limits")


def test_a_file_of_other_origin_in_the_way_is_not_overwritten(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "fairpp"
    build(folder, run, targets=[])
    (folder / "pairs-loyal_nationals").mkdir()
    (folder / "pairs-loyal_nationals" / "test-00000-of-00001.parquet").write_text("mine")
    before = contents(folder)
    message = (
        "The output folder must leave room for 'pairs-loyal_nationals/test-00000-of-00001.parquet'; got a file of other "
        f"origin there in {folder}. {ADVICE}"
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
    refuse(folder, f"{RULE}, whose manifest lists '../precious.txt', a path outside of it. {ADVICE}")
    (folder / "fairpp_build.json").write_text("{}")
    refuse(folder, f"{RULE}, whose manifest cannot be read (KeyError('files')). {ADVICE}")


# Rows that are found again


def records(*answers: int, texts: dict[str, str] | None = None, **columns: Any) -> pa.Table:
    """Preference records of personas p and q, by turns, on questions of our own; more than one a question each."""
    count = len(answers)
    questions = load_questions("test").slice(0, count // 2).to_pylist()
    rows = [
        questions[row // 2]
        | {"persona": "pq"[row % 2], "respondent": "known (simulated)", "answer": answer, "probabilities": None}
        | {"status": "ok"}
        | (texts or {})
        for row, answer in enumerate(answers)
    ]
    return pa.Table.from_pylist(rows, schema=PREFERENCE_FEATURES.arrow_schema)


def save(folder: Path, table: pa.Table, config: str = "preferences", split: str = "test") -> Path:
    (folder / config).mkdir(parents=True, exist_ok=True)
    pq.write_table(table, folder / config / f"{split}-00000-of-00001.parquet")
    return folder


def test_a_folder_that_was_built_again_gives_its_new_rows(tmp_path: Path) -> None:
    """`datasets` caches a local folder by its last name and the hash of its YAML, not of its files."""
    out, cache = tmp_path / "fairpp", tmp_path / "cache"
    infos = []
    for answers in ([0, 1, 2, 1], [1, 0, 1, 2]):
        table = records(*answers)
        build(out, save(tmp_path / str(answers), table), targets=[])
        infos.append(
            re.search(r"^dataset_info:.*?^---", (out / "README.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)[0]
        )
        for options in ({}, {"streaming": True}):
            loaded = load(out, cache, split="test", **options)
            assert sorted(map(_answer, loaded)) == sorted(map(_answer, table.to_pylist()))
    # Nothing else in the header tells one from the other.
    assert infos[0] == infos[1]
    build(out, tmp_path / "[0, 1, 2, 1]", targets=["p"])
    assert load(out, cache, "pairs-p", split="test")["chosen"][0][0]["content"].startswith("A. ")
    build(out, tmp_path / "[1, 0, 1, 2]", targets=["p"])
    assert load(out, cache, "pairs-p", split="test")["chosen"][0][0]["content"].startswith("B. ")


def _answer(row: dict[str, Any]) -> tuple[str, str, int]:
    return row["question_id"], row["persona"], row["answer"]


def test_pairs_are_made_as_asked(run: Path, tmp_path: Path) -> None:
    """As `load_dataset` makes them, whose weights have an oracle."""
    settings = PairSettings("surprisal", comparison=("civic_pragmatists", "disengaged_battlers"))
    build(tmp_path / "fairpp", run, targets=TARGETS[:1], pairs=settings)
    expected = answer_pairs(load_answers(run), TARGETS[0], settings, load_personas()).tables
    for split, table in expected.items():
        file = tmp_path / "fairpp" / f"pairs-{TARGETS[0]}" / f"{split}-00000-of-00001.parquet"
        assert pq.read_table(file).equals(table)


def test_raw_replies_are_kept(tmp_path: Path) -> None:
    table = records(0, 1, 2, 1).append_column("raw_reply", pa.array(["A.", "B", None, "b"]))
    build(tmp_path / "fairpp", save(tmp_path / "source", table), targets=[])
    loaded = load(tmp_path / "fairpp", tmp_path / "cache", split="test")
    assert sorted(map(str, loaded["raw_reply"])) == ["A.", "B", "None", "b"]


def test_what_others_put_beside_our_files_is_not_read_with_them(run: Path, tmp_path: Path) -> None:
    """Such as shards that `Dataset.push_to_hub` left in the repo, which a pattern would take in: 2 times 210 rows."""
    out = tmp_path / "fairpp"
    build(out, run, targets=[])
    ours = out / "preferences" / "train-00000-of-00001.parquet"
    for number in range(2):
        shutil.copy(ours, ours.with_name(f"train-0000{number}-of-00002.parquet"))
    assert len(list(load(out, tmp_path / "cache", split="train", streaming=True))) == 7 * 30
    assert len(load(out, tmp_path / "cache", split="train")) == 7 * 30


def test_published_tables_are_looked_up_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another commit may be at the top of `main` a moment later."""
    asked = []

    def download(repo: str, revision: str | None = None) -> Path:
        """A commit of its own to each call."""
        asked.append(repo)
        folder = tmp_path / "hub" / (str(len(asked)) * 40)
        return write_scenarios(folder) if repo == sources.SCENARIOS_REPO else write_published(folder)

    monkeypatch.setattr(sources, "download_tables", download)
    build(tmp_path / "fairpp", "published", targets=[])
    assert asked == [sources.PUBLISHED_REPO, sources.SCENARIOS_REPO]
    manifest = json.loads((tmp_path / "fairpp" / "fairpp_build.json").read_bytes())
    assert manifest["provenance"]["revision"] == "1" * 40
    assert manifest["answers"]["fingerprint"].startswith("1" * 40)
    assert manifest["scenarios"]["revision"] == "2" * 40


def test_every_config_loads_and_streams_with_the_counts_of_its_header(run: Path, tmp_path: Path) -> None:
    folder = save(tmp_path / "source", load_answers_table(run))
    save(folder, records(0, 1, 2, 1, 0, -1, texts={"prompt": "A scene. Another. What now?"}), "scenarios")
    out = tmp_path / "fairpp"
    files = build(out, folder, targets=["loyal_nationals"])
    configs = get_dataset_config_names(str(out))
    assert configs == ["questions", "preferences", "scenarios", "pairs-loyal_nationals"]
    assert [str(file.path) for file in files if file.config == "scenarios"] == ["scenarios/test-00000-of-00001.parquet"]
    for config in configs:
        loaded = load(out, tmp_path / "cache", config)
        for split, rows in loaded.items():
            # What `push_to_hub` would write: the size of the Arrow table, here with a bit a row for nulls or without.
            assert rows.info.splits[split].num_examples == len(rows)
            assert rows.info.splits[split].num_bytes == pytest.approx(rows.data.nbytes, rel=1e-2)
            streamed = load(out, tmp_path / "cache", config, split=split, streaming=True)
            assert streamed.features == rows.features
            assert list(streamed) == rows.to_list()
    text = (out / "README.md").read_text("utf-8")
    assert "| `p` | 3 | 66.7% | 0.0% | 33.3% | 0.0% |" in text
    assert "| `q` | 3 | 0.0% | 66.7% | 0.0% | 33.3% |" in text


def load_answers_table(run: Path) -> pa.Table:
    answers = load_answers(run)
    return pa.concat_tables(answers.preferences("test"))


# Texts


ODD = (
    "emoji \U0001f9d1\u200d\U0001f33e, \u202eright to left\u202c \u05d0\u05d1, CRLF\r\nLF\nCR\r, NUL\x00, e\u0301, "
    "\ufeff, \uffff, `|$\\"
)


def test_odd_texts_come_back_byte_for_byte(tmp_path: Path) -> None:
    kept = ("question_id", "persona", "status")
    strings = [field.name for field in PREFERENCE_FEATURES.arrow_schema if field.type == pa.string()]
    texts = {name: f"{name} {ODD}" for name in strings if name not in kept}
    table = records(0, 1, 2, 1, texts=texts)
    out = tmp_path / "fairpp"
    build(out, save(tmp_path / "source", table), targets=["p"])
    loaded = load(out, tmp_path / "cache", split="test")
    for name in PREFERENCE_FEATURES:
        assert sorted(map(repr, loaded[name])) == sorted(map(repr, table[name].to_pylist()))
    questions = load(out, tmp_path / "cache", "questions", split="test")
    assert questions["prompt"][:] == [texts["prompt"]] * 2
    pairs = load(out, tmp_path / "cache", "pairs-p", split="test")
    assert pairs[0]["prompt"] == [{"role": "user", "content": texts["prompt"]}]
    assert pairs[0]["chosen"] == [{"role": "assistant", "content": f"A. {texts['option_a']}"}]
    # A folder of the folder has the same rows.
    build(tmp_path / "again", out, targets=[])
    again = load(tmp_path / "again", tmp_path / "cache", split="test")
    assert again.to_list() == loaded.to_list()


@pytest.mark.parametrize("row", [0, 3])
def test_half_of_a_surrogate_pair_is_refused_with_its_row(row: int, tmp_path: Path) -> None:
    table = records(0, 1, 2, 1)
    texts = [text.encode() for text in table["option_b"].to_pylist()]
    texts[row] += b"\xed\xa0\x80"
    column = pa.Array.from_buffers(pa.string(), 4, pa.array(texts, pa.binary()).buffers())
    broken = table.set_column(table.schema.get_field_index("option_b"), "option_b", column)
    message = (
        "Column 'option_b' must be valid UTF-8; got a text that is not, such as half of a surrogate pair, at "
        f"{table['question_id'][row].as_py()!r} of '{'pq'[row % 2]}' of preferences. Other tools cannot read it. Correct "
        "the text where the answers come from."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        folder_module._check_texts(broken, "preferences")
    if row == 0:
        with pytest.raises(ValueError, match=r"^Column 'option_b' must be valid UTF-8; .* of questions\. "):
            build(tmp_path / "fairpp", save(tmp_path / "source", broken))
        assert not (tmp_path / "fairpp").exists()


# Weighting


def test_fitted_labels_have_their_column_and_the_card_says_how_good_they_are(run: Path, tmp_path: Path) -> None:
    settings = PairSettings(labels="fitted", divergence=0.5)
    build(tmp_path / "fairpp", run, targets=TARGETS, pairs=settings)
    answers = load_answers(run)
    card = (tmp_path / "fairpp" / "README.md").read_text("utf-8")
    for target in TARGETS:
        made = answer_pairs(answers, target, settings, load_personas())
        for split in ("train", "test"):
            (file,) = (tmp_path / "fairpp" / f"pairs-{target}").glob(f"{split}-*.parquet")
            assert pq.read_table(file).equals(made.tables[split])
        model = made.label_model
        assert model is not None
        row = f"{model.log_likelihood:.4f} | {model.constant_log_likelihood:.4f} | {model.own_weight:.0%}"
        assert f"| `{target}` | {row} |" in card
    loaded = load_dataset(
        str(tmp_path / "fairpp"), f"pairs-{TARGETS[0]}", split="test", cache_dir=str(tmp_path / "cache")
    )
    assert loaded.features == SOFT_PAIR_FEATURES
    assert "weighting uniform, labels fitted, divergence 0.5; answers by" in loaded.info.description
    assert "| `label_probability` | float64 | how likely `chosen` is of the two, 0 to 1 |" in card
    manifest = json.loads((tmp_path / "fairpp" / "fairpp_build.json").read_text("utf-8"))
    assert (manifest["pairs"]["labels"], manifest["pairs"]["divergence"]) == ("fitted", 0.5)


def test_personas_that_are_compared_with_are_no_targets_unless_asked_for(run: Path, tmp_path: Path) -> None:
    files = build(tmp_path / "fairpp", run, pairs=PairSettings(comparison=PERSONAS[:5]))
    assert sorted({file.config for file in files if file.config and file.config.startswith("pairs")}) == [
        f"pairs-{persona}" for persona in sorted(PERSONAS[5:])
    ]
    with pytest.raises(ValueError, match=r"^comparison must not contain the target; got 'civic_pragmatists'\."):
        build(tmp_path / "other", run, targets=["civic_pragmatists"], pairs=PairSettings(comparison=PERSONAS[:5]))
    with pytest.raises(
        ValueError, match=r"^comparison must be one of .*; got 'loyal'\. Did you mean 'loyal_nationals'\?$"
    ):
        build(tmp_path / "other", run, pairs=PairSettings(comparison=["loyal"]))


def test_a_persona_whose_name_is_a_path_names_no_config(tmp_path: Path) -> None:
    table = records(0, 1, 2, 1)
    personas = pc.replace_substring(table["persona"], "p", "../p")
    table = table.set_column(table.schema.get_field_index("persona"), "persona", personas)
    source = save(tmp_path / "source", table)
    message = (
        "target must be made of letters, digits, '_', '-' and '.' to name a config; got '../p'. Leave it out of "
        "targets."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        build(tmp_path / "fairpp", source)
    build(tmp_path / "fairpp", source, targets=["q"])


# What a folder says about itself


def test_answers_are_counted_by_persona_and_dimension(run: Path) -> None:
    """Against a plain count."""
    answers = load_answers(run)
    table = pa.concat_tables([*answers.preferences("train"), *answers.preferences("test")])
    plain: dict[str, dict[int, dict[str, int]]] = {}
    for row in table.select(["persona", "dimension", "answer"]).to_pylist():
        cells = plain.setdefault(row["persona"], {}).setdefault(row["dimension"], dict.fromkeys(("none", *"ABC"), 0))
        cells[("none", *"ABC")[row["answer"] + 1]] += 1
    assert count_answers(answers) == plain


def test_agreement_is_over_the_questions_that_both_answered() -> None:
    """a and b share questions 0 and 1 and agree on one of them: 0.5. c answered nothing."""
    matrix = {
        "a": np.array([0, 1, 2, -1], dtype=np.int8),
        "b": np.array([0, 2, -1, 1], dtype=np.int8),
        "c": np.full(4, -1, dtype=np.int8),
    }
    nan = float("nan")
    np.testing.assert_array_equal(agreement_matrix(matrix), [[1, 0.5, nan], [0.5, 1, nan], [nan, nan, nan]])


def test_questions_of_others_are_written_as_they_were_answered(tmp_path: Path) -> None:
    """With our ids and other words, as the published tables have them; ours are under another licence."""
    table = records(0, 1, 2, 1, texts={"question": "In other words?"})
    assert not answers_are_ours(table.select(list(QUESTION_FEATURES)))
    assert answers_are_ours(records(0, 1, 2, 1).select(list(QUESTION_FEATURES)))
    build(tmp_path / "fairpp", save(tmp_path / "source", table), targets=[])
    questions = load(tmp_path / "fairpp", tmp_path / "cache", "questions")
    assert list(questions) == ["test"]
    assert questions["test"]["question"][:] == ["In other words?"] * 2
    card = (tmp_path / "fairpp" / "README.md").read_text("utf-8")
    assert "license: unknown" in card
    assert "Their texts are not those that this project wrote" in card


def test_the_licence_travels_from_folder_to_folder(tmp_path: Path) -> None:
    source = save(tmp_path / "source", records(0, 1, 2, 1))
    told = Provenance(
        "published",
        ("known (simulated)",),
        "cc-by-nc-sa-4.0",
        "tools-o/Fair-PP",
        "0" * 40,
        notes=("2 replies hold no option.",),
    )
    (source / "fairpp_build.json").write_text(json.dumps({"provenance": told.to_dict()}))
    build(tmp_path / "one", source, targets=[])
    build(tmp_path / "two", tmp_path / "one", targets=[])
    for folder in ("one", "two"):
        assert load_answers(tmp_path / folder).provenance == told
        info = load(tmp_path / folder, tmp_path / "cache", split="test").info
        assert info.license == told.licence
        assert Provenance.in_text(info.description) == told
        card = (tmp_path / folder / "README.md").read_text("utf-8")
        assert "license: cc-by-nc-sa-4.0" in card
        assert "- 2 replies hold no option." in card


def test_tables_are_laid_out_one_at_a_time(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most the one that is written, the one before it, and the pairs of a target's two splits are in memory."""
    seen: list[weakref.ref[pa.Table]] = []
    most = 0

    def watch(table: pa.Table, config: str) -> None:
        nonlocal most
        seen.append(weakref.ref(table))
        most = max(most, sum(found() is not None for found in seen))

    monkeypatch.setattr(folder_module, "_check_texts", watch)
    build(tmp_path / "fairpp", run)
    assert len(seen) == 2 + 7 * 2 + 7 * 2
    assert 1 <= most <= 5
