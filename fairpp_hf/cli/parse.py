"""`fairpp parse`: read the stored replies of a run again, without a call."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fairpp_hf.runs.reparse import ParseSummary

SUMMARY = "read the stored replies of a run again, for nothing"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `fairpp parse`."""
    parser.description = (
        "After an update that reads replies better: answers, statuses and option probabilities are taken anew from the "
        "texts in RUN and its scenarios, and which stories pass the checks. No call is made; replies that failed stay as "
        "they are."
    )
    parser.add_argument("--run", required=True, type=Path, metavar="RUN", dest="run_path", help="folder of the run")
    parser.add_argument("--dry-run", action="store_true", help="say what would change, and change nothing")


def run(arguments: argparse.Namespace) -> int:
    """Read, and say what has changed.

    Raises:
        ValueError: The run's replies have no text that names an option, or its stories are of questions that are none of
            the package's.
        RuntimeError: Another process is writing to the run.
        OSError: It is no run, or its journal cannot be read or written.
    """
    from fairpp_hf.runs.layout import scenarios_folder, stories_folder
    from fairpp_hf.runs.manifest import read_manifest
    from fairpp_hf.runs.reparse import parse_run
    from fairpp_hf.scenarios.files import has_answered_scenarios

    run_path = arguments.run_path
    with_stories = read_manifest(stories_folder(run_path)) is not None
    with_scenarios = has_answered_scenarios(run_path)
    # A run may hold scenarios alone. One that holds nothing is an error of `parse_run`.
    if not (with_stories or with_scenarios) or read_manifest(run_path) is not None:
        print(_report(parse_run(run_path, dry_run=arguments.dry_run), run_path, arguments.dry_run))
    if with_stories:
        # First, since they decide which answers count.
        print(_checked_anew(run_path, arguments.dry_run))
    if with_scenarios:
        folder = scenarios_folder(run_path)
        print(_report(parse_run(folder, dry_run=arguments.dry_run), folder, arguments.dry_run))
    return 0


def _checked_anew(run_path: Path, dry_run: bool) -> str:
    from fairpp_hf.runs.layout import SCENARIO_TABLE, command_for, scenarios_folder, stories_folder
    from fairpp_hf.scenarios.files import story_counts
    from fairpp_hf.scenarios.rebuild import rebuild_scenarios

    folder = stories_folder(run_path)
    has_table = (scenarios_folder(run_path) / SCENARIO_TABLE).is_file()
    before = story_counts(run_path)[0] if has_table else 0
    now = rebuild_scenarios(run_path, dry_run=dry_run)
    line = f"{folder}: {now:,} stories pass the checks, {before:,} before."
    return line if now <= before else f"{line} `{command_for(folder)}` has those answered that are not yet."


def _report(summary: "ParseSummary", folder: Path, dry_run: bool) -> str:
    from fairpp_hf.runs.layout import command_for
    from fairpp_hf.text_table import in_columns

    changed = sum(summary.changed.values())
    verb = "would change" if dry_run else "changed"
    lines = [
        f"{folder}: {summary.read:,} replies read, {changed:,} {verb}, {summary.left_alone:,} without a text to read."
    ]
    for (before, now), count in summary.changed.items():
        lines.append(f"  {before} -> {now if now != before else f'{now}, with other probabilities'}: {count:,}")
    if changed:
        labels = sorted({*summary.before, *summary.now}, key=lambda label: (not label.startswith("ok"), label))
        rows = [(label, f"{summary.before.get(label, 0):,}", f"{summary.now.get(label, 0):,}") for label in labels]
        lines += [f"  {line}" for line in in_columns([("read as", "before", "now"), *rows]).splitlines()]
    if summary.damaged:
        lines.append(f"  {summary.damaged:,} damaged records: `{command_for(folder)}` asks them again.")
    return "\n".join(lines)
