"""A run beside its personas' survey: the survey respondent itself is the known truth."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
from quality_tables import column_replies, survey_replies, whole_clusters

from fairpp_hf.evaluation.quality.replies import Replies
from fairpp_hf.evaluation.quality.survey import SurveyFidelity, compare_with_survey, expected_shares
from fairpp_hf.personas import PersonaSet, load_personas
from fairpp_hf.questions import load_questions
from fairpp_hf.respondents.survey import survey_answers

PERSONAS = load_personas()


def compare(table: pa.Table, personas: PersonaSet = PERSONAS) -> SurveyFidelity | None:
    return compare_with_survey(Replies(table, load_questions()), load_questions(), personas)


@pytest.fixture(scope="module")
def own() -> SurveyFidelity:
    """The survey respondent's own answers to 3,000 questions."""
    return compare(survey_replies(whole_clusters(300)))


def test_the_survey_respondent_is_near_its_own_leanings(own: SurveyFidelity) -> None:
    """Of 35 intervals of leanings at least 30 hold the survey's (95% are 33); distances are of the size of noise alone."""
    leanings = [leaning for by_dimension in own.leanings.values() for leaning in by_dimension.values()]
    assert len(leanings) == 35
    assert sum(leaning.run.interval.low <= leaning.survey <= leaning.run.interval.high for leaning in leanings) >= 30
    for distance in (own.from_figures, own.from_priors):
        assert distance.lean.interval.low <= distance.lean_noise <= distance.lean.interval.high
        assert distance.lean.value < 2 * distance.lean_noise
    assert own.from_figures.lean.value < 0.2 * own.from_figures.lean.chance
    assert own.identification.by_size[20].value > 0.5
    assert own.identification.by_size[20].chance == pytest.approx(1 / 7)


def test_figures_and_priors_are_kept_apart(own: SurveyFidelity) -> None:
    """The default set has figures on dimensions 1 to 4 and priors on 5, so answers divide 4 to 1."""
    for persona, leanings in own.leanings.items():
        for number, leaning in leanings.items():
            assert leaning.from_figures != PERSONAS.get(persona).choice.positions[number].prior
    assert (own.from_figures.lean.n, own.from_priors.lean.n) == (7 * 2400, 7 * 600)


def test_numbers_are_those_of_a_plain_computation(own: SurveyFidelity) -> None:
    questions = whole_clusters(300)
    expected = expected_shares(load_questions(), PERSONAS, PERSONAS.ids, questions)
    dimension = questions["dimension"].to_numpy()
    runs, surveys = {}, {}
    for number, persona in enumerate(PERSONAS.ids):
        answer = survey_answers(questions, PERSONAS, persona).answer
        for which in range(1, 6):
            mine, theirs = answer[dimension == which], expected[number, dimension == which].sum(axis=0)
            runs[persona, which] = (mine == 1).sum() / (mine < 2).sum()
            surveys[persona, which] = theirs[1] / (theirs[0] + theirs[1])
            leaning = own.leanings[persona][which]
            assert leaning.run.value == pytest.approx(runs[persona, which])
            assert leaning.survey == pytest.approx(surveys[persona, which])
    apart = {key: abs(runs[key] - surveys[key]) for key in runs}
    assert own.from_figures.lean.value == pytest.approx(np.mean([apart[key] for key in apart if key[1] < 5]))
    assert own.from_priors.lean.value == pytest.approx(np.mean([apart[key] for key in apart if key[1] == 5]))
    for persona in PERSONAS.ids:
        assert own.by_persona[persona].value == pytest.approx(np.mean([apart[persona, which] for which in range(1, 5)]))


def test_expected_shares_are_means_over_all_problems() -> None:
    questions = load_questions()
    asked = questions.slice(12_345, 1)
    row = asked.to_pylist()[0]
    same = questions.filter(
        pa.compute.and_(
            pa.compute.and_(
                pa.compute.equal(questions["dimension"], row["dimension"]),
                pa.compute.equal(questions["group"], row["group"]),
            ),
            pa.compute.equal(questions["form"], row["form"]),
        )
    )
    assert len(same) == 98
    expected = survey_answers(same, PERSONAS, "loyal_nationals").probabilities.mean(axis=0)
    np.testing.assert_allclose(expected_shares(questions, PERSONAS, ("loyal_nationals",), asked)[0, 0], expected)


def test_personas_in_reverse_are_far() -> None:
    """Each persona answers with the opposite pole."""
    table = survey_replies(whole_clusters(100))
    answer = table["answer"].to_numpy()
    reverse = np.where(answer < 2, 1 - answer, 2)
    found = compare(table.set_column(table.column_names.index("answer"), "answer", pa.array(reverse)))
    assert found.from_figures.lean.interval.low > found.from_figures.lean.chance
    assert found.identification.by_size[5].value < 1 / 7


def test_personas_without_figures_are_left_out() -> None:
    without = tuple(dataclasses.replace(persona, choice=None) for persona in PERSONAS.personas[1:])
    one = dataclasses.replace(PERSONAS, personas=(PERSONAS.personas[0], *without))
    found = compare(survey_replies(whole_clusters(12)), one)
    assert found.personas == ("progressive_activists",)
    assert found.identification.by_size[5].chance == 1.0
    none = dataclasses.replace(PERSONAS, personas=without)
    assert compare(survey_replies(whole_clusters(12)), none) is None


def test_only_c_has_no_lean_and_is_not_measured() -> None:
    questions = whole_clusters(12)
    table = pa.concat_tables([column_replies(questions, persona, np.full(120, 2)) for persona in PERSONAS.ids])
    found = compare(table)
    assert found.from_figures.lean.value is None
