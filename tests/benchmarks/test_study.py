"""The study of benchmarks/study: its worlds, its budgets, its statistics, and one small run from start to page."""

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from small_runs import make_run, some_questions
from tiny_models import tiny_model

from fairpp_hf.dataset.sources import load_answers
from fairpp_hf.generation import RunOptions, generate
from fairpp_hf.personas import load_personas
from fairpp_hf.respondents import SurveyRespondent

STUDY = Path(__file__).parents[2] / "benchmarks" / "study"
sys.path[:0] = [str(STUDY), str(STUDY.parent)]

import analysis  # noqa: E402
import gemma  # noqa: E402
import run  # noqa: E402
import tables  # noqa: E402
from cells import read_settings  # noqa: E402
from figures import draw_trade_off, draw_visits  # noqa: E402
from frozen_layers import frozen_states_kept  # noqa: E402
from measures import as_measured, measures  # noqa: E402
from methods import METHODS, Task, training_pairs  # noqa: E402
from results import append_line, read_lines  # noqa: E402
from run_cell import Questions  # noqa: E402
from worlds import WorldSettings, draw_world  # noqa: E402

TARGET = "loyal_nationals"


@pytest.fixture(scope="module")
def settings():
    return read_settings(STUDY / "small.yaml")


def test_answers_of_a_world_follow_its_probabilities():
    world = draw_world(WorldSettings(), 0)
    for persona, truth in world.truth.items():
        counts = np.bincount(world.answers[persona], minlength=3)
        # The expected counts and their standard errors: draws are independent.
        expected, error = truth.sum(axis=0), np.sqrt((truth * (1 - truth)).sum(axis=0))
        assert (abs(counts - expected) < 4.5 * error).all()
    assert draw_world(WorldSettings(), 0) is world
    assert not np.array_equal(world.answers[TARGET], draw_world(WorldSettings(), 1).answers[TARGET])


def test_flips_change_what_training_sees_and_not_the_truth():
    clean, noisy = draw_world(WorldSettings(), 0), draw_world(WorldSettings(flips=0.2), 0)
    for persona, truth in clean.truth.items():
        assert np.array_equal(truth, noisy.truth[persona])
        assert np.array_equal(clean.answers[persona], noisy.answers[persona])
        changed = noisy.training_answers[persona] != clean.training_answers[persona]
        assert abs(changed.mean() - 0.2) < 0.012
        step = (noisy.training_answers[persona] - clean.training_answers[persona])[changed] % 3
        assert abs((step == 1).mean() - 0.5) < 0.04


def test_answers_that_are_there_make_a_world(tmp_path):
    folder = tmp_path / "run"
    personas = load_personas()
    generate(folder, SurveyRespondent(personas), personas, some_questions(), RunOptions(progress=False))
    world = draw_world(WorldSettings(flips=0.3), 0, str(folder))
    answers = load_answers(folder)
    assert world.questions["question_id"].to_pylist() == answers.questions["question_id"].to_pylist()
    for persona, column in answers.matrix().items():
        assert np.array_equal(world.answers[persona], column)
        assert np.array_equal(world.truth[persona].argmax(axis=1), column)
        assert 0.05 < (world.training_answers[persona] != column).mean() < 0.6
    # A question that somebody did not answer is left out: of these respondents' questions, all.
    assert not len(draw_world(WorldSettings(), 0, str(make_run(tmp_path / "gaps"))).questions)


def task_of(settings, visits=32):
    world = draw_world(WorldSettings(), 0)
    questions = Questions(settings.measuring, visits, world.questions, 0)
    task = Task(world, WorldSettings(), TARGET, 0, questions.is_train, questions.train, settings.answers)
    return task, questions


def test_all_methods_train_on_the_same_questions_that_are_never_asked(settings):
    task, questions = task_of(settings)
    asked = {row for rows in questions.asked.values() for row in rows}
    assert not asked & set(questions.train)
    assert not asked & set(np.flatnonzero(questions.is_train))
    table = task.world.questions
    for side, label in (("topic", "topic"), ("group", "group")):
        labels = table[label].to_numpy(zero_copy_only=False)
        assert not set(labels[questions.asked[side]]) & set(labels[questions.is_train])
    ids = table["question_id"].take(questions.train).to_pylist()
    for name, pairs_each in (("sft", 2), ("tier_dpo", 2), ("soft_dpo", 3), ("aim_0.5", 3), ("distil", 3)):
        pairs = training_pairs(task, METHODS[name])
        assert len(pairs) == pairs_each * len(ids)
        assert set(pairs["question_id"]) == set(ids)
    both = training_pairs(task, METHODS["aim_0_both_orders"])
    assert len(both) == 3 * len(ids)
    assert both["question_id"][:6] == both["question_id"][:1] * 6


def test_labels_are_the_odds_of_the_aim_in_the_order_that_is_shown(settings):
    """Of both orders of a question, one after the other: the texts of a pair say which option is which."""
    task, _ = task_of(settings)
    aim = task.aim(METHODS["aim_0.5"])
    assert aim.sum(axis=1) == pytest.approx(1)
    for name in ("aim_0_both_orders", "aim_0.5"):
        aim = task.aim(METHODS[name])
        for row in training_pairs(task, METHODS[name]).select(range(24)):
            number = task.world.questions["question_id"].to_pylist().index(row["question_id"])
            texts = [task.world.questions[f"option_{letter}"][number].as_py() for letter in "abc"]
            chosen, rejected = (texts.index(row[side][0]["content"][3:]) for side in ("chosen", "rejected"))
            odds = aim[number, chosen] / (aim[number, chosen] + aim[number, rejected])
            assert row["label_probability"] == pytest.approx(odds)


def test_layers_below_an_adapter_are_computed_once_and_say_the_same():
    """Also of a row that comes back in a wider batch; afterwards the layers are as they were."""
    model = tiny_model().eval()
    model.config.pad_token_id = 0
    tokens = torch.randint(5, 50, (3, 7), generator=torch.Generator().manual_seed(0))
    tokens[1, 5:] = model.config.pad_token_id
    mask = (tokens != model.config.pad_token_id).long()
    plain = model(tokens, attention_mask=mask).logits
    calls = []
    model.model.layers[0].self_attn.register_forward_hook(lambda *_: calls.append(1))
    with frozen_states_kept(model, "tiny", 1):
        for _ in range(2):
            kept = model(tokens, attention_mask=mask).logits
            torch.testing.assert_close(kept[mask.bool()], plain[mask.bool()])
        wider = [torch.nn.functional.pad(part[1:2], (0, 3)) for part in (tokens, mask)]
        again = model(wider[0], attention_mask=wider[1]).logits
    torch.testing.assert_close(again[0, :5], plain[1, :5])
    assert len(calls) == 1
    assert "forward" not in vars(model.model.layers[0])


def rows_of(values):
    """Rows of two methods, two targets and three seeds from values (seed, target, method)."""
    return pd.DataFrame(
        {"part": "grid", "value": "", "seed": seed, "target": target, "method": method, "test/agreement": value}
        for seed, targets in enumerate(values)
        for target, methods in zip("pq", targets, strict=True)
        for method, value in zip(("dpo", "tier_dpo"), methods, strict=True)
    )


def test_methods_are_compared_seed_by_seed():
    values = np.random.default_rng(0).random((3, 2, 2))
    found = analysis.difference(rows_of(values), "tier_dpo", "dpo", "test/agreement")
    by_seed = (values[..., 1] - values[..., 0]).mean(axis=1)
    assert found == analysis.estimate(by_seed)


@pytest.mark.parametrize(
    ("low", "high", "measure", "words"),
    [
        (0.1, 0.2, "agreement", "**yes**"),
        (0.1, 0.2, "question_distance", "**no, the opposite**"),
        (-0.2, -0.1, "question_distance", "**yes**"),
        (-0.1, 0.1, "agreement", "not shown"),
    ],
)
def test_a_claim_holds_where_the_interval_says_so(low, high, measure, words):
    assert tables.verdict(analysis.Estimate((low + high) / 2, low, high, 3), measure) == words


def test_a_line_that_was_cut_short_is_run_again(tmp_path):
    kept = tmp_path / "results.jsonl"
    append_line(kept, {"digest": "a"})
    with kept.open("a") as file:
        file.write('{"digest": "b", "resu')
    assert read_lines(kept) == [{"digest": "a"}]
    append_line(kept, {"digest": "c"})
    assert [json.loads(line) for line in kept.read_text().splitlines()] == [{"digest": "a"}, {"digest": "c"}]
    kept.write_text('{"dig\n{"digest": "c"}\n')
    with pytest.raises(ValueError, match="at line 1"):
        read_lines(kept)


@pytest.mark.slow
def test_a_small_study_runs_goes_on_and_writes_its_page(tmp_path, capsys):
    config = tmp_path / "small.yaml"
    config.write_text(
        """
name: small
model: small
base: {hidden_size: 16, layers: 1, heads: 2, steps: 2, text_steps: 1, batch_size: 2}
budget: {visits: 8, batch_questions: 4}
measuring: {questions: 12, topic_questions: 6, group_questions: 6, ordinary: 5}
seeds: [0, 1]
grid:
  targets: [loyal_nationals, progressive_activists]
  methods: [constant, label_model, plain, role_play, sft, distil, dpo, tier_dpo, paper, soft_dpo, aim_0,
            list_0, list_0.25, list_0.5, list_1]
parts:
  visits: {values: [16], targets: [loyal_nationals, progressive_activists], methods: [dpo, list_0]}
  flips: {values: [0.3], targets: [loyal_nationals], methods: [dpo, label_model]}
"""
    )
    kept = tmp_path / "results" / "small.jsonl"
    settings = read_settings(config)
    started = {"kept": kept, "models": tmp_path / "models", "processes": 1}
    run.run(settings, **started, seeds=[0])
    first = kept.read_text()
    assert len(read_lines(kept)) == 2 * 15 + 2 * 2 + 2
    # Killed in the middle of a line: what is whole stays, the rest is run again.
    kept.write_text(first[: first.rindex('"result"')])
    run.run(settings, **started)
    lines = read_lines(kept)
    assert len(lines) == 2 * (2 * 15 + 2 * 2 + 2) == len({line["digest"] for line in lines})
    assert kept.read_text().startswith(first[: first.rindex('{"digest"')])
    # The same cell run twice gives the same numbers.
    again = {line["digest"]: line["result"] for line in map(json.loads, first.splitlines())}
    last = json.loads(first.splitlines()[-1])["digest"]
    rerun = next(line["result"] for line in lines if line["digest"] == last)
    assert rerun["test"] == again[last]["test"]
    run.run(settings, **started)
    assert "0 to run" in capsys.readouterr().out
    # Equal compute at equal visits.
    at_eight = [
        line["result"]["computed_tokens"]
        for line in lines
        if line["part"] == "grid" and line["method"] in ("dpo", "aim_0")
    ]
    assert max(at_eight) < 1.2 * min(at_eight)
    study = analysis.Study(settings, kept.parent)
    for table in (
        tables.levels(study),
        tables.main_comparison(study, "aim_0"),
        tables.visits(study),
        tables.flips(study),
    ):
        assert table.count("\n") > 2
    for picture in (draw_trade_off(study, tmp_path / "a.png"), draw_visits(study, tmp_path / "b.png")):
        assert picture.stat().st_size


def test_who_knows_the_truth_is_at_no_distance_and_agrees_as_often_as_can_be(settings):
    task, questions = task_of(settings)
    rows = questions.asked["test"]
    truth = task.world.truth[TARGET][rows]
    best = measures(as_measured(truth), task.world, rows, TARGET)
    assert best["question_distance"] == pytest.approx(0, abs=1e-6)
    assert best["marginal_distance"] == pytest.approx(0, abs=1e-6)
    assert best["agreement"] == pytest.approx(truth.max(axis=1).mean())
    assert best["on_an_option"] == pytest.approx(1)


def test_weights_of_the_second_family_are_checked_by_their_hash(tmp_path, monkeypatch):
    def part(name):
        number = name[-1]
        file = tmp_path / f"part{number}" / "data" / f"gemma-3-270m-q4_k_m.gguf.part0{int(number) - 1}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(number.encode())
        return SimpleNamespace(origin=str(file.parents[1] / "__init__.py"))

    monkeypatch.setattr(gemma.importlib.util, "find_spec", part)
    with pytest.raises(ValueError, match="must have the SHA-256"):
        gemma._joined(tmp_path)
    monkeypatch.setattr(gemma, "SHA256", hashlib.sha256(b"1234").hexdigest())
    assert gemma._joined(tmp_path).read_bytes() == b"1234"
    monkeypatch.setattr(gemma.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match="pip install"):
        gemma._joined(tmp_path)


def test_parts_of_the_study_share_what_is_alike(settings):
    cells = settings.cells()
    of_grid = {settings.digest(cell) for cell in cells if cell.part == "grid"}
    varied = [cell for cell in cells if cell.part in ("flips", "visits")]
    assert not of_grid & {settings.digest(cell) for cell in varied}
    same = {"visits": {"values": [settings.budget.visits], "targets": [TARGET], "methods": ["dpo"]}}
    again = replace(settings, parts=same).cells()
    assert {settings.digest(cell) for cell in again if cell.part == "visits"} <= of_grid
    assert [cell.seed for cell in cells] == sorted(cell.seed for cell in cells)


def test_a_wrong_name_in_a_configuration_is_said(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("name: x\nmodel: small\nseeds: [0]\nbudgt: {}\ngrid:\n  targets: all\n  methods: [dpo]\n")
    with pytest.raises(ValueError, match=r"budgt.*Did you mean 'budget'"):
        read_settings(path)
    path.write_text("name: x\nmodel: small\nseeds: [0]\ngrid:\n  targets: all\n  methods: [tier_dp]\n")
    with pytest.raises(ValueError, match=r"method in study.yaml must be one of .*Did you mean 'tier_dpo'"):
        read_settings(path)


def test_an_unfinished_seed_is_left_out():
    rows = rows_of(np.zeros((3, 2, 2)))
    broken = rows.drop(index=rows[rows["seed"] == 1].index[0])
    assert sorted(analysis.whole_seeds(broken, 4)["seed"].unique()) == [0, 2]
    assert analysis.whole_seeds(broken[broken["seed"] == 1], 4).empty
