"""What the questions are about: topics, problems, groups and preference dimensions, with the published labels.

The labels live in `labels.json`. They are the join keys of the published tables (Zhou et al. 2025, arXiv:2505.11861),
so they keep their spelling and their capitals to the letter.
"""

import json
from functools import cache
from importlib.resources import files
from typing import NamedTuple

FORMS = ("criterion", "explanation")
"""Which criterion is fairer, and which explanation makes it fairer that a group receives more."""


class Dimension(NamedTuple):
    """A preference dimension, 1 to 5; option A speaks for `pole_a`, option B for `pole_b`."""

    number: int
    pole_a: str
    pole_b: str


class Problem(NamedTuple):
    """A specific problem, with the topic and the problem category that it belongs to."""

    topic: str
    category: str
    name: str


class Group(NamedTuple):
    """A social group, with its group type."""

    group_type: str
    name: str


class Taxonomy(NamedTuple):
    """All labels, in published order: 5 topics, 98 problems in 15 categories, 29 groups in 6 types, 5 dimensions."""

    topics: tuple[str, ...]
    problems: tuple[Problem, ...]
    groups: tuple[Group, ...]
    dimensions: tuple[Dimension, ...]


@cache
def load_taxonomy() -> Taxonomy:
    """The published labels, read from `labels.json` once."""
    labels = json.loads(files(__package__).joinpath("labels.json").read_text("utf-8"))
    return Taxonomy(
        topics=tuple(labels["topics"]),
        problems=tuple(
            Problem(topic, category, name)
            for topic, categories in labels["topics"].items()
            for category, names in categories.items()
            for name in names
        ),
        groups=tuple(Group(group_type, name) for group_type, names in labels["group_types"].items() for name in names),
        dimensions=tuple(Dimension(**dimension) for dimension in labels["dimensions"]),
    )
