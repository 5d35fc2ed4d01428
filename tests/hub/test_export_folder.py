"""Export folders: files that are safe, what is written loads back, and a card that keeps licence and simulation."""

import json
import os
import re
import shutil
from dataclasses import replace
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

from fairpp_hf.dataset.published_files import EXPORT_MANIFEST, read_export
from fairpp_hf.hub.export_folder import render_export_card, write_export
from fairpp_hf.personas import load_personas
from fairpp_hf.preferences import PairSettings
from fairpp_hf.preferences.exports import FORMATS, kto_rows
from fairpp_hf.preferences.pairs import build_pairs
from fairpp_hf.provenance import Provenance

ODD = "naïve 🏳️‍🌈 \u202eright-to-left\u202c e\u0301 \x00 'quoted', \"twice\"\tand 中文"
PUBLISHED = Provenance(
    "published", ("m (simulated)",), "cc-by-nc-sa-4.0", "tools-o/Fair-PP", "0123456789abcdef" * 2 + "01234567"
)


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


# -- the card ----------------------------------------------------------------------------------------------------------


def test_what_is_loaded_knows_its_provenance(pairs, tmp_path):
    """Also where it was loaded from a folder of the same name and rows before, under another licence."""
    for provenance in (export_facts().provenance, PUBLISHED, Provenance("unknown", ("somebody",))):
        write_export(tmp_path / "x", {"train": pairs}, export_facts(provenance=provenance))
        info = load(tmp_path / "x")["train"].info
        assert info.license == (provenance.licence or "")
        assert Provenance.in_text(info.description) == provenance
        assert info.description.startswith(f"Fair-PP: dpo rows for target. Answers by {provenance.line}.\n")


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
        assert "\n\n\n" not in text.split("\n---\n", 1)[1]


CARDS = {
    "run": {},
    "published": {"provenance": PUBLISHED, "pairs": PairSettings("uniform", comparison="nearest")},
    "fitted": {"pairs": PairSettings(labels="fitted", divergence=0.5, comparison=["b", "c"]), "heldout": "dimensions"},
    "unknown": {"provenance": Provenance("unknown", ("a person",)), "format": "wide", "target": None, "pairs": None},
    "survey": {"provenance": Provenance("survey"), "pairs": PairSettings(alpha=0.5, beta=2.0)},
}


@pytest.mark.parametrize("name", CARDS)
def test_the_card_is_the_golden_page(name):
    """Written anew with `UPDATE_GOLDEN=1 pytest tests/hub/test_export_folder.py`; then read it."""
    body = render_export_card([], ["prompt"], export_facts(**CARDS[name])).split("\n---\n", 1)[1]
    path = Path(__file__).parent / "golden" / f"export_card_{name}.md"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(body, "utf-8")
    assert body == path.read_text("utf-8")


def test_a_licence_that_nobody_wrote_down_is_unknown_to_the_hub():
    text = render_export_card([], ["prompt"], export_facts(provenance=Provenance("unknown")))
    assert DatasetCard(text).data.license == "unknown"
    assert "license" not in DatasetCard(text).data.dataset_info


def test_odd_names_do_not_break_the_card():
    """A line break in a name would begin a section of its own."""
    odd = "`a``\n\n## b"
    facts = export_facts(target=odd, personas=(odd, "c"), provenance=Provenance("model", (odd,)))
    text = render_export_card([], ["prompt"], facts)
    assert DatasetCard(text).data.pretty_name == "Fair-PP: dpo rows for `a`` ## b"
    html = markdown_it.MarkdownIt("commonmark").render(text.split("---\n", 2)[2])
    assert re.findall(r"<h2>(.*)</h2>", html) == ["How it was made", "Licence"]


def test_each_file_says_whose_answers_it_holds_and_on_what_terms(pairs, tmp_path):
    """Besides what its metadata held before; `load_dataset` finds the same features."""
    personas = load_personas()
    provenance = replace(PUBLISHED, persona_set=personas.as_dict())
    tables = {"train": pairs.replace_schema_metadata({b"mine": b"here"}), "test": pairs}
    write_export(tmp_path / "a", tables, export_facts(personas=personas.ids[::-1], provenance=provenance))
    manifest = json.loads((tmp_path / "a" / EXPORT_MANIFEST).read_text("utf-8"))
    assert manifest["pairs"] == PairSettings().as_dict()
    for split in tables:
        metadata = pq.read_schema(tmp_path / "a" / f"{split}.parquet").metadata
        record = json.loads(metadata[b"fairpp_export"])
        assert record == {name: manifest[name] for name in ("personas", "provenance")}
        assert metadata.get(b"mine") == (b"here" if split == "train" else None)
    export = read_export(tmp_path / "a")
    assert export == (personas.ids[::-1], provenance)
    loaded = load(tmp_path / "a")
    assert loaded["train"].features == loaded["test"].features == Features.from_arrow_schema(pairs.schema)


def test_what_is_not_the_exports_own_stays(pairs, tmp_path):
    """A file beside it and words on the card stay; a file that was edited is not overwritten."""
    out = tmp_path / "out"
    write_export(out, {"train": pairs}, export_facts())
    (out / "notes.txt").write_text("mine")
    (out / "README.md").write_text((out / "README.md").read_text("utf-8") + "\n## Ours\n\nWords.\n", "utf-8")
    write_export(out, {"train": pairs.slice(0, 2)}, export_facts())
    assert (out / "notes.txt").read_text() == "mine"
    assert (out / "README.md").read_text("utf-8").endswith("\n## Ours\n\nWords.\n")
    (out / "train.parquet").write_bytes(b"mine")
    with refused(
        f"The output folder must be new, empty, or written by `fairpp export`; got {out}, where 'train.parquet' was edited "
        "since. Nothing was changed there. Choose another folder, or move the file away."
    ):
        write_export(out, {"train": pairs}, export_facts())
