"""What a benchmark's result is kept with: the machine, the versions, the commit."""

import json
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def environment(*packages: str) -> dict[str, Any]:
    """The machine, the versions of Python and of the packages, and the commit, marked -dirty where files differ from it.

    Args:
        packages: names of installed packages.

    Returns:
        `machine`, `versions` and `commit`, ready for JSON. `commit` is None outside of a git checkout.
    """
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
        cwd=HERE,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {name: version(name) for name in packages} | {"python": platform.python_version()},
        "commit": described.stdout.strip() or None,
    }


def keep(name: str, result: dict[str, Any]) -> Path:
    """Write a result to benchmarks/results/<name>.json, say so, and return the path."""
    kept = HERE / "results" / f"{name}.json"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text(json.dumps(result, indent=2) + "\n")
    print(f"Kept in {kept}")
    return kept
