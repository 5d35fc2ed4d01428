"""Tables of replies as `load_replies` gives them, with answers that are known in advance."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fairpp_hf.personas import load_personas
from fairpp_hf.questions import load_questions
from fairpp_hf.respondents.survey import all_survey_answers
from fairpp_hf.runs.records import REPLY_SCHEMA


def replies_of(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """A reply a row; of its columns, `question_id`, `persona` and `answer` must be given."""
    usual = {"sample": 0, "swapped": False, "probabilities": None, "latency_s": 0.0, "created_at": 0.0}
    filled = [{**usual, "status": "ok" if row["answer"] >= 0 else "invalid", **row} for row in rows]
    return pa.Table.from_pylist(filled, schema=REPLY_SCHEMA)


def survey_replies(
    questions: pa.Table, *, samples: int = 1, orders: int = 1, personas: str = "britains_choice_2020"
) -> pa.Table:
    """The survey respondent's answers; more than one a question are drawn from its probabilities with a fixed seed."""
    rng = np.random.default_rng(0)
    parts = []
    for persona, (answer, probabilities) in all_survey_answers(questions, load_personas(personas)).items():
        for order in range(orders):
            for sample in range(samples):
                drawn = answer
                if samples * orders > 1:
                    drawn = (rng.random((len(answer), 1)) > probabilities.cumsum(axis=1)[:, :2]).sum(axis=1)
                parts.append(column_replies(questions, persona, drawn, sample, order))
    return pa.concat_tables(parts)


def column_replies(
    questions: pa.Table, persona: str, answer: NDArray[Any], sample: int = 0, order: int = 0
) -> pa.Table:
    """One persona's answers to all of some questions."""
    count = len(questions)
    columns = {
        "question_id": questions["question_id"],
        "persona": pa.repeat(persona, count),
        "sample": pa.array(np.full(count, sample)),
        "swapped": pa.array(np.full(count, bool(order))),
        "status": pa.array(np.where(np.asarray(answer) >= 0, "ok", "invalid").tolist()),
        "answer": pa.array(answer, pa.int64()),
    }
    missing = {field.name: pa.nulls(count, field.type) for field in REPLY_SCHEMA if field.name not in columns}
    return pa.table({**columns, **missing}).select(REPLY_SCHEMA.names)


def whole_clusters(count: int) -> pa.Table:
    """All ten questions on each of `count` (problem, group) pairs, over several problems and groups."""
    questions = load_questions()
    starts = np.linspace(0, len(questions) / 10 - 1, count).astype(int) * 10
    return questions.take(pa.array((starts[:, None] + np.arange(10)).ravel()))
