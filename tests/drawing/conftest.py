import pytest
from evaluated_folder import write_evaluated_folder

from fairpp_hf.evaluation.report.folder import Evaluated, read_evaluated


@pytest.fixture(scope="session")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    """Results of a small evaluation; a test that changes something takes a copy."""
    return read_evaluated(write_evaluated_folder(tmp_path_factory.mktemp("evaluated")))
