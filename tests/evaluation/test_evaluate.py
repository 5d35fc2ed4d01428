import dataclasses
import json
import re

import numpy as np
import pyarrow.parquet as pq
import pytest

from fairpp_hf.dataset.sources import load_answers
from fairpp_hf.evaluation.baselines import as_scores
from fairpp_hf.evaluation.evaluate import check_references, evaluate_systems, questions_to_score
from fairpp_hf.evaluation.figures import draw_evaluation
from fairpp_hf.evaluation.results_folder import SCORE_SCHEMA
from fairpp_hf.personas import load_personas
from fairpp_hf.questions import load_questions, split_of
from fairpp_hf.schema import QUESTION_FEATURES

NONE = [np.nan] * 3


def evaluated(systems, references, questions=None, **others):
    count = len(next(iter(references.values())))
    questions = load_questions("test").slice(0, count) if questions is None else questions
    named = {"reference": "somebody (simulated)", "division": "test split", **others}
    return evaluate_systems(systems, questions, references, "t", **named)


@pytest.fixture(scope="module")
def evaluation():
    systems = [
        as_scores("sure", np.array([[1.0, 0, 0], [1, 0, 0], [0, 1, 0], NONE]), kind="model"),
        as_scores("unsure", np.full((4, 3), 1 / 3)),
        as_scores("silent", np.full((4, 2, 3), np.nan), kind="model"),
    ]
    references = {"t": np.array([0, 0, 1, 0]), "x": np.array([1, 1, 1, 1])}
    return evaluated(systems, references)


@pytest.fixture(scope="module")
def many():
    """60 questions in 60 clusters; `good` gives the target's answer 0.8, `plain` 0.4; both in two orders."""
    questions = load_questions("test").take(list(range(0, 5400, 90)))
    rng = np.random.default_rng(0)
    target = rng.integers(0, 3, 60)
    chosen = np.eye(3)[target]
    plain = as_scores("plain", np.stack([0.1 * chosen + 0.3] * 2, axis=1), kind="model")
    good = as_scores("good", np.stack([0.7 * chosen + 0.1] * 2, axis=1), kind="model")
    good.facts["before"] = "plain"
    references = {"t": target, "x": rng.integers(0, 3, 60)}
    return evaluated([plain, good, as_scores("baseline", chosen)], references, questions)


def test_a_question_without_probabilities_has_no_first_choice(evaluation):
    """The last row is NaN: 3 questions count, in the expected metrics and in those of first choices."""
    sure = evaluation.systems[0]
    assert sure.metrics["questions/t"] == sure.first_choice_metrics["questions/t"] == 3
    assert sure.first_choice_metrics["agreement/t"] == 1.0


def test_a_tie_is_no_first_choice(evaluation):
    unsure = evaluation.systems[1]
    assert unsure.metrics["agreement/target"] == pytest.approx(1 / 3)
    assert unsure.first_choice_metrics["questions/t"] == 0
    assert unsure.first_choice_metrics["agreement/t"] is None
    assert "agreement/target" not in unsure.first_choice_metrics


def test_a_system_that_never_answered_is_in_the_table_without_numbers(evaluation):
    """A model that refuses everything is a result, too, and stands last."""
    lines = evaluation.to_markdown().splitlines()
    assert [line.split(" | ")[0] for line in lines[2:5]] == ["| sure", "| unsure", "| silent"]
    assert lines[4] == "| silent | none | none | none | none | none | none | 100.0% |"
    assert evaluation.systems[2].intervals == {}
    assert "| replies of | ok | empty |" in lines
    assert lines[-1] == "| silent | 0 | 8 |"


def test_notes_say_whose_answers_and_in_which_order(evaluation, many):
    assert "answers of the personas: somebody (simulated)." in " ".join(many.notes().split())
    assert "saw each question in both orders" in " ".join(many.notes().split())
    one = evaluated([as_scores("m", np.eye(3), kind="model")], {"t": np.arange(3), "x": np.zeros(3, int)})
    assert "saw the options in one order" in one.notes()


def test_systems_are_compared_with_the_plain_model(many):
    """0.8 - 0.4 for the one that comes from it, 1 - 0.4 for the baseline; the same on every question, so without spread."""
    by_pair = {
        (comparison.first, comparison.second): comparison.result
        for comparison in many.comparisons
        if comparison.metric == "agreement/target"
    }
    assert set(by_pair) == {("good", "plain"), ("baseline", "plain")}
    assert by_pair["good", "plain"].difference == pytest.approx(0.4)
    assert by_pair["baseline", "plain"].difference == pytest.approx(0.6)
    assert by_pair["good", "plain"].p_value < 0.01
    assert "| good | plain | +0.400 [+0.400, +0.400], p < 0.001 |" in many.to_markdown()


def test_a_comparison_is_with_the_entry_of_its_own_model():
    """Two models with an adapter each; `before` says whose it is."""
    rng = np.random.default_rng(0)
    rows = list(range(0, 5400, 90))
    systems = [as_scores(name, rng.dirichlet([1, 1, 1], 60), kind="model") for name in ("a", "b", "a+", "b+")]
    systems[2].facts["before"], systems[3].facts["before"] = "a", "b"
    references = {"t": rng.integers(0, 3, 60), "x": rng.integers(0, 3, 60)}
    found = evaluated(systems, references, load_questions("test").take(rows))
    assert {(each.first, each.second) for each in found.comparisons} == {("b", "a"), ("a+", "a"), ("b+", "b")}


def test_written_files_hold_what_was_computed(many, tmp_path):
    paths = many.write(tmp_path / "deep" / "folder")
    assert [path.name for path in paths] == ["results.json", "results.md", "questions.parquet", "scores.parquet"]
    results = json.loads(paths[0].read_text())
    assert list(results) == [
        *("format", "target", "personas", "names", "shares", "questions", "kind", "division", "reference", "orders"),
        *("systems", "comparisons"),
    ]
    assert (results["format"], results["questions"], results["orders"]) == (2, 60, 2)
    assert (results["names"], results["shares"]) == ({"t": "T", "x": "X"}, {"t": None, "x": None})
    good = results["systems"]["good"]
    assert good["probabilities"]["agreement/target"] == pytest.approx(0.8)
    assert good["first_choice"]["agreement/target"] == 1.0
    assert good["statuses"] == {"ok": 120}
    assert good["position_bias"]["gap"] == pytest.approx(0.0)
    assert good["position_bias"]["same_choice"] == 1.0
    assert results["systems"]["baseline"]["position_bias"] is None
    first = results["comparisons"][0]
    assert (first["first"], first["second"], len(first["interval_95"])) == ("good", "plain", 2)

    questions = pq.read_table(paths[2])
    assert questions.column_names == [*QUESTION_FEATURES, "answer/t", "answer/x"]
    assert questions["answer/t"].to_pylist() == many.references["t"].tolist()
    assert str(questions.schema.field("answer/t").type) == "int8"
    rows = pq.read_table(paths[3])
    assert rows.schema.equals(SCORE_SCHEMA)
    assert len(rows) == 60 * 2 + 60 * 2 + 60
    assert rows["order"].to_pylist()[:4] == [0, 1, 0, 1]
    assert rows["question_id"].to_pylist()[:4] == [
        name for name in questions["question_id"].to_pylist()[:2] for _ in "AB"
    ]
    assert rows["probabilities"][120].as_py() == pytest.approx(many.systems[1].scores.by_order[0, 0].tolist())


def test_rows_without_an_answer_are_null(evaluation, tmp_path):
    evaluation.write(tmp_path)
    rows = pq.read_table(tmp_path / "scores.parquet").to_pylist()
    assert rows[3]["probabilities"] is None
    assert (rows[3]["answer"], rows[3]["status"]) == (-1, "empty")
    assert rows[0]["logprobs"] is None
    assert rows[0]["prompt_hash"] is None
    assert json.loads((tmp_path / "results.json").read_text())["systems"]["silent"]["statuses"] == {"empty": 8}


def test_names_and_shares_are_those_of_the_set():
    ids = ("loyal_nationals", "civic_pragmatists")
    references = {"t": np.zeros(3, int), **{persona: np.ones(3, int) for persona in ids}}
    found = evaluated([as_scores("m", np.eye(3))], references, personas=load_personas())
    assert found.names == {"t": "T", "loyal_nationals": "Loyal Nationals", "civic_pragmatists": "Civic Pragmatists"}
    assert found.shares["t"] is None
    assert found.shares["loyal_nationals"] == load_personas().get("loyal_nationals").share


def test_a_picture_of_eight_systems_with_one_that_never_answered(evaluation, tmp_path):
    rng = np.random.default_rng(0)
    systems = [as_scores(f"model {number}", rng.dirichlet([1, 1, 1], 60), kind="model") for number in range(7)]
    systems.append(as_scores("a model with a name that is too long to stand on one line", np.full((60, 3), np.nan)))
    references = {persona: rng.integers(0, 3, 60) for persona in ("t", "x", "y")}
    questions = load_questions("test").take(list(range(0, 5400, 90)))
    path = draw_evaluation(evaluated(systems, references, questions), tmp_path / "new" / "results.png")
    assert path.stat().st_size > 10_000


@pytest.mark.parametrize(
    ("references", "message"),
    [
        ({"x": np.zeros(2, int)}, "target must be one of 'x'; got 't'."),
        (
            {"t": np.full(2, -1), "x": np.zeros(2, int)},
            "target must have answered some of the 2 questions; 't' has no valid answer. Ask it again with "
            "`fairpp generate`, or raise --limit.",
        ),
        (
            {"t": np.zeros(2, int), "x": np.full(2, -1)},
            "Another persona than the target must have answered some of the 2 questions; got answers of 't' alone. Use "
            "other --answers, or raise --limit.",
        ),
    ],
)
def test_answers_that_nothing_can_be_compared_with(references, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_references(references, "t")


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
