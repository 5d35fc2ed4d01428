"""Settings of the sft stage, and where stages start from; what running them comes to is in test_run.py."""

import re

import pytest
from checkpoint_folders import write_checkpoint

from fairpp_hf.training import ReweightedDPOConfig
from fairpp_hf.training.arguments import StageArguments
from fairpp_hf.training.run import sft_arguments, starts


def training(tmp_path, **settings):
    return ReweightedDPOConfig(str(tmp_path / "out"), report_to="none", **settings)


def refused(message):
    return pytest.raises(ValueError, match=f"^{re.escape(message)}$")


# -- settings ----------------------------------------------------------------------------------------------------------


def test_settings_are_shared_unless_a_stage_has_its_own(tmp_path):
    shared = {
        "learning_rate": 3e-4,
        "num_train_epochs": 2,
        "max_steps": 7,
        "per_device_train_batch_size": 3,
        "gradient_accumulation_steps": 5,
        "lr_scheduler_type": "cosine",
        "optim": "rmsprop",
        "warmup_steps": 0.1,
        "gradient_checkpointing": False,
        "max_length": 77,
        "weight_normalization": "batch",
        "pad_token": "<pad>",
        "hub_token": "a secret",
        "model_init_kwargs": {"dtype": "bfloat16", "token": "another secret"},
        "accelerator_config": {"even_batches": True, "split_batches": True},
        "eval_strategy": "steps",
        "eval_steps": 4,
        "save_steps": 8,
        "seed": 11,
    }
    dpo = training(tmp_path, beta=0.3, loss_type=["ipo"], group_column="topic", **shared)
    sft = sft_arguments(dpo, StageArguments(stage="sft"))
    for name in shared:
        assert getattr(sft, name) == getattr(dpo, name), name
    assert (sft.output_dir, sft.loss_type, sft.bf16) == (dpo.output_dir, "nll", dpo.bf16)
    own = sft_arguments(dpo, StageArguments("sft", sft_learning_rate=1e-5, sft_num_train_epochs=3))
    assert (own.learning_rate, own.num_train_epochs, own.max_steps) == (1e-5, 3, -1)


def test_a_first_stage_keeps_to_its_folder_and_off_the_hub(tmp_path):
    dpo = training(
        tmp_path,
        push_to_hub=True,
        hub_model_id="someone/model",
        run_name="mine",
        load_best_model_at_end=True,
        eval_strategy="steps",
        metric_for_best_model="eval_rewards/accuracies",
        greater_is_better=True,
    )
    sft = sft_arguments(dpo, StageArguments(stage="sft_then_dpo"))
    assert (sft.output_dir, sft.push_to_hub, sft.hub_model_id) == (str(tmp_path / "out" / "sft"), False, None)
    assert (sft.run_name, sft.metric_for_best_model, sft.greater_is_better) == ("mine-sft", "loss", False)
    alone = sft_arguments(dpo, StageArguments(stage="sft"))
    assert (alone.push_to_hub, alone.hub_model_id, alone.run_name) == (True, "someone/model", "mine")


def test_settings_that_sft_does_not_support_are_refused(tmp_path):
    dpo = training(tmp_path)
    dpo.label_smoothing_factor = 0.1  # which the config of the second stage refuses itself
    with pytest.raises(ValueError, match=r"^label_smoothing_factor must be 0; got 0.1. "):
        sft_arguments(dpo, StageArguments(stage="sft"))


def test_stage_arguments_are_checked():
    with refused("stage must be one of 'dpo', 'sft', 'sft_then_dpo'; got 'dpo_then_sft'. Did you mean 'sft_then_dpo'?"):
        StageArguments(stage="dpo_then_sft")
    with refused(
        "sft_learning_rate must be left out with stage='dpo'; got 0.001. There is no sft stage. Remove it, or set "
        "stage: sft_then_dpo."
    ):
        StageArguments(sft_learning_rate=1e-3)
    with refused("sft_num_train_epochs must be above 0; got 0."):
        StageArguments("sft", sft_num_train_epochs=0)


# -- where stages start from -------------------------------------------------------------------------------------------


def lay_out(tmp_path, *checkpoints, finished=False):
    """Folders of complete checkpoints under `out`, and the results of an sft stage."""
    for checkpoint in checkpoints:
        write_checkpoint(tmp_path / "out" / checkpoint)
    if finished:
        (tmp_path / "out" / "sft").mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / "sft" / "all_results.json").write_text("{}")


def starting(tmp_path, asked, stage="sft_then_dpo"):
    return starts(training(tmp_path, resume_from_checkpoint=asked), StageArguments(stage))


@pytest.mark.parametrize("asked", [None, False, "false"])
def test_without_resuming_all_begin_anew(tmp_path, asked):
    lay_out(tmp_path, "sft/checkpoint-3", "checkpoint-2", finished=True)
    assert starting(tmp_path, asked) == {"sft": None, "dpo": None}
    assert starting(tmp_path, asked, "dpo") == {"dpo": None}


@pytest.mark.parametrize("asked", ["last", "true", True])
def test_the_last_checkpoint_is_that_of_the_stage_that_was_under_way(tmp_path, asked, caplog):
    """Also if an earlier run left checkpoints of the stage that comes after."""
    out = tmp_path / "out"
    lay_out(tmp_path, "sft/checkpoint-3", "sft/checkpoint-12", "checkpoint-2")
    assert starting(tmp_path, asked) == {"sft": str(out / "sft" / "checkpoint-12"), "dpo": None}
    assert caplog.messages == [f"Training goes on from {out / 'sft' / 'checkpoint-12'}."]
    lay_out(tmp_path, finished=True)
    assert starting(tmp_path, asked) == {"dpo": str(out / "checkpoint-2")}
    (out / "checkpoint-2" / "trainer_state.json").write_text('{"glob')
    assert starting(tmp_path, asked) == {"dpo": None}
    assert caplog.messages[1:] == [
        f"{out / 'checkpoint-2'} is incomplete and is passed over: its trainer_state.json is missing or cut off."
    ]


def test_a_checkpoint_says_which_stage_it_is_of(tmp_path):
    out = tmp_path / "out"
    lay_out(tmp_path, "sft/checkpoint-3", "checkpoint-2", finished=True)
    sft, dpo = str(out / "sft" / "checkpoint-3"), str(out / "checkpoint-2")
    assert starting(tmp_path, sft) == {"sft": sft, "dpo": None}
    assert starting(tmp_path, dpo) == {"dpo": dpo}
    assert starting(tmp_path, dpo, "dpo") == {"dpo": dpo}
    (out / "sft" / "all_results.json").unlink()
    with refused(
        f"resume_from_checkpoint must lie in {str(out / 'sft')!r} until the sft stage is finished; got {dpo!r}. Set it to "
        "'last', or to a checkpoint there."
    ):
        starting(tmp_path, dpo)


@pytest.mark.parametrize(("stage", "folder"), [("sft_then_dpo", "out/sft"), ("sft", "out"), ("dpo", "out")])
def test_nothing_to_go_on_from_is_an_error(tmp_path, stage, folder):
    for _ in range(2):
        with refused(
            f"resume_from_checkpoint must find a complete checkpoint; got none in {str(tmp_path / folder)!r}. Leave it out "
            "to start from the beginning."
        ):
            starting(tmp_path, "last", stage)
        (tmp_path / folder / "checkpoint-1").mkdir(
            parents=True, exist_ok=True
        )  # first no folder, then an incomplete one
