"""Fixtures of the whole suite, and its two rules: no hub, and no cache but its own."""

import os
import tempfile
from pathlib import Path

# Before datasets and huggingface_hub are imported, since they read these once.
_CACHE = tempfile.mkdtemp(prefix="fairpp-tests-")
os.environ["HF_HOME"] = _CACHE
os.environ["FAIRPP_HOME"] = str(Path(_CACHE) / "fairpp")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["ACCELERATE_USE_CPU"] = "true"

import gc
import shutil

import pytest

LONGEST = (
    *("training/test_run.py", "tests/test_docs.py", "training/test_invariance.py", "hub/test_push_faults.py"),
    *("demo/test_demo.py", "training/test_trainer.py", "evaluation/test_callback.py", "training/test_sft.py"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest first: one of two workers would otherwise end with one of them alone."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(f"{item.path.parent.name}/{item.path.name}", len(places)))


def pytest_collection_finish() -> None:
    """What is imported stays, and the collections of garbage need not go through it: every training makes several."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    shutil.rmtree(_CACHE, ignore_errors=True)


@pytest.fixture(scope="session")
def tiny_model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny random Llama and its tokenizer."""
    from tiny_models import save_tiny_model

    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny-llama")
