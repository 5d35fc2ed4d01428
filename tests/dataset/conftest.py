"""A run that tests of sources and of the builder read, and a log in which nothing was said yet."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_runs import make_run

from fairpp_hf.dataset.answers import warn_once


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def fresh_log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    warn_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        yield caplog
