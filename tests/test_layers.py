"""The rooms of the package stand in a line: nothing imports from a later one."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import fairpp_hf

PACKAGE = Path(fairpp_hf.__file__).parent
ROOMS = (
    ("schema", "naming", "stable_hash", "cache", "markdown", "text_table", "provenance"),
    ("questions",),
    ("statistics",),
    ("personas",),
    ("scoring",),
    ("respondents",),
    ("runs",),
    ("generation",),
    ("scenarios",),
    ("preferences",),
    ("dataset",),
    ("training",),
    ("evaluation",),
    ("drawing",),
    ("api",),
    ("hub",),
    ("demo",),
    ("cli",),
)
RANK = {room: rank for rank, rooms in enumerate(ROOMS) for room in rooms}
# The lazy front door and the two ways in: they name everything, and nothing names them.
EXEMPT = ("__init__.py", "__main__.py")


def module_of(file: Path, package: Path) -> list[str]:
    """Parts of the name of the package that a file's relative imports start from, itself first."""
    return ["fairpp_hf", *file.relative_to(package).parts[:-1]]


def imported(file: Path, package: Path) -> Iterator[tuple[int, str]]:
    """(line, room) of everything of ours that a file imports, on whatever line, and that it names in a text.

    Imports for type checkers count: none is needed from a later room. A text counts if it is all a module's name, since
    that is how something is imported lazily.
    """
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = module_of(file, package)[: 1 - node.level or None] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            # From the package itself, a room or something from behind the front door may be imported.
            at_the_door = module == "fairpp_hf"
            names = [f"{module}.{alias.name}" for alias in node.names] if at_the_door else [module]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = re.findall(r"\Afairpp_hf\.[\w.]+\Z", node.value)
        for name in names:
            root, _, rest = name.partition(".")
            if root == "fairpp_hf" and rest != "__version__":
                room = rest.split(".")[0]
                yield node.lineno, fairpp_hf._HOMES.get(room, f"fairpp_hf.{room}").split(".")[1]


def violations(package: Path) -> list[str]:
    found = []
    for file in sorted(package.rglob("*.py")):
        parts = file.relative_to(package).parts
        if parts[0] in EXEMPT:
            continue
        own = parts[0].removesuffix(".py")
        where = "/".join(parts)
        if own not in RANK:
            found.append(f"{where}: room {own!r} is not in the order")
            continue
        for line, room in imported(file, package):
            if room not in RANK:
                found.append(f"{where}:{line}: imports {room!r}, which is not in the order")
            elif RANK[room] > RANK[own]:
                found.append(f"{where}:{line}: {own} imports {room}")
    return found


def test_nothing_imports_from_a_later_room() -> None:
    assert violations(PACKAGE) == []
    # Every room of the order is there: a renamed one would otherwise go unchecked.
    assert {path.stem for path in PACKAGE.iterdir() if path.stem in RANK} == set(RANK)


@pytest.mark.parametrize(
    ("file", "source", "expected"),
    [
        ("generation/runner.py", "from fairpp_hf.dataset.answers import Answers", ["1: generation imports dataset"]),
        ("generation/runner.py", "import fairpp_hf.dataset.answers as a", ["1: generation imports dataset"]),
        ("generation/runner.py", "from fairpp_hf import dataset", ["1: generation imports dataset"]),
        ("generation/runner.py", "from fairpp_hf import OptionScorer, __version__", []),
        ("questions/split.py", "from fairpp_hf import OptionScorer", ["1: questions imports scoring"]),
        ("questions/split.py", "def f():\n    from ..cli import main", ["2: questions imports cli"]),
        ("questions/split.py", "from .rendering import render\nfrom . import rendering", []),
        ("questions/deep/split.py", "from ...hub.cards import render", ["1: questions imports hub"]),
        ("schema.py", "from fairpp_hf.naming import nearest", []),
        ("naming.py", "from .questions import FORMS", ["1: naming imports questions"]),
        ("hub/cards.py", "HOME = 'fairpp_hf.demo.main_job'", ["1: hub imports demo"]),
        ("hub/cards.py", "'''See fairpp_hf.demo.'''\nfrom fairpp_hf.dataset import x\nimport torch", []),
        ("hub/cards.py", "import fairpp_hf.attic", ["1: imports 'attic', which is not in the order"]),
        ("attic/old.py", "", [" room 'attic' is not in the order"]),
        ("__init__.py", "from fairpp_hf.cli import main", []),
        ("__main__.py", "from fairpp_hf.cli import main", []),
        ("cli/__init__.py", "from fairpp_hf.hub import x", []),
        ("hub/__init__.py", "from fairpp_hf.cli import x", ["1: hub imports cli"]),
    ],
)
def test_the_check_finds_what_it_is_for(file: str, source: str, expected: list[str], tmp_path: Path) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(source)
    assert violations(tmp_path) == [f"{file}:{message}" for message in expected]
