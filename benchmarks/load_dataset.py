"""How long does the first load_dataset("fairpp") take, against Dataset.from_generator over the same rows?

    python benchmarks/load_dataset.py [--repeats 3]

Both start from an empty cache in a process of their own, in turn, and write the same 198,940 rows to Arrow. Prints each
time and the ratio of the medians; a result is kept in benchmarks/results/ with the machine, the versions and the commit.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile

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
from fairpp_hf.dataset.answers import load_answers
from fairpp_hf.schema import PREFERENCE_FEATURES
def generate():
    answers = load_answers()
    for split in ("train", "test"):
        for table in answers.preferences(split):
            yield from table.to_pylist()
rows = lambda: Dataset.from_generator(generate, features=PREFERENCE_FEATURES)
"""

TIMED = """
import time
started = time.perf_counter()
count = len(rows())
print(time.perf_counter() - started, count)
"""


def seconds(setup: str) -> float:
    """Time one build from an empty cache; imports are not counted."""
    with tempfile.TemporaryDirectory() as cache:
        variables = {**os.environ, "HF_HOME": cache, "HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
        printed = subprocess.run(
            [sys.executable, "-c", setup + TIMED], env=variables, capture_output=True, text=True, check=True
        ).stdout
    elapsed, count = printed.split()
    if int(count) != 198_940:
        raise ValueError(f"Both must build 198,940 rows; got {count}.")
    return float(elapsed)


def main() -> None:
    """Alternate the two, print, and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    times: dict[str, list[float]] = {"load_dataset": [], "from_generator": []}
    for _ in range(repeats):
        times["load_dataset"].append(seconds(OURS))
        times["from_generator"].append(seconds(GENERATOR))
    for name, values in times.items():
        print(f"{name:<15} {statistics.median(values):6.2f} s  (min {min(values):.2f}, max {max(values):.2f})")
    ratio = statistics.median(times["from_generator"]) / statistics.median(times["load_dataset"])
    print(f"load_dataset is {ratio:.1f} times as fast")

    result = {"seconds": times, "ratio_of_medians": ratio}
    keep("load_dataset", result | environment("datasets", "pyarrow", "numpy"))


if __name__ == "__main__":
    main()
