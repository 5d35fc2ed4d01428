"""One process at a time writes a run, on every system."""

import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import filelock
import pytest

from fairpp_hf.runs.lock import RunLock

HOLD = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    if "--without-fcntl" in sys.argv:
        sys.modules["fcntl"] = None
    from fairpp_hf.runs.lock import RunLock
    with RunLock(Path(sys.argv[1])):
        print("locked", flush=True)
        if "--briefly" not in sys.argv:
            time.sleep(60)
    """
)


@contextlib.contextmanager
def held(run: Path, *words: str) -> Iterator[subprocess.Popen]:
    """Another process that has the lock; killed at the end."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(run), *words], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "locked\n"
            yield process
        finally:
            process.kill()


def refusal(run: Path, *, reading: bool = False) -> str:
    with pytest.raises(RuntimeError) as error, RunLock(run, reading=reading):
        pass
    return str(error.value)


def test_a_second_process_is_refused_by_the_pid_of_the_first_until_that_is_killed(tmp_path: Path) -> None:
    with held(tmp_path) as holder:
        said = (
            f"A run must be written by one process at a time; got {tmp_path} in use by process {holder.pid} on "
            f"{socket.gethostname()}. "
        )
        assert refusal(tmp_path) == f"{said}Wait until it ends, or use another run."
        assert refusal(tmp_path, reading=True).startswith(said)  # it is still named
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        # The dead process's name is still there, and does not matter.
        assert (tmp_path / "run.lock.holder").read_text() == f"{holder.pid} on {socket.gethostname()}"
        with RunLock(tmp_path):
            assert f"process {os.getpid()} on" in refusal(tmp_path)
        assert not (tmp_path / "run.lock.holder").exists()
        with RunLock(tmp_path):
            pass


def test_a_reader_keeps_writers_off_and_writes_nothing(tmp_path: Path) -> None:
    with RunLock(tmp_path, reading=True):
        assert list(tmp_path.iterdir()) == []
    with RunLock(tmp_path):
        pass
    before = sorted(tmp_path.iterdir())
    with RunLock(tmp_path, reading=True):
        assert "in use by process unknown." in refusal(tmp_path)
        assert sorted(tmp_path.iterdir()) == before
        assert all(not path.stat().st_size for path in before)
    with RunLock(tmp_path):
        pass


def test_a_reader_takes_what_it_cannot_write_to_without_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mounted image, or a colleague's folder."""
    with RunLock(tmp_path):
        pass

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(filelock.FileLock, "acquire", denied)
    with RunLock(tmp_path, reading=True):
        pass
    with (
        pytest.raises(OSError, match=r"A run's lock must be writable; got .* Permission denied at "),
        RunLock(tmp_path),
    ):
        pass


def test_a_full_disk_says_so_of_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(socket, "gethostname", full)  # stands in for the writing of its result
    with pytest.raises(OSError, match=r"lock must be writable; got .* No space left on device"), RunLock(tmp_path):
        pass
    monkeypatch.undo()
    with RunLock(tmp_path):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="its file systems all have locks")
@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    import fcntl

    def no_locks(*_: object) -> None:
        raise OSError(code, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(OSError, match="must lie on a file system with locks"), RunLock(tmp_path):
        pass


def test_links_of_strangers_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    for name in ("run.lock", "run.lock.holder"):
        run = tmp_path / f"with a link {name}"
        run.mkdir()
        (run / name).symlink_to(tmp_path / "precious")
        with pytest.raises(OSError, match="A run's lock must be writable"), RunLock(run):
            pass
        assert (tmp_path / "precious").read_text() == "mine"


def test_without_fcntl_a_second_process_is_refused_and_a_killed_one_does_not_block(tmp_path: Path) -> None:
    """As on Windows, as far as that can be had here: filelock then takes another kind of lock."""
    script = [sys.executable, "-W", "ignore", "-c", HOLD, str(tmp_path), "--without-fcntl", "--briefly"]
    with held(tmp_path, "--without-fcntl") as holder:
        refused = subprocess.run(script, capture_output=True, text=True, check=False)
        assert f"in use by process {holder.pid} on {socket.gethostname()}" in refused.stderr
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        taken = subprocess.run(script, capture_output=True, text=True, check=False)
        assert (taken.stdout, taken.returncode) == ("locked\n", 0), taken.stderr
