"""Option probabilities of a causal language model, read off its next-token distribution and not off generated text.

The probability of an option is the probability that the model, under its chat template, replies with that option's line
("B. ..."), renormalised over the question's options. The prompt runs through the model once a question; its key-value
cache is shared by the options, which adds a few tokens each. Models without such a cache get each prompt and option as a
whole sequence.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fairpp_hf.naming import check_name
from fairpp_hf.schema import OPTION_LETTERS

Messages = Sequence[dict[str, str]]
Encoded = tuple[list[int], list[list[int]]]
"""Token ids of a question's prompt, and of each of its options."""
SCORING_RULES = ("line", "letter")


class OptionScores(NamedTuple):
    """Scores of n questions with three options each."""

    logprobs: NDArray[np.float64]
    """(n, 3): natural-log probability of each option's tokens, not renormalised."""
    probabilities: NDArray[np.float64]
    """(n, 3): probabilities renormalised over the three options; rows sum to 1."""


class OptionScorer:
    """Scores the options of multiple-choice questions under a chat model.

    Args:
        model: a causal language model, with or without an adapter. It is put in evaluation mode.
        tokenizer: its tokenizer, with a chat template.
        rule: `"line"` scores the whole option line ("B. ..."), the text that training uses; `"letter"` only the tokens
            of the letter ("B"), which is a little cheaper and blind to the option's wording.
        batch_size: questions a forward pass; at least 1.

    Raises:
        ValueError: no chat template, an unknown rule, or a batch size below 1.

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
        rule: Literal["line", "letter"] = "line",
        batch_size: int = 8,
    ) -> None:
        check_name("rule", rule, SCORING_RULES)
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; got {batch_size}.")
        if not getattr(tokenizer, "chat_template", None):
            raise ValueError(
                f"tokenizer must have a chat template; got none in {tokenizer.name_or_path!r}. "
                "Use an instruction-tuned model, or set tokenizer.chat_template."
            )
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.rule = rule
        self.batch_size = batch_size
        self._shares_prompt = _can_repeat_cache(model)

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        adapter: str | Path | None = None,
        rule: Literal["line", "letter"] = "line",
        batch_size: int = 8,
        device: str | None = None,
        **model_kwargs: Any,
    ) -> "OptionScorer":
        """Load a model, and an adapter on top of it, by Hub name or local path.

        Args:
            model: name or path of a causal language model.
            adapter: name or path of a PEFT adapter trained on it.
            rule: see the class.
            batch_size: see the class.
            device: where to run; the accelerator where there is one, else the CPU.
            **model_kwargs: passed to `AutoModelForCausalLM.from_pretrained`, such as `dtype`; `revision` and
                `trust_remote_code` go to the tokenizer as well.

        Raises:
            FileNotFoundError: a path that does not exist.
            OSError: a model that is not on the Hub, or that cannot be reached.
        """
        from transformers import AutoModelForCausalLM, AutoTokenizer

        for what, name in (("model", model), ("adapter", adapter)):
            # Transformers would take a mistyped path for a Hub name and complain about its characters.
            if (
                name is not None
                and str(name).startswith(("/", "./", "../", "~"))
                and not Path(name).expanduser().is_dir()
            ):
                raise FileNotFoundError(
                    f"{what} must be a Hub name or an existing folder; got {str(name)!r}. Check the path."
                )
        if device is None:
            accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
            device = str(accelerator or "cpu")
        # bfloat16, the dtype of most checkpoints, is several times slower than float32 on a CPU.
        model_kwargs.setdefault("dtype", torch.float32 if device == "cpu" else "auto")
        shared = {key: model_kwargs[key] for key in ("revision", "trust_remote_code") if key in model_kwargs}
        tokenizer = AutoTokenizer.from_pretrained(str(model), **shared)
        loaded: Any = AutoModelForCausalLM.from_pretrained(str(model), **model_kwargs)
        loaded.to(device)
        if adapter is not None:
            from peft import PeftModel

            loaded = PeftModel.from_pretrained(loaded, str(adapter))
        return cls(loaded, tokenizer, rule=rule, batch_size=batch_size)

    @torch.inference_mode()
    def score(
        self,
        messages: Sequence[Messages],
        options: Sequence[Sequence[str]],
        *,
        progress: str | None = None,
    ) -> OptionScores:
        """Score the options of n questions.

        Args:
            messages: the chat before the reply, one list of messages a question.
            options: the texts of options A, B, C without their letters, one triple a question.
            progress: a title for a progress bar, or None for no bar.

        Returns:
            `OptionScores` in the order of the questions, whatever order they were batched in.

        Raises:
            ValueError: unequal numbers of messages and options, or a chat template that refuses these messages or whose
                prompt merges with the reply's first token.
        """
        if len(messages) != len(options):
            raise ValueError(
                f"options must have one triple a question; got {len(options)} for {len(messages)} questions."
            )
        logprobs = np.zeros((len(messages), len(OPTION_LETTERS)))
        encoded = [self._encode(chat, texts) for chat, texts in zip(messages, options, strict=True)]
        # Batches of like lengths waste little padding; the longest go first, so that memory runs out early or never.
        order = sorted(range(len(encoded)), key=lambda row: -len(encoded[row][0]))
        bar = tqdm(total=len(order), desc=progress, unit="question", disable=progress is None)
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            logprobs[rows] = self._score_batch([encoded[row] for row in rows]).cpu().numpy()
            bar.update(len(rows))
        bar.close()
        # Shifted by the best option, so that exp cannot underflow for all three.
        shifted = np.exp(logprobs - logprobs.max(axis=1, keepdims=True, initial=-np.inf))
        return OptionScores(logprobs, shifted / shifted.sum(axis=1, keepdims=True))

    def _encode(self, chat: Messages, texts: Sequence[str]) -> Encoded:
        """Token ids of the prompt with the generation prompt, and of each option as the start of a reply."""
        prompt = self._render(chat, add_generation_prompt=True)
        prompt_ids = self._ids(prompt)
        reply_ids = []
        for letter, text in zip(OPTION_LETTERS, texts, strict=True):
            # The end of the turn belongs to saying the line and nothing more; after a letter alone it would ask for a
            # reply that ends there.
            reply = f"{letter}. {text}{self._end_of_turn}" if self.rule == "line" else letter
            full_ids = self._ids(prompt + reply)
            if full_ids[: len(prompt_ids)] != prompt_ids:
                raise ValueError(
                    "The chat template's prompt must end on a token boundary; "
                    f"got {prompt[-40:]!r}, whose last token changes when {reply[:10]!r} follows. Use another template."
                )
            reply_ids.append(full_ids[len(prompt_ids) :])
        return prompt_ids, reply_ids

    @cached_property
    def _end_of_turn(self) -> str:
        """What the template writes after the assistant's text, such as an end token."""
        mark = "the reply"
        rendered = self._render([{"role": "user", "content": "a question"}, {"role": "assistant", "content": mark}])
        return rendered[rendered.rindex(mark) + len(mark) :]

    def _render(self, chat: Messages, *, add_generation_prompt: bool = False) -> str:
        from jinja2 import TemplateError

        try:
            rendered = self.tokenizer.apply_chat_template(
                list(chat), add_generation_prompt=add_generation_prompt, tokenize=False
            )
        except TemplateError as error:
            speakers = ", ".join(message["role"] for message in chat)
            raise ValueError(
                f"The chat template must take messages of {speakers}; it says: {error}. "
                "Use a model whose template does, or leave out what it does not take, such as a system message."
            ) from error
        return cast(str, rendered)

    def _ids(self, text: str) -> list[int]:
        # The template has written the special tokens already.
        return cast(list[int], self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _score_batch(self, batch: Sequence[Encoded]) -> Tensor:
        """Log-probabilities of the options of b questions, (b, 3)."""
        return self._score_shared(batch) if self._shares_prompt else self._score_whole(batch)

    def _score_whole(self, batch: Sequence[Encoded]) -> Tensor:
        """Each prompt with each option as a sequence of its own: the plain way, which every causal model allows."""
        starts = [len(prompt) for prompt, replies in batch for _ in replies]
        ids, mask = self._padded([prompt + reply for prompt, replies in batch for reply in replies])
        logits = self.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        # Prompt-learning adapters prepend virtual tokens; the last positions are the real ones.
        logprobs = torch.log_softmax(logits[:, -ids.size(1) :][:, :-1].float(), dim=-1)
        token_logprobs = logprobs.gather(2, ids[:, 1:, None]).squeeze(2).double()
        position = torch.arange(1, ids.size(1), device=ids.device)
        is_reply = (position >= torch.tensor(starts, device=ids.device).unsqueeze(1)) & (mask[:, 1:] == 1)
        return (token_logprobs * is_reply).sum(dim=1).view(len(batch), len(OPTION_LETTERS))

    def _score_shared(self, batch: Sequence[Encoded]) -> Tensor:
        """Prompts in one pass, and all options in a second that shares the prompts' key-value cache."""
        # Padding on the left, so that every prompt ends at the same position and its options follow at once.
        prompt_ids, prompt_mask = self._padded([prompt for prompt, _ in batch], left=True)
        positions = (prompt_mask.cumsum(dim=1) - 1).clamp(min=0)
        first = self.model(
            input_ids=prompt_ids,
            attention_mask=prompt_mask,
            position_ids=positions,
            use_cache=True,
            logits_to_keep=1,
        )
        last_logprobs = torch.log_softmax(first.logits[:, -1].float(), dim=-1)

        count = len(OPTION_LETTERS)
        reply_ids, reply_mask = self._padded([reply for _, replies in batch for reply in replies])
        token_logprobs = last_logprobs.repeat_interleave(count, dim=0).gather(1, reply_ids[:, :1])
        if reply_ids.size(1) > 1:
            cache = first.past_key_values
            cache.batch_repeat_interleave(count)
            start = prompt_mask.sum(dim=1).repeat_interleave(count).unsqueeze(1)
            second = self.model(
                input_ids=reply_ids[:, :-1],
                attention_mask=torch.cat([prompt_mask.repeat_interleave(count, dim=0), reply_mask[:, :-1]], dim=1),
                position_ids=start + torch.arange(reply_ids.size(1) - 1, device=reply_ids.device),
                past_key_values=cache,
                use_cache=True,
            )
            rest = torch.log_softmax(second.logits.float(), dim=-1).gather(2, reply_ids[:, 1:, None]).squeeze(2)
            token_logprobs = torch.cat([token_logprobs, rest], dim=1)
        return (token_logprobs.double() * reply_mask).sum(dim=1).view(len(batch), count)

    def _padded(self, sequences: Sequence[list[int]], *, left: bool = False) -> tuple[Tensor, Tensor]:
        """Token ids and attention mask of sequences of unequal lengths, each (n, longest), on the model's device."""
        width = max(len(sequence) for sequence in sequences)
        ids = torch.zeros(len(sequences), width, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, sequence in enumerate(sequences):
            place = slice(width - len(sequence), width) if left else slice(len(sequence))
            ids[row, place] = torch.tensor(sequence)
            mask[row, place] = 1
        return ids.to(self.model.device), mask.to(self.model.device)


def _can_repeat_cache(model: PreTrainedModel) -> bool:
    """Whether the cache of a prompt can be repeated for its options.

    Recurrent and hybrid models keep a state instead of keys and values; prompt-learning adapters would put their virtual
    tokens before the options once more.
    """
    adapters = getattr(model, "peft_config", {}).values()
    base = cast(Any, model).get_base_model() if adapters else model
    stateful = getattr(base, "_is_stateful", False) or any(
        layer != "full_attention" and "sliding" not in layer and "chunked" not in layer
        for layer in getattr(base.config.get_text_config(), "layer_types", None) or []
    )
    return not stateful and not any(getattr(adapter, "is_prompt_learning", False) for adapter in adapters)
