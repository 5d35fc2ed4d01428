"""Option probabilities of a causal language model, read off its next-token distribution and not off generated text.

The probability of an option is the probability that the model, under its chat template, replies with that option's line
("B. ..."), renormalised over the question's options. What questions have in common is computed once: the beginning of
their prompts (the chat's header, a persona's portrait) once for all of them, and the rest of a prompt once for its three
options, which stand in one row with it (`shared_prefix`). The head of the model, which is a good part of a small one,
runs only where a token is predicted that counts. Models that do not take such rows get each prompt and option as a whole
sequence.
"""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from accelerate.utils.memory import should_reduce_batch_size
from numpy.typing import NDArray
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fairpp_hf.schema import OPTION_LETTERS
from fairpp_hf.scoring.encoding import ChatEncoder, Messages, Question, Rule
from fairpp_hf.scoring.four_bit import keep_four_bit_layout
from fairpp_hf.scoring.prefix_cache import Prefix, PrefixCache, common_length
from fairpp_hf.scoring.shared_prefix import Completion, lay_out, model_inputs, only_predictions
from fairpp_hf.scoring.sharing import PrefixSharing, is_divided
from fairpp_hf.scoring.vocabulary import check_vocabulary

logger = logging.getLogger(__name__)
Result = TypeVar("Result")

CPU_BATCH_TOKENS = 2048
"""On a CPU, larger batches are no faster."""
ACCELERATOR_BATCH_TOKENS = 16384
HEAD_ROWS = 1024
"""Predictions that are turned into log-probabilities at once: each is a row of the vocabulary's size."""


class OptionScores(NamedTuple):
    """Scores of n questions with three options each; a row of NaN where the model gave numbers that are none."""

    logprobs: NDArray[np.float64]
    """(n, 3): natural-log probability of each option's tokens, not renormalised."""
    probabilities: NDArray[np.float64]
    """(n, 3): probabilities among the three options by the scorer's rule; rows sum to 1."""
    letter_logprobs: NDArray[np.float64]
    """(n, 3): the part of `logprobs` through the option's letter, which knows nothing of how long the option is."""
    tokens: NDArray[np.int64]
    """(n, 3): how many tokens `logprobs` is the sum over."""


ScoredRows = Iterator[tuple[NDArray[np.int64], OptionScores]]
"""Some rows of a call, (b,), and their scores."""


class OptionScorer:
    """Scores the options of multiple-choice questions under a chat model.

    What is computed once is computed again when the model's weights or adapters have changed.

    Args:
        model: A causal language model, with or without an adapter. It is put in evaluation mode.
        tokenizer: Its tokenizer, with a chat template.
        rule: Rule by which an option's probability is computed.

            - `"line"`, the default: the whole option line ("B. ...") with what the template writes before it and after it
              (an empty thought, the end of the turn). Training trains such lines, and DPO can change a line without its
              letter. Every token of a line costs something, so that short options are favoured unless a model is certain
              of the text after a letter, as after SFT; the `length_gap` of an evaluation says by how much.
            - `"per_token"`: the same line at its mean log-probability a token. The letter then counts the less, the longer
              its line, so that long options are favoured.
            - `"letter"`: only what stands before the line and the letter ("B"). It is blind to the option's length, a little
              cheaper, and what a sampled reply would begin with; what training has done to the rest of a line is lost.

            benchmarks/scoring_rules.py has the figures behind the choice.
        batch_size: Most questions a forward pass, at least 1; None for as many as fit. How many fit is first a guess
            by the kind of device (2048 tokens on a CPU, 16384 elsewhere, padding included) and then half of what the
            memory did not hold.

    Raises:
        ValueError: No chat template, an unknown rule, a batch size below 1, or more tokens than the embedding has rows.

    Example:
        ```python
        scorer = OptionScorer.from_pretrained("HuggingFaceTB/SmolLM2-135M-Instruct")
        scorer.score([[{"role": "user", "content": prompt}]], [("first", "second", "neither")]).probabilities
        ```
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        rule: Rule = "line",
        batch_size: int | None = None,
    ) -> None:
        self._encoder = ChatEncoder(tokenizer, rule)
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; got {batch_size}.")
        check_vocabulary(tokenizer, model.config)
        keep_four_bit_layout(model)
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.rule = rule
        self.batch_size = batch_size
        self._batch_tokens = CPU_BATCH_TOKENS if model.device.type == "cpu" else ACCELERATOR_BATCH_TOKENS
        self._prefixes = PrefixCache()
        self._sharing = PrefixSharing(self.model, caches=True)

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        adapter: str | Path | None = None,
        rule: Rule = "line",
        batch_size: int | None = None,
        device: str | None = None,
        **model_kwargs: Any,
    ) -> "OptionScorer":
        """Load a model, and an adapter on top of it, by Hub name or local path.

        Args:
            model: Name or path of a causal language model.
            adapter: Name or path of a PEFT adapter trained on it.
            rule: Scoring rule, see the class.
            batch_size: Questions a forward pass at most, see the class.
            device: Device to run on; the accelerator if there is one, else the CPU.
            **model_kwargs: Passed to `AutoModelForCausalLM.from_pretrained`, such as `dtype` (without it float32 on a CPU,
                and elsewhere what the model was saved in); `revision` and `trust_remote_code` go to the tokenizer as well.

        Raises:
            ValueError: `model` is an adapter; or as the class.
            FileNotFoundError: A path that does not exist.
            OSError: A model that is not on the Hub, or that cannot be reached.
        """
        from transformers import AutoModelForCausalLM, AutoTokenizer

        model, adapter = found_model("model", model), None if adapter is None else found_model("adapter", adapter)
        check_whole(model)
        if device is None:
            accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
            device = str(accelerator or "cpu")
        # bfloat16, the dtype of most checkpoints, is several times slower than float32 on a CPU.
        model_kwargs.setdefault("dtype", torch.float32 if device == "cpu" else "auto")
        shared = {key: model_kwargs[key] for key in ("revision", "trust_remote_code") if key in model_kwargs}
        tokenizer = AutoTokenizer.from_pretrained(model, **shared)
        loaded: Any = AutoModelForCausalLM.from_pretrained(model, **model_kwargs)
        if getattr(loaded, "peft_config", None):
            # A name on the Hub, of which only the loading tells.
            raise ValueError(_not_whole(model, loaded.config.name_or_path))
        loaded.to(device)
        if adapter is not None:
            from peft import PeftModel

            loaded = PeftModel.from_pretrained(loaded, adapter)
        return cls(loaded, tokenizer, rule=rule, batch_size=batch_size)

    @property
    def template_hash(self) -> str:
        """SHA-256 of the chat template in use, 64 hexadecimal digits."""
        return self._encoder.template_hash

    @property
    def opening(self) -> dict[str, str]:
        """How a reply begins where not simply after the template's prompt: see `ChatEncoder`; empty with most models."""
        return self._encoder.opening

    def score(
        self,
        messages: Sequence[Messages],
        options: Sequence[Sequence[str]],
        *,
        progress: str | None = None,
    ) -> OptionScores:
        """Score the options of n questions.

        Args:
            messages: The chat before the reply, one list of messages a question.
            options: The texts of options A, B, C without their letters, one triple a question.
            progress: A title for a progress bar, or None for no bar.

        Returns:
            `OptionScores` in the order of the questions, whatever order they were batched in.

        Raises:
            TooLongError: Questions are longer than the model's context; it is a ValueError, and says which.
            ValueError: Unequal numbers of messages and options, or a chat template that refuses these messages or leaves
                out what is said.
            RuntimeError: The memory does not hold a single question, or not a batch of a model that is divided among
                processes.
        """
        return in_order(self.iterate(messages, options), len(messages), progress)

    def iterate(self, messages: Sequence[Messages], options: Sequence[Sequence[str]]) -> ScoredRows:
        """As `score`, batch by batch: rows of the call and their scores, every row once, as soon as a batch is done.

        What is wrong with messages and options is raised before anything is scored.
        """
        return self.iterate_encoded(self.encode(messages, options))

    def encode(self, messages: Sequence[Messages], options: Sequence[Sequence[str]]) -> list[Question]:
        """The token ids of n questions, all that `score` checks checked."""
        max_length = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return self._encoder.encode(messages, options, max_length)

    def iterate_encoded(self, questions: Sequence[Question]) -> ScoredRows:
        """As `iterate`, for questions from `encode`."""
        self.model.eval()
        # The widest row goes first, so that sharing is decided once for all of them.
        of_start: dict[tuple[str, bool], list[int]] = {}
        for row in sorted(range(len(questions)), key=lambda row: -questions[row].in_one_row):
            question = questions[row]
            shared = self._sharing.reason_against(question.in_one_row, question.longest) is None
            of_start.setdefault((question.system, shared), []).append(row)
        for (system, shared), pending in of_start.items():
            # The last token of a prompt predicts the replies' first, and stays with them; the one before it makes a row of
            # what would otherwise be three, if there is only one question.
            start: tuple[int, ...] | None = () if shared else None
            # What processes divide is put together only while all of the model runs, and not for a prefix alone.
            if shared and not is_divided(self.model):
                start = questions[pending[0]].prompt[: common_length([questions[row].prompt[:-2] for row in pending])]
            while pending:
                # Batches of like lengths waste little padding; the longest go first, so that memory runs out early or never.
                batch = pending[: self._fitting(questions[pending[0]], start)]
                of_batch = [questions[row] for row in batch]
                logprobs = self._within_memory(of_batch, start, partial(self._logprobs, of_batch, system, start))
                if logprobs is not None:
                    tokens = np.array([[len(reply) for reply in question.replies] for question in of_batch])
                    yield (
                        np.asarray(batch, np.int64),
                        option_scores(logprobs[..., 0], logprobs[..., 1], tokens, self.rule),
                    )
                    del pending[: len(batch)]

    # -- batches -------------------------------------------------------------------------------------------------------

    def _fitting(self, longest: Question, start: tuple[int, ...] | None) -> int:
        """How many questions, none longer than this one, make a batch; `start` as in `_logprobs`."""
        fitting = max(1, self._batch_tokens // _computed(longest, start))
        return fitting if self.batch_size is None else min(fitting, self.batch_size)

    def _within_memory(
        self, batch: Sequence[Question], start: tuple[int, ...] | None, run: Callable[[], Result]
    ) -> Result | None:
        """What `run` returns, or None where the memory did not hold the batch: the next ones are half as large."""
        try:
            return run()
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            reason = str(error).partition("\n")[0].rstrip(".") or "Out of memory"
        # Out of the except clause, which holds on to the tensors of the failed forward by its traceback.
        if torch.accelerator.is_available():
            torch.accelerator.memory.empty_cache()
        if len(batch) == 1:
            raise RuntimeError(
                f"Memory must hold one question at a time; got none left for one of {batch[0].longest} tokens with its "
                f"longest option. {reason}. Use a device with more memory, a smaller model, or one of fewer bits a "
                "weight (dtype)."
            )
        if is_divided(self.model):
            # The other processes would be in the middle of a batch that this one begins anew.
            raise RuntimeError(
                f"Memory must hold a batch of a model that is divided among processes; got none left for {len(batch)} "
                f"questions. {reason}. Set a smaller batch_size."
            )
        self._batch_tokens = min(self._batch_tokens, _computed(batch[0], start) * len(batch)) // 2
        logger.warning("Out of memory at %d questions a batch; going on with half as many.", len(batch))
        return None

    # -- forward -------------------------------------------------------------------------------------------------------

    # Not inference mode: FSDP gathers weights on the way, which training then changes in place.
    @torch.no_grad()
    def _logprobs(self, batch: Sequence[Question], system: str, start: tuple[int, ...] | None) -> NDArray[np.float64]:
        """Log-probabilities of the options of b questions: (b, options, 2), of all tokens and of those through the letter.

        `start` are tokens that their prompts start with, to be computed once; None to run whole sequences.
        """
        model, shared, cached = self._sharing.causal_lm, start is not None, len(start or ())
        rows = lay_out(
            [Completion(question.prompt[cached:], reply) for question in batch for reply in question.replies],
            share_prefix=shared,
            pad_token_id=self.tokenizer.pad_token_id or 0,
            # A prompt with many sets of options would make one long row of them all, with a mask of its length squared.
            groups=[row for row, question in enumerate(batch) for _ in question.replies],
        )
        rows = {name: tensor.to(self.model.device) for name, tensor in rows.items()}
        eager = model.config.get_text_config()._attn_implementation == "eager"
        inputs: dict[str, Any] = {
            **model_inputs(rows, shared=shared, eager=eager, dtype=model.dtype, cached=cached),
            "use_cache": False,
        }
        if start:
            prefix: Prefix = self._prefixes.get(model.base_model, system, start)
            inputs |= {"past_key_values": prefix.cache(), "use_cache": True}
        with only_predictions(model.get_output_embeddings(), rows["predicted_by"], rows["input_ids"].size(1)):
            logits = self.model(**inputs).logits.squeeze(0)
        of_tokens = torch.cat(
            [
                torch.log_softmax(some.float(), dim=-1).gather(1, targets.unsqueeze(1)).squeeze(1)
                for some, targets in zip(logits.split(HEAD_ROWS), rows["target_ids"].split(HEAD_ROWS), strict=True)
            ]
        )
        counts = rows["completion_mask"].sum(dim=1)
        completion = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
        place = torch.arange(len(completion), device=counts.device) - (counts.cumsum(0) - counts)[completion]
        letters = torch.tensor([question.letter_tokens for question in batch for _ in question.replies])
        within = place.cpu() < letters[completion.cpu()]
        # Summed in float64, which not every accelerator has. A sum of its own: what is infinite beyond stays there.
        of_tokens, sums = of_tokens.cpu().double(), torch.zeros(len(counts), 2, dtype=torch.float64)
        sums[:, 0].index_add_(0, completion.cpu(), of_tokens)
        sums[:, 1].index_add_(0, completion.cpu()[within], of_tokens[within])
        return sums.view(len(batch), -1, 2).numpy()


def option_scores(
    logprobs: NDArray[np.float64], letter_logprobs: NDArray[np.float64], tokens: NDArray[np.int64], rule: Rule
) -> OptionScores:
    """What a rule makes of log-probabilities: see `OptionScores` for the arrays, (n, 3) each.

    Each option's mean log-probability a token is taken times the mean number of tokens of the question's options: where all
    are as long as each other, `"per_token"` gives the probabilities of `"line"`, and elsewhere the same order as the means.
    """
    compared = logprobs
    if rule == "per_token" and len(tokens):
        compared = logprobs / tokens * tokens.mean(axis=1, keepdims=True)
    return OptionScores(logprobs, shares_of(compared), letter_logprobs, tokens)


def shares_of(logprobs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities among options, (..., 3), of their log-probabilities; a row of NaN where one is NaN or all are -inf."""
    # Shifted by the best option, so that exp cannot underflow for all three.
    with np.errstate(invalid="ignore"):
        shifted = np.exp(logprobs - logprobs.max(axis=-1, keepdims=True, initial=-np.inf))
        return shifted / shifted.sum(axis=-1, keepdims=True)


def in_order(scored: ScoredRows, count: int, progress: str | None) -> OptionScores:
    """All scores of a call of `count` rows in their order; `progress` is the title of a progress bar, or None for no bar."""
    shape = (count, len(OPTION_LETTERS))
    found = OptionScores(np.zeros(shape), np.zeros(shape), np.zeros(shape), np.zeros(shape, np.int64))
    with tqdm(total=count, desc=progress, unit="question", disable=progress is None) as bar:
        for rows, scores in scored:
            for whole, part in zip(found, scores, strict=True):
                whole[rows] = part
            bar.update(len(rows))
    return found


def check_whole(model: str) -> None:
    """Refuse a local folder with an adapter in the place of a model."""
    adapter = Path(model) / "adapter_config.json"
    if adapter.is_file():
        raise ValueError(_not_whole(model, json.loads(adapter.read_text("utf-8")).get("base_model_name_or_path")))


def _not_whole(model: str, base: str | None) -> str:
    return (
        f"model must be a whole model; got the adapter {model!r}. Pass it as the adapter, and as the model "
        f"{base or 'the one'} that it was trained on."
    )


def found_model(what: str, name: str | Path) -> str:
    """A Hub name as it is, and the path of an existing folder.

    Raises:
        FileNotFoundError: It is a path, and no folder is there.
    """
    path = Path(name).expanduser()
    # Transformers would take a mistyped path for a Hub name and complain about its characters.
    if (str(name).startswith(("/", "./", "../", "~")) or len(path.parts) > 2) and not path.is_dir():
        raise FileNotFoundError(f"{what} must be a Hub name or an existing folder; got {str(name)!r}. Check the path.")
    return str(path) if path.is_dir() else str(name)


def _computed(question: Question, start: tuple[int, ...] | None) -> int:
    """Tokens that a question takes in a batch, in one row after a cached start or, where None, in three sequences."""
    if start is None:
        return len(OPTION_LETTERS) * question.longest
    cached = len(start)
    # A row has a copy of the cached tokens' keys and values, one layer at a time: some part of what a token takes.
    return question.in_one_row - cached + cached // 4


_OUT_OF_MEMORY = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "not enough memory")
"""What accelerate does not know."""


def _is_out_of_memory(error: Exception) -> bool:
    """Whether an accelerator's memory is full, or the CPU's."""
    return (
        isinstance(error, torch.OutOfMemoryError | MemoryError)
        or should_reduce_batch_size(error)
        or (isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY))
    )
