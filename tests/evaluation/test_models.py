import inspect
import re

import pytest

from fairpp_hf.evaluation import models as module
from fairpp_hf.evaluation.models import ModelSpec, check_names, read_models, write_models


def test_the_example_of_the_module_is_such_a_file(tmp_path):
    file = tmp_path / "models.yaml"
    head, _, example = inspect.getdoc(module).partition("models:\n")
    assert head.endswith("A models file:\n\n    ")
    file.write_text(inspect.cleandoc(f"    models:\n{example}"), "utf-8")
    plain, aligned, served = read_models(file)
    assert (plain.name, plain.region) == ("SmolLM2", "North America")
    assert (aligned.adapter, aligned.before) == ("outputs/loyal-nationals", "SmolLM2")
    assert (served.model, served.base_url) == ("name-on-the-server", "http://localhost:8000/v1")


def test_a_written_file_says_the_same_from_anywhere_and_has_no_secrets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "local").mkdir()
    specs = [
        ModelSpec("a: #1", "local", adapter="org/on-the-hub", region="Österreich", revision="main"),
        ModelSpec("b", "local", base_url="https://host:8000/v1?key=secret", before="a: #1"),
        ModelSpec("c", "m", base_url="http://a/v1", persona="p"),
    ]
    file = write_models(specs, tmp_path / "new" / "models.yaml")
    assert "secret" not in file.read_text("utf-8")
    assert read_models(file) == (
        ModelSpec("a: #1", str(tmp_path / "local"), adapter="org/on-the-hub", region="Österreich", revision="main"),
        ModelSpec("b", "local", base_url="https://host:8000/v1", before="a: #1"),
        specs[2],
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
        ("- {name: a, model: m}", "A models file must have the one key 'models' with a list of entries; got "),
        (TWO + "adaptor: p}", "A field of a model at entry 2 of FILE must be one of 'name', 'model', 'adapter', "),
        ("models: [m]", "A model must have a name and a model; got 'm' at entry 1 of FILE. Add them."),
        ("models: [{name: a}]", "A model must have a name and a model; got {'name': 'a'} at entry 1 of FILE."),
        ("models: [{name: 3, model: m}]", "name must be a text; got 3 at entry 1 of FILE."),
        ("models: [{name: ' ', model: m}]", "name must not be empty; got ' ' with the model 'm'."),
        (TWO.replace("b,", "a,") + "}", "The name of a model must be unique; got 'a' twice at FILE. Rename one."),
        (TWO + "before: aa}", "before of 'b' at FILE must be one of 'a'; got 'aa'. Did you mean 'a'?"),
        (TWO + "before: b}", "before of 'b' at FILE must be one of 'a'; got 'b'."),
        (
            TWO.replace("model: m}", "model: m, before: c}") + "before: a}\n- {name: c, model: m, before: b}",
            "before must lead to an entry without one; got 'a' before 'b' before 'c' before 'a' at FILE. Leave it out at "
            "one of them.",
        ),
        (TWO + "adapter: p, base_url: http://h/v1}", "adapter must be given for a model that is loaded here; got 'p' "),
    ],
)
def test_what_is_wrong_with_a_models_file(text, message, tmp_path):
    file = tmp_path / "models.yaml"
    file.write_text(text, "utf-8")
    with pytest.raises(ValueError, match=f"^{re.escape(message.replace('FILE', str(file)))}"):
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


def test_a_name_that_something_else_has():
    message = r"^The name of a model must not be that of a baseline; got 'uniform'\. Rename it\.$"
    with pytest.raises(ValueError, match=message):
        check_names([ModelSpec("uniform", "m")], taken={"uniform": "a baseline"}, fix="Rename it.")
