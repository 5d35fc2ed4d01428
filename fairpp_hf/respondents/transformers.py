"""Answers from a local model: option probabilities read off its next-token distribution, no text generated."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fairpp_hf.respondents.base import SIMULATED, Reply, Request, is_stopped
from fairpp_hf.schema import NO_ANSWER

if TYPE_CHECKING:
    from fairpp_hf.scoring import OptionScores

CHUNK = 256
"""Requests that are sorted by length and scored batch by batch."""


class Scorer(Protocol):
    """What the respondent needs of an `OptionScorer` or a `SharedScorer`."""

    @property
    def template_hash(self) -> str:
        """SHA-256 of the chat template, 64 hexadecimal digits."""

    def iterate(
        self, messages: Sequence[Any], options: Sequence[Sequence[str]]
    ) -> "Iterator[tuple[NDArray[np.int64], OptionScores]]":
        """Score the options of n questions batch by batch: rows and their scores."""


class TransformersRespondent:
    """Asks a local causal language model, by `OptionScorer`.

    The answer is the most probable option (of equally probable ones, the first). There is no text, so `raw` is None. A
    request whose log-probabilities are not finite numbers is `failed`.

    A local model or adapter is told from another by its files' contents, and not by its path: an adapter that was
    trained further gives new replies.

    Args:
        model: Hub name or local path of a causal language model with a chat template.
        adapter: name or path of a PEFT adapter trained on it.
        batch_size: most questions a forward pass, at least 1; None for as many as fit.
        scorer: a scorer of that model to use instead of loading one.

    Raises:
        ValueError: as `OptionScorer` does.
        OSError: the model cannot be found.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        adapter: str | Path | None = None,
        batch_size: int | None = None,
        scorer: Scorer | None = None,
    ) -> None:
        if scorer is None:
            from fairpp_hf.scoring import OptionScorer

            scorer = OptionScorer.from_pretrained(model, adapter=adapter, batch_size=batch_size)
        self.model = str(model)
        self.adapter = None if adapter is None else str(adapter)
        self.scorer = scorer
        config = getattr(getattr(scorer, "model", None), "config", None)
        self._settings = {
            "kind": "transformers",
            "model": _short_name(self.model),
            "revision": _contents_digest(self.model) or getattr(config, "_commit_hash", None),
            "adapter": None if self.adapter is None else _contents_digest(self.adapter) or self.adapter,
            "rule": getattr(scorer, "rule", None),
        }

    @property
    def name(self) -> str:
        """`transformers:` and the last part of the model's name, with the adapter's."""
        adapter = "" if self.adapter is None else f"+{_short_name(self.adapter)}"
        return f"transformers:{_short_name(self.model)}{adapter}{SIMULATED}"

    @property
    def settings(self) -> dict[str, Any]:
        """Model and adapter with their revisions or contents, and the scoring rule."""
        return dict(self._settings)

    @property
    def template_hash(self) -> str:
        """SHA-256 of the chat template that the model is asked with, 64 hexadecimal digits."""
        return self.scorer.template_hash

    async def answer(self, requests: Sequence[Request]) -> AsyncIterator[tuple[int, Reply]]:
        """Score the requests, and give each reply as soon as its batch is done.

        `CHUNK` requests at a time are taken and sorted by length, so replies come in another order.

        Raises:
            ValueError: a request asks for a further sample, or is longer than the model's context.
        """
        for chunk in _chunks(enumerate(requests)):
            for index, request in chunk:
                if request.sample:
                    raise ValueError(
                        f"The transformers respondent must be asked each question once; got sample {request.sample} at "
                        f"request {index}. It reads the option probabilities off, which are the same every time. Leave "
                        "out --samples."
                    )
            started = time.monotonic()
            # In a thread, so that the user can stop the run; the scorer itself blocks.
            batches = await asyncio.to_thread(
                self.scorer.iterate,
                [request.messages for _, request in chunk],
                [request.options for _, request in chunk],
            )
            # Once the user stops the run, the batch that is under way is finished, and the rest stays unasked.
            while not is_stopped(requests) and (batch := await asyncio.to_thread(next, batches, None)) is not None:
                rows, scores = batch
                latency_s = (time.monotonic() - started) / len(rows)
                for row, reply in zip(rows.tolist(), _replies(scores, latency_s), strict=True):
                    yield chunk[row][0], reply
                started = time.monotonic()


def _replies(scores: "OptionScores", latency_s: float) -> Iterator[Reply]:
    """The replies of a batch."""
    finite = np.all(np.isfinite([scores.logprobs, scores.probabilities]), axis=(0, 2), keepdims=False)
    answers = np.where(finite, scores.probabilities.argmax(axis=1), NO_ANSWER).tolist()
    for row, (answer, probabilities, logprobs) in enumerate(
        zip(answers, scores.probabilities.tolist(), scores.logprobs.tolist(), strict=True)
    ):
        if finite[row]:
            yield Reply(answer, tuple(probabilities), "ok", None, None, latency_s, {"logprobs": logprobs})
        else:
            error = f"log-probabilities must be finite; got {logprobs}"
            yield Reply(NO_ANSWER, None, "failed", None, None, latency_s, {"error": error})


def _chunks(items: Iterable[tuple[int, Request]]) -> Iterator[list[tuple[int, Request]]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk


def _short_name(name: str) -> str:
    return Path(name).name or name


def _contents_digest(path: str) -> str | None:
    """A digest of the files of a local folder; None for what is no folder, such as a Hub name.

    Folders within it, such as a trainer's checkpoints, are not what `from_pretrained` reads.
    """
    folder = Path(path)
    if not folder.is_dir():
        return None
    digest = hashlib.sha256()
    for file in sorted(file for file in folder.iterdir() if file.is_file()):
        digest.update(f"{file.name}\n{file.stat().st_size}\n".encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
