"""The files of a run's folder, the folders of its scenarios, and the errors that continuing a run mends."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
JOURNAL = "journal.sqlite"
LOCK = "run.lock"
LOCK_HOLDER = "run.lock.holder"
"""Who has the lock. A file of its own: on Windows nobody else can read one that is locked."""
BATCHES = "batches"
"""Folder with the files of batches in progress."""
SCENARIOS, STORIES = "scenarios", "stories"
"""Within a run's folder, the run that answers its scenarios; within that one, the run that tells them."""
SCENARIO_TABLE = "scenarios.parquet"
"""What the run that answers scenarios asks."""


class JournalError(OSError):
    """A journal cannot be read or written. Has `run`, if continuing the run with that folder mends it."""

    run: Path | None = None


class RunError(ValueError):
    """A run is not in a state to be read. Has `run`, the folder of the run to continue."""

    def __init__(self, message: str, run: Path) -> None:
        super().__init__(message)
        self.run = run


def scenarios_folder(run: Path) -> Path:
    """The run of the personas' answers to a run's scenarios."""
    return run / SCENARIOS


def stories_folder(run: Path) -> Path:
    """The run of the storyteller's replies of a run's scenarios."""
    return run / SCENARIOS / STORIES


def home_of(run: Path) -> Path:
    """The directory that a user names: of a run itself, or of the run whose answers to scenarios or stories these are.

    Example:
        >>> str(home_of(Path("runs/a"))), str(home_of(Path("runs/a/scenarios/stories")))
        ('runs/a', 'runs/a')
    """
    if run.name == STORIES and run.parent.name == SCENARIOS:
        return run.parent.parent
    # A run may itself be called so: one of scenarios has its stories in it.
    return run.parent if run.name == SCENARIOS and (run / STORIES).is_dir() else run


def command_for(run: Path) -> str:
    """The command that continues a run, its scenarios or their stories, without the options of who is asked what."""
    home = home_of(run)
    return f"fairpp {'generate' if home == run else 'scenarios'} --run {home}"


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file, new or in place of another, whole or not at all; `write` writes it at another path."""
    scratch = path.with_name(f"{path.name}.new")
    write(scratch)
    with scratch.open("rb") as file:
        os.fsync(file.fileno())
    scratch.replace(path)


def check_directory(run: Path) -> None:
    """Check that a run can be in a directory: that it is no file, and holds no other files than a run's."""
    if run.exists() and not run.is_dir():
        raise ValueError(f"run must be a directory; got the file {run}. Pass another run.")
    if run.is_dir():
        names = {path.name for path in run.iterdir()}
        if names and not names & {MANIFEST, JOURNAL, LOCK, LOCK_HOLDER, BATCHES, SCENARIOS, SCENARIO_TABLE, STORIES}:
            raise ValueError(
                f"run must be a new directory or one of an earlier run; got {run}, which holds other files such as "
                f"{min(names)!r}. Pass another run."
            )


def check_journal_exists(run: Path, manifest: dict[str, Any] | None) -> None:
    """Check that a run with a manifest has its journal, so that nothing is bought again in silence."""
    if manifest is not None and not (run / JOURNAL).exists():
        raise lost_journal(run)


def lost_journal(run: Path) -> OSError:
    """The error for a run with a manifest whose journal is gone or empty."""
    return OSError(
        f"A run with a manifest must have its journal; got none, or an empty one, at {run / JOURNAL}. "
        f"Restore it from a copy, or remove {run / MANIFEST} to ask every question again."
    )
