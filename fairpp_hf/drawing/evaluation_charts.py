"""The charts of an evaluation, from its results, and the questions that divide its personas."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr

from fairpp_hf.drawing.canvas import Chart
from fairpp_hf.drawing.charts import Party, Value, diverging_bars, interval_chart, stacked_bars
from fairpp_hf.drawing.theme import PERSONA, drawable, option_fills, system_looks
from fairpp_hf.evaluation.baselines import CONSTANT, UNIFORM
from fairpp_hf.evaluation.results import Results
from fairpp_hf.schema import NO_ANSWER, OPTION_LETTERS


def error_of(results: Results) -> tuple[str, str]:
    """The metric that says how far a system is from the target, lower is nearer, and what it is called.

    It is the one that skill is computed from: a distance to single answers would reward confidence.
    """
    known = results.compared_with == "probabilities"
    return ("question_js_distance/target", "distance") if known else ("brier/target", "Brier score")


def distance_chart(results: Results) -> Chart:
    """How near each system is to the target, beside the constant and chance; and the nearest other persona."""
    metric, head = error_of(results)
    by_name = {system.name: system.metrics.get(metric) for system in results.systems}
    lines = {"constant, to beat": by_name.get(CONSTANT), "by chance": by_name.get(UNIFORM)}
    values = []
    for party, system in zip(system_parties(results), results.systems, strict=True):
        value, margin = system.metrics.get(metric), system.metrics.get("question_js_distance/margin")
        other = None if head != "distance" or value is None or margin is None else value + margin
        values.append(Value(party, value, system.interval(metric), other))
    other = "small tick: nearest other persona" if any(row.tick is not None for row in values) else ""
    title = "Distance to" if head == "distance" else "Brier score against"
    return interval_chart(
        "distance",
        f"{title} {drawable(results.name(results.target), 'the target')}",
        values,
        axis=f"← left is nearer and better{'; ' if other else ''}{other}",
        lines={text: place for text, place in lines.items() if place is not None},
        head=head,
        tick="nearest other persona" if other else "",
    )


def answer_charts(results: Results) -> list[Chart]:
    """The target's answers beside the models': by dimension, and over all questions."""
    target = Party(results.name(results.target), drawable(results.name(results.target), "the target"), PERSONA)
    rows = results.persona_probabilities[results.target]
    fills = option_fills()
    everybody = [
        (target, rows),
        *zip(system_parties(results), (each.probabilities for each in results.systems), strict=True),
    ]
    models = {system.name for system in results.models}
    found, first, codes = np.unique(results.questions["dimension"].to_numpy(), return_index=True, return_inverse=True)
    poles = results.questions.select(["pole_a", "pole_b"]).take(first).to_pylist()
    sides = {
        f"dimension {number}": (drawable(both["pole_a"], "A"), drawable(both["pole_b"], "B"))
        for number, both in zip(found.tolist(), poles, strict=True)
    }
    by_dimension = [(party, shares_by(given, codes)) for party, given in everybody]
    return [
        diverging_bars(
            "dimensions",
            "Answers by dimension",
            sides,
            by_dimension[0],
            [(party, shares) for party, shares in by_dimension[1:] if party.name in models],
            fills,
        ),
        stacked_bars(
            "options",
            "Answers over all questions, in percent",
            [party for party, _ in everybody],
            {"": np.concatenate([shares_by(given, np.zeros(len(given), dtype=np.int64)) for _, given in everybody])},
            fills,
        ),
    ]


def shares_by(probabilities: NDArray[np.float64], codes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean probabilities, or shares of answers, within each of m labels, (m, K); NaN where no question was answered.

    Args:
        probabilities: (n, K), rows of NaN where there is no answer.
        codes: Label of each of the n questions, 0 to m - 1.
    """
    valid = ~np.isnan(probabilities).any(axis=1)
    groups = [probabilities[valid & (codes == code)] for code in range(codes.max() + 1)]
    nothing = np.full(probabilities.shape[1], np.nan)
    return np.stack([rows.mean(axis=0) if len(rows) else nothing for rows in groups])


def most_divided(results: Results, limit: int) -> list[int]:
    """Rows of the questions that divide the personas most, by the entropy of their answers.

    Ties are many with few personas: what the models give least probability as the target's answer comes first. Baselines
    do not count, unless there is nothing else.
    """
    answers = np.stack(list(results.answers.values()))
    counts = np.stack([(answers == option).sum(axis=0) for option in range(len(OPTION_LETTERS))], axis=1)
    entropy = entr(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)).sum(axis=1)
    target = results.answers[results.target]
    given = np.stack([system.probabilities for system in results.models])
    right = np.take_along_axis(given, np.maximum(target, 0)[None, :, None].astype(np.int64), axis=2)[:, :, 0]
    right = np.where(np.isnan(right) | (target == NO_ANSWER), 1.0, right).mean(axis=0)
    found: list[int] = np.lexsort((right, -entropy))[:limit].tolist()
    return found


def system_parties(results: Results) -> list[Party]:
    """The systems as they are drawn everywhere."""
    looks = system_looks(system.name for system in results.systems)
    return [
        Party(system.name, drawable(system.name, f"system {place}"), looks[system.name])
        for place, system in enumerate(results.systems, 1)
    ]
