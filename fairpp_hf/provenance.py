"""Where answers come from and on what terms: one record that travels with every table, folder, card and export."""

import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

Kind = Literal["survey", "model", "published", "human", "unknown"]

SIMULATED = " (simulated)"
"""Ends the name of every respondent that is not a person."""

OUR_LICENCE = "cc-by-4.0"
"""Hub id of the licence of answers made with this package."""

PUBLISHED_LICENCE = "cc-by-nc-sa-4.0"
"""Hub id of the licence of the tables that the paper published; what is derived from them inherits it."""

FOLDER_MANIFEST = "fairpp_build.json"
"""A dataset folder's record of how it was built, with its provenance; folders from elsewhere need none."""

CITATION = """\
@article{zhou2025fairpp,
  title   = {Fair-PP: A Synthetic Dataset for Aligning LLM with Personalized Preferences of Social Equity},
  author  = {Zhou, Qi and Zhang, Jie and Wang, Dongxia and Liu, Qiang and Li, Tianlin and Dong, Jin Song
             and Wang, Wenhai and Guo, Qing},
  journal = {arXiv preprint arXiv:2505.11861},
  year    = {2025}
}"""

_IN_TEXT = "Provenance: "
_ONLY_IN_FILES = ("persona_set", "run")
_TEXTS = {
    # Ids of the Hub, such as cc-by-4.0; anything else would be words of whoever made a folder on the cards made from it.
    "licence": r"[A-Za-z0-9][A-Za-z0-9.+-]{0,63}",
    "source": r"[^\x00-\x1f\x7f]{1,300}",
    "revision": r"[0-9a-f]{40}",
    "created": r"\d{4}-\d\d-\d\d(/\d{4}-\d\d-\d\d)?",
}
"""Pattern of each field that is a text or None."""


@dataclass(frozen=True)
class Provenance:
    """Where answers were first given. Building or exporting from them does not change it."""

    kind: Kind
    """`survey`: a choice model of survey figures; `model`: a language model in the role of each persona; `published`: the
    paper's tables; `human`: people; `unknown`: nobody wrote it down."""
    respondents: tuple[str, ...] = ()
    """The values of the column `respondent`, such as `survey:britains_choice_2020 (simulated)`, sorted."""
    licence: str | None = None
    """Hub id of a licence; None where it is not known."""
    source: str | None = None
    """Hub dataset that was imported, or name of the imported local file."""
    revision: str | None = None
    """Commit of that dataset, 40 hexadecimal digits."""
    created: str | None = None
    """ISO date, or first and last date with a slash between; None where answers are computed, or nobody wrote it down."""
    notes: tuple[str, ...] = ()
    """Sentences on what was counted or left out at import."""
    persona_set: Mapping[str, Any] | None = None
    """`PersonaSet.as_dict()` of the set that the personas belong to; None where it is not known."""
    run: Mapping[str, Any] | None = None
    """`run_record` of the run that asked; None where there was none, or nobody wrote it down."""

    @property
    def simulated(self) -> bool:
        """Whether every respondent is a simulation."""
        return bool(self.respondents) and all(name.endswith(SIMULATED) for name in self.respondents)

    @property
    def line(self) -> str:
        """The respondents and, if there is one, the imported dataset, such as `survey:britains_choice_2020 (simulated)`."""
        names = ", ".join(self.respondents) or "an unknown respondent"
        if self.source is None:
            return names
        return f"{names}, from {self.source}" + (f" at commit {self.revision[:12]}" if self.revision else "")

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON has it, with `simulated`; `from_dict` reads it."""
        return {**asdict(self), "simulated": self.simulated}

    @classmethod
    def from_dict(cls, record: Any, where: str | Path = "the record") -> "Provenance":
        """Read what `to_dict` gave, also by way of JSON; `where` it is, for messages."""
        names = {field.name for field in fields(cls)}
        if (
            not isinstance(record, dict)
            or record.get("kind") not in get_args(Kind)
            or set(record) - {*names, "simulated"}
            or any(
                record.get(name) is not None
                and not (isinstance(record[name], str) and re.fullmatch(pattern, record[name]))
                for name, pattern in _TEXTS.items()
            )
            or any(
                not isinstance(record.get(name, []), list | tuple)
                or not all(isinstance(text, str) for text in record.get(name, []))
                for name in ("respondents", "notes")
            )
            or not all(isinstance(record.get(name) or {}, dict) for name in _ONLY_IN_FILES)
        ):
            raise ValueError(
                f"A provenance must be an object with a kind ({', '.join(get_args(Kind))}) and fields among "
                f"{', '.join(sorted(names))}, a licence by its Hub id and dates by ISO 8601; got "
                f"{json.dumps(record)[:200]} at {where}. Build the folder or export again."
            )
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in record.items()
        }
        values.pop("simulated", None)
        return cls(**values)

    @property
    def text(self) -> str:
        """One line for a dataset's description, which `in_text` finds again; without the persona set and the run."""
        record = {name: value for name, value in self.to_dict().items() if value and name not in _ONLY_IN_FILES}
        return _IN_TEXT + json.dumps(record, ensure_ascii=False)

    @classmethod
    def in_text(cls, text: str) -> "Provenance | None":
        """The provenance in a dataset's description, `info.description`; None where there is none of ours."""
        for line in (text or "").splitlines():
            if line.startswith(_IN_TEXT):
                with contextlib.suppress(ValueError):  # somebody else's words on where their rows come from
                    return cls.from_dict(json.loads(line.removeprefix(_IN_TEXT)))
        return None


UNKNOWN = Provenance("unknown")


def without_provenance(text: str) -> str:
    """A dataset's description without the machine-readable line."""
    return "\n".join(line for line in (text or "").splitlines() if not line.startswith(_IN_TEXT)).strip()


def read_provenance(manifest: Path, key: str = "provenance") -> Provenance:
    """The provenance under a key of a folder's manifest; `UNKNOWN` without one, since folders from elsewhere have none."""
    if not manifest.is_file():
        return UNKNOWN
    try:
        record = json.loads(manifest.read_bytes()).get(key)
    except (ValueError, AttributeError) as error:
        raise ValueError(
            f"A manifest must be a JSON object; got {manifest} ({error!r}). Build the folder or export again."
        ) from error
    return UNKNOWN if record is None else Provenance.from_dict(record, manifest)
