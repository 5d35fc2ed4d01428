"""Pseudo-random numbers that depend only on names, so that they are the same on every machine and in any order.

A seeded generator gives row 7 another number when row 3 is left out. Here the number of a row comes from its own id and
a key, by SplitMix64 (Steele, Lea and Flood 2014), one column at a time.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Strings: TypeAlias = Sequence[str] | NDArray[np.str_] | pa.Array | pa.ChunkedArray

_GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's output function, elementwise; unsigned overflow is the arithmetic it is defined in."""
    state = (state ^ (state >> np.uint64(30))) * _MIX_1
    state = (state ^ (state >> np.uint64(27))) * _MIX_2
    return state ^ (state >> np.uint64(31))


def hash_strings(strings: Strings, key: str = "") -> NDArray[np.uint64]:
    """Hash each string together with `key` to 64 bits.

    The UTF-8 bytes are read as little-endian 64-bit words, and each word is folded into a running SplitMix64 state.

    Args:
        strings: N strings; an Arrow column is read in place. Trailing NUL characters do not count.
        key: Names the stream of numbers, such as `"split"`.

    Returns:
        uint64 array of shape (n,).
    """
    return hash_words(utf8_words(strings), key)


def hash_words(words: NDArray[np.uint64], key: str = "") -> NDArray[np.uint64]:
    """`hash_strings` of strings that are there as `utf8_words`, which serve any number of keys."""
    with np.errstate(over="ignore"):
        state = np.zeros(words.shape[1], dtype=np.uint64)
        if key:
            state += hash_strings([key])[0]
        for word in words:
            # A zero word is padding: skipping it makes the hash independent of the longest string of the call.
            state = np.where(word == 0, state, _mix((state ^ word) + _GOLDEN_GAMMA))
    return state


_WORD = 8
"""Bytes."""

_LOW_BYTES = np.array([2 ** (8 * count) - 1 for count in range(_WORD + 1)], dtype=np.uint64)
"""Masks that keep the first bytes of a little-endian word."""


def utf8_words(strings: Strings) -> NDArray[np.uint64]:
    """The UTF-8 bytes of n strings as little-endian 64-bit words, (w, n), shorter strings filled up with zeros."""
    column = strings if isinstance(strings, pa.Array | pa.ChunkedArray) else pa.array(strings, pa.string())
    column = column.cast(pa.large_string())
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    _, offsets_buffer, data = array.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int64, len(array) + 1, 8 * array.offset)
    starts, lengths = offsets[:-1], np.diff(offsets)
    text = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    windows = np.lib.stride_tricks.sliding_window_view(np.concatenate([text, np.zeros(_WORD, np.uint8)]), _WORD)
    words = np.zeros((-(-lengths.max(initial=0) // _WORD), len(array)), dtype=np.uint64)
    for number, row in enumerate(words):
        offset = number * _WORD
        window = windows[np.minimum(starts + offset, len(windows) - 1)].view("<u8")[:, 0]
        row[:] = window & _LOW_BYTES[np.clip(lengths - offset, 0, _WORD)]
    return words


def uniforms(strings: Strings, key: str) -> NDArray[np.float64]:
    """A number in the open interval (0, 1) for each string, from the upper 53 bits of its hash; float64 (n,)."""
    return as_uniforms(hash_strings(strings, key))


def as_uniforms(hashes: NDArray[np.uint64]) -> NDArray[np.float64]:
    """`uniforms` of strings whose hashes are there."""
    with np.errstate(over="ignore"):
        bits = _mix(hashes + _GOLDEN_GAMMA) >> np.uint64(11)
    return (bits.astype(np.float64) + 0.5) / 2.0**53
