from pathlib import Path

import pytest
from evaluated_folder import write_evaluated_folder


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluated folder; a test that changes something takes a copy."""
    return write_evaluated_folder(tmp_path_factory.mktemp("evaluated"))
