"""The tables of the pipeline: columns, types and the few constants that every room shares.

A stage reads and writes tables with the `Features` declared here, so that each can be used alone.
"""

from datasets import ClassLabel, Features, List, Value

OPTION_LETTERS = ("A", "B", "C")
"""Letters of the options; an answer is an index into this tuple, or -1 where there is no valid answer."""

NO_ANSWER = -1

STATUSES = ("ok", "invalid", "refusal", "empty", "truncated", "failed")
"""How an answer came out: only `ok` has an answer in 0..2; the others are kept apart and never coerced."""

QUESTION_FEATURES = Features(
    {
        "question_id": Value("string"),
        "topic": Value("string"),
        "category": Value("string"),
        "problem": Value("string"),
        "group_type": Value("string"),
        "group": Value("string"),
        "dimension": Value("int64"),
        "pole_a": Value("string"),
        "pole_b": Value("string"),
        "form": Value("string"),
        "question": Value("string"),
        "option_a": Value("string"),
        "option_b": Value("string"),
        "option_c": Value("string"),
        "prompt": Value("string"),
    }
)
"""A row is a question. `dimension` is 1..5, `form` is `criterion` or `explanation`, options carry no letter."""

PREFERENCE_FEATURES = Features(
    {
        **QUESTION_FEATURES,
        "persona": Value("string"),
        "respondent": Value("string"),
        "answer": ClassLabel(names=list(OPTION_LETTERS)),
        "probabilities": List(Value("float32")),
        "status": Value("string"),
    }
)
"""A row is a persona's answer to a question. `probabilities` are over A, B, C and sum to 1, or null."""

RAW_REPLY = "raw_reply"

REPLIED_PREFERENCE_FEATURES = Features({**PREFERENCE_FEATURES, RAW_REPLY: Value("string")})
"""Preferences whose source keeps the replies that the answers were read from; `raw_reply` is null where there is none."""

_MESSAGES = List({"role": Value("string"), "content": Value("string")})

PAIR_FEATURES = Features(
    {
        "prompt": _MESSAGES,
        "chosen": _MESSAGES,
        "rejected": _MESSAGES,
        "weight": Value("float64"),
        "tier": Value("int64"),
        "question_id": Value("string"),
        "persona": Value("string"),
    }
)
"""A row is a preference pair, conversational, ready for TRL. `weight` is not normalised; the trainer does that."""

SOFT_PAIR_FEATURES = Features({**PAIR_FEATURES, "label_probability": Value("float64")})
"""Pairs with soft labels: `label_probability`, in [0, 1], is p(chosen) / (p(chosen) + p(rejected)) by the option
probabilities that training should end at."""
