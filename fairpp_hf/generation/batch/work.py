"""What the parts of a batch job share: its limits, its requests, and where it keeps what."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from fairpp_hf.generation.batch.api import BatchApi
from fairpp_hf.generation.batch.ledger import Ledger
from fairpp_hf.generation.journal import Journal
from fairpp_hf.respondents.base import Reply, Request
from fairpp_hf.respondents.openai import OpenAIRespondent


@dataclass(frozen=True)
class BatchLimits:
    """What the server takes, and how often it is asked.

    Args:
        requests: most requests of a batch; at least 1. OpenAI takes 50,000.
        megabytes: longest input file, in millions of bytes; above 0. OpenAI takes 200.
        enqueued_tokens: most tokens of all batches in progress together; at least 1. OpenAI's limit differs by model and
            grows with the account's tier; the account's page of limits shows it.
        poll_s: seconds between two looks at the batches in progress; above 0.

    Raises:
        ValueError: an argument out of range.
    """

    requests: int = 50_000
    megabytes: float = 200
    enqueued_tokens: int = 2_000_000
    poll_s: float = 30.0

    def __post_init__(self) -> None:
        for what in ("requests", "enqueued_tokens"):
            if getattr(self, what) < 1:
                raise ValueError(f"{what} must be at least 1; got {getattr(self, what)}.")
        for what in ("megabytes", "poll_s"):
            if not getattr(self, what) > 0:
                raise ValueError(f"{what} must be above 0; got {getattr(self, what)}.")


@dataclass(frozen=True)
class BatchWork:
    """The arguments of a call of `ask_in_batches`, with what is made of them."""

    journal: Journal
    respondent: OpenAIRespondent
    requests: Sequence[Request]
    save: Callable[[Sequence[tuple[int, Reply]]], None]
    limits: BatchLimits
    tokens_of: Callable[[Request], int]
    affordable: Callable[[Sequence[Request]], int]
    tell: Callable[[str], None]
    ledger: Ledger
    api: BatchApi
    folder: Path
    """Of the files of batches."""

    def input_file(self, intent: str) -> Path:
        """Where the input file of a batch is until its replies are collected."""
        return self.folder / f"{intent}.jsonl"

    def room_for(self, numbers: Sequence[int]) -> int:
        """How many of some requests the budget has room for behind those in batches; below 0 if not even for those."""
        ahead = self.ledger.in_batches()
        return self.affordable(_Chosen(self.requests, [*ahead, *numbers])) - len(ahead)


class _Chosen(Sequence[Request]):
    """Some of the requests, built when they are looked at."""

    def __init__(self, requests: Sequence[Request], numbers: Sequence[int]) -> None:
        self._requests = requests
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Request: ...

    @overload
    def __getitem__(self, index: slice) -> "_Chosen": ...

    def __getitem__(self, index: int | slice) -> "Request | _Chosen":
        if isinstance(index, slice):
            return _Chosen(self._requests, self._numbers[index])
        return self._requests[self._numbers[index]]
