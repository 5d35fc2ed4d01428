"""How many answers a second does `generate` get from a server, against the ideal, a loop, and bespokelabs-curator?

    python benchmarks/generation_throughput.py [--curator PYTHON] [--calls 19200] [--all-records]

A server on loopback, in a process of its own, answers each request after 200 ms. At concurrency 64 the ideal rate is
64 / 0.2 = 320 a second. Each client runs in a process of its own, one after the other, `--repeats` times in turn:

- `generate`: everything that a user gets, that is requests built from questions and personas, the real `openai` client,
  log-probabilities asked for, each reply forced to disk; from an empty folder to the summary, slow start included.
- a loop over the blocking `openai` client, one call after the other (fewer calls; its rate does not depend on them).
- curator, in its own environment (`--curator` names its Python, with bespokelabs-curator installed), at the same
  concurrency with its own limits on rates lifted. It asks for no log-probabilities and keeps replies in files that are
  flushed, not forced to disk.

`--all-records` also has `generate` ask for all 198,940 records of a server without latency, and prints the memory of the
process along the way. The result is kept in benchmarks/results/ with the machine, the versions and the commit.
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _record import environment, keep

LATENCY_S = 0.2
CONCURRENCY = 64
LOOP_CALLS = 50
ALL_RECORDS = 198_940

OURS = """
import json, resource, sys, threading, time
from pathlib import Path
import openai
from fairpp_hf.generation import RunOptions, generate
from fairpp_hf.personas import load_personas
from fairpp_hf.questions import load_questions
from fairpp_hf.respondents import OpenAIRespondent

url, calls, concurrency, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
questions = load_questions().slice(0, -(-calls // 7))
arrivals, memory = [], []

class Watched(OpenAIRespondent):
    async def answer(self, requests):
        async for index_and_reply in super().answer(requests):
            arrivals.append(time.perf_counter())
            if len(arrivals) % 10_000 == 0:
                memory.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096)
            yield index_and_reply

respondent = Watched("loopback-model", base_url=url, concurrency=concurrency)
cpu, started = time.process_time(), time.perf_counter()
summary = generate(folder, respondent, load_personas(), questions, RunOptions(progress=False))
seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
assert summary.counts["ok"] == summary.asked == len(arrivals), summary
first, last = len(arrivals) // 10, len(arrivals) * 9 // 10
print(json.dumps({
    "calls": summary.asked, "seconds": seconds, "cpu_s": cpu,
    "steady_rate": (last - first) / (arrivals[last] - arrivals[first]), "memory_bytes": memory,
}))
"""

LOOP = """
import json, sys, time
import openai
from fairpp_hf.questions import load_questions
from fairpp_hf.personas import load_personas
url, calls = sys.argv[1], int(sys.argv[2])
portrait = load_personas().get("loyal_nationals").portrait
prompts = load_questions()["prompt"].slice(0, calls).to_pylist()
client = openai.OpenAI(base_url=url, api_key="unused")
cpu, started = time.process_time(), time.perf_counter()
for prompt in prompts:
    client.chat.completions.create(
        model="loopback-model", temperature=0.0, max_tokens=64,
        messages=[{"role": "system", "content": portrait}, {"role": "user", "content": prompt}],
    )
print(json.dumps({
    "calls": len(prompts), "seconds": time.perf_counter() - started, "cpu_s": time.process_time() - cpu
}))
"""

CURATOR = """
import json, os, sys, time
url, calls, concurrency, folder, prompts = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5]
os.environ.update(
    CURATOR_CACHE_DIR=folder, OPENAI_API_KEY="unused", TELEMETRY_ENABLED="false", CURATOR_DISABLE_RICH_DISPLAY="1"
)
import tiktoken
# Its tokenizer, for counting tokens, comes from the Internet; where there is none, one of single bytes stands in.
try:
    tiktoken.get_encoding("cl100k_base")
except OSError:
    single = tiktoken.Encoding(
        "bytes", pat_str=r"\\S+|\\s+", mergeable_ranks={bytes([n]): n for n in range(256)}, special_tokens={}
    )
    tiktoken.encoding_for_model = tiktoken.get_encoding = lambda name: single
from bespokelabs import curator
asked = json.load(open(prompts))
class Answerer(curator.LLM):
    def prompt(self, row):
        return row["messages"]
    def parse(self, row, response):
        return [{"response": response}]
llm = Answerer(
    model_name="gpt-4o-mini", backend="openai", generation_params={"temperature": 0.0, "max_tokens": 64},
    backend_params={
        "base_url": url, "max_concurrent_requests": concurrency,
        "max_requests_per_minute": 10**9, "max_tokens_per_minute": 10**12,
    },
)
cpu, started = time.process_time(), time.perf_counter()
result = llm(asked)
seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
rows = getattr(result, "dataset", result)
assert len(rows) == calls, len(rows)
from importlib.metadata import version
print(json.dumps({
    "calls": calls, "seconds": seconds, "cpu_s": cpu, "version": version("bespokelabs-curator")
}))
"""


@contextlib.contextmanager
def server(latency_s: float) -> Iterator[str]:
    """The base URL of a server that runs until the block ends."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("_latency_server.py")), str(latency_s)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
    finally:
        process.kill()
        process.wait()


def measure(python: str, script: str, *arguments: Any) -> dict[str, Any]:
    """Run a client in a process of its own; its last line is the result."""
    done = subprocess.run([python, "-c", script, *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"A client must finish; got exit status {done.returncode}:\n{done.stderr[-4000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    found["rate"] = found["calls"] / found["seconds"]
    found["cpu_ms_a_call"] = 1000 * found["cpu_s"] / found["calls"]
    return found


def ask_curator(python: str, url: str, calls: int, folder: Path) -> dict[str, Any]:
    """The same requests through curator."""
    from fairpp_hf.personas import load_personas
    from fairpp_hf.questions import load_questions

    prompts = load_questions()["prompt"].slice(0, -(-calls // 7)).to_pylist()
    rows = [
        {"messages": [{"role": "system", "content": persona.portrait}, {"role": "user", "content": prompt}]}
        for persona in load_personas()
        for prompt in prompts
    ]
    asked = folder / "prompts.json"
    asked.write_text(json.dumps(rows))
    return measure(python, CURATOR, url, len(rows), CONCURRENCY, folder / "curator", asked)


def in_words(name: str, found: list[dict[str, Any]]) -> str:
    """A row of the printed table."""
    rates = sorted(item["rate"] for item in found)
    cpu = statistics.median(item["cpu_ms_a_call"] for item in found)
    return f"{name:<24}{found[0]['calls']:>9,}{statistics.median(rates):>10.1f}{cpu:>12.2f}"


def main() -> None:
    """Run the clients in turn, print, and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curator", metavar="PYTHON", help="Python of an environment with bespokelabs-curator")
    parser.add_argument("--calls", type=int, default=19_200, help="of generate and of curator (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--all-records", action="store_true", help="also ask for all 198,940 records: minutes")
    arguments = parser.parse_args()
    about = environment("openai", "pyarrow", "numpy")
    ideal = CONCURRENCY / LATENCY_S
    found: dict[str, list[dict[str, Any]]] = {"generate": [], "loop": []}
    if arguments.curator:
        found["curator"] = []
    with server(LATENCY_S) as url:
        for _ in range(arguments.repeats):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder)
                found["generate"].append(measure(sys.executable, OURS, url, arguments.calls, CONCURRENCY, path / "run"))
                found["loop"].append(measure(sys.executable, LOOP, url, LOOP_CALLS))
                if arguments.curator:
                    found["curator"].append(ask_curator(arguments.curator, url, arguments.calls, path))
    print(f"{'client':<24}{'calls':>9}{'calls/s':>10}{'CPU ms/call':>12}")
    for name, items in found.items():
        print(in_words(name, items))
    rate = {name: statistics.median(item["rate"] for item in items) for name, items in found.items()}
    steady = statistics.median(item["steady_rate"] for item in found["generate"])
    print(
        f"ideal {ideal:.0f}/s: generate reached {rate['generate'] / ideal:.1%} over the whole run, "
        f"{steady / ideal:.1%} between its first and its last tenth"
    )
    ratios = {name: rate["generate"] / rate[name] for name in rate if name != "generate"}
    print("generate is " + ", ".join(f"{ratio:.1f} times as fast as {name}" for name, ratio in ratios.items()))
    result: dict[str, Any] = {
        "latency_s": LATENCY_S,
        "concurrency": CONCURRENCY,
        "ideal_rate": ideal,
        "share_of_ideal": rate["generate"] / ideal,
        "share_of_ideal_between_first_and_last_tenth": steady / ideal,
        "ratios": ratios,
        "runs": found,
    }
    if arguments.all_records:
        with server(0.0) as url, tempfile.TemporaryDirectory() as folder:
            result["all_records"] = everything = measure(
                sys.executable, OURS, url, ALL_RECORDS, CONCURRENCY, Path(folder) / "run"
            )
        memory = [f"{size / 2**20:.0f}" for size in everything["memory_bytes"]]
        print(in_words("generate, no latency", [everything]))
        print(f"memory in MiB after each 10,000 replies: {', '.join(memory)}")
    keep("generation_throughput", {**result, **about})


if __name__ == "__main__":
    main()
