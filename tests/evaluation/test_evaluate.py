import dataclasses
import re

import numpy as np
import pytest

from fairpp_hf.dataset.sources import load_answers
from fairpp_hf.evaluation.evaluate import check_references, evaluate_systems, questions_to_score
from fairpp_hf.evaluation.results import References, as_scores
from fairpp_hf.evaluation.results_table import metric_notes, notes, p_value_text, signed, tables
from fairpp_hf.evaluation.results_table import warnings as warnings_of
from fairpp_hf.personas import load_personas
from fairpp_hf.questions import load_questions, split_of

NONE = [np.nan] * 3


def evaluated(systems, references, questions=None, **others):
    count = len(next(iter(references.values())))
    questions = load_questions("test").slice(0, count) if questions is None else questions
    named = {"reference": "somebody (simulated)", "division": "test split", **others}
    return evaluate_systems(systems, questions, references, "t", **named)


def sixty():
    """60 questions in 60 clusters."""
    return load_questions("test").take(list(range(0, 5400, 90)))


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
    """`good` gives the target's answer 0.8, `plain` 0.4; both in two orders."""
    rng = np.random.default_rng(0)
    target = rng.integers(0, 3, 60)
    chosen = np.eye(3)[target]
    plain = as_scores("plain", np.stack([0.1 * chosen + 0.3] * 2, axis=1), kind="model")
    good = as_scores("good", np.stack([0.7 * chosen + 0.1] * 2, axis=1), kind="model")
    good.facts["before"] = "plain"
    constant = np.tile(np.bincount(target, minlength=3) / 60, (60, 1))
    references = {"t": target, "x": rng.integers(0, 3, 60)}
    systems = [plain, good, as_scores("baseline", chosen), as_scores("constant", constant)]
    return evaluated(systems, references, sixty())


def test_the_constant_comes_first_then_the_nearest_and_none_at_all_last():
    """Always wrong is as far as can be, and before no answer at all."""
    systems = [
        as_scores("silent", np.full((4, 3), np.nan), kind="model"),
        as_scores("wrong", np.tile([0, 1.0, 0], (4, 1)), kind="model"),
        as_scores("right", np.tile([1.0, 0, 0], (4, 1)), kind="model"),
        as_scores("constant", np.full((4, 3), 1 / 3)),
    ]
    found = evaluated(systems, {"t": np.zeros(4, int), "x": np.ones(4, int)})
    assert [system.name for system in found.systems] == ["constant", "right", "wrong", "silent"]
    assert found.best == 1


def test_names_that_are_wrong_are_refused():
    rows = np.eye(3)
    references = {"t": np.arange(3), "x": np.zeros(3, int)}
    with pytest.raises(ValueError, match=r"^The name of a system must be unique; got 'm' twice\. Rename one\.$"):
        evaluated([as_scores("m", rows), as_scores("m", rows[::-1])], references)
    lost = as_scores("m", rows, kind="model")
    lost.facts["before"] = "plane"
    with pytest.raises(ValueError, match=r"^before of 'm' must be one of 'plain'; got 'plane'\."):
        evaluated([as_scores("plain", rows, kind="model"), lost], references)


def test_a_system_that_never_answered_is_in_the_table_without_numbers(evaluation):
    """A model that refuses everything is a result, too, and stands last."""
    lines = tables(evaluation).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:5]] == ["| sure", "| unsure", "| silent"]
    assert lines[4] == "| silent | none | none | none | none | none | none | none | none | 100.0% |"
    assert evaluation.systems[2].intervals == {}
    assert "| replies of | ok | empty |" in lines
    assert lines[-1] == "| silent | 0 | 8 |"


def pairs_of(results):
    return list(dict.fromkeys((each.first, each.second) for each in results.comparisons))


def test_systems_are_compared_with_the_plain_model(many):
    """0.8 - 0.4 for the one that comes from it, 1 - 0.4 for the baseline; the same on every question, so without spread."""
    by_pair = {(each.first, each.second): each.result for each in many.comparisons if each.metric == "agreement/target"}
    assert set(by_pair) == {("good", "plain"), ("baseline", "plain"), ("constant", "plain")}
    assert by_pair["good", "plain"].difference == pytest.approx(0.4)
    assert by_pair["baseline", "plain"].difference == pytest.approx(0.6)
    assert by_pair["good", "plain"].p_value < 0.01
    (row,) = (line for line in tables(many).splitlines() if line.startswith("| good | plain |"))
    assert "| +0.400 [+0.400, +0.400], p < 0.001 |" in row
    assert "none" not in row


@pytest.mark.parametrize(
    ("facts", "pairs"),
    [
        # Two models with an adapter each; `before` says whose it is.
        ({"a": {}, "b": {}, "a+": {"before": "a"}, "b+": {"before": "b"}}, {("b", "a"), ("a+", "a"), ("b+", "b")}),
        # An adapter is compared with the role-play of the target by its model, too.
        (
            {
                "plain": {"model": "m"},
                "role": {"model": "m", "persona": "t", "before": "plain"},
                "another": {"model": "m", "persona": "x", "before": "plain"},
                "adapter": {"model": "m", "adapter": "p", "before": "plain"},
                "other": {"model": "o", "persona": "t"},
            },
            {(name, "plain") for name in ("role", "another", "adapter", "other")} | {("adapter", "role")},
        ),
    ],
)
def test_a_comparison_is_with_the_entry_of_its_own_model(facts, pairs):
    rng = np.random.default_rng(0)
    systems = [as_scores(name, rng.dirichlet([1, 1, 1], 60), kind="model") for name in facts]
    for system in systems:
        system.facts.update(facts[system.name])
    references = {"t": rng.integers(0, 3, 60), "x": rng.integers(0, 3, 60)}
    assert set(pairs_of(evaluated(systems, references, sixty()))) == pairs


def test_numbers_have_no_minus_zero():
    assert [signed(value) for value in (0.25, -0.25, -0.0001, 0.0, None)] == [
        *("+0.250", "-0.250", "+0.000", "+0.000", "none"),
    ]
    assert [p_value_text(value) for value in (0.04, 0.001, 0.0004, None)] == ["0.040", "0.001", "< 0.001", "none"]
    # Half of A and half of B in both orders, off by a rounding error.
    even = np.tile([0.5 - 1e-6, 0.5 + 1e-6, 0.0], (4, 2, 1))
    even[:, 1] = even[:, 0, [1, 0, 2]]
    table = tables(evaluated([as_scores("m", even)], {"t": np.zeros(4, int), "x": np.zeros(4, int)}))
    assert "-0.000" not in table
    assert "| m | +0.000 |" in table


def test_distances_are_to_probabilities_where_they_are_known():
    """The target's own probabilities are at distance 0 from it, and far from its drawn answers."""
    probabilities = np.tile([0.6, 0.3, 0.1], (4, 1))
    answers = {"t": np.array([0, 1, 0, -1]), "x": np.zeros(4, int)}
    own = as_scores("own", probabilities, kind="model")
    known = evaluated([own], References(answers, {"t": probabilities, "x": probabilities}))
    assert known.systems[0].metrics["question_js_distance/target"] == 0
    drawn = evaluated([own], answers)
    assert drawn.systems[0].metrics["question_js_distance/target"] > 0.3
    assert (known.compared_with, drawn.compared_with) == ("probabilities", "answers")


def test_notes_say_what_was_compared_and_how(evaluation, many):
    def said(results):
        return " ".join(notes(results).split())

    assert said(many).startswith("Target: t; 60 questions (test split); answers of the personas: somebody (simulated).")
    assert "saw each question in both orders" in said(many)
    assert "Differences: a system minus the other one" in said(many)
    assert "- Baselines: constant, the target's mean shares of A, B and C, whatever the question, fitted. - " in said(
        many
    )
    one = evaluated([as_scores("m", np.eye(3), kind="model")], {"t": np.arange(3), "x": np.zeros(3, int)})
    assert "saw the options in one order" in said(one)
    assert "Differences" not in said(one)
    assert "Length gap" not in said(one)
    assert "- No constant is shown, so that no skill can be given" in said(one)
    assert "1 is the target itself" in metric_notes("probabilities")[0]
    assert "1 is the target itself" not in metric_notes("answers")[0]
    assert [note.split(":")[0] for note in metric_notes("answers")] == [
        *("Skill", "Distance by question", "Agreement", "Brier score", "Distance of shares", "Worst group"),
        "Margin of shares",
    ]
    assert all(len(line) <= 120 for line in notes(many).splitlines())


def test_an_adapted_model_that_is_worse_than_a_constant_is_warned_of(caplog):
    """An adapter, or a model that another one came before; no prompt, no plain model and nobody above 0."""
    target = np.array([0, 0, 0, 1] * 10)
    references = {"t": target, "x": np.ones(40, int)}
    wrong, right = np.eye(3)[(target + 1) % 3], np.eye(3)[target]
    facts = {
        "plain": {},
        "a role": {"persona": "t", "before": "plain"},
        "far": {"adapter": "a", "before": "plain"},
        "merged": {"before": "plain"},
        "near": {"adapter": "b", "before": "plain"},
    }
    systems = [as_scores(name, right if name == "near" else wrong, kind="model") for name in facts]
    for system in systems:
        system.facts.update(facts[system.name])
    constant = as_scores("constant", np.tile([0.75, 0.25, 0], (40, 1)))
    questions = load_questions("test").slice(0, 40)
    found = evaluated([*systems, constant], references, questions)
    assert [warning.split("`")[1] for warning in warnings_of(found)] == ["far", "merged"]
    skill = next(system for system in found.systems if system.name == "far").metrics["skill/target"]
    assert re.search(f"`far` is no nearer to t than a constant answer[^(]+\\(skill {skill:.3f}\\)", caplog.text)
    caplog.clear()
    assert warnings_of(evaluated(systems, references, questions)) == caplog.messages == []


def test_names_and_shares_are_those_of_the_set():
    ids = ("loyal_nationals", "civic_pragmatists")
    references = {"t": np.zeros(3, int), **{persona: np.ones(3, int) for persona in ids}}
    found = evaluated([as_scores("m", np.eye(3))], references, personas=load_personas())
    assert found.names == {"t": "T", "loyal_nationals": "Loyal Nationals", "civic_pragmatists": "Civic Pragmatists"}
    assert found.shares["t"] is None
    assert found.shares["loyal_nationals"] == load_personas().get("loyal_nationals").share


@pytest.mark.parametrize(
    ("references", "message"),
    [
        ({"x": np.zeros(2, int)}, "target must be one of 'x'; got 't'."),
        (
            {"t": np.full(2, -1), "x": np.zeros(2, int)},
            "target must have answered some of the 2 questions; 't' has no valid answer.",
        ),
        (
            {"t": np.zeros(2, int), "x": np.full(2, -1)},
            "Another persona than the target must have answered some of the 2 questions; got answers of 't' alone.",
        ),
    ],
)
def test_answers_that_nothing_can_be_compared_with(references, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        check_references(References(references), "t")


def test_questions_to_score_are_those_of_the_split_with_their_answers():
    answers = load_answers()
    questions, references = questions_to_score(answers, "test", limit=30)
    assert len(questions) == 30
    assert split_of(questions).all()
    ids = answers.questions["question_id"].to_pylist()
    rows = [ids.index(name) for name in questions["question_id"].to_pylist()]
    assert references.answers["loyal_nationals"].tolist() == answers.matrix()["loyal_nationals"][rows].tolist()
    np.testing.assert_array_equal(references["loyal_nationals"], answers.probabilities("loyal_nationals")[rows])
    training_only = dataclasses.replace(answers, is_test=np.zeros(len(answers.questions), dtype=bool))
    with pytest.raises(ValueError, match=r"^The answers must hold test questions; got none\."):
        questions_to_score(training_only, "test")
