"""Is a run any good? Who answers like whom, how consistently, and what came out unusable.

All of it is read off the replies of the journal; nothing is asked. The answers are simulated: the numbers say how a model
plays its roles, and nothing about people.
"""

from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from fairpp_hf.dataset.sources import RunSource
from fairpp_hf.evaluation.quality.identification import Identification, identify_among_themselves
from fairpp_hf.evaluation.quality.replies import (
    ByPersona,
    FormConsistency,
    OrderConsistency,
    Replies,
    Statuses,
    form_consistency,
    order_consistency,
    sample_consistency,
)
from fairpp_hf.evaluation.quality.survey import SurveyFidelity, compare_with_survey
from fairpp_hf.personas import PersonaSet
from fairpp_hf.questions import load_questions, sample_questions
from fairpp_hf.runs.layout import scenarios_folder
from fairpp_hf.runs.manifest import read_manifest
from fairpp_hf.runs.records import load_replies
from fairpp_hf.scenarios.files import has_answered_scenarios, load_scenario_questions


class RunQuality(NamedTuple):
    """The quality of a run, or of its replies to some of its questions."""

    respondent: str
    """Such as `"openai:gpt-4o-mini (simulated)"`."""
    personas: tuple[str, ...]
    questions: int
    clusters: int
    """(problem, group) pairs, which intervals draw from."""
    replies: int
    valid: int
    requests: int | None
    """What the run asks for altogether; None where only some of its questions are looked at."""
    orders: int
    samples: int
    seed: int
    identification: Identification
    """Among the run's own personas."""
    survey: SurveyFidelity | None
    """None where the run's personas are unknown or have no survey figures."""
    sample_agreement: ByPersona
    order: OrderConsistency
    forms: FormConsistency
    statuses: Statuses


def run_quality(
    run: str | Path, questions: pa.Table | None = None, *, sample: int | None = None, seed: int = 0
) -> RunQuality:
    """Measure the quality of a run.

    Args:
        run: Directory that `generate` has written, or is writing.
        questions: Questions that the run asked, with the columns of `QUESTION_FEATURES`; by default those of
            `load_questions()`, or the scenarios where `run` is the folder of a run's scenarios.
        sample: Size of a fixed random sample of the questions with a reply; all by default.
        seed: Seed of whatever is drawn at random; the same seed gives the same numbers.

    Returns:
        Numbers with 95% intervals, bootstrapped over (problem, group) clusters of questions, and with what chance would
        give. What cannot be measured in this run says why.

    Raises:
        FileNotFoundError: `run` is not a run.
        ValueError: The run has no replies, asked other questions, or `sample` is below 1.
        OSError: The journal is damaged.
    """
    run = Path(run).resolve()
    if questions is None:
        # Scenarios are a run of their own, which asks its own table.
        is_scenarios = run == scenarios_folder(run.parent) and has_answered_scenarios(run.parent)
        questions = load_scenario_questions(run.parent) if is_scenarios else load_questions()
    replies = load_replies(run, questions)
    manifest = read_manifest(run)
    if manifest is None or not len(replies):
        raise ValueError(
            f"A run must have replies to be judged; got none in {run}. Run `fairpp generate --run {run} ...` first."
        )
    personas = RunSource(run).persona_set()
    return replies_quality(
        replies,
        questions,
        personas,
        respondent=manifest["respondent"]["name"],
        requests=manifest["requests"]["count"],
        sample=sample,
        seed=seed,
    )


def replies_quality(
    replies: pa.Table,
    questions: pa.Table,
    personas: PersonaSet | None,
    *,
    respondent: str,
    requests: int | None = None,
    sample: int | None = None,
    seed: int = 0,
) -> RunQuality:
    """As `run_quality`, of replies that are there as a table of `load_replies`, to some of these questions.

    Raises:
        ValueError: There is no reply, one is to an unknown question, or `sample` is below 1.
    """
    if sample is not None:
        ids = pa.table({"question_id": replies["question_id"].combine_chunks().unique()})
        chosen = ids["question_id"].take(pa.array(sample_questions(ids, sample)))
        replies = replies.filter(pc.is_in(replies["question_id"], chosen.combine_chunks()))
        requests = None
    arrays = Replies(replies, questions, seed)
    samples = sample_consistency(arrays)
    return RunQuality(
        respondent=respondent,
        personas=arrays.personas,
        questions=len(arrays.questions),
        clusters=arrays.resamples.count,
        replies=len(arrays.answer),
        valid=int(arrays.votes.sum()),
        requests=requests,
        orders=2 if arrays.is_swapped else 1,
        samples=arrays.samples,
        seed=seed,
        identification=identify_among_themselves(arrays),
        survey=None if personas is None else compare_with_survey(arrays, questions, personas),
        sample_agreement=samples,
        order=order_consistency(arrays, samples),
        forms=form_consistency(arrays),
        statuses=Statuses.of(arrays),
    )
