"""What an export says of itself, made by hand, for the tests of its folder."""

from typing import Any

from fairpp_hf.hub.export_folder import ExportFacts
from fairpp_hf.preferences import PairSettings
from fairpp_hf.provenance import Provenance


def export_facts(**changes: Any) -> ExportFacts:
    """Pairs for `target`, by a run of one model in the roles of three personas."""
    base = ExportFacts(
        version="1.2.3",
        format="dpo",
        target="target",
        pairs=PairSettings(),
        heldout=None,
        personas=("target", "b", "c"),
        provenance=Provenance("model", ("some-model (simulated)",), licence="cc-by-4.0"),
    )
    return base._replace(**changes)
