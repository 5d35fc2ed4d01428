from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from fairpp_hf.dataset.answers import Answers
from fairpp_hf.evaluation.baselines import BASELINES, baselines, constant_rows, majority_vote
from fairpp_hf.evaluation.evaluate import questions_to_score
from fairpp_hf.personas import load_personas
from fairpp_hf.questions import load_questions, split_of
from fairpp_hf.respondents.survey import all_survey_answers
from fairpp_hf.statistics.alignment import alignment_metrics

TARGET, OTHER = "loyal_nationals", "progressive_activists"

ANSWERS = {
    "t": np.array([0, 0, 0, 0]),
    "x": np.array([0, 1, 2, -1]),
    "y": np.array([1, 1, -1, -1]),
    "z": np.array([1, 0, -1, -1]),
}


def test_the_majority_is_of_shares():
    """x alone outweighs y and z on the first question (0.6 > 0.4); together with y it has 0.8 of the second."""
    shares = {"x": 0.6, "y": 0.2, "z": 0.2}
    others = {name: ANSWERS[name] for name in shares}
    np.testing.assert_array_equal(
        majority_vote(others, shares), [[1, 0, 0], [0, 1, 0], [0, 0, 1], [np.nan, np.nan, np.nan]]
    )


def test_without_shares_each_persona_counts_as_one_and_equal_votes_share():
    """First question: y and z against x. With t as well, two against two."""
    others = {name: ANSWERS[name] for name in ("x", "y", "z")}
    assert majority_vote(others, {"x": 0.6, "y": None, "z": 0.2})[0].tolist() == [0, 1, 0]
    assert majority_vote(ANSWERS, {})[0].tolist() == [0.5, 0.5, 0]


@pytest.fixture(scope="module")
def world() -> Answers:
    """The survey's answers of two personas about three groups, 2,940 questions."""
    questions = load_questions()
    questions = questions.filter(pc.is_in(questions["group"], pa.array(["men", "women", "muslim people"])))
    found = all_survey_answers(questions, load_personas())
    records = {
        persona: pa.table(
            {
                "row": pa.array(range(len(questions)), pa.int64()),
                "respondent": ["survey"] * len(questions),
                "answer": pa.array(found[persona].answer, pa.int64()),
                "probabilities": found[persona].probabilities.tolist(),
                "status": ["ok"] * len(questions),
            }
        )
        for persona in (TARGET, OTHER)
    }
    return Answers(questions, split_of(questions), records)


def with_answers(world: Answers, answers: np.ndarray, *, probabilities: bool = True) -> Answers:
    """The target's answers replaced; -1 for none."""
    table = world.records[TARGET]
    table = table.set_column(table.column_names.index("answer"), "answer", pa.array(answers, pa.int64()))
    if not probabilities:
        nothing = pa.nulls(len(table), pa.list_(pa.float64()))
        table = table.set_column(table.column_names.index("probabilities"), "probabilities", nothing)
    return replace(world, records={**world.records, TARGET: table})


def test_fitted_baselines_know_the_training_answers(world: Answers) -> None:
    """The constant is the mean of the probabilities; the label model, from drawn answers, is nearer to them."""
    questions, references = questions_to_score(world, "test")
    found = baselines(world, questions, TARGET, {OTHER: 0.2})
    assert tuple(system.name for system in found) == BASELINES
    constant, label_model, majority, uniform = found
    training = world.probabilities(TARGET)[~world.is_test]
    np.testing.assert_allclose(constant.probabilities, np.tile(training.mean(axis=0), (len(questions), 1)), atol=1e-12)
    distances = [
        alignment_metrics(system.probabilities, references, TARGET)["question_js_distance/target"] for system in found
    ]
    assert distances[1] < distances[0] < distances[3]
    expected = f"to its {len(training):,} answers to training questions"
    assert (constant.facts, label_model.facts) == (
        {"kind": "baseline", "fitted": expected},
        {"kind": "baseline", "fitted": expected, "is_better": True},
    )
    np.testing.assert_array_equal(majority.answers[:, 0], references.answers[OTHER])
    np.testing.assert_allclose(uniform.probabilities, 1 / 3)
    assert (uniform.answers == -1).all()  # no option is the first choice


def test_without_probabilities_the_constant_is_of_answers(world: Answers) -> None:
    """6 training answers A, 3 B and 91 C; what nobody answered counts nowhere."""
    answers = np.full(len(world.questions), -1)
    training = np.flatnonzero(~world.is_test)[::7][:100]
    answers[training] = np.repeat([0, 1, 2], [6, 3, 91])
    only = with_answers(world, answers, probabilities=False)
    rows = constant_rows(only, world.questions.filter(pa.array(world.is_test)), TARGET)
    np.testing.assert_allclose(rows, np.tile([0.06, 0.03, 0.91], (world.is_test.sum(), 1)))


@pytest.mark.parametrize("split", ["train", "test"])
def test_no_question_is_judged_by_its_own_answer(world: Answers, split: str) -> None:
    """Scored on the only split that there is, or on the training split: without the answers to a cluster's questions, all
    else stays, and these questions get the same."""
    world = replace(world, is_test=np.full(len(world.questions), split == "test"))
    questions, _ = questions_to_score(world, split, limit=150)
    first = world.questions.to_pylist()[0]
    own = pc.and_(
        pc.equal(world.questions["problem"], first["problem"]), pc.equal(world.questions["group"], first["group"])
    )
    own = own.to_numpy()
    judged = world.questions.filter(pa.array(own))
    answers = world.matrix()[TARGET].astype(int)
    changed = with_answers(world, np.where(own, (answers + 1) % 3, answers), probabilities=False)
    plain = with_answers(world, answers, probabilities=False)
    for before, after in zip(baselines(plain, judged, TARGET)[:2], baselines(changed, judged, TARGET)[:2], strict=True):
        np.testing.assert_array_equal(before.probabilities, after.probabilities)
    assert not np.array_equal(constant_rows(plain, questions, TARGET), constant_rows(changed, questions, TARGET))
    words = "test" if split == "test" else "training"
    assert before.facts["fitted"].startswith(f"to its 2,940 answers to {words} questions, in 5 folds")


def test_with_too_few_answers_there_is_no_fitted_baseline(world: Answers) -> None:
    """40 training answers are too few, and 300 test answers are not; then there are 40 of each."""
    answers = np.full(len(world.questions), -1)
    training, test = np.flatnonzero(~world.is_test)[::7], np.flatnonzero(world.is_test)
    answers[training[:40]], answers[test[:300]] = 0, 1
    questions = world.questions.take(pa.array(test[:20]))
    found = baselines(with_answers(world, answers), questions, TARGET)
    assert found[0].facts["fitted"].startswith("to its 300 answers to test questions, in 5 folds")
    answers[test[40:]] = -1
    assert [system.name for system in baselines(with_answers(world, answers), questions, TARGET)] == list(BASELINES[2:])
    assert constant_rows(with_answers(world, answers), questions, TARGET) is None


def test_questions_of_others_are_refused(world: Answers) -> None:
    questions = load_questions().slice(0, 1)
    other = questions.set_column(0, "question_id", pa.array(["another"]))
    with pytest.raises(ValueError, match=r"^questions must be among those of the answers; got 'another'\. "):
        baselines(world, other, TARGET)
