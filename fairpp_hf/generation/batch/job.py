"""What the parts of a batch job share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fairpp_hf.generation.batch.api import BatchApi
from fairpp_hf.generation.batch.ledger import Ledger
from fairpp_hf.generation.options import BatchLimits
from fairpp_hf.generation.queue import RequestQueue
from fairpp_hf.respondents.base import Reply, Request
from fairpp_hf.respondents.openai import OpenAIRespondent


@dataclass(frozen=True)
class BatchJob:
    """The arguments of a call of `ask_in_batches`, with what is made of them."""

    respondent: OpenAIRespondent
    requests: RequestQueue
    save: Callable[[Sequence[tuple[int, Reply]]], None]
    limits: BatchLimits
    tokens_of: Callable[[Request], int]
    tell: Callable[[str], None]
    ledger: Ledger
    api: BatchApi
    folder: Path
    """Folder with the files of batches."""

    def input_file(self, intent: str) -> Path:
        """Path of the input file of a batch until its replies are collected."""
        return self.folder / f"{intent}.jsonl"

    def room_for(self, count: int) -> int:
        """How many of `count` requests the budget has room for behind those in batches; below 0 if not even for those."""
        ahead = len(self.ledger.in_batches())
        return self.requests.fitting(ahead + count) - ahead
