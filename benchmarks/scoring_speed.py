"""How fast does OptionScorer score multiple-choice questions, against lm-evaluation-harness and a loop of generate?

    python benchmarks/scoring_speed.py --lm-eval PYTHON [--model PATH] [--questions 16] [--rounds 3]

The three score the same random test questions of Fair-PP with the small real model, SmolLM2-135M-Instruct, in float32, in
turn, for some rounds, plain and with a persona's portrait as system message:

- lm-evaluation-harness, backend `hf`, in its own environment (`--lm-eval` names its Python, with lm_eval==0.4.13 and the
  torch of this one): the three options of a question as three continuations of the chat under the model's template, the
  end of the turn included. Contexts and continuations go to `HFLM._loglikelihood_tokens` as tokens of its `tok_encode`,
  since `loglikelihood` moves the line break at the end of a context into the continuation and so counts one token more.
- `OptionScorer`, with nothing known of the prompts from the round before. Once for a loaded model, at its first batch, it
  compares itself with whole sequences: that is part of no round, and kept as `first_call_s`, of two questions.
- The usual loop: one `model.generate` a question, 8 new tokens, greedy, and the first of A, B, C in the text.

The batch size of lm-evaluation-harness is the best of three on the first plain questions (`HARNESS_BATCHES`);
OptionScorer has its default. Loading is not timed; rendering and tokenising are. Prints questions a second, how many times
as fast (median, least, most), the largest difference of a log-likelihood, and tokens through the model. Kept in
benchmarks/results/.
"""

import argparse
import json
import re
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _record import environment, keep
from datasets import disable_progress_bars, load_dataset
from transformers.utils import logging as transformers_logging

from fairpp_hf import OptionScorer, load_personas
from fairpp_hf.demo.small_model import small_model_folder
from fairpp_hf.scoring.prefix_cache import PrefixCache

HARNESS_BATCHES = {"cpu": (3, 6, 12), "cuda": (24, 96, 384)}
"""Sequences a forward; tried on as many plain questions as fill the largest."""
# A line of JSON in (texts and a batch size), a line out (log-likelihoods, seconds, tokens): loaded once, asked often.
HARNESS = """
import json, logging, sys, time
from importlib.metadata import version
import torch
logging.disable(logging.WARNING)
from lm_eval.models.huggingface import HFLM
lm = HFLM(sys.argv[1], device=sys.argv[3], dtype="float32", batch_size=1)
torch.set_num_threads(int(sys.argv[2]))
counted = [0]
lm.model.register_forward_pre_hook(
    lambda module, args, kwargs: counted.__setitem__(0, counted[0] + args[0].numel()), with_kwargs=True
)
print(json.dumps({"version": version("lm_eval"), "torch": torch.__version__}), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    lm.batch_size_per_gpu = asked["batch_size"]
    counted[0] = 0
    started = time.perf_counter()
    requests = []
    for messages, replies in zip(asked["chats"], asked["replies"]):
        prompt = lm.apply_chat_template(messages)
        context = lm.tok_encode(prompt)
        for reply in replies:
            whole = lm.tok_encode(prompt + reply)
            requests.append((("", ""), context, whole[len(context):]))
    found = lm._loglikelihood_tokens(requests, disable_tqdm=True)
    seconds = time.perf_counter() - started
    print(json.dumps({"logprobs": [row[0] for row in found], "seconds": seconds, "tokens": counted[0]}), flush=True)
"""


class Harness:
    """lm-evaluation-harness in a process of its own."""

    def __init__(self, python: str, model: Path, device: str) -> None:
        command = [python, "-c", HARNESS, str(model), str(torch.get_num_threads()), device]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.batch_sizes = HARNESS_BATCHES[device.partition(":")[0]]
        self.batch_size = self.batch_sizes[0]
        self.tuned: dict[int, float] = {}
        self.first_call_s = 0.0
        self.about = self.answer()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(
                f"lm-evaluation-harness must answer; its process ended with {self.process.wait()}. Install "
                "lm_eval==0.4.13 for the Python that --lm-eval names."
            )
        return json.loads(line)

    def score(self, chats: list[Any], replies: list[list[str]]) -> dict[str, Any]:
        """`logprobs` (n, 3), `seconds` and `tokens`."""
        assert self.process.stdin is not None
        asked = {"chats": chats, "replies": replies, "batch_size": self.batch_size}
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        found = self.answer()
        return {**found, "logprobs": np.reshape(found["logprobs"], (len(chats), -1))}

    def tune(self, chats: list[Any], replies: list[list[str]]) -> dict[int, float]:
        """Take the fastest batch size; seconds of each."""
        self.score(chats[:1], replies[:1])
        some = slice(max(self.batch_sizes) // len(replies[0]))
        seconds = {}
        for size in self.batch_sizes:
            self.batch_size = size
            seconds[size] = self.score(chats[some], replies[some])["seconds"]
        self.batch_size = min(seconds, key=seconds.__getitem__)
        return seconds


def counted(model: Any, run: Callable[[], np.ndarray]) -> dict[str, Any]:
    """Result, seconds, and tokens through the model, padding included."""
    tokens = [0]
    hook = model.base_model.register_forward_pre_hook(
        lambda module, args, kwargs: tokens.__setitem__(0, tokens[0] + kwargs["input_ids"].numel()), with_kwargs=True
    )
    started = time.perf_counter()
    logprobs = run()
    seconds = time.perf_counter() - started
    hook.remove()
    return {"logprobs": logprobs, "seconds": seconds, "tokens": tokens[0]}


def generate_one_by_one(model: Any, tokenizer: Any, chats: list[Any]) -> np.ndarray:
    """The first letter of each reply, -1 where there is none."""
    answers = []
    for chat in chats:
        inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        reply = model.generate(**inputs.to(model.device), max_new_tokens=8, do_sample=False)
        text = tokenizer.decode(reply[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        letter = re.search(r"\b[ABC]\b", text)
        answers.append("ABC".index(letter.group()) if letter else -1)
    return np.array(answers)


def compare(
    harness: Harness, loaded: OptionScorer, chats: list[Any], options: list[tuple[str, ...]], rounds: int
) -> dict[str, Any]:
    """All three in turn on the same questions."""
    model, tokenizer = loaded.model, loaded.tokenizer
    first = list(loaded.encode(chats[:1], options[:1])[0].replies[0])
    ends = str(tokenizer.decode(first)).removeprefix(f"A. {options[0][0]}")
    replies = [[f"{letter}. {text}{ends}" for letter, text in zip("ABC", row, strict=True)] for row in options]
    if not harness.tuned:
        harness.tuned = harness.tune(chats, replies)
        print(f"  lm_eval: {harness.batch_size} sequences a batch is best of {json.dumps(harness.tuned)}", flush=True)
        started = time.perf_counter()
        loaded.score(chats[:2], options[:2])
        harness.first_call_s = time.perf_counter() - started
    found: dict[str, list[dict[str, Any]]] = {"lm_eval": [], "OptionScorer": [], "generate": []}
    for number in range(rounds):
        found["lm_eval"].append(harness.score(chats, replies))
        loaded._prefixes = PrefixCache()
        found["OptionScorer"].append(counted(model, lambda: loaded.score(chats, options).logprobs))
        found["generate"].append(counted(model, lambda: generate_one_by_one(model, tokenizer, chats)))
        times = ", ".join(f"{name} {runs[-1]['seconds']:.2f} s" for name, runs in found.items())
        print(f"  round {number}: {times}", flush=True)
    theirs, ours = found["lm_eval"][-1]["logprobs"], found["OptionScorer"][-1]["logprobs"]
    return {
        "questions_a_second": {
            name: len(chats) / statistics.median(run["seconds"] for run in runs) for name, runs in found.items()
        },
        "times_as_fast_as": {
            name: spread([x["seconds"] / y["seconds"] for x, y in zip(found[name], found["OptionScorer"], strict=True)])
            for name in ("lm_eval", "generate")
        },
        "largest_difference_nats": float(np.abs(theirs - ours).max()),
        "tokens_a_question": {name: runs[-1]["tokens"] / len(chats) for name, runs in found.items()},
        "generate_without_an_answer": float((found["generate"][-1]["logprobs"] < 0).mean()),
    }


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def main() -> None:
    """Compare plain and with a portrait, print a table, and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lm-eval", metavar="PYTHON", required=True, help="Python of an environment with lm_eval")
    parser.add_argument("--model", type=Path, help="folder of the model (default: the small real one)")
    parser.add_argument("--questions", type=int, default=16, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    arguments = parser.parse_args()
    disable_progress_bars()
    transformers_logging.set_verbosity_error()
    described = environment("torch", "transformers")
    model = arguments.model or small_model_folder()
    loaded = OptionScorer.from_pretrained(model, dtype=torch.float32)
    harness = Harness(arguments.lm_eval, model, str(loaded.model.device))
    questions = load_dataset("fairpp", "questions", split="test").shuffle(seed=0).select(range(arguments.questions))
    options = list(zip(*(questions[f"option_{letter}"] for letter in "abc"), strict=True))
    portrait = next(iter(load_personas())).portrait
    cases = {}
    for name, system in (("plain", []), ("portrait", [{"role": "system", "content": portrait}])):
        print(f"{name}, {arguments.questions} questions", flush=True)
        chats = [[*system, {"role": "user", "content": prompt}] for prompt in questions["prompt"]]
        cases[name] = compare(harness, loaded, chats, options, arguments.rounds)
    names = ("", "lm_eval/s", "ours/s", "generate/s", "x lm_eval", "x generate", "nats")
    print("\n{:10}  {:>9}  {:>9}  {:>10}  {:>18}  {:>10}  {:>7}  tokens of each".format(*names))
    for name, case in cases.items():
        speed, faster, tokens = case["questions_a_second"], case["times_as_fast_as"], case["tokens_a_question"]
        of_harness = "{median:.1f} ({min:.1f} to {max:.1f})".format(**faster["lm_eval"])
        print(
            f"{name:10}  {speed['lm_eval']:>9.2f}  {speed['OptionScorer']:>9.2f}  {speed['generate']:>10.2f}  "
            f"{of_harness:>18}  {faster['generate']['median']:>10.1f}  {case['largest_difference_nats']:>7.0e}  "
            f"{tokens['lm_eval']:.0f}, {tokens['OptionScorer']:.0f}, {tokens['generate']:.0f}"
        )
    on_cpu = loaded.model.device.type == "cpu"
    different = max(case["largest_difference_nats"] for case in cases.values())
    if on_cpu and different > 1e-3:
        raise RuntimeError(f"Log-likelihoods must be equal to 1e-3 nats; got a difference of {different}.")
    keep(
        "scoring_speed" if on_cpu else "scoring_speed_gpu",
        {
            "device": f"CPU, {torch.get_num_threads()} threads" if on_cpu else torch.cuda.get_device_name(),
            "model": model.name,
            "precision": "float32",
            "questions": arguments.questions,
            "rounds": arguments.rounds,
            "lm_eval": {**harness.about, "batch_size": harness.batch_size},
            "first_call_s": harness.first_call_s,
            "cases": cases,
            **described,
        },
    )


if __name__ == "__main__":
    main()
