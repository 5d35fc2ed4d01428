"""The lock of a run's directory."""

import contextlib
import errno
import os
import socket
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from fairpp_hf.runs.layout import LOCK, LOCK_HOLDER

# What a file system without locks says.
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}


class RunLock:
    """Keeps a second process off a run. The system releases the lock when its holder dies, however it dies.

    It holds among the processes of one machine, and among machines that share a folder over NFS as Linux has it. A file
    system without locks is refused. SQLite's write-ahead log is for one machine at a time in any case, so that every
    machine needs a run of its own: `merge_runs` unites them.

    Args:
        run: The run's directory.
        reading: Whether to keep writers off while the run is read, and write nothing to the directory. A directory that
            this process cannot write to, or that nothing has ever been written to, is read without a lock.

    Raises:
        RuntimeError: Another process has the lock.
        OSError: The file system has no locks, or the lock cannot be written.
    """

    def __init__(self, run: Path, *, reading: bool = False) -> None:
        self._path = run / LOCK
        self._holder = run / LOCK_HOLDER
        self._reading = reading
        # Without locks of the system a mere file would stand for one, and outlive its process.
        self._lock: BaseFileLock = FileLock(self._path, thread_local=False, fallback_to_soft=False)

    def __enter__(self) -> "RunLock":
        if self._reading and not self._path.exists():
            return self  # its files were copied here
        try:
            self._lock.acquire(blocking=False)
            if not self._reading:
                self._name_holder()
        except Timeout:
            raise RuntimeError(
                f"A run must be written by one process at a time; got {self._path.parent} in use by process "
                f"{self._named_holder()}. Wait until it ends, or use another run."
            ) from None
        except OSError as error:
            self._lock.release()
            if error.errno in _NO_LOCKS:
                raise OSError(
                    f"A run must lie on a file system with locks; got {error} at {self._path}. Without them two processes "
                    "could pay for the same replies. Use a folder on another disk."
                ) from error
            if self._reading and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                return self  # whoever could write here is somebody else, and reads are of one state of the journal
            raise OSError(
                f"A run's lock must be writable; got {error} at {self._path}. Make room, or allow writing there."
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock.is_locked:
            if not self._reading:
                with contextlib.suppress(OSError):  # a name that stays is overwritten by the next holder
                    self._holder.unlink()
            self._lock.release()

    def _name_holder(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
        with open(os.open(self._holder, flags, 0o666), "w", encoding="utf-8") as file:
            file.write(f"{os.getpid()} on {socket.gethostname()}")

    def _named_holder(self) -> str:
        try:
            return self._holder.read_text(encoding="utf-8", errors="replace").strip() or "unknown"
        except OSError:  # it has just begun or ended, or it only reads
            return "unknown"
