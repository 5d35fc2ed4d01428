"""Questions as tokens: the chat under the model's template, and each option as the beginning of the reply."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Literal, NamedTuple, cast, get_args

from transformers import PreTrainedTokenizerBase

from fairpp_hf.naming import check_name
from fairpp_hf.schema import OPTION_LETTERS
from fairpp_hf.scoring.prefix_cache import common_length

Messages = Sequence[dict[str, str]]
Rule = Literal["line", "per_token", "letter"]
SCORING_RULES: tuple[Rule, ...] = get_args(Rule)
EXCERPT = 60
"""Characters of a prompt that an error shows."""


class Question(NamedTuple):
    """Token ids of a question, at least one of the prompt and one of each reply."""

    prompt: tuple[int, ...]
    """the chat and what the template writes before a reply."""
    replies: tuple[tuple[int, ...], ...]
    """the three options, each as a reply to the prompt."""
    system: str
    """the system message; empty where there is none. Questions that have it in common start alike."""

    @property
    def letter_tokens(self) -> int:
        """Tokens of a reply through the first in which replies differ, the one with the option's letter."""
        return common_length(self.replies) + 1

    @property
    def longest(self) -> int:
        """Tokens of the prompt with its longest reply."""
        return len(self.prompt) + max(map(len, self.replies))

    @property
    def in_one_row(self) -> int:
        """Tokens of the prompt with all replies."""
        return len(self.prompt) + sum(map(len, self.replies))


class ChatEncoder:
    """Encodes chats and options with a tokenizer and its chat template.

    Args:
        tokenizer: Tokenizer with a chat template.
        rule: Scoring rule, see `OptionScorer`.

    Raises:
        ValueError: No chat template, or an unknown rule.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, rule: Rule) -> None:
        check_name("rule", rule, SCORING_RULES)
        if not getattr(tokenizer, "chat_template", None):
            raise ValueError(
                f"tokenizer must have a chat template; got none in {tokenizer.name_or_path!r}. "
                "Use an instruction-tuned model, or set tokenizer.chat_template."
            )
        self.tokenizer = tokenizer
        self.rule = rule

    @property
    def template_hash(self) -> str:
        """SHA-256 of the chat template, 64 hexadecimal digits."""
        return hashlib.sha256(self.tokenizer.get_chat_template().encode()).hexdigest()

    def encode(
        self, messages: Sequence[Messages], options: Sequence[Sequence[str]], max_length: int | None
    ) -> list[Question]:
        """Token ids of n questions, see `OptionScorer.score`; `max_length` is the model's context in tokens, or None."""
        if len(messages) != len(options):
            raise ValueError(
                f"options must have one triple a question; got {len(options)} for {len(messages)} questions."
            )
        if not messages:
            return []
        cut, before, after = self._around_reply
        prompts = [self._prompt(chat, cut) for chat in messages]
        # The end of the turn belongs to saying the line and nothing more; after a letter alone it would ask for a reply
        # that ends there.
        replies = [
            before + letter if self.rule == "letter" else f"{before}{letter}. {text}{after}"
            for texts in options
            for letter, text in zip(OPTION_LETTERS, texts, strict=True)
        ]
        count = len(OPTION_LETTERS)
        ids_of_prompts = self._ids(prompts)
        # Prompt and reply are encoded together: a tokenizer may write a text in other tokens where it stands alone.
        ids_of_all = self._ids([prompts[number // count] + reply for number, reply in enumerate(replies)])
        questions = []
        for row, (chat, prompt) in enumerate(zip(messages, ids_of_prompts, strict=True)):
            of_row = ids_of_all[count * row : count * (row + 1)]
            # The prompt's last token may merge with the reply's first, such as a space. TRL cuts it off as well.
            length = common_length([tuple(prompt), *map(tuple, of_row)])
            system = chat[0]["content"] if chat and chat[0]["role"] == "system" else ""
            questions.append(Question(tuple(prompt[:length]), tuple(tuple(ids[length:]) for ids in of_row), system))
        if max_length is not None:
            _check_lengths(questions, messages, max_length)
        return questions

    @property
    def opening(self) -> dict[str, str]:
        """How a reply begins where not simply after the prompt that the template writes.

        A model that thinks, or that speaks on channels, is trained and scored on a reply without a thought and on the last
        channel: what the template makes of an assistant's message.

        Returns:
            `cut`, the end of the prompt that is left out, and `before`, what stands before the option; neither where it is
            empty, as with most templates.
        """
        cut, before, _ = self._around_reply
        return {name: text for name, text in (("cut", cut), ("before", before)) if text}

    def _prompt(self, chat: Messages, cut: str) -> str:
        prompt = self._render(chat, add_generation_prompt=True)
        if not prompt.endswith(cut):
            raise ValueError(
                f"The chat template's prompt must always end alike; got {prompt[-40:]!r} and, for another chat, {cut!r}. "
                "Use another template."
            )
        return prompt.removesuffix(cut)

    @cached_property
    def _around_reply(self) -> tuple[str, str, str]:
        """What the template makes of a reply: the end of the prompt that it replaces, what it writes before and after.

        TRL trains on what follows the common beginning of a prompt and of the same prompt with its reply.
        """
        question, mark = "a question", "the reply"
        prompt = self._render([{"role": "user", "content": question}], add_generation_prompt=True)
        whole = self._render([{"role": "user", "content": question}, {"role": "assistant", "content": mark}])
        if question not in prompt or mark not in whole:
            raise ValueError(
                f"The chat template must write what is said; got {whole[-80:]!r} for the reply {mark!r} to {question!r}. It "
                "may be one for pictures, which takes a list of parts. Use a model of text, or another template."
            )
        reply = whole.rindex(mark)
        start = common_length([prompt, whole[:reply]])
        if start < prompt.rindex(question) + len(question):
            raise ValueError(
                f"The chat template must write a question alike before and after its reply; got {prompt[-80:]!r} and "
                f"{whole[-80:]!r}. Use another template."
            )
        return prompt[start:], whole[start:reply], whole[reply + len(mark) :]

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

    def _ids(self, texts: list[str]) -> list[list[int]]:
        # The template has written the special tokens already.
        return cast(list[list[int]], self.tokenizer(texts, add_special_tokens=False)["input_ids"])


class TooLongError(ValueError):
    """Questions that are longer than a model's context.

    Attributes:
        tokens: Row to tokens with the longest option, of each question that is too long.
        limit: Tokens of the context.
    """

    def __init__(self, message: str, tokens: dict[int, int], limit: int) -> None:
        super().__init__(message)
        self.tokens = tokens
        self.limit = limit


def _check_lengths(questions: Sequence[Question], messages: Sequence[Messages], max_length: int) -> None:
    too_long = {row: question.longest for row, question in enumerate(questions) if question.longest > max_length}
    if not too_long:
        return
    row = next(iter(too_long))
    raise TooLongError(
        f"A prompt with its longest option must have at most {max_length} tokens, the model's context; got "
        f"{too_long[row]} at row {row} ({messages[row][-1]['content'][:EXCERPT]!r}), and more than that many "
        f"in {len(too_long)} of {len(questions)} rows. Shorten the prompt or the system message, or use a model with a "
        "longer context.",
        too_long,
        max_length,
    )
