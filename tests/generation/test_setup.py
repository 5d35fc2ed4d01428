import json
from pathlib import Path

from generation_fixtures import FakeRespondent, personas, questions

from fairpp_hf.generation import generate
from fairpp_hf.generation.journal import Journal
from fairpp_hf.generation.manifest import read_manifest


def key_after_asking(run: Path) -> str:
    generate(run, FakeRespondent(), personas(), questions(2), progress=False)
    return (read_manifest(run) or {})["run_key"]


def test_the_journals_run_key_counts_whatever_the_manifest_says(tmp_path: Path) -> None:
    """By its key a run finds its batches at the provider: another one would lose them."""
    key = key_after_asking(tmp_path)
    with Journal(tmp_path, read_only=True) as journal:
        assert journal.noted("run_key") == key
    path = tmp_path / "manifest.json"
    path.unlink()
    assert key_after_asking(tmp_path) == key
    path.write_text(json.dumps({**json.loads(path.read_text()), "run_key": "another"}))
    assert key_after_asking(tmp_path) == key


def test_a_journal_of_before_takes_the_manifests_run_key(tmp_path: Path) -> None:
    key = key_after_asking(tmp_path)
    with Journal(tmp_path) as journal:
        journal.note("run_key", None)
    assert key_after_asking(tmp_path) == key
    with Journal(tmp_path, read_only=True) as journal:
        assert journal.noted("run_key") == key
