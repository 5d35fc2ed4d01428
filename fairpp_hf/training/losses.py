"""Per-pair preference losses as pure functions of log-probabilities, apart from the model and apart from the mean.

TRL's `DPOTrainer` computes a loss and its mean over the batch in one place. Weights go between the two, so here a loss
returns one value per pair. Every loss is checked against TRL's own in the tests.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fairpp_hf.naming import check_name


class PairLogps(NamedTuple):
    """What a preference loss needs to know of P pairs; each field is a float tensor of shape (P,)."""

    chosen: Tensor
    """log-probability of the chosen completion under the policy, summed over its tokens."""
    rejected: Tensor
    ref_chosen: Tensor
    """log-probability of the chosen completion under the reference model; no gradient."""
    ref_rejected: Tensor
    chosen_length: Tensor
    """tokens of the chosen completion."""
    rejected_length: Tensor

    def swapped(self) -> "PairLogps":
        """The same pairs with chosen and rejected exchanged."""
        return PairLogps(
            self.rejected, self.chosen, self.ref_rejected, self.ref_chosen, self.rejected_length, self.chosen_length
        )


@dataclass(frozen=True)
class LossSettings:
    """The constants of the losses; the names and meanings are those of `trl.DPOConfig`."""

    beta: float = 0.1
    label_smoothing: float = 0.0
    f_divergence_type: str = "reverse_kl"
    f_alpha_divergence_coef: float = 0.5
    discopop_tau: float = 0.05


def divergence_score(logratios: Tensor, settings: LossSettings) -> Tensor:
    """f'(t) at t = exp(logratios), which takes the place of the log ratio in the implicit reward.

    Source: Wang et al. 2024, "Beyond Reverse KL" (arXiv:2309.16240), Table 1; additive constants are kept as in TRL.

    Args:
        logratios: (P,), log of policy over reference.
        settings: `f_divergence_type` and, for `alpha_divergence`, `f_alpha_divergence_coef`.

    Returns:
        (P,).
    """
    kind = settings.f_divergence_type
    if kind == "reverse_kl":
        return logratios
    if kind == "forward_kl":
        return 1 - torch.exp(-logratios)
    if kind == "js_divergence":
        return math.log(2) + F.logsigmoid(logratios)
    if kind == "alpha_divergence":
        order = settings.f_alpha_divergence_coef - 1.0
        if abs(order) < 1e-6:  # the limit of (t^order - 1) / order is log t
            return logratios
        # exp must stay representable in the dtype that it is cast back to.
        ceiling = 11.0 if logratios.dtype == torch.float16 else 80.0
        powers = torch.exp(torch.clamp((order * logratios).float(), max=ceiling))
        return (powers - 1.0).to(logratios.dtype) / order
    raise ValueError(f"f_divergence_type must be one of {', '.join(map(repr, F_DIVERGENCES))}; got {kind!r}.")


F_DIVERGENCES = ("reverse_kl", "forward_kl", "js_divergence", "alpha_divergence")


class _Scores(NamedTuple):
    """Log ratios of policy to reference, and their divergence scores; each (P,)."""

    chosen_logratios: Tensor
    rejected_logratios: Tensor
    chosen: Tensor
    rejected: Tensor

    @property
    def margin(self) -> Tensor:
        return self.chosen - self.rejected


def _sigmoid(pairs: PairLogps, scores: _Scores, settings: LossSettings) -> Tensor:
    """-log sigmoid(beta margin): Rafailov et al. 2023 (arXiv:2305.18290), Eq. 7."""
    return -F.logsigmoid(settings.beta * scores.margin)


def _hinge(pairs: PairLogps, scores: _Scores, settings: LossSettings) -> Tensor:
    """max(0, 1 - beta margin): SLiC, Zhao et al. 2023 (arXiv:2305.10425)."""
    return torch.relu(1 - settings.beta * scores.margin)


def _length_normalized_margin(pairs: PairLogps, scores: _Scores) -> Tensor:
    return scores.chosen / pairs.chosen_length.clamp(min=1.0) - scores.rejected / pairs.rejected_length.clamp(min=1.0)


def _ipo(pairs: PairLogps, scores: _Scores, settings: LossSettings) -> Tensor:
    """(margin per token - 1 / (2 beta))^2: Azar et al. 2023 (arXiv:2310.12036), Eq. 17, normalised by length as in TRL."""
    return (_length_normalized_margin(pairs, scores) - 1 / (2 * settings.beta)) ** 2


def _sigmoid_norm(pairs: PairLogps, scores: _Scores, settings: LossSettings) -> Tensor:
    """-log sigmoid(beta margin per token): TRL's length-normalised DPO."""
    return -F.logsigmoid(settings.beta * _length_normalized_margin(pairs, scores))


def _exo_pair(pairs: PairLogps, scores: _Scores, settings: LossSettings) -> Tensor:
    """KL of the policy's choice from the smoothed label: EXO, Ji et al. 2024 (arXiv:2402.00856), Eq. 16."""
    log_win = F.logsigmoid(settings.beta * scores.margin)
    log_lose = F.logsigmoid(-settings.beta * scores.margin)
    label_win, label_lose = math.log1p(-settings.label_smoothing), math.log(settings.label_smoothing)
    return log_win.exp() * (log_win - label_win) + log_lose.exp() * (log_lose - label_lose)


def _nca_pair(pairs: PairLogps, scores: _Scores, settings: LossSettings) -> Tensor:
    """Noise contrastive alignment of a pair: Chen et al. 2024 (arXiv:2402.05369)."""
    win, lose = settings.beta * scores.chosen_logratios, settings.beta * scores.rejected_logratios
    return -F.logsigmoid(win) - 0.5 * F.logsigmoid(-win) - 0.5 * F.logsigmoid(-lose)


def _robust(pairs: PairLogps, scores: _Scores, settings: LossSettings) -> Tensor:
    """Unbiased under labels flipped at the rate of `label_smoothing`: Chowdhury et al. 2024 (arXiv:2403.00409)."""
    flip_rate = settings.label_smoothing
    as_labelled = -F.logsigmoid(settings.beta * scores.margin)
    flipped = -F.logsigmoid(-settings.beta * scores.margin)
    return ((1 - flip_rate) * as_labelled - flip_rate * flipped) / (1 - 2 * flip_rate)


def _bco_pair(pairs: PairLogps, scores: _Scores, settings: LossSettings) -> Tensor:
    """Binary classifier optimisation on a pair, without the running shift: Jung et al. 2024 (arXiv:2404.04656)."""
    win, lose = settings.beta * scores.chosen_logratios, settings.beta * scores.rejected_logratios
    return -F.logsigmoid(win) - F.logsigmoid(-lose)


def _sppo_hard(pairs: PairLogps, scores: _Scores, settings: LossSettings) -> Tensor:
    """Self-play preference optimisation with hard labels: Wu et al. 2024 (arXiv:2405.00675), Eq. 4.7."""
    half = 0.5 / settings.beta
    return (scores.chosen_logratios - half) ** 2 + (scores.rejected_logratios + half) ** 2


def _apo_zero(pairs: PairLogps, scores: _Scores, settings: LossSettings) -> Tensor:
    """Anchored preference optimisation, chosen up and rejected down: D'Oosterlinck et al. 2024 (arXiv:2408.06266), Eq. 7."""
    win, lose = settings.beta * scores.chosen_logratios, settings.beta * scores.rejected_logratios
    return 1 - torch.sigmoid(win) + torch.sigmoid(lose)


def _apo_down(pairs: PairLogps, scores: _Scores, settings: LossSettings) -> Tensor:
    """Anchored preference optimisation, both down: D'Oosterlinck et al. 2024 (arXiv:2408.06266), Eq. 8."""
    win, lose = settings.beta * scores.chosen_logratios, settings.beta * scores.rejected_logratios
    return torch.sigmoid(win) + 1 - torch.sigmoid(win - lose)


def _discopop(pairs: PairLogps, scores: _Scores, settings: LossSettings) -> Tensor:
    """Logistic and exponential losses blended by the margin: Lu et al. 2024 (arXiv:2406.08414), Eq. 5."""
    logits = settings.beta * scores.margin
    blend = torch.sigmoid(logits / settings.discopop_tau)
    return -F.logsigmoid(logits) * (1 - blend) + torch.exp(-logits) * blend


LOSSES: dict[str, Callable[[PairLogps, _Scores, LossSettings], Tensor]] = {
    "sigmoid": _sigmoid,
    "hinge": _hinge,
    "ipo": _ipo,
    "exo_pair": _exo_pair,
    "nca_pair": _nca_pair,
    "robust": _robust,
    "bco_pair": _bco_pair,
    "sppo_hard": _sppo_hard,
    "apo_zero": _apo_zero,
    "apo_down": _apo_down,
    "discopop": _discopop,
    "sigmoid_norm": _sigmoid_norm,
}
"""The losses of `trl.DPOConfig.loss_type` that are sums over pairs. `aot` and `aot_unpaired` sort the batch and are not."""

MARGIN_LOSSES = ("sigmoid", "hinge", "ipo", "exo_pair", "robust", "discopop", "sigmoid_norm")
"""Those that depend on the difference of the two completions of a pair alone, which needs no reference model."""

LISTWISE, DISTILLATION = PROMPT_LOSSES = ("listwise", "distillation")
"""Losses over all completions of a prompt, see `listwise_losses` and `distillation_losses`."""

SFT = "sft"
"""Negative log-likelihood of the chosen completions: a mean over tokens, which is no sum over pairs; see the trainer."""


def pair_losses(pairs: PairLogps, loss_types: list[str], loss_weights: list[float], settings: LossSettings) -> Tensor:
    """The loss of each pair: the sum of `loss_types`, each times its weight.

    Args:
        pairs: Log-probabilities and lengths of P pairs.
        loss_types: Names in `LOSSES`; `SFT` and `PROMPT_LOSSES` are left out.
        loss_weights: A coefficient for each loss type.
        settings: Constants of the losses.

    Returns:
        (P,), unreduced.

    Raises:
        ValueError: A loss or divergence is not known.
    """
    chosen_logratios = pairs.chosen - pairs.ref_chosen
    rejected_logratios = pairs.rejected - pairs.ref_rejected
    scores = _Scores(
        chosen_logratios,
        rejected_logratios,
        divergence_score(chosen_logratios, settings),
        divergence_score(rejected_logratios, settings),
    )
    total = torch.zeros_like(pairs.chosen)
    for name, coefficient in zip(loss_types, loss_weights, strict=True):
        if name in (SFT, *PROMPT_LOSSES):
            continue
        check_name("loss_type", name, LOSSES)
        total = total + coefficient * LOSSES[name](pairs, scores, settings)
    return total


def listwise_losses(rewards: Tensor, aims: Tensor) -> Tensor:
    """Cross-entropy of the distribution behind the soft labels of a prompt and the softmax over its completions:

        l = -sum_k aim_k log softmax(rewards)_k

    Where the pairwise loss asks each pair for its odds, this asks all completions of a prompt at once; both are least where
    the softmax is the aim. Sources: ListNet, Cao et al. 2007, "Learning to Rank: From Pairwise Approach to Listwise
    Approach"; for preference optimisation, Liu et al. 2024, "LiPO" (arXiv:2402.01878).

    Args:
        rewards: (C,), of C completions: beta times the log-probability, less the reference's if there is one.
        aims: (C, C), from `prompt_aims`.

    Returns:
        (C,): the loss of each completion's prompt.
    """
    outside = torch.where(aims > 0, 0.0, -torch.inf)
    logs = torch.log_softmax(rewards + outside, dim=1).masked_fill(aims == 0, 0.0)
    return -(aims * logs).sum(dim=1)


def distillation_losses(logps: Tensor, aims: Tensor) -> Tensor:
    """Supervised fine-tuning on all completions of a prompt, weighted by the aim:

        l = -sum_k aim_k log p_k  =  listwise - log sum_k p_k,    p_k the probability of completion k,

    where the listwise loss has beta 1 and no reference. By itself it spends most of its gradient on the second part, how
    likely it is that the model writes one of the options at all. A tenth of it beside that listwise loss keeps a model from
    losing them, and leaves the distribution over the options at which both are least where it is.

    Args:
        logps: (C,), log-probabilities of C completions.
        aims: (C, C), from `prompt_aims`.

    Returns:
        (C,): the loss of each completion's prompt.
    """
    return -(aims * logps).sum(dim=1)


def prompt_aims(completions: int, chosen: Tensor, rejected: Tensor, label_probability: Tensor) -> Tensor:
    """The distribution over a prompt's completions that the soft labels of all its pairs stand for.

    With o_jk the odds of completion j against k, aim_k = 1 / sum_j o_jk, j = k counting 1; exact where one distribution is
    behind all labels, also where it leaves a completion nothing.

    Args:
        completions: C.
        chosen: (P,), number of each pair's chosen completion, 0..C-1.
        rejected: (P,), likewise.
        label_probability: (P,), in [0, 1]; the odds of a pair are taken to be a million to one at most. A pair that is
            there more than once has the mean of its log odds.

    Returns:
        (C, C): row i holds the aims of the completions of i's prompt, above 0 and of sum 1, and 0 for those of others.

    Raises:
        ValueError: A prompt has no pair for some two of its completions.
    """
    odds = torch.logit(label_probability, eps=1e-6)
    sums, counts = odds.new_zeros(completions, completions), odds.new_zeros(completions, completions)
    for ends, values in (((chosen, rejected), odds), ((rejected, chosen), -odds)):
        sums.index_put_(ends, values, accumulate=True)
        counts.index_put_(ends, torch.ones_like(values), accumulate=True)
    linked = (counts > 0) | torch.eye(completions, dtype=torch.bool, device=chosen.device)
    # All pairs of a prompt are there if and only if all of its completions are linked to the same ones.
    if (linked[chosen] != linked[rejected]).any():
        raise ValueError(
            "A batch must hold all pairs of each of its prompts, one for each two of its completions, with loss_type "
            "'listwise' or 'distillation'; got a prompt without some. Load pairs with labels='fitted', and make the batch "
            "sizes of training and evaluation a multiple of the pairs of a prompt."
        )
    log_odds = sums / counts.clamp(min=1)  # of the row's completion against the column's
    log_aims = -torch.where(linked, -log_odds, -torch.inf).logsumexp(dim=1)
    return torch.softmax(torch.where(linked, log_aims, -torch.inf), dim=1)
