"""The cells of the study: one training each, or one model as it is, described by all that decides its result."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from base_model import BaseSettings
from methods import METHODS, Budget
from worlds import SIMULATED, WorldSettings

from fairpp_hf.naming import check_name
from fairpp_hf.personas import DEFAULT_PERSONA_SET, load_personas


class Measuring(NamedTuple):
    """How many questions a model is asked at the end, each in both orders."""

    questions: int = 200
    """of the topics and the groups that it was trained on"""
    topic_questions: int = 60
    """of the topic that was held out"""
    group_questions: int = 60
    """of the groups that were held out"""
    ordinary: int = 90


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
    budget: Budget


REVISION = 2
"""Of the code that a result depends on: to be raised with each change after which cells must be run again."""


@dataclass(frozen=True)
class StudySettings:
    """A configuration file."""

    name: str
    model: str
    """`"small"`, the model that the study trains from scratch; `"smollm2"`, that of `make demo`; `"gemma3"`, see `gemma`; or
    the path of another."""
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
    bf16: bool = False
    """Whether forward and backward are computed in 16 bits."""
    answers: str = SIMULATED
    """See `draw_world`."""
    parts: dict[str, Any] = field(default_factory=dict)
    """What else is run, by name: `targets`, `methods`, and of what is varied (`of`, by default the name) its `values`."""

    def digest(self, cell: Cell) -> str:
        """A name for a cell's result, which changes with whatever decides it; parts of the study share what is alike."""
        decides = [REVISION, self.model, self.base, self.lora_rank, self.lora_layers, self.bf16, self.answers]
        how = METHODS[cell.method]
        # What a method leaves at its default does not count, so that a new field leaves old results valid.
        given = {
            field.name: getattr(how, field.name) for field in fields(how) if getattr(how, field.name) != field.default
        }
        decides += [self.measuring, cell.budget, cell.target, cell.seed, asdict(cell.world), given]
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]

    def cells(self) -> list[Cell]:
        """All of them, seed by seed and target by target, so that whatever is finished is whole for those that are."""
        return sorted(self._all(), key=lambda cell: self.seeds.index(cell.seed))

    def _all(self) -> Iterator[Cell]:
        for part, wanted in {"grid": self.grid, **self.parts}.items():
            for value in wanted.get("values", ("",)):
                world, budget = varied(wanted.get("of", part), value, self.budget)
                for target in wanted["targets"]:
                    for name in wanted["methods"]:
                        for seed in wanted.get("seeds", self.seeds):
                            yield Cell(part, str(value), target, name, seed, world, budget)


VARIED = ("flips", "visits", "learning_rate")


def varied(what: str, value: Any, budget: Budget) -> tuple[WorldSettings, Budget]:
    """The world and the budget of a part of the study at one of its values."""
    if what == "flips":
        return WorldSettings(flips=float(value)), budget
    if what == "visits":
        return WorldSettings(), budget._replace(visits=int(value))
    if what == "learning_rate":
        rates = {name: float(value) for name in budget._fields if name.endswith("learning_rate")}
        return WorldSettings(), budget._replace(**rates)
    return WorldSettings(), budget


def read_settings(path: Path) -> StudySettings:
    """Read a configuration, and check its names.

    Raises:
        ValueError: an unknown field, method, target or part.
    """
    tree: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    for name in tree:
        check_name(f"field of {path.name}", name, StudySettings.__dataclass_fields__)
    grid, parts = tree["grid"], tree.get("parts", {})
    personas = load_personas(DEFAULT_PERSONA_SET).ids
    for part, wanted in parts.items():
        if "values" in wanted:
            check_name(f"what {path.name} varies", wanted.get("of", part), VARIED)
    for wanted in (grid, *parts.values()):
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
        parts=parts,
        bf16=tree.get("bf16", False),
    )


def _named(kind: Any, values: Mapping[str, Any], path: Path) -> Any:
    for name in values:
        check_name(f"field of {kind.__name__} in {path.name}", name, kind._fields)
    return kind(**values)
