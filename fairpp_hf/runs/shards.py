"""The parts of a run that several machines ask, each on its own."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Shard:
    """One of `count` parts of a run's requests, numbered from 1. A request's part is read off its key.

    Raises:
        ValueError: The number is not from 1 to `count`.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise _not_a_shard(str(self))

    def has(self, key: str) -> bool:
        """Whether the request with a key belongs to this part; keys are digests, so that the parts are about equal."""
        return int(key[:16], 16) % self.count == self.index - 1

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def parse_shard(text: str) -> Shard:
    """Read a part such as "2/8", the second of eight; anything else is a `ValueError`."""
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if match is None:
        raise _not_a_shard(text)
    return Shard(*map(int, match.groups()))


def _not_a_shard(got: str) -> ValueError:
    return ValueError(
        f"A shard must be I/N, with I from 1 to N; got {got!r}. The second of eight machines asks 2/8, for instance."
    )
