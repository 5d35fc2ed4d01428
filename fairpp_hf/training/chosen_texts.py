"""What preference pairs say to write, each text once: the demonstrations of supervised fine-tuning."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from fairpp_hf.training.pair_columns import LABEL_PROBABILITY
from fairpp_hf.training.weight_column import WEIGHT_COLUMN, exponent_of, weights_of


def chosen_texts(pairs: Dataset) -> Dataset:
    """What preference pairs say to write: rows of `prompt` and `completion`, each distinct (prompt, chosen) once.

    The two pairs of a question have the same chosen text, which need not be learnt twice. A row keeps its pairs' weight,
    or the mean of their weights where these differ, and the columns of its first pair but `rejected`. Rows are in the
    order in which they first appear.

    With soft labels, a column `label_probability`, a text that a pair of the same prompt rejects is no demonstration: the
    likelier of the two options that the target did not choose is chosen in one pair, and rejected for its answer in
    another.

    The chosen text of a random third pair is not the target's answer either. It is kept like any other, since the option
    asks for noise: half of the texts are then noise, and a third of the pairs.

    Args:
        pairs: columns `prompt`, `chosen` and `weight`, and with soft labels `rejected`; texts, or chat messages.
    """
    texts = _with_prompt(pairs, "chosen")
    if LABEL_PROBABILITY in pairs.column_names:
        kept = pc.invert(pc.is_in(texts, value_set=_with_prompt(pairs, "rejected")))
        pairs = pairs.select(np.flatnonzero(kept.to_numpy())).remove_columns(LABEL_PROBABILITY)
        texts = texts.filter(kept)
    encoded = texts.dictionary_encode().unify_dictionaries()
    number = np.concatenate([chunk.indices.to_numpy() for chunk in encoded.chunks])
    weight = weights_of(pairs)
    exponent = exponent_of(weight)  # taken out, so that sums are finite
    mean = np.ldexp((np.bincount(number, np.ldexp(weight, -exponent)) / np.bincount(number))[number], exponent)
    if (mean != weight).any():
        pairs = pairs.remove_columns(WEIGHT_COLUMN).add_column(WEIGHT_COLUMN, mean)
    # `select` comes last: a column that is added to selected rows has all of them written anew.
    _, first = np.unique(number, return_index=True)
    rows = pairs.select(first).rename_column("chosen", "completion")
    return rows.remove_columns("rejected") if "rejected" in rows.column_names else rows


def _with_prompt(pairs: Dataset, column: str) -> pa.ChunkedArray:
    """Prompt and a completion of each pair as one text, (n,), large strings."""
    columns = pairs.select_columns(["prompt", column]).with_format("arrow")[:]
    # Batch by batch, since a whole column of texts may be longer than one array can be.
    texts = [
        pc.binary_join_element_wise(_as_text(batch["prompt"]), _as_text(batch[column]), _text("\x1c"))
        for batch in columns.to_batches()
    ]
    return pa.chunked_array(texts, pa.large_string())


def _as_text(array: pa.Array) -> pa.Array:
    """An array of texts, or of lists and structs of them, as one text a row: equal rows give equal texts, (n,).

    Parts are joined with control characters that separate records, which texts do not contain.
    """
    if pa.types.is_struct(array.type):
        # `flatten` honours the slice's offset, here and below.
        parts = [_as_text(part) for part in array.flatten()]
        return pc.binary_join_element_wise(*parts, _text("\x1f"))
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        ends = np.cumsum(pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False), dtype=np.int64)
        offsets = pa.array(np.concatenate([[0], ends]))
        return pc.binary_join(pa.LargeListArray.from_arrays(offsets, _as_text(array.flatten())), _text("\x1e"))
    return pc.fill_null(array.cast(pa.large_string()), _text("\x00"))


def _text(text: str) -> pa.Scalar:
    return pa.scalar(text, pa.large_string())
