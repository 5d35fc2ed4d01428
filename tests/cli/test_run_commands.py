"""`fairpp show`, `parse` and `merge` as a user meets them: a run and its scenarios, asked of a loopback server."""

from pathlib import Path

import pytest
from commands import fairpp
from loopback_openai import Call, LoopbackServer, Served
from loopback_stories import is_story_call, tell

from fairpp_hf.respondents import reading
from fairpp_hf.runs import load_run
from fairpp_hf.scenarios.files import load_scenario_questions


def asked(
    run: Path, server: LoopbackServer, *words: object, stories: int = 1, answers: tuple[object, ...] = ()
) -> Path:
    """Ask questions, and scenarios of some of them; the words are for both commands."""
    model = ["--respondent", "openai", "--model", "m", "--base-url", server.base_url, "--split", "test"]
    assert fairpp("generate", "--run", run, *model, *answers, *words) == 0
    teller = ["--storyteller", "t", "--storyteller-url", server.base_url, "--limit", stories]
    assert fairpp("scenarios", "--run", run, *teller, *words) == 0
    return run


def test_a_run_and_its_scenarios_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    with LoopbackServer(tell) as server:
        asked(run, server, answers=("--price", 1, 2, "--limit", 2, "--swap"))
        capsys.readouterr()
        assert fairpp("show", "--run", run, "--examples", 1) == 0
        printed = capsys.readouterr().out
        # 28 replies of 7 input tokens and 1 output token: 28 x 9 millionths of a dollar.
        parts = printed.split("\n\n")
        assert parts[0] == (
            f"{run}: openai:m (simulated); 1 sample, both orders. The answers are simulated.\n"
            "28 of 28 requests have a final reply (100.0%)."
        )
        assert parts[1].splitlines()[0].split() == ["persona", "answered", "ok", "against", "majority", "pairwise"]
        assert "Spent: $0.000252; 196 input and 28 output tokens, in 28 replies that were ever received.\n" in parts[2]
        assert f"`fairpp quality --run {run} --out DIR` says how far" in parts[2]
        assert (
            f"Server: {server.base_url} (openai:m (simulated))\n"
            f"Asked at {server.base_url} (openai:m (simulated)): free text, no log-probabilities.\n"
            "Model by its server: m (28 replies)"
        ) in parts[2]
        assert f"Asked at {server.base_url} (storyteller:t (simulated)): JSON schema" in printed
        assert parts[3].startswith("ok, ")
        assert f"{run}/scenarios: openai:m (simulated); " in printed
        assert f"{run}/scenarios/stories: storyteller:t (simulated); " in printed


def test_a_simulation_is_shown_and_examples_can_be_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert fairpp("generate", "--run", run, "--respondent", "survey", "--limit", 3) == 0
    capsys.readouterr()
    assert fairpp("show", "--run", run) == 0
    assert capsys.readouterr().out.count(": no text\n") == 3
    assert fairpp("show", "--run", run, "--examples", 0) == 0
    printed = capsys.readouterr().out
    assert "(simulated); 1 sample, one order. The answers are simulated.\n21 of 21 requests" in printed
    assert "no text" not in printed


def test_what_is_no_run_is_an_error_of_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fairpp("show", "--run", tmp_path / "none") == 1
    assert capsys.readouterr().err.startswith("fairpp show: run must be a directory that `fairpp generate` or ")
    assert fairpp("merge", "--out", tmp_path / "out", tmp_path / "none") == 1
    assert capsys.readouterr().err == (
        "fairpp merge: run must be a directory that `fairpp generate` or `fairpp scenarios` has written; got "
        f"{tmp_path / 'none'}, which is no directory.\n"
    )
    assert not (tmp_path / "out").exists()


def answer(call: Call) -> Served:
    return tell(call) if is_story_call(call) else Served("B")


def test_a_run_and_its_scenarios_are_read_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with LoopbackServer(answer) as server, monkeypatch.context() as patch:
        patch.setattr(reading, "_read", lambda *_: reading.Reading(-1, "invalid"))
        asked(run, server, answers=("--limit", 2))
    capsys.readouterr()
    assert fairpp("parse", "--run", run, "--dry-run") == 0
    assert capsys.readouterr().out == (
        f"{run}: 14 replies read, 14 would change, 0 without a text to read.\n"
        "  invalid -> ok B: 14\n"
        "  read as  before  now\n"
        "  ok B          0   14\n"
        "  invalid      14    0\n"
        f"{run}/scenarios/stories: 1 stories pass the checks, 1 before.\n"
        f"{run}/scenarios: 7 replies read, 7 would change, 0 without a text to read.\n"
        "  invalid -> ok B: 7\n"
        "  read as  before  now\n"
        "  ok B          0    7\n"
        "  invalid       7    0\n"
    )
    assert fairpp("parse", "--run", run) == 0
    assert f"{run}: 14 replies read, 14 changed, 0 without a text to read.\n" in capsys.readouterr().out
    assert fairpp("parse", "--run", run) == 0
    assert capsys.readouterr().out == (
        f"{run}: 14 replies read, 0 changed, 0 without a text to read.\n"
        f"{run}/scenarios/stories: 1 stories pass the checks, 1 before.\n"
        f"{run}/scenarios: 7 replies read, 0 changed, 0 without a text to read.\n"
    )


def test_a_simulation_has_no_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert fairpp("generate", "--run", run, "--respondent", "survey", "--limit", 3) == 0
    capsys.readouterr()
    assert fairpp("parse", "--run", run) == 1
    assert capsys.readouterr().err.startswith("fairpp parse: A run to be parsed must have asked a model over an API; ")


def test_shards_are_united_with_their_scenarios(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Equal to what one machine has asked, and nothing is asked again."""
    with LoopbackServer(tell) as server:
        whole, out, four = tmp_path / "whole", tmp_path / "out", ("--limit", 4, "--swap")
        asked(whole, server, *four, stories=4)
        shards = [tmp_path / f"{index}" for index in (1, 2)]
        for index, shard in enumerate(shards, 1):
            asked(shard, server, *four, "--shard", f"{index}/2", stories=4)
        capsys.readouterr()
        assert fairpp("merge", "--out", out, shards[0]) == 0
        first = capsys.readouterr().out
        assert fairpp("merge", "--out", out, *shards) == 0
        last = capsys.readouterr().out
        server.reset()
        asked(out, server, *four, stories=4)
        assert server.total == 0
    assert load_run(out).equals(load_run(whole))
    told = [load_scenario_questions(run) for run in (whole, out)]
    assert told[0].num_rows == 4
    by_id = [table.sort_by("question_id") for table in told]
    assert by_id[0].equals(by_id[1])
    answers = [
        load_run(run / "scenarios").sort_by([("persona", "ascending"), ("question_id", "ascending")])
        for run in (whole, out)
    ]
    assert answers[0].equals(answers[1])
    assert first.endswith(
        f"Next: the other parts with this command again, or the rest with `fairpp generate --run {out}`\n"
    )
    lines = last.splitlines()
    assert [line.split(". ", 1)[1] for line in lines[:3]] == [
        f"{out} has 56 of 56.",
        f"{out}/scenarios/stories has 4 of 4.",
        f"{out}/scenarios has 56 of 56.",
    ]
    assert lines[0].split(".")[0].endswith("were there before")
    assert lines[3] == f"Next: fairpp build --run {out} --out fairpp"
