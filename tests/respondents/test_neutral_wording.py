"""What every persona is told to do names no option, letter, pole, group or persona: it pulls nobody anywhere."""

import json
import re
from importlib.resources import files

from fairpp_hf.personas import PERSONA_SETS, load_personas
from fairpp_hf.questions import load_questions
from fairpp_hf.schema import OPTION_LETTERS

INSTRUCTION: str = json.loads((files("fairpp_hf.questions") / "templates.json").read_text("utf-8"))["instruction"]


def words(text: str) -> str:
    return f" {' '.join(re.findall(r'[a-z]+', text.lower()))} "


def test_the_instruction_ends_every_prompt() -> None:
    assert all(prompt.endswith(INSTRUCTION) for prompt in load_questions()["prompt"].to_pylist())


def test_the_instruction_names_nothing_that_could_sway_the_answer() -> None:
    questions = load_questions()
    columns = (
        "option_a",
        "option_b",
        "option_c",
        "pole_a",
        "pole_b",
        "group",
        "group_type",
        "problem",
        "category",
        "topic",
    )
    names = {text for column in columns for text in questions[column].unique().to_pylist()}
    for persona_set in PERSONA_SETS:
        for persona in load_personas(persona_set):
            # "Progressive Activists" is named by either of its words.
            names |= {persona.id, persona.name, *persona.name.split()}
    named = {name for name in names if words(name).strip() and words(name) in words(INSTRUCTION)}
    assert named == set()
    assert re.findall(rf"\b[{''.join(OPTION_LETTERS)}]\b", INSTRUCTION) == []


def test_the_instruction_says_not_which_option_is_first_or_fairer() -> None:
    assert re.findall(r"\b(first|second|third|last|fair\w*|best|better|right|should)\b", INSTRUCTION.lower()) == []
