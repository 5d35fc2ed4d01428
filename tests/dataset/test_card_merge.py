"""What people wrote into a card is kept, what was generated is renewed."""

import pytest
import yaml

from fairpp_hf.dataset.card_merge import card_record, merge_cards

FIRST = """\
---
license: cc-by-4.0
tags:
- dpo
- trl
size_categories:
- n<1K
configs:
- config_name: preferences
  data_files: preferences/*
  default: true
---

# Title

> **Simulated answers.** By A.

What it is.

## Answers

10 rows.

```
## not a heading
```

## Limits

Some.
"""
SECOND = FIRST.replace("By A.", "By B.").replace("10 rows", "20 rows").replace("n<1K", "1K<n<10K")


def metadata_of(text: str) -> dict:
    return yaml.safe_load(text.split("---\n")[1])


def merged(generated: str, existing: str, record: dict | None) -> tuple[str, tuple[str, ...]]:
    """The merge, which a second merge with the new record must leave as it is."""
    result = merge_cards(generated, existing, record)
    again = merge_cards(generated, result.text, card_record(generated))
    assert again.text == result.text
    return result.text, result.kept


def test_an_unedited_card_is_renewed_whole():
    assert merged(SECOND, FIRST, card_record(FIRST)) == (SECOND, ())


def test_the_record_is_json_with_a_digest_for_each_section():
    record = card_record(FIRST)
    assert list(record["sections"]) == ["", "Answers", "Limits"]
    assert record["metadata"] == metadata_of(FIRST)


def test_foreign_sections_stay_behind_what_they_stood_behind():
    edited = FIRST.replace("## Limits", "## Our study\n\nWe found.\n\n## More of it\n\nAnd so on.\n\n## Limits")
    edited += "\n## Contact\n\nWrite to us.\n"
    text, kept = merged(SECOND, edited, card_record(FIRST))
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## Answers",
        "## not a heading",
        "## Our study",
        "## More of it",
        "## Limits",
        "## Contact",
    ]
    assert "20 rows" in text
    assert "10 rows" not in text
    assert kept == ("section 'Our study'", "section 'More of it'", "section 'Contact'")


def test_an_edited_section_is_kept_and_an_unedited_one_renewed():
    edited = FIRST.replace("Some.", "Some, and that it is small.")
    text, kept = merged(SECOND, edited, card_record(FIRST))
    assert "Some, and that it is small." in text
    assert "20 rows" in text
    assert kept == ("section 'Limits'",)


def test_a_section_that_is_no_longer_generated_goes_unless_it_was_edited():
    without = SECOND.replace("## Limits\n\nSome.\n", "")
    assert "## Limits" not in merged(without, FIRST, card_record(FIRST))[0]
    assert "Mine." in merged(without, FIRST.replace("Some.", "Mine."), card_record(FIRST))[0]


@pytest.mark.parametrize("edit", ["What it is, in short.", "> **Simulated answers.** Not really."])
def test_the_notice_of_simulation_is_renewed_in_an_edited_introduction(edit):
    edited = FIRST.replace("What it is." if edit[0] == "W" else "> **Simulated answers.** By A.", edit)
    text, _ = merged(SECOND, edited, card_record(FIRST))
    assert "> **Simulated answers.** By B.\n" in text
    assert "By A." not in text
    assert "Not really" not in text


def test_the_notice_comes_back_where_it_was_deleted():
    edited = FIRST.replace("> **Simulated answers.** By A.\n\n", "").replace("What it is.", "My words.")
    text, kept = merged(SECOND, edited, card_record(FIRST))
    assert "# Title\n\n> **Simulated answers.** By B.\n\nMy words.\n" in text
    assert kept == ("the introduction",)


def test_a_card_of_other_origin_is_kept_whole_and_gets_what_it_lacks():
    text, kept = merged(SECOND, "---\nlicense: mit\n---\nMy data.\n\n## Limits\n\nMine.\n", None)
    assert text.index("> **Simulated answers.** By B.") < text.index("My data.") < text.index("20 rows")
    assert "Mine." in text
    assert "Some." not in text
    assert metadata_of(text)["license"] == "mit"
    assert kept == (
        "license: 'mit' (made from the data: 'cc-by-4.0')",
        "the introduction",
        "section 'Limits'",
    )


def test_an_empty_card_becomes_the_generated_one():
    for empty in ("", "\n", "---\n---\n"):
        assert merged(SECOND, empty, None) == (SECOND, ())


def test_metadata_are_merged_key_by_key():
    """Foreign keys and entries stay; what describes the files is always as made from the data."""
    edited = (
        FIRST.replace("- trl", "- trl\n- mine")
        .replace("license: cc-by-4.0", "license: cc-by-4.0\npretty_name: Ours\nextra:\n  deep: 1")
        .replace("n<1K", "n>1T")
    )
    edited = edited.replace(
        "  default: true", "  default: true\n- config_name: theirs\n  data_files: theirs/*\n  default: true"
    )
    text, kept = merged(SECOND, edited, card_record(FIRST))
    assert metadata_of(text) == {
        "license": "cc-by-4.0",
        "tags": ["dpo", "trl", "mine"],
        "size_categories": ["1K<n<10K"],
        "configs": [
            {"config_name": "preferences", "data_files": "preferences/*"},
            {"config_name": "theirs", "data_files": "theirs/*", "default": True},
        ],
        "pretty_name": "Ours",
        "extra": {"deep": 1},
    }
    assert kept == ("pretty_name: 'Ours'", "extra: {'deep': 1}", "'mine' in tags", "configs 'theirs'")


def test_an_edited_value_is_kept_and_an_unedited_one_renewed():
    relicensed = SECOND.replace("license: cc-by-4.0", "license: cc0-1.0")
    assert metadata_of(merged(relicensed, FIRST, card_record(FIRST))[0])["license"] == "cc0-1.0"
    mine = FIRST.replace("license: cc-by-4.0", "license: mit")
    assert metadata_of(merged(relicensed, mine, card_record(FIRST))[0])["license"] == "mit"


def test_our_configs_of_before_go_with_their_files():
    fewer = SECOND.replace("config_name: preferences", "config_name: questions")
    text, _ = merged(fewer, FIRST, card_record(FIRST))
    assert [config["config_name"] for config in metadata_of(text)["configs"]] == ["questions"]


def test_dataset_info_may_stand_alone_and_without_a_name():
    """As `datasets` writes it for a single config."""
    edited = FIRST.replace("license:", "dataset_info:\n  features: []\nlicense:")
    text, _ = merged(SECOND, edited, card_record(FIRST))
    assert metadata_of(text)["dataset_info"] == [{"config_name": "default", "features": []}]


def test_line_ends_and_blank_lines_of_an_editor_are_no_edit():
    edited = "\ufeff" + FIRST.replace("10 rows.", "10 rows.  ").replace("\n", "\r\n").replace(
        "Some.", "Some.  \r\n\r\n"
    )
    assert merged(SECOND, edited, card_record(FIRST)) == (SECOND, ())


def test_sections_of_one_title_are_told_apart():
    edited = FIRST + "\n## Limits\n\nMore of mine.\n"
    text, kept = merged(SECOND, edited, card_record(FIRST))
    assert text.count("## Limits") == 2
    assert kept == ("section 'Limits #2'",)


def test_a_card_that_says_it_all_is_left_to_the_letter():
    edited = "---\nmine: 1\n" + SECOND.removeprefix("---\n").replace("- dpo\n- trl", "- trl\n- mine\n- dpo")
    edited = edited.replace("\n", "\r\n")
    assert merged(SECOND, edited, card_record(SECOND)) == (edited, ("mine: 1", "'mine' in tags"))


def test_a_broken_header_is_an_error_that_says_where():
    with pytest.raises(
        ValueError, match=r"(?s)^The YAML header of a card must be valid; got .* in USER/x\. Mend it there\."
    ):
        merge_cards(SECOND, "---\na: [1\n---\n", None, "USER/x")
    with pytest.raises(ValueError, match=r"^The YAML header of a card must be a mapping; got str in USER/x\. Mend it"):
        merge_cards(SECOND, "---\nwords\n---\n", None, "USER/x")
