"""The card of a dataset folder: valid metadata, golden pages, and plain words on simulation.

After a change of wording, write the golden pages anew with `UPDATE_GOLDEN=1 pytest tests/hub/test_cards.py` and read them.
"""

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import markdown_it
import pytest
from card_facts import facts, split
from datasets.info import DatasetInfosDict
from datasets.utils.metadata import MetadataConfigs
from huggingface_hub import DatasetCard

from fairpp_hf.dataset.folder_facts import DimensionFacts, TargetFacts
from fairpp_hf.drawing.card_figures import CardFigure
from fairpp_hf.hub import cards
from fairpp_hf.hub.cards import dataset_metadata, render_dataset_card
from fairpp_hf.personas import load_personas
from fairpp_hf.preferences import SCHEMES, PairSettings
from fairpp_hf.provenance import Provenance
from fairpp_hf.schema import PREFERENCE_FEATURES, SOFT_PAIR_FEATURES

GOLDEN = Path(__file__).parent / "golden"
RUN = {
    "respondent": "openai:some-model (simulated)",
    "settings": {"temperature": 0.5, "max_tokens": None},
    "samples": 2,
    "swap": True,
    "statuses": {"ok": 7, "refusal": 1},
    "asked": {},
}
SCENES = {
    **RUN,
    "swap": False,
    "samples": 1,
    "storyteller": {"respondent": "teller", "told": 4, "set_aside": 1, "statuses": {"failed": 2}},
}
PUBLISHED = Provenance(
    "published",
    ("gpt-4o-mini (simulated)",),
    "cc-by-nc-sa-4.0",
    "tools-o/Fair-PP",
    "0123456789abcdef" * 2 + "01234567",
    notes=("12 replies hold no option.", "Unknown columns were left out: a|b."),
)
PAIRS = "pairs-loyal_nationals"


def run_with_scenarios() -> Any:
    provenance = Provenance(
        "model", (RUN["respondent"],), "cc-by-4.0", created="2026-01-02", run={**RUN, "scenarios": SCENES}
    )
    splits = facts().splits | {"scenarios": {"test": split(4)}}
    features = facts().features | {"scenarios": PREFERENCE_FEATURES}
    counts = {"loyal_nationals": {"none": 0, "A": 1, "B": 1, "C": 2}}
    return facts(provenance=provenance, scenarios=provenance, scenario_counts=counts, splits=splits, features=features)


CARDS = {
    "survey": lambda: facts(
        provenance=Provenance("survey", ("survey:britains_choice_2020 (simulated)",), "cc-by-4.0"),
        pairs=PairSettings("surprisal"),
    ),
    "run": run_with_scenarios,
    "published": lambda: facts(
        provenance=PUBLISHED,
        own_questions=False,
        pairs=PairSettings(labels="fitted", divergence=0.5, comparison="nearest"),
        features={**facts().features, PAIRS: SOFT_PAIR_FEATURES},
    ),
    "unknown": lambda: facts(
        provenance=Provenance("unknown", ("somebody",)),
        own_questions=False,
        persona_set=None,
        targets={},
        splits={name: found for name, found in facts().splits.items() if name != PAIRS},
        features={name: found for name, found in facts().features.items() if name != PAIRS},
    ),
}


@pytest.mark.parametrize("name", CARDS)
def test_the_card_is_the_golden_page(name: str) -> None:
    text = render_dataset_card(CARDS[name]())
    path = GOLDEN / f"dataset_card_{name}.md"
    body = text.split("\n---\n", 1)[1]
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(body, "utf-8")
    assert body == path.read_text("utf-8")
    found = CARDS[name]().features
    for column in (column for features in found.values() for column in features):
        assert f"\n| `{column}` | " in body
    assert ("`label_probability`" in body) == any("label_probability" in features for features in found.values())
    assert not re.search(r"\n\n\n|\bNone\b|[ \t]\n", body)
    html = markdown_it.MarkdownIt("commonmark").render(body)
    assert html.index("<blockquote>") < html.index("<h2>Configs</h2>")


def test_the_metadata_is_valid_for_the_hub() -> None:
    text = render_dataset_card(facts())
    data = DatasetCard(text).data.to_dict()
    assert data == dataset_metadata(facts()).to_dict()
    assert (data["license"], data["language"], data["source_datasets"]) == ("cc-by-4.0", ["en"], ["original"])
    assert {"dpo", "synthetic", "simulated"} <= set(data["tags"])
    described = [re.fullmatch(r"(.*); content [0-9a-f]{16}", entry.pop("description")) for entry in data["configs"]]
    assert [match and match[1] for match in described] == [
        "a question",
        "a persona's answer to a question",
        "a preference pair of loyal_nationals",
    ]
    assert data["configs"][1:] == [
        {
            "config_name": "preferences",
            "data_files": [{"split": "test", "path": "preferences/test-00000-of-00001.parquet"}],
            "default": True,
        },
        {
            "config_name": PAIRS,
            "data_files": [{"split": "test", "path": f"{PAIRS}/test-00000-of-00001.parquet"}],
        },
    ]
    # No anchors and aliases, which a reader of the source would stumble over.
    assert "&id" not in text
    assert MetadataConfigs.from_dataset_card_data(DatasetCard(text).data).get_default_config_name() == "preferences"


@pytest.mark.parametrize(
    ("provenance", "licence", "sources"),
    [
        (PUBLISHED, "cc-by-nc-sa-4.0", ["tools-o/Fair-PP"]),
        (Provenance("published", ("m (simulated)",), "cc-by-nc-sa-4.0", "t.csv"), "cc-by-nc-sa-4.0", ["original"]),
        (Provenance("unknown"), "unknown", ["original"]),
    ],
)
def test_licence_and_source_are_those_of_the_answers(provenance: Provenance, licence: str, sources: list[str]) -> None:
    data = dataset_metadata(facts(provenance=provenance))
    assert (data.license, data.source_datasets) == (licence, sources)
    assert ("simulated" in data.tags) == provenance.simulated


def test_dataset_info_is_what_datasets_reads_back() -> None:
    infos = DatasetInfosDict.from_dataset_card_data(DatasetCard(render_dataset_card(facts())).data)
    assert {config: info.features for config, info in infos.items()} == facts().features
    assert {info.license for info in infos.values()} == {"cc-by-4.0"}
    assert infos["questions"].description == ""
    for config in ("preferences", PAIRS):
        assert Provenance.in_text(infos[config].description) == facts().provenance
    questions = infos["questions"]
    assert (questions.download_size, questions.dataset_size) == (284_200, 2_842_000)
    assert {name: (found.num_examples, found.num_bytes) for name, found in questions.splits.items()} == {
        "train": (22_751, 2_275_100),
        "test": (5_669, 566_900),
    }


def test_a_description_changes_with_the_content_of_its_config() -> None:
    before, after = (
        [entry["description"] for entry in dataset_metadata(facts(splits=splits)).configs]
        for splits in (facts().splits, facts().splits | {"preferences": {"test": split(8, digest="f" * 64)}})
    )
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, True]


@pytest.mark.parametrize(
    ("rows", "category"),
    [(999, "n<1K"), (1_000, "1K<n<10K"), (99_999, "10K<n<100K"), (198_940, "100K<n<1M"), (1_000_000, "1M<n<10M")],
)
def test_size_category(rows: int, category: str) -> None:
    splits = {"preferences": {"train": split(rows - 1), "test": split(1)}}
    assert dataset_metadata(facts(splits=splits)).size_categories == [category]


def test_odd_names_do_not_break_the_card() -> None:
    """A line break would begin a section, a bar a cell, and a backtick would end code."""
    odd = "`a|b``\n\n## c"
    found = facts(
        personas=(odd, "loyal_nationals"),
        answer_counts={odd: facts().answer_counts["loyal_nationals"]},
        status_counts={odd: {"ok": 3, "odd|status": 1}},
        targets={"t": TargetFacts((odd,), (1, 3), shares_known=True)},
        pairs=PairSettings(comparison="nearest"),
        provenance=Provenance("model", (odd,), "cc-by-4.0"),
    )
    text = render_dataset_card(found)
    assert "\n## c" not in text
    for table in re.findall(r"(?:^\|.*\|\n)+", text, re.M):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1, table


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        *((PairSettings(name), f"Weighting: `{name}`. {scheme.meaning}") for name, scheme in SCHEMES.items()),
        (PairSettings("tier_from_zero", alpha=0.5), "Here, alpha is 0.5 and beta 1, and questions are counted."),
        (
            PairSettings("uniform", comparison=["civic_pragmatists"]),
            "compared with `civic_pragmatists`. Weighting: `uni",
        ),
        (PairSettings(lambda facts: facts.tier), "a function of whoever built this folder."),
        (
            PairSettings(labels="respondent"),
            "the target's probabilities p. Probabilities come from the respondent (lab",
        ),
        (PairSettings(option_order="mixed"), "The options of the two poles are shown in either order."),
    ],
)
def test_the_card_says_how_pairs_were_made(pairs: PairSettings, words: str) -> None:
    assert words in render_dataset_card(facts(pairs=pairs))


@pytest.mark.parametrize(
    ("changes", "messages", "often"),
    [
        ({}, "portrait as system message and the question's prompt", "temperature 0.5"),
        ({"settings": {"system_as_user": True}}, "in one user message, without a system message", "Replies by status"),
        (
            {"asked": {"portraits_in_user_message": 3}},
            "; for 3 replies, both in one user message",
            "once in each of two",
        ),
        ({"asked": {"without_temperature": 8}}, "as system message", "For 8 replies the temperature was left out."),
        (
            {"asked": {"choices": 4, "constrained_probabilities": 0}},
            "as system message",
            "4 replies were constrained to a choice of the letters; none of them has probabilities.",
        ),
    ],
)
def test_a_run_in_words(changes: dict[str, Any], messages: str, often: str) -> None:
    run = {**RUN, "samples": 1, **changes}
    text = render_dataset_card(facts(provenance=Provenance("model", ("m (simulated)",), "cc-by-4.0", run=run)))
    assert messages in text
    assert often in text
    assert ("temperature 0.5" in text) == (
        "settings" not in changes and "without_temperature" not in changes.get("asked", {})
    )


def test_figures_are_shown_with_their_alternative_text() -> None:
    figure = CardFigure("figures/tiers.png", "Bars\nof tiers.", b"")
    assert "\n![Bars of tiers.](figures/tiers.png)\n" in render_dataset_card(facts(), [figure])
    assert "![" not in render_dataset_card(facts())


def test_an_installed_package_has_the_template_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards, "__file__", str(tmp_path / "cards.py"))
    (tmp_path / "dataset_card").mkdir()
    (tmp_path / "dataset_card" / "X.md").write_text("{{ metadata }}{{ codes(names) }}\n")
    cards._environment.cache_clear()
    try:
        assert cards.render_card("X.md", {"a": 1}, names=["b", "c"]) == "a: 1\n`b`, `c`\n"
    finally:
        cards._environment.cache_clear()


def test_personas_of_the_set_that_did_not_answer_are_not_listed() -> None:
    text = render_dataset_card(facts())
    assert f"digest `{load_personas().digest}`" in text
    assert "Backbone Conservatives" not in text


def test_text_of_strangers_stays_plain_words_of_its_line() -> None:
    """Of a persona file, of a run's record and of notes: no section, image, link or HTML of theirs is on the card."""
    odd = "x\n\n## Licence\n\nPublic domain ![a](http://a/b.png) <img src=x> [c](http://d) https://e>\n\n## f"
    personas = load_personas()
    first = replace(personas.personas[0], name=odd)
    strange = replace(
        personas,
        title=odd,
        publisher=odd,
        country=odd,
        sources=(odd, "https://f/g"),
        personas=(first, *personas.personas[1:]),
    )
    run = {**RUN, "settings": {"temperature": odd}, "statuses": {odd: 1}}
    told = Provenance("model", ("m (simulated)",), "cc-by-4.0", notes=(odd,), run=run)
    text = render_dataset_card(
        facts(
            persona_set=strange,
            provenance=told,
            dimensions={1: DimensionFacts(odd, odd)},
            answer_counts={"progressive_activists": {1: {"A": 1, "B": 0, "C": 0, "none": 0}}},
            status_counts={"progressive_activists": {odd: 1}},
        )
    )
    body = markdown_it.MarkdownIt("commonmark").render(text.split("---\n", 2)[2])
    assert body.count("<h2>Licence</h2>") == 1
    assert "<h2>f" not in body
    assert "<img" not in body
    assert 'href="http://' not in body
    assert "- <https://f/g>\n" in text
