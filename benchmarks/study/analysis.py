"""From the results of cells to tables: means, paired differences, and their intervals.

A seed draws anew all that is random in answers, questions and order; small model, personas' parameters, the split and the
held-out topic stay. So, for these, the seeds are the independent repetitions, and an interval is Student's over them, of an
average over targets where there are several. Methods of a seed and target have all of that in common, so that they are
compared pair by pair.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from cells import StudySettings
from numpy.typing import NDArray
from results import read_lines
from scipy import stats

LEVEL = 0.95

MEASURES = {
    "question_distance": "distance, question by question",
    "marginal_distance": "distance of marginals",
    "question_margin": "margin, question by question",
    "marginal_margin": "margin of marginals",
    "agreement": "agreement",
    "agreement_where_apart": "agreement where apart",
    "question_distance_where_apart": "distance where apart",
    "brier": "Brier score",
    "worst_group_distance": "worst group's distance",
    "chosen_logprob": "log-probability of chosen",
    "on_an_option": "probability on an option",
    "position_gap": "position gap",
}
"""What is measured on questions, by the name in the results."""

LESS_IS_BETTER = (
    "question_distance",
    "marginal_distance",
    "question_distance_where_apart",
    "brier",
    "worst_group_distance",
    "position_gap",
)


class Estimate(NamedTuple):
    """A mean over seeds, and the interval that holds it."""

    mean: float
    low: float
    high: float
    seeds: int

    def __str__(self) -> str:
        """Such as `0.123 [0.110, 0.136]`."""
        if self.seeds < 2:
            return f"{self.mean:.3f} (one seed)"
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of one number a seed, with Student's interval.

    Args:
        values: at least one.
    """
    found = np.asarray(values, dtype=np.float64)
    mean, count = float(found.mean()), len(found)
    if count < 2:
        return Estimate(mean, float("-inf"), float("inf"), count)
    reach = float(stats.t.ppf((1 + LEVEL) / 2, count - 1) * found.std(ddof=1) / np.sqrt(count))
    return Estimate(mean, mean - reach, mean + reach, count)


def table_of(settings: StudySettings, lines: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One row a cell of the configuration that has a result.

    Columns: `part`, `value`, `target`, `method`, `seed`; `test/...`, `topic/...` for each measure and `test_ceiling/...`,
    `topic_ceiling/...` for what knowing the truth would give; `ordinary_accuracy`, `computed_tokens`, `effective_share`;
    `curve`.
    """
    by_digest = {line["digest"]: line["result"] for line in lines}
    rows = []
    for cell in settings.cells():
        result = by_digest.get(settings.digest(cell))
        if result is None:
            continue
        row = {
            name: value for name, value in asdict(cell).items() if name in ("part", "value", "target", "method", "seed")
        }
        for name, value in result.items():
            if isinstance(value, dict):
                row |= {f"{name}/{measure}": number for measure, number in value.items()}
            else:
                row[name] = value
        rows.append(row)
    return pd.DataFrame(rows)


def whole_seeds(rows: pd.DataFrame, cells: int) -> pd.DataFrame:
    """The rows of seeds of which nothing is missing, so that means compare like with like.

    Args:
        rows: of one part.
        cells: of a seed.
    """
    return rows[rows.groupby("seed")["seed"].transform("size") == cells]


def level_of(rows: pd.DataFrame, method: str, column: str) -> Estimate:
    """A method's number, the average over targets of each seed.

    Args:
        rows: of `table_of`, of one part and value.
        method: its name.
        column: of `rows`.
    """
    own = rows[rows["method"] == method]
    return estimate(own.groupby("seed")[column].mean().to_list())


def difference(rows: pd.DataFrame, method: str, other: str, column: str) -> Estimate:
    """A method's number less another's, pair by pair, the average over targets of each seed."""
    wide = rows[rows["method"].isin((method, other))].pivot(index=["seed", "target"], columns="method", values=column)
    return estimate((wide[method] - wide[other]).groupby("seed").mean().to_list())


def with_baseline(rows: pd.DataFrame, grid: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """A part of the study with the method that others are compared with, at each of its values.

    What a weighting is varied by does not touch a method without weights: there the grid has its results.

    Args:
        rows: of one part.
        grid: rows of the grid.
        baseline: name of the method.

    Returns:
        `rows`, and the grid's of the baseline for the same targets and seeds where `rows` have none.
    """
    if baseline in set(rows["method"]):
        return rows
    same = grid["target"].isin(rows["target"]) & grid["seed"].isin(rows["seed"])
    own = grid[same & (grid["method"] == baseline)]
    return pd.concat([rows, *(own.assign(value=value) for value in rows["value"].unique())], ignore_index=True)


def tokens_to_end_of(rows: pd.DataFrame, method: str, other: str, measure: str) -> list[float | None]:
    """Tokens that a method computed until it was, and stayed, where another one ends, by the mean over targets of a measure.

    Args:
        rows: of the grid, of methods with curves.
        method: its name.
        other: the other's.
        measure: without its side.

    Returns:
        One number a seed; None where it was never there.
    """
    sign = 1 if measure in LESS_IS_BETTER else -1
    found: list[float | None] = []
    for seed in sorted(rows["seed"].unique()):
        shares, values, tokens = mean_curve(rows[rows["seed"] == seed], method, measure)
        goal = mean_curve(rows[rows["seed"] == seed], other, measure)[1][-1]
        short = np.flatnonzero(sign * values > sign * goal + 1e-12)
        first = short[-1] + 1 if len(short) else 0
        found.append(float(shares[first] * tokens) if first < len(values) else None)
    return found


def mean_curve(rows: pd.DataFrame, method: str, measure: str) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """A method's curve, the mean over targets: shares of the training (k,), values (k,), and tokens of the whole.

    Args:
        rows: of one seed.
        method: its name.
        measure: without its side.
    """
    own = rows[rows["method"] == method]
    shares = np.array([[point["share"] for point in curve] for curve in own["curve"]])
    values = np.array([[point[measure] for point in curve] for curve in own["curve"]])
    return shares.mean(axis=0), values.mean(axis=0), float(own["computed_tokens"].mean())


class Study:
    """A configuration and its results."""

    def __init__(self, settings: StudySettings, results: Path) -> None:
        self.settings = settings
        lines = read_lines(results / f"{settings.name}.jsonl")
        self.rows = table_of(settings, lines)
        self.lines = lines
        self.grid = self.part("grid")

    def part(self, name: str) -> pd.DataFrame:
        """The results of a part, of the seeds that are whole."""
        if self.rows.empty:
            return self.rows
        cells = sum(cell.part == name for cell in self.settings.cells()) // len(self.settings.seeds)
        return whole_seeds(self.rows[self.rows["part"] == name], cells)

    def others(self, baseline: str) -> list[str]:
        """The methods of the grid that have results, but for one."""
        there = set() if self.grid.empty else set(self.grid["method"])
        return [method for method in self.settings.grid["methods"] if method in there and method != baseline]
