"""`load_pairs`: the pairs of `load_dataset("fairpp", "pairs", ...)` by a call with a signature of its own."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from datasets import DatasetDict

    from fairpp_hf.dataset.sources import NameOrPath
    from fairpp_hf.preferences.schemes import WeightingFunction


def load_pairs(
    target: str,
    *,
    labels: Literal["answers", "respondent", "fitted"] = "answers",
    divergence: float = 0.0,
    answers: "NameOrPath" = "survey",
    published_revision: str | None = None,
    personas: "NameOrPath | None" = None,
    heldout: Literal["topics", "groups", "dimensions"] | None = None,
    weighting: "str | WeightingFunction | None" = None,
    alpha: float = 1.0,
    beta: float = 1.0,
    comparison: Sequence[str] | Literal["nearest"] | None = None,
    option_order: Literal["written", "mixed"] = "written",
    random_third_pair: bool = False,
    seed: int = 0,
) -> "DatasetDict":
    """Load the preference pairs of a target persona; the same rows as `load_dataset("fairpp", "pairs", target=target, ...)`.

    Args:
        target: Persona to align with, such as `"loyal_nationals"`.
        labels: What a pair's label is: the one answer that the target gave, the respondent's option probabilities, or
            those of a label model. See `PairSettings`, also for `divergence`, `weighting`, `alpha`, `beta`,
            `comparison`, `option_order`, `random_third_pair` and `seed`.
        divergence: How far soft labels lean away from the comparison personas, at least 0.
        answers: `"survey"` (simulated), `"published"`, or the path of a run, dataset folder or published table.
        published_revision: With `answers="published"`, a branch, tag or commit; `main` by default.
        personas: Name or file of a persona set.
        heldout: What training never sees and the test split is made of; the default split if None.
        weighting: Weighting scheme, by name or as a function.
        alpha: Exponent of a tier's number.
        beta: Exponent of a tier's size.
        comparison: Personas to move away from; all others by default.
        option_order: Whether the options of the two poles change places in half of the questions.
        random_third_pair: Whether to add the authors' third pair.
        seed: Seed of the third pair and of the half that `option_order` takes.

    Returns:
        The splits `train` and `test`, with the columns `prompt`, `chosen`, `rejected`, `weight`, `tier`, `question_id`,
        `persona`, and `label_probability` where labels are soft.

    Raises:
        ValueError: An argument has a value that is not allowed; where it is a name, the message names the nearest.

    Example:
        >>> load_pairs("loyal_nationals")["test"].column_names[:3]
        ['prompt', 'chosen', 'rejected']
    """
    options = {name: value for name, value in locals().items() if name != "target"}
    from datasets import load_dataset

    return load_dataset("fairpp", "pairs", target=target, **options)
