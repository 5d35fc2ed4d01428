"""Per-pair losses and their mean against hand arithmetic; against TRL in test_trainer.py."""

import math
import re

import pytest
import torch

from fairpp_hf.training.losses import (
    LOSSES,
    LossSettings,
    PairLogps,
    distillation_losses,
    listwise_losses,
    pair_losses,
    prompt_aims,
)


def _pairs(chosen=-3.0, rejected=-5.0, ref_chosen=-4.0, ref_rejected=-4.0):
    as_row = [
        torch.tensor([value], dtype=torch.float64) for value in (chosen, rejected, ref_chosen, ref_rejected, 4, 2)
    ]
    return PairLogps(*as_row)


@pytest.mark.parametrize(
    ("loss_type", "expected"),
    [
        # log ratios +1 and -1, margin 2, beta 0.5: beta margin = 1; margin per token = 1/4 + 1/2 = 0.75
        ("sigmoid", math.log(1 + math.exp(-1))),
        ("hinge", 0.0),
        ("ipo", (0.75 - 1.0) ** 2),
        ("sigmoid_norm", math.log(1 + math.exp(-0.375))),
        ("sppo_hard", (1 - 1) ** 2 + (-1 + 1) ** 2),
        ("bco_pair", 2 * math.log(1 + math.exp(-0.5))),
        ("apo_zero", 2 / (1 + math.exp(0.5))),
    ],
)
def test_losses_by_hand(loss_type, expected):
    loss = pair_losses(_pairs(), [loss_type], [1.0], LossSettings(beta=0.5))
    torch.testing.assert_close(loss, torch.tensor([expected], dtype=torch.float64))


def test_losses_combine_with_their_coefficients():
    """But for sft, a mean over tokens, which the trainer adds."""
    settings = LossSettings(beta=0.5)
    combined = pair_losses(_pairs(), ["sigmoid", "bco_pair", "sft"], [2.0, 0.5, 3.0], settings)
    parts = [pair_losses(_pairs(), [name], [1.0], settings) for name in ("sigmoid", "bco_pair")]
    torch.testing.assert_close(combined, 2 * parts[0] + 0.5 * parts[1])


@pytest.mark.parametrize("loss_type", sorted(LOSSES))
def test_a_pair_does_not_see_its_neighbours(loss_type):
    """Unreduced losses of a batch are those of its pairs one at a time; sorting losses such as aot would fail this."""
    generator = torch.Generator().manual_seed(0)
    batch = PairLogps(*(-torch.rand(5, generator=generator, dtype=torch.float64) * 9 for _ in range(4)),
                      *(torch.randint(1, 9, (5,), generator=generator).double() for _ in range(2)))  # fmt: skip
    settings = LossSettings(label_smoothing=0.1)
    together = pair_losses(batch, [loss_type], [1.0], settings)
    apart = [
        pair_losses(PairLogps(*(field[i : i + 1] for field in batch)), [loss_type], [1.0], settings) for i in range(5)
    ]
    torch.testing.assert_close(together, torch.cat(apart))


def test_an_unknown_divergence_is_refused():
    message = (
        "f_divergence_type must be one of 'reverse_kl', 'forward_kl', 'js_divergence', 'alpha_divergence'; got 'kl'."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        pair_losses(_pairs(), ["sigmoid"], [1.0], LossSettings(f_divergence_type="kl"))


AIM = torch.tensor([[0.2, 0.5, 0.3], [0.7, 0.2, 0.1]], dtype=torch.float64)
CHOSEN, REJECTED = torch.tensor([0, 0, 2, 4, 3, 4]), torch.tensor([1, 2, 1, 3, 5, 5])
"""All pairs of two prompts with three completions each, numbered one prompt after the other."""
LABELS = AIM.reshape(-1)[CHOSEN] / (AIM.reshape(-1)[CHOSEN] + AIM.reshape(-1)[REJECTED])


def aims():
    return prompt_aims(6, CHOSEN, REJECTED, LABELS)


def test_aims_of_a_prompt_are_those_behind_its_labels():
    expected = torch.block_diag(AIM[:1].repeat(3, 1), AIM[1:].repeat(3, 1))
    torch.testing.assert_close(aims(), expected)


def test_listwise_is_the_cross_entropy_of_aim_and_softmax():
    """Against torch's own; the gradient of a prompt is softmax less aim."""
    rewards = torch.tensor([0.3, -1.0, 2.0, 0.0, 0.5, -3.0], dtype=torch.float64, requires_grad=True)
    losses = listwise_losses(rewards, aims())
    expected = torch.nn.functional.cross_entropy(rewards.view(2, 3), AIM, reduction="none")
    torch.testing.assert_close(losses, expected.repeat_interleave(3))
    (gradient,) = torch.autograd.grad(losses.sum() / 3, rewards)
    torch.testing.assert_close(gradient.view(2, 3), torch.softmax(rewards.view(2, 3), 1) - AIM)


def test_distillation_is_listwise_and_the_probability_of_an_option():
    logps = torch.tensor([-3.0, -1.0, -2.0, -4.0, -2.0, -1.5], dtype=torch.float64)
    losses = distillation_losses(logps, aims())
    torch.testing.assert_close(losses.view(2, 3)[:, 0], -(AIM * logps.view(2, 3)).sum(1))
    mass = logps.view(2, 3).exp().sum(1).repeat_interleave(3)
    torch.testing.assert_close(losses, listwise_losses(logps, aims()) - mass.log())


@pytest.mark.parametrize("loss", ["listwise", "pairwise"])
def test_both_soft_losses_are_least_at_the_aim(loss):
    """Without a reference: whatever the model said before, the softmax over the options ends at the aim."""
    rewards = torch.tensor([4.0, -2.0, 0.0, -5.0, 5.0, 1.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [rewards], max_iter=200, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        if loss == "listwise":
            losses = listwise_losses(rewards, aims())
        else:
            margin = rewards[CHOSEN] - rewards[REJECTED]
            losses = torch.nn.functional.binary_cross_entropy_with_logits(margin, LABELS, reduction="none")
        losses.sum().backward()
        return losses.sum()

    optimizer.step(closure)
    torch.testing.assert_close(torch.softmax(rewards.detach().view(2, 3), 1), AIM, atol=1e-6, rtol=0)


def test_labels_of_0_and_1_have_finite_losses_and_gradients():
    """An option that the target never chooses."""
    found = prompt_aims(3, torch.tensor([0, 0, 1]), torch.tensor([1, 2, 2]), torch.tensor([0.5, 1.0, 1.0]))
    rewards = torch.zeros(3, requires_grad=True)
    losses = listwise_losses(rewards, found)
    losses.sum().backward()
    assert losses.isfinite().all()
    torch.testing.assert_close(rewards.grad / 3, torch.tensor([-1 / 6, -1 / 6, 1 / 3]), atol=1e-3, rtol=0)


@pytest.mark.parametrize("aim", [[0.7, 0.3, 0.0], [0.9, 0.1, 1e-9], [0.0, 1.0, 0.0]])
def test_options_of_no_probability_leave_the_aims_of_the_others_as_they_are(aim):
    """Odds of a million to one stand for certainty; their bound says nothing about the other two options."""
    aim = torch.tensor(aim, dtype=torch.float64)
    chosen, rejected = torch.tensor([0, 2, 1]), torch.tensor([1, 0, 2])
    labels = torch.where(aim[chosen] + aim[rejected] > 0, aim[chosen] / (aim[chosen] + aim[rejected]), 0.5)
    torch.testing.assert_close(prompt_aims(3, chosen, rejected, labels)[0], aim, atol=3e-6, rtol=0)


def test_a_pair_may_be_there_twice():
    """As in a batch that visits a question twice, or whose end is filled up with rows from the beginning."""
    again = torch.tensor([0, 1, 2, 3, 4, 5, 2, 0, 1])
    torch.testing.assert_close(prompt_aims(6, CHOSEN[again], REJECTED[again], LABELS[again]), aims())
    turned = prompt_aims(
        6, torch.cat([CHOSEN, REJECTED]), torch.cat([REJECTED, CHOSEN]), torch.cat([LABELS, 1 - LABELS])
    )
    torch.testing.assert_close(turned, aims())


@pytest.mark.parametrize("kept", [[0, 1], [0, 1, 2, 3, 4], [0, 1, 0]])
def test_all_pairs_of_a_prompt_must_be_there(kept):
    with pytest.raises(ValueError, match="all pairs of each of its prompts"):
        prompt_aims(6, CHOSEN[kept], REJECTED[kept], LABELS[kept])
