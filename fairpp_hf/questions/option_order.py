"""Questions with the options of their two poles in each other's place, so that a letter cannot stand for a stance."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from fairpp_hf.schema import OPTION_LETTERS

OPTION_ORDERS = ("written", "mixed")
"""`"written"`: pole A is always shown as A. `"mixed"`: in a random half of the questions it is shown as B."""


def shown_options(options: tuple[str, str, str], swapped: bool) -> tuple[str, str, str]:
    """A question's options in the order in which they are shown."""
    return (options[1], options[0], options[2]) if swapped else options


def swapped_prompt(prompt: str, options: tuple[str, str, str]) -> str:
    """A prompt that shows its options as they are written, with the first two in each other's place."""
    return prompt.replace(_option_block(options), _option_block(shown_options(options, True)))


def with_swapped_options(questions: pa.Table, swapped: ArrayLike) -> pa.Table:
    """Questions of which some show the options of their poles in each other's place.

    Args:
        questions: N rows; of the columns, `question_id`, `prompt`, `option_a`, `option_b` and `option_c` are read.
        swapped: Boolean (n,).

    Returns:
        The table with other `prompt`, `option_a` and `option_b` in the rows of `swapped`, so that an answer 0 there means
        pole B and 1 pole A; `pole_a` and `pole_b` stay.

    Raises:
        ValueError: A prompt whose options cannot be swapped, see `check_swappable`.
    """
    rows: NDArray[np.int64] = np.flatnonzero(np.asarray(swapped, dtype=np.bool_))
    if not len(rows):
        return questions
    names = ("question_id", "prompt", "option_a", "option_b", "option_c")
    ids, prompts, *options = (questions[name].take(pa.array(rows)).to_pylist() for name in names)
    triples = list(zip(*options, strict=True))
    check_swappable(ids, prompts, triples)
    mask = pa.array(np.asarray(swapped, dtype=np.bool_))
    shown = {
        # Arrow has no replacement whose pattern is a column; what is swapped is a loop over texts.
        "prompt": list(map(swapped_prompt, prompts, triples)),
        "option_a": options[1],
        "option_b": options[0],
    }
    for name, texts in shown.items():
        column = questions[name].combine_chunks()
        place = questions.column_names.index(name)
        replaced = pc.replace_with_mask(column, mask, pa.array(texts, column.type))
        questions = questions.set_column(place, questions.schema.field(name), replaced)
    return questions


def check_swappable(ids: Sequence[str], prompts: Sequence[str], options: Sequence[tuple[str, str, str]]) -> None:
    """Check that questions can be shown with the options of their poles in each other's place.

    Args:
        ids: N question ids, for messages.
        prompts: N prompts.
        options: N triples, as the prompts show them.

    Raises:
        ValueError: A prompt does not show its options as lines one after the other, once, or A and B read the same.
    """
    for question_id, prompt, shown in zip(ids, prompts, options, strict=True):
        times = prompt.count(_option_block(shown))
        if times != 1:
            raise ValueError(
                "A prompt must show its options once, as the lines 'A. ...', 'B. ...' and 'C. ...' one after the other, to "
                f"be asked in both orders; got them {times} times in that of question {question_id!r}. Write the prompt so, "
                "or keep the options in the order in which they are written."
            )
        if shown[0] == shown[1]:
            raise ValueError(
                "Options A and B must differ to be asked in both orders; got the same text twice in question "
                f"{question_id!r}. Mend the question, or keep the options in the order in which they are written."
            )


def _option_block(options: Sequence[str]) -> str:
    return "\n".join(f"{letter}. {text}" for letter, text in zip(OPTION_LETTERS, options, strict=True))
