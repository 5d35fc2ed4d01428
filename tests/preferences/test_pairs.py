"""Pairs and their soft labels against a plain loop over the rows."""

import re
from dataclasses import replace

import numpy as np
import pytest
from datasets import Features
from small_runs import some_questions

from fairpp_hf.preferences import PairSettings, preference_weights
from fairpp_hf.preferences.pairs import build_pairs
from fairpp_hf.schema import PAIR_FEATURES, SOFT_PAIR_FEATURES

SOFT = PairSettings("tier", labels="fitted")


@pytest.fixture(scope="module")
def questions():
    return some_questions(12, 6)


@pytest.fixture(scope="module")
def answers():
    rng = np.random.default_rng(0)
    answers = {name: rng.integers(-1, 3, 18) for name in "abc"}
    answers["a"][:4] = [0, 0, 1, -1]
    return answers


@pytest.fixture(scope="module")
def probabilities(answers):
    """No probabilities where there is no answer; on row 0 the answer has all of it, on row 1 another option has."""
    table = np.random.default_rng(1).dirichlet(np.ones(3), 18)
    table[answers["a"] == -1] = np.nan
    table[:2] = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    return table


def test_soft_labels_are_those_of_a_plain_loop(questions, answers, probabilities):
    """The two pairs of a question's answer are those without soft labels; a third one sets the likelier of the other two
    options against the other."""
    is_train = np.arange(18) < 12
    soft = build_pairs(questions, answers, "a", SOFT, is_train=is_train, probabilities=probabilities)
    hard = build_pairs(questions, answers, "a", is_train=is_train)
    ids = questions["question_id"].to_pylist()
    for split in ("train", "test"):
        assert Features.from_arrow_schema(soft[split].schema) == SOFT_PAIR_FEATURES
        assert Features.from_arrow_schema(hard[split].schema) == PAIR_FEATURES
        rows = soft[split].to_pylist()
        labels = [row.pop("label_probability") for row in rows]
        assert [row for number, row in enumerate(rows) if number % 3 < 2] == hard[split].to_pylist()
        assert len(rows) == 3 * (answers["a"][is_train == (split == "train")] >= 0).sum()
        for number, (row, label) in enumerate(zip(rows, labels, strict=True)):
            of_option = probabilities[ids.index(row["question_id"])]
            first, second = ("ABC".index(row[side][0]["content"][0]) for side in ("chosen", "rejected"))
            chosen, rejected = of_option[first], of_option[second]
            assert label == (0.5 if chosen == rejected == 0 else chosen / (chosen + rejected))
            if number % 3 == 2:
                own = answers["a"][ids.index(row["question_id"])]
                assert {first, second} == {0, 1, 2} - {own}
                assert chosen >= rejected


def test_soft_labels_where_an_option_has_no_probability(questions, answers, probabilities):
    """Row 0: 1 / (1 + 0) twice, and 0 / (0 + 0), set to 0.5, between the other two. Row 1, where the answer has none of
    the probability: 0 / (0 + 1) against B, 0.5 against C, which has none either, and 1 / (1 + 0) for B against C."""
    pairs = build_pairs(questions, answers, "a", SOFT, probabilities=probabilities)["train"]
    assert pairs["label_probability"].to_pylist()[:6] == [1.0, 1.0, 0.5, 0.0, 0.5, 1.0]
    assert not np.isnan(pairs["label_probability"]).any()


def test_probabilities_go_with_soft_labels(questions, answers, probabilities):
    for settings, given in ((SOFT, None), (None, probabilities)):
        with pytest.raises(ValueError, match=r"^probabilities must be given for soft labels and only for them; got"):
            build_pairs(questions, answers, "a", settings, probabilities=given)


def test_shares_and_nearest_reach_the_weights(questions, answers):
    shares = {"b": 0.1, "c": 0.4}
    for comparison in (None, "nearest"):
        expected = preference_weights(answers, "a", comparison=comparison, scheme="surprisal", shares=shares)
        settings = PairSettings("surprisal", comparison=comparison)
        pairs = build_pairs(questions, answers, "a", settings, shares=shares)["train"]
        assert pairs["weight"].to_pylist()[::2] == expected.weight[expected.tier > 0].tolist()
        assert pairs["tier"].to_pylist()[::2] == expected.tier[expected.tier > 0].tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda table: table[:, :2],
            "probabilities must have the shape (18, 3), a row for each question; got (18, 2).",
        ),
        (
            lambda table: np.where(np.arange(18)[:, None] < 2, np.nan, table),
            "Soft labels must have option probabilities for every question that 'a' answered; got none for 2 of {answered}. "
            "Use answers of a respondent that gives them, such as 'survey' or 'transformers', or labels='fitted', which "
            "needs answers alone.",
        ),
        (
            lambda table: np.where(np.arange(18)[:, None] == 1, [0.5, 0.75, -0.25], table),
            "probabilities must be finite and at least 0; got [0.5, 0.75, -0.25] at row 1.",
        ),
    ],
)
def test_bad_probabilities_are_refused(change, message, questions, answers, probabilities):
    message = message.format(answered=(answers["a"] >= 0).sum())
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        build_pairs(questions, answers, "a", SOFT, probabilities=change(probabilities))


@pytest.mark.parametrize("soft", [False, True])
def test_mixed_orders_swap_the_texts_of_some_questions_and_nothing_else(soft, questions, answers, probabilities):
    """Against the written order, pair by pair: the same texts of options chosen and rejected, behind the other letter."""
    settings = SOFT if soft else PairSettings(random_third_pair=True)

    def made(**changes):
        changed = replace(settings, **changes)
        return build_pairs(questions, answers, "a", changed, probabilities=probabilities if soft else None)["train"]

    written, mixed = made().to_pylist(), made(option_order="mixed").to_pylist()
    by_id = {row["question_id"]: row for row in questions.to_pylist()}
    swapped_ids = set()

    def pairs_of(rows):
        found = {}
        for row in rows:
            found.setdefault(row["question_id"], []).append(row)
        return found

    of_written, of_mixed = pairs_of(written), pairs_of(mixed)
    assert list(of_written) == list(of_mixed)
    for question_id, rows in of_mixed.items():
        question = by_id[question_id]
        prompt = rows[0]["prompt"][0]["content"]
        if prompt != question["prompt"]:
            swapped_ids.add(question_id)
            assert f"A. {question['option_b']}\nB. {question['option_a']}\nC. " in prompt

        def texts(row):
            return row["chosen"][0]["content"][3:], row["rejected"][0]["content"][3:]

        for row in rows:
            # Each line is one that the prompt shows.
            assert {f"\n{row[side][0]['content']}\n" in prompt for side in ("chosen", "rejected")} == {True}
        facts, others = (
            {texts(row): (row["weight"], row["tier"], row.get("label_probability", 1.0)) for row in found}
            for found in (rows, of_written[question_id])
        )
        # The two options of a third pair come in random order.
        for key in facts.keys() & others.keys():
            assert facts[key] == pytest.approx(others[key])
        assert len(facts.keys() & others.keys()) >= 2
    assert 0 < len(swapped_ids) < len(of_mixed)
    assert made(option_order="mixed", seed=1).to_pylist() != mixed
