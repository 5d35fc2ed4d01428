"""Fault 1: a run that is killed at any moment keeps every reply that came, and ends as if it had never been killed."""

import multiprocessing
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from killed_processes import forkserver
from loopback_openai import Call, LoopbackServer, Served, letter_by_hash

from fairpp_hf.cli import main
from fairpp_hf.personas import load_personas
from fairpp_hf.questions import load_questions, sample_questions
from fairpp_hf.runs import load_run
from fairpp_hf.runs.journal import Journal

LIMIT = 58
REQUESTS = 7 * LIMIT
CONCURRENCY = 8


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> multiprocessing.context.ForkServerContext:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return forkserver()


def command(run: Path, base_url: str) -> list[str]:
    words = ["generate", "--run", str(run), "--respondent", "openai", "--model", "m", "--base-url", base_url]
    return [*words, "--split", "test", "--limit", str(LIMIT), "--concurrency", str(CONCURRENCY)]


def finish(words: Sequence[str]) -> None:
    raise SystemExit(main(words))


def kept(run: Path) -> int:
    if not (run / "journal.sqlite").exists():
        return 0
    with Journal(run, read_only=True) as journal:
        return sum(sum(counts.values()) for counts in journal.counts().values())


def wait_until(condition, what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.001)


@pytest.mark.parametrize("kills_in_all", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_again_and_again_a_run_ends_as_if_it_had_never_been(
    tmp_path: Path, processes: multiprocessing.context.ForkServerContext, kills_in_all: int
) -> None:
    """A SIGKILL when the server has seen this and that many calls. Each costs at most the calls in flight a second time."""
    run = tmp_path / "killed"
    points = sorted(random.Random(5).sample(range(1, REQUESTS - 10), kills_in_all))

    def slow_letter(call: Call) -> Served:
        return letter_by_hash(call)._replace(delay_s=0.005)

    with LoopbackServer(slow_letter) as server:
        lost = 0
        for kills, point in enumerate(points, 1):
            process = processes.Process(target=finish, args=(command(run, server.base_url),))
            process.start()
            wait_until(lambda: server.total >= point or not process.is_alive(), f"{server.total} calls")  # noqa: B023
            process.kill()
            process.join()
            assert process.exitcode == -signal.SIGKILL
            wait_until(lambda: server.in_flight == 0, "calls in flight")
            lost = server.total - kept(run)
            assert lost <= kills * CONCURRENCY
        process = processes.Process(target=finish, args=(command(run, server.base_url),))
        process.start()
        process.join(timeout=60)
        assert process.exitcode == 0
        again = Counter(server.calls.values())
        assert sum(again.values()) == REQUESTS
        assert server.total == REQUESTS + lost
        assert lost <= kills_in_all * CONCURRENCY
        # Asked once more, it asks nothing.
        assert main(command(run, server.base_url)) == 0
        assert server.total == REQUESTS + lost

        server.reset()
        assert main(command(tmp_path / "whole", server.base_url)) == 0
        assert server.total == REQUESTS
    records = load_run(run)
    assert records == load_run(tmp_path / "whole")

    questions = load_questions("test")
    questions = questions.take(pa.array(sample_questions(questions, LIMIT)))
    personas = load_personas()
    assert records["persona"].to_pylist() == [persona for persona in personas.ids for _ in range(LIMIT)]
    assert records["question_id"].to_pylist() == questions["question_id"].to_pylist() * 7
    assert records["answer"].to_pylist() == [
        "ABC".index(letter_by_hash(Call(persona.portrait, prompt, 0, {})).content or "")
        for persona in personas
        for prompt in questions["prompt"].to_pylist()
    ]
    assert set(records["respondent"].to_pylist()) == {"openai:m (simulated)"}
