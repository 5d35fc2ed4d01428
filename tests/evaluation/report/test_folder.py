import hashlib
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
from fairpp_hf.personas import load_personas
from fairpp_hf.respondents.survey import all_survey_answers


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def refusal(folder: Path) -> str:
    with pytest.raises(ValueError, match="must") as caught:
        read_evaluated(folder)
    return str(caught.value)


def change(file: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    tree = json.loads(file.read_text("utf-8"))
    edit(tree)
    file.write_text(json.dumps(tree), "utf-8")


def test_everything_of_a_folder_is_read(folder: Path) -> None:
    evaluated = read_evaluated(folder)
    assert (evaluated.target, evaluated.name(TARGET), len(evaluated.questions)) == (TARGET, "Loyal Nationals", 120)
    assert evaluated.personas == (TARGET, "civic_pragmatists", "backbone_conservatives")
    assert [system.name for system in evaluated.systems] == [
        *("constant", "aligned model", "label model", "plain model", "uniform", "majority of the others"),
    ]
    assert evaluated.best == 1
    assert evaluated.compared_with == "probabilities"
    truth = all_survey_answers(evaluated.questions, load_personas())
    np.testing.assert_allclose(evaluated.persona_probabilities[TARGET], truth[TARGET].probabilities)
    assert evaluated.answers[TARGET].tolist() == truth[TARGET].answer.tolist()
    assert evaluated.positions is not None
    plain = evaluated.systems[3]
    assert plain.statuses == {"ok": 228, "refusal": 12}
    # The first six questions were refused, in both orders; every prompt differs.
    assert np.isnan(plain.probabilities).any(axis=1).nonzero()[0].tolist() == [0, 1, 2, 3, 4, 5]
    assert (plain.prompts, plain.template_hashes) == (240, ("5f" * 32,))
    assert (evaluated.systems[0].prompts, evaluated.systems[0].prompts_hash) == (0, None)


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
    change(copy / "results.json", lambda tree: tree.pop("scores_sha256"))
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
PLAIN = "of the system 'plain model'"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda tree: tree.update(format=1),
            f"results.json must be of format 3; got 1 at {{}}. It was written by another version. {AGAIN}",
        ),
        (
            lambda tree: tree.update(target="loyal_national"),
            "the target of {} must be one of 'loyal_nationals', 'civic_pragmatists', 'backbone_conservatives'; got "
            "'loyal_national'. Did you mean 'loyal_nationals'?",
        ),
        (lambda tree: tree.pop("systems"), f"systems must be an object; got None at {{}}. {AGAIN}"),
        (lambda tree: tree.update(systems={}), f"{{}} must hold a system; got none. {AGAIN}"),
        (lambda tree: tree.pop("division"), f"division must be a text; got None at {{}}. {AGAIN}"),
        (
            lambda tree: tree.update(compared_with="answer"),
            "compared_with of {} must be one of 'probabilities', 'answers'; got 'answer'. Did you mean 'answers'?",
        ),
        (lambda tree: tree.update(personas=[3]), f"each of personas must be a text; got 3 at {{}}. {AGAIN}"),
        (
            lambda tree: tree["names"].update(loyal_nationals=None),
            f"names of 'loyal_nationals' must be a text; got None at {{}}. {AGAIN}",
        ),
        (
            lambda tree: tree.update(questions=119),
            f"questions must be the 120 of questions.parquet; got 119 at {{}}. {AGAIN}",
        ),
        (
            lambda tree: tree["systems"].update(other=tree["systems"]["uniform"]),
            f"scores.parquet must have rows of the system 'other' of {{}}; got none. {AGAIN}",
        ),
        (
            lambda tree: tree["systems"].update({"plain model": 3}),
            f"the system 'plain model' must be an object; got 3 at {{}}. {AGAIN}",
        ),
        (
            lambda tree: tree["systems"]["plain model"].pop("facts"),
            f"facts {PLAIN} must be an object; got None at {{}}. {AGAIN}",
        ),
        (
            lambda tree: tree["systems"]["plain model"]["probabilities"].update({"agreement/target": "high"}),
            f"agreement/target {PLAIN} must be a number or null; got 'high' at {{}}. {AGAIN}",
        ),
        (
            lambda tree: tree["systems"]["plain model"]["intervals_95"].update({"agreement/target": [0.1]}),
            f"the interval of agreement/target {PLAIN} must be 2 numbers; got [0.1] at {{}}. {AGAIN}",
        ),
        (
            lambda tree: tree["systems"]["plain model"]["position_bias"].pop("gap"),
            f"gap of the position bias {PLAIN} must be a number; got None at {{}}. {AGAIN}",
        ),
        (
            lambda tree: tree["systems"]["plain model"]["length_gap"].update(interval_95=[0.1]),
            f"the interval of the length gap {PLAIN} must be 2 numbers; got [0.1] at {{}}. {AGAIN}",
        ),
        (
            lambda tree: tree["comparisons"][0].pop("first"),
            f"first of comparison 1 must be a text; got None at {{}}. {AGAIN}",
        ),
    ],
)
def test_results_that_do_not_fit_are_refused(edit: Callable[[dict[str, Any]], Any], message: str, copy: Path) -> None:
    change(copy / "results.json", edit)
    assert refusal(copy) == message.format(copy / "results.json")


POSITION_AGAIN = "Run `fairpp position` into this folder again."


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda tree: tree.pop("points"), f"points must be a list; got None at {{}}. {POSITION_AGAIN}"),
        (lambda tree: tree["points"].append(3), f"point 7 must be an object; got 3 at {{}}. {POSITION_AGAIN}"),
        (
            lambda tree: tree["points"][0].pop("name"),
            f"name of point 1 must be a text; got None at {{}}. {POSITION_AGAIN}",
        ),
        (
            lambda tree: tree["points"][0].update(kind="people"),
            f"kind of point 1 must be one of 'persona', 'majority', 'baseline', 'model'; got 'people' at {{}}. "
            f"{POSITION_AGAIN}",
        ),
        (
            lambda tree: tree["points"][1]["pca"].pop("xy"),
            f"xy of pca of point 2 must be a list; got None at {{}}. {POSITION_AGAIN}",
        ),
        (
            lambda tree: tree["points"][1]["ideal_point"].update(xy=[1, None]),
            f"each of xy of ideal_point of point 2 must be a number; got None at {{}}. {POSITION_AGAIN}",
        ),
        (
            lambda tree: tree["methods"].update(pca={"explained_variance": [0.6]}),
            f"explained_variance of 'pca' must be 2 numbers; got [0.6] at {{}}. {POSITION_AGAIN}",
        ),
    ],
)
def test_positions_that_cannot_be_drawn_are_refused(
    edit: Callable[[dict[str, Any]], Any], message: str, copy: Path
) -> None:
    change(copy / "positions.json", edit)
    assert refusal(copy) == message.format(copy / "positions.json")


def test_json_that_is_none_or_holds_no_object_is_refused(copy: Path) -> None:
    (copy / "positions.json").write_text("{")
    assert refusal(copy) == (
        "positions.json must be JSON; got Expecting property name enclosed in double quotes: line 1 column 2 (char 1) at "
        f"{copy / 'positions.json'}. {POSITION_AGAIN}"
    )
    (copy / "positions.json").write_text("[]")
    assert refusal(copy) == f"positions.json must hold an object; got [] at {copy / 'positions.json'}. {POSITION_AGAIN}"


def test_questions_and_scores_must_belong_together(copy: Path) -> None:
    questions = pq.read_table(copy / "questions.parquet")
    pq.write_table(questions.slice(1), copy / "questions.parquet")
    change(copy / "results.json", lambda tree: tree.update(questions=119))
    assert refusal(copy) == (
        f"scores.parquet must be about the questions of questions.parquet; got {questions['question_id'][0].as_py()!r} at "
        f"{copy / 'scores.parquet'}. {AGAIN}"
    )
    pq.write_table(questions.drop_columns([f"answer/{TARGET}"]), copy / "questions.parquet")
    assert refusal(copy) == (
        f"questions.parquet must have a column 'answer/loyal_nationals'; got none at {copy / 'questions.parquet'}. {AGAIN}"
    )


def test_answers_are_of_three_options(copy: Path) -> None:
    questions = pq.read_table(copy / "questions.parquet")
    place = questions.column_names.index(f"answer/{TARGET}")
    for answers, message in (
        ([3] * 120, "the column 'answer/loyal_nationals' must hold -1 to 2; got [3]"),
        ([None] * 120, "questions.parquet must have no null; got one in the column 'answer/loyal_nationals'"),
    ):
        column = pa.array(answers, pa.int8())
        pq.write_table(questions.set_column(place, f"answer/{TARGET}", column), copy / "questions.parquet")
        assert refusal(copy) == f"{message} at {copy / 'questions.parquet'}. {AGAIN}"


def test_probabilities_are_read_where_systems_are_compared_with_them(copy: Path) -> None:
    """Compared with answers, a persona stands as one-hot rows; null is a question without an answer."""
    questions = pq.read_table(copy / "questions.parquet")
    place = questions.column_names.index(f"probabilities/{TARGET}")
    column = questions[f"probabilities/{TARGET}"].to_pylist()
    pq.write_table(
        questions.set_column(place, f"probabilities/{TARGET}", pa.array([None, *column[1:]])),
        copy / "questions.parquet",
    )
    assert np.isnan(read_evaluated(copy).persona_probabilities[TARGET]).any(axis=1).nonzero()[0].tolist() == [0]
    change(copy / "results.json", lambda tree: tree.update(compared_with="answers"))
    evaluated = read_evaluated(copy)
    np.testing.assert_array_equal(evaluated.persona_probabilities[TARGET].argmax(axis=1), evaluated.answers[TARGET])
    assert set(evaluated.persona_probabilities[TARGET].ravel()) == {0.0, 1.0}


def test_scores_that_were_cut_off_are_refused(copy: Path) -> None:
    """The digest tells of a folder that a second evaluation has half written; without it, the file itself does."""
    scores = copy / "scores.parquet"
    before, whole = hashlib.sha256(scores.read_bytes()).hexdigest(), scores.read_bytes()
    change(copy / "results.json", lambda tree: tree.update(scores_sha256=before))
    assert len(read_evaluated(copy).systems) == 6
    scores.write_bytes(whole[:1000])
    assert refusal(copy) == (
        f"scores.parquet must be the one that results.json was written with, of SHA-256 {before}; got "
        f"{hashlib.sha256(whole[:1000]).hexdigest()} at {scores}. The folder is half-written: an evaluation was cut off in "
        f"it, or is still under way. {AGAIN}"
    )
    change(copy / "results.json", lambda tree: tree.pop("scores_sha256"))
    start = "scores.parquet must be a Parquet file as `fairpp evaluate` writes it; got "
    assert refusal(copy).startswith(start)
    assert refusal(copy).endswith(f" at {scores}. {AGAIN}")
