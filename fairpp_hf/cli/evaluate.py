"""`fairpp evaluate`: where a model stands among the personas, plain, role-playing and with an adapter."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from fairpp_hf.cli.arguments import add_answers, add_heldout, load_answers_of

if TYPE_CHECKING:
    from fairpp_hf.personas import PersonaSet

SUMMARY = "score a model on held-out questions against all personas"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--model", required=True, help="name or path of a causal language model with a chat template")
    parser.add_argument("--adapter", help="name or path of a PEFT adapter trained on it")
    parser.add_argument("--target", required=True, help="persona that the model is meant to match")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for the results")
    add_answers(parser)
    parser.add_argument("--split", choices=("train", "test"), default="test", help="questions to ask (default: test)")
    add_heldout(parser)
    parser.add_argument("--limit", type=int, metavar="N", help="ask a fixed random sample of N questions")
    parser.add_argument("--no-role-play", action="store_true", help="leave out the model with the target's portrait")
    parser.add_argument("--batch-size", type=int, default=8, help="questions a forward pass (default: 8)")


def run(arguments: argparse.Namespace) -> int:
    """Check everything, then score each system, then write and print the results."""
    from fairpp_hf.dataset.sources import source_personas
    from fairpp_hf.evaluation.evaluate import evaluate_systems, questions_to_score, score_questions
    from fairpp_hf.evaluation.figures import draw_evaluation
    from fairpp_hf.naming import check_name
    from fairpp_hf.questions.heldout import heldout_labels
    from fairpp_hf.schema import NO_ANSWER
    from fairpp_hf.scoring import OptionScorer

    source, answers = load_answers_of(arguments)
    check_name("target", arguments.target, answers.personas)
    questions, references = questions_to_score(answers, arguments.split, arguments.limit)
    if (references[arguments.target] == NO_ANSWER).all():
        raise ValueError(
            f"--target must have answered some of the {len(questions)} questions; {arguments.target!r} has no valid answer. "
            "Ask it again with `fairpp generate`, or raise --limit."
        )
    prompts: dict[str, str | None] = {"plain": None}
    if not arguments.no_role_play:
        prompts["role-play"] = _portrait(arguments, source_personas(source, arguments.personas))
    if arguments.adapter:
        _check_adapter(arguments.adapter)

    scorer = OptionScorer.from_pretrained(arguments.model, batch_size=arguments.batch_size)
    systems = {
        name: score_questions(scorer, questions, system_prompt=prompt, progress=name)
        for name, prompt in prompts.items()
    }
    if arguments.adapter:
        del scorer  # one copy of the model in memory at a time
        adapted = OptionScorer.from_pretrained(
            arguments.model, adapter=arguments.adapter, batch_size=arguments.batch_size
        )
        systems["adapter"] = score_questions(adapted, questions, progress="adapter")

    division = f"{arguments.split} split"
    if arguments.heldout is not None:
        labels = ", ".join(map(str, heldout_labels(arguments.heldout)))
        division += f" with {arguments.heldout} held out of training: {labels}"
    evaluation = evaluate_systems(
        systems, questions, references, arguments.target, ", ".join(answers.respondents), division
    )
    files = [*evaluation.write(arguments.out), draw_evaluation(evaluation, arguments.out / "results.png")]
    print(f"\n{evaluation.to_markdown()}\n{evaluation.notes()}")
    print("Files:", *(f"  {file}" for file in files), sep="\n")
    return 0


def _portrait(arguments: argparse.Namespace, personas: "PersonaSet | None") -> str:
    """The target's portrait, from the set whose personas answered."""
    if personas is None:
        raise ValueError(
            f"--personas must name the set behind {arguments.answers!r}, which does not record it; got nothing. "
            "It has the portrait for role-play. Add --personas SET_OR_FILE, or --no-role-play."
        )
    return personas.get(arguments.target).portrait


def _check_adapter(adapter: str) -> None:
    """Refuse an adapter that cannot be found before hours of scoring."""
    from peft import PeftConfig

    try:
        PeftConfig.from_pretrained(adapter)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"--adapter must be the path or Hub name of a PEFT adapter; got {adapter!r}. {error}"
        ) from error
