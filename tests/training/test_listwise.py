"""Losses over all options of a question inside the trainer, against the plainest gradient: one sequence at a time."""

import numpy as np
import pytest
import torch
from tiny_models import tiny_model, tiny_tokenizer
from tiny_trainers import assert_same, make_trainer, question_pairs, sequence_logp, step_gradient

AIMS = np.array([[0.2, 0.5, 0.3], [0.7, 0.2, 0.1]])
QUESTION_WEIGHTS = (0.5, 1.5)


def pairs_towards(aims):
    """All three pairs of each question, labelled with the odds of its aim."""
    pairs = question_pairs([[weight] * 3 for weight in QUESTION_WEIGHTS])
    odds = [aim[k] / (aim[k] + aim[j]) for aim in aims for k, j in ((0, 1), (0, 2), (1, 2))]
    return pairs.remove_columns("label_probability").add_column("label_probability", odds)


def plain_gradient(pairs, aims, *, beta, with_reference):
    model, ref_model, tokenizer = tiny_model(), tiny_model(seed=1), tiny_tokenizer()
    for number, (aim, weight) in enumerate(zip(aims, QUESTION_WEIGHTS, strict=True)):
        first, second = pairs[3 * number], pairs[3 * number + 1]
        texts = [first["chosen"], first["rejected"], second["rejected"]]
        logps = torch.stack([sequence_logp(model, tokenizer, first["prompt"], text) for text in texts])
        with torch.no_grad():
            reference = torch.stack([sequence_logp(ref_model, tokenizer, first["prompt"], text) for text in texts])
        logps = logps - reference if with_reference else logps
        loss = -(torch.tensor(aim) * torch.log_softmax(beta * logps, dim=0)).sum()
        (weight / sum(QUESTION_WEIGHTS) * loss).backward()
    return torch.cat([p.grad.reshape(-1) for p in model.parameters()])


@pytest.mark.parametrize("share_prefix", [True, False])
@pytest.mark.parametrize(("reference", "beta"), [("none", 1.0), ("model", 0.3)])
def test_its_gradient_is_the_plain_one(tmp_path, reference, beta, share_prefix):
    pairs = pairs_towards(AIMS)
    settings = {"reference": reference, "beta": beta, "loss_type": ["listwise"], "soft_labels": True}
    if reference == "none":
        settings["ref_model"] = None
    ours = step_gradient(tmp_path, pairs, share_prefix=share_prefix, **settings)
    assert_same(ours, plain_gradient(pairs, AIMS, beta=beta, with_reference=reference == "model"))


def test_coefficients_combine_it_with_another_loss(tmp_path):
    pairs = pairs_towards(AIMS)

    def of(loss_type, loss_weights):
        return step_gradient(
            tmp_path,
            pairs,
            loss_type=loss_type,
            loss_weights=loss_weights,
            soft_labels=True,
            reference="none",
            ref_model=None,
        )

    losses = {"listwise": 2.0, "sigmoid": 0.5, "distillation": 0.1}
    parts = [weight * of([name], [1.0]) for name, weight in losses.items()]
    assert_same(of([*losses], [*losses.values()]), sum(parts))


def test_distillation_is_sft_on_every_option_weighted_by_the_aim(tmp_path):
    """One sequence at a time; each question counts by its weight."""
    model, tokenizer, pairs = tiny_model(), tiny_tokenizer(), pairs_towards(AIMS)
    for number, (aim, weight) in enumerate(zip(AIMS, QUESTION_WEIGHTS, strict=True)):
        first, second = pairs[3 * number], pairs[3 * number + 1]
        for share, text in zip(aim, (first["chosen"], first["rejected"], second["rejected"]), strict=True):
            logp = sequence_logp(model, tokenizer, first["prompt"], text)
            (-weight / sum(QUESTION_WEIGHTS) * share * logp).backward()
    theirs = torch.cat([p.grad.reshape(-1) for p in model.parameters()])
    settings = {"loss_type": ["distillation"], "soft_labels": True, "reference": "none", "ref_model": None}
    assert_same(step_gradient(tmp_path, pairs, **settings), theirs)


LISTWISE = {"loss_type": ["listwise"], "soft_labels": True, "reference": "none", "ref_model": None}


@pytest.mark.parametrize("share_prefix", ["auto", False])
def test_pairs_of_a_question_are_trained_on_and_evaluated_together(tmp_path, share_prefix):
    """Whatever the order of the rows, also where prompts are not shared."""
    pairs = question_pairs([[1.0] * 3] * 6)
    batches = {"per_device_train_batch_size": 6, "per_device_eval_batch_size": 3}
    shuffled = pairs.shuffle(seed=1)
    trainer = make_trainer(tmp_path, shuffled, share_prefix=share_prefix, **batches, **LISTWISE)
    trainer.train()
    ordered = make_trainer(tmp_path, pairs, share_prefix=share_prefix, model=trainer.model, **batches, **LISTWISE)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(ordered.evaluate()["eval_loss"], rel=1e-5)


def test_a_batch_may_visit_a_question_twice(tmp_path):
    """The heavy one of two questions is drawn five times in six; then its loss has five times the other's share."""
    pairs = question_pairs([[5.0] * 3, [1.0] * 3])
    settings = {"weight_application": "sampling", "per_device_train_batch_size": 6, "num_train_epochs": 4}
    make_trainer(tmp_path, pairs, eval_dataset=None, **settings, **LISTWISE).train()
