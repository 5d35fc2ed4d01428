"""Fixtures of the pushes: two built folders and a Hub."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback_hub import LoopbackHub, loopback_hub
from small_runs import make_run

from fairpp_hf.hub import build_dataset_folder, push_errors


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="session")
def builds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders from small runs with other answers, and with pairs of another target."""
    folder = tmp_path_factory.mktemp("builds")
    for version, (name, target) in enumerate({"built": "loyal_nationals", "rebuilt": "civic_pragmatists"}.items()):
        run = make_run(folder / f"run-{version}", version=version, train=12, test=6)
        build_dataset_folder(folder / name, answers=run, targets=[target], progress=False)
    return folder


@pytest.fixture
def built(builds: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(builds / "built", tmp_path / "built"))


@pytest.fixture
def rebuilt(builds: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(builds / "rebuilt", tmp_path / "rebuilt"))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    with loopback_hub() as hub:
        monkeypatch.setattr(push_errors, "_sleep", hub.waits.append)
        yield hub
        assert hub.outside == []
