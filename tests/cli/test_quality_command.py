import json
from pathlib import Path

import pytest

from fairpp_hf.cli import main


def test_prints_a_table_and_where_the_files_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    generate = ["generate", "--run", str(run), "--respondent", "survey", "--limit", "60"]
    assert main(generate) == 0
    capsys.readouterr()
    assert main(["quality", "--run", str(run), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("survey:britains_choice_2020 (simulated). The answers are simulated: nobody was asked.")
    assert "persona recognised" in printed
    assert "  position bias, P(first) - P(second): one order of the options; ask in both\n" in printed
    for name in ("quality.json", "quality.md", "quality.png"):
        assert f"  {tmp_path / 'out' / name}\n" in printed
    tree = json.loads((tmp_path / "out" / "quality.json").read_text())
    assert (tree["run"], tree["replies"]) == ("run", 420)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sample", "0"], "--sample must be at least 1; got 0."),
        (["--seed", "-1"], "--seed must be at least 0; got -1."),
    ],
)
def test_numbers_out_of_range_are_refused(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["quality", "--run", str(tmp_path), "--out", str(tmp_path / "out"), *arguments]) == 1
    assert capsys.readouterr().err == f"fairpp quality: {message}\n"


def test_a_folder_that_is_no_run_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["quality", "--run", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.startswith(
        "fairpp quality: run must be a directory that `fairpp generate` or `fairpp scenarios` has written"
    )
    assert not (tmp_path / "out").exists()
