"""Systems against all personas on the same questions: arrays in, metrics with intervals and comparisons out."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fairpp_hf.dataset.answers import Answers
from fairpp_hf.evaluation.baselines import CONSTANT
from fairpp_hf.evaluation.intervals import clusters_of, metric_intervals
from fairpp_hf.evaluation.length_gap import LengthGap, length_gap
from fairpp_hf.evaluation.metrics import alignment_metrics
from fairpp_hf.evaluation.model_scores import SystemScores, shared_first_places
from fairpp_hf.evaluation.models import check_befores, check_unique
from fairpp_hf.evaluation.paired import Comparison, paired_comparison
from fairpp_hf.evaluation.position_bias import PositionBias, position_bias
from fairpp_hf.evaluation.resampling import Interval
from fairpp_hf.evaluation.results_folder import as_json, write_results
from fairpp_hf.evaluation.results_table import notes, tables, warnings
from fairpp_hf.evaluation.skill import skill
from fairpp_hf.naming import check_name, readable
from fairpp_hf.questions import sample_questions
from fairpp_hf.schema import NO_ANSWER

if TYPE_CHECKING:
    from fairpp_hf.personas import PersonaSet

logger = logging.getLogger(__name__)


class References(dict[str, NDArray[Any]]):
    """Persona id to what systems are compared with, on n questions, as `alignment_metrics` takes it.

    Option probabilities, float (n, 3), where they are known for all answers of all personas; otherwise the answers, integers
    (n,). A distance question by question to one drawn answer rewards mere confidence, one to the probabilities does not.

    Args:
        answers: persona id to answers, (n,), 0..2 or -1 for none.
        probabilities: persona id to option probabilities, (n, 3), NaN where there are none; None where nobody has any.
    """

    def __init__(
        self,
        answers: Mapping[str, NDArray[np.integer]],
        probabilities: Mapping[str, NDArray[np.float64]] | None = None,
    ) -> None:
        self.answers = dict(answers)
        """Persona id to answers, (n,)."""
        self.are_probabilities = probabilities is not None and not any(
            np.isnan(probabilities[persona][column != NO_ANSWER]).any() for persona, column in answers.items()
        )
        """Whether these are probabilities."""
        if probabilities is not None and self.are_probabilities:
            # Where there is no answer, nothing is compared, whatever lay behind it.
            super().__init__(
                {
                    persona: np.where((column == NO_ANSWER)[:, None], np.nan, probabilities[persona])
                    for persona, column in answers.items()
                }
            )
        else:
            super().__init__(answers)


@dataclass(frozen=True)
class SystemResult:
    """How one system (a model, a model with a prompt or adapter, a baseline) stands among the personas."""

    scores: SystemScores
    metrics: dict[str, Any]
    """`alignment_metrics` of the probabilities: what sampled answers would give on average; and `skill/target`, see `skill`,
    None where no constant is among the systems. Without the target's where the system and the target have no question in
    common that both answered."""
    first_choice_metrics: dict[str, Any]
    """`alignment_metrics` with 1 for the most probable option of each question, shared by those that tie for the first
    place: a model in text that changes its answer with the order of the options counts half for each."""
    intervals: dict[str, Interval]
    """95% intervals of `metrics`, bootstrapped over clusters of questions."""
    position_bias: PositionBias | None
    """None where the options were shown in one order alone."""
    length_gap: LengthGap | None
    """None where no lines were scored."""

    @property
    def name(self) -> str:
        """The system's."""
        return self.scores.name

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """(n, 3), over options A, B, C."""
        return self.scores.probabilities


class SystemComparison(NamedTuple):
    """Two systems by one metric, on the questions that both answered."""

    first: str
    second: str
    metric: str
    result: Comparison
    """First minus second."""


@dataclass(frozen=True)
class Evaluation:
    """Several systems, scored on the same n questions against the same personas."""

    target: str
    names: dict[str, str]
    """Persona id to the name to show, in the personas' order."""
    shares: dict[str, float | None]
    """Persona id to its share of the population; None where it is unknown."""
    questions: pa.Table
    """n questions with the columns of `QUESTION_FEATURES`."""
    references: References
    """What the systems are compared with, and the answers."""
    reference: str
    """Whose answers the systems are compared with, such as `"survey:britains_choice_2020 (simulated)"`."""
    division: str
    """Where the questions come from, such as `"test split"`."""
    kind: Literal["questions", "scenarios"]
    systems: tuple[SystemResult, ...]
    comparisons: tuple[SystemComparison, ...]

    @property
    def personas(self) -> tuple[str, ...]:
        """Ids of the personas."""
        return tuple(self.names)

    @property
    def compared_with(self) -> Literal["probabilities", "answers"]:
        """Whether systems are compared with the personas' option probabilities or with one answer a question."""
        return "probabilities" if self.references.are_probabilities else "answers"

    @property
    def orders(self) -> int:
        """In how many orders of the options models were asked: 1 or 2."""
        return max(system.scores.by_order.shape[1] for system in self.systems)

    def best_first(self) -> list[SystemResult]:
        """The constant, which is to be beaten, and then the systems as `table_place` orders them."""
        return sorted(self.systems, key=lambda system: table_place(system.name, system.metrics))

    def to_markdown(self) -> str:
        """Tables: the systems, nearest first; position bias and length gap; comparisons; how replies came out."""
        return tables(self)

    def warnings(self) -> list[str]:
        """A sentence or two on each adapted model that is no nearer to the target than a constant answer."""
        return warnings(self)

    def notes(self) -> str:
        """What the numbers are, in plain words."""
        return notes(self)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the rows, as JSON takes it."""
        return as_json(self)

    def write(self, out: Path) -> list[Path]:
        """Write results.json, .csv and .md, questions.parquet and scores.parquet into a folder, and return their paths."""
        return write_results(self, out)


def table_place(name: str, metrics: Mapping[str, Any]) -> tuple[bool, float]:
    """The sorting key of a system: the constant first, then the best by skill, by Brier score without it, none last."""
    skill, brier = metrics.get("skill/target"), metrics.get("brier/target")
    return name != CONSTANT, -skill if skill is not None else math.inf if brier is None else brier


def evaluate_systems(
    systems: Sequence[SystemScores],
    questions: pa.Table,
    references: References | Mapping[str, NDArray[np.integer]],
    target: str,
    *,
    reference: str,
    division: str,
    kind: Literal["questions", "scenarios"] = "questions",
    personas: "PersonaSet | None" = None,
) -> Evaluation:
    """Compare systems with the answers of personas, and with each other.

    Where a baseline called `constant` is among the systems, each has a skill. An adapted model whose skill is below 0 is
    warned of in the log.

    Each system is compared with the one that its fact `before` names, and the others with the first system that is a plain
    model (no persona, no `before`). An adapter is compared as well with its model's role-play of the target, where that is
    among the systems: what a prompt alone would have done.

    Args:
        systems: of `score_models`, `baselines` or `as_scores`; names are unique, and each `before` is one of them.
        questions: the n questions, with the columns of `QUESTION_FEATURES`.
        references: of `questions_to_score`, or persona id to answers, (n,), 0..2 or -1.
        target: the persona that the systems are meant to match.
        reference: name of the respondent behind `references`.
        division: where the questions come from, in words, such as `"test split"`.
        kind: whether these are questions or scenarios.
        personas: the set of the personas, for names and shares; None where it is unknown.

    Raises:
        ValueError: names are repeated or wrong, or `check_references` fails.
    """
    check_unique([system.name for system in systems], "The name of a system", "", "Rename one.")
    check_befores({system.name: system.facts.get("before") for system in systems})
    if not isinstance(references, References):
        references = References(references)
    check_references(references, target)
    clusters = clusters_of(questions)
    constant = next((each.probabilities for each in systems if each.name == CONSTANT and is_baseline(each)), None)
    results = tuple(_result(scores, questions, references, target, clusters, constant) for scores in systems)
    known = {persona.id: persona for persona in personas or ()}
    evaluation = Evaluation(
        target=target,
        names={persona: known[persona].name if persona in known else readable(persona) for persona in references},
        shares={persona: known[persona].share if persona in known else None for persona in references},
        questions=questions,
        references=references,
        reference=reference,
        division=division,
        kind=kind,
        systems=results,
        comparisons=tuple(_comparisons(results, questions, references, target)),
    )
    for warning in evaluation.warnings():
        logger.warning("%s", warning)
    return evaluation


def is_baseline(scores: SystemScores) -> bool:
    """Whether a system is a rule, and no model."""
    return scores.facts["kind"] == "baseline"


def check_references(references: References, target: str) -> None:
    """Check that systems can be compared with these answers, before any is scored.

    Raises:
        ValueError: the target is unknown, or has no valid answer, or nobody else has one.
    """
    check_name("target", target, references)
    count = len(references[target])
    if (references.answers[target] == NO_ANSWER).all():
        raise ValueError(
            f"target must have answered some of the {count:,} questions; {target!r} has no valid answer. Ask it again with "
            "`fairpp generate`, or raise --limit."
        )
    if all((answers == NO_ANSWER).all() for persona, answers in references.answers.items() if persona != target):
        raise ValueError(
            f"Another persona than the target must have answered some of the {count:,} questions; got answers of "
            f"{target!r} alone. Use other --answers, or raise --limit."
        )


def questions_to_score(answers: Answers, split: str, limit: int | None = None) -> tuple[pa.Table, References]:
    """The questions of a split that were answered, and what systems are compared with on them.

    Args:
        answers: whose answers systems are to be compared with.
        split: `"train"` or `"test"`.
        limit: a fixed random sample of that many questions; all by default.

    Returns:
        n questions, and persona id to option probabilities, (n, 3), or answers, (n,).

    Raises:
        ValueError: the split has no answered question.
    """
    rows = np.flatnonzero(answers.is_test if split == "test" else ~answers.is_test)
    if not len(rows):
        raise ValueError(f"The answers must hold {split} questions; got none. Use other answers, or the other split.")
    if limit is not None:
        rows = rows[sample_questions(answers.questions.take(pa.array(rows)), limit)]
    drawn = {persona: column[rows] for persona, column in answers.matrix().items()}
    probabilities = {persona: answers.probabilities(persona)[rows] for persona in drawn}
    return answers.questions.take(pa.array(rows)), References(drawn, probabilities)


def _result(
    scores: SystemScores,
    questions: pa.Table,
    references: References,
    target: str,
    clusters: NDArray[np.int64],
    constant: NDArray[np.float64] | None,
) -> SystemResult:
    has_target = _has_common(scores, references.answers[target])
    of_target = target if has_target else None
    found = None if constant is None else skill(scores.probabilities, constant, references[target], clusters)
    intervals = metric_intervals(scores.probabilities, references, target, questions) if has_target else {}
    if found is not None and found.interval is not None:
        intervals["skill/target"] = found.interval
    return SystemResult(
        scores=scores,
        metrics={
            **alignment_metrics(scores.probabilities, references, of_target, questions),
            "skill/target": None if found is None else found.value,
        },
        first_choice_metrics=alignment_metrics(
            shared_first_places(scores.probabilities), references, of_target, questions
        ),
        intervals=intervals,
        position_bias=position_bias(scores.by_order, scores.answers, clusters),
        length_gap=length_gap(scores, clusters),
    )


def _has_common(scores: SystemScores, answers: NDArray[np.integer]) -> bool:
    """Whether there is a question that a system and a persona both answered."""
    return bool((~np.isnan(scores.probabilities).any(axis=1) & (answers != NO_ANSWER)).any())


def _comparisons(
    results: Sequence[SystemResult], questions: pa.Table, references: References, target: str
) -> list[SystemComparison]:
    plain = [result.name for result in results if _is_plain(result.scores)][:1]
    by_name = {result.name: result for result in results}
    found = []
    for result in sorted(results, key=lambda result: table_place(result.name, result.metrics)):
        before = result.scores.facts.get("before")
        others = plain if before is None else [before]
        others = others + [other.name for other in results if _is_its_role_play(other.scores, result.scores, target)]
        for name in dict.fromkeys(others):
            other = by_name[name]
            both = ~np.isnan(result.probabilities + other.probabilities).any(axis=1)
            if other is not result and (both & (references.answers[target] != NO_ANSWER)).any():
                compared = paired_comparison(result.probabilities, other.probabilities, references, target, questions)
                found += [SystemComparison(result.name, name, metric, each) for metric, each in compared.items()]
    return found


def _is_plain(scores: SystemScores) -> bool:
    facts = scores.facts
    return facts["kind"] == "model" and facts.get("persona") is None and facts.get("before") is None


def _is_its_role_play(scores: SystemScores, adapted: SystemScores, target: str) -> bool:
    """Whether a system is the role-play of the target by the model under an adapter."""
    ours, its = scores.facts, adapted.facts
    return (
        its.get("adapter") is not None
        and ours.get("adapter") is None
        and ours.get("persona") == target
        and all(ours.get(part) == its.get(part) for part in ("model", "revision"))
    )
