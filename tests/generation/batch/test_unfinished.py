"""What is in batches when a call ends is neither bought again nor forgotten by the other commands."""

import signal
from pathlib import Path

import pytest
from generation_fixtures import personas, questions, unfinished_batches
from loopback_batches import BatchServer, stopping

from fairpp_hf.generation import BatchLimits, RunInterrupted, RunOptions, generate
from fairpp_hf.respondents import OpenAIRespondent
from fairpp_hf.runs import load_run
from fairpp_hf.runs.merge import merge_runs
from fairpp_hf.runs.overview import overview


def test_requests_in_batches_are_shown_not_bought_again_and_collected_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"

    with BatchServer(polls=3) as server:
        asked = (run, OpenAIRespondent("m", base_url=server.base_url), personas("ann"), questions(10))
        server.fault = stopping(signal.SIGINT)
        with pytest.raises(RunInterrupted):
            generate(*asked, RunOptions(batch=BatchLimits(poll_s=60), progress=False))
        server.fault = lambda *_: None
        assert unfinished_batches(run) == (1, 9)
        calls = server.total
        with pytest.raises(ValueError, match="must go on by batches; got 9 requests in 1 unfinished batches"):
            generate(*asked, RunOptions(progress=False))
        assert server.total == calls
        assert (
            f"9 requests are in 1 batches at the provider. `fairpp generate --run {run} --batch` collects them."
            in overview(run).table()
        )
        merge_runs(tmp_path / "all", [run])
        assert caplog.messages[-1] == (
            f"9 requests of {run} are in batches at the provider: collect them there, and merge again."
        )
        assert generate(*asked, RunOptions(batch=BatchLimits(poll_s=0.02), progress=False)).remaining == 0
        assert unfinished_batches(run) == (0, 0)
        assert generate(*asked, RunOptions(progress=False)).asked == 0
        assert merge_runs(tmp_path / "all", [run]).remaining == 0
    assert server.answered_twice() == []
    assert load_run(tmp_path / "all", questions(10)) == load_run(run, questions(10))
    # Nobody asked for progress: nothing but the stop is told.
    assert [line for line in capsys.readouterr().err.splitlines() if line and not line.startswith("Stopping")] == []
