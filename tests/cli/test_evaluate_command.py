import argparse
import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from loopback_openai import LoopbackServer, Served, chosen, letter_by_hash
from tiny_models import save_tiny_adapter

from fairpp_hf.cli import evaluate as evaluate_command
from fairpp_hf.cli import main
from fairpp_hf.cli.scoring import short_names
from fairpp_hf.evaluation.baselines import BASELINES
from fairpp_hf.generation import RunInterrupted, RunOptions, generate
from fairpp_hf.personas import load_personas
from fairpp_hf.questions import load_questions
from fairpp_hf.questions.heldout import heldout_labels


@pytest.fixture
def adapter(tmp_path):
    return save_tiny_adapter(tmp_path / "adapter")


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """A tenth of the resamples, and a label model that is the uniform: none of either is looked at closely here."""
    from fairpp_hf.evaluation import baselines, evaluate

    def uniform(questions, *_):
        return SimpleNamespace(probabilities=np.full((len(questions), 3), 1 / 3), is_better=True)

    monkeypatch.setattr(baselines, "fit_label_model", uniform)
    monkeypatch.setattr(evaluate, "metric_intervals", partial(evaluate.metric_intervals, resamples=100))


@pytest.fixture(autouse=True)
def _no_key(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def test_scores_models_and_baselines_against_all_personas(tiny_model_path, adapter, tmp_path, capsys):
    out = tmp_path / "results"
    arguments = ["evaluate", "--model", str(tiny_model_path), "--adapter", str(adapter), "--target", "loyal_nationals"]
    arguments += ["--out", str(out), "--limit", "40"]
    assert main(arguments) == 0
    first = (out / "results.json").read_text()
    results = json.loads(first)
    assert (results["questions"], results["kind"], results["orders"]) == (40, "questions", 2)
    assert results["reference"] == "survey:britains_choice_2020 (simulated)"
    assert set(results["systems"]) == {"plain", "role-play", "adapter", *BASELINES}
    assert results["names"]["loyal_nationals"] == "Loyal Nationals"
    plain = results["systems"]["plain"]
    assert len([name for name in plain["probabilities"] if name.startswith("agreement/")]) == 7 + 1
    low, high = plain["intervals_95"]["agreement/target"]
    assert low < plain["probabilities"]["agreement/target"] < high
    assert plain["statuses"] == {"ok": 80}
    assert len(plain["facts"]["template_hash"]) == 64
    compared = {(found["first"], found["second"]) for found in results["comparisons"]}
    assert compared == {
        *((name, "plain") for name in ("role-play", "adapter", *BASELINES)),
        ("adapter", "role-play"),
    }
    assert plain["facts"]["model"] == str(tiny_model_path)
    assert results["systems"]["adapter"]["facts"]["adapter"] == str(adapter)
    table = (out / "results.md").read_text()
    assert "survey:britains_choice_2020 (simulated)" in table
    assert (out / "results.png").stat().st_size > 10_000
    rows = pq.read_table(out / "scores.parquet")
    assert len(rows) == 3 * 40 * 2 + 4 * 40
    models = {row["system"]: str(row["logprobs"]) for row in rows.to_pylist() if row["logprobs"] is not None}
    assert len(set(models.values())) == len(models) == 3
    assert len(pq.read_table(out / "questions.parquet")) == 40
    printed = capsys.readouterr()
    shown = [line for line in printed.out.partition("Files:")[0].splitlines() if line.startswith(" ")]
    assert max(map(len, shown)) <= 80
    assert all(any(line.strip().startswith(name.split()[0]) for line in shown) for name in results["systems"])
    assert str(out / "results.json") in printed.out
    assert printed.out.endswith(
        f"  {out}/models.yaml\nNext:\n  fairpp position --models {out}/models.yaml --out {out} --target loyal_nationals "
        f"--limit 40\n"
        f"  fairpp report {out}\n"
    )

    # Once more, from the file that was written: nothing is asked, and everything comes out the same.
    written = (out / "models.yaml").read_text()
    again = ["evaluate", "--models", str(out / "models.yaml"), *arguments[arguments.index("--target") :], "--explain"]
    assert main(again) == 0
    assert table.splitlines()[-1] in capsys.readouterr().out
    assert (out / "results.json").read_text() == first
    assert (out / "models.yaml").read_text() == written
    assert "/80 [00:" not in capsys.readouterr().err.replace("80/80", "")


def test_adapters_have_names_that_tell_them_apart(tmp_path, monkeypatch):
    """Checkpoints of one number, and a folder that is called as the plain model is."""
    names = names_of(["--model", "m", "--adapter", "a/checkpoint-10", "b/checkpoint-10", "b/plain", "b/last"])
    assert names == ["plain", "role-play", "a/checkpoint-10", "b/checkpoint-10", "b/plain", "last"]
    assert names_of(["--model", "x/m", "y/m", "z/n", "--no-role-play"]) == ["x/m", "y/m", "n"]
    monkeypatch.chdir(tmp_path)
    assert names_of(["--model", ".", "org/n", "--no-role-play"]) == [tmp_path.name, "n"]
    assert short_names(["m", "org/m", "uniform"], ["uniform"]) == ["m", "org/m", "uniform"]


def names_of(words):
    parser = argparse.ArgumentParser()
    evaluate_command.add_arguments(parser)
    return [spec.name for spec in evaluate_command._models(parser.parse_args([*words, "--target", "t", "--out", "o"]))]


def test_the_next_commands_are_about_the_same_questions_and_can_be_pasted(tmp_path):
    parser = argparse.ArgumentParser()
    evaluate_command.add_arguments(parser)
    words = ["--model", "m", "--target", "t", "--out", "my results", "--answers", "a run", "--split", "train"]
    words += ["--heldout", "groups", "--personas", "p", "--rule", "letter", "--one-order"]
    assert evaluate_command._next(parser.parse_args(words), Path("my results/models.yaml")) == (
        "Next:\n  fairpp position --models 'my results/models.yaml' --out 'my results' --target t --answers 'a run' "
        "--personas p --split train --heldout groups --rule letter --one-order\n  fairpp report 'my results'"
    )
    told = parser.parse_args([*words[:6], "--scenarios"])
    assert evaluate_command._next(told, Path("x")) == "Next:\n  fairpp report 'my results'"


def test_a_model_on_a_server_is_asked_in_text(tmp_path, capsys):
    """Refusals are counted and asked no more; the same command again asks nothing."""
    out = tmp_path / "out"

    def reluctant(call):
        return Served(content=None, refusal="No.") if "criterion" in call.user and call.system else letter_by_hash(call)

    with LoopbackServer(reluctant) as server:
        arguments = ["evaluate", "--model", "m", "--base-url", server.base_url, "--target", "loyal_nationals"]
        arguments += ["--out", str(out), "--limit", "12", "--price", "1", "1", "--max-cost", "1", "--concurrency", "4"]
        assert main(arguments) == 0
        assert server.total == 2 * 2 * 12
        assert main(arguments) == 0
        assert server.total == 2 * 2 * 12
    results = json.loads((out / "results.json").read_text())
    role_play = results["systems"]["role-play"]
    assert set(role_play["statuses"]) == {"ok", "refusal"}
    assert sum(role_play["statuses"].values()) == 24
    assert role_play["probabilities"]["unanswered"] == role_play["statuses"]["refusal"] / 24
    assert results["systems"]["plain"]["statuses"] == {"ok": 24}
    assert results["systems"]["plain"]["facts"]["template_hash"] is None
    assert list(results["systems"]["plain"]["facts"]["ways"].values()) == [{"ask": "text", "top_logprobs": 0}]
    assert f"role-play: {role_play['statuses']['refusal']} refusal of 24 replies\n" in capsys.readouterr().out


@pytest.mark.parametrize("ways", [[], ["--ask", "text"], ["--no-logprobs"]])
def test_probabilities_under_a_constrained_choice_are_called_that_wherever_they_are_shown(tmp_path, ways):
    """Only where there are such: neither in free text, nor where a reply has no log-probabilities."""
    inside = [[(token, -0.1)] for token in ('{"', "answer", '":', ' "')]
    letters = [(" B", -0.3), (" A", -1.7), (" C", -2.6)]

    def answer(call):
        if "response_format" not in call.body:
            return Served("B", first_token=letters)
        return chosen("B", tokens=[*inside, [(token.strip(), number) for token, number in letters], [('"}', -0.1)]])

    with LoopbackServer(answer) as server:
        arguments = ["evaluate", "--model", "m", "--base-url", server.base_url, "--target", "loyal_nationals"]
        assert main([*arguments, "--out", str(tmp_path), "--limit", "3", *ways]) == 0
    assert main(["report", str(tmp_path)]) == 0
    facts = json.loads((tmp_path / "results.json").read_text())["systems"]["plain"]["facts"]
    assert facts["constrained"] == (0 if ways else 6)
    words = "are probabilities under a constrained choice"
    for file in ("results.md", "report.html"):
        assert (words in " ".join((tmp_path / file).read_text("utf-8").split())) == (not ways)


def test_stopped_it_says_how_to_go_on_and_writes_no_results(tiny_model_path, tmp_path, monkeypatch, capsys):
    from fairpp_hf.evaluation import model_scores

    def stopped(*arguments):
        summary = generate(*arguments)
        raise RunInterrupted(summary._replace(remaining=7), 15)

    monkeypatch.setattr(model_scores, "generate", stopped)
    arguments = ["evaluate", "--model", str(tiny_model_path), "--target", "loyal_nationals", "--out", str(tmp_path)]
    assert main([*arguments, "--limit", "4"]) == 128 + 15
    (run,) = (tmp_path / "scores").iterdir()
    assert capsys.readouterr().err.endswith(
        f"fairpp evaluate: stopped with 7 requests left; the replies are kept in {run}, and the same command or call "
        "continues\n"
    )
    assert not (tmp_path / "results.json").exists()


def test_scenarios_are_asked_as_they_were_told(tiny_model_path, tmp_path, capsys):
    """A dataset folder's config `scenarios`: other prompts under the same ids."""
    from small_runs import KnownRespondent

    questions = load_questions("test").slice(0, 4)
    told = questions
    for letter in "abc":
        told = told.set_column(
            told.column_names.index(f"option_{letter}"),
            f"option_{letter}",
            pa.array([f"Scene {letter} of {number}." for number in range(4)]),
        )
    prompts = [
        f"{row['question']}\nA. {row['option_a']}\nB. {row['option_b']}\nC. {row['option_c']}\nReply."
        for row in told.to_pylist()
    ]
    told = told.set_column(told.column_names.index("prompt"), "prompt", pa.array(prompts))
    run = tmp_path / "run"
    scenarios = run / "scenarios"
    generate(scenarios, KnownRespondent(), load_personas(), told, RunOptions(progress=False, part_of_scenarios=True))
    pq.write_table(told, scenarios / "scenarios.parquet")
    out = tmp_path / "out"
    arguments = ["evaluate", "--model", str(tiny_model_path), "--target", "loyal_nationals", "--out", str(out)]
    assert main([*arguments, "--answers", str(run), "--scenarios"]) == 0
    results = json.loads((out / "results.json").read_text())
    assert (results["kind"], results["questions"], results["reference"]) == ("scenarios", 4, "known (simulated)")
    assert pq.read_table(out / "questions.parquet")["option_a"].to_pylist()[0].startswith("Scene a of ")
    capsys.readouterr()
    assert main([*arguments, "--scenarios"]) == 1
    assert capsys.readouterr().err == (
        "fairpp evaluate: --answers must have scenarios for --scenarios; got 'survey' without any. Pass a run on which "
        "`fairpp scenarios` was run, or --answers published.\n"
    )


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--model", "a/m", "a/m"], "The name of a model must be unique; got 'a/m' twice."),
        (["--model", "a", "uniform"], "must not be that of a baseline; got 'uniform'."),
        (["--models", "f.yaml", "--no-role-play"], "--no-role-play must come with --model; got --models f.yaml."),
        (
            ["--model", "m", "--base-url", "http://h/v1", "--rule", "letter"],
            "--rule must come with a model that is loaded",
        ),
        (["--model", "a", "b", "--adapter", "p"], "--adapter must come with one --model; got 2."),
        (
            ["--models", "f.yaml", "--base-url", "http://h/v1"],
            "--base-url must come with --model; got --models f.yaml.",
        ),
        (
            ["--model", "m", "--adapter", "p", "--base-url", "http://h/v1"],
            "--adapter must come with a model that is loaded",
        ),
        (["--model", "m", "--max-cost", "1"], "--max-cost must come with a model on a server; got none."),
        (["--model", "m", "--limit", "0"], "--limit must be at least 1; got 0."),
        (["--model", "m", "--scenarios", "--split", "train"], "--scenarios must come with --split test; got train."),
        (
            ["--model", "m", "--target", "civic_pragmatist"],
            "got 'civic_pragmatist'. Did you mean 'civic_pragmatists'?\n",
        ),
        (["--model", "m", "--adapter", "no/such/adaptor"], "name of a PEFT adapter; got 'no/such/adaptor' at "),
    ],
)
def test_arguments_that_do_not_fit_together(words, named, tmp_path, capsys):
    """Before a model is loaded: that there is no `m` is not what is said."""
    assert main(["evaluate", "--target", "loyal_nationals", "--out", str(tmp_path / "x"), *words]) == 1
    assert named in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("split", ["test", "train"])
def test_only_what_was_held_out_of_training_is_asked(split, tiny_model_path, tmp_path, capsys):
    """Test questions are those on the one dimension of five that was held out, training questions the others."""
    arguments = ["evaluate", "--model", str(tiny_model_path), "--target", "loyal_nationals", "--no-role-play"]
    arguments += ["--out", str(tmp_path / "results"), "--limit", "12", "--heldout", "dimensions", "--split", split]
    assert main(arguments) == 0
    (held_out,) = heldout_labels("dimensions")
    dimension = {row["question_id"]: row["dimension"] for row in load_questions().to_pylist()}
    asked = {
        dimension[question]
        for question in pq.read_table(tmp_path / "results" / "scores.parquet")["question_id"].to_pylist()
    }
    assert asked == {held_out} if split == "test" else asked <= set(range(1, 6)) - {held_out}
    division = f"{split} split with dimensions held out of training: {held_out}"
    assert f"12 questions ({division}); answers" in capsys.readouterr().out
    assert json.loads((tmp_path / "results" / "results.json").read_text())["division"] == division


def test_one_order_and_another_rule_are_scored_as_asked(tiny_model_path, tmp_path):
    arguments = ["evaluate", "--model", str(tiny_model_path), "--target", "loyal_nationals", "--no-role-play"]
    assert main([*arguments, "--out", str(tmp_path), "--limit", "6", "--one-order", "--rule", "letter"]) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["orders"] == 1
    plain = results["systems"]["plain"]
    assert (plain["position_bias"], plain["statuses"], plain["length_gap"]) == (None, {"ok": 6}, None)
    assert plain["facts"]["settings"]["rule"] == "letter"


def test_role_play_takes_the_portrait_of_the_set_that_answered(tiny_model_path, tmp_path, monkeypatch):
    """Two sets have a persona of one name; the run's own set has the portrait, not the default one."""
    target, run = "progressive_activists", tmp_path / "run"
    generate = ["generate", "--run", str(run), "--respondent", "survey", "--split", "test", "--limit", "4"]
    assert main([*generate, "--personas", "hidden_tribes_2018"]) == 0
    portraits = []

    def stop(arguments, models, questions, personas):
        portraits.append(personas.get(target).portrait)
        raise ValueError("stopped here")

    monkeypatch.setattr(evaluate_command, "score", stop)
    arguments = ["evaluate", "--model", str(tiny_model_path), "--target", target, "--out", str(tmp_path / "out")]
    for personas in ([], ["--personas", "hidden_tribes_2018"], ["--personas", "britains_choice_2020"]):
        assert main([*arguments, "--answers", str(run), *personas]) == 1
    # The British set has personas that did not answer, and is refused.
    assert portraits == [load_personas("hidden_tribes_2018").get(target).portrait] * 2
