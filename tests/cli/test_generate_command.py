"""`fairpp generate` as users run it: in a process of its own, against a server that counts its calls."""

import os
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from loopback_batches import BatchServer, stopping
from loopback_openai import Call, LoopbackServer, Served, letter_by_hash

from fairpp_hf import generation
from fairpp_hf.cli import main
from fairpp_hf.personas import load_personas
from fairpp_hf.questions import load_questions, sample_questions
from fairpp_hf.runs import load_run
from fairpp_hf.runs.spending import dollars

LIMIT = 30
REQUESTS = 7 * LIMIT
CONCURRENCY = 6
SERVER = ["--respondent", "openai", "--model", "gpt-4o", "--base-url", "http://127.0.0.1:1/v1"]


def slow_letter(call: Call) -> Served:
    return letter_by_hash(call)._replace(delay_s=0.02)


def command(run: Path, base_url: str) -> list[str]:
    words = ["generate", "--run", str(run), "--respondent", "openai", "--model", "m", "--base-url", base_url]
    return [*words, "--split", "test", "--limit", str(LIMIT), "--concurrency", str(CONCURRENCY)]


def start(run: Path, base_url: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    return subprocess.Popen(
        [sys.executable, "-m", "fairpp_hf", *command(run, base_url)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )


def wait_for_calls(server: LoopbackServer, count: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while server.total < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_second_process_is_refused_and_a_signal_stops_the_first_cleanly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    with LoopbackServer(slow_letter) as server:
        first = start(run, server.base_url)
        wait_for_calls(server, 20, first)
        # While the second tries, this process, the first must not finish: it is frozen, and its calls with it.
        os.kill(first.pid, signal.SIGSTOP)
        try:
            calls = server.total
            assert main(command(run, server.base_url)) == 1
            out, err = capsys.readouterr()
            assert out == ""
            assert err == (
                f"fairpp generate: A run must be written by one process at a time; got {run} in use by process {first.pid} "
                f"on {socket.gethostname()}. Wait until it ends, or use another run.\n"
            )
            assert server.total <= calls + CONCURRENCY
            first.send_signal(signal.SIGTERM)
            os.kill(first.pid, signal.SIGCONT)
            out, err = first.communicate(timeout=60)
        finally:
            first.kill()  # also one that is frozen still
            first.wait()
        assert first.returncode == 128 + signal.SIGTERM, err
        # Everything in flight was waited for and kept.
        assert server.completed == server.total == len(load_run(run)) < REQUESTS
        assert (
            out.splitlines()[-1] == f"Stopped with {REQUESTS - server.total} requests left. The same command continues."
        )
        assert "Traceback" not in err


def test_a_rejected_key_stops_at_once_and_a_good_one_continues(tmp_path: Path, capsys) -> None:
    good = [True]

    def answer(call: Call) -> Served:
        if good[0] and call.user == prompts[2] and call.system == portraits[0]:
            good[0] = False
        return Served("B") if good[0] else Served(status=401, error={"message": "Key expired."})

    table = load_questions("test")
    prompts = table.take(sample_questions(table, 5))["prompt"].to_pylist()
    portraits = [persona.portrait for persona in load_personas()]
    with LoopbackServer(answer) as server:
        command = ["generate", "--run", str(tmp_path / "run"), "--respondent", "openai", "--model", "m"]
        command += ["--base-url", server.base_url, "--split", "test", "--limit", "5", "--concurrency", "1"]
        assert main(command) == 1
        assert server.total == 3
        assert capsys.readouterr().err.splitlines()[-1] == (
            "fairpp generate: The server must accept the key; got 401 for model 'm': Key expired. Set OPENAI_API_KEY to a "
            "valid one. "
            f"2 of 35 requests have a reply in {tmp_path / 'run'}. The same command or call continues."
        )
        server.answer = lambda call: Served("C")
        assert main(command) == 0
        assert server.total == 3 + 33
    out = capsys.readouterr().out.splitlines()
    assert out[:3] == [
        "persona                     ok",
        "progressive_activists        5",
        "civic_pragmatists            5",
    ]
    assert out[-2].startswith("33 asked, 2 kept from before, in ")
    assert load_run(tmp_path / "run")["answer"].to_pylist() == [1, 1] + [2] * 33


def test_the_survey_answers_and_a_larger_limit_contains_the_smaller(tmp_path: Path, capsys) -> None:
    command = ["generate", "--run", str(tmp_path), "--respondent", "survey", "--limit"]
    assert main([*command, "20"]) == 0
    first = load_run(tmp_path).to_pylist()
    assert main([*command, "30"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-2].startswith("70 asked, 140 kept from before, in ")
    second = load_run(tmp_path).to_pylist()
    assert all(record in second for record in first)
    assert len(second) == 210


def test_a_local_model_answers(tmp_path: Path, tiny_model_path: Path, capsys) -> None:
    command = ["generate", "--run", str(tmp_path), "--respondent", "transformers", "--model", str(tiny_model_path)]
    assert main([*command, "--limit", "1", "--split", "test"]) == 0
    records = load_run(tmp_path)
    assert set(records["respondent"].to_pylist()) == {"transformers:tiny-llama (simulated)"}
    assert records["probabilities"].null_count == 0
    assert main([*command, "--limit", "1", "--split", "test"]) == 0
    assert "0 asked, 7 kept from before" in capsys.readouterr().out


# --- Money ---


def openai_command(run: Path, server: LoopbackServer, *options: object) -> list[str]:
    command = ["generate", "--run", str(run), "--respondent", "openai", "--model", "m", "--base-url", server.base_url]
    return [*command, "--split", "test", "--limit", "3", *map(str, options)]


def test_a_dry_run_counts_prices_asks_nothing_and_writes_nothing(tmp_path: Path, capsys) -> None:
    with LoopbackServer() as server:
        assert main(openai_command(tmp_path / "run", server, "--dry-run", "--price", 1, 10, "--max-cost", 1)) == 0
        assert server.total == 0
        assert list(tmp_path.iterdir()) == []
        out = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
        assert out[:2] == ["calls to make 21", "kept from before 0"]
        assert out[4].startswith("cost about $0.0")
        assert out[5:7] == [
            "Tokens by the lengths of the texts; a model that thinks before it answers writes more.",
            "Prices: --price; $1 a million input tokens, $10 output.",
        ]
        assert out[7].endswith("is within --max-cost $1.00.")
        assert out[8] == "Nothing was asked and nothing written. Without --dry-run, the same command asks."
        # With replies that the server has counted, 7 tokens in and 1 out each.
        assert main(openai_command(tmp_path / "run", server)) == 0
        written = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.suffix == ".json"}
        capsys.readouterr()
        dry = ["--dry-run", "--batch", "--price", 1, 10, "--limit", 5, "--max-cost", 0.0001]
        assert main(openai_command(tmp_path / "run", server, *dry)) == 0
        assert server.total == 21
    out = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    # The other prompts are about as long: 95 tokens at 1 and 14 at 10 a million. --price holds in batches as well.
    assert out[:4] == ["calls to make 14", "kept from before 21", "input tokens about 95", "output tokens about 14"]
    assert out[4:7] == ["cost about $0.000235", "cost in batches about $0.000235", "spent before unknown"]
    assert out[7] == "Tokens as in 21 replies of this run."
    assert out[9] == "The whole run, about $0.000235, is more than --max-cost $0.000100."
    assert written == {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.suffix == ".json"}


def test_a_cap_stops_says_what_was_spent_and_a_higher_one_goes_on(tmp_path: Path, capsys) -> None:
    """A reply costs 7 tokens at 1 and 1 at 10 a million: 0.000017 dollars, so that 0.00018 buy ten. The guess for the first
    is larger, and has no room in a smaller cap."""
    run = tmp_path / "run"
    with LoopbackServer() as server:
        priced = openai_command(run, server, "--price", 1, 10, "--concurrency", 3, "--max-tokens", 8)
        assert main([*priced, "--max-cost", "0.0006"]) == 0
        assert server.total == 21
        capsys.readouterr()
        assert main([*priced, "--limit", "9", "--max-cost", "0.0009"]) == 1
        printed = capsys.readouterr()
        bought = server.total
        assert 0.0009 - 3 * 0.000017 <= bought * 0.000017 <= 0.0009
        spent = dollars(bought * 0.000017)
        assert f"got {spent} spent of $0.000900 by {run}, and {63 - bought} requests are left" in printed.err
        assert printed.out.splitlines()[-1].startswith(f"Spent: {spent}; {7 * bought} input and {bought} output tokens")
        assert main([*priced, "--limit", "9", "--max-cost", "0.0001"]) == 1
        assert f"must be at least what the run has cost so far, {dollars(bought * 0.000017)}; got" in (
            capsys.readouterr().err
        )
        assert server.total == bought
        assert main([*priced, "--limit", "9", "--max-cost", "1"]) == 0
        assert server.total == 63
    assert load_run(run)["status"].to_pylist() == ["ok"] * 63


@pytest.mark.parametrize("collects", [True, False])
def test_a_stop_leaves_batches_at_the_provider_to_be_collected_or_given_up_and_bought_again(
    collects: bool, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = generation.BatchLimits
    monkeypatch.setattr(generation, "BatchLimits", partial(limits, poll_s=60))
    with BatchServer(letter_by_hash, polls=3) as server:
        plain = openai_command(tmp_path, server)
        command = [*plain, "--batch", "--batch-tokens", "100000"]
        server.fault = stopping(signal.SIGTERM)
        assert main(command) == 128 + signal.SIGTERM
        printed = capsys.readouterr()
        assert printed.out.splitlines()[-1] == (
            "Stopped with 20 requests left. Submitted batches go on at the provider. The same command collects them and "
            "continues."
        )
        assert "Stopping: batches go on at the provider" in printed.err
        assert main(plain) == 1
        assert "got 20 requests in 1 unfinished batches, of" in capsys.readouterr().err
        assert server.total == 1
        if collects:
            monkeypatch.setattr(generation, "BatchLimits", partial(limits, poll_s=0.02))
            assert main(command) == 0
            assert (server.total, sum(server.answers.values()), server.answered_twice()) == (1, 20, [])
            assert "20 asked, 1 kept from before" in capsys.readouterr().out
        else:
            assert main([*plain, "--give-up-batches"]) == 0
            assert server.total == 21
            said = "Gave up batches with 20 requests, which will be bought again."
            assert capsys.readouterr().out.splitlines()[0] == said
    assert load_run(tmp_path)["status"].to_pylist() == ["ok"] * 21


def test_how_the_server_is_asked_reaches_every_request_and_each_is_bought_once(tmp_path: Path, capsys) -> None:
    """One of them takes longer than --timeout, and comes at once when it is asked for again."""

    def answer(call: Call) -> Served:
        return Served("B", delay_s=5.0 if server.total == 3 else 0.0)

    fixed = ["--samples", 3, "--temperature", 0.7, "--swap", "--ask", "text", "--no-logprobs", "--system-as-user"]
    with LoopbackServer(answer) as server:
        command = openai_command(tmp_path, server, *fixed, "--timeout", 0.5)
        started = time.monotonic()
        assert main(command) == 0
        assert time.monotonic() - started < 5
        assert server.total == 21 * 3 * 2 + 1
        assert sorted(server.calls.values()) == [3] * 41 + [4]
        assert main(command) == 0
        assert server.total == 21 * 3 * 2 + 1
    assert "0 asked, 126 kept from before" in capsys.readouterr().out
    for body in server.bodies:
        assert body.keys() == {"model", "messages", "temperature", "max_tokens"}
        assert body["temperature"] == 0.7
        assert [message["role"] for message in body["messages"]] == ["user"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--respondent", "transformers"], "--respondent transformers must have a model; got none. Add --model MODEL."),
        (["--respondent", "openai", "--model", "m"], "must have a key or a server of your own; got neither"),
        (["--respondent", "survey", "--model", "m"], "--model must come with --respondent transformers or openai; got"),
        (["--respondent", "survey", "--max-cost", "2"], "--max-cost must come with --respondent openai; got"),
        (["--respondent", "survey", "--limit", "0"], "--limit must be at least 1; got 0."),
        ([*SERVER, "--timeout", "0"], "timeout_s must be above 0; got 0.0."),
        ([*SERVER, "--samples", "0"], "--samples must be at least 1; got 0."),
        ([*SERVER, "--samples", "5"], "--samples above 1 must come with a --temperature above 0; got 5"),
        ([*SERVER, "--shard", "9/8"], "A shard must be I/N, with I from 1 to N; got '9/8'."),
        ([*SERVER, "--max-cost", "5", "--dry-run"], "price of every model; got none for openai:gpt-4o (simulated)"),
        ([*SERVER, "--price", "1", "-2"], "--price must be two amounts of at least 0"),
        ([*SERVER, "--prices", __file__], f"at {__file__}. Mend the file."),
        ([*SERVER, "--batch-tokens", "1000"], "--batch-tokens must come with --batch; got it alone."),
        ([*SERVER, "--batch", "--batch-tokens", "0"], "--batch-tokens must be at least 1; got 0."),
    ],
)
def test_arguments_are_checked_before_anything_is_written(
    tmp_path: Path, options: list[str], named: str, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert main(["generate", "--run", str(tmp_path / "run"), *options]) == 1
    assert named in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
