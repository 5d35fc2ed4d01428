"""`fairpp scenarios` against loopback servers: who answers comes from the run, and what it prints."""

import os
import re
import signal

import pytest
from commands import fairpp
from loopback_openai import Call, LoopbackServer, Served
from loopback_stories import tell

from fairpp_hf.cli import main
from fairpp_hf.runs.manifest import read_manifest


@pytest.fixture
def run(tmp_path):
    """A run of two test questions by model m on a server of its own; (path, server)."""
    with LoopbackServer(tell) as server:
        path = tmp_path / "run"
        command = ["generate", "--run", path, "--respondent", "openai", "--model", "m", "--base-url", server.base_url]
        assert (
            fairpp(*command, "--split", "test", "--limit", 2, "--max-tokens", 9, "--personas", "hidden_tribes_2018")
            == 0
        )
        server.reset()
        yield path, server


def test_who_answers_comes_from_the_run(run, capsys):
    path, server = run
    with LoopbackServer(tell) as teller:
        command = ["scenarios", "--run", path, "--storyteller", "t", "--storyteller-url", teller.base_url, "--limit", 3]
        assert fairpp(*command) == 0
        assert (teller.total, server.total) == (3, 21)
        assert fairpp(*command) == 0
        assert (teller.total, server.total) == (3, 21)
        assert {(body["model"], body["temperature"], body["max_tokens"]) for body in teller.bodies} == {
            ("t", 0.7, 1500)
        }
    assert {(body["model"], body["temperature"], body["max_tokens"]) for body in server.bodies} == {("m", 0.0, 9)}
    manifests = [read_manifest(path / part) for part in ("scenarios", "scenarios/stories")]
    assert manifests[0]["personas"]["set"] == "hidden_tribes_2018"
    for manifest in manifests:
        assert manifest["questions"]["selection"] == {"split": "test", "limit": 3}
    printed = capsys.readouterr().out
    assert "Stories: 3 told, 0 set aside.\n" in printed
    assert "progressive_activists" in printed
    assert f"Stories in {path}/scenarios/stories, scenarios and answers in {path}/scenarios.\n" in printed
    assert printed.endswith(f"Next: fairpp build --run {path} --out fairpp\n")


def test_what_comes_next_works_where_scenarios_alone_were_answered(tmp_path, capsys):
    import shlex

    from datasets import load_dataset

    with LoopbackServer(tell) as server:
        both = ["--storyteller", "t", "--storyteller-url", server.base_url, "--base-url", server.base_url, "--limit", 4]
        command = ["scenarios", *both, "--respondent", "openai", "--model", "m", "--run"]
        parts = [tmp_path / "1", tmp_path / "2"]
        for number, part in enumerate(parts, 1):
            assert fairpp(*command, part, "--shard", f"{number}/2") == 0
            assert capsys.readouterr().out.endswith(
                f"Next: fairpp merge --out RUN {part} ..., with the runs of all shards\n"
            )
        assert fairpp("merge", "--out", tmp_path / "all", *parts) == 0
        asked = server.total
        capsys.readouterr()
        assert fairpp(*command, tmp_path / "all") == 0
        assert server.total == asked
    following = capsys.readouterr().out.splitlines()[-1].removeprefix("Next: ")
    shell, python = following.split(", or in Python ")
    assert main(shlex.split(shell)[1:]) == 0
    assert len(eval(python, {"load_dataset": load_dataset})["test"]) == 4 * 7


def test_a_dry_run_asks_nothing(run, capsys):
    path, server = run
    command = ["scenarios", "--run", path, "--storyteller", "gpt-4o", "--dry-run", "--limit", 4]
    assert fairpp(*command) == 0
    assert server.total == 0
    assert not (path / "scenarios").exists()
    printed = capsys.readouterr().out
    assert "Stories, storyteller:gpt-4o (simulated):\ncalls to make" in printed
    assert re.search(r"output tokens +about 1,200\n", printed)
    assert "Answers, openai:m (simulated):\ncalls to make" in printed
    assert printed.endswith("Nothing was asked and nothing written. Without --dry-run, the same command asks.\n")


def test_ctrl_c_says_how_to_go_on(run, capsys):
    path, server = run

    def answer(call: Call) -> Served:
        if server.total == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return tell(call)

    server.answer = answer
    command = ["scenarios", "--run", path, "--storyteller", "t", "--storyteller-url", server.base_url, "--limit", 5]
    assert fairpp(*command, "--concurrency", 1) == 130
    assert capsys.readouterr().out.endswith("Stopped with 2 requests left. The same command continues.\n")
    assert fairpp(*command) == 0
    assert len(server.calls) == server.total == 5 + 35


@pytest.mark.parametrize("given", [("--model", "m2"), ("--respondent", "openai", "--model", "m2")])
def test_another_model_answers_on_the_runs_own_server(run, given):
    """Never silently at OpenAI: the server, the settings and the personas of RUN hold beside another model."""
    path, server = run
    command = ["scenarios", "--run", path, "--storyteller", "t", "--storyteller-url", server.base_url, "--limit", 1]
    assert fairpp(*command, *given) == 0
    bodies = [body for body in server.bodies if body["model"] != "t"]
    assert {(body["model"], body["temperature"], body["max_tokens"]) for body in bodies} == {("m2", 0.0, 9)}
    assert read_manifest(path / "scenarios")["personas"]["set"] == "hidden_tribes_2018"
    with LoopbackServer(tell) as other:
        assert fairpp(*command, *given, "--base-url", other.base_url, "--max-tokens", 5) == 0
        assert {body["max_tokens"] for body in other.bodies} == {5}


def test_stories_and_answers_have_a_price_each_and_one_cap(run, capsys):
    """Replies have 7 input tokens and 1 output token: a story costs 9 dollars here, an answer 3."""
    path, server = run
    command = ["scenarios", "--run", path, "--storyteller", "t", "--storyteller-url", server.base_url, "--limit", 2]
    prices = ["--storyteller-price", "1e6", "2e6", "--price", "0", "3e6"]
    assert fairpp(*command, *prices) == 0
    printed = capsys.readouterr().out
    assert "Spent on stories: $18.00; 14 input and 2 output tokens" in printed
    assert "Spent: $42.00; 98 input and 14 output tokens" in printed
    calls = server.total
    assert fairpp(*command, "--max-cost", "50", *prices) == 1
    assert "have cost so far, $60.00; got $50.00 for" in capsys.readouterr().err
    assert fairpp(*command, "--max-cost", "50") == 1
    assert capsys.readouterr().err.startswith(
        "fairpp scenarios: --max-cost must come with the price of every model; got none for "
    )
    assert server.total == calls


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ((), "got no run at {run}. Make one with `fairpp generate`, or add --respondent openai --model MODEL."),
        (("--respondent", "openai"), "--respondent openai must have a model; got none. Add --model MODEL."),
        (
            ("--respondent", "transformers", "--model", "x", "--temperature", "1"),
            "--temperature must come with --respondent openai; got --respondent transformers.",
        ),
        (("--respondent", "openai", "--model", "m", "--limit", "0"), "--limit must be at least 1; got 0."),
        (
            ("--respondent", "openai", "--model", "m", "--samples", "2"),
            "--samples above 1 must come with a --temperature",
        ),
        (("--respondent", "openai", "--model", "m", "--shard", "3/2"), "A shard must be I/N, with I from 1 to N"),
        (("--respondent", "openai", "--model", "m"), "must have a key or a server of your own; got neither."),
    ],
)
def test_bad_arguments_are_said_before_anything(words, named, tmp_path, capsys):
    run = tmp_path / "run"
    assert fairpp("scenarios", "--run", run, "--storyteller", "t", *words) == 1
    assert named.format(run=run) in capsys.readouterr().err
    assert not run.exists()


def test_how_the_run_was_asked_is_how_its_scenarios_are(tmp_path):
    with LoopbackServer(tell) as server:
        fixed = ["--ask", "text", "--no-logprobs", "--system-as-user"]
        model = ["--respondent", "openai", "--model", "m", "--base-url", server.base_url]
        assert fairpp("generate", "--run", tmp_path, *model, "--split", "test", "--limit", 1, *fixed) == 0
        server.reset()
        teller = ["--storyteller", "t", "--storyteller-url", server.base_url]
        assert fairpp("scenarios", "--run", tmp_path, *teller, "--limit", 1) == 0
        answers = [body for body in server.bodies if body["model"] == "m"]
    assert len(answers) == 7
    assert all({"response_format", "logprobs"}.isdisjoint(body) for body in answers)
    settings = read_manifest(tmp_path / "scenarios")["respondent"]["settings"]
    assert (settings["ask"], settings["logprobs"], settings["system_as_user"]) == ("text", False, True)
