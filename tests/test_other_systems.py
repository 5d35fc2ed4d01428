"""Nothing on the package's paths needs what Windows does not have."""

import ast
from pathlib import Path

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
