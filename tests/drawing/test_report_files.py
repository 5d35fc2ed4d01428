"""Where a report is written: into the folder and nowhere else."""

from pathlib import Path

import pytest

from fairpp_hf.drawing import page as page_module
from fairpp_hf.drawing import write_report
from fairpp_hf.evaluation.results import Results


def test_links_in_a_folder_of_somebody_elses_are_not_written_through(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_module, "read_results", lambda folder: results)
    monkeypatch.setattr(page_module, "png", lambda charts: b"a picture")
    monkeypatch.setattr(page_module, "svg", lambda chart: "")
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    folder = tmp_path / "folder"
    (folder / "report").mkdir(parents=True)
    for link in (
        folder / "report.html",
        folder / "report" / "distance-by-question.png",
        folder / "report" / "skill.png",
    ):
        link.symlink_to(mine)
    page, *pictures = write_report(folder, progress=False)
    assert mine.read_text() == "mine"
    assert not any(path.is_symlink() for path in (page, *pictures))
    assert folder / "report" / "skill.png" in pictures

    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "report").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"^report must be a folder in .*; got a link\. Remove it\.$"):
        write_report(tmp_path / "other", progress=False)
    assert not list((tmp_path / "elsewhere").iterdir())
