"""The shipped persona sets say what the surveys say, and a user's own file gets one clear error a fault."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from fairpp_hf.personas import DEFAULT_PERSONA_SET, PERSONA_SETS, PersonaSet, load_personas
from fairpp_hf.personas.persona_set import recorded_personas
from fairpp_hf.taxonomy import load_taxonomy

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


def test_get_and_default() -> None:
    personas = load_personas()
    assert personas.id == DEFAULT_PERSONA_SET
    assert personas.get("loyal_nationals") is personas.personas[4]
    with pytest.raises(ValueError, match=r"got 'loyal_national'\. Did you mean 'loyal_nationals'\?$"):
        personas.get("loyal_national")


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


def test_digest_changes_with_any_figure(tmp_path: Path, tree: dict[str, Any]) -> None:
    before = load_personas(write(tmp_path, tree)).digest
    assert load_personas(write(tmp_path, tree)).digest == before
    tree["personas"][2]["choice"]["positions"]["5"]["value"] = 0.05
    assert load_personas(write(tmp_path, tree)).digest != before


FIELDS = "title, publisher, year, country, sample, sources, personas"
PERSONA_FIELDS = "id, name, share, sources, portrait, choice"
POSITIVE = "must be a number in (0, 1]; got"

FAULTS: list[tuple[tuple[str | int, ...], Any, str]] = [
    (("title",), None, 'title must be given; got no such field at FILE. Add "title": ... .'),
    (
        ("titel",),
        "Moods",
        f"titel must be one of the fields {FIELDS}; got 'titel' at FILE. Remove it.",
    ),
    (("year",), "2020", 'year must be a whole number; got "2020" at FILE. Write a year such as 2020.'),
    (
        ("sources",),
        "https://example.org",
        'sources must be a list of texts; got "https://example.org" at FILE. Write ["https://..."], or [] where there are '
        "none.",
    ),
    (
        ("personas",),
        {},
        "personas must be a list of at least 2; got {} at FILE. A target needs someone to differ from.",
    ),
    (
        ("personas",),
        [{}],
        "personas must be a list of at least 2; got 1 at FILE. A target needs someone to differ from.",
    ),
    (("personas", 2), "me", 'personas[2] must be an object; got "me" at FILE. Write {"...": ...}.'),
    (
        ("personas", 2, "portrait"),
        None,
        'personas[2].portrait must be given; got no such field at FILE. Add "portrait": ... .',
    ),
    (
        ("personas", 1, "portrait"),
        " ",
        'personas[1].portrait must be a text that is not empty; got " " at FILE. Write it out between double quotes.',
    ),
    (
        ("personas", 0, "role"),
        "x",
        f"personas[0].role must be one of the fields {PERSONA_FIELDS}; got 'role' at FILE. Remove it.",
    ),
    (
        ("personas", 1, "id"),
        "Loyal Nationals",
        'personas[1].id must be snake_case (a-z, 0-9, single _); got "Loyal Nationals" at FILE. Write loyal_nationals.',
    ),
    (
        ("personas", 1, "id"),
        "7up",
        'personas[1].id must be snake_case (a-z, 0-9, single _); got "7up" at FILE. Write persona_7up.',
    ),
    (
        ("personas", 2, "id"),
        "optimists",
        'personas[2].id must be unique, unlike personas[0].id; got "optimists" at FILE. Rename one of them.',
    ),
    (("personas", 2, "share"), "12%", f'personas[2].share {POSITIVE} "12%" at FILE. Write 0.12 for 12%.'),
    (("personas", 2, "share"), 12, f"personas[2].share {POSITIVE} 12 at FILE. Write a number such as 0.12."),
    (("personas", 2, "share"), 0, f"personas[2].share {POSITIVE} 0 at FILE. Write a number such as 0.12."),
    (("personas", 2, "share"), True, f"personas[2].share {POSITIVE} true at FILE. Write a number such as 0.12."),
    (
        ("personas", 2, "share"),
        float("nan"),
        f"personas[2].share {POSITIVE} NaN at FILE. Write a number such as 0.12.",
    ),
    (
        ("personas", 2, "share"),
        0.42,
        "the shares of personas must sum to at most 1.0; got 1.02 at FILE. Divide each share by the sum.",
    ),
    (
        ("personas", 0, "choice", "positions", "6"),
        parameter(),
        "personas[0].choice.positions.6 must be one of the fields 1, 2, 3, 4, 5; got '6' at FILE. Remove it.",
    ),
    (
        ("personas", 0, "choice", "positions", "4"),
        None,
        'personas[0].choice.positions.4 must be given; got no such field at FILE. Add "4": ... .',
    ),
    (
        ("personas", 0, "choice", "sympathies", "Height"),
        parameter(),
        "personas[0].choice.sympathies.Height must be one of the fields Gender, Race, Religion, Sexual Orientation, Age, "
        "Minority; got 'Height' at FILE. Remove it.",
    ),
    (
        ("personas", 1, "choice", "positions", "2", "value"),
        1.5,
        "personas[1].choice.positions.2.value must be a number in [-1, 1]; got 1.5 at FILE. Write a number such as 0.12.",
    ),
    (
        ("personas", 1, "choice", "positions", "2", "prior"),
        "yes",
        'personas[1].choice.positions.2.prior must be true or false; got "yes" at FILE. Write true where no survey figure '
        "bears on it.",
    ),
    (
        ("personas", 1, "choice", "abstention", "value"),
        1,
        "personas[1].choice.abstention.value must be a number in [0, 1); got 1 at FILE. Write a number such as 0.12.",
    ),
    (
        ("personas", 1, "choice"),
        [],
        'personas[1].choice must be an object; got [] at FILE. Write {"...": ...}.',
    ),
]


@pytest.mark.parametrize(("path", "value", "expected"), FAULTS, ids=lambda item: str(item)[:40])
def test_one_error_names_the_field_and_the_file(
    tmp_path: Path, tree: dict[str, Any], path: tuple[str | int, ...], value: Any, expected: str
) -> None:
    node: Any = tree
    for step in path[:-1]:
        node = node[step]
    if value is None:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    assert message(write(tmp_path, tree)) == expected


def test_a_misspelt_field_gets_the_nearest_missing_one(tmp_path: Path, tree: dict[str, Any]) -> None:
    tree["personas"][0]["potrait"] = tree["personas"][0].pop("portrait")
    assert message(write(tmp_path, tree)) == (
        f"personas[0].potrait must be one of the fields {PERSONA_FIELDS}; got 'potrait' at FILE. Did you mean 'portrait'?"
    )


def test_shares_may_round_to_slightly_more_than_one(tmp_path: Path, tree: dict[str, Any]) -> None:
    tree["personas"][2]["share"] = 0.41
    assert len(load_personas(write(tmp_path, tree))) == 3


def test_text_that_is_not_json(tmp_path: Path) -> None:
    assert message(write(tmp_path, '{"title": "x",\n "year": 20 20}')) == (
        "a persona set must be JSON; got expecting ',' delimiter at line 2, column 13 of FILE. Correct the file there."
    )
    assert message(write(tmp_path, "[]")) == (
        'the file\'s top level must be an object; got [] at FILE. Write {"...": ...}.'
    )


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "moods.json"
    path.write_bytes(b'{"title": "\xe9"}')
    assert message(path) == (
        "a persona set must be UTF-8 text; got byte 0xe9 at byte 11 of FILE. Save the file as UTF-8."
    )


def test_missing_file_and_unknown_name() -> None:
    with pytest.raises(FileNotFoundError) as missing:
        load_personas("no/such/britains_choice.json")
    assert str(missing.value) == (
        "personas must be the name of a shipped set or the path of a JSON file; got 'no/such/britains_choice.json', which "
        "is no file. Check the path, or give the name 'britains_choice_2020' for the shipped set."
    )
    with pytest.raises(ValueError, match="personas") as unknown:
        load_personas("hidden_tribes")
    assert str(unknown.value) == (
        "personas (a shipped set, or the path of a JSON file) must be one of 'britains_choice_2020', "
        "'seven_segments_2025', 'hidden_tribes_2018'; got 'hidden_tribes'. Did you mean 'hidden_tribes_2018'?"
    )


@pytest.mark.parametrize("name", PERSONA_SETS)
def test_a_recorded_set_is_the_set(name: str) -> None:
    personas = load_personas(name)
    record = personas.as_dict()
    assert json.loads(json.dumps(record)) == record
    assert recorded_personas(record, "record") == personas
    assert recorded_personas(record, "record").digest == personas.digest


def test_a_recorded_set_of_personas_without_choice_is_the_set(tmp_path: Path, tree: dict[str, Any]) -> None:
    del tree["personas"][0]["choice"]
    own = load_personas(write(tmp_path, tree))
    assert own.as_dict() == {"id": "moods", **tree}
    assert recorded_personas(own.as_dict(), "record") == own


def test_a_faulty_record_names_the_field(tree: dict[str, Any]) -> None:
    for record, message in (
        (tree, "id must be a text that is not empty; got null at record. Write it out between double quotes."),
        ([], "id must be a text that is not empty; got null at record. Write it out between double quotes."),
        (
            {"id": "moods", **tree, "year": "2020"},
            'year must be a whole number; got "2020" at record. Write a year such as 2020.',
        ),
    ):
        with pytest.raises(ValueError, match="must") as error:
            recorded_personas(record, "record")
        assert str(error.value) == message
