"""The README as a reader takes it: every snippet and command, in one folder, with a tiny model in the small one's place."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from loopback_hub import LoopbackHub
from loopback_openai import LoopbackServer
from loopback_stories import tell
from published_tables import write_published, write_scenarios
from tiny_models import save_tiny_model

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
_PYTHON = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
HUB_SNIPPETS = [snippet for snippet in _PYTHON if "USER/" in snippet or '"published"' in snippet]
SNIPPETS = [snippet for snippet in _PYTHON if snippet not in HUB_SNIPPETS]
COMMANDS = [
    command
    for block in re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
    for command in block.replace("\\\n", " ").splitlines()
    if command.strip()
]
# `accelerate` is a script beside the interpreter, as `fairpp` is.
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder to work in, with the files of the checkout that commands name, and a home with a tiny model."""
    folder = tmp_path_factory.mktemp("readme")
    home = folder / "home"
    save_tiny_model(home / ".cache" / "fairpp_hf" / "SmolLM2-135M-Instruct")
    for name in ("train.py", "trainer_configs"):
        (folder / name).symlink_to(ROOT / name)
    environment = {**os.environ, "HOME": str(home), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    environment["OMP_NUM_THREADS"] = "1"
    del environment["FAIRPP_HOME"]
    return folder, environment


def run_snippet(snippet, folder, environment):
    finished = subprocess.run(
        [sys.executable, "-c", snippet], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr[-3000:]


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_snippets_run(desk, number):
    run_snippet(SNIPPETS[number], *desk)


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A Hub with tables of the published shape, for the user `us`."""
    tables = tmp_path_factory.mktemp("published")
    with LoopbackHub() as running:
        for repo, write in (("tools-o/Fair-PP", write_published), ("tools-o/Fair-PP-simulation", write_scenarios)):
            folder = write(tables / repo)
            files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.parquet")}
            running.commit(repo, files)
        yield running
        assert running.outside == []


def test_commands_run_in_order_and_what_was_published_is_loaded(desk, hub):
    folder, environment = desk
    ran = []
    with_hub = environment | hub.environment(folder / "hub-home")
    with LoopbackServer(tell) as server:
        for command in COMMANDS:
            program = shlex.split(command)[0]
            if program == "make":
                continue
            assert program in ("fairpp", "accelerate"), command
            here = command.replace("http://localhost:8000/v1", server.base_url).replace("USER/", "us/")
            finished = subprocess.run(
                here,
                shell=True,
                cwd=folder,
                env=with_hub if "fairpp push" in here else environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert finished.returncode == 0, f"{here}\n{finished.stdout[-1000:]}\n{finished.stderr[-3000:]}"
            ran.append(program)
    assert len(ran) >= 7
    for written in (
        "fairpp-small/README.md",
        "outputs/taste/adapter_model.safetensors",
        "outputs/where/results.png",
        "outputs/where/positions.png",
        "outputs/where/report.html",
        "outputs/quality/quality.png",
        "runs/local/scenarios/scenarios.parquet",
    ):
        assert (folder / written).is_file()
    assert "pairs-loyal_nationals/train-00000-of-00001.parquet" in hub.files("us/fairpp")
    for snippet in HUB_SNIPPETS:
        run_snippet(snippet.replace("USER/", "us/"), folder, with_hub)


def test_make_targets_exist():
    targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    mentioned = set(re.findall(r"(?:^|`)make ([a-z-]+)", README, flags=re.MULTILINE))
    assert {"demo", "test", "help"} <= mentioned <= set(targets)
    if shutil.which("make"):
        listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert all(f"make {target} " in listed for target in targets)
