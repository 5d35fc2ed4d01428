"""The lock of a run's directory."""

import contextlib
import os
import socket
from pathlib import Path
from typing import Any

LOCK_NAME = "run.lock"


class RunLock:
    """Keeps a second process off a run. The system releases the lock when its holder dies, however it dies.

    It holds among the processes of one machine, and among machines that share a folder over NFS as Linux has it. A file
    system without locks is refused; one that keeps them to each machine (Lustre mounted with `localflock`) cannot be told
    from others. SQLite's write-ahead log is for one machine at a time in any case, so that every machine needs a --run of
    its own: `fairpp merge` unites them.

    Args:
        run: the run's directory.
        shared: keep writers off and let other readers in; nothing is written to the directory.

    Raises:
        RuntimeError: another process has the lock.
        OSError: the file system has no locks.
    """

    def __init__(self, run: Path, *, shared: bool = False) -> None:
        self._path = run / LOCK_NAME
        self._shared = shared
        self._file: Any = None

    def __enter__(self) -> "RunLock":
        import fcntl

        if self._shared and not self._path.exists():
            return self  # nothing has ever written to it, or its files were copied here
        self._file = self._path.open("r" if self._shared else "a+", encoding="utf-8")
        try:
            fcntl.flock(self._file, (fcntl.LOCK_SH if self._shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            holder = self._file.read().strip() or "unknown"
            self._file.close()
            raise RuntimeError(
                f"A run must be written by one process at a time; got {self._path.parent} in use by process {holder}. "
                + ("Wait until it ends." if self._shared else "Wait until it ends, or stop it, or use another --run.")
            ) from None
        except OSError as error:
            self._file.close()
            raise OSError(
                f"A run must lie on a file system with locks; got {error} at {self._path}. Without them two processes could "
                "pay for the same replies. Use a folder on another disk."
            ) from error
        if not self._shared:
            try:
                self._file.truncate(0)
                self._file.write(f"{os.getpid()} on {socket.gethostname()}")
                self._file.flush()
            except OSError as error:
                with contextlib.suppress(OSError):  # of what was not written
                    self._file.close()
                raise OSError(
                    f"A run's lock must be writable; got {error} at {self._path}. Make room, then run the same "
                    "command again."
                ) from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is None:
            return
        # The file stays: removing it would let two processes lock two files of the same name.
        if not self._shared:
            self._file.truncate(0)
        self._file.close()
