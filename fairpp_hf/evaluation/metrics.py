"""How close a respondent's answers are to those of each persona."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import jensenshannon

from fairpp_hf.naming import check_name
from fairpp_hf.schema import NO_ANSWER, OPTION_LETTERS

MAX_JS_DISTANCE = float(np.sqrt(np.log(2)))
"""The Jensen-Shannon distance of two distributions without common support, natural logarithm: 0.8326."""


def alignment_metrics(
    predictions: ArrayLike, references: Mapping[str, ArrayLike], target: str | None = None
) -> dict[str, Any]:
    """Compare answers, or option probabilities, with the answers of personas to the same questions.

    For each persona, over the m questions with a valid prediction and a valid answer of that persona:

    - `js_distance/<persona>`: the Jensen-Shannon distance between the two marginal distributions over A, B, C, as in the
      paper (Zhou et al. 2025): sqrt((KL(p || r) + KL(q || r)) / 2) with r = (p + q) / 2, natural logarithm, 0 to 0.8326. It
      is blind to who answers what: opposite answers with equal marginals have distance 0.
    - `agreement/<persona>`: the mean probability that the prediction gives to the persona's own answer, 0 to 1; for
      answers, the share of equal answers.
    - `questions/<persona>`: m.

    With a target, also `js_distance/target`, `agreement/target`, `nearest_other` (the other persona with the smallest
    distance), `js_distance/nearest_other`, and `js_distance/margin` (nearest other minus target: above 0 means closer to
    the target than to anyone else).

    Args:
        predictions: answers, integers (n,) in 0..2 or -1 for none; or option probabilities, floats (n, 3), a row of NaN
            for none.
        references: persona id to answers, integers (n,) in 0..2 or -1.
        target: persona id, or None.

    Returns:
        Metric name to float, int (`questions/`) or persona id (`nearest_other`). A persona without any common question
        has distance and agreement None.

    Raises:
        ValueError: wrong shapes or values, an unknown target, or a target without any common question or without another
            persona to compare it with.

    Example:
        >>> metrics = alignment_metrics([0, 0, 1, 1], {"a": [0, 0, 1, 1], "b": [1, 1, 1, 1]}, target="a")
        >>> metrics["js_distance/target"], metrics["agreement/b"], metrics["nearest_other"]
        (0.0, 0.5, 'b')
    """
    probabilities = option_probabilities(predictions)
    metrics: dict[str, Any] = {}
    for persona, answers in references.items():
        reference = option_probabilities(answers, name=f"references[{persona!r}]")
        if len(reference) != len(probabilities):
            raise ValueError(
                f"references[{persona!r}] must answer the same questions as predictions; "
                f"got {len(reference)} for {len(probabilities)}."
            )
        common = ~(np.isnan(probabilities).any(axis=1) | np.isnan(reference).any(axis=1))
        ours, theirs = probabilities[common], reference[common]
        metrics[f"js_distance/{persona}"] = js_distance(ours, theirs) if common.any() else None
        metrics[f"agreement/{persona}"] = float((ours * theirs).sum(axis=1).mean()) if common.any() else None
        metrics[f"questions/{persona}"] = int(common.sum())
    if target is not None:
        check_name("target", target, references)
        metrics |= _target_metrics(metrics, list(references), target)
    return metrics


def _target_metrics(metrics: Mapping[str, Any], personas: list[str], target: str) -> dict[str, Any]:
    others = {
        persona: metrics[f"js_distance/{persona}"]
        for persona in personas
        if persona != target and metrics[f"questions/{persona}"]
    }
    if not metrics[f"questions/{target}"]:
        raise ValueError(
            f"target must share a question with the predictions; got none answered by both for {target!r}."
        )
    if not others:
        raise ValueError(f"references must hold another persona than the target; got only {target!r}.")
    nearest_other = min(others, key=lambda persona: others[persona])
    own = metrics[f"js_distance/{target}"]
    return {
        "js_distance/target": own,
        "agreement/target": metrics[f"agreement/{target}"],
        "nearest_other": nearest_other,
        "js_distance/nearest_other": others[nearest_other],
        "js_distance/margin": others[nearest_other] - own,
    }


def js_distance(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Jensen-Shannon distance between the mean rows of two arrays of option probabilities, (m, 3) and (m', 3)."""
    marginals = first.mean(axis=0), second.mean(axis=0)
    # Equal up to rounding gives scipy the square root of a tiny negative number.
    return 0.0 if np.allclose(*marginals, rtol=0, atol=1e-12) else float(jensenshannon(*marginals))


def option_probabilities(values: ArrayLike, name: str = "predictions") -> NDArray[np.float64]:
    """Answers as one-hot rows, probabilities as they are: float64 (n, 3), with rows of NaN where there is no answer.

    Raises:
        ValueError: neither integers (n,) in -1..2 nor probabilities (n, 3) that sum to 1.
    """
    array = np.asarray(values)
    count = len(OPTION_LETTERS)
    if array.ndim == 1 and array.dtype.kind in "iu":
        wrong = np.flatnonzero((array < NO_ANSWER) | (array >= count))
        if len(wrong):
            raise ValueError(
                f"{name} must be in -1..2 (-1 for no valid answer); got {array[wrong[0]]} at row {wrong[0]}."
            )
        rows = np.full((len(array), count), np.nan)
        valid = array != NO_ANSWER
        rows[valid] = np.eye(count)[array[valid]]
        return rows
    if array.ndim == 2 and array.shape[1] == count and array.dtype.kind == "f":
        wrong = np.flatnonzero((array < 0).any(axis=1) | (np.abs(array.sum(axis=1) - 1) > 1e-3))
        if len(wrong):
            raise ValueError(
                f"{name} must be probabilities that sum to 1 over A, B, C; got {array[wrong[0]].tolist()} at row {wrong[0]}."
            )
        return array.astype(np.float64)
    raise ValueError(
        f"{name} must be integer answers of shape (n,) or probabilities of shape (n, 3); "
        f"got {array.dtype} of shape {array.shape}."
    )
