"""How fast is ReweightedDPOTrainer against trl.DPOTrainer, on the pairs of Fair-PP, and are the gradients the same?

    python benchmarks/training_speed.py [--model PATH] [--questions 4] [--repeats 3] [--full] [--bf16]

For 3, 2 and 1 pairs a question, both trainers take the same model, LoRA weights, pairs and settings, and compute the
gradient of one batch each in turn (collation, policy, reference with the adapter off, loss, metrics, backward); so does a
third, ours without a reference model and with soft labels, which has another objective and therefore other gradients. Prints
questions per second, tokens through the models, the gradients' largest relative difference, peak memory (each trainer in a
process of its own), and where our time goes. Kept in benchmarks/results/.

The model is by default the small real one, SmolLM2-135M-Instruct, as `fairpp demo` unpacks it. Float32 unless --bf16, since
rounding would hide what a gradient is compared for.
"""

import argparse
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from _record import environment, keep
from datasets import Dataset, disable_progress_bars, load_dataset
from peft import LoraConfig
from transformers.utils import logging as transformers_logging
from trl import DPOConfig, DPOTrainer

from fairpp_hf import ReweightedDPOConfig, ReweightedDPOTrainer
from fairpp_hf.demo.small_model import small_model_folder

PAIRS_A_QUESTION = (3, 2, 1)
STOCK, OURS, NO_REFERENCE = SIDES = ("stock", "ours", "no reference")
LORA = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)


def pairs_of(count: int, questions: int) -> Dataset:
    """`count` pairs for each of `questions` random questions, the pairs of a question together."""
    pairs = load_dataset("fairpp", "pairs", target="loyal_nationals", random_third_pair=True, split="train")
    chosen = torch.randperm(len(pairs) // 3, generator=torch.Generator().manual_seed(0))[:questions].tolist()
    return pairs.select([3 * question + number for question in chosen for number in range(count)])


def make(side: str, model: Path, pairs: Dataset, arguments: argparse.Namespace) -> DPOTrainer:
    """The stock trainer or ours; the same seed draws the same LoRA weights."""
    trainer, config = (DPOTrainer, DPOConfig) if side == STOCK else (ReweightedDPOTrainer, ReweightedDPOConfig)
    settings = {"reference": "none", "soft_labels": True} if side == NO_REFERENCE else {}
    if side == NO_REFERENCE:
        pairs = pairs.add_column("label_probability", [0.7] * len(pairs))
    # uniform weights, so that the two have the same objective
    made = trainer(
        model=str(model),
        args=config(
            output_dir=tempfile.mkdtemp(),
            per_device_train_batch_size=len(pairs),
            bf16=arguments.bf16,
            gradient_checkpointing=False,
            report_to="none",
            disable_tqdm=True,
            seed=0,
            **settings,
        ),
        train_dataset=pairs.remove_columns("weight").add_column("weight", [1.0] * len(pairs)),
        peft_config=None if arguments.full else LORA,
    )
    made.model.to(made.accelerator.device)
    made.current_gradient_accumulation_steps = 1
    return made


def step(trainer: DPOTrainer, rows: range) -> float:
    """Seconds for the gradient of one batch, collation included."""
    trainer.model.zero_grad()
    started = time.perf_counter()
    batch = trainer.data_collator([trainer.train_dataset[row] for row in rows])
    device = trainer.accelerator.device
    batch = {name: tensor.to(device) for name, tensor in batch.items()}
    divisor = trainer.get_batch_samples(iter([batch]), 1, device)[1]
    trainer.training_step(trainer.model, batch, divisor)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def gradient(trainer: DPOTrainer) -> torch.Tensor:
    """All gradients end to end."""
    return torch.cat([p.grad.reshape(-1).float() for p in trainer.model.parameters() if p.grad is not None])


def tokens(trainer: DPOTrainer, rows: range) -> int:
    """Tokens that one forward of the policy computes, padding left out."""
    batch = trainer.data_collator([trainer.train_dataset[row] for row in rows])
    return int((batch["segment"] >= 0).sum() if "segment" in batch else batch["attention_mask"].sum())


def compare(count: int, model: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Time both trainers in turn on the same batches, and compare their gradients."""
    batches = arguments.repeats + 1
    # First, while this process holds little: the stock trainer takes gigabytes, and not all of them are given back.
    memory = {side: peak_memory(side, count, model, arguments) for side in SIDES}
    pairs = pairs_of(count, arguments.questions * batches)
    trainers = {side: make(side, model, pairs, arguments) for side in SIDES}
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    differences, largest = [], []
    of_batch = arguments.questions * count
    for number in range(batches):
        rows = range(number * of_batch, (number + 1) * of_batch)
        for side, trainer in trainers.items():
            seconds[side].append(step(trainer, rows))
        theirs, ours = gradient(trainers[STOCK]), gradient(trainers[OURS])
        differences.append(((ours - theirs).norm() / theirs.norm()).item())
        largest.append(((ours - theirs).abs().max() / theirs.abs().max()).item())
        print(
            f"  batch {number}: " + ", ".join(f"{side} {times[-1]:.2f} s" for side, times in seconds.items()),
            flush=True,
        )
    # the first batch warms up, and ours checks there once whether prompts can be shared
    medians = {side: statistics.median(times[1:]) for side, times in seconds.items()}
    in_tokens = {side: tokens(trainer, range(of_batch)) for side, trainer in trainers.items()}
    shares = where_time_goes(trainers[OURS], range(of_batch))
    trainers.clear()
    gc.collect()
    return {
        "pairs_a_question": count,
        "questions_a_second": {side: arguments.questions / median for side, median in medians.items()},
        "times_as_fast": {side: medians[STOCK] / median for side, median in medians.items()},
        "times_as_fast_by_batch": {
            side: [theirs / mine for theirs, mine in zip(seconds[STOCK][1:], times[1:], strict=True)]
            for side, times in seconds.items()
        },
        "tokens_a_forward": in_tokens,
        "gradient_difference": max(differences),
        "largest_gradient_difference": max(largest),
        "peak_memory_mib": memory,
        "share_of_time": shares,
    }


def peak_memory(side: str, count: int, model: Path, arguments: argparse.Namespace) -> float:
    """MiB that a step takes beyond the loaded model, in a process of its own."""
    command = [sys.executable, __file__, "--memory-of", side, str(count), "--model", str(model)]
    command += ["--questions", str(arguments.questions)]
    command += [flag for flag, given in (("--full", arguments.full), ("--bf16", arguments.bf16)) if given]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(printed.split()[-1])


def print_memory(side: str, count: int, model: Path, arguments: argparse.Namespace) -> None:
    """The other side of `peak_memory`."""
    of_batch = arguments.questions * count
    trainer = make(side, model, pairs_of(count, arguments.questions), arguments)
    if torch.cuda.is_available():
        start = torch.cuda.memory_allocated()
    else:
        # Loading has had its own peak: the kernel begins to count anew, where it is Linux.
        Path("/proc/self/clear_refs").write_text("5")
        start = resident("VmRSS")
    step(trainer, range(of_batch))
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else resident("VmHWM")
    print((peak - start) / 2**20)


def resident(field: str) -> int:
    """Bytes of this process in memory, now (VmRSS) or at most (VmHWM)."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[field].split()[0]) * 1024


def where_time_goes(trainer: Any, rows: range) -> dict[str, float]:
    """Share of one step in each of its parts."""
    spent: dict[str, float] = {}

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        spent[name] = spent.get(name, 0.0) + time.perf_counter() - started

    def wrap(function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with timed(name):
                return function(*args, **kwargs)

        return wrapped

    trainer._policy_tokens = wrap(trainer._policy_tokens, "policy, forward")
    trainer.compute_ref_log_probs = wrap(trainer.compute_ref_log_probs, "reference, forward")
    trainer.accelerator.backward = wrap(trainer.accelerator.backward, "backward")
    total = step(trainer, rows)
    shares = {name: seconds / total for name, seconds in spent.items()}
    shares["collation, loss and metrics"] = 1 - sum(shares.values())
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        step(trainer, rows)
    operations = {event.key: event.self_cpu_time_total for event in profiler.key_averages()}
    products = sum(operations.get(name, 0) for name in ("aten::mm", "aten::addmm", "aten::bmm"))
    if not torch.cuda.is_available():
        shares["of all: matrix products"] = products / sum(operations.values())
    return shares


def main() -> None:
    """Run the three cases, print a table, and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="folder of the model (default: the small real one)")
    parser.add_argument("--questions", type=int, default=4, help="questions a batch")
    parser.add_argument("--repeats", type=int, default=3, help="timed batches a case")
    parser.add_argument("--full", action="store_true", help="all weights instead of LoRA")
    parser.add_argument("--bf16", action="store_true", help="mixed precision")
    parser.add_argument("--memory-of", nargs=2, metavar=("SIDE", "PAIRS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    disable_progress_bars()
    transformers_logging.set_verbosity_error()
    described = environment("trl", "transformers", "torch", "peft", "accelerate")
    model = arguments.model or small_model_folder()
    if arguments.memory_of:
        print_memory(arguments.memory_of[0], int(arguments.memory_of[1]), model, arguments)
        return
    results = []
    for count in PAIRS_A_QUESTION:
        print(f"{count} pairs a question", flush=True)
        results.append(compare(count, model, arguments))
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    head = f"{'pairs':>5}  {'':>12}  {'questions/s':>11}  {'faster':>6}  {'tokens a pass':>13}  {'peak, MiB':>9}"
    print(f"\n{head}  {'gradients differ by':>19}")
    for row in results:
        for side in SIDES:
            print(
                f"{row['pairs_a_question']:>5}  {side:>12}  {row['questions_a_second'][side]:>11.2f}  "
                f"{row['times_as_fast'][side]:>5.1f}x  {row['tokens_a_forward'][side]:>13}  "
                f"{row['peak_memory_mib'][side]:>9.0f}"
                + (f"  {row['gradient_difference']:>19.0e}" if side == OURS else "")
            )
    print(f"Where ours spends its time: {json.dumps(results[0]['share_of_time'], indent=2)}")
    name = "training_speed" + ("_full" if arguments.full else "") + ("_bf16" if arguments.bf16 else "")
    keep(
        name if device.startswith("CPU") else f"{name}_gpu",
        {
            "device": device,
            "model": model.name,
            "questions_a_batch": arguments.questions,
            "repeats": arguments.repeats,
            "method": "all weights" if arguments.full else f"LoRA r={LORA.r}, all linear layers",
            "precision": "bf16 mixed" if arguments.bf16 else "float32",
            "cases": results,
            **described,
        },
    )


if __name__ == "__main__":
    main()
