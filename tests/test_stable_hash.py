import numpy as np
import pytest

from fairpp_hf.stable_hash import hash_strings, uniforms

PINNED = ["0000000000000000", "4f5da978776a9db1", "04e29fdec6c3a148", "250ea5d6468287cf"]


def test_pinned_so_that_splits_and_simulated_answers_never_drift():
    assert [
        f"{value:016x}" for value in hash_strings(["", "a", "inheritance-tax.war-refugees.4.criterion", "é"])
    ] == PINNED


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
