"""What people wrote into a card is kept, what was generated is renewed."""

import random
import re

import pytest
import yaml

from fairpp_hf.hub.card_merge import config_patterns, merge_cards

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

<!-- fairpp:notice -->
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


def merged(generated: str, existing: str, *bases: str) -> tuple[str, tuple[str, ...]]:
    """The merge, which a second merge with the new base must leave as it is."""
    result = merge_cards(generated, existing, bases)
    again = merge_cards(generated, result.text, [generated])
    assert again.text == result.text
    assert again.renewed == ()
    return result.text, result.edited


def test_an_unedited_card_is_renewed_whole():
    assert merged(SECOND, FIRST, FIRST) == (SECOND, ())


def test_foreign_sections_stay_behind_what_they_stood_behind():
    edited = FIRST.replace("## Limits", "## Our study\n\nWe found.\n\n## More of it\n\nAnd so on.\n\n## Limits")
    edited += "\n## Contact\n\nWrite to us.\n"
    text, kept = merged(SECOND, edited, FIRST)
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
    text, kept = merged(SECOND, edited, FIRST)
    assert "Some, and that it is small." in text
    assert "20 rows" in text
    assert kept == ("section 'Limits'",)


def test_a_section_that_is_no_longer_generated_goes_unless_it_was_edited():
    without = SECOND.replace("## Limits\n\nSome.\n", "")
    assert "## Limits" not in merged(without, FIRST, FIRST)[0]
    assert "Mine." in merged(without, FIRST.replace("Some.", "Mine."), FIRST)[0]


NOTICE_B = "<!-- fairpp:notice -->\n> **Simulated answers.** By B.\n"


def test_the_notice_of_simulation_is_renewed_in_an_edited_introduction():
    edited = FIRST.replace("What it is.", "What it is, in short.")
    text, kept = merged(SECOND, edited, FIRST)
    assert f"{NOTICE_B}\nWhat it is, in short.\n" in text
    assert "By A." not in text
    assert kept == ("the introduction",)


def test_an_edited_notice_is_renewed_and_that_is_said():
    edited = FIRST.replace("By A.", "Not really.\n> Not at all.")
    result = merge_cards(SECOND, edited, [FIRST])
    assert result == (SECOND, (), ("the notice on what is simulated",))


def test_other_quotes_of_the_introduction_are_left_alone():
    """In front of the notice, in its place, and behind it."""
    for edited in (
        FIRST.replace("# Title\n", "# Title\n\n> [!NOTE]\n> Accepted.\n"),
        FIRST.replace("What it is.", "What it is.\n\n> Thanks to all."),
        FIRST.replace("<!-- fairpp:notice -->\n> **Simulated answers.** By A.", "> An epigraph."),
    ):
        text, _ = merged(SECOND, edited, FIRST)
        assert text.count(NOTICE_B) == text.count("Simulated") == 1
        assert any(words in text for words in ("> [!NOTE]\n> Accepted.\n", "> Thanks to all.\n", "> An epigraph.\n"))


def test_a_card_of_other_origin_is_kept_whole_and_gets_what_it_lacks():
    text, kept = merged(SECOND, "---\nlicense: mit\n---\nMy data.\n\n## Limits\n\nMine.\n")
    assert text.index(NOTICE_B) < text.index("My data.") < text.index("20 rows")
    assert "Mine." in text
    assert "Some." not in text
    assert metadata_of(text)["license"] == "mit"
    assert kept == (
        "license: 'mit' (instead of 'cc-by-4.0')",
        "the introduction",
        "section 'Limits'",
    )


def test_an_empty_card_becomes_the_generated_one():
    for empty in ("", "\n", "---\n---\n"):
        assert merged(SECOND, empty) == (SECOND, ())


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
    text, kept = merged(SECOND, edited, FIRST)
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
    assert metadata_of(merged(relicensed, FIRST, FIRST)[0])["license"] == "cc0-1.0"
    mine = FIRST.replace("license: cc-by-4.0", "license: mit")
    assert metadata_of(merged(relicensed, mine, FIRST)[0])["license"] == "mit"


def test_our_configs_of_before_go_with_their_files():
    fewer = SECOND.replace("config_name: preferences", "config_name: questions")
    text, _ = merged(fewer, FIRST, FIRST)
    assert [config["config_name"] for config in metadata_of(text)["configs"]] == ["questions"]


def test_line_ends_and_blank_lines_of_an_editor_are_no_edit():
    edited = "\ufeff" + FIRST.replace("10 rows.", "10 rows.  ").replace("\n", "\r\n").replace(
        "Some.", "Some.  \r\n\r\n"
    )
    assert merged(SECOND, edited, FIRST) == (SECOND, ())


def test_sections_of_one_title_are_told_apart():
    edited = FIRST + "\n## Limits\n\nMore of mine.\n"
    text, kept = merged(SECOND, edited, FIRST)
    assert text.count("## Limits") == 2
    assert kept == ("section 'Limits #2'",)


ODD = {
    "inline code that begins like a fence": FIRST.replace(
        "What it is.", "```pip install x``` is enough.\n\n## Use\n\nSo."
    ),
    "a fence that never ends": FIRST.replace("Some.", "```\nSome.\n\n## Use\n\nSo."),
    "tildes around backticks": FIRST.replace("Some.", "~~~\n```\n## no heading\n~~~\n\n## Use\n\nSo."),
    "a longer fence": FIRST.replace("Some.", "````\n```\n## no heading\n````\n\n## Use\n\nSo."),
    "a comment": FIRST.replace("Some.", "<!-- old:\n## no heading\n-->\n\n## Use\n\nSo."),
    "a comment that never ends": FIRST.replace("Some.", "<!-- old\n\n## Use\n\nSo."),
    "a closed heading": FIRST.replace("## Limits\n", "## Use ##\nSo.\n## Limits ##\n"),
    "headings without blank lines": FIRST.replace("Some.\n", "Some.\n## Use\nSo."),
    "no header": FIRST.split("---\n")[2] + "\n## Use\n\nSo.\n",
    "blank lines before the header": "\n\n" + FIRST + "\n## Use\n\nSo.\n",
    "an anchor": FIRST.replace("license:", "a: &x [1]\nb: *x\nlicense:") + "\n## Use\n\nSo.\n",
    "a date and numbers as keys": FIRST.replace("license:", "2024-01-01: 2024-01-02\n3: x\nlicense:")
    + "\n## Use\n\nSo.\n",
    "empty values": FIRST.replace("license:", "a:\nb: []\nc: {}\nlicense:") + "\n## Use\n\nSo.\n",
    "another end of a line": FIRST.replace("Some.", "Some.\u2028## no heading\n\n## Use\n\nSo."),
    "CRLF": FIRST.replace("Some.", "Some.\n\n## Use\n\nSo.").replace("\n", "\r\n"),
}


def test_one_entry_without_a_list_is_added_to_ours():
    text, kept = merged(SECOND, FIRST.replace("tags:\n- dpo\n- trl", "tags: mine"), FIRST)
    assert metadata_of(text)["tags"] == ["dpo", "trl", "mine"]
    assert kept == ("'mine' in tags",)


def test_a_config_called_default_is_one():
    """`datasets` takes it for the default, and refuses two."""
    foreign = "---\nconfigs:\n  config_name: default\n  data_files: data/*\n---\n"
    text, _ = merged(SECOND, foreign)
    assert metadata_of(text)["configs"] == [
        {"config_name": "preferences", "data_files": "preferences/*"},
        {"config_name": "default", "data_files": "data/*"},
    ]


def test_our_entries_of_configs_are_renewed_and_edits_of_them_named():
    edited = FIRST.replace("  default: true", "  default: true\n  drop_labels: true")
    result = merge_cards(SECOND, edited, [FIRST])
    assert result == (SECOND, (), ("configs 'preferences'",))


@pytest.mark.parametrize(
    ("card", "patterns"),
    [
        (SECOND, [("preferences", ["preferences/*"])]),
        ("---\nconfigs:\n- config_name: a\n  data_files: [b, c]\n---\n", [("a", ["b", "c"])]),
        (
            "---\nconfigs:\n- config_name: a\n  data_files:\n  - split: x\n    path: [b]\n  - split: y\n    path: c\n---\n",
            [("a", ["b", "c"])],
        ),
        ("---\nconfigs:\n  data_files: {x: b}\n---\n", [("default", ["b"])]),
        ("---\nconfigs:\n- config_name: a\n  data_dir: b\n---\n", [("a", [])]),
        ("", []),
    ],
)
def test_patterns_of_configs(card, patterns):
    assert config_patterns(card) == patterns


@pytest.mark.parametrize("name", ODD)
def test_odd_cards(name):
    """Nothing is lost, nothing stands twice, and a second merge, also of other data, changes nothing of it."""
    text, _ = merged(SECOND, ODD[name], FIRST)
    for words in ("By B.", "20 rows", "## Answers", "## Limits", "## Use"):
        assert text.count(words) == 1, words
    assert "So." in text
    assert metadata_of(text)["license"] == "cc-by-4.0"
    assert merge_cards(FIRST, text, [SECOND]).text.count("So.") == 1


def test_a_card_that_says_it_all_is_left_to_the_letter():
    edited = "---\nmine: 1\n" + SECOND.removeprefix("---\n").replace("\n", "\r\n")
    assert merged(SECOND, edited, SECOND) == (edited, ("mine: 1",))


@pytest.mark.parametrize(
    ("header", "rule"),
    [
        ("a: [1", r"^The YAML header of a card must be valid; got an error in USER/x: .*\. Mend it there\.$"),
        ("a: 2024-13-45", r"^The YAML header of a card must be valid; got an error in USER/x: month must be"),
        ("words", r"^The YAML header of a card must be a mapping; got str in USER/x"),
        ("configs:\n- config_name: [a]", r"^configs of a card must be a list of mappings with a config_name; got \{"),
        ("configs: [a]", r"^configs of a card must be a list of mappings with a config_name; got 'a' in USER/x"),
    ],
)
def test_a_broken_header_is_an_error_that_says_where(header, rule):
    with pytest.raises(ValueError, match=rule):
        merge_cards(SECOND, f"---\n{header}\n---\n", where="USER/x")


# Cards that are brought in with what people wrote into them, as by a push from a folder.


def written(card: str, words: str) -> str:
    return card.replace("## Limits", f"## Our study\n\n{words}\n\n## Limits")


def test_what_was_sent_from_home_is_replaced_by_what_is_written_there_now():
    then, now = (written(FIRST, word).replace("license:", f"doi: {word}\nlicense:") for word in ("Then.", "Now."))
    assert merge_cards(now, then, [FIRST, then]) == (now, (), ())
    assert merge_cards(now, then, [FIRST]).edited == ("doi: 'Then.' (instead of 'Now.')", "section 'Our study'")
    here = written(FIRST, "Here.")
    assert merge_cards(now, here, [FIRST, then]).edited == ("section 'Our study'",)


def test_the_name_in_a_generated_load_line_is_no_edit():
    first = FIRST.replace("Some.", '`load_dataset("USER/fairpp", "x")` gives 10 rows.')
    there = first.replace("USER/fairpp", "us/fairpp")
    here = first.replace("10 rows", "20 rows").replace("USER/fairpp", "me/fairpp")
    assert merge_cards(here, there, [first]) == (here, (), ())


# Random histories of two folders that push to one repo, each with a card of its own.


class Place:
    """A folder, or the repo: its card, the generated card in its manifest, and what the folder sent."""

    def __init__(self) -> None:
        self.card, self.generated, self.sent = "", "", ""


def generated_card(name: str, number: int) -> str:
    """A card of a folder's n-th build, with numbers that tell it from all others."""
    card = FIRST.replace("By A.", f"By {name}{number}.").replace("What it is.", f"What {name}{number} is.")
    card = card.replace("10 rows", f"{name}{number} rows").replace("preferences", f"of-{name}")
    return card if number % 3 else card.replace("## Limits", f"## Extra\n\n{name}{number} more.\n\n## Limits")


def with_words(card: str, word: str, rng: random.Random) -> str:
    return rng.choice(
        (
            card.replace("## Limits", f"## Own {rng.randrange(3)}\n\n{word}\n\n## Limits", 1),
            re.sub(r"( rows[^\n]*\n)", rf"\1{word}\n", card, count=1),
            card.replace("Some.", f"Some. {word}", 1),
            card.replace("license:", f"m{word}: {word}\nlicense:", 1),
            card.replace("- dpo\n", f"- dpo\n- {word}\n", 1),
        )
    )


def words_of(card: str) -> set[str]:
    return set(re.findall(r"word\d+", card))


@pytest.mark.parametrize("seed", range(40))
def test_random_histories(seed):
    """No word is lost but by who sent it, no number is stale without a word, and pushing again changes nothing."""
    rng = random.Random(seed)
    repo, folders = Place(), {"A": Place(), "B": Place()}
    words = iter(f"word{number}" for number in range(1000))
    steps = ["build", "build other", *rng.choices(["build", "edit", "edit repo", "push", "push"], k=14)]
    for number, step in enumerate(steps):
        name = "B" if step == "build other" else "A" if number == 0 else rng.choice("AB")
        folder = folders[name]
        if step.startswith("build"):
            card = generated_card(name, number)
            folder.card = merge_cards(card, folder.card, [folder.generated]).text if folder.card else card
            folder.generated = card
        elif step == "edit":
            folder.card = with_words(folder.card, next(words), rng)
        elif step == "edit repo" and repo.card:
            repo.card = with_words(repo.card, next(words), rng)
        elif step == "push":
            mine = merge_cards(folder.generated, folder.card, [folder.generated]).text
            bases = [card for card in (repo.generated, folder.sent) if card]
            text, edited, _ = merge_cards(mine, repo.card, bases) if repo.card else (mine, (), ())
            assert words_of(repo.card) - words_of(text) <= words_of(folder.sent)
            assert not words_of(mine) - words_of(text) or edited
            assert f"config_name: of-{name}" in text
            stale = {f"{name}{number}" for name, number in re.findall(r"([AB])(\d+)", text)} - {
                f"{name}{number}" for name, number in re.findall(r"([AB])(\d+)", folder.generated)
            }
            assert not stale or words_of(text)
            assert text.count("## Answers") == text.count("## Limits") == 1
            assert merge_cards(mine, text, [folder.generated, mine]).text == text
            folder.sent, repo.generated, repo.card = mine, folder.generated, text
