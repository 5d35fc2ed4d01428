"""The manifest of a run: what was asked for, in a file to read, and what has changed since the last time."""

import hashlib
import json
import os
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fairpp_hf import __version__
from fairpp_hf.generation.run_folder import command_for
from fairpp_hf.generation.shards import Shard

FILE_NAME = "manifest.json"
FORMAT_VERSION = 1
_EARLIER: dict[str, Any] = {"samples": 1, "swap": False, "shard": None, "run_key": None, "ways": {}}


def new_manifest(
    *,
    respondent: str,
    settings: Mapping[str, Any],
    persona_set: str,
    persona_record: Mapping[str, Any] | None,
    portraits: Mapping[str, str],
    question_count: int,
    question_digest: str,
    selection: Mapping[str, Any],
    requests_digest: str,
    servers: Mapping[str, str],
    samples: int = 1,
    swap: bool = False,
    shard: Shard | None = None,
    run_key: str | None = None,
    ways: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A manifest, without the time of its creation.

    Args:
        respondent: its name.
        settings: its settings.
        persona_set: id of the set.
        persona_record: the whole set, of `PersonaSet.as_dict`: a name alone may mean another set elsewhere, or later. None
            where only ids and portraits are known.
        portraits: persona id to portrait; the manifest has their digests.
        question_count: how many questions.
        question_digest: of `questions_digest`.
        selection: how the questions were chosen, such as `{"split": "test", "limit": 100}`.
        requests_digest: over the keys of all requests.
        servers: name of a respondent to the address that it last asked. It is no part of a reply's key, since several
            addresses may serve one model.
        samples: how often the same is asked.
        swap: whether each question is asked in both orders of its options.
        shard: the part of the requests that this run asks; None for all.
        run_key: what tells this run from every other, of `Journal.run_key`; None makes one.
        ways: `ways_key` of a respondent to the ways in which its servers are asked, by address. What was settled is no part
            of a reply's key, which has what was asked for; each reply's `detail` has how it was asked.
    """
    return {
        "format_version": FORMAT_VERSION,
        "package_version": __version__,
        "respondent": {"name": respondent, "settings": dict(settings)},
        "personas": {
            "set": persona_set,
            "record": None if persona_record is None else dict(persona_record),
            "portraits": {
                persona: hashlib.sha256(portrait.encode()).hexdigest() for persona, portrait in portraits.items()
            },
        },
        "questions": {"count": question_count, "digest": question_digest, "selection": dict(selection)},
        "requests": {
            "count": question_count * len(portraits) * samples * (2 if swap else 1),
            "digest": requests_digest,
        },
        "samples": samples,
        "swap": swap,
        "shard": None if shard is None else str(shard),
        "run_key": run_key or new_run_key(),
        "servers": dict(servers),
        "ways": dict(ways or {}),
    }


def ways_key(respondent: str, settings: Mapping[str, Any]) -> str:
    """Under what a manifest keeps the ways of a respondent: name and settings, with which what a server takes changes."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    return f"{respondent}, settings {digest[:8]}"


def ways_in(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Address to how it is asked, as far as it has settled, of the respondent and the settings that a run has now."""
    respondent = manifest["respondent"]
    return dict(manifest["ways"].get(ways_key(respondent["name"], respondent["settings"]), {}))


def new_run_key() -> str:
    """What tells a run from every other: 32 hexadecimal digits, by chance."""
    return uuid.uuid4().hex


def write_manifest(run: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest whole or not at all."""
    path = run / FILE_NAME
    scratch = path.with_suffix(".json.new")
    stamped = {**manifest, "written": datetime.now(UTC).isoformat(timespec="seconds")}
    with scratch.open("w", encoding="utf-8") as file:
        json.dump(stamped, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)


def read_manifest(run: Path) -> dict[str, Any] | None:
    """The manifest of a run, or None where there is none.

    One from before there were samples, orders and shards is read as of one sample, one order and all requests; it has
    `run_key` None.

    Raises:
        ValueError: it is unreadable, or of a later format.
    """
    path = run / FILE_NAME
    try:
        manifest = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(
            f"A manifest must be JSON; got {error} at {path}. Remove the file and run `{command_for(run)}` again: "
            "the journal has the replies."
        ) from error
    if not isinstance(manifest, dict) or manifest.get("format_version") != FORMAT_VERSION:
        found = manifest.get("format_version") if isinstance(manifest, dict) else None
        raise ValueError(
            f"A manifest's format_version must be {FORMAT_VERSION}; got {found!r} at {path}. "
            "Use the version of fairpp_hf that wrote the run."
        )
    return {**_EARLIER, **manifest}


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What a run asks for now that it did not before, in words, one phrase a difference."""
    found = []
    before, after = old["respondent"], new["respondent"]
    if before["name"] != after["name"]:
        found.append(f"respondent {before['name']!r} -> {after['name']!r}")
    settings_before, settings_after = before["settings"], after["settings"]
    for name in sorted({*settings_before, *settings_after}):
        if settings_before.get(name) != settings_after.get(name):
            found.append(f"{name} {settings_before.get(name)!r} -> {settings_after.get(name)!r}")
    if old["personas"]["set"] != new["personas"]["set"]:
        found.append(f"persona set {old['personas']['set']!r} -> {new['personas']['set']!r}")
    portraits_before, portraits_after = old["personas"]["portraits"], new["personas"]["portraits"]
    for what, personas in (
        ("new personas", [p for p in portraits_after if p not in portraits_before]),
        ("personas left out", [p for p in portraits_before if p not in portraits_after]),
        (
            "changed portraits",
            [p for p, digest in portraits_after.items() if portraits_before.get(p, digest) != digest],
        ),
    ):
        if personas:
            found.append(f"{what}: {', '.join(personas)}")
    for name in ("samples", "swap", "shard"):
        if old[name] != new[name]:
            found.append(f"{name} {old[name]!r} -> {new[name]!r}")
    questions_before, questions_after = old["questions"], new["questions"]
    if questions_before["digest"] != questions_after["digest"]:
        found.append(f"questions {_described(questions_before)} -> {_described(questions_after)}")
    return found


def _described(questions: Mapping[str, Any]) -> str:
    selection = " ".join(f"{name}={value}" for name, value in questions["selection"].items() if value is not None)
    return f"{questions['count']} ({selection or 'all'})"
