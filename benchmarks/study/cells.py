"""The cells of the study: one training each, or one model as it is, described by all that decides its result."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from base_model import BaseSettings
from methods import METHODS, Budget, Method
from worlds import SIMULATED, WorldSettings

from fairpp_hf.naming import check_name
from fairpp_hf.personas import DEFAULT_PERSONA_SET, load_personas


class Measuring(NamedTuple):
    """How many questions a model is asked at the end, each in both orders."""

    questions: int = 400
    """of the topics that it was trained on"""
    topic_questions: int = 200
    """of the topic that was held out"""
    ordinary: int = 100
    curve_questions: int = 100
    """at each point of a curve"""
    curve_points: int = 16


@dataclass(frozen=True)
class Cell:
    """One training."""

    part: str
    """Of the study: `grid`, or what a sensitivity analysis varies."""
    value: str
    """What it is varied to; empty in the grid."""
    target: str
    method: str
    """Name in `METHODS`."""
    seed: int
    world: WorldSettings
    how: Method
    """The method with what this part of the study changes of it."""
    curve: bool = False
    """Whether it is measured on the way."""


REVISION = 1
"""Of the code that a result depends on: to be raised with each change after which cells must be run again."""


@dataclass(frozen=True)
class StudySettings:
    """A configuration file."""

    name: str
    model: str
    """`"small"`, the model that the study trains from scratch; `"smollm2"`, that of `make demo`; or the path of another."""
    base: BaseSettings
    lora_rank: int | None
    """None to train the whole model."""
    budget: Budget
    measuring: Measuring
    seeds: tuple[int, ...]
    """Of everything but the model: answers, questions to train on and to ask, order of training."""
    grid: dict[str, Any]
    lora_layers: int | None = None
    """How many of the topmost layers have an adapter, which makes the backward pass shorter; None for all."""
    answers: str = SIMULATED
    """See `draw_world`."""
    sensitivity: dict[str, Any] = field(default_factory=dict)

    def digest(self, cell: Cell) -> str:
        """A name for a cell's result, which changes with whatever decides it; parts of the study share what is alike."""
        decides = [REVISION, self.model, self.base, self.lora_rank, self.budget, self.measuring]
        decides += [cell.target, cell.seed, asdict(cell.world), asdict(cell.how)]
        if self.lora_layers is not None:
            decides.append(f"layers {self.lora_layers}")
        if self.answers != SIMULATED:
            decides.append(self.answers)
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]

    def cells(self) -> list[Cell]:
        """All of them, seed by seed, so that whatever is finished is whole for the seeds that are."""
        return [cell for seed in self.seeds for cell in self._of_seed(seed)]

    def _of_seed(self, seed: int) -> Iterator[Cell]:
        curves = self.grid.get("curves", ())
        for target in self.grid["targets"]:
            for name in self.grid["methods"]:
                yield Cell("grid", "", target, name, seed, WorldSettings(), METHODS[name], name in curves)
        for part, wanted in self.sensitivity.items():
            for value in wanted["values"]:
                for target in wanted["targets"]:
                    for name in wanted["methods"]:
                        world, how = varied(wanted.get("of", part), value, METHODS[name])
                        yield Cell(part, str(value), target, name, seed, world, how)


VARIED = ("alpha", "beta", "dpo_beta", "flips", "difference", "sharpness", "learning_rate_factor")


def varied(what: str, value: Any, how: Method) -> tuple[WorldSettings, Method]:
    """The world and the method of a sensitivity analysis at one of its values."""
    if what in ("flips", "difference", "sharpness"):
        return WorldSettings(**{what: float(value)}), how
    return WorldSettings(), replace(how, **{what: float(value)})


def read_settings(path: Path) -> StudySettings:
    """Read a configuration, and check its names.

    Raises:
        ValueError: an unknown field, method, target or part.
    """
    tree: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    for name in tree:
        check_name(f"field of {path.name}", name, StudySettings.__dataclass_fields__)
    grid, sensitivity = tree["grid"], tree.get("sensitivity", {})
    personas = load_personas(DEFAULT_PERSONA_SET).ids
    for part in sensitivity:
        check_name(f"part of sensitivity in {path.name}", sensitivity[part].get("of", part), VARIED)
    for wanted in (grid, *sensitivity.values()):
        if wanted.get("targets", "all") == "all":
            wanted["targets"] = list(personas)
        for target in wanted["targets"]:
            check_name(f"target in {path.name}", target, personas)
        for method in wanted["methods"]:
            check_name(f"method in {path.name}", method, METHODS)
    return StudySettings(
        name=tree["name"],
        model=tree["model"],
        base=_named(BaseSettings, tree.get("base", {}), path),
        lora_rank=tree.get("lora_rank"),
        lora_layers=tree.get("lora_layers"),
        budget=_named(Budget, tree.get("budget", {}), path),
        measuring=_named(Measuring, tree.get("measuring", {}), path),
        seeds=tuple(tree["seeds"]),
        grid=grid,
        answers=tree.get("answers", SIMULATED),
        sensitivity=sensitivity,
    )


def _named(kind: Any, values: Mapping[str, Any], path: Path) -> Any:
    for name in values:
        check_name(f"field of {kind.__name__} in {path.name}", name, kind._fields)
    return kind(**values)
