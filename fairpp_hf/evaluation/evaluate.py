"""Systems against all personas on the same questions: arrays in, metrics with intervals and comparisons out."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fairpp_hf.dataset.answers import Answers
from fairpp_hf.evaluation.baselines import baselines
from fairpp_hf.evaluation.models import ModelSpec, check_befores, check_unique
from fairpp_hf.evaluation.results import CONSTANT, References, Results, System, SystemComparison, SystemScores
from fairpp_hf.evaluation.results_table import warnings
from fairpp_hf.naming import check_name, readable
from fairpp_hf.questions import sample_questions
from fairpp_hf.schema import NO_ANSWER
from fairpp_hf.statistics.alignment import alignment_metrics
from fairpp_hf.statistics.biases import length_gap, position_bias
from fairpp_hf.statistics.intervals import metric_intervals
from fairpp_hf.statistics.paired import paired_comparison
from fairpp_hf.statistics.question_sums import clusters_of
from fairpp_hf.statistics.skill import skill

if TYPE_CHECKING:
    from fairpp_hf.personas import PersonaSet

logger = logging.getLogger(__name__)


def questions_to_score(
    answers: Answers, split: str, limit: int | None = None, *, for_selection: bool = False
) -> tuple[pa.Table, References]:
    """The questions of a split that were answered, and what systems are compared with on them.

    Args:
        answers: Answers that systems are to be compared with.
        split: Split, `"train"` or `"test"`.
        limit: Size of a fixed random sample of the questions; all by default.
        for_selection: Whether the sample is for choosing a checkpoint, see `sample_questions`.

    Returns:
        n questions, and persona id to option probabilities, (n, 3), or answers, (n,).

    Raises:
        ValueError: The split has no answered question.
    """
    rows = np.flatnonzero(answers.is_test if split == "test" else ~answers.is_test)
    if not len(rows):
        raise ValueError(f"The answers must hold {split} questions; got none. Use other answers, or the other split.")
    if limit is not None:
        rows = rows[sample_questions(answers.questions.take(pa.array(rows)), limit, for_selection=for_selection)]
    drawn = {persona: column[rows] for persona, column in answers.matrix().items()}
    probabilities = {persona: answers.probabilities(persona)[rows] for persona in drawn}
    return answers.questions.take(pa.array(rows)), References(drawn, probabilities)


def check_references(references: References, target: str) -> None:
    """Check that systems can be compared with these answers, before any is scored.

    Raises:
        ValueError: The target is unknown, or has no valid answer, or nobody else has one.
    """
    check_name("target", target, references)
    count = len(references[target])
    if (references.answers[target] == NO_ANSWER).all():
        raise ValueError(
            f"target must have answered some of the {count:,} questions; {target!r} has no valid answer. Ask it again, or "
            "take more questions."
        )
    if all((answers == NO_ANSWER).all() for persona, answers in references.answers.items() if persona != target):
        raise ValueError(
            f"Another persona than the target must have answered some of the {count:,} questions; got answers of "
            f"{target!r} alone. Use other answers, or take more questions."
        )


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
) -> Results:
    """Compare systems with the answers of personas, and with each other.

    Where a baseline called `constant` is among the systems, each has a skill. An adapted model whose skill is below 0 is
    warned of in the log.

    Each system is compared with the one that its fact `before` names, and the others with the first system that is a plain
    model (no persona, no `before`). An adapter is compared as well with its model's role-play of the target, where that is
    among the systems: what a prompt alone would have done.

    Args:
        systems: Scores of `score_models`, `baselines` or `as_scores`; names are unique, and each `before` is one of them.
        questions: The n questions, with the columns of `QUESTION_FEATURES`.
        references: What `questions_to_score` gives, or persona id to answers, (n,), 0..2 or -1.
        target: Id of the persona that the systems are meant to match.
        reference: Name of the respondent behind `references`.
        division: Where the questions come from, in words, such as `"test split"`.
        kind: Whether these are questions or scenarios.
        personas: The set of the personas, for names and shares; None where it is unknown.

    Raises:
        ValueError: Names are repeated or wrong, or `check_references` fails.
    """
    check_unique([system.name for system in systems], "The name of a system", "", "Rename one.")
    check_befores({system.name: system.facts.get("before") for system in systems})
    if not isinstance(references, References):
        references = References(references)
    check_references(references, target)
    clusters = clusters_of(questions)
    constant = next(
        (each.probabilities for each in systems if each.name == CONSTANT and each.facts["kind"] == "baseline"), None
    )
    evaluated = [_evaluated(scores, questions, references, target, clusters, constant) for scores in systems]
    known = {persona.id: persona for persona in personas or ()}
    results = Results(
        target=target,
        names={persona: known[persona].name if persona in known else readable(persona) for persona in references},
        shares={persona: known[persona].share if persona in known else None for persona in references},
        questions=questions,
        references=references,
        reference=reference,
        division=division,
        kind=kind,
        systems=tuple(sorted(evaluated, key=lambda system: system.table_place)),
        comparisons=tuple(_comparisons(evaluated, questions, references, target)),
    )
    for warning in warnings(results):
        logger.warning("%s", warning)
    return results


def evaluate_models(
    scores: Sequence[SystemScores],
    answers: Answers,
    questions: pa.Table,
    references: References,
    target: str,
    *,
    division: str,
    kind: Literal["questions", "scenarios"] = "questions",
    personas: "PersonaSet | None" = None,
) -> Results:
    """`evaluate_systems` of models, beside the baselines that `answers` give.

    Args:
        scores: Scores of `score_models`.
        answers: Answers of all personas, those to other questions among them, which the baselines are fitted to.
        questions: The n questions that were scored.
        references: What `questions_to_score` gives.
        target: Id of the persona that the models are meant to match.
        division: Where the questions come from, in words.
        kind: Whether these are questions or scenarios.
        personas: The set of the personas; None where it is unknown.
    """
    shares = {persona.id: persona.share for persona in personas or ()}
    return evaluate_systems(
        [*scores, *baselines(answers, questions, target, shares)],
        questions,
        references,
        target,
        reference=", ".join(answers.respondents),
        division=division,
        kind=kind,
        personas=personas,
    )


def check_portraits(models: Iterable[ModelSpec], personas: "PersonaSet | None", answers: object, fix: str) -> None:
    """Check that there are portraits where models play a role.

    Raises:
        ValueError: A model is to play a persona of an unknown set.
    """
    if personas is None and any(spec.persona for spec in models):
        raise ValueError(
            f"personas must name the set behind {answers!r}, which does not record it; got nothing. It has the portraits "
            f"for role-play. {fix}"
        )


def _evaluated(
    scores: SystemScores,
    questions: pa.Table,
    references: References,
    target: str,
    clusters: NDArray[np.int64],
    constant: NDArray[np.float64] | None,
) -> System:
    rows = scores.probabilities
    has_target = bool((~np.isnan(rows).any(axis=1) & (references.answers[target] != NO_ANSWER)).any())
    of_target = target if has_target else None
    found = None if constant is None else skill(rows, constant, references[target], clusters)
    intervals = metric_intervals(rows, references, target, questions) if has_target else {}
    if found is not None and found.interval is not None:
        intervals["skill/target"] = found.interval
    return System(
        scores=scores,
        metrics={
            **alignment_metrics(rows, references, of_target, questions),
            "skill/target": None if found is None else found.value,
        },
        intervals=intervals,
        position_bias=position_bias(scores.by_order, scores.answers, clusters),
        length_gap=length_gap(scores.by_order, scores.letter_logprobs, scores.tokens, clusters),
    )


def _comparisons(
    systems: Sequence[System], questions: pa.Table, references: References, target: str
) -> list[SystemComparison]:
    by_name = {system.name: system for system in systems}
    plain = [
        system.name
        for system in systems
        if not system.is_baseline and system.facts.get("persona") is None and system.facts.get("before") is None
    ][:1]
    found = []
    for system in sorted(systems, key=lambda system: system.table_place):
        before = system.facts.get("before")
        others = [*(plain if before is None else [before])]
        others += [other.name for other in systems if _is_its_role_play(other, system, target)]
        for name in dict.fromkeys(others):
            other = by_name[name]
            both = ~np.isnan(system.probabilities + other.probabilities).any(axis=1)
            if other is not system and (both & (references.answers[target] != NO_ANSWER)).any():
                compared = paired_comparison(system.probabilities, other.probabilities, references, target, questions)
                found += [SystemComparison(system.name, name, metric, each) for metric, each in compared.items()]
    return found


def _is_its_role_play(system: System, adapted: System, target: str) -> bool:
    """Whether a system is the role-play of the target by the model under an adapter."""
    ours, its = system.facts, adapted.facts
    return (
        its.get("adapter") is not None
        and ours.get("adapter") is None
        and ours.get("persona") == target
        and all(ours.get(part) == its.get(part) for part in ("model", "revision"))
    )
