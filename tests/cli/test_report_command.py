import base64
import re
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


def test_the_page_is_written_and_replaced(evaluated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (evaluated / "report.html").write_text("of old", "utf-8")
    assert main(["report", str(evaluated)]) == 0
    assert capsys.readouterr().out == f"{evaluated / 'report.html'}\n"
    page = (evaluated / "report.html").read_text("utf-8")
    assert f"Run <code>fairpp position --out {evaluated} ...</code>" in page
    downloads = re.findall(r'download="([^"]+)" href="data:([^;]+);base64,([^"]+)"', page)
    assert [found[0] for found in downloads] == ["distance.png", "results.csv", "dimensions.png", "options.png"]
    for name, kind, data in downloads:
        found = base64.b64decode(data)
        if name == "results.csv":
            assert (kind, found) == ("text/csv", (evaluated / "results.csv").read_bytes())
        else:
            assert (kind, found[:4]) == ("image/png", b"\x89PNG")


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
