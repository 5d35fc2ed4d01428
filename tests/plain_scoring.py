"""Questions, and the plainest way to score them: one whole sequence at a time, no cache, no padding, the full softmax."""

import math

import torch

THRIFTY = {"role": "system", "content": "You are thrifty, and wary of what is new."}
GENEROUS = {"role": "system", "content": "You are generous."}


def asks(text):
    return {"role": "user", "content": text}


CHATS = [
    [asks("Which is fairer?")],
    [THRIFTY, asks("Which rule is fairer for people?")],
    [asks("Émile asks: fair? ⚖️")],
    [GENEROUS, asks("Which rule is fairer for elderly people and war refugees, all in all?")],
    [THRIFTY, asks("Which?")],
    [THRIFTY, asks("Which rule is fairer for people? And why?")],
]
OPTIONS = [
    ("equal", "what each has earned, and a good deal more", "neither"),
    ("the rule", "the need", "none of them"),
    ("a", "b", "c"),
    ("what the law says", "what custom says", "neither of the two"),
    ("an equal share for each of them", "a", "neither"),
    ("the rule", "the need", "none of them"),
]


def plain_logprob(model, tokenizer, chat, reply, *, closed):
    """Sum of log p(token | all before), from a forward pass over the whole text."""
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    start = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    text = prompt + reply + ("<|end|>" if closed else "")
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0][-len(ids) :]
    logp = torch.log_softmax(logits.double(), dim=-1)
    return sum(logp[position - 1, ids[position]].item() for position in range(start, len(ids)))


def plain_logprobs(model, tokenizer, chats=CHATS, options=OPTIONS, rule="line"):
    """(n, 3), one option after the other."""
    line = rule != "letter"
    return [
        [
            plain_logprob(model, tokenizer, chat, f"{letter}. {text}" if line else letter, closed=line)
            for letter, text in zip("ABC", texts, strict=True)
        ]
        for chat, texts in zip(chats, options, strict=True)
    ]


def plain_probabilities(model, tokenizer, chats=CHATS, options=OPTIONS, rule="line"):
    """(n, 3): the softmax of lines' log-probabilities, or of their means over tokens times the question's mean length."""
    rows = []
    for chat, texts, logprobs in zip(
        chats, options, plain_logprobs(model, tokenizer, chats, options, rule), strict=True
    ):
        tokens = [1, 1, 1]
        if rule == "per_token":
            start = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
            lines = [f"{letter}. {text}<|end|>" for letter, text in zip("ABC", texts, strict=True)]
            tokens = [len(tokenizer.encode(start + line)) - len(tokenizer.encode(start)) for line in lines]
        scores = [logprob / count * sum(tokens) / 3 for logprob, count in zip(logprobs, tokens, strict=True)]
        powers = [math.exp(score - max(scores)) for score in scores]
        rows.append([power / sum(powers) for power in powers])
    return rows
