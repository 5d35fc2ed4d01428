"""The parts of a run's folder, and which command continues one: messages name it, so that a user can copy it."""

from pathlib import Path

SCENARIOS, STORIES = "scenarios", "stories"
"""In a run's folder, the run that answers its scenarios; in that one, the run that tells them."""

BATCHES = "batches"
"""In a run's folder: files of batches in progress, and paid replies that the run does not ask for now."""

SCENARIO_TABLE = "scenarios.parquet"
"""In the folder of the run that answers scenarios: what it asks."""


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
    """The command that continues a run, without the options of who is asked what.

    Args:
        run: the directory of a run, of a run's scenarios or of their stories.
    """
    home = home_of(run)
    return f"fairpp {'generate' if home == run else 'scenarios'} --run {home}"
