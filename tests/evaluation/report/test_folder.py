import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from evaluated_folder import TARGET

from fairpp_hf.evaluation.report.folder import read_evaluated


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def change(file: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    tree = json.loads(file.read_text("utf-8"))
    edit(tree)
    file.write_text(json.dumps(tree), "utf-8")


def test_everything_of_a_folder_is_read(folder: Path) -> None:
    evaluated = read_evaluated(folder)
    assert (evaluated.target, evaluated.name(TARGET), len(evaluated.questions)) == (TARGET, "Loyal Nationals", 120)
    assert evaluated.personas == (TARGET, "civic_pragmatists", "backbone_conservatives")
    assert [system.name for system in evaluated.systems] == ["plain model", "aligned model", "majority vote", "uniform"]
    assert evaluated.best == 1
    assert evaluated.positions is not None
    plain = evaluated.systems[0]
    assert plain.statuses == {"ok": 228, "refusal": 12}
    # The first six questions were refused, in both orders; every prompt differs.
    assert np.isnan(plain.probabilities).any(axis=1).nonzero()[0].tolist() == [0, 1, 2, 3, 4, 5]
    assert (plain.prompts, plain.template_hashes) == (240, ("5f" * 32,))
    assert (evaluated.systems[2].prompts, evaluated.systems[2].prompts_hash) == (0, None)


def test_probabilities_are_means_over_orders_by_a_plain_loop(folder: Path) -> None:
    evaluated = read_evaluated(folder)
    rows = pq.read_table(folder / "scores.parquet").to_pylist()
    ids = evaluated.questions["question_id"].to_pylist()
    for system in evaluated.systems:
        for number in (0, 6, 50, 119):
            given = [
                row["probabilities"]
                for row in rows
                if (row["system"], row["question_id"]) == (system.name, ids[number])
            ]
            expected = [np.nan] * 3 if None in given else np.mean(given, axis=0)
            np.testing.assert_allclose(system.probabilities[number], expected)


def test_one_order_without_an_answer_leaves_the_question_out(copy: Path) -> None:
    scores = pq.read_table(copy / "scores.parquet")
    rows = scores.to_pylist()
    last = max(number for number, row in enumerate(rows) if row["system"] == "aligned model")
    rows[last]["probabilities"] = None
    pq.write_table(pa.Table.from_pylist(rows, scores.schema), copy / "scores.parquet")
    assert np.isnan(read_evaluated(copy).systems[1].probabilities).all(axis=1).nonzero()[0].tolist() == [119]


@pytest.mark.parametrize("name", ["results.json", "questions.parquet", "scores.parquet"])
def test_a_folder_that_was_not_evaluated_is_refused(name: str, copy: Path) -> None:
    (copy / name).unlink()
    with pytest.raises(FileNotFoundError) as caught:
        read_evaluated(copy)
    assert str(caught.value) == (
        f"the folder must be one that `fairpp evaluate --out` has written; got no {name} at {copy}. "
        f"Run `fairpp evaluate --out {copy} ...` first."
    )


AGAIN = "Run `fairpp evaluate` into this folder again."


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda tree: tree.update(format=1),
            "results.json must be of format 2; got 1 at {}. It was written by another version, or by something else. Run "
            "the command that wrote it again.",
        ),
        (
            lambda tree: tree.update(target="loyal_national"),
            "the target of {} must be one of 'loyal_nationals', 'civic_pragmatists', 'backbone_conservatives'; got "
            "'loyal_national'. Did you mean 'loyal_nationals'?",
        ),
        (lambda tree: tree.update(systems={}), f"{{}} must hold a system; got none. {AGAIN}"),
        (lambda tree: tree.pop("division"), f"division must be of type str; got None at {{}}. {AGAIN}"),
        (
            lambda tree: tree["systems"].update(other=tree["systems"]["uniform"]),
            f"scores.parquet must have rows of the system 'other' of {{}}; got none. {AGAIN}",
        ),
    ],
)
def test_results_that_do_not_fit_are_refused(edit: Callable[[dict[str, Any]], Any], message: str, copy: Path) -> None:
    change(copy / "results.json", edit)
    with pytest.raises(ValueError, match="must") as caught:
        read_evaluated(copy)
    assert str(caught.value) == message.format(copy / "results.json")


def test_damaged_json_is_refused(copy: Path) -> None:
    (copy / "positions.json").write_text("{")
    with pytest.raises(ValueError, match="must") as caught:
        read_evaluated(copy)
    assert str(caught.value) == (
        "positions.json must be JSON; got Expecting property name enclosed in double quotes: line 1 column 2 (char 1) at "
        f"{copy / 'positions.json'}. Run the command that wrote it again."
    )


def test_questions_and_scores_must_belong_together(copy: Path) -> None:
    questions = pq.read_table(copy / "questions.parquet")
    pq.write_table(questions.slice(1), copy / "questions.parquet")
    with pytest.raises(ValueError, match="must") as caught:
        read_evaluated(copy)
    assert str(caught.value) == (
        f"scores.parquet must be about the questions of questions.parquet; got {questions['question_id'][0].as_py()!r} at "
        f"{copy / 'scores.parquet'}. {AGAIN}"
    )
    pq.write_table(questions.drop_columns([f"answer/{TARGET}"]), copy / "questions.parquet")
    with pytest.raises(ValueError, match="must") as caught:
        read_evaluated(copy)
    assert str(caught.value) == (
        f"questions.parquet must have a column 'answer/loyal_nationals'; got none at {copy / 'questions.parquet'}. {AGAIN}"
    )
