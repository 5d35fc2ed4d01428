import subprocess
import sys

import pytest

import fairpp_hf


def test_the_names_of_the_contract_are_there():
    assert sorted(fairpp_hf.__all__) == [
        "OptionScorer",
        "ReweightedDPOConfig",
        "ReweightedDPOTrainer",
        "ReweightedSFTConfig",
        "ReweightedSFTTrainer",
        "alignment_metrics",
        "evaluate",
        "load_pairs",
        "load_personas",
        "preference_weights",
        "push_dataset",
    ]
    for name in fairpp_hf.__all__:
        assert getattr(fairpp_hf, name).__name__ == name
    assert set(fairpp_hf.__all__) <= set(dir(fairpp_hf))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"^module 'fairpp_hf' has no attribute 'Trainer'$"):
        fairpp_hf.Trainer  # noqa: B018


def test_importing_the_package_does_not_import_torch():
    heavy = "('torch', 'transformers', 'openai', 'scipy')"
    code = f"import sys, fairpp_hf; print([name for name in {heavy} if name in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
