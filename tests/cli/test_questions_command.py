"""`fairpp questions`, through its parser."""

import argparse
import json

import pyarrow.csv
import pytest

from fairpp_hf.cli import questions as command
from fairpp_hf.questions import load_questions


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(list(arguments)))


def test_without_options_prints_counts(capsys):
    assert run() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Questions, train + test"
    total = next(line for line in lines if line.startswith("total"))
    assert total.endswith("22,751 + 5,669")
    # fair rewards: 14 problems x 29 groups x 2 forms = 812 questions a dimension
    rewards = next(line for line in lines if line.startswith("fair rewards"))
    cells = rewards.removeprefix("fair rewards").replace(",", "").replace(" + ", "+").split()
    assert [sum(map(int, cell.split("+"))) for cell in cells] == [812] * 5 + [5 * 812]
    assert "dimension 4: social norm (A) or fairness (B)" in lines


def test_sample_prints_the_same_prompts_every_time(capsys):
    assert run("--split", "test", "--sample", "3") == 0
    first = capsys.readouterr().out
    assert run("--split", "test", "--sample", "3") == 0
    assert capsys.readouterr().out == first
    test = load_questions("test")
    prompts = dict(zip(test["question_id"].to_pylist(), test["prompt"].to_pylist(), strict=True))
    blocks = first.strip().split("\n\n")
    assert len(blocks) == 3
    for block in blocks:
        heading, _, prompt = block.partition("\n")
        assert prompts[heading.strip("[]")] == prompt


def test_csv_and_jsonl_hold_the_sampled_rows(tmp_path):
    for name in ("q.csv", "q.jsonl"):
        assert run("--split", "train", "--sample", "20", "--out", str(tmp_path / name)) == 0
    read = pyarrow.csv.read_csv(tmp_path / "q.csv", parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True))
    rows = [json.loads(line) for line in (tmp_path / "q.jsonl").read_text("utf-8").splitlines()]
    assert read.to_pylist() == rows
    train = {row["question_id"]: row for row in load_questions("train").to_pylist()}
    assert rows == [train[row["question_id"]] for row in rows]
    assert len(rows) == 20


def test_another_suffix_is_an_error_before_anything_is_written(tmp_path):
    out = tmp_path / "deep" / "questions.xlsx"
    with pytest.raises(ValueError) as error:  # noqa: PT011
        run("--out", str(out))
    assert str(error.value) == (
        f"The file of --out must end in .parquet, .csv, .jsonl; got {str(out)!r}. "
        "The ending decides the format. Use for example --out questions.parquet."
    )
    assert not out.parent.exists()


@pytest.mark.parametrize("number", ["0", "-1", "5670"])
def test_a_sample_must_fit_the_split(number):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        run("--split", "test", "--sample", number)
    assert str(error.value) == (
        f"--sample must be between 1 and 5669, the number of questions to choose from; got {number}."
    )
