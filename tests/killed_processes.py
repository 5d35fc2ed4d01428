"""Real processes, to be killed, from one that has imported everything: each would import for two seconds or more."""

import contextlib
import multiprocessing
import os
import signal
import time


def forkserver() -> multiprocessing.context.ForkServerContext:
    """Where such processes are started; what they call must be a function of a module."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            "fairpp_hf.cli.generate",
            "fairpp_hf.generation.batch",
            "fairpp_hf.scenarios.tell_and_answer",
            "openai.resources.chat",
        ]
    )
    return context


def kill(process: multiprocessing.process.BaseProcess) -> None:
    """Kill a process that another thread waits for; return when it is gone."""
    assert process.pid is not None
    # Its exit code can be read once: by whoever waits for it.
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
        while True:
            os.kill(process.pid, 0)
            time.sleep(0.001)
