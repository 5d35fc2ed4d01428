"""The card of a trained model: valid metadata, numbers from the data, nothing invented; whole cards in golden files.

After a change that is meant, `UPDATE_GOLDEN=1 pytest tests/training/test_model_card.py` writes them again.
"""

import dataclasses
import math
import os
import re
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
from datasets import Dataset, load_dataset
from huggingface_hub import ModelCard, ModelCardData
from peft import LoraConfig
from published_tables import write_published
from small_runs import make_run
from tiny_models import tiny_model
from tiny_trainers import QUICK
from transformers import TrainerState

from fairpp_hf.hub import build_dataset_folder, dataset_folder, render_dataset_card
from fairpp_hf.personas import load_personas
from fairpp_hf.provenance import Provenance
from fairpp_hf.training import ReweightedDPOConfig, ReweightedDPOTrainer, ReweightedSFTConfig, ReweightedSFTTrainer
from fairpp_hf.training.arguments import PairArguments
from fairpp_hf.training.model_card import (
    CARD_FACTS,
    ModelCardFacts,
    WeightFacts,
    collect_facts,
    model_metadata,
    render_model_card,
)
from fairpp_hf.training.pairs import card_facts

GOLDEN = Path(__file__).parent / "golden"
GIVEN = {
    "target": "loyal_nationals",
    "persona_set": "britains_choice_2020",
    "answers": "survey",
    "simulated": True,
    "comparison": None,
    "weighting": "tier",
    "alpha": 1.0,
    "beta": 1.0,
    "labels": "answers",
    "divergence": 0.0,
    "dataset_name": "fairpp",
}


def facts(**changes: object) -> ModelCardFacts:
    """A finished run over 4 pairs in 3 tiers, of which everything was recorded."""
    complete = ModelCardFacts(
        model_name="our-model",
        model_id="us/our-model",
        base_model="org/base",
        base_on_hub=True,
        base_revision=None,
        stage="dpo",
        reference="model",
        tags=("trl", "dpo", "simulated"),
        adapter=None,
        given=GIVEN,
        target="loyal_nationals",
        dataset_name="fairpp",
        dataset_on_hub=False,
        dataset_description="",
        weights=WeightFacts(4, 8.0, 4.0, 64 / 22, ((1, 2, 2.0), (2, 1, 2.0), (7, 1, 4.0))),
        weight_normalization="dataset",
        weight_application="loss",
        group_column=None,
        settings={"beta": "0.1"},
        step=20,
        max_steps=20,
        train={"step": 20, "loss": 0.5, "grad_norm": 3.0, "tiers/10/loss": 1.0, "tiers/2/loss": 2.0},
        evaluation={"step": 20, "loss": 0.25, "runtime": 3.0, "tiers/2/loss": 4.0},
        versions={"TRL": "1.16.0"},
        method_citation="@inproceedings{rafailov2023direct}",
    )
    return dataclasses.replace(complete, **changes)


def trainer(**changes: object) -> SimpleNamespace:
    """A trainer as far as `collect_facts` asks it."""
    model = tiny_model()
    model.config._name_or_path = "org/base"
    fake = SimpleNamespace(
        args=ReweightedDPOConfig("outputs/our-model", bf16=False),
        model=model,
        state=TrainerState(global_step=2, max_steps=2, epoch=1.0),
        train_dataset=Dataset.from_dict({"weight": [1.0, 1.0, 2.0, 4.0], "tier": [1, 1, 2, 7]}),
        accelerator=SimpleNamespace(num_processes=2),
        hub_model_id=None,
        weight_normalization="dataset",
        card_facts=GIVEN,
        _tag_names=["trl", "dpo", "fairpp_hf", "reweighted-dpo"],
        _paper={},
    )
    return SimpleNamespace(**{**vars(fake), **changes})


# -- the text ----------------------------------------------------------------------------------------------------------


def by_hand() -> None: ...


CARDS = {
    # Tier 1 has 2 of 4 pairs (50%) and 2 of 8 of the weight (25%), 1 a pair; the others follow.
    "complete": {"given": GIVEN | {"after_sft": True}},
    "nothing_recorded": {
        **dict.fromkeys(["target", "base_model", "dataset_name", "weights", "train", "evaluation", "model_id"]),
        "given": {},
        "base_on_hub": False,
    },
    # Skill 0.2: 0.112 against 0.14 of the constant.
    "option_distribution": {
        "reference": "none",
        "adapter": "LoRA",
        "base_on_hub": False,
        "given": GIVEN
        | {
            "labels": "fitted",
            "divergence": 0.5,
            "weighting": "uniform",
            "comparison": "nearest",
            "licence": "cc-by-4.0",
        },
        "settings": {"loss_type": "listwise, distillation"},
        "dataset_description": "Pairs.",
        "evaluation": {
            "step": 20,
            "js_distance/target": 0.1,
            "question_js_distance/target": 0.112,
            "question_js_distance/constant": 0.14,
            "skill/target": 0.2,
        },
    },
    "groups": {
        "given": GIVEN | {"simulated": False, "persona_set": "mine", "comparison": ["a", "b"], "weighting": by_hand},
        "group_column": "topic",
        "weight_application": "sampling",
        "weight_normalization": "batch",
        "max_steps": 30,
        "evaluation": None,
        "train": {"step": 1, "groups/a|b/weight": 0.25, "groups/c/weight": 0.75, "groups/c/loss": 2.0}
        | {f"groups/{number}/weight": 0.01 for number in range(10)},
    },
    "sft": {
        "stage": "sft",
        "reference": None,
        "given": GIVEN | {"labels": "fitted", "licence": "cc-by-nc-sa-4.0", "persona_set": load_personas()},
        "dataset_name": "us/pairs",
        "dataset_on_hub": True,
        "base_revision": "v1",
        "method_citation": None,
        "weights": WeightFacts(4, 8.0, 4.0, 64 / 22, ()),
    },
}


@pytest.mark.parametrize("name", CARDS)
def test_cards(name: str) -> None:
    text = render_model_card(facts(**CARDS[name]))
    file = GOLDEN / f"model_card_{name}.md"
    if "UPDATE_GOLDEN" in os.environ:
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, "utf-8")
    assert text == file.read_text("utf-8")
    assert "None" not in text
    assert "\n\n\n" not in text
    assert ModelCard(text).data.license is None
    for line in text.splitlines():  # a table's rows have as many cells as its header
        assert not line.startswith("|") or line.endswith("|")


def test_the_constant_that_the_model_is_not_nearer_than() -> None:
    values = {"question_js_distance/target": 0.15, "question_js_distance/constant": 0.14, "skill/target": -0.07}
    card = render_model_card(facts(evaluation={"step": 20, **values}))
    assert "**-0.07**" in card
    assert "the model is no nearer to its target" in card


def test_the_hub_is_given_the_results_of_the_last_evaluation() -> None:
    """`model-index` as huggingface_hub writes it and reads it again; a number that there is not is no result."""
    values = {"question_js_distance/target": 0.112345, "question_js_distance/constant": 0.14, "skill/target": math.nan}
    changes = {"evaluation": {"step": 20, "loss": 0.5, **values}, "dataset_name": "us/pairs", "dataset_on_hub": True}
    data = ModelCard(render_model_card(facts(**changes))).data
    assert data.model_name == "our-model"
    found = [(result.metric_type, result.metric_value) for result in data.eval_results]
    assert found == [("question_js_distance/target", 0.1123), ("question_js_distance/constant", 0.14)]
    for result in data.eval_results:
        assert (result.task_type, result.dataset_type, result.dataset_split) == ("text-generation", "us/pairs", "test")
        assert result.dataset_name == "Fair-PP questions, answers of loyal_nationals (simulated)"
        assert result.dataset_args == {"target": "loyal_nationals"}
    again = ModelCardData(**data.to_dict())
    assert again.to_dict() == data.to_dict() == model_metadata(facts(**changes)).to_dict()
    for nothing in ({"evaluation": None}, {"target": None}, {"evaluation": {"step": 20, "loss": 0.5}}):
        assert model_metadata(facts(**changes | nothing)).eval_results is None


# -- facts -------------------------------------------------------------------------------------------------------------


def test_weights_are_counted_in_the_data() -> None:
    """Weights 1, 1, 2, 4: sum 8, squares 1 + 1 + 4 + 16 = 22, so 64 / 22 = 2.91 rows in effect."""
    weights = collect_facts(trainer()).weights
    assert weights is not None
    assert weights == WeightFacts(4, 8.0, 4.0, pytest.approx(64 / 22), weights.tiers)
    assert weights.tiers == ((1, 2, 2.0), (2, 1, 2.0), (7, 1, 4.0))
    without = collect_facts(trainer(train_dataset=Dataset.from_dict({"weight": [1.0, 3.0]}))).weights
    assert without == WeightFacts(2, 4.0, 3.0, pytest.approx(16 / 10), ())


def test_the_target_is_given_or_is_the_data_s_only_persona() -> None:
    rows = {"weight": [1.0, 1.0], "persona": ["a", "a"]}
    assert collect_facts(trainer(train_dataset=Dataset.from_dict(rows))).target == "loyal_nationals"
    assert collect_facts(trainer(train_dataset=Dataset.from_dict(rows), card_facts={})).target == "a"
    rows["persona"] = ["a", "b"]
    assert collect_facts(trainer(train_dataset=Dataset.from_dict(rows), card_facts={})).target is None


def test_names_are_those_that_others_can_use(tmp_path: Path) -> None:
    """A Hub name stays; of a path only the last part, since the rest says who trained where."""
    assert collect_facts(trainer(hub_model_id="us/theirs")).model_name == "theirs"
    assert collect_facts(trainer(), model_name="title").model_name == "title"
    (tmp_path / "base").mkdir()
    local = trainer(card_facts={"base_model": str(tmp_path / "base"), "dataset_name": str(tmp_path / "pairs")})
    found = collect_facts(local)
    assert (found.base_model, found.base_on_hub) == ("base", False)
    assert (found.dataset_name, found.dataset_on_hub) == ("pairs", False)
    assert str(tmp_path) not in render_model_card(found)
    found = collect_facts(trainer(), dataset_name="them/fairpp")
    assert (found.base_model, found.base_on_hub) == ("org/base", True)
    assert (found.dataset_name, found.dataset_on_hub) == ("them/fairpp", True)


def test_metrics_are_those_of_the_last_step() -> None:
    """Two evaluation datasets make two logs of a step; an earlier evaluation and the summary of the run are left out."""
    state = TrainerState(global_step=4, max_steps=4, epoch=1.0)
    state.log_history = [
        {"loss": 0.7, "only/first": 1.0, "step": 2},
        {"eval_a_loss": 0.6, "eval_only/first": 1.0, "step": 2},
        {"loss": 0.5, "step": 4},
        {"eval_a_loss": 0.4, "step": 4},
        {"eval_b_loss": 0.3, "step": 4},
        {"train_loss": 0.6, "train_runtime": 9.0, "step": 4},
    ]
    found = collect_facts(trainer(state=state))
    assert found.train == {"loss": 0.5, "step": 4}
    assert found.evaluation == {"a_loss": 0.4, "b_loss": 0.3, "step": 4}


def test_settings_that_are_off_are_left_out() -> None:
    settings = collect_facts(trainer()).settings
    assert (settings["beta"], settings["loss_type"], settings["processes"]) == ("0.1", "sigmoid", "2")
    assert not {"ld_alpha", "soft_labels", "group_column", "group_step_size", "adapter", "quantization"} & set(settings)
    assert collect_facts(trainer(group_column="topic")).settings["group_step_size"] == "0.01"


def test_tags_say_what_was_done() -> None:
    own = ["generated_from_trainer", "mine", "trl", "dpo", "fairpp_hf", "reweighted-dpo", "fair-pp", "alignment"]
    papers = ["arxiv:2505.11861", "arxiv:2305.18290"]
    assert list(collect_facts(trainer(), tags="mine").tags) == [*own, "simulated", *papers]
    assert "arxiv:2405.20304" in collect_facts(trainer(group_column="topic")).tags
    assert "arxiv:2305.18290" not in collect_facts(trainer(_tag_names=["trl", "sft"])).tags


def test_what_card_facts_may_not_be() -> None:
    known = ", ".join(map(repr, CARD_FACTS))
    message = f"A key of card_facts must be one of {known}; got 'persona'. Did you mean 'persona_set'?"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        collect_facts(trainer(card_facts={"persona": "loyal_nationals"}))
    with pytest.raises(ValueError, match=r"^simulated of card_facts must be True or False; got 'yes'\."):
        collect_facts(trainer(card_facts={"simulated": "yes"}))


def test_what_the_data_says_of_itself_counts_unless_somebody_says_otherwise() -> None:
    data = Dataset.from_dict({"weight": [1.0, 3.0], "persona": ["a", "a"]})
    data.info.description = Provenance("survey", ("survey (simulated)",)).text
    data.info.license = "cc-by-nc-sa-4.0\n"
    described = collect_facts(trainer(train_dataset=data, card_facts={}))
    assert (described.given["simulated"], described.given["licence"]) == (True, "cc-by-nc-sa-4.0")
    assert "simulated" in described.tags
    denied = collect_facts(trainer(train_dataset=data, card_facts={"simulated": False, "licence": "mit"}))
    assert (denied.given["simulated"], denied.given["licence"]) == (False, "mit")
    assert not collect_facts(trainer(card_facts={})).given


@pytest.mark.parametrize(
    ("write", "licence"), [(write_published, "cc-by-nc-sa-4.0"), (make_run, "cc-by-4.0")], ids=["published", "run"]
)
def test_the_licence_comes_from_the_answers(write, licence, tmp_path) -> None:
    """However they are trained on: through `fairpp train`, from a folder that was built of them, or from Python alone."""
    source = write(tmp_path / "source")
    assert card_facts(PairArguments("loyal_nationals", answers=str(source)))["licence"] == licence
    build_folder(tmp_path / "folder", source)
    of_folder = PairArguments("loyal_nationals", dataset_name=str(tmp_path / "folder"))
    assert card_facts(of_folder)["licence"] == licence
    options = {"split": "train", "cache_dir": str(tmp_path / "cache")}
    for pairs in (
        load_dataset("fairpp", "pairs", target="loyal_nationals", answers=source, **options),
        load_dataset(str(tmp_path / "folder"), "pairs-loyal_nationals", **options),
    ):
        found = collect_facts(trainer(train_dataset=pairs, card_facts={}))
        assert render_model_card(found).count(f"are under `{licence}`.") == 1


def build_folder(out: Path, answers: Path) -> None:
    """With a card, but without its figures."""
    with mock.patch.object(
        dataset_folder, "draw_dataset_card", lambda facts: {"README.md": render_dataset_card(facts).encode()}
    ):
        build_dataset_folder(out, answers=answers, targets=["loyal_nationals"], progress=False)


def test_a_card_says_no_more_of_pairs_that_were_not_built_here() -> None:
    arguments = PairArguments("loyal_nationals", dataset_name="someone/pairs")
    assert card_facts(arguments) == {"target": "loyal_nationals", "dataset_name": "someone/pairs"}
    assert card_facts(PairArguments("loyal_nationals"))["licence"] == "cc-by-4.0"


# -- with a trainer ----------------------------------------------------------------------------------------------------


def train(model_path, folder, trainer_class=ReweightedDPOTrainer, config=ReweightedDPOConfig, adapter=False):
    """Two steps with a checkpoint after the first."""
    pairs = load_dataset("fairpp", "pairs", target="loyal_nationals", split="train[:8]")
    settings = {"max_steps": 2, "per_device_train_batch_size": 2, "save_strategy": "steps", "save_steps": 1}
    trained = trainer_class(
        str(model_path),
        args=config(str(folder), **QUICK | settings | {"save_total_limit": 1}),
        train_dataset=pairs,
        peft_config=LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM") if adapter else None,
    )
    trained.card_facts = GIVEN
    trained.train()
    return trained


@pytest.mark.parametrize("adapter", [False, True])
def test_a_trainer_writes_its_card_and_the_card_s_snippet_runs(tiny_model_path, tmp_path, capsys, adapter) -> None:
    """Weights of 4 questions' 8 pairs come out with mean 1; the last log is that of step 2."""
    folder = tmp_path / "trained"
    trained = train(tiny_model_path, folder, adapter=adapter)
    assert "| metric | training, step 2 |" in (folder / "README.md").read_text()  # with the last checkpoint
    trained.save_model()
    card = ModelCard.load(folder / "README.md")
    assert card.data.library_name == ("peft" if adapter else "transformers")
    assert {"fair-pp", "simulated", "reweighted-dpo"} <= set(card.data.tags)
    assert card.data.base_model is None
    assert str(tiny_model_path.parent) not in card.content
    assert f"the local model `{tiny_model_path.name}`" in card.text
    assert "| 8 | 1 | " in card.text
    assert "not recorded" not in card.text
    (code,) = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)
    capsys.readouterr()
    places = {tiny_model_path.name: tiny_model_path, folder.name: folder}
    for name, place in places.items():
        code = code.replace(f"path/to/{name}", str(place))
    exec(code, {})
    assert capsys.readouterr().out.strip()


def test_nothing_of_peft_s_card_is_lost(tiny_model_path, tmp_path) -> None:
    """PEFT, saving once more, finds all that it would say in the text; `save_model` puts the card's tags back."""
    trained = train(tiny_model_path, tmp_path / "trained", adapter=True)
    bare = ModelCard.load(tmp_path / "trained" / "checkpoint-2" / "README.md")
    trained.save_model()
    ours = ModelCard.load(tmp_path / "trained" / "README.md")
    assert set(bare.data.tags) - set(ours.data.tags) == {f"base_model:adapter:{tiny_model_path}"}  # a local path
    assert bare.data.pipeline_tag == ours.data.pipeline_tag == "text-generation"
    assert bare.data.library_name == ours.data.library_name == "peft"
    assert "- PEFT " in ours.text
    trained.model.save_pretrained(tmp_path / "trained")
    assert ModelCard.load(tmp_path / "trained" / "README.md").text.strip() == ours.text.strip()
    trained.save_model()
    assert (tmp_path / "trained" / "README.md").read_text() == ours.content


def test_the_card_goes_into_the_output_folder_by_the_main_process(tiny_model_path, tmp_path, monkeypatch) -> None:
    """8 pairs are 4 texts."""
    trained = train(tiny_model_path, tmp_path / "sft", ReweightedSFTTrainer, ReweightedSFTConfig)
    trained.save_model(str(tmp_path / "elsewhere"))
    assert (tmp_path / "elsewhere" / "model.safetensors").is_file()
    assert not (tmp_path / "elsewhere" / "README.md").exists()
    card = ModelCard.load(tmp_path / "sft" / "README.md")
    assert {"sft", "reweighted-sft"} <= set(card.data.tags)
    assert "| 4 | 1 | " in card.text
    (tmp_path / "sft" / "README.md").unlink()
    monkeypatch.setattr(trained, "is_world_process_zero", lambda: False)
    trained.create_model_card()
    assert not (tmp_path / "sft" / "README.md").exists()
