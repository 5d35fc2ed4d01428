"""The simulated respondent follows its equations, and an answer depends on its own question and persona only."""

import dataclasses
import hashlib
import math
from statistics import NormalDist
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from asked_openai import ask

from fairpp_hf.personas import PERSONA_SETS, PersonaSet, load_personas
from fairpp_hf.questions import load_questions
from fairpp_hf.respondents import survey
from fairpp_hf.respondents.base import Reply, Request, Respondent
from fairpp_hf.respondents.survey import SurveyRespondent, all_survey_answers, survey_answers
from fairpp_hf.stable_hash import hash_strings, uniforms


@pytest.fixture(scope="module")
def questions() -> pa.Table:
    return load_questions()


@pytest.fixture(scope="module")
def personas() -> PersonaSet:
    return load_personas()


def rows_of(questions: pa.Table, *ids: str) -> pa.Table:
    return pa.concat_tables([questions.filter(pc.equal(questions["question_id"], one)) for one in ids])


def test_equations_by_hand(questions: pa.Table, personas: PersonaSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loyal nationals without noise: x1 = 0.15, x5 = -0.1, sympathy for Gender -0.2, abstention 0.08.

    k = 2 * 0.08 / 0.92 = 0.17391 before resentment.
    women, 1, criterion:    s = 3 * 0.15 - 0.2 = 0.25;  e^-0.125 = 0.88250, e^0.125 = 1.13315; sum with k = 2.18956
    women, 1, explanation:  k * e^(1.5 * 0.2) = 0.23476; sum 2.25041
    men, 1, explanation:    s = 0.45 + 0.2 = 0.65, nothing resented; 0.72253 + 1.38403 + 0.17391 = 2.28047
    women, 5, criterion:    s = 3 * -0.1 = -0.3, sympathy does not count; 1.16183 + 0.86071 + 0.17391 = 2.19645
    """
    monkeypatch.setattr(survey, "SIGMA", 0.0)
    monkeypatch.setattr(survey, "SIGMA_FORM", 0.0)
    rows = rows_of(
        questions,
        "food.women.1.criterion",
        "food.women.1.explanation",
        "food.men.1.explanation",
        "food.women.5.criterion",
    )
    expected = [
        [0.88250 / 2.18956, 1.13315 / 2.18956, 0.17391 / 2.18956],
        [0.88250 / 2.25041, 1.13315 / 2.25041, 0.23476 / 2.25041],
        [0.72253 / 2.28047, 1.38403 / 2.28047, 0.17391 / 2.28047],
        [1.16183 / 2.19645, 0.86071 / 2.19645, 0.17391 / 2.19645],
    ]
    np.testing.assert_allclose(survey_answers(rows, personas, "loyal_nationals").probabilities, expected, atol=1e-5)


def plain(row: dict[str, Any], personas: PersonaSet, persona_id: str) -> tuple[int, list[float]]:
    """The model for one question, in plain Python: the oracle of the vectorised one."""
    choice = personas.get(persona_id).choice
    assert choice is not None
    seed = f"{personas.id}/{persona_id}"
    unit = f"{row['problem']}|{row['group']}|{row['dimension']}"
    number = int(hash_strings([row["question_id"]], f"survey/question/{seed}")[0])
    draw, form_uniform = ((number >> 32) + 0.5) / 2**32, ((number & 0xFFFFFFFF) + 0.5) / 2**32
    noise = 0.8 * NormalDist().inv_cdf(float(uniforms([unit], f"survey/unit/{seed}")[0]))
    noise += 0.4 * NormalDist().inv_cdf(form_uniform)
    majority = ("men", "white people", "christian people", "heterosexual people")
    standing = -1 if row["group"] in majority else 0 if row["group"] == "adults" else 1
    support = choice.sympathies[row["group_type"]].value * standing
    s = 3 * choice.positions[row["dimension"]].value + (support if row["dimension"] < 5 else 0) + noise
    k = 2 * choice.abstention.value / (1 - choice.abstention.value)
    if row["form"] == "explanation" and support < 0:
        k *= math.exp(-1.5 * support)
    parts = [math.exp(-s / 2), math.exp(s / 2), k]
    p = [part / sum(parts) for part in parts]
    return (0 if draw < p[0] else 1 if draw < p[0] + p[1] else 2), p


@pytest.mark.parametrize("name", PERSONA_SETS)
def test_agrees_with_the_plain_implementation(questions: pa.Table, name: str) -> None:
    personas = load_personas(name)
    rows = questions.take(np.arange(3, questions.num_rows, 577))
    assert set(rows["dimension"].to_pylist()) == {1, 2, 3, 4, 5}
    for persona_id in personas.ids:
        got = survey_answers(rows, personas, persona_id)
        expected = [plain(row, personas, persona_id) for row in rows.to_pylist()]
        assert got.answer.tolist() == [answer for answer, _ in expected]
        np.testing.assert_allclose(got.probabilities, [p for _, p in expected], rtol=1e-9)


def test_a_row_gets_the_same_answer_whatever_accompanies_it(questions: pa.Table, personas: PersonaSet) -> None:
    whole = survey_answers(questions, personas, "civic_pragmatists")
    rng = np.random.default_rng(0)
    for chosen in (rng.permutation(questions.num_rows), rng.choice(questions.num_rows, 50), np.array([28_419])):
        part = survey_answers(questions.take(chosen), personas, "civic_pragmatists")
        np.testing.assert_array_equal(part.answer, whole.answer[chosen])
        np.testing.assert_array_equal(part.probabilities, whole.probabilities[chosen])
    empty = survey_answers(questions.slice(0, 0), personas, "civic_pragmatists")
    assert empty.answer.shape == (0,)
    assert empty.probabilities.shape == (0, 3)
    split = [survey_answers(load_questions(split), personas, "civic_pragmatists").answer for split in ("train", "test")]
    assert np.bincount(np.concatenate(split)).tolist() == np.bincount(whole.answer).tolist()


def test_all_answers_of_the_default_set_are_pinned(questions: pa.Table, personas: PersonaSet) -> None:
    """Published numbers rest on these answers: change this digest only with the model or the set, and say so."""
    answers = np.concatenate([survey_answers(questions, personas, one).answer for one in personas.ids])
    assert answers.shape == (7 * 28_420,)
    assert answers.dtype == np.int8
    assert hashlib.sha256(answers.tobytes()).hexdigest()[:16] == "6133df1e2e6452e8"


@pytest.mark.parametrize("name", PERSONA_SETS)
def test_answers_follow_their_probabilities(questions: pa.Table, name: str) -> None:
    """In ten bands of P of each option, the share chosen is within 4.5 standard errors of the mean P."""
    personas = load_personas(name)
    for persona_id in personas.ids:
        answers = survey_answers(questions, personas, persona_id)
        np.testing.assert_allclose(answers.probabilities.sum(1), 1.0, rtol=1e-12)
        assert set(np.unique(answers.answer)) == {0, 1, 2}
        for option in range(3):
            p = answers.probabilities[:, option]
            for band in np.array_split(np.argsort(p), 10):
                standard_error = math.sqrt(np.sum(p[band] * (1 - p[band]))) / len(band)
                assert abs(np.mean(answers.answer[band] == option) - p[band].mean()) < 4.5 * standard_error


def test_all_personas_at_once_are_each_alone(questions: pa.Table, personas: PersonaSet) -> None:
    together = all_survey_answers(questions, personas)
    assert list(together) == list(personas.ids)
    for persona, (answer, probabilities) in together.items():
        alone = survey_answers(questions, personas, persona)
        np.testing.assert_array_equal(answer, alone.answer)
        np.testing.assert_array_equal(probabilities, alone.probabilities)


MISSING_CHOICE = (
    "persona 'civic_pragmatists' must have choice parameters for the survey respondent; got none in the persona set "
    "'britains_choice_2020'. Add `choice` to it, or use another respondent, which needs only a portrait."
)


def test_a_persona_without_choice_is_refused_by_name(questions: pa.Table, personas: PersonaSet) -> None:
    without = dataclasses.replace(
        personas,
        personas=tuple(
            dataclasses.replace(one, choice=None) if one.id == "civic_pragmatists" else one for one in personas
        ),
    )
    for attempt in (
        lambda: survey_answers(questions, without, "civic_pragmatists"),
        lambda: SurveyRespondent(without),
    ):
        with pytest.raises(ValueError, match="civic_pragmatists") as caught:
            attempt()
        assert str(caught.value) == MISSING_CHOICE
    assert survey_answers(questions, without, "loyal_nationals").answer.shape == (28_420,)


# The respondent


def request_for(question_id: str, persona: str) -> Request:
    return Request(question_id, persona, [{"role": "user", "content": "is not read"}], ("a", "b", "c"))


def test_respondent_gives_the_same_answers(questions: pa.Table, personas: PersonaSet) -> None:
    respondent = SurveyRespondent(personas)
    assert isinstance(respondent, Respondent)
    assert respondent.name == "survey:britains_choice_2020 (simulated)"
    at = [28_000, 5, 700]
    asked = [(row, persona) for persona in ("loyal_nationals", "civic_pragmatists") for row in at]
    ids = questions["question_id"].to_pylist()
    replies = ask(respondent, [request_for(ids[row], persona) for row, persona in asked])
    assert list(replies) == list(range(6))
    for (row, persona), reply in zip(asked, replies.values(), strict=True):
        truth = survey_answers(questions, personas, persona)
        assert reply == Reply(truth.answer[row], tuple(truth.probabilities[row]), "ok", None, None, 0.0)
        assert type(reply.answer) is int  # a numpy integer would not go into JSON


@pytest.mark.parametrize(
    ("changes", "got"),
    [
        ({"sample": 2}, "sample 2"),
        ({"swapped": True}, "sample 0 of the swapped order"),
        ({"sample": 1, "swapped": True}, "sample 1 of the swapped order"),
    ],
)
def test_further_samples_and_swapped_options_are_refused(
    questions: pa.Table, personas: PersonaSet, changes: dict[str, Any], got: str
) -> None:
    plain = request_for(questions["question_id"][0].as_py(), "loyal_nationals")
    with pytest.raises(ValueError, match="asked each question once") as error:
        ask(SurveyRespondent(personas), [plain, plain._replace(**changes)])
    assert str(error.value) == (
        f"The survey respondent must be asked each question once, in its own order; got {got} at request 1. It gives its "
        "option probabilities whole, and no order sways it."
    )


def test_settings_tell_sets_and_parameters_apart(personas: PersonaSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are in the key of every reply: what changes an answer changes them."""
    settings = SurveyRespondent(personas).settings
    choice = personas.personas[0].choice
    assert choice is not None
    less_sure = dataclasses.replace(choice, abstention=dataclasses.replace(choice.abstention, value=0.3))
    first = dataclasses.replace(personas.personas[0], choice=less_sure)
    other = dataclasses.replace(personas, personas=(first, *personas.personas[1:]))
    assert SurveyRespondent(other).settings != settings
    for constant in ("KAPPA", "GAMMA", "SIGMA", "SIGMA_FORM", "RHO"):
        with monkeypatch.context() as patch:
            patch.setattr(survey, constant, 7.0)
            assert SurveyRespondent(personas).settings != settings
