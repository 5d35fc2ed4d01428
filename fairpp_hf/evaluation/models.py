"""Which models are scored: entries of a models file or of the command line, checked before anything is loaded.

A models file:

    models:
    - name: SmolLM2
      model: HuggingFaceTB/SmolLM2-135M-Instruct
      region: North America
    - name: SmolLM2 aligned
      model: HuggingFaceTB/SmolLM2-135M-Instruct
      adapter: outputs/loyal-nationals
      before: SmolLM2
    - name: a served model
      model: name-on-the-server
      base_url: http://localhost:8000/v1
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from fairpp_hf.naming import check_name
from fairpp_hf.respondents.client import public_address


@dataclass(frozen=True)
class ModelSpec:
    """A model as it is scored: plain, role-playing a persona, or with an adapter.

    Attributes:
        name: Name in tables and pictures; unique.
        model: Hub name or path of a causal language model; with `base_url`, the server's name for it.
        adapter: Hub name or path of a PEFT adapter trained on it. Of it and of `model`, `~` is the home folder.
        base_url: A server with the OpenAI API, such as `http://localhost:8000/v1`; None for a model that is loaded here.
        revision: Branch, tag or commit of the model on the Hub.
        region: Region that it comes from, for the map.
        persona: Id of the persona whose portrait is its system prompt; None for no system prompt.
        before: Name of the entry that it is compared with, and that an arrow on the map starts from.
    """

    name: str
    model: str
    adapter: str | None = None
    base_url: str | None = None
    revision: str | None = None
    region: str | None = None
    persona: str | None = None
    before: str | None = None

    def __post_init__(self) -> None:
        """Refuse an empty name or model, and `adapter` or `revision` beside `base_url`."""
        for field in ("name", "model"):
            if not getattr(self, field).strip():
                raise ValueError(
                    f"{field} must not be empty; got {self.name!r} with the model {self.model!r}. Give one."
                )
        for field in ("adapter", "revision"):
            if self.base_url is not None and getattr(self, field) is not None:
                raise ValueError(
                    f"{field} must be given for a model that is loaded here; got {getattr(self, field)!r} beside base_url "
                    f"{self.base_url!r} at {self.name!r}. A server decides itself what it serves. Leave one of them out."
                )
        if self.base_url is None:
            # A shell expands it on a command line, and nobody in a file.
            for field in ("model", "adapter"):
                if (path := getattr(self, field)) is not None and path.startswith("~"):
                    object.__setattr__(self, field, os.path.expanduser(path))


_FIELDS = tuple(field.name for field in fields(ModelSpec))


def read_models(file: str | Path) -> tuple[ModelSpec, ...]:
    """Read a models file: YAML with the list `models`, an entry a model with the fields of `ModelSpec`.

    Paths in it are as on the command line: relative to the working directory.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such YAML, a field is unknown (the message names the nearest) or of the wrong type, names are
            repeated, or `before` names no entry.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"models must be a YAML file; got {str(file)!r}, which is no file. Check the path.")
    try:
        tree = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"A models file must be YAML in UTF-8; got {error} at {path}. Correct it there.") from error
    entries = tree.get("models") if isinstance(tree, dict) and set(tree) == {"models"} else None
    if not isinstance(entries, list) or not entries:
        raise ValueError(
            f"A models file must have the one key 'models' with a list of entries; got {_shown(tree)} at {path}. "
            "Write `models:` and below it `- {name: ..., model: ...}`."
        )
    specs = tuple(_entry(entry, f"entry {number} of {path}") for number, entry in enumerate(entries, 1))
    check_names(specs, str(path))
    return specs


def write_models(models: Sequence[ModelSpec], path: Path) -> Path:
    """Write a models file that `read_models` reads from any working directory: local folders get their whole path.

    Addresses of servers are written without passwords, and with them queries.
    """
    entries = []
    for spec in models:
        entry = {field: value for field, value in asdict(spec).items() if value is not None}
        if spec.base_url is None:
            entry |= {field: absolute(entry[field]) for field in ("model", "adapter") if field in entry}
        else:
            entry["base_url"] = public_address(spec.base_url)
        entries.append(entry)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({"models": entries}, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def absolute(name: str) -> str:
    """The whole path of a local folder, and a Hub name as it is."""
    return os.path.abspath(name) if os.path.isdir(name) else name


def check_names(
    models: Sequence[ModelSpec],
    where: str | None = None,
    *,
    taken: Mapping[str, str] | None = None,
    fix: str = "Rename one.",
) -> None:
    """Check that models have names of their own, and that each `before` is another one of them, without circles.

    Args:
        models: Entries, at least one.
        where: Origin of the models, for error messages.
        taken: Names that something else has, each with what that is, such as `"a baseline"`.
        fix: What to do about a name that is not free.
    """
    place = "" if where is None else f" at {where}"
    if not models:
        raise ValueError(f"At least one model must be scored; got none{place}. Name one.")
    for spec in models:
        if taken and spec.name in taken:
            raise ValueError(
                f"The name of a model must not be that of {taken[spec.name]}; got {spec.name!r}{place}. {fix}"
            )
    check_unique([spec.name for spec in models], "The name of a model", place, fix)
    check_befores({spec.name: spec.before for spec in models}, place)


def check_unique(names: Sequence[str], what: str, place: str, fix: str) -> None:
    """Refuse a name that is there twice."""
    twice = [name for number, name in enumerate(names) if name in names[:number]]
    if twice:
        raise ValueError(f"{what} must be unique; got {twice[0]!r} twice{place}. {fix}")


def check_befores(before: Mapping[str, str | None], place: str = "") -> None:
    """Check that each entry is compared with another one that there is, and none with itself by way of others."""
    for name, other in before.items():
        if other is not None:
            check_name(f"before of {name!r}{place}", other, [each for each in before if each != name])
    for name in before:
        way = [name]
        while (other := before[way[-1]]) is not None and other not in way:
            way.append(other)
        if other == name:
            raise ValueError(
                f"before must lead to an entry without one; got {' before '.join(map(repr, [*way, name][::-1]))}{place}. "
                "Leave it out at one of them."
            )


def _entry(entry: Any, where: str) -> ModelSpec:
    if not isinstance(entry, dict) or not {"name", "model"} <= set(entry):
        raise ValueError(f"A model must have a name and a model; got {_shown(entry)} at {where}. Add them.")
    for key, value in entry.items():
        check_name(f"A field of a model at {where}", str(key), _FIELDS)
        if not isinstance(value, str):
            raise ValueError(
                f"{key} must be a text; got {_shown(value)} at {where}. Put it in quotes, or leave it out."
            )
    try:
        return ModelSpec(**entry)
    except ValueError as error:
        raise ValueError(f"{error} ({where})") from error


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
