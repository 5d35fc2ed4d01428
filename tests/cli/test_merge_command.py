"""`fairpp merge` as a user meets it: shards asked of a loopback server, scenarios among them, and united."""

from pathlib import Path

import pytest
from loopback_openai import LoopbackServer
from loopback_stories import tell

from fairpp_hf.cli import main
from fairpp_hf.runs import load_run
from fairpp_hf.scenarios.files import load_scenario_questions


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def fairpp(*words: object) -> int:
    return main([str(word) for word in words])


def ask(run: Path, server: LoopbackServer, shard: str | None = None, stories: bool = True) -> None:
    more = ["--shard", shard] if shard else []
    asked = ["--split", "test", "--limit", 4, *more]
    model = ["--respondent", "openai", "--model", "m", "--base-url", server.base_url, "--swap"]
    assert fairpp("generate", "--run", run, *model, *asked) == 0
    if stories:
        teller = ["--storyteller", "t", "--storyteller-url", server.base_url]
        assert fairpp("scenarios", "--run", run, *teller, "--limit", 4, "--swap", *more) == 0


def test_shards_are_united_with_their_scenarios(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Equal to what one machine has asked, and nothing is asked again."""
    with LoopbackServer(tell) as server:
        whole, out = tmp_path / "whole", tmp_path / "out"
        ask(whole, server)
        shards = [tmp_path / f"{index}" for index in (1, 2)]
        for index, shard in enumerate(shards, 1):
            ask(shard, server, f"{index}/2")
        capsys.readouterr()
        assert fairpp("merge", "--out", out, shards[0]) == 0
        first = capsys.readouterr().out
        assert fairpp("merge", "--out", out, *shards) == 0
        last = capsys.readouterr().out
        server.reset()
        ask(out, server)
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


def test_errors_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fairpp("merge", "--out", tmp_path / "out", tmp_path / "none") == 1
    assert capsys.readouterr().err == (
        "fairpp merge: run must be a directory that `fairpp generate` or `fairpp scenarios` has written; got "
        f"{tmp_path / 'none'}, which is no directory.\n"
    )
    assert not (tmp_path / "out").exists()
