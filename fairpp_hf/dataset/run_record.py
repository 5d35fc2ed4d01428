"""What a dataset folder says about the run that its answers come from: who was asked what and how, and how it came out.

It goes where the data goes, so that nothing of the machine is in it: no address, key, path or cost.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from fairpp_hf.runs.database import connect
from fairpp_hf.runs.journal import Journal
from fairpp_hf.runs.layout import JOURNAL, scenarios_folder, stories_folder
from fairpp_hf.runs.manifest import read_manifest
from fairpp_hf.scenarios.files import has_answered_scenarios, story_counts


def run_record(run: Path) -> dict[str, Any] | None:
    """The record of a run as JSON has it, with its scenarios and the stories of these; None where there is neither."""
    record = _of_run(run)
    if not has_answered_scenarios(run):
        return record
    storyteller = _of_run(stories_folder(run))
    if storyteller is not None:
        # Not by status: stories are checked anew whenever the rules have changed.
        storyteller["told"], storyteller["set_aside"] = story_counts(run)
    scenarios = (_of_run(scenarios_folder(run)) or {}) | {"storyteller": storyteller}
    return (record or {}) | {"scenarios": scenarios}


def answered_on(run: Path) -> str | None:
    """UTC dates of a run's first and last reply, joined by a slash where they differ; None where there is no reply."""
    with contextlib.closing(connect(run / JOURNAL, "ro")) as journal:
        first, last = journal.execute(
            "SELECT date(min(created_at), 'unixepoch'), date(max(created_at), 'unixepoch') FROM answered"
        ).fetchone()
    return None if first is None else "/".join(dict.fromkeys((first, last)))


def without_folders(text: str, settings: Mapping[str, Any]) -> str:
    """A respondent's name, or a value of its settings, with the last part alone of each absolute path among the settings.

    A server of one's own may have its model by the path on its disk.

    Example:
        >>> without_folders("openai:/home/me/models/small (simulated)", {"model": "/home/me/models/small"})
        'openai:small (simulated)'
    """
    for value in settings.values():
        if isinstance(value, str) and (shown := _last_part(value)) != value:
            text = text.replace(value, shown)
    return text


def _last_part(text: str) -> str:
    for path in (PurePosixPath(text), PureWindowsPath(text)):
        if path.is_absolute() and path.name:
            return path.name
    return text


def _of_run(run: Path) -> dict[str, Any] | None:
    manifest: Mapping[str, Any] | None = read_manifest(run)
    if manifest is None:
        return None
    with Journal(run, read_only=True) as journal:
        statuses: dict[str, int] = {}
        for counts in journal.counts().values():
            for status, count in counts.items():
                statuses[status] = statuses.get(status, 0) + count
        spent = journal.spending()
        served_model = journal.served_model()
        asked = journal.asked()
    settings = manifest["respondent"]["settings"]
    return {
        "respondent": without_folders(manifest["respondent"]["name"], settings),
        "settings": {name: _last_part(value) if isinstance(value, str) else value for name, value in settings.items()},
        "served_model": None if served_model is None else _last_part(served_model),
        "package_version": manifest["package_version"],
        "samples": manifest["samples"],
        "swap": manifest["swap"],
        "questions": manifest["questions"],
        "statuses": dict(sorted(statuses.items())),
        "asked": asked._asdict(),
        "answered_on": answered_on(run),
        "tokens": {"input": spent.input_tokens, "output": spent.output_tokens},
    }
