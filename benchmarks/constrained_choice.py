"""How far are the option probabilities of a constrained choice from those of free text, on the same model and prompts?

    python benchmarks/constrained_choice.py --base-url http://127.0.0.1:8080/v1 --model NAME [--limit 60]

A server with the OpenAI API that takes both `response_format` and `top_logprobs`, such as llama.cpp's, is asked each of some
test questions in the role of each persona of the default set, twice: for free text, which is the paper's way, and for a
choice that a JSON schema constrains. Both are written as the openai respondent writes them. The probabilities are those of
the letters among the alternatives of the token at which the answer's letter begins, divided by their sum; `mass` is that
sum. The reading here is apart from the package's and as plain as can be.

Prints and keeps, over the pairs with probabilities on both sides: the total variation distance (half the sum of the
absolute differences; 0 to 1), how often the favourite is the same, and the mean probabilities of A, B and C. The result is
kept in benchmarks/results/.
"""

import argparse
import json
import math
import re
import sys
import urllib.request
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from _record import environment, keep

from fairpp_hf.generation.plan import RequestPlan
from fairpp_hf.personas import load_personas
from fairpp_hf.questions import load_questions, sample_questions
from fairpp_hf.respondents import OpenAIRespondent, Request
from fairpp_hf.respondents.ladder import Way

LETTERS = "ABC"
ANSWER = {"text": re.compile(r"\s*([ABC])(?![A-Za-z])"), "choice": re.compile(r'\s*\{\s*"answer"\s*:\s*"([ABC])')}
WAYS = {name: Way(ask=name) for name in ANSWER}


class Choice(NamedTuple):
    """What a reply says."""

    answer: int | None
    """0..2, or None where no letter is where it should be."""
    probabilities: tuple[float, ...] | None
    mass: float | None
    """Of the three letters together, before they are divided by it."""


def read(name: str, completion: dict[str, Any]) -> Choice:
    """The answer and the probabilities of a completion, asked for in the way of that name."""
    choice = completion["choices"][0]
    found = ANSWER[name].match(choice["message"]["content"] or "")
    if not found:
        return Choice(None, None, None)
    answer = LETTERS.index(found[1])
    begin = 0
    for token in (choice.get("logprobs") or {}).get("content") or ():
        # The token that holds the letter; the pieces before it end where it begins.
        if begin <= found.start(1) < begin + len(token["token"]):
            sums = dict.fromkeys(LETTERS, 0.0)
            for top in token["top_logprobs"]:
                letter = top["token"].strip().strip('"{:')
                if letter in sums:
                    sums[letter] += math.exp(top["logprob"])
            mass = sum(sums.values())
            if all(sums.values()):
                return Choice(answer, tuple(sums[letter] / mass for letter in LETTERS), mass)
            return Choice(answer, None, mass)
        begin += len(token["token"])
    return Choice(answer, None, None)


def ask(respondent: OpenAIRespondent, url: str, request: Request, name: str) -> Choice:
    """One request in one way."""
    body = json.dumps(respondent.request_body(request, WAYS[name])).encode()
    sent = urllib.request.Request(f"{url}/chat/completions", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(sent, timeout=600) as response:
        return read(name, json.load(response))


def compare(pairs: list[dict[str, Choice]]) -> dict[str, Any]:
    """The figures of some pairs."""
    both = [pair for pair in pairs if all(choice.probabilities for choice in pair.values())]
    text, choice = (np.array([pair[name].probabilities for pair in both]) for name in ("text", "choice"))
    distance = np.abs(text - choice).sum(axis=1) / 2
    answered = [pair for pair in pairs if all(choice.answer is not None for choice in pair.values())]
    return {
        "pairs": len(pairs),
        "answered": {name: sum(pair[name].answer is not None for pair in pairs) for name in WAYS},
        "with_probabilities": {name: sum(pair[name].probabilities is not None for pair in pairs) for name in WAYS},
        "compared": len(both),
        "total_variation": {
            "mean": float(distance.mean()),
            "median": float(np.median(distance)),
            "p95": float(np.quantile(distance, 0.95)),
            "max": float(distance.max()),
        },
        "same_favourite": float((text.argmax(axis=1) == choice.argmax(axis=1)).mean()),
        "same_answer": {
            "pairs": len(answered),
            "share": sum(pair["text"].answer == pair["choice"].answer for pair in answered) / max(1, len(answered)),
        },
        "mean_probabilities": {"text": text.mean(axis=0).tolist(), "choice": choice.mean(axis=0).tolist()},
        "mean_mass": {name: float(np.mean([pair[name].mass for pair in both])) for name in WAYS},
    }


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--limit", type=int, default=60)
    parser.add_argument("--server", default=None, help="what the server is, in words, for the record")
    arguments = parser.parse_args()
    questions = load_questions("test")
    questions = questions.take(pa.array(sample_questions(questions, arguments.limit)))
    plan = RequestPlan(load_personas(), questions, swap=True)
    respondent = OpenAIRespondent(arguments.model, base_url=arguments.base_url)
    url = arguments.base_url.rstrip("/")
    pairs = []
    for number, request in enumerate(plan):
        pairs.append({name: ask(respondent, url, request, name) for name in WAYS})
        if number % 50 == 49:
            print(f"{number + 1} of {len(plan)}", file=sys.stderr, flush=True)
    result = compare(pairs)
    print(json.dumps(result, indent=2))
    keep(
        "constrained_choice",
        {
            "model": arguments.model,
            "server": arguments.server,
            "questions": arguments.limit,
            "personas": len(plan.portraits),
            "orders": 2,
            **result,
            **environment("openai"),
        },
    )


if __name__ == "__main__":
    main()
