from pathlib import Path
from typing import Any

import pytest

from fairpp_hf.runs.manifest import differences, new_manifest, read_manifest, write_manifest
from fairpp_hf.runs.shards import Shard


def manifest(**changed: Any) -> dict[str, Any]:
    return new_manifest(
        **{
            "respondent": "openai:m (simulated)",
            "settings": {"model": "m", "temperature": 0.0},
            "persona_set": "fakes",
            "persona_record": None,
            "portraits": {"ann": "You are Ann.", "bob": "You are Bob."},
            "question_count": 10,
            "question_digest": "abc",
            "selection": {"split": "test", "limit": 10},
            "requests_digest": "def",
            "run_key": "0123",
            "servers": {"openai:m (simulated)": "http://localhost:8000/v1"},
            **changed,
        }
    )


def test_it_comes_back_with_the_time_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    write_manifest(tmp_path, manifest())
    read = read_manifest(tmp_path)
    assert read is not None
    assert read.pop("written")
    assert read == manifest()
    assert read["requests"] == {"count": 20, "digest": "def"}
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_requests_are_counted_with_samples_and_orders() -> None:
    """10 questions x 2 personas x 2 orders x 3 samples."""
    made = manifest(samples=3, swap=True, shard=Shard(2, 8))
    assert made["requests"]["count"] == 120
    assert (made["samples"], made["swap"], made["shard"]) == (3, True, "2/8")


def test_an_interrupted_write_leaves_the_old_one_whole(tmp_path: Path) -> None:
    write_manifest(tmp_path, manifest())
    before = (tmp_path / "manifest.json").read_bytes()
    with pytest.raises(TypeError):
        write_manifest(tmp_path, {"a": 1, "unwritable": object()})
    assert (tmp_path / "manifest.json").read_bytes() == before


def test_an_unreadable_manifest_is_named(tmp_path: Path) -> None:
    assert read_manifest(tmp_path) is None
    path = tmp_path / "manifest.json"
    path.write_text("{")
    with pytest.raises(ValueError, match=r"A manifest must be JSON; got .* Remove the file and continue the run"):
        read_manifest(tmp_path)
    path.write_text('{"format_version": 1}')
    with pytest.raises(ValueError, match="format_version") as error:
        read_manifest(tmp_path)
    assert str(error.value) == (
        f"A manifest's format_version must be 3; got 1 at {path}. Use the version of fairpp_hf that wrote the run."
    )


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, []),
        ({"selection": {"split": None, "limit": None}}, []),
        ({"servers": {}, "persona_record": {"id": "fakes"}}, []),
        (
            {"respondent": "openai:n (simulated)", "settings": {"model": "n", "temperature": 0.0}},
            ["respondent 'openai:m (simulated)' -> 'openai:n (simulated)'", "model 'm' -> 'n'"],
        ),
        ({"settings": {"model": "m", "top_p": 0.5}}, ["temperature 0.0 -> None", "top_p None -> 0.5"]),
        ({"persona_set": "others"}, ["persona set 'fakes' -> 'others'"]),
        (
            {"portraits": {"ann": "You are not Ann.", "cat": "You are Cat."}},
            ["new personas: cat", "personas left out: bob", "changed portraits: ann"],
        ),
        (
            {"samples": 5, "swap": True, "shard": Shard(2, 8)},
            ["samples 1 -> 5", "swap False -> True", "shard None -> '2/8'"],
        ),
        (
            {"question_count": 28420, "question_digest": "xyz", "selection": {"split": None, "limit": None}},
            ["questions 10 (split=test limit=10) -> 28420 (all)"],
        ),
    ],
)
def test_differences_are_named(changed: dict[str, Any], expected: list[str]) -> None:
    assert differences(manifest(), manifest(**changed)) == expected
