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
    for others in ("About it.", "Provenance: by hand.", 'Provenance: {"kind": "poll"}'):
        assert Provenance.in_text(others) is None


def test_the_line_names_who_answered_and_what_was_imported() -> None:
    assert TOLD.line == "a (simulated), b (simulated), from tools/data at commit cccccccccccc"
    assert Provenance("survey", ("survey:x (simulated)",)).line == "survey:x (simulated)"
    assert UNKNOWN.line == "an unknown respondent"


@pytest.mark.parametrize(
    ("respondents", "simulated"), [((), False), (("a (simulated)",), True), (("a (simulated)", "people"), False)]
)
def test_simulated_means_every_respondent(respondents: tuple[str, ...], simulated: bool) -> None:
    assert Provenance("model", respondents).simulated is simulated


@pytest.mark.parametrize(
    "record",
    [
        *("survey", {"licence": None}, {"kind": "poll"}, {"kind": "survey", "place": "x"}),
        *({"kind": "survey", "licence": licence} for licence in (4, "", "public domain", "cc0-1.0\n## Licence")),
        *({"kind": "survey", "notes": notes} for notes in ("one", [1], {"a": 1})),
        {"kind": "survey", "respondents": "a (simulated)"},
        {"kind": "model", "created": "2026-01-02\n\n## Licence\n\nPublic domain."},
        {"kind": "published", "source": "x\ny"},
        {"kind": "published", "revision": "main"},
        {"kind": "model", "run": [1]},
        {"kind": "model", "persona_set": "mine"},
    ],
)
def test_a_record_of_another_form_is_refused(record: object, tmp_path: Path) -> None:
    manifest = tmp_path / "fairpp_build.json"
    assert read_provenance(manifest) == UNKNOWN
    manifest.write_text(json.dumps({"provenance": record}))
    told = f"got {json.dumps(record)} at {manifest}. Build the folder"
    with pytest.raises(ValueError, match=re.escape(told)):
        read_provenance(manifest)
    manifest.write_text("[]")
    with pytest.raises(ValueError, match=r"^A manifest must be a JSON object; got "):
        read_provenance(manifest)
