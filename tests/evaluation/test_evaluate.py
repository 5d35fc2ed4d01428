import dataclasses
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from fairpp_hf.dataset.sources import load_answers
from fairpp_hf.evaluation.evaluate import evaluate_systems, questions_to_score
from fairpp_hf.questions import load_questions, split_of


@pytest.fixture
def evaluation():
    questions = load_questions("test").slice(0, 4)
    systems = {
        "sure": np.array([[1.0, 0, 0], [1, 0, 0], [0, 1, 0], [np.nan, np.nan, np.nan]]),
        "unsure": np.full((4, 3), 1 / 3),
    }
    references = {"t": np.array([0, 0, 1, 0]), "x": np.array([1, 1, 1, 1])}
    return evaluate_systems(systems, questions, references, "t", "somebody (simulated)", "test split")


def test_a_question_without_probabilities_has_no_first_choice(evaluation):
    """The last row is NaN: 3 questions count, in the expected metrics and in those of first choices."""
    sure = evaluation.systems[0]
    assert sure.metrics["questions/t"] == sure.first_choice_metrics["questions/t"] == 3
    assert sure.first_choice_metrics["agreement/t"] == 1.0


def test_the_table_has_the_best_agreement_first_and_names_who_is_simulated(evaluation):
    lines = evaluation.to_markdown().splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| sure", "| unsure"]
    assert "somebody (simulated)" in evaluation.notes()


def test_written_files_hold_what_was_computed(evaluation, tmp_path):
    paths = evaluation.write(tmp_path / "deep" / "folder")
    assert [path.name for path in paths] == ["results.json", "results.md", "rows.parquet"]
    results = json.loads(paths[0].read_text())
    assert results["systems"]["unsure"]["probabilities"]["agreement/target"] == pytest.approx(1 / 3)
    rows = pq.read_table(paths[2])
    assert rows.column_names == ["system", "question_id", "probabilities"]
    assert rows.num_rows == 8
    assert rows["probabilities"][0].as_py() == [1.0, 0.0, 0.0]


def test_questions_to_score_are_those_of_the_split_with_their_answers():
    answers = load_answers()
    questions, references = questions_to_score(answers, "test", limit=30)
    assert len(questions) == 30
    assert split_of(questions).all()
    whole = dict(zip(answers.questions["question_id"].to_pylist(), answers.matrix()["loyal_nationals"], strict=True))
    assert references["loyal_nationals"].tolist() == [whole[name] for name in questions["question_id"].to_pylist()]
    training_only = dataclasses.replace(answers, is_test=np.zeros(len(answers.questions), dtype=bool))
    with pytest.raises(ValueError, match=r"^The answers must hold test questions; got none\."):
        questions_to_score(training_only, "test")
