"""Stories: the options of a question told as short scenes by a language model, and what makes one fit to be answered.

A storyteller gets a question with its two answers and gives a scene for each, a third one if it likes, and a closing
question. All that a story must be is checked here by pure functions on its raw text, so that a story can be checked again
for nothing; what is wrong with one is said in sentences.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any, NamedTuple

import pyarrow as pa

from fairpp_hf.personas import PERSONA_SETS, load_personas
from fairpp_hf.schema import OPTION_LETTERS, QUESTION_FEATURES

SENTENCES = (3, 5)
"""Fewest and most sentences of a scene."""

CHARACTERS = (60, 1_200)
"""Fewest and most characters of a scene: three short sentences, and five long ones."""

CLOSING_CHARACTERS = 300
"""Most characters of a closing question; a longer one is replaced."""

PARTS = ("first", "second", "third", "closing_question")
"""Keys of a story's JSON object."""

STORY_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {part: {"type": ["string", "null"] if part == "third" else "string"} for part in PARTS},
    "required": list(PARTS),
    "additionalProperties": False,
}
"""JSON schema of a story, for servers with structured output. Strict schemas want every key; a third scene may be null."""

_ABSENT = ("", "n/a", "na", "none", "null", "neither")

Names = tuple[tuple[str, str], ...]
"""Id and name of each persona that no story may name."""


class Story(NamedTuple):
    """A question's options, told."""

    scenes: tuple[str, str, str]
    """Of options A, B and C, each one line; the last is our own text where the storyteller gave none."""
    closing_question: str
    """One line; our own where the storyteller's will not do."""


class StoryProblem(NamedTuple):
    """Something that keeps a story from being answered."""

    kind: str
    """For counting: `form`, `count`, `length`, `sentences`, `markup`, `placeholder`, `letter`, `pole`, `persona` or
    `same`; `truncated` for a reply that was cut off."""
    sentence: str


@cache
def wording() -> Mapping[str, Any]:
    """`storyteller.json`: the storyteller's prompts, the fixed texts of scenarios, and word forms of poles.

    `pole_forms` name a pole; `innocent_forms` hold its word and mean something else.
    """
    tree: dict[str, Any] = json.loads(files(__package__).joinpath("storyteller.json").read_text("utf-8"))
    return tree


@cache
def wording_digest() -> str:
    """16 hexadecimal digits that change with what the storyteller is told, schema included."""
    told = [wording()["system"], wording()["prompt"], STORY_SCHEMA]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def story_requests(questions: pa.Table) -> pa.Table:
    """What the storyteller is asked: the questions with its own prompt in the place of the personas'."""
    prompt = wording()["prompt"]
    prompts = [prompt.format(**row) for row in questions.to_pylist()]
    at = questions.column_names.index("prompt")
    return questions.set_column(at, questions.schema.field("prompt"), pa.array(prompts, pa.string()))


def scenario_row(story: Story, question: Mapping[str, Any]) -> dict[str, Any]:
    """A row of `QUESTION_FEATURES`: the question, told as the story.

    `question_id` and the labels are the question's, `question` is the closing question and the options are the scenes.

    Example:
        >>> row = scenario_row(Story(("This.", "That.", "Neither."), "Which?"), {"question_id": "q"})
        >>> print(row["prompt"])
        Here are three options.
        A. This.
        B. That.
        C. Neither.
        Which?
        Reply with the letter of one of the three options, and nothing else.
    """
    fixed = wording()
    lines = [f"{letter}. {scene}" for letter, scene in zip(OPTION_LETTERS, story.scenes, strict=True)]
    labels = {name: question[name] for name in QUESTION_FEATURES if name in question}
    return labels | {
        "question": story.closing_question,
        "option_a": story.scenes[0],
        "option_b": story.scenes[1],
        "option_c": story.scenes[2],
        "prompt": "\n".join([fixed["stem"], *lines, story.closing_question, fixed["instruction"]]),
    }


def persona_names(personas: Iterable[Any] = ()) -> Names:
    """Id and name of every persona of the shipped sets, and of these."""
    shipped = [(persona.id, persona.name) for name in PERSONA_SETS for persona in load_personas(name)]
    given = [(persona.id, getattr(persona, "name", persona.id)) for persona in personas]
    return tuple(dict.fromkeys([*shipped, *given]))


def check_story(raw: str | None, question: Mapping[str, Any], names: Names | None = None) -> Story | list[StoryProblem]:
    """Read a story out of a storyteller's reply.

    JSON is found in code fences and in prose as well. Each scene must have three to five sentences and 60 to 1,200
    characters, without markup or gaps to fill in. It must not give away which option it is: no letter or number of an
    option, neither pole of the question's dimension by name, nor any form of that word, and no persona by name. Labels of
    the question itself, such as the problem `basic law enforcement`, may stand, and so may words such as `mother-in-law`.
    The scenes must differ from each other and must not hold the text of an option.

    A third scene that is missing becomes the fixed text "Neither of these two situations."; a closing question that does
    not end in a question mark, or gives something away, becomes "Which of these situations is better?".

    Args:
        raw: Text of the reply.
        question: With `option_a`, `option_b`, `pole_a`, `pole_b`, `problem` and `group`.
        names: Names by `persona_names`; those of the shipped sets by default.

    Returns:
        The story, or at least one problem.
    """
    tree = _object_in(raw or "")
    if tree is None:
        keys = ", ".join(PARTS)
        return [StoryProblem("form", f"A story must be a JSON object with the keys {keys}; got {_quoted(raw or '')}.")]
    names = persona_names() if names is None else names
    problems: list[StoryProblem] = []
    scenes: list[str] = []
    for key in PARTS[:3]:
        value = tree.get(key)
        if value is None or (isinstance(value, str) and value.strip().rstrip(".").casefold() in _ABSENT):
            if key == "third":
                continue
            value = None
        if not isinstance(value, str):
            shown = "none" if value is None else _quoted(json.dumps(value))
            sentence = f"A story must have two or three scenes, as texts; got {shown} for the {key} one."
            problems.append(StoryProblem("count", sentence))
            continue
        scenes.append(" ".join(value.split()))
        problems += _scene_problems(f"The {key} scene", value, question, names)
    if len({_plain(scene) for scene in scenes}) < len(scenes):
        problems.append(StoryProblem("same", "The scenes must differ; got the same text twice."))
    if problems:
        return problems
    first, second, third, *_ = *scenes, wording()["option_c"]
    return Story((first, second, third), _closing_question(tree.get("closing_question"), question, names))


def _closing_question(given: Any, question: Mapping[str, Any], names: Names) -> str:
    text = " ".join(given.split()) if isinstance(given, str) else ""
    unfit = any(pattern.search(text) for pattern in (_MARKUP, _SURROGATE, _PLACEHOLDER))
    if not text.endswith("?") or len(text) > CLOSING_CHARACTERS or unfit:
        text = ""
    closing: str = wording()["closing_question"]
    return closing if not text or any(_leaks("", text, question, names)) else text


def _quoted(text: str, most: int = 80) -> str:
    """On one line, cut short."""
    text = " ".join(text.split())
    return repr(text if len(text) <= most else f"{text[: most - 3]}...")


def _plain(text: str) -> str:
    """For comparing: words alone, in lower case."""
    return " ".join(re.findall(r"\w+", text.casefold()))


# Reading


_THOUGHT = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
_DECODER = json.JSONDecoder(strict=False)  # line breaks within texts are common, and clear


def _object_in(raw: str) -> dict[str, Any] | None:
    """The first JSON object in a text that has one of a story's keys; None without one. Thoughts do not count."""
    raw = _THOUGHT.sub("", raw, count=1)
    for start in re.finditer(r"\{", raw):
        try:
            found, _ = _DECODER.raw_decode(raw, start.start())
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict) and any(key in found for key in PARTS):
            return found
    return None


# Form


_MARKUP = re.compile(r"\*|`|~~|\]\(|\||</?\w+[^<>]*>|(?m:^\s*(?:#{1,6}\s|>|[-•–]\s|\d+[.)]\s))")
_PLACEHOLDER = re.compile(
    r"\[[^\]]*\]|\{[^}]*\}|_{2,}|\b(?:TBD|TODO|XX+|YY+|NAME)\b|(?i:\blorem ipsum\b|\binsert (?:name|place|text)\b)"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_UNFIT = (
    ("form", "be valid Unicode", _SURROGATE),
    ("markup", "be plain text", _MARKUP),
    ("placeholder", "have no gap to fill in", _PLACEHOLDER),
)
_END = re.compile(r"""[.!?…]["'”’»)]*$""")


def _scene_problems(where: str, text: str, question: Mapping[str, Any], names: Names) -> Iterator[StoryProblem]:
    scene = " ".join(text.split())
    least, most = CHARACTERS
    if not least <= len(scene) <= most:
        yield StoryProblem("length", f"{where} must have {least:,} to {most:,} characters; got {len(scene):,}.")
    fewest, most = SENTENCES
    count = count_sentences(scene)
    if not fewest <= count <= most:
        yield StoryProblem("sentences", f"{where} must have {fewest} to {most} sentences; got {count}.")
    elif not _END.search(scene):
        sentence = f"{where} must end with a full sentence; got {_quoted(scene[-40:])} at its end."
        yield StoryProblem("sentences", sentence)
    for kind, rule, pattern in _UNFIT:
        if found := pattern.search(text):
            yield StoryProblem(kind, f"{where} must {rule}; got {_quoted(found[0])} in it.")
    yield from _leaks(where, scene, question, names)
    for option in (question["option_a"], question["option_b"]):
        if _plain(option) in _plain(scene):
            sentence = f"{where} must be told in other words than the option; got {_quoted(option)} in it."
            yield StoryProblem("same", sentence)


_ABBREVIATION = re.compile(
    r"(?:^|[\s(\"'“‘])(?:Mr|Mrs|Ms|Mx|Dr|Prof|Rev|St|Sr|Jr|Messrs|Capt|Sgt|Cllr|Hon|vs|cf|approx|e\.g|i\.e|"
    r"[A-HJ-Z]|[A-Z](?:\.[A-Z])+)\.$"
)
_BREAK = re.compile(r"""([.!?…]+)(["'”’»)\]]*)\s+(?=["'“‘«(\[]*(\w+))""")
_SPEECH = re.compile(
    r"“[^”]*”|\"[^\"]*\"|(?<!\w)‘(?:[^‘’]|(?<=\w)’(?=\w))*[.!?,…]’|(?<!\w)'(?:[^']|(?<=\w)'(?=\w))*[.!?,…]'(?!\w)"
)
_NUMBERED = re.compile(r"\b(?:[Nn]o|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\.$")
_SAID = re.compile(
    r"\s+(?:(?:[A-Z][\w'’-]+\s+){1,2}|[A-Z][\w-]*(?:['’]s|s['’])\s+(?:[\w-]+\s+){1,2})(?:said|says|asked|asks|replied|replies|answered|answers|added|adds|whispered|whispers|"
    r"thought|thinks|murmured|murmurs|told|tells|explained|explains|insisted|insists|shouted|called|cried|sighed)\b"
)


def count_sentences(text: str) -> int:
    """How many sentences a text has.

    A sentence ends at `.`, `!`, `?` or an ellipsis, with the quotation marks behind it, where a capital letter or a digit
    follows, or the text ends. Abbreviations (Mr., e.g., U.K., 3 Jan. 2020) and initials end none. Speech in quotation marks
    counts as part of the sentence around it, however many sentences were spoken.

    Example:
        >>> count_sentences('Mr. Shah sighed. "Why us? Why now?" Ann asked. It was 5.30 p.m. and raining... They went home.')
        4
    """
    text = _SPEECH.sub(_without_inner_ends, " ".join(text.split()))
    return sum(_ends_a_sentence(text, found) for found in _BREAK.finditer(text)) + bool(text)


def _ends_a_sentence(text: str, found: re.Match[str]) -> bool:
    marks, closing, following = found.groups()
    if closing:
        goes_on = _SAID.match(text, found.end(2)) is not None
    elif marks == ".":
        before = text[: found.end(1)]
        goes_on = bool(_ABBREVIATION.search(before) or (following[0].isdigit() and _NUMBERED.search(before)))
    else:
        # After a pause in mid-sentence, the pronoun is a capital all the same.
        goes_on = set(marks) <= {".", "…"} and following == "I"
    return not goes_on and (following[0].isupper() or following[0].isdigit())


def _without_inner_ends(speech: re.Match[str]) -> str:
    """Speech in which no sentence ends but the last."""
    text = speech[0]
    last = len(text) - len(text[:-1].rstrip(".!?…,")) if len(text) > 1 else 0
    return re.sub(r"[.!?…]", ",", text[: len(text) - last]) + text[len(text) - last :]


# What gives an option or a persona away


# After a colon, and after a word of everyday life, an A before a small letter is the article: "her answer: A nod".
_LETTER = re.compile(
    r"""(?i:\b(?:options?|alternatives?|scenarios?|scenes?|vignettes?)\s*)["'“‘(\[]*(?:[A-C]|[1-3])\b
      | (?i:\b(?:options?|choices?|answers?|alternatives?|situations?|scenarios?|scenes?|vignettes?)\s*[:=]?\s*)
        ["'“‘(\[]*(?:A(?!\s+(?!(?:is|was|and|or)\b)[a-z])|[BC]|[1-3])\b
      | (?i:\b(?:option|scenario|vignette)\s+(?:one|two|three)\b)
      | (?<!\w)[(\[][A-Ca-c][)\]]
      | ^["'“‘]?[A-C][.:)](?=\s)
      | (?<=[.!?]\s)[A-C][:)](?=\s)""",
    re.VERBOSE,
)


def _leaks(where: str, text: str, question: Mapping[str, Any], names: Names) -> Iterator[StoryProblem]:
    if found := _LETTER.search(text):
        yield StoryProblem("letter", f"{where} must not say which option it is; got {_quoted(found[0])} in it.")
    # What the question is about may be named, also where that holds a pole's word.
    rest = text
    for label in (question["problem"], question["group"]):
        rest = re.sub(re.escape(label), " ", rest, flags=re.IGNORECASE)
    for pole in (question["pole_a"], question["pole_b"]):
        innocent = wording()["innocent_forms"].get(pole)
        left = rest if innocent is None else re.sub(rf"\b(?:{innocent})\b", " ", rest, flags=re.IGNORECASE)
        if found := _pole_pattern(pole).search(left):
            yield StoryProblem("pole", f"{where} must not name the pole {pole!r}; got {_quoted(found[0])} in it.")
    if found := _persona_pattern(names).search(rest):
        yield StoryProblem("persona", f"{where} must not name a persona; got {_quoted(found[0])} in it.")


@cache
def _pole_pattern(pole: str) -> re.Pattern[str]:
    forms = wording()["pole_forms"].get(pole) or rf"{re.escape(pole)}s?"
    return re.compile(rf"\b(?:{forms})\b", re.IGNORECASE)


@lru_cache
def _persona_pattern(names: Names) -> re.Pattern[str]:
    """Names in the plural and the singular, words apart, hyphenated or as in an id.

    A name of one word, such as Moderates, counts with its capital only: without, it may be any word.
    """
    patterns = []
    for name in dict.fromkeys(text for pair in names for text in pair):
        words = re.findall(r"[^\W_]+", name)
        if not words:
            continue
        stem = [re.escape(word) for word in words]
        if len(words) == 1:
            if words[0][0].isupper():
                patterns.append(stem[0])
        else:
            stem[-1] = rf"{re.escape(words[-1].removesuffix('s'))}s?"
            joined = r"[\s_-]+".join(stem)
            patterns.append(f"(?i:{joined})")
    return re.compile(rf"\b(?:{'|'.join(patterns)})\b")
