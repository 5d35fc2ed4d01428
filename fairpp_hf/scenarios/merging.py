"""Unites runs together with their scenarios, such as the shards of several machines."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa

from fairpp_hf.runs.journal import Journal
from fairpp_hf.runs.layout import scenarios_folder, stories_folder
from fairpp_hf.runs.manifest import read_manifest
from fairpp_hf.runs.merge import MergeSummary, check_paths, merge_runs, with_progress
from fairpp_hf.runs.records import manifest_of
from fairpp_hf.scenarios.rebuild import rebuild_scenarios


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
        ValueError: As of `merge_runs`; so are RuntimeError and OSError.
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
