"""Which models are scored: entries of a models file or of the command line, checked before anything is loaded.

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

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from fairpp_hf.naming import check_name, nearest


@dataclass(frozen=True)
class ModelSpec:
    """A model as it is scored: plain, role-playing a persona, or with an adapter.

    Attributes:
        name: what it is called in tables and pictures; unique.
        model: Hub name or path of a causal language model; with `base_url`, the server's name for it.
        adapter: Hub name or path of a PEFT adapter trained on it.
        base_url: a server with the OpenAI API, such as `http://localhost:8000/v1`, or several that serve the same model;
            None for a model that is loaded here.
        revision: branch, tag or commit of the model on the Hub.
        region: where it comes from, for the map.
        persona: id of the persona whose portrait is its system prompt; None for no system prompt.
        before: name of the entry that it is compared with, and that an arrow on the map starts from.
    """

    name: str
    model: str
    adapter: str | None = None
    base_url: str | tuple[str, ...] | None = None
    revision: str | None = None
    region: str | None = None
    persona: str | None = None
    before: str | None = None

    def __post_init__(self) -> None:
        """Check what one entry can say about itself.

        Raises:
            ValueError: an empty name or model, or `adapter` or `revision` beside `base_url`.
        """
        if not self.name.strip():
            raise ValueError(f"name must not be empty; got {self.name!r} for the model {self.model!r}. Name it.")
        if not self.model.strip():
            raise ValueError(f"model must not be empty; got {self.model!r} at {self.name!r}. Name one.")
        for field in ("adapter", "revision"):
            if self.base_url is not None and getattr(self, field) is not None:
                raise ValueError(
                    f"{field} must be given for a model that is loaded here; got {getattr(self, field)!r} beside base_url "
                    f"{self.base_url!r} at {self.name!r}. A server decides itself what it serves. Leave one of them out."
                )


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


def check_names(models: Sequence[ModelSpec], where: str) -> None:
    """Check that models have names of their own, and that each `before` is one of them.

    Args:
        models: at least one.
        where: origin of the models, for error messages.

    Raises:
        ValueError: it is not so.
    """
    if not models:
        raise ValueError(f"At least one model must be scored; got none at {where}. Name one.")
    names = [spec.name for spec in models]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise ValueError(f"The name of a model must be unique; got {name!r} twice at {where}. Rename one.")
    for spec in models:
        if spec.before is not None:
            check_name(f"before of {spec.name!r}", spec.before, [name for name in names if name != spec.name])


def _entry(entry: Any, where: str) -> ModelSpec:
    if not isinstance(entry, dict):
        raise ValueError(
            f"A model must be a mapping; got {_shown(entry)} at {where}. Write `- {{name: ..., model: ...}}`."
        )
    for key, value in entry.items():
        if key not in _FIELDS:
            close = nearest(str(key), [field for field in _FIELDS if field not in entry])
            fix = f"Did you mean {close!r}?" if close else "Remove it."
            raise ValueError(f"A field of a model must be one of {', '.join(_FIELDS)}; got {key!r} at {where}. {fix}")
        several = key == "base_url" and isinstance(value, list) and value and all(isinstance(url, str) for url in value)
        if not (isinstance(value, str) or several):
            raise ValueError(
                f"{key} must be a text; got {_shown(value)} at {where}. Put it in quotes, or leave it out."
            )
    for key in ("name", "model"):
        if key not in entry:
            raise ValueError(
                f"A model must have the field {key!r}; got {', '.join(entry) or 'none'} at {where}. Add it."
            )
    urls = entry.get("base_url")
    try:
        return ModelSpec(**{**entry, "base_url": tuple(urls) if isinstance(urls, list) else urls})
    except ValueError as error:
        raise ValueError(f"{error} ({where})") from error


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
