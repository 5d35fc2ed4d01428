"""Do the regions of `fairpp position` hold what they promise? Against survey respondents, whose true places are known.

    python benchmarks/position_coverage.py [--repetitions 100] [--limits 100 200 1000] [--resamples 80] [--processes 2]

A repetition draws a test split (a fifth of the 28,420 questions, both forms of a question together) and, for each limit,
that many questions of it; then answers from the true probabilities, and both maps from the answers. Truth is the place by
the probabilities over all 28,420 questions, on a map with the same cells. A region should hold it in 95% of repetitions.

Respondents: the seven personas of one set; as models, personas of another set, who answer once (as models asked in text
do), with every answer, with half and with a quarter of them, or by their probabilities (as models that are scored do).
Prints a table; the result is kept in benchmarks/results/. About 4 minutes on two idle cores.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: processes share the cores already

import argparse
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from _record import environment, keep
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from placed_world import ANCHORS, MODELS, drawn, held, respondents, true_points, true_probabilities

from fairpp_hf.evaluation.positioning import position_respondents
from fairpp_hf.evaluation.positioning.positions import METHODS
from fairpp_hf.questions import load_questions

PERSONAS = 7
ANSWERED = {"model, text": 1.0, "model, half of the answers": 0.5, "model, a quarter": 0.25, "model, scored": 1.0}
"""Kind of model to the share of the questions that it answers."""
KINDS = ("persona", *ANSWERED)
TEST_SHARE = 0.2


class Sample(NamedTuple):
    """What one repetition is of."""

    limit: int | None
    seed: int
    resamples: int


class Found(NamedTuple):
    """Of one repetition."""

    cells: dict[str, tuple[str, ...]]
    """Method to what its cells are divided by."""
    held: dict[tuple[str, str], NDArray[np.float64]]
    """Method and kind of respondent to 1 where a region held the truth, 0 where not, NaN where there was no place."""


@cache
def truth() -> NDArray[np.float64]:
    """(r, 28,420, 3): the personas, then three models of each kind."""
    models = true_probabilities(MODELS)[::2][:3]
    return np.concatenate([true_probabilities(ANCHORS), *[models] * len(ANSWERED)])


def kind_of_rows() -> NDArray[np.str_]:
    """Of `KINDS`, by row of the truth."""
    return np.array(["persona"] * PERSONAS + [kind for kind in ANSWERED for _ in range(3)])


@cache
def units() -> NDArray[np.int64]:
    """Number of each question's (problem, group, dimension), (28,420,)."""
    columns = (load_questions()[name].to_pylist() for name in ("problem", "group", "dimension"))
    number: dict[tuple[Any, ...], int] = {}
    return np.array([number.setdefault(key, len(number)) for key in zip(*columns, strict=True)])


@cache
def points(method: str, by: tuple[str, ...]) -> NDArray[np.float64]:
    """The true places, (r, 2)."""
    return true_points(truth(), PERSONAS, method, by)


def repetition(sample: Sample) -> Found:
    """Draw questions and answers, place everybody, and compare with the truth."""
    rng = np.random.default_rng(sample.seed)
    count = int(units().max()) + 1
    is_test = np.zeros(count, dtype=bool)
    is_test[rng.permutation(count)[: round(TEST_SHARE * count)]] = True
    rows = np.flatnonzero(is_test[units()])
    if sample.limit is not None:
        rows = np.sort(rng.choice(rows, sample.limit, replace=False))
    of_rows = truth()[:, rows]
    answers = np.where((kind_of_rows() == "model, scored")[:, None, None], of_rows, drawn(of_rows, rng))
    answered = np.array([ANSWERED.get(kind, 1.0) for kind in kind_of_rows()])
    answers[rng.random(answers.shape[:2]) >= answered[:, None]] = np.nan
    found = position_respondents(
        respondents(answers, PERSONAS),
        load_questions().take(pa.array(rows)),
        reference="survey",
        division="drawn",
        resamples=sample.resamples,
        seed=sample.seed,
    )
    cells = {method: found.axes[method].by for method in METHODS}
    inside = {
        method: held([point.places[method] for point in found.points], points(method, cells[method]), PERSONAS)
        for method in METHODS
    }
    return Found(
        cells, {(method, kind): inside[method][kind_of_rows() == kind] for method in METHODS for kind in KINDS}
    )


def main() -> None:
    """Repeat, count, print, and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=100)
    parser.add_argument("--limits", type=int, nargs="*", default=[100, 200, 1000])
    parser.add_argument("--resamples", type=int, default=80)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    started = time.perf_counter()
    settings = []
    print(f"{'questions':>10}  {'method':<11}  {'respondent':<28}{'held':>6}  {'placed':>6}  cells")
    with ProcessPoolExecutor(arguments.processes) as pool:
        for limit in (*arguments.limits, None):
            samples = [Sample(limit, seed, arguments.resamples) for seed in range(arguments.repetitions)]
            worlds = list(pool.map(repetition, samples))
            questions = "test split" if limit is None else limit
            for method in METHODS:
                cells = Counter(" and ".join(world.cells[method]) or "one" for world in worlds)
                for kind in KINDS:
                    inside = np.stack([world.held[method, kind] for world in worlds])
                    placed = ~np.isnan(inside)
                    share = float(inside[placed].mean()) if placed.any() else None
                    settings.append(
                        {
                            **{"questions": questions, "method": method, "respondent": kind, "held": share},
                            **{"placed": float(placed.mean()), "cells": dict(cells)},
                        }
                    )
                    said = "-" if share is None else f"{share:.3f}"
                    print(
                        f"{questions:>10}  {method:<11}  {kind:<28}{said:>6}  {placed.mean():>6.2f}  {dict(cells)}",
                        flush=True,
                    )
    setting = vars(arguments) | {"level": 0.95, "seconds": time.perf_counter() - started}
    keep("position_coverage", setting | {"settings": settings} | environment("numpy", "scipy"))


if __name__ == "__main__":
    main()
