"""Which rule should score the options: whole lines, lines per token, or letters alone?

    python benchmarks/scoring_rules.py [--questions 40] [--sets 30] [--steps 32] [--small-steps 600]

Four models, each scored once, from which all rules follow (`OptionScores`):

- the small model of `benchmarks/study`, with `--small-steps` steps on lines that the public of two surveys would answer;
- SmolLM2-135M-Instruct as `make demo` unpacks it, which nobody has trained on such questions;
- the same after `--steps` steps of SFT (LoRA, 4 questions a step) on the whole lines that a persona of the survey would
  answer, drawn from its known probabilities;
- the same after as many steps of DPO (soft labels, beta = 1) on whole lines.

What is measured, each question in both orders of its poles:

- on held-out test questions: length gap and position gap, the share of option C (the shortest in every question of Fair-PP),
  and, where a truth is known, the distance to it question by question, that of marginals, and how often it gives the first
  choice;
- *lengthened*: the same questions with one pole's text made longer by words that add nothing, in the prompt and in the line;
  by how much that option's probability changes against a question in which nothing is longer. Nothing but length changes;
- *content-free*: three options of 2, 8 and 24 words drawn at random, each once in each place, so that neither place nor
  content can favour any; the mean probability of the shortest and of the longest, 1/3 each for a rule that length does not
  move.

**Decision: whole lines stay the default, with the length gap beside them.** From the result that is kept (40 questions, one
persona, one seed; intervals are in it):

- Untrained, lines favour the short: length gap +0.31, an option that is lengthened loses 0.20, and of content-free options
  the shortest gets 0.73. Per token it is the other way round: -0.22, +0.17, and the longest gets 0.53. Letters are hardly
  moved (+0.01; 0.38 and 0.28), but go by place (position gap 0.46), which both orders together cancel.
- SFT on lines makes the text after a letter cheap (0.12 to 0.01 nats a token): length gap +0.06, lengthened -0.09. DPO does
  not (0.10): its gap is small on these questions (+0.05, the interval holds 0), and a lengthened option still loses 0.28. A
  small gap is about the options that were asked, and no promise for others.
- DPO changes lines and leaves letters as they were: position gap 0.04 by lines and 0.52 by letters, agreement 0.46 and 0.40.
  By letters, some of what it has learnt would not be seen.
- Nearest to the truth are letters for the small model (0.03; lines 0.11, per token 0.13); for SmolLM2 the intervals of all
  rules overlap after SFT (0.20 to 0.25), and after DPO those of lines and letters do (0.20, 0.18; per token 0.25).

So `--rule letter` suits a model that was not trained on lines, or only by SFT; per token is there to compare with figures of
others.

Prints what it finds; the result is kept in benchmarks/results/, model by model, and the same command goes on where it was
stopped. About half an hour on two busy cores.
"""

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _record import environment, keep
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent / "study"))

from base_model import BaseSettings, base_model_folder
from measures import Shown
from peft import LoraConfig, get_peft_model

from fairpp_hf.demo.small_model import small_model_folder
from fairpp_hf.evaluation.results import as_scores
from fairpp_hf.personas import DEFAULT_PERSONA_SET, PERSONA_SETS, load_personas
from fairpp_hf.questions import load_questions, sample_questions
from fairpp_hf.questions.option_order import with_swapped_options
from fairpp_hf.respondents.survey import all_survey_answers
from fairpp_hf.scoring import OptionScorer, OptionScores
from fairpp_hf.scoring.encoding import SCORING_RULES
from fairpp_hf.scoring.option_scorer import option_scores, shares_of
from fairpp_hf.statistics.biases import length_gap, position_bias
from fairpp_hf.statistics.bootstrap import interval_of_mean
from fairpp_hf.statistics.options import js_distances
from fairpp_hf.statistics.question_sums import clusters_of

PERSONA = "loyal_nationals"
LONGER = ", and this is what it says here, no more and no less than that"
"""Added to an option's text before its full stop."""
WORDS = (2, 8, 24)
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LORA = {"r": 16, "lora_alpha": 32, "layers_to_transform": list(range(20, 30)), "target_modules": PROJECTIONS}
LEARNING_RATE, BATCH = 1e-3, 4


def by_rule(scores: OptionScores) -> dict[str, NDArray[np.float64]]:
    """Probabilities by each rule, (n, 3)."""
    of_lines = {
        rule: option_scores(scores.logprobs, scores.letter_logprobs, scores.tokens, rule).probabilities
        for rule in SCORING_RULES
        if rule != "letter"
    }
    return {**of_lines, "letter": shares_of(scores.letter_logprobs)}


def in_both_orders(values: NDArray[Any]) -> NDArray[Any]:
    """Of rows as `Shown` has them, (2n, 3): (n, 2, 3) with pole A first in both orders."""
    orders = values.reshape(-1, 2, 3).copy()
    orders[:, 1] = orders[:, 1][:, [1, 0, 2]]
    return orders


def of_questions(scorer: OptionScorer, questions: Any, truth: NDArray[np.float64] | None) -> dict[str, Any]:
    """Gaps, the share of C and the distance to the truth by each rule."""
    scores = scorer.score(*Shown.of(questions), progress="questions")
    clusters, found = clusters_of(questions), {}
    lines = {name: in_both_orders(getattr(scores, name)) for name in ("logprobs", "letter_logprobs", "tokens")}
    for rule, shown in by_rule(scores).items():
        orders = in_both_orders(shown)
        system = as_scores(rule, orders, kind="model")._replace(**lines)
        mean = orders.mean(axis=1)
        found[rule] = {
            "length_gap": with_interval(length_gap(system.by_order, system.letter_logprobs, system.tokens, clusters)),
            "position_gap": with_interval(position_bias(orders, orders.argmax(axis=2), clusters)),
            "share_of_c": float(mean[:, 2].mean()),
        }
        if truth is not None:
            found[rule] |= {
                "distance": estimate(js_distances(mean, truth), clusters),
                "marginal_distance": float(js_distances(mean.mean(axis=0), truth.mean(axis=0))),
                "agreement": float(truth[np.arange(len(truth)), mean.argmax(axis=1)].mean()),
            }
    lengths = scores.tokens.reshape(-1, 3)
    per_token = (scores.letter_logprobs - scores.logprobs).sum() / (scores.tokens - 1).sum()
    return {
        "rules": found,
        "tokens": lengths.mean(axis=0).tolist(),
        "shortest_is_c": float((lengths.argmin(axis=1) == 2).mean()),
        "nats_a_token_after_the_letter": float(per_token),
    }


def lengthened(scorer: OptionScorer, questions: Any) -> dict[str, Any]:
    """By each rule, how the probability of a pole's option changes when only its text gets longer."""
    before = Shown.of(questions)
    # Pole A of one question, pole B of the next; what the first order shows as A, the second one shows as B.
    places = [(row // 2 + row) % 2 for row in range(len(before.options))]
    messages, options = [], []
    for place, chat, texts in zip(places, before.messages, before.options, strict=True):
        long = texts[place].removesuffix(".") + LONGER + "."
        prompt, line = chat[-1]["content"], f"{'ABC'[place]}. {texts[place]}"
        if prompt.count(line) != 1:
            raise ValueError(f"A prompt must hold each option's line once; got {prompt.count(line)} of {line!r}.")
        messages.append([{"role": "user", "content": prompt.replace(line, f"{'ABC'[place]}. {long}")}])
        options.append((*texts[:place], long, *texts[place + 1 :]))
    rows, clusters = np.arange(len(places)), clusters_of(questions)
    plain, longer = by_rule(scorer.score(*before)), by_rule(scorer.score(messages, options, progress="lengthened"))
    return {
        rule: {
            "before": float(plain[rule][rows, places].mean()),
            "change": estimate((longer[rule] - plain[rule])[rows, places].reshape(-1, 2).mean(axis=1), clusters),
        }
        for rule in SCORING_RULES
    }


def content_free(scorer: OptionScorer, sets: int) -> dict[str, Any]:
    """By each rule, the mean probability of the shortest and of the longest of options that say nothing."""
    rng = np.random.default_rng(0)
    vocabulary = sorted(
        {word for text in load_questions()["prompt"].to_pylist() for word in re.findall(r"[a-z]+", text)}
    )
    messages, options, ranks = [], [], []
    for _ in range(sets):
        texts = [f"{' '.join(rng.choice(vocabulary, count))}.".capitalize() for count in WORDS]
        for order in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
            shown = tuple(texts[rank] for rank in order)
            lines = "\n".join(f"{letter}. {text}" for letter, text in zip("ABC", shown, strict=True))
            messages.append(
                [{"role": "user", "content": f"Which of these do you choose?\n{lines}\nReply with one option."}]
            )
            options.append(shown)
            ranks.append(order)
    place = np.argsort(ranks, axis=1)
    clusters = np.repeat(np.arange(sets), 3)
    return {
        rule: {
            name: estimate(np.take_along_axis(shown, place, axis=1)[:, rank], clusters)
            for name, rank in (("shortest", 0), ("longest", 2))
        }
        for rule, shown in by_rule(scorer.score(messages, options, progress="content-free")).items()
    }


def estimate(values: NDArray[np.float64], clusters: NDArray[np.int64]) -> dict[str, Any]:
    """A mean and its 95% interval."""
    interval = interval_of_mean(values, clusters, 0)
    return {"mean": float(values.mean()), "interval_95": None if interval is None else list(interval)}


def with_interval(gap: Any) -> dict[str, Any] | None:
    """A gap for JSON."""
    if gap is None:
        return None
    return {"mean": gap.gap, "interval_95": None if gap.interval is None else list(gap.interval)}


def fine_tuned(folder: Path, steps: int, *, by_preference: bool) -> OptionScorer:
    """SmolLM2 trained on whole lines, the token ids that the scorer scores, with the options in either order.

    Args:
        folder: of the model.
        steps: of `BATCH` questions each.
        by_preference: DPO with soft labels, beta = 1: the three pairs of a question's lines, each with the persona's
            probability of one among the two. Otherwise SFT on one drawn answer a question.
    """
    scorer = OptionScorer.from_pretrained(folder, rule="line")
    questions = load_questions("train")
    questions = questions.take(sample_questions(questions, steps * BATCH))
    truth = all_survey_answers(questions, load_personas())[PERSONA].probabilities
    rng = np.random.default_rng(0)
    swapped = rng.integers(0, 2, len(questions)).astype(bool)
    truth[swapped] = truth[swapped][:, [1, 0, 2]]
    answers = (rng.random(len(truth))[:, None] >= truth.cumsum(axis=1)[:, :2]).sum(axis=1)
    shown = with_swapped_options(questions, swapped)
    texts = zip(*(shown[name].to_pylist() for name in ("option_a", "option_b", "option_c")), strict=True)
    encoded = scorer.encode(
        [[{"role": "user", "content": prompt}] for prompt in shown["prompt"].to_pylist()], list(texts)
    )
    torch.manual_seed(0)
    model = get_peft_model(scorer.model, LoraConfig(task_type="CAUSAL_LM", **LORA))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        rows = range(step * BATCH, (step + 1) * BATCH)
        if by_preference:
            whole = [(encoded[row].prompt, reply) for row in rows for reply in encoded[row].replies]
            with torch.no_grad(), model.disable_adapter():
                reference = torch.stack([tokens.sum() for tokens in token_logprobs(model, whole)]).view(-1, 3)
            policy = torch.stack([tokens.sum() for tokens in token_logprobs(model, whole)]).view(-1, 3)
            first, second = [0, 0, 1], [1, 2, 2]
            of_rows = torch.tensor(truth[list(rows)], dtype=torch.float32)
            labels = of_rows[:, first] / (of_rows[:, first] + of_rows[:, second])
            gain = policy - reference
            margins = gain[:, first] - gain[:, second]
            loss = torch.nn.functional.binary_cross_entropy_with_logits(margins, labels)
        else:
            told = [(encoded[row].prompt, encoded[row].replies[answers[row]]) for row in rows]
            loss = -torch.cat(token_logprobs(model, told)).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % 8 == 0:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)
    return OptionScorer(model.merge_and_unload(), scorer.tokenizer, rule="line")


def token_logprobs(model: Any, rows: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]) -> list[torch.Tensor]:
    """Log-probabilities of the tokens of each reply to its prompt."""
    # Rows are padded at their ends, which a causal model does not see.
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(prompt + reply) for prompt, reply in rows], batch_first=True)
    logits = model(input_ids=ids).logits
    return [
        logits[row, len(prompt) - 1 : len(prompt) + len(reply) - 1]
        .log_softmax(-1)
        .gather(1, torch.tensor(reply)[:, None])[:, 0]
        for row, (prompt, reply) in enumerate(rows)
    ]


def public(questions: Any) -> NDArray[np.float64]:
    """The option probabilities of the small model's teachers, by their shares, (n, 3)."""
    shares, answers = [], []
    for name in PERSONA_SETS:
        if name != DEFAULT_PERSONA_SET:
            personas = load_personas(name)
            simulated = all_survey_answers(questions, personas)
            shares += [persona.share for persona in personas]
            answers += [simulated[persona.id].probabilities for persona in personas]
    return np.average(answers, axis=0, weights=shares)


def main() -> None:
    """Score, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("--sets", type=int, default=30)
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--small-steps", type=int, default=600)
    arguments = parser.parse_args()
    questions = load_questions("test")
    questions = questions.take(sample_questions(questions, arguments.questions))
    persona = all_survey_answers(questions, load_personas())[PERSONA].probabilities
    kept = Path(__file__).parent / "results" / "scoring_rules.json"
    setting = {**vars(arguments), "persona": PERSONA}
    result: dict[str, Any] = {}
    if kept.exists() and all((earlier := json.loads(kept.read_text())).get(name) == setting[name] for name in setting):
        result = earlier["models"]

    def small() -> OptionScorer:
        settings = BaseSettings(
            steps=arguments.small_steps,
            text_steps=arguments.small_steps // 6,
            batch_size=24,
            portrait_share=0,
            first_sentence_share=0,
            ordinary_share=0,
        )
        with tempfile.TemporaryDirectory() as scratch:
            return OptionScorer.from_pretrained(base_model_folder(settings, Path(scratch)), rule="line")

    folder = small_model_folder()
    models: dict[str, tuple[Callable[[], OptionScorer], NDArray[np.float64] | None]] = {
        "SmolLM2, DPO": (lambda: fine_tuned(folder, arguments.steps, by_preference=True), persona),
        "SmolLM2": (lambda: OptionScorer.from_pretrained(folder, rule="line"), None),
        "SmolLM2, SFT": (lambda: fine_tuned(folder, arguments.steps, by_preference=False), persona),
        "small model, trained on lines": (small, public(questions)),
    }
    for name, (make, truth) in models.items():
        if name not in result:
            scorer = make()
            result[name] = {"questions": of_questions(scorer, questions, truth)}
            if name != "small model, trained on lines":  # its vocabulary has not these words
                result[name] |= {
                    "lengthened": lengthened(scorer, questions),
                    "content_free": content_free(scorer, arguments.sets),
                }
            keep("scoring_rules", setting | {"models": result} | environment("numpy", "torch", "transformers", "peft"))
        print(f"\n{name}")
        for rule in SCORING_RULES:
            parts = {part: found[rule] for part, found in result[name].items() if part != "questions"}
            print(f"  {rule}: {shown_as(result[name]['questions']['rules'][rule] | parts)}")


def shown_as(value: Any) -> str:
    """Numbers to three digits, in one line."""
    if isinstance(value, dict):
        if "mean" in value:
            interval = value.get("interval_95")
            return f"{value['mean']:+.3f}" + ("" if interval is None else " [{:+.3f}, {:+.3f}]".format(*interval))
        return ", ".join(f"{name} {shown_as(each)}" for name, each in value.items())
    return "none" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    main()
