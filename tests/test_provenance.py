"""The record of where answers come from."""

import json
import re
from pathlib import Path

import pytest

from fairpp_hf.provenance import UNKNOWN, Provenance, read_provenance, without_provenance

TOLD = Provenance(
    "published",
    ("a (simulated)", "b (simulated)"),
    "cc-by-nc-sa-4.0",
    "tools/data",
    "c" * 40,
    "2025-01-01/2025-02-01",
    ("One.", "Two."),
    {"id": "set", "personas": [{"id": "p"}]},
    {"samples": 1},
)


def test_a_record_survives_json_and_a_description() -> None:
    record = json.loads(json.dumps(TOLD.to_dict()))
    assert record["simulated"] is True
    assert Provenance.from_dict(record) == TOLD
    description = f"About it.\n\n{TOLD.text}"
    found = Provenance.in_text(description)
    assert found is not None
    assert (found.line, found.licence, found.notes, found.run) == (TOLD.line, TOLD.licence, TOLD.notes, None)
    assert without_provenance(description) == "About it."
    assert Provenance.in_text("About it.") is None


def test_the_line_names_who_answered_and_what_was_imported() -> None:
    assert TOLD.line == "a (simulated), b (simulated), from tools/data at commit cccccccccccc"
    assert Provenance("survey", ("survey:x (simulated)",)).line == "survey:x (simulated)"
    assert UNKNOWN.line == "an unknown respondent"


@pytest.mark.parametrize(
    ("respondents", "simulated"), [((), False), (("a (simulated)",), True), (("a (simulated)", "people"), False)]
)
def test_simulated_means_every_respondent(respondents: tuple[str, ...], simulated: bool) -> None:
    assert Provenance("model", respondents).simulated is simulated


@pytest.mark.parametrize("record", ["survey", {"licence": None}, {"kind": "poll"}, {"kind": "survey", "place": "x"}])
def test_a_record_of_another_form_is_refused(record: object, tmp_path: Path) -> None:
    manifest = tmp_path / "fairpp_build.json"
    assert read_provenance(manifest) == UNKNOWN
    manifest.write_text(json.dumps({"provenance": record}))
    with pytest.raises(ValueError, match=re.escape(f"got {json.dumps(record)} at {manifest}. Build the folder")):
        read_provenance(manifest)
    manifest.write_text("[]")
    with pytest.raises(ValueError, match=r"^A manifest must be a JSON object; got "):
        read_provenance(manifest)
