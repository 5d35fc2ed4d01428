"""The study of benchmarks/study: its worlds, its budgets, its statistics, and one small run from start to page."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from small_runs import make_run, some_questions

from fairpp_hf.dataset.sources import load_answers
from fairpp_hf.generation import generate
from fairpp_hf.personas import load_personas
from fairpp_hf.respondents import SurveyRespondent
from fairpp_hf.training.losses import LossSettings, PairLogps, pair_losses

STUDY = Path(__file__).parents[2] / "benchmarks" / "study"
sys.path[:0] = [str(STUDY), str(STUDY.parent)]

import analysis  # noqa: E402
import page  # noqa: E402
import run  # noqa: E402
import tables  # noqa: E402
import theory  # noqa: E402
from cells import read_settings  # noqa: E402
from measures import ceiling  # noqa: E402
from methods import METHODS, expected_tiers, training_pairs  # noqa: E402
from ordinary_questions import general_questions, taxonomy_questions  # noqa: E402
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


def test_difference_moves_personas_apart_and_sharpness_makes_answers_surer():
    def distance(world):
        return np.mean(
            [abs(world.truth[TARGET] - other).mean() for name, other in world.truth.items() if name != TARGET]
        )

    alike, apart = (draw_world(WorldSettings(difference=factor), 0) for factor in (0.0, 1.5))
    assert distance(alike) < distance(draw_world(WorldSettings(), 0)) < distance(apart)
    # Without differences of stance, what is left between marginals is each persona's own abstention.
    shares = [truth[:, 1].sum() / truth[:, :2].sum() for truth in alike.truth.values()]
    assert np.ptp(shares) < 0.02
    sharp, plain = draw_world(WorldSettings(sharpness=2), 0), draw_world(WorldSettings(), 0)
    assert sharp.truth[TARGET].max(axis=1).mean() > plain.truth[TARGET].max(axis=1).mean() + 0.05
    assert np.array_equal(sharp.truth[TARGET].argmax(axis=1), plain.truth[TARGET].argmax(axis=1))


def test_answers_that_are_there_make_a_world(tmp_path):
    folder = tmp_path / "run"
    personas = load_personas()
    generate(folder, SurveyRespondent(personas), personas, some_questions(), progress=False)
    world = draw_world(WorldSettings(flips=0.3), 0, str(folder))
    answers = load_answers(folder)
    assert world.questions["question_id"].to_pylist() == answers.questions["question_id"].to_pylist()
    for persona, column in answers.matrix().items():
        assert np.array_equal(world.answers[persona], column)
        assert np.array_equal(world.truth[persona].argmax(axis=1), column)
        assert 0.05 < (world.training_answers[persona] != column).mean() < 0.6
    with pytest.raises(ValueError, match="sharpness must be 1"):
        draw_world(WorldSettings(sharpness=2), 0, str(folder))
    # A question that somebody did not answer is left out: of these respondents' questions, all.
    assert not len(draw_world(WorldSettings(), 0, str(make_run(tmp_path / "gaps"))).questions)


def test_expected_tiers_are_the_mean_of_tiers_of_drawn_answers():
    truth = {name: np.random.default_rng(seed).dirichlet(np.ones(3), 1) for seed, name in enumerate("abcd")}
    rng = np.random.default_rng(9)
    drawn = {name: rng.choice(3, 40_000, p=probabilities[0]) for name, probabilities in truth.items()}
    tiers = 1 + sum(drawn["a"] != drawn[name] for name in "bcd")
    assert abs(expected_tiers(truth, "a")[0] - tiers.mean()) < 4 * tiers.std() / 200


def test_all_methods_train_on_the_same_questions_that_are_never_asked(settings):
    world = draw_world(WorldSettings(), 0)
    questions = Questions(settings, world.questions, 0)
    asked = set(questions.test) | set(questions.topic)
    assert not asked & set(questions.train)
    assert not asked & set(np.flatnonzero(questions.is_train))
    of_topic = world.questions["topic"].to_numpy(zero_copy_only=False)
    assert not set(of_topic[questions.topic]) & set(of_topic[questions.train])
    ids = set(world.questions["question_id"].take(questions.train).to_pylist())
    for name in ("sft", "tier_dpo", "soft_dpo", "expected_tier_dpo", "surprisal_dpo", "written_order_dpo"):
        pairs = training_pairs(world, METHODS[name], TARGET, questions.is_train, questions.train, 0)
        assert len(pairs) == 2 * len(questions.train)
        assert set(pairs["question_id"]) == ids


def test_weights_that_only_the_study_has(settings):
    """Against the tier weights of the package, question by question."""
    world = draw_world(WorldSettings(), 0)
    questions = Questions(settings, world.questions, 0)
    every = np.flatnonzero(questions.is_train)
    weights = {
        name: np.array(training_pairs(world, METHODS[name], TARGET, questions.is_train, every, 0)["weight"][::2])
        for name in ("tier_dpo", "twin_tier_dpo", "shuffled_tier_dpo")
    }
    table = world.questions.take(every).to_pandas()
    forms = table.assign(**weights).pivot(index=["problem", "group", "dimension"], columns="form").dropna()
    assert np.array_equal(forms["twin_tier_dpo"]["criterion"], forms["tier_dpo"]["explanation"])
    assert not np.array_equal(forms["twin_tier_dpo"]["criterion"], forms["tier_dpo"]["criterion"])
    assert np.allclose(np.sort(weights["shuffled_tier_dpo"]), np.sort(weights["tier_dpo"]))
    assert abs(np.corrcoef(weights["shuffled_tier_dpo"], weights["tier_dpo"])[0, 1]) < 0.05


def test_who_knows_the_truth_is_at_no_distance_and_agrees_as_often_as_can_be(settings):
    world = draw_world(WorldSettings(), 0)
    rows = Questions(settings, world.questions, 0).test
    best = ceiling(world, rows, TARGET)
    assert best["question_distance"] == pytest.approx(0, abs=1e-6)
    assert best["marginal_distance"] == pytest.approx(0, abs=1e-6)
    assert best["agreement"] == pytest.approx(world.truth[TARGET][rows].max(axis=1).mean())
    assert best["on_an_option"] == pytest.approx(1)


def test_right_answers_are_spread_over_the_options():
    for questions in (taxonomy_questions(), general_questions()):
        counts = np.bincount([question.answer for question in questions], minlength=3)
        assert np.ptp(counts) <= 1
        assert all(len(set(question.options)) == 3 for question in questions)


def test_parts_of_the_study_share_what_is_alike(settings):
    cells = settings.cells()
    alike = {}
    for cell in cells:
        alike.setdefault(settings.digest(cell), []).append(cell)
    of_alpha_one = next(cell for cell in cells if cell.part == "alpha" and cell.value == "1")
    assert {cell.part for cell in alike[settings.digest(of_alpha_one)]} >= {"grid", "alpha", "variants"}
    flipped = next(cell for cell in cells if cell.part == "flips" and cell.value == "0.3")
    assert {cell.part for cell in alike[settings.digest(flipped)]} == {"flips"}
    longer = replace(settings, budget=settings.budget._replace(epochs=3))
    assert longer.digest(flipped) != settings.digest(flipped)


def test_a_wrong_name_in_a_configuration_is_said(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("name: x\nmodel: small\nseeds: [0]\nbudgt: {}\ngrid:\n  targets: all\n  methods: [dpo]\n")
    with pytest.raises(ValueError, match=r"budgt.*Did you mean 'budget'"):
        read_settings(path)
    path.write_text("name: x\nmodel: small\nseeds: [0]\ngrid:\n  targets: all\n  methods: [tier_dp]\n")
    with pytest.raises(ValueError, match=r"method in study.yaml must be one of .*Did you mean 'tier_dpo'"):
        read_settings(path)


def test_intervals_are_students_over_seeds():
    found = analysis.estimate([0.1, 0.3, 0.2])
    low, high = stats.t.interval(0.95, 2, loc=0.2, scale=stats.sem([0.1, 0.3, 0.2]))
    assert (found.mean, found.low, found.high) == pytest.approx((0.2, low, high))
    assert str(analysis.estimate([0.5])) == "0.500 (one seed)"


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


def test_an_unfinished_seed_is_left_out():
    rows = rows_of(np.zeros((3, 2, 2)))
    broken = rows.drop(index=rows[rows["seed"] == 1].index[0])
    assert sorted(analysis.whole_seeds(broken, 4)["seed"].unique()) == [0, 2]
    assert analysis.whole_seeds(broken[broken["seed"] == 1], 4).empty


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


def curves_of(method, curves):
    """A row a target."""
    shares = (0.25, 0.5, 0.75, 1.0)
    return [
        {
            "seed": 0,
            "target": target,
            "method": method,
            "computed_tokens": 1000,
            "curve": [
                {"share": share, "agreement": value, "question_distance": 1 - value}
                for share, value in zip(shares, values, strict=True)
            ],
        }
        for target, values in zip("pq", curves, strict=True)
    ]


@pytest.mark.parametrize("measure", ["agreement", "question_distance"])
def test_tokens_are_counted_until_the_mean_over_targets_is_there(measure):
    rows = curves_of("dpo", [(0.1, 0.2, 0.3, 0.6), (0.1, 0.2, 0.3, 0.4)])  # ends at 0.5
    rows += curves_of("tier_dpo", [(0.7, 0.4, 0.7, 0.6), (0.7, 0.4, 0.3, 0.5)])  # is there, leaves, and comes back
    rows += curves_of("sft", [(0.2, 0.4, 0.4, 0.4), (0.2, 0.4, 0.4, 0.4)])
    rows = pd.DataFrame(rows)
    found = {name: analysis.tokens_to_end_of(rows, name, "dpo", measure) for name in ("dpo", "tier_dpo", "sft")}
    assert found == {"dpo": [1000.0], "tier_dpo": [750.0], "sft": [None]}


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_the_aim_of_dpo_is_where_its_loss_is_least(beta, soft):
    """The expected loss of the package over the draws of one question's answer, minimised by gradient descent."""
    rng = np.random.default_rng(0)
    truth, reference = rng.dirichlet(np.full(3, 3.0)), rng.dirichlet(np.full(3, 3.0))
    weight = np.array([1.0, 2.0, 0.5])
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    ref = torch.tensor(np.log(reference))
    optimizer = torch.optim.LBFGS([logits], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-14)

    def loss():
        optimizer.zero_grad()
        policy = torch.log_softmax(logits, dim=0)
        total = torch.zeros((), dtype=torch.float64)
        for own in range(3):
            for other in {0, 1, 2} - {own}:
                one = torch.ones(1, dtype=torch.float64)
                pair = PairLogps(policy[[own]], policy[[other]], ref[[own]], ref[[other]], one, one)
                losses = pair_losses(pair, ["sigmoid"], [1.0], LossSettings(beta=beta))
                if soft:
                    label = truth[own] / (truth[own] + truth[other])
                    swapped = pair_losses(pair.swapped(), ["sigmoid"], [1.0], LossSettings(beta=beta))
                    losses = label * losses + (1 - label) * swapped
                total = total + truth[own] * weight[own] * losses.sum()
        total.backward()
        return total

    optimizer.step(loss)
    aimed = reference * (truth if soft else truth * weight) ** (1 / beta)
    assert torch.softmax(logits, 0).detach().numpy() == pytest.approx(aimed / aimed.sum(), abs=1e-5)


def test_aims_follow_the_answers_and_the_weights(settings):
    world = draw_world(WorldSettings(), 0)
    questions = Questions(settings, world.questions, 0)

    def aimed(name, world=world):
        return theory.aim(METHODS[name], world, TARGET, questions.is_train, questions.test, 0)

    best = theory.best_from_labels(world, TARGET, questions.is_train, questions.test)
    assert best.question_distance < aimed("sft").question_distance < 1.1 * best.question_distance
    assert aimed("tier_sft").marginal_distance > 2 * aimed("sft").marginal_distance
    assert aimed("paper_dpo").question_distance > aimed("dpo").question_distance
    # Sampling and shuffled weights aim at what the loss, and no weights, do.
    assert aimed("tier_dpo_sampling") == aimed("tier_dpo")
    assert aimed("shuffled_tier_dpo").question_distance == pytest.approx(aimed("dpo").question_distance, abs=0.01)


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


def test_weights_are_compared_with_the_grids_dpo_where_a_part_has_none():
    grid = pd.DataFrame(
        [
            {"part": "grid", "value": "", "target": target, "method": method, "seed": seed, "test/agreement": seed / 10}
            for target in ("loyal_nationals", "backbone_conservatives")
            for method in ("plain", "dpo")
            for seed in (0, 1, 2)
        ]
    )
    varied = pd.DataFrame(
        [
            {"part": "alpha", "value": value, "target": "loyal_nationals", "method": "tier_dpo", "seed": seed}
            | {"test/agreement": seed / 10 + float(value) / 100}
            for value in ("0", "2")
            for seed in (0, 1)
        ]
    )
    both = analysis.with_baseline(varied, grid, "dpo")
    assert set(both["method"]) == {"dpo", "tier_dpo"}
    assert len(both) == 8
    at_two = both[both["value"] == "2"]
    assert analysis.difference(at_two, "tier_dpo", "dpo", "test/agreement").mean == pytest.approx(0.02)
    assert analysis.with_baseline(both, grid, "dpo") is both


@pytest.mark.slow
def test_a_small_study_runs_goes_on_and_writes_its_page(tmp_path, capsys):
    config = tmp_path / "small.yaml"
    config.write_text(
        """
name: small
model: small
base: {hidden_size: 16, layers: 1, heads: 2, steps: 2, text_steps: 1, batch_size: 2}
budget: {questions: 8, epochs: 1, batch_questions: 4}
measuring: {questions: 12, topic_questions: 6, ordinary: 5, curve_questions: 4, curve_points: 2}
seeds: [0, 1]
grid:
  targets: [loyal_nationals, progressive_activists]
  methods: [plain, role_play, sft, tier_sft, paper_dpo, paper_tier_dpo, paper_sft_dpo, paper_weighted_sft_dpo,
            dpo, tier_dpo, tier_dpo_sampling, surprisal_dpo, soft_dpo, group_dpo]
  curves: [dpo, tier_dpo, tier_dpo_sampling]
sensitivity:
  flips: {values: [0, 0.3], targets: [loyal_nationals], methods: [dpo, tier_dpo]}
"""
    )
    kept = tmp_path / "results" / "small.jsonl"
    settings = read_settings(config)
    started = {"kept": kept, "models": tmp_path / "models", "processes": 1}
    run.run(settings, **started, seeds=[0])
    first = kept.read_text()
    assert len(read_lines(kept)) == 2 * 14 + 2
    # Killed in the middle of a line: what is whole stays, the rest is run again.
    kept.write_text(first[: first.rindex('"result"')])
    run.run(settings, **started)
    lines = read_lines(kept)
    assert len(lines) == 2 * (2 * 14 + 2) == len({line["digest"] for line in lines})
    assert kept.read_text().startswith(first[: first.rindex('{"digest"')])
    # The same cell run twice gives the same numbers.
    again = {line["digest"]: line["result"] for line in map(json.loads, first.splitlines())}
    last = json.loads(first.splitlines()[-1])["digest"]
    rerun = next(line["result"] for line in lines if line["digest"] == last)
    assert rerun["test"] == again[last]["test"]
    run.run(settings, **started)
    assert "0 to run" in capsys.readouterr().out
    trained = [line for line in lines if line["how"]["stages"]]
    # Equal compute, up to whole steps; two steps of draws by weight may hold a question twice, which is computed once.
    tokens = [line["result"]["computed_tokens"] for line in trained if line["how"]["application"] == "loss"]
    assert max(tokens) < 1.6 * min(tokens)
    files = page.write_page(kept.parent, tmp_path / "README.md", config)
    assert all(file.stat().st_size for file in files)
    text = (tmp_path / "README.md").read_text()
    assert "Reweighted DPO beats DPO" in text
    assert "$" not in text
