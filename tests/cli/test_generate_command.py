"""`fairpp generate` as users run it: in a process of its own, against a server that counts its calls."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from loopback_batches import BatchServer, Fault
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


def test_how_the_server_is_asked_is_shown_also_where_it_takes_everything(tmp_path: Path) -> None:
    def answer(call: Call) -> Served:
        tokens = [[('{"answer":"', -0.1)], [("B", -0.1)], [('"}', -0.1)]]
        return Served('{"answer":"B"}', tokens=tokens)

    with LoopbackServer(answer) as server:
        process = start(tmp_path / "run", server.base_url)
        _, err = process.communicate(timeout=120)
    line = f"The server {server.base_url} is asked like this: constrained choice, 20 alternatives of each token."
    assert (process.returncode, err.count(line)) == (0, 1)


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
            "valid one. Every reply received so far is kept; run the same command again to continue. "
            f"2 of 35 requests have a reply in {tmp_path / 'run'}."
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


def test_replies_that_are_no_answer_are_counted_apart(tmp_path: Path, capsys) -> None:
    served = [
        Served("A", first_token=[("A", -0.5)]),
        Served("D"),
        Served(None, refusal="No."),
        Served(""),
        Served("Well,", finish_reason="length"),
        Served(status=400, error={"message": "No."}),
        Served("B", first_token=[("B", -0.5), ("A", -1.5), ("C", -2.5)]),
    ]
    portraits = [persona.portrait for persona in load_personas()]
    with LoopbackServer(lambda call: served[portraits.index(call.system)]) as server:
        command = ["generate", "--run", str(tmp_path), "--respondent", "openai", "--model", "m"]
        assert main([*command, "--base-url", server.base_url, "--limit", "2"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].split() == ["persona", "ok", "invalid", "refusal", "empty", "truncated", "failed"]
    assert out[8].split() == ["all", "4", "2", "2", "2", "2", "2"]
    assert out[-3:] == [
        "2 requests failed. The same command asks them again.",
        "2 replies were cut off before an answer. A larger --max-tokens asks anew.",
        f"Next: fairpp build --run {tmp_path} --out fairpp",
    ]
    records = load_run(tmp_path)
    assert records["answer"].to_pylist() == [0, 0] + [-1] * 10 + [1, 1]
    assert records["probabilities"].to_pylist()[:12] == [None] * 12
    assert sum(records["probabilities"].to_pylist()[-1]) == pytest.approx(1)


def test_a_429_is_waited_out(tmp_path: Path) -> None:
    def answer(call: Call) -> Served:
        busy = call.number == 0 and server.total > 10 and server.total <= 14
        return Served(status=429, headers={"Retry-After": "1"}) if busy else Served("A")

    with LoopbackServer(answer) as server:
        command = ["generate", "--run", str(tmp_path), "--respondent", "openai", "--model", "m"]
        started = time.monotonic()
        assert main([*command, "--base-url", server.base_url, "--limit", "5", "--concurrency", "4"]) == 0
        assert time.monotonic() - started > 1
    assert load_run(tmp_path)["status"].to_pylist() == ["ok"] * 35
    assert server.total <= 35 + 4


def test_another_server_for_the_same_model_is_said_and_no_secret_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with LoopbackServer() as first, LoopbackServer() as second:
        for server, limit in ((first, 2), (second, 3), (second, 3)):
            base_url = server.base_url.replace("http://", "http://me:secret@") + "/"
            command = ["generate", "--run", str(tmp_path), "--respondent", "openai", "--model", "m"]
            assert main([*command, "--base-url", base_url, "--limit", str(limit)]) == 0
        assert (first.total, second.total) == (14, 7)
        warned = [message for message in caplog.messages if "asked it at" in message]
        assert warned == [
            f"The run {tmp_path} now asks openai:m (simulated) at {second.base_url}, and asked it at {first.base_url} "
            "before. Replies are kept by the model's name, so the 14 that it has stay. If another model answers there, "
            "use another run, or serve it under a name of its own."
        ]
    for file in tmp_path.iterdir():
        assert b"secret" not in file.read_bytes()


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


def test_a_dry_run_at_openai_needs_no_key(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    command = [
        "generate",
        "--run",
        str(tmp_path / "run"),
        "--respondent",
        "openai",
        "--model",
        "gpt-4o-mini-2024-07-18",
    ]
    assert main([*command, "--dry-run", "--batch"]) == 0
    out = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert out[0] == "calls to make 198,940"
    assert out[4].startswith("cost about $")
    assert float(out[5].rpartition("$")[2]) == pytest.approx(float(out[4].rpartition("$")[2]) / 2, abs=0.01)
    assert "Prices: list prices of 2025-08-31, to be checked; $0.15 a million input tokens, $0.6 output." in out
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_of_the_survey_counts_calls_alone(tmp_path: Path, capsys) -> None:
    command = ["generate", "--run", str(tmp_path / "run"), "--respondent", "survey", "--limit", "10", "--dry-run"]
    assert main(command) == 0
    assert capsys.readouterr().out.splitlines() == [
        "calls to make     70",
        "kept from before   0",
        "No server is asked, so that nothing is paid.",
        "Nothing was asked and nothing written. Without --dry-run, the same command asks.",
    ]


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


def test_samples_and_orders_are_bought_once_each(tmp_path: Path, capsys) -> None:
    with LoopbackServer() as server:
        command = openai_command(tmp_path, server, "--samples", 3, "--temperature", 0.7, "--swap")
        assert main(command) == 0
        assert server.total == 21 * 3 * 2
        assert set(server.calls.values()) == {3}
        assert len(server.calls) == 42
        assert {body["temperature"] for body in server.bodies} == {0.7}
        assert main(command) == 0
        assert server.total == 21 * 3 * 2
    assert "0 asked, 126 kept from before" in capsys.readouterr().out


def test_two_shards_ask_every_request_once(tmp_path: Path, capsys) -> None:
    with LoopbackServer() as server:
        for index in (1, 2):
            assert main(openai_command(tmp_path / str(index), server, "--shard", f"{index}/2")) == 0
            assert capsys.readouterr().out.splitlines()[-1] == (
                f"Next, with the runs of all 2 shards: fairpp merge --out RUN {tmp_path / str(index)} ..."
            )
        assert (server.total, set(server.calls.values())) == (21, {1})


def test_several_servers_share_the_load(tmp_path: Path) -> None:
    with LoopbackServer(slow_letter) as first, LoopbackServer(slow_letter) as second:
        command = ["generate", "--run", str(tmp_path), "--respondent", "openai", "--model", "m", "--limit", "20"]
        assert main([*command, "--base-url", first.base_url, second.base_url]) == 0
        assert first.total + second.total == 140
        assert min(first.total, second.total) > 20
        assert main([*command, "--base-url", first.base_url, "--base-url", second.base_url]) == 0
        assert first.total + second.total == 140


def test_a_stop_leaves_batches_at_the_provider_and_the_same_command_collects_them(
    tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = generation.BatchLimits
    monkeypatch.setattr(generation, "BatchLimits", partial(limits, poll_s=60))
    with BatchServer(letter_by_hash, polls=3) as server:
        command = openai_command(tmp_path, server, "--batch", "--batch-tokens", 100_000)

        def stop(name: str, _: int) -> Fault | None:
            return Fault(after=lambda: os.kill(os.getpid(), signal.SIGTERM)) if name == "POST /batches" else None

        server.fault = stop
        assert main(command) == 128 + signal.SIGTERM
        printed = capsys.readouterr()
        assert printed.out.splitlines()[-1] == (
            "Stopped with 20 requests left. Submitted batches go on at the provider. The same command collects them and "
            "continues."
        )
        assert "Stopping: batches go on at the provider" in printed.err
        monkeypatch.setattr(generation, "BatchLimits", partial(limits, poll_s=0.02))
        assert main(command) == 0
        assert (server.total, sum(server.answers.values()), server.answered_twice()) == (1, 20, [])
    assert "20 asked, 1 kept from before" in capsys.readouterr().out
    assert load_run(tmp_path)["status"].to_pylist() == ["ok"] * 21


def test_batches_that_are_given_up_are_bought_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "BatchLimits", partial(generation.BatchLimits, poll_s=60))
    with BatchServer(letter_by_hash, polls=3) as server:
        command = openai_command(tmp_path, server)

        def stop(name: str, _: int) -> Fault | None:
            return Fault(after=lambda: os.kill(os.getpid(), signal.SIGTERM)) if name == "POST /batches" else None

        server.fault = stop
        assert main([*command, "--batch"]) == 128 + signal.SIGTERM
        capsys.readouterr()
        assert main(command) == 1
        assert capsys.readouterr().err.splitlines()[-1] == (
            "fairpp generate: A run with batches at the provider must go on by batches; got 20 requests in 1 unfinished "
            f"batches, of {tmp_path}. Their answers are bought already. Continue by batches to collect them first. Where "
            "the provider has lost them, give them up to buy them again."
        )
        assert server.total == 1
        assert main([*command, "--give-up-batches"]) == 0
        assert capsys.readouterr().out.splitlines()[0] == (
            "Gave up batches with 20 requests, which will be bought again."
        )
        assert server.total == 21
    assert load_run(tmp_path)["status"].to_pylist() == ["ok"] * 21


def test_a_reply_is_waited_for_as_long_as_the_user_says(tmp_path: Path) -> None:
    slow = []

    def answer(call: Call) -> Served:
        slow.append(call)
        return Served("A", delay_s=5.0 if len(slow) == 3 else 0.0)

    with LoopbackServer(answer) as server:
        started = time.monotonic()
        assert main(openai_command(tmp_path, server, "--timeout", 0.5, "--concurrency", 1)) == 0
        assert time.monotonic() - started < 5
        assert server.total == 22


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--respondent", "openai", "--base-url", "http://127.0.0.1:1/v1"],
            "--respondent openai must have a model; got none. Add --model MODEL.",
        ),
        (["--respondent", "transformers"], "--respondent transformers must have a model; got none. Add --model MODEL."),
        (
            ["--respondent", "openai", "--model", "m"],
            "The openai respondent must have a key or a server of your own; got neither. "
            "Set OPENAI_API_KEY, or pass --base-url http://HOST:PORT/v1.",
        ),
        (
            ["--respondent", "survey", "--model", "m"],
            "--model must come with --respondent transformers or openai; got --respondent survey. Leave it out.",
        ),
        (
            ["--respondent", "transformers", "--model", "m", "--base-url", "u"],
            "--base-url must come with --respondent openai; got --respondent transformers. Leave it out.",
        ),
        (["--respondent", "survey", "--limit", "0"], "--limit must be at least 1; got 0."),
        (
            ["--respondent", "openai", "--model", "m", "--base-url", "http://127.0.0.1:1/v1", "--concurrency", "0"],
            "concurrency must be at least 1; got 0.",
        ),
        (
            ["--respondent", "survey", "--swap"],
            "--swap must come with --respondent transformers or openai; got --respondent survey. Leave it out.",
        ),
        (
            ["--respondent", "transformers", "--model", "m", "--samples", "2"],
            "--samples must come with --respondent openai; got --respondent transformers. Leave it out.",
        ),
        (
            ["--respondent", "survey", "--max-cost", "2"],
            "--max-cost must come with --respondent openai; got --respondent survey. Leave it out.",
        ),
        ([*SERVER, "--timeout", "0"], "timeout_s must be above 0; got 0.0."),
        (
            ["--respondent", "survey", "--give-up-batches"],
            "--give-up-batches must come with --respondent openai; got --respondent survey. Leave it out.",
        ),
        ([*SERVER, "--samples", "0"], "--samples must be at least 1; got 0."),
        (
            [*SERVER, "--samples", "5"],
            "--samples above 1 must come with a --temperature above 0; got 5 samples at temperature 0, which are paid for "
            "one by one and all alike. Add --temperature 0.7, or leave out --samples.",
        ),
        (
            [*SERVER, "--shard", "9/8"],
            "A shard must be I/N, with I from 1 to N; got '9/8'. The second of eight machines asks 2/8, for instance.",
        ),
        (
            [*SERVER, "--max-cost", "5"],
            "--max-cost must come with the price of every model; got none for openai:gpt-4o (simulated). Add --price IN "
            "OUT, USD per million input and output tokens, or --prices FILE.",
        ),
        (
            [*SERVER, "--max-cost", "5", "--dry-run"],
            "--max-cost must come with the price of every model; got none for openai:gpt-4o (simulated). Add --price IN "
            "OUT, USD per million input and output tokens, or --prices FILE.",
        ),
        (
            [*SERVER, "--max-cost", "0", "--price", "1", "2"],
            "max_cost must be an amount in USD above 0; got 0.0.",
        ),
        (
            [*SERVER, "--price", "1", "-2"],
            "--price must be two amounts of at least 0, USD per million input and output tokens; got 1.0 -2.0.",
        ),
        (
            [*SERVER, "--prices", __file__],
            f"A table of prices must be JSON; got Extra data: line 1 column 3 (char 2) at {__file__}. Mend the file.",
        ),
        (
            [*SERVER, "--batch-tokens", "1000"],
            "--batch-tokens must come with --batch; got it alone. Add --batch, or leave it out.",
        ),
        ([*SERVER, "--batch", "--batch-tokens", "0"], "--batch-tokens must be at least 1; got 0."),
        (
            [*SERVER, "http://127.0.0.1:2/v1", "--batch"],
            "--batch must have one --base-url at most; got 2. Batches are kept by one server.",
        ),
    ],
)
def test_arguments_are_checked_before_anything_is_written(
    tmp_path: Path, options: list[str], message: str, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert main(["generate", "--run", str(tmp_path / "run"), *options]) == 1
    assert capsys.readouterr().err == f"fairpp generate: {message}\n"
    assert not (tmp_path / "run").exists()


def test_an_unknown_persona_set_names_the_nearest(tmp_path: Path, capsys) -> None:
    command = [
        "generate",
        "--run",
        str(tmp_path / "run"),
        "--respondent",
        "survey",
        "--personas",
        "britain_choice_2020",
    ]
    assert main(command) == 1
    assert "Did you mean 'britains_choice_2020'?" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_how_a_server_is_asked_can_be_fixed(tmp_path: Path) -> None:
    with LoopbackServer(lambda call: Served("B")) as server:
        command = ["generate", "--respondent", "openai", "--model", "m", "--base-url", server.base_url, "--limit", "1"]
        fixed = ["--ask", "text", "--no-logprobs", "--system-as-user"]
        assert main([*command, "--run", str(tmp_path / "run"), *fixed]) == 0
    assert server.total == 7
    for body in server.bodies:
        assert body.keys() == {"model", "messages", "temperature", "max_tokens"}
        assert [message["role"] for message in body["messages"]] == ["user"]
    settings = json.loads((tmp_path / "run" / "manifest.json").read_text())["respondent"]["settings"]
    assert (settings["ask"], settings["logprobs"], settings["system_as_user"]) == ("text", False, True)


def test_a_password_in_an_address_that_is_no_url_is_not_printed(tmp_path: Path, capsys) -> None:
    command = ["generate", "--run", str(tmp_path / "run"), "--respondent", "openai", "--model", "m", "--limit", "1"]
    assert main([*command, "--base-url", "http://me:pa#ss@host"]) == 1
    printed = "".join(capsys.readouterr())
    assert printed.startswith("fairpp generate: base_url must be the URL of a server, such as ")
    assert printed.count("\n") == 1
    assert "pa#" not in printed
    assert "ss@host" not in printed
