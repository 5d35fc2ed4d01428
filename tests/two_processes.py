"""Two processes that train or score together, as a launcher starts them, without importing everything anew.

What takes an interpreter ten seconds to import is imported once for all tests of a pytest worker, by a server of
multiprocessing, and every process is a fork of that server, in which nothing has been computed yet.
"""

import gc
import multiprocessing
import os
import runpy
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

_TESTS = Path(__file__).parent
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    ["peft", "trl", "tiny_trainers", "fairpp_hf.evaluation.callback", "fairpp_hf.scoring", "fairpp_hf.training.run"]
)


def run_on_two_processes(script: Path, arguments: Sequence[str], folder: Path) -> str:
    """Run a script as ranks 0 and 1, with the environment that this process has now.

    Args:
        script: a Python file; its folder can be imported from, as that of a script can.
        arguments: its command line.
        folder: for what the two print.

    Returns:
        What both wrote to stdout, the first process's text first.

    Raises:
        AssertionError: one has failed, or was not done after 5 minutes.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    outputs = [folder / f"process {rank}" for rank in (0, 1)]
    processes = []
    for rank, output in enumerate(outputs):
        environment = {**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        job = (script, tuple(arguments), environment, output)
        processes.append(_SERVER.Process(target=_run, args=job, daemon=True))
    # The server, which the first process of all starts, finds its imports by the environment.
    path = os.pathsep.join(map(str, (_TESTS.parent, _TESTS)))
    try:
        with mock.patch.dict(os.environ, {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}):
            for process in processes:
                process.start()
        for process in processes:
            process.join(timeout=300)
        errors = [output.with_suffix(".err").read_text()[-3000:] for output in outputs]
        assert [process.exitcode for process in processes] == [0, 0], "\n".join(errors)
    finally:
        for process in processes:
            if process.pid is not None:
                process.kill()  # one waits for the other if that has failed
    return "".join(output.with_suffix(".out").read_text() for output in outputs)


def _run(script: Path, arguments: tuple[str, ...], environment: dict[str, str], output: Path) -> None:
    gc.freeze()  # as in conftest.py
    os.environ.clear()
    os.environ.update(environment)
    for stream, suffix in ((1, ".out"), (2, ".err")):
        with output.with_suffix(suffix).open("w") as file:
            os.dup2(file.fileno(), stream)
    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(script.parent))
    runpy.run_path(str(script), run_name="__main__")
