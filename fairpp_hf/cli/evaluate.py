"""`fairpp evaluate`: where models stand among the personas, plain, role-playing and with adapters, beside baselines."""

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from fairpp_hf.cli.scoring import (
    NAME_IN_FILE,
    add_scoring,
    check_scoring,
    check_use,
    division_of,
    load_scored,
    same_questions,
    say_files,
    score,
    short_names,
)
from fairpp_hf.cli.terminal import print_results

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fairpp_hf.evaluation.models import ModelSpec

SUMMARY = "score models and baselines on held-out questions against all personas"

ENTRIES = "models.yaml"
"""What was scored, as `--models` reads it."""

_EXPLAIN = (
    "Skill above 0 is nearer to the target than a constant answer. `--explain` says what the columns are; results.md has "
    "all tables."
)

_PLAIN, _ROLE_PLAY, _ADAPTER = "plain", "role-play", "adapter"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.description = (
        "Each model is scored as it is, with the target's portrait as system prompt and with each adapter, next to "
        "baselines: a constant answer (the target's mean shares), a label model, the majority of the other personas and "
        "equal probabilities. Replies are kept in DIR/scores: the same command "
        "again continues where it stopped and scores nothing twice. Several processes share the work under "
        "`accelerate launch -m fairpp_hf evaluate ...`."
    )
    add_scoring(
        parser,
        parser.add_mutually_exclusive_group(required=True),
        "YAML with the entries to score: name, model, adapter, base_url, persona, ...",
    )
    parser.add_argument("--target", required=True, help="persona that the models are meant to match")
    parser.add_argument(
        "--scenarios", action="store_true", help="ask the scenarios of --answers, a run with some or 'published'"
    )
    parser.add_argument("--no-role-play", action="store_true", help="leave out --model with the target's portrait")


def run(arguments: argparse.Namespace) -> int:
    """Check everything, then score each system, then write and print the results.

    Raises:
        ValueError: The arguments do not fit together, or one is out of range.
        RuntimeError: Another process writes to a run, a server refuses to go on, or --max-cost is reached.
        OSError: A model or file cannot be found, or a file cannot be written.
    """
    _check_options(arguments)
    models = _models(arguments)
    check_use(arguments, models)
    from fairpp_hf.drawing import draw_evaluation
    from fairpp_hf.evaluation.baselines import CONSTANT, FEWEST_ANSWERS
    from fairpp_hf.evaluation.evaluate import check_portraits, check_references, evaluate_models
    from fairpp_hf.evaluation.results_table import notes

    answers, personas, questions, references = load_scored(arguments)
    check_references(references, arguments.target)
    check_portraits(models, personas, arguments.answers, "Add --personas SET_OR_FILE, or --no-role-play.")
    scores = score(arguments, models, questions, personas)
    if not scores:
        return 0
    evaluation = evaluate_models(
        scores,
        answers,
        questions,
        references,
        arguments.target,
        division=division_of(arguments),
        kind="scenarios" if arguments.scenarios else "questions",
        personas=personas,
    )
    entries = _entries(models, arguments.out, arguments.models)
    files = evaluation.write(arguments.out)
    print_results(evaluation)
    if all(system.name != CONSTANT for system in evaluation.systems):
        print(
            f"No skill: the constant and the label model need at least {FEWEST_ANSWERS} answers of {arguments.target} to "
            "other questions."
        )
    print(notes(evaluation) if arguments.explain else _EXPLAIN, flush=True)
    say_files(scores, [*files, draw_evaluation(evaluation, arguments.out / "results.png"), entries])
    print(_next(arguments, entries))
    return 0


def _check_options(arguments: argparse.Namespace) -> None:
    why = {
        "adapter": "Write it into the file",
        "base_url": "Write it into the file",
        "no_role_play": "An entry of the file role-plays where it names a persona. Leave it out",
    }
    for option, fix in why.items():
        if getattr(arguments, option) and arguments.models is not None:
            raise ValueError(
                f"--{option.replace('_', '-')} must come with --model; got --models {arguments.models}. {fix}."
            )
    check_scoring(arguments)
    if arguments.scenarios and arguments.split != "test":
        raise ValueError(f"--scenarios must come with --split test; got {arguments.split}. There are no others.")


def _models(arguments: argparse.Namespace) -> "Sequence[ModelSpec]":
    """The entries of --models, or --model as it is, role-playing the target, and with each adapter."""
    from fairpp_hf.evaluation.baselines import BASELINES
    from fairpp_hf.evaluation.models import ModelSpec, check_names, read_models

    taken = dict.fromkeys(BASELINES, "a baseline")
    if arguments.models is not None:
        models = read_models(arguments.models)
        check_names(models, str(arguments.models), taken=taken)
        return models
    several = len(arguments.model) > 1
    specs = []
    for model, name in zip(arguments.model, short_names(arguments.model, taken) if several else [_PLAIN], strict=True):
        specs.append(ModelSpec(name, model, base_url=arguments.base_url))
        if not arguments.no_role_play:
            role_play = f"{name} {_ROLE_PLAY}" if several else _ROLE_PLAY
            specs.append(
                ModelSpec(role_play, model, base_url=arguments.base_url, persona=arguments.target, before=name)
            )
    several = len(arguments.adapter) > 1
    names = (
        short_names(arguments.adapter, (*taken, _PLAIN, _ROLE_PLAY)) if several else [_ADAPTER] * len(arguments.adapter)
    )
    for adapter, name in zip(arguments.adapter, names, strict=True):
        specs.append(ModelSpec(name, arguments.model[0], adapter=adapter, before=_PLAIN))
    check_names(specs, taken=taken, fix=NAME_IN_FILE)
    return specs


def _entries(models: "Sequence[ModelSpec]", out: Path, own: str | None) -> Path:
    """A file with the entries for `fairpp position`; the user's own where it lies in the same place."""
    from fairpp_hf.evaluation.models import write_models

    path = out / ENTRIES
    return path if own is not None and path.exists() and path.samefile(own) else write_models(models, path)


def _next(arguments: argparse.Namespace, entries: Path) -> str:
    """Commands that go on from here, on the same questions."""
    out = shlex.quote(str(arguments.out))
    commands = [f"fairpp report {out}"]
    # Scenarios are no ground for a map: it is made of the questions.
    if not arguments.scenarios:
        commands.insert(
            0,
            f"fairpp position --models {shlex.quote(str(entries))} --out {out} --target {shlex.quote(arguments.target)} "
            f"{same_questions(arguments)}",
        )
    return "\n".join(["Next:", *(f"  {command.rstrip()}" for command in commands)])
