"""The labels are join keys of the published tables: counts and spelling are pinned here."""

import hashlib
from collections import Counter

from fairpp_hf.questions.taxonomy import FORMS, load_taxonomy


def test_counts_are_the_published_ones():
    taxonomy = load_taxonomy()
    assert len(taxonomy.topics) == 5
    assert len({problem.category for problem in taxonomy.problems}) == 15
    assert len({problem.name for problem in taxonomy.problems}) == len(taxonomy.problems) == 98
    assert len({group.name for group in taxonomy.groups}) == len(taxonomy.groups) == 29
    assert len(taxonomy.dimensions) == 5
    assert len(taxonomy.problems) * len(taxonomy.groups) * len(taxonomy.dimensions) * len(FORMS) == 28_420
    assert Counter(problem.topic for problem in taxonomy.problems) == {
        "fair essentials": 25,
        "fair opportunities": 19,
        "fair rewards": 14,
        "fair exchange": 20,
        "fair treatment": 20,
    }
    assert Counter(group.group_type for group in taxonomy.groups) == {
        "Gender": 3,
        "Race": 5,
        "Religion": 5,
        "Sexual Orientation": 2,
        "Age": 4,
        "Minority": 10,
    }


def test_every_label_and_its_order_are_pinned():
    taxonomy = load_taxonomy()
    labels = [
        *taxonomy.topics,
        *(text for problem in taxonomy.problems for text in problem),
        *(text for group in taxonomy.groups for text in group),
    ]
    digest = hashlib.sha256("\n".join(labels).encode()).hexdigest()
    assert digest == "0e457fabb04876c34c989b74175f18153f6fac194492e00a7ffce4eaced5b0aa"
