"""Renders the 28,420 questions from 50 templates, a column at a time.

A template belongs to a topic, a dimension and a form. Its texts may hold the placeholders `{group}` and `{problem}`,
which take the published labels as they stand.
"""

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from string import Formatter
from typing import NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fairpp_hf.questions.taxonomy import FORMS, load_taxonomy
from fairpp_hf.schema import OPTION_LETTERS, QUESTION_FEATURES

PLACEHOLDERS = ("group", "problem")

Column: TypeAlias = pa.Array | pa.ChunkedArray


class Template(NamedTuple):
    """The wording of one topic, dimension and form; option C depends on the form alone."""

    question: str
    option_a: str
    option_b: str


class Templates(NamedTuple):
    """All wording: templates by (topic, dimension number, form), option C by form, and the prompt's last line."""

    templates: dict[tuple[str, int, str], Template]
    option_c: dict[str, str]
    instruction: str


@cache
def load_templates() -> Templates:
    """The wording in `templates.json`, read once."""
    document = json.loads(files(__package__).joinpath("templates.json").read_text("utf-8"))
    templates = {
        (topic, int(dimension), form): Template(**texts)
        for topic, dimensions in document["templates"].items()
        for dimension, forms in dimensions.items()
        for form, texts in forms.items()
    }
    return Templates(templates, document["option_c"], document["instruction"])


def render_prompt(question: str, option_a: str, option_b: str, option_c: str) -> str:
    """The prompt of one question, as in the `prompt` column: question, three option lines, what to reply.

    Example:
        >>> print(render_prompt("Which one?", "This.", "That.", "Neither."))
        Which one?
        A. This.
        B. That.
        C. Neither.
        Reply with one of the three options, written out as above, and nothing else.
    """
    lines = [f"{letter}. {text}" for letter, text in zip(OPTION_LETTERS, (option_a, option_b, option_c), strict=True)]
    return "\n".join([question, *lines, load_templates().instruction])


def option_lines(questions: pa.Table) -> tuple[Column, Column, Column]:
    """The option lines "A. ...", "B. ..." and "C. ..." of each question, three string columns of n rows."""
    line_a, line_b, line_c = (
        pc.binary_join_element_wise(f"{letter}. ", questions.column(f"option_{letter.lower()}"), "")
        for letter in OPTION_LETTERS
    )
    return line_a, line_b, line_c


@cache
def render_questions() -> pa.Table:
    """All 28,420 questions, in taxonomy order of problem, group, dimension and form.

    Returns:
        A table with the columns and types of `QUESTION_FEATURES`; its schema carries their metadata, so that
        `datasets.Dataset(table)` has the same features.
    """
    taxonomy = load_taxonomy()
    wording = load_templates()
    problems, groups, dimensions = taxonomy.problems, taxonomy.groups, taxonomy.dimensions
    topic_of = np.array([taxonomy.topics.index(problem.topic) for problem in problems])
    shape = (len(problems), len(groups), len(dimensions), len(FORMS))
    problem, group, dimension, form = (index.ravel() for index in np.indices(shape))

    columns: dict[str, Column] = {
        "topic": pa.array([item.topic for item in problems]).take(problem),
        "category": pa.array([item.category for item in problems]).take(problem),
        "problem": pa.array([item.name for item in problems]).take(problem),
        "group_type": pa.array([item.group_type for item in groups]).take(group),
        "group": pa.array([item.name for item in groups]).take(group),
        "dimension": pa.array([item.number for item in dimensions]).take(dimension),
        "pole_a": pa.array([item.pole_a for item in dimensions]).take(dimension),
        "pole_b": pa.array([item.pole_b for item in dimensions]).take(dimension),
        "form": pa.array(FORMS).take(form),
        "option_c": pa.array([wording.option_c[item] for item in FORMS]).take(form),
    }
    columns["question_id"] = pc.binary_join_element_wise(
        _slugs(columns["problem"]), _slugs(columns["group"]), columns["dimension"].cast("string"), columns["form"], "."
    )

    # Rows of one template are rendered together: bring them together, render, and put them back.
    template_of = (topic_of[problem] * len(dimensions) + dimension) * len(FORMS) + form
    order = np.argsort(template_of, kind="stable")
    back = np.argsort(order, kind="stable")
    keys = [(topic, item.number, form) for topic in taxonomy.topics for item in dimensions for form in FORMS]
    sizes = np.bincount(template_of, minlength=len(keys))
    rows_of = dict(zip(keys, np.split(order, np.cumsum(sizes)[:-1]), strict=True))
    for field in Template._fields:
        parts = [
            _fill(getattr(wording.templates[key], field), {name: columns[name].take(rows) for name in PLACEHOLDERS})
            for key, rows in rows_of.items()
        ]
        columns[field] = pa.concat_arrays(parts).take(back)

    question_and_options = pa.table({name: columns[name] for name in ("question", "option_a", "option_b", "option_c")})
    columns["prompt"] = pc.binary_join_element_wise(
        columns["question"], *option_lines(question_and_options), wording.instruction, "\n"
    )
    return pa.table({name: columns[name] for name in QUESTION_FEATURES}, schema=QUESTION_FEATURES.arrow_schema)


def _slugs(labels: pa.Array) -> pa.Array:
    """Lower case, runs of other characters than letters and digits as one hyphen, none at the ends."""
    hyphenated = pc.replace_substring_regex(pc.utf8_lower(labels), "[^a-z0-9]+", "-")
    return pc.utf8_trim(hyphenated, "-")


def _fill(text: str, labels: Mapping[str, pa.Array]) -> pa.Array:
    """The text with each placeholder replaced by its column, as one string column."""
    pieces: list[str | pa.Array] = []
    for literal, name, _, _ in Formatter().parse(text):
        pieces += [literal] if name is None else [literal, labels[name]]
    if all(isinstance(piece, str) for piece in pieces):
        return pa.repeat("".join(map(str, pieces)), len(labels["group"]))
    return pc.binary_join_element_wise(*pieces, "")
