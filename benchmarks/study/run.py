"""Does reweighting work? Trains every cell of a configuration, and writes the page of results.

    python benchmarks/study/run.py                                         # the small model: some four hours on two cores
    python benchmarks/study/run.py --config benchmarks/study/smollm2.yaml  # SmolLM2-135M: two hours
    python benchmarks/study/run.py --page                                  # only the page, of what is there

Every cell's result is written as soon as it is there; the same command again goes on with what is missing.
"""

import argparse
import logging
import os
import sys
import threading
import warnings
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import torch  # noqa: E402
from _record import environment  # noqa: E402
from cells import Cell, StudySettings, read_settings  # noqa: E402
from results import append_line, read_lines  # noqa: E402
from run_cell import run_cell, start_folder  # noqa: E402
from tqdm.auto import tqdm  # noqa: E402

from fairpp_hf.cache import cache_folder  # noqa: E402
from fairpp_hf.naming import check_name  # noqa: E402

PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "fairpp_hf")


def main() -> None:
    """Run what is missing, then write the page."""
    parser = argparse.ArgumentParser(prog="python benchmarks/study/run.py", description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=HERE / "small.yaml", help="default: %(default)s")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="default: %(default)s")
    parser.add_argument(
        "--models", type=Path, default=cache_folder() / "study", help="of small models; default: %(default)s"
    )
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count(), help="each with one thread; default: %(default)s"
    )
    parser.add_argument("--parts", nargs="+", help="of the study, such as grid; all by default")
    parser.add_argument("--seeds", nargs="+", type=int, help="all of the configuration by default")
    parser.add_argument("--page", action="store_true", help="train nothing")
    given = parser.parse_args()
    settings = read_settings(given.config)
    if not given.page:
        run(settings, given.results / f"{settings.name}.jsonl", given.models, given.processes, given.parts, given.seeds)
    from page import write_page

    for path in write_page(given.results):
        print(f"  {path}")


def run(
    settings: StudySettings,
    kept: Path,
    models: Path,
    processes: int,
    parts: list[str] | None = None,
    seeds: list[int] | None = None,
) -> None:
    """Run the cells that have no result yet, and add each to a file as it comes.

    Args:
        settings: of the study.
        kept: a line of JSON for each finished cell.
        models: folder of the small models.
        processes: that train at the same time.
        parts: which to run; all by default.
        seeds: which to run; all by default.

    Raises:
        SystemExit: some cells failed, each with its error in the log.
    """
    kept.parent.mkdir(parents=True, exist_ok=True)
    for part in parts or ():
        check_name("parts", part, ("grid", *settings.parts))
    for seed in seeds or ():
        check_name("seeds", str(seed), map(str, settings.seeds))
    done = {line["digest"] for line in read_lines(kept)}
    wanted: dict[str, Cell] = {}
    for cell in settings.cells():
        if (not parts or cell.part in parts) and (not seeds or cell.seed in seeds):
            wanted.setdefault(settings.digest(cell), cell)
    todo = {digest: cell for digest, cell in wanted.items() if digest not in done}
    print(f"{settings.name}: {len(wanted)} cells, {len(wanted) - len(todo)} of them there, {len(todo)} to run")
    facts = environment(*PACKAGES)
    if todo:
        start_folder(settings, models)  # one process makes it, the others find it
    failed = 0
    with ProcessPoolExecutor(processes, get_context("spawn"), _set_up) as pool:
        waiting: dict[Future[dict[str, Any]], str] = {
            pool.submit(run_cell, settings, cell, models): digest for digest, cell in todo.items()
        }
        bar = tqdm(total=len(todo), desc=settings.name, unit="cell")
        try:
            while waiting:
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    digest = waiting.pop(future)
                    cell = todo[digest]
                    bar.update()
                    if error := future.exception():
                        failed += 1
                        logging.error("%s %s %s seed %d: %r", cell.part, cell.target, cell.method, cell.seed, error)
                        continue
                    append_line(kept, {"digest": digest, **asdict(cell), "result": future.result(), **facts})
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise SystemExit(f"Stopped; {kept} holds what is finished. The same command goes on.") from None
    if failed:
        raise SystemExit(f"{failed} of {len(todo)} cells failed, see above. The same command tries them again.")


def _set_up() -> None:
    """Of a process that trains: one thread, and no bars or notes of the libraries in between."""
    import datasets
    import transformers

    threading.Thread(target=_end_with_parent, daemon=True).start()

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    datasets.disable_progress_bars()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.getLogger("fairpp_hf").setLevel(logging.ERROR)


def _end_with_parent() -> None:
    """End this process when the one that started it is gone, which a pool does not see to where that one was killed."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


if __name__ == "__main__":
    main()
