"""`fairpp position`: models in the space of the personas, on two maps, with their uncertainty."""

import argparse
import json
import sys
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

from fairpp_hf.cli.scoring import (
    NAME_IN_FILE,
    add_scoring,
    check_scoring,
    check_use,
    division_of,
    load_scored,
    say_files,
    score,
    short_names,
)
from fairpp_hf.cli.terminal import print_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from fairpp_hf.dataset.answers import Answers
    from fairpp_hf.evaluation.models import ModelSpec
    from fairpp_hf.evaluation.positioning import Respondent
    from fairpp_hf.personas import PersonaSet

SUMMARY = "place models among the personas, by principal components and ideal points"

PAPER = "paper"
_EXPLAIN = (
    "Distance: Jensen-Shannon, to the persona nearest by shares. `--explain` says more; positions.md has all tables."
)
_MAJORITY = "Majority of all personas"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.description = (
        "The axes are the personas' alone; models, and the majority of all personas, are projected among them, each with a "
        "95% region. Replies are kept in DIR/scores: in the DIR of `fairpp evaluate`, nothing is scored twice, and the same "
        "command again continues where it stopped."
    )
    add_scoring(
        parser,
        parser,
        "YAML with the models to place: name, model, region, adapter, base_url, before, ...; "
        f"or '{PAPER}' for the six of the paper",
    )
    parser.add_argument(
        "--target",
        metavar="PERSONA",
        help="place as well the constant and the label model of this persona, as baselines",
    )


def run(arguments: argparse.Namespace) -> int:
    """Check everything, then score each model, then place, write and print.

    Raises:
        ValueError: The arguments do not fit together, the personas span no map, or two points have one name.
        RuntimeError: Another process writes to a run, a server refuses to go on, or --max-cost is reached.
        OSError: A model or file cannot be found, or a file cannot be written.
    """
    if not arguments.models and not arguments.model:
        raise ValueError(
            f"A model must be given; got neither --models nor --model. Add --model NAME_OR_PATH, or --models {PAPER}."
        )
    check_scoring(arguments)
    models = _models(arguments)
    check_use(arguments, models)
    from fairpp_hf.drawing import draw_positions
    from fairpp_hf.evaluation.models import check_names
    from fairpp_hf.evaluation.positioning import Respondent, check_anchors, position_respondents
    from fairpp_hf.evaluation.positioning.report import cautions, notes, summary_rows, to_dict, write_positions

    answers, personas, questions, references = load_scored(arguments)
    check_anchors(references.answers, questions)
    anchors = _anchors(references.answers, personas)
    if arguments.target is not None:
        anchors += _baselines(answers, questions, arguments.target)
    kinds = {"majority": "the majority", "persona": "a persona", "baseline": "a baseline"}
    taken = {anchor.name: f"{kinds[anchor.kind]} on the map" for anchor in anchors}
    check_names(models, taken=taken, fix="Rename it in a file, for --models.")
    scores = score(arguments, models, questions, personas)
    if not scores:
        return 0
    placed = [
        Respondent(spec.name, "model", system.probabilities, spec.region, spec.before)
        for spec, system in zip(models, scores, strict=True)
    ]
    positions = position_respondents(
        [*anchors, *placed],
        questions,
        reference=", ".join(answers.respondents),
        division=division_of(arguments),
    )
    written = write_positions(positions, arguments.out)
    written.append(draw_positions(to_dict(positions), arguments.out / "positions.png", _evaluated(arguments.out)))
    print_table(*summary_rows(positions), bold=range(len(anchors), len(positions.points)))
    print(*cautions(positions), notes() if arguments.explain else _EXPLAIN, sep="\n")
    say_files(scores, written)
    return 0


def _evaluated(out: Path) -> list[str]:
    """Names of the systems of an evaluation in the same folder, whose colours the map takes on; none without one."""
    try:
        return list(json.loads((out / "results.json").read_bytes())["systems"])
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _models(arguments: argparse.Namespace) -> "list[ModelSpec]":
    """The entries of --models, then each --model, then --model with each --adapter."""
    from fairpp_hf.evaluation.models import ModelSpec, check_names, read_models

    specs: list[ModelSpec] = []
    if arguments.models == PAPER:
        with as_file(files("fairpp_hf.evaluation.positioning") / "paper_models.yaml") as file:
            specs += read_models(file)
    elif arguments.models is not None:
        specs += read_models(arguments.models)
    names = short_names(arguments.model, [spec.name for spec in specs])
    specs += [
        ModelSpec(name, model, base_url=arguments.base_url) for name, model in zip(names, arguments.model, strict=True)
    ]
    for adapter, name in zip(arguments.adapter, short_names(arguments.adapter), strict=True):
        specs.append(ModelSpec(f"{names[0]} + {name}", arguments.model[0], adapter=adapter, before=names[0]))
    check_names(specs, fix=NAME_IN_FILE)
    return specs


def _anchors(references: "Mapping[str, NDArray[np.integer]]", personas: "PersonaSet | None") -> "list[Respondent]":
    """The personas, and the share-weighted majority vote of them all, where evaluate's baseline leaves out the target."""
    from fairpp_hf.evaluation.baselines import majority_vote
    from fairpp_hf.evaluation.positioning import Respondent
    from fairpp_hf.naming import readable
    from fairpp_hf.statistics.options import option_probabilities

    known = {persona.id: persona for persona in personas or ()}
    anchors = [
        Respondent(known[name].name if name in known else readable(name), "persona", option_probabilities(column))
        for name, column in references.items()
    ]
    shares = {name: known[name].share if name in known else None for name in references}
    return [*anchors, Respondent(_MAJORITY, "majority", majority_vote(references, shares))]


def _baselines(answers: "Answers", questions: "pa.Table", target: str) -> "list[Respondent]":
    """What the target's answers to other questions say about these; where they are too few, none and a line on it."""
    from fairpp_hf.evaluation.baselines import FEWEST_ANSWERS, fitted_baselines
    from fairpp_hf.evaluation.positioning import Respondent

    found = fitted_baselines(answers, questions, target)
    if not found:
        print(
            f"fairpp position: no constant and no label model of {target} are placed. They take at least {FEWEST_ANSWERS} "
            "of its answers to other questions.",
            file=sys.stderr,
        )
    return [Respondent(baseline.name, "baseline", baseline.probabilities) for baseline in found]
