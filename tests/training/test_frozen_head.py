"""The shorter way through a frozen head against the plainest one, and against TRL's."""

import pytest
import torch
import trl.trainer.utils as trl_utils
from peft import LoraConfig
from tiny_trainers import make_pairs, make_trainer
from trl.kernels.chunked_logprob import ChunkedLogProbFunction

from fairpp_hf.training import frozen_head
from fairpp_hf.training.frozen_head import FrozenHeadLogProbs, shorter_backward

NAMES = ("log_probs", "entropy", "mean_logits", "is_top1")


@pytest.fixture
def drawn():
    """Hidden states, head, bias, targets (the first of them the most probable token) and the gradient of a loss."""
    torch.manual_seed(0)
    hidden, weight, bias = torch.randn(50, 8), torch.randn(300, 8), torch.randn(300)
    targets = torch.randint(0, 300, (50,))
    targets[0] = (weight @ hidden[0]).argmax()
    return hidden, weight, bias, targets, torch.randn(50)


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("at_once", [1, 7 * 300, 10**9])
def test_as_the_plainest_way(drawn, monkeypatch, has_bias, at_once):
    """log_softmax of all logits at once, whatever part of them exists at a time."""
    monkeypatch.setattr(frozen_head, "_LOGITS_AT_ONCE", at_once)
    hidden, weight, bias, targets, gradient = drawn
    plain, ours = hidden.clone().requires_grad_(), hidden.clone().requires_grad_()
    logits = 0.5 * (plain @ weight.t() + (bias if has_bias else 0))
    everything = logits.log_softmax(dim=1)
    expected = everything.gather(1, targets[:, None])[:, 0]
    expected.backward(gradient)
    logps, entropy, nothing, mean_logits, is_top1 = FrozenHeadLogProbs.apply(
        ours, weight, bias if has_bias else None, targets, 0.5
    )
    logps.backward(gradient)
    assert nothing is None
    torch.testing.assert_close(logps, expected)
    torch.testing.assert_close(ours.grad, plain.grad)
    torch.testing.assert_close(entropy, -(everything.exp() * everything).sum(dim=1))
    torch.testing.assert_close(mean_logits, logits.mean(dim=1))
    assert torch.equal(is_top1, logits.argmax(dim=1) == targets)
    assert not entropy.requires_grad
    assert not mean_logits.requires_grad


def test_in_16_bits_as_trl_where_the_target_is_almost_certain(drawn):
    """1 - p is what the gradient is made of, and 16 bits have no number for p between 0.996 and 1."""
    hidden, weight, _, targets, gradient = drawn
    hidden[0] *= 40  # of which the target is the most probable token
    ours, trls = (hidden.bfloat16().requires_grad_() for _ in range(2))
    head = weight.bfloat16()
    found = FrozenHeadLogProbs.apply(ours, head, None, targets, 1.0)
    expected = ChunkedLogProbFunction.apply(trls, head, None, targets, 1.0, 128, None, 1.0, NAMES)
    assert found[0][0].exp() > 0.99
    for one, other in zip((found[0], found[1], found[3]), (expected[0], expected[1], expected[3]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
    found[0].backward(gradient)
    expected[0].backward(gradient)
    torch.testing.assert_close(ours.grad, trls.grad, rtol=0.02, atol=0.02)
    torch.testing.assert_close(ours.grad[0], trls.grad[0], rtol=0.02, atol=1e-5)


def test_no_token_at_all():
    hidden = torch.zeros(0, 8, requires_grad=True)
    logps = FrozenHeadLogProbs.apply(hidden, torch.randn(30, 8), None, torch.zeros(0, dtype=torch.int64), 1.0)[0]
    logps.sum().backward()
    assert hidden.grad.shape == (0, 8)


@pytest.mark.parametrize("peft", [None, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")])
def test_the_trainer_takes_it_where_the_head_is_frozen(tmp_path, monkeypatch, peft):
    """Under an adapter; a head that is trained needs TRL's, which has a gradient for it."""
    taken = []
    for name, way in (("ours", FrozenHeadLogProbs), ("TRL's", ChunkedLogProbFunction)):
        monkeypatch.setattr(way, "forward", staticmethod(_noted(way.forward, name, taken)))
    trainer = make_trainer(tmp_path, make_pairs([1.0] * 4), peft=peft, max_steps=1)
    trainer.train()
    assert set(taken) == ({"TRL's"} if peft is None else {"ours"})
    assert trl_utils._ChunkedLogProbFunction is ChunkedLogProbFunction


def _noted(forward, name, taken):
    def noted(*args):
        taken.append(name)
        return forward(*args)

    return noted


def test_what_it_cannot_do_is_left_to_trl(drawn):
    """Capped logits (Gemma 2), and the weights of WPO."""
    hidden, weight, _, targets, _ = drawn
    with shorter_backward():
        apply = trl_utils._ChunkedLogProbFunction.apply
        for softcap, outputs in ((5.0, NAMES), (None, (*NAMES, "log_sum_sq_probs"))):
            found = apply(hidden, weight, None, targets, 1.0, 128, softcap, 1.0, outputs)
            expected = ChunkedLogProbFunction.apply(hidden, weight, None, targets, 1.0, 128, softcap, 1.0, outputs)
            for one, other in zip(found, expected, strict=True):
                torch.testing.assert_close(one, other)
