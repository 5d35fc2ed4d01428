"""Reads the folder that `fairpp evaluate` writes, and the positions that `fairpp position` adds to it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import NoneType
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fairpp_hf.evaluation.evaluate import table_place
from fairpp_hf.evaluation.probabilities import option_probabilities
from fairpp_hf.evaluation.results_folder import (
    ANSWER_PREFIX,
    FORMAT,
    PROBABILITY_PREFIX,
    QUESTIONS,
    RESULTS,
    SCORE_SCHEMA,
    SCORES,
)
from fairpp_hf.evaluation.results_table import COMPARED_WITH
from fairpp_hf.markdown import one_line
from fairpp_hf.naming import check_name
from fairpp_hf.schema import NO_ANSWER, OPTION_LETTERS, QUESTION_FEATURES

POSITIONS = "positions.json"
POSITIONS_FORMAT = 1
METHODS = {"pca": "Principal components", "ideal_point": "Ideal points"}
"""Of the map: key in positions.json, and title."""
POINT_KINDS = ("persona", "majority", "baseline", "model")


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
    length_gap: Mapping[str, Any] | None
    """`gap` and `interval_95`; None where no lines were scored."""
    probabilities: NDArray[np.float64]
    """(n, 3) over A, B, C, mean over the orders; a row of NaN where one of them has no valid answer."""
    template_hashes: tuple[str, ...]
    """Of the chat templates that its prompts were written with."""
    prompts: int
    """Number of different prompts."""
    prompts_hash: str | None
    """SHA-256 over the sorted hashes of the prompts, to compare two evaluations at a glance."""

    @property
    def is_baseline(self) -> bool:
        """Whether it is a rule to compare with, such as a majority vote, and no model that was asked."""
        return self.facts.get("kind") == "baseline"

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
    compared_with: str
    """What distances are to, a key of `COMPARED_WITH`."""
    orders: int
    version: str | None
    """Of the package that computed the numbers, where the folder says it."""
    answers: Mapping[str, NDArray[np.int8]]
    """Persona id to its answers, (n,), 0..2 or -1."""
    persona_probabilities: Mapping[str, NDArray[np.float64]]
    """Persona id to what systems are compared with, (n, 3): option probabilities, or answers as one-hot rows; a row of NaN
    where there is none."""
    systems: tuple[System, ...]
    """The constant, and then the nearest to the target, see `table_place`."""
    comparisons: tuple[Mapping[str, Any], ...]
    positions: Mapping[str, Any] | None
    """What positions.json holds, or None without it."""

    def name(self, persona: str) -> str:
        """A persona's name, or its id where the folder has none."""
        return self.names.get(persona) or persona

    @cached_property
    def models(self) -> tuple[System, ...]:
        """The systems that are no baselines; all where there is nothing but baselines."""
        return tuple(system for system in self.systems if not system.is_baseline) or self.systems

    @cached_property
    def best(self) -> int:
        """Number of the model that is nearest to the target, question by question, which the page shows first."""
        models = [number for number, system in enumerate(self.systems) if system in self.models]
        return min(models, key=lambda number: table_place("", self.systems[number].metrics))


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
    _check_digest(results, folder / SCORES)
    of_systems = _field(results, "systems", dict, where)
    if not of_systems:
        raise ValueError(f"{where} must hold a system; got none. {_again(where)}.")
    personas = _texts(results, "personas", where)
    target = check_name(f"the target of {where}", _field(results, "target", str, where), personas)
    compared_with = check_name(f"compared_with of {where}", _field(results, "compared_with", str, where), COMPARED_WITH)
    questions, answers, probabilities = _read_questions(folder / QUESTIONS, personas, compared_with)
    if (count := _field(results, "questions", int, where)) != len(questions):
        raise _damaged("questions", f"be the {len(questions):,} of {QUESTIONS}", count, where)
    return Evaluated(
        path=folder,
        target=target,
        personas=personas,
        names=_mapping(results, "names", (str,), where),
        shares=_mapping(results, "shares", _NUMBER, where),
        questions=questions,
        scenarios=_field(results, "kind", str, where) == "scenarios",
        division=_field(results, "division", str, where),
        reference=_field(results, "reference", str, where),
        compared_with=compared_with,
        orders=_field(results, "orders", int, where),
        version=_field(results, "version", (str, NoneType), where),
        answers=answers,
        persona_probabilities=probabilities,
        systems=_read_systems(folder / SCORES, of_systems, questions, where),
        comparisons=_read_comparisons(results, where),
        positions=_read_positions(folder / POSITIONS),
    )


def _check_digest(results: Mapping[str, Any], file: Path) -> None:
    """results.json is written last and knows the scores that it is about."""
    digest = results.get("scores_sha256")
    if digest is None:
        return
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != digest:
        raise ValueError(
            f"{file.name} must be the one that {RESULTS} was written with, of SHA-256 {digest}; got {found} at {file}. "
            f"The folder is half-written: an evaluation was cut off in it, or is still under way. {_again(file)}."
        )


def _read_json(file: Path, version: int) -> dict[str, Any]:
    try:
        tree = json.loads(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file.name} must be JSON; got {error} at {file}. {_again(file)}.") from error
    if not isinstance(tree, dict):
        raise ValueError(f"{file.name} must hold an object; got {_shown(tree)} at {file}. {_again(file)}.")
    found = tree.get("format", 1)
    if found != version:
        raise ValueError(
            f"{file.name} must be of format {version}; got {_shown(found)} at {file}. It was written by another version. "
            f"{_again(file)}."
        )
    return tree


def _again(file: Path) -> str:
    command = "position" if file.name == POSITIONS else "evaluate"
    return f"Run `fairpp {command}` into this folder again"


def _shown(value: object) -> str:
    """A value in a message, which is not to be longer than the rest of it."""
    whole = repr(value)
    return whole if len(whole) <= 80 else f"{whole[:79]}…"


def _damaged(what: str, rule: str, value: object, where: Path) -> ValueError:
    return ValueError(f"{what} must {rule}; got {_shown(value)} at {where}. {_again(where)}.")


_Kinds: TypeAlias = type | tuple[type, ...]
_NUMBER = (int, float, NoneType)
_TEXT_METRICS = ("nearest_other", "worst_group_name/target")


def _field(tree: Mapping[str, Any], name: str, kinds: _Kinds, where: Path, of: str = "") -> Any:
    """A field of one of these types; where `NoneType` is among them, the field may be missing."""
    return _of_kinds(f"{name}{of}", tree.get(name), kinds, where)


def _of_kinds(what: str, value: Any, kinds: _Kinds, where: Path) -> Any:
    wanted = kinds if isinstance(kinds, tuple) else (kinds,)
    # True is an int to Python, and no number to anybody else.
    if not isinstance(value, wanted) or isinstance(value, bool):
        names = [_KIND_NAMES[kind] for kind in wanted if kind is not int or float not in wanted]
        raise _damaged(what, f"be {' or '.join(names)}", value, where)
    return value


_KIND_NAMES = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    dict: "an object",
    list: "a list",
    NoneType: "null",
}


def _texts(tree: Mapping[str, Any], name: str, where: Path) -> tuple[str, ...]:
    return tuple(_of_kinds(f"each of {name}", item, str, where) for item in _field(tree, name, list, where))


def _mapping(tree: Mapping[str, Any], name: str, kinds: _Kinds, where: Path, of: str = "") -> dict[str, Any]:
    """An object whose values are of these types."""
    return {
        key: _of_kinds(f"{name} of {key!r}{of}", value, kinds, where)
        for key, value in _field(tree, name, dict, where, of).items()
    }


def _numbers(what: str, value: Any, count: int, kinds: _Kinds, where: Path) -> Any:
    """A list of so many numbers."""
    if len(_of_kinds(what, value, list, where)) != count:
        raise _damaged(what, f"be {count} numbers", value, where)
    for item in value:
        _of_kinds(f"each of {what}", item, kinds, where)
    return value


def _read_table(file: Path, columns: Mapping[str, pa.DataType]) -> pa.Table:
    """These columns of a Parquet file, as these types."""
    try:
        table = pq.read_table(file)
        if missing := [name for name in columns if name not in table.column_names]:
            raise ValueError(f"{file.name} must have a column {missing[0]!r}; got none at {file}. {_again(file)}.")
        return table.select(list(columns)).cast(pa.schema(columns))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(
            f"{file.name} must be a Parquet file as `fairpp evaluate` writes it; got {one_line(str(error))} at {file}. "
            f"{_again(file)}."
        ) from error


def _read_questions(
    file: Path, personas: Sequence[str], compared_with: str
) -> tuple[pa.Table, dict[str, NDArray[np.int8]], dict[str, NDArray[np.float64]]]:
    """The questions, the personas' answers, and what systems are compared with, (n, 3)."""
    features = {field.name: field.type for field in QUESTION_FEATURES.arrow_schema}
    columns = {persona: f"{ANSWER_PREFIX}{persona}" for persona in personas}
    known = personas if compared_with == "probabilities" else ()
    lists = dict.fromkeys((f"{PROBABILITY_PREFIX}{persona}" for persona in known), pa.list_(pa.float64()))
    table = _read_table(file, {**features, **dict.fromkeys(columns.values(), pa.int8()), **lists})
    if holes := [name for name in table.column_names if name not in lists and table[name].null_count]:
        raise ValueError(
            f"{file.name} must have no null; got one in the column {holes[0]!r} at {file}. {_again(file)}."
        )
    answers = {persona: table[column].to_numpy() for persona, column in columns.items()}
    for persona, given in answers.items():
        if ((given < NO_ANSWER) | (given >= len(OPTION_LETTERS))).any():
            raise _damaged(f"the column {columns[persona]!r}", "hold -1 to 2", sorted(set(given.tolist())), file)
    rows = {persona: option_probabilities(given) for persona, given in answers.items()}
    for persona, column in zip(known, lists, strict=True):
        rows[persona] = _triples(table[column], column, file)
    return table.select(list(features)), answers, rows


def _triples(column: pa.ChunkedArray, name: str, file: Path) -> NDArray[np.float64]:
    """Lists of 3 numbers as rows (n, 3); NaN for null."""
    lengths = pc.unique(pc.list_value_length(column).drop_null()).to_pylist()
    if lengths not in ([], [len(OPTION_LETTERS)]):
        raise _damaged(name, f"be {len(OPTION_LETTERS)} numbers a row", lengths, file)
    rows = np.full((len(column), len(OPTION_LETTERS)), np.nan)
    given = column.is_valid().to_numpy()
    rows[given] = column.drop_null().combine_chunks().flatten().to_numpy().reshape(-1, len(OPTION_LETTERS))
    return rows


def _read_systems(file: Path, of_systems: Mapping[str, Any], questions: pa.Table, where: Path) -> tuple[System, ...]:
    wanted = ("system", "question_id", "probabilities", "prompt_hash", "template_hash")
    scores = _read_table(file, {name: SCORE_SCHEMA.field(name).type for name in wanted})
    row = pc.index_in(scores["question_id"], questions["question_id"].combine_chunks())
    if row.null_count:
        unknown = scores["question_id"][pc.index(row.is_null(), True).as_py()].as_py()
        raise ValueError(
            f"{file.name} must be about the questions of {QUESTIONS}; got {unknown!r} at {file}. {_again(file)}."
        )
    names = scores["system"]
    systems = []
    for name, tree in of_systems.items():
        own = scores.filter(pc.equal(names, name)).append_column("row", row.filter(pc.equal(names, name)))
        if not len(own):
            raise ValueError(f"{file.name} must have rows of the system {name!r} of {where}; got none. {_again(file)}.")
        systems.append(_read_system(name, tree, own, len(questions), where))
    return tuple(sorted(systems, key=lambda system: table_place(system.name, system.metrics)))


def _read_system(name: str, tree: Any, scores: pa.Table, questions: int, where: Path) -> System:
    """One system of results.json, with its rows of the scores."""
    of = f" of the system {name!r}"
    _of_kinds(f"the system {name!r}", tree, dict, where)
    metrics = _field(tree, "probabilities", dict, where, of)
    for metric, value in metrics.items():
        _of_kinds(f"{metric}{of}", value, (str, NoneType) if metric in _TEXT_METRICS else _NUMBER, where)
    intervals = _field(tree, "intervals_95", dict, where, of)
    for metric, bounds in intervals.items():
        _numbers(f"the interval of {metric}{of}", bounds, 2, _NUMBER, where)
    gaps = {key: _field(tree, key, (dict, NoneType), where, of) for key in ("position_bias", "length_gap")}
    for key, gap in gaps.items():
        if gap is not None:
            what = f"the {key.replace('_', ' ')}{of}"
            _field(gap, "gap", (int, float), where, f" of {what}")
            if gap.get("interval_95") is not None:
                _numbers(f"the interval of {what}", gap["interval_95"], 2, (int, float), where)
    hashes = sorted(text for text in pc.unique(scores["prompt_hash"]).to_pylist() if text is not None)
    templates = (text for text in pc.unique(scores["template_hash"]).to_pylist() if text is not None)
    return System(
        name=name,
        facts=_field(tree, "facts", dict, where, of),
        statuses=_mapping(tree, "statuses", int, where, of),
        metrics=metrics,
        first_choice=_field(tree, "first_choice", dict, where, of),
        intervals=intervals,
        **gaps,
        probabilities=_mean_over_orders(scores, questions, where.parent / SCORES),
        template_hashes=tuple(sorted(templates)),
        prompts=len(hashes),
        prompts_hash=hashlib.sha256("\n".join(hashes).encode()).hexdigest() if hashes else None,
    )


def _read_comparisons(results: Mapping[str, Any], where: Path) -> tuple[Mapping[str, Any], ...]:
    comparisons = _field(results, "comparisons", list, where)
    for number, comparison in enumerate(comparisons, 1):
        of = f" of comparison {number}"
        _of_kinds(f"comparison {number}", comparison, dict, where)
        for name in ("first", "second", "metric"):
            _field(comparison, name, str, where, of)
        for name in ("difference", "p_value"):
            _field(comparison, name, _NUMBER, where, of)
        _numbers(f"the interval{of}", comparison.get("interval_95"), 2, _NUMBER, where)
    return tuple(comparisons)


def _mean_over_orders(scores: pa.Table, questions: int, file: Path) -> NDArray[np.float64]:
    """Mean option probabilities of each question, (n, 3); NaN where an order is missing or has no valid answer."""
    given = _triples(scores["probabilities"], "probabilities", file)
    valid = ~np.isnan(given).any(axis=1)
    rows = scores["row"].to_numpy()
    sums = np.stack([np.bincount(rows[valid], column, questions) for column in given[valid].T], axis=1)
    count, asked = np.bincount(rows[valid], minlength=questions), np.bincount(rows, minlength=questions)
    whole = ((count > 0) & (count == asked))[:, None]
    return np.divide(sums, count[:, None], out=np.full(sums.shape, np.nan), where=whole)


def _read_positions(file: Path) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    positions = _read_json(file, POSITIONS_FORMAT)
    _field(positions, "questions", int, file)
    for name in ("division", "reference"):
        _field(positions, name, (str, NoneType), file)
    for method, tree in _mapping(positions, "methods", dict, file).items():
        if tree.get("explained_variance") is not None:
            _numbers(f"explained_variance of {method!r}", tree["explained_variance"], 2, (int, float), file)
        _field(tree, "axes", (list, NoneType), file, f" of {method!r}")
    for number, point in enumerate(_field(positions, "points", list, file), 1):
        _check_point(point, number, file)
    return positions


def _check_point(point: Any, number: int, file: Path) -> None:
    """A name, a kind, and by each method a place, or none."""
    of = f" of point {number}"
    _of_kinds(f"point {number}", point, dict, file)
    _field(point, "name", str, file, of)
    if point.get("kind") not in POINT_KINDS:
        raise _damaged(f"kind{of}", f"be one of {', '.join(map(repr, POINT_KINDS))}", point.get("kind"), file)
    for name in ("region", "before"):
        _field(point, name, (str, NoneType), file, of)
    for method in METHODS:
        place = _field(point, method, (dict, NoneType), file, of)
        if place is None:
            continue
        _numbers(f"xy of {method}{of}", place.get("xy"), 2, (int, float), file)
        for corner in _field(place, "ellipse_95", (list, NoneType), file, f" of {method}{of}") or ():
            _numbers(f"each corner of ellipse_95 of {method}{of}", corner, 2, (int, float), file)
