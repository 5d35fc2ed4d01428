"""How close a respondent's answers are to those of each persona."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from fairpp_hf.statistics.bootstrap import ratio
from fairpp_hf.statistics.options import MAX_JS_DISTANCE, js_distances
from fairpp_hf.statistics.question_sums import QuestionSums, question_sums

__all__ = ["FEWEST_GROUP_CLUSTERS", "MAX_JS_DISTANCE", "alignment_metrics", "metric_values"]

FEWEST_GROUP_CLUSTERS = 10
"""A group counts among the groups from so many problems on: the lowest of numbers over a few questions is noise."""


def alignment_metrics(
    predictions: ArrayLike,
    references: Mapping[str, ArrayLike],
    target: str | None = None,
    questions: pa.Table | Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Compare answers, or option probabilities, with the answers of personas to the same questions.

    Of the predictions alone, over all n questions:

    - `unanswered`: the share of questions without a valid prediction. They are reported here and count nowhere else.
    - `abstention`: the mean probability of C, over the questions with a prediction.
    - `forms_consistency` (with questions): over the (problem, group, dimension) whose criterion and explanation question
      both have a prediction, the mean probability that two answers drawn independently are the same option; where a form
      was asked several times, any of its answers with any of the other's.

    For each persona p, over the m questions with a valid prediction and a valid answer of that persona:

    - `questions/p`: m.
    - `js_distance/p`: the Jensen-Shannon distance between the two marginal distributions over A, B, C, as in the paper
      (Zhou et al. 2025): sqrt((KL(p || r) + KL(q || r)) / 2) with r = (p + q) / 2, natural logarithm, 0 to 0.8326. It is
      blind to who answers what: opposite answers with equal marginals have distance 0. `js_distance_base2/p` is the same
      with the logarithm to base 2, 0 to 1.
    - `question_js_distance/p`: the mean over questions of the distance between the two distributions of that question.
    - `agreement/p`: the mean probability that the two answers are equal, 0 to 1: the mean of sum_k p_k q_k, which is the
      probability that the prediction gives to the persona's own answer, and for answers the share of equal ones.
    - `kappa/p`: agreement corrected for chance (Cohen 1960), (a - e) / (1 - e), where e = sum_k p_k q_k of the two
      marginals is the agreement of answers that know nothing of the question. 1 at most, 0 at chance.

    With a target, all of these also as `.../target`, and:

    - `js_distance/nearest_other`, `nearest_other`: the least distance to another persona, and whose it is.
    - `js_distance/margin`: nearest other minus target: above 0 means closer to the target than to anyone else.
      `question_js_distance/margin`: the same of `question_js_distance`, with its own nearest other.
    - `calibration_error/target`: expected calibration error (Guo et al. 2017): questions in 10 equal-width bins of the
      top probability; the mean over questions of a bin's absolute difference between mean top probability and share of
      target's answers equal to the top option. Equal top options share the hit. For answers (probability 1) it is 1 -
      agreement.
    - `brier/target`: mean squared error sum_k (p_k - [k is the target's answer])^2 (Brier 1950), 0 to 2.
    - with questions: `worst_group/target`, the lowest agreement with the target within a group, over the groups on which at
      least 10 problems were answered, and `worst_group_name/target`. None where there are fewer than two such groups.

    Which to compare systems by: `brier` is proper, the persona's own probabilities have the least that there is. `agreement`
    and `question_js_distance` to drawn answers are not: they reward confidence, so that a certain guess of the persona's
    likeliest option beats the persona's own probabilities. `js_distance` is blind to who answers what.

    What is estimated where answers are single draws from a persona's (or a system's) option probabilities:

    - `agreement`, `brier` and `abstention` of draws are unbiased for what they are of the probabilities; `kappa` and
      `js_distance` are consistent. A distance cannot fall below 0, so that noise enlarges it: where the truth is 0, to a
      mean of 0.62 / sqrt(m) with both sides drawn and 0.44 / sqrt(m) with the references drawn (measured for the shares
      0.5, 0.35 and 0.15). The same holds of `calibration_error`; the lowest of noisy numbers lies too low, which concerns
      `worst_group`, `js_distance/nearest_other` and `margin`. `metric_intervals` allows for it where it gives an interval.
    - `question_js_distance` to a drawn answer is NOT the one to the probabilities behind it: the distance of a
      distribution to a certain answer is above 0 even where the two respondents are the same. Give references as
      probabilities where they are known; then it is the distance between distributions.

    Two systems that left different questions unanswered have metrics over different questions: compare them with
    `paired_comparison`, which takes those that both answered.

    Args:
        predictions: Answers, integers (n,) in 0..2 or -1 for none; or option probabilities, floats (n, 3), a row of NaN
            for none.
        references: Persona id to answers, (n,), or option probabilities, (n, 3), of the same kinds.
        target: Id of the persona, or None.
        questions: The n questions, a table or a mapping of columns with `problem`, `group`, `dimension` and `form`;
            None leaves out the metrics that need them.

    Returns:
        Metric name to float, int (`questions/`) or name (`nearest_other`, `worst_group_name/target`). What has no value,
        such as the distance to a persona without any common question, is None.

    Raises:
        ValueError: wrong shapes, values or columns, an unknown target, or a target without any common question or without
            another persona to compare it with.

    Example:
        >>> metrics = alignment_metrics([0, 0, 1, 1], {"a": [0, 0, 1, 1], "b": [1, 1, 1, 1]}, target="a")
        >>> metrics["js_distance/target"], metrics["agreement/b"], metrics["nearest_other"]
        (0.0, 0.5, 'b')
    """
    sums = question_sums(predictions, references, target, questions)
    totals = sums.totals(np.ones((1, sums.clusters)))
    metrics: dict[str, Any] = {
        name: None if np.isnan(value[0]) else float(value[0]) for name, value in metric_values(sums, totals).items()
    }
    counts = totals["personas"][0, :, 0].round().astype(int).tolist()
    metrics |= {f"questions/{persona}": count for persona, count in zip(sums.personas, counts, strict=True)}
    if sums.target is not None:
        metrics["questions/target"] = counts[sums.target]
        distances = {sums.personas[place]: metrics[f"js_distance/{sums.personas[place]}"] for place in sums.others}
        metrics["nearest_other"] = min(
            (persona for persona, distance in distances.items() if distance is not None),
            key=lambda name: distances[name],
        )
        if "groups" in totals:
            groups = group_agreement(sums, totals)[0]
            lowest = None if np.isnan(groups).all() else int(np.nanargmin(groups))
            metrics["worst_group_name/target"] = None if lowest is None else sums.groups[lowest]
    return metrics


def metric_values(sums: QuestionSums, totals: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """Every metric that is a number, of each of b totals; the one place where they are computed.

    Metric name to (b,), NaN where a total holds no question of its kind.
    """
    asked, answered, of_c = np.moveaxis(totals["answers"], -1, 0)
    values = {"unanswered": ratio(asked - answered, asked), "abstention": ratio(of_c, answered)}
    if "forms" in totals:
        values["forms_consistency"] = ratio(totals["forms"][:, 1], totals["forms"][:, 0])

    ours, theirs, agreement, question_js = persona_means(totals["personas"])
    distance = js_distances(ours, theirs)
    expected = (ours * theirs).sum(axis=-1)
    by_persona = {
        "js_distance": distance,
        "js_distance_base2": distance / MAX_JS_DISTANCE,
        "question_js_distance": question_js,
        "agreement": agreement,
        # With both always at one option, chance alone gives full agreement.
        "kappa": ratio(agreement - expected, np.where(1 - expected > 1e-9, 1 - expected, 0)),
    }
    for name, columns in by_persona.items():
        values |= {f"{name}/{persona}": columns[:, place] for place, persona in enumerate(sums.personas)}
        if sums.target is not None:
            values[f"{name}/target"] = columns[:, sums.target]

    if sums.target is None:
        return values
    nearest = least(distance[:, sums.others])
    values["js_distance/nearest_other"] = nearest
    values["js_distance/margin"] = nearest - distance[:, sums.target]
    values["question_js_distance/margin"] = least(question_js[:, sums.others]) - question_js[:, sums.target]
    count = totals["personas"][:, sums.target, 0]
    values["calibration_error/target"] = ratio(np.abs(totals["bins"]).sum(axis=-1), count)
    values["brier/target"] = ratio(totals["brier"], count)
    if "groups" in totals:
        values["worst_group/target"] = least(group_agreement(sums, totals))
    return values


def persona_means(block: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Of the block `personas`: predicted marginals (b, k, 3), the personas' (b, k, 3), agreement and question JS (b, k)."""
    means = ratio(block[..., 1:], block[..., :1])
    return means[..., :3], means[..., 3:6], means[..., 6], means[..., 7]


def group_agreement(sums: QuestionSums, totals: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """Agreement with the target within each group, (b, g), NaN for those that do not count, see `alignment_metrics`."""
    counts = sums.group_problems >= FEWEST_GROUP_CLUSTERS
    if counts.sum() < 2:
        counts = np.zeros_like(counts)
    return np.where(counts, ratio(totals["groups"][..., 1], totals["groups"][..., 0]), np.nan)


def least(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The least number of each row, NaN where there is none."""
    lowest = np.where(np.isnan(values), np.inf, values).min(axis=-1, initial=np.inf)
    return np.where(np.isinf(lowest), np.nan, lowest)
