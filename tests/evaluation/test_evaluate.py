import dataclasses
import hashlib
import json
import re

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import fairpp_hf
from fairpp_hf.dataset.sources import load_answers
from fairpp_hf.evaluation import results_folder
from fairpp_hf.evaluation.baselines import as_scores
from fairpp_hf.evaluation.evaluate import References, check_references, evaluate_systems, questions_to_score
from fairpp_hf.evaluation.results_folder import SCORE_SCHEMA
from fairpp_hf.evaluation.results_table import p_value_text, signed
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
    constant = np.tile(np.bincount(target, minlength=3) / 60, (60, 1))
    references = {"t": target, "x": rng.integers(0, 3, 60)}
    return evaluated(
        [plain, good, as_scores("baseline", chosen), as_scores("constant", constant)], references, questions
    )


def test_a_question_without_probabilities_has_no_first_choice(evaluation):
    """The last row is NaN: 3 questions count, in the expected metrics and in those of first choices."""
    sure = evaluation.systems[0]
    assert sure.metrics["questions/t"] == sure.first_choice_metrics["questions/t"] == 3
    assert sure.first_choice_metrics["agreement/t"] == 1.0


def test_a_tie_for_the_first_place_is_shared(evaluation):
    """A model in text with a place of its own: A in one order is B in the other, half for each, so that half the target's
    answers are met, and not those questions left out."""
    unsure = evaluation.systems[1]
    assert unsure.metrics["agreement/target"] == pytest.approx(1 / 3)
    assert unsure.first_choice_metrics["questions/t"] == 4
    assert unsure.first_choice_metrics["agreement/target"] == pytest.approx(1 / 3)
    a, b, _ = np.eye(3)
    flipping = as_scores("flips on the last two", np.array([[a, a], [a, a], [a, b], [a, b]]), kind="model")
    found = evaluated([flipping], {"t": np.array([0, 1, 0, 1]), "x": np.zeros(4, int)}).systems[0].first_choice_metrics
    assert (found["questions/t"], found["unanswered"]) == (4, 0.0)
    assert found["agreement/target"] == pytest.approx((1 + 0 + 0.5 + 0.5) / 4)


def test_the_constant_comes_first_then_the_nearest_and_none_at_all_last():
    """Always wrong is as far as can be, and before no answer at all."""
    systems = [
        as_scores("silent", np.full((4, 3), np.nan), kind="model"),
        as_scores("wrong", np.tile([0, 1.0, 0], (4, 1)), kind="model"),
        as_scores("right", np.tile([1.0, 0, 0], (4, 1)), kind="model"),
        as_scores("constant", np.full((4, 3), 1 / 3)),
    ]
    found = evaluated(systems, {"t": np.zeros(4, int), "x": np.ones(4, int)}).best_first()
    assert [system.name for system in found] == ["constant", "right", "wrong", "silent"]


def test_names_that_are_wrong_are_refused():
    rows = np.eye(3)
    references = {"t": np.arange(3), "x": np.zeros(3, int)}
    with pytest.raises(ValueError, match=r"^The name of a system must be unique; got 'm' twice\. Rename one\.$"):
        evaluated([as_scores("m", rows), as_scores("m", rows[::-1])], references)
    lost = as_scores("m", rows, kind="model")
    lost.facts["before"] = "plane"
    message = r"^before of 'm' must be one of 'plain'; got 'plane'\. Did you mean 'plain'\?$"
    with pytest.raises(ValueError, match=message):
        evaluated([as_scores("plain", rows, kind="model"), lost], references)


def test_a_system_that_never_answered_is_in_the_table_without_numbers(evaluation):
    """A model that refuses everything is a result, too, and stands last."""
    lines = evaluation.to_markdown().splitlines()
    assert [line.split(" | ")[0] for line in lines[2:5]] == ["| sure", "| unsure", "| silent"]
    assert lines[4] == "| silent | none | none | none | none | none | none | none | none | 100.0% |"
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
    assert set(by_pair) == {("good", "plain"), ("baseline", "plain"), ("constant", "plain")}
    assert by_pair["good", "plain"].difference == pytest.approx(0.4)
    assert by_pair["baseline", "plain"].difference == pytest.approx(0.6)
    assert by_pair["good", "plain"].p_value < 0.01
    (row,) = (line for line in many.to_markdown().splitlines() if line.startswith("| good | plain |"))
    assert "| +0.400 [+0.400, +0.400], p < 0.001 |" in row
    assert "none" not in row


def test_a_comparison_is_with_the_entry_of_its_own_model():
    """Two models with an adapter each; `before` says whose it is."""
    rng = np.random.default_rng(0)
    rows = list(range(0, 5400, 90))
    systems = [as_scores(name, rng.dirichlet([1, 1, 1], 60), kind="model") for name in ("a", "b", "a+", "b+")]
    systems[2].facts["before"], systems[3].facts["before"] = "a", "b"
    references = {"t": rng.integers(0, 3, 60), "x": rng.integers(0, 3, 60)}
    found = evaluated(systems, references, load_questions("test").take(rows))
    assert {(each.first, each.second) for each in found.comparisons} == {("b", "a"), ("a+", "a"), ("b+", "b")}


def test_an_adapter_is_compared_with_the_role_play_of_its_model_too():
    """Of the target, by the same model without an adapter; what a prompt alone would have done."""
    rng = np.random.default_rng(0)
    names = ("plain", "role-play", "another role", "adapter", "other role-play")
    systems = {name: as_scores(name, rng.dirichlet([1, 1, 1], 60), kind="model") for name in names}
    for name, facts in {
        "plain": {"model": "m"},
        "role-play": {"model": "m", "persona": "t", "before": "plain"},
        "another role": {"model": "m", "persona": "x", "before": "plain"},
        "adapter": {"model": "m", "adapter": "p", "before": "plain"},
        "other role-play": {"model": "o", "persona": "t"},
    }.items():
        systems[name].facts.update(facts)
    references = {"t": rng.integers(0, 3, 60), "x": rng.integers(0, 3, 60)}
    found = evaluated(list(systems.values()), references, load_questions("test").take(list(range(0, 5400, 90))))
    pairs = dict.fromkeys((each.first, each.second) for each in found.comparisons)
    assert [second for first, second in pairs if first == "adapter"] == ["plain", "role-play"]
    assert len(pairs) == 5


def test_numbers_have_no_minus_zero():
    assert [signed(value) for value in (0.25, -0.25, -0.0001, 0.0, None)] == [
        *("+0.250", "-0.250", "+0.000", "+0.000", "none"),
    ]
    assert [p_value_text(value) for value in (0.04, 0.001, 0.0004, None)] == ["0.040", "0.001", "< 0.001", "none"]
    # Half of A and half of B in both orders, off by a rounding error.
    even = np.tile([0.5 - 1e-6, 0.5 + 1e-6, 0.0], (4, 2, 1))
    even[:, 1] = even[:, 0, [1, 0, 2]]
    table = evaluated([as_scores("m", even)], {"t": np.zeros(4, int), "x": np.zeros(4, int)}).to_markdown()
    assert "-0.000" not in table
    assert "| m | +0.000 |" in table


def test_written_files_hold_what_was_computed(many, tmp_path):
    paths = many.write(tmp_path / "deep" / "folder")
    names = ["results.json", "results.csv", "results.md", "questions.parquet", "scores.parquet"]
    assert [path.name for path in paths] == names
    results = json.loads(paths[0].read_text())
    assert list(results) == [
        *("format", "version", "target", "personas", "names", "shares", "questions", "kind", "division", "reference"),
        *("compared_with", "orders", "systems", "comparisons", "scores_sha256"),
    ]
    assert (results["format"], results["questions"], results["orders"]) == (3, 60, 2)
    assert results["version"] == fairpp_hf.__version__
    assert results["scores_sha256"] == hashlib.sha256(paths[4].read_bytes()).hexdigest()
    assert sorted(path.name for path in paths[0].parent.iterdir()) == sorted(path.name for path in paths)
    assert (results["names"], results["shares"]) == ({"t": "T", "x": "X"}, {"t": None, "x": None})
    good = results["systems"]["good"]
    assert good["probabilities"]["agreement/target"] == pytest.approx(0.8)
    assert results["compared_with"] == "answers"
    assert good["probabilities"]["skill/target"] == many.systems[1].metrics["skill/target"] > 0.5
    assert len(good["intervals_95"]["skill/target"]) == 2
    assert good["first_choice"]["agreement/target"] == 1.0
    assert good["statuses"] == {"ok": 120}
    assert good["position_bias"]["gap"] == pytest.approx(0.0)
    assert good["position_bias"]["same_choice"] == 1.0
    assert results["systems"]["baseline"]["position_bias"] is None
    assert results["comparisons"][0]["first"] == "constant"
    first = next(found for found in results["comparisons"] if found["first"] == "good")
    assert (first["first"], first["second"], len(first["interval_95"])) == ("good", "plain", 2)

    questions = pq.read_table(paths[3])
    assert questions.column_names == [*QUESTION_FEATURES, "answer/t", "answer/x"]
    assert questions["answer/t"].to_pylist() == many.references.answers["t"].tolist()
    assert str(questions.schema.field("answer/t").type) == "int8"
    rows = pq.read_table(paths[4])
    assert rows.schema.equals(SCORE_SCHEMA)
    assert len(rows) == 60 * 2 + 60 * 2 + 60 + 60
    assert rows["order"].to_pylist()[:4] == [0, 1, 0, 1]
    assert rows["question_id"].to_pylist()[:4] == [
        name for name in questions["question_id"].to_pylist()[:2] for _ in "AB"
    ]
    assert rows["probabilities"][120].as_py() == pytest.approx(many.systems[1].scores.by_order[0, 0].tolist())


def test_the_csv_has_a_row_a_system_and_a_column_a_metric(evaluation, many, tmp_path):
    """What the JSON says, as pandas reads it; a system that never answered has empty cells, a comma is part of a name."""
    for found in (evaluation, many):
        found.write(tmp_path)
        table = pd.read_csv(tmp_path / "results.csv", index_col="system")
        assert list(table.index) == [system.name for system in found.best_first()]
        for name, tree in json.loads((tmp_path / "results.json").read_text())["systems"].items():
            cells = table.loc[name].dropna().to_dict()
            assert cells == {metric: value for metric, value in tree["probabilities"].items() if value is not None}
    odd = many.systems[0].scores._replace(name='one, "two"')
    evaluated([odd], many.references, many.questions).write(tmp_path)
    assert pd.read_csv(tmp_path / "results.csv")["system"].tolist() == ['one, "two"']


def test_distances_are_to_probabilities_where_they_are_known(tmp_path):
    """The target's own probabilities are at distance 0 from it, and far from its drawn answers."""
    probabilities = np.tile([0.6, 0.3, 0.1], (4, 1))
    answers = {"t": np.array([0, 1, 0, -1]), "x": np.zeros(4, int)}
    own = as_scores("own", probabilities, kind="model")
    known = evaluated([own], References(answers, {"t": probabilities, "x": probabilities}))
    assert known.systems[0].metrics["question_js_distance/target"] == 0
    assert "which are known" in " ".join(known.notes().split())
    assert "1 is the target itself" in " ".join(known.notes().split())
    drawn = evaluated([own], answers)
    assert drawn.systems[0].metrics["question_js_distance/target"] > 0.3
    assert "rewards mere confidence" in " ".join(drawn.notes().split())
    assert "1 is the target itself" not in " ".join(drawn.notes().split())
    for evaluation, name in ((known, "probabilities"), (drawn, "answers")):
        evaluation.write(tmp_path / name)
        assert json.loads((tmp_path / name / "results.json").read_text())["compared_with"] == name
        rows = pq.read_table(tmp_path / name / "questions.parquet")
        assert rows["answer/t"].to_pylist() == [0, 1, 0, -1]
        assert ("probabilities/t" in rows.column_names) == (name == "probabilities")
    assert pq.read_table(tmp_path / "probabilities" / "questions.parquet")["probabilities/t"].to_pylist() == [
        *([0.6, 0.3, 0.1],) * 3,
        None,
    ]


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
    assert [warning.split("`")[1] for warning in found.warnings()] == ["far", "merged"]
    skill = next(system for system in found.systems if system.name == "far").metrics["skill/target"]
    assert re.search(f"`far` is no nearer to t than a constant answer[^(]+\\(skill {skill:.3f}\\)", caplog.text)
    assert found.warnings()[0] in " ".join(found.notes().split())
    caplog.clear()
    without = evaluated(systems, references, questions)
    assert without.warnings() == caplog.messages == []
    assert "No constant is shown, so that no skill can be given" in " ".join(without.notes().split())


def test_rows_without_an_answer_are_null(evaluation, tmp_path):
    evaluation.write(tmp_path)
    rows = pq.read_table(tmp_path / "scores.parquet").to_pylist()
    assert rows[3]["probabilities"] is None
    assert (rows[3]["answer"], rows[3]["status"]) == (-1, "empty")
    assert rows[0]["logprobs"] is None
    assert rows[0]["prompt_hash"] is None
    assert json.loads((tmp_path / "results.json").read_text())["systems"]["silent"]["statuses"] == {"empty": 8}


def test_stopped_while_it_writes_it_leaves_the_old_files_whole(many, tmp_path, monkeypatch):
    paths = many.write(tmp_path)
    before = {path.name: path.read_bytes() for path in paths}

    def stopped(table, path):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(results_folder.pq, "write_table", stopped)
    with pytest.raises(KeyboardInterrupt):
        many.write(tmp_path)
    assert {path.name: path.read_bytes() for path in paths} == before


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
        check_references(References(references), "t")


def test_questions_to_score_are_those_of_the_split_with_their_answers():
    answers = load_answers()
    questions, references = questions_to_score(answers, "test", limit=30)
    assert len(questions) == 30
    assert split_of(questions).all()
    ids = answers.questions["question_id"].to_pylist()
    rows = [ids.index(name) for name in questions["question_id"].to_pylist()]
    assert references.answers["loyal_nationals"].tolist() == answers.matrix()["loyal_nationals"][rows].tolist()
    assert references.are_probabilities
    np.testing.assert_array_equal(references["loyal_nationals"], answers.probabilities("loyal_nationals")[rows])
    training_only = dataclasses.replace(answers, is_test=np.zeros(len(answers.questions), dtype=bool))
    with pytest.raises(ValueError, match=r"^The answers must hold test questions; got none\."):
        questions_to_score(training_only, "test")
