"""Models pushed to a Hub: what was trained is what is loaded back, and no fault leaves half of it there."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from loopback_hub import TOKEN, LoopbackHub, loopback_hub
from peft import AutoPeftModelForCausalLM, LoraConfig
from tiny_trainers import QUICK, make_pairs
from transformers import AutoModelForCausalLM, AutoTokenizer

from fairpp_hf.cli.train import train_model
from fairpp_hf.training import ReweightedDPOConfig, ReweightedDPOTrainer, ReweightedSFTConfig

MODEL = "us/aligned"
SHARED = {"README.md", "chat_template.jinja", "tokenizer.json", "tokenizer_config.json", "training_args.bin"}
FILES = {
    "adapter": SHARED | {"adapter_config.json", "adapter_model.safetensors"},
    "whole": SHARED | {"config.json", "generation_config.json", "model.safetensors"},
}
RUN = {"trainer_state.json", "all_results.json"}
"""What `train.py` adds."""


@pytest.fixture
def hub(tiny_model_path: Path) -> Iterator[LoopbackHub]:
    """A Hub with the tiny model as us/base."""
    with loopback_hub() as running:
        running.commit("us/base", {file.name: file.read_bytes() for file in tiny_model_path.iterdir()}, "model")
        yield running


Trained = Callable[..., ReweightedDPOTrainer]


@pytest.fixture
def trained(tmp_path: Path) -> Trained:
    """One step from `base`, an adapter or the whole model."""

    def train(kind: str, base: str = "us/base", **settings: Any) -> ReweightedDPOTrainer:
        trainer = ReweightedDPOTrainer(
            base,
            args=ReweightedDPOConfig(str(tmp_path / "out"), **{**QUICK, "hub_model_id": MODEL, **settings}),
            train_dataset=make_pairs([1.0, 2.0, 3.0, 4.0]),
            peft_config=LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM") if kind == "adapter" else None,
        )
        trainer.card_facts = {"target": "loyal_nationals", "simulated": True}
        trainer.train()
        return trainer

    return train


def assert_same_weights(ours: torch.nn.Module, theirs: torch.nn.Module) -> None:
    """To the bit: what was pushed is a copy."""
    expected, loaded = ours.state_dict(), theirs.state_dict()
    assert expected.keys() == loaded.keys()
    assert all(torch.equal(expected[name], loaded[name]) for name in expected)


def load_back(kind: str) -> torch.nn.Module:
    return (AutoPeftModelForCausalLM if kind == "adapter" else AutoModelForCausalLM).from_pretrained(MODEL)


# -- push_to_hub of a trainer ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["adapter", "whole"])
def test_a_model_comes_back_equal(hub: LoopbackHub, trained: Trained, kind: str) -> None:
    trainer = trained(kind)
    trainer.push_to_hub()
    assert hub.files(MODEL, "model").keys() == FILES[kind]
    assert_same_weights(trainer.model, load_back(kind))
    text = "Reply with A or B. \U0001f469\u200d\U0001f467"
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    assert tokenizer(text)["input_ids"] == trainer.processing_class(text)["input_ids"]
    assert tokenizer.chat_template == trainer.processing_class.chat_template
    card = ModelCard.load(MODEL)
    assert card.data.base_model == "us/base"
    assert {"simulated", "fair-pp"} <= set(card.data.tags)
    assert "as the persona `loyal_nationals` does" in card.text


@pytest.mark.parametrize("kind", ["adapter", "whole"])
def test_the_hub_takes_the_card_of_a_local_base(
    hub: LoopbackHub, trained: Trained, tiny_model_path: Path, kind: str
) -> None:
    """It refuses a path as `base_model`, and a path is nobody else's business."""
    trainer = trained(kind, base=str(tiny_model_path))
    trainer.push_to_hub()
    card = hub.files(MODEL, "model")["README.md"].decode()
    assert ModelCard(card).data.base_model is None
    assert str(tiny_model_path) not in card
    assert_same_weights(trainer.model, load_back(kind))


def test_what_a_push_is_told_is_in_the_card(hub: LoopbackHub, trained: Trained) -> None:
    trainer = trained("whole")
    trainer.push_to_hub(dataset_name="us/fairpp", tags="mine")
    card = ModelCard.load(MODEL)
    assert card.data.datasets == ["us/fairpp"]
    assert card.data.model_name == "aligned"
    assert {"mine", "simulated", "trl"} <= set(card.data.tags)
    assert 'pipeline("text-generation", model="us/aligned")' in card.text
    assert "[us/fairpp](https://huggingface.co/datasets/us/fairpp)" in card.text


def test_the_token_is_not_pushed(hub: LoopbackHub, trained: Trained) -> None:
    """`Trainer` pushes its pickled arguments, at every checkpoint and at the end."""
    trainer = trained("whole", push_to_hub=True, hub_token=TOKEN, save_strategy="steps", save_steps=1)
    trainer.push_to_hub()
    assert trainer.args.hub_token == TOKEN
    for commit in hub.commits(MODEL, "model"):
        for content in hub.files(MODEL, "model", revision=commit.sha).values():
            assert TOKEN.encode() not in content
    arguments = torch.load(Path(trainer.args.output_dir) / "training_args.bin", weights_only=False)
    assert arguments.hub_token is None
    assert arguments.learning_rate == trainer.args.learning_rate
    assert ReweightedSFTConfig("out", hub_token=TOKEN).__getstate__()["hub_token"] is None


@pytest.mark.parametrize("config", [ReweightedDPOConfig, ReweightedSFTConfig])
def test_a_token_to_load_the_model_with_is_not_written(tmp_path: Path, config: Any) -> None:
    """Neither pickled nor as text, which goes into the files of TensorBoard."""
    given = {"token": TOKEN, "revision": "main"}
    args = config(str(tmp_path), report_to="none", bf16=False, model_init_kwargs=dict(given))
    torch.save(args, tmp_path / "training_args.bin")
    assert TOKEN.encode() not in (tmp_path / "training_args.bin").read_bytes()
    loaded = torch.load(tmp_path / "training_args.bin", weights_only=False)
    assert loaded.model_init_kwargs == {"revision": "main"}
    assert TOKEN not in args.to_json_string()
    assert args.model_init_kwargs == given


# -- train.py ----------------------------------------------------------------------------------------------------------


def run(tmp_path: Path, **settings: Any) -> Any:
    """`train.py` from the Hub's base model with two checkpoints, pushed."""
    settings = {
        **{"model_name_or_path": "us/base", "target": "loyal_nationals", "max_train_pairs": 8, "max_steps": 2},
        **{"output_dir": str(tmp_path / "out"), "per_device_train_batch_size": 2, "gradient_checkpointing": False},
        **{
            "eval_strategy": "no",
            "save_strategy": "steps",
            "save_steps": 1,
            "logging_steps": 1,
            "disable_tqdm": True,
            "report_to": "none",
        },
        **{"push_to_hub": True, "hub_model_id": MODEL},
        **settings,
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    return train_model(["--config", str(tmp_path / "config.yaml")])


LORA = {"use_peft": True, "lora_r": 2, "lora_target_modules": ["q_proj", "v_proj"], "lora_dropout": 0.0}


@pytest.mark.parametrize(("kind", "stage"), [("adapter", "dpo"), ("whole", "sft")])
def test_a_run_is_pushed(hub: LoopbackHub, tmp_path: Path, kind: str, stage: str) -> None:
    """With every checkpoint, and at the end with the last metrics; optimisers stay here."""
    trainer = run(tmp_path, stage=stage, hub_private_repo=True, **(LORA if kind == "adapter" else {}))
    assert hub.repo(MODEL, "model").private
    assert hub.files(MODEL, "model").keys() == FILES[kind] | RUN
    assert_same_weights(trainer.model, load_back(kind))
    messages = [commit.message for commit in hub.commits(MODEL, "model")]
    assert (messages[0], messages[-1]) == ("End of training", "initial commit")
    card = ModelCard.load(MODEL)
    assert "Simulated answers." in card.text
    assert f"training, step {trainer.state.global_step}" in card.text
    assert json.loads(hub.files(MODEL, "model")["all_results.json"])["train_loss"] > 0


def test_of_two_stages_the_last_one_is_pushed(hub: LoopbackHub, tmp_path: Path) -> None:
    """The first one's model, checkpoints and optimisers lie in the same folder, and are no part of the model."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".gitignore").write_text("*.log\n")
    (tmp_path / "out" / "own.log").write_text("not for others")
    trainer = run(tmp_path, stage="sft_then_dpo")
    assert (tmp_path / "out" / "sft" / "checkpoint-2" / "optimizer.pt").is_file()
    assert hub.files(MODEL, "model").keys() == FILES["whole"] | RUN | {".gitignore"}
    assert hub.files(MODEL, "model")[".gitignore"] == b"*.log\n/sft/\n"
    assert_same_weights(trainer.model, load_back("whole"))


def test_a_push_that_fails_says_where_the_model_is(
    hub: LoopbackHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.fail("/commit/", status=503, message="not today")
    folder = str(tmp_path / "out")
    with pytest.raises(RuntimeError) as caught:
        run(tmp_path, save_strategy="no", **LORA)
    message = re.sub(r"(?s)got HfHubHTTPError: .*not today\.", "got ERROR.", str(caught.value))
    assert message == (
        f"The push to us/aligned must reach the Hub; got ERROR. The model is saved in {folder!r}. Push it with: "
        f'hf upload us/aligned {folder} . --exclude "checkpoint-*".'
    )
    assert "train loss" in capsys.readouterr().out
    assert {"adapter_model.safetensors", "README.md", *RUN} <= {file.name for file in (tmp_path / "out").iterdir()}
    assert hub.files(MODEL, "model") == {}
