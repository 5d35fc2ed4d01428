"""Models against all personas on the same questions: results as JSON, a Markdown table and Parquet rows."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fairpp_hf.dataset.answers import Answers
from fairpp_hf.evaluation.intervals import Interval, bootstrap_intervals, clusters_of
from fairpp_hf.evaluation.metrics import alignment_metrics
from fairpp_hf.questions import sample_questions
from fairpp_hf.schema import NO_ANSWER
from fairpp_hf.scoring import OptionScorer


@dataclass(frozen=True)
class SystemResult:
    """How one system (a model, or a model with a prompt) stands among the personas."""

    name: str
    probabilities: NDArray[np.float64]
    """(n, 3), over options A, B, C."""
    metrics: dict[str, Any]
    """`alignment_metrics` of the probabilities: what sampled answers would give on average."""
    first_choice_metrics: dict[str, Any]
    """`alignment_metrics` of the most probable option of each question."""
    intervals: dict[str, Interval]
    """95% intervals of `metrics`, bootstrapped over clusters of questions."""


@dataclass(frozen=True)
class Evaluation:
    """Several systems, scored on the same n questions against the same personas."""

    target: str
    personas: tuple[str, ...]
    questions: pa.Table
    reference: str
    """Whose answers the systems are compared with, such as `"survey:britains_choice_2020 (simulated)"`."""
    systems: tuple[SystemResult, ...]
    division: str
    """Where the questions come from, such as `"test split"`."""

    def to_markdown(self) -> str:
        """A table of the systems, best agreement first, and below it what the columns mean."""
        lines = [
            "| system | JS distance to target | agreement with target | nearest other | JS distance to it | margin |",
            "|---|---|---|---|---|---|",
        ]
        for system in sorted(self.systems, key=lambda system: -system.metrics["agreement/target"]):
            cells = [
                system.name,
                _with_interval(system, "js_distance/target"),
                _with_interval(system, "agreement/target"),
                str(system.metrics["nearest_other"]),
                f"{system.metrics['js_distance/nearest_other']:.3f}",
                _with_interval(system, "js_distance/margin"),
            ]
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join(lines) + "\n"

    def notes(self) -> str:
        """What the numbers are, in plain words."""
        return (
            f"Target: {self.target}; {len(self.questions)} questions ({self.division}); answers of the personas: "
            f"{self.reference}.\n"
            "JS distance: between shares of A, B, C, natural logarithm, 0 to 0.833; lower is closer. Agreement: mean\n"
            "probability given to the persona's own answer. Margin: distance to the nearest other persona minus distance\n"
            "to the target. In brackets: 95% interval, bootstrap over (problem, group) clusters of questions; it does not\n"
            "cover the variation over training seeds.\n"
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything but the rows, as JSON takes it."""
        return {
            "target": self.target,
            "personas": list(self.personas),
            "questions": len(self.questions),
            "division": self.division,
            "reference": self.reference,
            "systems": {
                system.name: {
                    "probabilities": system.metrics,
                    "first_choice": system.first_choice_metrics,
                    "intervals_95": {name: list(interval) for name, interval in system.intervals.items()},
                }
                for system in self.systems
            },
        }

    def write(self, out: Path) -> list[Path]:
        """Write results.json, results.md and rows.parquet into a folder, and return their paths."""
        out.mkdir(parents=True, exist_ok=True)
        (out / "results.json").write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")
        (out / "results.md").write_text(f"{self.to_markdown()}\n{self.notes()}", encoding="utf-8")
        pq.write_table(self._rows(), out / "rows.parquet")
        return [out / name for name in ("results.json", "results.md", "rows.parquet")]

    def _rows(self) -> pa.Table:
        """One row a system and question: `system`, `question_id`, `probabilities`."""
        count = len(self.questions)
        offsets = pa.array(np.arange(0, 3 * count + 1, 3, dtype=np.int32))
        tables = [
            pa.table(
                {
                    "system": pa.repeat(pa.scalar(system.name), count),
                    "question_id": self.questions["question_id"],
                    "probabilities": pa.ListArray.from_arrays(offsets, pa.array(system.probabilities.ravel())),
                }
            )
            for system in self.systems
        ]
        return pa.concat_tables(tables)


def _with_interval(system: SystemResult, name: str) -> str:
    text = f"{system.metrics[name]:.3f}"
    if name in system.intervals:
        low, high = system.intervals[name]
        text += f" [{low:.3f}, {high:.3f}]"
    return text


def evaluate_systems(
    systems: Mapping[str, NDArray[np.float64]],
    questions: pa.Table,
    references: Mapping[str, NDArray[np.integer]],
    target: str,
    reference: str,
    division: str,
) -> Evaluation:
    """Compare the option probabilities of several systems with the personas' answers.

    Args:
        systems: name to option probabilities, (n, 3).
        questions: the n questions, with the columns of `QUESTION_FEATURES`.
        references: persona id to answers, (n,), 0..2 or -1.
        target: the persona that the systems are meant to match.
        reference: name of the respondent behind `references`.
        division: where the questions come from, in words, such as `"test split"`.
    """
    clusters = clusters_of(questions)
    results = [
        SystemResult(
            name=name,
            probabilities=probabilities,
            metrics=alignment_metrics(probabilities, references, target),
            first_choice_metrics=alignment_metrics(_first_choices(probabilities), references, target),
            intervals=bootstrap_intervals(probabilities, references, target, clusters),
        )
        for name, probabilities in systems.items()
    ]
    return Evaluation(target, tuple(references), questions, reference, tuple(results), division)


def questions_to_score(
    answers: Answers, split: str, limit: int | None = None
) -> tuple[pa.Table, dict[str, NDArray[np.int8]]]:
    """The questions of a split that were answered, and the answers to them.

    Args:
        answers: whose answers systems are to be compared with.
        split: `"train"` or `"test"`.
        limit: a fixed random sample of that many questions; all by default.

    Returns:
        n questions, and persona id to answers, (n,).

    Raises:
        ValueError: the split has no answered question.
    """
    rows = np.flatnonzero(answers.is_test if split == "test" else ~answers.is_test)
    if not len(rows):
        raise ValueError(f"The answers must hold {split} questions; got none. Use other answers, or the other split.")
    if limit is not None:
        rows = rows[sample_questions(answers.questions.take(pa.array(rows)), limit)]
    references = {persona: column[rows] for persona, column in answers.matrix().items()}
    return answers.questions.take(pa.array(rows)), references


def _first_choices(probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
    """The most probable option of each question, (n,); no answer where there are no probabilities."""
    return np.where(np.isnan(probabilities).any(axis=1), NO_ANSWER, probabilities.argmax(axis=1))


def score_questions(
    scorer: OptionScorer, questions: pa.Table, *, system_prompt: str | None = None, progress: str | None = None
) -> NDArray[np.float64]:
    """Option probabilities of a model for questions, (n, 3).

    Args:
        scorer: the model.
        questions: n rows with the columns of `QUESTION_FEATURES`.
        system_prompt: a persona's portrait for role-play, or None for the model as it is.
        progress: a title for a progress bar, or None for no bar.
    """
    system = [{"role": "system", "content": system_prompt}] if system_prompt else []
    chats: Sequence[list[dict[str, str]]] = [
        [*system, {"role": "user", "content": prompt}] for prompt in questions["prompt"].to_pylist()
    ]
    options = list(zip(*(questions[f"option_{letter}"].to_pylist() for letter in "abc"), strict=True))
    return scorer.score(chats, options, progress=progress).probabilities
