"""Reads the folder that `fairpp evaluate` writes, and the positions that `fairpp position` adds to it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fairpp_hf.evaluation.probabilities import option_probabilities
from fairpp_hf.evaluation.results_folder import ANSWER_PREFIX, FORMAT, QUESTIONS, RESULTS, SCORES
from fairpp_hf.naming import check_name
from fairpp_hf.schema import OPTION_LETTERS, QUESTION_FEATURES

POSITIONS = "positions.json"
POSITIONS_FORMAT = 1
_AGAIN = "Run `fairpp evaluate` into this folder again"


@dataclass(frozen=True)
class System:
    """A model, a model with a prompt, or a baseline, and what it answered."""

    name: str
    facts: Mapping[str, Any]
    """How it was asked: respondent, settings, persona, region ..."""
    statuses: Mapping[str, int]
    """Status to number of replies."""
    metrics: Mapping[str, Any]
    """`alignment_metrics` of the probabilities."""
    first_choice: Mapping[str, Any]
    """`alignment_metrics` of the most probable option."""
    intervals: Mapping[str, Sequence[float]]
    """Metric to its 95% interval."""
    position_bias: Mapping[str, Any] | None
    """`gap`, `interval_95` and `same_choice`; None where one order was asked."""
    probabilities: NDArray[np.float64]
    """(n, 3) over A, B, C, mean over the orders; a row of NaN where one of them has no valid answer."""
    template_hashes: tuple[str, ...]
    """Of the chat templates that its prompts were written with."""
    prompts: int
    """Number of different prompts."""
    prompts_hash: str | None
    """SHA-256 over the sorted hashes of the prompts, to compare two evaluations at a glance."""

    def interval(self, metric: str) -> tuple[float, float] | None:
        """The 95% interval of a metric, where there is one."""
        bounds = self.intervals.get(metric)
        return None if bounds is None or None in bounds else (bounds[0], bounds[1])


@dataclass(frozen=True)
class Evaluated:
    """An evaluated folder: n questions, K personas and the systems."""

    path: Path
    target: str
    personas: tuple[str, ...]
    names: Mapping[str, str]
    """Persona id to name."""
    shares: Mapping[str, float | None]
    """Persona id to its share of the survey's population."""
    questions: pa.Table
    """The n questions, with the columns of `QUESTION_FEATURES`."""
    scenarios: bool
    """Whether the questions were told as scenarios."""
    division: str
    reference: str
    orders: int
    answers: Mapping[str, NDArray[np.int8]]
    """Persona id to its answers, (n,), 0..2 or -1."""
    systems: tuple[System, ...]
    comparisons: tuple[Mapping[str, Any], ...]
    positions: Mapping[str, Any] | None
    """What positions.json holds, or None without it."""

    def name(self, persona: str) -> str:
        """A persona's name, or its id where the folder has none."""
        return self.names.get(persona) or persona

    @cached_property
    def persona_probabilities(self) -> dict[str, NDArray[np.float64]]:
        """Persona id to its answers as one-hot rows, (n, 3); a row of NaN where there is none."""
        return {persona: option_probabilities(column) for persona, column in self.answers.items()}

    @cached_property
    def best(self) -> int:
        """Number of the system that agrees most with the target, which the page shows first."""
        agreement = [system.metrics.get("agreement/target") for system in self.systems]
        return int(np.argmax([-1.0 if value is None else value for value in agreement]))


def read_evaluated(folder: Path) -> Evaluated:
    """Read results.json, questions.parquet, scores.parquet and, where it is there, positions.json.

    Args:
        folder: `--out` of `fairpp evaluate`.

    Raises:
        FileNotFoundError: one of the three required files is missing.
        ValueError: a file is damaged, of another format, or does not go with the others.
    """
    for name in (RESULTS, QUESTIONS, SCORES):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"the folder must be one that `fairpp evaluate --out` has written; got no {name} at {folder}. "
                f"Run `fairpp evaluate --out {folder} ...` first."
            )
    where = folder / RESULTS
    results = _read_json(where, FORMAT)
    personas = tuple(_field(results, "personas", list, where))
    target = check_name(f"the target of {where}", _field(results, "target", str, where), personas)
    of_systems = _field(results, "systems", dict, where)
    if not of_systems:
        raise ValueError(f"{where} must hold a system; got none. {_AGAIN}.")
    questions, answers = _read_questions(folder / QUESTIONS, personas)
    return Evaluated(
        path=folder,
        target=target,
        personas=personas,
        names=_field(results, "names", dict, where),
        shares=_field(results, "shares", dict, where),
        questions=questions,
        scenarios=_field(results, "kind", str, where) == "scenarios",
        division=_field(results, "division", str, where),
        reference=_field(results, "reference", str, where),
        orders=_field(results, "orders", int, where),
        answers=answers,
        systems=_read_systems(folder / SCORES, of_systems, questions, where),
        comparisons=tuple(_field(results, "comparisons", list, where)),
        positions=_read_positions(folder / POSITIONS),
    )


def _read_json(file: Path, version: int) -> dict[str, Any]:
    try:
        tree = json.loads(file.read_bytes())
    except ValueError as error:
        raise ValueError(
            f"{file.name} must be JSON; got {error} at {file}. Run the command that wrote it again."
        ) from error
    found = tree.get("format", 1) if isinstance(tree, dict) else None
    if found != version or ("systems" not in tree and "points" not in tree):
        raise ValueError(
            f"{file.name} must be of format {version}; got {found!r} at {file}. It was written by another version, or by "
            "something else. Run the command that wrote it again."
        )
    return tree


def _field(tree: Mapping[str, Any], name: str, kind: type, where: Path) -> Any:
    value = tree.get(name)
    if not isinstance(value, kind):
        raise ValueError(f"{name} must be of type {kind.__name__}; got {value!r} at {where}. {_AGAIN}.")
    return value


def _read_questions(file: Path, personas: Sequence[str]) -> tuple[pa.Table, dict[str, NDArray[np.int8]]]:
    table = pq.read_table(file)
    wanted = [*QUESTION_FEATURES, *(f"{ANSWER_PREFIX}{persona}" for persona in personas)]
    if missing := [name for name in wanted if name not in table.column_names]:
        raise ValueError(f"{file.name} must have a column {missing[0]!r}; got none at {file}. {_AGAIN}.")
    answers = {persona: table[f"{ANSWER_PREFIX}{persona}"].to_numpy().astype(np.int8) for persona in personas}
    return table.select(list(QUESTION_FEATURES)), answers


def _read_systems(file: Path, of_systems: Mapping[str, Any], questions: pa.Table, where: Path) -> tuple[System, ...]:
    scores = pq.read_table(file)
    row = pc.index_in(scores["question_id"], questions["question_id"].combine_chunks())
    if row.null_count:
        unknown = scores["question_id"][pc.index(row.is_null(), True).as_py()].as_py()
        raise ValueError(
            f"{file.name} must be about the questions of questions.parquet; got {unknown!r} at {file}. {_AGAIN}."
        )
    names = scores["system"]
    systems = []
    for name, tree in of_systems.items():
        own = scores.filter(pc.equal(names, name)).append_column("row", row.filter(pc.equal(names, name)))
        if not len(own):
            raise ValueError(f"{file.name} must have rows of the system {name!r} of {where}; got none. {_AGAIN}.")
        hashes = sorted(text for text in pc.unique(own["prompt_hash"]).to_pylist() if text is not None)
        systems.append(
            System(
                name=name,
                facts=_field(tree, "facts", dict, where),
                statuses=_field(tree, "statuses", dict, where),
                metrics=_field(tree, "probabilities", dict, where),
                first_choice=_field(tree, "first_choice", dict, where),
                intervals=_field(tree, "intervals_95", dict, where),
                position_bias=tree.get("position_bias"),
                probabilities=_mean_over_orders(own, len(questions)),
                template_hashes=tuple(
                    sorted(text for text in pc.unique(own["template_hash"]).to_pylist() if text is not None)
                ),
                prompts=len(hashes),
                prompts_hash=hashlib.sha256("\n".join(hashes).encode()).hexdigest() if hashes else None,
            )
        )
    return tuple(systems)


def _mean_over_orders(scores: pa.Table, questions: int) -> NDArray[np.float64]:
    """Mean option probabilities of each question, (n, 3); NaN where an order is missing or has no valid answer."""
    given = scores["probabilities"].combine_chunks()
    valid = given.is_valid().to_numpy(zero_copy_only=False)
    rows = scores["row"].to_numpy()
    values = given.drop_null().flatten().to_numpy().reshape(-1, len(OPTION_LETTERS))
    sums = np.stack([np.bincount(rows[valid], column, questions) for column in values.T], axis=1)
    count, asked = np.bincount(rows[valid], minlength=questions), np.bincount(rows, minlength=questions)
    whole = ((count > 0) & (count == asked))[:, None]
    return np.divide(sums, count[:, None], out=np.full(sums.shape, np.nan), where=whole)


def _read_positions(file: Path) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    positions = _read_json(file, POSITIONS_FORMAT)
    for name, kind in (("methods", dict), ("points", list), ("questions", int)):
        _field(positions, name, kind, file)
    return positions
