"""What scripts show of the log, and how they say what is wrong."""

import json
import logging
import runpy
import sys
from pathlib import Path

import pytest

from fairpp_hf.cli import main, shown_lines
from fairpp_hf.cli.train import plain_errors
from fairpp_hf.naming import check_name

TRAIN = str(Path(__file__).parents[2] / "train.py")
SHARED = "Prompts are shared: llama is known to take such rows.\n"


def train(monkeypatch: pytest.MonkeyPatch, model: Path, out: Path, *words: str) -> None:
    """`python train.py`, where nobody has configured logging."""
    usual = {"model_name_or_path": model, "target": "loyal_nationals", "output_dir": out, "max_train_pairs": 8}
    usual |= {"max_steps": 2, "per_device_train_batch_size": 2, "gradient_checkpointing": False}
    usual |= {"eval_strategy": "no", "save_strategy": "no", "report_to": "none", "disable_tqdm": True}
    given = [word for name, value in usual.items() for word in (f"--{name}", str(value))]
    with monkeypatch.context() as patched:
        patched.setattr(sys, "argv", ["train.py", *given, *words])
        patched.setattr(logging.getLogger(), "handlers", [])
        runpy.run_path(TRAIN, run_name="__main__")


def test_training_says_whether_prompts_are_shared(
    tiny_model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train(monkeypatch, tiny_model_path, tmp_path)
    assert capsys.readouterr().err.count(SHARED) == 1


def test_evaluating_says_whether_prompts_are_shared(
    tiny_model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", "--model", str(tiny_model_path), "--target", "loyal_nationals", "--limit", "4"]
    with monkeypatch.context() as patched:
        patched.setattr(logging.getLogger(), "handlers", [])
        assert main([*words, "--no-role-play", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().err.count(SHARED) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--target", "loyal_nationalz"), "target must be one of 'progressive_activists', "),
        (("--train_sampling_strategy", "group_by_length"), ""),
        (
            ("--max_trian_pairs", "3"),
            "A flag must be a field of the configuration; got --max_trian_pairs. Did you mean --max_train",
        ),
        (
            ("--model_name_or_path", "/no/such/folder"),
            "model_name_or_path must be a Hub name or an existing folder; got '/no",
        ),
        (
            ("--learning_rate", "1e30", "--max_grad_norm", "0", "--max_steps", "6"),
            "Losses and weights must be finite; ",
        ),
    ],
)
def test_what_is_wrong_with_a_training_is_a_sentence_and_an_exit_status(
    words: tuple[str, ...], said: str, tiny_model_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit, match=f"^\ntrain.py: {said}".replace("[", r"\[")):  # a text is exit status 1
        train(monkeypatch, tiny_model_path, tmp_path, *words)


def test_other_good_news_stays_unsaid_and_everything_is_as_before_afterwards(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shared, other = logging.getLogger("fairpp_hf.scoring.sharing"), logging.getLogger("fairpp_hf.respondents.exchange")
    with monkeypatch.context() as patched:
        patched.setattr(logging.getLogger(), "handlers", [])
        with shown_lines():
            shared.info("one")
            other.info("two")
            other.warning("three")
        shared.info("four")
        patched.setenv("RANK", "1")
        with shown_lines():
            shared.info("five")
    assert capsys.readouterr().err == "one\nthree\n"


def test_an_error_from_elsewhere_keeps_its_traceback() -> None:
    with pytest.raises(json.JSONDecodeError), plain_errors("x"):
        json.loads("{")
    with pytest.raises(SystemExit, match=r"\nx: word must be one of 'a'; got 'b'\."), plain_errors("x"):
        check_name("word", "b", ["a"])


def test_stopped_by_ctrl_c_it_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fairpp_hf.cli.train.train_model", stopped)
    assert main(["train", "--config", "smollm2_135m_lora"]) == 130
    assert "--resume_from_checkpoint last" in capsys.readouterr().err
