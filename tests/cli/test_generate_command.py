"""`fairpp generate` as users run it: in a process of its own, against a server that counts its calls."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from loopback_openai import Call, LoopbackServer, Served, letter_by_hash

from fairpp_hf.cli import main
from fairpp_hf.generation import load_run
from fairpp_hf.personas import load_personas
from fairpp_hf.questions import load_questions, sample_questions

LIMIT = 30
REQUESTS = 7 * LIMIT
CONCURRENCY = 6


def slow_letter(call: Call) -> Served:
    return letter_by_hash(call)._replace(delay_s=0.02)


def start(run: Path, base_url: str, **options: object) -> subprocess.Popen[str]:
    arguments = {"limit": LIMIT, "split": "test", "model": "m", "concurrency": CONCURRENCY, **options}
    command = [sys.executable, "-m", "fairpp_hf", "generate", "--run", str(run), "--respondent", "openai"]
    command += ["--base-url", base_url]
    for name, value in arguments.items():
        command += [f"--{name}", str(value)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )


def wait_for_calls(server: LoopbackServer, count: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while server.total < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_killed_run_continues_without_buying_a_kept_reply_again(tmp_path: Path) -> None:
    """Killed at about a third and two thirds, then finished. Every persona and question has an answer; no reply is
    bought a third time, and at most the requests in flight at a kill are bought a second time; the table is that of a
    run that was never killed."""
    run = tmp_path / "killed"
    with LoopbackServer(slow_letter) as server:
        for kills, calls in ((1, REQUESTS // 3), (2, 2 * REQUESTS // 3)):
            process = start(run, server.base_url)
            wait_for_calls(server, calls, process)
            process.kill()
            process.communicate()
            assert process.returncode == -signal.SIGKILL
            # All but the calls in flight are on disk, and can be read without a clean end.
            assert server.total - kills * CONCURRENCY <= len(load_run(run)) < REQUESTS
        process = start(run, server.base_url)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        again = Counter(server.calls.values())
        assert again[1] + again[2] == REQUESTS
        assert again[2] <= 2 * CONCURRENCY
        assert server.total <= REQUESTS + 2 * CONCURRENCY
        assert out.splitlines()[-1] == f"Next: fairpp build --run {run} --out fairpp"

        server.reset()
        command = ["generate", "--run", str(tmp_path / "whole"), "--respondent", "openai", "--model", "m"]
        assert main([*command, "--base-url", server.base_url, "--split", "test", "--limit", str(LIMIT)]) == 0
        assert server.total == REQUESTS
    records = load_run(run)
    assert records == load_run(tmp_path / "whole")

    questions = load_questions("test")
    questions = questions.take(sample_questions(questions, LIMIT))
    personas = load_personas()
    assert records["persona"].to_pylist() == [persona for persona in personas.ids for _ in range(LIMIT)]
    assert records["question_id"].to_pylist() == questions["question_id"].to_pylist() * 7
    expected = [
        "ABC".index(letter_by_hash(Call(persona.portrait, prompt, 0, {})).content or "")
        for persona in personas
        for prompt in questions["prompt"].to_pylist()
    ]
    assert records["answer"].to_pylist() == expected
    assert set(records["respondent"].to_pylist()) == {"openai:m (simulated)"}


def test_a_second_process_is_refused_and_a_signal_stops_the_first_cleanly(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with LoopbackServer(slow_letter) as server:
        first = start(run, server.base_url)
        wait_for_calls(server, 20, first)
        second = start(run, server.base_url)
        # While the second starts up, the first must not finish: it is frozen, and its calls with it.
        os.kill(first.pid, signal.SIGSTOP)
        calls = server.total
        out, err = second.communicate(timeout=60)
        assert (second.returncode, out) == (1, "")
        assert err == (
            f"fairpp generate: A run must be written by one process at a time; got {run} in use by process {first.pid}. "
            "Wait until it ends, or stop it, or use another --run.\n"
        )
        assert server.total <= calls + CONCURRENCY
        first.send_signal(signal.SIGTERM)
        os.kill(first.pid, signal.SIGCONT)
        out, err = first.communicate(timeout=60)
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
        Served("A"),
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
            "use another --run, or serve it under a name of its own."
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
