"""How long do the tiers and weights of ten million rows take, in how much memory, against row-wise pandas?

    python benchmarks/weighting_speed.py [--rows 10000000] [--sample 20000] [--repeats 3]

Answers of 7 personas, one byte each, 5% of them missing; shares of the population unequal. Each measurement of
`preference_weights` has a process of its own: the seconds of one call, and by how much it raises the process's largest
resident set, its results (16 bytes a row) included. pandas computes the same formulas with `DataFrame.apply` over the rows
of a sample; its weights must be equal to ours to 12 digits. Prints a table; the result is kept in benchmarks/results/ with
the machine, the versions and the commit.
"""

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import time

import numpy as np
import pandas as pd
from _record import environment, keep

from fairpp_hf import preference_weights

TARGET = "p4"
SHARES = {f"p{number}": share for number, share in enumerate((0.13, 0.13, 0.12, 0.12, 0.17, 0.18, 0.15))}
SCHEMES = ("tier", "surprisal")
# ru_maxrss is in kibibytes on Linux, in bytes on macOS.
MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024


def some_answers(rows: int) -> dict[str, np.ndarray]:
    """Random answers, int8: -1 with probability 0.05, otherwise 0, 1 or 2."""
    generator = np.random.default_rng(0)
    answers = {}
    for persona in SHARES:
        # In place, so that the process is no larger before the measurement than the answers are.
        column = generator.integers(0, 60, rows, dtype=np.int8)
        column %= 20
        column[column == 0] = -1
        np.remainder(column, 3, out=column, where=column > 0)
        answers[persona] = column
    return answers


def measure(scheme: str, rows: int) -> dict[str, float]:
    """Seconds and extra peak memory of one call, in this process."""
    answers = some_answers(rows)
    preference_weights({persona: column[:1000] for persona, column in answers.items()}, TARGET, scheme=scheme)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    result = preference_weights(answers, TARGET, scheme=scheme, shares=SHARES)
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if len(result.weight) != rows:
        raise ValueError(f"The weights must be one for each of {rows} rows; got {len(result.weight)}.")
    return {"seconds": seconds, "extra_peak_mib": (after - before) * MAXRSS_BYTES / 2**20}


def row_wise(scheme: str, table: pd.DataFrame) -> np.ndarray:
    """The weights as one would write them down for a row at a time."""
    others = [persona for persona in table.columns if persona != TARGET]
    if scheme == "tier":

        def tier_of(row: pd.Series) -> int:
            if row[TARGET] == -1:
                return 0
            return 1 + sum(row[persona] not in (row[TARGET], -1) for persona in others)

        tiers = table.apply(tier_of, axis=1)
        sizes = tiers.value_counts()
        raw = {tier: tier / len(table.columns) / size for tier, size in sizes.items() if tier > 0}
        mass = sum(raw.values())
        return tiers.map(lambda tier: raw[tier] / mass if tier else 0.0).to_numpy()

    scale = len(others) / sum(SHARES[persona] for persona in others)

    def surprisal_of(row: pd.Series) -> float:
        if row[TARGET] == -1:
            return 0.0
        same = sum(SHARES[persona] * scale for persona in others if row[persona] == row[TARGET])
        answered = sum(SHARES[persona] * scale for persona in others if row[persona] != -1)
        return -math.log((same + 1 / 3) / (answered + 1))

    return table.apply(surprisal_of, axis=1).to_numpy()


def main() -> None:
    """Measure, compare, print, and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--sample", type=int, default=20_000, help="rows for pandas")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--measure", choices=SCHEMES, help="measure one call in this process and print it as JSON")
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.rows)))
        return

    result = {}
    sample = some_answers(arguments.sample)
    table = pd.DataFrame(sample)
    for scheme in SCHEMES:
        command = [sys.executable, __file__, "--measure", scheme, "--rows", str(arguments.rows)]
        ours, pandas_seconds = [], []
        # In turn, so that whatever else the machine does falls on both.
        for _ in range(arguments.repeats):
            ours.append(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
            started = time.perf_counter()
            weights = row_wise(scheme, table)
            pandas_seconds.append(time.perf_counter() - started)
        expected = preference_weights(sample, TARGET, scheme=scheme, shares=SHARES).weight
        np.testing.assert_allclose(weights, expected, rtol=1e-12, atol=0)
        rows_per_second = arguments.rows / statistics.median(one["seconds"] for one in ours)
        pandas_rows_per_second = arguments.sample / statistics.median(pandas_seconds)
        result[scheme] = {
            "seconds": [one["seconds"] for one in ours],
            "extra_peak_mib": [one["extra_peak_mib"] for one in ours],
            "rows_per_second": rows_per_second,
            "pandas_seconds": pandas_seconds,
            "pandas_rows_per_second": pandas_rows_per_second,
            "ratio_of_medians": rows_per_second / pandas_rows_per_second,
        }
    print(f"{arguments.rows:,} rows x {len(SHARES)} personas; pandas on {arguments.sample:,} rows, equal weights")
    print(f"{'scheme':<10}  {'seconds':>7}  {'extra peak':>10}  {'rows/s':>11}  {'pandas rows/s':>13}  {'ratio':>6}")
    for scheme, numbers in result.items():
        print(
            f"{scheme:<10}  {statistics.median(numbers['seconds']):>7.2f}  "
            f"{statistics.median(numbers['extra_peak_mib']):>6.0f} MiB  {numbers['rows_per_second']:>11,.0f}  "
            f"{numbers['pandas_rows_per_second']:>13,.0f}  {numbers['ratio_of_medians']:>6,.0f}"
        )
    setting = {"rows": arguments.rows, "personas": len(SHARES), "pandas_sample_rows": arguments.sample}
    keep("weighting_speed", setting | {"schemes": result} | environment("numpy", "pandas"))


if __name__ == "__main__":
    main()
