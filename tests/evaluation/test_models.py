import re

import pytest

from fairpp_hf.evaluation.models import ModelSpec, check_names, read_models


def test_entries_of_a_models_file(tmp_path):
    file = tmp_path / "models.yaml"
    file.write_text(
        """models:
  - {name: small, model: HuggingFaceTB/SmolLM2-135M-Instruct, region: North America, revision: main}
  - {name: aligned, model: HuggingFaceTB/SmolLM2-135M-Instruct, adapter: outputs/a, before: small}
  - {name: in a role, model: m, persona: loyal_nationals, base_url: [http://a/v1, http://b/v1]}
""",
        "utf-8",
    )
    model = "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert read_models(file) == (
        ModelSpec("small", model, region="North America", revision="main"),
        ModelSpec("aligned", model, adapter="outputs/a", before="small"),
        ModelSpec("in a role", "m", persona="loyal_nationals", base_url=("http://a/v1", "http://b/v1")),
    )


TWO = "models:\n- {name: a, model: m}\n- {name: b, model: m, "


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "models: []",
            "A models file must have the one key 'models' with a list of entries; got {'models': []} at FILE. "
            "Write `models:` and below it `- {name: ..., model: ...}`.",
        ),
        (
            "- {name: a, model: m}",
            "A models file must have the one key 'models' with a list of entries; got [{'name': 'a', 'model': 'm'}] at "
            "FILE. Write `models:` and below it `- {name: ..., model: ...}`.",
        ),
        (
            TWO + "adaptor: p}",
            "A field of a model must be one of name, model, adapter, base_url, revision, region, persona, before; got "
            "'adaptor' at entry 2 of FILE. Did you mean 'adapter'?",
        ),
        (
            "models: [m]",
            "A model must be a mapping; got 'm' at entry 1 of FILE. Write `- {name: ..., model: ...}`.",
        ),
        ("models: [{name: a}]", "A model must have the field 'model'; got name at entry 1 of FILE. Add it."),
        (
            "models: [{name: 3, model: m}]",
            "name must be a text; got 3 at entry 1 of FILE. Put it in quotes, or leave it out.",
        ),
        (
            "models: [{name: ' ', model: m}]",
            "name must not be empty; got ' ' for the model 'm'. Name it. (entry 1 of FILE)",
        ),
        (
            TWO.replace("b,", "a,") + "}",
            "The name of a model must be unique; got 'a' twice at FILE. Rename one.",
        ),
        (TWO + "before: aa}", "before of 'b' must be one of 'a'; got 'aa'. Did you mean 'a'?"),
        (TWO + "before: b}", "before of 'b' must be one of 'a'; got 'b'."),
        (
            TWO + "adapter: p, base_url: http://h/v1}",
            "adapter must be given for a model that is loaded here; got 'p' beside base_url 'http://h/v1' at 'b'. A server "
            "decides itself what it serves. Leave one of them out. (entry 2 of FILE)",
        ),
    ],
)
def test_what_is_wrong_with_a_models_file(text, message, tmp_path):
    file = tmp_path / "models.yaml"
    file.write_text(text, "utf-8")
    with pytest.raises(ValueError, match=f"^{re.escape(message.replace('FILE', str(file)))}$"):
        read_models(file)


def test_a_file_that_is_no_yaml_or_not_there(tmp_path):
    file = tmp_path / "models.yaml"
    with pytest.raises(FileNotFoundError, match=f"got '{re.escape(str(file))}', which is no file. Check the path.$"):
        read_models(file)
    file.write_bytes(b"models: [")
    with pytest.raises(ValueError, match=r"^A models file must be YAML in UTF-8; got (?s:.*) Correct it there\.$"):
        read_models(file)
    with pytest.raises(ValueError, match=r"^At least one model must be scored; got none at here\. Name one\.$"):
        check_names([], "here")
