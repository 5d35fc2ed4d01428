from pathlib import Path

import pytest

from fairpp_hf.runs.journal import Journal
from fairpp_hf.runs.layout import JournalError, command_for, home_of
from fairpp_hf.runs.records import manifest_of


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


def test_an_error_that_continuing_mends_has_the_folder_of_its_run(scenarios: Path) -> None:
    with pytest.raises(FileNotFoundError, match="must be a directory that"):
        manifest_of(scenarios)
    (scenarios / "stories" / "journal.sqlite").write_bytes(b"no journal" * 100)
    with (
        pytest.raises(JournalError, match="sound") as damaged,
        Journal(scenarios / "stories", read_only=True) as journal,
    ):
        journal.counts()
    assert damaged.value.run == scenarios / "stories"
