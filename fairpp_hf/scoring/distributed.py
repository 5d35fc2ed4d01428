"""One scorer over several processes, as `accelerate launch` or `torchrun` start them.

Process 0 asks and gets the answers; the others do nothing but score. What is sent between them are token ids and numbers,
over gloo, which every machine has.
"""

import logging
import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from fairpp_hf.scoring.encoding import Messages, Question
from fairpp_hf.scoring.option_scorer import OptionScorer, OptionScores, ScoredRows, in_order

logger = logging.getLogger(__name__)

PATIENCE = timedelta(days=7)
"""How long a process waits for another: process 0 may ask an API model for hours between two calls."""


def join_processes() -> tuple[int, int]:
    """Join the processes that a launcher started, and give each its own device.

    To be called before the model is loaded, on all of them.

    Returns:
        The number of this process, and how many there are: (0, 1) without a launcher.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return 0, 1
    from accelerate import PartialState

    state = PartialState(cpu=not torch.accelerator.is_available())
    return state.process_index, state.num_processes


class SharedScorer:
    """The scorers of several processes as one, which process 0 uses like an `OptionScorer`.

    Args:
        scorer: Scorer of the same model on every process.

    Raises:
        RuntimeError: There are no other processes; see `join_processes`.

    Example:
        ```python
        process, _ = join_processes()
        scorer = SharedScorer(OptionScorer.from_pretrained("HuggingFaceTB/SmolLM2-135M-Instruct"))
        if process:
            scorer.serve()
        else:
            try:
                print(scorer.score(chats, options).probabilities)
            finally:
                scorer.close()
        ```
    """

    def __init__(self, scorer: OptionScorer) -> None:
        if not dist.is_initialized():
            raise RuntimeError(
                "Processes must have joined before they share their work; got one process on its own. Call "
                "join_processes() first, and start with `accelerate launch`."
            )
        self.scorer = scorer
        self.rule = scorer.rule
        self.model = scorer.model
        self._rank, self._count = dist.get_rank(), dist.get_world_size()
        self._group = dist.new_group(backend="gloo", timeout=PATIENCE)
        # The rows of each process of a call, of which the others' results have not been fetched.
        self._owed: list[NDArray[np.int64]] | None = None
        self._closed = False

    @property
    def template_hash(self) -> str:
        """See `OptionScorer`."""
        return self.scorer.template_hash

    @property
    def opening(self) -> dict[str, str]:
        """See `OptionScorer`."""
        return self.scorer.opening

    @property
    def processes(self) -> int:
        """How many share the work."""
        return self._count

    def score(
        self, messages: Sequence[Messages], options: Sequence[Sequence[str]], *, progress: str | None = None
    ) -> OptionScores:
        """As `OptionScorer.score`, on process 0.

        Raises:
            RuntimeError: Another process failed; it goes on serving.
        """
        return in_order(self.iterate(messages, options), len(messages), progress)

    def iterate(self, messages: Sequence[Messages], options: Sequence[Sequence[str]]) -> ScoredRows:
        """As `OptionScorer.iterate`, on process 0: its own batches as they are done, then those of each other process.

        Raises:
            RuntimeError: Another process failed; it goes on serving.
        """
        return self._iterate(self.scorer.encode(messages, options))

    def _iterate(self, questions: list[Question]) -> ScoredRows:
        if self._owed is not None:
            # A call before this one was left half-way.
            self._fetch()
        shares = deal(np.array([question.in_one_row for question in questions]), self._count)
        self._send([[questions[row] for row in share] for share in shares])
        self._owed = shares
        for rows, scores in self.scorer.iterate_encoded([questions[row] for row in shares[0]]):
            yield shares[0][rows], scores
        yield from self.leave()

    def leave(self) -> ScoredRows:
        """What the other processes have scored of a call that was left half-way; they finish their shares.

        Raises:
            RuntimeError: Another process failed; it goes on serving.
        """
        if (shares := self._owed) is None:
            return
        for number, result in enumerate(self._fetch()[1:], start=1):
            if isinstance(result, str):
                raise RuntimeError(
                    f"Process {number} of {self._count} must score its {len(shares[number])} questions; got {result}."
                )
            if len(shares[number]):
                yield shares[number], result

    def serve(self) -> None:
        """Score what process 0 sends, on every other process, until it calls `close`."""
        while (questions := self._receive()) is not None:
            result: OptionScores | str
            try:
                result = in_order(self.scorer.iterate_encoded(questions), len(questions), None)
            except (
                Exception
            ) as error:  # whatever it is, process 0 is to hear it, and this one to wait for the next call
                result = f"{type(error).__name__}: {error}"
                logger.warning("Process %d could not score its share: %s", self._rank, result)
            dist.gather_object(result, None, dst=0, group=self._group)

    def close(self) -> None:
        """Let the other processes leave `serve`; on process 0, also after an error."""
        if self._closed:
            return
        self._closed = True
        if self._owed is not None:
            self._fetch()
        self._send([None] * self._count)

    def _send(self, shares: list[Any]) -> None:
        dist.scatter_object_list([None], shares, src=0, group=self._group)

    def _receive(self) -> list[Question] | None:
        received: list[Any] = [None]
        dist.scatter_object_list(received, None, src=0, group=self._group)
        return received[0]

    def _fetch(self) -> list[Any]:
        """Results of all processes: scores or what went wrong; None for this one."""
        results: list[Any] = [None] * self._count
        dist.gather_object(None, results, dst=0, group=self._group)
        self._owed = None
        return results


def deal(lengths: NDArray[np.int64], count: int) -> list[NDArray[np.int64]]:
    """The rows of each process's questions, of lengths (n,) whose sums differ by at most the longest."""
    order = np.argsort(-lengths, kind="stable")
    return [order[number::count] for number in range(count)]
