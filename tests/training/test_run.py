"""`train.py`, as a user starts it: one process and two, YAML and overrides, resume, and weights at work."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fairpp_hf.training.run import PairArguments, main

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "trainer_configs").glob("*.yaml"))


@pytest.fixture
def config(tiny_model_path, tmp_path):
    """A configuration file for the tiny model; further fields override it."""

    def write(**fields):
        settings = {
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


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_config_parses(path, tmp_path):
    from trl import ModelConfig, TrlParser

    from fairpp_hf.training import ReweightedDPOConfig

    parser = TrlParser((PairArguments, ReweightedDPOConfig, ModelConfig))
    pairs, training, model = parser.parse_args_and_config(["--config", str(path), "--output_dir", str(tmp_path)])
    assert pairs.target
    assert training.output_dir == str(tmp_path)
    assert model.model_name_or_path


def test_trains_saves_and_summarises(config, tmp_path, capsys):
    trainer = main(["--config", config(eval_strategy="epoch"), "--max_steps", "2"])
    assert trainer.state.global_step == 2
    assert len(trainer.train_dataset) == 16
    results = json.loads((tmp_path / "out" / "all_results.json").read_text())
    assert {"train_loss", "eval_loss", "eval_rewards/weighted_accuracies"} <= set(results)
    assert (tmp_path / "out" / "model.safetensors").is_file()
    printed = capsys.readouterr().out
    assert re.search(r"target persona +loyal_nationals\ntraining pairs +16\nweighting +tier\n", printed)
    assert str(tmp_path / "out" / "all_results.json") in printed


@pytest.fixture(scope="module")
def pairs():
    from datasets import load_dataset

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


def test_a_dataset_folder_can_be_trained_on(config, pairs, tmp_path, capsys):
    folder = _folder(tmp_path / "mine", pairs)
    trainer = main(["--config", config(dataset_name=folder, max_train_pairs=None), "--max_steps", "1"])
    assert len(trainer.train_dataset) == 20
    assert re.search(rf"weighting +as in {folder}\n", capsys.readouterr().out)


def test_arguments_of_the_builder_are_refused_with_a_dataset_folder(config, pairs, tmp_path):
    folder = _folder(tmp_path / "mine", pairs)
    message = (
        f"weighting, weight_alpha must be left out with dataset_name={folder!r}; its pairs are as they are. "
        "Remove them, or use dataset_name: fairpp."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        main(["--config", config(dataset_name=folder, weighting="uniform", weight_alpha=2.0)])


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


def test_resuming_without_a_checkpoint_is_refused(config, tmp_path):
    message = (
        f"resume_from_checkpoint must find a checkpoint; got none in {str(tmp_path / 'out')!r}. "
        "Leave it out to start from the beginning."
    )
    for _ in range(2):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            main(["--config", config(), "--resume_from_checkpoint", "last"])
        (tmp_path / "out").mkdir(exist_ok=True)  # first there is no folder, then an empty one


def test_logs_go_where_report_to_says(config, tmp_path):
    main(["--config", config(report_to="tensorboard", max_steps=1)])
    assert list(tmp_path.rglob("events.out.tfevents.*"))


def test_an_unknown_target_is_refused_before_the_model_is_loaded(config):
    with pytest.raises(ValueError, match="Did you mean 'loyal_nationals'"):
        main(["--config", config(target="loyal_national", model_name_or_path="no such model")])


def _train_on_two_processes(arguments):
    """As the README says; only the first process prints."""
    launch = ["--config_file", str(ROOT / "trainer_configs" / "accelerate" / "cpu_2_processes.yaml")]
    command = [sys.executable, "-m", "accelerate.commands.launch", *launch, str(ROOT / "train.py"), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    finished = subprocess.run(
        [*command, "--use_cpu", "true"], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert finished.stdout.count("target persona") == 1


def test_two_processes_train_as_one_and_weights_work_on_both(config, pairs, tmp_path):
    """Raising a pair's weight raises its margin, on one process x 4 pairs and on 2 processes x 2 alike.

    All 4 pairs are one step, so that it does not matter in which order which process sees them.
    """
    margins = {}
    for weight in (0.1, 5.0):
        four = pairs.select([0, 2, 4, 6]).remove_columns("weight").add_column("weight", [weight, 1.0, 1.0, 1.0])
        folder = _folder(tmp_path / f"weight {weight}", four, test=four.select([0]))
        logs = []
        for processes, batch in ((1, 4), (2, 2)):
            output_dir = tmp_path / f"{weight} on {processes}"
            arguments = [
                *("--config", config(dataset_name=folder, output_dir=str(output_dir), eval_strategy="epoch")),
                *("--per_device_train_batch_size", str(batch), "--max_steps", "4"),
            ]
            if processes == 1:
                main(arguments)
            else:
                _train_on_two_processes(arguments)
            logs.append(_log(output_dir))
            margins[weight, processes] = logs[-1][-1]["eval_rewards/margins"]
        for one, two in zip(*logs, strict=True):
            for name in {"loss", "grad_norm", "rewards/margins", "weights/effective_sample_size", "eval_loss"} & set(
                one
            ):
                assert two[name] == pytest.approx(one[name], rel=1e-3, abs=1e-5), name
    for processes in (1, 2):
        assert margins[5.0, processes] > margins[0.1, processes] + 0.05
