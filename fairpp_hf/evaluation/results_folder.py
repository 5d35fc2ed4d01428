"""The files of an evaluation: results.json, results.csv, results.md, questions.parquet and scores.parquet."""

import csv
import hashlib
import io
import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fairpp_hf import __version__
from fairpp_hf.schema import OPTION_LETTERS, QUESTION_FEATURES, STATUSES

if TYPE_CHECKING:
    from fairpp_hf.evaluation.evaluate import Evaluation, SystemResult

FORMAT = 3
"""Of results.json, where `format` says it."""

RESULTS, METRICS, TABLES = "results.json", "results.csv", "results.md"
QUESTIONS, SCORES = "questions.parquet", "scores.parquet"

ANSWER_PREFIX = "answer/"
"""Before a persona's id: its column of answers in questions.parquet."""

PROBABILITY_PREFIX = "probabilities/"
"""Before a persona's id: its column of option probabilities in questions.parquet, where these are what systems are compared
with."""

SCORE_SCHEMA = pa.schema(
    {
        "system": pa.string(),
        "question_id": pa.string(),
        "order": pa.int8(),
        "probabilities": pa.list_(pa.float64()),
        "logprobs": pa.list_(pa.float64()),
        "letter_logprobs": pa.list_(pa.float64()),
        "tokens": pa.list_(pa.float64()),
        "answer": pa.int8(),
        "status": pa.string(),
        "prompt_hash": pa.string(),
        "template_hash": pa.string(),
    }
)
"""Columns of scores.parquet: one row a system, question and order (0 as written, 1 with A and B in each other's place).
`probabilities`, `logprobs`, the part of these through the option's letter, `tokens`, over which `logprobs` is the sum, and
`answer` (0..2, -1 for none) are over the options as written, whatever the order."""


def write_results(evaluation: "Evaluation", out: Path) -> list[Path]:
    """Write the files of an evaluation into a folder, and return their paths.

    Each takes the place of an older one when it is whole, results.json last: `scores_sha256` in it, the digest of
    scores.parquet, tells whether the two belong together.
    """
    out.mkdir(parents=True, exist_ok=True)
    _put(out / QUESTIONS, lambda path: pq.write_table(question_rows(evaluation), path))
    _put(out / SCORES, lambda path: pq.write_table(score_rows(evaluation), path))
    _put_text(out / METRICS, metric_rows(evaluation))
    _put_text(out / TABLES, f"{evaluation.to_markdown()}\n{evaluation.notes()}")
    tree = {**as_json(evaluation), "scores_sha256": hashlib.sha256((out / SCORES).read_bytes()).hexdigest()}
    _put_text(out / RESULTS, json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    return [out / name for name in (RESULTS, METRICS, TABLES, QUESTIONS, SCORES)]


def _put(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file beside its place, and then put it there at once."""
    scratch = path.with_name(f".{path.name}.part")
    write(scratch)
    os.replace(scratch, path)


def _put_text(path: Path, text: str) -> None:
    _put(path, lambda scratch: scratch.write_text(text, encoding="utf-8"))


def as_json(evaluation: "Evaluation") -> dict[str, Any]:
    """Everything of an evaluation but its rows."""
    return {
        "format": FORMAT,
        "version": __version__,
        "target": evaluation.target,
        "personas": list(evaluation.personas),
        "names": evaluation.names,
        "shares": evaluation.shares,
        "questions": len(evaluation.questions),
        "kind": evaluation.kind,
        "division": evaluation.division,
        "reference": evaluation.reference,
        "compared_with": evaluation.compared_with,
        "orders": evaluation.orders,
        "systems": {system.name: _system(system) for system in evaluation.systems},
        "comparisons": [
            {
                "first": comparison.first,
                "second": comparison.second,
                "metric": comparison.metric,
                "difference": _number(comparison.result.difference),
                "interval_95": [_number(comparison.result.low), _number(comparison.result.high)],
                "p_value": _number(comparison.result.p_value),
            }
            for comparison in evaluation.comparisons
        ],
    }


def _system(system: "SystemResult") -> dict[str, Any]:
    bias, length = system.position_bias, system.length_gap
    return {
        "facts": system.scores.facts,
        "statuses": status_counts(system),
        "probabilities": _numbers(system.metrics),
        "first_choice": _numbers(system.first_choice_metrics),
        "intervals_95": {name: list(map(_number, interval)) for name, interval in system.intervals.items()},
        "position_bias": None
        if bias is None
        else {
            "gap": bias.gap,
            "interval_95": None if bias.interval is None else list(bias.interval),
            "same_choice": bias.same_choice,
        },
        "length_gap": None
        if length is None
        else {"gap": length.gap, "interval_95": None if length.interval is None else list(length.interval)},
    }


def status_counts(system: "SystemResult") -> dict[str, int]:
    """Status to number of replies, those statuses that occur, in the order of `STATUSES`."""
    counts = {status: int((system.scores.statuses == status).sum()) for status in STATUSES}
    return {status: count for status, count in counts.items() if count}


def _numbers(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _number(value) for name, value in metrics.items()}


def _number(value: Any) -> Any:
    """JSON has no NaN."""
    return None if isinstance(value, float) and math.isnan(value) else value


def metric_rows(evaluation: "Evaluation") -> str:
    """The metrics as CSV: a row a system, the constant first and then the nearest, and a column a metric.

    The first column is `system`; the others have the names in results.json. What has no value is empty.
    """
    systems = evaluation.best_first()
    names = dict.fromkeys(name for system in systems for name in system.metrics)
    text = io.StringIO()
    writer = csv.DictWriter(text, ["system", *names], lineterminator="\n")
    writer.writeheader()
    writer.writerows({"system": system.name, **_numbers(system.metrics)} for system in systems)
    return text.getvalue()


def question_rows(evaluation: "Evaluation") -> pa.Table:
    """The columns of `QUESTION_FEATURES`, and a column of answers a persona, int8: 0..2, -1 for none.

    Where systems are compared with option probabilities, a column of these a persona as well: lists of 3, null for none.
    """
    columns = {name: evaluation.questions[name] for name in QUESTION_FEATURES}
    for persona, answers in evaluation.references.answers.items():
        columns[f"{ANSWER_PREFIX}{persona}"] = pa.chunked_array([pa.array(np.asarray(answers), pa.int8())])
    if evaluation.references.are_probabilities:
        for persona, rows in evaluation.references.items():
            columns[f"{PROBABILITY_PREFIX}{persona}"] = pa.chunked_array([_lists(rows)])
    return pa.table(columns)


def score_rows(evaluation: "Evaluation") -> pa.Table:
    """The table of `SCORE_SCHEMA`, system by system, question by question, the order as written first."""
    return pa.concat_tables([_rows_of(system, evaluation.questions) for system in evaluation.systems])


def _rows_of(system: "SystemResult", questions: pa.Table) -> pa.Table:
    scores = system.scores
    count, orders, options = scores.by_order.shape
    total = count * orders
    rows = np.repeat(np.arange(count), orders)
    hashes = scores.prompt_hashes
    columns = [
        pa.repeat(pa.scalar(scores.name), total),
        questions["question_id"].combine_chunks().take(pa.array(rows)),
        pa.array(np.tile(np.arange(orders, dtype=np.int8), count)),
        _lists(scores.by_order.reshape(total, options)),
        *(
            pa.nulls(total, SCORE_SCHEMA.field("logprobs").type)
            if values is None
            else _lists(values.reshape(total, options))
            for values in (scores.logprobs, scores.letter_logprobs, scores.tokens)
        ),
        pa.array(scores.answers.ravel(), pa.int8()),
        pa.array(scores.statuses.ravel().tolist(), pa.string()),
        pa.nulls(total, pa.string()) if hashes is None else pa.array(hashes.ravel().tolist(), pa.string()),
        pa.repeat(pa.scalar(scores.facts.get("template_hash"), pa.string()), total),
    ]
    return pa.table(columns, schema=SCORE_SCHEMA)


def _lists(values: NDArray[np.float64]) -> pa.Array:
    """Rows of three as lists; null for a row with NaN."""
    missing = np.isnan(values).any(axis=1)
    offsets = pa.array(np.arange(0, values.size + 1, len(OPTION_LETTERS), dtype=np.int32))
    return pa.ListArray.from_arrays(offsets, pa.array(values.ravel()), mask=pa.array(missing))
