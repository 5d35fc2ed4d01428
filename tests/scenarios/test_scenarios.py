"""Scenarios: told by a storyteller on a loopback server with the real client, checked, and answered by the personas."""

import json
import os
import signal
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from generation_fixtures import FakeRespondent, ok, personas
from killed_processes import forkserver, kill
from loopback_batches import BatchServer
from loopback_openai import Call, LoopbackServer, Served
from loopback_stories import bad_for, good_story, is_story_call, tell

from fairpp_hf.generation import BatchLimits, BudgetReached, RunOptions
from fairpp_hf.generation.prices import Prices
from fairpp_hf.generation.runner import RunInterrupted, generate
from fairpp_hf.personas import load_personas
from fairpp_hf.questions import load_questions, sample_questions
from fairpp_hf.respondents import OpenAIRespondent
from fairpp_hf.runs.manifest import read_manifest
from fairpp_hf.runs.records import load_replies, load_run
from fairpp_hf.runs.shards import Shard
from fairpp_hf.scenarios.files import load_scenario_questions
from fairpp_hf.scenarios.rebuild import merge_with_scenarios, rebuild_scenarios
from fairpp_hf.scenarios.stories import STORY_SCHEMA, check_story, persona_names, wording
from fairpp_hf.scenarios.storyteller import StorytellerRespondent
from fairpp_hf.scenarios.tell_and_answer import estimate_scenarios, spent_in, tell_and_answer

TEST = load_questions("test")
TWELVE = TEST.take(pa.array(sample_questions(TEST, 12)))
TWO = personas("ann", "bob")
THREE = personas("ann", "bob", "cem")
NAMED = ("Ifor", "Ines", "Igor")
FIRST = (
    "Ann keeps a shop in Leeds. She has to settle it tonight, and lets them keep what they have. She feels relieved."
)
DEAR = Prices(input=0.0, cached_input=0.0, output=1e6, batch_factor=0.5, source="test")  # a dollar an output token


def questions(count: int) -> pa.Table:
    return TWELVE.slice(0, count)


def go(
    run: Path,
    server: "LoopbackServer | At",
    asked=TWELVE,
    who=TWO,
    *,
    tries=3,
    concurrency=4,
    temperature=0.7,
    max_tokens=1_500,
    **others,
):
    """`tell_and_answer` with both on one server."""
    storyteller = StorytellerRespondent(
        "teller",
        TWELVE,
        personas=who,
        tries=tries,
        base_url=server.base_url,
        concurrency=concurrency,
        temperature=temperature,
        max_tokens=max_tokens,
    )
    respondent = OpenAIRespondent("m", base_url=server.base_url, concurrency=concurrency)
    own = {name: others.pop(name) for name in ("story_prices", "retry_set_aside") if name in others}
    return tell_and_answer(run, storyteller, respondent, who, asked, RunOptions(progress=False, **others), **own)


def test_stories_are_told_once_and_answered_once(tmp_path):
    with LoopbackServer(tell) as server:
        summary = go(tmp_path / "run", server)
        calls = server.total
        assert calls == 12 + 24 == len(server.calls)
        again = go(tmp_path / "run", server)
        assert server.total == calls
    assert (summary.told, summary.checked.counts(), len(summary.checked.set_aside)) == (12, {}, 0)
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
    assert manifest["respondent"]["settings"].keys() == {"kind", "model", "temperature", "wording"}


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
        tried = [body["model"] for body in server.bodies if "response_format" in body]
        assert sorted(tried) == ["m", "teller"]
    assert summary.told == 3
    assert (
        caplog.messages.count(f"The server {server.base_url} is asked like this: free text, no log-probabilities.") == 2
    )


def test_a_story_is_told_once_where_the_next_would_be_the_same(tmp_path):
    with LoopbackServer(lambda call: Served(content="No.")) as server:
        go(tmp_path / "run", server, questions(2), tries=None, temperature=0.0)
        assert server.total == 2
        go(tmp_path / "other", server, questions(2), tries=None)
        assert server.total == 2 + 2 * 3
        with pytest.raises(ValueError, match="tries must be 1 at temperature 0; got 2"):
            go(tmp_path / "third", server, questions(2), tries=2, temperature=0.0)
        with pytest.raises(ValueError, match="tries must be at least 1; got 0"):
            go(tmp_path / "third", server, questions(2), tries=0)
        assert server.total == 2 + 2 * 3


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
    assert (summary.told, len(summary.checked.set_aside), summary.checked.counts()) == (12 - bad, bad, {"letter": bad})
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
        assert server.total == len(first.checked.set_aside) * 3  # one story, two answers
    assert (summary.told, summary.checked.counts()) == (12, {})
    assert not (tmp_path / "run" / "scenarios" / "set_aside.jsonl").exists()
    # What the bad ones cost stays counted.
    assert spent_in(tmp_path / "run" / "scenarios" / "stories") == spent + len(first.checked.set_aside)
    table = load_scenario_questions(tmp_path / "run")
    kept = table.filter(
        pa.array([i in told_before["question_id"].to_pylist() for i in table["question_id"].to_pylist()])
    )
    assert kept.equals(told_before)


def stories_asked(server: LoopbackServer) -> int:
    return sum(number for (system, _), number in server.calls.items() if system == wording()["system"])


def name_in_first_scene(run: Path) -> str:
    return load_scenario_questions(run)["option_a"][0].as_py().split()[0]


def test_a_retry_goes_by_the_checks_of_today(tmp_path):
    """A persona called like somebody in a story: fit before, unfit now. The journal's status is of no matter."""
    run = tmp_path / "run"
    with LoopbackServer(tell) as server:
        go(run, server)
        named = personas(name_in_first_scene(run), "bob")
        unfit = go(run, server, who=named)
        assert unfit.checked.counts() == {"persona": len(unfit.checked.set_aside)}
        assert stories_asked(server) == 12
        server.answer = lambda call: Served(
            content=tell(call).content.replace(named[0].id, "Zadie") if is_story_call(call) else "A"
        )
        assert go(run, server, who=named, retry_set_aside=True).told == 12
        assert stories_asked(server) == 12 + len(unfit.checked.set_aside)


def test_refusals_are_not_told_again(tmp_path):
    with LoopbackServer(
        lambda call: Served(content=None, refusal="No.") if is_story_call(call) and bad_for(call, 3) else tell(call)
    ) as server:
        first = go(tmp_path / "run", server)
        assert (first.checked.counts()["refusal"], len(first.checked.to_retry())) == (len(first.checked.set_aside), 0)
        asked = server.total
        go(tmp_path / "run", server, retry_set_aside=True)
        assert server.total == asked


@pytest.mark.parametrize("stage", ["stories", "answers"])
def test_a_retry_that_was_interrupted_goes_on_and_starts_no_second_time(tmp_path, stage):
    """Nothing gets better by being told again. Interrupted in either stage, the retry tells each story once."""
    run = tmp_path / "run"
    with LoopbackServer(lettered) as server:
        bad = len(go(run, server, tries=1).checked.set_aside)
        server.reset()

        def stop(call: Call) -> Served:
            # At the first answer, to the third persona, all stories of the retry have been told.
            if (stage == "stories") == is_story_call(call):
                os.kill(os.getpid(), signal.SIGINT)
            return lettered(call)

        server.answer = stop
        with pytest.raises(RunInterrupted):
            go(run, server, tries=1, concurrency=1, retry_set_aside=True, who=TWO if stage == "stories" else THREE)
        server.answer = lettered
        again = go(run, server, tries=1, retry_set_aside=True, who=TWO if stage == "stories" else THREE)
        assert len(again.checked.set_aside) == bad == stories_asked(server)
        # That one has come to its end: the next is another retry.
        go(run, server, tries=1, retry_set_aside=True, who=TWO if stage == "stories" else THREE)
        assert stories_asked(server) == 2 * bad


def test_a_retry_leaves_what_is_fit_today(tmp_path):
    """Unfit for one set of personas when they were told, fit for another: they are answered, and bought no second time."""
    run = tmp_path / "run"
    with LoopbackServer(tell) as server:
        go(tmp_path / "first", server)
        named = personas(name_in_first_scene(tmp_path / "first"), "bob")
        server.reset()
        assert len(go(run, server, who=named, tries=1).checked.set_aside) > 0
        assert len(go(run, server, tries=1).checked.set_aside) == 0
        asked = server.total
        assert go(run, server, tries=1, retry_set_aside=True).told == 12
        assert server.total == asked


def test_a_larger_limit_of_tokens_buys_whole_stories_no_second_time(tmp_path):
    """A third of the stories do not fit into 90 tokens; with more, they alone are told again, once that is asked for."""

    def answer(call: Call) -> Served:
        served = tell(call)
        if not is_story_call(call) or not bad_for(call, 3) or call.body["max_tokens"] > 90:
            return served
        return served._replace(content=served.content[:90], finish_reason="length")

    with LoopbackServer(answer) as server:
        cut_off = go(tmp_path / "run", server, max_tokens=90, tries=1).checked.counts()["truncated"]
        server.reset()
        assert go(tmp_path / "run", server, tries=1).checked.counts() == {"truncated": cut_off}
        assert server.total == 0
        assert go(tmp_path / "run", server, tries=1, retry_set_aside=True).told == 12
        assert server.total == 3 * cut_off > 0


def test_more_questions_keep_the_answers_to_earlier_ones(tmp_path):
    with LoopbackServer(tell) as server:
        go(tmp_path / "run", server, questions(5))
        go(tmp_path / "run", server, questions(12))
        assert server.total == 12 + 24 == len(server.calls)
        assert go(tmp_path / "run", server, questions(5)).answers.counts["ok"] == 10
        assert server.total == 36


def test_earlier_tries_count_where_they_are_fit_today(tmp_path):
    """Three tries, all unfit for a persona of the run; then other personas: the last one that is fit now is the story."""
    run = tmp_path / "run"
    tries: list[str] = []

    def answer(call: Call) -> Served:
        if not is_story_call(call):
            return tell(call)
        story = json.loads(tell(call).content) | {"first": FIRST.replace("Ann", NAMED[len(tries) % 3])}
        tries.append(json.dumps(story))
        return Served(content=tries[-1])

    with LoopbackServer(answer) as server:
        assert go(run, server, questions(1), who=personas(*NAMED)).checked.counts() == {"persona": 1}
        assert len(tries) == 3
        summary = go(run, server, questions(1), who=personas(NAMED[0], NAMED[2]))
        assert (summary.told, stories_asked(server)) == (1, 3)
    assert load_scenario_questions(run)["option_a"].to_pylist() == [FIRST.replace("Ann", NAMED[1])]


def test_what_a_retry_has_replaced_counts_where_it_is_fit_today(tmp_path):
    run = tmp_path / "run"
    with LoopbackServer(tell) as server:
        go(tmp_path / "first", server, questions(1))
        named = personas(name_in_first_scene(tmp_path / "first"), "bob")
        assert go(run, server, questions(1), who=named, tries=1).told == 0
        server.answer = lambda call: Served(content="No.") if is_story_call(call) else tell(call)
        assert go(run, server, questions(1), who=named, tries=1, retry_set_aside=True).told == 0
        asked = stories_asked(server)
        assert go(run, server, questions(1), tries=1).told == 1
        assert stories_asked(server) == asked


def test_no_story_left_means_an_empty_table_and_no_requests(tmp_path):
    run = tmp_path / "run"
    with LoopbackServer(tell) as server:
        go(run, server, questions(1))
        named = personas(name_in_first_scene(run), "bob")
        asked = server.total
        summary = go(run, server, questions(1), who=named)
        assert (summary.told, summary.answers) == (0, None)
        scenarios = load_scenario_questions(run)
        assert len(scenarios) == len(load_run(run / "scenarios", scenarios)) == 0
        assert read_manifest(run / "scenarios")["requests"]["count"] == 0
        # The answers stay, for when the story passes again.
        assert go(run, server, questions(1)).answers.counts["ok"] == 2
        assert server.total == asked


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
    assert summary.checked.counts() == {"empty": 1, "form": 1, "refusal": 1, "truncated": 1}
    assert (len(summary.checked.set_aside), len(summary.checked.to_retry()), summary.checked.failed) == (4, 3, 0)
    lines = (tmp_path / "run" / "scenarios" / "set_aside.jsonl").read_text("utf-8").splitlines()
    assert next(story["problems"] for story in map(json.loads, lines) if story["status"] == "truncated") == [
        {
            "kind": "truncated",
            "sentence": "A story must be whole; got one that was cut off at the limit of tokens. Raise "
            "--storyteller-max-tokens.",
        }
    ]
    assert summary.stories.counts == {"ok": 1, "invalid": 1, "refusal": 1, "empty": 1, "truncated": 1, "failed": 0}


def test_samples_and_both_orders(tmp_path):
    with LoopbackServer(tell) as server:
        storyteller = StorytellerRespondent("teller", TWELVE, base_url=server.base_url)
        respondent = OpenAIRespondent("m", base_url=server.base_url, temperature=0.7)
        summary = tell_and_answer(
            tmp_path / "run",
            storyteller,
            respondent,
            TWO,
            questions(3),
            RunOptions(samples=2, swap=True, progress=False),
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
        assert "got $20.00 spent of $20.00" in str(reached.value)
        assert "and 16 requests are left" in str(reached.value)
        with pytest.raises(
            ValueError, match=r"at least what stories and answers have cost so far, \$20.00; got \$19.00"
        ):
            go(tmp_path / "run", server, **paid, max_cost=19.0)
        assert server.total == 20
        go(tmp_path / "run", server, **paid, max_cost=40.0)
        assert server.total == 36
        # All is there: a cap that is used up to the cent is none too low.
        go(tmp_path / "run", server, **paid, max_cost=36.0)
        assert server.total == 36


def test_a_cap_that_the_stories_use_up_leaves_the_answers_for_later(tmp_path):
    with LoopbackServer(wordy) as server:
        with pytest.raises(BudgetReached, match=r"got \$12\.00 spent of \$12\.00 .* and 24 requests"):
            go(tmp_path / "run", server, story_prices=A_DOLLAR, prices=A_DOLLAR, max_cost=12.0)
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
    with pytest.raises(ValueError, match="Scenarios must be answered by a respondent that reads them"):
        tell_and_answer(tmp_path / "run", storyteller, respondent, TWO, TWELVE, RunOptions(progress=False))
    assert not (tmp_path / "run").exists()


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
            generate(
                run, FakeRespondent(lambda _: ok(0)), who, TWELVE, RunOptions(shard=Shard(number, 2), progress=False)
            )
            go(run, server, who=who, shard=Shard(number, 2))
        calls = server.total
        assert calls == 12 * 8
        merged = merge_with_scenarios(out, runs)
        assert {what: (part.requests, part.remaining) for what, part in merged.items()} == {
            "replies": (12 * 7, 0),
            "stories": (12, 0),
            "answers to scenarios": (12 * 7, 0),
        }
        preferences = load_run(out / "scenarios")
        assert preferences["status"].to_pylist() == ["ok"] * 12 * 7
        assert preferences.slice(0, 12)["question_id"].equals(TWELVE["question_id"])
        assert go(out, server, who=who).answers.remaining == 0
        assert server.total == calls
    assert rebuild_scenarios(out) == 12


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".json", ".jsonl", ".parquet")}


@pytest.mark.parametrize("shard", [None, Shard(2, 3)])
def test_rebuilding_buys_nothing_and_changes_nothing(tmp_path, shard):
    run = tmp_path / "run"
    with LoopbackServer(lettered) as server:
        told = go(run, server, who=load_personas(), shard=shard).told
        asked, before = server.total, files(run / "scenarios")
        answers = load_run(run / "scenarios")
        assert rebuild_scenarios(run) == told
        assert server.total == asked
    assert files(run / "scenarios") == before
    assert load_run(run / "scenarios").equals(answers)


def ask_for_longer_scenes(monkeypatch, run: Path) -> None:
    """The shortest story passes no more."""
    table = load_scenario_questions(run)
    shortest = min(map(len, table["option_a"].to_pylist() + table["option_b"].to_pylist()))
    monkeypatch.setattr("fairpp_hf.scenarios.stories.CHARACTERS", (shortest + 1, 1_200))


def test_rebuilding_takes_what_the_checks_of_today_let_through(tmp_path, monkeypatch):
    """Other checks: a story that they set aside loses its place, and its answers are left out of the run."""
    run = tmp_path / "run"
    with LoopbackServer(tell) as server:
        go(run, server, who=load_personas())
        asked = server.total
        ask_for_longer_scenes(monkeypatch, run)
        before = files(run / "scenarios")
        left = rebuild_scenarios(run, dry_run=True)
        assert files(run / "scenarios") == before
        assert rebuild_scenarios(run) == left
        assert 0 < left < 12
        assert len(load_run(run / "scenarios")) == 7 * left
        monkeypatch.undo()
        assert rebuild_scenarios(run) == 12
        assert len(load_run(run / "scenarios")) == 7 * 12
        assert server.total == asked


def test_rebuilding_needs_the_persona_set(tmp_path):
    with LoopbackServer(tell) as server:
        go(tmp_path / "run", server)  # `TWO` is no whole set, and not recorded
    with pytest.raises(ValueError, match="manifest must have the whole persona set"):
        rebuild_scenarios(tmp_path / "run")


def test_a_dry_run_counts_both_stages(tmp_path):
    with LoopbackServer(tell) as server:
        storyteller = StorytellerRespondent("teller", TWELVE, base_url=server.base_url)
        respondent = OpenAIRespondent("m", base_url=server.base_url)
        given = (tmp_path / "run", storyteller, respondent, TWO, TWELVE)
        stories, answers = estimate_scenarios(*given, RunOptions(prices=DEAR, swap=True), story_prices=DEAR)
        assert server.total == 0
        assert not (tmp_path / "run").exists()
        assert (stories.calls, answers.calls) == (12, 48)
        assert (stories.output_tokens, stories.cost_usd, stories.batch_cost_usd) == (3_600, 3_600.0, 1_800.0)
        assert answers.output_tokens == 48 * 3
        go(tmp_path / "run", server, questions(4))
        stories, answers = estimate_scenarios(*given)
        assert (stories.calls, stories.reused, answers.calls, answers.reused) == (8, 4, 16, 8)
        assert stories.cost_usd is None


@pytest.mark.parametrize("shard", [None, Shard(1, 2)])
def test_a_dry_run_knows_what_was_set_aside(tmp_path, shard):
    run = tmp_path / "run"
    with LoopbackServer(lettered) as server:
        first = go(run, server, tries=1, shard=shard)
        bad = len(first.checked.set_aside)
        storyteller = StorytellerRespondent("teller", TWELVE, personas=TWO, base_url=server.base_url)
        given = (run, storyteller, OpenAIRespondent("m", base_url=server.base_url), TWO, TWELVE)
        before = server.total
        stories, answers = estimate_scenarios(*given, RunOptions(shard=shard))
        assert (stories.calls, stories.reused, answers.calls, answers.reused) == (
            0,
            first.told + bad,
            0,
            2 * first.told,
        )
        stories, answers = estimate_scenarios(*given, RunOptions(shard=shard), retry_set_aside=True)
        assert (stories.calls, answers.calls) == (bad, 2 * bad)
        assert server.total == before
        server.answer = tell
        go(run, server, tries=1, shard=shard, retry_set_aside=True)
        assert server.total == before + 3 * bad


class At(NamedTuple):
    """Stands in for a server in the process to be killed."""

    base_url: str


def go_at(run: Path, base_url: str) -> None:
    go(run, At(base_url))


@pytest.mark.parametrize("after", [5, 18])
def test_a_kill_in_either_stage_loses_nothing(tmp_path, after):
    """12 stories and 24 answers; killed after so many calls and run again, at most the 4 in flight are bought twice."""
    run = tmp_path / "run"
    child: list[BaseProcess] = []

    def answer(call: Call) -> Served:
        if server.total == after and child:
            kill(child.pop())
        return tell(call)

    with LoopbackServer(answer) as server:
        process = forkserver().Process(target=go_at, args=(run, server.base_url))
        process.start()
        child.append(process)
        process.join(timeout=60)
        assert process.exitcode == -signal.SIGKILL
        go(run, server)
        assert len(server.calls) == 36
        assert server.total <= 36 + 4
    assert load_run(run / "scenarios")["status"].to_pylist() == ["ok"] * 24
    whole = tmp_path / "whole"
    with LoopbackServer(tell) as server:
        go(whole, server)
    assert pq.read_table(whole / "scenarios" / "scenarios.parquet").equals(
        pq.read_table(run / "scenarios" / "scenarios.parquet")
    )
    assert load_run(run / "scenarios").equals(load_run(whole / "scenarios"))


def test_stories_and_answers_by_batches(tmp_path):
    """Bad stories go into further batches; three rounds in all, then they are set aside."""
    with BatchServer(lettered) as server:
        summary = go(tmp_path / "run", server, batch=BatchLimits(poll_s=0.02))
        batches = server.ours()
        # One story, with its tries, and one answer go ahead, to see whether the server takes them.
        aside = (tmp_path / "run" / "scenarios" / "set_aside.jsonl").read_text("utf-8")
        assert server.total == 1 + (3 if TWELVE["question_id"][0].as_py() in aside else 1)
    bad = len(summary.checked.set_aside)
    assert bad > 0
    assert (summary.told, summary.checked.counts()) == (12 - bad, {"letter": bad})
    assert summary.answers.counts["ok"] == 2 * (12 - bad)
    assert len(batches) == 4  # three of stories, one of answers
    assert server.inputs(batches[0])[0]["body"]["response_format"]["json_schema"]["schema"] == STORY_SCHEMA
