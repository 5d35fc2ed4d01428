"""Soft labels, groups, metrics and warnings of `ReweightedDPOTrainer`, and bad columns."""

import numpy as np
import pytest
import torch
from tiny_models import tiny_model
from tiny_trainers import assert_same, make_pairs, make_trainer, oracle_gradient, question_pairs, step_gradient

from fairpp_hf.training.group_weights import GroupWeights
from fairpp_hf.training.metrics import DisplacementWatch, PairMetrics

WEIGHTS = [[0.1, 0.4], [0.3, 0.3], [2.0, 2.0]]
PAIRS = question_pairs(WEIGHTS)
FLAT = np.array(WEIGHTS).ravel()


# -- soft labels -------------------------------------------------------------------------------------------------------


def test_soft_labels_are_a_label_probability_for_each_pair(tmp_path):
    """Oracle: -q log sigmoid(m) - (1 - q) log sigmoid(-m), one pair at a time."""
    ours = step_gradient(tmp_path, PAIRS, soft_labels=True)
    coefficients = FLAT / FLAT.sum()
    assert_same(ours, oracle_gradient(PAIRS, coefficients, label_probability=PAIRS["label_probability"]))
    assert (ours - step_gradient(tmp_path, PAIRS)).norm() > 0.05 * ours.norm()


def test_soft_labels_that_are_left_out_are_mentioned(tmp_path, caplog):
    """Of three pairs a question, the third would be taken for an answer of the target's."""
    for pairs, soft in ((PAIRS, True), (PAIRS.remove_columns("label_probability"), False), (PAIRS, False)):
        assert not caplog.records
        make_trainer(tmp_path, pairs, soft_labels=soft, eval_dataset=None)
    assert [record.getMessage() for record in caplog.records] == [
        "train_dataset has soft labels, a column 'label_probability', which are not used: soft_labels is False, and each "
        "chosen text is taken for the preferred one. Set soft_labels=True, or load the pairs with labels='answers'."
    ]


# -- groups ------------------------------------------------------------------------------------------------------------


def test_group_weights_by_hand():
    """Shares 1/4 and 3/4, alpha 1/2 each: factors 2 and 2/3. A step in which only north has a loss, 0.3 of the whole sum,

    has the estimates 0.3 / 0.25 = 1.2 and 0, so that alpha becomes exp(0.6) to 1 at a step size of 0.5."""
    groups = GroupWeights(["north", "south"], np.array([0.25, 0.75]), step_size=0.5)
    assert groups.factor(torch.tensor([0, 1, 1])).tolist() == pytest.approx([2, 2 / 3, 2 / 3])
    groups.add(torch.tensor([0, 0]), torch.tensor([0.1, 0.2]))
    groups.step()
    assert groups.alpha.tolist() == pytest.approx([np.exp(0.6) / (np.exp(0.6) + 1), 1 / (np.exp(0.6) + 1)])
    before = groups.alpha.clone()
    groups.step()
    assert groups.alpha.tolist() == pytest.approx(before.tolist()), "a step without losses moves nothing"


def test_the_first_step_counts_groups_alike(tmp_path):
    """alpha is 1/2 each: the gradient of the plain mean of the two groups' weighted mean losses."""
    north = np.array(PAIRS["group"]) == "north"
    coefficients = np.where(north, FLAT / FLAT[north].sum(), FLAT / FLAT[~north].sum()) / 2
    assert_same(step_gradient(tmp_path, PAIRS, group_column="group"), oracle_gradient(PAIRS, coefficients))


def test_the_worst_group_gains_weight_and_is_logged(tmp_path):
    """South's preferences contradict north's on the same prompts, and are many times heavier: without groups north loses."""
    north = question_pairs([[1.0]] * 3)
    south = north.rename_columns({"chosen": "rejected", "rejected": "chosen"})
    rows = [{**row, "group": "north"} for row in north] + [{**row, "group": "south", "weight": 8.0} for row in south]
    pairs = make_pairs([1.0]).from_list(rows)
    settings = {"num_train_epochs": 20, "learning_rate": 0.1, "per_device_train_batch_size": 6, "max_grad_norm": 0.0}
    worst = {}
    for column in (None, "group"):
        trainer = make_trainer(tmp_path, pairs, group_column=column, group_step_size=0.5, **settings)
        trainer.train()
        if column:
            logged = [entry for entry in trainer.state.log_history if "groups/north/weight" in entry]
            assert logged[0]["groups/north/weight"] + logged[0]["groups/south/weight"] == pytest.approx(1)
            assert {"groups/north/loss", "groups/south/loss"} <= set(logged[0])
        worst[column] = make_trainer(
            tmp_path, pairs, group_column="group", model=trainer.model, ref_model=tiny_model(seed=1)
        ).evaluate()
    assert worst["group"]["eval_groups/north/loss"] < worst[None]["eval_groups/north/loss"] - 0.05


def test_groups_that_only_evaluation_has_are_logged(tmp_path):
    other = PAIRS.remove_columns("group").add_column("group", ["east"] * 6)
    metrics = make_trainer(tmp_path, PAIRS, group_column="group", eval_dataset=other).evaluate()
    assert metrics["eval_groups/east/loss"] == pytest.approx(metrics["eval_loss"])


# -- metrics -----------------------------------------------------------------------------------------------------------


def test_metrics_by_hand():
    """Weights 1, 3, 0: loss (1*2 + 3*4) / 3 by pairs and 14 / 4 by weight; margins 1, -1, 5; (1 + 3)^2 / (1 + 9) = 1.6.

    Tokens are counted together: chosen completions of 1, 2 and 3 tokens with 3 of them most likely are an accuracy of 1/2.
    """
    metrics = PairMetrics()
    metrics.group_names = ["north", "south"]
    columns = {
        "weight": [1.0, 3.0, 0.0],
        "loss": [2.0, 4.0, 9.0],
        "chosen_reward": [1.0, 0.0, 2.0],
        "rejected_reward": [0.0, 1.0, -3.0],
        "chosen_logp": [-10.0, -20.0, -30.0],
        "rejected_logp": [-11.0, -19.0, -36.0],
        "sequence_tokens": [10, 10, 10],
        "chosen_tokens": [1, 2, 3],
        "rejected_tokens": [2, 2, 2],
        "entropy": [6.0, 12.0, 6.0],
        "chosen_logits": [0.6, 0.6, 0.0],
        "rejected_logits": [0.0, 0.3, 0.3],
        "chosen_top1": [1, 2, 0],
        "tier": [1, 7, 7],
        "_group_number": [0, 0, 1],
    }
    for rows in ([0, 1], [2]):
        metrics.add({name: torch.tensor(values)[rows] for name, values in columns.items()})
    assert metrics.loss(by_weight=False) == pytest.approx(14 / 3)
    assert metrics.loss(by_weight=True) == pytest.approx(14 / 4)
    assert metrics.summary() == pytest.approx(
        {
            "entropy": 24 / 12,
            "logits/chosen": 1.2 / 6,
            "logits/rejected": 0.6 / 6,
            "mean_token_accuracy": 3 / 6,
            "rewards/chosen": 1,
            "rewards/rejected": -2 / 3,
            "rewards/accuracies": 2 / 3,
            "rewards/margins": 5 / 3,
            "logps/chosen": -20,
            "logps/rejected": -22,
            "weights/mean": 4 / 3,
            "weights/max": 3,
            "weights/effective_sample_size": 1.6,
            "rewards/weighted_accuracies": 1 / 4,
            "rewards/weighted_margins": (1 - 3) / 4,
            "tiers/1/loss": 2,
            "tiers/7/loss": 4,
            # south has weight 0, and so no weighted loss
            "groups/north/loss": 14 / 4,
        }
    )
    metrics.clear()
    assert metrics.rows == 0


@pytest.mark.parametrize("normalization", ["dataset", "batch", "none"])
def test_eval_loss_is_exact_over_uneven_batches(tmp_path, normalization):
    trainer = make_trainer(tmp_path, PAIRS, per_device_eval_batch_size=4, weight_normalization=normalization)
    metrics = trainer.evaluate()
    ones = PAIRS.remove_columns("weight").add_column("weight", [1.0] * 6)
    alone = np.array([trainer.evaluate(ones.select([row]))["eval_loss"] for row in range(6)])
    divisor = 6 if normalization == "none" else FLAT.sum()
    assert metrics["eval_loss"] == pytest.approx((FLAT * alone).sum() / divisor, rel=1e-5)


def test_computed_tokens_are_fewer_than_those_of_the_pairs(tmp_path):
    trainer = make_trainer(tmp_path, PAIRS)
    trainer.train()
    last = [entry for entry in trainer.state.log_history if "num_tokens" in entry][-1]
    whole = sum(
        2 * len(row["prompt_ids"]) + len(row["chosen_ids"]) + len(row["rejected_ids"]) for row in trainer.train_dataset
    )
    assert last["num_tokens"] == whole
    assert 0 < last["num_computed_tokens"] < 0.5 * whole


def test_displacement_is_said_once(caplog):
    watch = DisplacementWatch(reference=True)
    for reward in (0.1, -0.1, -0.2, -0.3, -0.25, -0.3, -0.4, -0.5, -0.6):
        watch.see(reward, beta=0.1)
    assert not caplog.records, "four falls, a rise, four falls"
    watch.see(-0.7, beta=0.1)
    watch.see(-0.8, beta=0.1)
    assert [record.getMessage() for record in caplog.records] == [
        "Likelihood displacement: the log-probability of the chosen completions fell in 5 logs in a row, and is now 7.00 "
        "below the reference. The model moves away from both completions of a pair. A larger beta, a lower learning rate, "
        "or adding 'sft' to loss_type counters it."
    ]


def test_groups_are_not_resumed_from_a_checkpoint_without_them(tmp_path):
    settings = {"max_steps": 2, "per_device_train_batch_size": 2, "save_strategy": "steps", "save_steps": 1}
    make_trainer(tmp_path, PAIRS, **settings).train()
    trainer = make_trainer(tmp_path, PAIRS, group_column="group", **settings)
    with pytest.raises(ValueError, match=r"^A checkpoint must have a weight for every group; got none for 'north'"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-1"))


def test_without_a_reference_displacement_counts_from_the_first_log(caplog):
    """Log-probabilities of -40 are no fall by themselves; from a first log of -40 to -40.6 they are one of 0.6 / 0.1."""
    watch = DisplacementWatch(reference=False)
    for reward in (-40.0, -39.0, -39.1, -39.2, -39.3, -39.4, -39.5, -39.6, -40.1, -40.2, -40.3, -40.4):
        watch.see(reward, beta=0.1)
    assert not caplog.records, "seven falls above the first log, four below"
    watch.see(-40.6, beta=0.1)
    (record,) = caplog.records
    assert "fell in 5 logs in a row, and is now 6.00 below the first log. " in record.getMessage()
    assert "larger beta" not in record.getMessage(), "it would change where training ends"
