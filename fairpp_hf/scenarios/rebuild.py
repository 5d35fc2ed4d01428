"""Makes the scenarios of a run anew from its stories: after a merge, and after an update that checks stories otherwise."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from fairpp_hf.generation.plan import RequestPlan, keys_digest
from fairpp_hf.personas import PersonaSet
from fairpp_hf.personas.persona_set import recorded_personas
from fairpp_hf.questions import load_questions
from fairpp_hf.runs.journal import Journal
from fairpp_hf.runs.layout import MANIFEST, scenarios_folder, stories_folder
from fairpp_hf.runs.lock import RunLock
from fairpp_hf.runs.manifest import provenance_of, questions_digest, read_manifest, write_manifest
from fairpp_hf.runs.shards import parse_shard
from fairpp_hf.scenarios.files import (
    CheckedStories,
    checked_stories,
    write_checked,
)
from fairpp_hf.scenarios.stories import persona_names


def rebuild_scenarios(run: str | Path, questions: pa.Table | None = None, *, dry_run: bool = False) -> int:
    """Make the table of a run's scenarios, and what its second stage asks, anew from its stories.

    For after `merge_runs`, which unites the replies of both stages, and for after an update that checks stories otherwise.
    Asks nothing, and changes nothing where the stories that pass are the same as before.

    Args:
        run: A run with stories.
        questions: Those that were told; those of `load_questions()` by default.
        dry_run: Only count.

    Returns:
        How many scenarios there are.

    Raises:
        FileNotFoundError: The run has no stories.
        ValueError: The stories are of other questions, or other ones pass and the answers' manifest keeps no persona set.
        RuntimeError: Another process is writing to the scenarios.
    """
    run = Path(run)
    folder = scenarios_folder(run)
    questions = load_questions() if questions is None else questions
    manifest = read_manifest(folder)
    recorded = {} if manifest is None else manifest["personas"]
    record = None if manifest is None else provenance_of(manifest).persona_set
    personas = recorded_personas(record, str(folder / MANIFEST)) if record else None
    # Where whole personas are not recorded, their ids are.
    names = persona_names() + tuple((persona, persona) for persona in recorded.get("portraits", ()))
    checked = checked_stories(run, questions, names if personas is None else persona_names(personas))
    checked = checked.only(_asked_here(stories_folder(run)))
    if dry_run:
        return len(checked.scenarios)
    with RunLock(folder):
        if manifest is None:
            write_checked(folder, checked)
        elif not len(checked.scenarios):
            write_checked(folder, checked)
            ask_nothing(folder, manifest, checked)
        else:
            if personas is None and not _asks_for(folder, manifest, checked.scenarios):
                raise _no_personas(manifest, folder)
            write_checked(folder, checked)
            if personas is not None:
                _set_requests(folder, manifest, personas, checked.scenarios)
    return len(checked.scenarios)


def _asked_here(stories: Path) -> list[str]:
    """Ids of the questions whose stories are told here, by the storyteller's manifest."""
    manifest = read_manifest(stories)
    shard = parse_shard(manifest["shard"]) if manifest is not None and manifest["shard"] else None
    with Journal(stories, read_only=True) as journal:
        return [request.question_id for request in journal.requests() if shard is None or shard.has(request.key)]


def _asks_for(folder: Path, manifest: Mapping[str, Any], scenarios: pa.Table) -> bool:
    """Whether the second stage asks for these scenarios already."""
    with Journal(folder, read_only=True) as journal:
        is_set_up = journal.requests_digest() == manifest["requests"]["digest"]
    return is_set_up and questions_digest(scenarios) == manifest["questions"]["digest"]


def ask_nothing(folder: Path, manifest: Mapping[str, Any], checked: CheckedStories) -> None:
    """Let the second stage ask for nothing: no story passes any more. Its replies stay, for when one does."""
    digest = keys_digest(())
    with Journal(folder) as journal:
        journal.set_requests((), digest)
    _write_requests(folder, manifest, checked.scenarios, 0, digest)


def _set_requests(folder: Path, manifest: Mapping[str, Any], personas: PersonaSet, scenarios: pa.Table) -> None:
    """Let the second stage's journal and manifest ask for these scenarios."""
    plan = RequestPlan(personas, scenarios, samples=manifest["samples"], swap=manifest["swap"])
    keys = plan.keys(manifest["respondent"]["settings"])
    digest = keys_digest(keys)
    with Journal(folder) as journal:
        if journal.requests_digest() != digest:
            journal.set_requests((plan.asked_at(position, key) for position, key in enumerate(keys)), digest)
    _write_requests(folder, manifest, plan.questions, len(plan), digest)


def _write_requests(folder: Path, manifest: Mapping[str, Any], questions: pa.Table, count: int, digest: str) -> None:
    # After the journal, as in a run's set-up: readers tell by the digest that this was cut short.
    changed = {
        "questions": {**manifest["questions"], "count": len(questions), "digest": questions_digest(questions)},
        "requests": {"count": count, "digest": digest},
        "shard": None,
    }
    if any(manifest[name] != value for name, value in changed.items()):
        write_manifest(folder, {**manifest, **changed})


def _no_personas(manifest: Mapping[str, Any], folder: Path) -> ValueError:
    return ValueError(
        "The scenarios' manifest must have the whole persona set, since other stories pass now than were answered; got only "
        f"the name {manifest['personas']['set']!r} at {folder / MANIFEST}. Ask the scenarios anew with "
        "the persona set."
    )
