"""`fairpp scenarios` against loopback servers: who answers comes from the run, and what it prints."""

import json
import os
import re
import signal
import time

import pytest
from loopback_openai import Call, LoopbackServer, Served
from loopback_stories import bad_for, good_story, is_story_call, tell

from fairpp_hf.cli import main
from fairpp_hf.runs.manifest import read_manifest


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


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


def fairpp(*words: object) -> int:
    return main([str(word) for word in words])


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


def test_all_can_be_given_without_a_run(tmp_path, capsys):
    with LoopbackServer(tell) as server:
        assert (
            fairpp(
                *("scenarios", "--run", tmp_path / "new", "--limit", 2, "--tries", 1, "--swap", "--samples", 2),
                *("--storyteller", "t", "--storyteller-url", server.base_url, "--storyteller-temperature", 0.2),
                *("--storyteller-max-tokens", 800, "--respondent", "openai", "--model", "m", "--temperature", 0.5),
                *("--base-url", server.base_url, "--max-tokens", 5, "--concurrency", 3, "--shard", "1/1"),
            )
            == 0
        )
        assert server.total == 2 + 2 * 7 * 4
        assert server.most_in_flight <= 3
    printed = capsys.readouterr().out
    assert f"fairpp merge --out RUN {tmp_path / 'new'} ..., with the runs of all shards" in printed


def test_what_is_set_aside_is_counted_and_how_to_go_on_is_said(run, capsys):
    path, server = run

    def answer(call: Call) -> Served:
        if is_story_call(call) and bad_for(call, 2):
            return Served(content=json.dumps(good_story(call.user)).replace("tonight", "**tonight**"))
        return tell(call)

    server.answer = answer
    command = ["scenarios", "--run", path, "--storyteller", "t", "--storyteller-url", server.base_url, "--limit", 8]
    assert fairpp(*command) == 0
    printed = capsys.readouterr().out
    bad = len((path / "scenarios" / "set_aside.jsonl").read_text().splitlines())
    assert 0 < bad < 8
    assert f"Stories: {8 - bad} told, {bad} set aside.\n" in printed
    assert f"Set aside for: markup {bad} (a story may count twice). See {path}/scenarios/set_aside.jsonl.\n" in printed
    assert f"--retry-set-aside has {bad} of those set aside told again.\n" in printed
    server.answer = tell
    assert fairpp(*command, "--retry-set-aside") == 0
    assert "Stories: 8 told, 0 set aside.\n" in capsys.readouterr().out


def test_what_can_be_done_about_stories_is_said(run, capsys):
    path, server = run
    kinds = {}

    def answer(call: Call) -> Served:
        if not is_story_call(call):
            return tell(call)
        number = kinds.setdefault(call.user, len(kinds))
        whole = json.dumps(good_story(call.user))
        cut_off = Served(content=whole[:90], finish_reason="length")
        return [cut_off, Served(content=None, refusal="No."), Served(status=400, error={"message": "no"})][number % 3]

    server.answer = answer
    command = ["scenarios", "--run", path, "--storyteller", "t", "--storyteller-url", server.base_url, "--limit", 6]
    assert fairpp(*command, "--retry-set-aside") == 0
    assert capsys.readouterr().out.endswith(
        f"Stories in {path}/scenarios/stories, scenarios and answers in {path}/scenarios.\n"
        "2 requests failed. The same command without --retry-set-aside asks them again.\n"
        "--retry-set-aside has 2 of those set aside told again.\n"
        "2 stories were cut off: give a larger --storyteller-max-tokens with it. Whole stories stay as they are.\n"
        "2 refusals stay as they are.\n"
    )
    capsys.readouterr()
    assert fairpp(*command, "--retry-set-aside", "--dry-run") == 0
    stories, answers = capsys.readouterr().out.split("\n\n")[:2]
    # The two that failed and the two that were cut off; a refusal is final.
    assert re.search(r"calls to make +4\n", stories)
    assert re.search(r"calls to make +28\n", answers)


def test_batches_of_both_stages_can_be_given_up(run, capsys):
    path, server = run
    command = ["scenarios", "--run", path, "--storyteller", "t", "--storyteller-url", server.base_url, "--limit", 1]
    assert fairpp(*command, "--give-up-batches") == 0
    assert capsys.readouterr().out.startswith("Gave up batches with 0 requests, which will be bought again.\n")


def test_a_dry_run_of_what_is_all_set_aside(run, capsys):
    path, server = run
    server.answer = lambda call: Served(content="No.") if is_story_call(call) else tell(call)
    command = ["scenarios", "--run", path, "--storyteller", "t", "--storyteller-url", server.base_url, "--limit", 2]
    assert fairpp(*command, "--tries", 1) == 0
    capsys.readouterr()
    assert fairpp(*command, "--dry-run") == 0
    assert "Answers, openai:m (simulated):\nevery story is set aside: there is nothing to answer.\n" in (
        capsys.readouterr().out
    )


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


def test_costs_have_a_price_each(run, capsys, tmp_path):
    """Replies have 7 input tokens and 1 output token: a story costs 9 dollars here, an answer 3."""
    path, server = run
    command = ["scenarios", "--run", path, "--storyteller", "t", "--storyteller-url", server.base_url, "--limit", 2]
    assert fairpp(*command, "--storyteller-price", "1e6", "2e6", "--price", "0", "3e6") == 0
    printed = capsys.readouterr().out
    assert "Spent on stories: $18.00; 14 input and 2 output tokens" in printed
    assert "Spent: $42.00; 98 input and 14 output tokens" in printed
    assert fairpp(*command, "--max-cost", "50", "--storyteller-price", "1e6", "2e6", "--price", "0", "3e6") == 1
    assert capsys.readouterr().err == (
        "fairpp scenarios: max_cost must be at least what stories and answers have cost so far, $60.00; got $50.00 for "
        f"{path}/scenarios. Raise max_cost.\n"
    )
    assert fairpp(*command, "--max-cost", "50") == 1
    assert capsys.readouterr().err.startswith(
        "fairpp scenarios: --max-cost must come with the price of every model; got none for storyteller:t (simulated). Add "
        "--storyteller-price IN OUT, USD per million input and output tokens, or --prices FILE.\n"
    )


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


def test_stories_and_answers_are_waited_for_as_long_as_the_user_says(run):
    """The second story and the second answer take 5 s, and come at once when asked for again."""
    path, server = run
    came = []

    def answer(call: Call) -> Served:
        came.append(is_story_call(call))
        late = came.count(came[-1]) == 2
        return tell(call)._replace(delay_s=5.0 if late else 0.0)

    server.answer = answer
    command = ["scenarios", "--run", path, "--storyteller", "t", "--storyteller-url", server.base_url, "--limit", 2]
    started = time.monotonic()
    assert fairpp(*command, "--timeout", 0.4, "--concurrency", 1) == 0
    assert time.monotonic() - started < 5
    assert (came.count(True), came.count(False)) == (2 + 1, 14 + 1)


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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            (),
            "--run must be a run, or come with who answers; got no run at {run}. Make one with `fairpp generate`, or add "
            "--respondent openai --model MODEL.",
        ),
        (("--respondent", "openai"), "--respondent openai must have a model; got none. Add --model MODEL."),
        (
            ("--respondent", "transformers", "--model", "x", "--temperature", "1"),
            "--temperature must come with --respondent openai; got --respondent transformers. Leave it out.",
        ),
        (("--limit", "0"), "--limit must be at least 1; got 0."),
        (
            ("--respondent", "openai", "--model", "m", "--storyteller-url", "http://b", "--timeout", "0"),
            "timeout_s must be above 0; got 0.0.",
        ),
        (
            ("--respondent", "openai", "--model", "m", "--samples", "2"),
            "--samples above 1 must come with a --temperature above 0; got 2 samples at temperature 0, which are paid for "
            "one by one and all alike. Add --temperature 0.7, or leave out --samples.",
        ),
        (
            ("--respondent", "openai", "--model", "m", "--batch", "--storyteller-url", "http://b", "http://c"),
            "--batch must have one --storyteller-url at most; got 2. Batches are kept by one server.",
        ),
        (
            ("--respondent", "openai", "--model", "m", "--shard", "3/2"),
            "A shard must be I/N, with I from 1 to N; got '3/2'. The second of eight machines asks 2/8, for instance.",
        ),
        (
            ("--respondent", "openai", "--model", "m"),
            "The openai respondent must have a key or a server of your own; got neither. Set OPENAI_API_KEY, or pass "
            "--base-url http://HOST:PORT/v1.",
        ),
    ],
)
def test_bad_arguments_are_said_before_anything(words, message, tmp_path, capsys):
    run = tmp_path / "run"
    assert fairpp("scenarios", "--run", run, "--storyteller", "t", *words) == 1
    assert capsys.readouterr().err == f"fairpp scenarios: {message.format(run=run)}\n"
    assert not run.exists()


def test_a_run_of_the_survey_respondent_needs_another_one(tmp_path, capsys):
    run = tmp_path / "run"
    assert fairpp("generate", "--run", run, "--respondent", "survey", "--limit", 2, "--split", "test") == 0
    capsys.readouterr()
    assert fairpp("scenarios", "--run", run, "--storyteller", "t") == 1
    name = read_manifest(run)["respondent"]["name"]
    assert capsys.readouterr().err == (
        "fairpp scenarios: --respondent must be given where the run's own cannot be called up again; got a run of "
        f"{name!r} at {run}. Add --respondent openai or transformers, and --model MODEL.\n"
    )


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
