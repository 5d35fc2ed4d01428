"""Runs with scenarios as datasets: rows, fingerprints, folders, cards, and the record of the run that goes with them."""

import json
import shutil

import pytest
from datasets import load_dataset
from loopback_openai import LoopbackServer
from loopback_stories import tell

from fairpp_hf.dataset.builder import FairPP
from fairpp_hf.dataset.run_record import folder_run_record, run_record
from fairpp_hf.dataset.sources import (
    load_scenarios,
    resolve_answers,
    resolve_scenarios,
    source_personas,
    source_run_record,
)
from fairpp_hf.generation.journal import Journal
from fairpp_hf.generation.records import load_run
from fairpp_hf.generation.runner import generate
from fairpp_hf.generation.scenario_files import load_scenario_questions
from fairpp_hf.generation.scenarios import tell_and_answer
from fairpp_hf.generation.storyteller import StorytellerRespondent
from fairpp_hf.hub import build_dataset_folder
from fairpp_hf.personas import load_personas
from fairpp_hf.questions import load_questions
from fairpp_hf.respondents import OpenAIRespondent

QUESTIONS = load_questions("test").slice(0, 6)


def answer_scenarios(run, url, count=6, **others):
    storyteller = StorytellerRespondent("teller", QUESTIONS, base_url=url)
    respondent = OpenAIRespondent("m2", base_url=url)
    return tell_and_answer(
        run, storyteller, respondent, load_personas(), QUESTIONS.slice(0, count), progress=False, **others
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run over six questions, of which four were told and answered in both orders."""
    run = tmp_path_factory.mktemp("runs") / "run"
    with LoopbackServer(tell) as server:
        respondent = OpenAIRespondent("m", base_url=server.base_url, temperature=0.5)
        generate(run, respondent, load_personas(), QUESTIONS, samples=2, progress=False, selection={"split": "test"})
        answer_scenarios(run, server.base_url, 4, swap=True)
    return run


@pytest.fixture(scope="module")
def built(made, tmp_path_factory):
    """A dataset folder of that run."""
    folder = tmp_path_factory.mktemp("built") / "folder"
    build_dataset_folder(folder, answers=made, targets=[], progress=False)
    return folder


@pytest.fixture
def run(made, tmp_path):
    shutil.copytree(made, tmp_path / "run")
    return tmp_path / "run"


def test_load_dataset_has_the_scenarios_of_a_run(run):
    rows = load_dataset("fairpp", "scenarios", answers=str(run))
    assert list(rows) == ["test"]
    expected = load_run(run / "scenarios", load_scenario_questions(run))
    columns = expected.column_names
    assert rows["test"].data.table.select(columns).to_pylist() == expected.to_pylist()
    assert set(rows["test"]["respondent"]) == {"openai:m2 (simulated)"}
    assert len(rows["test"]) == 4 * 7
    assert rows["test"].info.license == "cc-by-4.0"
    # The preferences of the same run are others.
    assert set(load_dataset("fairpp", "preferences", answers=str(run), split="test")["respondent"]) == {
        "openai:m (simulated)"
    }


def test_new_stories_are_another_dataset(run):
    before = resolve_scenarios(run).fingerprint(scenarios=True)
    of_preferences = resolve_answers(run).fingerprint()
    assert before != of_preferences
    name = FairPP(config_name="scenarios", answers=str(run)).config_id
    with LoopbackServer(tell) as server:
        answer_scenarios(run, server.base_url, 5, swap=True)
    assert resolve_scenarios(run).fingerprint(scenarios=True) != before
    assert resolve_answers(run).fingerprint() == of_preferences
    assert FairPP(config_name="scenarios", answers=str(run)).config_id != name
    assert len(load_dataset("fairpp", "scenarios", answers=str(run), split="test")) == 5 * 7


def test_a_folder_in_which_scenarios_alone_were_answered(run):
    (run / "manifest.json").unlink()
    (run / "journal.sqlite").unlink()
    assert len(load_dataset("fairpp", "scenarios", answers=str(run), split="test")) == 4 * 7
    with pytest.raises(ValueError, match="in which only scenarios were answered") as error:
        resolve_answers(run)
    assert str(error.value) == (
        "answers must be 'survey', 'published', or the path of a run, a dataset folder or published tables; got "
        f"{str(run)!r}, in which only scenarios were answered. Use config 'scenarios', or ask the questions themselves with "
        f"`fairpp generate --run {run}`."
    )


def test_a_run_without_scenarios_has_none(run):
    shutil.rmtree(run / "scenarios")
    assert load_scenarios(run) is None
    with pytest.raises(ValueError, match=r"answers must hold scenarios for config 'scenarios'") as error:
        load_dataset("fairpp", "scenarios", answers=str(run))
    assert str(error.value) == (
        f"answers must hold scenarios for config 'scenarios'; got {str(run)!r}, which holds none. Use "
        "answers='published', a run on which `fairpp scenarios` was run, a dataset folder with scenarios/test-*.parquet, or "
        "a table with the column 'simulation_question'."
    )
    build_dataset_folder(run.parent / "built", answers=run, targets=[], progress=False)
    assert "scenarios" not in json.loads((run.parent / "built" / "fairpp_build.json").read_bytes())["run"]


def test_scenarios_without_answers_are_left_out(run, caplog, tmp_path):
    with Journal(run / "scenarios") as journal, journal.transaction() as connection:
        connection.execute("DELETE FROM replies")
    assert load_scenarios(run) is None
    assert caplog.messages == [
        f"The scenarios of {run} have no answers yet: they are left out. Run `fairpp scenarios` again."
    ]
    files = build_dataset_folder(tmp_path / "built", answers=run, targets=[], progress=False)
    assert "scenarios" not in {file.config for file in files}


def test_a_built_folder_has_scenarios_and_record(built, made):
    run = made
    rows = load_dataset(str(built), "scenarios", split="test")
    assert rows.to_list() == load_dataset("fairpp", "scenarios", answers=str(run), split="test").to_list()
    manifest = json.loads((built / "fairpp_build.json").read_bytes())
    today = manifest["origin"]["answered_on"]
    assert manifest["scenario_origin"] == {
        **{"kind": "run", "licence": "cc-by-4.0", "repo": None, "commit": None, "answered_on": today, "notes": []}
    }
    record = manifest["run"]
    assert record == run_record(run)
    assert {name: record[name] for name in ("respondent", "samples", "swap", "statuses", "tokens", "served_model")} == {
        "respondent": "openai:m (simulated)",
        "samples": 2,
        "swap": False,
        "statuses": {"ok": 6 * 7 * 2},
        "tokens": {"input": 6 * 7 * 2 * 7, "output": 6 * 7 * 2},
        "served_model": "m",
    }
    assert record["settings"] == {"kind": "openai", "model": "m", "temperature": 0.5, "max_tokens": 64}
    assert record["questions"]["count"] == 6
    scenarios = record["scenarios"]
    assert (scenarios["respondent"], scenarios["swap"]) == ("openai:m2 (simulated)", True)
    assert scenarios["statuses"] == {"ok": 4 * 7 * 2}
    assert scenarios["storyteller"]["respondent"] == "storyteller:teller (simulated)"
    assert scenarios["storyteller"]["statuses"] == {"ok": 4}
    # Nothing of the machine.
    text = json.dumps(record)
    assert "127.0.0.1" not in text
    assert str(run) not in text
    assert not {"servers", "cost_usd", "run_key", "api_key"} & set(record)


def test_the_card_says_how_the_answers_were_got(built):
    card = " ".join((built / "README.md").read_text("utf-8").split())
    assert (
        "`openai:m (simulated)` got each persona's portrait as system message and the question's prompt as user message. "
        "Replies that are not one of the options are kept as such. Each was asked 2 times, and the answer is the option "
        "with the highest mean over the samples, a reply counting with its option probabilities or as one vote. Settings: "
        "temperature 0.5, max tokens 64. Replies by status: 84 ok." in card
    )
    assert (
        "`storyteller:teller (simulated)` told them. Each story was checked for its form and for words that give an option "
        "or a persona away: of 4 stories, 4 passed and were answered, the others were set aside. `openai:m2 (simulated)` "
        "answered them in the role of each persona. Each was asked once in each of two orders, the second with the texts of "
        "A and B in each other's place, and the answer is the option with the highest mean over both orders, a reply "
        "counting with its option probabilities or as one vote. Settings: temperature 0.0, max tokens 64. Replies by "
        "status: 56 ok." in card
    )


def test_the_record_goes_from_folder_to_folder(built, tmp_path):
    build_dataset_folder(tmp_path / "second", answers=built, targets=[], progress=False)
    manifests = [json.loads((folder / "fairpp_build.json").read_bytes()) for folder in (built, tmp_path / "second")]
    assert manifests[0]["run"] == manifests[1]["run"] is not None
    assert (built / "README.md").read_text("utf-8") == (tmp_path / "second" / "README.md").read_text("utf-8")


@pytest.mark.parametrize("content", [b"{}", b'{"run": 3}', b"[]", b"{"])
def test_a_folder_without_a_record_has_none(tmp_path, content, caplog):
    (tmp_path / "fairpp_build.json").write_bytes(content)
    assert folder_run_record(tmp_path) is None
    assert len(caplog.messages) == (content in (b"[]", b"{"))
    assert folder_run_record(tmp_path / "nothing") is None


def test_a_folders_fingerprint_covers_its_preferences_beside_its_scenarios(built, tmp_path):
    """Both have a split called test: neither may stand in for the other."""
    folder = tmp_path / "copy"
    shutil.copytree(built, folder)
    before = resolve_answers(folder).fingerprint()
    assert before == resolve_answers(built).fingerprint()
    (folder / "preferences" / "test-00000-of-00001.parquet").write_bytes(b"other")
    assert resolve_answers(folder).fingerprint() != before


def test_other_respondents_have_no_record():
    assert source_run_record(resolve_answers("survey")) is None


def test_scenarios_are_test_questions_whatever_was_told(tmp_path):
    """From Python, training questions can be told as well."""
    train = load_questions("train").slice(0, 2)
    with LoopbackServer(tell) as server:
        storyteller = StorytellerRespondent("teller", train, base_url=server.base_url)
        respondent = OpenAIRespondent("m", base_url=server.base_url)
        tell_and_answer(tmp_path / "run", storyteller, respondent, load_personas(), train, progress=False)
    assert load_scenarios(tmp_path / "run").splits() == ("test",)


def test_personas_of_the_scenarios_count_where_there_is_no_run(run):
    (run / "manifest.json").unlink()
    assert source_personas(resolve_scenarios(run)).id == "britains_choice_2020"
