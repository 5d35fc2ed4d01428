import json

import pyarrow.parquet as pq
import pytest
import torch

from fairpp_hf.cli import main
from fairpp_hf.questions import load_questions
from fairpp_hf.questions.heldout import heldout_labels


@pytest.fixture
def adapter(tmp_path):
    from peft import LoraConfig, get_peft_model
    from tiny_models import tiny_model

    torch.manual_seed(0)
    lora = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(tiny_model(), lora).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_scores_three_systems_against_all_personas(tiny_model_path, adapter, tmp_path, capsys):
    out = tmp_path / "results"
    arguments = ["evaluate", "--model", str(tiny_model_path), "--adapter", str(adapter), "--target", "loyal_nationals"]
    assert main([*arguments, "--out", str(out), "--limit", "12"]) == 0
    results = json.loads((out / "results.json").read_text())
    assert results["questions"] == 12
    assert results["reference"] == "survey:britains_choice_2020 (simulated)"
    assert set(results["systems"]) == {"plain", "role-play", "adapter"}
    plain = results["systems"]["plain"]
    assert len([name for name in plain["probabilities"] if name.startswith("agreement/")]) == 7 + 1
    low, high = plain["intervals_95"]["agreement/target"]
    assert low < plain["probabilities"]["agreement/target"] < high
    assert plain["probabilities"] != results["systems"]["role-play"]["probabilities"]
    assert plain["probabilities"] != results["systems"]["adapter"]["probabilities"]
    table = (out / "results.md").read_text()
    assert "survey:britains_choice_2020 (simulated)" in table
    assert (out / "results.png").stat().st_size > 10_000
    assert str(out / "results.json") in capsys.readouterr().out


def test_the_same_call_gives_the_same_results(tiny_model_path, tmp_path):
    texts = []
    for name in ("first", "second"):
        arguments = ["evaluate", "--model", str(tiny_model_path), "--target", "loyal_nationals", "--no-role-play"]
        assert main([*arguments, "--out", str(tmp_path / name), "--limit", "6"]) == 0
        texts.append((tmp_path / name / "results.json").read_text())
    assert texts[0] == texts[1]


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
        for question in pq.read_table(tmp_path / "results" / "rows.parquet")["question_id"].to_pylist()
    }
    assert asked == {held_out} if split == "test" else asked <= set(range(1, 6)) - {held_out}
    division = f"{split} split with dimensions held out of training: {held_out}"
    assert f"12 questions ({division}); answers of" in capsys.readouterr().out
    assert json.loads((tmp_path / "results" / "results.json").read_text())["division"] == division


def test_a_mistyped_adapter_is_refused_before_the_model_is_loaded(tmp_path, capsys):
    arguments = ["evaluate", "--model", "no such model", "--target", "loyal_nationals", "--out", str(tmp_path / "x")]
    assert main([*arguments, "--adapter", str(tmp_path / "adaptor")]) == 1
    error = capsys.readouterr().err
    assert error.startswith(
        f"fairpp evaluate: --adapter must be the path or Hub name of a PEFT adapter; got '{tmp_path / 'adaptor'}'. "
    )


def test_role_play_takes_the_portrait_of_the_set_that_answered(tiny_model_path, tmp_path):
    """Two sets have a persona of one name; the run's own set has the portrait, not the default one."""
    run = tmp_path / "run"
    generate = ["generate", "--run", str(run), "--respondent", "survey", "--split", "test", "--limit", "4"]
    assert main([*generate, "--personas", "hidden_tribes_2018"]) == 0
    results = []
    for personas in ([], ["--personas", "hidden_tribes_2018"], ["--personas", "britains_choice_2020"]):
        out = tmp_path / f"results {len(results)}"
        arguments = [
            "evaluate",
            "--model",
            str(tiny_model_path),
            "--target",
            "progressive_activists",
            "--out",
            str(out),
        ]
        if main([*arguments, "--answers", str(run), *personas]) == 0:
            results.append(json.loads((out / "results.json").read_text())["systems"]["role-play"])
    # The British set has personas that did not answer, and is refused.
    assert len(results) == 2
    assert results[0] == results[1]


def test_an_unknown_target_is_refused_before_the_model_is_loaded(tmp_path, capsys):
    arguments = ["evaluate", "--model", "no such model", "--target", "civic_pragmatist", "--out", str(tmp_path / "x")]
    assert main(arguments) == 1
    assert capsys.readouterr().err.endswith("got 'civic_pragmatist'. Did you mean 'civic_pragmatists'?\n")
    assert not (tmp_path / "x").exists()
