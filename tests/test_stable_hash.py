import numpy as np
import pyarrow as pa
import pytest

from fairpp_hf.stable_hash import hash_strings, uniforms

PINNED = ["0000000000000000", "4f5da978776a9db1", "04e29fdec6c3a148", "250ea5d6468287cf"]


def test_pinned_so_that_splits_and_simulated_answers_never_drift():
    assert [
        f"{value:016x}" for value in hash_strings(["", "a", "inheritance-tax.war-refugees.4.criterion", "é"])
    ] == PINNED


def plain_hash(string: str, key: str = "") -> int:
    """A word at a time, in Python's own integers."""
    mask = 2**64 - 1
    content = string.encode()
    state = plain_hash(key) if key else 0
    for start in range(0, len(content), 8):
        word = int.from_bytes(content[start : start + 8], "little")
        if word:
            state = ((state ^ word) + 0x9E3779B97F4A7C15) & mask
            state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
            state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
            state ^= state >> 31
    return state


STRINGS = [
    "",
    "a",
    "12345678",
    "123456789",
    "日本語のテキスト",
    "🙂" * 5,
    "a\0b",
    "\0" * 9 + "end",
    "الانصاف",
    "x" * 1000,
]


def test_equals_the_plain_hash():
    expected = [plain_hash(string, "key") for string in STRINGS]
    column = pa.array(STRINGS)
    for strings in (
        STRINGS,
        np.array(STRINGS, dtype=object),
        column,
        pa.chunked_array([column[:3], column[3:]]),
        pa.concat_arrays([pa.array(["other"]), column])[1:],
        column.cast(pa.large_string()),
    ):
        assert hash_strings(strings, "key").tolist() == expected
    assert hash_strings([]).tolist() == hash_strings(pa.chunked_array([], pa.string())).tolist() == []


def test_a_string_hashes_the_same_whatever_accompanies_it():
    alone = hash_strings(["short"])[0]
    assert hash_strings(["a much longer string than the other one", "short"])[1] == alone


def test_keys_and_neighbouring_strings_give_unrelated_numbers():
    names = [f"item {number}" for number in range(5000)]
    first, second = uniforms(names, "one"), uniforms(names, "two")
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.05
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.05
    assert len(set(hash_strings(names).tolist())) == 5000


def test_uniforms_are_uniform_and_open():
    values = uniforms([f"item {number}" for number in range(20_000)], "key")
    assert values.min() > 0
    assert values.max() < 1
    counts, _ = np.histogram(values, bins=20, range=(0, 1))
    # chi-square with 19 degrees of freedom exceeds 43.8 once in a thousand
    assert ((counts - 1000) ** 2 / 1000).sum() == pytest.approx(19, abs=24.8)
