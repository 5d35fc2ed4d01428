"""What the weighted trainers refuse before a model is loaded, all at once; none of it is ignored."""

import math
import re

import pytest
from tiny_models import tiny_model, tiny_tokenizer
from tiny_trainers import make_pairs, make_trainer
from trl import DPOConfig, SFTConfig
from trl.trainer.dpo_trainer import DataCollatorForPreference

from fairpp_hf.training import ReweightedDPOConfig, ReweightedDPOTrainer, ReweightedSFTConfig, ReweightedSFTTrainer
from fairpp_hf.training.losses import LOSSES, MARGIN_LOSSES

QUIET = {"report_to": "none", "bf16": False}
BOTH = pytest.mark.parametrize(
    ("trainer", "config"),
    [(ReweightedDPOTrainer, ReweightedDPOConfig), (ReweightedSFTTrainer, ReweightedSFTConfig)],
    ids=["dpo", "sft"],
)


def refuse(trainer, args, *sentences, **arguments):
    """The error consists of these sentences, each of which begins like that, and comes before any model is loaded."""
    arguments = {"model": "a model that does not exist", "train_dataset": make_pairs([1.0]), **arguments}
    with pytest.raises(ValueError, match="must") as error:
        trainer(args=args, **arguments)
    lines = str(error.value).splitlines()
    assert len(lines) == len(sentences), lines
    for line, sentence in zip(lines, sentences, strict=True):
        assert line.startswith(sentence), line


# -- datasets ----------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    ("weights", "found"),
    [
        (
            [1.0, -0.5, -2.0],
            "finite weights of at least 0; got -0.5 at row 1 (2 such of 3 rows). Drop or mend these rows.",
        ),
        ([1.0, math.nan], "finite weights of at least 0; got nan at row 1 (1 such of 2 rows)."),
        ([math.inf], "finite weights of at least 0; got inf at row 0 (1 such of 1 rows)."),
        ([None, 1.0], "finite weights of at least 0; got nan at row 0 (1 such of 2 rows)."),
        ([0.0, 0.0], "a weight above 0; got 0 in all 2 rows, from which nothing is learnt."),
        (["heavy"], "numbers in its 'weight' column; got string."),
    ],
)
def test_weights(tmp_path, trainer, config, weights, found):
    args = config(str(tmp_path), **QUIET)
    refuse(trainer, args, f"train_dataset must have {found}", train_dataset=make_pairs(weights))


@BOTH
def test_columns(tmp_path, trainer, config):
    pairs, args = make_pairs([1.0]), config(str(tmp_path), **QUIET)
    sentence = "eval_dataset['heldout'] must have a 'weight' column; got columns ['prompt', 'chosen', "
    refuse(trainer, args, sentence, eval_dataset={"heldout": pairs.remove_columns("weight")})
    sentence = "train_dataset must hold text only; got column 'images'. "
    refuse(trainer, args, sentence, train_dataset=pairs.add_column("images", [["picture"]]))


def test_texts_without_prompts(tmp_path):
    args = ReweightedSFTConfig(str(tmp_path), **QUIET)
    sentence = (
        "train_dataset must have the columns 'prompt' and 'completion', or 'prompt' and 'chosen'; got columns ['text'"
    )
    rows = make_pairs([1.0]).select_columns(["prompt", "weight"]).rename_column("prompt", "text")
    refuse(ReweightedSFTTrainer, args, sentence, train_dataset=rows)


@pytest.mark.parametrize(
    ("probabilities", "found"),
    [
        (None, "a 'label_probability' column with soft_labels=True; got columns ['prompt', "),
        ([0.5, 1.2, -0.1], "label probabilities between 0 and 1; got 1.2 at row 1 (2 such of 3 rows)."),
        ([0.5, 0.5, None], "label probabilities between 0 and 1; got nan at row 2 (1 such of 3 rows)."),
    ],
)
def test_label_probabilities(tmp_path, probabilities, found):
    pairs = make_pairs([1.0] * 3).remove_columns("label_probability")
    if probabilities is not None:
        pairs = pairs.add_column("label_probability", probabilities)
    args = ReweightedDPOConfig(str(tmp_path), soft_labels=True, **QUIET)
    refuse(ReweightedDPOTrainer, args, f"train_dataset must have {found}", train_dataset=pairs)


def test_groups(tmp_path):
    args = ReweightedDPOConfig(str(tmp_path), group_column="grupo", **QUIET)
    refuse(ReweightedDPOTrainer, args, "group_column of train_dataset must be one of 'prompt', 'chosen', ")
    pairs = make_pairs([1.0] * 3).remove_columns("group").add_column("group", ["a", None, "b"])
    with pytest.raises(
        ValueError, match=r"^train dataset must have a group in every row of 'group'; got none at row 1 \("
    ):
        make_trainer(tmp_path, pairs, eval_dataset=None, group_column="group")


@BOTH
def test_more_tokens_than_the_embedding_has_rows(tmp_path, trainer, config):
    """Before the reference is computed, too, which TRL does in its __init__."""
    tokenizer = tiny_tokenizer()
    rows = len(tokenizer)
    tokenizer.add_tokens(["<another>"])
    precomputed = {"precompute_ref_log_probs": True} if config is ReweightedDPOConfig else {}
    args = config(str(tmp_path), **QUIET, **precomputed)
    sentence = f"The embedding must have a row for each token of the tokenizer; got {rows} rows for {rows + 1} tokens. "
    refuse(trainer, args, sentence, model=tiny_model(), processing_class=tokenizer)


@BOTH
def test_streams(tmp_path, trainer, config):
    args = config(str(tmp_path), max_steps=1, **QUIET)
    stream = make_pairs([1.0]).to_iterable_dataset()
    refuse(
        trainer,
        args,
        "train_dataset must be a map-style datasets.Dataset; got IterableDataset. ",
        "eval_dataset must have a 'weight' column; ",
        train_dataset=stream,
        eval_dataset=make_pairs([1.0]).remove_columns("weight"),
    )


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "sentences"),
    [
        (
            {"loss_type": ["aot"], "use_weighting": True, "padding_free": True, "weight_normalization": "sum"},
            (
                "weight_normalization must be one of 'dataset', 'batch', 'none'; got 'sum'.",
                "loss_type must be a sum over pairs; got 'aot'. It sorts the batch, ",
                "use_weighting must be False; got True. ",
                "padding_free must be False; got True. ",
            ),
        ),
        ({"loss_type": ["log"]}, ("loss_type must be one of 'sigmoid', ",)),
        ({"reference": "base"}, ("reference must be one of 'model', 'none'; got 'base'.",)),
        ({"label_smoothing_factor": 0.3}, ("label_smoothing_factor must be 0; got 0.3. ",)),
        (
            {"truncation_mode": "keep_middle", "max_length": 1},
            (
                "truncation_mode must be 'keep_start' or 'keep_end'; got 'keep_middle'. ",
                "max_length must be at least 2; got 1. In a sequence of one token, none is predicted. ",
            ),
        ),
        ({"group_step_size": 0.0}, ("group_step_size must be a finite number above 0; got 0.0.",)),
        (
            {"weight_application": "sampling", "train_sampling_strategy": "sequential"},
            ("train_sampling_strategy must be 'random' with weight_application='sampling'; got 'sequential'. ",),
        ),
        (
            {"train_sampling_strategy": "group_by_length"},
            ("train_sampling_strategy must be 'random' or 'sequential'; got 'group_by_length'. ",),
        ),
        (
            {
                "reference": "none",
                "loss_type": [next(name for name in LOSSES if name not in MARGIN_LOSSES), "sigmoid"],
                "f_divergence_type": "js_divergence",
                "precompute_ref_log_probs": True,
                "sync_ref_model": True,
            },
            (
                "loss_type must be one of 'sigmoid', ",
                "f_divergence_type must be 'reverse_kl' with reference='none'; got 'js_divergence'. ",
                "precompute_ref_log_probs must be False ",
                "sync_ref_model must be False ",
            ),
        ),
        (
            {"loss_type": ["listwise"], "ld_alpha": 0.5, "f_divergence_type": "js_divergence"},
            (
                "soft_labels must be True with loss_type 'listwise'; got False. ",
                "ld_alpha must be None with loss_type 'listwise'; got 0.5. ",
                "f_divergence_type must be 'reverse_kl' ",
            ),
        ),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_settings_of_dpo(tmp_path, settings, sentences):
    with pytest.raises(ValueError, match="must") as error:
        ReweightedDPOConfig(str(tmp_path), **settings)
    for line, sentence in zip(str(error.value).splitlines(), sentences, strict=True):
        assert line.startswith(sentence), line


SFT_SETTINGS = {
    "loss_type must be 'nll'; got 'dft'. ": {"loss_type": "dft"},
    "label_smoothing_factor must be 0; got 0.1. ": {"label_smoothing_factor": 0.1},
    "packing must be False; got True. ": {"packing": True},
    "eval_packing must be False; got True. ": {"eval_packing": True},
    "padding_free must be False; got True. ": {"padding_free": True},
    "completion_only_loss must be True; got False. ": {"completion_only_loss": False},
    "dataset_kwargs must not have skip_prepare_dataset; got True. ": {"dataset_kwargs": {"skip_prepare_dataset": True}},
    "average_tokens_across_devices must be True; got False. ": {"average_tokens_across_devices": False},
}
"""In the order in which they are named."""


def test_settings_of_sft(tmp_path):
    """All at once, also in a plain `SFTConfig`."""
    settings = {name: value for wrong in SFT_SETTINGS.values() for name, value in wrong.items()}
    refuse(ReweightedSFTTrainer, SFTConfig(str(tmp_path), bf16=False, **settings), *SFT_SETTINGS)
    with pytest.raises(
        ValueError, match=r"^weight_normalization must be one of .*; got 'sum'\.\nloss_type must be 'nll'"
    ):
        ReweightedSFTConfig(str(tmp_path), weight_normalization="sum", **settings)


def test_batches_of_unequal_sizes_on_several_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(ReweightedSFTConfig, "world_size", 2)
    with pytest.raises(ValueError, match=r"^train_sampling_strategy must not be 'batch_rebalance' on several"):
        ReweightedSFTConfig(str(tmp_path), report_to="none", train_sampling_strategy="batch_rebalance")


# -- arguments ---------------------------------------------------------------------------------------------------------


def test_arguments_of_dpo(tmp_path):
    refuse(
        ReweightedDPOTrainer,
        ReweightedDPOConfig(str(tmp_path), reference="none", **QUIET),
        "compute_metrics must be None; got a function. ",
        "data_collator must be None or a fairpp_hf.training.DataCollatorForWeightedPreference; got ",
        "ref_model must be None with reference='none'; got a model. ",
        compute_metrics=print,
        data_collator=DataCollatorForPreference(pad_token_id=0),
        ref_model=tiny_model(),
    )


def test_arguments_of_sft(tmp_path):
    names = ("compute_loss_func", "compute_metrics", "preprocess_logits_for_metrics", "formatting_func")
    sentences = [f"{name} must be None; got a function. " for name in names]
    args = ReweightedSFTConfig(str(tmp_path), **QUIET)
    refuse(ReweightedSFTTrainer, args, *sentences, **dict.fromkeys(names, print))
    message = "args must be a ReweightedSFTConfig or a trl.SFTConfig; got DPOConfig. Pass one of the two."
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        ReweightedSFTTrainer("a model", DPOConfig(str(tmp_path), bf16=False), train_dataset=make_pairs([1.0]))


@pytest.mark.parametrize(("train", "evaluation"), [(8, 6), (6, 8)])
def test_batches_that_would_cut_the_pairs_of_a_question(tmp_path, train, evaluation):
    from tiny_trainers import question_pairs

    listwise = {"loss_type": ["listwise"], "soft_labels": True, "reference": "none", "ref_model": None}
    sizes = {"per_device_train_batch_size": train, "per_device_eval_batch_size": evaluation}
    name = "train" if train == 8 else "eval"
    expected = (
        f"per_device_{name}_batch_size must be a multiple of 3, the pairs of a prompt in {name}_dataset, with loss_type "
        "['listwise']; got 8. Set it to 6."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        make_trainer(tmp_path, question_pairs([[1.0] * 3] * 4), **sizes, **listwise)
    with pytest.raises(ValueError, match=r"train_dataset must have equally many pairs for each prompt .* got 2 and 3"):
        make_trainer(tmp_path, question_pairs([[1.0] * 3, [1.0] * 2]), eval_dataset=None, **sizes, **listwise)
