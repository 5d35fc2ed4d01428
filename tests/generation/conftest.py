import pytest

from fairpp_hf.generation.batch import api
from fairpp_hf.respondents import exchange


@pytest.fixture(autouse=True)
def _no_key_and_no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(exchange, "LONGEST_BACKOFF_S", 0.001)
    for name in ("_FIRST_PAUSE_S", "_SETTLING_S"):
        monkeypatch.setattr(api, name, 0.01)
