"""What the report counts from answers and probabilities: shares, distances, agreement and division."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import entr

from fairpp_hf.evaluation.report.folder import Evaluated
from fairpp_hf.schema import NO_ANSWER, OPTION_LETTERS
from fairpp_hf.statistics.options import js_distances
from fairpp_hf.taxonomy import load_taxonomy


class Shares(NamedTuple):
    """Answer shares by a label."""

    labels: tuple[str, ...]
    shares: NDArray[np.float64]
    """(labels, 3) over A, B, C, of the answered questions; NaN where none was."""
    answered: NDArray[np.int64]
    """(labels,): questions with a valid answer."""
    asked: NDArray[np.int64]
    """(labels,)"""


class Labels(NamedTuple):
    """A column of labels as numbers."""

    names: tuple[str, ...]
    codes: NDArray[np.int64]
    """(n,), into `names`."""


def labels_of(questions: pa.Table, column: str) -> Labels:
    """A column's labels: numbers sorted, texts in the order of the taxonomy, unknown ones last as they come."""
    encoded = questions[column].combine_chunks().dictionary_encode()
    names, codes = encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64)
    taxonomy = load_taxonomy()
    known: list = [*dict.fromkeys(problem.category for problem in taxonomy.problems)]
    known += [*dict.fromkeys(group.group_type for group in taxonomy.groups), *(group.name for group in taxonomy.groups)]
    known += [dimension.number for dimension in taxonomy.dimensions]
    place = {name: number for number, name in enumerate(known)}
    order = sorted(range(len(names)), key=lambda code: (place.get(names[code], len(place)), code))
    return Labels(tuple(str(names[code]) for code in order), np.argsort(order)[codes])


def shares_by(probabilities: NDArray[np.float64], labels: Labels) -> Shares:
    """Mean probabilities, or shares of answers, within each label.

    Args:
        probabilities: (n, 3), rows of NaN where there is no answer.
        labels: of the n questions.
    """
    count = len(labels.names)
    valid = ~np.isnan(probabilities).any(axis=1)
    answered = np.bincount(labels.codes[valid], minlength=count)
    sums = np.stack([np.bincount(labels.codes[valid], column, count) for column in probabilities[valid].T], axis=1)
    shares = np.divide(sums, answered[:, None], out=np.full(sums.shape, np.nan), where=answered[:, None] > 0)
    return Shares(labels.names, shares, answered, np.bincount(labels.codes, minlength=count))


def distance_matrix(rows: Sequence[NDArray[np.float64]], *, by_question: bool) -> NDArray[np.float64]:
    """Jensen-Shannon distance, natural logarithm, 0 to 0.8326, between each two of m responders, (m, m).

    Args:
        rows: option probabilities (n, 3) of each responder.
        by_question: the mean of the questions' distances; otherwise the distance of the shares over all questions.

    Returns:
        NaN where two have no answered question in common.
    """
    count = len(rows)
    distances = np.zeros((count, count))
    for one in range(count):
        for other in range(one):
            common = ~(np.isnan(rows[one]) | np.isnan(rows[other])).any(axis=1)
            first, second = rows[one][common], rows[other][common]
            if not common.any():
                distances[one, other] = distances[other, one] = np.nan
                continue
            if not by_question:
                first, second = first.mean(axis=0), second.mean(axis=0)
            distances[one, other] = distances[other, one] = js_distances(first, second).mean()
    return distances


class Agreeing(NamedTuple):
    """How many of the other personas give the target's answer."""

    questions: NDArray[np.int64]
    """(K,): number of questions on which 0, 1 .. K - 1 of the K - 1 others agree with the target."""
    left_out: int
    """Questions that some persona has not answered."""
    agreement: NDArray[np.float64]
    """(systems, K): mean probability that a system gives to the target's answer on these questions; NaN for none."""


def agreeing_others(evaluated: Evaluated) -> Agreeing:
    """Over the questions that all personas have answered."""
    own = evaluated.answers[evaluated.target]
    others = np.stack([evaluated.answers[persona] for persona in evaluated.personas if persona != evaluated.target])
    counted = (own != NO_ANSWER) & (others != NO_ANSWER).all(axis=0)
    agreeing = (others == own).sum(axis=0)
    bins = len(evaluated.personas)
    agreement = np.full((len(evaluated.systems), bins), np.nan)
    for number, system in enumerate(evaluated.systems):
        given = _given_to(system.probabilities, own)
        for others_agreeing in range(bins):
            found = given[counted & (agreeing == others_agreeing)]
            found = found[~np.isnan(found)]
            if len(found):
                agreement[number, others_agreeing] = found.mean()
    return Agreeing(np.bincount(agreeing[counted], minlength=bins), int((~counted).sum()), agreement)


class Divided(NamedTuple):
    """The questions worth reading."""

    rows: NDArray[np.int64]
    """Of the questions, those that divide the personas most first."""
    entropy: NDArray[np.float64]
    """Of the personas' answers, natural logarithm, 0 to 1.0986, for each of `rows`."""
    disagreement: NDArray[np.float64]
    """1 - the probability that the models give to the target's answer, mean over them, for each of `rows`; NaN for none.
    Baselines do not count, unless there is nothing else."""


def most_divided(evaluated: Evaluated, limit: int = 100) -> Divided:
    """At most `limit` questions: half those that divide the personas most, half those where models miss the target most."""
    answers = np.stack(list(evaluated.answers.values()))
    counts = np.stack([(answers == option).sum(axis=0) for option in range(len(OPTION_LETTERS))], axis=1)
    total = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, total, out=np.zeros(counts.shape), where=total > 0)
    entropy = entr(shares).sum(axis=1)
    given = np.stack(
        [_given_to(system.probabilities, evaluated.answers[evaluated.target]) for system in evaluated.models]
    )
    scored = (~np.isnan(given)).sum(axis=0)
    missed = 1 - np.divide(np.nansum(given, axis=0), scored, out=np.full(len(entropy), np.nan), where=scored > 0)
    by_missed = np.nan_to_num(missed, nan=-1.0)
    # Ties are many with few personas: the other measure decides, then the order of the questions.
    by_entropy_first = np.lexsort((-by_missed, -entropy))
    by_missed_first = np.lexsort((-entropy, -by_missed))
    half = limit // 2
    chosen = set(by_entropy_first[: limit - half].tolist())
    for row in by_missed_first.tolist():
        if len(chosen) >= min(limit, len(entropy)):
            break
        chosen.add(row)
    rows = np.array([row for row in by_entropy_first.tolist() if row in chosen], dtype=np.int64)
    return Divided(rows, entropy[rows], missed[rows])


def _given_to(probabilities: NDArray[np.float64], answers: NDArray[np.int8]) -> NDArray[np.float64]:
    """The probability given to each answer, (n,); NaN where either is missing."""
    given = np.take_along_axis(probabilities, np.maximum(answers, 0)[:, None].astype(np.int64), axis=1)[:, 0]
    return np.where(answers == NO_ANSWER, np.nan, given)
