"""How pairs are made: one set of settings for all who take them, from `load_dataset` to the command line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairpp_hf.naming import check_name
from fairpp_hf.preferences.schemes import WeightingFunction, check_scheme, scheme_name, uses_shares
from fairpp_hf.preferences.target_distribution import check_divergence
from fairpp_hf.preferences.weights import NEAREST, PreferenceWeights, check_comparison, preference_weights
from fairpp_hf.questions.option_order import OPTION_ORDERS

LABELS = ("answers", "respondent", "fitted")
"""Where a pair's label comes from; see `PairSettings`."""


@dataclass(frozen=True)
class PairSettings:
    """How the pairs of a target persona are made.

    Args:
        weighting: Weighting scheme, see `preference_weights`: a name, or a function of `WeightingFacts`. By default
            `"tier"` with `labels="answers"`, which is the paper's way, and `"uniform"` with soft labels: a weight that
            depends on the one drawn answer would only add noise to them.
        alpha: Exponent of a tier's number, see `preference_weights`.
        beta: Exponent of a tier's size, see `preference_weights`.
        comparison: Personas to move away from, see `preference_weights`; all others by default, `"nearest"` for the one
            that agrees with the target most often on the training questions.
        random_third_pair: Whether to add the authors' third pair, the two options that were not chosen in random order.
            It is noise by construction; it is there to reproduce the paper.
        option_order: `"mixed"` shows the options of the two poles in each other's place in a random half of the questions,
            and "A. ..." is then pole B's line there. In `"written"`, pole A is A throughout, and a model can answer by
            the letter.
        labels: `"answers"`: the target's one answer is preferred to the other two options. The others are soft labels,
            three pairs a question with a column `label_probability`: `"respondent"` takes the option probabilities of
            whoever answered, `"fitted"` those of a label model that is fitted to the answers, see `fit_label_model`.
        divergence: How far soft labels lean away from the comparison personas, lambda in `target_distribution`; at least
            0, which is the target itself.
        seed: Seed for the order within the third pair, and for the half that `option_order` takes.

    Raises:
        ValueError: A value is not allowed, or two do not go together.
    """

    weighting: str | WeightingFunction | None = None
    alpha: float = 1.0
    beta: float = 1.0
    comparison: Sequence[str] | Literal["nearest"] | None = None
    random_third_pair: bool = False
    option_order: Literal["written", "mixed"] = "written"
    labels: Literal["answers", "respondent", "fitted"] = "answers"
    divergence: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_name("labels", self.labels, LABELS)
        check_scheme("weighting", self.scheme, self.alpha, self.beta)
        if self.comparison is not None:
            check_comparison(self.comparison)
        check_name("option_order", self.option_order, OPTION_ORDERS)
        for name, kind, words in (("random_third_pair", bool, "True or False"), ("seed", int, "a whole number")):
            if type(value := getattr(self, name)) is not kind:
                raise ValueError(f"{name} must be {words}; got {value!r}.")
        check_divergence(self.divergence)
        if self.divergence and not self.soft:
            raise ValueError(
                f"divergence must be 0 with labels='answers'; got {self.divergence!r}. One drawn answer is no distribution "
                "that could lean away from the others'. Use labels='fitted', or labels='respondent' where the answers have "
                "option probabilities."
            )
        if self.random_third_pair and self.soft:
            raise ValueError(
                f"random_third_pair must be False with labels={self.labels!r}; got True. Soft labels have the pair of the "
                "two other options already, with its probability in the place of noise. Leave it out, or use "
                "labels='answers'."
            )
        # What says the same in other words is equal.
        tidy: dict[str, Any] = {name: float(getattr(self, name)) for name in ("alpha", "beta", "divergence")}
        if self.comparison is not None and self.comparison != NEAREST:
            tidy["comparison"] = tuple(sorted(set(self.comparison)))
        for name, value in tidy.items():
            object.__setattr__(self, name, value)

    @property
    def soft(self) -> bool:
        """Whether pairs have soft labels, a column `label_probability`."""
        return self.labels != "answers"

    @property
    def scheme(self) -> str | WeightingFunction:
        """`weighting`, or what it is by default."""
        if self.weighting is not None:
            return self.weighting
        return "uniform" if self.soft else "tier"

    @property
    def scheme_name(self) -> str:
        """Name of the scheme, or of the function."""
        return scheme_name(self.scheme)

    @property
    def words(self) -> str:
        """Weighting, and labels and divergence where they are not the paper's, for whoever finds only the pairs."""
        words = [f"weighting {self.scheme_name}"]
        words += [f"labels {self.labels}"] if self.soft else []
        words += [f"divergence {self.divergence:g}"] if self.divergence else []
        return ", ".join(words)

    @property
    def named(self) -> tuple[str, ...]:
        """The personas that `comparison` names; none where it does not."""
        return () if self.comparison is None or self.comparison == NEAREST else tuple(self.comparison)

    @property
    def uses_shares(self) -> bool:
        """Whether the comparison personas' shares of the population may change the pairs."""
        return uses_shares(self.scheme) or self.divergence > 0

    def weights(
        self,
        answers: Mapping[str, ArrayLike],
        target: str,
        *,
        shares: Mapping[str, float] | None = None,
        fit_rows: NDArray[np.bool_] | None = None,
    ) -> PreferenceWeights:
        """Tier and weight of each question, see `preference_weights`."""
        return preference_weights(
            answers,
            target,
            comparison=self.comparison,
            scheme=self.scheme,
            alpha=self.alpha,
            beta=self.beta,
            shares=shares,
            fit_rows=fit_rows,
        )

    def as_dict(self) -> dict[str, Any]:
        """The settings by name, as JSON has them: `weighting` is the name of the scheme, by default too."""
        comparison = self.comparison if self.comparison in (None, NEAREST) else list(self.named)
        return {**vars(self), "weighting": self.scheme_name, "comparison": comparison}
