"""Export folders: files that are safe, what is written loads back, and a card that keeps licence and simulation."""

import json
import os
import re
import shutil
from pathlib import Path

import markdown_it
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Features, load_dataset
from export_facts import export_facts
from huggingface_hub import DatasetCard
from small_runs import some_questions
from tiny_trainers import message

from fairpp_hf.dataset.builder import NOBODY_ASKED
from fairpp_hf.personas import load_personas
from fairpp_hf.preferences import PairSettings, export_folder
from fairpp_hf.preferences.export_folder import render_export_card, write_export
from fairpp_hf.preferences.exports import EXPORT_MANIFEST, FORMATS, kto_rows
from fairpp_hf.preferences.pairs import build_pairs

ODD = "naïve 🏳️‍🌈 \u202eright-to-left\u202c e\u0301 \x00 'quoted', \"twice\"\tand 中文"
PUBLISHED = {
    "kind": "published",
    "licence": "cc-by-nc-sa-4.0",
    "repo": "tools-o/Fair-PP",
    "commit": "0123456789abcdef" * 2 + "01234567",
    "answered_on": None,
    "notes": (),
}


def refused(message: str):
    return pytest.raises(ValueError, match=f"^{re.escape(message)}$")


@pytest.fixture(scope="module")
def pairs() -> pa.Table:
    """Of 12 training questions; the first option B has odd characters in it."""
    questions = some_questions(12, 6)
    place = questions.column_names.index("option_b")
    texts = [ODD, *questions["option_b"].to_pylist()[1:]]
    rng = np.random.default_rng(0)
    answers = {name: rng.integers(0, 3, 18) for name in ("target", "b", "c")}
    return build_pairs(questions.set_column(place, "option_b", pa.array(texts)), answers, "target")["train"]


def load(folder: Path) -> dict[str, Dataset]:
    return load_dataset(str(folder), cache_dir=str(folder.parent / "cache"))


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def test_what_is_written_loads_back_equal_and_always_in_the_same_bytes(pairs, tmp_path):
    tables = {"train": pairs, "test": pairs.slice(4, 6)}
    files = write_export(tmp_path / "a", tables, export_facts(target=ODD))
    assert [(file.path, file.split, file.rows) for file in files] == [
        ("train.parquet", "train", len(pairs)),
        ("test.parquet", "test", 6),
        ("README.md", None, None),
    ]
    assert all((tmp_path / "a" / file.path).stat().st_size == file.size for file in files)
    manifest = json.loads((tmp_path / "a" / EXPORT_MANIFEST).read_text("utf-8"))
    assert manifest["target"] == ODD
    assert manifest["files"] == [file._asdict() for file in files]
    write_export(tmp_path / "b", tables, export_facts(target=ODD))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    loaded = load_dataset(str(tmp_path / "a"), cache_dir=str(tmp_path / "cache"))
    assert {split: rows.with_format("arrow")[:].to_pylist() for split, rows in loaded.items()} == {
        split: table.to_pylist() for split, table in tables.items()
    }
    assert message("assistant", f"B. {ODD}") in loaded["train"]["rejected"][:2]
    streamed = load_dataset(str(tmp_path / "a"), split="test", streaming=True)
    assert list(streamed) == tables["test"].to_pylist()


def test_each_file_says_whose_answers_it_holds_and_on_what_terms(pairs, tmp_path):
    """Besides what its metadata held before; `load_dataset` finds the same features."""
    personas = load_personas()
    tables = {"train": pairs.replace_schema_metadata({b"mine": b"kept"}), "test": pairs}
    write_export(tmp_path / "a", tables, export_facts(personas=personas.ids, persona_set=personas, origin=PUBLISHED))
    manifest = json.loads((tmp_path / "a" / EXPORT_MANIFEST).read_text("utf-8"))
    for split in tables:
        metadata = pq.read_schema(tmp_path / "a" / f"{split}.parquet").metadata
        record = json.loads(metadata[b"fairpp_export"])
        assert record == {name: manifest[name] for name in ("personas", "persona_set", "origin")}
        assert metadata.get(b"mine") == (b"kept" if split == "train" else None)
    loaded = load(tmp_path / "a")
    assert loaded["train"].features == loaded["test"].features == Features.from_arrow_schema(pairs.schema)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_split_without_rows_has_no_file(split, pairs, tmp_path):
    other = {"train": "test", "test": "train"}[split]
    file, _ = write_export(tmp_path / "out", {split: pairs, other: pairs.slice(0, 0)}, export_facts())
    assert sorted(contents(tmp_path / "out")) == ["README.md", EXPORT_MANIFEST, file.path]
    assert list(load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))) == [split]
    with refused("An export must have at least one row; got none for train. Use other answers."):
        write_export(tmp_path / "none", {"train": pairs.slice(0, 0)}, export_facts())
    assert not (tmp_path / "none").exists()


def test_an_earlier_export_is_replaced_and_read_as_it_is_now(pairs, tmp_path):
    """`datasets` does not take the old rows out of its cache; of the old files, none stays behind."""
    out = tmp_path / "out"
    out.mkdir()
    for tables in (
        {"train": pairs, "test": pairs},
        {"train": pairs.slice(0, 2)},
        {"train": pairs.slice(2, 2)},
        {"train": kto_rows(pairs)},
    ):
        write_export(out, tables, export_facts())
        loaded = load_dataset(str(out), cache_dir=str(tmp_path / "cache"))
        assert {split: rows.to_list() for split, rows in loaded.items()} == {
            split: table.to_pylist() for split, table in tables.items()
        }
    assert sorted(contents(out)) == ["README.md", EXPORT_MANIFEST, "train.parquet"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "out"]


def spoil_manifest(out: Path) -> None:
    (out / EXPORT_MANIFEST).write_text("{}")


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda out: (out / "notes.txt").write_text("mine"), "which holds 'notes.txt' besides"),
        (lambda out: (out / "mine").mkdir(), "which holds 'mine' besides"),
        (lambda out: (out / "train.parquet").write_bytes(b"mine"), "where 'train.parquet' was edited since"),
        (lambda out: (out / "README.md").write_text("mine"), "where 'README.md' was edited since"),
        (lambda out: (out / EXPORT_MANIFEST).unlink(), f"which holds 'README.md' and no {EXPORT_MANIFEST}"),
        (spoil_manifest, f"whose {EXPORT_MANIFEST} cannot be read (KeyError('files'))"),
        (lambda out: (shutil.rmtree(out), out.write_text("mine")), "which is a file"),
    ],
)
def test_files_of_other_origin_are_left_alone(spoil, what, pairs, tmp_path):
    out = tmp_path / "out"
    write_export(out, {"train": pairs}, export_facts())
    spoil(out)
    before = out.read_bytes() if out.is_file() else sorted(path.name for path in out.iterdir())
    with refused(
        f"The output folder must be new, empty, or written by `fairpp export`; got {out}, {what}. Nothing was changed "
        "there. Choose another folder, or move the file away."
    ):
        write_export(out, {"train": pairs.slice(0, 2)}, export_facts())
    assert (out.read_bytes() if out.is_file() else sorted(path.name for path in out.iterdir())) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("No space left on device")])
def test_an_interruption_leaves_the_old_files_or_none(at, error, pairs, tmp_path, monkeypatch):
    """Stopped at the first or second file, at the first move and at the second; then it can be repeated."""
    old = tmp_path / "old"
    write_export(old, {"train": pairs}, export_facts())
    before = contents(old)
    calls = iter(range(100))

    def faulty(real):
        def call(*args, **kwargs):
            if next(calls) == at:
                raise error
            return real(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(export_folder.pq, "write_table", faulty(export_folder.pq.write_table))
        patch.setattr(Path, "rename", faulty(Path.rename))
        with pytest.raises(type(error) if isinstance(error, Exception) else error):
            write_export(old, {"train": pairs.slice(0, 2), "test": pairs}, export_facts())
    assert contents(old) == before
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    write_export(old, {"train": pairs.slice(0, 2), "test": pairs}, export_facts())
    assert sorted(contents(old)) == ["README.md", EXPORT_MANIFEST, "test.parquet", "train.parquet"]


def test_the_folder_can_be_read_by_others(pairs, tmp_path):
    write_export(tmp_path / "out", {"train": pairs}, export_facts())
    (tmp_path / "made").mkdir()
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "made").stat().st_mode
    assert os.access(tmp_path / "out" / "train.parquet", os.R_OK)


# -- the card ----------------------------------------------------------------------------------------------------------


def test_what_is_loaded_knows_its_licence_and_that_it_is_simulated(pairs, tmp_path):
    """Also where it was loaded from a folder of the same name and rows before, under another licence."""
    for origin in (export_facts().origin, PUBLISHED):
        write_export(tmp_path / "x", {"train": pairs}, export_facts(origin=origin))
        info = load(tmp_path / "x")["train"].info
        assert info.license == origin["licence"]
        assert info.description == f"Fair-PP: dpo rows for target. Answers by some-model (simulated). {NOBODY_ASKED}"
    unknown = {**PUBLISHED, "kind": "folder", "licence": None}
    write_export(tmp_path / "x", {"train": pairs}, export_facts(origin=unknown, simulated=False))
    info = load(tmp_path / "x")["train"].info
    assert info.license == ""
    assert NOBODY_ASKED not in info.description


def test_the_metadata_names_the_files_and_nothing_else(pairs, tmp_path):
    """A file that others put beside them is not read with them."""
    out = tmp_path / "out"
    write_export(out, {"train": pairs, "test": pairs.slice(0, 2)}, export_facts())
    shutil.copy(out / "train.parquet", out / "train-00000-of-00001.parquet")
    data = DatasetCard.load(out / "README.md").data.to_dict()
    assert re.fullmatch(
        r"a pair of option texts, chosen and rejected; content [0-9a-f]{16}", data["configs"][0].pop("description")
    )
    assert data["configs"] == [
        {
            "config_name": "default",
            "data_files": [{"split": "train", "path": "train.parquet"}, {"split": "test", "path": "test.parquet"}],
        }
    ]
    assert {split: len(rows) for split, rows in load(out).items()} == {"train": len(pairs), "test": 2}
    assert (data["license"], data["task_categories"], data["language"]) == ("cc-by-4.0", ["text-generation"], ["en"])
    assert {"trl", "dpo", "simulated", "arxiv:2505.11861"} <= set(data["tags"])


def test_the_card_of_every_format(pairs, tmp_path):
    for name, known in FORMATS.items():
        text = render_export_card([], ["a`b", "c"], export_facts(format=name))
        assert DatasetCard(text).data.task_categories == [known.task]
        assert f"\nA row is {known.rows}. {known.use}\n" in text
        assert "Columns: `` a`b ``, `c`." in text
        assert ("trl" in DatasetCard(text).data.tags) == (name != "wide")
        assert "\n\n\n" not in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {},
            "# Fair-PP: dpo rows for `target`\n\n> **Simulated answers.** Answers by `some-model (simulated)`. All of",
        ),
        (
            {"simulated": False, "respondents": ("a person", "m (simulated)")},
            "> **Mixed or unmarked answers.** Answers by `a person`, `m (simulated)`. Those whose name ends in (simulated)",
        ),
        ({}, "By `fairpp export --format dpo` of `fairpp_hf` 1.2.3, from a run of `fairpp generate`. Personas that"),
        ({}, "The target is compared with all other personas; weighting `tier`, alpha = 1, beta = 1. All"),
        (
            {"pairs": PairSettings("uniform", comparison="nearest")},
            "The target is compared with the persona that agrees with it most often; weighting `uniform`",
        ),
        (
            {"pairs": PairSettings(alpha=0.5, beta=2.0, comparison=["b", "c"])},
            "The target is compared with `b`, `c`; weighting `tier`, alpha = 0.5, beta = 2.",
        ),
        (
            {"pairs": PairSettings(labels="fitted", divergence=0.5)},
            "weighting `uniform`. Labels: `fitted`, divergence 0.5. All",
        ),
        (
            {"pairs": PairSettings(labels="respondent")},
            "Train with fairpp_hf.ReweightedDPOTrainer and ReweightedDPOConfig(soft_labels=True, reference='none')",
        ),
        ({"heldout": "dimensions"}, "In the test file alone: dimensions ("),
        ({"format": "wide", "target": None, "pairs": None}, "# Fair-PP: wide rows\n"),
        (
            {},
            "These files are under `cc-by-4.0`, the licence of the answers that they are made of. To publish them, upload",
        ),
        ({"origin": PUBLISHED}, "from the published Fair-PP tables, `tools-o/Fair-PP` at commit `0123456789ab`. "),
        (
            {"origin": PUBLISHED},
            "These files are under `cc-by-nc-sa-4.0`, the licence of the answers that they are made of. The authors of the "
            "published tables chose it, and what is derived from them inherits it: name the authors, no commercial use, "
            "share alike. To publish them, upload the folder whole, `hf upload USER/NAME . --repo-type dataset`: ",
        ),
        (
            {"origin": {"kind": "folder", "licence": None}},
            "The licence of the answers is not recorded. Ask whoever made them before you pass these files on.",
        ),
        (
            {"origin": {"kind": "survey", "licence": "cc-by-4.0"}},
            "from the survey respondent's answers, which a choice",
        ),
    ],
)
def test_the_card_says_what_it_is_and_where_it_comes_from(changes, words):
    assert words in render_export_card([], ["prompt"], export_facts(**changes))


def test_a_licence_that_nobody_wrote_down_is_unknown_to_the_hub():
    text = render_export_card([], ["prompt"], export_facts(origin={"kind": "folder", "licence": None}))
    assert DatasetCard(text).data.license == "unknown"
    assert "license" not in DatasetCard(text).data.dataset_info


def test_odd_names_do_not_break_the_card():
    """A line break in a name would begin a section of its own."""
    odd = "`a``\n\n## b"
    text = render_export_card([], ["prompt"], export_facts(target=odd, personas=(odd, "c"), respondents=(odd,)))
    assert DatasetCard(text).data.pretty_name == "Fair-PP: dpo rows for `a`` ## b"
    html = markdown_it.MarkdownIt("commonmark").render(text.split("---\n", 2)[2])
    assert re.findall(r"<h\d>(.*)</h\d>", html) == [
        "Fair-PP: dpo rows for <code>`a`` ## b</code>",
        "How it was made",
        "Licence",
    ]


def test_the_manifest_has_the_roles_and_their_set(pairs, tmp_path):
    personas = load_personas()
    write_export(tmp_path / "a", {"train": pairs}, export_facts(persona_set=personas, personas=personas.ids[::-1]))
    manifest = json.loads((tmp_path / "a" / EXPORT_MANIFEST).read_text("utf-8"))
    assert manifest["persona_set"] == personas.as_dict()
    assert manifest["personas"] == list(personas.ids[::-1])
    assert manifest["pairs"] == PairSettings().as_dict()
    write_export(tmp_path / "b", {"train": pairs}, export_facts(pairs=None, target=None))
    manifest = json.loads((tmp_path / "b" / EXPORT_MANIFEST).read_text("utf-8"))
    assert manifest["persona_set"] is None
    assert manifest["pairs"] is None
