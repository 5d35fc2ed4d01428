"""Which command continues a run: messages name it, so that a user can copy it."""

from pathlib import Path

_SCENARIOS, _STORIES = "scenarios", "stories"


def home_of(run: Path) -> Path:
    """The directory that a user names: of a run itself, or of the run whose answers to scenarios or stories these are.

    Example:
        >>> str(home_of(Path("runs/a"))), str(home_of(Path("runs/a/scenarios/stories")))
        ('runs/a', 'runs/a')
    """
    if run.name == _STORIES and run.parent.name == _SCENARIOS:
        return run.parent.parent
    # A run may itself be called so: one of scenarios has its stories in it.
    return run.parent if run.name == _SCENARIOS and (run / _STORIES).is_dir() else run


def command_for(run: Path) -> str:
    """The command that continues a run, without the options of who is asked what.

    Args:
        run: the directory of a run, of a run's scenarios or of their stories.
    """
    home = home_of(run)
    return f"fairpp {'generate' if home == run else 'scenarios'} --run {home}"
