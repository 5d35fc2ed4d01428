"""The whole path with a real LLM: SmolLM2-135M-Instruct behind `transformers serve`, over the real client.

What such a small model says is of no account here; that every reply is kept, read, counted and built into a dataset is.
`transformers serve` gives neither log-probabilities nor a choice by a JSON schema: the ladder settles below both.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from datasets import load_dataset
from loopback_openai import LoopbackServer
from loopback_stories import tell

from fairpp_hf.cli import main
from fairpp_hf.demo.small_model import MODEL_NAME, small_model_folder
from fairpp_hf.personas import load_personas
from fairpp_hf.runs.journal import Journal
from fairpp_hf.runs.manifest import ways_in
from fairpp_hf.runs.records import load_replies, manifest_of
from fairpp_hf.scenarios.files import load_scenario_questions

pytestmark = pytest.mark.slow
pytest.importorskip("fastapi", reason="transformers serve needs the extra `serving`")
pytest.importorskip("uvicorn", reason="transformers serve needs the extra `serving`")

LIMIT, PERSONAS, SAMPLES = 3, 2, 2


def fairpp(*words: object) -> int:
    return main([str(word) for word in words])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of the server."""
    folder = tmp_path_factory.mktemp("models") / MODEL_NAME
    folder.mkdir()
    for file in small_model_folder().iterdir():
        (folder / file.name).symlink_to(file)
    # Whatever temperature is asked for, this server samples only where the model's own settings say so.
    settings = folder / "generation_config.json"
    sampling = json.loads(settings.read_bytes()) | {"do_sample": True}
    settings.unlink()
    settings.write_text(json.dumps(sampling))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log.txt"
    # From its parent folder, the model goes by its bare name: what a server calls its model ends up in the dataset.
    command = [sys.executable, "-c", "from transformers.cli.transformers import main; main()", "serve", folder.name]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with log.open("wb") as output:
        server = subprocess.Popen(
            command,
            cwd=folder.parent,
            # Threads that wait for each other take many times as long where the cores are shared.
            env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + 120
        while not _is_up(f"http://127.0.0.1:{port}/health"):
            assert server.poll() is None, log.read_text("utf-8", "replace")[-3000:]
            assert time.monotonic() < deadline, log.read_text("utf-8", "replace")[-3000:]
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _is_up(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture
def persona_file(tmp_path: Path) -> Path:
    """Two of the shipped personas as a set of one's own."""
    tree = load_personas().as_dict()
    del tree["id"]
    tree["personas"] = [tree["personas"][0], tree["personas"][6]]
    path = tmp_path / "two_personas.json"
    path.write_text(json.dumps(tree))
    return path


def test_a_real_llm_goes_the_whole_path(
    served: str,
    persona_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    run, built = tmp_path / "run", tmp_path / "built"
    asked = PERSONAS * LIMIT * SAMPLES * 2
    generate = ["generate", "--run", run, "--respondent", "openai", "--model", MODEL_NAME, "--base-url", served]
    generate += ["--personas", persona_file, "--split", "test", "--limit", LIMIT, "--max-tokens", 8]
    generate += ["--samples", SAMPLES, "--temperature", 0.7, "--swap", "--concurrency", 2]
    assert fairpp(*generate) == 0
    replies = load_replies(run)
    assert len(replies) == asked
    assert set(replies["status"].to_pylist()) <= {"ok", "invalid", "truncated", "empty"}
    assert all(json.loads(usage)["completion_tokens"] > 0 for usage in replies["usage"].to_pylist())
    texts = replies["raw"].to_pylist()
    assert any(one != other for one, other in zip(texts[::2], texts[1::2], strict=True))  # two samples of the same
    # Its ladder is settled on the first requests, and said.
    capsys.readouterr()
    way = {"ask": "text", "top_logprobs": 0}
    (settled,) = ways_in(manifest_of(run)).values()
    assert settled == way
    assert all(json.loads(detail)["asked"] == way for detail in replies["detail"].to_pylist())
    assert [message for message in caplog.messages if "is asked like this" in message] == [
        f"The server {served} is asked like this: free text, no log-probabilities."
    ]
    assert fairpp("show", "--run", run, "--examples", 0) == 0
    assert f"Asked at {served} (" in (shown := capsys.readouterr().out)
    assert "): free text, no log-probabilities." in shown
    assert fairpp(*generate) == 0
    assert f"0 asked, {asked} kept from before" in capsys.readouterr().out

    # The small model as storyteller: what it tells hardly ever passes. Each is told or set aside, with a reason.
    scenarios = ["scenarios", "--run", run, "--limit", LIMIT, "--samples", SAMPLES, "--swap", "--concurrency", 2]
    small = ["--storyteller", MODEL_NAME, "--storyteller-url", served, "--storyteller-max-tokens", 48, "--tries", 2]
    assert fairpp(*scenarios, *small) == 0
    printed = capsys.readouterr().out
    stories = load_replies(run / "scenarios" / "stories")
    assert len(stories) == LIMIT
    set_aside = _set_aside(run)
    told = LIMIT - len(set_aside)
    assert f"Stories: {told} told, {len(set_aside)} set aside." in printed
    assert all(story["problems"] or story["status"] == "empty" for story in set_aside)
    for reply in stories.to_pylist():
        detail = json.loads(reply["detail"])
        assert reply["answer"] == -1
        assert (reply["status"] == "ok") == ("problems" not in detail) or reply["status"] == "empty"
        assert reply["status"] == "ok" or detail["tries"] == 2

    # Good stories from elsewhere, answered by the real model.
    with LoopbackServer(tell) as teller:
        good = ["--storyteller", "teller", "--storyteller-url", teller.base_url]
        assert fairpp(*scenarios, *good) == 0
        assert teller.total == LIMIT
    assert f"Stories: {LIMIT} told, 0 set aside." in capsys.readouterr().out
    table = load_scenario_questions(run)
    answers = load_replies(run / "scenarios", table)
    assert len(table) == LIMIT
    assert len(answers) == asked
    with Journal(run / "scenarios", read_only=True) as journal:
        assert journal.served_model() is not None

    assert fairpp("parse", "--run", run) == 0
    assert fairpp("show", "--run", run) == 0
    assert "simulated" in capsys.readouterr().out
    assert fairpp("build", "--run", run, "--out", built) == 0
    preferences = load_dataset(str(built), "preferences", split="test")
    assert len(preferences) == PERSONAS * LIMIT
    assert set(preferences["respondent"]) == {f"openai:{MODEL_NAME} (simulated)"}
    rows = load_dataset(str(built), "scenarios", split="test")
    assert len(rows) == PERSONAS * LIMIT
    assert set(rows["question_id"]) == set(table["question_id"].to_pylist())
    record = (built / "fairpp_build.json").read_text("utf-8")
    assert json.loads(record)["run"]["scenarios"]["storyteller"]["respondent"] == "storyteller:teller (simulated)"
    assert served not in record


def _set_aside(run: Path) -> list[dict[str, object]]:
    path = run / "scenarios" / "set_aside.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.is_file() else []
