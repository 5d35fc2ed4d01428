"""Pseudo-random numbers that depend only on names, so that they are the same on every machine and in any order.

A seeded generator gives row 7 another number when row 3 is left out. Here the number of a row comes from its own id and
a key, by SplitMix64 (Steele, Lea and Flood 2014), one column at a time.
"""

import numpy as np
from numpy.typing import NDArray

_GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's output function, elementwise; unsigned overflow is the arithmetic it is defined in."""
    state = (state ^ (state >> np.uint64(30))) * _MIX_1
    state = (state ^ (state >> np.uint64(27))) * _MIX_2
    return state ^ (state >> np.uint64(31))


def hash_strings(strings: "list[str] | NDArray[np.str_]", key: str = "") -> NDArray[np.uint64]:
    """Hash each string together with `key` to 64 bits.

    The UTF-8 bytes are read as little-endian 64-bit words, and each word is folded into a running SplitMix64 state.

    Args:
        strings: n strings. Trailing NUL characters do not count.
        key: names the stream of numbers, such as `"split"`.

    Returns:
        uint64 array of shape (n,).
    """
    encoded = np.char.encode(np.asarray(strings, dtype=np.str_), "utf-8")
    width = max(8, -(-encoded.dtype.itemsize // 8) * 8)
    words = encoded.astype(f"S{width}").view("<u8").reshape(len(encoded), -1).astype(np.uint64)
    with np.errstate(over="ignore"):
        state = np.zeros(len(encoded), dtype=np.uint64)
        if key:
            state += hash_strings([key])[0]
        for column in words.T:
            # A zero word is padding: skipping it makes the hash independent of the longest string of the call.
            state = np.where(column == 0, state, _mix((state ^ column) + _GOLDEN_GAMMA))
    return state


def uniforms(strings: "list[str] | NDArray[np.str_]", key: str) -> NDArray[np.float64]:
    """A number in the open interval (0, 1) for each string, from the upper 53 bits of its hash; float64 (n,)."""
    with np.errstate(over="ignore"):
        bits = _mix(hash_strings(strings, key) + _GOLDEN_GAMMA) >> np.uint64(11)
    return (bits.astype(np.float64) + 0.5) / 2.0**53
