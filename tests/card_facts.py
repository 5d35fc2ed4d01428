"""Facts of a small dataset folder, made by hand, for the tests of its card and figures."""

from typing import Any

import numpy as np

from fairpp_hf.dataset.folder_facts import DimensionFacts, FolderFacts, SplitFacts, TargetFacts
from fairpp_hf.personas import load_personas
from fairpp_hf.preferences import PairSettings
from fairpp_hf.provenance import Provenance
from fairpp_hf.schema import PAIR_FEATURES, PREFERENCE_FEATURES, QUESTION_FEATURES


def split(rows: int, digest: str = "0" * 64) -> SplitFacts:
    return SplitFacts(rows, num_bytes=100 * rows, size=10 * rows, sha256=digest)


def facts(**changes: Any) -> FolderFacts:
    """Two personas, 4 questions, 8 records: p answers A, A, B and once nothing; q answers C four times.

    The first two questions are of dimension 1, the others of dimension 3. p's valid answers are never q's.
    """
    base = FolderFacts(
        version="1.2.3",
        provenance=Provenance("model", ("openai:some-model (simulated)",), licence="cc-by-4.0", created="2026-01-02"),
        scenarios=None,
        persona_set=load_personas(),
        personas=("progressive_activists", "loyal_nationals"),
        dimensions={
            1: DimensionFacts("libertarianism", "egalitarianism"),
            3: DimensionFacts("individualism", "collectivism"),
        },
        own_questions=True,
        question_count=4,
        answer_counts={
            "progressive_activists": {
                1: {"none": 0, "A": 2, "B": 0, "C": 0},
                3: {"none": 1, "A": 0, "B": 1, "C": 0},
            },
            "loyal_nationals": {
                1: {"none": 0, "A": 0, "B": 0, "C": 2},
                3: {"none": 0, "A": 0, "B": 0, "C": 2},
            },
        },
        status_counts={"progressive_activists": {"ok": 3, "refusal": 1}, "loyal_nationals": {"ok": 4}},
        agreement=np.array([[1.0, 0.0], [0.0, 1.0]]),
        scenario_counts={},
        pairs=PairSettings(),
        targets={"loyal_nationals": TargetFacts(("progressive_activists",), (1, 3), shares_known=True)},
        splits={
            "questions": {"train": split(22_751), "test": split(5_669)},
            "preferences": {"test": split(8)},
            "pairs-loyal_nationals": {"test": split(8)},
        },
        features={
            "questions": QUESTION_FEATURES,
            "preferences": PREFERENCE_FEATURES,
            "pairs-loyal_nationals": PAIR_FEATURES,
        },
    )
    return base._replace(**changes)
