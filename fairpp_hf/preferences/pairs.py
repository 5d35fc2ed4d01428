"""Preference pairs of option lines, ready for TRL: the target's against each of the others, or all with soft labels."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fairpp_hf.preferences.pair_settings import PairSettings
from fairpp_hf.preferences.weights import PreferenceWeights
from fairpp_hf.questions import option_lines
from fairpp_hf.questions.option_order import with_swapped_options
from fairpp_hf.schema import OPTION_LETTERS, PAIR_FEATURES, SOFT_PAIR_FEATURES
from fairpp_hf.stable_hash import uniforms


def build_pairs(
    questions: pa.Table,
    answers: Mapping[str, NDArray[np.integer]],
    target: str,
    settings: PairSettings | None = None,
    *,
    is_train: NDArray[np.bool_] | None = None,
    shares: Mapping[str, float] | None = None,
    probabilities: NDArray[np.floating] | None = None,
) -> dict[str, pa.Table]:
    """Turn answers into weighted preference pairs for one target persona.

    Each question that the target validly answered gives two pairs: its option line ("B. ...") against each of the other
    two. With soft labels it gives a third, of these other two, the likelier one chosen: only all pairs of a question
    determine a distribution over its options. A question without a valid answer gives none. Its pairs carry the
    question's tier and weight.

    Args:
        questions: Table of n rows with the columns of `QUESTION_FEATURES`.
        answers: Persona id to an integer array (n,), 0..2 or -1.
        target: Id of the persona whose answers are chosen.
        settings: How the pairs are made; `PairSettings()` by default, which is the paper's way.
        is_train: Boolean (n,). Tier masses are fitted on the training rows and applied to the others.
        shares: Persona id to its share of the population, see `preference_weights`.
        probabilities: Array (n, 3) with the probabilities of A, B and C to train towards, such as `target_distribution`
            gives, NaN where there are none; needed for soft labels and only for them. They give each pair a label,
            label_probability = p(chosen) / (p(chosen) + p(rejected)): how often somebody who answers by them, asked to
            choose between these two options, would choose the first (Luce 1959, the choice axiom). Where both are 0 it is
            0.5, the limit as both go to 0 alike: neither is preferred.

    Returns:
        Tables with the columns of `PAIR_FEATURES`, or of `SOFT_PAIR_FEATURES` for soft labels, under `"train"` and
        `"test"`, or all rows under `"train"` where `is_train` is None. Pairs of a question stand together, in the order of
        the questions.

    Raises:
        ValueError: As `preference_weights` raises it; or `probabilities` are of another shape, are missing for a question
            that the target answered, are negative or infinite there, or do not go with the labels; or a prompt's options
            cannot be swapped.
    """
    settings = settings or PairSettings()
    if settings.soft != (probabilities is not None):
        given = "none" if probabilities is None else "some"
        raise ValueError(
            f"probabilities must be given for soft labels and only for them; got {given} with labels={settings.labels!r}."
        )
    weights = settings.weights(answers, target, shares=shares, fit_rows=is_train)
    own = np.asarray(answers[target], dtype=np.int64)
    valid = weights.tier > 0
    shown = None if probabilities is None else _checked_probabilities(probabilities, valid, target)
    if settings.option_order == "mixed":
        ids = questions["question_id"].to_numpy(zero_copy_only=False).astype(np.str_)
        swapped = uniforms(ids, f"option order/{settings.seed}") < 0.5
        questions = with_swapped_options(questions, swapped)
        # What stands under each letter now.
        own = np.where(swapped & (own >= 0) & (own < 2), 1 - own, own)
        if shown is not None:
            shown = np.where(swapped[:, None], shown[:, [1, 0, 2]], shown)
    parts = {"train": valid} if is_train is None else {"train": valid & is_train, "test": valid & ~is_train}
    lines = option_lines(questions)
    tables = {}
    for split, mask in parts.items():
        rows = np.flatnonzero(mask)
        chosen = own[rows]
        # The other two options in the order of their letters: A -> B, C; B -> A, C; C -> A, B.
        first_other = np.where(chosen == 0, 1, 0)
        second_other = np.where(chosen == 2, 1, 2)
        picks = [(chosen, first_other), (chosen, second_other)]
        swap = None
        if shown is not None:
            swap = shown[rows, first_other] < shown[rows, second_other]
        elif settings.random_third_pair and len(rows):
            ids = questions["question_id"].to_numpy(zero_copy_only=False)[rows].astype(np.str_)
            swap = uniforms(ids, f"third pair/{target}/{settings.seed}") < 0.5
        if swap is not None:
            picks.append((np.where(swap, second_other, first_other), np.where(swap, first_other, second_other)))
        tables[split] = _pair_table(questions, lines, rows, picks, weights, shown, target)
    return tables


def _pair_table(
    questions: pa.Table,
    lines: Sequence[pa.Array],
    rows: NDArray[np.int64],
    picks: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
    weights: PreferenceWeights,
    probabilities: NDArray[np.float64] | None,
    target: str,
) -> pa.Table:
    """Lay out the pairs of the given rows; `picks` has a chosen and a rejected option of each row, one kind of pair each."""
    row = np.repeat(rows, len(picks))
    chosen, rejected = (np.stack(options, axis=1).reshape(-1) for options in zip(*picks, strict=True))
    # All option lines end to end, so that one take by (option, row) fetches any mixture of options.
    all_lines = pa.concat_arrays([_contiguous(line) for line in lines])
    total = len(questions)
    columns = [
        _messages("user", _contiguous(questions["prompt"]).take(pa.array(row))),
        _messages("assistant", all_lines.take(pa.array(chosen * total + row))),
        _messages("assistant", all_lines.take(pa.array(rejected * total + row))),
        pa.array(weights.weight[row], pa.float64()),
        pa.array(weights.tier[row], pa.int64()),
        questions["question_id"].take(pa.array(row)),
        pa.repeat(pa.scalar(target, pa.string()), len(row)),
    ]
    if probabilities is None:
        return pa.Table.from_arrays(columns, schema=PAIR_FEATURES.arrow_schema)
    of_chosen, of_rejected = probabilities[row, chosen], probabilities[row, rejected]
    both = of_chosen + of_rejected
    columns.append(pa.array(np.divide(of_chosen, both, out=np.full(len(row), 0.5), where=both > 0), pa.float64()))
    return pa.Table.from_arrays(columns, schema=SOFT_PAIR_FEATURES.arrow_schema)


def _checked_probabilities(
    probabilities: NDArray[np.floating], answered: NDArray[np.bool_], target: str
) -> NDArray[np.float64]:
    """Probabilities as float64 (n, 3), there on every answered row."""
    array = np.asarray(probabilities, dtype=np.float64)
    shape = (len(answered), len(OPTION_LETTERS))
    if array.shape != shape:
        raise ValueError(f"probabilities must have the shape {shape}, a row for each question; got {array.shape}.")
    missing = answered & np.isnan(array).any(axis=1)
    if missing.any():
        raise ValueError(
            f"Soft labels must have option probabilities for every question that {target!r} answered; got none for "
            f"{missing.sum():,} of {answered.sum():,}. Use answers of a respondent that gives them, such as 'survey' or "
            "'transformers', or labels='fitted', which needs answers alone."
        )
    wrong = np.flatnonzero(answered & ~((array >= 0) & np.isfinite(array)).all(axis=1))
    if len(wrong):
        raise ValueError(
            f"probabilities must be finite and at least 0; got {array[wrong[0]].tolist()} at row {wrong[0]}."
        )
    return array


def _contiguous(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column


def _messages(speaker: str, contents: pa.Array) -> pa.Array:
    """One chat message per row, as TRL's conversational format has it: a list of one {role, content}."""
    message = pa.StructArray.from_arrays(
        [pa.repeat(pa.scalar(speaker, pa.string()), len(contents)), contents], names=["role", "content"]
    )
    return pa.ListArray.from_arrays(pa.array(np.arange(len(contents) + 1, dtype=np.int32)), message)
