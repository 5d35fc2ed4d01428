from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from generation_fixtures import FakePersonas, FakeRespondent, personas, shown_questions

from fairpp_hf.runs.manifest import differences, new_manifest, read_manifest, write_manifest
from fairpp_hf.runs.shards import Shard

TEN = shown_questions(10)
ANN_AND_BOB = personas("ann", "bob")


def manifest(
    model: str = "m", table: pa.Table = TEN, who: FakePersonas = ANN_AND_BOB, **changed: Any
) -> dict[str, Any]:
    options = {"samples": 1, "swap": False, "selection": {"split": "test", "limit": 10}, "shard": None}
    facts = {"requests_digest": "def", "run_key": "0123", "servers": {"m": "http://localhost/v1"}, "ways": {}}
    return new_manifest(FakeRespondent(model=model), who, table, **{**options, **facts, **changed})


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
        ({"servers": {}}, []),
        ({"model": "n"}, ["respondent 'fake:m (simulated)' -> 'fake:n (simulated)'", "model 'm' -> 'n'"]),
        (
            {"who": personas("ann", "cat", ann="You are not Ann.")},
            ["new personas: cat", "personas left out: bob", "changed portraits: ann"],
        ),
        (
            {"samples": 5, "swap": True, "shard": Shard(2, 8)},
            ["samples 1 -> 5", "swap False -> True", "shard None -> '2/8'"],
        ),
        (
            {"table": shown_questions(12), "selection": {"split": None, "limit": None}},
            ["questions 10 (split=test limit=10) -> 12 (all)"],
        ),
    ],
)
def test_differences_are_named(changed: dict[str, Any], expected: list[str]) -> None:
    assert differences(manifest(), manifest(**changed)) == expected


def test_settings_and_persona_sets_that_differ_are_named() -> None:
    """A setting that only one of the two has, and a set of another name with the same personas."""
    other = manifest()
    other["respondent"]["settings"] = {"kind": "fake", "model": "m", "top_p": 0.5}
    other["personas"]["set"] = "others"
    assert differences(manifest(), other) == ["top_p None -> 0.5", "persona set 'fakes' -> 'others'"]
    assert differences(other, manifest()) == ["top_p 0.5 -> None", "persona set 'others' -> 'fakes'"]
