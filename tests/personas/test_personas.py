"""The shipped persona sets say what the surveys say, and a user's own file gets one clear error a fault."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from fairpp_hf.personas import DEFAULT_PERSONA_SET, PERSONA_SETS, PersonaSet, load_personas
from fairpp_hf.personas.persona_set import recorded_personas
from fairpp_hf.questions.taxonomy import load_taxonomy

SHARES = {
    "britains_choice_2020": {
        "progressive_activists": 0.13,
        "civic_pragmatists": 0.13,
        "disengaged_battlers": 0.12,
        "established_liberals": 0.12,
        "loyal_nationals": 0.17,
        "disengaged_traditionalists": 0.18,
        "backbone_conservatives": 0.15,
    },
    "seven_segments_2025": {
        "progressive_activists": 0.12,
        "incrementalist_left": 0.21,
        "established_liberals": 0.09,
        "sceptical_scrollers": 0.10,
        "rooted_patriots": 0.20,
        "traditional_conservatives": 0.08,
        "dissenting_disruptors": 0.20,
    },
    "hidden_tribes_2018": {
        "progressive_activists": 0.08,
        "traditional_liberals": 0.11,
        "passive_liberals": 0.15,
        "politically_disengaged": 0.26,
        "moderates": 0.15,
        "traditional_conservatives": 0.19,
        "devoted_conservatives": 0.06,
    },
}

POLES = re.compile(
    r"libertarian|egalitarian|procedur|distributi|individualis|collectivis|social norm|fairness|\bmoral|\blaws?\b",
    re.I,
)


@pytest.fixture(params=PERSONA_SETS)
def shipped(request: pytest.FixtureRequest) -> PersonaSet:
    return load_personas(request.param)


def test_shipped_ids_order_and_shares(shipped: PersonaSet) -> None:
    assert {persona.id: persona.share for persona in shipped} == SHARES[shipped.id]
    assert shipped.ids == tuple(SHARES[shipped.id])
    assert len(shipped) == 7
    assert sum(persona.share for persona in shipped) == pytest.approx(1.0)


def test_portraits_are_prompts_in_the_second_person_that_leave_the_options_open(shipped: PersonaSet) -> None:
    for persona in shipped:
        assert persona.portrait.startswith("You are "), persona.id
        assert 80 <= len(persona.portrait.split()) <= 150, persona.id
        assert not POLES.findall(persona.portrait), persona.id
        assert not re.search(r"\boption|\bchoose [ABC]\b", persona.portrait, re.I), persona.id
        survey = shipped.title.split(":")[0]
        assert f"{survey} ({shipped.country}, {shipped.year})" in persona.portrait
    assert len({persona.portrait for persona in shipped}) == 7


def test_every_figure_has_a_basis_and_its_kind_agrees_with_the_flag(shipped: PersonaSet) -> None:
    group_types = list(dict.fromkeys(group.group_type for group in load_taxonomy().groups))
    for persona in shipped:
        assert persona.sources
        assert all(url.startswith("http") for url in persona.sources)
        assert len(set(persona.sources)) == len(persona.sources)
        choice = persona.choice
        assert choice is not None
        assert list(choice.positions) == [1, 2, 3, 4, 5]
        assert list(choice.sympathies) == group_types
        for parameter in (*choice.positions.values(), *choice.sympathies.values(), choice.abstention):
            assert parameter.prior == parameter.basis.startswith("Prior"), parameter
            assert parameter.prior or parameter.basis.startswith("Gap rule"), parameter
        for parameter in (*choice.positions.values(), *choice.sympathies.values()):
            assert abs(parameter.value) <= 0.9
            assert round(parameter.value / 0.05, 6).is_integer()
        assert 0.05 <= choice.abstention.value <= 0.2


def test_gap_rule_figures_follow_from_their_basis(shipped: PersonaSet) -> None:
    """Recompute each value from the figures that its basis prints: mean signed gap / 50 points, at most 0.9.

    Progressive activists, dimension 1: (-(46 - 76) + (94 - 74) + (95 - 67)) / 3 = 26 points, / 50 = 0.52, or 0.5.
    A third of the rule where the basis says so. Half a step of 0.05 is what rounding may take away.
    """
    checked = 0
    for persona in shipped:
        assert persona.choice is not None
        for parameter in (*persona.choice.positions.values(), *persona.choice.sympathies.values()):
            figures = parameter.basis.partition(": ")[2].split(". ")[0]
            gaps = [
                (int(value) - int(average)) / 50 * (-1 if reverse else 1)
                for value, average, reverse in re.findall(r"(\d+) v (\d+)( \(reversed\))?", figures)
            ]
            gaps += [
                float(index) * (-1 if reverse else 1)
                for index, reverse in re.findall(r"index ([+-]\d\.\d\d) of 1( \(reversed\))?", figures)
            ]
            if gaps and "judgement" not in parameter.basis:
                scale = 1 / 3 if "a third of the gap rule" in parameter.basis else 1
                mean = max(-0.9, min(0.9, sum(gaps) / len(gaps))) * scale
                assert abs(mean - parameter.value) <= 0.025 + 1e-9, (persona.id, parameter)
                checked += 1
    assert checked >= {"britains_choice_2020": 50, "seven_segments_2025": 50, "hidden_tribes_2018": 3}[shipped.id]


def test_positions_are_the_published_leanings() -> None:
    expected = {
        "progressive_activists": (0.5, 0.75, 0.75, 0.75),
        "civic_pragmatists": (0.25, 0.3, 0.3, 0.25),
        "disengaged_battlers": (0.35, 0.55, 0.45, 0.05),
        "established_liberals": (-0.35, -0.3, -0.5, 0.45),
        "loyal_nationals": (0.15, -0.25, 0.2, -0.6),
        "disengaged_traditionalists": (-0.25, -0.35, -0.4, -0.3),
        "backbone_conservatives": (-0.55, -0.4, -0.65, -0.2),
    }
    for persona in load_personas():
        assert persona.choice is not None
        positions = persona.choice.positions
        assert tuple(positions[dimension].value for dimension in range(1, 5)) == expected[persona.id]
        assert not any(positions[dimension].prior for dimension in range(1, 5))
        assert positions[5].prior  # no survey figure bears on dimension 5 in this survey


# A user's own file


def parameter(value: float = 0.0) -> dict[str, Any]:
    return {"value": value, "basis": "made up for the test", "prior": True}


@pytest.fixture
def tree() -> dict[str, Any]:
    choice = {
        "positions": {str(dimension.number): parameter() for dimension in load_taxonomy().dimensions},
        "sympathies": {group.group_type: parameter() for group in load_taxonomy().groups},
        "abstention": parameter(0.1),
    }
    personas = [
        {
            "id": persona_id,
            "name": persona_id.title(),
            "share": 0.3,
            "sources": [],
            "portrait": "You are a test persona.",
            "choice": copy.deepcopy(choice),
        }
        for persona_id in ("optimists", "realists", "pessimists")
    ]
    return {
        "title": "Three moods",
        "publisher": "nobody",
        "year": 2026,
        "country": "nowhere",
        "sample": "none",
        "sources": ["https://example.org"],
        "personas": personas,
    }


def write(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "moods.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def message(path: Path) -> str:
    with pytest.raises(ValueError, match="moods") as caught:
        load_personas(path)
    return str(caught.value).replace(str(path), "FILE")


def test_own_file_works_by_path_and_by_text(tmp_path: Path, tree: dict[str, Any], monkeypatch: Any) -> None:
    path = write(tmp_path, tree)
    own = load_personas(path)
    assert own.id == "moods"
    assert own.ids == ("optimists", "realists", "pessimists")
    assert own == load_personas(str(path))
    monkeypatch.chdir(tmp_path)
    assert own == load_personas("moods.json")
    path.rename(tmp_path / "moods")
    assert own == load_personas("moods")


def test_a_file_named_like_a_shipped_set_does_not_shadow_it(tmp_path: Path, tree: Any, monkeypatch: Any) -> None:
    write(tmp_path, tree).rename(tmp_path / DEFAULT_PERSONA_SET)
    monkeypatch.chdir(tmp_path)
    assert len(load_personas(DEFAULT_PERSONA_SET)) == 7
    assert len(load_personas(Path(DEFAULT_PERSONA_SET))) == 3


def test_choice_may_be_left_out_and_a_byte_order_mark_is_no_fault(tmp_path: Path, tree: dict[str, Any]) -> None:
    del tree["personas"][1]["choice"]
    own = load_personas(write(tmp_path, "\ufeff" + json.dumps(tree)))
    assert [persona.choice is None for persona in own] == [False, True, False]


PERSONA_FIELDS = "id, name, share, sources, portrait, choice"

FAULTS: list[tuple[str, Any, str]] = [
    ("title", None, "title must be given; got no such field"),
    ("year", "2020", 'year must be a whole number; got "2020"'),
    ("sources", "https://example.org", 'sources must be a list of texts; got "https://example.org"'),
    ("personas", {}, "personas must be a list of at least 2; got {}"),
    ("personas", [{}], "personas must be a list of at least 2; got 1"),
    ("personas.2", "me", 'personas[2] must be an object; got "me"'),
    ("personas.1.portrait", " ", 'personas[1].portrait must be a text that is not empty; got " "'),
    ("personas.0.role", "x", f"personas[0].role must be one of the fields {PERSONA_FIELDS}; got 'role'"),
    ("personas.1.id", "Loyal Nationals", "Write loyal_nationals."),
    ("personas.1.id", "7up", "Write persona_7up."),
    ("personas.2.id", "optimists", 'personas[2].id must be unique, unlike personas[0].id; got "optimists"'),
    ("personas.2.share", "12%", "Write 0.12 for 12%."),
    ("personas.2.share", 0, "personas[2].share must be a number in (0, 1]; got 0"),
    ("personas.2.share", True, "personas[2].share must be a number in (0, 1]; got true"),
    ("personas.2.share", float("nan"), "personas[2].share must be a number in (0, 1]; got NaN"),
    ("personas.2.share", 0.42, "the shares of personas must sum to at most 1.0; got 1.02"),
    ("personas.0.choice.positions.4", None, "personas[0].choice.positions.4 must be given"),
    ("personas.0.choice.sympathies.Height", parameter(), "got 'Height'"),
    ("personas.1.choice.positions.2.value", 1.5, "positions.2.value must be a number in [-1, 1]; got 1.5"),
    ("personas.1.choice.positions.2.prior", "yes", 'positions.2.prior must be true or false; got "yes"'),
    ("personas.1.choice.abstention.value", 1, "abstention.value must be a number in [0, 1); got 1"),
]


@pytest.mark.parametrize(("path", "value", "named"), FAULTS, ids=lambda item: str(item)[:40])
def test_one_error_names_the_field_and_the_file(
    tmp_path: Path, tree: dict[str, Any], path: str, value: Any, named: str
) -> None:
    *steps, last = [int(step) if step in "012" else step for step in path.split(".")]
    node: Any = tree
    for number, step in enumerate(steps):
        node = node[step if number == 1 else str(step)]
    place = last if isinstance(node, list) else str(last)
    if value is None:
        del node[place]
    else:
        node[place] = value
    found = message(write(tmp_path, tree))
    assert named in found
    assert " at FILE. " in found


def test_a_misspelt_field_gets_the_nearest_missing_one(tmp_path: Path, tree: dict[str, Any]) -> None:
    tree["personas"][0]["potrait"] = tree["personas"][0].pop("portrait")
    assert message(write(tmp_path, tree)) == (
        f"personas[0].potrait must be one of the fields {PERSONA_FIELDS}; got 'potrait' at FILE. Did you mean 'portrait'?"
    )


def test_shares_may_round_to_slightly_more_than_one(tmp_path: Path, tree: dict[str, Any]) -> None:
    tree["personas"][2]["share"] = 0.41
    assert len(load_personas(write(tmp_path, tree))) == 3


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b'{"title": "x",\n "year": 20 20}', "must be JSON; got expecting ',' delimiter at line 2, column 13 of FILE."),
        (b"[]", "the file's top level must be an object; got [] at FILE."),
        (b'{"title": "\xe9"}', "must be UTF-8 text; got byte 0xe9 at byte 11 of FILE."),
    ],
)
def test_text_that_is_no_set(tmp_path: Path, content: bytes, named: str) -> None:
    path = tmp_path / "moods.json"
    path.write_bytes(content)
    assert named in message(path)


def test_missing_file_and_unknown_name() -> None:
    with pytest.raises(FileNotFoundError, match="or give the name 'britains_choice_2020' for the shipped set"):
        load_personas("no/such/britains_choice.json")
    with pytest.raises(ValueError, match=r"got 'hidden_tribes'\. Did you mean 'hidden_tribes_2018'\?"):
        load_personas("hidden_tribes")


@pytest.mark.parametrize("name", PERSONA_SETS)
def test_a_recorded_set_is_the_set(name: str) -> None:
    personas = load_personas(name)
    record = personas.as_dict()
    assert json.loads(json.dumps(record)) == record
    assert recorded_personas(record, "record") == personas
    assert recorded_personas(record, "record").digest == personas.digest


def test_a_faulty_record_names_the_field(tree: dict[str, Any]) -> None:
    for record, named in ((tree, "id must be a text"), ({"id": "moods", **tree, "year": "2020"}, "year must be")):
        with pytest.raises(ValueError, match=f"^{named} .* at record"):
            recorded_personas(record, "record")


def test_a_set_is_shown_in_short_and_strangers_words_are_no_html(tmp_path):
    personas = load_personas()
    assert len(repr(personas)) < 300
    assert repr(personas.get("loyal_nationals")) == "Persona('loyal_nationals', share=0.17)"
    table = personas.to_pandas()
    assert (list(table.columns), list(table["id"])) == (["id", "name", "share", "portrait"], list(personas.ids))
    tree = personas.as_dict()
    del tree["id"]
    tree["title"] = tree["personas"][0]["name"] = "<script>alert(1)</script>"
    (tmp_path / "mine.json").write_text(json.dumps(tree))
    shown = load_personas(tmp_path / "mine.json")._repr_html_()
    assert shown.count("&lt;script&gt;") == 2
    assert "<script" not in shown
    assert len(shown) < 6_000
