"""Where a report is written: into the folder and nowhere else."""

from pathlib import Path

import pytest

from fairpp_hf.drawing import page as page_module
from fairpp_hf.drawing import write_report
from fairpp_hf.evaluation.results import Results


def test_a_link_in_a_folder_of_somebody_elses_is_not_written_through(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_module, "read_results", lambda folder: results)
    monkeypatch.setattr(page_module, "png", lambda charts: b"a picture")
    monkeypatch.setattr(page_module, "svg", lambda chart: "")
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "report.html").symlink_to(mine)
    page = write_report(folder)
    assert mine.read_text() == "mine"
    assert not page.is_symlink()
    assert [path.name for path in folder.iterdir()] == ["report.html"]
