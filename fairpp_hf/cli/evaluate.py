"""`fairpp evaluate`: where models stand among the personas, plain, role-playing and with adapters, beside baselines."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairpp_hf.cli.scoring import (
    add_questions,
    add_scoring,
    be_quiet,
    check_scoring,
    division_of,
    failures,
    score,
    stopped,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fairpp_hf.dataset.answers import Answers
    from fairpp_hf.dataset.sources import AnswerSource
    from fairpp_hf.evaluation.models import ModelSpec

SUMMARY = "score models and baselines on held-out questions against all personas"

_PLAIN, _ROLE_PLAY = "plain", "role-play"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.description = (
        "Each model is scored as it is, with the target's portrait as system prompt and with each adapter, next to the "
        "majority vote of the other personas and to equal probabilities. Replies are kept in DIR/scores: the same command "
        "again continues where it stopped and scores nothing twice. Several processes share the work under "
        "`accelerate launch -m fairpp_hf evaluate ...`."
    )
    models = parser.add_mutually_exclusive_group(required=True)
    models.add_argument(
        "--model",
        nargs="+",
        metavar="M",
        help="names or paths of causal language models with a chat template; with --base-url, the server's names",
    )
    models.add_argument(
        "--models", metavar="FILE", help="YAML with the entries to score: name, model, adapter, base_url, persona, ..."
    )
    parser.add_argument(
        "--adapter",
        nargs="+",
        default=[],
        metavar="P",
        help="names or paths of PEFT adapters trained on the one --model",
    )
    parser.add_argument("--target", required=True, help="persona that the models are meant to match")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for scores and results")
    add_questions(parser)
    parser.add_argument(
        "--scenarios", action="store_true", help="ask the scenarios of --answers, a run with some or 'published'"
    )
    parser.add_argument("--no-role-play", action="store_true", help="leave out --model with the target's portrait")
    add_scoring(parser)


def run(arguments: argparse.Namespace) -> int:
    """Check everything, then score each system, then write and print the results.

    Returns:
        0, or 128 + the signal that stopped the scoring.

    Raises:
        ValueError: the arguments do not fit together, or one is out of range.
        RuntimeError: another process writes to a run, a server refuses to go on, or --max-cost is reached.
        OSError: a model or file cannot be found, or a file cannot be written.
    """
    _check_options(arguments)
    from fairpp_hf.dataset.sources import source_personas
    from fairpp_hf.evaluation.baselines import baselines
    from fairpp_hf.evaluation.evaluate import check_references, evaluate_systems, questions_to_score
    from fairpp_hf.evaluation.figures import draw_evaluation
    from fairpp_hf.evaluation.model_scores import is_main_process
    from fairpp_hf.generation import RunInterrupted

    if not is_main_process():
        be_quiet()
    source, answers = _answers(arguments)
    personas = source_personas(source, arguments.personas)
    questions, references = questions_to_score(answers, arguments.split, arguments.limit)
    check_references(references, arguments.target)
    models = _models(arguments)
    if personas is None and any(spec.persona for spec in models):
        raise ValueError(
            f"--personas must name the set behind {arguments.answers!r}, which does not record it; got nothing. "
            "It has the portrait for role-play. Add --personas SET_OR_FILE, or --no-role-play."
        )
    try:
        scores = score(arguments, models, questions, personas)
    except RunInterrupted as interruption:
        print(stopped("evaluate", interruption), file=sys.stderr)
        return 128 + interruption.signal_number
    if not is_main_process():
        return 0
    shares = {persona.id: persona.share for persona in personas or ()}
    evaluation = evaluate_systems(
        [*scores, *baselines(references, shares, arguments.target)],
        questions,
        references,
        arguments.target,
        reference=", ".join(answers.respondents),
        division=division_of(arguments),
        kind="scenarios" if arguments.scenarios else "questions",
        personas=personas,
    )
    files = [*evaluation.write(arguments.out), draw_evaluation(evaluation, arguments.out / "results.png")]
    print(f"\n{evaluation.to_markdown()}\n{evaluation.notes()}")
    print(failures(scores), end="")
    print("Files:", *(f"  {file}" for file in files), sep="\n")
    print(f"Next: fairpp position --out {arguments.out} ..., fairpp report {arguments.out}")
    return 0


def _check_options(arguments: argparse.Namespace) -> None:
    for option in ("adapter", "base_url"):
        if getattr(arguments, option) and arguments.models is not None:
            raise ValueError(
                f"--{option.replace('_', '-')} must come with --model; got --models {arguments.models}. Write it into the "
                "file."
            )
    check_scoring(arguments, models_file=arguments.models is not None)
    if arguments.scenarios and arguments.split != "test":
        raise ValueError(f"--scenarios must come with --split test; got {arguments.split}. There are no others.")


def _answers(arguments: argparse.Namespace) -> "tuple[AnswerSource, Answers]":
    """Whose answers the models are compared with."""
    from fairpp_hf.dataset.sources import load_source, load_source_scenarios, resolve_answers, resolve_scenarios

    answers: Answers | None
    if arguments.scenarios:
        source = resolve_scenarios(arguments.answers, arguments.published_revision)
        answers = load_source_scenarios(source, arguments.personas)
        if answers is None:
            raise ValueError(
                f"--answers must have scenarios for --scenarios; got {arguments.answers!r} without any. Pass a run on which "
                "`fairpp scenarios` was run, or --answers published."
            )
    else:
        source = resolve_answers(arguments.answers, arguments.published_revision)
        answers = load_source(source, arguments.personas)
    return source, answers if arguments.heldout is None else answers.held_out(arguments.heldout)


def _models(arguments: argparse.Namespace) -> "Sequence[ModelSpec]":
    """The entries of --models, or --model as it is, role-playing the target, and with each adapter."""
    from fairpp_hf.evaluation.models import ModelSpec, read_models

    if arguments.models is not None:
        return read_models(arguments.models)
    urls: Any = None if arguments.base_url is None else tuple(arguments.base_url)
    specs = []
    for model in arguments.model:
        name, role_play = _PLAIN, _ROLE_PLAY
        if len(arguments.model) > 1:
            name = Path(model).name
            role_play = f"{name} {_ROLE_PLAY}"
        specs.append(ModelSpec(name, model, base_url=urls))
        if not arguments.no_role_play:
            specs.append(ModelSpec(role_play, model, base_url=urls, persona=arguments.target, before=name))
    for adapter in arguments.adapter:
        name = "adapter" if len(arguments.adapter) == 1 else Path(adapter).name
        specs.append(ModelSpec(name, arguments.model[0], adapter=adapter, before=_PLAIN))
    return specs
