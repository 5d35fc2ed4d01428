"""The quality of whole runs, from the journal to the page."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from quality_tables import column_replies, survey_replies, whole_clusters
from small_runs import KnownRespondent, make_run, some_questions

from fairpp_hf.evaluation.quality import replies_quality, run_quality
from fairpp_hf.evaluation.quality.report import not_measured_of, rows_of, to_markdown, write_quality
from fairpp_hf.generation import RunOptions, generate
from fairpp_hf.personas import load_personas
from fairpp_hf.questions import load_questions
from fairpp_hf.respondents import SurveyRespondent
from fairpp_hf.runs.layout import scenarios_folder
from fairpp_hf.scenarios.files import write_scenarios

# Numbers that come from nothing, such as the mean of no value, are found here and not by readers.
pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

NAME = "survey:britains_choice_2020 (simulated)"


def quality_of(table: pa.Table, **more: object):
    return replies_quality(table, load_questions(), load_personas(), respondent=NAME, **more)


def test_a_run_is_read_from_its_folder_with_the_set_that_answered(tmp_path: Path) -> None:
    """Hidden Tribes is recorded in the run; the default set has other personas."""
    personas = load_personas("hidden_tribes_2018")
    generate(tmp_path / "run", SurveyRespondent(personas), personas, whole_clusters(40), RunOptions(progress=False))
    quality = run_quality(tmp_path / "run")
    assert quality.personas == quality.survey.personas == personas.ids
    assert (quality.replies, quality.requests, quality.valid) == (2800, 2800, 2800)
    assert (quality.questions, quality.clusters, quality.orders, quality.samples) == (400, 40, 1, 1)
    assert quality.respondent == "survey:hidden_tribes_2018 (simulated)"
    assert quality.identification.by_size[5].value > 0.2
    assert run_quality(tmp_path / "run") == quality
    assert run_quality(tmp_path / "run", seed=1) != quality


def test_a_sample_looks_at_some_questions_of_all_personas(tmp_path: Path) -> None:
    quality = run_quality(make_run(tmp_path / "run"), sample=15)
    assert (quality.questions, quality.replies, quality.requests) == (15, 7 * 15, None)
    with pytest.raises(ValueError, match=r"^A sample must have at least 1 question; got 0\.$"):
        run_quality(tmp_path / "run", sample=0)


def test_scenarios_of_a_run_are_a_run_with_a_table_of_its_own(tmp_path: Path) -> None:
    told = some_questions()
    told = told.set_column(told.column_names.index("question"), "question", pa.array(["What is fairer here?"] * 40))
    folder = scenarios_folder(tmp_path / "run")
    generate(folder, KnownRespondent(), load_personas(), told, RunOptions(progress=False))
    write_scenarios(folder, told)
    assert run_quality(folder).questions == 40


@pytest.mark.parametrize("count", [1, 4, 30])
def test_one_persona_and_few_questions_give_a_page(count: int) -> None:
    questions = load_questions().slice(0, count)
    table = column_replies(questions, "loyal_nationals", np.arange(count) % 3)
    quality = quality_of(table)
    assert "one persona alone cannot be mistaken for another" in to_markdown(quality, "tiny")


def test_a_run_without_a_valid_answer_has_statuses_and_nothing_else() -> None:
    table = pa.concat_tables(
        [column_replies(whole_clusters(20), persona, np.full(200, -1)) for persona in load_personas().ids]
    )
    quality = quality_of(table)
    assert rows_of(quality) == []
    assert len(not_measured_of(quality)) == 8
    assert quality.statuses.counts["invalid"] == 1400
    assert "invalid 1,400." in to_markdown(quality, "bad")


def test_a_persona_set_that_is_unknown_leaves_the_survey_out() -> None:
    quality = replies_quality(survey_replies(whole_clusters(20)), load_questions(), None, respondent=NAME)
    assert quality.survey is None
    assert not_measured_of(quality)[-1] == "beside the survey: the run's personas have no survey figures on record"


def test_the_page_says_that_answers_are_simulated_and_how_many_there_are(tmp_path: Path) -> None:
    quality = quality_of(survey_replies(whole_clusters(40), samples=2, orders=2), requests=20_000)
    paths = write_quality(quality, "my | run", tmp_path / "deep" / "out")
    assert [path.name for path in paths] == ["quality.json", "quality.md"]
    page = paths[1].read_text()
    assert page.startswith(
        "# Quality of the run `my | run`\n\n**The answers are simulated: nobody was asked. The numbers are about how a "
        "model plays its roles, not about people.** Respondent: `survey:britains_choice_2020 (simulated)`.\n\n"
        "11,200 of 20,000 replies to 400 questions on 40 (problem, group) pairs by 7 personas; both orders of the options, "
        "2 samples; 100.0% valid.\n"
    )
    assert len(page.splitlines()) < 85
    assert "The survey did not ask these questions" in page
    for row in rows_of(quality):
        assert re.fullmatch(r"[\d,]+ \D.*", row[-1])
    tree = json.loads(paths[0].read_text())
    assert tree["simulated"].startswith("The answers are simulated")
    assert tree["replies"] == 11_200
    agreement = tree["sample_agreement"]["overall"]
    low, high = agreement["interval_95"]
    assert low < agreement["value"] < high
    assert set(tree["survey"]["leanings"]["loyal_nationals"]) == set("12345")


@pytest.mark.slow
def test_all_198940_replies_of_the_survey_identify_their_personas() -> None:
    table = survey_replies(load_questions())
    assert len(table) == 198_940
    quality = quality_of(table)
    assert quality.identification.by_size[100].value > 0.95
    assert quality.survey.from_figures.lean.value < 0.01
