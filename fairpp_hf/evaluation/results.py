"""The results of an evaluation: one model that `fairpp evaluate` fills in, writes and reads.

A folder of results holds results.json (everything but the rows), results.csv (a row a system, a column a metric),
results.md, questions.parquet (the questions with the personas' answers) and scores.parquet (a row a system, question and
order). `fairpp position` adds positions.json.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypedDict, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fairpp_hf import __version__
from fairpp_hf.evaluation.forms import from_json, json_text, to_json
from fairpp_hf.naming import check_name
from fairpp_hf.runs.layout import write_whole
from fairpp_hf.schema import NO_ANSWER, OPTION_LETTERS, QUESTION_FEATURES, STATUSES
from fairpp_hf.statistics.biases import LengthGap, PositionBias
from fairpp_hf.statistics.bootstrap import Interval
from fairpp_hf.statistics.options import first_choices, option_probabilities
from fairpp_hf.statistics.paired import Comparison

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 4
"""Format number of results.json; a reader refuses any other."""
POSITIONS_FORMAT = 1

CONSTANT = "constant"
"""Name of the baseline that every table shows first."""

HEADLINE = {
    "skill": "skill/target",
    "distance": "question_js_distance/target",
    "agreement": "agreement/target",
    "Brier score": "brier/target",
}
"""The metrics that matter most, with their names in results.json."""

RESULTS, METRICS, TABLES = "results.json", "results.csv", "results.md"
QUESTIONS, SCORES, POSITIONS = "questions.parquet", "scores.parquet", "positions.json"

ANSWER_PREFIX, PROBABILITY_PREFIX = "answer/", "probabilities/"
"""What comes before a persona's id in the columns of questions.parquet."""

_TRIPLE = pa.list_(pa.float64())
SCORE_SCHEMA = pa.schema(
    {
        "system": pa.string(),
        "question_id": pa.string(),
        "order": pa.int8(),
        **dict.fromkeys(("probabilities", "logprobs", "letter_logprobs", "tokens"), _TRIPLE),
        "answer": pa.int8(),
        "status": pa.string(),
        "prompt_hash": pa.string(),
        "template_hash": pa.string(),
    }
)
"""Columns of scores.parquet: one row a system, question and order (0 as written, 1 with A and B in each other's place).
The lists and `answer` (0..2, -1 for none) are over the options as written, whatever the order; see `SystemScores`."""


class SystemScores(NamedTuple):
    """What one system (a model, a model with a prompt or adapter, a baseline) gives each of n questions."""

    name: str
    probabilities: NDArray[np.float64]
    """(n, 3): over A, B, C, the mean over the orders in which the options were shown. A reply in text is 1 for the option
    that it names, so that two orders that disagree give 0.5 each. A row of NaN where an order has no valid answer: the other
    one alone would carry the bias of the options' places."""
    by_order: NDArray[np.float64]
    """(n, orders, 3): the same for each order, as written first; 0 is the option of pole A whatever the order."""
    statuses: NDArray[np.str_]
    """(n, orders), of `STATUSES`."""
    facts: dict[str, Any]
    """JSON-able: `kind` ("model" or "baseline"), and of a model `model`, `adapter`, `revision`, `base_url` (without
    secrets, or None), `respondent`, `settings`, `ways` (address to how a server was asked, or None),
    `constrained` (number of replies whose probabilities are those of a constrained choice), `template_hash` (None where a
    server has the template), `persona` (whose portrait is the system prompt, or None), `region` and `before`."""
    answers: NDArray[np.int8]
    """(n, orders): 0..2 with 0 for pole A, -1 for none."""
    logprobs: NDArray[np.float64] | None = None
    """(n, orders, 3): natural-log probabilities of the options, not renormalised, NaN for none. None: there are none."""
    letter_logprobs: NDArray[np.float64] | None = None
    """(n, orders, 3): likewise of their letters alone; see `OptionScores`."""
    tokens: NDArray[np.float64] | None = None
    """(n, orders, 3): how many tokens `logprobs` is the sum over, NaN for none."""
    prompt_hashes: NDArray[np.str_] | None = None
    """(n, orders): SHA-256 of the messages in canonical JSON. None: nothing was asked."""


def as_scores(name: str, probabilities: NDArray[np.float64], *, kind: str = "baseline") -> SystemScores:
    """Option probabilities from anywhere as the scores of a system.

    Args:
        name: Name of the system.
        probabilities: Option probabilities, (n, 3) over A, B, C; or (n, orders, 3), one for each order in which the options
            were shown, pole A first in both. A row of NaN means that there is no answer; its status is `empty`.
        kind: Kind of the system, `"baseline"` or `"model"`.

    Raises:
        ValueError: The array has another shape.
    """
    if probabilities.shape[-1:] != (len(OPTION_LETTERS),) or probabilities.ndim not in (2, 3):
        raise ValueError(
            f"probabilities must be of shape (n, 3) or (n, orders, 3); got {probabilities.shape} at {name!r}. "
            "Give one value for each of A, B and C."
        )
    by_order = probabilities if probabilities.ndim == 3 else probabilities[:, None]
    # Wide enough for any status that a caller writes into it.
    statuses = np.where(np.isnan(by_order).any(axis=2), "empty", "ok").astype(f"<U{max(map(len, STATUSES))}")
    return SystemScores(name, by_order.mean(axis=1), by_order, statuses, {"kind": kind}, first_choices(by_order))


class References(dict[str, NDArray[Any]]):
    """Persona id to what systems are compared with, on n questions, as `alignment_metrics` takes it.

    Option probabilities, float (n, 3), where they are known for all answers of all personas; otherwise the answers, integers
    (n,). A distance question by question to one drawn answer rewards mere confidence, one to the probabilities does not.

    Args:
        answers: Persona id to answers, (n,), 0..2 or -1 for none.
        probabilities: Persona id to option probabilities, (n, 3), NaN where there are none; None where nobody has any.
    """

    def __init__(
        self,
        answers: Mapping[str, NDArray[np.integer]],
        probabilities: Mapping[str, NDArray[np.float64]] | None = None,
    ) -> None:
        self.answers = dict(answers)
        """Persona id to answers, (n,)."""
        known = probabilities or {}
        self.are_probabilities = bool(known) and not any(
            np.isnan(known[persona][column != NO_ANSWER]).any() for persona, column in answers.items()
        )
        """Whether the values are probabilities."""
        super().__init__(answers)
        if self.are_probabilities:
            # Where there is no answer, nothing is compared, whatever lay behind it.
            self |= {
                persona: np.where((column == NO_ANSWER)[:, None], np.nan, known[persona])
                for persona, column in answers.items()
            }


@dataclass(frozen=True)
class System:
    """How one system (a model, a model with a prompt or adapter, a baseline) stands among the personas."""

    scores: SystemScores
    metrics: dict[str, Any]
    """`alignment_metrics` of the probabilities: what sampled answers would give on average; and `skill/target`, see `skill`,
    None where no constant is among the systems. Without the target's where the system and the target have no question in
    common that both answered."""
    intervals: dict[str, Interval]
    """95% intervals of `metrics`, bootstrapped over clusters of questions."""
    position_bias: PositionBias | None
    """None where the options were shown in one order alone."""
    length_gap: LengthGap | None
    """None where no lines were scored."""

    @property
    def name(self) -> str:
        """Name of the system."""
        return self.scores.name

    @property
    def facts(self) -> dict[str, Any]:
        """How it was asked, see `SystemScores.facts`."""
        return self.scores.facts

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """(n, 3), over options A, B, C; a row of NaN where there is no answer."""
        return self.scores.probabilities

    @property
    def is_baseline(self) -> bool:
        """Whether it is a rule to compare with, such as a majority vote, and no model that was asked."""
        return bool(self.facts["kind"] == "baseline")

    @property
    def statuses(self) -> dict[str, int]:
        """Status to number of replies, those statuses that occur, in the order of `STATUSES`."""
        counts = {status: int((self.scores.statuses == status).sum()) for status in STATUSES}
        return {status: count for status, count in counts.items() if count}

    @property
    def prompts(self) -> int:
        """Number of different prompts."""
        return 0 if self.scores.prompt_hashes is None else len(np.unique(self.scores.prompt_hashes))

    @property
    def prompts_hash(self) -> str | None:
        """SHA-256 over the sorted hashes of the prompts, to compare two evaluations at a glance."""
        hashes = self.scores.prompt_hashes
        return None if hashes is None else hashlib.sha256("\n".join(np.unique(hashes)).encode()).hexdigest()

    def interval(self, metric: str) -> Interval | None:
        """The 95% interval of a metric, where there is one."""
        return self.intervals.get(metric)

    @property
    def table_place(self) -> tuple[bool, float]:
        """Sorting key: the constant first, then the best by skill, by Brier score without it, none last."""
        skill, brier = self.metrics.get("skill/target"), self.metrics.get("brier/target")
        return self.name != CONSTANT, -skill if skill is not None else math.inf if brier is None else brier


class SystemComparison(NamedTuple):
    """Two systems by one metric, on the questions that both answered."""

    first: str
    second: str
    metric: str
    result: Comparison
    """First minus second."""


@dataclass(frozen=True)
class Results:
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
    systems: tuple[System, ...]
    """The constant, which is to be beaten, and then the others, the best first."""
    comparisons: tuple[SystemComparison, ...]
    version: str = __version__
    """Version of the package that computed the numbers."""
    path: Path = field(default=Path(), compare=False)
    """The folder that the results were read from or written to."""
    positions: Mapping[str, Any] | None = None
    """What positions.json of the folder holds, see `Positions`; None where there is none."""

    @property
    def personas(self) -> tuple[str, ...]:
        """Ids of the personas."""
        return tuple(self.names)

    @property
    def compared_with(self) -> Literal["probabilities", "answers"]:
        """Whether systems are compared with the personas' option probabilities or with one answer a question."""
        return "probabilities" if self.references.are_probabilities else "answers"

    @property
    def answers(self) -> dict[str, NDArray[Any]]:
        """Persona id to its answers, (n,), 0..2 or -1."""
        return self.references.answers

    @property
    def persona_probabilities(self) -> dict[str, NDArray[np.float64]]:
        """Persona id to what systems are compared with, (n, 3): option probabilities, or answers as one-hot rows."""
        return {persona: option_probabilities(rows) for persona, rows in self.references.items()}

    @property
    def scenarios(self) -> bool:
        """Whether the questions were told as scenarios."""
        return self.kind == "scenarios"

    @property
    def orders(self) -> int:
        """Number of orders of the options that models were asked in: 1 or 2."""
        return max(system.scores.by_order.shape[1] for system in self.systems)

    def name(self, persona: str) -> str:
        """The name to show for a persona."""
        return self.names.get(persona, persona)

    @property
    def models(self) -> tuple[System, ...]:
        """The systems that are no baselines; all where there is nothing but baselines."""
        return tuple(system for system in self.systems if not system.is_baseline) or self.systems

    @property
    def best(self) -> int:
        """Row of the model that is nearest to the target."""
        return self.systems.index(self.models[0])

    def to_pandas(self) -> "pd.DataFrame":
        """A row a system, the constant first and then the best; a column a metric, with the names in results.json."""
        import pandas as pd

        rows = {system.name: to_json(system.metrics) for system in self.systems}
        columns = list(dict.fromkeys(metric for row in rows.values() for metric in row))
        table = pd.DataFrame([row.values() for row in ({**dict.fromkeys(columns), **row} for row in rows.values())])
        return table.astype(object).set_axis(columns, axis=1).set_axis(pd.Index(list(rows), name="system"), axis=0)

    def headline(self) -> "pd.DataFrame":
        """The metrics that matter most, a row a system, the constant first and then the best.

        Returns:
            `skill` (1 - distance / distance of the constant; above 0 is nearer to the target than the same shares said to
            every question), `distance` (Jensen-Shannon, question by question), `agreement`, `Brier score`, `margin` (to the
            nearest other persona; above 0 is nearer to the target) and `position gap`.
        """
        every = self.to_pandas()
        table = every.reindex(columns=list(HEADLINE.values())).astype(float).set_axis(list(HEADLINE), axis=1)
        table["margin"] = every[self.margin].astype(float)
        table["position gap"] = [each.position_bias.gap if each.position_bias else None for each in self.systems]
        return table

    @property
    def margin(self) -> str:
        """The margin to look at: by question only where that distance is one to trust."""
        return f"{'question_js_distance' if self.compared_with == 'probabilities' else 'js_distance'}/margin"

    def to_dict(self) -> dict[str, Any]:
        """Everything but the rows, as results.json has it without its digests."""
        tree = to_json(self._record({}))
        del tree["sha256"]
        return dict(tree)

    def _record(self, digests: dict[str, str]) -> "ResultsRecord":
        return ResultsRecord(
            FORMAT,
            self.version,
            self.target,
            list(self.personas),
            self.names,
            self.shares,
            len(self.questions),
            self.kind,
            self.division,
            self.reference,
            self.compared_with,
            self.orders,
            {
                each.name: SystemRecord(
                    *(each.facts, each.statuses, each.metrics, each.intervals, each.position_bias, each.length_gap)
                )
                for each in self.systems
            },
            [ComparisonRecord(*each[:3], *each.result) for each in self.comparisons],
            digests,
        )

    def write(self, out: Path) -> list[Path]:
        """Write the five files into a folder, and return their paths.

        Each takes the place of an older one when it is whole, results.json last: it has the digests of both tables, which
        tell whether the files belong together.
        """
        from fairpp_hf.evaluation.results_table import notes, tables

        out.mkdir(parents=True, exist_ok=True)
        write_whole(out / QUESTIONS, lambda path: pq.write_table(_question_rows(self), path))
        write_whole(out / SCORES, lambda path: pq.write_table(_score_rows(self), path))
        write_whole(out / METRICS, lambda path: self.to_pandas().to_csv(path, lineterminator="\n"))
        write_whole(out / TABLES, lambda path: path.write_text(f"{tables(self)}\n{notes(self)}", encoding="utf-8"))
        text = json_text(self._record({name: _sha256(out / name) for name in (QUESTIONS, SCORES)}))
        write_whole(out / RESULTS, lambda path: path.write_text(text, encoding="utf-8"))
        return [out / name for name in (RESULTS, METRICS, TABLES, QUESTIONS, SCORES)]


# -- the form of results.json and positions.json, see `forms` ----------------------------------------------------------
# ruff: noqa: UP013

_METRICS: dict[Any, Any] = {"nearest_other": str | None, "worst_group_name/target": str | None, str: float | None}


class SystemRecord(NamedTuple):
    """What results.json has on a system."""

    facts: Annotated[dict[str, Any], {"kind": str}]
    statuses: dict[str, int] | None
    probabilities: Annotated[dict[str, Any], _METRICS]
    intervals_95: dict[str, Interval]
    position_bias: PositionBias | None
    length_gap: LengthGap | None


class ComparisonRecord(NamedTuple):
    """A `SystemComparison`; what is NaN is null."""

    first: str
    second: str
    metric: str
    difference: float | None
    interval: Interval
    p_value: float | None


class ResultsRecord(NamedTuple):
    """All of results.json."""

    format: int
    version: str
    target: str
    personas: list[str]
    names: dict[str, str]
    shares: dict[str, float | None]
    questions: int
    kind: Literal["questions", "scenarios"]
    division: str
    reference: str
    compared_with: Literal["probabilities", "answers"]
    orders: int
    systems: dict[str, SystemRecord]
    comparisons: list[ComparisonRecord]
    sha256: Annotated[dict[str, str], dict.fromkeys((QUESTIONS, SCORES), str)]


_Pair = tuple[float, float]
PlaceRecord = TypedDict("PlaceRecord", {"xy": _Pair, "ellipse_95": list[_Pair] | None})
MapRecord = TypedDict(
    "MapRecord", {"explained_variance": _Pair | None, "spread": _Pair | None, "axes": list[str | None] | None}
)


class PointRecord(TypedDict):
    """A point of positions.json."""

    name: str
    kind: Literal["persona", "majority", "baseline", "model"]
    region: str | None
    before: str | None
    pca: PlaceRecord | None
    ideal_point: PlaceRecord | None


class PositionsRecord(TypedDict):
    """What of positions.json is drawn."""

    questions: int
    division: str
    reference: str
    methods: dict[str, MapRecord | None]
    points: list[PointRecord]


def read_results(folder: Path) -> Results:
    """Read what `write_results` wrote, and positions.json where it is there.

    Args:
        folder: Folder that `fairpp evaluate --out` wrote.

    Raises:
        FileNotFoundError: One of the three files results.json, questions.parquet and scores.parquet is missing.
        ValueError: A file is damaged, has another format, or does not belong to the others.
    """
    for name in (RESULTS, QUESTIONS, SCORES):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"the folder must be one that `fairpp evaluate --out` has written; got no {name} at {folder}. "
                f"Run `fairpp evaluate --out {folder} ...` first."
            )
    record: ResultsRecord = _read_json(folder / RESULTS, FORMAT, "evaluate", ResultsRecord)
    check_name(f"the target of {folder / RESULTS}", record.target, record.names)
    for name in (QUESTIONS, SCORES):
        if (found := _sha256(folder / name)) != (digest := record.sha256[name]):
            raise ValueError(
                f"{name} must be the one that {RESULTS} was written with, of SHA-256 {digest}; got {found} at "
                f"{folder / name}. The folder is half-written: an evaluation was cut off in it, or is still under way. "
                "Run `fairpp evaluate` into this folder again."
            )
    positions = read_positions(folder / POSITIONS)
    try:
        questions, scores = pq.read_table(folder / QUESTIONS), pq.read_table(folder / SCORES)
        if not (len(questions) and record.systems):
            raise ValueError(f"{len(questions)} questions and {len(record.systems)} systems")
        answers = {persona: _codes(questions[ANSWER_PREFIX + persona]) for persona in record.names}
        known = None
        if record.compared_with == "probabilities":
            known = {persona: _shares(questions[PROBABILITY_PREFIX + persona]) for persona in record.names}
        same = ("target", "names", "shares", "reference", "division", "kind", "version")
        return Results(
            **{name: getattr(record, name) for name in same},
            questions=questions.select(list(QUESTION_FEATURES)),
            references=References(answers, known),
            systems=tuple(
                _read_system(name, system, scores, questions["question_id"]) for name, system in record.systems.items()
            ),
            comparisons=tuple(
                SystemComparison(*each[:3], Comparison(*cast(Any, each[3:]))) for each in record.comparisons
            ),
            path=folder,
            positions=positions,
        )
    except (KeyError, ValueError, pa.ArrowException) as error:
        raise ValueError(
            f"{QUESTIONS} and {SCORES} must be as `fairpp evaluate` writes them beside {RESULTS}; got {error} at {folder}. "
            "Run `fairpp evaluate` into this folder again."
        ) from error


def read_positions(file: Path) -> dict[str, Any] | None:
    """Read positions.json, as `fairpp position` writes it; None where there is no such file."""
    return _read_json(file, POSITIONS_FORMAT, "position", PositionsRecord) if file.is_file() else None


def _read_json(file: Path, version: int, command: str, form: Any) -> Any:
    again = f"Run `fairpp {command}` into this folder again."
    try:
        tree = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file.name} must be JSON; got {error} at {file}. {again}") from error
    found = tree.get("format") if isinstance(tree, dict) else None
    if found != version:
        raise ValueError(
            f"{file.name} must be of format {version}; got {found} at {file}. It was written by another version. {again}"
        )
    try:
        return from_json(tree, form)
    except ValueError as error:
        raise ValueError(f"{error} at {file}. {again}") from error


def _read_system(name: str, record: SystemRecord, scores: pa.Table, questions: pa.ChunkedArray) -> System:
    """One system of results.json with its rows of scores.parquet, which must be those of the questions in each order."""
    rows = scores.cast(SCORE_SCHEMA).filter(pc.equal(scores["system"], name))
    shape = (len(questions), len(rows) // len(questions))
    asked = [question for question in questions.to_pylist() for _ in range(shape[1])]
    if shape[1] not in (1, 2) or rows["question_id"].to_pylist() != asked:
        raise ValueError(
            f"{len(rows)} rows of the system {name!r} that are not those of the {len(questions)} questions"
        )
    if unknown := set(rows["status"].to_pylist()) - set(STATUSES):
        raise ValueError(f"the status {unknown.pop()!r} of the system {name!r}")
    by_order = _shares(rows["probabilities"]).reshape(*shape, -1)
    triples = {
        column: _triples(rows[column]).reshape(*shape, -1)
        for column in ("logprobs", "letter_logprobs", "tokens")
        if rows[column].null_count < len(rows)
    }
    hashes = np.array(rows["prompt_hash"].to_pylist(), dtype=object)
    return System(
        scores=SystemScores(
            name,
            by_order.mean(axis=1),
            by_order,
            np.array(rows["status"].to_pylist()).reshape(shape),
            dict(record.facts),
            _codes(rows["answer"]).reshape(shape),
            **triples,
            prompt_hashes=None if None in hashes else hashes.astype(np.str_).reshape(shape),
        ),
        metrics=record.probabilities,
        intervals=record.intervals_95,
        position_bias=record.position_bias,
        length_gap=record.length_gap,
    )


def _question_rows(results: Results) -> pa.Table:
    """The columns of `QUESTION_FEATURES`, and a column of answers a persona, int8: 0..2, -1 for none.

    Where systems are compared with option probabilities, a column of these a persona as well: lists of 3, null for none.
    """
    columns = {name: results.questions[name] for name in QUESTION_FEATURES}
    for persona, answers in results.answers.items():
        columns[ANSWER_PREFIX + persona] = pa.chunked_array([pa.array(np.asarray(answers), pa.int8())])
    if results.references.are_probabilities:
        for persona, rows in results.references.items():
            columns[PROBABILITY_PREFIX + persona] = pa.chunked_array([_lists(rows)])
    return pa.table(columns)


def _score_rows(results: Results) -> pa.Table:
    """The table of `SCORE_SCHEMA`, system by system, question by question, the order as written first."""
    tables = []
    for system in results.systems:
        scores = system.scores
        count, orders, _ = scores.by_order.shape
        total = count * orders
        columns: dict[str, Any] = {
            "system": pa.repeat(scores.name, total),
            "question_id": results.questions["question_id"].take(pa.array(np.repeat(np.arange(count), orders))),
            "order": pa.array(np.tile(np.arange(orders, dtype=np.int8), count)),
            "probabilities": scores.by_order,
            "logprobs": scores.logprobs,
            "letter_logprobs": scores.letter_logprobs,
            "tokens": scores.tokens,
            "answer": pa.array(scores.answers.ravel(), pa.int8()),
            "status": scores.statuses.ravel().tolist(),
            "prompt_hash": None if scores.prompt_hashes is None else scores.prompt_hashes.ravel().tolist(),
            "template_hash": pa.repeat(pa.scalar(scores.facts.get("template_hash"), pa.string()), total),
        }
        for name, values in columns.items():
            if values is None:
                columns[name] = pa.nulls(total, SCORE_SCHEMA.field(name).type)
            elif isinstance(values, np.ndarray):
                columns[name] = _lists(values.reshape(total, -1))
        tables.append(pa.table(columns, schema=SCORE_SCHEMA))
    return pa.concat_tables(tables)


def _lists(values: NDArray[np.float64]) -> pa.Array:
    """Rows as lists; null for a row with NaN."""
    return pa.array([None if np.isnan(row).any() else row for row in values], _TRIPLE)


def _codes(column: pa.ChunkedArray) -> NDArray[np.int8]:
    """Answers as numbers, (n,), 0..2 or -1."""
    answers = column.cast(pa.int8())
    if answers.null_count or not set(answers.unique().to_pylist()) <= {NO_ANSWER, *range(len(OPTION_LETTERS))}:
        raise ValueError(f"answers that are not all -1 to 2: {answers.unique().to_pylist()}")
    return answers.to_numpy()


def _shares(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """Lists of probabilities as rows, (n, options); NaN for null."""
    return option_probabilities(_triples(column), "lists")


def _triples(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """Lists as rows (n, options); NaN for null."""
    none = [np.nan] * len(OPTION_LETTERS)
    rows = [none if row is None else row for row in column.cast(_TRIPLE).to_pylist()]
    return np.array(rows, dtype=np.float64).reshape(len(column), len(none))


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
