"""The card of a dataset folder: valid metadata, counts from the data, and plain words on simulation."""

import re
from pathlib import Path

import pytest
from huggingface_hub import DatasetCard

from fairpp_hf.dataset.folder import FolderFacts
from fairpp_hf.hub import cards
from fairpp_hf.hub.cards import dataset_metadata, render_dataset_card
from fairpp_hf.personas import load_personas


def facts(**changes: object) -> FolderFacts:
    """Two personas, 8 records: p answers A, A, B and once nothing; q answers C four times."""
    base = FolderFacts(
        version="1.2.3",
        kind="run",
        respondents=("openai:some-model (simulated)",),
        simulated=True,
        persona_set=load_personas(),
        personas=("progressive_activists", "loyal_nationals"),
        targets=("loyal_nationals",),
        answer_counts={
            "progressive_activists": {"none": 1, "A": 2, "B": 1, "C": 0},
            "loyal_nationals": {"none": 0, "A": 0, "B": 0, "C": 4},
        },
        status_counts={"ok": 7, "refusal": 1},
        rows={
            "questions": {"train": 22_751, "test": 5_669},
            "preferences": {"test": 8},
            "pairs-loyal_nationals": {"test": 8},
        },
    )
    return base._replace(**changes)


def test_the_metadata_is_valid_for_the_hub() -> None:
    card = DatasetCard(render_dataset_card(facts()))
    data = card.data.to_dict()
    assert data == dataset_metadata(facts()).to_dict()
    assert data["license"] == "cc-by-4.0"
    assert data["language"] == ["en"]
    assert data["size_categories"] == ["n<1K"]
    assert data["task_categories"] == ["text-generation", "multiple-choice"]
    assert {"dpo", "synthetic", "simulated"} <= set(data["tags"])
    assert data["configs"] == [
        {
            "config_name": "questions",
            "data_files": [
                {"split": "train", "path": "questions/train-*.parquet"},
                {"split": "test", "path": "questions/test-*.parquet"},
            ],
        },
        {
            "config_name": "preferences",
            "data_files": [{"split": "test", "path": "preferences/test-*.parquet"}],
            "default": True,
        },
        {
            "config_name": "pairs-loyal_nationals",
            "data_files": [{"split": "test", "path": "pairs-loyal_nationals/test-*.parquet"}],
        },
    ]


@pytest.mark.parametrize(
    ("rows", "category"),
    [(999, "n<1K"), (1_000, "1K<n<10K"), (99_999, "10K<n<100K"), (198_940, "100K<n<1M"), (1_000_000, "1M<n<10M")],
)
def test_size_category(rows: int, category: str) -> None:
    assert dataset_metadata(facts(rows={"preferences": {"train": rows - 1, "test": 1}})).size_categories == [category]


def test_counts_and_shares_come_from_the_data() -> None:
    """2 of 4 records of the first persona are A (50%), 1 is B, 1 has no valid answer; the second's are all C."""
    text = render_dataset_card(facts())
    assert "| `progressive_activists` | 50.0% | 25.0% | 0.0% | 25.0% |" in text
    assert "| `loyal_nationals` | 0.0% | 0.0% | 100.0% | 0.0% |" in text
    assert "Records by status: ok 7, refusal 1." in text
    assert "| `questions` | a question | 22,751 | 5,669 |" in text
    assert "| `preferences` | a persona's answer to a question (default) | none | 8 |" in text
    assert 'load_dataset("./fairpp", "pairs-loyal_nationals")' in text
    assert "Built with `fairpp_hf` 1.2.3." in text
    assert "| `loyal_nationals` | Loyal Nationals | 17% |" in text
    # Personas of the set that did not answer are not listed.
    assert "Backbone Conservatives" not in text


def test_simulation_is_said_before_anything_else() -> None:
    for respondents, words in (
        (
            ("openai:some-model (simulated)",),
            "No person was asked these questions. `openai:some-model (simulated)` answered",
        ),
        (
            ("survey:britains_choice_2020 (simulated)",),
            "Nobody was asked these questions, neither a person nor a language",
        ),
    ):
        body = render_dataset_card(facts(respondents=respondents)).split("---\n", 2)[2].strip().splitlines()
        assert body[0].startswith("# ")
        assert body[2].startswith(f"> **Simulated answers.** {words}")
    mixed = facts(respondents=("a person", "openai:some-model (simulated)"), simulated=False)
    assert "> **Mixed or unmarked answers.**" in render_dataset_card(mixed)
    assert "simulated" not in dataset_metadata(mixed).tags


def test_the_card_has_what_a_reader_needs() -> None:
    text = render_dataset_card(facts())
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings == [
        *(
            "Answers",
            "Columns",
            "Personas",
            "How it was made",
            "Intended use",
            "Misuse",
            "Limits",
            "Licence",
            "Citation",
        )
    ]
    for words in (
        "CC BY 4.0",
        "CC BY-NC-SA 4.0",
        "Apache-2.0",
        "arXiv:2505.11861",
        "Britain's Choice",
        "More in Common",
    ):
        assert words in text
    assert "$" not in text
    # Every column of the folder is described.
    for column in ("question_id", "prompt", "probabilities", "status", "rejected", "weight"):
        assert f"| `{column}` |" in text


def test_personas_of_no_known_set_are_listed_by_id() -> None:
    text = render_dataset_card(facts(persona_set=None))
    assert "`progressive_activists`, `loyal_nationals`; of no set that this package knows." in text


def test_an_installed_package_has_the_template_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dataset_card").mkdir()
    (tmp_path / "dataset_card" / "README_TEMPLATE.md").write_text("From the wheel: $version")
    monkeypatch.setattr(cards, "__file__", str(tmp_path / "cards.py"))
    assert render_dataset_card(facts()).endswith("---\n\nFrom the wheel: 1.2.3")
