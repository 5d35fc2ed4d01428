"""How a run is asked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fairpp_hf.generation.prices import Prices
from fairpp_hf.runs.shards import Shard


@dataclass(frozen=True)
class BatchLimits:
    """What the server of a Batch API takes, and how often it is asked.

    Args:
        requests: Most requests of a batch; at least 1. OpenAI takes 50,000.
        megabytes: Longest input file, in millions of bytes; above 0. OpenAI takes 200.
        enqueued_tokens: Most tokens of all batches in progress together; at least 1. OpenAI's limit differs by model and
            grows with the account's tier; the account's page of limits shows it.
        poll_s: Seconds between two looks at the batches in progress; above 0.

    Raises:
        ValueError: An argument is out of range.
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
class RunOptions:
    """How `generate` asks.

    Args:
        selection: How the questions were chosen, for the manifest, such as `{"split": "test", "limit": 100}`.
        samples: How often the same is asked; at least 1.
        swap: Whether each question is also asked with the options of its two poles in each other's place.
        shard: The part of the requests that is asked here, where several machines share them; None for all.
        prices: Prices of the model, by `load_prices`. Each reply's cost is kept with it; None where it is unknown.
        max_cost: USD, above 0, that all replies of the run may cost together, those of earlier calls included. It holds to
            within what is in flight, and a log line says by how much it was exceeded. What a failed request cost, such as
            after a time-out, no client can know: it is not counted.
        spent_elsewhere: USD that other runs under the same cap have cost.
        batch: Limits of the OpenAI Batch API, if it is to be used; None asks request by request.
        part_of_scenarios: Whether the run is a part of a run's scenarios, which nothing but `tell_and_answer` may ask.
        progress: Whether to show a progress bar.
    """

    selection: Mapping[str, Any] = field(default_factory=dict)
    samples: int = 1
    swap: bool = False
    shard: Shard | None = None
    prices: Prices | None = None
    max_cost: float | None = None
    spent_elsewhere: float = 0.0
    batch: BatchLimits | None = None
    part_of_scenarios: bool = False
    progress: bool = True


DEFAULT_OPTIONS = RunOptions()
