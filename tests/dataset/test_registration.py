"""The trick that makes `load_dataset("fairpp")` work, apart from what the builder does."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import datasets
import datasets.load
import pytest
from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES

import fairpp_hf
from fairpp_hf.dataset.registration import (
    _ROW_SOURCES,
    BUILDER_MODULE,
    FairPPModuleFactory,
    register,
    source_hash,
)

PACKAGE = Path(fairpp_hf.__file__).parent


@pytest.fixture
def package_copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(PACKAGE, tmp_path / "copy", ignore=shutil.ignore_patterns("__pycache__")))


def test_importing_the_package_registers_the_name_and_a_second_time_changes_nothing() -> None:
    before = dict(_PACKAGED_DATASETS_MODULES)
    assert before["fairpp"][0] == BUILDER_MODULE
    register()
    assert before == _PACKAGED_DATASETS_MODULES
    assert datasets.load.PackagedDatasetModuleFactory is FairPPModuleFactory


@pytest.mark.parametrize("content", [{}, {"a.csv": "x\n1\n", "b.json": "{", "fairpp/c.txt": "c", "fairpp.py": "raise"}])
def test_the_module_does_not_depend_on_the_working_directory(
    content: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in content.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    here = datasets.load.dataset_module_factory("fairpp")
    monkeypatch.chdir(tmp_path)
    there = datasets.load.dataset_module_factory("fairpp")
    assert there == here
    assert there.module_path == BUILDER_MODULE
    assert there.hash == source_hash(PACKAGE)


def test_no_request_counts_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[str] = []
    monkeypatch.setattr(datasets.load, "increase_load_count", counted.append)
    datasets.load.dataset_module_factory("fairpp")
    assert counted == []


def test_other_packaged_builders_work_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "rows.csv").write_text("x\n1\n2\n")
    counted: list[str] = []
    monkeypatch.setattr(datasets.load, "increase_load_count", counted.append)
    cache = str(tmp_path / "cache")
    given = datasets.load_dataset("csv", data_files=str(data / "rows.csv"), split="train", cache_dir=cache)
    monkeypatch.chdir(data)
    found = datasets.load_dataset("csv", split="train", cache_dir=cache)
    assert given["x"][:] == found["x"][:] == [1, 2]
    assert counted == ["csv", "csv"]


@pytest.mark.parametrize("argument", ["data_files", "data_dir"])
def test_data_files_are_refused(argument: str) -> None:
    message = (
        f"{argument} must not be given to load_dataset(\"fairpp\"); got 'x.csv'. The dataset is built, not read from files. "
        "Pass a run or a dataset folder as answers=..., or load a dataset folder itself: "
        'load_dataset("./folder", ...).'
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        datasets.load_dataset("fairpp", **{argument: "x.csv"})


def test_the_inspection_functions_of_datasets_work() -> None:
    assert datasets.get_dataset_config_names("fairpp") == ["questions", "preferences", "pairs", "scenarios"]
    assert datasets.get_dataset_default_config_name("fairpp") == "preferences"
    # The names of the splits can be had without a target.
    for config in ("questions", "preferences", "pairs"):
        assert datasets.get_dataset_split_names("fairpp", config) == ["train", "test"]
    assert datasets.get_dataset_split_names("fairpp", "scenarios") == ["test"]
    builder = datasets.load_dataset_builder("fairpp", "questions")
    assert builder.dataset_name == "fairpp"
    assert builder.hash == source_hash(PACKAGE)


def test_source_hash_is_the_same_in_another_place_and_ignores_what_makes_no_rows(package_copy: Path) -> None:
    (package_copy / "cli" / "build.py").write_text("# other")
    (package_copy / "questions" / "__pycache__").mkdir()
    (package_copy / "questions" / "__pycache__" / "x.pyc").write_bytes(b"0")
    assert source_hash(package_copy) == source_hash(PACKAGE)


@pytest.mark.parametrize(
    "changed",
    [
        "questions/templates.json",
        "personas/britains_choice_2020.json",
        "respondents/reading/words/english.yaml",
        "schema.py",
    ],
)
def test_source_hash_changes_with_what_makes_the_rows(changed: str, package_copy: Path) -> None:
    (package_copy / changed).write_bytes((package_copy / changed).read_bytes() + b"\n")
    assert source_hash(package_copy) != source_hash(PACKAGE)


def test_source_hash_tells_apart_the_same_text_in_other_files(package_copy: Path) -> None:
    (package_copy / "questions" / "a.json").write_text("12")
    (package_copy / "questions" / "b.json").write_text("3")
    before = source_hash(package_copy)
    (package_copy / "questions" / "a.json").write_text("1")
    (package_copy / "questions" / "b.json").write_text("23")
    assert source_hash(package_copy) != before


@pytest.fixture(scope="module")
def imported_modules() -> dict[str, list[str]]:
    """What a fresh process has imported after `import fairpp_hf`, and of ours after the builder."""
    script = (
        "import json, sys, fairpp_hf\n"
        "package = list(sys.modules)\n"
        "import fairpp_hf.dataset.builder\n"
        "builder = [module.__file__ for name, module in sys.modules.items() if name.split('.')[0] == 'fairpp_hf']\n"
        "print(json.dumps({'package': package, 'builder': builder}))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    imported: dict[str, list[str]] = json.loads(result.stdout)
    return imported


def test_source_hash_covers_every_module_that_makes_rows(imported_modules: dict[str, list[str]]) -> None:
    """Modules of ours that the builder imports are covered, but for those that only check, name or ask."""
    files = [Path(file).relative_to(PACKAGE) for file in imported_modules["builder"]]
    sources = [Path(source) for source in _ROW_SOURCES]
    uncovered = {file.as_posix() for file in files if not any(source in (file, *file.parents) for source in sources)}
    assert uncovered <= {
        "__init__.py",
        "markdown.py",
        "naming.py",
        "text_table.py",
        *(
            f"respondents/{name}.py"
            for name in (
                *("__init__", "base", "client", "completion", "exchange", "faults", "ladder", "openai"),
                *("pace", "paid", "transformers"),
            )
        ),
    }


def test_importing_the_package_is_light(imported_modules: dict[str, list[str]]) -> None:
    heavy = {"torch", "transformers", "trl", "openai", "scipy", "matplotlib", "fairpp_hf.dataset.builder"}
    assert heavy.isdisjoint(imported_modules["package"])
