"""The manifest of a run: what was asked for, in a file to read, and what has changed since the last time."""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from fairpp_hf import __version__
from fairpp_hf.personas import PersonaSet
from fairpp_hf.provenance import OUR_LICENCE, Provenance
from fairpp_hf.respondents.base import Respondent
from fairpp_hf.runs.layout import MANIFEST, write_whole
from fairpp_hf.runs.shards import Shard

FORMAT_VERSION = 3
ASKED_COLUMNS = ("question_id", "prompt", "option_a", "option_b", "option_c")
"""The columns of a question table that decide a request."""


def new_manifest(
    respondent: Respondent,
    personas: PersonaSet,
    questions: pa.Table,
    *,
    samples: int,
    swap: bool,
    selection: Mapping[str, Any],
    shard: Shard | None,
    requests_digest: str,
    run_key: str,
    servers: Mapping[str, str],
    ways: Mapping[str, Any],
) -> dict[str, Any]:
    """A manifest, without the time of its creation.

    Args:
        respondent: Whoever answers.
        personas: Whom it plays.
        questions: What is asked, with the columns `ASKED_COLUMNS`.
        samples: How often the same is asked.
        swap: Whether each question is asked in both orders of its options.
        selection: How the questions were chosen, such as `{"split": "test", "limit": 100}`.
        shard: The part of the requests that this run asks; None for all.
        requests_digest: Digest over the keys of all requests.
        run_key: `Journal.run_key`, which the journal has as well, and may lose to damage.
        servers: Name of a respondent to the address that it last asked. It is no part of a reply's key, since several
            addresses may serve one model.
        ways: `ways_key` of a respondent to the ways in which its servers are asked, by address: what was settled, which is
            no part of a reply's key either.
    """
    # Anything with ids and portraits can be asked. Only a whole set can be recorded, which is worth it: a name alone may
    # mean another set elsewhere, or later.
    persona_set = personas.as_dict() if isinstance(personas, PersonaSet) else None
    provenance = Provenance("model", (respondent.name,), licence=OUR_LICENCE, persona_set=persona_set)
    digests = {persona.id: hashlib.sha256(persona.portrait.encode()).hexdigest() for persona in personas}
    return {
        "format_version": FORMAT_VERSION,
        "package_version": __version__,
        "run_key": run_key,
        "respondent": {"name": respondent.name, "settings": dict(respondent.settings)},
        "provenance": json.loads(json.dumps(provenance.to_dict())),
        "personas": {"set": personas.id, "portraits": digests},
        "questions": {
            "count": len(questions),
            "digest": questions_digest(questions),
            "selection": dict(selection),
        },
        "requests": {"count": len(questions) * len(digests) * samples * (1 + swap), "digest": requests_digest},
        "samples": samples,
        "swap": swap,
        "shard": None if shard is None else str(shard),
        "servers": dict(servers),
        "ways": dict(ways),
    }


def questions_digest(questions: pa.Table) -> str:
    """SHA-256 over ids, prompts and options, in the order of the rows."""
    digest = hashlib.sha256()
    for name in ASKED_COLUMNS:
        digest.update(json.dumps(questions[name].to_pylist(), separators=(",", ":")).encode())
    return digest.hexdigest()


def ways_key(respondent: str, settings: Mapping[str, Any]) -> str:
    """Key of a respondent in a manifest's `ways`: name and settings, because what a server takes changes with them."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    return f"{respondent}, settings {digest[:8]}"


def ways_in(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Address to how it is asked, as far as it has settled, of the respondent and the settings that a run has now."""
    respondent = manifest["respondent"]
    return dict(manifest["ways"].get(ways_key(respondent["name"], respondent["settings"]), {}))


def provenance_of(manifest: Mapping[str, Any]) -> Provenance:
    """Where a run's answers come from, without what only its journal knows."""
    return Provenance.from_dict(manifest["provenance"], MANIFEST)


def write_manifest(run: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest whole or not at all."""
    stamped = {**manifest, "written": datetime.now(UTC).isoformat(timespec="seconds")}
    text = json.dumps(stamped, indent=2) + "\n"
    write_whole(run / MANIFEST, lambda path: path.write_text(text, "utf-8"))


def read_manifest(run: Path) -> dict[str, Any] | None:
    """The manifest of a run, or None where there is none.

    Raises:
        ValueError: It is unreadable, or of another format.
    """
    path = run / MANIFEST
    try:
        manifest = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(
            f"A manifest must be JSON; got {error} at {path}. Remove the file and continue the run: the journal has the "
            "replies."
        ) from error
    found = manifest.get("format_version") if isinstance(manifest, dict) else None
    if found != FORMAT_VERSION:
        raise ValueError(
            f"A manifest's format_version must be {FORMAT_VERSION}; got {found!r} at {path}. "
            "Use the version of fairpp_hf that wrote the run."
        )
    return dict(manifest)


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What a run asks for now that it did not before, in words, one phrase a difference."""
    found: list[str] = []

    def compare(what: str, before: Any, after: Any) -> None:
        if before != after:
            found.append(f"{what} {before!r} -> {after!r}")

    before, after = old["respondent"], new["respondent"]
    compare("respondent", before["name"], after["name"])
    for name in sorted({*before["settings"], *after["settings"]}):
        compare(name, before["settings"].get(name), after["settings"].get(name))
    compare("persona set", old["personas"]["set"], new["personas"]["set"])
    before, after = old["personas"]["portraits"], new["personas"]["portraits"]
    for what, personas in (
        ("new personas", [p for p in after if p not in before]),
        ("personas left out", [p for p in before if p not in after]),
        ("changed portraits", [p for p, digest in after.items() if before.get(p, digest) != digest]),
    ):
        if personas:
            found.append(f"{what}: {', '.join(personas)}")
    for name in ("samples", "swap", "shard"):
        compare(name, old[name], new[name])
    if old["questions"]["digest"] != new["questions"]["digest"]:
        before, after = _described(old["questions"]), _described(new["questions"])
        found.append(f"questions {before} -> {'others' if before == after else after}")
    return found


def _described(questions: Mapping[str, Any]) -> str:
    selection = " ".join(f"{name}={value}" for name, value in questions["selection"].items() if value is not None)
    return f"{questions['count']} ({selection or 'all'})"
