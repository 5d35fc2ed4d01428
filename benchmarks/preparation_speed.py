"""How long does preparing Fair-PP's pairs take: TRL's way, row by row, against ours, by distinct texts?

    python benchmarks/preparation_speed.py [--model PATH] [--pairs 45502] [--rounds 3]

Both prepare all training pairs of `load_dataset("fairpp", "pairs")` with the tokenizer of the small real model,
SmolLM2-135M-Instruct, in turn in one process, for some rounds, without the cache of `datasets`. Two pairs a question, and
three. Both must give the same. Prints seconds on the clock, and those of the processor, which other work on the machine
disturbs less. Kept in benchmarks/results/.
"""

import argparse
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from _record import environment, keep
from datasets import Dataset, disable_caching, disable_progress_bars, load_dataset
from transformers import AutoTokenizer
from trl import DPOConfig, DPOTrainer

from fairpp_hf.demo.small_model import small_model_folder
from fairpp_hf.training.preparation import prepare_pairs


def timed(prepare: Any, pairs: Dataset) -> tuple[Dataset, float, float]:
    """The prepared dataset, seconds on the clock, and seconds of the processor."""
    started, worked = time.perf_counter(), time.process_time()
    prepared = prepare(pairs)
    return prepared, time.perf_counter() - started, time.process_time() - worked


def same(one: Dataset, other: Dataset) -> bool:
    """Whether two prepared datasets hold the same columns, of the same types, and the same rows."""
    tables = [dataset.with_format("arrow")[:].combine_chunks() for dataset in (one, other)]
    return bool(tables[0].cast(one.features.arrow_schema).equals(tables[1].cast(other.features.arrow_schema)))


def compare(pairs: Dataset, tokenizer: Any, rounds: int) -> dict[str, Any]:
    """Time both in turn on the same pairs."""
    args = DPOConfig(tempfile.mkdtemp(), bf16=False, report_to="none")
    # What DPOTrainer's own preparation needs of a trainer.
    trainer: Any = SimpleNamespace(_tokenizer=tokenizer)
    of_trl = partial(DPOTrainer._prepare_dataset, trainer, processing_class=tokenizer, args=args, dataset_name="train")
    ways = {"trl": of_trl, "ours": lambda rows: prepare_pairs(rows, tokenizer, args, "train", of_trl)}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    of_processor: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        found = {}
        for name, prepare in ways.items():
            found[name], clock, processor = timed(prepare, pairs)
            seconds[name].append(clock)
            of_processor[name].append(processor)
        if not same(found["trl"], found["ours"]):
            raise RuntimeError("Both ways must prepare the same; got different datasets.")
        print(f"  round {number}: trl {seconds['trl'][-1]:.1f} s, ours {seconds['ours'][-1]:.1f} s", flush=True)
    return {
        "pairs": len(pairs),
        "seconds": {name: statistics.median(runs) for name, runs in seconds.items()},
        "processor_seconds": {name: statistics.median(runs) for name, runs in of_processor.items()},
        "times_as_fast": statistics.median(
            theirs / mine for theirs, mine in zip(seconds["trl"], seconds["ours"], strict=True)
        ),
    }


def main() -> None:
    """Compare for two and for three pairs a question, print a table, and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="folder of the tokenizer (default: the small real model's)")
    parser.add_argument("--pairs", type=int, help="pairs of the case with two a question (default: all)")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    arguments = parser.parse_args()
    disable_progress_bars()
    disable_caching()
    described = environment("trl", "transformers", "tokenizers", "datasets")
    model = arguments.model or small_model_folder()
    tokenizer = AutoTokenizer.from_pretrained(model)
    cases = []
    for of_question in (2, 3):
        pairs = load_dataset(
            "fairpp", "pairs", target="loyal_nationals", random_third_pair=of_question == 3, split="train"
        )
        if arguments.pairs is not None:
            pairs = pairs.select(range(arguments.pairs * of_question // 2))
        print(f"{of_question} pairs a question, {len(pairs):,} pairs", flush=True)
        cases.append({"pairs_a_question": of_question, **compare(pairs, tokenizer, arguments.rounds)})
    names = ("a question", "pairs", "trl", "ours", "faster", "processor: trl", "ours")
    print("\n{:>10}  {:>7}  {:>7}  {:>7}  {:>6}  {:>14}  {:>7}".format(*names))
    for case in cases:
        clock, processor = case["seconds"], case["processor_seconds"]
        print(
            f"{case['pairs_a_question']:>10}  {case['pairs']:>7,}  {clock['trl']:>5.1f} s  {clock['ours']:>5.1f} s  "
            f"{case['times_as_fast']:>5.1f}x  {processor['trl']:>12.1f} s  {processor['ours']:>5.1f} s"
        )
    keep("preparation_speed", {"tokenizer": model.name, "rounds": arguments.rounds, "cases": cases, **described})


if __name__ == "__main__":
    main()
