"""Ordinary questions with a right answer, in the form of the study's: does an aligned model still answer them?"""

import json
import random
from pathlib import Path
from typing import NamedTuple

from fairpp_hf.questions import load_questions
from fairpp_hf.questions.rendering import render_prompt
from fairpp_hf.questions.taxonomy import load_taxonomy


class OrdinaryQuestion(NamedTuple):
    """A question with three options."""

    question: str
    options: tuple[str, str, str]
    answer: int
    """0..2."""

    @property
    def prompt(self) -> str:
        """As the study's questions are asked."""
        return render_prompt(self.question, *self.options)


def taxonomy_questions(seed: int = 0) -> list[OrdinaryQuestion]:
    """What kind of group each group is, where each problem belongs, what each template's lines stand for; three times each.

    Right answers are spread over the options, and wrong ones drawn. The small model learns them with its language.

    Args:
        seed: of the wrong answers and of the order.
    """
    taxonomy = load_taxonomy()
    rng = random.Random(seed)
    kinds = list(dict.fromkeys(group.group_type for group in taxonomy.groups))
    categories = list(dict.fromkeys(problem.category for problem in taxonomy.problems))
    topics = list(taxonomy.topics)
    poles = list(
        dict.fromkeys(pole for dimension in taxonomy.dimensions for pole in (dimension.pole_a, dimension.pole_b))
    )
    facts = [(f"What kind of group are {group.name}?", group.group_type, kinds) for group in taxonomy.groups]
    for problem in taxonomy.problems:
        facts.append((f"Which topic does {problem.name} belong to?", problem.topic, topics))
        facts.append((f"Which category does {problem.name} belong to?", problem.category, categories))
    questions = load_questions().to_pandas().drop_duplicates(["topic", "dimension", "form"])
    for option, pole in (("option_a", "pole_a"), ("option_b", "pole_b")):
        for line, stance in zip(questions[option], questions[pole], strict=True):
            facts.append((f"What does this stand for? {line}", stance, poles))
    found = []
    for question, right, answers in facts:
        wrong = [answer for answer in answers if answer != right]
        for place in range(3):
            options = rng.sample(wrong, 2)
            options.insert(place, right)
            found.append(OrdinaryQuestion(question, (_line(options[0]), _line(options[1]), _line(options[2])), place))
    return found


def general_questions() -> list[OrdinaryQuestion]:
    """Easy questions of general knowledge, for models that were trained on more than the study's texts."""
    path = Path(__file__).with_name("general_questions.json")
    return [
        OrdinaryQuestion(item["question"], tuple(item["options"]), "ABC".index(item["answer"]))
        for item in json.loads(path.read_text("utf-8"))
    ]


def _line(label: str) -> str:
    return f"{label[0].upper()}{label[1:]}."
