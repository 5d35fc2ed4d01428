"""Makes the scenarios of a run anew from its stories: after a merge, and after an update that checks stories otherwise."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from fairpp_hf.generation.plan import RequestPlan, keys_digest
from fairpp_hf.personas import PersonaSet
from fairpp_hf.personas.persona_set import recorded_personas
from fairpp_hf.questions import load_questions
from fairpp_hf.runs.journal import AskedRequest, Journal
from fairpp_hf.runs.layout import MANIFEST, scenarios_folder, stories_folder
from fairpp_hf.runs.lock import RunLock
from fairpp_hf.runs.manifest import provenance_of, questions_digest, read_manifest, write_manifest
from fairpp_hf.runs.merge import MergeSummary, check_paths, merge_runs, with_progress
from fairpp_hf.runs.records import manifest_of, open_run
from fairpp_hf.runs.shards import parse_shard
from fairpp_hf.scenarios.files import CheckedStories, read_stories, write_checked
from fairpp_hf.scenarios.stories import Names, persona_names


def merge_with_scenarios(
    out: str | Path, runs: Sequence[str | Path], questions: pa.Table | None = None
) -> dict[str, MergeSummary]:
    """Unite runs as `merge_runs` does, and their stories and answers to scenarios likewise.

    Args:
        out: Directory of the run that has all, new or of an earlier merge; none of `runs`.
        runs: Directories that `generate` or `tell_and_answer` has written.
        questions: Questions that the runs' stories tell; those of `load_questions()` by default.

    Returns:
        What was united to `MergeSummary`: `replies`, `stories` and `answers to scenarios`, as far as the runs have them.

    Raises:
        FileNotFoundError: One of `runs` is no run and has no scenarios.
        ValueError: As of `merge_runs` and `rebuild_scenarios`; so are RuntimeError and OSError.
    """
    out, inputs = Path(out), [Path(run) for run in runs]
    check_paths(out, inputs)
    kinds: dict[str, Callable[[Path], Path]] = {
        "replies": Path,
        "stories": stories_folder,
        "answers to scenarios": scenarios_folder,
    }
    for run in inputs:
        if not any(read_manifest(folder(run)) for folder in kinds.values()):
            manifest_of(run)  # says what is missing
    found: dict[str, MergeSummary] = {}
    for kind, folder in kinds.items():
        parts = [folder(run) for run in inputs if read_manifest(folder(run)) is not None]
        if parts:
            # Which stories there are to answer differs by shard: each asked those that it had.
            found[kind] = merge_runs(folder(out), parts, same_questions=kind != "answers to scenarios")
    if "stories" in found:
        rebuild_scenarios(out, questions)
    if "answers to scenarios" in found:
        with Journal(scenarios_folder(out), read_only=True) as journal:
            found["answers to scenarios"] = with_progress(found["answers to scenarios"], journal)
    return found


def rebuild_scenarios(run: str | Path, questions: pa.Table | None = None, *, dry_run: bool = False) -> int:
    """Make the table of a run's scenarios, and what its second stage asks, anew from its stories.

    Asks nothing, and changes nothing where the stories that pass are the same as before.

    Args:
        run: A run with stories.
        questions: Those that were told; those of `load_questions()` by default.
        dry_run: Only count.

    Returns:
        How many scenarios there are.

    Raises:
        FileNotFoundError: The run has no stories.
        ValueError: The stories are of other questions, or the manifest of their answers has no persona set.
        RuntimeError: Another process is writing to the scenarios.
    """
    folder, stories = scenarios_folder(Path(run)), stories_folder(Path(run))
    questions = load_questions() if questions is None else questions
    manifest = read_manifest(folder)
    personas = None if manifest is None else _personas_of(manifest, folder / MANIFEST)
    checked = _told_here(stories, questions, persona_names(personas or ()))
    if not dry_run:
        with RunLock(folder):
            write_checked(folder, checked)
            if manifest is not None and personas is not None:
                ask_for(folder, manifest, personas, checked.scenarios)
    return len(checked.scenarios)


def _personas_of(manifest: Mapping[str, Any], where: Path) -> PersonaSet:
    record = provenance_of(manifest).persona_set
    if record is None:
        raise ValueError(
            "The scenarios' manifest must have the whole persona set, to tell what was asked; got only the name "
            f"{manifest['personas']['set']!r} at {where}. Ask the scenarios anew with the persona set."
        )
    return recorded_personas(record, str(where))


def _told_here(stories: Path, questions: pa.Table, names: Names) -> CheckedStories:
    """The stories of a storyteller's run, of its own shard where there is one, checked."""
    with open_run(stories) as (journal, manifest):
        shard = parse_shard(manifest["shard"]) if manifest["shard"] else None
        keys = {request.question_id: request.key for request in journal.requests()}
        known = set(questions["question_id"].to_pylist())
        if unknown := next((question_id for question_id in keys if question_id not in known), None):
            raise ValueError(
                f"Stories must be of these questions; got one of {unknown!r} in {stories}. Pass the questions that were "
                "told as `questions`."
            )
        mine = {question_id: key for question_id, key in keys.items() if shard is None or shard.has(key)}
        return read_stories(journal, questions, mine, names)


def ask_for(folder: Path, manifest: Mapping[str, Any], personas: PersonaSet, scenarios: pa.Table) -> None:
    """Let the run of answers ask for these scenarios, and for nothing where no story passes. Its replies stay."""
    keys: list[str] = []
    requests: Iterable[AskedRequest] = ()
    if len(scenarios):
        plan = RequestPlan(personas, scenarios, samples=manifest["samples"], swap=manifest["swap"])
        keys = plan.keys(manifest["respondent"]["settings"])
        requests = map(plan.asked_at, range(len(keys)), keys)
    digest = keys_digest(keys)
    with Journal(folder) as journal:
        if journal.requests_digest() != digest:
            journal.set_requests(requests, digest)
    # After the journal, as in a run's set-up: readers tell by the digest that this was cut short.
    changed = {
        "questions": {**manifest["questions"], "count": len(scenarios), "digest": questions_digest(scenarios)},
        "requests": {"count": len(keys), "digest": digest},
        "shard": None,
    }
    if any(manifest[name] != value for name, value in changed.items()):
        write_manifest(folder, {**manifest, **changed})
