"""From the results of cells to tables: means, paired differences, and their intervals.

A seed draws anew all that is random in answers, questions and order; small model, personas' parameters, the split and what
is held out stay. So, for these, the seeds are the independent repetitions, and an interval is Student's over them, of an
average over targets where there are several. Methods of a seed and target have all of that in common, so that they are
compared pair by pair.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from cells import StudySettings
from results import read_lines
from scipy import stats

LEVEL = 0.95

MEASURES = {
    "question_distance": "distance",
    "skill": "skill",
    "question_margin": "margin",
    "marginal_distance": "distance of marginals",
    "agreement": "agreement",
    "brier": "Brier score",
    "worst_group_distance": "worst group's distance",
    "position_gap": "position gap",
    "on_an_option": "probability on an option",
}
"""What is measured on questions, by the name in the results. Distance and margin are question by question."""

LESS_IS_BETTER = ("question_distance", "marginal_distance", "brier", "worst_group_distance", "position_gap")


class Estimate(NamedTuple):
    """A mean over seeds, and the interval that holds it."""

    mean: float
    low: float
    high: float
    seeds: int

    def __str__(self) -> str:
        """Such as `0.123 ± 0.013`."""
        if self.seeds < 2:
            return f"{self.mean:.3f}"
        return f"{self.mean:.3f} ± {self.high - self.mean:.3f}"


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

    Columns: `part`, `value`, `target`, `method`, `seed`; `test/...`, `topic/...` and `group/...` for each measure;
    `ordinary_accuracy`, `computed_tokens`, `seconds`.
    """
    by_digest = {line["digest"]: line["result"] for line in lines}
    rows = []
    for cell in settings.cells():
        result = by_digest.get(settings.digest(cell))
        if result is None:
            continue
        row: dict[str, Any] = {name: getattr(cell, name) for name in ("part", "value", "target", "method", "seed")}
        row["visits"] = cell.budget.visits
        for name, value in result.items():
            if isinstance(value, dict):
                row |= {f"{name}/{measure}": number for measure, number in value.items()}
            else:
                row[name] = value
        rows.append(row)
    return with_skill(pd.DataFrame(rows))


def with_skill(rows: pd.DataFrame) -> pd.DataFrame:
    """Add `.../skill`: 1 - distance / distance of the constant, of the same target, seed and part (or the grid's)."""
    if rows.empty or "constant" not in set(rows["method"]):
        return rows
    constants = rows[rows["method"] == "constant"].groupby(["target", "seed"])
    for side in ("test", "topic", "group"):
        distance = f"{side}/question_distance"
        of_constant = constants[distance].first().rename("constant")
        joined = rows.join(of_constant, on=["target", "seed"])
        rows[f"{side}/skill"] = 1 - joined[distance] / joined["constant"]
    return rows


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


class Study:
    """A configuration and its results."""

    def __init__(self, settings: StudySettings, results: Path) -> None:
        self.settings = settings
        self.lines = read_lines(results / f"{settings.name}.jsonl")
        self.rows = table_of(settings, self.lines)
        self.grid = self.part("grid")

    def part(self, name: str) -> pd.DataFrame:
        """The results of a part, of the seeds that are whole."""
        if self.rows.empty:
            return self.rows
        own = [cell for cell in self.settings.cells() if cell.part == name]
        cells = len(own) // len({cell.seed for cell in own})
        return whole_seeds(self.rows[self.rows["part"] == name], cells)
