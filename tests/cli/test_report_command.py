import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from evaluated_folder import TARGET, small_evaluation, write_evaluated_folder

from fairpp_hf.cli import main


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    evaluation = small_evaluation(40, ("plain model",), personas=(TARGET, "civic_pragmatists"), groups=("women",))
    alone = replace(evaluation, systems=evaluation.models[:1], comparisons=())
    return write_evaluated_folder(tmp_path_factory.mktemp("evaluated"), alone, positions=False)


def test_page_and_pictures_are_written_and_replaced(evaluated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # What somebody else has put there stays; what an earlier report had and this one has not, goes.
    (evaluated / "report").mkdir()
    (evaluated / "report" / "notes.png").write_bytes(b"mine")
    (evaluated / "report" / "of-old.png").write_bytes(b"old")
    (evaluated / "report.html").write_text('<figure id="figure-of-old">', "utf-8")
    assert main(["report", str(evaluated)]) == 0
    # Distance and skill, 3 of the answers, 2 heat maps, agreement, 2 biases, statuses.
    said = capsys.readouterr()
    assert said.out == f"{evaluated / 'report.html'}\n11 pictures in {evaluated / 'report'}\n"
    assert "Drawing: 100%" in said.err
    assert "11/11" in said.err
    page = (evaluated / "report.html").read_text("utf-8")
    assert f"Run <code>fairpp position --out {evaluated} ...</code>" in page
    pictures = {path.name: path.read_bytes() for path in (evaluated / "report").iterdir()}
    assert pictures.pop("notes.png") == b"mine"
    assert len(pictures) == 11
    assert "answers-dimension.png" in pictures
    assert all(data.startswith(b"\x89PNG") for data in pictures.values())


def test_a_folder_that_was_not_evaluated_is_refused(
    evaluated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        "fairpp report: the folder must be one that `fairpp evaluate --out` has written; got no results.json at "
        f"{tmp_path}. Run `fairpp evaluate --out {tmp_path} ...` first.\n"
    )
    assert list(tmp_path.iterdir()) == []
    shutil.copy(evaluated / "results.json", tmp_path)
    assert main(["report", str(tmp_path)]) == 1
    assert "got no questions.parquet" in capsys.readouterr().err
