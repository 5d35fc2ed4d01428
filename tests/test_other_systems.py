"""Nothing on the package's paths needs what Windows does not have."""

import ast
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import fairpp_hf

PACKAGE = Path(fairpp_hf.__file__).parent
MODULES = {"fcntl", "grp", "pwd", "readline", "resource", "syslog", "termios", "tty"}
NAMES = {
    "os": {
        *("fork", "forkpty", "getpgid", "getuid", "geteuid", "getgid", "getloadavg", "killpg", "mkfifo"),
        *("O_DIRECTORY", "O_NOFOLLOW", "pread", "pwrite", "sched_getaffinity", "setsid", "statvfs", "uname", "wait"),
    },
    "signal": {"SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGUSR1", "alarm", "setitimer"},
    "socket": {"AF_UNIX"},
    "time": {"tzset"},
}


def posix_alone(file: Path) -> list[str]:
    """What a file uses of POSIX, by line; `getattr(os, name, default)` is how to ask for it."""
    found = []
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        used: list[str] = []
        if isinstance(node, ast.Import):
            used = [alias.name for alias in node.names if alias.name in MODULES]
        elif isinstance(node, ast.ImportFrom):
            used = [node.module] if node.module in MODULES else []
            used += [alias.name for alias in node.names if alias.name in NAMES.get(node.module or "", ())]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            used = [node.attr] if node.attr in NAMES.get(node.value.id, ()) else []
            used += [node.attr] if node.attr == "add_signal_handler" else []
        found += [f"{file.name}:{node.lineno} {name}" for name in used]
    return found


def test_no_module_uses_what_only_posix_has(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(
        "import fcntl\nfrom os import fork\nimport os, signal\nos.getuid(), signal.SIGKILL\n"
    )
    assert {line.split()[1] for line in posix_alone(tmp_path / "bad.py")} == {"fcntl", "fork", "getuid", "SIGKILL"}
    assert [line for file in sorted(PACKAGE.rglob("*.py")) for line in posix_alone(file)] == []


WITHOUT_POSIX = textwrap.dedent(
    """
    import os, signal, sys
    # Others' modules know which system they are on; ours are to need nothing of this one.
    import aiohttp, asyncio, datasets, matplotlib.pyplot, multiprocessing.connection, scipy.stats, subprocess
    for name in ("fcntl", "filelock", "grp", "pwd", "resource", "termios"):
        sys.modules.pop(name, None)
    for name in ("fcntl", "grp", "pwd", "resource", "termios"):
        sys.modules[name] = None
    for name in ("O_NOFOLLOW", "O_DIRECTORY", "getuid", "geteuid", "fork"):
        delattr(os, name)
    for name in ("SIGKILL", "SIGHUP"):
        delattr(signal, name)
    from fairpp_hf.cli import main
    run, folder = sys.argv[1:]
    assert main(["generate", "--run", run, "--respondent", "survey", "--split", "test", "--limit", "20"]) == 0
    assert main(["build", "--run", run, "--out", folder]) == 0
    assert main(["show", "--run", run]) == 0
    """
)


@pytest.mark.slow
def test_a_run_is_made_and_built_without_posix(tmp_path: Path) -> None:
    """And with the letters of a Windows console, which has none for the run's name."""
    words = [sys.executable, "-W", "ignore", "-c", WITHOUT_POSIX, str(tmp_path / "模型"), str(tmp_path / "folder")]
    console = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    done = subprocess.run(words, capture_output=True, encoding="cp1252", check=False, env=console)
    assert done.returncode == 0, done.stderr
    assert "\\u6a21\\u578b" in done.stdout
    assert (tmp_path / "folder" / "README.md").is_file()
