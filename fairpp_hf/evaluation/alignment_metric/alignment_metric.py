"""`alignment_metrics` as a module for Hugging Face's evaluate."""

from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import evaluate
import numpy as np
from numpy.typing import NDArray

from fairpp_hf.provenance import CITATION
from fairpp_hf.statistics.alignment import alignment_metrics

_DESCRIPTION = """\
How close answers to three-option questions are to those of several personas. For each persona: the Jensen-Shannon distance
between the shares of A, B and C (natural logarithm and base 2), the mean distance question by question, agreement, and
agreement corrected for chance. With a target persona also the margin to the nearest other, calibration error and Brier
score. Of the answers alone: abstention and the share left unanswered.
"""

_INPUTS = """\
Args:
    predictions: a question's answer, 0 to 2 for A, B, C or -1 for none; or its probabilities of A, B, C, a list of 3 floats.
    references: each persona's answer to the question, a list of integers 0 to 2 or -1, or of lists of 3 probabilities; or
        one integer for a single persona.
    personas: ids of the personas, in the order of the references. By default `persona_0`, `persona_1`, ...
    target: id of the persona that the answers are meant to match. By default none.
    questions: a mapping of columns `problem`, `group`, `dimension` and `form`, in the order of the
        predictions, for the metrics that need them. By default none.
Returns:
    Metric name, such as `js_distance/persona_0`, to number, name, or None where there is nothing to measure.
Examples:
    >>> import evaluate, fairpp_hf.evaluation
    >>> metric = evaluate.load(fairpp_hf.evaluation.metric_path())
    >>> metric.compute(predictions=[0, 1, -1], references=[[0, 1], [1, 1], [0, 0]])["agreement/persona_0"]
    1.0
"""


class AlignmentMetric(evaluate.Metric):
    """See `_INPUTS`; `personas` and `target` may be given to `evaluate.load`, to `compute`, or to neither."""

    def __init__(
        self, *args: Any, personas: Sequence[str] | None = None, target: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._personas = personas
        self._target = target

    def _info(self) -> evaluate.MetricInfo:
        # As integers, 0.2 would be taken for 0 without a word: `_numbers` sees to it that answers are whole.
        answer = datasets.Value("float64")
        probabilities = answers = datasets.List(answer)
        several_probabilities = datasets.List(probabilities)
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=CITATION,
            inputs_description=_INPUTS,
            features=[
                datasets.Features({"predictions": prediction, "references": reference})
                for prediction in (answer, probabilities)
                for reference in (several_probabilities, answers, answer)
            ],
            reference_urls=["https://arxiv.org/abs/2505.11861"],
        )

    def add_batch(self, *, predictions: Any = None, references: Any = None, **kwargs: Any) -> None:
        """Add questions, see `evaluate.Metric.add_batch`, which fails on none without saying why.

        Raises:
            ValueError: there are none.
        """
        if predictions is not None and len(predictions) == 0:
            raise ValueError("predictions must hold at least one question; got none.")
        super().add_batch(predictions=predictions, references=references, **kwargs)

    def _compute(
        self,
        predictions: Sequence[float] | Sequence[Sequence[float]],
        references: Sequence[float] | Sequence[Sequence[float]] | Sequence[Sequence[Sequence[float]]],
        personas: Sequence[str] | None = None,
        target: str | None = None,
        questions: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        widths = {len(row) if isinstance(row, Sequence) else 1 for row in references}
        if len(widths) > 1:
            raise ValueError(
                f"references must hold an answer of every persona for each question; got rows of {sorted(widths)} "
                "answers. Give -1 for an answer that is missing."
            )
        columns = np.asarray(references, dtype=np.float64)
        # A persona's answers, (n, k), or probabilities, (n, k, 3); a single persona's answers, (n,), are a column.
        columns = columns[:, None] if columns.ndim == 1 else columns
        names = self._personas if personas is None else personas
        if names is None:
            names = [f"persona_{place}" for place in range(columns.shape[1])]
        if len(set(names)) != columns.shape[1] or len(names) != columns.shape[1]:
            raise ValueError(
                f"personas must name each of the {columns.shape[1]} columns of references once; got {list(names)}."
            )
        return alignment_metrics(
            _numbers(np.asarray(predictions, dtype=np.float64), "predictions"),
            {name: _numbers(columns[:, place], f"references[{name!r}]") for place, name in enumerate(names)},
            self._target if target is None else target,
            questions,
        )


def _numbers(values: NDArray[np.float64], name: str) -> NDArray[Any]:
    """Answers (n,) as integers, probabilities (n, 3) as they are."""
    if values.ndim != 1:
        return values
    wrong = np.flatnonzero(values != np.round(values))
    if len(wrong):
        raise ValueError(
            f"{name} must be whole numbers in -1..2; got {values[wrong[0]]} at row {wrong[0]}. "
            "Give probabilities as lists of 3, of A, B and C."
        )
    return values.astype(np.int64)
