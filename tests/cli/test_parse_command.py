"""`fairpp parse` as a user meets it."""

from pathlib import Path

import pytest
from loopback_openai import Call, LoopbackServer, Served
from loopback_stories import is_story_call, tell

from fairpp_hf.cli import main
from fairpp_hf.respondents import reading


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def fairpp(*words: object) -> int:
    return main([str(word) for word in words])


def answer(call: Call) -> Served:
    return tell(call) if is_story_call(call) else Served("B")


def test_a_run_and_its_scenarios_are_read_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with LoopbackServer(answer) as server, monkeypatch.context() as patch:
        patch.setattr(reading, "_read", lambda *_: reading.Reading(-1, "invalid"))
        model = ["--respondent", "openai", "--model", "m", "--base-url", server.base_url]
        assert fairpp("generate", "--run", run, *model, "--split", "test", "--limit", 2) == 0
        teller = ["--storyteller", "t", "--storyteller-url", server.base_url]
        assert fairpp("scenarios", "--run", run, *teller, "--limit", 1) == 0
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
