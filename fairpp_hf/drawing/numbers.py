"""What the page counts from answers and probabilities: shares, distances, agreement and division."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import entr

from fairpp_hf.evaluation.results import Results
from fairpp_hf.questions.taxonomy import load_taxonomy
from fairpp_hf.schema import NO_ANSWER
from fairpp_hf.statistics.options import js_distances

_Floats = NDArray[np.float64]


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


def shares_by(probabilities: _Floats, labels: Labels) -> _Floats:
    """Mean probabilities, or shares of answers, within each of m labels, (m, K); NaN where no question was answered.

    Args:
        probabilities: (n, K), rows of NaN where there is no answer.
        labels: Labels of the n questions.
    """
    count = len(labels.names)
    valid = ~np.isnan(probabilities).any(axis=1)
    answered = np.bincount(labels.codes[valid], minlength=count)[:, None]
    sums = np.stack([np.bincount(labels.codes[valid], column, count) for column in probabilities[valid].T], axis=1)
    return np.divide(sums, answered, out=np.full(sums.shape, np.nan), where=answered > 0)


def distances_between(rows: Sequence[_Floats], columns: Sequence[_Floats], *, by_question: bool) -> _Floats:
    """Jensen-Shannon distance, natural logarithm, 0 to 0.8326, of m responders from k others, (m, k).

    Args:
        rows: Option probabilities (n, K) of each of the m.
        columns: Option probabilities (n, K) of each of the k.
        by_question: Whether it is the mean of the questions' distances; otherwise it is the distance of the shares over
            all questions.

    Returns:
        NaN where two have no answered question in common.
    """
    distances = np.full((len(rows), len(columns)), np.nan)
    for row, ours in enumerate(rows):
        for column, theirs in enumerate(columns):
            common = ~(np.isnan(ours) | np.isnan(theirs)).any(axis=1)
            if common.any():
                first, second = ours[common], theirs[common]
                if not by_question:
                    first, second = first.mean(axis=0), second.mean(axis=0)
                distances[row, column] = js_distances(first, second).mean()
    return distances


class Agreeing(NamedTuple):
    """How many of the other personas give the target's answer."""

    questions: NDArray[np.int64]
    """(P,): number of questions on which 0, 1 .. P - 1 of the P - 1 others agree with the target."""
    left_out: int
    """Questions that some persona has not answered."""
    agreement: _Floats
    """(systems, P): mean probability that a system gives to the target's answer on these questions; NaN for none."""


def agreeing_others(results: Results) -> Agreeing:
    """Over the questions that all personas have answered."""
    own = results.answers[results.target]
    others = np.stack([results.answers[persona] for persona in results.personas if persona != results.target])
    counted = (own != NO_ANSWER) & (others != NO_ANSWER).all(axis=0)
    agreeing = np.where(counted, (others == own).sum(axis=0), -1)
    bins = len(results.personas)
    agreement = np.full((len(results.systems), bins), np.nan)
    for number, system in enumerate(results.systems):
        given = _given_to(system.probabilities, own)
        for count in range(bins):
            found = given[(agreeing == count) & ~np.isnan(given)]
            if len(found):
                agreement[number, count] = found.mean()
    return Agreeing(np.bincount(agreeing[counted], minlength=bins), int((~counted).sum()), agreement)


class Divided(NamedTuple):
    """The questions worth reading."""

    rows: NDArray[np.int64]
    """Rows of the questions, those first that divide the personas most."""
    entropy: _Floats
    """Entropy of the personas' answers, natural logarithm, 0 to log K, for each of `rows`."""
    disagreement: _Floats
    """1 - the probability that the models give to the target's answer, mean over them, for each of `rows`; NaN for none.
    Baselines do not count, unless there is nothing else."""


def most_divided(results: Results, limit: int = 100) -> Divided:
    """At most `limit` questions: half those that divide the personas most, half those where models miss the target most."""
    answers = np.stack(list(results.answers.values()))
    options = results.systems[0].probabilities.shape[1]
    counts = np.stack([(answers == option).sum(axis=0) for option in range(options)], axis=1)
    total = counts.sum(axis=1, keepdims=True)
    entropy = entr(np.divide(counts, total, out=np.zeros(counts.shape), where=total > 0)).sum(axis=1)
    target = results.answers[results.target]
    given = np.stack([_given_to(system.probabilities, target) for system in results.models])
    scored = (~np.isnan(given)).sum(axis=0)
    missed = 1 - np.divide(np.nansum(given, axis=0), scored, out=np.full(len(entropy), np.nan), where=scored > 0)
    by_missed = np.nan_to_num(missed, nan=-1.0)
    # Ties are many with few personas: the other measure decides, then the order of the questions.
    by_entropy_first = np.lexsort((-by_missed, -entropy)).tolist()
    by_missed_first = np.lexsort((-entropy, -by_missed)).tolist()
    chosen = dict.fromkeys(by_entropy_first[: limit - limit // 2])
    chosen = dict.fromkeys(list(dict.fromkeys([*chosen, *by_missed_first]))[:limit])
    rows = np.array([row for row in by_entropy_first if row in chosen], dtype=np.int64)
    return Divided(rows, entropy[rows], missed[rows])


def _given_to(probabilities: _Floats, answers: NDArray[np.int8]) -> _Floats:
    """The probability given to each answer, (n,); NaN where either is missing."""
    given = np.take_along_axis(probabilities, np.maximum(answers, 0)[:, None].astype(np.int64), axis=1)[:, 0]
    return np.where(answers == NO_ANSWER, np.nan, given)
