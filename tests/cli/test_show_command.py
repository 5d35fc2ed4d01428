"""`fairpp show` as a user meets it."""

from pathlib import Path

import pytest
from loopback_openai import LoopbackServer
from loopback_stories import tell

from fairpp_hf.cli import main


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def fairpp(*words: object) -> int:
    return main([str(word) for word in words])


def test_a_run_and_its_scenarios_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    with LoopbackServer(tell) as server:
        model = ["--respondent", "openai", "--model", "m", "--base-url", server.base_url, "--price", "1", "2"]
        assert fairpp("generate", "--run", run, *model, "--split", "test", "--limit", 2, "--swap") == 0
        teller = ["--storyteller", "t", "--storyteller-url", server.base_url]
        assert fairpp("scenarios", "--run", run, *teller, "--limit", 1) == 0
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


def test_errors_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fairpp("show", "--run", tmp_path / "none") == 1
    assert capsys.readouterr().err.startswith("fairpp show: run must be a directory that `fairpp generate` or ")
