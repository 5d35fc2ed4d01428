"""The order of pairs: prompts together, every pair once or by weight, the same for a seed and an epoch."""

import doctest

import numpy as np
import pytest
import torch
from tiny_trainers import assert_same, make_trainer, oracle_gradient, question_pairs, step_gradient

from fairpp_hf.training import batches, sft_trainer
from fairpp_hf.training.batches import PairSampler, cut_prompts

GROUPS = np.array([0, 0, 0, 1, 1, 2, 2, 3])


def test_each_pair_once_and_those_of_a_prompt_together():
    order = PairSampler(GROUPS, seed=0).order(epoch=0)
    assert sorted(order) == list(range(8))
    visited = GROUPS[order]
    assert (visited[1:] != visited[:-1]).sum() == 3


@pytest.mark.parametrize("weights", [None, [2.0] * 8])
def test_the_pairs_of_a_prompt_are_shuffled_too(weights):
    """Also where it is the prompt of all pairs: each of 4 is in each place in a quarter of 2000 epochs."""
    weights = weights if weights is None else np.array(weights)
    sampler = PairSampler(np.zeros(8, dtype=int), seed=0, weights=weights)
    assert sorted(sampler.order(0)) == list(range(8))
    places = np.stack([np.argsort(PairSampler(np.repeat([0, 1], 4), seed=0).order(epoch)) for epoch in range(2000)])
    for pair in range(8):
        _, times = np.unique(places[:, pair] % 4, return_counts=True)
        assert len(times) == 4
        assert np.abs(times / 2000 - 0.25).max() < 0.05
    first = [sampler.order(epoch)[0] for epoch in range(100)]
    assert len(set(first)) == 8


def test_the_order_depends_on_seed_and_epoch_alone():
    sampler = PairSampler(GROUPS, seed=0)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert second != first
    assert list(PairSampler(GROUPS, seed=1)) != first
    sampler.set_epoch(0)
    assert list(sampler) == first == list(PairSampler(GROUPS, seed=0))


@pytest.mark.parametrize(
    ("groups", "weights"),
    [
        (GROUPS, [1.0] * 8),
        (GROUPS, [3.0, 3.0, 3.0, 0.0, 0.0, 0.5, 0.5, 7.0]),
        (GROUPS, [0.1, 2.0, 0.4, 5, 5, 0, 1, 1]),
        # one prompt with many pairs of unequal weights, and one among prompts of a single pair
        (np.zeros(40, dtype=int), [0.5, 1.5] * 20),
        (np.concatenate([np.zeros(20, dtype=int), np.arange(1, 11)]), [1.0] * 30),
        (np.repeat([0, 1], 2), [1.0, 1.0, 4.0, 4.0]),
    ],
)
def test_pairs_are_drawn_in_proportion_to_their_weights(groups, weights):
    """N w / sum(w) times an epoch on average, and never more than one away from it where single pairs are drawn."""
    weights, epochs = np.array(weights, dtype=float), 4000
    sampler = PairSampler(groups, seed=0, weights=weights)
    counts = np.stack([np.bincount(sampler.order(epoch), minlength=len(groups)) for epoch in range(epochs)])
    assert (counts.sum(axis=1) == len(groups)).all()
    expected = len(groups) * weights / weights.sum()
    assert (np.abs(counts - expected) < 1 + 1e-9).all()
    error = counts.std(axis=0) / np.sqrt(epochs)
    assert (np.abs(counts.mean(axis=0) - expected) <= 4.5 * error + 1e-9).all(), (counts.mean(axis=0), expected)


def test_equal_numbers_of_pairs_round_to_the_neighbours_and_keep_prompts_whole():
    groups = np.repeat(np.arange(50), 2)
    weights = np.random.default_rng(0).random(50)[groups]
    sampler = PairSampler(groups, seed=0, weights=weights)
    expected = 100 * weights / weights.sum()
    counts = np.stack([np.bincount(sampler.order(epoch), minlength=100) for epoch in range(2000)])
    assert (np.abs(counts - expected) < 1).all()
    assert (counts[:, ::2] == counts[:, 1::2]).all()
    assert np.abs(counts.mean(axis=0) - expected).max() < 0.05


def test_equal_weights_draw_each_pair_once():
    order = PairSampler(GROUPS, seed=3, weights=np.full(8, 0.25)).order(2)
    assert sorted(order) == list(range(8))


def test_cut_prompts():
    """8 pairs of 4 prompts in batches of 3, 2, 2 and 1: in order, borders after 2 and 4 cut; none does in whole batches."""
    sampler = PairSampler(np.repeat(np.arange(100), 2), seed=0)
    assert cut_prompts(sampler, 4) == 0
    assert cut_prompts(sampler, 1) == 1
    assert cut_prompts(sampler, 3) == pytest.approx(1 / 3, abs=0.02)


def test_sampling_has_the_gradient_of_the_weighted_loss_on_average(tmp_path):
    """Gradients of 300 epochs of drawn pairs average to the oracle's gradient of the weighted loss."""
    pairs = question_pairs([[0.2, 0.2], [4.0, 4.0], [1.0, 1.0]])
    trainer = make_trainer(tmp_path, pairs, weight_application="sampling", eval_dataset=None)
    sampler = trainer._get_train_sampler()
    weights = np.array([0.2, 0.2, 4.0, 4.0, 1.0, 1.0])
    gradients = []
    for row in range(6):
        trainer.model.zero_grad()
        batch = trainer.data_collator([trainer.train_dataset[row]])
        trainer.compute_loss(trainer.model.train(), batch).backward()
        gradients.append(torch.cat([p.grad.reshape(-1) for p in trainer.model.parameters()]))
    counts = sum(np.bincount(sampler.order(epoch), minlength=6) for epoch in range(300)) / 300
    average = sum(count * gradient for count, gradient in zip(counts, gradients, strict=True)) / 6
    expected = oracle_gradient(pairs, weights / weights.sum())
    assert (average - expected).norm() < 0.02 * expected.norm()


@pytest.mark.parametrize("normalization", ["dataset", "batch", "none"])
def test_sampling_keeps_the_scale_of_the_weights(tmp_path, normalization):
    """Of equal weights every pair is drawn once, and the gradient is that of the weighted loss, whatever the scale."""
    pairs = question_pairs([[3.0, 3.0], [3.0, 3.0]])
    drawn, weighted = (
        step_gradient(tmp_path, pairs, weight_normalization=normalization, weight_application=application)
        for application in ("sampling", "loss")
    )
    assert_same(drawn, weighted, tolerance=1e-6)


def test_batches_that_cut_prompts_are_mentioned(tmp_path, caplog):
    trainer = make_trainer(tmp_path, question_pairs([[1.0, 1.0]] * 6), per_device_train_batch_size=3)
    trainer._get_train_sampler()
    assert "per_device_train_batch_size=3 separates the pairs of" in caplog.text


@pytest.mark.parametrize("module", [batches, sft_trainer])
def test_the_examples_of_the_collators_run(module):
    assert doctest.testmod(module)[0] == 0
