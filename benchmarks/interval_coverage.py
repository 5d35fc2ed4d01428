"""Do intervals and p-values keep their promises? Against the survey respondent, whose option probabilities are the truth.

    python benchmarks/interval_coverage.py [--repetitions 200] [--clusters 30 100 300] [--questions 50 200 1000]

A repetition draws clusters of ten questions from all 28,420, with replacement, or single questions, as `--limit` does, and
answers from the personas' probabilities; each metric's truth is its value at the probabilities over all questions
(tests/survey_worlds.py). Models: the target's own probabilities, two mixtures of it with other personas, another persona.
Answers: both sides drawn (with 5% of the predictions missing), references drawn, both as probabilities. An interval should
hold the truth in 95% of repetitions; what falls short of that by more than 3.3 binomial standard errors is listed. So are
intervals of differences between five pairs of different systems. The size of the paired test is the share of p < 0.05
between two systems that are equal in truth: two draws from the same probabilities, and two different models whose agreement
with the target is the same. With 200 resamples by default, where users have 1000, to have the rest of the time for
repetitions. Prints tables; the result is kept in benchmarks/results/. Every setting has seeds of its own.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from _record import environment, keep
from scipy.optimize import brentq

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from survey_worlds import TARGET, Population, World, draw_answers

from fairpp_hf.statistics.bootstrap import LEVEL
from fairpp_hf.statistics.intervals import metric_intervals
from fairpp_hf.statistics.paired import paired_comparison

NEAR, MIDDLE, FAR = "backbone_conservatives", "disengaged_traditionalists", "progressive_activists"
MODELS = {
    "the target itself": {TARGET: 1.0},
    "near the target": {TARGET: 0.9, FAR: 0.1},
    "between two": {TARGET: 0.5, NEAR: 0.5},
    "another persona": {FAR: 1.0},
}
PAIRS = {
    "the target itself, near the target": ("the target itself", "near the target"),
    "the target itself, between two": ("the target itself", "between two"),
    "near the target, between two": ("near the target", "between two"),
    "the target itself, another persona": ("the target itself", "another persona"),
    "another persona, between two": ("another persona", "between two"),
}
NULLS = ("same probabilities", "equal agreement")
ANSWERS: dict[str, dict[str, Any]] = {
    "both drawn": {"drawn_predictions": True, "unanswered": 0.05},
    "references drawn": {},
    "probabilities": {"drawn_references": False},
}


class Setting(NamedTuple):
    """What the repetitions of a task have in common."""

    number: int
    """Of the task, so that no two have the same seeds."""
    of: str
    """A model, a pair, or what two systems have in common."""
    answers: str
    sampling: str
    """`clusters` or `questions`."""
    size: int
    repetitions: int
    resamples: int

    def draw(self, model: np.ndarray, repetition: int) -> tuple[World, np.random.Generator]:
        rng = np.random.default_rng([self.number, repetition])
        singly = self.sampling == "questions"
        return population().draw(model, self.size, rng, single_questions=singly, **ANSWERS[self.answers]), rng


@cache
def population() -> Population:
    """All questions, and four personas: the target, its two nearest, and the farthest."""
    return Population((TARGET, NEAR, MIDDLE, FAR))


@cache
def model_and_truth(name: str, answers: str) -> tuple[np.ndarray, dict[str, Any]]:
    model = population().blend(MODELS[name])
    return model, population().truth(model, **ANSWERS[answers])


def holds(low: float, high: float, truth: float) -> bool:
    """The last digits of a truth of exactly 0 are no reason to miss it."""
    return low - 1e-9 <= truth <= high + 1e-9


def coverage(setting: Setting) -> dict[str, tuple[int, int]]:
    """Of one model: how often each metric's interval held the truth, of how many."""
    model, truth = model_and_truth(setting.of, setting.answers)
    held: dict[str, list[bool]] = {}
    for repetition in range(setting.repetitions):
        world, _ = setting.draw(model, repetition)
        intervals = metric_intervals(
            world.predictions,
            world.references,
            TARGET,
            world.questions,
            resamples=setting.resamples,
            seed=repetition,
        )

        for name, interval in intervals.items():
            held.setdefault(name, []).append(holds(*interval, truth[name]))
    return {name: (sum(times), len(times)) for name, times in held.items()}


def paired_coverage(setting: Setting) -> dict[str, tuple[int, int]]:
    """Of two different models: how often each difference's interval held the truth, of how many."""
    (first, of_first), (second, of_second) = (model_and_truth(name, setting.answers) for name in PAIRS[setting.of])
    held: dict[str, list[bool]] = {}
    for repetition in range(setting.repetitions):
        world, _ = setting.draw(first, repetition)
        compared = paired_comparison(
            first[world.rows],
            second[world.rows],
            world.references,
            TARGET,
            world.questions,
            resamples=setting.resamples,
            seed=repetition,
        )
        for name, comparison in compared.items():
            truth = of_first[name] - of_second[name]
            held.setdefault(name, []).append(holds(*comparison.interval, truth))
    return {name: (sum(times), len(times)) for name, times in held.items()}


def size(setting: Setting) -> dict[str, tuple[int, int]]:
    """How often p < 0.05 between systems that are equal in truth, of how many, by metric."""
    first = second = population().blend(MODELS["between two"])
    if setting.of == "equal agreement":
        # Another mixture with the same mean of sum p q, so that agreement alone is equal.
        second = population().blend({TARGET: (share := same_agreement()), FAR: 1 - share})
    significant: dict[str, list[bool]] = {}
    for repetition in range(setting.repetitions):
        world, rng = setting.draw(first, repetition)
        systems = first[world.rows], second[world.rows]
        if setting.of == "same probabilities":
            systems = tuple(np.eye(3)[draw_answers(rows, rng)] for rows in systems)
        compared = paired_comparison(
            *systems, world.references, TARGET, world.questions, resamples=setting.resamples, seed=repetition
        )
        for name, comparison in compared.items():
            if setting.of == "same probabilities" or name == "agreement/target":
                significant.setdefault(name, []).append(comparison.p_value < 1 - LEVEL)
    return {name: (sum(times), len(times)) for name, times in significant.items()}


@cache
def same_agreement() -> float:
    """The target's share in a mixture with the farthest persona that agrees with the target as "between two" does."""
    wanted = population().truth(population().blend(MODELS["between two"]))["agreement/target"]

    def surplus(share: float) -> float:
        return population().truth(population().blend({TARGET: share, FAR: 1 - share}))["agreement/target"] - wanted

    return float(brentq(surplus, 0.2, 1.0, xtol=1e-6))


def main() -> None:
    """Repeat, count, print, and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=200, help="of each setting; 50 for a first look")
    parser.add_argument("--clusters", type=int, nargs="*", default=[30, 100, 300], help="of ten questions")
    parser.add_argument("--questions", type=int, nargs="*", default=[50, 200, 1000], help="drawn singly")
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    samples = [
        *(("clusters", count) for count in arguments.clusters),
        *(("questions", count) for count in arguments.questions),
    ]
    tasks: list[tuple[Callable[[Setting], dict[str, tuple[int, int]]], Setting]] = []
    for task, names, kinds in (
        (coverage, MODELS, ANSWERS),
        (paired_coverage, PAIRS, ["references drawn"]),
        (size, NULLS, ["references drawn"]),
    ):
        for name, kind, sample in product(names, kinds, samples):
            setting = Setting(len(tasks), name, kind, *sample, arguments.repetitions, arguments.resamples)
            tasks.append((task, setting))
    started = time.perf_counter()
    with ProcessPoolExecutor(arguments.processes) as pool:
        results = [pool.submit(*task) for task in tasks]
        counted = [(task, setting, result.result()) for (task, setting), result in zip(tasks, results, strict=True)]

    found: dict[str, Any] = {}
    for heading, task in (("intervals", coverage), ("paired_intervals", paired_coverage), ("p_values", size)):
        cells = [
            {"of": setting.of, "answers": setting.answers, "sample": f"{setting.size} {setting.sampling}"}
            | {"metric": name, "share": times / count, "repetitions": count}
            for of_task, setting, result in counted
            if of_task is task
            for name, (times, count) in result.items()
        ]
        found[heading] = summary(heading, cells, [f"{count} {sampling}" for sampling, count in samples])
    setting = vars(arguments) | {"level": LEVEL, "seconds": time.perf_counter() - started}
    keep("interval_coverage", setting | found | environment("numpy", "scipy"))


def summary(heading: str, cells: list[dict[str, Any]], samples: list[str]) -> dict[str, Any]:
    """Mean and lowest (of p-values: highest) share by metric and sample, printed; and what is off by more than chance."""
    is_size = heading == "p_values"
    promised = 1 - LEVEL if is_size else LEVEL
    worst: Callable[[Iterable[float]], float] = max if is_size else min
    print(f"\n{heading}: promised {promised:.2f}; mean, and {worst.__name__} of settings")
    print(f"{'metric':<40}" + "".join(f"{sample:>16}" for sample in samples))
    shares: dict[str, dict[str, list[float]]] = {}
    for cell in cells:
        name = cell["metric"].partition("/")[0] + ending(cell["metric"])
        shares.setdefault(name, {}).setdefault(cell["sample"], []).append(cell["share"])
    table = {}
    for name, by_sample in shares.items():
        table[name] = {
            sample: {"mean": float(np.mean(found)), worst.__name__: worst(found), "settings": len(found)}
            for sample, found in by_sample.items()
        }
        entries = (table[name].get(sample) for sample in samples)
        print(
            f"{name:<40}"
            + "".join(
                f"{entry['mean']:>9.3f} {entry[worst.__name__]:>6.3f}" if entry else " " * 16 for entry in entries
            )
        )
    error = np.sqrt(LEVEL * (1 - LEVEL))
    off = [
        cell
        for cell in cells
        if (cell["share"] - promised) * (1 if is_size else -1) > 3.3 * error / np.sqrt(cell["repetitions"])
    ]
    print(f"Off by more than 3.3 standard errors: {len(off)} of {len(cells)}")
    for cell in off:
        print(f"  {cell}")
    return {"metrics": table, "off": off, "cells": len(cells)}


def ending(metric: str) -> str:
    """The target's metrics apart from those of other personas, which are put together."""
    end = metric.partition("/")[2]
    if not end:
        return ""
    return f"/{end}" if end in ("target", "margin", "nearest_other") else "/<persona>"


if __name__ == "__main__":
    main()
