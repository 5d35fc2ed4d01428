import hashlib

import pytest

from fairpp_hf.runs.shards import Shard, parse_shard


def test_every_key_is_in_one_shard_and_the_shards_are_about_equal() -> None:
    """10,000 keys in 8 shards: 1,250 each, give or take five standard deviations of a binomial, 5 x 33."""
    keys = [hashlib.sha256(str(n).encode()).hexdigest() for n in range(10_000)]
    shards = [Shard(index, 8) for index in range(1, 9)]
    holders = [[shard.index for shard in shards if shard.has(key)] for key in keys]
    assert all(len(holder) == 1 for holder in holders)
    for shard in shards:
        assert abs(sum(holder == [shard.index] for holder in holders) - 1250) < 165


def test_it_is_written_as_it_is_read() -> None:
    assert parse_shard("2/8") == Shard(2, 8)
    assert str(Shard(2, 8)) == "2/8"


@pytest.mark.parametrize("text", ["", "2", "0/8", "9/8", "1/0", "-1/8", "2/8/3", "a/b", "1.5/2", "2 / 8"])
def test_anything_else_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="must be I/N") as error:
        parse_shard(text)
    assert str(error.value) == (
        f"A shard must be I/N, with I from 1 to N; got {text!r}. The second of eight machines asks 2/8, for instance."
    )
