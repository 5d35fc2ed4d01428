"""`alignment_metrics` as a module for Hugging Face's evaluate."""

from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import evaluate
import numpy as np

from fairpp_hf.evaluation.metrics import alignment_metrics

_DESCRIPTION = """\
How close answers to three-option questions are to those of several personas. For each persona: the Jensen-Shannon distance
between the shares of A, B and C (natural logarithm and base 2), the mean distance question by question, agreement, and
agreement corrected for chance. With a target persona also the margin to the nearest other, calibration error and Brier
score. Of the answers alone: abstention and the share left unanswered.
"""

_INPUTS = """\
Args:
    predictions: a question's answer, 0 to 2 for A, B, C or -1 for none; or its probabilities of A, B, C, a list of 3 floats.
    references: each persona's answer to the question, a list of integers 0 to 2 or -1; or one integer for a single persona.
    personas: ids of the personas, in the order of the references. By default `persona_0`, `persona_1`, ...
    target: id of the persona that the answers are meant to match. By default none.
    questions: a mapping of columns `topic`, `problem`, `group_type`, `group`, `dimension` and `form`, in the order of the
        predictions, for the metrics that need them. By default none.
Returns:
    Metric name, such as `js_distance/persona_0`, to number, name, or None where there is nothing to measure.
Examples:
    >>> import evaluate, fairpp_hf.evaluation
    >>> metric = evaluate.load(fairpp_hf.evaluation.metric_path())
    >>> metric.compute(predictions=[0, 1, -1], references=[[0, 1], [1, 1], [0, 0]])["agreement/persona_0"]
    1.0
"""

_CITATION = """\
@article{zhou2025fairpp,
  title = {Fair-PP: A Synthetic Dataset for Aligning LLM with Personalized Preferences of Social Equity},
  author = {Zhou, Qi and Zhang, Jie and Wang, Dongxia and Liu, Qiang and Li, Tianlin and Dong, Jin Song and Wang, Wenhai
    and Guo, Qing},
  journal = {arXiv preprint arXiv:2505.11861},
  year = {2025}
}
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
        answer, probabilities = datasets.Value("int64"), datasets.List(datasets.Value("float64"))
        answers = datasets.List(datasets.Value("int64"))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=[
                datasets.Features({"predictions": prediction, "references": reference})
                for prediction in (answer, probabilities)
                for reference in (answers, answer)
            ],
            reference_urls=["https://arxiv.org/abs/2505.11861"],
        )

    def _compute(
        self,
        predictions: Sequence[int] | Sequence[Sequence[float]],
        references: Sequence[int] | Sequence[Sequence[int]],
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
        columns = np.asarray(references, dtype=np.int64).reshape(len(references), -1)
        names = self._personas if personas is None else personas
        if names is None:
            names = [f"persona_{place}" for place in range(columns.shape[1])]
        if len(set(names)) != columns.shape[1] or len(names) != columns.shape[1]:
            raise ValueError(
                f"personas must name each of the {columns.shape[1]} columns of references once; got {list(names)}."
            )
        return alignment_metrics(
            np.asarray(predictions),
            {name: columns[:, place] for place, name in enumerate(names)},
            self._target if target is None else target,
            questions,
        )
