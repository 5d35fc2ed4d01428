"""Where soft labels come from: the respondent's probabilities or a label model, and how they lean away from the others."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fairpp_hf.dataset.answer_pairs import answer_pairs, answer_weights, compared, pair_labels
from fairpp_hf.dataset.answers import Answers, compact
from fairpp_hf.dataset.sources import load_answers
from fairpp_hf.personas import load_personas
from fairpp_hf.preferences import PairSettings, preference_weights
from fairpp_hf.preferences.label_model import fit_label_model, mean_answers
from fairpp_hf.preferences.target_distribution import target_distribution

TARGET, NEAR, FAR = "loyal_nationals", "backbone_conservatives", "progressive_activists"
SHARES = {persona.id: persona.share for persona in load_personas()}


@pytest.fixture(scope="module")
def answers() -> Answers:
    """Of three personas of the survey, to 500 questions, 100 of them for testing; each has left some out."""
    whole = load_answers()
    parts = []
    for split, count in (("train", 400), ("test", 100)):
        for number, table in enumerate(whole.preferences(split, [TARGET, NEAR, FAR])):
            rows = np.arange(0, len(table), len(table) // count)[:count]
            parts.append((table.take(pa.array(rows[rows % 11 != number])), split == "test"))
    is_test = np.concatenate([np.full(len(table), test) for table, test in parts])
    return compact(pa.concat_tables(table for table, _ in parts), is_test)


def test_the_respondents_own_probabilities(answers: Answers) -> None:
    found, label_model = pair_labels(answers, TARGET, PairSettings(labels="respondent"), [NEAR, FAR])
    np.testing.assert_allclose(found, answers.probabilities(TARGET), rtol=1e-6)
    assert label_model is None


@pytest.mark.parametrize("shares", [None, SHARES])
def test_the_mean_over_the_others_is_that_of_a_plain_loop(answers: Answers, shares: dict[str, float] | None) -> None:
    """Over those of them who have probabilities for a question, by their shares."""
    settings = PairSettings(labels="respondent", divergence=0.5)
    found, _ = pair_labels(answers, TARGET, settings, [NEAR, FAR], shares=shares)
    p, near, far = (answers.probabilities(persona) for persona in (TARGET, NEAR, FAR))
    alone = 0
    for row in range(len(p)):
        mine = [
            (shares[persona] if shares else 1.0, q[row]) for persona, q in ((NEAR, near), (FAR, far)) if q[row, 0] >= 0
        ]
        q = sum(share * of for share, of in mine) / sum(share for share, _ in mine)
        alone += len(mine) == 1
        np.testing.assert_allclose(found[row], target_distribution(p[row] / p[row].sum(), q, 0.5), rtol=1e-5)
    assert alone > 20


def test_probabilities_of_the_others_that_are_missing_are_counted(answers: Answers) -> None:
    """The two others give none for test questions."""
    blind = {}
    for persona in (NEAR, FAR):
        table = answers.records[persona]
        kept = [
            None if answers.is_test[row] else of
            for row, of in zip(table["row"].to_pylist(), table["probabilities"].to_pylist(), strict=True)
        ]
        place = table.column_names.index("probabilities")
        blind[persona] = table.set_column(
            place, table.schema.field(place), pa.array(kept, table.schema.field(place).type)
        )
    answers = replace(answers, records={TARGET: answers.records[TARGET], **blind})
    own = answers.matrix()[TARGET] >= 0
    message = (
        f"divergence must be 0 where no comparison persona has option probabilities; got 0.5 and none for "
        f"{(own & answers.is_test).sum()} of {own.sum()} questions of 'loyal_nationals'. Use labels='fitted', which needs "
        "answers alone, or other comparison personas."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        answer_pairs(answers, TARGET, PairSettings(labels="respondent", divergence=0.5))
    # They are not asked for without a divergence.
    assert len(answer_pairs(answers, TARGET, PairSettings(labels="respondent")).tables["test"])


@pytest.mark.parametrize(("comparison", "others"), [(None, [NEAR, FAR]), ("nearest", [NEAR]), ([FAR], [FAR])])
def test_fitted_labels_are_those_of_two_label_models(answers: Answers, comparison: Any, others: list[str]) -> None:
    """Fitted on the training questions, blended with their own answers; of all others, of one, of those that are named."""
    settings = PairSettings(labels="fitted", divergence=0.5, comparison=comparison)
    found = answer_pairs(answers, TARGET, settings, load_personas())
    assert list(found.comparison.personas) == others
    matrix, rows = answers.matrix(), ~answers.is_test
    population = mean_answers({persona: matrix[persona] for persona in others}, SHARES)
    own = fit_label_model(answers.questions, matrix[TARGET], rows)
    rest = fit_label_model(answers.questions, population, rows)
    aim = target_distribution(own.with_own_answers(matrix[TARGET]), rest.with_own_answers(population), 0.5)
    for split, in_split in (("train", rows), ("test", ~rows)):
        asked = np.flatnonzero(in_split & (matrix[TARGET] >= 0))
        pairs = found.tables[split].to_pylist()
        assert len(pairs) == 3 * len(asked)
        for number, pair in enumerate(pairs):
            chosen, rejected = (
                aim[asked[number // 3], "ABC".index(pair[side][0]["content"][0])] for side in ("chosen", "rejected")
            )
            assert pair["label_probability"] == pytest.approx(chosen / (chosen + rejected))
    assert found.label_model is not None
    assert found.label_model.log_likelihood == own.log_likelihood


def test_a_run_over_test_questions_alone_is_fitted_to_them(answers: Answers) -> None:
    alone = replace(answers, is_test=np.full(len(answers.is_test), True))
    found = answer_pairs(alone, TARGET, PairSettings(labels="fitted"))
    assert found.label_model is not None
    assert (
        found.label_model.log_likelihood == fit_label_model(answers.questions, answers.matrix()[TARGET]).log_likelihood
    )
    assert (len(found.tables["train"]), len(found.tables["test"])) == (0, 3 * (answers.matrix()[TARGET] >= 0).sum())


def test_too_few_answers_for_a_label_model(answers: Answers) -> None:
    few = np.isin(np.arange(len(answers.questions)), np.flatnonzero(answers.is_test)[:5])
    with pytest.raises(
        ValueError, match=r"^Answers of 'loyal_nationals': A label model must have answers .* use labels='answers'"
    ):
        answer_pairs(replace(answers, is_test=~few), TARGET, PairSettings(labels="fitted"))


# -- whose shares ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "note"),
    [
        (PairSettings(), ""),
        (PairSettings(labels="fitted"), ""),
        (PairSettings("surprisal"), "weighting 'surprisal' counts them all alike."),
        (PairSettings(labels="fitted", divergence=0.5), "divergence 0.5 counts them all alike."),
        (
            PairSettings("surprisal", labels="fitted", divergence=0.5),
            "weighting 'surprisal' and divergence 0.5 count them all alike.",
        ),
    ],
)
def test_shares_that_are_not_known_are_said_where_they_would_count(
    answers: Answers, settings: PairSettings, note: str
) -> None:
    """Of no set, or of one that lacks a comparison persona."""
    others = load_personas("hidden_tribes_2018")
    for persona_set in (None, others):
        found = compared(answers, TARGET, settings, persona_set)
        assert (found.personas, found.shares) == ((NEAR, FAR), None)
        assert found.note == (note and f"The population shares of these personas are not known: {note}")
    assert compared(answers, TARGET, settings, load_personas()) == (
        (NEAR, FAR),
        {NEAR: SHARES[NEAR], FAR: SHARES[FAR]},
        "",
    )


def test_weights_are_those_of_the_pairs(answers: Answers) -> None:
    settings = PairSettings("surprisal", comparison="nearest")
    expected = preference_weights(answers.matrix(), TARGET, scheme="surprisal", comparison=[NEAR])
    found = answer_weights(answers, TARGET, settings, load_personas())
    np.testing.assert_array_equal(found.weight, expected.weight)
    pairs = answer_pairs(answers, TARGET, settings, load_personas())
    assert pairs.tables["test"]["weight"].to_pylist()[::2] == found.weight[answers.is_test & (found.tier > 0)].tolist()
    left_out = (answers.matrix()[TARGET] < 0).sum()
    assert pairs.notes == (
        f"{left_out} of {len(answers.questions)} questions have no valid answer of {TARGET} and give no pair.",
    )
