"""Hashes of lists of token ids, a whole column at a time."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_ROWS_AT_ONCE = 100_000
# The constants of splitmix64: Steele et al. 2014, "Fast splittable pseudorandom number generators".
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def token_hashes(column: pa.ChunkedArray | pa.Array, seed: int = 0) -> NDArray[np.uint64]:
    """A 64-bit hash of each row of a column of token ids: equal for equal lists, and hardly ever for others.

    Args:
        column: n rows of list<int>, none missing.
        seed: hashes of different seeds are independent; two make 128 bits.

    Returns:
        (n,).
    """
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    parts = [
        _hashes(chunk.slice(start, _ROWS_AT_ONCE), np.uint64(seed + 1))
        for chunk in chunks
        for start in range(0, len(chunk), _ROWS_AT_ONCE)
    ]
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.uint64)


def _hashes(rows: pa.Array, seed: np.uint64) -> NDArray[np.uint64]:
    lengths = rows.value_lengths().to_numpy().astype(np.int64)
    ends = np.cumsum(lengths)
    # `flatten` honours the slice's offset, which `values` does not. Of rows that are all empty, the values have no type.
    tokens = rows.flatten().cast(pa.int64()).to_numpy().astype(np.uint64)
    place = np.arange(len(tokens), dtype=np.uint64) - np.repeat(ends - lengths, lengths).astype(np.uint64)
    with np.errstate(over="ignore"):
        mixed = _mix(_mix(tokens * _GAMMA + seed) + place * _GAMMA)
        # Differences of running sums, modulo 2^64, also serve rows without tokens.
        sums = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(mixed, dtype=np.uint64)])
        return _mix(sums[ends] - sums[ends - lengths] + (lengths.astype(np.uint64) + np.uint64(1)) * seed)


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    values = (values ^ (values >> np.uint64(30))) * _FIRST
    values = (values ^ (values >> np.uint64(27))) * _SECOND
    return values ^ (values >> np.uint64(31))
