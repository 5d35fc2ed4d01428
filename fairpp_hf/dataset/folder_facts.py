"""What a dataset folder says about itself: counted from its answers and files, for its card, figures and manifest."""

from collections import Counter
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Features
from numpy.typing import NDArray

from fairpp_hf.dataset.answers import Answers
from fairpp_hf.personas import PersonaSet
from fairpp_hf.preferences import PairSettings
from fairpp_hf.preferences.label_model import LabelModel
from fairpp_hf.provenance import Provenance
from fairpp_hf.questions import load_questions
from fairpp_hf.schema import NO_ANSWER, OPTION_LETTERS

NONE = "none"
"""Key of the records without a valid answer, beside the letters of the options."""


class SplitFacts(NamedTuple):
    """What one Parquet file of a folder holds."""

    rows: int
    num_bytes: int
    """Size of its Arrow tables, in memory and in the cache of `datasets`."""
    size: int
    """Size of the file in bytes."""
    sha256: str


class DimensionFacts(NamedTuple):
    """A preference dimension."""

    pole_a: str
    pole_b: str


class TargetFacts(NamedTuple):
    """The pairs of one target."""

    comparison: tuple[str, ...]
    """The personas that its answers were compared with."""
    disagreements: tuple[int, ...]
    """Number of questions by how many of them disagree, from 0 to all."""
    shares_known: bool
    """Whether the population shares of all of them are known."""
    label_model: LabelModel | None = None
    """Label model of its answers, with `labels="fitted"`."""


class FolderFacts(NamedTuple):
    """What a card says about a dataset folder, all counted from the data."""

    version: str
    """Version of this package."""
    provenance: Provenance
    scenarios: Provenance | None
    """Provenance of the answers to scenarios, which are another dataset than the questions; None where there are none."""
    persona_set: PersonaSet | None
    """None where a run or folder does not say which set its personas belong to."""
    personas: tuple[str, ...]
    dimensions: dict[int, DimensionFacts]
    own_questions: bool
    """Whether the questions that were answered are this project's, to the letter."""
    question_count: int
    """How many questions at least one persona was asked."""
    answer_counts: dict[str, dict[int, dict[str, int]]]
    """Persona id and dimension to counts under "A", "B", "C" and "none" (no valid answer)."""
    status_counts: dict[str, dict[str, int]]
    """Persona id and status to number of records."""
    agreement: NDArray[np.float64]
    """(personas, personas): share of the questions validly answered by both on which they agree; NaN without any."""
    scenario_counts: dict[str, dict[str, int]]
    """As `answer_counts`, over all dimensions, of the scenarios; empty where there are none."""
    pairs: PairSettings
    """How the pairs were made."""
    targets: dict[str, TargetFacts]
    splits: dict[str, dict[str, SplitFacts]]
    """Config and split to what was written."""
    features: dict[str, Features]
    """Config to its columns."""

    @property
    def respondents(self) -> tuple[str, ...]:
        """Who answered the questions and the scenarios, sorted."""
        found = {*self.provenance.respondents, *(self.scenarios.respondents if self.scenarios else ())}
        return tuple(sorted(found))

    @property
    def simulated(self) -> bool:
        """Whether every respondent is a simulation."""
        return self.provenance.simulated and (self.scenarios is None or self.scenarios.simulated)


def parquet_path(config: str, split: str) -> PurePosixPath:
    """The one file of a config's split, relative to the folder; named as `Dataset.push_to_hub` names them."""
    return PurePosixPath(config, f"{split}-00000-of-00001.parquet")


def answers_are_ours(questions: pa.Table) -> bool:
    """Whether questions with the columns of `QUESTION_FEATURES` are ones of `load_questions`, to the letter."""
    ours = load_questions()
    rows = pc.index_in(questions["question_id"].combine_chunks(), value_set=ours["question_id"].combine_chunks())
    return not rows.null_count and questions.equals(ours.select(questions.column_names).take(rows))


def dimensions_of(questions: pa.Table) -> dict[int, DimensionFacts]:
    """The dimensions that occur among questions, in ascending order, with their poles."""
    numbers, first = np.unique(questions["dimension"].to_numpy(), return_index=True)
    poles = questions.select(["pole_a", "pole_b"]).take(pa.array(first)).to_pylist()
    return {int(number): DimensionFacts(**row) for number, row in zip(numbers, poles, strict=True)}


def count_answers(answers: Answers) -> dict[str, dict[int, dict[str, int]]]:
    """Persona id and dimension to counts under "A", "B", "C" and "none"."""
    numbers, index = np.unique(answers.questions["dimension"].to_numpy(), return_inverse=True)
    kinds = (NONE, *OPTION_LETTERS)
    counts = {}
    for persona, table in answers.records.items():
        cell = index[table["row"].to_numpy()] * len(kinds) + table["answer"].to_numpy() - NO_ANSWER
        grid = np.bincount(cell, minlength=len(numbers) * len(kinds)).reshape(len(numbers), len(kinds)).tolist()
        counts[persona] = {
            int(number): dict(zip(kinds, grid[place], strict=True)) for place, number in enumerate(numbers)
        }
    return counts


def over_dimensions(counts: Mapping[str, Mapping[int, Mapping[str, int]]]) -> dict[str, dict[str, int]]:
    """The counts of `count_answers`, summed over the dimensions."""
    kinds = (NONE, *OPTION_LETTERS)
    return {persona: {key: sum(row[key] for row in rows.values()) for key in kinds} for persona, rows in counts.items()}


def count_statuses(answers: Answers) -> dict[str, dict[str, int]]:
    """Persona id and status to number of records, statuses sorted by name."""
    return {
        persona: dict(sorted(Counter(table["status"].to_pylist()).items()))
        for persona, table in answers.records.items()
    }


def agreement_matrix(matrix: Mapping[str, NDArray[np.int8]]) -> NDArray[np.float64]:
    """Share of the questions validly answered by both on which two personas agree, (m, m); NaN without any."""
    columns = list(matrix.values())
    agreement = np.full((len(columns), len(columns)), np.nan)
    for row, mine in enumerate(columns):
        for column, theirs in enumerate(columns[: row + 1]):
            both = (mine != NO_ANSWER) & (theirs != NO_ANSWER)
            if both.any():
                agreement[row, column] = agreement[column, row] = (mine == theirs)[both].mean()
    return agreement


def share_of(counts: Mapping[str, int], key: str) -> float:
    """A key's share of counts, in [0, 1]; NaN where all are 0."""
    total = sum(counts.values())
    return counts[key] / total if total else float("nan")
