"""Runs with scenarios as datasets: rows, fingerprints, folders, cards, and the record of the run that goes with them."""

import dataclasses
import json
import shutil

import pytest
from datasets import load_dataset
from loopback_openai import Call, LoopbackServer, Served
from loopback_stories import good_story, is_story_call, tell

from fairpp_hf.dataset.builder import FairPP
from fairpp_hf.dataset.run_record import run_record, without_folders
from fairpp_hf.dataset.sources import NoRecords, RunSource, resolve_answers
from fairpp_hf.generation import RunOptions
from fairpp_hf.generation.runner import generate
from fairpp_hf.hub import build_dataset_folder
from fairpp_hf.personas import load_personas
from fairpp_hf.questions import load_questions
from fairpp_hf.respondents import OpenAIRespondent, SurveyRespondent
from fairpp_hf.runs.journal import Journal
from fairpp_hf.runs.records import load_run
from fairpp_hf.scenarios.files import load_scenario_questions
from fairpp_hf.scenarios.storyteller import StorytellerRespondent
from fairpp_hf.scenarios.tell_and_answer import tell_and_answer

QUESTIONS = load_questions("test").slice(0, 6)


NAMED = "Zadie keeps a shop in Leeds. She has to settle it tonight, and lets them keep what they have. She is relieved."


def answer_scenarios(run, url, count=6, *, personas=None, **others):
    personas = load_personas() if personas is None else personas
    storyteller = StorytellerRespondent("teller", QUESTIONS, personas=personas, base_url=url, concurrency=1)
    respondent = OpenAIRespondent("m2", base_url=url)
    return tell_and_answer(
        run, storyteller, respondent, personas, QUESTIONS.slice(0, count), RunOptions(progress=False, **others)
    )


def generate_run(run, respondent=None):
    """A run of the questions themselves."""
    respondent = SurveyRespondent(load_personas()) if respondent is None else respondent
    return generate(
        run, respondent, load_personas(), QUESTIONS, RunOptions(progress=False, selection={"split": "test"})
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run over six questions, of which four were told and answered in both orders."""
    run = tmp_path_factory.mktemp("runs") / "run"
    with LoopbackServer(tell) as server:
        respondent = OpenAIRespondent("m", base_url=server.base_url, temperature=0.5)
        generate(
            run,
            respondent,
            load_personas(),
            QUESTIONS,
            RunOptions(samples=2, progress=False, selection={"split": "test"}),
        )
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
    expected = load_run(run / "scenarios")
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
    before = resolve_answers(run, scenarios=True).fingerprint()
    of_preferences = resolve_answers(run).fingerprint()
    assert before != of_preferences
    name = FairPP(config_name="scenarios", answers=str(run)).config_id
    with LoopbackServer(tell) as server:
        answer_scenarios(run, server.base_url, 5, swap=True)
    assert resolve_answers(run, scenarios=True).fingerprint() != before
    assert resolve_answers(run).fingerprint() == of_preferences
    assert FairPP(config_name="scenarios", answers=str(run)).config_id != name
    assert len(load_dataset("fairpp", "scenarios", answers=str(run), split="test")) == 5 * 7


def test_a_folder_in_which_scenarios_alone_were_answered(run):
    (run / "manifest.json").unlink()
    (run / "journal.sqlite").unlink()
    assert len(load_dataset("fairpp", "scenarios", answers=str(run), split="test")) == 4 * 7
    with pytest.raises(
        ValueError, match=r"^answers must be .*/run', in which only scenarios were answered\. Use config"
    ):
        resolve_answers(run)


def test_a_run_without_scenarios_has_none(run):
    shutil.rmtree(run / "scenarios")
    assert not resolve_answers(run).has_scenarios()
    with pytest.raises(ValueError, match=r"answers must hold scenarios for config 'scenarios'; got '.*/run', which"):
        load_dataset("fairpp", "scenarios", answers=str(run))
    build_dataset_folder(run.parent / "built", answers=run, targets=[], progress=False)
    assert "scenarios" not in json.loads((run.parent / "built" / "fairpp_build.json").read_bytes())["provenance"]["run"]


def test_scenarios_without_answers_are_left_out(run, caplog, tmp_path):
    with Journal(run / "scenarios") as journal, journal.transaction() as connection:
        connection.execute("DELETE FROM replies")
    with pytest.raises(NoRecords):
        resolve_answers(run, scenarios=True).load()
    files = build_dataset_folder(tmp_path / "built", answers=run, targets=[], progress=False)
    assert any("The scenarios have no answers yet and are left out" in message for message in caplog.messages)
    assert "scenarios" not in {file.config for file in files}


def test_a_built_folder_has_scenarios_and_record(built, made):
    run = made
    rows = load_dataset(str(built), "scenarios", split="test")
    assert rows.to_list() == load_dataset("fairpp", "scenarios", answers=str(run), split="test").to_list()
    manifest = json.loads((built / "fairpp_build.json").read_bytes())
    found = {name: manifest["scenarios"][name] for name in ("kind", "licence", "created", "respondents")}
    assert found == {
        **{"kind": "model", "licence": "cc-by-4.0", "created": manifest["provenance"]["created"]},
        "respondents": ["openai:m2 (simulated)"],
    }
    record = manifest["provenance"]["run"]
    assert record == run_record(run)
    assert {name: record[name] for name in ("respondent", "samples", "swap", "statuses", "tokens", "served_model")} == {
        "respondent": "openai:m (simulated)",
        "samples": 2,
        "swap": False,
        "statuses": {"ok": 6 * 7 * 2},
        "tokens": {"input": 6 * 7 * 2 * 7, "output": 6 * 7 * 2},
        "served_model": "m",
    }
    assert record["settings"].items() >= {"kind": "openai", "model": "m", "temperature": 0.5, "ask": None}.items()
    assert record["questions"]["count"] == 6
    scenarios = record["scenarios"]
    assert (scenarios["respondent"], scenarios["swap"]) == ("openai:m2 (simulated)", True)
    assert scenarios["statuses"] == {"ok": 4 * 7 * 2}
    assert scenarios["storyteller"]["respondent"] == "storyteller:teller (simulated)"
    assert scenarios["storyteller"]["statuses"] == {"ok": 4}
    assert (scenarios["storyteller"]["told"], scenarios["storyteller"]["set_aside"]) == (4, 0)
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
        "with the highest mean over them, a reply counting with its option probabilities or as one vote. Settings: "
        "temperature 0.5. Replies by status: 84 ok." in card
    )
    assert (
        "`storyteller:teller (simulated)` told them. Each story was checked for its form and for words that give an option "
        "or a persona away: of 4 stories, 4 passed and were answered, the others were set aside. `openai:m2 (simulated)` "
        "got each persona's portrait as system message and the scenario's prompt as user message. Each was asked once in "
        "each of two orders, the second with the texts of "
        "A and B in each other's place, and the answer is the option with the highest mean over both orders, a reply "
        "counting with its option probabilities or as one vote. Settings: temperature 0.0. Replies by "
        "status: 56 ok." in card
    )


def test_stories_are_counted_as_they_were_checked_not_by_their_status(tmp_path):
    """Six questions: one fails, one is refused, one is no story, and one of three stories names a persona of today."""
    order, run = [], tmp_path / "run"

    def answer(call: Call) -> Served:
        if not call.system:
            return Served(status=400, error={"message": "no"})  # a request that is refused is asked in this way, too
        if not is_story_call(call):
            return tell(call)
        if call.user not in order:
            order.append(call.user)
        others = [
            Served(content=None, refusal="No."),
            Served(content="No."),
            Served(status=400, error={"message": "no"}),
        ]
        number = order.index(call.user)
        if number < 3:
            return others[number]
        return Served(content=json.dumps(good_story(call.user) | ({"first": NAMED} if number == 5 else {})))

    with LoopbackServer(answer) as server:
        answer_scenarios(run, server.base_url)
        assert run_record(run)["scenarios"]["storyteller"]["told"] == 3
        # Persona sets have names, and those of another one's personas are in no story.
        own = dataclasses.replace(load_personas("hidden_tribes_2018"), id="own")
        own = dataclasses.replace(own, personas=(dataclasses.replace(own.personas[0], name="Zadie"), *own.personas[1:]))
        answer_scenarios(run, server.base_url, personas=own)
    record = run_record(run)["scenarios"]["storyteller"]
    assert record["statuses"] == {"failed": 1, "invalid": 1, "ok": 3, "refusal": 1}
    assert (record["told"], record["set_aside"]) == (2, 3)
    assert load_scenario_questions(run).num_rows == 2
    generate_run(run)
    build_dataset_folder(tmp_path / "built", answers=run, targets=[], progress=False)
    card = " ".join((tmp_path / "built" / "README.md").read_text("utf-8").split())
    assert (
        "of 5 stories, 2 passed and were answered, the others were set aside. 1 more were asked for and never came."
    ) in card


def test_a_model_that_is_served_by_its_path_shows_its_last_part_alone(tmp_path):
    run, model = tmp_path / "run", "/srv/secret/models/small-chat"
    with LoopbackServer(tell) as server:
        generate_run(run, OpenAIRespondent(model, base_url=server.base_url))
        storyteller = StorytellerRespondent(model, QUESTIONS, base_url=server.base_url)
        respondent = OpenAIRespondent(model, base_url=server.base_url)
        tell_and_answer(run, storyteller, respondent, load_personas(), QUESTIONS, RunOptions(progress=False))
    folder = tmp_path / "built"
    build_dataset_folder(folder, answers=run, targets=[], progress=False)
    record = json.loads((folder / "fairpp_build.json").read_bytes())["provenance"]["run"]
    for part in (record, record["scenarios"]):
        assert part["respondent"] == "openai:small-chat (simulated)"
        assert part["settings"]["model"] == part["served_model"] == "small-chat"
    assert record["scenarios"]["storyteller"]["respondent"] == "storyteller:small-chat (simulated)"
    for file in ("fairpp_build.json", "README.md"):
        assert "secret" not in (folder / file).read_text("utf-8")
    for config in ("preferences", "scenarios"):
        for source in (folder, run):
            rows = load_dataset("fairpp", config, answers=str(source), split="test")
            assert set(rows["respondent"]) == {"openai:small-chat (simulated)"}


@pytest.mark.parametrize(
    ("model", "shown"),
    [
        ("gpt-4o", "gpt-4o"),
        ("org/small-chat", "org/small-chat"),
        ("/models/small-chat/", "small-chat"),
        ("C:\\models\\small-chat", "small-chat"),
        ("/", "/"),
    ],
)
def test_only_absolute_paths_are_cut(model, shown):
    assert without_folders(f"openai:{model} (simulated)", {"model": model, "temperature": 0.0}) == (
        f"openai:{shown} (simulated)"
    )


def test_the_record_goes_from_folder_to_folder(built, tmp_path):
    build_dataset_folder(tmp_path / "second", answers=built, targets=[], progress=False)
    manifests = [json.loads((folder / "fairpp_build.json").read_bytes()) for folder in (built, tmp_path / "second")]
    assert manifests[0]["provenance"] == manifests[1]["provenance"]
    assert (built / "README.md").read_text("utf-8") == (tmp_path / "second" / "README.md").read_text("utf-8")


def test_a_folders_fingerprint_covers_its_preferences_beside_its_scenarios(built, tmp_path):
    """Both have a split called test: neither may stand in for the other."""
    folder = tmp_path / "copy"
    shutil.copytree(built, folder)
    before = resolve_answers(folder).fingerprint()
    assert before == resolve_answers(built).fingerprint()
    (folder / "preferences" / "test-00000-of-00001.parquet").write_bytes(b"other")
    assert resolve_answers(folder).fingerprint() != before


def test_scenarios_are_test_questions_whatever_was_told(tmp_path):
    """From Python, training questions can be told as well."""
    train = load_questions("train").slice(0, 2)
    with LoopbackServer(tell) as server:
        storyteller = StorytellerRespondent("teller", train, base_url=server.base_url)
        respondent = OpenAIRespondent("m", base_url=server.base_url)
        tell_and_answer(tmp_path / "run", storyteller, respondent, load_personas(), train, RunOptions(progress=False))
    assert RunSource(tmp_path / "run", scenarios=True).load().splits() == ("test",)


def test_personas_of_the_scenarios_count_where_there_is_no_run(run):
    (run / "manifest.json").unlink()
    assert resolve_answers(run, scenarios=True).persona_set().id == "britains_choice_2020"
