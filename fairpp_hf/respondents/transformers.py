"""Answers from a local model: option probabilities read off its next-token distribution, no text generated."""

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fairpp_hf.respondents.base import SIMULATED, Reply, Request, is_stopped
from fairpp_hf.respondents.ladder import folded
from fairpp_hf.schema import NO_ANSWER

if TYPE_CHECKING:
    from fairpp_hf.scoring import OptionScorer, OptionScores
    from fairpp_hf.scoring.distributed import SharedScorer

    Batch = tuple[NDArray[np.int64], OptionScores]

logger = logging.getLogger(__name__)

CHUNK = 256
"""Requests a process that are sorted by length and scored batch by batch."""


class TransformersRespondent:
    """Asks a local causal language model, by `OptionScorer`.

    The answer is the most probable option (of equally probable ones, the first). There is no text, so `raw` is None. A
    request that is longer than the model's context is `failed`, and one whose log-probabilities are not finite numbers.

    A local model or adapter is told from another by its files' contents, and not by its path: an adapter that was
    trained further gives new replies.

    Args:
        model: Hub name or local path of a causal language model with a chat template.
        adapter: Name or path of a PEFT adapter trained on it.
        batch_size: Most questions a forward pass, at least 1; None for as many as fit.
        scorer: A scorer of that model to use instead of loading one.
        system_as_user: Whether the portrait begins the user's message. It does in any case where the chat template refuses
            a system message, or leaves its text out.

    Raises:
        ValueError: As `OptionScorer` raises it.
        OSError: The model cannot be found.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        adapter: str | Path | None = None,
        batch_size: int | None = None,
        scorer: "OptionScorer | SharedScorer | None" = None,
        system_as_user: bool = False,
    ) -> None:
        if scorer is None:
            from fairpp_hf.scoring import OptionScorer

            scorer = OptionScorer.from_pretrained(model, adapter=adapter, batch_size=batch_size)
        self.model = str(model)
        self.adapter = None if adapter is None else str(adapter)
        self.scorer = scorer
        loaded = getattr(scorer, "model", None)
        self._settings = {
            "kind": "transformers",
            "model": _short_name(self.model),
            "revision": _contents_digest(self.model) or getattr(getattr(loaded, "config", None), "_commit_hash", None),
            "adapter": None if self.adapter is None else _contents_digest(self.adapter) or _on_hub(self.adapter),
            "rule": getattr(scorer, "rule", None),
            "dtype": str(getattr(loaded, "dtype", "torch.float32")).removeprefix("torch."),
            "opening": getattr(scorer, "opening", {}),
        }
        # One that shares its work has the scorer with the tokenizer inside it.
        tokenizer = getattr(getattr(scorer, "scorer", scorer), "tokenizer", None)
        refuses = tokenizer is not None and not _takes_system_messages(tokenizer)
        if refuses and not system_as_user:
            logger.warning(
                "The chat template of %s takes no system message: portraits are put into the user's message.",
                self.model,
            )
        self._settings["system_as_user"] = self._folds = system_as_user or refuses

    @property
    def name(self) -> str:
        """`transformers:` and the last part of the model's name, with the adapter's."""
        adapter = "" if self.adapter is None else f"+{_short_name(self.adapter)}"
        return f"transformers:{_short_name(self.model)}{adapter}{SIMULATED}"

    @property
    def settings(self) -> dict[str, Any]:
        """Model and adapter with their revisions or contents, the scoring rule, and how prompts are written."""
        return dict(self._settings)

    async def answer(self, requests: Sequence[Request]) -> AsyncIterator[tuple[int, Reply]]:
        """Score the requests, and give each reply as soon as its batch is done.

        `CHUNK` requests a process at a time are taken and sorted by length, so replies come in another order.

        Raises:
            ValueError: A request asks for a further sample.
        """
        for chunk in _chunks(enumerate(requests), CHUNK * getattr(self.scorer, "processes", 1)):
            for index, request in chunk:
                if request.sample:
                    raise ValueError(
                        f"The transformers respondent must be asked each question once; got sample {request.sample} at "
                        f"request {index}. It reads the option probabilities off, which are the same every time. Ask for "
                        "one sample."
                    )
            started = time.monotonic()
            # In a thread, so that the user can stop the run; the scorer itself blocks.
            kept, batches, too_long = await asyncio.to_thread(self._begin, chunk)
            for index, reply in too_long:
                yield index, reply
            # Once the user stops the run, the batch that is under way is finished, and the rest stays unasked.
            while not is_stopped(requests) and (batch := await asyncio.to_thread(next, batches, None)) is not None:
                for index, reply in _replies(kept, batch, started):
                    yield index, reply
                started = time.monotonic()
            if is_stopped(requests) and (leave := getattr(self.scorer, "leave", None)) is not None:
                # Other processes finish their shares, which are kept as well.
                for batch in await asyncio.to_thread(lambda: list(leave())):
                    for index, reply in _replies(kept, batch, started):
                        yield index, reply

    def _begin(
        self, chunk: list[tuple[int, Request]]
    ) -> "tuple[list[tuple[int, Request]], Iterator[Batch], list[tuple[int, Reply]]]":
        """Which requests of a chunk are scored, their batches to come, and the replies to those that are too long."""
        from fairpp_hf.scoring.encoding import TooLongError

        try:
            return chunk, self._iterate(chunk), []
        except TooLongError as error:
            tokens, limit = error.tokens, error.limit
        # One question must not keep the others from being asked, in this run and whenever it goes on.
        said = f"a prompt with its longest option must have at most {limit} tokens, the model's context; got "
        replies = [
            (chunk[row][0], Reply(NO_ANSWER, None, "failed", None, None, 0.0, {"error": f"{said}{count}"}))
            for row, count in tokens.items()
        ]
        row, count = next(iter(tokens.items()))
        others = f" and {len(tokens) - 1:,} more" if len(tokens) > 1 else ""
        logger.warning("Question %s%s cannot be asked: %s%d.", chunk[row][1].question_id, others, said, count)
        kept = [item for row, item in enumerate(chunk) if row not in tokens]
        return kept, self._iterate(kept), replies

    def _iterate(self, chunk: list[tuple[int, Request]]) -> "Iterator[Batch]":
        chats = [folded(request.messages) if self._folds else request.messages for _, request in chunk]
        return self.scorer.iterate(chats, [request.options for _, request in chunk])


def _takes_system_messages(tokenizer: Any) -> bool:
    """Whether a chat template writes the text of a system message."""
    from jinja2 import TemplateError

    portrait = "You are somebody in particular."
    chat = [{"role": "system", "content": portrait}, {"role": "user", "content": "Which?"}]
    try:
        return portrait in tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    except TemplateError:
        return False


def _replies(chunk: list[tuple[int, Request]], batch: "Batch", started: float) -> Iterator[tuple[int, Reply]]:
    """The replies of a batch, with the places of their requests."""
    rows, scores = batch
    latency_s = (time.monotonic() - started) / len(rows)
    finite = np.all(np.isfinite([scores.logprobs, scores.probabilities]), axis=(0, 2))
    answers = np.where(finite, scores.probabilities.argmax(axis=1), NO_ANSWER).tolist()
    for number, (row, answer, probabilities, logprobs) in enumerate(
        zip(rows.tolist(), answers, scores.probabilities.tolist(), scores.logprobs.tolist(), strict=True)
    ):
        index = chunk[row][0]
        if finite[number]:
            detail = {
                "logprobs": logprobs,
                "letter_logprobs": scores.letter_logprobs[number].tolist(),
                "tokens": scores.tokens[number].tolist(),
            }
            yield index, Reply(answer, tuple(probabilities), "ok", None, None, latency_s, detail)
        else:
            error = f"log-probabilities must be finite; got {logprobs}"
            yield index, Reply(NO_ANSWER, None, "failed", None, None, latency_s, {"error": error})


def _chunks(items: Iterable[tuple[int, Request]], size: int) -> Iterator[list[tuple[int, Request]]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _on_hub(adapter: str) -> str:
    """An adapter's name on the Hub with its commit, where that is known."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(adapter, "adapter_config.json")
    except HFValidationError:
        return adapter
    # .../snapshots/COMMIT/adapter_config.json
    return f"{adapter}@{Path(found).parent.name}" if isinstance(found, str) else adapter


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
