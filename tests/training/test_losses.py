"""Per-pair losses and their mean against hand arithmetic; against TRL in test_trainer.py."""

import math
import re

import pytest
import torch

from fairpp_hf.training.losses import LOSSES, LossSettings, PairLogps, pair_losses


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
