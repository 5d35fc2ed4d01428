"""`fairpp train`, as a user starts it: one process and two, one stage and two, YAML and overrides, resume, weights."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from datasets import Dataset, load_dataset
from peft import PeftModel
from small_runs import make_run
from tiny_trainers import sequence_logp
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer

from fairpp_hf.cli.train import train_model as main
from fairpp_hf.questions import load_questions
from fairpp_hf.questions.heldout import heldout_labels
from fairpp_hf.training.arguments import PairArguments, StageArguments, config_file, parse_arguments
from fairpp_hf.training.pairs import GROUP_COLUMNS, draw_pairs, load_training_pairs, with_group_column
from fairpp_hf.training.run import sft_arguments

ROOT = Path(__file__).parents[2]
CONFIGS = sorted(path.stem for path in (ROOT / "trainer_configs").glob("*.yaml"))
BEST = {"eval_strategy": "epoch", "metric_for_best_model": "js_distance/target"}
TWO_STAGES = ("llama32_3b_paper", "smollm2_135m_sft_then_dpo")
LORA = {"use_peft": True, "lora_r": 2, "lora_target_modules": ["q_proj", "v_proj"], "lora_dropout": 0.0}


@pytest.fixture
def config(tiny_model_path, tmp_path):
    """A configuration file for the tiny model and, unless fields say otherwise, the paper's pairs and a reference."""

    def write(**fields):
        settings = {
            **({} if "dataset_name" in fields else {"labels": "answers"}),
            "reference": "model",
            "model_name_or_path": str(tiny_model_path),
            "target": "loyal_nationals",
            "max_train_pairs": 16,
            "max_eval_pairs": 6,
            "output_dir": str(tmp_path / "out"),
            "per_device_train_batch_size": 2,
            "per_device_eval_batch_size": 2,
            "max_steps": 4,
            "learning_rate": 1e-3,
            "logging_steps": 1,
            "eval_strategy": "no",
            "save_strategy": "no",
            "gradient_checkpointing": False,
            "disable_tqdm": True,
            "report_to": "none",
            **fields,
        }
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(settings))
        return str(path)

    return write


def _log(output_dir):
    return json.loads((Path(output_dir) / "trainer_state.json").read_text())["log_history"]


@pytest.mark.parametrize("name", CONFIGS)
def test_every_shipped_config_is_found_by_its_name(name, tmp_path):
    assert config_file(name) == config_file(f"{name}.yaml") == ROOT / "trainer_configs" / f"{name}.yaml"
    pairs, stages, training, model = parse_arguments(["--config", name, "--output_dir", str(tmp_path)])
    assert pairs.target
    found = (stages.stage, pairs.labels, pairs.settings().scheme, training.reference, training.beta)
    paper = ("sft_then_dpo", "answers", "tier", "model", 0.1)
    assert found == (paper if name in TWO_STAGES else ("dpo", "fitted", "uniform", "none", 1.0))
    assert sft_arguments(training, StageArguments("sft_then_dpo")).output_dir == str(tmp_path / "sft")
    # The pairs of a question, whose prompt is computed once, stay in one batch.
    assert training.per_device_train_batch_size % (3 if pairs.settings().soft else 2) == 0
    assert training.output_dir == str(tmp_path)
    assert model.model_name_or_path


def test_what_is_wrong_with_arguments_is_said_before_a_model_is_loaded(config, pairs, tmp_path):
    folder = _folder(tmp_path / "mine", pairs)
    for message, fields in (
        ("target must be one of ", {"target": "loyal_national"}),
        ("model_name_or_path must be given; got none. ", {"model_name_or_path": None}),
        ("use_peft must be true with load_in_4bit or load_in_8bit; got false. ", {"load_in_4bit": True}),
        ("soft_labels must be False with labels='answers'; got True. ", {"labels": "answers", "soft_labels": True}),
        (
            "soft_labels must be True with labels='respondent'; got False. ",
            {"labels": "respondent", "soft_labels": False},
        ),
        ("train_dataset must have a 'label_probability' column", {"dataset_name": folder, "soft_labels": True}),
        (
            "heldout must be one of 'topics', 'groups', 'dimensions'; got 'topic'. Did you mean 'topics'?",
            {"heldout": "topic"},
        ),
        (
            f"heldout, weighting, weight_alpha must be left out with dataset_name={folder!r}; its pairs are as they are. ",
            {"dataset_name": folder, "weighting": "uniform", "weight_alpha": 2.0, "heldout": "topics"},
        ),
        ("alignment_questions must be at least 0; got -1. ", {"alignment_questions": -1}),
        ("eval_strategy must be 'steps' or 'epoch' to score alignment; got 'no'. ", {"alignment_questions": 5}),
        ("alignment_questions must be above 0 with metric_for_best_model='js_distance/target'; got 0. ", BEST),
        ("greater_is_better must be False with metric_for_best_model=", {**BEST, "alignment_questions": 5}),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
            main(["--config", config(**{"model_name_or_path": "no such model", **fields})])
    with pytest.raises(ValueError, match=r"must be one of 'llama32_3b_paper', .* Did you mean 'smollm2_135m_lora'"):
        config_file("smollm_135m_lora")


@pytest.fixture(scope="module")
def run_path(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def soft_pairs():
    return load_dataset("fairpp", "pairs", target="loyal_nationals", labels="respondent", split="train[:30]")


@pytest.fixture(scope="module")
def pairs():
    return load_dataset("fairpp", "pairs", target="loyal_nationals", split="train[:20]")


def _folder(path, train, test=None):
    """A dataset folder with the config pairs-loyal_nationals."""
    path.mkdir(parents=True)
    files = [{"split": "train", "path": "train.parquet"}]
    train.to_parquet(path / "train.parquet")
    if test is not None:
        test.to_parquet(path / "test.parquet")
        files.append({"split": "test", "path": "test.parquet"})
    card = {"configs": [{"config_name": "pairs-loyal_nationals", "data_files": files}]}
    (path / "README.md").write_text(f"---\n{yaml.safe_dump(card)}---\n")
    return str(path)


def test_a_folder_is_read_as_it_is(pairs, tmp_path):
    """Not as it was before it was written anew, nor as another of the same name."""
    for folder, rows in (("here", 3), ("there", 4), ("here", 5)):
        path = tmp_path / folder / "mine"
        shutil.rmtree(path, ignore_errors=True)
        written = pairs.select(range(rows))
        arguments = PairArguments("loyal_nationals", dataset_name=_folder(path, written))
        assert load_training_pairs(arguments)["train"].to_list() == written.to_list()


def test_resumes_where_it_stopped(config, tmp_path):
    """4 steps at once and 2 + 2 steps give the same losses and the same weights."""
    whole = main(["--config", config(output_dir=str(tmp_path / "whole"), save_strategy="steps", save_steps=2)])
    for leftover in (tmp_path / "whole").glob("checkpoint-4"):
        leftover.rename(tmp_path / "set-aside")
    resumed = main(
        [
            *("--config", config(output_dir=str(tmp_path / "whole"), save_strategy="steps", save_steps=2)),
            *("--resume_from_checkpoint", "last"),
        ]
    )
    losses = [[entry["loss"] for entry in run.state.log_history if "loss" in entry] for run in (whole, resumed)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    for name, value in whole.model.state_dict().items():
        assert value.allclose(resumed.model.state_dict()[name], atol=1e-6), name


def test_a_training_that_diverges_ends_with_an_error_and_keeps_what_was_good(config, tmp_path):
    """The first step has a learning rate of 0, and the second one of 1e30."""
    out = tmp_path / "out"
    settings = {
        "warmup_steps": 1,
        "lr_scheduler_type": "constant_with_warmup",
        "save_strategy": "steps",
        "save_steps": 1,
    }
    settings |= {"optim": "sgd", "max_grad_norm": 0.0, "learning_rate": 1e30}
    with pytest.raises(FloatingPointError, match=rf"got .* (at|after) step [23]\..* is {out}/checkpoint-\d: resume"):
        main(["--config", config(**settings)])
    assert not (out / "all_results.json").exists()
    assert not (out / "model.safetensors").exists()
    assert (out / "checkpoint-1").is_dir()
    for checkpoint in out.glob("checkpoint-*"):
        for tensor in AutoModelForCausalLM.from_pretrained(checkpoint).state_dict().values():
            assert torch.isfinite(tensor).all()


# -- which pairs -------------------------------------------------------------------------------------------------------


def test_whole_questions_are_drawn(pairs):
    """At most 7 of 20 pairs of 10 questions: 3 questions, in an order that the seed decides."""
    drawn = draw_pairs(pairs, 7, seed=1)
    ids = drawn["question_id"]
    assert [ids.count(question) for question in dict.fromkeys(ids)] == [2, 2, 2]
    assert ids[0::2] == ids[1::2]  # those of a question stand together
    of_question = pairs.filter(lambda row: row["question_id"] == ids[0])
    assert drawn.select([0, 1]).to_list() == of_question.to_list()
    assert draw_pairs(pairs, 7, seed=1).to_list() == drawn.to_list()
    assert draw_pairs(pairs, 7, seed=2)["question_id"] != ids
    assert draw_pairs(pairs, 9, seed=1).select(range(6)).to_list() == drawn.to_list()
    for count in (None, 20, 21):
        assert draw_pairs(pairs, count, seed=1) is pairs
    without_ids = pairs.remove_columns("question_id")
    assert len(draw_pairs(without_ids, 7, seed=1)) == 7
    with pytest.raises(ValueError, match=r"must be at least that of one question; got 1 for 2\. Raise max_train_pairs"):
        draw_pairs(pairs, 1, seed=1)


@pytest.mark.parametrize("name", GROUP_COLUMNS)
def test_a_group_column_is_looked_up_among_the_questions(pairs, name):
    questions = {row["question_id"]: row[name] for row in load_questions().to_pylist()}
    shuffled = pairs.shuffle(seed=0)
    joined = with_group_column(shuffled, name)
    assert joined[name] == [questions[question] for question in shuffled["question_id"]]
    assert joined.remove_columns(name).to_list() == shuffled.to_list()


def test_a_group_column_of_ones_own_is_kept_and_one_that_cannot_be_had_refused(pairs):
    own = pairs.add_column("topic", ["mine"] * 20)
    assert with_group_column(own, "topic") is own
    with pytest.raises(
        ValueError, match=r"^group_column must be one of 'tier', 'question_id', .* Did you mean 'topic'\?$"
    ):
        with_group_column(pairs, "topics")
    with pytest.raises(ValueError, match=r"^group_column must be one of 'tier', 'persona'; got 'topic'\.$"):
        with_group_column(pairs.remove_columns("question_id"), "topic")
    other = Dataset.from_dict({"question_id": [pairs["question_id"][0], "mine", "yours"], "weight": [1.0, 1.0, 1.0]})
    with pytest.raises(ValueError, match=r"got 'mine' at row 1 \(2 such of 3 rows\)"):
        with_group_column(other, "topic")


@pytest.mark.parametrize("comparison", ["nearest", ["nearest"]])
def test_the_nearest_persona_can_be_the_one_to_move_away_from(comparison):
    """A file gives a text, a command line a list. One comparison persona makes tiers 1 and 2."""
    arguments = PairArguments(target="loyal_nationals", comparison=comparison)
    assert arguments.comparison == "nearest"
    assert set(load_training_pairs(arguments)["test"]["tier"]) == {1, 2}
    assert PairArguments(target="loyal_nationals", comparison="civic_pragmatists").comparison == ["civic_pragmatists"]


def test_surprisal_soft_labels_and_groups_reach_the_trainer(config):
    trainer = main(
        [
            *("--config", config(labels="respondent", weighting="surprisal", group_column="topic", max_steps=2)),
            *("--comparison", "nearest"),
        ]
    )
    columns = trainer.train_dataset.column_names
    assert {"label_probability", "topic"} <= set(columns)
    logged = trainer.state.log_history[0]
    assert any(re.fullmatch(r"groups/.*/weight", name) for name in logged)
    assert set(trainer.train_dataset["tier"]) <= {1, 2}


def test_a_dataset_of_ones_own_is_trained_on_with_the_soft_labels_that_it_has(
    config, pairs, soft_pairs, tmp_path, capsys
):
    for name, rows, settings in (
        ("hard", pairs, {}),
        ("soft", soft_pairs, {}),
        ("no", soft_pairs, {"soft_labels": False}),
    ):
        folder = _folder(tmp_path / name, rows)
        trainer = main(["--config", config(dataset_name=folder, max_train_pairs=None, max_steps=1, **settings)])
        assert trainer.soft_labels is (name == "soft")
        assert len(trainer.train_dataset) == len(rows)
        assert re.search(rf"labels, weighting +as in {folder}\n", capsys.readouterr().out)


def test_by_default_labels_are_fitted_and_there_is_no_reference(config, run_path, tmp_path, capsys):
    """From the file of a user who says no more than what to train on: three pairs a question, of equal weight, whose
    options come in either order; the same loss that soft labels give with no reference; and all of it on the card."""
    path = Path(config(answers=str(run_path), eval_strategy="epoch", per_device_train_batch_size=3, max_steps=2))
    fields = yaml.safe_load(path.read_text())
    del fields["labels"], fields["reference"]
    path.write_text(yaml.safe_dump(fields))
    trainer = main(["--config", str(path), "--divergence", "0.5"])
    assert (trainer.reference, trainer.ref_model, trainer.beta, trainer.soft_labels) == ("none", None, 1.0, True)
    drawn = trainer.train_dataset
    assert len(drawn) == 15  # of the 16 that were asked for, whole questions
    assert drawn["question_id"][0::3] == drawn["question_id"][1::3] == drawn["question_id"][2::3]
    assert set(drawn["weight"]) == {1.0}
    arguments = PairArguments("loyal_nationals", answers=str(run_path), divergence=0.5)
    built = load_training_pairs(arguments)["train"]
    of_pair = {(row["question_id"], number % 3): row["label_probability"] for number, row in enumerate(built)}
    assert drawn["label_probability"] == [
        of_pair[question, number % 3] for number, question in enumerate(drawn["question_id"])
    ]
    printed = capsys.readouterr().out
    assert re.search(r"training pairs +15\nlabels +fitted, divergence 0.5\nweighting +uniform\n", printed)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "reweighted direct preference optimisation without a reference model" in card
    assert "- Labels: `fitted`, option probabilities of a model of the questions' labels" in card
    assert "(divergence 0.5)\n" in card
    assert "| reference | none |" in card
    assert "| soft_labels | True |" in card


# -- two stages --------------------------------------------------------------------------------------------------------


def plain_logps(model, tokenizer, rows):
    """Log-probability of each row's chosen text, (n,)."""
    with torch.no_grad():
        return np.array([sequence_logp(model, tokenizer, row["prompt"], row["chosen"]).item() for row in rows])


@pytest.mark.parametrize(
    "settings", [{}, LORA, {**LORA, "precompute_ref_log_probs": True}], ids=["whole", "lora", "kept"]
)
def test_dpo_starts_from_the_sft_model_which_is_its_reference(config, pairs, tiny_model_path, tmp_path, settings):
    """All 4 pairs are one step, so that the first log is over all of them, by the model before any training with them."""
    out = tmp_path / "out"
    four = pairs.select([0, 1, 2, 3])
    trainer = main(
        [
            *("--config", config(dataset_name=_folder(tmp_path / "mine", four, test=four), stage="sft_then_dpo")),
            *("--per_device_train_batch_size", "4", "--per_device_eval_batch_size", "4", "--eval_strategy", "epoch"),
            *("--max_steps", "3", "--sft_learning_rate", "0.1"),
            *(f"--{name}={value}" for name, value in settings.items() if name != "lora_target_modules"),
            *(("--lora_target_modules", *LORA["lora_target_modules"]) if settings else ()),
        ]
    )
    base = AutoModelForCausalLM.from_pretrained(tiny_model_path, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(out)
    before = plain_logps(base, tokenizer, four)

    def saved(folder):
        if not settings:
            return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        fresh = AutoModelForCausalLM.from_pretrained(tiny_model_path, dtype=torch.float32)
        return PeftModel.from_pretrained(fresh, folder)

    after_sft = plain_logps(saved(out / "sft"), tokenizer, four)
    after_dpo = plain_logps(saved(out), tokenizer, four)
    assert after_sft.mean() > before.mean() + 1
    # At the start, policy = reference = SFT model, so there are no rewards.
    first = trainer.state.log_history[0]
    assert first["logps/chosen"] == pytest.approx(after_sft.mean(), rel=1e-5)
    assert (first["rewards/chosen"], first["rewards/margins"]) == pytest.approx((0.0, 0.0), abs=1e-4)
    # In the end, the policy has moved on and the reference has not; what was saved is one adapter over the base model.
    last = trainer.evaluate()
    assert last["eval_logps/chosen"] == pytest.approx(after_dpo.mean(), rel=1e-5)
    reference = last["eval_logps/chosen"] - last["eval_rewards/chosen"] / trainer.args.beta
    assert reference == pytest.approx(after_sft.mean(), rel=1e-4)
    assert abs(after_dpo.mean() - after_sft.mean()) > 0.1


def test_the_summary_and_the_cards_tell_of_both_stages(config, tiny_model_path, tmp_path, capsys):
    fields = {"stage": "sft_then_dpo", "eval_strategy": "epoch", "max_steps": 1, **LORA}
    main(["--config", config(weighting="surprisal", comparison="nearest", **fields)])
    number, time = r"\d+\.\d{4}", r"\d+ s"
    expected = (
        rf"target persona +loyal_nationals\ntraining pairs +16\nlabels +answers\nweighting +surprisal\n"
        rf"sft: texts +8\nsft: train loss +{number}\nsft: eval loss \(weighted\) +{number}\nsft: time +{time}\n"
        rf"dpo: train loss +{number}\ndpo: eval loss \(weighted\) +{number}\n"
        rf"dpo: eval reward accuracy +{number}\ndpo: the same, weighted +{number}\ndpo: time +{time}\n"
        rf"model +{tmp_path / 'out'}\nmetrics +{tmp_path / 'out' / 'all_results.json'}\n"
    )
    assert re.search(expected, capsys.readouterr().out)
    sft, dpo = (json.loads((tmp_path / folder / "all_results.json").read_text()) for folder in ("out/sft", "out"))
    assert (sft["train_texts"], dpo["train_pairs"]) == (8, 16)
    assert {"eval_loss", "eval_weights/mean"} <= set(sft)
    assert {"eval_loss", "eval_rewards/weighted_accuracies"} <= set(dpo)
    sft, dpo = ((tmp_path / folder / "README.md").read_text() for folder in ("out/sft", "out"))
    for card in (sft, dpo):
        assert "**Simulated answers.**" in card
        assert "Target persona: `loyal_nationals`" in card
        assert "Compared with: the persona whose answers are nearest to the target's" in card
        assert "Weighting scheme: `surprisal`." in card
        assert f"the local model `{tiny_model_path.name}`" in card
    before = "Before it came a stage of weighted supervised fine-tuning"
    assert before in dpo
    assert before not in sft
    assert "trained by weighted supervised fine-tuning" in sft


def test_sft_can_be_the_only_stage(config, tmp_path, capsys):
    trainer = main(["--config", config(stage="sft"), "--sft_num_train_epochs", "2"])
    assert type(trainer).__name__ == "ReweightedSFTTrainer"
    assert trainer.state.global_step == 8  # 2 epochs of 8 texts, 2 at a time, whatever max_steps says
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert not (tmp_path / "out" / "sft").exists()
    assert re.search(r"weighting +tier\ntexts +8\ntrain loss +\d", capsys.readouterr().out)


@pytest.mark.parametrize("settings", [{}, LORA], ids=["whole", "lora"])
def test_a_stopped_training_goes_on_in_its_stage(config, tmp_path, settings):
    """Stopped within sft, between the stages, and within dpo, it comes to the losses of one that was not."""
    out = tmp_path / "out"
    arguments = ["--config", config(stage="sft_then_dpo", save_strategy="steps", save_steps=2, **settings)]
    whole = main(arguments)

    def losses(folder):
        return [entry["loss"] for entry in _log(folder) if "loss" in entry]

    expected = {"sft": losses(out / "sft"), "dpo": losses(out)}
    sft_result = (out / "sft" / "all_results.json").read_text()

    def go_on():
        resumed = main([*arguments, "--resume_from_checkpoint", "last"])
        assert losses(out) == pytest.approx(expected["dpo"], rel=1e-5)
        for name, value in whole.model.state_dict().items():
            assert value.allclose(resumed.model.state_dict()[name], atol=1e-6), name

    (out / "checkpoint-4").rename(tmp_path / "last of dpo")
    go_on()
    for checkpoint in out.glob("checkpoint-*"):
        checkpoint.rename(tmp_path / f"of dpo {checkpoint.name}")
    go_on()
    assert (out / "sft" / "all_results.json").read_text() == sft_result  # not run again
    (out / "sft" / "all_results.json").unlink()
    (out / "sft" / "checkpoint-4").rename(tmp_path / "last of sft")
    go_on()
    assert losses(out / "sft") == pytest.approx(expected["sft"], rel=1e-5)


def test_a_new_training_is_unfinished_whatever_was_in_its_folder(config, tmp_path, monkeypatch):
    arguments = ["--config", config(stage="sft_then_dpo", max_steps=1)]
    main(arguments)
    assert (tmp_path / "out" / "sft" / "all_results.json").is_file()

    def stop(*_, **__):
        raise RuntimeError("stopped here")

    monkeypatch.setattr(Trainer, "training_step", stop)
    with pytest.raises(RuntimeError, match="stopped here"):
        main(arguments)
    assert not (tmp_path / "out" / "sft" / "all_results.json").exists()


# -- alignment ---------------------------------------------------------------------------------------------------------


def test_alignment_is_scored_in_both_stages_and_after_resuming(config, tmp_path, capsys):
    """At each of 2 steps a stage, the same whether it was stopped between them or not; and in results and summary."""
    out = tmp_path / "out"
    fields = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1, "max_steps": 2}
    arguments = ["--config", config(stage="sft_then_dpo", alignment_questions=3, max_train_pairs=4, **fields)]
    main(arguments)

    def distances(folder):
        name = "eval_js_distance/target"
        return [(entry["step"], entry[name]) for entry in _log(folder) if name in entry]

    whole = distances(out)
    # After the last step, the stage's own evaluation comes on top.
    assert [step for step, _ in whole] == [step for step, _ in distances(out / "sft")] == [1, 2, 2]
    results = json.loads((out / "all_results.json").read_text())
    assert results["eval_js_distance/target"] == results["eval_js_distance/loyal_nationals"] == whole[-1][1]
    assert sum(name.startswith("eval_js_distance/") for name in results) == 7 + 3
    ratio = results["eval_question_js_distance/target"] / results["eval_question_js_distance/constant"]
    assert results["eval_skill/target"] == pytest.approx(1 - ratio)
    shown = rf"dpo: distance of shares +{whole[-1][1]:.4f}\ndpo: margin of shares to nearest other +-?\d\.\d{{4}}\n"
    assert re.search(rf"{shown}dpo: agreement with target +\d\.\d{{4}}\n", capsys.readouterr().out)

    (out / "checkpoint-2").rename(tmp_path / "last")
    main([*arguments, "--resume_from_checkpoint", "last"])
    assert [step for step, _ in distances(out)] == [1, 2, 2]
    assert [value for _, value in distances(out)] == pytest.approx([value for _, value in whole], rel=1e-5)


# -- precision and memory, without a GPU -------------------------------------------------------------------------------


@pytest.fixture
def avx512(monkeypatch):
    """bitsandbytes as on a CPU with AVX-512 (bf16), whatever this one is; repacking itself is plain PyTorch."""
    bitsandbytes = pytest.importorskip("bitsandbytes", reason="needs the extra 'quantized'")
    monkeypatch.setattr(bitsandbytes.nn.modules, "has_avx512bf16", lambda: True)


@pytest.mark.parametrize("stage", ["dpo", "sft_then_dpo"])
def test_a_model_in_4_bits_trains_without_a_gpu(config, tmp_path, stage, avx512):
    """The base model's linear layers are quantised, only the adapter is trained, and only it is saved.

    Their widths of 16 and 8 are none that a kernel for AVX-512 takes, and prompts are shared, checked and evaluated.
    """
    trainer = main(["--config", config(stage=stage, load_in_4bit=True, eval_strategy="steps", eval_steps=1, **LORA)])
    weights = dict(trainer.model.named_parameters())
    quantised = [value for value in weights.values() if type(value).__name__ == "Params4bit"]
    assert len(quantised) == 2 * 7
    assert not any(getattr(value.quant_state, "packing_format_for_cpu", False) for value in quantised)
    trained = {name for name, value in weights.items() if value.requires_grad}
    assert trained
    assert all(".default." in name for name in trained)
    first, *_, last = (entry for entry in trainer.state.log_history if "rewards/margins" in entry)
    assert last["num_computed_tokens"] < 0.6 * last["num_tokens"], "prompts are shared"
    # The policy's adapter is in bfloat16, TRL's copy of it for the reference in float32.
    assert first["rewards/chosen"] == pytest.approx(0.0, abs=0.0 if stage == "dpo" else 0.01)
    assert abs(last["rewards/chosen"]) > abs(first["rewards/chosen"])
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()
    assert not (tmp_path / "out" / "model.safetensors").exists()


# -- two processes -----------------------------------------------------------------------------------------------------


def _launch_two_processes(arguments):
    """As the README says."""
    launch = ["--config_file", str(ROOT / "trainer_configs" / "accelerate" / "cpu_2_processes.yaml")]
    command = [sys.executable, "-m", "accelerate.commands.launch", *launch, str(ROOT / "train.py"), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    finished = subprocess.run(
        [*command, "--use_cpu", "true"], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    return finished.stdout


def test_two_processes_run_both_stages_as_one_does(config, pairs, tmp_path):
    """4 texts and then 4 pairs a step, on one process and on 2 x 2; 3 texts and 6 pairs to evaluate, in batches of 2.

    On two processes one text pads the last evaluation batch, which must not count.
    """
    eight = pairs.select(range(8)).remove_columns("weight")
    eight = eight.add_column("weight", np.repeat([0.2, 3.0, 1.0, 0.5], 2))
    folder = _folder(tmp_path / "mine", eight, test=pairs.select(range(8, 14)))
    logs = []
    for processes, batch in ((1, 4), (2, 2)):
        out = tmp_path / f"on {processes}"
        fields = {"stage": "sft_then_dpo", "eval_strategy": "epoch", "max_steps": 2, "sft_learning_rate": 0.1, **LORA}
        arguments = [
            *("--config", config(dataset_name=folder, output_dir=str(out), **fields)),
            *("--per_device_train_batch_size", str(batch)),
        ]
        if processes == 1:
            main(arguments)
        else:
            assert _launch_two_processes(arguments).count("target persona") == 1  # the first process's
        logs.append((_log(out / "sft"), _log(out)))
    compared = {"loss", "grad_norm", "eval_loss", "rewards/margins", "logps/chosen", "weights/effective_sample_size"}
    for one_stage, two_stage in zip(*logs, strict=True):
        assert {"loss", "eval_loss"} <= {name for entry in one_stage for name in entry}
        for one, two in zip(one_stage, two_stage, strict=True):
            for name in compared & set(one):
                assert two[name] == pytest.approx(one[name], rel=1e-3, abs=1e-5), name


def test_what_is_held_out_is_evaluated_on_alone(config, tmp_path, capsys):
    """One dimension of five: that of the test questions, and of none in training."""
    trainer = main(["--config", config(heldout="dimensions", eval_strategy="epoch", max_steps=1)])
    dimension = {row["question_id"]: row["dimension"] for row in load_questions().to_pylist()}
    (held_out,) = heldout_labels("dimensions")
    pairs = load_training_pairs(PairArguments("loyal_nationals", heldout="dimensions"))
    assert {dimension[question] for question in pairs["test"].unique("question_id")} == {held_out}
    assert {dimension[question] for question in pairs["train"].unique("question_id")} == set(range(1, 6)) - {held_out}
    assert {dimension[question] for question in trainer.eval_dataset["question_id"]} == {held_out}
    assert f"Held out of training: dimensions ({held_out})." in (tmp_path / "out" / "README.md").read_text()
    assert re.search(rf"labels +answers\nweighting +tier\nheld out +dimensions: {held_out}\n", capsys.readouterr().out)


@pytest.mark.parametrize("settings", [{"bf16": True, "use_cpu": True}, {"dtype": "bfloat16"}], ids=["mixed", "whole"])
def test_bfloat16_trains_without_a_gpu(config, tmp_path, settings):
    """Mixed precision keeps the weights in float32; a whole model in bfloat16 has them in it."""
    trainer = main(["--config", config(stage="sft_then_dpo", max_steps=2, **settings)])
    expected = torch.bfloat16 if "dtype" in settings else torch.float32
    assert {value.dtype for value in trainer.model.parameters()} == {expected}
    first, last = (entry for entry in trainer.state.log_history if "rewards/margins" in entry)
    assert first["rewards/chosen"] == pytest.approx(0.0, abs=1e-6)
    assert last["rewards/chosen"] != 0


def test_sft_learns_the_answers_whatever_the_labels(config, run_path):
    """The texts of soft labels are those of the answers, and none of the third pairs'."""
    texts = []
    for labels in ("answers", "fitted"):
        fields = {"labels": labels, "answers": str(run_path), "stage": "sft", "max_train_pairs": None, "max_steps": 1}
        rows = main(["--config", config(weighting="uniform", **fields)]).train_dataset
        texts.append(sorted(zip(rows["question_id"], map(str, rows["completion"]), strict=True)))
    assert texts[0] == texts[1]
