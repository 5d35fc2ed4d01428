"""The card of a trained model: valid metadata, numbers from the data, plain words on simulation, nothing invented."""

import dataclasses
import re
import tomllib
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
from datasets import Dataset, load_dataset
from huggingface_hub import ModelCard
from peft import LoraConfig
from published_tables import write_published
from small_runs import make_run
from tiny_models import tiny_model
from transformers import TrainerState

import fairpp_hf
from fairpp_hf.hub import build_dataset_folder, dataset_folder, render_dataset_card
from fairpp_hf.personas import load_personas
from fairpp_hf.provenance import Provenance
from fairpp_hf.training import ReweightedDPOConfig, ReweightedDPOTrainer, ReweightedSFTConfig, ReweightedSFTTrainer
from fairpp_hf.training.model_card import WeightedModelCard, model_metadata, render_model_card
from fairpp_hf.training.model_card_facts import (
    CARD_FACTS,
    LoggedMetrics,
    ModelCardFacts,
    TierWeight,
    WeightFacts,
    collect_facts,
)
from fairpp_hf.training.run import PairArguments, card_facts

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
        weights=WeightFacts(
            4, 8.0, 4.0, 64 / 22, (TierWeight(1, 2, 2.0), TierWeight(2, 1, 2.0), TierWeight(7, 1, 4.0))
        ),
        weight_normalization="dataset",
        weight_application="loss",
        group_column=None,
        settings={"beta": "0.1"},
        step=20,
        max_steps=20,
        train=LoggedMetrics(20, {"loss": 0.5, "grad_norm": 3.0, "tiers/10/loss": 1.0, "tiers/2/loss": 2.0, "step": 20}),
        evaluation=LoggedMetrics(20, {"loss": 0.25, "runtime": 3.0, "tiers/2/loss": 4.0}),
        versions={"TRL": "1.16.0"},
        run_links=(),
        method_citation="@inproceedings{rafailov2023direct}",
    )
    return dataclasses.replace(complete, **changes)


def trainer(**changes: object) -> SimpleNamespace:
    """What `collect_facts` looks at, without a trainer."""
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


# -- what a trainer knows ----------------------------------------------------------------------------------------------


def test_weights_are_counted_in_the_data() -> None:
    """Weights 1, 1, 2, 4: sum 8, squares 1 + 1 + 4 + 16 = 22, so 64 / 22 = 2.91 rows in effect."""
    weights = collect_facts(trainer()).weights
    assert weights is not None
    assert weights == WeightFacts(4, 8.0, 4.0, pytest.approx(64 / 22), weights.tiers)
    assert weights.tiers == (TierWeight(1, 2, 2.0), TierWeight(2, 1, 2.0), TierWeight(7, 1, 4.0))
    without = collect_facts(trainer(train_dataset=Dataset.from_dict({"weight": [1.0, 3.0]}))).weights
    assert without == WeightFacts(2, 4.0, 3.0, pytest.approx(16 / 10), ())
    stream = trainer().train_dataset.to_iterable_dataset()
    assert collect_facts(trainer(train_dataset=stream)).weights is None


def test_the_target_is_given_or_is_the_data_s_only_persona() -> None:
    rows = {"weight": [1.0, 1.0], "persona": ["a", "a"]}
    assert collect_facts(trainer(train_dataset=Dataset.from_dict(rows))).target == "loyal_nationals"
    assert collect_facts(trainer(train_dataset=Dataset.from_dict(rows), card_facts={})).target == "a"
    rows["persona"] = ["a", "b"]
    assert collect_facts(trainer(train_dataset=Dataset.from_dict(rows), card_facts={})).target is None
    assert collect_facts(trainer(card_facts={})).target is None


def test_names_are_those_that_others_can_use(tmp_path: Path) -> None:
    """A Hub name stays; of a path only the last part, since the rest says who trained where."""
    assert collect_facts(trainer()).model_name == "our-model"
    assert collect_facts(trainer(hub_model_id="us/theirs")).model_name == "theirs"
    assert collect_facts(trainer(), model_name="title").model_name == "title"
    (tmp_path / "base").mkdir()
    local = trainer(card_facts={"base_model": str(tmp_path / "base"), "dataset_name": str(tmp_path / "pairs")})
    found = collect_facts(local)
    assert (found.base_model, found.base_on_hub) == ("base", False)
    assert (found.dataset_name, found.dataset_on_hub) == ("pairs", False)
    found = collect_facts(trainer(), dataset_name="them/fairpp")
    assert (found.base_model, found.base_on_hub) == ("org/base", True)
    assert (found.dataset_name, found.dataset_on_hub) == ("them/fairpp", True)
    assert str(tmp_path) not in render_model_card(collect_facts(local))


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
    assert found.train == LoggedMetrics(4, {"loss": 0.5, "step": 4})
    assert found.evaluation == LoggedMetrics(4, {"a_loss": 0.4, "b_loss": 0.3, "step": 4})
    nothing = collect_facts(trainer())
    assert (nothing.train, nothing.evaluation) == (None, None)


def test_settings_that_are_off_are_left_out() -> None:
    settings = collect_facts(trainer()).settings
    assert settings["beta"] == "0.1"
    assert settings["loss_type"] == "sigmoid"
    assert settings["processes"] == "2"
    assert settings["optim"] == trainer().args.optim.value
    assert not {"ld_alpha", "soft_labels", "group_column", "group_step_size", "adapter", "quantization"} & set(settings)
    settings = collect_facts(trainer(group_column="topic")).settings
    assert settings["group_step_size"] == "0.01"


def test_what_card_facts_may_not_be() -> None:
    known = ", ".join(map(repr, CARD_FACTS))
    message = f"A key of card_facts must be one of {known}; got 'persona'. Did you mean 'persona_set'?"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        collect_facts(trainer(card_facts={"persona": "loyal_nationals"}))
    message = "simulated of card_facts must be True or False; got 'yes'. Leave it out where nobody knows."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        collect_facts(trainer(card_facts={"simulated": "yes"}))


# -- the text ----------------------------------------------------------------------------------------------------------


def test_the_metadata_is_valid_for_the_hub() -> None:
    card = ModelCard(render_model_card(facts()))
    assert card.data.to_dict() == model_metadata(facts()).to_dict()
    assert card.data.to_dict() == {
        "base_model": "org/base",
        "library_name": "transformers",
        "model_name": "our-model",
        "tags": ["trl", "dpo", "simulated"],
    }
    adapter = facts(adapter="LoRA", base_on_hub=False, dataset_name="us/fairpp", dataset_on_hub=True)
    assert ModelCard(render_model_card(adapter)).data.to_dict() == {
        "datasets": ["us/fairpp"],
        "library_name": "peft",
        "model_name": "our-model",
        "pipeline_tag": "text-generation",
        "tags": ["trl", "dpo", "simulated"],
    }


def test_tags_say_what_was_done() -> None:
    own = ["generated_from_trainer", "mine", "trl", "dpo", "fairpp_hf", "reweighted-dpo", "fair-pp", "alignment"]
    papers = ["arxiv:2505.11861", "arxiv:2305.18290"]
    assert list(collect_facts(trainer(), tags="mine").tags) == [*own, "simulated", *papers]
    assert list(collect_facts(trainer(card_facts={}), tags=["mine"]).tags) == [*own, *papers]
    assert "arxiv:2405.20304" in collect_facts(trainer(group_column="topic")).tags
    assert "arxiv:2305.18290" not in collect_facts(trainer(_tag_names=["trl", "sft"])).tags


def test_the_table_by_tier() -> None:
    """Tier 1 has 2 of 4 pairs (50%) and 2 of 8 of the weight (25%), 1 a pair; the others follow."""
    text = render_model_card(facts())
    assert "| 4 | 2 | 4 | 2.9 (72.7% of the pairs) |\n" in text
    assert "| 1 | 2 | 50.0% | 25.0% | 1 |\n| 2 | 1 | 25.0% | 25.0% | 2 |\n| 7 | 1 | 25.0% | 50.0% | 4 |\n" in text
    assert "| training texts |" in render_model_card(facts(stage="sft"))
    assert "The training data was a stream" in render_model_card(facts(weights=None))


def test_simulation_is_said_before_anything_else() -> None:
    for simulated, title, words in (
        (
            True,
            "Simulated answers.",
            "No real person was asked. The answers that the model was trained on (`survey`, a",
        ),
        (False, "Answers not marked as simulated.", "Whoever trained the model recorded that the answers (`survey`, a"),
        (
            None,
            "Origin of the answers: not recorded.",
            "The model was trained on answers (`survey`, a choice model with",
        ),
    ):
        given = {**GIVEN, "simulated": simulated}
        body = render_model_card(facts(given=given)).split("---\n", 2)[2].strip().splitlines()
        assert body[0] == "# our-model"
        assert body[2].startswith(f"> **{title}** {words}")
        assert ("No real person was asked" in "\n".join(body)) is (simulated is True)


def test_nothing_is_missing_where_everything_was_recorded_and_nothing_is_invented_elsewhere() -> None:
    assert "not recorded" not in render_model_card(facts())
    text = render_model_card(facts(given={}, target=None, base_model=None, base_on_hub=False, dataset_name=None))
    for words in (
        "a model whose origin is not recorded",
        "Whose preferences it aims at is not recorded.",
        "- Target persona: not recorded\n",
        "- Persona set: not recorded\n",
        "- Compared with: not recorded\n",
        "- Answers: not recorded\n",
        "- Labels: not recorded\n",
        "- Training data: name not recorded\n",
        "Weighting scheme: not recorded.",
    ):
        assert words in text
    assert "More in Common" not in text
    assert "None" not in text


def test_whose_preferences() -> None:
    text = render_model_card(facts())
    assert "- Target persona: `loyal_nationals` (Loyal Nationals, 17% of the survey's population)\n" in text
    assert "- Compared with: all others: `progressive_activists`, `civic_pragmatists`," in text
    assert "`tier`, alpha = 1, beta = 1. Tier i of a question is 1 +" in text
    given = {
        **GIVEN,
        "persona_set": load_personas("hidden_tribes_2018"),
        "comparison": "nearest",
        "target": "moderates",
    }
    text = render_model_card(facts(given=given, target="moderates"))
    assert "- Persona set: `hidden_tribes_2018`: *" in text
    assert "- Compared with: the persona whose answers are nearest to the target's\n" in text
    text = render_model_card(facts(given={**GIVEN, "persona_set": "mine", "comparison": ["a", "b"]}))
    assert "- Persona set: `mine`\n- Compared with: `a`, `b`\n" in text

    def by_hand() -> None: ...

    text = render_model_card(facts(given={**GIVEN, "weighting": by_hand}))
    assert "Weighting scheme: `by_hand`. Weights were" in text
    assert "Weighting scheme: `uniform`. Every question" in render_model_card(
        facts(given={**GIVEN, "weighting": "uniform"})
    )


def test_metrics_and_groups() -> None:
    """Tiers in their order, bookkeeping left out, and groups in a table of their own, the heaviest first."""
    text = render_model_card(facts())
    assert (
        "| metric | training, step 20 | evaluation, step 20 |\n| --- | ---: | ---: |\n| `loss` | 0.5 | 0.25 |\n"
        "| `tiers/2/loss` | 2 | 4 |\n| `tiers/10/loss` | 1 |  |\n\n"
    ) in text
    assert "No metrics were logged." in render_model_card(facts(train=None, evaluation=None))
    assert "This card was written at step 20 of 30, before" in render_model_card(facts(max_steps=30))
    logged = {f"groups/{name}/weight": weight for name, weight in (("a|b", 0.25), ("c", 0.75))}
    log = LoggedMetrics(1, {**logged, "groups/c/loss": 2.0})
    text = render_model_card(facts(group_column="topic", train=log))
    assert "| c | 0.75 | 2 |\n| a\\|b | 0.25 |  |\n" in text
    assert "@article{ramesh2024group" in text
    many = LoggedMetrics(1, {f"groups/{number}/weight": float(number) for number in range(12)})
    text = render_model_card(facts(group_column="topic", train=many))
    assert "10 of 12 groups, those with the largest weights:" in text
    assert "| 2 | 2 |" in text
    assert "| 1 | 1 |" not in text


def test_the_card_has_what_a_reader_needs() -> None:
    text = render_model_card(facts(run_links=("https://logs.example/run",), given={**GIVEN, "after_sft": True}))
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == [
        *("How to load it", "Whose preferences", "Weights", "Training"),
        *("Intended use", "Misuse", "Limits", "Licence", "Citation"),
    ]
    for words in (
        "Profiling",
        "Manipulation",
        "Speaking for people",
        "zhou2025fairpp",
        "rafailov2023direct",
        "vonwerra2020",
    ):
        assert words in text
    assert "whose result is also the reference" in text
    assert "- Labels: `answers`, the one answer that the target gave to a question\n" in text
    sft = render_model_card(facts(stage="sft", reference=None, given={**GIVEN, "labels": "fitted"}))
    assert "- Labels: the one answer that the target gave to a question\n" in sft
    without = render_model_card(
        facts(reference="none", given={**GIVEN, "after_sft": True, "labels": "fitted", "divergence": 0.5})
    )
    assert "optimisation without a reference model with" in without
    assert "a stage of weighted supervised fine-tuning.\n" in without
    over_options = facts(reference="none", settings={"loss_type": "listwise, distillation"})
    assert (
        "trained by fitting its probabilities of each question's options to a target distribution without a reference model"
        in render_model_card(over_options)
    )
    assert (
        "fitted to the target's answers, leaning away from the personas that it is compared with (divergence 0.5)\n"
        in without
    )
    assert "<https://logs.example/run>" in text
    assert "$" not in text
    assert "\n\n\n" not in text


def test_a_wheel_carries_the_template() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    package = Path(fairpp_hf.__file__).parent
    carried = {
        file for pattern in project["tool"]["setuptools"]["package-data"]["fairpp_hf"] for file in package.glob(pattern)
    }
    assert package / "training" / "model_card_template.md" in carried


def licence_of(text: str) -> str:
    return re.search(r"^## Licence\n\n(.*?)\n\n## ", text, re.DOTALL | re.MULTILINE)[1]


def test_the_licence_of_the_answers_is_said_and_none_is_claimed_for_the_model() -> None:
    said = "This card sets no licence. The terms of the base model bind what is made from it"
    for given, words in (
        (GIVEN, f"{said}, and those of the training data may add conditions."),
        (GIVEN | {"licence": "cc-by-4.0"}, f"{said}. The answers that it was trained on are under `cc-by-4.0`."),
        (
            GIVEN | {"licence": "cc-by-nc-sa-4.0"},
            f"{said}. The answers that it was trained on are under `cc-by-nc-sa-4.0`. That is CC BY-NC-SA 4.0, the licence "
            "of the published Fair-PP tables: name the authors, no commercial use, share alike. What is derived from such "
            "answers may inherit it, this model included.",
        ),
    ):
        text = render_model_card(facts(given=given))
        assert licence_of(text) == words
        assert ModelCard(text).data.license is None


def test_data_that_says_its_licence_is_believed() -> None:
    data = Dataset.from_dict({"weight": [1.0, 3.0]})
    data.info.license = "cc-by-nc-sa-4.0\n"
    assert collect_facts(trainer(train_dataset=data, card_facts={})).given["licence"] == "cc-by-nc-sa-4.0"
    # what somebody says outright counts before it
    assert collect_facts(trainer(train_dataset=data, card_facts={"licence": "mit"})).given["licence"] == "mit"
    assert "licence" not in collect_facts(trainer(card_facts={})).given


@pytest.mark.parametrize(
    ("write", "licence"), [(write_published, "cc-by-nc-sa-4.0"), (make_run, "cc-by-4.0")], ids=["published", "run"]
)
def test_the_licence_comes_from_the_answers(write, licence, tmp_path) -> None:
    """However they are trained on: through `train.py`, from a folder that was built of them, or from Python alone."""
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
        assert licence_of(render_model_card(found)).count(f"are under `{licence}`.") == 1


def build_folder(out: Path, answers: Path) -> None:
    """With a card, but without its figures."""
    with mock.patch.object(
        dataset_folder, "draw_dataset_card", lambda facts: {"README.md": render_dataset_card(facts).encode()}
    ):
        build_dataset_folder(out, answers=answers, targets=["loyal_nationals"], progress=False)


def test_the_survey_has_no_terms_but_its_own() -> None:
    found = card_facts(PairArguments("loyal_nationals"))
    assert found["licence"] == "cc-by-4.0"
    assert "NC-SA" not in render_model_card(facts(given=found))


# -- with a trainer ----------------------------------------------------------------------------------------------------


def train(
    model_path, folder, trainer_class=ReweightedDPOTrainer, config=ReweightedDPOConfig, adapter=False, **settings
):
    """Two steps with a checkpoint after the first."""
    pairs = load_dataset("fairpp", "pairs", target="loyal_nationals", split="train[:8]")
    args = config(
        str(folder),
        max_steps=2,
        per_device_train_batch_size=2,
        save_steps=1,
        save_total_limit=1,
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        gradient_checkpointing=False,
        **settings,
    )
    if not issubclass(trainer_class, WeightedModelCard):
        trainer_class = type(trainer_class.__name__, (WeightedModelCard, trainer_class), {})
    peft_config = LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM") if adapter else None
    trained = trainer_class(str(model_path), args=args, train_dataset=pairs, peft_config=peft_config)
    trained.card_facts = GIVEN
    trained.train()
    return trained


def answer_of(card: ModelCard, base: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What the card's snippet prints, with the real places put in."""
    (code,) = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)
    capsys.readouterr()
    exec(code.replace(f"path/to/{base.name}", str(base)).replace(f"path/to/{folder.name}", str(folder)), {})
    return capsys.readouterr().out


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
    assert "| metric | training, step 2 |" in card.text
    assert "not recorded" not in card.text
    assert answer_of(card, tiny_model_path, folder, capsys).strip()


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


def test_saving_elsewhere_writes_no_card(tiny_model_path, tmp_path) -> None:
    trained = train(tiny_model_path, tmp_path / "trained")
    trained.save_model(str(tmp_path / "elsewhere"))
    assert (tmp_path / "elsewhere" / "model.safetensors").is_file()
    assert not (tmp_path / "elsewhere" / "README.md").exists()


def test_only_the_main_process_writes(tiny_model_path, tmp_path, monkeypatch) -> None:
    trained = train(tiny_model_path, tmp_path / "trained")
    (tmp_path / "trained" / "README.md").unlink()
    monkeypatch.setattr(trained, "is_world_process_zero", lambda: False)
    trained.create_model_card()
    assert not (tmp_path / "trained" / "README.md").exists()


def test_the_card_of_supervised_fine_tuning(tiny_model_path, tmp_path) -> None:
    """8 pairs are 4 texts."""
    trained = train(tiny_model_path, tmp_path / "sft", ReweightedSFTTrainer, ReweightedSFTConfig)
    trained.save_model()
    card = ModelCard.load(tmp_path / "sft" / "README.md")
    assert {"sft", "reweighted-sft"} <= set(card.data.tags)
    assert "trained by weighted supervised fine-tuning" in card.text
    assert "rafailov" not in card.text
    assert "| 4 | 1 | " in card.text


def test_data_that_says_it_is_simulated_is_believed() -> None:
    """Pairs of the builder say so in their description, and whoever trains from Python need not repeat it."""
    data = Dataset.from_dict({"weight": [1.0, 3.0], "persona": ["a", "a"]})
    data.info.description = Provenance("survey", ("survey (simulated)",)).text
    described = collect_facts(trainer(train_dataset=data, card_facts={}))
    assert described.given["simulated"] is True
    assert "simulated" in described.tags
    # what somebody says outright counts before it
    denied = collect_facts(trainer(train_dataset=data, card_facts={"simulated": False}))
    assert denied.given["simulated"] is False
    data.info.description = "Pairs of whoever."
    assert "simulated" not in collect_facts(trainer(train_dataset=data, card_facts={})).given


@pytest.mark.parametrize(("skill", "word"), [(0.2, "nearer to"), (-0.25, "no nearer to")])
def test_where_alignment_was_scored_the_constant_stands_beside_the_model(skill: float, word: str) -> None:
    values = {
        "question_js_distance/target": 0.14 * (1 - skill),
        "question_js_distance/constant": 0.14,
        "skill/target": skill,
    }
    card = render_model_card(facts(evaluation=LoggedMetrics(20, values)))
    assert f"{0.14 * (1 - skill):.3f}; of a constant answer" in card
    assert f"**{skill:+.2f}**. By this estimate" in card
    assert f"the model is {word} its target" in card
    assert "constant answer" not in render_model_card(facts())
