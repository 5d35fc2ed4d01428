"""How many questions a second does `fairpp evaluate` score on a CPU: as threads wait, and in 32 and 16 bits?

    python benchmarks/evaluation_speed.py [--questions 8] [--rounds 3]

Scores random test questions of Fair-PP, each in both orders, with the small real model, SmolLM2-135M-Instruct, as `evaluate`
does: `score_models`, the model loaded, every reply kept. Each time in a process of its own, in turn with the default of
OpenMP, whose threads spin while they wait for each other; with `OMP_WAIT_POLICY=passive`, which the command line sets and
which matters on a busy machine; and with that and `--dtype bfloat16`, which is for processors that multiply 16-bit floats
(Intel AMX, AVX-512 BF16). Prints prompts a second, the processor's seconds a prompt, the same of the forward passes alone,
the machine's load, and how far option probabilities are from those in float32. Kept in benchmarks/results/.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from _record import environment, keep

WAYS = {
    "default": (None, "float32"),
    "passive": ("passive", "float32"),
    "passive, bfloat16": ("passive", "bfloat16"),
}
"""OMP_WAIT_POLICY and dtype."""


def score(questions: int, dtype: str) -> dict[str, Any]:
    """Score questions in this process: seconds on the clock and of the processor, and of the forward passes; what came."""
    from datasets import disable_progress_bars, load_dataset

    from fairpp_hf.demo.small_model import small_model_folder
    from fairpp_hf.evaluation.model_scores import score_models
    from fairpp_hf.evaluation.models import ModelSpec
    from fairpp_hf.scoring.option_scorer import OptionScorer

    disable_progress_bars()
    chosen = load_dataset("fairpp", "questions", split="test").shuffle(seed=0).select(range(questions))
    models = [ModelSpec(name="plain model", model=str(small_model_folder()))]
    forward = OptionScorer._logprobs
    of_forward = [0.0]

    def timed(*arguments: Any) -> Any:
        worked = time.process_time()
        found = forward(*arguments)
        of_forward[0] += time.process_time() - worked
        return found

    OptionScorer._logprobs = timed  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as out:
        started, worked = time.perf_counter(), time.process_time()
        table = chosen.with_format("arrow")[:]
        (scores,) = score_models(models, table, Path(out), personas=None, dtype=dtype, progress=False)
        return {
            "probabilities": scores.by_order.tolist(),
            "seconds": time.perf_counter() - started,
            "processor_seconds": time.process_time() - worked,
            "forward_processor_seconds": of_forward[0],
            "load": os.getloadavg()[0],
        }


def score_elsewhere(questions: int, policy: str | None, dtype: str) -> dict[str, Any]:
    """`score` in a process whose threads wait in this way."""
    variables = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    if policy is not None:
        variables["OMP_WAIT_POLICY"] = policy
    command = [sys.executable, __file__, "--here", dtype, "--questions", str(questions)]
    printed = subprocess.run(command, env=variables, stdout=subprocess.PIPE, text=True, check=True).stdout
    found: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return found


def main() -> None:
    """Score in turn in all ways, print a table, and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=8, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--here", metavar="DTYPE", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        print(json.dumps(score(arguments.questions, arguments.here)))
        return
    described = environment("torch", "transformers")
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in WAYS}
    for number in range(arguments.rounds):
        for name, way in WAYS.items():
            runs[name].append(score_elsewhere(arguments.questions, *way))
        print(
            f"  round {number}: " + ", ".join(f"{name} {of[-1]['seconds']:.1f} s" for name, of in runs.items()),
            flush=True,
        )
    prompts = 2 * arguments.questions
    cases = {
        name: {
            "prompts_a_second": prompts / statistics.median(run["seconds"] for run in of_way),
            "processor_seconds_a_prompt": statistics.median(run["processor_seconds"] for run in of_way) / prompts,
            "of_forward": statistics.median(run["forward_processor_seconds"] for run in of_way) / prompts,
            "load": statistics.median(run["load"] for run in of_way),
            "times_as_fast": statistics.median(
                one["seconds"] / other["seconds"] for one, other in zip(runs["default"], of_way, strict=True)
            ),
            "mean_difference": float(
                np.abs(np.subtract(of_way[0]["probabilities"], runs["default"][0]["probabilities"])).mean()
            ),
        }
        for name, of_way in runs.items()
    }
    print(f"\n{'':17}  prompts/s  faster  processor s  in forward  load  probabilities differ by")
    for name, case in cases.items():
        print(
            f"{name:17}  {case['prompts_a_second']:>9.2f}  {case['times_as_fast']:>5.1f}x  "
            f"{case['processor_seconds_a_prompt']:>11.3f}  {case['of_forward']:>10.3f}  {case['load']:>4.1f}  "
            f"{case['mean_difference']:>23.4f}"
        )
    result = {"questions": arguments.questions, "rounds": arguments.rounds, "cases": cases}
    keep("evaluation_speed", {**result, **described})


if __name__ == "__main__":
    main()
