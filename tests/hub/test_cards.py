"""The card of a dataset folder: valid metadata, counts from the data, and plain words on simulation."""

import re
from pathlib import Path
from typing import Any

import markdown_it
import pytest
from card_facts import facts, split
from datasets.info import DatasetInfosDict
from datasets.utils.metadata import MetadataConfigs
from huggingface_hub import DatasetCard

from fairpp_hf.dataset.folder_facts import TargetFacts
from fairpp_hf.dataset.origin import Origin
from fairpp_hf.drawing.card_figures import CardFigure
from fairpp_hf.hub import card_prose, cards
from fairpp_hf.hub.cards import dataset_metadata, draw_dataset_card, render_dataset_card
from fairpp_hf.personas import load_personas
from fairpp_hf.preferences import PairSettings
from fairpp_hf.schema import PAIR_FEATURES, REPLIED_PREFERENCE_FEATURES

PUBLISHED = Origin(
    "published",
    "cc-by-nc-sa-4.0",
    repo="tools-o/Fair-PP",
    commit="0123456789abcdef" * 2 + "01234567",
    notes=("12 replies hold no option.", "Unknown columns were left out: a|b."),
)


def published(**changes: Any) -> Any:
    return facts(origin=PUBLISHED, respondents=("published:gpt-4o-mini (simulated)",), own_questions=False, **changes)


def test_the_metadata_is_valid_for_the_hub() -> None:
    text = render_dataset_card(facts())
    data = DatasetCard(text).data.to_dict()
    assert data == dataset_metadata(facts()).to_dict()
    assert data["license"] == "cc-by-4.0"
    assert data["language"] == ["en"]
    assert data["size_categories"] == ["n<1K"]
    assert data["source_datasets"] == ["original"]
    assert data["task_categories"] == ["text-generation", "multiple-choice"]
    assert {"dpo", "synthetic", "simulated"} <= set(data["tags"])
    described = [re.fullmatch(r"(.*); content [0-9a-f]{16}", entry.pop("description")) for entry in data["configs"]]
    assert [match and match[1] for match in described] == [
        "a question",
        "a persona's answer to a question",
        "a preference pair of loyal_nationals",
    ]
    assert data["configs"] == [
        {
            "config_name": "questions",
            "data_files": [
                {"split": "train", "path": "questions/train-00000-of-00001.parquet"},
                {"split": "test", "path": "questions/test-00000-of-00001.parquet"},
            ],
        },
        {
            "config_name": "preferences",
            "data_files": [{"split": "test", "path": "preferences/test-00000-of-00001.parquet"}],
            "default": True,
        },
        {
            "config_name": "pairs-loyal_nationals",
            "data_files": [{"split": "test", "path": "pairs-loyal_nationals/test-00000-of-00001.parquet"}],
        },
    ]
    # No anchors and aliases, which a reader of the source would stumble over.
    assert "&id" not in text
    assert MetadataConfigs.from_dataset_card_data(DatasetCard(text).data).get_default_config_name() == "preferences"


def test_dataset_info_is_what_datasets_reads_back() -> None:
    infos = DatasetInfosDict.from_dataset_card_data(DatasetCard(render_dataset_card(facts())).data)
    assert set(infos) == {"questions", "preferences", "pairs-loyal_nationals"}
    assert {config: info.features for config, info in infos.items()} == facts().features
    assert {info.license for info in infos.values()} == {"cc-by-4.0"}
    assert {config: info.description for config, info in infos.items()} == {
        "questions": "",
        "preferences": "A persona's answer to a question; answers by openai:some-model (simulated). All of them are "
        "simulated; nobody was asked.",
        "pairs-loyal_nationals": "A preference pair of loyal_nationals, weighting tier; answers by openai:some-model "
        "(simulated). All of them are simulated; nobody was asked.",
    }
    questions = infos["questions"]
    assert (questions.download_size, questions.dataset_size) == (284_200, 2_842_000)
    assert {name: (found.num_examples, found.num_bytes) for name, found in questions.splits.items()} == {
        "train": (22_751, 2_275_100),
        "test": (5_669, 566_900),
    }


def test_a_description_changes_with_the_content_of_its_config() -> None:
    def descriptions(**changes: Any) -> list[str]:
        return [entry["description"] for entry in dataset_metadata(facts(**changes)).configs]

    before = descriptions()
    splits = facts().splits | {"preferences": {"test": split(8, digest="f" * 64)}}
    after = descriptions(splits=splits)
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, True]


@pytest.mark.parametrize(
    ("rows", "category"),
    [(999, "n<1K"), (1_000, "1K<n<10K"), (99_999, "10K<n<100K"), (198_940, "100K<n<1M"), (1_000_000, "1M<n<10M")],
)
def test_size_category(rows: int, category: str) -> None:
    splits = {"preferences": {"train": split(rows - 1), "test": split(1)}}
    assert dataset_metadata(facts(splits=splits)).size_categories == [category]


def test_counts_and_shares_come_from_the_data() -> None:
    """2 of 4 records of the first persona are A (50%), 1 is B, 1 has no valid answer; the second's are all C."""
    text = render_dataset_card(facts())
    assert "| `progressive_activists` | 4 | 50.0% | 25.0% | 0.0% | 25.0% |" in text
    assert "| `loyal_nationals` | 4 | 0.0% | 0.0% | 100.0% | 0.0% |" in text
    assert (
        "| persona | 1: libertarianism (A) or egalitarianism (B) | 3: individualism (A) or collectivism (B) |" in text
    )
    assert "| `progressive_activists` | 100 / 0 / 0 | 0 / 50 / 0 |" in text
    assert "| target | 0 disagree | 1 disagrees |\n|---|---:|---:|\n| `loyal_nationals` | 1 | 3 |" in text
    assert "| `questions` | a question | 22,751 | 5,669 |" in text
    assert "| `preferences` | a persona's answer to a question (default) | none | 8 |" in text
    assert "2 personas answer 4 of them." in text
    assert 'load_dataset("USER/fairpp", "pairs-loyal_nationals")' in text
    assert "| built with | `fairpp_hf` 1.2.3 |" in text
    assert "| `loyal_nationals` | Loyal Nationals | 17% |" in text
    assert "Respondent: `openai:some-model (simulated)`. Answered on 2026-01-02." in text
    assert f"| `preferences` | test | `{'1' * 64}` |" in text
    # Personas of the set that did not answer are not listed.
    assert "Backbone Conservatives" not in text


def test_missing_and_invalid_answers_are_counted_by_persona() -> None:
    """The second persona has 2 records of 4 questions, so that 2 are missing."""
    counts = {"progressive_activists": {"invalid": 1, "ok": 2, "refusal": 1}, "loyal_nationals": {"ok": 2}}
    assert (
        "| persona | valid | invalid | refusal | missing |\n|---|---:|---:|---:|---:|\n"
        "| `progressive_activists` | 2 | 1 | 1 | 0 |\n| `loyal_nationals` | 2 | 0 | 0 | 2 |"
    ) in render_dataset_card(facts(status_counts=counts))
    whole = {"progressive_activists": {"ok": 4}, "loyal_nationals": {"ok": 4}}
    text = render_dataset_card(facts(status_counts=whole))
    assert "All 8 records hold a valid answer, and no question was left out." in text


@pytest.mark.parametrize(
    ("answered_on", "words"),
    [
        ("2026-01-02", "Answered on 2026-01-02."),
        ("2026-01-02/2026-01-05", "Answered from 2026-01-02 to 2026-01-05."),
        (None, "When they answered is not recorded."),
    ],
)
def test_the_date_is_that_of_the_answers(answered_on: str | None, words: str) -> None:
    assert words in render_dataset_card(facts(origin=Origin("run", "cc-by-4.0", answered_on=answered_on)))


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
        # The comment marks the block that is renewed whatever people write around it.
        assert body[1:3] == ["", "<!-- fairpp:notice -->"]
        assert body[3].startswith(f"> **Simulated answers.** {words}")
        assert body[4] == ""
    mixed = facts(respondents=("a person", "openai:some-model (simulated)"), simulated=False)
    text = render_dataset_card(mixed)
    assert "> **Mixed or unmarked answers.**" in text
    assert "- The answers of `openai:some-model (simulated)`." in text
    assert "simulated" not in dataset_metadata(mixed).tags


def test_the_card_has_what_a_reader_needs() -> None:
    text = render_dataset_card(facts())
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == [
        "Configs",
        "Answers",
        "Columns",
        "Personas",
        "How it was made",
        "What is simulated",
        "Intended use",
        "Misuse",
        "Limits",
        "Provenance",
        "Licence",
        "Citation",
    ]
    for words in (
        "CC BY 4.0",
        "CC BY-NC-SA 4.0",
        "Apache-2.0",
        "arXiv:2505.11861",
        "Britain's Choice",
        "More in Common",
        "Speaking for people",
        "Profiling",
        "Manipulation",
    ):
        assert words in text
    assert "$" not in text
    # Every column of the folder is described.
    for column in ("question_id", "prompt", "probabilities", "status", "rejected", "weight"):
        assert f"| `{column}` |" in text


def test_the_introduction_can_be_edited_without_freezing_the_configs() -> None:
    """Counts and load lines are in a section of their own."""
    introduction, configs, *_ = render_dataset_card(facts()).split("\n## ")
    assert configs.startswith("Configs\n\n| config | a row is | train | test |\n")
    assert 'load_dataset("USER/fairpp", "preferences")' in configs
    assert "| config |" not in introduction
    assert "load_dataset(" not in introduction


def test_the_notice_is_a_block_quote_in_a_browser() -> None:
    """A comment ends the paragraph before it, and the quote begins on the next line."""
    text = render_dataset_card(facts()).split("---\n", 2)[2]
    html = markdown_it.MarkdownIt("commonmark").render(text)
    assert "</h1>\n<!-- fairpp:notice -->\n<blockquote>\n<p><strong>Simulated answers.</strong> No person" in html


def test_no_empty_field_leaves_a_hole() -> None:
    bare = {name: found for name, found in facts().splits.items() if not name.startswith("pairs")}
    scenarios = {
        "scenario_origin": PUBLISHED,
        "scenario_counts": {"loyal_nationals": {"none": 1, "A": 1, "B": 2, "C": 0}},
        "splits": bare | {"scenarios": {"test": split(4)}},
        "features": facts().features | {"scenarios": facts().features["preferences"]},
        "targets": {},
    }
    survey = {"origin": Origin("survey", "cc-by-4.0"), "respondents": ("survey:britains_choice_2020 (simulated)",)}
    for changes in ({}, {"targets": {}, "splits": bare}, {"persona_set": None}, survey, scenarios):
        assert "\n\n\n" not in render_dataset_card(facts(**changes))
    assert "\n\n\n" not in render_dataset_card(published())


def test_odd_names_do_not_break_the_card() -> None:
    """A line break in a name would begin a section of its own."""
    names = ("p`1`", "q|x\n## y")
    counts = {1: {"none": 0, "A": 1, "B": 0, "C": 0}, 3: {"none": 0, "A": 1, "B": 0, "C": 0}}
    personas = load_personas()
    odd = type(personas)(**(vars(personas) | {"publisher": "Us\n## and them", "sample": "10\n\n## people"}))
    text = render_dataset_card(
        facts(
            respondents=("openai:a|b`c\n## z (simulated)",),
            personas=names,
            persona_set=odd,
            answer_counts=dict.fromkeys(names, counts),
            status_counts={name: {"ok": 4} for name in names},
            targets={},
        )
    )
    plain = render_dataset_card(facts(targets={}))
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        line for line in plain.splitlines() if line.startswith("#")
    ]
    assert "Respondent: `` openai:a|b`c ## z (simulated) ``." in text
    assert "| `q\\|x ## y` | 2 | 100.0% | 0.0% | 0.0% | 0.0% |" in text


def test_every_row_of_a_table_has_its_columns() -> None:
    awkward = facts(respondents=("openai:a|b `c`\n(simulated)",))
    for text in (render_dataset_card(facts()), render_dataset_card(published()), render_dataset_card(awkward)):
        blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("| ")]
        assert len(blocks) > 5
        for block in blocks:
            assert {len(re.findall(r"(?<!\\)\|", line)) for line in block} == {block[0].count("|")}


def test_a_run_names_its_portraits_and_a_survey_its_set() -> None:
    text = render_dataset_card(facts())
    assert (
        f"| persona set | `britains_choice_2020`, digest `{load_personas().digest}` over figures and portraits |"
        in text
    )
    assert text.count("sha256 of its portrait") == 1
    survey = facts(origin=Origin("survey", "cc-by-4.0"), respondents=("survey:britains_choice_2020 (simulated)",))
    text = render_dataset_card(survey)
    assert "sha256 of its portrait" not in text
    assert "| date | The answers are computed and have no date. |" in text


def test_personas_of_no_known_set_are_listed_by_id() -> None:
    text = render_dataset_card(facts(persona_set=None))
    assert "`progressive_activists`, `loyal_nationals`; of no set that this package knows." in text
    assert text.count("@misc") == 0


def test_both_sources_are_cited() -> None:
    assert (
        "@misc{britains_choice_2020,\n"
        "  title   = {Britain's Choice: Common Ground and Division in 2020s Britain},\n"
        "  author  = {{More in Common (fieldwork by YouGov)}},\n"
        "  year    = {2020},\n"
        "  note    = {Figures as given at britainschoice.uk, climateoutreach.org, xrwd.earth, github.com}\n"
        "}\n```"
    ) in render_dataset_card(facts())
    personas = load_personas()
    odd = type(personas)(**(vars(personas) | {"title": "Fish & chips_100%", "sources": ()}))
    text = render_dataset_card(facts(persona_set=odd))
    assert "  title   = {Fish \\& chips\\_100\\%},\n" in text
    assert "note " not in text
    assert "<details>" not in text


def test_a_card_of_published_answers_has_their_licence_and_claims_nothing_of_them() -> None:
    text = render_dataset_card(published(features=facts().features | {"preferences": REPLIED_PREFERENCE_FEATURES}))
    data = DatasetCard(text).data
    assert data.license == "cc-by-nc-sa-4.0"
    assert data.source_datasets == ["tools-o/Fair-PP"]
    assert "CC BY 4.0" not in text
    assert "under [CC BY-NC-SA 4.0](https://creativecommons.org/licenses/by-nc-sa/4.0/), the licence of the pub" in text
    assert "The authors' own, word for word as they stand in `tools-o/Fair-PP` at commit `0123456789ab`" in text
    assert "written for this project" not in text.replace("none was written for this project", "")
    assert f"| commit of the answers | `{PUBLISHED.commit}` of `tools-o/Fair-PP` |" in text
    assert "over figures and portraits, which are not the authors' |" in text
    assert "- 12 replies hold no option.\n- Unknown columns were left out: a|b." in text
    assert "sha256 of its portrait" not in text
    assert "| `raw_reply` | string |" in text


def test_an_imported_local_file_is_no_dataset_of_the_hub() -> None:
    origin = Origin("published", "cc-by-nc-sa-4.0", repo="table.csv")
    assert dataset_metadata(facts(origin=origin)).source_datasets == ["original"]


def test_an_unknown_licence_is_said_to_be_unknown() -> None:
    text = render_dataset_card(facts(origin=Origin("folder", None)))
    assert DatasetCard(text).data.license == "unknown"
    assert (
        "The licence of these answers is not known: the folder that they were taken from does not say. Ask whoever made it "
        "before you pass them on. The question texts are offered under CC BY 4.0."
    ) in text
    other = render_dataset_card(facts(origin=Origin("folder", "cc0-1.0"), own_questions=False))
    assert DatasetCard(other).data.license == "cc0-1.0"
    assert "The answers and pairs are offered under `cc0-1.0`, as the folder that they were taken from says." in other
    assert "Their texts are not those that this project wrote" in other


def how_asked(statuses: dict[str, int] | None = None, *, folds: bool = False, **asked: int) -> str:
    """What a card says on how questions and scenarios were asked, by the record of their run."""
    run: dict[str, Any] = {
        "respondent": "openai:m (simulated)",
        "settings": {"temperature": 0.0, "system_as_user": folds},
        "samples": 1,
        "swap": False,
        "statuses": statuses or {"ok": 8},
        "asked": asked,
    }
    found = facts(run={**run, "scenarios": run | {"storyteller": None}})
    return f"{card_prose.answers_made(found)}\n{card_prose.scenarios_made(found)}"


def test_the_card_says_once_where_the_portrait_was() -> None:
    usual = "portrait as system message and the question's prompt as user message. "
    assert usual in how_asked()
    assert "in one user message" not in how_asked()
    for said in (how_asked(folds=True), how_asked({"ok": 7, "failed": 1}, portraits_in_user_message=7)):
        assert "as system message" not in said
        for what in ("question", "scenario"):
            assert f"got each persona's portrait and the {what}'s prompt in one user message, without a system" in said
    some = how_asked(portraits_in_user_message=3)
    assert f"{usual[:-2]}; for 3 replies, both in one user message. " in some
    assert some.count("3 replies") == 2  # of the questions, and of the scenarios


def test_the_card_names_no_temperature_that_was_never_sent() -> None:
    assert "Settings: temperature 0.0. Replies by" in how_asked()
    never = how_asked({"ok": 7, "failed": 1}, without_temperature=7)
    assert "temperature 0.0" not in never
    assert "For 7 replies the temperature was left out." in never
    some = how_asked(without_temperature=7)
    assert "Settings: temperature 0.0. For 7 replies the temperature was left out." in some


def test_the_card_calls_probabilities_constrained_only_where_there_are_some() -> None:
    none = how_asked(choices=8, constrained_probabilities=0)
    assert "8 replies were constrained to a choice of the letters; none of them has probabilities." in none
    assert "under a constrained choice" not in none
    some = how_asked(choices=8, constrained_probabilities=5)
    assert "5 of them have probabilities, and these are probabilities under a constrained choice." in some


def test_scenarios_get_their_own_rows() -> None:
    features = facts().features
    origin = PUBLISHED._replace(repo="tools-o/Fair-PP-simulation", commit="f" * 40, notes=("No raw replies.",))
    text = render_dataset_card(
        published(
            scenario_origin=origin,
            scenario_counts={"loyal_nationals": {"none": 1, "A": 1, "B": 2, "C": 0}},
            splits=facts().splits | {"scenarios": {"test": split(4)}},
            features=features | {"scenarios": features["preferences"]},
        )
    )
    assert "| `scenarios` | a persona's answer to a question told as scenes | none | 4 |" in text
    assert "Answers to the scenarios:\n\n| persona | records |" in text
    assert "| `loyal_nationals` | 4 | 25.0% | 50.0% | 0.0% | 25.0% |" in text
    assert "\n3. **Scenarios.** " in text
    assert f"| commit of the scenarios | `{'f' * 40}` of `tools-o/Fair-PP-simulation` |" in text
    assert "Counted at import of the scenarios:\n\n- No raw replies.\n" in text
    assert "\n4. **Pairs** " in text


def by_popularity(_: object) -> None: ...


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        (
            PairSettings(),
            "in proportion to (i / K) x (1 / N_i), where N_i is the number of questions in it, as in the pa",
        ),
        (
            PairSettings(alpha=0.5, beta=2.0),
            "Weighting: `tier`. Tier i of K weighs in proportion to (i / K)^0.5 x (1 / N_i)^2,",
        ),
        (PairSettings("tier_from_zero"), "in proportion to ((i - 1) / K) x (1 / N_i), where"),
        (PairSettings("uniform"), "Weighting: `uniform`. Every pair weighs 1."),
        (PairSettings(labels="fitted"), "Weighting: `uniform`. Every pair weighs 1."),
        (
            PairSettings(labels="fitted"),
            "against each of the other two, and these two against each other, the likelier one as `chosen`: three pairs a "
            "question.",
        ),
        (
            PairSettings(labels="fitted"),
            "training should end at: the target's probabilities p. Probabilities come from a label model,",
        ),
        (
            PairSettings(labels="respondent", divergence=0.5),
            "training should end at: p (p / q)^0.5, normalised, where p is the target's probability of an option and q that "
            "of the comparison personas, so that it leans away from them. Probabilities come from the respondent's option "
            "probabilities (labels `respondent`).",
        ),
        (PairSettings(option_order="mixed"), " The options of the two poles are shown in either order."),
        (PairSettings("surprisal"), "with personas counted by their share of the survey's population"),
        (PairSettings(by_popularity), "Weights come from `by_popularity`, a function of whoever built this folder."),
        (PairSettings(), "A target is compared with all other personas."),
        (PairSettings(comparison=("progressive_activists",)), "A target is compared with `progressive_activists`."),
        (
            PairSettings(comparison="nearest"),
            "A target is compared with the one persona that agrees with it most often, see the table above.",
        ),
    ],
)
def test_the_card_says_how_pairs_were_weighted(pairs: PairSettings, words: str) -> None:
    assert words in render_dataset_card(facts(pairs=pairs))


def test_the_nearest_persona_of_each_target_is_named() -> None:
    text = render_dataset_card(facts(pairs=PairSettings(comparison="nearest")))
    assert (
        "| target | compared with | 0 disagree | 1 disagrees |\n|---|---|---:|---:|\n"
        "| `loyal_nationals` | `progressive_activists` | 1 | 3 |"
    ) in text


def test_shares_that_are_not_known_are_not_claimed() -> None:
    targets = {"loyal_nationals": TargetFacts(("progressive_activists",), (1, 3), shares_known=False)}
    text = render_dataset_card(facts(pairs=PairSettings("surprisal"), targets=targets))
    assert "with personas counted all alike, since their shares of a population are not known" in text


def test_without_targets_nothing_is_said_of_pairs() -> None:
    splits = {name: found for name, found in facts().splits.items() if not name.startswith("pairs")}
    text = render_dataset_card(facts(targets={}, splits=splits))
    assert "pair" not in text.split("## Intended use")[0]
    assert PAIR_FEATURES not in [
        info.features for info in DatasetInfosDict.from_dataset_card_data(DatasetCard(text).data).values()
    ]


def test_figures_are_shown_with_their_alternative_text() -> None:
    text = render_dataset_card(facts(), [CardFigure("figures/agreement.png", "Two\nlines.", b"")])
    assert "![Two lines.](figures/agreement.png)" in text
    assert "answer_shares.png" not in text
    files = draw_dataset_card(facts())
    shown = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", files["README.md"].decode())
    assert shown == [name for name in files if name != "README.md"]
    assert shown == ["figures/answer_shares.png", "figures/agreement.png", "figures/tiers.png"]


def test_an_installed_package_has_the_template_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dataset_card").mkdir()
    (tmp_path / "dataset_card" / "README_TEMPLATE.md").write_text("From the wheel: $title")
    monkeypatch.setattr(cards, "__file__", str(tmp_path / "cards.py"))
    assert render_dataset_card(facts()).endswith("---\n\nFrom the wheel: Fair-PP: whose idea of fairness?")
