"""Stories: what is asked of the storyteller, how its replies are read, and what keeps one from being answered."""

import json
import random
import string

import pytest

from fairpp_hf.personas import PERSONA_SETS, load_personas
from fairpp_hf.questions import load_questions
from fairpp_hf.questions.taxonomy import load_taxonomy
from fairpp_hf.scenarios.stories import (
    PARTS,
    STORY_SCHEMA,
    Story,
    check_story,
    count_sentences,
    persona_names,
    scenario_row,
    story_requests,
    wording,
)
from fairpp_hf.schema import QUESTION_FEATURES

QUESTION = {
    "question_id": "food.women.3.criterion",
    "problem": "food",
    "group": "women",
    "pole_a": "individualism",
    "pole_b": "collectivism",
    "option_a": "What each person does and decides, since people are in charge of securing their own essentials.",
    "option_b": "What the community does and decides, since its members are to secure the essentials together.",
}
FIRST = "Maria runs a small shop in Leeds. She decides to keep what she earned this week. She feels relieved."
SECOND = "Joan runs the kitchen in Hull. She decides that all of them share the bread. Everyone there feels warm."
THIRD = "Ruth keeps the hall in Bath. She decides to wait until the spring comes. She feels a little unsure."
CLOSING = "Which of these is fairer to you?"


def told(**changes: object) -> str:
    return json.dumps({"first": FIRST, "second": SECOND, "third": None, "closing_question": CLOSING} | changes)


GOOD = Story((FIRST, SECOND, "Neither of these two situations."), CLOSING)


@pytest.mark.parametrize(
    "raw",
    [
        told(),
        f"```json\n{told()}\n```",
        f'Here it is, {{as you asked}}: {told()} I hope that helps {{"first"}}.',
        told().replace("Leeds. ", "Leeds.\n"),  # a raw line break within a JSON text
        f'<think>{{"first": "..."}}</think>{told()}',
        json.dumps({"first": FIRST, "second": SECOND, "closing_question": CLOSING}),
        *(told(third=text) for text in ("", " N/A. ", "none", "null", "Neither")),
    ],
)
def test_a_story_is_read_wherever_its_json_stands(raw):
    assert check_story(raw, QUESTION) == GOOD


def test_a_third_scene_takes_the_place_of_the_fixed_text():
    assert check_story(told(third=THIRD), QUESTION) == Story((FIRST, SECOND, THIRD), CLOSING)


@pytest.mark.parametrize(
    "closing",
    [None, "", "I prefer the first.", "Is option A fairer?", "Is it [name]?", "W" * 300 + "?", "Is *it* so?", 3],
)
def test_a_closing_question_that_will_not_do_is_replaced(closing):
    found = check_story(told(closing_question=closing), QUESTION)
    assert found == GOOD._replace(closing_question="Which of these situations is better?")


def test_the_wording_of_ours_passes_the_checks_that_it_is_put_under():
    """The fixed closing question, and what the storyteller is told to ask, give no pole of any question away."""
    asked = wording()["prompt"].split("End with one neutral question that asks ")[1].split(",")[0]
    for dimension in load_taxonomy().dimensions:
        question = QUESTION | {"pole_a": dimension.pole_a, "pole_b": dimension.pole_b}
        for closing in (wording()["closing_question"], f"{asked}?"):
            found = check_story(told(closing_question=closing), question)
            assert found == GOOD._replace(closing_question=closing)


def sentences_of(raw, question=QUESTION, names=None):
    return [problem.sentence for problem in check_story(raw, question, names)]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (
            "I cannot do that.",
            "A story must be a JSON object with the keys first, second, third, closing_question; got 'I cannot do that.'.",
        ),
        (None, "A story must be a JSON object with the keys first, second, third, closing_question; got ''."),
        (
            '{"first": "Half',
            'A story must be a JSON object with the keys first, second, third, closing_question; got \'{"first": "Half\'.',
        ),
        (told(second=None), "A story must have two or three scenes, as texts; got none for the second one."),
        (told(second=" "), "A story must have two or three scenes, as texts; got none for the second one."),
        (told(third=["x"]), "A story must have two or three scenes, as texts; got '[\"x\"]' for the third one."),
        (told(third=FIRST.upper()), "The scenes must differ; got the same text twice."),
        (
            told(second=f"Joan reads it out. {QUESTION['option_b']} She feels warm, and so do the others."),
            "The second scene must be told in other words than the option; got 'What the community does and decides, since "
            "its members are to secure the esse...' in it.",
        ),
    ],
)
def test_what_is_wrong_with_the_whole_is_said(raw, expected):
    assert sentences_of(raw) == [expected]


@pytest.mark.parametrize(
    ("text", "kind", "got"),
    [
        ("Ann waits. Bob goes. It rains.", "length", "30"),
        ("Ann waits by the gate. Bob goes. It " + "r" * 1_170 + "ains.", "length", "1,211"),
        ("Maria runs a small shop in Leeds, and she decides to keep it all. She feels relieved.", "sentences", "2"),
        (FIRST + " It rains. It pours. It stops.", "sentences", "6"),
        (FIRST + " And then she goes to", "sentences", "'She feels relieved. And then she goes to' at its end"),
        (FIRST.replace("small", "*small*"), "markup", "'*' in it"),
        ("> " + FIRST, "markup", "'>' in it"),
        (FIRST.replace("Leeds", "<b>Leeds</b>"), "markup", "'<b>' in it"),
        (FIRST.replace("Leeds", "\ud800"), "form", "'\\ud800' in it"),
        (FIRST.replace("Maria", "[name]"), "placeholder", "'[name]' in it"),
        (FIRST.replace("Leeds", "____"), "placeholder", "'____' in it"),
        (FIRST.replace("Maria", "Option A: Maria"), "letter", "'Option A' in it"),
        (FIRST.replace("Maria", "(b) Maria"), "letter", "'(b)' in it"),
        (FIRST.replace("Maria", "A. Maria"), "letter", "'A.' in it"),
        (FIRST.replace("She feels", "B) She feels"), "letter", "'B)' in it"),
        (FIRST.replace("week", "scenario 2"), "letter", "'scenario 2' in it"),
        (FIRST.replace("small", "proudly Individualistic"), "pole", "'Individualistic' in it"),
        (FIRST.replace("shop", "collectivist shop"), "pole", "'collectivist' in it"),
        (FIRST.replace("Maria", "Maria, a progressive activist,"), "persona", "'progressive activist' in it"),
        (FIRST.replace("Maria", "Maria, of the loyal_nationals,"), "persona", "'loyal_nationals' in it"),
        (FIRST.replace("Maria", "The Moderates' friend"), "persona", "'Moderates' in it"),
    ],
)
def test_what_is_wrong_with_a_scene_is_said(text, kind, got):
    (problem,) = check_story(told(first=text), QUESTION)
    assert problem.kind == kind
    assert problem.sentence.startswith("The first scene must ")
    assert problem.sentence.endswith(f"; got {got}.")


@pytest.mark.parametrize(
    "text",
    [
        FIRST.replace("small shop", "small shop, not a moderate one, with vitamin C and a plan B"),
        FIRST.replace("Maria", "Ms. A. Shah, an individual,"),
        FIRST.replace("keep", "take the option a friend gave her and keep"),
        FIRST.replace("She decides", "“Is it #4?” asks Ann. She decides"),
        FIRST.replace("She decides", "Ann gave her answer: A nod. She decides"),
        FIRST.replace("She decides", "She has one choice: A long walk. She decides"),
    ],
)
def test_innocent_scenes_pass(text):
    assert isinstance(check_story(told(first=text), QUESTION), Story)


def test_what_the_question_is_about_may_be_named_though_it_holds_a_poles_word():
    question = QUESTION | {"problem": "basic law enforcement", "pole_a": "moral", "pole_b": "law"}
    named = FIRST.replace("shop", "office for Basic Law Enforcement")
    assert isinstance(check_story(told(first=named), question), Story)
    assert sentences_of(told(first=named.replace("this", "by law this")), question) == [
        "The first scene must not name the pole 'law'; got 'law' in it."
    ]


@pytest.mark.parametrize(
    ("pole", "words"),
    [
        ("law", ["mother-in-law", "fathers-in-laws", "By-laws", "by-law", "law-abiding"]),
        ("fairness", ["fair-haired", "county fair", "Village fair"]),
    ],
)
def test_words_that_hold_a_pole_and_mean_something_else_pass(pole, words):
    question = QUESTION | {"pole_a": pole}
    for word in words:
        named = FIRST.replace("shop", f"shop, {word} and all,")
        assert isinstance(check_story(told(first=named), question), Story), word
        assert sentences_of(told(first=named.replace("week", f"week by {pole}")), question) == [
            f"The first scene must not name the pole {pole!r}; got {pole!r} in it."
        ]


@pytest.mark.parametrize("text", ["answer A was", "the answers: B", "Option A people", "choice: 2", "situation: A, of"])
def test_letters_of_options_are_told_from_articles(text):
    found = check_story(told(first=FIRST.replace("Maria runs", f"Maria, {text} what she runs,")), QUESTION)
    assert [problem.kind for problem in found] == ["letter"]


def test_personas_of_the_runs_own_set_are_not_named_either():
    class Own:
        id, name = "quiet_gardeners", "Quiet Gardeners"

    text = told(first=FIRST.replace("Maria", "Maria, a quiet gardener,"))
    assert isinstance(check_story(text, QUESTION), Story)
    assert sentences_of(text, names=persona_names([Own()])) == [
        "The first scene must not name a persona; got 'quiet gardener' in it."
    ]


@pytest.mark.parametrize("persona", [p for name in PERSONA_SETS for p in load_personas(name)], ids=lambda p: p.id)
def test_no_persona_of_the_shipped_sets_goes_through(persona):
    for name in (persona.name, persona.id):
        found = check_story(told(first=FIRST.replace("Maria", f"Maria of the {name}")), QUESTION)
        if name[0].isupper() or "_" in name:
            assert [problem.kind for problem in found] == ["persona"]


def test_each_pole_has_its_word_forms():
    forms = {
        "libertarianism": ["libertarian", "libertarians"],
        "egalitarianism": ["egalitarian"],
        "procedural": ["procedurally"],
        "distributive": ["distributive"],
        "individualism": ["individualist"],
        "collectivism": ["collectivists"],
        "social norm": ["social norms"],
        "fairness": ["fair", "unfairly", "fairer"],
        "moral": ["immoral", "morality", "morals"],
        "law": ["lawful", "unlawful", "laws"],
    }
    innocent = {
        "individualism": "individual",
        "collectivism": "collect",
        "fairness": "affair",
        "moral": "morale",
        "law": "lawn",
        "social norm": "normal",
    }
    poles = {pole for dimension in load_taxonomy().dimensions for pole in (dimension.pole_a, dimension.pole_b)}
    assert poles == set(forms) == set(wording()["pole_forms"])
    for pole, words in forms.items():
        question = QUESTION | {"pole_a": pole, "pole_b": pole}
        for word in (pole, *words):
            found = check_story(told(first=FIRST.replace("shop", f"{word} shop")), question)
            assert {problem.kind for problem in found} == {"pole"}, word
        text = FIRST.replace("shop", f"{innocent.get(pole, 'corner')} shop")
        assert isinstance(check_story(told(first=text), question), Story)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("One", 1),
        ("One. Two! Three? Four… Five.", 5),
        ("One.\n\nTwo.", 2),
        ("Mr. Shah met Dr. E. Jones of St. Mary's, e.g. on Mondays. They spoke.", 2),
        ("He left at 5.30 p.m. She stayed. It was in the U.K. office.", 3),
        ("It was No. 7 of ten. No. She would not.", 3),
        ("Ann waited... and waited... I mean, for long. Then... Nothing.", 3),
        ('"Why us? Why now?" Ann asked. "It is late!" he said. "No." Then he left.', 4),
        ("‘It isn't right. It can't be,’ said Ann. ‘Not now!’ Bob shouted.", 2),
        ("'Don't go. Please.' Maria wept.", 2),
        ("“Stop!” The door closed.", 2),
        ("She said that so did I. Then he left.", 2),
        ("It was Sunday, 3 Jan. 2020. They met in Sept. It rained.", 3),
        ("“Why?” Maria's son asked. “Now?” James' old friend said. She smiled.", 3),
    ],
)
def test_sentences_are_counted(text, count):
    assert count_sentences(text) == count


def test_nothing_that_comes_back_is_an_error():
    """Random texts, and good replies cut anywhere or with a character changed, give a story or problems with a sentence."""
    rng = random.Random(7)
    good = told(third=THIRD)
    texts = [good[:end] for end in range(0, len(good), 7)]
    texts += ["".join(rng.choices(string.printable + "{}\"'…\ud800\x00", k=rng.randrange(200))) for _ in range(200)]
    for _ in range(200):
        at = rng.randrange(len(good))
        texts.append(good[:at] + rng.choice('{}"\\.?A(') + good[at + 1 :])
    texts += ["{" * 5_000, '{"first": ' * 2_000, "[" * 5_000 + '{"first": 1}']
    for text in texts:
        found = check_story(text, QUESTION)
        assert isinstance(found, Story) or (found and all(problem.sentence.endswith(".") for problem in found))


def test_what_the_storyteller_is_asked():
    questions = load_questions("test").slice(0, 3)
    asked = story_requests(questions)
    assert asked.schema == questions.schema
    assert asked.drop(["prompt"]).equals(questions.drop(["prompt"]))
    for row in asked.to_pylist():
        for name in ("problem", "group", "question", "option_a", "option_b", "pole_a", "pole_b"):
            assert row[name] in row["prompt"]
        for part in PARTS:
            assert f'"{part}"' in row["prompt"]
        assert "{" not in row["prompt"].replace('{"first"', "")
    assert STORY_SCHEMA["required"] == list(PARTS) == list(STORY_SCHEMA["properties"])


def test_a_scenario_is_a_question():
    question = load_questions("test").slice(0, 1).to_pylist()[0]
    row = scenario_row(GOOD, question)
    changed = ("question", "option_a", "option_b", "option_c", "prompt")
    assert list(row) == list(QUESTION_FEATURES)
    assert {name: row[name] for name in row if name not in changed} == {
        name: question[name] for name in question if name not in changed
    }
    assert row["prompt"] == (
        f"Here are three options.\nA. {FIRST}\nB. {SECOND}\nC. Neither of these two situations.\n{CLOSING}\n"
        "Reply with the letter of one of the three options, and nothing else."
    )
