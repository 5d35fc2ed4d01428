"""The table of questions and the wording of its templates."""

import re
from string import Formatter

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from fairpp_hf.questions import load_questions, option_lines, render_prompt
from fairpp_hf.questions.rendering import load_templates
from fairpp_hf.questions.taxonomy import FORMS, load_taxonomy
from fairpp_hf.schema import QUESTION_FEATURES


@pytest.fixture(scope="module")
def questions() -> pa.Table:
    return load_questions()


def test_table_has_the_declared_schema_and_no_gaps(questions):
    assert questions.num_rows == 28_420
    assert questions.schema.equals(QUESTION_FEATURES.arrow_schema, check_metadata=True)
    assert all(column.null_count == 0 for column in questions.columns)
    assert all(column.num_chunks == 1 for column in questions.columns)


def test_rows_are_in_taxonomy_order(questions):
    taxonomy = load_taxonomy()
    expected = [
        (problem.topic, problem.category, problem.name, *group, *dimension, form)
        for problem in taxonomy.problems
        for group in taxonomy.groups
        for dimension in taxonomy.dimensions
        for form in FORMS
    ]
    labels = questions.select(
        ["topic", "category", "problem", "group_type", "group", "dimension", "pole_a", "pole_b", "form"]
    )
    assert list(zip(*labels.to_pydict().values(), strict=True)) == expected


def test_every_row_is_its_template_filled_in_by_str_format(questions):
    """The plainest renderer, row by row, agrees with the one by columns."""
    templates = load_templates()
    for row in questions.to_pylist():
        template = templates.templates[row["topic"], row["dimension"], row["form"]]
        texts = [text.format(group=row["group"], problem=row["problem"]) for text in template]
        assert [row["question"], row["option_a"], row["option_b"]] == texts
        assert row["option_c"] == templates.option_c[row["form"]]
        assert row["prompt"] == render_prompt(*texts, row["option_c"])


def test_option_lines_are_lines_of_the_prompt(questions):
    few = questions.slice(1_000, 50)
    lines = option_lines(few)
    for i, prompt in enumerate(few["prompt"].to_pylist()):
        assert prompt.splitlines()[1:4] == [line[i].as_py() for line in lines]


def test_prompts_read_cleanly(questions):
    faults = {
        "double space or stray punctuation": r"  | [,.;?]|[,.;?]{2}|\s$",
        "repeated word": r"\b(\w+) \1\b",
        "wrong article": r"\b[Aa] [aeiou]|\b[Aa]n [^aeiou]",
        "article before a plural group": r"\b[Aa]n? (men|women|children|teenagers|adults|feminists|\w+ (people|victims))\b",
        "brace": "[{}]",
        "not gender-neutral": r"\b(he or she|his or her|himself)\b",
    }
    prompts = questions["prompt"].to_pylist()
    for fault, pattern in faults.items():
        find = re.compile(pattern).search
        assert [prompt for prompt in prompts if find(prompt)][:3] == [], fault


def test_length_of_a_question_with_its_options(questions):
    texts = [questions[name] for name in ("question", "option_a", "option_b", "option_c")]
    lengths = pc.utf8_length(pc.binary_join_element_wise(*texts, "\n")).to_numpy()
    assert lengths.min() >= 150
    assert lengths.max() <= 450
    assert (lengths <= 400).mean() > 0.95


def _options():
    return [
        pytest.param(form, template, id=f"{topic}-{dimension}-{form}")
        for (topic, dimension, form), template in load_templates().templates.items()
    ]


@pytest.mark.parametrize(("form", "template"), _options())
def test_template_is_balanced_and_neutral(form, template):
    lengths = sorted([len(template.option_a), len(template.option_b)])
    assert lengths[1] / lengths[0] <= 1.25
    # A pole named in an option, or "fair" in it, would give the answer away.
    poles = r"libertarian|egalitarian|procedural|distributive|individualis|collectivis|social norm|\bfair|moral|\blaw"
    for text in template[1:]:
        assert not re.search(poles, text, re.IGNORECASE)
        assert re.fullmatch(r"[A-Z].*\.", text)
    # Labels are lower case: they cannot begin a sentence.
    assert re.fullmatch(r"[A-Z].*\?", template.question)
    assert not re.search(r"[.?] \{", template.question)
    assert form in template.question
    assert "fairer" in template.question
    placeholders = [field for text in template for _, *field in Formatter().parse(text) if field[0] is not None]
    # Both are used, or several questions would read the same; and nothing changes a label, which appears to the letter.
    assert {tuple(field) for field in placeholders} == {("group", "", None), ("problem", "", None)}


def test_each_topic_dimension_and_form_has_a_template():
    taxonomy = load_taxonomy()
    assert list(load_templates().templates) == [
        (topic, dimension.number, form)
        for topic in taxonomy.topics
        for dimension in taxonomy.dimensions
        for form in FORMS
    ]
    assert tuple(load_templates().option_c) == FORMS


def test_ids_prompts_and_questions_all_differ(questions):
    for name in ("question_id", "prompt", "question"):
        assert pc.count_distinct(questions[name]).as_py() == 28_420, name


def test_lengths_do_not_favor_one_option(questions):
    difference = pc.subtract(pc.utf8_length(questions["option_a"]), pc.utf8_length(questions["option_b"]))
    assert abs(pc.mean(difference).as_py()) < 2
