"""Do intervals and p-values keep their promises? Against the survey respondent, whose option probabilities are the truth.

    python benchmarks/interval_coverage.py [--repetitions 200] [--clusters 300 ...] [--resamples 400] [--processes 2]

A repetition draws clusters of questions from all 28,420, with replacement, and answers from the personas' probabilities;
each metric's truth is its value at the probabilities over all questions (tests/survey_worlds.py). Models: the target's own
probabilities, three mixtures of it with other personas, another persona. Answers: both sides drawn (with 5% of the
predictions missing), references drawn, both as probabilities. An interval should hold the truth in 95% of repetitions; what
falls short of that by more than 3.3 binomial standard errors is listed. The size of the paired test is the share of
p < 0.05 between two systems that are equal in truth: two draws from the same probabilities, and two different models whose
agreement with the target is the same. Prints a table; the result is kept in benchmarks/results/.
"""

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from _record import environment, keep
from scipy.optimize import brentq

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from survey_worlds import TARGET, Population, draw_answers

from fairpp_hf.evaluation.intervals import metric_intervals
from fairpp_hf.evaluation.paired import paired_comparison

NEAR, MIDDLE, FAR = "backbone_conservatives", "disengaged_traditionalists", "progressive_activists"
MODELS = {
    "the target itself": {TARGET: 1.0},
    "near the target": {TARGET: 0.9, FAR: 0.1},
    "between two": {TARGET: 0.5, NEAR: 0.5},
    "of everything": {TARGET: 0.4, NEAR: 0.2, MIDDLE: 0.2, FAR: 0.2},
    "another persona": {FAR: 1.0},
}
ANSWERS: dict[str, dict[str, Any]] = {
    "both drawn": {"drawn_predictions": True, "unanswered": 0.05},
    "references drawn": {},
    "probabilities": {"drawn_references": False},
}
LEVEL = 0.95


@cache
def population() -> Population:
    """All questions, and four personas: the target, its two nearest, and the farthest."""
    return Population((TARGET, NEAR, MIDDLE, FAR))


def coverage(task: tuple[str, str, int, int, int]) -> dict[str, tuple[int, int]]:
    """Of one model, kind of answers and number of clusters: how often each metric's interval held the truth, of how many."""
    model_name, kind, clusters, repetitions, resamples = task
    model = population().blend(MODELS[model_name])
    truth = population().truth(model, **ANSWERS[kind])
    held: dict[str, list[bool]] = {}
    for seed in range(repetitions):
        world = population().draw(model, clusters, np.random.default_rng(seed), **ANSWERS[kind])
        intervals = metric_intervals(
            world.predictions, world.references, TARGET, world.questions, level=LEVEL, resamples=resamples, seed=seed
        )
        for name, (low, high) in intervals.items():
            # The last digits of a truth of exactly 0 are no reason to miss it.
            held.setdefault(name, []).append(low - 1e-9 <= truth[name] <= high + 1e-9)
    return {name: (sum(times), len(times)) for name, times in held.items()}


def size(task: tuple[str, int, int, int]) -> dict[str, float]:
    """Share of p < 0.05 between systems that are equal in truth, by metric."""
    kind, clusters, repetitions, resamples = task
    first = second = population().blend(MODELS["between two"])
    if kind == "equal agreement":
        # Another mixture with the same mean of sum p q, so that agreement alone is equal.
        second = population().blend({TARGET: (share := same_agreement()), FAR: 1 - share})
    significant: dict[str, int] = {}
    for seed in range(repetitions):
        rng = np.random.default_rng(seed)
        world = population().draw(first, clusters, rng)
        systems = first[world.rows], second[world.rows]
        if kind == "same probabilities":
            systems = tuple(np.eye(3)[draw_answers(rows, rng)] for rows in systems)
        compared = paired_comparison(
            *systems, world.references, TARGET, world.questions, resamples=resamples, seed=seed
        )
        for name, comparison in compared.items():
            if kind == "same probabilities" or name == "agreement/target":
                significant[name] = significant.get(name, 0) + (comparison.p_value < 1 - LEVEL)
    return {name: count / repetitions for name, count in significant.items()}


def same_agreement() -> float:
    """The target's share in a mixture with the farthest persona that agrees with the target as "between two" does."""
    wanted = population().truth(population().blend(MODELS["between two"]))["agreement/target"]

    def surplus(share: float) -> float:
        return population().truth(population().blend({TARGET: share, FAR: 1 - share}))["agreement/target"] - wanted

    return float(brentq(surplus, 0.2, 1.0, xtol=1e-6))


def main() -> None:
    """Repeat, count, print, and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--clusters", type=int, nargs="+", default=[300])
    parser.add_argument("--resamples", type=int, default=400)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    counts = (arguments.repetitions, arguments.resamples)
    tasks = [(*setting, *counts) for setting in product(MODELS, ANSWERS, arguments.clusters)]
    sizes = [(*setting, *counts) for setting in product(("same probabilities", "equal agreement"), arguments.clusters)]
    started = time.perf_counter()
    with ProcessPoolExecutor(arguments.processes) as pool:
        held, found_sizes = list(pool.map(coverage, tasks)), list(pool.map(size, sizes))

    cells = [
        {
            "model": task[0],
            "answers": task[1],
            "clusters": task[2],
            "metric": name,
            "coverage": times / count,
            "of": count,
        }
        for task, result in zip(tasks, held, strict=True)
        for name, (times, count) in result.items()
    ]
    band = 3.3 * np.sqrt(LEVEL * (1 - LEVEL))
    short = [cell for cell in cells if cell["coverage"] < LEVEL - band / np.sqrt(cell["of"])]
    metrics = {}
    print(f"{'metric':<50}  {'mean':>6}  {'lowest':>6}  {'of':>4}")
    for name in dict.fromkeys(cell["metric"].partition("/")[0] + ending(cell["metric"]) for cell in cells):
        shares = [
            cell["coverage"] for cell in cells if cell["metric"].partition("/")[0] + ending(cell["metric"]) == name
        ]
        metrics[name] = {"mean_coverage": float(np.mean(shares)), "lowest": min(shares), "settings": len(shares)}
        print(f"{name:<50}  {np.mean(shares):>6.3f}  {min(shares):>6.3f}  {len(shares):>4}")
    print(f"Short of {LEVEL} by more than 3.3 standard errors: {len(short)} of {len(cells)}")
    for cell in short:
        print(f"  {cell}")
    paired = [
        {"null": task[0], "clusters": task[1], "share_of_p_below_0.05": result}
        for task, result in zip(sizes, found_sizes, strict=True)
    ]
    for entry in paired:
        print(entry)
    setting = vars(arguments) | {"level": LEVEL, "seconds": time.perf_counter() - started}
    found = {"metrics": metrics, "short_of_it": short, "settings": len(cells), "paired_tests": paired}
    keep("interval_coverage", setting | found | environment("numpy", "scipy"))


def ending(metric: str) -> str:
    """The target's metrics apart from those of other personas, which are put together."""
    end = metric.partition("/")[2]
    if not end:
        return ""
    return f"/{end}" if end in ("target", "margin", "nearest_other") else "/<persona>"


if __name__ == "__main__":
    main()
