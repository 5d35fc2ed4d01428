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


def test_a_dataset_folder_can_be_trained_on(config, tmp_path):
    from datasets import load_dataset

    pairs = load_dataset("fairpp", "pairs", target="loyal_nationals", split="train[:20]")
    folder = tmp_path / "mine"
    (folder / "pairs").mkdir(parents=True)
    pairs.to_parquet(folder / "pairs" / "train.parquet")
    card = {"configs": [{"config_name": "pairs-loyal_nationals", "data_files": "pairs/train.parquet"}]}
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump(card)}---\n")
    trainer = main(["--config", config(dataset_name=str(folder), max_train_pairs=None), "--max_steps", "1"])
    assert len(trainer.train_dataset) == 20


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
    (tmp_path / "out").mkdir()
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        main(["--config", config(), "--resume_from_checkpoint", "last"])


def test_logs_go_where_report_to_says(config, tmp_path):
    pytest.importorskip("tensorboard")
    main(["--config", config(report_to="tensorboard", logging_dir=str(tmp_path / "logs"), max_steps=1)])
    assert list(tmp_path.rglob("events.out.tfevents.*"))


def test_an_unknown_target_is_refused_before_the_model_is_loaded(config):
    with pytest.raises(ValueError, match="Did you mean 'loyal_nationals'"):
        main(["--config", config(target="loyal_national", model_name_or_path="no such model")])


TWO_PROCESSES = ["--config_file", str(ROOT / "trainer_configs" / "accelerate" / "cpu_2_processes.yaml")]
ONE_PROCESS = [
    "--cpu",
    "--num_processes",
    "1",
    "--num_machines",
    "1",
    "--mixed_precision",
    "no",
    "--dynamo_backend",
    "no",
]


def _launch(launch_options, arguments):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "accelerate.commands.launch", *launch_options, str(ROOT / "train.py"), *arguments]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert finished.returncode == 0, finished.stderr[-3000:]
    return finished.stdout


def test_two_processes_train_as_one(config, tmp_path):
    """2 processes x 2 pairs take the same steps as 1 process x 4 pairs, and only one of them prints.

    All 4 pairs are one step, so that it does not matter in which order which process sees them.
    """
    runs = {}
    for processes, options, batch in ((1, ONE_PROCESS, 4), (2, TWO_PROCESSES, 2)):
        output_dir = tmp_path / f"{processes}-processes"
        path = config(output_dir=str(output_dir), per_device_train_batch_size=batch, max_train_pairs=4)
        printed = _launch(options, ["--config", path, "--max_steps", "3", "--use_cpu", "true"])
        assert printed.count("target persona") == 1
        runs[processes] = _log(output_dir)
    for one, two in zip(runs[1], runs[2], strict=True):
        if "loss" in one:
            for name in ("loss", "grad_norm", "rewards/margins", "weights/effective_sample_size"):
                assert two[name] == pytest.approx(one[name], rel=1e-3, abs=1e-5), name
