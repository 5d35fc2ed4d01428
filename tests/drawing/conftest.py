import pytest
from evaluated_folder import write_evaluated_folder

from fairpp_hf.evaluation.results import Results, read_results


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Results of a small evaluation; a test that changes something takes a copy."""
    return read_results(write_evaluated_folder(tmp_path_factory.mktemp("evaluated")))
