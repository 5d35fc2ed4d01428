"""Loads persona sets: the shipped ones by name, a user's own by the path of a JSON file of the same form.

    {"title": ..., "publisher": ..., "year": 2020, "country": ..., "sample": ..., "sources": [...],
     "personas": [{"id": "loyal_nationals", "name": "Loyal Nationals", "share": 0.17, "sources": [...],
                   "portrait": "You are ...",
                   "choice": {"positions": {"1": P, ..., "5": P}, "sympathies": {"Gender": P, ...}, "abstention": P}}]}

where P is `{"value": 0.15, "basis": "...", "prior": false}`. Only `choice` may be left out; the survey respondent
needs it, the others do not. Every fault is one error that names the field and the file.
"""

import hashlib
import html
import json
import re
import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from fairpp_hf.naming import check_name, nearest
from fairpp_hf.questions.taxonomy import load_taxonomy

if TYPE_CHECKING:
    import pandas as pd

PERSONA_SETS = ("britains_choice_2020", "seven_segments_2025", "hidden_tribes_2018")
"""Names of the shipped sets."""

DEFAULT_PERSONA_SET = "britains_choice_2020"
"""The published seven, in the order that numbers their columns."""


@dataclass(frozen=True)
class Parameter:
    """A figure of the choice model: its value, what it rests on, and whether it is a prior and not a survey figure."""

    value: float
    basis: str
    prior: bool


@dataclass(frozen=True)
class ChoiceParameters:
    """What the survey respondent needs to know about a persona.

    Attributes:
        positions: Dimension 1..5 -> position in [-1, 1]; -1 is pole A, +1 pole B, 0 the national average.
        sympathies: Group type -> sympathy in [-1, 1]; above 0 favours help for its groups, below 0 resents it.
        abstention: Probability in [0, 1) of choosing neither option where nothing else decides.
    """

    positions: dict[int, Parameter]
    sympathies: dict[str, Parameter]
    abstention: Parameter


@dataclass(frozen=True, repr=False)
class Persona:
    """A segment of a survey.

    Attributes:
        id: Snake_case name, unique in its set.
        name: The segment's name.
        share: Share of the survey's population, in (0, 1].
        portrait: System prompt, in the second person.
        sources: URLs of the facts used.
        choice: Parameters of the survey respondent, or None.
    """

    id: str
    name: str
    share: float
    portrait: str
    sources: tuple[str, ...]
    choice: ChoiceParameters | None

    def __repr__(self) -> str:
        """Who it is, without the portrait."""
        return f"Persona({self.id!r}, share={self.share:g})"


@dataclass(frozen=True, repr=False)
class PersonaSet:
    """The personas of one survey, in their order. Its id is the name of its file without the suffix."""

    id: str
    title: str
    publisher: str
    year: int
    country: str
    sample: str
    sources: tuple[str, ...]
    personas: tuple[Persona, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        """Persona ids, in order."""
        return tuple(persona.id for persona in self.personas)

    @property
    def digest(self) -> str:
        """16 hex digits that change with anything in the set."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]

    def as_dict(self) -> dict[str, Any]:
        """The set in the form of its file, with its id, as JSON gives it back; `recorded_personas` reads it."""
        tree: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        for persona in tree["personas"]:
            if persona["choice"] is None:
                del persona["choice"]
        return tree

    def get(self, persona_id: str) -> Persona:
        """The persona with this id.

        Raises:
            ValueError: There is none; the message names the nearest.
        """
        check_name(f"persona of {self.id}", persona_id, self.ids)
        return self.personas[self.ids.index(persona_id)]

    def to_pandas(self) -> "pd.DataFrame":
        """The personas as a table: `id`, `name`, `share` and `portrait`."""
        import pandas as pd

        columns = ("id", "name", "share", "portrait")
        return pd.DataFrame([[getattr(persona, name) for name in columns] for persona in self], columns=list(columns))

    def __repr__(self) -> str:
        """The set's id and the personas'."""
        return f"PersonaSet({self.id!r}: {', '.join(self.ids)})"

    def _repr_html_(self) -> str:
        """The table, for notebooks, with the beginning of each portrait."""
        table = self.to_pandas()
        table["portrait"] = [textwrap.shorten(portrait, 120, placeholder=" ...") for portrait in table["portrait"]]
        title = html.escape(f"{self.title} ({self.year}, {self.country})")
        return f"<p>{title}</p>{table.to_html(index=False, border=0)}"

    def __iter__(self) -> Iterator[Persona]:
        """The personas, in order."""
        return iter(self.personas)

    def __len__(self) -> int:
        """Number of personas."""
        return len(self.personas)


def load_personas(set_or_file: str | Path = DEFAULT_PERSONA_SET) -> PersonaSet:
    """Load a persona set.

    Args:
        set_or_file: Name of a shipped set (`PERSONA_SETS`), or path of a JSON file of the same form.

    Returns:
        The set, checked in full.

    Raises:
        FileNotFoundError: A path was given and no file is there.
        ValueError: The name is unknown (the message names the nearest), or the file is faulty (the message names the
            field, the file and the fix).

    Example:
        >>> load_personas().ids[:2]
        ('progressive_activists', 'civic_pragmatists')
    """
    path = Path(set_or_file).expanduser()
    if isinstance(set_or_file, Path) or set_or_file not in PERSONA_SETS:
        if path.is_file():
            return _parse(path.read_bytes(), path.stem, str(path))
        if isinstance(set_or_file, Path) or path.suffix == ".json" or len(path.parts) > 1:
            close = nearest(path.stem, PERSONA_SETS)
            hint = f", or give the name {close!r} for the shipped set" if close else ""
            raise FileNotFoundError(
                f"personas must be the name of a shipped set or the path of a JSON file; got {str(path)!r}, which is "
                f"no file. Check the path{hint}."
            )
    return _load_shipped(check_name("personas (a shipped set, or the path of a JSON file)", set_or_file, PERSONA_SETS))


def recorded_personas(tree: Any, where: str) -> PersonaSet:
    """The persona set that `PersonaSet.as_dict` recorded.

    Args:
        tree: Record that it made.
        where: Origin of the record, for error messages.

    Raises:
        ValueError: The record is faulty; the message names the field.
    """
    checker = _Checker(where)
    content = dict(tree) if isinstance(tree, dict) else {}
    set_id = checker.text(content.pop("id", None), "id")
    return checker.persona_set(content, set_id)


@cache
def _load_shipped(name: str) -> PersonaSet:
    return _parse(files(__package__).joinpath(f"{name}.json").read_bytes(), name, f"{name}.json")


def _parse(data: bytes, set_id: str, where: str) -> PersonaSet:
    try:
        tree = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(
            f"a persona set must be UTF-8 text; got byte 0x{data[error.start]:02x} at byte {error.start} of {where}. "
            "Save the file as UTF-8."
        ) from error
    except json.JSONDecodeError as error:
        raise ValueError(
            f"a persona set must be JSON; got {error.msg[0].lower()}{error.msg[1:]} at line {error.lineno}, column "
            f"{error.colno} of {where}. Correct the file there."
        ) from error
    return _Checker(where).persona_set(tree, set_id)


class _Checker:
    """Turns a JSON tree into a `PersonaSet`; the first fault is raised with its field path and the file."""

    def __init__(self, where: str) -> None:
        self.where = where

    def fail(self, path: str, rule: str, got: Any, fix: str) -> NoReturn:
        shown = json.dumps(got, ensure_ascii=False)
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        raise ValueError(f"{path} must {rule}; got {shown} at {self.where}. {fix}")

    def fields(self, tree: Any, path: str, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, Any]:
        """The object at `path`, with all required fields and no unknown ones."""
        if not isinstance(tree, dict):
            self.fail(path or "the file's top level", "be an object", tree, 'Write {"...": ...}.')
        prefix = f"{path}." if path else ""
        for key in tree:
            if key not in required + optional:
                close = nearest(key, [name for name in required + optional if name not in tree])
                fix = f"Did you mean {close!r}?" if close else "Remove it."
                known = ", ".join(required + optional)
                raise ValueError(f"{prefix}{key} must be one of the fields {known}; got {key!r} at {self.where}. {fix}")
        for key in required:
            if key not in tree:
                raise ValueError(f'{prefix}{key} must be given; got no such field at {self.where}. Add "{key}": ... .')
        return tree

    def text(self, tree: Any, path: str) -> str:
        if not isinstance(tree, str) or not tree.strip():
            self.fail(path, "be a text that is not empty", tree, "Write it out between double quotes.")
        return tree

    def number(self, tree: Any, path: str, low: float, high: float, interval: str) -> float:
        """A number in the interval; a square bracket includes its end, a round one does not."""
        valid = isinstance(tree, int | float) and not isinstance(tree, bool) and low <= tree <= high
        if not valid or (interval[0] == "(" and tree == low) or (interval[-1] == ")" and tree == high):
            percent = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", tree) if isinstance(tree, str) else None
            fix = (
                f"Write {float(percent[1]) / 100:g} for {tree.strip()}." if percent else "Write a number such as 0.12."
            )
            self.fail(path, f"be a number in {interval}", tree, fix)
        return float(tree)

    def urls(self, tree: Any, path: str) -> tuple[str, ...]:
        if not isinstance(tree, list):
            self.fail(path, "be a list of texts", tree, 'Write ["https://..."], or [] where there are none.')
        return tuple(self.text(item, f"{path}[{index}]") for index, item in enumerate(tree))

    def persona_set(self, tree: Any, set_id: str) -> PersonaSet:
        tree = self.fields(tree, "", ("title", "publisher", "year", "country", "sample", "sources", "personas"))
        if not isinstance(tree["year"], int) or isinstance(tree["year"], bool):
            self.fail("year", "be a whole number", tree["year"], "Write a year such as 2020.")
        if not isinstance(tree["personas"], list) or len(tree["personas"]) < 2:
            count = len(tree["personas"]) if isinstance(tree["personas"], list) else tree["personas"]
            self.fail("personas", "be a list of at least 2", count, "A target needs someone to differ from.")
        parsed = PersonaSet(
            id=set_id,
            title=self.text(tree["title"], "title"),
            publisher=self.text(tree["publisher"], "publisher"),
            year=tree["year"],
            country=self.text(tree["country"], "country"),
            sample=self.text(tree["sample"], "sample"),
            sources=self.urls(tree["sources"], "sources"),
            personas=tuple(self.persona(item, f"personas[{index}]") for index, item in enumerate(tree["personas"])),
        )
        for index, persona_id in enumerate(parsed.ids):
            first = parsed.ids.index(persona_id)
            if first < index:
                rule = f"be unique, unlike personas[{first}].id"
                self.fail(f"personas[{index}].id", rule, persona_id, "Rename one of them.")
        total = sum(persona.share for persona in parsed)
        if total > 1.01:
            self.fail("the shares of personas", "sum to at most 1.0", round(total, 4), "Divide each share by the sum.")
        return parsed

    def persona(self, tree: Any, path: str) -> Persona:
        tree = self.fields(tree, path, ("id", "name", "share", "sources", "portrait"), ("choice",))
        persona_id = self.text(tree["id"], f"{path}.id")
        if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", persona_id):
            snake = re.sub(r"[^a-z0-9]+", "_", persona_id.lower()).strip("_") or "persona_1"
            snake = snake if snake[0].isalpha() else f"persona_{snake}"
            self.fail(f"{path}.id", "be snake_case (a-z, 0-9, single _)", persona_id, f"Write {snake}.")
        return Persona(
            id=persona_id,
            name=self.text(tree["name"], f"{path}.name"),
            share=self.number(tree["share"], f"{path}.share", 0, 1, "(0, 1]"),
            portrait=self.text(tree["portrait"], f"{path}.portrait"),
            sources=self.urls(tree["sources"], f"{path}.sources"),
            choice=self.choice(tree["choice"], f"{path}.choice") if "choice" in tree else None,
        )

    def choice(self, tree: Any, path: str) -> ChoiceParameters:
        taxonomy = load_taxonomy()
        tree = self.fields(tree, path, ("positions", "sympathies", "abstention"))
        dimensions = tuple(str(dimension.number) for dimension in taxonomy.dimensions)
        group_types = tuple(dict.fromkeys(group.group_type for group in taxonomy.groups))
        positions = self.fields(tree["positions"], f"{path}.positions", dimensions)
        sympathies = self.fields(tree["sympathies"], f"{path}.sympathies", group_types)
        return ChoiceParameters(
            positions={int(key): self.parameter(positions[key], f"{path}.positions.{key}") for key in dimensions},
            sympathies={key: self.parameter(sympathies[key], f"{path}.sympathies.{key}") for key in group_types},
            abstention=self.parameter(tree["abstention"], f"{path}.abstention", 0, "[0, 1)"),
        )

    def parameter(self, tree: Any, path: str, low: float = -1, interval: str = "[-1, 1]") -> Parameter:
        tree = self.fields(tree, path, ("value", "basis", "prior"))
        if not isinstance(tree["prior"], bool):
            self.fail(
                f"{path}.prior", "be true or false", tree["prior"], "Write true where no survey figure bears on it."
            )
        return Parameter(
            value=self.number(tree["value"], f"{path}.value", low, 1, interval),
            basis=self.text(tree["basis"], f"{path}.basis"),
            prior=tree["prior"],
        )
