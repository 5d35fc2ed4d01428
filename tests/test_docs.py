"""README, docs and notebooks as read: each snippet and command, in one folder, with a tiny model for the small one.

All in this process, which has imported everything already, but for those that need one of their own: clients of the Hub
(`fairpp push` among them, by its script) read its address when they are imported, and `accelerate launch` starts one for the
first training; the others run the `train.py` that it would start.
"""

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from contextlib import ExitStack, chdir, contextmanager
from functools import partial
from pathlib import Path
from unittest import mock

import pytest
from accelerate.commands import accelerate_cli
from loopback_hub import LoopbackHub
from loopback_openai import LoopbackServer
from loopback_stories import tell
from published_tables import write_published, write_scenarios
from tiny_models import save_tiny_model

from fairpp_hf.cli import main
from fairpp_hf.evaluation import positioning

ROOT = Path(__file__).parents[1]
PAGES = [
    "README.md",
    "docs/installation.md",
    "docs/quick_start.md",
    *(
        f"docs/guides/{name}.md"
        for name in ("dataset", "generate", "train", "evaluate", "publish", "personas", "integrations")
    ),
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs" / "concepts").glob("*.md")),
]
TEXTS = {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}


def blocks(language):
    """Page and text of every fenced block in a language, in the order of the pages."""
    return [
        (page, block)
        for page, text in TEXTS.items()
        for block in re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)
    ]


_PYTHON = blocks("python")
HUB_SNIPPETS = [snippet for _, snippet in _PYTHON if "USER/" in snippet or '"published"' in snippet]
SNIPPETS = {
    f"{page}-{number}": snippet for number, (page, snippet) in enumerate(_PYTHON) if snippet not in HUB_SNIPPETS
}
for _notebook in ("load", "train", "evaluate"):
    _cells = json.loads((ROOT / "notebooks" / f"{_notebook}.ipynb").read_text(encoding="utf-8"))["cells"]
    SNIPPETS[_notebook] = "\n".join("".join(cell["source"]) for cell in _cells if cell["cell_type"] == "code")
# What a page repeats of another is run once.
COMMANDS = dict.fromkeys(
    shlex.join(shlex.split(command, comments=True))
    for _, block in blocks("bash")
    for command in block.replace("\\\n", " ").splitlines()
    if command.strip()
)
# `accelerate` is a script beside the interpreter, as `fairpp` is.
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder to work in, with the files of the checkout that commands name, and a home with a tiny model."""
    folder = tmp_path_factory.mktemp("readme")
    home = folder / "home"
    save_tiny_model(home / ".cache" / "fairpp_hf" / "SmolLM2-135M-Instruct")
    ((_, personas),) = blocks("json")
    (folder / "town.json").write_text(personas)
    for name in ("train.py", "trainer_configs"):
        (folder / name).symlink_to(ROOT / name)
    environment = {**os.environ, "HOME": str(home), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    environment["OMP_NUM_THREADS"] = "1"
    del environment["FAIRPP_HOME"]
    return folder, environment


@contextmanager
def sitting_at(folder, environment):
    """This process in the folder and with the environment that a command would get."""
    with ExitStack() as stack:
        stack.enter_context(chdir(folder))
        stack.enter_context(mock.patch.dict(os.environ, environment, clear=True))
        yield


@pytest.mark.parametrize("name", SNIPPETS)
def test_snippets_run(desk, name):
    with sitting_at(*desk):
        exec(compile(SNIPPETS[name], name, "exec"), {"__name__": "__main__"})


def run_process(command, folder, environment):
    finished = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, f"{command}\n{finished.stdout[-1000:]}\n{finished.stderr[-3000:]}"


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


def words_of(command):
    """As a shell splits it, `~` being what a word may begin with; these commands need no more of one."""
    words = shlex.split(command)
    assert not set("|&;<>$*?`") & set("".join(words)), command
    return [os.path.expanduser(word) for word in words]


def test_commands_run_in_order_and_what_was_published_is_loaded(desk, hub, monkeypatch):
    # A tenth of the resamples: of the map, it is looked at whether it is there.
    monkeypatch.setattr(positioning, "position_respondents", partial(positioning.position_respondents, resamples=20))
    folder, environment = desk
    ran = []
    with_hub = environment | hub.environment(folder / "hub-home")
    with LoopbackServer(tell) as server:
        for command in COMMANDS:
            here = command.replace("http://localhost:8000/v1", server.base_url).replace("USER/", "us/")
            with sitting_at(folder, environment):
                program, *words = words_of(here)
                if program == "fairpp" and words[0] != "push":
                    assert main(words) == 0, here
                elif program == "fairpp":
                    run_process([program, *words], folder, with_hub)
                elif program == "accelerate" and program not in ran:
                    with mock.patch.object(sys, "argv", [program, *words]):
                        accelerate_cli.main()
                elif program == "accelerate":
                    assert words[:2] == ["launch", "train.py"], here
                    with mock.patch.object(sys, "argv", words[1:]):
                        runpy.run_path("train.py", run_name="__main__")
                else:
                    assert program == "make", here
                    continue
            ran.append(program)
    assert len(ran) >= 7
    for written in (
        "fairpp-small/README.md",
        "town-preferences/README.md",
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
        run_process([sys.executable, "-c", snippet.replace("USER/", "us/")], folder, with_hub)


def test_make_targets_exist():
    targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    mentioned = set(re.findall(r"(?:^|`)make ([a-z-]+)", "".join(TEXTS.values()), flags=re.MULTILINE))
    assert {"demo", "test", "help"} <= mentioned <= set(targets)
    if shutil.which("make"):
        listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert all(f"make {target} " in listed for target in targets)


def test_troubleshooting_quotes_messages_of_the_package():
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = re.findall(r"`([A-Z][^`]+ [^`]+|--max-cost must[^`]+|with drawn[^`]+|is no nearer to)`", page)
    assert len(quoted) > 15
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "fairpp_hf").rglob("*.py"))
    joined = re.sub(r'"\s*\n\s*f?"', "", sources)  # literals that stand below each other
    assert [text for text in quoted if text not in joined] == []


def test_every_page_is_in_the_contents():
    pages = {path.relative_to(ROOT / "docs").with_suffix("").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    contents = re.findall(r"```{toctree}\n(.*?)```", (ROOT / "docs" / "index.md").read_text(), flags=re.DOTALL)
    listed = {re.sub(r".*<(.*)>", r"\1", line) for block in contents for line in block.split() if ":" not in line}
    assert pages - {"index"} <= listed
