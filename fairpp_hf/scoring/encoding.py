"""Questions as tokens: the chat under the model's template, and each option as the beginning of the reply."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Literal, NamedTuple, cast

from transformers import PreTrainedTokenizerBase

from fairpp_hf.naming import check_name
from fairpp_hf.schema import OPTION_LETTERS

Messages = Sequence[dict[str, str]]
Rule = Literal["line", "letter"]
SCORING_RULES = ("line", "letter")
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
        tokenizer: with a chat template.
        rule: see `OptionScorer`.

    Raises:
        ValueError: no chat template, or an unknown rule.
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
        """Token ids of n questions.

        Args:
            messages: the chat before the reply, one list of messages a question.
            options: the texts of options A, B, C without their letters, one triple a question.
            max_length: the longest sequence that the model takes, in tokens; None where there is no limit.

        Raises:
            ValueError: unequal numbers of messages and options, a question that is too long, or a chat template that
                refuses these messages or whose prompt merges with the reply's first token.
        """
        if len(messages) != len(options):
            raise ValueError(
                f"options must have one triple a question; got {len(options)} for {len(messages)} questions."
            )
        if not messages:
            return []
        prompts = [self._render(chat, add_generation_prompt=True) for chat in messages]
        # The end of the turn belongs to saying the line and nothing more; after a letter alone it would ask for a reply
        # that ends there.
        replies = [
            f"{letter}. {text}{self._end_of_turn}" if self.rule == "line" else letter
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
            for reply, ids in zip(replies[count * row :], of_row, strict=False):
                if ids[: len(prompt)] != prompt:
                    raise ValueError(
                        "The chat template's prompt must end on a token boundary; got "
                        f"{prompts[row][-40:]!r}, whose last token changes when {reply[:10]!r} follows. Use another "
                        "template."
                    )
            system = chat[0]["content"] if chat and chat[0]["role"] == "system" else ""
            questions.append(Question(tuple(prompt), tuple(tuple(ids[len(prompt) :]) for ids in of_row), system))
        if max_length is not None:
            _check_lengths(questions, messages, max_length)
        return questions

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

    def _ids(self, texts: list[str]) -> list[list[int]]:
        # The template has written the special tokens already.
        return cast(list[list[int]], self.tokenizer(texts, add_special_tokens=False)["input_ids"])


def _check_lengths(questions: Sequence[Question], messages: Sequence[Messages], max_length: int) -> None:
    too_long = [row for row, question in enumerate(questions) if question.longest > max_length]
    if not too_long:
        return
    row = too_long[0]
    raise ValueError(
        f"A prompt with its longest option must have at most {max_length} tokens, the model's context; got "
        f"{questions[row].longest} at row {row} ({messages[row][-1]['content'][:EXCERPT]!r}), and more than that many "
        f"in {len(too_long)} of {len(questions)} rows. Shorten the prompt or the system message, or use a model with a "
        "longer context."
    )
