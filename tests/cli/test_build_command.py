"""`fairpp build`."""

import argparse
import json
import re
from pathlib import Path

import pytest
from datasets import load_dataset
from small_runs import make_run

from fairpp_hf.cli import build
from fairpp_hf.preferences import PairSettings


@pytest.fixture(scope="module")
def run_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "run")


def command(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    build.add_arguments(parser)
    return build.run(parser.parse_args(arguments))


def test_it_ends_with_a_table_and_the_line_that_loads_the_folder(
    run_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command("--run", str(run_path), "--out", "data/fairpp", "--targets", "loyal_nationals") == 0
    *table, licence, last = capsys.readouterr().out.splitlines()
    cells = [re.split(r" {2,}", line.strip()) for line in table]
    assert cells[0] == ["config", "split", "rows", "file", "size"]
    assert cells[3][:4] == ["preferences", "train", "210", "data/fairpp/preferences/train-00000-of-00001.parquet"]
    assert [row[:2] for row in cells[5:7]] == [["pairs-loyal_nationals", split] for split in ("train", "test")]
    assert [row[0] for row in cells[7:]] == [
        *(f"data/fairpp/figures/{name}.png" for name in ("agreement", "answer_shares", "tiers")),
        "data/fairpp/README.md",
    ]
    assert licence == "Licence: cc-by-4.0."
    assert last == 'Load it with: load_dataset("./data/fairpp", "preferences")'
    loaded = eval(last.removeprefix("Load it with: "), {"load_dataset": load_dataset})
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 210, "test": 70}


def test_without_a_source_the_survey_answers_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "fairpp"
    assert command("--out", str(out), "--personas", "hidden_tribes_2018", "--targets") == 0
    *_, simulated, licence, last = capsys.readouterr().out.splitlines()
    assert simulated == "The answers are simulated from survey figures; nobody was asked."
    assert licence == "Licence: cc-by-4.0."
    assert last == f'Load it with: load_dataset("{out}", "preferences")'
    assert "survey:hidden_tribes_2018 (simulated)" in (out / "README.md").read_text("utf-8")
    assert sorted(path.name for path in out.iterdir()) == [
        *("README.md", "fairpp_build.json", "figures", "preferences", "questions")
    ]


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        (
            "--weighting tier_from_zero --alpha 2 --beta 0.5 --comparison nearest",
            PairSettings("tier_from_zero", 2.0, 0.5, "nearest"),
        ),
        ("--labels fitted --divergence 1", PairSettings(labels="fitted", divergence=1.0)),
        (
            "--comparison civic_pragmatists disengaged_battlers",
            PairSettings(comparison=["civic_pragmatists", "disengaged_battlers"]),
        ),
    ],
)
def test_the_pairs_are_made_as_asked(options: str, settings: PairSettings, run_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "fairpp"
    command("--run", str(run_path), "--out", str(out), "--targets", "loyal_nationals", *options.split())
    assert json.loads((out / "fairpp_build.json").read_bytes())["pairs"] == settings.as_dict()


def test_run_must_be_a_run(tmp_path: Path) -> None:
    for path in (tmp_path / "none", Path("survey")):
        message = (
            f"--run must be the path of a run; got '{path}', which holds none. Make one with "
            f"`fairpp generate --run {path}`, or use --answers for other sources."
        )
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            command("--run", str(path), "--out", str(tmp_path / "fairpp"))
    assert list(tmp_path.iterdir()) == []


def test_one_source_at_a_time(run_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command("--run", str(run_path), "--answers", "survey")
    assert "not allowed with argument --run" in capsys.readouterr().err
