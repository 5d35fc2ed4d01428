from pathlib import Path

import pytest

from fairpp_hf.generation.journal import Journal
from fairpp_hf.generation.manifest import read_manifest
from fairpp_hf.generation.records import manifest_of
from fairpp_hf.generation.run_folder import command_for, home_of


@pytest.fixture
def scenarios(tmp_path: Path) -> Path:
    stories = tmp_path / "run" / "scenarios" / "stories"
    stories.mkdir(parents=True)
    return stories.parent


def test_the_parts_of_scenarios_are_continued_by_their_run(scenarios: Path) -> None:
    run = scenarios.parent
    for part in (scenarios, scenarios / "stories"):
        assert (home_of(part), command_for(part)) == (run, f"fairpp scenarios --run {run}")
    assert (home_of(run), command_for(run)) == (run, f"fairpp generate --run {run}")


def test_a_run_may_be_called_scenarios(tmp_path: Path) -> None:
    (tmp_path / "scenarios").mkdir()
    for run in (tmp_path / "scenarios", Path("scenarios"), tmp_path / "stories"):
        assert command_for(run) == f"fairpp generate --run {run}"


def test_messages_about_scenarios_name_their_command(scenarios: Path) -> None:
    run = scenarios.parent
    with pytest.raises(FileNotFoundError) as missing:
        manifest_of(scenarios)
    assert str(missing.value) == (
        f"run must be a directory that `fairpp scenarios` has written; got {scenarios} without manifest.json. Run `fairpp "
        f"scenarios --run {run} --storyteller ...` first."
    )
    (scenarios / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match="JSON") as unreadable:
        read_manifest(scenarios)
    assert f"Remove the file and run `fairpp scenarios --run {run}` again" in str(unreadable.value)
    (scenarios / "stories" / "journal.sqlite").write_bytes(b"no journal" * 100)
    with pytest.raises(OSError, match="sound") as damaged, Journal(scenarios / "stories", read_only=True) as journal:
        journal.counts()
    assert str(damaged.value).endswith(
        f"Run `fairpp scenarios --run {run}` again: it saves what can be read and asks the rest."
    )
