"""Scenarios: told by a storyteller on a loopback server with the real client, checked, and answered by the personas."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from generation_fixtures import FakeRespondent, ok, personas
from loopback_batches import BatchServer
from loopback_openai import Call, LoopbackServer, Served
from loopback_stories import bad_for, good_story, is_story_call, tell

from fairpp_hf.generation.batch import BatchLimits
from fairpp_hf.generation.budget import BudgetReached
from fairpp_hf.generation.manifest import read_manifest
from fairpp_hf.generation.merge import merge_runs
from fairpp_hf.generation.prices import Prices
from fairpp_hf.generation.records import load_replies, load_run
from fairpp_hf.generation.runner import generate
from fairpp_hf.generation.scenario_files import load_scenario_questions
from fairpp_hf.generation.scenarios import estimate_scenarios, rebuild_scenarios, spent_in, tell_and_answer
from fairpp_hf.generation.shards import Shard
from fairpp_hf.generation.stories import STORY_SCHEMA, check_story, persona_names
from fairpp_hf.generation.storyteller import StorytellerRespondent
from fairpp_hf.personas import load_personas
from fairpp_hf.questions import load_questions, sample_questions
from fairpp_hf.respondents import OpenAIRespondent, RespondentStopped

TEST = load_questions("test")
TWELVE = TEST.take(pa.array(sample_questions(TEST, 12)))
TWO = personas("ann", "bob")
DEAR = Prices(input=0.0, cached_input=0.0, output=1e6, batch_factor=0.5, source="test")  # a dollar an output token


def questions(count: int) -> pa.Table:
    return TWELVE.slice(0, count)


def go(run: Path, server: LoopbackServer, asked=TWELVE, who=TWO, *, tries=3, concurrency=4, **others):
    """`tell_and_answer` with both on one server."""
    storyteller = StorytellerRespondent(
        "teller", TWELVE, personas=who, tries=tries, base_url=server.base_url, concurrency=concurrency
    )
    respondent = OpenAIRespondent("m", base_url=server.base_url, concurrency=concurrency)
    return tell_and_answer(run, storyteller, respondent, who, asked, progress=False, **others)


def test_stories_are_told_once_and_answered_once(tmp_path):
    with LoopbackServer(tell) as server:
        summary = go(tmp_path / "run", server)
        calls = server.total
        assert calls == 12 + 24 == len(server.calls)
        again = go(tmp_path / "run", server)
        assert server.total == calls
    assert (summary.told, summary.set_aside, summary.set_aside_stories) == (12, {}, 0)
    assert summary.answers.counts["ok"] == again.answers.counts["ok"] == 24
    scenarios = load_scenario_questions(tmp_path / "run")
    assert scenarios["question_id"].equals(TWELVE["question_id"])
    names = persona_names()
    for row, question in zip(scenarios.to_pylist(), TWELVE.to_pylist(), strict=True):
        story = next(
            good_story(user) for _, user in server.calls if f"First answer: {question['option_a']}\n" in user
            and question["question"] in user
        )  # fmt: skip
        assert check_story(json.dumps(story), question, names).scenes == tuple(
            row[f"option_{letter}"] for letter in "abc"
        )
    preferences = load_run(tmp_path / "run" / "scenarios", scenarios)
    assert len(preferences) == 24
    assert preferences.slice(0, 12)["prompt"].equals(scenarios["prompt"])
    manifest = read_manifest(tmp_path / "run" / "scenarios" / "stories")
    assert manifest["respondent"]["name"] == "storyteller:teller (simulated)"
    assert manifest["respondent"]["settings"].keys() == {"kind", "model", "temperature", "max_tokens", "wording"}


def test_the_schema_is_asked_for_where_the_server_takes_it(tmp_path):
    with LoopbackServer(tell) as server:
        go(tmp_path / "run", server, questions(2))
        stories = [body for body in server.bodies if body["model"] == "teller"]
    assert [body["response_format"]["json_schema"] for body in stories] == [
        {"name": "story", "strict": True, "schema": STORY_SCHEMA}
    ] * 2
    assert {body["temperature"] for body in stories} == {0.7}
    assert not any("logprobs" in body for body in stories)


@pytest.mark.parametrize("status", [400, 422])
def test_a_server_without_structured_output_is_asked_in_words(tmp_path, status, caplog):
    def answer(call: Call) -> Served:
        if "response_format" in call.body:
            return Served(status=status, error={"message": "response_format is not supported"})
        served = tell(call)
        return (
            served._replace(content=f"Here you are:\n```json\n{served.content}\n```") if is_story_call(call) else served
        )

    with LoopbackServer(answer) as server:
        summary = go(tmp_path / "run", server, questions(3))
        assert sum("response_format" in body for body in server.bodies) == 1
    assert summary.told == 3
    assert "The server rejects requests for structured output: asking for JSON in words alone." in caplog.messages


def lettered(call: Call) -> Served:
    """About every third question only gets stories that name an option."""
    if is_story_call(call) and bad_for(call, 3):
        return Served(content=json.dumps(good_story(call.user)).replace("She feels", "Option A. She feels"))
    return tell(call)


def test_bad_stories_are_tried_again_then_set_aside_and_never_answered(tmp_path):
    with LoopbackServer(lettered) as server:
        summary = go(tmp_path / "run", server)
        tries = [number for (system, _), number in server.calls.items() if "scenes" in system]
    bad = tries.count(3)
    assert bad > 0
    assert set(tries) == {1, 3}
    assert (summary.told, summary.set_aside_stories, summary.set_aside) == (12 - bad, bad, {"letter": bad})
    assert summary.answers.counts["ok"] == 2 * (12 - bad)
    lines = (tmp_path / "run" / "scenarios" / "set_aside.jsonl").read_text("utf-8").splitlines()
    ids = {json.loads(line)["question_id"] for line in lines}
    assert len(lines) == bad
    assert ids.isdisjoint(load_scenario_questions(tmp_path / "run")["question_id"].to_pylist())
    assert json.loads(lines[0])["problems"][0] == {
        "kind": "letter",
        "sentence": "The first scene must not say which option it is; got 'Option A' in it.",
    }
    replies = load_replies(tmp_path / "run" / "scenarios" / "stories").to_pylist()
    for reply in replies:
        detail = json.loads(reply["detail"])
        # Every try is paid for, and counted.
        assert json.loads(reply["usage"])["total_tokens"] == 8 * (3 if reply["question_id"] in ids else 1)
        assert ("problems" in detail) == (reply["status"] == "invalid") == (reply["question_id"] in ids)
    assert f"Stories: {12 - bad} told, {bad} set aside." in summary.table()
    assert f"Set aside for: letter {bad} (a story may count twice)." in summary.table()


def test_what_was_set_aside_is_told_again_on_request_alone(tmp_path):
    with LoopbackServer(lettered) as server:
        first = go(tmp_path / "run", server, story_prices=DEAR, prices=DEAR)
        told_before = load_scenario_questions(tmp_path / "run")
        spent = spent_in(tmp_path / "run" / "scenarios" / "stories")
        server.answer = tell
        server.reset()
        assert go(tmp_path / "run", server).told == first.told
        assert server.total == 0
        summary = go(tmp_path / "run", server, story_prices=DEAR, prices=DEAR, retry_set_aside=True)
        assert server.total == first.set_aside_stories * 3  # one story, two answers
    assert (summary.told, summary.set_aside) == (12, {})
    assert not (tmp_path / "run" / "scenarios" / "set_aside.jsonl").exists()
    # What the bad ones cost stays counted.
    assert spent_in(tmp_path / "run" / "scenarios" / "stories") == spent + first.set_aside_stories
    table = load_scenario_questions(tmp_path / "run")
    kept = table.filter(
        pa.array([i in told_before["question_id"].to_pylist() for i in table["question_id"].to_pylist()])
    )
    assert kept.equals(told_before)


def test_refusals_empty_and_cut_off_stories_are_told_apart(tmp_path):
    whole = json.dumps(good_story(""))
    replies = [
        Served(content=None, refusal="I will not."),
        Served(content=""),
        Served(content=whole[:90], finish_reason="length"),
        Served(content=whole, finish_reason="length"),  # all of it came
        Served(content="No."),
    ]
    order: list[str] = []

    def answer(call: Call) -> Served:
        if not is_story_call(call):
            return tell(call)
        if call.user not in order:
            order.append(call.user)
        return replies[order.index(call.user)]

    with LoopbackServer(answer) as server:
        summary = go(tmp_path / "run", server, questions(5), tries=2, concurrency=1)
        assert [server.calls[key] for key in server.calls if key[1] in order] == [1, 2, 2, 1, 2]
    assert summary.told == 1
    assert summary.set_aside == {"form": 2, "empty": 1, "refusal": 1}
    assert summary.stories.counts == {"ok": 1, "invalid": 1, "refusal": 1, "empty": 1, "truncated": 1, "failed": 0}


def test_more_questions_keep_the_answers_to_earlier_ones(tmp_path):
    with LoopbackServer(tell) as server:
        go(tmp_path / "run", server, questions(5))
        go(tmp_path / "run", server, questions(12))
        assert server.total == 12 + 24 == len(server.calls)
        assert go(tmp_path / "run", server, questions(5)).answers.counts["ok"] == 10
        assert server.total == 36


def test_samples_and_both_orders(tmp_path):
    with LoopbackServer(tell) as server:
        storyteller = StorytellerRespondent("teller", TWELVE, base_url=server.base_url)
        respondent = OpenAIRespondent("m", base_url=server.base_url, temperature=0.7)
        summary = tell_and_answer(
            tmp_path / "run", storyteller, respondent, TWO, questions(3), samples=2, swap=True, progress=False
        )
        assert server.total == 3 + 3 * 2 * 2 * 2
    assert sum(summary.answers.counts.values()) == 24
    scenarios = load_scenario_questions(tmp_path / "run")
    assert len(load_run(tmp_path / "run" / "scenarios", scenarios)) == 6


def wordy(call: Call) -> Served:
    """Every reply has 200 output tokens, more than anything that is thought of a request before the first reply."""
    choice = {"message": {"content": tell(call).content}, "finish_reason": "stop"}
    body = {"choices": [choice], "usage": {"prompt_tokens": 0, "completion_tokens": 200}}
    return Served(body=json.dumps(body).encode())


A_DOLLAR = DEAR._replace(output=1e6 / 200)


def test_one_cap_holds_for_stories_and_answers(tmp_path):
    """Every reply costs one dollar. 12 stories and 24 answers have room under 40 dollars, not under 20."""
    paid = {"story_prices": A_DOLLAR, "prices": A_DOLLAR}
    with LoopbackServer(wordy) as server:
        with pytest.raises(BudgetReached) as reached:
            go(tmp_path / "run", server, **paid, max_cost=20.0)
        assert server.total == 20
        assert str(reached.value) == (
            "max_cost must have room for the next request; got $20.00 spent of $20.00 by stories and answers in "
            f"{tmp_path / 'run' / 'scenarios'}, and 16 requests of this stage are left. Every reply is kept; raise "
            "--max-cost and run the same command again to continue."
        )
        with pytest.raises(ValueError, match="max_cost") as error:
            go(tmp_path / "run", server, **paid, max_cost=19.0)
        assert str(error.value) == (
            "max_cost must be at least what stories and answers have cost so far, $20.00; got $19.00 for "
            f"{tmp_path / 'run' / 'scenarios'}. Raise --max-cost."
        )
        assert server.total == 20
        go(tmp_path / "run", server, **paid, max_cost=40.0)
        assert server.total == 36
        # All is there: a cap that is used up to the cent is none too low.
        go(tmp_path / "run", server, **paid, max_cost=36.0)
        assert server.total == 36


def test_a_cap_that_the_stories_use_up_leaves_the_answers_for_later(tmp_path):
    paid = {"story_prices": A_DOLLAR, "prices": A_DOLLAR}
    with LoopbackServer(wordy) as server:
        with pytest.raises(RespondentStopped, match=r"got \$12\.00 spent of \$12\.00 .* and 24 requests of this stage"):
            go(tmp_path / "run", server, **paid, max_cost=12.0)
        assert server.total == 12


def test_a_cap_without_prices_is_an_error_before_anything(tmp_path):
    with LoopbackServer(tell) as server:
        for prices in ({"prices": DEAR}, {"story_prices": DEAR}):
            with pytest.raises(ValueError, match="max_cost must come with the price of the model"):
                go(tmp_path / "run", server, max_cost=1.0, **prices)
        assert server.total == 0
    assert not (tmp_path / "run").exists()


def test_a_respondent_that_does_not_read_is_refused(tmp_path):
    respondent = FakeRespondent()
    respondent.settings = {"kind": "survey"}
    storyteller = StorytellerRespondent("teller", TWELVE, base_url="http://127.0.0.1:1/v1")
    with pytest.raises(ValueError, match="Scenarios") as error:
        tell_and_answer(tmp_path / "run", storyteller, respondent, TWO, TWELVE, progress=False)
    assert str(error.value) == (
        "Scenarios must be answered by a respondent that reads them; got 'fake:fake (simulated)', which answers by the "
        "question's labels alone. Use --respondent openai or transformers."
    )
    assert not (tmp_path / "run").exists()


def test_the_storyteller_must_have_a_try():
    with pytest.raises(ValueError, match=r"tries must be at least 1; got 0\."):
        StorytellerRespondent("teller", TWELVE, base_url="http://127.0.0.1:1/v1", tries=0)


def test_nothing_told_means_nothing_answered(tmp_path):
    with LoopbackServer(lambda call: Served(content="No.")) as server:
        summary = go(tmp_path / "run", server, questions(3), tries=1)
        assert server.total == 3
    assert (summary.told, summary.set_aside, summary.answers) == (0, {"form": 3}, None)
    assert not (tmp_path / "run" / "scenarios" / "scenarios.parquet").exists()


def test_shards_tell_and_answer_their_own_stories(tmp_path):
    with LoopbackServer(tell) as server:
        parts = [go(tmp_path / str(part), server, shard=Shard(part, 3)) for part in (1, 2, 3)]
        assert server.total == 36 == len(server.calls)
    assert sum(part.told for part in parts) == 12
    assert all(part.told and part.answers.remaining == 0 for part in parts)


def test_merged_shards_have_all_stories_and_answers(tmp_path):
    runs, out, who = [tmp_path / "1", tmp_path / "2"], tmp_path / "out", load_personas()
    with LoopbackServer(tell) as server:
        for number, run in enumerate(runs, 1):
            generate(run, FakeRespondent(lambda _: ok(0)), who, TWELVE, shard=Shard(number, 2), progress=False)
            go(run, server, who=who, shard=Shard(number, 2))
        calls = server.total
        assert calls == 12 * 8
        merged = merge_runs(out, runs)
        assert (merged.stories.requests, merged.stories.remaining) == (12, 0)
        assert (merged.scenarios.requests, merged.scenarios.remaining) == (12 * 7, 0)
        preferences = load_run(out / "scenarios", load_scenario_questions(out))
        assert preferences["status"].to_pylist() == ["ok"] * 12 * 7
        assert preferences.slice(0, 12)["question_id"].equals(TWELVE["question_id"])
        assert go(out, server, who=who).answers.remaining == 0
        assert server.total == calls
    assert rebuild_scenarios(out) == 12


def test_rebuilding_needs_the_persona_set(tmp_path):
    with LoopbackServer(tell) as server:
        go(tmp_path / "run", server, questions(2))
    manifest = read_manifest(tmp_path / "run" / "scenarios")
    assert manifest["personas"]["record"] is None  # `TWO` is no whole set
    with pytest.raises(ValueError, match="manifest") as error:
        rebuild_scenarios(tmp_path / "run")
    assert str(error.value) == (
        "The scenarios' manifest must have the whole persona set; got only the name 'fakes' at "
        f"{tmp_path / 'run' / 'scenarios' / 'manifest.json'}. Run `fairpp scenarios` on this run with --personas to ask "
        "them anew."
    )


def test_stories_of_other_questions_are_named(tmp_path):
    with LoopbackServer(tell) as server:
        go(tmp_path / "run", server, questions(2))
    (tmp_path / "run" / "scenarios" / "manifest.json").unlink()
    unknown = questions(1)["question_id"][0].as_py()
    with pytest.raises(ValueError, match="Stories") as error:
        rebuild_scenarios(tmp_path / "run", questions(12).slice(1))
    assert str(error.value) == (
        f"Stories must be of these questions; got one of {unknown!r} in {tmp_path / 'run' / 'scenarios' / 'stories'}. Pass "
        "the questions that were told as `questions`."
    )


def test_a_dry_run_counts_both_stages(tmp_path):
    with LoopbackServer(tell) as server:
        storyteller = StorytellerRespondent("teller", TWELVE, base_url=server.base_url)
        respondent = OpenAIRespondent("m", base_url=server.base_url)
        given = (tmp_path / "run", storyteller, respondent, TWO, TWELVE)
        stories, answers = estimate_scenarios(*given, story_prices=DEAR, prices=DEAR, swap=True)
        assert server.total == 0
        assert not (tmp_path / "run").exists()
        assert (stories.calls, answers.calls) == (12, 48)
        assert (stories.output_tokens, stories.cost_usd, stories.batch_cost_usd) == (3_600, 3_600.0, 1_800.0)
        assert answers.output_tokens == 48 * 3
        go(tmp_path / "run", server, questions(4))
        stories, answers = estimate_scenarios(*given)
        assert (stories.calls, stories.kept, answers.calls, answers.kept) == (8, 4, 16, 8)
        assert stories.cost_usd is None


KILLED = """
import sys
from pathlib import Path
from loopback_openai import LoopbackServer
sys.path[:0] = [{tests!r}, {here!r}]
import test_scenarios as t
class Server: base_url = {url!r}
t.go(Path({run!r}), Server())
"""


@pytest.mark.parametrize("after", [5, 18])
def test_a_kill_in_either_stage_loses_nothing(tmp_path, after):
    """12 stories and 24 answers; killed after so many calls and run again, at most the 4 in flight are bought twice."""
    run = tmp_path / "run"
    here = Path(__file__).parent
    code = KILLED.format(tests=str(here.parent), here=str(here), url="{url}", run=str(run))
    child: list[subprocess.Popen] = []

    def answer(call: Call) -> Served:
        if server.total == after and child and child[0].poll() is None:
            os.kill(child[0].pid, signal.SIGKILL)
        return tell(call)

    with LoopbackServer(answer) as server:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here.parent), str(here)])}
        child.append(subprocess.Popen([sys.executable, "-c", code.replace("{url}", server.base_url)], env=environment))
        assert child[0].wait(60) == -signal.SIGKILL
        go(run, server)
        assert len(server.calls) == 36
        assert server.total <= 36 + 4
    assert load_run(run / "scenarios", load_scenario_questions(run))["status"].to_pylist() == ["ok"] * 24
    whole = tmp_path / "whole"
    with LoopbackServer(tell) as server:
        go(whole, server)
    assert pq.read_table(whole / "scenarios" / "scenarios.parquet").equals(
        pq.read_table(run / "scenarios" / "scenarios.parquet")
    )
    assert load_run(run / "scenarios", load_scenario_questions(run)).equals(
        load_run(whole / "scenarios", load_scenario_questions(whole))
    )


def test_stories_and_answers_by_batches(tmp_path):
    """Bad stories go into further batches; three rounds in all, then they are set aside."""
    with BatchServer(lettered) as server:
        summary = go(tmp_path / "run", server, batch=BatchLimits(poll_s=0.02))
        batches = server.ours()
        assert server.total == 2  # one story and one answer go ahead, to see whether the server takes them
    bad = summary.set_aside_stories
    assert bad > 0
    assert (summary.told, summary.set_aside) == (12 - bad, {"letter": bad})
    assert summary.answers.counts["ok"] == 2 * (12 - bad)
    assert len(batches) == 4  # three of stories, one of answers
    assert server.inputs(batches[0])[0]["body"]["response_format"]["json_schema"]["schema"] == STORY_SCHEMA
