"""How long does the first load_dataset("fairpp") take against Dataset.from_generator, and how much memory does it need?

    python benchmarks/load_dataset.py [--repeats 5]

Both start from an empty cache in a process of their own, in turn, and write the same 198,940 rows to Arrow. Prints each
time, the ratio of the medians, and the peak memory of the whole process beside the size of the Arrow table; a result is
kept in benchmarks/results/ with the machine, the versions and the commit.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from typing import NamedTuple

from _record import environment, keep

OURS = """
import fairpp_hf
from datasets import load_dataset
rows = lambda: load_dataset("fairpp", split="train+test")
"""

# The usual way to build a dataset from Python objects: one dictionary a row.
GENERATOR = """
import fairpp_hf
from datasets import Dataset
from fairpp_hf.schema import PREFERENCE_FEATURES
def generate():
    # Inside, since `datasets` pickles what a generator refers to.
    from fairpp_hf.dataset.sources import load_answers
    answers = load_answers()
    for split in ("train", "test"):
        for table in answers.preferences(split):
            yield from table.to_pylist()
rows = lambda: Dataset.from_generator(generate, features=PREFERENCE_FEATURES)
"""

TIMED = """
import resource, time
started = time.perf_counter()
dataset = rows()
elapsed = time.perf_counter() - started
print(elapsed, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, len(dataset), dataset.data.nbytes)
"""


class Build(NamedTuple):
    """One build from an empty cache."""

    seconds: float
    """Without the imports before it."""
    peak_bytes: int
    """Resident memory of the process at its largest, all libraries included."""
    arrow_bytes: int


def build(setup: str) -> Build:
    """Build once, in a process of its own."""
    with tempfile.TemporaryDirectory() as cache:
        variables = {**os.environ, "HF_HOME": cache, "HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
        printed = subprocess.run(
            [sys.executable, "-c", setup + TIMED], env=variables, capture_output=True, text=True, check=True
        ).stdout
    elapsed, peak, count, size = printed.split()
    if int(count) != 198_940:
        raise ValueError(f"Both must build 198,940 rows; got {count}.")
    return Build(float(elapsed), int(peak), int(size))


def main() -> None:
    """Alternate the two, print, and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    about = environment("datasets", "pyarrow", "numpy")
    builds: dict[str, list[Build]] = {"load_dataset": [], "from_generator": []}
    for _ in range(repeats):
        builds["load_dataset"].append(build(OURS))
        builds["from_generator"].append(build(GENERATOR))
    times = {name: [one.seconds for one in done] for name, done in builds.items()}
    memory = {name: max(one.peak_bytes / one.arrow_bytes for one in done) for name, done in builds.items()}
    for name, values in times.items():
        print(
            f"{name:<15} {statistics.median(values):6.2f} s  (min {min(values):.2f}, max {max(values):.2f}), "
            f"peak memory {memory[name]:.2f} times the Arrow table's"
        )
    ratio = statistics.median(times["from_generator"]) / statistics.median(times["load_dataset"])
    print(f"load_dataset is {ratio:.1f} times as fast")
    keep(
        "load_dataset",
        {
            "seconds": times,
            "ratio_of_medians": ratio,
            "arrow_bytes": builds["load_dataset"][0].arrow_bytes,
            "peak_memory_by_arrow_bytes": memory,
        }
        | about,
    )


if __name__ == "__main__":
    main()
